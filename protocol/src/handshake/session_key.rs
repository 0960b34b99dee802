//! A router's session keys, each signed with the key of its certificate.

use std::fmt;

use zeroize::Zeroizing;

use crate::certificate::{SigningKey, sign_key, sign_keys};
use crate::crypto::DhPrivateKey;
use crate::crypto::several::{at_once, x25519_bases};
use crate::keys::DhPublicKey;

/// A router's key for one session.
pub struct SessionKey {
    pub(super) private: DhPrivateKey,
    /// The public key with its signature, if that was made ahead.
    signed: Option<Vec<u8>>,
}

impl SessionKey {
    pub(super) fn signed(&mut self, key: &SigningKey) -> Vec<u8> {
        self.signed.take().unwrap_or_else(|| sign_key(&self.private.public().to_der(), key))
    }
}

/// A key that is signed when the hello is made.
impl From<DhPrivateKey> for SessionKey {
    fn from(private: DhPrivateKey) -> Self {
        Self { private, signed: None }
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

/// Session keys of one router, made and signed several at once where that takes less time than one by one: a few wait here
/// for the next sessions. Each is given away once.
#[derive(Debug, Default)]
pub struct SessionKeys {
    ready: Vec<SessionKey>,
}

impl SessionKeys {
    /// A key of which nobody else has heard, signed by `key`: always the same one. `random` fills bytes from a secure
    /// source.
    pub fn take(&mut self, key: &SigningKey, mut random: impl FnMut(&mut [u8])) -> SessionKey {
        if let Some(ready) = self.take_last() {
            return ready;
        }
        let mut privates = Zeroizing::new(vec![[0; 32]; at_once()]);
        privates.iter_mut().for_each(|private| random(private));
        let spkis: Vec<_> =
            x25519_bases(&privates).into_iter().map(|public| DhPublicKey(public).to_der()).collect();
        let signed = sign_keys(&spkis, key);
        self.ready.extend(privates.iter().zip(signed).map(|(private, signed)| SessionKey {
            private: DhPrivateKey::from_bytes(*private),
            signed: Some(signed),
        }));
        match self.take_last() {
            Some(ready) => ready,
            // Without a processor's help one is made at a time: there is always one.
            None => unreachable!("at least one was made"),
        }
    }

    /// `Vec::pop` would leave the key's bytes in its place.
    fn take_last(&mut self) -> Option<SessionKey> {
        let last = self.ready.last_mut()?;
        let key = SessionKey { private: last.private.clone(), signed: last.signed.take() };
        self.ready.truncate(self.ready.len() - 1);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;
    use crate::certificate::verify_signed_key;

    #[test]
    fn keys_made_ahead_are_signed_and_given_away_once() {
        for key in [SigningKey::ed25519(&[1; 32]), SigningKey::ed448(&[2; 57])] {
            let (mut keys, mut seen, mut number) = (SessionKeys::default(), HashSet::new(), 0_u8);
            for _ in 0..=3 * at_once() {
                let mut taken = keys.take(&key, |bytes| {
                    number += 1;
                    bytes.fill(number);
                });
                let public = taken.private.public().to_der();
                assert!(seen.insert(public));
                let ahead = taken.signed.clone().unwrap();
                assert_eq!(verify_signed_key(&ahead, &key.verifying_key()), Ok(&public[..]));
                // The same as one that is signed when it is used.
                let mut late = SessionKey::from(taken.private.clone());
                assert_eq!(late.signed(&key), taken.signed(&key));
            }
            assert_eq!(keys.ready.len(), at_once() - 1);
        }
    }
}
