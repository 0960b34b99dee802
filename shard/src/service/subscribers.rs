//! Who receives from which queue, as its home shard knows it.
//!
//! A queue has at most one subscriber. A connection that used GET on a queue is noted too, since it must not subscribe
//! to that queue. Deliveries to a connection need credit, so that a slow reader holds few blocks; a queue that could not
//! deliver stands in its connection's line and is delivered when credit returns.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::{HashMap, HashSet};
use ringpost_store::{MessageId, QueueIx};

use super::secrets::SecretCache;
use super::session::{Batch, ConnRef, Session};

#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    pub conn: ConnRef,
    /// Delivered and not yet acknowledged.
    pub delivered: Option<MessageId>,
    /// The queue stands in the connection's line.
    pub in_line: bool,
}

/// What a home shard keeps of a connection that has sent it commands.
#[derive(Debug)]
pub struct Peer {
    pub session: Arc<Session>,
    pub subscribed: HashSet<QueueIx>,
    /// Queues of whose messages the connection is notified.
    pub notified: HashSet<QueueIx>,
    /// Queues read with GET, and what was delivered last.
    pub got: HashMap<QueueIx, Option<MessageId>>,
    /// Blocks that may still be sent to the connection.
    pub credit: usize,
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
    peers: HashMap<ConnRef, Peer>,
    credit: usize,
}

impl Subscribers {
    /// Every connection begins with `credit` blocks.
    pub fn new(credit: usize) -> Self {
        Self { by_queue: HashMap::new(), by_notified: HashMap::new(), peers: HashMap::new(), credit }
    }

    pub fn len(&self) -> usize {
        self.by_queue.len()
    }

    pub fn peer(&mut self, session: &Arc<Session>) -> &mut Peer {
        self.peers.entry(session.conn).or_insert_with(|| Peer {
            session: Arc::clone(session),
            subscribed: HashSet::new(),
            notified: HashSet::new(),
            got: HashMap::new(),
            credit: self.credit,
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

    pub fn of_queue(&self, queue: QueueIx) -> Option<&Subscription> {
        self.by_queue.get(&queue)
    }

    /// The subscription of a queue if it is this connection's.
    pub fn of(&mut self, queue: QueueIx, conn: ConnRef) -> Option<&mut Subscription> {
        self.by_queue.get_mut(&queue).filter(|subscription| subscription.conn == conn)
    }

    /// Subscribes a connection. Gives the one that was subscribed before, if it is another.
    pub fn subscribe(&mut self, queue: QueueIx, session: &Arc<Session>) -> Option<ConnRef> {
        let conn = session.conn;
        if self.peer(session).subscribed.insert(queue) {
            session.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
        let former = self.by_queue.insert(queue, Subscription { conn, delivered: None, in_line: false })?;
        if former.conn == conn {
            return None;
        }
        self.unsubscribe(former.conn, queue);
        Some(former.conn)
    }

    /// Notes that a connection used GET, and which message it got. A queue that it read before counts once.
    pub fn read(&mut self, queue: QueueIx, session: &Arc<Session>, delivered: Option<MessageId>) {
        if self.peer(session).got.insert(queue, delivered).is_none() {
            session.queues_read.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets a deleted queue; gives its subscriber.
    pub fn remove_queue(&mut self, queue: QueueIx, deleted_by: ConnRef) -> Option<ConnRef> {
        if let Some(peer) = self.peers.get_mut(&deleted_by)
            && peer.got.remove(&queue).is_some()
        {
            peer.session.queues_read.fetch_sub(1, Ordering::Relaxed);
        }
        let former = self.by_queue.remove(&queue)?;
        self.unsubscribe(former.conn, queue);
        Some(former.conn)
    }

    fn unsubscribe(&mut self, conn: ConnRef, queue: QueueIx) {
        if let Some(peer) = self.peers.get_mut(&conn)
            && peer.subscribed.remove(&queue)
        {
            peer.session.subscriptions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a connection would be told of what happens to a queue.
    pub fn is_waited_for(&self, queue: QueueIx) -> bool {
        self.by_queue.contains_key(&queue) || self.by_notified.contains_key(&queue)
    }

    /// Forgets a connection and its subscriptions.
    pub fn remove_connection(&mut self, conn: ConnRef) {
        let Some(peer) = self.peers.remove(&conn) else { return };
        for queue in peer.notified {
            if self.by_notified.get(&queue) == Some(&conn) {
                self.by_notified.remove(&queue);
            }
        }
        for queue in peer.subscribed {
            if self.by_queue.get(&queue).is_some_and(|subscription| subscription.conn == conn) {
                self.by_queue.remove(&queue);
            }
        }
    }

    /// Who is notified of a queue's messages.
    pub fn notified(&self, queue: QueueIx) -> Option<ConnRef> {
        self.by_notified.get(&queue).copied()
    }

    /// Notifies a connection from now on. Gives the one that was notified before, if it is another.
    pub fn subscribe_notified(&mut self, queue: QueueIx, session: &Arc<Session>) -> Option<ConnRef> {
        let conn = session.conn;
        if self.peer(session).notified.insert(queue) {
            session.subscriptions.fetch_add(1, Ordering::Relaxed);
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
            peer.session.subscriptions.fetch_sub(1, Ordering::Relaxed);
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
