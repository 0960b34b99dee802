//! Which bodies are in memory: a bounded cache in front of the log.
//!
//! A body is in memory when it arrives, and leaves it, the oldest first, when the cap is reached and the log can give it
//! back. What is to be delivered and not in memory is fetched: the runtime reads, and whoever waits goes on.

use hashbrown::HashMap;
use ringpost_store::log::ReadRequest;
use ringpost_store::{BodyPlace, Content, Log, MessageId, Position, QueueIx};
use slab::Slab;
use smallvec::SmallVec;

use super::Service;
use super::body::{Body, Form};
use super::session::ConnRef;

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

/// A body to be read from the log.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub queue: QueueIx,
    pub message_id: MessageId,
    pub place: BodyPlace,
    pub request: ReadRequest,
}

/// What is being fetched, and who waits for it besides the queue's subscriber.
#[derive(Debug, Default)]
pub struct Fetching {
    pub wanted: Vec<Fetch>,
    waiters: HashMap<QueueIx, SmallVec<[ConnRef; 1]>>,
}

impl<L: Log> Service<L> {
    /// Leaves bodies to the log until those in memory are within the cap. False if it cannot: those that are left are
    /// not written yet.
    pub(super) fn make_room(&mut self) -> bool {
        while self.message_bytes >= self.config.message_bytes_max {
            let Some((key, queue, position)) = self.cache.oldest() else { break };
            if position > self.log.readable_up_to() {
                break;
            }
            self.cache.remove(key);
            let mut bodies =
                self.store.messages_mut(queue).filter_map(|message| match &mut message.content {
                    Content::Sent { body, .. } if body.cached == key => Some(body),
                    _ => None,
                });
            if let Some(body) = bodies.next() {
                body.cached = CacheKey::NONE;
                let form = std::mem::replace(&mut body.form, Form::Away);
                drop(bodies);
                self.counters.bodies_evicted.add(1);
                self.drop_form(form);
            }
        }
        self.message_bytes < self.config.message_bytes_max
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
        let (message_id, place) = (message.id, body.place);
        if place.is_empty() {
            self.bring(queue, Form::Own(Box::default()));
            return true;
        }
        if let Some(waiters) = self.fetching.waiters.get_mut(&queue) {
            waiters.extend(waiter);
            return false;
        }
        let Some(request) = self.log.read(place) else {
            self.damaged(queue, &message_id);
            return false;
        };
        self.fetching.waiters.insert(queue, waiter.into_iter().collect());
        self.fetching.wanted.push(Fetch { queue, message_id, place, request });
        false
    }

    /// What is to be read since the last call. Each is answered with [`fetched`](Self::fetched).
    pub fn take_fetches(&mut self) -> Vec<Fetch> {
        std::mem::take(&mut self.fetching.wanted)
    }

    /// The blocks that a fetch gave. The message may have left its queue meanwhile.
    pub fn fetched(&mut self, fetch: &Fetch, blocks: &[u8]) {
        let waiters = self.fetching.waiters.remove(&fetch.queue).unwrap_or_default();
        self.resumable.extend(waiters);
        self.counters.bodies_fetched.add(1);
        let queue = fetch.queue;
        if self.store.first_message(queue).is_some_and(|first| first.id == fetch.message_id) {
            match self.log.body(fetch.place, blocks) {
                Some(bytes) => {
                    let form = Form::Own(bytes.into());
                    // Others go, not the one that was waited for: it comes last.
                    self.make_room();
                    self.bring(queue, form);
                }
                None => self.damaged(queue, &fetch.message_id),
            }
        }
        self.deliver_or_wait(queue);
    }

    /// Puts the body of the first message into memory.
    fn bring(&mut self, queue: QueueIx, form: Form) {
        let cached = self.count_in(queue, &form, Position::default());
        if let Some(message) = self.store.messages_mut(queue).next()
            && let Content::Sent { body, .. } = &mut message.content
        {
            *body = Body { form, cached, place: body.place };
        }
    }

    /// What the disk has is not what was written: the message cannot be delivered any more, and those behind it shall.
    fn damaged(&mut self, queue: QueueIx, message_id: &MessageId) {
        self.counters.messages_damaged.add(1);
        tracing::error!("the body of a stored message is damaged on the disk: the message is dropped");
        // If that is refused now, the next delivery comes here again.
        let _ = self.take_first(queue, message_id);
    }
}
