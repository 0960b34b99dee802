//! Public keys in X.509 `SubjectPublicKeyInfo` form (RFC 8410): 44 bytes for Ed25519 and X25519, 69 for Ed448.
//!
//! There is exactly one DER encoding of each, a fixed prefix and the raw key, so reading is a comparison.

use crate::encoding::{DecodeError, Reader, Sink};

/// `SubjectPublicKeyInfo` of an Ed25519 or X25519 key.
pub const DER_25519_BYTES: usize = 44;
/// `SubjectPublicKeyInfo` of an Ed448 key.
pub const DER_448_BYTES: usize = 69;

const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const X25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];
const ED448_PREFIX: [u8; 12] = [0x30, 0x43, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x03, 0x3a, 0x00];

const _: () =
    assert!(ED25519_PREFIX.len() + 32 == DER_25519_BYTES && ED448_PREFIX.len() + 57 == DER_448_BYTES);

/// A key that authorizes the commands of one party of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AuthPublicKey {
    Ed25519([u8; 32]),
    /// Boxed: rare, and it would nearly double the size of every key in memory.
    Ed448(Box<[u8; 57]>),
    X25519([u8; 32]),
}

impl AuthPublicKey {
    /// Reads `SubjectPublicKeyInfo`. Refuses other algorithms (X448 too) and any other encoding of the same key.
    pub fn from_der(der: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(der);
        let key = match *reader.array()? {
            ED25519_PREFIX => Self::Ed25519(*reader.array()?),
            X25519_PREFIX => Self::X25519(*reader.array()?),
            ED448_PREFIX => Self::Ed448(Box::new(*reader.array()?)),
            _ => return Err(DecodeError::Invalid),
        };
        reader.finish()?;
        Ok(key)
    }

    /// The key without its algorithm: 32 or 57 bytes.
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) | Self::X25519(key) => key,
            Self::Ed448(key) => key.as_slice(),
        }
    }

    fn prefix(&self) -> &'static [u8; 12] {
        match self {
            Self::Ed25519(_) => &ED25519_PREFIX,
            Self::Ed448(_) => &ED448_PREFIX,
            Self::X25519(_) => &X25519_PREFIX,
        }
    }

    /// Size of [`to_der`](Self::to_der). The encoding inside a command has one byte more, its length.
    pub fn der_bytes(&self) -> usize {
        match self {
            Self::Ed25519(_) | Self::X25519(_) => DER_25519_BYTES,
            Self::Ed448(_) => DER_448_BYTES,
        }
    }

    /// `SubjectPublicKeyInfo`.
    pub fn to_der(&self) -> Vec<u8> {
        let mut der = Vec::with_capacity(self.der_bytes());
        der.put(self.prefix());
        der.put(self.raw());
        der
    }

    /// Reads a length byte and `SubjectPublicKeyInfo`.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_der(reader.short()?)
    }

    /// Writes a length byte and `SubjectPublicKeyInfo`.
    pub fn write(&self, out: &mut impl Sink) {
        // Both sizes are below 256.
        out.put_u8(u8::try_from(self.der_bytes()).unwrap_or(u8::MAX));
        out.put(self.prefix());
        out.put(self.raw());
    }
}

/// An X25519 key for key agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DhPublicKey(pub [u8; 32]);

impl DhPublicKey {
    /// Reads `SubjectPublicKeyInfo`. Refuses all but the one encoding of an X25519 key.
    pub fn from_der(der: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(der);
        if *reader.array()? != X25519_PREFIX {
            return Err(DecodeError::Invalid);
        }
        let key = *reader.array()?;
        reader.finish()?;
        Ok(Self(key))
    }

    /// `SubjectPublicKeyInfo`.
    pub fn to_der(&self) -> [u8; DER_25519_BYTES] {
        let mut der = [0; DER_25519_BYTES];
        der[..X25519_PREFIX.len()].copy_from_slice(&X25519_PREFIX);
        der[X25519_PREFIX.len()..].copy_from_slice(&self.0);
        der
    }

    /// Reads a length byte and `SubjectPublicKeyInfo`.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_der(reader.short()?)
    }

    /// Writes a length byte and `SubjectPublicKeyInfo`.
    pub fn write(&self, out: &mut impl Sink) {
        out.put_short(&self.to_der());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_keep_their_bytes() {
        for key in [
            AuthPublicKey::Ed25519([1; 32]),
            AuthPublicKey::X25519([2; 32]),
            AuthPublicKey::Ed448(Box::new([3; 57])),
        ] {
            let der = key.to_der();
            assert_eq!(der.len(), key.der_bytes());
            assert_eq!(AuthPublicKey::from_der(&der).unwrap(), key);
            let mut written = Vec::new();
            key.write(&mut written);
            assert_eq!(usize::from(written[0]), der.len());
            assert_eq!(written[1..], der);
        }
    }

    #[test]
    fn any_other_form_is_refused() {
        let ed25519 = AuthPublicKey::Ed25519([7; 32]).to_der();
        for cut in 0..ed25519.len() {
            assert_eq!(AuthPublicKey::from_der(&ed25519[..cut]), Err(DecodeError::Truncated));
        }
        let mut longer = ed25519.clone();
        longer.push(0);
        assert_eq!(AuthPublicKey::from_der(&longer), Err(DecodeError::Trailing));
        for place in 0..ED25519_PREFIX.len() {
            let mut other = ed25519.clone();
            other[place] ^= 1;
            assert!(AuthPublicKey::from_der(&other).is_err(), "changed byte {place}");
        }
        assert_eq!(DhPublicKey::from_der(&ed25519), Err(DecodeError::Invalid));
        // X448.
        let mut x448 = vec![0x30, 0x42, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6f, 0x03, 0x39, 0x00];
        x448.extend([5; 56]);
        assert_eq!(AuthPublicKey::from_der(&x448), Err(DecodeError::Invalid));
        assert_eq!(DhPublicKey::from_der(&x448), Err(DecodeError::Invalid));
    }
}
