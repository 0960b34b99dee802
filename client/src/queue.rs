//! What each party of a queue keeps: IDs and keys.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::crypto::authorization::{authenticator_hash, make_authenticator};
use ringpost_protocol::crypto::boxes::nonce_from;
use ringpost_protocol::crypto::{AuthPrivateKey, BoxKey, DhPrivateKey, DhSecret, OwnedAuthorization};
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};

use crate::error::CommandFault;
use crate::id::EntityId;
use crate::request::QueueIds;

/// The algorithm of a key that authorizes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Signatures: what apps use for recipients.
    Ed25519,
    Ed448,
    /// Authenticators: what apps use for senders, so that they can deny what they sent. From version 7.
    X25519,
}

impl KeyKind {
    /// A new private key from the system's randomness.
    pub fn generate(self) -> Result<AuthPrivateKey, getrandom::Error> {
        Ok(match self {
            Self::Ed25519 => AuthPrivateKey::ed25519(&random()?),
            Self::Ed448 => AuthPrivateKey::ed448(&random()?),
            Self::X25519 => AuthPrivateKey::x25519(random()?),
        })
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// A queue as its recipient keeps it.
#[derive(Debug)]
pub struct RecipientQueue {
    pub recipient_id: EntityId,
    /// To be given to the sender.
    pub sender_id: EntityId,
    /// None below version 9: such a queue is secured by its recipient.
    pub mode: Option<QueueMode>,
    pub router_dh_key: DhPublicKey,
    /// Agreed with the router: what delivered messages are encrypted with.
    pub dh_secret: DhSecret,
    pub(crate) key: Authorizer,
    pub(crate) box_key: BoxKey,
}

impl RecipientQueue {
    /// Puts together what was stored. `dh_key` is the private half of the recipient's key in NEW.
    pub fn new(
        recipient_id: EntityId,
        sender_id: EntityId,
        mode: Option<QueueMode>,
        key: AuthPrivateKey,
        dh_key: &DhPrivateKey,
        router_dh_key: DhPublicKey,
    ) -> Self {
        Self::created(
            &QueueIds { recipient_id, sender_id, router_dh_key, mode },
            Authorizer::new(key),
            dh_key,
        )
    }

    /// From the answer to NEW.
    pub(crate) fn created(ids: &QueueIds, key: Authorizer, dh_key: &DhPrivateKey) -> Self {
        let QueueIds { recipient_id, sender_id, router_dh_key, mode } = *ids;
        let dh_secret = dh_key.agree(&router_dh_key);
        let box_key = dh_secret.box_key();
        Self { recipient_id, sender_id, mode, router_dh_key, dh_secret, key, box_key }
    }

    /// What authorizes the recipient's commands.
    pub fn private_key(&self) -> &AuthPrivateKey {
        &self.key.key
    }
}

/// A queue as its sender keeps it.
#[derive(Debug)]
pub struct SenderQueue {
    pub sender_id: EntityId,
    pub(crate) key: Option<Authorizer>,
}

impl SenderQueue {
    /// With the key that secures the queue.
    pub fn new(sender_id: EntityId, key: AuthPrivateKey) -> Self {
        Self { sender_id, key: Some(Authorizer::new(key)) }
    }

    /// For the messages that come before the queue is secured: they are not authorized.
    pub fn unsecured(sender_id: EntityId) -> Self {
        Self { sender_id, key: None }
    }

    /// What the queue is secured with.
    pub fn public_key(&self) -> Option<AuthPublicKey> {
        self.key.as_ref().map(Authorizer::public)
    }
}

/// A private key, with what can be kept between its uses in one session.
pub(crate) struct Authorizer {
    key: AuthPrivateKey,
    /// The router's session key, and the key of the authenticators agreed with it: agreeing is nearly all the cost.
    session: Mutex<Option<(DhPublicKey, BoxKey)>>,
}

impl Authorizer {
    pub(crate) fn new(key: AuthPrivateKey) -> Self {
        Self { key, session: Mutex::new(None) }
    }

    pub(crate) fn public(&self) -> AuthPublicKey {
        self.key.public()
    }

    /// Authorizes `authorized`, parts that are to be joined: the bytes from the session ID on, and what a service puts
    /// before them.
    pub(crate) fn authorize(
        &self,
        authorized: &[&[u8]],
        session_key: Option<&DhPublicKey>,
        corr_id: &[u8],
    ) -> Result<OwnedAuthorization, CommandFault> {
        if let (AuthPrivateKey::X25519(key), Some(session_key)) = (&self.key, session_key) {
            let box_key = self.session_box_key(key, session_key);
            let hash = authenticator_hash(authorized);
            let authenticator = make_authenticator(&box_key, &nonce_from(corr_id), &hash);
            return Ok(OwnedAuthorization::Authenticator(authenticator));
        }
        self.key
            .authorize(authorized, session_key, corr_id)
            .map_err(|error| CommandFault::Authorize(error.to_string()))
    }

    fn session_box_key(&self, key: &DhPrivateKey, session_key: &DhPublicKey) -> BoxKey {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        match &*session {
            Some((known, box_key)) if known == session_key => box_key.clone(),
            _ => {
                let box_key = key.agree(session_key).box_key();
                *session = Some((*session_key, box_key.clone()));
                box_key
            }
        }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kept_key_makes_the_same_authenticators() {
        let router =
            [DhPrivateKey::from_bytes([5; 32]), DhPrivateKey::from_bytes([6; 32])].map(|key| key.public());
        let key = AuthPrivateKey::x25519([7; 32]);
        let authorizer = Authorizer::new(key.clone());
        // The second of two equal sessions uses the kept key, and a new session replaces it.
        for session_key in [&router[0], &router[0], &router[1], &router[0]] {
            let expected = key.authorize(&[b"bytes"], Some(session_key), &[9; 24]).unwrap();
            let kept = authorizer.authorize(&[b"by", b"tes"], Some(session_key), &[9; 24]);
            assert_eq!(kept.unwrap(), expected);
        }
        assert!(authorizer.authorize(&[b"bytes"], None, &[9; 24]).is_err());
    }

    #[test]
    fn every_kind_of_key_can_be_made() {
        for kind in [KeyKind::Ed25519, KeyKind::Ed448, KeyKind::X25519] {
            let (one, other) = (kind.generate().unwrap(), kind.generate().unwrap());
            assert_ne!(one.as_bytes(), other.as_bytes());
        }
    }
}
