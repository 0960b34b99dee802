//! The state of a router from its directory: queues and logs, one of each a shard.

use std::collections::HashMap;
use std::path::PathBuf;

use ringpost_store::disk::{FileDisk, HeapBuffer, HeapBuffers};
use ringpost_store::log::{
    AppendError, Durability, LogConfig, ReadRequest, StartConfig, StartError as LogStartError, start,
};
use ringpost_store::{Activity, BodyPlace, Entry, IdHasher, Log, MemoryLog, Position, SegmentLog, Store};

use crate::service::{ActiveQueue, Body};

/// Where a router keeps its queues and messages.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Exists, and belongs to this process alone.
    pub directory: PathBuf,
    pub durability: Durability,
    /// What was acknowledged, expired or deleted is gone from the disk after this time.
    pub erase_within_ms: u64,
    /// A multiple of 4,096.
    pub segment_bytes: u64,
    /// Passes over what is damaged instead of refusing to start. What was there is lost.
    pub skip_damaged: bool,
    /// Secret and random.
    pub salt: u64,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub queues: usize,
    pub messages: usize,
    /// Records that were applied after the images.
    pub replayed: u64,
    /// Ends of logs that a crash had left incomplete: nothing in them had been answered.
    pub torn: usize,
    /// Damage that was passed over, each with its place.
    pub skipped: Vec<String>,
}

/// One shard's part, before it is on its thread.
pub(super) struct ShardState {
    pub store: Store<Body>,
    pub log: Option<SegmentLog<HeapBuffers>>,
}

/// Loads the state for so many shards; without a directory it begins empty.
pub(super) fn load(
    data: Option<&DataConfig>,
    shards: usize,
    hasher: IdHasher,
) -> Result<(Vec<ShardState>, Recovered), LogStartError> {
    let Some(data) = data else {
        let empty = || ShardState { store: Store::new(hasher), log: None };
        return Ok((std::iter::repeat_with(empty).take(shards).collect(), Recovered::default()));
    };
    let config = StartConfig {
        log: LogConfig {
            segment_bytes: data.segment_bytes,
            durability: data.durability,
            erase_within_ms: data.erase_within_ms,
            ..LogConfig::default()
        },
        shards,
        skip_corrupt: data.skip_damaged,
        salt: data.salt,
        threads: shards > 1,
    };
    let started = start::<_, Body>(&FileDisk::new(&data.directory), &config, hasher)?;
    let recovered = Recovered {
        queues: started.shards.iter().map(|shard| shard.store.queue_count()).sum(),
        messages: started.shards.iter().map(|shard| shard.store.message_count()).sum(),
        replayed: started.replayed,
        torn: started.torn.len(),
        skipped: started.skipped.iter().map(ToString::to_string).collect(),
    };
    let states =
        started.shards.into_iter().map(|shard| ShardState { store: shard.store, log: Some(shard.log) });
    Ok((states.collect(), recovered))
}

/// Gives queues the days of their activity in an earlier run. Gives back what belongs to no queue.
pub(super) fn take_over_activity(states: &mut [ShardState], active: Vec<ActiveQueue>) -> Vec<ActiveQueue> {
    let mut active: HashMap<u64, ActiveQueue> = active.into_iter().map(|queue| (queue.hash, queue)).collect();
    if !active.is_empty() {
        for state in states {
            let hasher = *state.store.hasher();
            let queues = state.store.queues_between(0..u32::MAX);
            let found: Vec<_> = queues
                .filter_map(|(ix, queue)| {
                    active.remove(&hasher.hash(&queue.recipient_id).0).map(|active| (ix, active))
                })
                .collect();
            for (ix, found) in found {
                if let Some(activity) = state.store.activity_mut(ix) {
                    *activity = Activity { day: found.day, notified_day: found.notified_day };
                }
            }
        }
    }
    active.into_values().collect()
}

/// The log of a running shard.
#[derive(Debug)]
pub enum ShardLog {
    /// Nothing outlives the process.
    Memory(MemoryLog),
    Segments(Box<SegmentLog<HeapBuffers>>),
}

impl ShardLog {
    pub fn segments(&self) -> Option<&SegmentLog<HeapBuffers>> {
        match self {
            Self::Memory(_) => None,
            Self::Segments(log) => Some(log),
        }
    }

    pub fn segments_mut(&mut self) -> Option<&mut SegmentLog<HeapBuffers>> {
        match self {
            Self::Memory(_) => None,
            Self::Segments(log) => Some(log),
        }
    }
}

/// What the disk did.
pub(super) type DiskCompletion = ringpost_store::log::Completion<HeapBuffer>;

impl Log for ShardLog {
    fn append(
        &mut self,
        entries: &[Entry<'_>],
        places: &mut Vec<BodyPlace>,
    ) -> Result<Position, AppendError> {
        match self {
            Self::Memory(log) => log.append(entries, places),
            Self::Segments(log) => log.append(entries, places),
        }
    }

    fn durable_up_to(&self) -> Position {
        match self {
            Self::Memory(log) => log.durable_up_to(),
            Self::Segments(log) => log.durable_up_to(),
        }
    }

    fn keeps_bodies(&self) -> bool {
        self.segments().is_some()
    }

    fn readable_up_to(&self) -> Position {
        match self {
            Self::Memory(log) => log.readable_up_to(),
            Self::Segments(log) => log.readable_up_to(),
        }
    }

    fn read(&self, place: BodyPlace) -> Option<ReadRequest> {
        self.segments()?.read(place)
    }

    fn body<'a>(&self, place: BodyPlace, blocks: &'a [u8]) -> Option<&'a [u8]> {
        self.segments()?.body(place, blocks)
    }

    fn erase(&mut self, place: BodyPlace) {
        match self {
            Self::Memory(log) => log.erase(place),
            Self::Segments(log) => log.erase(place),
        }
    }
}
