//! Public keys in X.509 `SubjectPublicKeyInfo` form (RFC 8410): 44 bytes for Ed25519 and X25519, 69 for Ed448.

/// A key that authorizes the commands of one party of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AuthPublicKey {
    Ed25519([u8; 32]),
    /// Boxed: rare, and it would nearly double the size of every key in memory.
    Ed448(Box<[u8; 57]>),
    X25519([u8; 32]),
}

/// An X25519 key for key agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DhPublicKey(pub [u8; 32]);
