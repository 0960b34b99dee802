//! Shared secrets of a connection's sender keys with the session's key, so that each is agreed once and not for every
//! command. The answer's time must not tell whether a queue exists, so what is made with the dummy key is remembered
//! in the same way.

use std::collections::VecDeque;

use ringpost_protocol::crypto::boxes::BoxKey;

use crate::limits::SENDER_SECRETS_PER_CONNECTION;

#[derive(Debug, Default)]
pub struct SecretCache {
    /// Entity ID and public key decide; the oldest go first.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    entity_id: Box<[u8]>,
    public_key: [u8; 32],
    secret: BoxKey,
}

impl SecretCache {
    /// The secret for a key used with an entity, agreed by `agree` if it is not remembered.
    pub fn secret(
        &mut self,
        entity_id: &[u8],
        public_key: &[u8; 32],
        agree: impl FnOnce() -> BoxKey,
    ) -> &BoxKey {
        let known = self
            .entries
            .iter()
            .position(|entry| *entry.entity_id == *entity_id && entry.public_key == *public_key);
        let place = if let Some(place) = known {
            place
        } else {
            if self.entries.len() >= SENDER_SECRETS_PER_CONNECTION {
                self.entries.pop_front();
            }
            let entry = Entry { entity_id: entity_id.into(), public_key: *public_key, secret: agree() };
            self.entries.push_back(entry);
            self.entries.len() - 1
        };
        &self.entries[place].secret
    }
}
