//! The pieces of binary addresses: numbers, and byte strings with one length byte.

use super::{AddressError, AddressPart};

/// 1 to 255 bytes: what fits behind one length byte, and says something.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ShortBytes(Vec<u8>);

impl ShortBytes {
    pub(super) fn new(bytes: &[u8], part: AddressPart) -> Result<Self, AddressError> {
        match bytes.len() {
            0 => Err(AddressError::new(part, "empty")),
            1..=255 => Ok(Self(bytes.to_vec())),
            _ => Err(AddressError::new(part, "longer than 255 bytes")),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads the fields of a binary address one after another.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self, part: AddressPart) -> Result<u8, AddressError> {
        let (byte, rest) = self.rest.split_first().ok_or(cut_short(part))?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(super) fn u16(&mut self, part: AddressPart) -> Result<u16, AddressError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(cut_short(part))?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// A byte string with one length byte.
    pub(super) fn short(&mut self, part: AddressPart) -> Result<&'a [u8], AddressError> {
        let len = self.byte(part)?;
        let (bytes, rest) = self.rest.split_at_checked(usize::from(len)).ok_or(cut_short(part))?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn cut_short(part: AddressPart) -> AddressError {
    AddressError::new(part, "cut short")
}

/// Writes a byte string with one length byte. Callers hold their strings in types of at most 255 bytes.
pub(super) fn write_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u8::try_from(bytes.len());
    debug_assert!(len.is_ok(), "{} bytes behind one length byte", bytes.len());
    let len = len.unwrap_or(u8::MAX);
    out.push(len);
    out.extend(bytes.iter().take(usize::from(len)));
}
