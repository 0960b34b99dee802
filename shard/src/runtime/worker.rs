//! The tasks that serve a shard's queues and its end of the mesh.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures_lite::future::{poll_fn, yield_now};

use super::relay;
use super::services;
use super::shard::{Letter, Posted, Shard, Work};
use crate::executor::{Bell, Ear};
use crate::limits::{COMMANDS_PER_TURN, MESH_DRAIN_MAX};
use crate::mesh;

impl mesh::Bell for Arc<Bell> {
    fn ring(&self) {
        (**self).ring();
    }
}

/// Exchanges letters with other shards until they are gone.
pub async fn exchange_letters(shard: Rc<Shard>, ear: Ear) {
    let mut letters = Vec::with_capacity(MESH_DRAIN_MAX);
    loop {
        if exchange(&shard, &mut letters) {
            yield_now().await;
            continue;
        }
        shard.endpoint.borrow().park();
        if !exchange(&shard, &mut letters) {
            ear.listen().await;
        }
        shard.endpoint.borrow().unpark();
    }
}

/// Takes what came and sends what waits for room. False if there was nothing to do.
fn exchange(shard: &Rc<Shard>, letters: &mut Vec<(usize, Posted)>) -> bool {
    let taken =
        shard.endpoint.borrow_mut().receive(MESH_DRAIN_MAX, |from, posted| letters.push((from, posted)));
    let now = Instant::now();
    let mut commands = 0;
    for (from, Posted { letter, at }) in letters.drain(..) {
        count_latency(shard, now, at);
        match letter {
            Letter::Batch(batch) => {
                commands += batch.transmissions.len();
                if commands > COMMANDS_PER_TURN {
                    shard.defer(Work::Batch(batch));
                } else {
                    shard.do_work(Work::Batch(batch));
                }
            }
            Letter::Credit { conn, blocks } => shard.do_work(Work::Credit { conn, blocks }),
            Letter::Disconnected { conn } => shard.do_work(Work::Disconnected { conn }),
            Letter::Output(output) => shard.receive_output(from, output),
            Letter::Relay(request) => relay::request(shard, *request),
            Letter::RelayAnswer(answer) => relay::answered(shard, *answer),
            Letter::FindService(wanted) => shard.do_work(Work::FindService(wanted)),
            Letter::ServiceOrder(order) => services::pass_on(shard, &order),
            Letter::CarryOut(order) => shard.do_work(Work::CarryOut(order)),
            Letter::StartScan { conn } => shard.do_work(Work::StartScan { conn }),
        }
    }
    shard.send_overflow() || taken > 0
}

fn count_latency(shard: &Shard, now: Instant, sent: Instant) {
    let micros = usize::try_from(now.saturating_duration_since(sent).as_micros()).unwrap_or(usize::MAX);
    let counters = &shard.counters;
    counters.mesh_messages.add(1);
    match micros {
        0..=100 => &counters.mesh_within_100_us,
        101..=300 => &counters.mesh_within_300_us,
        301..=1_000 => &counters.mesh_within_1_ms,
        _ => &counters.mesh_over_1_ms,
    }
    .add(1);
    counters.mesh_latency_us.add(micros);
    counters.mesh_latency_us_max.raise(micros);
}

/// Goes on with work that took more than one turn, and with what waits behind it.
pub async fn work(shard: Rc<Shard>) {
    loop {
        let work = poll_fn(|cx| {
            if let Some(work) = shard.work.borrow_mut().pop_front() {
                return Poll::Ready(work);
            }
            shard.set_worker(cx.waker());
            Poll::Pending
        })
        .await;
        shard.work_turn(work);
        yield_now().await;
    }
}
