//! Compares the router's queue service with a specification in code (`spec`), for random sequences of all commands, from several
//! parties with right and wrong keys of every kind, in several sessions of all versions, with expiry, disconnections, quota, blocked
//! queues, and starts with another number of shards.
//!
//! `SEED=n` replays one seed, `SEEDS=n` runs as many. A seed that fails is printed with the fewest actions that still fail.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod actions;
mod keys;
mod look;
mod machine;
mod spec;
mod terms;
mod wire;
mod words;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use actions::{Action, Params, plan};
use world::{Met, World};

/// Carries actions out. An error says what was wrong with which of them.
fn run(seed: u64, params: &Params, actions: &[Action]) -> Result<Met, String> {
    let mut world = World::start(seed, params)?;
    for (n, action) in actions.iter().enumerate() {
        match catch_unwind(AssertUnwindSafe(|| world.act(action))) {
            Ok(result) => result.map_err(|why| format!("action {n}: {why}"))?,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                return Err(format!("action {n}: {text}"));
            }
        }
    }
    Ok(world.met)
}

/// Leaves out actions, many at a time and then fewer, as long as the rest still fails.
fn shrink(seed: u64, params: &Params, mut actions: Vec<Action>) -> (Vec<Action>, String) {
    let mut why = run(seed, params, &actions).expect_err("it failed before");
    let mut count = actions.len() / 2;
    while count > 0 {
        let mut at = 0;
        while at < actions.len() {
            let mut fewer = actions.clone();
            fewer.drain(at..(at + count).min(actions.len()));
            match run(seed, params, &fewer) {
                Err(still) => (actions, why) = (fewer, still),
                Ok(_) => at += count,
            }
        }
        count /= 2;
    }
    // Commands of a block.
    for at in 0..actions.len() {
        let mut of_block = 0;
        loop {
            let mut fewer = actions.clone();
            match &mut fewer[at] {
                Action::Commands { asks, .. } if asks.len() > 1 && of_block < asks.len() => {
                    asks.remove(of_block);
                }
                _ => break,
            }
            match run(seed, params, &fewer) {
                Err(still) => (actions, why) = (fewer, still),
                Ok(_) => of_block += 1,
            }
        }
    }
    (actions, why)
}

fn check(seed: u64) -> Result<Met, String> {
    let (params, actions) = plan(seed);
    run(seed, &params, &actions).map_err(|_| {
        let (fewest, why) = shrink(seed, &params, actions);
        let list: Vec<String> = fewest.iter().map(|action| format!("  {action:?}")).collect();
        format!("SEED={seed}, {params:?}\n{}\n{why}", list.join("\n"))
    })
}

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// What the runs must have met together: the rarest answers of each command.
const TO_BE_MET: &[&str] = &[
    "ACK: ERR NO_MSG",
    "ACK: MSG",
    "ACK: OK",
    "DEL: OK",
    "GET: ERR CMD PROHIBITED",
    "GET: MSG",
    "GET: OK",
    "KEY: ERR AUTH",
    "KEY: ERR BLOCKED reason=content",
    "KEY: ERR BLOCKED reason=content,notice={\"ttl\":86400}",
    "KEY: OK",
    "LDEL: OK",
    "LGET: ERR CMD HAS_AUTH",
    "LGET: ERR CMD NO_ENTITY",
    "LGET: LNK",
    "LKEY: ERR AUTH",
    "LKEY: LNK",
    "LSET: ERR AUTH",
    "LSET: ERR CMD SYNTAX",
    "LSET: OK",
    "NDEL: OK",
    "NEW: ERR AUTH",
    "NEW: ERR CMD HAS_AUTH",
    "NEW: ERR CMD NO_AUTH",
    "NEW: ERR CMD PROHIBITED",
    "NEW: ERR CMD SYNTAX",
    "NEW: IDS",
    "NKEY: NID",
    "NSUB: ERR AUTH",
    "NSUB: OK",
    "NSUB: SOK 0",
    "NSUBS: ERR SERVICE",
    "OFF: OK",
    "PING: ERR CMD HAS_AUTH",
    "PING: PONG",
    "QUE: INFO",
    "RKEY: ERR AUTH",
    "RKEY: OK",
    "SEND: ERR AUTH",
    "SEND: ERR BLOCKED reason=spam",
    "SEND: ERR CMD NO_ENTITY",
    "SEND: ERR LARGE_MSG",
    "SEND: ERR QUOTA",
    "SEND: ERR SESSION",
    "SEND: OK",
    "SKEY: ERR AUTH",
    "SKEY: OK",
    "SUB: ERR CMD PROHIBITED",
    "SUB: OK",
    "SUB: SOK 0",
    "SUBS: ERR SERVICE",
    "event DELD",
    "event END",
    "event MSG",
    "event NMSG",
];

#[test]
fn every_answer_is_the_one_of_the_specification() {
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = number("SEED") {
        let result = check(seed);
        let _ = std::panic::take_hook();
        println!("{:#?}", result.unwrap_or_else(|why| panic!("{why}")));
        return;
    }
    let seeds = number("SEEDS").unwrap_or(1_000);
    let next = AtomicU64::new(0);
    let failure = Mutex::new(None);
    let total = Mutex::new(Met::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failure.lock().unwrap().is_some() {
                return;
            }
            match check(seed) {
                Ok(met) => {
                    let mut total = total.lock().unwrap();
                    for (what, count) in met {
                        *total.entry(what).or_default() += count;
                    }
                }
                Err(why) => *failure.lock().unwrap() = Some(why),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let _ = std::panic::take_hook();
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("{failure}");
    }
    let total = total.into_inner().unwrap();
    println!("{total:#?}");
    if seeds >= 1_000 {
        let missing: Vec<_> = TO_BE_MET.iter().filter(|what| !total.contains_key(**what)).collect();
        assert!(missing.is_empty(), "never met: {missing:?}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        let (params, actions) = plan(seed);
        assert_eq!(run(seed, &params, &actions), run(seed, &params, &actions));
    }
}
