//! Queues that came from another router: their IDs were not drawn to fall into one partition.
//!
//! A command is routed by the partition of its entity ID, and a queue lives in the partition of its recipient ID. For the
//! other IDs of imported queues this table says where that is. It is made at a start and only read afterwards: the entry
//! of a queue that was deleted since leads to a shard that answers as for any unknown ID.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use ringpost_store::{IdHash, Party, Queue, Store};

/// The keys are secret hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl std::hash::Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        // The table tells entries apart by the first bits, which all IDs of a partition share.
        self.0.rotate_left(32)
    }
}

#[derive(Debug, Default)]
pub struct Aliases {
    partitions: HashMap<u64, u8, BuildHasherDefault<Hashed>>,
}

impl Aliases {
    /// Adds the IDs of a shard's queues that lie elsewhere than the queue.
    pub fn add<B>(&mut self, store: &Store<B>) {
        let hasher = store.hasher();
        for (_, queue) in store.queues_between(0..u32::MAX) {
            let home = hasher.hash(&queue.recipient_id).partition();
            for id in other_ids(queue) {
                let hash = hasher.hash(&id);
                if hash.partition() != home {
                    self.partitions.insert(hash.0, home);
                }
            }
        }
        self.partitions.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The partition in which the queue with an ID of this hash lives, if there is one.
    pub fn partition(&self, hash: IdHash) -> u8 {
        if self.partitions.is_empty() {
            return hash.partition();
        }
        self.partitions.get(&hash.0).copied().unwrap_or_else(|| hash.partition())
    }
}

/// The IDs of a queue besides the recipient's.
fn other_ids<B>(queue: &Queue<B>) -> impl Iterator<Item = ringpost_store::QueueId> {
    [Party::Sender, Party::Notifier].into_iter().filter_map(|party| queue.id(party))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ringpost_protocol::keys::AuthPublicKey;
    use ringpost_store::{IdHasher, NewQueue};

    #[test]
    fn only_ids_that_lie_elsewhere_are_listed() {
        let hasher = IdHasher::new(&[7; 16]);
        let mut store: Store<ringpost_store::BodyPlace> = Store::new(hasher);
        let mut elsewhere = 0;
        for n in 0..=255 {
            let (recipient_id, sender_id) = ([n; 24], [n ^ 0x55; 24]);
            elsewhere +=
                usize::from(hasher.hash(&recipient_id).partition() != hasher.hash(&sender_id).partition());
            let new = NewQueue {
                recipient_id,
                sender_id,
                recipient_key: AuthPublicKey::Ed25519([n; 32]),
                delivery_secret: [n; 32],
                mode: None,
            };
            store.create(new, 0).unwrap();
        }
        let mut aliases = Aliases::default();
        aliases.add(&store);
        assert_eq!(aliases.len(), elsewhere);
        for n in 0..=255 {
            let home = hasher.hash(&[n; 24]).partition();
            assert_eq!(aliases.partition(hasher.hash(&[n ^ 0x55; 24])), home);
        }
        let unknown = hasher.hash(&[1; 24].map(|byte: u8| byte + 1));
        assert_eq!(Aliases::default().partition(unknown), unknown.partition());
    }
}
