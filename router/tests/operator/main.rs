//! What an operator has of a running router: control port, statistics, metrics, status, reload, logs.

// Metrics are compared as the whole numbers that they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]

#[path = "../support/mod.rs"]
mod support;

mod control;
mod daily;
mod files;
mod logs;
mod metrics;
mod reload;
mod site;
mod status;
mod transcript;
