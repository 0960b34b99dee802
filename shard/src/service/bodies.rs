//! Which bodies are in memory: a bounded cache in front of the log.
//!
//! A body is in memory when it arrives, and leaves it, the oldest first, when the cap is reached and the log can give it
//! back. What is to be delivered and not in memory is fetched: the runtime reads, and whoever waits goes on.

use hashbrown::HashMap;
use ringpost_store::log::ReadRequest;
use ringpost_store::{BodyPlace, Content, Log, Message, MessageId, Position, QueueIx};
use slab::Slab;
use smallvec::SmallVec;

use super::body::{Body, Form};
use super::session::ConnRef;
use super::{Mutation, Service};

/// A place in the [`Cache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheKey(u32);

impl CacheKey {
    pub const NONE: Self = Self(u32::MAX);
}

#[derive(Debug)]
struct Node {
    queue: QueueIx,
    /// The body can be read from the log when that is readable up to here.
    position: Position,
    previous: CacheKey,
    next: CacheKey,
}

/// The bodies in memory that the log has too, in the order of their arrival.
#[derive(Debug)]
pub struct Cache {
    nodes: Slab<Node>,
    first: CacheKey,
    last: CacheKey,
}

impl Default for Cache {
    fn default() -> Self {
        Self { nodes: Slab::new(), first: CacheKey::NONE, last: CacheKey::NONE }
    }
}

impl Cache {
    pub fn push(&mut self, queue: QueueIx, position: Position) -> CacheKey {
        let Ok(place) = u32::try_from(self.nodes.vacant_key()) else { return CacheKey::NONE };
        let (key, previous) = (CacheKey(place), self.last);
        self.nodes.insert(Node { queue, position, previous, next: CacheKey::NONE });
        match self.node(previous) {
            Some(node) => node.next = key,
            None => self.first = key,
        }
        self.last = key;
        key
    }

    pub fn remove(&mut self, key: CacheKey) {
        let Some(node) = self.nodes.try_remove(key.0 as usize) else { return };
        match self.node(node.previous) {
            Some(previous) => previous.next = node.next,
            None => self.first = node.next,
        }
        match self.node(node.next) {
            Some(next) => next.previous = node.previous,
            None => self.last = node.previous,
        }
    }

    fn node(&mut self, key: CacheKey) -> Option<&mut Node> {
        self.nodes.get_mut(key.0 as usize)
    }

    /// The oldest, its queue, and from where on the log has it.
    fn oldest(&self) -> Option<(CacheKey, QueueIx, Position)> {
        let node = self.nodes.get(self.first.0 as usize)?;
        Some((self.first, node.queue, node.position))
    }
}

/// Which of a queue's bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyOf {
    /// Of the first message, which has this ID.
    Message(MessageId),
    /// The data of the link.
    Link,
}

/// A body to be read from the log.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub queue: QueueIx,
    pub of: BodyOf,
    pub place: BodyPlace,
    pub request: ReadRequest,
}

/// What is being fetched, and who waits for it besides the queue's subscriber.
#[derive(Debug, Default)]
pub struct Fetching {
    pub wanted: Vec<Fetch>,
    /// By queue, and whether it is the link's data.
    waiters: HashMap<(QueueIx, bool), Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// Whose batches go on.
    conns: SmallVec<[ConnRef; 1]>,
    /// Of whose credit the delivery will be: it has no more fetches under way than credit.
    subscriber: Option<ConnRef>,
}

impl<L: Log> Service<L> {
    /// Leaves bodies to the log until those in memory are within the cap. False if it cannot: those that are left are
    /// not written yet.
    pub(super) fn make_room(&mut self) -> bool {
        while self.message_bytes >= self.config.message_bytes_max {
            let Some((key, queue, position)) = self.cache.oldest() else { break };
            if position > self.log.readable_up_to() && !self.mutated(Mutation::EvictTooEarly) {
                break;
            }
            self.cache.remove(key);
            if let Some(body) = self.cached_body(queue, key) {
                body.cached = CacheKey::NONE;
                let form = std::mem::replace(&mut body.form, Form::Away);
                self.counters.bodies_evicted.add(1);
                self.drop_form(form);
            }
        }
        self.message_bytes < self.config.message_bytes_max
    }

    fn cached_body(&mut self, queue: QueueIx, key: CacheKey) -> Option<&mut Body> {
        let is_link = self.store.queue(queue)?.link().is_some_and(|link| link.data.cached == key);
        if is_link {
            return self.store.link_data_mut(queue);
        }
        self.store.messages_mut(queue).find_map(|message| match &mut message.content {
            Content::Sent { body, .. } if body.cached == key => Some(body),
            _ => None,
        })
    }

    /// Gives back the memory of a body.
    pub(super) fn drop_form(&mut self, form: Form) {
        self.message_bytes -= form.held_bytes();
        if let Form::Kept { block, .. } = form {
            self.arena.recycle(block);
        }
        self.counters.message_bytes.set(self.message_bytes);
    }

    /// Counts a body that came into memory; the log has it from `position` on.
    pub(super) fn count_in(&mut self, queue: QueueIx, form: &Form, position: Position) -> CacheKey {
        self.message_bytes += form.held_bytes();
        self.counters.message_bytes.set(self.message_bytes);
        if self.log.keeps_bodies() { self.cache.push(queue, position) } else { CacheKey::NONE }
    }

    /// Whether the first message of a queue can be delivered now. If its body is in the log only it is fetched, and
    /// `waiter`'s batches go on when it is there. The queue's subscriber needs no waiter.
    pub(super) fn is_body_here(&mut self, queue: QueueIx, waiter: Option<ConnRef>) -> bool {
        let Some(message) = self.store.first_message(queue) else { return true };
        let Content::Sent { body, .. } = &message.content else { return true };
        if !body.form.is_away() {
            return true;
        }
        let (of, place) = (BodyOf::Message(message.id), body.place);
        self.fetch(queue, of, place, waiter)
    }

    /// Whether the data of a queue's link can be sent now. If it is in the log only it is fetched, and `waiter`'s batches
    /// go on when it is there.
    pub(super) fn is_link_here(&mut self, queue: QueueIx, waiter: ConnRef) -> bool {
        match self.store.queue(queue).and_then(ringpost_store::Queue::link) {
            Some(link) if link.data.form.is_away() => {
                let place = link.data.place;
                self.fetch(queue, BodyOf::Link, place, Some(waiter))
            }
            _ => true,
        }
    }

    pub(super) fn is_first_away(&self, queue: QueueIx) -> bool {
        self.store.first_message(queue).and_then(Message::body).is_some_and(|body| body.form.is_away())
    }

    /// Whether the first message of a queue would have to be fetched.
    pub(super) fn is_to_be_fetched(&self, queue: QueueIx) -> bool {
        self.is_first_away(queue) && !self.fetching.waiters.contains_key(&(queue, false))
    }

    fn fetch(&mut self, queue: QueueIx, of: BodyOf, place: BodyPlace, waiter: Option<ConnRef>) -> bool {
        if place.is_empty() {
            self.bring(queue, of, Form::Own(Box::default()));
            return true;
        }
        let key = (queue, of == BodyOf::Link);
        if let Some(waiters) = self.fetching.waiters.get_mut(&key) {
            waiters.conns.extend(waiter);
            return false;
        }
        let Some(request) = self.log.read(place) else {
            self.damaged(queue, of);
            // Whoever waits looks again.
            self.resumable.extend(waiter);
            self.subscribers.wait_for_credit(queue);
            return false;
        };
        let subscriber = if waiter.is_none() {
            self.subscription(queue).map(|subscription| subscription.conn)
        } else {
            None
        };
        let ignores_credit = self.mutated(Mutation::IgnoreCredit);
        if let Some(peer) = subscriber.and_then(|conn| self.subscribers.known_peer(conn)) {
            peer.fetching += 1;
            debug_assert!(ignores_credit || peer.fetching <= peer.credit, "a fetch without credit");
        }
        self.fetching.waiters.insert(key, Waiters { conns: waiter.into_iter().collect(), subscriber });
        self.fetching.wanted.push(Fetch { queue, of, place, request });
        false
    }

    /// What is to be read since the last call. Each is answered with [`fetched`](Self::fetched).
    pub fn take_fetches(&mut self) -> Vec<Fetch> {
        std::mem::take(&mut self.fetching.wanted)
    }

    /// Whether a fetch is of use still: the message may have left its queue meanwhile.
    pub fn is_wanted(&self, fetch: &Fetch) -> bool {
        self.away_at(fetch.queue, fetch.of) == Some(fetch.place)
    }

    /// The blocks that a fetch gave. False if they are not what was written: they are to be read again, since a message is
    /// dropped for what is on the disk, not for one read that went wrong. What the last read gives decides.
    pub fn fetched(&mut self, fetch: &Fetch, blocks: &[u8], is_last: bool) -> bool {
        let Fetch { queue, of, place, .. } = *fetch;
        let is_wanted = self.is_wanted(fetch) || self.mutated(Mutation::FetchedToFirst);
        let body = if self.mutated(Mutation::IgnoreBodyCrc) {
            blocks.get(..place.len())
        } else if is_wanted {
            self.log.body(place, blocks)
        } else {
            None
        };
        if is_wanted && body.is_none() && !is_last && !self.mutated(Mutation::ReadOnce) {
            return false;
        }
        let waiters = self.fetching.waiters.remove(&(queue, of == BodyOf::Link)).unwrap_or_default();
        if !self.mutated(Mutation::ForgetWaiters) {
            self.resumable.extend(waiters.conns);
        }
        if let Some(peer) = waiters.subscriber.and_then(|conn| self.subscribers.known_peer(conn)) {
            peer.fetching = peer.fetching.saturating_sub(1);
        }
        self.counters.bodies_fetched.add(1);
        if is_wanted {
            match body {
                Some(bytes) => {
                    let form = Form::Own(bytes.into());
                    // Others go, not the one that was waited for: it comes last.
                    self.make_room();
                    self.bring(queue, of, form);
                }
                None => self.damaged(queue, of),
            }
        }
        if of != BodyOf::Link {
            self.deliver_or_wait(queue);
            if let Some(subscription) = self.subscription(queue) {
                self.wake_scan(subscription.conn);
            }
        }
        // It may be another's by now.
        if let Some(conn) = waiters.subscriber {
            self.wake_scan(conn);
            self.move_line(conn);
        }
        true
    }

    /// Where a body is, if it is still the queue's and in the log only.
    fn away_at(&self, queue: QueueIx, of: BodyOf) -> Option<BodyPlace> {
        let body = match of {
            BodyOf::Message(id) => self.store.first_message(queue).filter(|first| first.id == id)?.body()?,
            BodyOf::Link => &self.store.queue(queue)?.link()?.data,
        };
        body.form.is_away().then_some(body.place)
    }

    /// Puts a body into memory.
    fn bring(&mut self, queue: QueueIx, of: BodyOf, form: Form) {
        let cached = self.count_in(queue, &form, Position::default());
        let body = match of {
            BodyOf::Link => self.store.link_data_mut(queue),
            BodyOf::Message(_) => {
                self.store.messages_mut(queue).next().and_then(|message| match &mut message.content {
                    Content::Sent { body, .. } => Some(body),
                    Content::Quota => None,
                })
            }
        };
        if let Some(body) = body {
            *body = Body { form, cached, place: body.place };
        }
    }

    /// What the disk has is not what was written: the message cannot be delivered any more, and those behind it shall. A
    /// link without its data is none.
    fn damaged(&mut self, queue: QueueIx, of: BodyOf) {
        if self.mutated(Mutation::KeepDamaged) {
            return;
        }
        self.counters.messages_damaged.add(1);
        // If it is refused now, whoever asks next comes here again.
        match of {
            BodyOf::Message(id) => {
                tracing::error!(
                    "the body of a stored message is damaged on the disk: the message is dropped"
                );
                let _ = self.take_first(queue, &id);
            }
            BodyOf::Link => {
                tracing::error!("the data of a short link is damaged on the disk: the link is dropped");
                let _ = self.drop_link(queue);
            }
        }
    }
}
