//! Web clients: SMP over WebSocket, and HTTP.
//!
//! | file | what it shows |
//! |---|---|
//! | `sessions` | sessions at shared and dedicated ports, the proof of identity, pings, endings |
//! | `frames` | frames and messages that are wrong, late or endless |
//! | `pages` | requests that ask for no WebSocket |
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod frames;
mod pages;
mod sessions;

use common::web::with_web_entries;
use common::{Client, Healthy, TestRouter};
use ringpost_shard::limits::Limits;

/// The time limits leave a busy machine time for what is to succeed.
fn short_limits() -> Limits {
    Limits { handshake_secs: 2, block_secs: 1, write_secs: 1, stop_secs: 1, ..Limits::default() }
}

/// A router with a shared, a web and a WebSocket entry.
fn router(shards: usize) -> TestRouter {
    TestRouter::with(shards, with_web_entries)
}

/// Runs `attack` against routers with 1 and 2 shards and short time limits, beside two healthy connections, one of them
/// native and one of the web. It must close its connections.
fn beside_healthy(attack: impl Fn(&TestRouter, &Healthy)) {
    for shards in [1, 2] {
        let router = TestRouter::with(shards, |config| {
            with_web_entries(config);
            config.limits = short_limits();
        });
        let healthy = Healthy::with(Client::web(&router), Client::connect(&router));
        attack(&router, &healthy);
        healthy.goes_on();
        router.wait_for("connections", 2);
        healthy.finish();
        for gauge in ["connections", "handshakes", "subscriptions", "arena_lent"] {
            router.wait_for(gauge, 0);
        }
    }
}
