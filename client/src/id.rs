//! IDs that routers give to queues.

use std::fmt;

use ringpost_protocol::limits::ID_BYTES;

/// The ID of a queue for one of its parties: 16 to 24 bytes from routers, never more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityId {
    bytes: [u8; ID_BYTES],
    len: u8,
}

impl EntityId {
    /// Commands that are not about a queue: NEW, PING.
    pub const EMPTY: Self = Self { bytes: [0; ID_BYTES], len: 0 };

    /// None if there are more than 24 bytes.
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; ID_BYTES];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { bytes, len: u8::try_from(id.len()).ok()? })
    }

    pub fn as_bytes(&self) -> &[u8] {
        // The length is at most that of the array: see `new`.
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_up_to_24_bytes() {
        for len in 0..=ID_BYTES {
            let bytes = vec![7; len];
            assert_eq!(EntityId::new(&bytes).map(|id| id.as_bytes().to_vec()), Some(bytes));
        }
        assert_eq!(EntityId::new(&[0; ID_BYTES + 1]), None);
        assert_ne!(EntityId::new(&[0; 3]), EntityId::new(&[0; 4]));
    }
}
