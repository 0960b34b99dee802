//! Where the queue of a short link lives.
//!
//! Clients choose the IDs of links (LSET, and NEW for a contact address), so these lie in any partition, while the
//! queue stays where its recipient ID is. All shards share this table; it is asked for commands to links alone, which are
//! rare beside messages.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringpost_store::{IdHash, Store};

/// Parts of the table, each with its own lock.
const STRIPES: usize = 64;

#[derive(Debug)]
pub struct LinkDirectory {
    /// The partition of the queue, by the secret hash of the link's ID.
    stripes: Box<[Mutex<HashMap<u64, u8>>]>,
}

impl Default for LinkDirectory {
    fn default() -> Self {
        Self { stripes: std::iter::repeat_with(Mutex::default).take(STRIPES).collect() }
    }
}

impl LinkDirectory {
    fn stripe(&self, hash: IdHash) -> Option<MutexGuard<'_, HashMap<u64, u8>>> {
        // Less than the number of stripes, on every machine.
        let place = usize::try_from(hash.0 % STRIPES as u64).unwrap_or(0);
        Some(self.stripes.get(place)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enters the links of a shard that was loaded.
    pub fn add<B>(&self, store: &Store<B>) {
        let hasher = store.hasher();
        for (_, queue) in store.queues_between(0..u32::MAX) {
            if let Some(link) = queue.link() {
                self.claim(hasher.hash(&link.id), hasher.hash(&queue.recipient_id).partition());
            }
        }
    }

    /// Enters a link. False if it is there already.
    #[must_use = "a link that is there belongs to another queue"]
    pub fn try_claim(&self, hash: IdHash, partition: u8) -> bool {
        let Some(mut stripe) = self.stripe(hash) else { return false };
        if stripe.contains_key(&hash.0) {
            return false;
        }
        stripe.insert(hash.0, partition);
        true
    }

    fn claim(&self, hash: IdHash, partition: u8) {
        if let Some(mut stripe) = self.stripe(hash) {
            stripe.insert(hash.0, partition);
        }
    }

    pub fn release(&self, hash: IdHash) {
        if let Some(mut stripe) = self.stripe(hash) {
            stripe.remove(&hash.0);
        }
    }

    /// The partition of a link's queue; for a link that is not there any will do.
    pub fn partition(&self, hash: IdHash) -> u8 {
        let known = self.stripe(hash).and_then(|stripe| stripe.get(&hash.0).copied());
        known.unwrap_or_else(|| hash.partition())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_claimed_once_until_it_is_released() {
        let links = LinkDirectory::default();
        let hash = IdHash(0x1234_5678_9abc_def0);
        assert_eq!(links.partition(hash), 0x12);
        assert!(links.try_claim(hash, 7));
        assert!(!links.try_claim(hash, 8));
        assert_eq!(links.partition(hash), 7);
        links.release(hash);
        assert_eq!(links.partition(hash), 0x12);
        assert!(links.try_claim(hash, 8));
    }
}
