//! Bodies of stored messages.
//!
//! A large body stays in the block it was received in, at the place where it was decrypted. Around it stands the clear
//! form of its delivery (length, time and flags in front, padding behind), so that delivering is one pass of the cipher
//! from this block into the outgoing one. When memory runs short a body is left to the log and read back: see `bodies`.

use ringpost_protocol::crypto::delivery::{DELIVERY_BODY_OFFSET, DeliveryHeader};
use ringpost_protocol::limits::DELIVERY_PADDED_BYTES;

use ringpost_store::{BodyPlace, Message, StoredBody};

use super::bodies::CacheKey;
use crate::arena::{BUFFER_BYTES, Detached};
use crate::limits::BODY_KEEPS_BLOCK_BYTES;

#[derive(Debug)]
pub struct Body {
    pub form: Form,
    /// Where the log has it.
    pub place: BodyPlace,
    /// Its place among the bodies in memory that the log has too.
    pub cached: CacheKey,
}

#[derive(Debug)]
pub enum Form {
    /// The padded clear form of the delivery begins at `clear_at`.
    Kept { block: Detached, clear_at: u16 },
    /// Just the body.
    Own(Box<[u8]>),
    /// In the log only.
    Away,
}

impl Form {
    /// Whether a body at this place can stay in its block.
    pub fn can_stay(body_at: usize, body_len: usize) -> bool {
        body_len >= BODY_KEEPS_BLOCK_BYTES
            && body_at >= DELIVERY_BODY_OFFSET
            && body_at - DELIVERY_BODY_OFFSET + DELIVERY_PADDED_BYTES <= BUFFER_BYTES
    }

    /// Keeps the block with a body for which [`can_stay`](Self::can_stay) is true.
    pub fn keep(
        mut block: Detached,
        body_at: usize,
        body_len: usize,
        header: DeliveryHeader,
    ) -> Option<Self> {
        let clear_at = body_at.checked_sub(DELIVERY_BODY_OFFSET)?;
        let clear = block.get_mut(clear_at..)?.first_chunk_mut()?;
        header.frame(clear, body_len).ok()?;
        Some(Self::Kept { block, clear_at: u16::try_from(clear_at).ok()? })
    }

    /// Bytes of memory that a message with this body holds: most of it the body, unless that is small.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Kept { .. } => size_of::<Message<Body>>() + BUFFER_BYTES,
            Self::Own(bytes) => size_of::<Message<Body>>() + bytes.len(),
            Self::Away => 0,
        }
    }

    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away)
    }
}

impl Body {
    /// The padded clear form of the delivery, if it stands ready.
    pub fn clear(&self) -> Option<&[u8; DELIVERY_PADDED_BYTES]> {
        match &self.form {
            Form::Kept { block, clear_at } => block.get(usize::from(*clear_at)..)?.first_chunk(),
            Form::Own(_) | Form::Away => None,
        }
    }
}

impl StoredBody for Body {
    fn at(place: BodyPlace) -> Self {
        Self { form: Form::Away, place, cached: CacheKey::NONE }
    }

    fn place(&self) -> BodyPlace {
        self.place
    }
}
