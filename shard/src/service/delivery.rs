//! Messages on their way out: an encrypted MSG in a block, with room in front for what else fits.

use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_protocol::crypto::delivery::{DeliveryHeader, seal_delivery, seal_message, seal_quota};
use ringpost_protocol::limits::{BLOCK_CONTENT_BYTES, DELIVERY_ENCRYPTED_BYTES, ID_BYTES};
use ringpost_store::{Content, Message, Queue};

use super::body::{Body, Form};
use super::session::Session;
use crate::arena::{BUFFER_BYTES, Detached};

/// Where the encrypted body lies in the buffer. In front of it there is room for the rest of the transmission, the
/// responses that fit into the same block, and the block's own header.
pub const MSG_BODY_AT: usize = 288;
const MSG_END: usize = MSG_BODY_AT + DELIVERY_ENCRYPTED_BYTES;
/// What fits in front of the encrypted body in one block.
const FRONT_BYTES_MAX: usize = BLOCK_CONTENT_BYTES - DELIVERY_ENCRYPTED_BYTES;

const _: () = {
    // The front, the count, and padding length and tag of the block lie within the buffer.
    assert!(MSG_BODY_AT >= FRONT_BYTES_MAX + 1 + 2 + 16);
    // So does a whole block that begins as late as it can.
    assert!(MSG_BODY_AT + ringpost_protocol::limits::BLOCK_BYTES <= BUFFER_BYTES);
};

/// An MSG transmission with its 2-byte length, at `start..MSG_END` of the block.
#[derive(Debug)]
pub struct OutMessage {
    pub block: Detached,
    pub start: u16,
}

impl OutMessage {
    pub fn bytes(&self) -> &[u8] {
        &self.block[usize::from(self.start)..MSG_END]
    }

    pub fn range(&self) -> std::ops::Range<usize> {
        usize::from(self.start)..MSG_END
    }
}

/// Whether an MSG with a correlation ID of this length fits into a block.
pub fn fits(session: &Session, corr_id_bytes: usize) -> bool {
    front_bytes(session, corr_id_bytes) <= FRONT_BYTES_MAX
}

fn front_bytes(session: &Session, corr_id_bytes: usize) -> usize {
    let session_id = session.wire_session_id().map_or(0, |id| 1 + id.len());
    2 + 1 + session_id + 1 + corr_id_bytes + 1 + ID_BYTES + b"MSG ".len() + 1 + ID_BYTES
}

/// Encrypts a message for its recipient into `block`. None if it does not fit because of its correlation ID, or its body
/// is not in memory.
pub fn deliver(
    mut block: Detached,
    session: &Session,
    corr_id: &[u8],
    queue: &Queue<Body>,
    message: &Message<Body>,
) -> Option<OutMessage> {
    if !fits(session, corr_id.len()) {
        return None;
    }
    let start = MSG_BODY_AT - front_bytes(session, corr_id.len());
    let transmission_len = u16::try_from(MSG_END - start - 2).ok()?;
    let mut front = Front { block: &mut block[..], at: start };
    front.put(&transmission_len.to_be_bytes());
    front.put(&[0]);
    if let Some(session_id) = session.wire_session_id() {
        front.put_short(session_id);
    }
    front.put_short(corr_id);
    front.put_short(&queue.recipient_id);
    front.put(b"MSG ");
    front.put_short(&message.id);
    debug_assert_eq!(front.at, MSG_BODY_AT);

    let out = block.get_mut(MSG_BODY_AT..)?.first_chunk_mut()?;
    let key = BoxKey::from_secret(&queue.delivery_secret);
    let timestamp_secs = i64::try_from(message.received_secs).ok()?;
    match &message.content {
        Content::Quota => seal_quota(&key, &message.id, timestamp_secs, out),
        Content::Sent { flags, body } => match &body.form {
            Form::Own(bytes) => {
                let header = DeliveryHeader { timestamp_secs, flags: *flags };
                seal_message(&key, &message.id, header, bytes, out).ok()?;
            }
            Form::Kept { .. } => seal_delivery(&key, &message.id, body.clear()?, out),
            // Whoever delivers has looked whether it is here.
            Form::Away => return None,
        },
    }
    Some(OutMessage { block, start: u16::try_from(start).ok()? })
}

/// Writes the front of the transmission; its length was computed before.
struct Front<'a> {
    block: &'a mut [u8],
    at: usize,
}

impl Front<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(place) = self.block.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    fn put_short(&mut self, bytes: &[u8]) {
        // Every caller's strings are shorter than 256 bytes.
        self.put(&[u8::try_from(bytes.len()).unwrap_or(u8::MAX)]);
        self.put(bytes);
    }
}
