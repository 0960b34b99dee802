//! The pieces of binary addresses.

use super::{AddressError, AddressPart};
use crate::encoding::DecodeError;

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

/// What is wrong with a binary address that ends inside of this part.
pub(super) fn cut_short(part: AddressPart) -> impl FnOnce(DecodeError) -> AddressError {
    move |_| AddressError::new(part, "cut short")
}
