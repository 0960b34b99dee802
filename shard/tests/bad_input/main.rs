//! Clients that do wrong: each gets the protocol's error or a closed connection within its time limit, the counters
//! say what happened, and connections beside it go on exchanging messages.
//!
//! | file | what is wrong |
//! |---|---|
//! | `tls` | the TLS handshake |
//! | `hello` | the hello block |
//! | `blocks` | records, blocks, transmissions |
//! | `odd` | nothing: legal, though none of our clients does it |
//! | `slow` | clients that stop sending or never read |
//! | `vanish` | clients that disconnect in the middle of everything |
//! | `caps` | more of everything than the limits allow |
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod blocks;
mod caps;
#[path = "../common/mod.rs"]
mod common;
mod hello;
mod odd;
mod slow;
mod tls;
mod vanish;

use common::{Healthy, TestRouter};
use ringpost_shard::limits::Limits;

/// Short time limits; the one for handshakes leaves a busy machine time for those that are to succeed.
fn short_limits() -> Limits {
    Limits { handshake_secs: 2, block_secs: 1, write_secs: 1, stop_secs: 1, ..Limits::default() }
}

/// Runs `attack` against routers with 1 and 2 shards and short time limits, beside two healthy connections. It must
/// close its connections, and count what went wrong with them.
fn beside_healthy(attack: impl Fn(&TestRouter, &Healthy)) {
    for shards in [1, 2] {
        beside_healthy_with(shards, short_limits(), &attack);
    }
}

fn beside_healthy_with(shards: usize, limits: Limits, attack: impl Fn(&TestRouter, &Healthy)) {
    let router = TestRouter::with(shards, |config| config.limits = limits);
    let healthy = Healthy::start(&router);
    attack(&router, &healthy);
    healthy.goes_on();
    router.wait_for("connections", 2);
    let before = router.counters();
    healthy.finish();
    router.expect(&before, &[("closed_by_peer", 2)]);
    // Nothing is left behind.
    for gauge in ["connections", "handshakes", "subscriptions", "arena_lent"] {
        router.wait_for(gauge, 0);
    }
}
