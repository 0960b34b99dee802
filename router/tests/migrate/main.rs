//! `smp-server import`, `export` and `check`, as an operator meets them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../reference/strategies.rs"]
mod strategies;
#[path = "../support/mod.rs"]
mod support;

mod any_queues;
mod damage;
mod interrupted;
mod moving;
mod rejected;
mod sample;
mod site;
mod taking_over;
mod users;
