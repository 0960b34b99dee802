//! Real processes: a router that is killed, stopped, run out of space, and started from files that were cut.
#![allow(
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation
)]

mod campaign;
mod cuts;
mod space;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use ringpost_protocol::address::RouterAddress;
use rustix::process::Signal;
use support::{Home, Running, free_port};

use campaign::{Load, drain, make_queues};

/// Queues of a campaign. Fewer messages than the quota wait in each.
const QUEUES: usize = 6;

/// A small log with all that it does: several segments, erasure, bodies that are read back.
const SMALL: &str = "erase_within_secs = 1\nsegment_mib = 2\nmessage_memory_mib = 1\nqueue_quota = 100000\n";

pub fn home(settings: &str) -> Home {
    let home = Home::initialized(free_port());
    let ini = home.read("smp-server.ini");
    let at = ini.find("[RINGPOST]\n").unwrap() + "[RINGPOST]\n".len();
    home.write("smp-server.ini", &format!("{}{settings}{}", &ini[..at], &ini[at..]));
    home
}

/// Where a started router is reached.
pub fn address(home: &Home, running: &Running) -> RouterAddress {
    let serving = running.lines.iter().find(|line| line.starts_with("Serving ")).unwrap();
    let host = serving.rsplit(' ').next().unwrap().trim();
    format!("smp://{}@{host}", home.read("fingerprint").trim()).parse().unwrap()
}

pub fn start(home: &Home, shards: usize) -> (Running, RouterAddress) {
    let running = Running::start(home.smp_server(["start", "--shards", &shards.to_string()]));
    let address = address(home, &running);
    (running, address)
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A small generator, so that a campaign can be told apart from another by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Kills the router under load at random moments, starts it with another number of shards half of the time, and takes
/// everything out at the end. `scripts/kill-campaign` runs it for as long as wanted.
#[test]
fn nothing_is_lost_however_often_the_router_is_killed() {
    let seed = setting("RINGPOST_CAMPAIGN_SEED", 0x5eed_1e55);
    let rounds = setting("RINGPOST_CAMPAIGN_ROUNDS", 10);
    let until = Instant::now() + Duration::from_secs(setting("RINGPOST_CAMPAIGN_SECS", 0));
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    let home = home(SMALL);
    let runtime = runtime();
    let mut shards = 2;
    let (mut running, mut at) = start(&home, shards);
    let queues = runtime.block_on(make_queues(&at, QUEUES));
    let mut round = 0;
    while round < rounds || Instant::now() < until {
        round += 1;
        let load = runtime.block_on(async {
            let load = Load::start(&at, &queues);
            load.until_accepted(1 + usize::try_from(random.below(150)).unwrap()).await;
            tokio::time::sleep(Duration::from_micros(random.below(20_000))).await;
            load
        });
        running.signal(Signal::KILL);
        runtime.block_on(load.ended());
        drop(running);
        if random.below(2) == 0 {
            shards = 1 + usize::try_from(random.below(4)).unwrap();
        }
        (running, at) = start(&home, shards);
        if random.below(3) == 0 {
            runtime.block_on(drain(&at, &queues));
        }
    }
    runtime.block_on(drain(&at, &queues));
    let accepted: usize = queues.iter().map(|queue| queue.accepted()).sum();
    println!("{round} kills, {accepted} messages accepted, none lost");
    assert!(accepted >= QUEUES, "hardly anything was sent");
}

#[test]
fn orderly_stops_lose_nothing_in_any_mode() {
    for (durability, signal) in
        [("always", Signal::TERM), ("always", Signal::INT), ("interval", Signal::TERM), ("off", Signal::INT)]
    {
        let home = home(&format!("durability = {durability}\n{SMALL}"));
        let runtime = runtime();
        let (running, at) = start(&home, 2);
        let queues = runtime.block_on(make_queues(&at, QUEUES));
        let load = runtime.block_on(async {
            let load = Load::start(&at, &queues);
            load.until_accepted(100).await;
            load
        });
        running.signal(signal);
        runtime.block_on(load.ended());
        let (status, _, errors) = running.wait();
        assert!(status.success(), "{durability}: {status:?} {errors}");
        let (running, at) = start(&home, 1);
        assert!(!running.lines.iter().any(|line| line.contains("cut off")), "{:?}", running.lines);
        runtime.block_on(drain(&at, &queues));
    }
}
