//! Who receives from which queue, as its home shard knows it.
//!
//! A queue has at most one subscriber. A connection that used GET on a queue is noted too, since it must not subscribe
//! to that queue. Deliveries to a connection need credit, so that a slow reader holds few blocks; a queue that could not
//! deliver stands in its connection's line and is delivered when credit returns.
//!
//! The queues of a service have no subscriber of their own: the session that holds the service's subscription receives from
//! all of them. A [`Subscription`] of it is made when there is something to deliver, and is void when its term is not that
//! of its connection any more: nobody goes through all queues when a subscription ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::{HashMap, HashSet};
use ringpost_store::{MessageId, QueueIx, ServiceId, ServiceParty};

use super::pending::{Pending, PendingReport};
use super::secrets::SecretCache;
use super::services::Scan;
use super::session::{Batch, ConnRef, Session};

#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    pub conn: ConnRef,
    /// Delivered and not yet acknowledged.
    pub delivered: Option<MessageId>,
    /// When, in seconds since 1970.
    pub delivered_secs: u32,
    /// The queue stands in the connection's line.
    pub in_line: bool,
    /// Of a service's queue: the term of the connection that it was made in. 0: the connection subscribed to the queue.
    term: u32,
}

impl Subscription {
    /// Whether it is this connection's, and not void.
    fn is_of(&self, peer: &Peer) -> bool {
        self.conn == peer.session.conn && (self.term == 0 || self.term == peer.term)
    }
}

/// Who receives for a service.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    pub conn: ConnRef,
    /// The session's own number for its last order: what it is told of the end names it.
    pub round: u32,
    /// It has subscribed to all queues at once, and not only to some of them one by one.
    pub subscribed_all: bool,
}

/// A queue read with GET.
#[derive(Clone, Copy, Debug)]
pub struct Got {
    /// The message that was got last, if it is not acknowledged.
    pub delivered: Option<MessageId>,
    /// When, in seconds since 1970.
    pub delivered_secs: u32,
}

/// What a home shard keeps of a connection that has sent it commands.
#[derive(Debug)]
pub struct Peer {
    pub session: Arc<Session>,
    pub subscribed: HashSet<QueueIx>,
    /// Queues of its service with a subscription, which may be void.
    served: HashSet<QueueIx>,
    /// Counts the times that it came to hold its service's subscription; 0 while it does not.
    term: u32,
    /// Its service's queues are being gone through for what waits in them.
    pub scan: Option<Box<Scan>>,
    /// Queues of whose messages the connection is notified.
    pub notified: HashSet<QueueIx>,
    pub got: HashMap<QueueIx, Got>,
    /// Deliveries that it has not acknowledged; and of these, those from its service's queues.
    pending: usize,
    pending_served: Option<Box<Pending>>,
    /// Blocks that may still be sent to the connection.
    pub credit: usize,
    /// Bodies that are being fetched to be delivered to it.
    pub fetching: usize,
    /// Queues that have a message and wait for credit.
    pub line: VecDeque<QueueIx>,
    /// Batches that are not done: the first waits for its next turn or for credit, the others came later.
    pub waiting: VecDeque<Box<Batch>>,
    /// Its turn is on the way.
    pub resumes: bool,
    /// Its line waits for blocks of the arena.
    pub starved: bool,
    pub secrets: SecretCache,
}

#[derive(Debug)]
pub struct Subscribers {
    by_queue: HashMap<QueueIx, Subscription>,
    by_notified: HashMap<QueueIx, ConnRef>,
    holders: HashMap<(ServiceParty, ServiceId), Holder>,
    peers: HashMap<ConnRef, Peer>,
    /// Subscriptions of the first table that were made for services.
    served: usize,
    /// Deliveries to all connections. Those of void subscriptions are not among them.
    pending: Pending,
    credit: usize,
    next_term: u32,
}

impl Peer {
    /// A delivery begins to wait for its acknowledgement.
    fn begin(&mut self, all: &mut Pending, term: u32, secs: u32) {
        all.add(secs);
        if term != 0 {
            self.pending_served.get_or_insert_default().add(secs);
        }
        self.pending += 1;
        if self.pending == 1 {
            self.session.counts.delivering.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A delivery was acknowledged, or is void.
    fn end(&mut self, all: &mut Pending, term: u32, secs: u32) {
        all.remove(secs);
        if term != 0
            && let Some(served) = &mut self.pending_served
        {
            served.remove(secs);
        }
        self.end_some(1);
    }

    /// All deliveries from its service's queues are void.
    fn end_served(&mut self, all: &mut Pending) {
        if let Some(served) = self.pending_served.take() {
            all.remove_all(&served);
            self.end_some(served.count());
        }
    }

    fn end_some(&mut self, count: usize) {
        let had_some = self.pending > 0;
        self.pending = self.pending.saturating_sub(count);
        if had_some && self.pending == 0 {
            self.session.counts.delivering.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Subscribers {
    /// Every connection begins with `credit` blocks.
    pub fn new(credit: usize) -> Self {
        Self {
            by_queue: HashMap::new(),
            by_notified: HashMap::new(),
            holders: HashMap::new(),
            peers: HashMap::new(),
            served: 0,
            pending: Pending::default(),
            credit,
            next_term: 1,
        }
    }

    /// Subscriptions that there is memory for.
    pub fn len(&self) -> usize {
        self.by_queue.len()
    }

    /// Queues that connections subscribe to one by one.
    pub fn subscribed_len(&self) -> usize {
        self.by_queue.len().saturating_sub(self.served)
    }

    /// What is delivered and not acknowledged.
    pub fn pending(&self, now_secs: u64) -> PendingReport {
        self.pending.report(now_secs)
    }

    /// The services for which a session receives.
    pub fn held_services(&self) -> impl Iterator<Item = &(ServiceParty, ServiceId)> {
        self.holders.iter().filter(|(_, holder)| self.peers.contains_key(&holder.conn)).map(|(key, _)| key)
    }

    /// Queues whose messages somebody is notified of.
    pub fn notified_len(&self) -> usize {
        self.by_notified.len()
    }

    pub fn peer(&mut self, session: &Arc<Session>) -> &mut Peer {
        self.peers.entry(session.conn).or_insert_with(|| Peer {
            session: Arc::clone(session),
            subscribed: HashSet::new(),
            served: HashSet::new(),
            term: 0,
            scan: None,
            notified: HashSet::new(),
            got: HashMap::new(),
            pending: 0,
            pending_served: None,
            credit: self.credit,
            fetching: 0,
            line: VecDeque::new(),
            waiting: VecDeque::new(),
            resumes: false,
            starved: false,
            secrets: SecretCache::default(),
        })
    }

    pub fn known_peer(&mut self, conn: ConnRef) -> Option<&mut Peer> {
        self.peers.get_mut(&conn)
    }

    /// The subscription of a queue that is no service's.
    pub fn of_queue(&self, queue: QueueIx) -> Option<&Subscription> {
        self.by_queue.get(&queue)
    }

    /// The subscription of a queue if it is this connection's.
    pub fn of(&self, queue: QueueIx, conn: ConnRef) -> Option<Subscription> {
        let subscription = self.by_queue.get(&queue).filter(|subscription| subscription.conn == conn)?;
        self.peers.get(&conn).filter(|peer| subscription.is_of(peer))?;
        Some(*subscription)
    }

    /// A message was delivered to the connection, if the subscription of the queue is its own.
    pub fn deliver(&mut self, queue: QueueIx, conn: ConnRef, message_id: MessageId, now_secs: u64) {
        let secs = u32::try_from(now_secs).unwrap_or(u32::MAX);
        let Self { by_queue, peers, pending, .. } = self;
        if let (Some(subscription), Some(peer)) = (by_queue.get_mut(&queue), peers.get_mut(&conn))
            && subscription.is_of(peer)
        {
            if subscription.delivered.replace(message_id).is_some() {
                peer.end(pending, subscription.term, subscription.delivered_secs);
            }
            subscription.delivered_secs = secs;
            peer.begin(pending, subscription.term, secs);
        }
    }

    /// What was delivered is acknowledged, or is to be delivered again.
    pub fn undeliver(&mut self, queue: QueueIx, conn: ConnRef) {
        let Self { by_queue, peers, pending, .. } = self;
        if let (Some(subscription), Some(peer)) = (by_queue.get_mut(&queue), peers.get_mut(&conn))
            && subscription.is_of(peer)
            && subscription.delivered.take().is_some()
        {
            peer.end(pending, subscription.term, subscription.delivered_secs);
        }
    }

    /// Subscribes a connection. Gives the one that was subscribed to the queue before, if it is another.
    pub fn subscribe(&mut self, queue: QueueIx, session: &Arc<Session>) -> Option<ConnRef> {
        let conn = session.conn;
        let former = self.remove(queue);
        if self.peer(session).subscribed.insert(queue) {
            session.counts.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
        let made = Subscription { conn, delivered: None, delivered_secs: 0, in_line: false, term: 0 };
        self.by_queue.insert(queue, made);
        former.filter(|former| former.conn != conn && former.term == 0).map(|former| former.conn)
    }

    /// The subscription of a queue of this service by whoever holds that: made if there is none.
    pub fn served(&mut self, queue: QueueIx, service: &ServiceId) -> Option<Subscription> {
        let conn = self.holder(ServiceParty::Recipient, service)?;
        let term = self.peers.get(&conn)?.term;
        let present = self.by_queue.get(&queue).copied();
        if let Some(present) = present {
            if present.conn == conn && present.term == term {
                return Some(present);
            }
            self.remove(queue);
        }
        let made = Subscription { conn, delivered: None, delivered_secs: 0, in_line: false, term };
        self.by_queue.insert(queue, made);
        self.served += 1;
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.served.insert(queue);
        }
        Some(made)
    }

    /// The queue becomes a service's, or another's: whoever subscribed to it is told, if it is another connection.
    pub fn drop_subscription(&mut self, queue: QueueIx) -> Option<ConnRef> {
        let former = self.remove(queue)?;
        Some(former.conn).filter(|_| former.term == 0)
    }

    /// Who receives for a service, if it is still there.
    pub fn holder(&self, party: ServiceParty, service: &ServiceId) -> Option<ConnRef> {
        let conn = self.holders.get(&(party, *service))?.conn;
        self.peers.contains_key(&conn).then_some(conn)
    }

    /// A session receives for its service from now on. Gives who did before, if it is another, and whether this one now
    /// subscribes to all queues at once for the first time.
    pub fn hold(
        &mut self,
        party: ServiceParty,
        session: &Arc<Session>,
        round: u32,
        subscribes_all: bool,
    ) -> (Option<Holder>, bool) {
        let Some(service) = &session.service else { return (None, false) };
        let conn = session.conn;
        let key = (party, service.id);
        if let Some(holder) = self.holders.get_mut(&key).filter(|holder| holder.conn == conn) {
            holder.round = round;
            let is_first = subscribes_all && !holder.subscribed_all;
            holder.subscribed_all |= subscribes_all;
            return (None, is_first);
        }
        let former = self.holders.insert(key, Holder { conn, round, subscribed_all: subscribes_all });
        if let Some(former) = &former {
            self.end_term(former.conn);
        }
        let term = self.next_term;
        // After so many changes of hands no entry of the first is left.
        self.next_term = term.checked_add(1).unwrap_or(1);
        self.peer(session).term = term;
        service.held.fetch_add(1, Ordering::Relaxed);
        (former, subscribes_all)
    }

    /// The session of a service is gone.
    pub fn release(&mut self, party: ServiceParty, session: &Session) {
        if let Some(service) = &session.service
            && let Some(holder) = self.holders.get(&(party, service.id))
            && holder.conn == session.conn
        {
            self.holders.remove(&(party, service.id));
            self.end_term(session.conn);
        }
        self.remove_connection(session.conn);
    }

    fn end_term(&mut self, conn: ConnRef) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.end_served(&mut self.pending);
            peer.term = 0;
            peer.scan = None;
            if let Some(service) = &peer.session.service {
                service.held.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Notes that a connection used GET, and which message it got. A queue that it read before counts once.
    pub fn read(
        &mut self,
        queue: QueueIx,
        session: &Arc<Session>,
        delivered: Option<MessageId>,
        now_secs: u64,
    ) {
        let got = Got { delivered, delivered_secs: u32::try_from(now_secs).unwrap_or(u32::MAX) };
        self.peer(session);
        let Self { peers, pending, .. } = self;
        let Some(peer) = peers.get_mut(&session.conn) else { return };
        match peer.got.insert(queue, got) {
            None => {
                session.counts.queues_read.fetch_add(1, Ordering::Relaxed);
            }
            Some(former) if former.delivered.is_some() => peer.end(pending, 0, former.delivered_secs),
            Some(_) => {}
        }
        if delivered.is_some() {
            peer.begin(pending, 0, got.delivered_secs);
        }
    }

    /// Forgets a deleted queue; gives its subscriber. The operator deletes without a connection.
    pub fn remove_queue(&mut self, queue: QueueIx, deleted_by: Option<ConnRef>) -> Option<ConnRef> {
        let Self { peers, pending, .. } = self;
        if let Some(peer) = deleted_by.and_then(|conn| peers.get_mut(&conn))
            && let Some(got) = peer.got.remove(&queue)
        {
            peer.session.counts.queues_read.fetch_sub(1, Ordering::Relaxed);
            if got.delivered.is_some() {
                peer.end(pending, 0, got.delivered_secs);
            }
        }
        self.drop_subscription(queue)
    }

    fn remove(&mut self, queue: QueueIx) -> Option<Subscription> {
        let removed = self.by_queue.remove(&queue)?;
        self.served = self.served.saturating_sub(usize::from(removed.term != 0));
        let Self { peers, pending, .. } = self;
        if let Some(peer) = peers.get_mut(&removed.conn) {
            peer.served.remove(&queue);
            if peer.subscribed.remove(&queue) {
                peer.session.counts.subscriptions.fetch_sub(1, Ordering::Relaxed);
            }
            if removed.delivered.is_some() && removed.is_of(peer) {
                peer.end(pending, removed.term, removed.delivered_secs);
            }
        }
        Some(removed)
    }

    /// Whether a connection would be told of what happens to a queue.
    pub fn is_waited_for(&self, queue: QueueIx) -> bool {
        self.by_queue.contains_key(&queue) || self.by_notified.contains_key(&queue)
    }

    /// Forgets a connection and its subscriptions.
    pub fn remove_connection(&mut self, conn: ConnRef) {
        let Some(mut peer) = self.peers.remove(&conn) else { return };
        peer.end_served(&mut self.pending);
        for got in peer.got.values().filter(|got| got.delivered.is_some()) {
            self.pending.remove(got.delivered_secs);
        }
        for queue in peer.notified {
            if self.by_notified.get(&queue) == Some(&conn) {
                self.by_notified.remove(&queue);
            }
        }
        for queue in peer.subscribed.into_iter().chain(peer.served) {
            let own = self.by_queue.get(&queue).filter(|subscription| subscription.conn == conn);
            let Some(Subscription { term, delivered, delivered_secs, .. }) = own.copied() else { continue };
            self.by_queue.remove(&queue);
            if term != 0 {
                self.served = self.served.saturating_sub(1);
            } else if delivered.is_some() {
                self.pending.remove(delivered_secs);
            }
        }
        if peer.pending > 0 {
            peer.session.counts.delivering.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Compares what is counted with what is there.
    #[cfg(feature = "simulation")]
    pub fn miscounted(&self) -> Option<String> {
        let mut pending = 0;
        for (conn, peer) in &self.peers {
            let own = self.by_queue.values().filter(|subscription| subscription.is_of(peer));
            let delivered: Vec<_> = own.filter(|subscription| subscription.delivered.is_some()).collect();
            let served = delivered.iter().filter(|subscription| subscription.term != 0).count();
            let counted_served = peer.pending_served.as_ref().map_or(0, |served| served.count());
            let got = peer.got.values().filter(|got| got.delivered.is_some()).count();
            let known = (delivered.len() + got, served);
            if known != (peer.pending, counted_served) {
                let counted = (peer.pending, counted_served);
                return Some(format!("{conn:?} has deliveries: {known:?}, {counted:?} are counted"));
            }
            pending += known.0;
        }
        let served = self.by_queue.values().filter(|subscription| subscription.term != 0).count();
        let (known, counted) = ((pending, served), (self.pending.count(), self.served));
        (known != counted).then(|| format!("{known:?} deliveries and subscriptions, {counted:?} are counted"))
    }

    /// Who is notified of the messages of a queue whose notifier is no service's.
    pub fn notified(&self, queue: QueueIx) -> Option<ConnRef> {
        self.by_notified.get(&queue).copied()
    }

    /// Notifies a connection from now on. Gives the one that was notified before, if it is another.
    pub fn subscribe_notified(&mut self, queue: QueueIx, session: &Arc<Session>) -> Option<ConnRef> {
        let conn = session.conn;
        if self.peer(session).notified.insert(queue) {
            session.counts.notified.fetch_add(1, Ordering::Relaxed);
        }
        let former = self.by_notified.insert(queue, conn).filter(|former| *former != conn)?;
        self.forget_notified(former, queue);
        Some(former)
    }

    /// Nobody is notified any more. Gives who was.
    pub fn remove_notified(&mut self, queue: QueueIx) -> Option<ConnRef> {
        let conn = self.by_notified.remove(&queue)?;
        self.forget_notified(conn, queue);
        Some(conn)
    }

    fn forget_notified(&mut self, conn: ConnRef, queue: QueueIx) {
        if let Some(peer) = self.peers.get_mut(&conn)
            && peer.notified.remove(&queue)
        {
            peer.session.counts.notified.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Puts a queue into its subscriber's line, once.
    pub fn wait_for_credit(&mut self, queue: QueueIx) {
        let Some(subscription) = self.by_queue.get_mut(&queue) else { return };
        if subscription.in_line {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&subscription.conn) {
            subscription.in_line = true;
            peer.line.push_back(queue);
        }
    }

    /// The next queue of a connection's line that is still its own.
    pub fn next_in_line(&mut self, conn: ConnRef) -> Option<QueueIx> {
        let peer = self.peers.get_mut(&conn)?;
        while let Some(queue) = peer.line.pop_front() {
            if let Some(subscription) = self.by_queue.get_mut(&queue)
                && subscription.conn == conn
                && subscription.in_line
            {
                subscription.in_line = false;
                return Some(queue);
            }
        }
        None
    }
}
