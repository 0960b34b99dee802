//! Keys of clients and of the router, made once: agreeing is the slow part of a run.

use std::sync::LazyLock;

use ringpost_protocol::crypto::authorization::{
    AuthPrivateKey, OwnedAuthorization, authenticator_box_key, authenticator_hash, make_authenticator,
};
use ringpost_protocol::crypto::boxes::{BoxKey, nonce_from};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};

/// Of each kind.
pub const KEYS: usize = 12;

/// The router's key of every session.
pub const ROUTER_KEY: [u8; 32] = [9; 32];

/// A key that authorizes commands.
pub struct Key {
    private: AuthPrivateKey,
    pub public: AuthPublicKey,
    /// Agreed with the router's key. None: the key signs.
    agreed: Option<BoxKey>,
}

impl Key {
    fn new(private: AuthPrivateKey) -> Self {
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

pub struct Keys {
    /// The first signs, the others are authenticators.
    pub recipients: Vec<Key>,
    pub senders: Vec<Key>,
    /// With which message bodies are agreed.
    pub delivery: Vec<(DhPrivateKey, DhPublicKey)>,
}

fn bytes(kind: u8, n: usize) -> [u8; 32] {
    let mut bytes = [kind; 32];
    bytes[1] = u8::try_from(n).unwrap();
    bytes
}

fn authorizing(kind: u8) -> Vec<Key> {
    let signs = std::iter::once(AuthPrivateKey::ed25519(&bytes(kind, 0)));
    let others = (1..KEYS).map(|n| AuthPrivateKey::x25519(bytes(kind, n)));
    signs.chain(others).map(Key::new).collect()
}

pub static POOL: LazyLock<Keys> = LazyLock::new(|| Keys {
    recipients: authorizing(1),
    senders: authorizing(2),
    delivery: (0..KEYS)
        .map(|n| {
            let private = DhPrivateKey::from_bytes(bytes(3, n));
            let public = private.public();
            (private, public)
        })
        .collect(),
});
