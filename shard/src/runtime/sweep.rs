//! Time limits, expiry and what must be tried again: one task a shard instead of a timer for each.

use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::{or, poll_fn, yield_now};

use super::StopMode;
use super::connection::Close;
use super::ending::{self, Ending};
use super::shard::Shard;
use crate::executor::sleep;
use crate::limits::BLOCK_SECS_WHEN_EXHAUSTED;

/// How often connections are looked at. Time limits are kept to about this.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// How often waiting readers and deliveries are tried again when blocks of the arena ran out.
const RETRY_EVERY: Duration = Duration::from_millis(10);
/// Connections looked at before other tasks get their turn.
const SWEEP_STEP: usize = 512;

/// Runs until the shard has stopped. `stop_accepting` is called when that begins.
pub async fn run(shard: Rc<Shard>, stop_accepting: impl Fn()) {
    let mut next_sweep = Instant::now() + SWEEP_EVERY;
    let mut next_retry = Instant::now();
    let mut next_inactive = Instant::now();
    let mut next_expiry = Instant::now();
    if !shard.config.expires_on_start {
        next_expiry += Duration::from_secs(shard.config.expiry_interval_secs);
    }
    let mut ending = Ending::default();
    let mut readers_first = false;
    loop {
        let now = Instant::now();
        let mut wait = next_sweep.saturating_duration_since(now);
        if shard.has_waiting() {
            wait = wait.min(next_retry.saturating_duration_since(now));
        }
        if shard.stop.mode() != StopMode::Run {
            wait = wait.min(ending::LOOK);
        }
        or(sleep(wait), kicked(&shard)).await;
        let now = Instant::now();
        if now >= next_sweep {
            count_lateness(&shard, now.saturating_duration_since(next_sweep));
        }
        shard.service.borrow_mut().note_time(Shard::now_secs());
        // What is tried in vain waits again, which kicks: without the pause that would be a busy loop.
        if now >= next_retry && shard.has_waiting() {
            next_retry = now + RETRY_EVERY;
            readers_first = !readers_first;
            retry(&shard, readers_first);
        }
        publish(&shard);
        if ending.look(&shard, now, &stop_accepting) {
            return;
        }
        if now < next_sweep {
            continue;
        }
        next_sweep = now + SWEEP_EVERY;
        let inactive = shard.inactive.get().filter(|_| now >= next_inactive);
        if let Some(inactive) = &inactive {
            next_inactive = now + Duration::from_secs(inactive.check_interval_secs);
        }
        sweep_connections(&shard, now, inactive.map(|i| Duration::from_secs(i.ttl_secs))).await;
        if now >= next_expiry {
            let complete = {
                let mut service = shard.service.borrow_mut();
                let complete = service.expire_step(Shard::now_secs());
                shard.after_service(&mut service);
                complete
            };
            if complete {
                next_expiry = now + Duration::from_secs(shard.config.expiry_interval_secs);
            }
        }
    }
}

/// Ready when a stop was requested, or something began to wait for blocks.
async fn kicked(shard: &Shard) {
    let mut registered = false;
    poll_fn(|cx| {
        if let Some(waker) = shard.stop.waker(shard.id) {
            waker.register(cx.waker());
        }
        if std::mem::replace(&mut registered, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn sweep_connections(shard: &Shard, now: Instant, inactive: Option<Duration>) {
    let mut place = 0;
    // Blocks that are not complete stand in the way of others when none are left: they get less time.
    let spare_secs = shard.config.limits.block_secs.saturating_sub(BLOCK_SECS_WHEN_EXHAUSTED);
    let block_now = if shard.arena.is_exhausted() { now + Duration::from_secs(spare_secs) } else { now };
    loop {
        let step: Vec<_> = {
            let connections = shard.connections.borrow();
            let end = connections.capacity();
            let step =
                (place..end.min(place + SWEEP_STEP)).filter_map(|ix| connections.get(ix).cloned()).collect();
            place += SWEEP_STEP;
            step
        };
        for connection in step {
            let expired = [connection.read_deadline.get(), connection.write_deadline.get()]
                .into_iter()
                .flatten()
                .find(|deadline| {
                    deadline.at <= if deadline.reason == Close::BlockTimeout { block_now } else { now }
                });
            if let Some(deadline) = expired {
                connection.close(deadline.reason);
            } else if let Some(ttl) = inactive
                && !connection.is_relay
                && now.saturating_duration_since(connection.last_active()) > ttl
                && connection.session.get().is_none_or(|session| !session.has_subscriptions())
            {
                connection.close(Close::Inactive);
            }
        }
        if place >= shard.connections.borrow().capacity() {
            return;
        }
        yield_now().await;
    }
}

/// Tries again what waits for blocks of the arena. Who comes first can take all there are, so they take turns.
fn retry(shard: &Shard, readers_first: bool) {
    if readers_first {
        if shard.wake_waiting_readers() < shard.arena.left() {
            retry_deliveries(shard);
        }
    } else {
        retry_deliveries(shard);
        shard.wake_waiting_readers();
    }
}

/// Deliveries that waited for blocks of the arena.
fn retry_deliveries(shard: &Shard) {
    let mut service = shard.service.borrow_mut();
    service.retry_starved();
    shard.after_service(&mut service);
}

fn publish(shard: &Shard) {
    shard.counters.arena_lent.set(shard.arena.lent());
    shard.counters.mesh_depth.set(shard.endpoint.borrow().depth());
    let refused = shard.arena.refused();
    shard.counters.arena_refused.set(usize::try_from(refused).unwrap_or(usize::MAX));
}

/// A timer fires when other tasks let the executor look: how late tells how long they take.
fn count_lateness(shard: &Shard, late: Duration) {
    let micros = usize::try_from(late.as_micros()).unwrap_or(usize::MAX);
    shard.counters.timer_checks.add(1);
    shard.counters.timer_late_us.add(micros);
    shard.counters.timer_late_us_max.raise(micros);
}
