//! Reading and writing the parts of handshake blocks.

use super::HandshakeFailure;
use crate::keys::DhPublicKey;
use crate::limits::{BLOCK_BYTES, PAD_LENGTH_BYTES};
use crate::version::{SmpVersion, VersionRange};

/// In front of a raw X25519 key in a `SubjectPublicKeyInfo` (RFC 8410).
const X25519_SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];
/// The same for Ed25519.
const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

pub(super) fn x25519_spki(key: &DhPublicKey) -> [u8; 44] {
    let mut spki = [0; 44];
    let (prefix, raw) = spki.split_at_mut(X25519_SPKI_PREFIX.len());
    prefix.copy_from_slice(&X25519_SPKI_PREFIX);
    raw.copy_from_slice(&key.0);
    spki
}

pub(super) fn x25519_key(spki: &[u8]) -> Option<DhPublicKey> {
    Some(DhPublicKey(spki.strip_prefix(&X25519_SPKI_PREFIX)?.try_into().ok()?))
}

pub(super) fn ed25519_key(spki: &[u8]) -> Option<[u8; 32]> {
    spki.strip_prefix(&ED25519_SPKI_PREFIX)?.try_into().ok()
}

/// What stands in a padded block.
pub(super) fn unpad(block: &[u8]) -> Result<Reader<'_>, HandshakeFailure> {
    let (length, rest) = block.split_first_chunk::<PAD_LENGTH_BYTES>().ok_or(HandshakeFailure::Block)?;
    let content = rest.get(..usize::from(u16::from_be_bytes(*length)));
    match content {
        Some(content) if block.len() == BLOCK_BYTES => Ok(Reader(content)),
        _ => Err(HandshakeFailure::Block),
    }
}

/// Reads from the front. What is left at the end is ignored by all users.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(super) fn word16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    /// A string with a length of one byte.
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    /// A string with a length of two bytes.
    pub(super) fn large(&mut self) -> Option<&'a [u8]> {
        let length = self.word16()?;
        self.take(usize::from(length))
    }

    pub(super) fn version(&mut self) -> Option<SmpVersion> {
        self.word16().map(SmpVersion)
    }

    pub(super) fn version_range(&mut self) -> Option<VersionRange> {
        let (min, max) = (self.version()?, self.version()?);
        VersionRange::new(min, max)
    }

    /// "T" or "F".
    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            b'T' => Some(true),
            b'F' => Some(false),
            _ => None,
        }
    }

    /// Certificates in DER, at least one, leaf first: a count of one byte, then strings.
    pub(super) fn chain(&mut self) -> Option<Vec<&'a [u8]>> {
        let count = self.byte().filter(|&count| count > 0)?;
        (0..count).map(|_| self.large()).collect()
    }

    /// A session key, if one stands here. Nothing marks its absence: what follows is then read as something else.
    pub(super) fn optional_x25519_key(&mut self) -> Option<DhPublicKey> {
        let mut ahead = self.clone();
        let key = x25519_key(ahead.short()?)?;
        *self = ahead;
        Some(key)
    }
}

/// Writes the content of a padded block.
pub(super) struct Writer<'b> {
    block: &'b mut [u8; BLOCK_BYTES],
    at: usize,
}

impl<'b> Writer<'b> {
    pub(super) fn new(block: &'b mut [u8; BLOCK_BYTES]) -> Self {
        Self { block, at: PAD_LENGTH_BYTES }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), HandshakeFailure> {
        let end = self.at + bytes.len();
        self.block.get_mut(self.at..end).ok_or(HandshakeFailure::TooLarge)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    pub(super) fn word16(&mut self, value: u16) -> Result<(), HandshakeFailure> {
        self.put(&value.to_be_bytes())
    }

    pub(super) fn short(&mut self, bytes: &[u8]) -> Result<(), HandshakeFailure> {
        let length = u8::try_from(bytes.len()).map_err(|_| HandshakeFailure::TooLarge)?;
        self.put(&[length])?;
        self.put(bytes)
    }

    pub(super) fn large(&mut self, bytes: &[u8]) -> Result<(), HandshakeFailure> {
        self.word16(u16::try_from(bytes.len()).map_err(|_| HandshakeFailure::TooLarge)?)?;
        self.put(bytes)
    }

    pub(super) fn flag(&mut self, flag: bool) -> Result<(), HandshakeFailure> {
        self.put(if flag { b"T" } else { b"F" })
    }

    pub(super) fn chain<T: AsRef<[u8]>>(&mut self, chain: &[T]) -> Result<(), HandshakeFailure> {
        self.put(&[u8::try_from(chain.len()).map_err(|_| HandshakeFailure::TooLarge)?])?;
        chain.iter().try_for_each(|certificate| self.large(certificate.as_ref()))
    }

    /// Pads the block.
    pub(super) fn finish(self) -> Result<(), HandshakeFailure> {
        let (content, padding) = self.block.split_at_mut(self.at);
        padding.fill(b'#');
        let length = u16::try_from(self.at - PAD_LENGTH_BYTES).map_err(|_| HandshakeFailure::TooLarge)?;
        let place = content.get_mut(..PAD_LENGTH_BYTES).ok_or(HandshakeFailure::TooLarge)?;
        place.copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}
