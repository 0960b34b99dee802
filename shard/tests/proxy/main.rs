//! Forwarding over the wire: a router as proxy, another as relay, clients made of the protocol's pieces.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod failures;
mod forward;
mod incoming;
mod relays;
mod sharing;
mod vectors;
