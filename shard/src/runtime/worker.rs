//! The tasks that serve a shard's queues and its end of the mesh.

use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use futures_lite::future::poll_fn;

use super::shard::{Letter, Posted, Shard, Work};
use crate::limits::MESH_DRAIN_MAX;

/// Takes letters from other shards.
pub async fn receive_letters(shard: Rc<Shard>) {
    let mut letters: Vec<(usize, Posted)> = Vec::with_capacity(MESH_DRAIN_MAX);
    loop {
        poll_fn(|cx| {
            let mut endpoint = shard.endpoint.borrow_mut();
            endpoint.poll_receive(cx, MESH_DRAIN_MAX, |from, posted| letters.push((from, posted)))
        })
        .await;
        let now = Instant::now();
        for (from, Posted { letter, at }) in letters.drain(..) {
            count_latency(&shard, now, at);
            match letter {
                Letter::Batch(batch) => shard.do_work(Work::Batch(batch)),
                Letter::Credit { conn, blocks } => shard.do_work(Work::Credit { conn, blocks }),
                Letter::Disconnected { conn } => shard.do_work(Work::Disconnected { conn }),
                Letter::Output(output) => shard.receive_output(from, output),
            }
        }
        glommio::yield_if_needed().await;
    }
}

fn count_latency(shard: &Shard, now: Instant, sent: Instant) {
    let micros = usize::try_from(now.saturating_duration_since(sent).as_micros()).unwrap_or(usize::MAX);
    let counters = &shard.counters;
    counters.mesh_messages.add(1);
    counters.mesh_latency_us.add(micros);
    if counters.mesh_latency_us_max.value() < micros as u64 {
        counters.mesh_latency_us_max.set(micros);
    }
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
        if let Some(rest) = shard.work_turn(work) {
            shard.work.borrow_mut().push_front(rest);
        }
        glommio::executor().yield_task_queue_now().await;
    }
}

/// Sends letters that found their lane full.
pub async fn send_overflow(shard: Rc<Shard>) {
    poll_fn(|cx| -> Poll<()> {
        shard.send_overflow(cx);
        Poll::Pending
    })
    .await;
}
