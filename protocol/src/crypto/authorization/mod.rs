//! Authorization of commands: "Cryptographic algorithms" and "Deniable client authentication scheme".
//!
//! A command is authorized by a signature (Ed25519: 64 bytes, Ed448: 114) or, with an X25519 key, by an
//! authenticator: the box of 80 bytes around the SHA-512 of the authorized bytes, whose secret is agreed
//! between the queue's key and the router's key of this session, and whose nonce is the correlation ID.
//!
//! The authorized bytes come in parts, since the session ID (and in a service session the certificate's
//! fingerprint) is not sent: nobody has to join them.
//!
//! # Equal time
//!
//! Whether a queue exists, and which kind of key it has, must not show in the time of `ERR AUTH` ("Command
//! verification"). So a check takes `Option<&AuthPublicKey>` and does the same work for a missing key, for a
//! key of another kind and for a right one: where there is none to check against it uses a fixed key, and
//! answers false whatever comes out.

mod batch;
mod known_keys;
mod private_key;
mod signature;

use std::hint::black_box;

use sha2::Digest;
use subtle::ConstantTimeEq;

use super::boxes::{BoxKey, Nonce, nonce_from, seal_into};
use super::dh::DhPrivateKey;
use super::sha512::Sha512;
use crate::keys::{AuthPublicKey, DhPublicKey};
use crate::limits::TAG_BYTES;
use crate::transmission::{
    AUTHENTICATOR_BYTES, Authorization, ED448_SIGNATURE_BYTES, ED25519_SIGNATURE_BYTES,
};

pub use batch::{Ed25519Claim, verify_ed25519_batch};
pub use known_keys::KnownKeys;
pub use private_key::{AuthPrivateKey, AuthorizeError};
pub use signature::{DUMMY_ED448_KEY, DUMMY_ED25519_KEY};

/// SHA-512 in bytes.
pub const HASH_BYTES: usize = 64;

const _: () = assert!(AUTHENTICATOR_BYTES == HASH_BYTES + TAG_BYTES);

/// Stands in for a missing X25519 key. Nobody knows its private half: it is the SHA-512, cut to 32 bytes, of
/// "Ringpost dummy X25519 key" and a zero byte, and the tests derive it again.
pub const DUMMY_X25519_KEY: DhPublicKey = DhPublicKey([
    0x1f, 0x00, 0xd6, 0xad, 0x9c, 0x4c, 0xad, 0xd9, 0xd3, 0x5c, 0x18, 0x8d, 0x43, 0x12, 0x05, 0x69, 0xbd,
    0x8f, 0xdb, 0xa8, 0x0f, 0xfd, 0x38, 0xae, 0xdc, 0x0a, 0x13, 0x16, 0xc5, 0x8b, 0x0a, 0x22,
]);

/// An authorization that was made here. It is lent to what writes transmissions and to [`verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedAuthorization {
    Ed25519([u8; ED25519_SIGNATURE_BYTES]),
    Ed448([u8; ED448_SIGNATURE_BYTES]),
    Authenticator([u8; AUTHENTICATOR_BYTES]),
}

impl OwnedAuthorization {
    /// As it stands in a transmission.
    pub fn as_borrowed(&self) -> Authorization<'_> {
        match self {
            Self::Ed25519(signature) => Authorization::Ed25519(signature),
            Self::Ed448(signature) => Authorization::Ed448(signature),
            Self::Authenticator(authenticator) => Authorization::Authenticator(authenticator),
        }
    }

    /// See [`Authorization::as_bytes`].
    pub fn as_bytes(&self) -> &[u8] {
        self.as_borrowed().as_bytes()
    }
}

/// What a router needs beside the queue's key to check the authorizations of one transmission.
#[derive(Clone, Copy, Debug)]
pub struct VerifyContext<'a> {
    /// The router's private key of this session. Without one (below version 7) authenticators are refused.
    pub session_key: Option<&'a DhPrivateKey>,
    /// The correlation ID of the transmission.
    pub corr_id: &'a [u8],
}

/// Whether `authorization` is one of `authorized` (the parts, joined) by the owner of `queue_key`. False for
/// a missing key and for one of another kind, after the same work, and without authorization, at once.
///
/// An Ed448 signature costs several times an Ed25519 one, whoever sends it and whether or not there is such a
/// queue: bound how many are checked in a row.
pub fn verify(
    authorization: Authorization<'_>,
    authorized: &[&[u8]],
    queue_key: Option<&AuthPublicKey>,
    context: VerifyContext<'_>,
) -> bool {
    match authorization {
        Authorization::None => false,
        Authorization::Ed25519(signature) => known_keys::verify_ed25519(signature, authorized, queue_key),
        Authorization::Ed448(signature) => signature::verify_ed448(signature, authorized, queue_key),
        Authorization::Authenticator(authenticator) => {
            let Some(session_key) = context.session_key else {
                return false;
            };
            let (key, is_queue_key) = authenticator_box_key(session_key, queue_key);
            let hash = authenticator_hash(authorized);
            let matches = verify_authenticator(&key, &nonce_from(context.corr_id), &hash, authenticator);
            black_box(matches) & is_queue_key
        }
    }
}

/// What an authenticator seals: SHA-512 of the joined parts.
pub fn authenticator_hash(authorized: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut hash = Sha512::new();
    for part in authorized {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The key of the authenticators between a queue's key and a session's, and whether `queue_key` was of the
/// right kind: if not, the key is agreed with [`DUMMY_X25519_KEY`] and what it verifies counts for nothing.
///
/// This is nearly all the cost of a check, so a router may keep the key for the queue's later commands in the
/// session. It must then keep the one for an ID without a queue as well, under that ID: otherwise the second
/// try tells which of the two it was.
pub fn authenticator_box_key(
    session_key: &DhPrivateKey,
    queue_key: Option<&AuthPublicKey>,
) -> (BoxKey, bool) {
    let (key, is_queue_key) = match queue_key {
        Some(AuthPublicKey::X25519(key)) => (DhPublicKey(*key), true),
        _ => (DUMMY_X25519_KEY, false),
    };
    (session_key.agree(&key).box_key(), is_queue_key)
}

/// Whether `authenticator` seals `hash`, in constant time. `nonce` is made of the correlation ID by
/// [`nonce_from`].
///
/// A box is determined by key, nonce and text, so the right one is made and compared.
pub fn verify_authenticator(
    key: &BoxKey,
    nonce: &Nonce,
    hash: &[u8; HASH_BYTES],
    authenticator: &[u8; AUTHENTICATOR_BYTES],
) -> bool {
    make_authenticator(key, nonce, hash).ct_eq(authenticator).into()
}

/// Seals `hash`: see [`authenticator_hash`].
pub fn make_authenticator(key: &BoxKey, nonce: &Nonce, hash: &[u8; HASH_BYTES]) -> [u8; AUTHENTICATOR_BYTES] {
    let mut authenticator = [0; AUTHENTICATOR_BYTES];
    seal_into(key, nonce, hash, &mut authenticator);
    authenticator
}
