//! Keys of clients and of the router, made once: agreeing is the slow part of a run.

use std::sync::LazyLock;

use ringpost_protocol::crypto::authorization::{
    AuthPrivateKey, OwnedAuthorization, authenticator_box_key, authenticator_hash, make_authenticator,
};
use ringpost_protocol::crypto::boxes::{BoxKey, nonce_from};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};

/// Keys that authorize commands. Clients use each in any part: what is right for one queue is wrong for another.
pub const KEYS: usize = 12;
/// Keys to agree with the router.
pub const DH_KEYS: usize = 6;

/// The router's key of every session.
pub const ROUTER_KEY: [u8; 32] = [9; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    Ed448,
    X25519,
}

/// The kind of a key.
pub fn kind(key: usize) -> Kind {
    match key % 6 {
        0..=2 => Kind::Ed25519,
        3 => Kind::Ed448,
        _ => Kind::X25519,
    }
}

pub struct Key {
    private: AuthPrivateKey,
    pub public: AuthPublicKey,
    /// Agreed with the router's key. None: the key signs.
    agreed: Option<BoxKey>,
}

impl Key {
    fn new(n: usize) -> Self {
        let seed = u8::try_from(n).unwrap() + 1;
        let private = match kind(n) {
            Kind::Ed25519 => AuthPrivateKey::ed25519(&[seed; 32]),
            Kind::Ed448 => AuthPrivateKey::ed448(&[seed; 57]),
            Kind::X25519 => AuthPrivateKey::x25519([seed; 32]),
        };
        let public = private.public();
        let router_key = DhPrivateKey::from_bytes(ROUTER_KEY);
        let agreed = matches!(public, AuthPublicKey::X25519(_))
            .then(|| authenticator_box_key(&router_key, Some(&public)).0);
        Self { private, public, agreed }
    }

    pub fn authorize(&self, authorized: &[u8], corr_id: &[u8]) -> OwnedAuthorization {
        match &self.agreed {
            Some(agreed) => {
                let hash = authenticator_hash(&[authorized]);
                OwnedAuthorization::Authenticator(make_authenticator(agreed, &nonce_from(corr_id), &hash))
            }
            None => self.private.authorize(&[authorized], None, corr_id).unwrap(),
        }
    }
}

pub static POOL: LazyLock<Vec<Key>> = LazyLock::new(|| (0..KEYS).map(Key::new).collect());

pub static DH_POOL: LazyLock<Vec<(DhPrivateKey, DhPublicKey)>> = LazyLock::new(|| {
    (0..DH_KEYS)
        .map(|n| {
            let private = DhPrivateKey::from_bytes([100 + u8::try_from(n).unwrap(); 32]);
            let public = private.public();
            (private, public)
        })
        .collect()
});
