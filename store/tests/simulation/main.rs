//! The log under a seeded scheduler and a simulated disk: crashes at any point, starts with any number of shards, full
//! and failing disks, turned bits.
//!
//! `SEED=n` replays one seed, `SEEDS=n` runs as many, `HOURS=h` runs on until then. A seed that fails is printed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod commands;
mod endings;
mod model;
mod seen;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringpost_store::log::Mutation;
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
fn nothing_is_lost_mixed_or_kept_too_long() {
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
    println!("{total:?}");
    if hours.is_none() && seeds >= 1_000 {
        // The runs were not idle: everything that is to be survived was met.
        let met = [
            total.interrupted_starts,
            total.refused,
            total.batches,
            total.torn,
            total.rounds,
            total.punched,
            total.reused,
            total.failed_logs,
            total.corrupt_starts,
            total.refused_bodies,
        ];
        assert!(met.iter().all(|&count| count > 0), "{total:?}");
    }
}

/// Faults put into the log, and within how many seeds each is found.
const MUTATIONS: [(Mutation, u64); 21] = [
    (Mutation::SkipSync, 150),
    (Mutation::AnswerBeforeSync, 150),
    (Mutation::IgnorePageCrc, 150),
    (Mutation::IgnoreBodyCrc, 150),
    (Mutation::IgnoreCrcAtDelivery, 150),
    (Mutation::ReplayBackwards, 150),
    (Mutation::ForgetPartition, 150),
    (Mutation::EraseTooEarly, 150),
    (Mutation::ForgetErase, 150),
    // Needs a crash in the time between an erasure and the next commit.
    (Mutation::SkipProof, 5_000),
    (Mutation::RootBeforeImages, 150),
    (Mutation::CleanBeforeRoot, 150),
    (Mutation::FloorTooHigh, 150),
    (Mutation::IgnoreImageLsn, 150),
    (Mutation::IgnoreLostEnd, 150),
    (Mutation::KeepOldPages, 150),
    (Mutation::HurryStart, 150),
    (Mutation::IgnoreSyncError, 150),
    (Mutation::SplitBatches, 150),
    (Mutation::KeepRest, 500),
    (Mutation::KeepRetired, 500),
];

#[test]
fn every_mutation_is_found() {
    // Their panics are expected.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (mutation, seeds) in MUTATIONS {
        match (0..seeds).find_map(|seed| Some((seed, run(seed, Some(mutation)).err()?))) {
            Some((seed, why)) => println!("{mutation:?}: seed {seed}: {why}"),
            None => missed.push(mutation),
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
