//! Client services over TLS: certificates, queues that become a service's, and subscribing to all of them at once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod counts;
mod handshake;
mod notifiers;
mod queues;
mod random;
mod restart;
mod takeover;
