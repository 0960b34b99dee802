//! Ed448 signatures (RFC 8032, 5.2) with an empty context, over messages that come in parts.
//!
//! The curve is crrl's, whose multiplications take a tenth of the time of those of the crates that have the whole
//! scheme. What is accepted is decided here: canonical encodings only, no point with a small-order part, and the
//! equation without cofactor. So nobody but the owner of a key can make a second signature of the same message.

use std::fmt;

use crrl::ed448::{Point, Scalar};
use sha3::Shake256;
use sha3::digest::{ExtendableOutput, Update, XofReader};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Seeds, public keys and the halves of a signature.
pub const KEY_BYTES: usize = 57;
pub const SIGNATURE_BYTES: usize = 114;

/// A scalar without the zero byte behind it.
const SCALAR_BYTES: usize = 56;
/// `dom4` with neither prehashing nor context.
const DOMAIN: &[u8; 10] = b"SigEd448\0\0";

const _: () = assert!(SIGNATURE_BYTES == 2 * KEY_BYTES && KEY_BYTES == SCALAR_BYTES + 1);

/// A public key that signatures can be checked with.
#[derive(Clone, Copy)]
pub struct PublicKey {
    bytes: [u8; KEY_BYTES],
    point: Point,
}

impl PublicKey {
    /// None if the bytes are not the encoding of a point of the group that the base point generates, or are that of
    /// its neutral element.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let point = Point::decode(bytes)?;
        (point.isneutral() == 0 && point.is_in_subgroup() != 0).then_some(Self { bytes: *bytes, point })
    }

    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// Whether `signature` is of the joined parts of `message`, by the owner of this key. The time depends on what is
    /// public alone.
    #[must_use]
    pub fn verify(&self, signature: &[u8; SIGNATURE_BYTES], message: &[&[u8]]) -> bool {
        let (r, s) = signature.split_at(KEY_BYTES);
        let Some((&0, s)) = s.split_last() else {
            return false;
        };
        let (s, is_canonical) = Scalar::decode_ct(s);
        if is_canonical == 0 || s.iszero() != 0 {
            return false;
        }
        let k = hash_to_scalar(&[r, &self.bytes], message);
        // R is not decoded: the right one is computed and compared.
        let right = (-self.point).mul_add_mulgen_vartime(&k, &s);
        right.isneutral() == 0 && right.encode() == r
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed448 public key")
    }
}

/// A private key: wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey {
    seed: [u8; KEY_BYTES],
    scalar: [u8; SCALAR_BYTES],
    /// What the nonces of signatures are derived from.
    prefix: [u8; KEY_BYTES],
    #[zeroize(skip)]
    public: PublicKey,
}

impl PrivateKey {
    /// Any 57 bytes from a secure random source.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Self {
        let mut expanded = Zeroizing::new([0; 2 * KEY_BYTES]);
        expand([&&seed[..]], &mut expanded);
        let mut clamped = Zeroizing::new([0; SCALAR_BYTES]);
        let mut prefix = [0; KEY_BYTES];
        let (scalar_half, prefix_half) = expanded.split_at(KEY_BYTES);
        prefix.copy_from_slice(prefix_half);
        // Its last byte is cleared: it does not take part.
        for (to, from) in clamped.iter_mut().zip(scalar_half) {
            *to = *from;
        }
        clamped[0] &= 0xfc;
        clamped[SCALAR_BYTES - 1] |= 0x80;
        let scalar = Scalar::decode_reduce(&*clamped);
        let point = Point::mulgen(&scalar);
        let public = PublicKey { bytes: point.encode(), point };
        Self { seed: *seed, scalar: scalar.encode(), prefix, public }
    }

    /// The seed it was made from.
    pub fn seed(&self) -> &[u8; KEY_BYTES] {
        &self.seed
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs the joined parts of `message`, in constant time.
    pub fn sign(&self, message: &[&[u8]]) -> [u8; SIGNATURE_BYTES] {
        let nonce = hash_to_scalar(&[&self.prefix], message);
        let r = Point::mulgen(&nonce).encode();
        let k = hash_to_scalar(&[&r, &self.public.bytes], message);
        let s = nonce + k * Scalar::decode_reduce(&self.scalar);
        let mut signature = [0; SIGNATURE_BYTES];
        signature[..KEY_BYTES].copy_from_slice(&r);
        // The last byte stays zero.
        signature[KEY_BYTES..KEY_BYTES + SCALAR_BYTES].copy_from_slice(&s.encode());
        signature
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed448 private key")
    }
}

/// SHAKE256 of `dom4`, the values and the message, as a number below the order of the group.
fn hash_to_scalar(values: &[&[u8]], message: &[&[u8]]) -> Scalar {
    let mut hash = Zeroizing::new([0; 2 * KEY_BYTES]);
    expand(std::iter::once(&&DOMAIN[..]).chain(values).chain(message), &mut hash);
    Scalar::decode_reduce(&*hash)
}

fn expand<'a>(parts: impl IntoIterator<Item = &'a &'a [u8]>, out: &mut [u8; 2 * KEY_BYTES]) {
    let mut shake = Shake256::default();
    for part in parts {
        shake.update(part);
    }
    shake.finalize_xof().read(out);
}

#[cfg(test)]
mod tests;
