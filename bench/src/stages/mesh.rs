//! What shards say to each other, on one core: the misses of a second core's cache come on top.

use std::hint::black_box;

use ringpost_shard::limits::{MESH_DRAIN_MAX, MESH_LANE_SLOTS};
use ringpost_shard::mesh::{Bell, mesh};

use super::Step;
use crate::Outcome;

/// Shards of a large machine.
pub const SHARDS: usize = 64;

/// Nobody sleeps while there is work.
struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// A letter goes from one shard to another.
pub fn hop() -> Outcome<Step> {
    let mut ends = mesh::<Box<u64>, Silent>(vec![Silent, Silent], MESH_LANE_SLOTS).into_iter();
    let (Some(from), Some(mut to)) = (ends.next(), ends.next()) else { return Err("no ends".into()) };
    Ok(Box::new(move |meter| {
        let letter = Box::new(7);
        let taken = meter.run(|| {
            from.send(1, letter).map_err(|_| "the lane is full")?;
            Ok::<_, &str>(to.receive(MESH_DRAIN_MAX, |_, letter| drop(black_box(letter))))
        })?;
        if taken == 1 { Ok(()) } else { Err("no letter".into()) }
    }))
}

/// A shard of many looks whether there is anything for it: nothing is.
pub fn scan() -> Outcome<Step> {
    let bells = (0..SHARDS).map(|_| Silent).collect();
    let mut end = mesh::<Box<u64>, Silent>(bells, MESH_LANE_SLOTS).into_iter().next().ok_or("no ends")?;
    Ok(Box::new(move |meter| {
        let taken = meter.run(|| end.receive(MESH_DRAIN_MAX, |_, letter| drop(black_box(letter))));
        if taken == 0 { Ok(()) } else { Err("a letter from nobody".into()) }
    }))
}
