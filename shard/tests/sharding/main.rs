//! Queues and connections on different shards: from 1 to 7 of them, more than there are processors.
//!
//! | file | what is tested |
//! |---|---|
//! | `delivery` | messages across shards: complete, in order, once each |
//! | `events` | END and DELD across shards, competing subscribers |
//! | `stop` | what a graceful stop still answers |
//! | `versions` | all protocol versions with each other |
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod delivery;
mod events;
mod stop;
mod versions;

use common::placement::{Group, groups};
use common::{Client, Options, TestRouter};

const SHARD_COUNTS: [usize; 5] = [1, 2, 3, 4, 7];

/// A router, and on each of its shards `wanted` connections.
fn placed(shards: usize, wanted: usize) -> (TestRouter, Vec<Vec<Client>>) {
    placed_at(TestRouter::start(shards), wanted)
}

fn placed_at(router: TestRouter, wanted: usize) -> (TestRouter, Vec<Vec<Client>>) {
    let groups = groups(&router, wanted, Options::default());
    let clients = groups.into_iter().map(|Group { clients, .. }| clients).collect();
    (router, clients)
}
