//! Shared secrets of a connection's sender keys with the session's key, so that each is agreed once and not for every
//! command. The answer's time must not tell whether a queue exists, so what is made with the dummy key is remembered
//! in the same way.

use std::collections::VecDeque;

use ringpost_protocol::crypto::boxes::BoxKey;

use ringpost_protocol::limits::ID_BYTES;

use crate::limits::SENDER_SECRETS_PER_CONNECTION;

#[derive(Debug, Default)]
pub struct SecretCache {
    /// Entity ID and public key decide; the oldest go first.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    entity_id: [u8; ID_BYTES],
    public_key: [u8; 32],
    secret: BoxKey,
}

impl SecretCache {
    /// The secret for a key used with an entity, agreed by `agree` if it is not remembered. Whatever cannot be an ID of a queue
    /// is remembered under the same one.
    pub fn secret(
        &mut self,
        entity_id: &[u8],
        public_key: &[u8; 32],
        agree: impl FnOnce() -> BoxKey,
    ) -> &BoxKey {
        let entity_id: [u8; ID_BYTES] = entity_id.try_into().unwrap_or([0; ID_BYTES]);
        let is_known = |entry: &Entry| entry.entity_id == entity_id && entry.public_key == *public_key;
        let place = self.entries.iter().position(is_known).unwrap_or_else(|| {
            if self.entries.len() >= SENDER_SECRETS_PER_CONNECTION {
                self.entries.pop_front();
            }
            self.entries.push_back(Entry { entity_id, public_key: *public_key, secret: agree() });
            self.entries.len() - 1
        });
        &self.entries[place].secret
    }
}
