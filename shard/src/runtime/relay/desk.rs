//! The sessions with relays that a shard has, and who waits for what.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;
use ringpost_protocol::address::Router;
use ringpost_protocol::error::TransportError;
use ringpost_protocol::tls::SessionId;

use super::super::connection::Close;
use super::super::shard::{Letter, Shard};
use super::super::{RouterConfig, writer};
use super::client::{answered, no_session};
use super::session::{self, Relay};
use crate::executor::{self, sleep};
use crate::limits::{RELAY_QUEUE_BYTES, RELAY_TIMEOUTS_MAX};
use crate::proxy::{
    Answer, Asked, Outcome, Pool, RelayAnswer, RelayFailure, RelayRequest, Requested, Subject, Waiter, count,
};

/// How often time limits are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// A shard's part of the commands that wait to be written is at least this.
const QUEUE_BYTES_MIN: usize = 4 << 20;

#[derive(Debug)]
pub struct RelayDesk {
    pool: RefCell<Pool<Rc<Relay>, Waiter>>,
    pub(super) sessions: RefCell<HashMap<SessionId, Rc<Relay>>>,
    /// Bytes that wait to be written to relays, as last looked at.
    queued: Cell<usize>,
    queued_max: usize,
}

impl RelayDesk {
    pub fn new(config: &Arc<RouterConfig>) -> Self {
        Self {
            pool: RefCell::new(Pool::new(Duration::from_secs(config.proxy.retry_secs))),
            sessions: RefCell::default(),
            queued: Cell::new(0),
            queued_max: (RELAY_QUEUE_BYTES / config.shards).max(QUEUE_BYTES_MIN),
        }
    }

    /// Whether a command for a relay may wait to be written. Relays that take nothing must leave room for others.
    pub(super) fn has_room(&self, relay: &Relay) -> bool {
        self.look_at_queue(relay);
        let fits = || relay.queued.get() <= self.queued_max.saturating_sub(self.queued.get()) / 2;
        if !fits() {
            // Other relays may have taken what they had when they were looked at.
            self.look_at_queues();
        }
        fits()
    }

    fn look_at_queue(&self, relay: &Relay) {
        let waiting = relay.connection.outbox.borrow().response_bytes();
        self.queued.set(self.queued.get() - relay.queued.get() + waiting);
        relay.queued.set(waiting);
    }

    fn look_at_queues(&self) {
        self.sessions.borrow().values().for_each(|relay| self.look_at_queue(relay));
    }
}

/// Takes a command from the shard of its client.
pub fn request(shard: &Rc<Shard>, request: RelayRequest) {
    if let Some(answer) = take_request(shard, request) {
        deliver(shard, answer);
    }
}

/// Takes a command. Gives the answer if it is there at once; otherwise it will be delivered.
pub(super) fn take_request(shard: &Rc<Shard>, request: RelayRequest) -> Option<RelayAnswer> {
    let RelayRequest { client, requested } = request;
    match requested {
        Requested::Session(router) => {
            let asked = shard.relays.pool.borrow_mut().ask(&router, client, Instant::now());
            match asked {
                Asked::Up(relay, client) => Some(session_answer(shard, &relay, client)),
                Asked::Failed(failure, client) => Some(failed_answer(shard, &router, failure, client)),
                Asked::Waits => None,
                Asked::Connect => {
                    executor::spawn_local(live(Rc::clone(shard), *router)).detach();
                    None
                }
            }
        }
        Requested::Forward { session_id, version, key, block, transmission } => {
            let relay = shard.relays.sessions.borrow().get(&session_id).cloned();
            let Some(relay) = relay else {
                shard.arena.recycle(block);
                return Some(no_session(shard, client, session_id));
            };
            let sealed = block.get(transmission).unwrap_or_default();
            let refused = relay.forward(shard, client, version, key, sealed);
            shard.arena.recycle(block);
            refused
        }
    }
}

/// Brings an answer to the shard of its client.
pub(super) fn deliver(shard: &Rc<Shard>, answer: RelayAnswer) {
    let home = usize::from(answer.client.conn.shard);
    if home == shard.id {
        answered(shard, answer);
    } else {
        shard.post(home, Letter::RelayAnswer(Box::new(answer)));
    }
}

fn session_answer(shard: &Shard, relay: &Relay, client: Waiter) -> RelayAnswer {
    let answer = match &relay.keys {
        Ok(keys) => {
            relay.last_used.set(Instant::now());
            count(&shard.counters, Subject::Session, relay.is_own, Outcome::Success);
            Answer::Keys(Arc::clone(keys))
        }
        Err(error) => {
            count(&shard.counters, Subject::Session, relay.is_own, Outcome::Incompatible);
            Answer::Error(RelayFailure::Transport(*error).error())
        }
    };
    RelayAnswer { client, session_id: None, answer }
}

fn failed_answer(shard: &Shard, router: &Router, failure: RelayFailure, client: Waiter) -> RelayAnswer {
    let outcome = if failure.is_temporary() { Outcome::NoConnection } else { Outcome::OtherError };
    count(&shard.counters, Subject::Session, shard.config.proxy.is_own(router), outcome);
    RelayAnswer { client, session_id: None, answer: Answer::Error(failure.error()) }
}

/// The life of a session with a relay, from connecting to its end.
async fn live(shard: Rc<Shard>, router: Router) {
    // Who asked has noted that it waits when this goes on.
    yield_now().await;
    shard.counters.relays_dialed.add(1);
    let desk = &shard.relays;
    let (relay, receiver, _registered) = match session::establish(&shard, &router).await {
        Ok(established) => established,
        Err(failure) => {
            tracing::debug!("no session with the relay at {}: {failure:?}", router.hosts);
            let waiting = desk.pool.borrow_mut().failed(&router, failure, Instant::now());
            for client in waiting {
                deliver(&shard, failed_answer(&shard, &router, failure, client));
            }
            return;
        }
    };
    let session_id = relay.session_id;
    desk.sessions.borrow_mut().insert(session_id, Rc::clone(&relay));
    shard.config.relays.add(session_id, shard.id);
    shard.counters.relays.set(desk.sessions.borrow().len());
    let waiting = desk.pool.borrow_mut().connected(&router, Rc::clone(&relay));
    for client in waiting {
        deliver(&shard, session_answer(&shard, &relay, client));
    }
    let writer = executor::spawn_local({
        let (shard, connection) = (Rc::clone(&shard), Rc::clone(&relay.connection));
        async move {
            let reason = writer::run(&shard, &connection).await;
            connection.close(reason);
        }
    });
    let reason = session::receive(&shard, &relay, receiver).await;
    relay.connection.close(reason);
    tracing::debug!("the session with the relay at {} has ended: {reason:?}", router.hosts);
    shard.config.relays.remove(&session_id);
    desk.sessions.borrow_mut().remove(&session_id);
    desk.pool.borrow_mut().ended(&router);
    desk.queued.set(desk.queued.get() - relay.queued.replace(0));
    shard.counters.relays.set(desk.sessions.borrow().len());
    shard.counters.relays_ended.add(1);
    for answer in relay.give_up(&shard) {
        deliver(&shard, answer);
    }
    writer.await;
}

/// Looks after time limits until the shard stops.
pub async fn watch(shard: Rc<Shard>) {
    let proxy = &shard.config.proxy;
    let (ping, idle) = (Duration::from_secs(proxy.ping_secs), Duration::from_secs(proxy.idle_secs));
    let silence = Duration::from_secs(proxy.silence_secs);
    loop {
        sleep(WATCH_EVERY).await;
        let now = Instant::now();
        let relays: Vec<_> = shard.relays.sessions.borrow().values().cloned().collect();
        for relay in relays {
            while let Some(answer) = relay.next_late(&shard, now) {
                deliver(&shard, answer);
            }
            let silent = now.saturating_duration_since(relay.last_received.get());
            let unused = now.saturating_duration_since(relay.last_used.get());
            let is_lost = relay.timeouts() >= RELAY_TIMEOUTS_MAX && silent >= silence;
            if is_lost || (unused >= idle && relay.is_idle()) {
                relay.connection.close(Close::Inactive);
            } else if silent >= ping {
                relay.ping(&shard, now);
            }
        }
        shard.relays.look_at_queues();
        shard.relays.pool.borrow_mut().forget_failures(now);
    }
}

/// What a session without keys means for clients.
pub(super) const NO_KEY: TransportError = TransportError::NoAuth;
