//! The table of queues and the operations on it.
//!
//! | file | what it does |
//! |---|---|
//! | here | making, finding and removing queues |
//! | `changes` | what changes of a queue |
//! | `messages` | its messages |
//! | `services` | services and the queues that they have |

mod changes;
mod messages;
mod services;

use std::ops::Range;

use hashbrown::HashTable;
use slab::Slab;

use crate::id::{BUCKETS_PER_PARTITION, Bucket, IdHash, IdHasher, PARTITIONS, QueueId};
use crate::message::MessageQueue;
use crate::queue::{Activity, NewParts, NewQueue, Queue, State};
use crate::service::{ServiceParty, Services};

pub use changes::{ChangeError, KeyConflict};
pub use services::DuplicateService;

/// A queue's place in the table. It never names another queue: places are used again, serial numbers are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueIx {
    place: u32,
    serial: u32,
}

impl QueueIx {
    /// For [`Store::queues_between`].
    pub fn place(self) -> u32 {
        self.place
    }
}

/// Which of a queue's IDs an ID is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Recipient,
    Sender,
    Notifier,
    /// Anyone who has the short link.
    Link,
}

/// An ID of the new queue is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ID of the new queue is in use")]
pub struct DuplicateId;

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
    by_notifier: Index,
    by_link: Index,
    services: Services<B>,
    /// The first queue of each bucket. A partition that has no queues yet has an empty slice: a shard has few of them all.
    buckets: Box<[Box<[u32]>]>,
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
            by_notifier: Index::new(),
            by_link: Index::new(),
            services: Services::default(),
            buckets: vec![Box::default(); PARTITIONS].into_boxed_slice(),
            messages: 0,
            next_serial: 0,
        }
    }

    /// Makes room for so many queues more, so that the table does not grow in steps that each move all of it.
    pub fn reserve(&mut self, queues: usize) {
        self.queues.reserve(queues);
        let Self { queues: records, hasher, by_recipient, by_sender, .. } = self;
        for (index, party) in [(by_recipient, Party::Recipient), (by_sender, Party::Sender)] {
            index.reserve(queues, |&place| {
                let id = records.get(place as usize).and_then(|queue| queue.id(party));
                id.map_or(IdHash(0), |id| hasher.hash(&id)).for_index()
            });
        }
    }

    pub fn hasher(&self) -> &IdHasher {
        &self.hasher
    }

    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    pub fn notifier_count(&self) -> usize {
        self.by_notifier.len()
    }

    pub fn link_count(&self) -> usize {
        self.by_link.len()
    }

    pub fn activity_mut(&mut self, ix: QueueIx) -> Option<&mut Activity> {
        self.queue_mut(ix).map(|queue| &mut queue.activity)
    }

    pub fn find(&self, party: Party, id: &QueueId) -> Option<QueueIx> {
        let hash = self.hasher.hash(id);
        self.index(party)
            .find(hash.for_index(), |&place| {
                self.record(place).is_some_and(|queue| queue.id(party) == Some(*id))
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

    fn is_taken(&self, party: Party, id: &QueueId) -> bool {
        self.find(party, id).is_some()
    }

    /// Whether the IDs of a queue to be made are free.
    pub fn check_new<T>(&self, new: &NewQueue, parts: &NewParts<T>) -> Result<(), DuplicateId> {
        let taken = self.is_taken(Party::Recipient, &new.recipient_id)
            || self.is_taken(Party::Sender, &new.sender_id)
            || parts.link.as_ref().is_some_and(|link| self.is_taken(Party::Link, &link.id))
            || parts.notifier.as_ref().is_some_and(|notifier| self.is_taken(Party::Notifier, &notifier.id));
        if taken { Err(DuplicateId) } else { Ok(()) }
    }

    /// Makes a queue that has no more than every queue has.
    pub fn create(&mut self, new: NewQueue, today: u32) -> Result<QueueIx, DuplicateId> {
        self.create_with(new, NewParts::default(), today)
    }

    /// Makes a queue with all that it has from the beginning, or nothing.
    pub fn create_with(
        &mut self,
        new: NewQueue,
        parts: NewParts<B>,
        today: u32,
    ) -> Result<QueueIx, DuplicateId> {
        self.check_new(&new, &parts)?;
        let place = u32::try_from(self.queues.vacant_key()).map_err(|_| DuplicateId)?;
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
            state: State::Active,
            used_day: today,
            activity: Activity::default(),
            messages: None,
            parts: None,
        });
        self.insert_index(Party::Recipient, &new.recipient_id, place);
        self.insert_index(Party::Sender, &new.sender_id, place);
        self.enlist(place, self.hasher.hash(&new.recipient_id).bucket());
        let ix = QueueIx { place, serial };
        let NewParts { link, notifier, recipient_service } = parts;
        // The queue is there, and the IDs are free.
        let added = [
            link.map(|link| self.set_link(ix, link).map(drop)),
            notifier.map(|notifier| self.set_notifier(ix, notifier).map(drop)),
            recipient_service.map(|service| self.set_recipient_service(ix, Some(service)).map(drop)),
        ];
        debug_assert!(added.into_iter().flatten().all(|added| added.is_ok()));
        Ok(ix)
    }

    /// Removes a queue with all that it has.
    pub fn delete(&mut self, ix: QueueIx) -> Option<Queue<B>> {
        self.queue(ix)?;
        let queue = self.queues.try_remove(ix.place as usize)?;
        self.delist(&queue);
        self.messages -= queue.messages().map_or(0, MessageQueue::len);
        for party in [Party::Recipient, Party::Sender, Party::Notifier, Party::Link] {
            if let Some(id) = queue.id(party) {
                self.remove_index(party, &id, ix.place);
            }
        }
        if let Some(service) = queue.recipient_service() {
            self.services.discount(ServiceParty::Recipient, service, &queue.recipient_id);
        }
        if let Some(notifier) = queue.notifier()
            && let Some(service) = &notifier.service
        {
            self.services.discount(ServiceParty::Notifier, service, &notifier.id);
        }
        Some(queue)
    }

    /// The queues of a bucket, in no particular order.
    pub fn queues_of(&self, bucket: Bucket) -> impl Iterator<Item = (QueueIx, &Queue<B>)> {
        let partition = self.buckets.get(usize::from(bucket.partition()));
        let mut place = partition.and_then(|p| p.get(usize::from(bucket.sub()))).copied().unwrap_or(NO_PLACE);
        std::iter::from_fn(move || {
            let queue = self.record(place)?;
            let ix = QueueIx { place, serial: queue.serial };
            place = queue.next;
            Some((ix, queue))
        })
    }

    fn bucket_head(&mut self, bucket: Bucket) -> Option<&mut u32> {
        let partition = self.buckets.get_mut(usize::from(bucket.partition()))?;
        if partition.is_empty() {
            *partition = vec![NO_PLACE; BUCKETS_PER_PARTITION].into_boxed_slice();
        }
        partition.get_mut(usize::from(bucket.sub()))
    }

    /// Puts the queue at `place` in front of its bucket's list.
    fn enlist(&mut self, place: u32, bucket: Bucket) {
        let Some(head) = self.bucket_head(bucket) else { return };
        let next = std::mem::replace(head, place);
        if let Some(queue) = self.queues.get_mut(place as usize) {
            queue.next = next;
        }
        if let Some(queue) = self.queues.get_mut(next as usize) {
            queue.previous = place;
        }
    }

    /// Takes a queue that has left the table out of its bucket's list.
    fn delist(&mut self, removed: &Queue<B>) {
        if let Some(next) = self.queues.get_mut(removed.next as usize) {
            next.previous = removed.previous;
        }
        if let Some(previous) = self.queues.get_mut(removed.previous as usize) {
            previous.next = removed.next;
        } else {
            let bucket = self.hasher.hash(&removed.recipient_id).bucket();
            if let Some(head) = self.bucket_head(bucket) {
                *head = removed.next;
            }
        }
    }

    /// All bodies: of messages, links and services.
    pub fn bodies(&self) -> impl Iterator<Item = &B> {
        let queues = self.queues_between(0..u32::MAX).flat_map(|(_, queue)| queue.bodies());
        queues.chain(self.services().map(|service| &service.chain))
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
            Party::Notifier => &self.by_notifier,
            Party::Link => &self.by_link,
        }
    }

    /// The queue has the ID already.
    fn insert_index(&mut self, party: Party, id: &QueueId, place: u32) {
        let hash = self.hasher.hash(id);
        let Self { queues, hasher, by_recipient, by_sender, by_notifier, by_link, .. } = self;
        let index = match party {
            Party::Recipient => by_recipient,
            Party::Sender => by_sender,
            Party::Notifier => by_notifier,
            Party::Link => by_link,
        };
        index.insert_unique(hash.for_index(), place, |&place| {
            let id = queues.get(place as usize).and_then(|queue| queue.id(party));
            id.map_or(IdHash(0), |id| hasher.hash(&id)).for_index()
        });
    }

    fn remove_index(&mut self, party: Party, id: &QueueId, place: u32) {
        let hash = self.hasher.hash(id);
        let index = match party {
            Party::Recipient => &mut self.by_recipient,
            Party::Sender => &mut self.by_sender,
            Party::Notifier => &mut self.by_notifier,
            Party::Link => &mut self.by_link,
        };
        if let Ok(entry) = index.find_entry(hash.for_index(), |&known| known == place) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests;
