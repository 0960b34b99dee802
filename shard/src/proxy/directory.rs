//! Which shard has the session of an ID. All shards share it. It is written when sessions begin and end.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use ringpost_protocol::address::Router;
use ringpost_protocol::tls::SessionId;

use crate::limits::RELAY_DIALS_MAX;

#[derive(Debug, Default)]
pub struct RelayDirectory {
    shards: RwLock<HashMap<SessionId, usize>>,
    dials: AtomicUsize,
}

/// One connection that is being made.
#[derive(Debug)]
pub struct Dial<'d>(&'d RelayDirectory);

impl RelayDirectory {
    /// The shard of all sessions with a relay.
    pub fn shard_of_relay(relay: &Router, shards: usize) -> usize {
        let mut hasher = DefaultHasher::new();
        relay.hash(&mut hasher);
        // Less than the number of shards, on every machine.
        usize::try_from(hasher.finish() % shards.max(1) as u64).unwrap_or(0)
    }

    pub fn shard_of_session(&self, session_id: &SessionId) -> Option<usize> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).get(session_id).copied()
    }

    pub fn add(&self, session_id: SessionId, shard: usize) {
        self.shards.write().unwrap_or_else(PoisonError::into_inner).insert(session_id, shard);
    }

    pub fn remove(&self, session_id: &SessionId) {
        self.shards.write().unwrap_or_else(PoisonError::into_inner).remove(session_id);
    }

    /// Allows one more connection to be made, until the result is dropped. None at the limit.
    pub fn dial(&self) -> Option<Dial<'_>> {
        let dial = Dial(self);
        (self.dials.fetch_add(1, Ordering::AcqRel) < RELAY_DIALS_MAX).then_some(dial)
    }
}

impl Drop for Dial<'_> {
    fn drop(&mut self) {
        self.0.dials.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_until_they_end() {
        let directory = RelayDirectory::default();
        let id = SessionId::new(&[1; 32]).unwrap();
        assert_eq!(directory.shard_of_session(&id), None);
        directory.add(id, 3);
        assert_eq!(directory.shard_of_session(&id), Some(3));
        directory.remove(&id);
        assert_eq!(directory.shard_of_session(&id), None);
    }

    #[test]
    fn connections_being_made_are_bounded() {
        let directory = RelayDirectory::default();
        let dials: Vec<_> = std::iter::from_fn(|| directory.dial()).collect();
        assert_eq!(dials.len(), RELAY_DIALS_MAX);
        drop(dials);
        assert!(directory.dial().is_some());
    }
}
