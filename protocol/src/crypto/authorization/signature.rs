//! Checks of Ed25519 and Ed448 signatures, with a fixed key where there is none of the right kind.

use std::hint::black_box;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::crypto::ed448;
use crate::keys::AuthPublicKey;

/// Stands in for a missing Ed25519 key. Nobody knows its private half, so a check against it fails as one of a
/// wrong signature does: it is the first valid point among the hashes SHA-512("Ringpost dummy Ed25519 key" ||
/// counter byte), cut to 32 bytes, and the tests derive it again.
pub const DUMMY_ED25519_KEY: [u8; 32] = [
    0xff, 0x6c, 0x99, 0x53, 0x8e, 0xea, 0x40, 0xbc, 0x0e, 0x13, 0x90, 0xbc, 0x43, 0x3d, 0xbd, 0x57, 0xd4,
    0xa8, 0x46, 0xc6, 0x77, 0x32, 0x50, 0x45, 0x45, 0x85, 0x4e, 0x48, 0x68, 0xd0, 0xd6, 0x4a,
];

/// Stands in for a missing Ed448 key: as [`DUMMY_ED25519_KEY`], from "Ringpost dummy Ed448 key", cut to 56
/// bytes, and a zero byte behind them.
pub const DUMMY_ED448_KEY: [u8; 57] = [
    0xde, 0x13, 0xe7, 0x4e, 0xc2, 0x68, 0x49, 0xf4, 0x07, 0x11, 0xf4, 0xa7, 0xb1, 0x20, 0xdd, 0xda, 0x71,
    0x11, 0x21, 0x01, 0xae, 0xb7, 0x9b, 0x50, 0x8e, 0xc4, 0x3d, 0xc9, 0x02, 0x14, 0x28, 0x46, 0x20, 0x3f,
    0x4e, 0xe1, 0x80, 0x2e, 0x9c, 0x10, 0xb6, 0xf8, 0x7c, 0x17, 0x95, 0x5f, 0x17, 0xc1, 0xe3, 0x8c, 0xa7,
    0x4d, 0xea, 0x20, 0xc0, 0xd8, 0x00,
];

/// One check as dalek makes it.
pub(super) fn by_dalek(
    signature: &[u8; 64],
    authorized: &[&[u8]],
    queue_key: Option<&AuthPublicKey>,
) -> bool {
    let (key, is_queue_key) = ed25519_key(queue_key);
    let (key, is_point) = point_of(key);
    let matches = key.is_some_and(|key| passes(&key, signature, authorized));
    black_box(matches) & is_point & is_queue_key
}

/// The point that a key's bytes stand for, and true; or the dummy's and false.
pub(super) fn point_of(key: &[u8; 32]) -> (Option<VerifyingKey>, bool) {
    match VerifyingKey::from_bytes(key) {
        Ok(key) => (Some(key), true),
        // A key that is no point of the curve, which a client may name, must not answer faster: the dummy stands in.
        Err(_) => (VerifyingKey::from_bytes(&DUMMY_ED25519_KEY).ok(), false),
    }
}

pub(super) fn passes(key: &VerifyingKey, signature: &[u8; 64], authorized: &[&[u8]]) -> bool {
    key.verify_stream(&Signature::from_bytes(signature)).is_ok_and(|mut verifier| {
        for part in authorized {
            verifier.update(part);
        }
        verifier.finalize_and_verify().is_ok()
    })
}

/// One check of an Ed448 signature with an empty context. It takes several times as long as one of Ed25519.
pub(super) fn verify_ed448(
    signature: &[u8; 114],
    authorized: &[&[u8]],
    queue_key: Option<&AuthPublicKey>,
) -> bool {
    let (key, is_queue_key) = match queue_key {
        Some(AuthPublicKey::Ed448(key)) => (&**key, true),
        _ => (&DUMMY_ED448_KEY, false),
    };
    let (key, is_point) = match ed448::PublicKey::from_bytes(key) {
        Some(key) => (Some(key), true),
        None => (ed448::PublicKey::from_bytes(&DUMMY_ED448_KEY), false),
    };
    let matches = key.is_some_and(|key| key.verify(signature, authorized));
    black_box(matches) & is_point & is_queue_key
}

pub(super) fn ed25519_key(queue_key: Option<&AuthPublicKey>) -> (&[u8; 32], bool) {
    match queue_key {
        Some(AuthPublicKey::Ed25519(key)) => (key, true),
        _ => (&DUMMY_ED25519_KEY, false),
    }
}
