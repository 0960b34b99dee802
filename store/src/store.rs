//! The table of queues and the operations on it.

use std::ops::Range;

use hashbrown::HashTable;
use ringpost_protocol::keys::AuthPublicKey;
use slab::Slab;

use crate::id::{BUCKETS, Bucket, IdHash, IdHasher, QueueId};
use crate::message::{Message, MessageId, MessageQueue, Written};
use crate::queue::{NewQueue, Queue, Status};

/// A queue's place in the table. It never names another queue: places are used again, serial numbers are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueIx {
    place: u32,
    serial: u32,
}

/// Which of a queue's IDs an ID is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Recipient,
    Sender,
}

/// An ID of the new queue is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ID of the new queue is in use")]
pub struct DuplicateId;

/// The queue is secured with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is secured with another key")]
pub struct KeyConflict;

/// Entries are places in the slab; the IDs stand in the records only.
type Index = HashTable<u32>;

/// The end of a bucket's list.
pub(crate) const NO_PLACE: u32 = u32::MAX;

#[derive(Debug)]
pub struct Store<B> {
    hasher: IdHasher,
    queues: Slab<Queue<B>>,
    by_recipient: Index,
    by_sender: Index,
    /// The first queue of each bucket.
    buckets: Box<[u32]>,
    messages: usize,
    next_serial: u32,
}

impl<B> Store<B> {
    pub fn new(hasher: IdHasher) -> Self {
        Self {
            hasher,
            queues: Slab::new(),
            by_recipient: Index::new(),
            by_sender: Index::new(),
            buckets: vec![NO_PLACE; BUCKETS].into_boxed_slice(),
            messages: 0,
            next_serial: 0,
        }
    }

    pub fn hasher(&self) -> &IdHasher {
        &self.hasher
    }

    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Stored messages of all queues, quota messages included.
    pub fn message_count(&self) -> usize {
        self.messages
    }

    pub fn find(&self, party: Party, id: &QueueId) -> Option<QueueIx> {
        let hash = self.hasher.hash(id);
        self.index(party)
            .find(hash.for_index(), |&place| {
                self.record(place).is_some_and(|queue| party_id(queue, party) == id)
            })
            .and_then(|&place| Some(QueueIx { place, serial: self.record(place)?.serial }))
    }

    fn record(&self, place: u32) -> Option<&Queue<B>> {
        self.queues.get(place as usize)
    }

    pub fn queue(&self, ix: QueueIx) -> Option<&Queue<B>> {
        self.record(ix.place).filter(|queue| queue.serial == ix.serial)
    }

    fn queue_mut(&mut self, ix: QueueIx) -> Option<&mut Queue<B>> {
        self.queues.get_mut(ix.place as usize).filter(|queue| queue.serial == ix.serial)
    }

    pub fn create(&mut self, new: NewQueue, today: u32) -> Result<QueueIx, DuplicateId> {
        let taken = self.find(Party::Recipient, &new.recipient_id).is_some()
            || self.find(Party::Sender, &new.sender_id).is_some();
        let place = u32::try_from(self.queues.vacant_key()).ok();
        let (Some(place), false) = (place, taken) else { return Err(DuplicateId) };
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        self.queues.insert(Queue {
            serial,
            previous: NO_PLACE,
            next: NO_PLACE,
            recipient_id: new.recipient_id,
            sender_id: new.sender_id,
            recipient_key: new.recipient_key,
            sender_key: None,
            delivery_secret: new.delivery_secret,
            mode: new.mode,
            status: Status::Active,
            used_day: today,
            messages: None,
        });
        self.insert_index(Party::Recipient, &new.recipient_id, place);
        self.insert_index(Party::Sender, &new.sender_id, place);
        self.link(place, self.hasher.hash(&new.recipient_id).bucket());
        Ok(QueueIx { place, serial })
    }

    /// KEY and SKEY: repeating the same key is no conflict.
    pub fn secure(&mut self, ix: QueueIx, key: AuthPublicKey) -> Result<(), KeyConflict> {
        let queue = self.queue_mut(ix).ok_or(KeyConflict)?;
        match &queue.sender_key {
            Some(present) if *present != key => Err(KeyConflict),
            Some(_) => Ok(()),
            None => {
                queue.sender_key = Some(key);
                Ok(())
            }
        }
    }

    pub fn suspend(&mut self, ix: QueueIx) {
        if let Some(queue) = self.queue_mut(ix) {
            queue.status = Status::Suspended;
        }
    }

    /// Notes that the queue was used on this day. True if that is news.
    pub fn mark_used(&mut self, ix: QueueIx, today: u32) -> bool {
        match self.queue_mut(ix) {
            Some(queue) if queue.used_day != today => {
                queue.used_day = today;
                true
            }
            _ => false,
        }
    }

    /// Removes a queue and its messages.
    pub fn delete(&mut self, ix: QueueIx) -> Option<Queue<B>> {
        self.queue(ix)?;
        let queue = self.queues.try_remove(ix.place as usize)?;
        self.unlink(&queue);
        self.messages -= queue.messages().map_or(0, MessageQueue::len);
        self.remove_index(Party::Recipient, &queue.recipient_id, ix);
        self.remove_index(Party::Sender, &queue.sender_id, ix);
        Some(queue)
    }

    /// Appends a message. None if there is no such queue.
    pub fn write(&mut self, ix: QueueIx, message: Message<B>, quota: usize) -> Option<Written> {
        let queue = self.queues.get_mut(ix.place as usize).filter(|queue| queue.serial == ix.serial)?;
        let written = queue.messages.get_or_insert_default().write(message, quota);
        match written {
            Written::Stored { .. } | Written::OverQuota { marked: true } => self.messages += 1,
            Written::OverQuota { marked: false } => {}
        }
        Some(written)
    }

    /// What [`write`](Self::write) would make of a message.
    pub fn verdict(&self, ix: QueueIx, quota: usize) -> Option<Written> {
        let queue = self.queue(ix)?;
        Some(match queue.messages() {
            Some(messages) => messages.verdict(quota),
            None if quota > 0 => Written::Stored { was_empty: true },
            None => Written::OverQuota { marked: true },
        })
    }

    /// The messages of a queue, for changing where their bodies are.
    pub fn messages_mut(&mut self, ix: QueueIx) -> impl Iterator<Item = &mut Message<B>> {
        let messages = self.queue_mut(ix).and_then(|queue| queue.messages.as_deref_mut());
        messages.into_iter().flat_map(MessageQueue::iter_mut)
    }

    pub fn first_message(&self, ix: QueueIx) -> Option<&Message<B>> {
        self.queue(ix)?.messages()?.first()
    }

    /// ACK: removes the first message if it is the named one.
    pub fn take_message(&mut self, ix: QueueIx, id: &MessageId) -> Option<Message<B>> {
        let messages = self.queue_mut(ix)?.messages.as_deref_mut()?;
        let taken = messages.take(id)?;
        messages.shrink();
        self.messages -= 1;
        Some(taken)
    }

    /// Appends a message that was accepted before: no quota is looked at. False if there is no such queue.
    pub fn restore_message(&mut self, ix: QueueIx, message: Message<B>) -> bool {
        let Some(queue) = self.queue_mut(ix) else { return false };
        queue.messages.get_or_insert_default().restore(message);
        self.messages += 1;
        true
    }

    /// Drops the messages from the first to the named one. None if it is not there.
    pub fn take_through(&mut self, ix: QueueIx, id: &MessageId) -> Option<Vec<Message<B>>> {
        let messages = self.queue_mut(ix)?.messages.as_deref_mut()?;
        let taken = messages.drop_first(messages.through(id)?);
        messages.shrink();
        self.messages -= taken.len();
        Some(taken)
    }

    /// The queues of a bucket, in no particular order.
    pub fn queues_of(&self, bucket: Bucket) -> impl Iterator<Item = (QueueIx, &Queue<B>)> {
        let mut place = self.buckets.get(bucket.index()).copied().unwrap_or(NO_PLACE);
        std::iter::from_fn(move || {
            let queue = self.record(place)?;
            let ix = QueueIx { place, serial: queue.serial };
            place = queue.next;
            Some((ix, queue))
        })
    }

    /// Puts the queue at `place` in front of its bucket's list.
    fn link(&mut self, place: u32, bucket: Bucket) {
        let Some(head) = self.buckets.get_mut(bucket.index()) else { return };
        let next = std::mem::replace(head, place);
        if let Some(queue) = self.queues.get_mut(place as usize) {
            queue.next = next;
        }
        if let Some(queue) = self.queues.get_mut(next as usize) {
            queue.previous = place;
        }
    }

    /// Takes a queue that has left the table out of its bucket's list.
    fn unlink(&mut self, removed: &Queue<B>) {
        if let Some(next) = self.queues.get_mut(removed.next as usize) {
            next.previous = removed.previous;
        }
        if let Some(previous) = self.queues.get_mut(removed.previous as usize) {
            previous.next = removed.next;
        } else {
            let bucket = self.hasher.hash(&removed.recipient_id).bucket();
            if let Some(head) = self.buckets.get_mut(bucket.index()) {
                *head = removed.next;
            }
        }
    }

    /// The queues at some places, for work that goes through all of them in small steps.
    pub fn queues_between(&self, places: Range<u32>) -> impl Iterator<Item = (QueueIx, &Queue<B>)> {
        (places.start..places.end.min(self.places())).filter_map(|place| {
            self.record(place).map(|queue| (QueueIx { place, serial: queue.serial }, queue))
        })
    }

    /// The end of the places.
    pub fn places(&self) -> u32 {
        u32::try_from(self.queues.capacity()).unwrap_or(u32::MAX)
    }

    fn index(&self, party: Party) -> &Index {
        match party {
            Party::Recipient => &self.by_recipient,
            Party::Sender => &self.by_sender,
        }
    }

    fn insert_index(&mut self, party: Party, id: &QueueId, place: u32) {
        let hash = self.hasher.hash(id);
        let Self { queues, hasher, by_recipient, by_sender, .. } = self;
        let index = match party {
            Party::Recipient => by_recipient,
            Party::Sender => by_sender,
        };
        index.insert_unique(hash.for_index(), place, |&place| {
            queues
                .get(place as usize)
                .map_or(IdHash(0), |queue| hasher.hash(party_id(queue, party)))
                .for_index()
        });
    }

    fn remove_index(&mut self, party: Party, id: &QueueId, ix: QueueIx) {
        let hash = self.hasher.hash(id);
        let index = match party {
            Party::Recipient => &mut self.by_recipient,
            Party::Sender => &mut self.by_sender,
        };
        if let Ok(entry) = index.find_entry(hash.for_index(), |&place| place == ix.place) {
            entry.remove();
        }
    }
}

fn party_id<B>(queue: &Queue<B>, party: Party) -> &QueueId {
    match party {
        Party::Recipient => &queue.recipient_id,
        Party::Sender => &queue.sender_id,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::message::Content;
    use ringpost_protocol::command::MsgFlags;
    use std::collections::{HashMap, VecDeque};

    fn new_queue(n: u8) -> NewQueue {
        NewQueue {
            recipient_id: [n; 24],
            sender_id: [n ^ 0x80; 24],
            recipient_key: AuthPublicKey::Ed25519([n; 32]),
            delivery_secret: [n; 32],
            mode: None,
        }
    }

    fn message(n: u8) -> Message<u8> {
        Message {
            id: [n; 24],
            received_secs: u64::from(n),
            content: Content::Sent { flags: MsgFlags::default(), body: n },
        }
    }

    fn store() -> Store<u8> {
        Store::new(IdHasher::new(&[1; 16]))
    }

    #[test]
    fn ids_find_their_queue_in_their_role_only() {
        let mut store = store();
        let ix = store.create(new_queue(1), 0).unwrap();
        assert_eq!(store.find(Party::Recipient, &[1; 24]), Some(ix));
        assert_eq!(store.find(Party::Sender, &[0x81; 24]), Some(ix));
        assert_eq!(store.find(Party::Sender, &[1; 24]), None);
        assert_eq!(store.create(new_queue(1), 0), Err(DuplicateId));
        assert!(store.delete(ix).is_some());
        assert_eq!(store.find(Party::Recipient, &[1; 24]), None);
        assert_eq!(store.find(Party::Sender, &[0x81; 24]), None);
        assert!(store.delete(ix).is_none());
        assert_ne!(store.create(new_queue(1), 0).unwrap(), ix);
        assert!(store.queue(ix).is_none());
    }

    #[test]
    fn a_queue_keeps_its_first_sender_key() {
        let mut store = store();
        let ix = store.create(new_queue(1), 0).unwrap();
        let key = AuthPublicKey::X25519([1; 32]);
        assert_eq!(store.secure(ix, key.clone()), Ok(()));
        assert_eq!(store.secure(ix, key), Ok(()));
        assert_eq!(store.secure(ix, AuthPublicKey::X25519([2; 32])), Err(KeyConflict));
    }

    /// Random operations against the simplest model: a map from recipient ID to a list.
    #[test]
    fn it_agrees_with_a_simple_model() {
        let mut store = store();
        let mut model: HashMap<u8, VecDeque<u8>> = HashMap::new();
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for step in 0..20_000_u32 {
            let n = u8::try_from(random(100)).unwrap();
            let m = u8::try_from(step % 251).unwrap();
            let ix = store.find(Party::Recipient, &[n; 24]);
            assert_eq!(ix.is_some(), model.contains_key(&n));
            assert_eq!(store.find(Party::Sender, &[n ^ 0x80; 24]), ix);
            match (random(6), ix) {
                (0, None) => {
                    store.create(new_queue(n), 0).unwrap();
                    model.insert(n, VecDeque::new());
                }
                (1, Some(ix)) if random(4) == 0 => {
                    store.delete(ix).unwrap();
                    model.remove(&n);
                }
                (2 | 3, Some(ix)) => {
                    assert!(matches!(store.write(ix, message(m), 1000), Some(Written::Stored { .. })));
                    model.get_mut(&n).unwrap().push_back(m);
                }
                (4, Some(ix)) => {
                    let first = model.get_mut(&n).unwrap().pop_front();
                    assert_eq!(store.first_message(ix).map(|m| m.id[0]), first);
                    if let Some(first) = first {
                        assert!(store.take_message(ix, &[first; 24]).is_some());
                    }
                }
                _ => {}
            }
            assert_eq!(store.queue_count(), model.len());
            assert_eq!(store.message_count(), model.values().map(VecDeque::len).sum::<usize>());
        }
        assert_eq!(store.queues_between(0..u32::MAX).count(), model.len());
        let mut by_bucket = 0;
        for bucket in (0..BUCKETS).filter_map(Bucket::from_index) {
            for (ix, queue) in store.queues_of(bucket) {
                assert_eq!(store.hasher().hash(&queue.recipient_id).bucket(), bucket);
                assert_eq!(store.find(Party::Recipient, &queue.recipient_id), Some(ix));
                by_bucket += 1;
            }
        }
        assert_eq!(by_bucket, model.len());
    }

    #[test]
    fn a_queue_record_is_small() {
        assert!(size_of::<Queue<[u64; 2]>>() <= 248, "{}", size_of::<Queue<[u64; 2]>>());
    }
}
