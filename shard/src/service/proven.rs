//! Signatures of a turn's subscriptions, checked together: in three fifths of the time of single checks.
//!
//! A client that comes back subscribes to all its queues, many in a block. What is found here holds for one transmission
//! and one key, so it stands whatever the commands before it change. If one of them is wrong, or has no queue, all are checked
//! one by one: the time tells which of the two it was as little as that of single commands.

use std::sync::Arc;

use ringpost_protocol::crypto::authorization::{Ed25519Claim, verify_ed25519_batch};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::transmission::{Authorization, Transmission};
use ringpost_store::{Log, Party};

use super::Service;
use super::session::{Batch, Session};
use super::verify::authorized;

/// Fewer are checked one by one.
const TOGETHER_MIN: usize = 4;

/// What was found of the transmissions of a turn.
#[derive(Debug, Default)]
pub struct Proven {
    /// The place in its batch of the transmission that is being executed.
    pub executing: usize,
    /// The place of the first in `found`.
    from: usize,
    /// The key that a transmission was checked with, and whether it was made by its owner.
    found: Vec<Option<(Option<AuthPublicKey>, bool)>>,
}

impl Proven {
    /// Whether the transmission that is being executed was made by the owner of this key, if that was found.
    pub fn answer(&self, key: Option<&AuthPublicKey>) -> Option<bool> {
        let found = self.found.get(self.executing.checked_sub(self.from)?)?.as_ref();
        found.filter(|(checked, _)| checked.as_ref() == key).map(|(_, holds)| *holds)
    }

    pub fn forget(&mut self) {
        self.found.clear();
    }
}

impl<L: Log> Service<L> {
    /// Checks the signatures of subscriptions among the transmissions from the batch's next up to `end`.
    pub(super) fn prove(&mut self, session: &Arc<Session>, batch: &Batch, end: usize) {
        self.proven.forget();
        if end.saturating_sub(batch.next) < TOGETHER_MIN {
            return;
        }
        let mut places = Vec::new();
        let mut keys = Vec::new();
        let mut parts = Vec::new();
        for (place, &(start, len)) in batch.transmissions.iter().enumerate().take(end).skip(batch.next) {
            let (start, len) = (usize::from(start), usize::from(len));
            let Some(bytes) = batch.data.bytes().get(start..start + len) else { continue };
            let Ok(parsed) = Transmission::parse(bytes, session.format()) else { continue };
            let Authorization::Ed25519(signature) = parsed.authorization else { continue };
            let key = match parsed.command {
                b"SUB" => self
                    .find(Party::Recipient, parsed.entity_id)
                    .and_then(|queue| self.store.queue(queue)?.recipient_keys().next().cloned()),
                b"NSUB" => self
                    .find(Party::Notifier, parsed.entity_id)
                    .and_then(|queue| Some(self.store.queue(queue)?.notifier()?.key.clone())),
                _ => continue,
            };
            places.push(place);
            keys.push(key);
            parts.push((signature, authorized(session, &parsed)));
        }
        if places.len() < TOGETHER_MIN {
            return;
        }
        let claims: Vec<Ed25519Claim<'_>> = parts
            .iter()
            .zip(&keys)
            .map(|((signature, authorized), key)| Ed25519Claim { signature, authorized, key: key.as_ref() })
            .collect();
        let answers = verify_ed25519_batch(&claims);
        self.proven.from = batch.next;
        self.proven.found.resize(end - batch.next, None);
        for ((place, key), holds) in places.into_iter().zip(keys).zip(answers) {
            if let Some(found) = self.proven.found.get_mut(place - batch.next) {
                *found = Some((key, holds));
            }
        }
    }
}
