//! The queue service above the log, under a seeded scheduler and a simulated disk: clients, several shards, crashes at
//! any moment, starts with any number of shards, little memory, full and failing disks, turned bits.
//!
//! `SEED=n` replays one seed, `SEEDS=n` runs as many, `HOURS=h` runs on until then. A seed that fails is printed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod actions;
mod bodies;
mod client;
mod commands;
mod endings;
mod keys;
mod machine;
mod model;
mod outputs;
mod recovery;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringpost_shard::service::Mutation;
use world::{Stats, World};

/// Runs one seed.
fn run(seed: u64, mutation: Option<Mutation>) -> Result<Stats, String> {
    let mut world = World::new(seed, mutation);
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(result) => result.map(|()| world.stats),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
        }
    }
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_message_is_delivered_once_in_order_and_none_comes_back() {
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    if let Some(seed) = seed {
        let stats = run(seed, None).unwrap_or_else(|why| panic!("SEED={seed}: {why}"));
        println!("{stats:?}");
        return;
    }
    let hours = number("HOURS").map(|hours: f64| Duration::from_secs_f64(hours * 3_600.0));
    let seeds = number("SEEDS").unwrap_or(2_000);
    let begun = Instant::now();
    let first = hours.map_or(0, |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() << 32);
    let next = AtomicU64::new(first);
    let goes_on = |seed: u64| match hours {
        Some(hours) => begun.elapsed() < hours,
        None => seed < seeds,
    };
    let total = Mutex::new(Stats::default());
    let failure = Mutex::new(None);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !goes_on(seed) || failure.lock().unwrap().is_some() {
                return;
            }
            match run(seed, None) {
                Ok(stats) => total.lock().unwrap().add(&stats),
                Err(why) => *failure.lock().unwrap() = Some(format!("SEED={seed}: {why}")),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("{failure}");
    }
    let total = total.into_inner().unwrap();
    println!("{} seeds: {total:?}", next.into_inner() - first - threads as u64);
    if hours.is_none() && seeds >= 1_000 {
        // The runs were not idle: everything that is to be survived was met.
        assert!(total.met().iter().all(|&count| count > 0), "{total:?}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        assert_eq!(run(seed, None), run(seed, None));
    }
}

/// Faults put into the service.
const MUTATIONS: [Mutation; 30] = [
    Mutation::TellBeforeDurable,
    Mutation::HoldTooLittle,
    Mutation::IgnoreRefusal,
    Mutation::CreateWithoutRecord,
    Mutation::SecureWithoutRecord,
    Mutation::SuspendWithoutRecord,
    Mutation::DeleteWithoutRecord,
    Mutation::ExpireWithoutRecord,
    Mutation::ExpireYoung,
    Mutation::TakeWithoutRecord,
    Mutation::ForgetErase,
    Mutation::EraseBeforeTake,
    Mutation::EvictTooEarly,
    Mutation::FetchedToFirst,
    Mutation::IgnoreBodyCrc,
    Mutation::ReadOnce,
    Mutation::KeepDamaged,
    Mutation::ForgetWaiters,
    Mutation::ForgetLogMoved,
    Mutation::DropHeld,
    Mutation::DeliverAgain,
    Mutation::TakeAnyFirst,
    Mutation::OtherQuota,
    Mutation::ForgetLine,
    Mutation::IgnoreCredit,
    Mutation::ForgetStarved,
    Mutation::ForgetBatch,
    Mutation::Overtake,
    Mutation::KeepDelivered,
    Mutation::ForgetEnd,
];
/// Within how many seeds each is found.
const SEEDS_PER_MUTATION: u64 = 100;

#[test]
fn every_mutation_is_found() {
    // Their panics are expected.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mutation in MUTATIONS {
        match (0..SEEDS_PER_MUTATION).find_map(|seed| Some((seed, run(seed, Some(mutation)).err()?))) {
            Some((seed, why)) => println!("{mutation:?}: seed {seed}: {why}"),
            None => missed.push(mutation),
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
