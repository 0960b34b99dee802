//! What the operator asks and orders of a running router: single queues, connections, counts, changes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod counts;
mod queues;

use ringpost_shard::Operator;
use ringpost_shard::service::{QueueAction, QueueReport};
use ringpost_store::QueueId;

fn id(bytes: &[u8]) -> QueueId {
    bytes.try_into().unwrap()
}

/// Does it to a queue that is there.
#[track_caller]
fn on(operator: &Operator, queue: &[u8], action: &QueueAction) -> QueueReport {
    operator.queue(&id(queue), action).unwrap().expect("there is such a queue")
}
