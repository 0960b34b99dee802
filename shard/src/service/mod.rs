//! The queue service: what a shard does with the commands for its queues. No I/O, no clock, no runtime.
//!
//! Commands arrive as [`Batch`]es: the transmissions of one block that have this shard as their home. Answers and events
//! leave as [`Output`]s, in order, for connections of this and of other shards.
//!
//! | file | what it does |
//! |---|---|
//! | `commands` | from a transmission to the meaning of its command |
//! | `recipient`, `sender` | what each party may ask for |
//! | `links`, `notifications` | short links; telling notifiers |
//! | `ledger` | changes: appended to the log, then made, then told |
//! | `bodies` | which bodies are in memory, and fetching the others |
//! | `operator` | what the operator does to single queues |
//! | `activity` | how many queues were active |
//! | `create` | NEW: keys, and IDs that fall into one partition |
//! | `verify`, `secrets`, `proven` | authorizations, in time that tells nothing; several at once |
//! | `subscribers` | who receives from which queue, and with how much credit |
//! | `pending` | deliveries that are not acknowledged |
//! | `services` | clients that receive for many queues under one certificate |
//! | `delivery`, `body` | messages at rest and on their way out |
//! | `info` | the answer to QUE |
//! | `unused` | invitations that nobody took |
//! | `mutation` | faults put in on purpose, for the simulation |

mod activity;
mod bodies;
mod body;
mod commands;
mod create;
mod delivery;
mod info;
mod ledger;
mod links;
mod mutation;
mod notifications;
mod operator;
mod pending;
mod proven;
mod recipient;
mod secrets;
mod sender;
mod services;
mod session;
mod subscribers;
mod unused;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use ringpost_protocol::crypto::authorization::KnownKeys;
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::write_response;
use ringpost_store::{BodyPlace, Content, Log, Message, Notification, Position, QueueIx, Store};

pub use activity::{ACTIVITY_STEP_QUEUES, ActiveCounts, ActiveQueue, DayCounts, Periods};
pub use bodies::Fetch;
pub use body::Body;
pub use create::same as same_password;
pub use delivery::{MSG_BODY_AT, OutMessage};
pub use ledger::Refused;
pub use mutation::Mutation;
pub use operator::{QueueAction, QueueReport, ServiceChange, SubscribedServices, SubscriptionReport};
pub use pending::{PENDING_AGES_SECS, PendingReport};
pub use services::{FindService, ServiceOrder, ServicePart};
pub use session::{Batch, BatchData, ConnRef, ForwardedBatch, Session, SessionCounts, SessionService};
pub use verify::check_service;

use crate::arena::Arena;
use crate::counters::Counters;
use crate::limits::{EXPIRY_STEP_OLD_QUEUES, EXPIRY_STEP_QUEUES};
use crate::links::LinkDirectory;
use crate::proxy::Reply;
use activity::ActivityLedger;
use bodies::{Cache, Fetching};
use commands::Executed;
pub(crate) use commands::SECS_PER_DAY;
use ledger::Held;
use proven::Proven;
use subscribers::Subscribers;

/// What the operator decides about queues.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    pub allow_new_queues: bool,
    /// Asked for by NEW, if there is one.
    pub create_password: Option<Box<[u8]>>,
    /// Messages that a queue holds until its sender is told QUOTA.
    pub queue_quota: usize,
    /// Messages are dropped after this time. None: never.
    pub message_ttl_secs: Option<u64>,
    /// A SEND drops what is too old in its queue first, so that it does not count.
    pub expires_on_send: bool,
    /// Kept notifications are dropped after this time.
    pub notification_ttl_secs: u64,
    /// Invitations that nobody took in so many days are deleted. None: never.
    pub unused_queue_days: Option<u32>,
    /// Of all shards.
    pub links: Arc<LinkDirectory>,
    /// This shard's part of the limit of bodies in memory. Above it the oldest are left to the log; where the log keeps
    /// none, SEND is refused.
    pub message_bytes_max: usize,
    /// This shard's part of the limit of queues: above it, NEW is refused.
    pub queues_max: usize,
    /// This shard's part of the limit of services.
    pub services_max: usize,
    pub subscriptions_per_connection: usize,
    /// Blocks of messages that may be under way to one connection.
    pub delivery_credit: usize,
}

/// What leaves the service.
#[derive(Debug)]
pub enum Output {
    /// Transmissions with their 2-byte lengths. `answered` closes a batch. With a reply it is the response to a forwarded
    /// command, to be wrapped.
    Responses { conn: ConnRef, bytes: Vec<u8>, answered: bool, reply: Option<Box<Reply>> },
    /// A delivered message; it used one credit.
    Message { conn: ConnRef, message: OutMessage },
    /// To the session of a service, or one that is to become such.
    Service { conn: ConnRef, part: ServicePart },
}

impl Output {
    /// Where it goes.
    pub fn conn(&self) -> ConnRef {
        let (Self::Responses { conn, .. } | Self::Message { conn, .. } | Self::Service { conn, .. }) = self;
        *conn
    }
}

/// Whether a connection's batches are to be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing to go on with before something else comes.
    Rests,
    /// [`Service::resume`] is to be called, after the work of others.
    GoesOn,
}

/// The queues of a shard. `L` makes their changes durable.
#[derive(Debug)]
pub struct Service<L> {
    config: ServiceConfig,
    store: Store<Body>,
    log: L,
    /// The end of what was appended.
    appended: Position,
    /// Of the bodies that were appended last.
    places: Vec<BodyPlace>,
    held: Held,
    /// Connections whose batches wait for the log to move, and those whose batches can go on.
    waits_for_log: Vec<ConnRef>,
    resumable: Vec<ConnRef>,
    /// Services to be entered and scans that wait for the log to move, and scans that can go on.
    services_waiting: VecDeque<Box<FindService>>,
    scans_waiting: Vec<ConnRef>,
    scannable: Vec<ConnRef>,
    cache: Cache,
    fetching: Fetching,
    subscribers: Subscribers,
    known_keys: KnownKeys,
    proven: Proven,
    arena: Rc<Arena>,
    random: ChaCha20Rng,
    /// The partitions whose home this shard is.
    partitions: Range<usize>,
    message_bytes: usize,
    responses: Vec<u8>,
    /// Queues that may have something to deliver after the current turn's responses.
    to_deliver: Vec<QueueIx>,
    /// Notifications for notifiers that subscribe, to be sent after the current turn's responses.
    to_notify: Vec<(QueueIx, Notification)>,
    /// A check in this turn took as long as a turn may.
    turn_spent: bool,
    /// Connections whose line could not move for want of a block.
    starved: VecDeque<ConnRef>,
    expiry_place: u32,
    /// As the last turn was told.
    now_secs: u64,
    activity: ActivityLedger,
    counters: Arc<Counters>,
    #[cfg(feature = "simulation")]
    mutation: Option<Mutation>,
}

impl<L: Log> Service<L> {
    /// A service of the queues in `store`, whose records `log` has.
    pub fn new(
        config: ServiceConfig,
        store: Store<Body>,
        log: L,
        partitions: Range<usize>,
        arena: Rc<Arena>,
        random: ChaCha20Rng,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            subscribers: Subscribers::new(config.delivery_credit),
            known_keys: KnownKeys::default(),
            proven: Proven::default(),
            config,
            store,
            log,
            appended: Position::default(),
            places: Vec::new(),
            held: Held::default(),
            waits_for_log: Vec::new(),
            resumable: Vec::new(),
            services_waiting: VecDeque::new(),
            scans_waiting: Vec::new(),
            scannable: Vec::new(),
            cache: Cache::default(),
            fetching: Fetching::default(),
            arena,
            random,
            partitions,
            message_bytes: 0,
            responses: Vec::new(),
            to_deliver: Vec::new(),
            to_notify: Vec::new(),
            turn_spent: false,
            starved: VecDeque::new(),
            expiry_place: 0,
            now_secs: 0,
            activity: ActivityLedger::default(),
            counters,
            #[cfg(feature = "simulation")]
            mutation: None,
        }
    }

    pub fn store(&self) -> &Store<Body> {
        &self.store
    }

    /// Bytes of memory that bodies hold.
    pub fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    pub fn subscription_count(&self) -> usize {
        self.subscribers.len()
    }

    pub fn log(&self) -> &L {
        &self.log
    }

    /// The log with the state that it needs to go on.
    pub fn log_and_store(&mut self) -> (&mut L, &Store<Body>) {
        (&mut self.log, &self.store)
    }

    /// Puts the state that was loaded into the counters.
    pub fn publish(&self) {
        self.counters.queues.set(self.store.queue_count());
        self.counters.messages.set(self.store.message_count());
        self.counters.services.set(self.store.service_count());
        for service in self.store.services() {
            self.count_service(service.role);
        }
        self.publish_service_queues();
        self.counters.notifiers.set(self.store.notifier_count());
        self.counters.links.set(self.store.link_count());
        let notifiers = self.store.queues_between(0..u32::MAX).filter_map(|(_, queue)| queue.notifier());
        self.counters.notifications.set(notifiers.map(|notifier| notifier.notifications().len()).sum());
    }

    /// Takes a batch and processes at most `most` of its transmissions. When a batch is done its last
    /// [`Output::Responses`] says so.
    pub fn process(&mut self, batch: Box<Batch>, most: usize, now_secs: u64) -> Progress {
        let overtakes = self.mutated(Mutation::Overtake);
        // Batches of a connection do not overtake each other.
        if let Some(peer) = self.subscribers.known_peer(batch.session.conn)
            && !peer.waiting.is_empty()
            && !overtakes
        {
            peer.waiting.push_back(batch);
            return Progress::Rests;
        }
        self.turn(batch, most, now_secs)
    }

    /// Goes on with the batches of a connection for which [`Progress::GoesOn`] was given.
    pub fn resume(&mut self, conn: ConnRef, most: usize, now_secs: u64) -> Progress {
        let Some(peer) = self.subscribers.known_peer(conn) else { return Progress::Rests };
        peer.resumes = false;
        match peer.waiting.pop_front() {
            Some(batch) => self.turn(batch, most, now_secs),
            None => Progress::Rests,
        }
    }

    fn turn(&mut self, mut batch: Box<Batch>, most: usize, now_secs: u64) -> Progress {
        self.note_time(now_secs);
        let conn = batch.session.conn;
        let session = match &batch.forwarded {
            Some(forwarded) => {
                // What is kept of the connection is its own session.
                self.subscribers.peer(&batch.session);
                Arc::clone(&forwarded.session)
            }
            None => Arc::clone(&batch.session),
        };
        // A service signs beside the queue's key: two checks a command.
        let most = if session.service.is_some() { most.div_ceil(2) } else { most };
        let end = batch.transmissions.len().min(batch.next + most);
        let mut waits = false;
        self.turn_spent = false;
        self.prove(&session, &batch, end);
        while batch.next < end && !self.turn_spent {
            self.proven.executing = batch.next;
            if self.execute(&session, &mut batch, now_secs) == Executed::Waits {
                waits = true;
                break;
            }
            self.counters.commands.add(1);
            batch.next += 1;
        }
        self.proven.forget();
        let done = batch.next >= batch.transmissions.len();
        let reply =
            if done { batch.forwarded.take().map(|forwarded| Box::new(forwarded.reply)) } else { None };
        self.flush(conn, done, reply);
        self.tell_notifiers();
        for queue in std::mem::take(&mut self.to_deliver) {
            self.deliver_or_wait(queue);
        }
        if !done {
            let session = Arc::clone(&batch.session);
            self.subscribers.peer(&session).waiting.push_front(batch);
            return if waits { Progress::Rests } else { self.goes_on(conn) };
        }
        if let BatchData::Block(block) = std::mem::replace(&mut batch.data, BatchData::Taken) {
            self.arena.recycle(block);
        }
        self.goes_on(conn)
    }

    /// Whether a connection has batches that can go on, said once until it is resumed.
    fn goes_on(&mut self, conn: ConnRef) -> Progress {
        match self.subscribers.known_peer(conn) {
            Some(peer) if !peer.waiting.is_empty() && !peer.resumes => {
                peer.resumes = true;
                Progress::GoesOn
            }
            _ => Progress::Rests,
        }
    }

    /// Blocks of messages for a connection were written. Its batches that waited for it may go on.
    pub fn return_credit(&mut self, conn: ConnRef, blocks: usize) -> Progress {
        let most = self.config.delivery_credit;
        let Some(peer) = self.subscribers.known_peer(conn) else { return Progress::Rests };
        peer.credit = most.min(peer.credit + blocks);
        self.move_line(conn);
        self.wake_scan(conn);
        if self.mutated(Mutation::ForgetBatch) {
            return Progress::Rests;
        }
        self.goes_on(conn)
    }

    /// A connection is gone: its subscriptions end.
    pub fn disconnected(&mut self, conn: ConnRef) {
        self.subscribers.remove_connection(conn);
        self.counters.notifier_subscriptions.set(self.subscribers.notified_len());
        if self.mutated(Mutation::DropHeld) {
            self.held = Held::default();
        }
        self.counters.subscriptions.set(self.subscribers.subscribed_len());
    }

    /// Whether deliveries wait for blocks of the arena.
    pub fn has_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Tries again what waited for blocks of the arena, until there are none.
    pub fn retry_starved(&mut self) {
        while !self.arena.is_exhausted() && !self.mutated(Mutation::ForgetStarved) {
            let Some(conn) = self.starved.pop_front() else { return };
            if let Some(peer) = self.subscribers.known_peer(conn) {
                peer.starved = false;
                self.move_line(conn);
                self.wake_scan(conn);
            }
        }
    }

    /// One step of the search for expired messages. True when a round through all queues is complete.
    pub fn expire_step(&mut self, now_secs: u64) -> bool {
        // Where messages do not expire none is older than this.
        let before_secs =
            self.config.message_ttl_secs.map_or(0, |ttl_secs| now_secs.saturating_sub(ttl_secs));
        let notified_before_secs = now_secs.saturating_sub(self.config.notification_ttl_secs);
        let today = u32::try_from(now_secs / SECS_PER_DAY).unwrap_or(u32::MAX);
        let unused_before = self.config.unused_queue_days.map_or(0, |days| today.saturating_sub(days));
        let is_unused = |queue: &ringpost_store::Queue<Body>| unused::is_unused(queue, unused_before);
        let is_old = |queue: &ringpost_store::Queue<Body>| {
            let first = queue.messages().and_then(|messages| messages.first());
            let kept = queue.notifier().and_then(|notifier| notifier.notifications().first());
            first.is_some_and(|message| message.received_secs < before_secs)
                || kept.is_some_and(|notification| notification.received_secs < notified_before_secs)
        };
        let end = self.expiry_place.saturating_add(u32::try_from(EXPIRY_STEP_QUEUES).unwrap_or(u32::MAX));
        let old: Vec<QueueIx> = self
            .store
            .queues_between(self.expiry_place..end)
            .filter(|(ix, queue)| is_old(queue) || (is_unused(queue) && !self.subscribers.is_waited_for(*ix)))
            .map(|(ix, _)| ix)
            .take(EXPIRY_STEP_OLD_QUEUES)
            .collect();
        for queue in &old {
            let is_unused = self.store.queue(*queue).is_some_and(is_unused);
            let expired = if is_unused && !self.subscribers.is_waited_for(*queue) {
                self.delete_unused(*queue)
            } else {
                self.expire_queue(*queue, before_secs)
                    .and_then(|()| self.expire_notifications(*queue, notified_before_secs))
            };
            if expired.is_err() {
                // The log is behind, or there is no space: the same step again later.
                return true;
            }
        }
        if old.len() == EXPIRY_STEP_OLD_QUEUES {
            // There may be more of them among these places.
            return false;
        }
        let round_complete = end >= self.store.places();
        self.expiry_place = if round_complete { 0 } else { end };
        round_complete
    }

    /// Delivers the first message of a queue to its subscriber if nothing is delivered yet, or puts the queue into the
    /// subscriber's line.
    fn deliver_or_wait(&mut self, queue_ix: QueueIx) {
        let Some(subscription) = self.subscription(queue_ix) else { return };
        if subscription.delivered.is_some() {
            return;
        }
        let conn = subscription.conn;
        let ignores_credit = self.mutated(Mutation::IgnoreCredit);
        let Some(peer) = self.subscribers.known_peer(conn) else { return };
        let (credit, fetching) = (peer.credit, peer.fetching);
        // What could not be sent is not read either.
        let waits = credit == 0 || (credit <= fetching && self.is_to_be_fetched(queue_ix));
        if waits && !ignores_credit {
            if !self.mutated(Mutation::ForgetLine) {
                self.subscribers.wait_for_credit(queue_ix);
            }
            return;
        }
        let Some(peer) = self.subscribers.known_peer(conn) else { return };
        let session = Arc::clone(&peer.session);
        let Some(message_id) = self.store.first_message(queue_ix).map(|message| message.id) else { return };
        if !self.is_body_here(queue_ix, None) {
            // It comes here again when it is.
            return;
        }
        let Some(block) = self.arena.lend() else {
            self.subscribers.wait_for_credit(queue_ix);
            if let Some(peer) = self.subscribers.known_peer(conn)
                && !std::mem::replace(&mut peer.starved, true)
            {
                self.starved.push_back(conn);
            }
            return;
        };
        let (Some(queue), Some(first)) = (self.store.queue(queue_ix), self.store.first_message(queue_ix))
        else {
            return;
        };
        let Some(message) = delivery::deliver(block.detach(), &session, &[], queue, first) else { return };
        if let Some(peer) = self.subscribers.known_peer(conn) {
            peer.credit = peer.credit.saturating_sub(1);
        }
        self.subscribers.deliver(queue_ix, conn, message_id, self.now_secs);
        self.counters.messages_delivered.add(1);
        self.output(Output::Message { conn, message });
    }

    /// Goes on with what waits for credit that is left over by what is being fetched.
    fn move_line(&mut self, conn: ConnRef) {
        while self
            .subscribers
            .known_peer(conn)
            .is_some_and(|peer| peer.credit > peer.fetching && !peer.starved)
        {
            let Some(queue) = self.subscribers.next_in_line(conn) else { return };
            self.deliver_or_wait(queue);
        }
    }

    fn respond(&mut self, session: &Session, corr_id: &[u8], entity_id: &[u8], response: &Response<'_>) {
        append(&mut self.responses, session, corr_id, entity_id, response);
    }

    /// Sends an event to a connection that may be another than the one whose batch is processed.
    fn event(&mut self, conn: ConnRef, entity_id: &[u8], response: &Response<'_>) {
        let Some(session) = self.subscribers.known_peer(conn).map(|peer| Arc::clone(&peer.session)) else {
            return;
        };
        if matches!(response, Response::End | Response::Deld) {
            self.counters.subscriptions_ended.add(1);
        }
        let mut bytes = Vec::new();
        append(&mut bytes, &session, &[], entity_id, response);
        self.output(Output::Responses { conn, bytes, answered: false, reply: None });
    }

    /// Moves the responses so far to the outputs, so that what follows comes after them.
    fn flush(&mut self, conn: ConnRef, answered: bool, reply: Option<Box<Reply>>) {
        if answered || !self.responses.is_empty() {
            let bytes = std::mem::take(&mut self.responses);
            self.output(Output::Responses { conn, bytes, answered, reply });
        }
    }

    /// Frees the body of a message that left its queue, in memory and in the log.
    fn release(&mut self, message: Message<Body>) {
        if let Content::Sent { body, .. } = message.content {
            self.release_body(body);
        }
    }

    fn release_body(&mut self, body: Body) {
        self.cache.remove(body.cached);
        self.drop_form(body.form);
        if !self.mutated(Mutation::ForgetErase) {
            self.log.erase(body.place);
        }
    }
}

/// Appends a transmission with its 2-byte length.
pub fn append(
    out: &mut Vec<u8>,
    session: &Session,
    corr_id: &[u8],
    entity_id: &[u8],
    response: &Response<'_>,
) {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    let format = session.format();
    write_response(format, session.session_id.as_ref(), corr_id, entity_id, response, out);
    // All responses but MSG, which is not written here, are much shorter than a block.
    let len = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    out[at..at + 2].copy_from_slice(&len.to_be_bytes());
}
