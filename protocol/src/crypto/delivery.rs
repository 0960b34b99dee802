//! What a router encrypts for the recipient: "Deliver queue message" and "Deliver message notification".
//!
//! ```text
//! message  [length 2][seconds 8]['T' or 'F'][' '][body][#...]     padded to 16,106 bytes, in every version
//! quota    [length 2]["QUOTA "][seconds 8][#...]                  padded to 16,106 bytes
//! sealed   [tag 16][the above]                                    16,122 bytes; nonce = message ID
//!
//! NMSG metadata  [length 2][24][message ID 24][seconds 8][#...]   padded to 128 bytes, sealed 144, with a nonce of its own
//! ```

use super::boxes::{BoxKey, Nonce, open_in_place, open_padded, seal_in_place, seal_into};
use super::{OpenError, TooLarge};
use crate::command::MsgFlags;
use crate::encoding::{FILLER, pad_in_place, unpad};
use crate::limits::{
    DELIVERY_ENCRYPTED_BYTES, DELIVERY_HEADER_BYTES, DELIVERY_PADDED_BYTES, ID_BYTES,
    NOTIFICATION_META_PADDED_BYTES, PAD_LENGTH_BYTES, SEND_BODY_BYTES_MAX, TAG_BYTES,
};

/// What stands in front of the body in the padded clear text: the length, then the header.
pub const DELIVERY_BODY_OFFSET: usize = PAD_LENGTH_BYTES + DELIVERY_HEADER_BYTES;
/// The encrypted metadata of a notification (NMSG).
pub const NOTIFICATION_META_ENCRYPTED_BYTES: usize = NOTIFICATION_META_PADDED_BYTES + TAG_BYTES;

const QUOTA_TAG: &[u8; 6] = b"QUOTA ";
/// The tag and the time: the value of the length field.
const QUOTA_CONTENT_LEN: u16 = 14;
/// The ID with its length byte, and the time: the value of the length field.
const NOTIFICATION_CONTENT_LEN: u16 = 33;
const ID_LEN: u8 = 24;

/// A message ID, which is the nonce of the message as well.
pub type MsgId = [u8; ID_BYTES];

const _: () = {
    assert!(ID_BYTES == crate::limits::NONCE_BYTES);
    assert!(ID_LEN as usize == ID_BYTES);
    assert!(QUOTA_CONTENT_LEN as usize == QUOTA_TAG.len() + 8);
    assert!(NOTIFICATION_CONTENT_LEN as usize == 1 + ID_BYTES + 8);
};

/// What a router adds to the body of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryHeader {
    /// When the router received the message: seconds since 1970-01-01.
    pub timestamp_secs: i64,
    pub flags: MsgFlags,
}

impl DeliveryHeader {
    /// Writes length and header in front of a body of `body_len` bytes that stands at
    /// [`DELIVERY_BODY_OFFSET`] of `clear`, and filler behind it: `clear` is ready for [`seal_delivery`]. On
    /// an error it is unchanged.
    pub fn frame(self, clear: &mut [u8; DELIVERY_PADDED_BYTES], body_len: usize) -> Result<(), TooLarge> {
        if body_len > SEND_BODY_BYTES_MAX {
            return Err(TooLarge { content_bytes: body_len, content_bytes_max: SEND_BODY_BYTES_MAX });
        }
        pad_in_place(clear, DELIVERY_HEADER_BYTES + body_len)?;
        clear[PAD_LENGTH_BYTES..DELIVERY_BODY_OFFSET].copy_from_slice(&self.to_bytes());
        Ok(())
    }

    fn to_bytes(self) -> [u8; DELIVERY_HEADER_BYTES] {
        let mut bytes = [b' '; DELIVERY_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.timestamp_secs.to_be_bytes());
        bytes[8] = if self.flags.notification { b'T' } else { b'F' };
        bytes
    }
}

/// Seals the clear text that [`DeliveryHeader::frame`] has made, straight into the place of the body in an
/// MSG.
pub fn seal_delivery(
    key: &BoxKey,
    msg_id: &MsgId,
    padded_clear: &[u8; DELIVERY_PADDED_BYTES],
    out: &mut [u8; DELIVERY_ENCRYPTED_BYTES],
) {
    seal_into(key, msg_id, padded_clear, out);
}

/// Builds the clear text in `out`, copying the body there, and seals it in place. For a body that must not be
/// written around where it stands.
pub fn seal_message(
    key: &BoxKey,
    msg_id: &MsgId,
    header: DeliveryHeader,
    body: &[u8],
    out: &mut [u8; DELIVERY_ENCRYPTED_BYTES],
) -> Result<(), TooLarge> {
    let clear = clear_mut(out);
    header.frame(clear, body.len())?;
    clear[DELIVERY_BODY_OFFSET..DELIVERY_BODY_OFFSET + body.len()].copy_from_slice(body);
    seal_in_place(key, msg_id, out);
    Ok(())
}

/// Seals, in place of a message, the notice that messages were refused because the queue was full.
/// `timestamp_secs` is the time of the first refusal.
pub fn seal_quota(
    key: &BoxKey,
    msg_id: &MsgId,
    timestamp_secs: i64,
    out: &mut [u8; DELIVERY_ENCRYPTED_BYTES],
) {
    const TIME_AT: usize = QUOTA_TAG.len();
    let (length, content) = clear_mut(out).split_at_mut(PAD_LENGTH_BYTES);
    length.copy_from_slice(&QUOTA_CONTENT_LEN.to_be_bytes());
    content.fill(FILLER);
    content[..TIME_AT].copy_from_slice(QUOTA_TAG);
    content[TIME_AT..TIME_AT + 8].copy_from_slice(&timestamp_secs.to_be_bytes());
    seal_in_place(key, msg_id, out);
}

/// [`seal_message`] into a buffer of its own.
pub fn encrypt_message(
    key: &BoxKey,
    msg_id: &MsgId,
    header: DeliveryHeader,
    body: &[u8],
) -> Result<Box<[u8; DELIVERY_ENCRYPTED_BYTES]>, TooLarge> {
    let mut out = Box::new([0; DELIVERY_ENCRYPTED_BYTES]);
    seal_message(key, msg_id, header, body, &mut out)?;
    Ok(out)
}

/// [`seal_quota`] into a buffer of its own.
pub fn encrypt_quota(
    key: &BoxKey,
    msg_id: &MsgId,
    timestamp_secs: i64,
) -> Box<[u8; DELIVERY_ENCRYPTED_BYTES]> {
    let mut out = Box::new([0; DELIVERY_ENCRYPTED_BYTES]);
    seal_quota(key, msg_id, timestamp_secs, &mut out);
    out
}

/// What a recipient finds in an MSG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// When the router received it, or first refused one: seconds since 1970-01-01.
    pub timestamp_secs: i64,
    pub kind: DeliveredKind<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveredKind<'a> {
    /// The body of the sender's SEND.
    Message { flags: MsgFlags, body: &'a [u8] },
    /// The queue was full, and messages were refused.
    Quota,
}

/// Opens the body of an MSG where it is. Any size that is padded is read.
pub fn decrypt_message<'a>(
    key: &BoxKey,
    msg_id: &MsgId,
    encrypted: &'a mut [u8],
) -> Result<Delivered<'a>, OpenError> {
    let padded = open_in_place(key, msg_id, encrypted)?;
    Delivered::parse(unpad(padded).map_err(|_| OpenError::Padding)?)
}

impl<'a> Delivered<'a> {
    /// Reads the clear text, without its padding. Bytes between the flag and the space belong to later
    /// versions and are skipped.
    pub fn parse(clear: &'a [u8]) -> Result<Self, OpenError> {
        if let Some(time) = clear.strip_prefix(QUOTA_TAG) {
            let time =
                time.try_into().map_err(|_| OpenError::Content("QUOTA without its 8 bytes of time"))?;
            return Ok(Self { timestamp_secs: i64::from_be_bytes(time), kind: DeliveredKind::Quota });
        }
        let (time, rest) =
            clear.split_first_chunk().ok_or(OpenError::Content("less than 8 bytes of time"))?;
        let notification = match rest.first() {
            Some(b'T') => true,
            Some(b'F') => false,
            _ => return Err(OpenError::Content("a message flag is T or F")),
        };
        let space = rest
            .iter()
            .position(|&byte| byte == b' ')
            .ok_or(OpenError::Content("no space behind the flags"))?;
        let body = rest.get(space + 1..).unwrap_or_default();
        Ok(Self {
            timestamp_secs: i64::from_be_bytes(*time),
            kind: DeliveredKind::Message { flags: MsgFlags { notification }, body },
        })
    }
}

/// Which message a notification is about, and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationMeta {
    /// Of any length up to 255 bytes; 24 from our routers.
    pub msg_id: Vec<u8>,
    pub timestamp_secs: i64,
}

/// The metadata of an NMSG, with the key agreed in NKEY and NID.
pub fn encrypt_notification_meta(
    key: &BoxKey,
    nonce: &Nonce,
    msg_id: &MsgId,
    timestamp_secs: i64,
) -> [u8; NOTIFICATION_META_ENCRYPTED_BYTES] {
    const TIME_AT: usize = 1 + ID_BYTES;
    let mut out = [FILLER; NOTIFICATION_META_ENCRYPTED_BYTES];
    let (length, content) = out[TAG_BYTES..].split_at_mut(PAD_LENGTH_BYTES);
    length.copy_from_slice(&NOTIFICATION_CONTENT_LEN.to_be_bytes());
    content[0] = ID_LEN;
    content[1..TIME_AT].copy_from_slice(msg_id);
    content[TIME_AT..TIME_AT + 8].copy_from_slice(&timestamp_secs.to_be_bytes());
    seal_in_place(key, nonce, &mut out);
    out
}

/// Opens the metadata of an NMSG. Bytes behind the time belong to later versions and are skipped.
pub fn decrypt_notification_meta(
    key: &BoxKey,
    nonce: &Nonce,
    encrypted: &[u8],
) -> Result<NotificationMeta, OpenError> {
    const SHORT: OpenError = OpenError::Content("notification metadata is cut short");
    let clear = open_padded(key, nonce, encrypted)?;
    let (&id_len, rest) = clear.split_first().ok_or(SHORT)?;
    let (msg_id, rest) = rest.split_at_checked(usize::from(id_len)).ok_or(SHORT)?;
    let (time, _later) = rest.split_first_chunk().ok_or(SHORT)?;
    Ok(NotificationMeta { msg_id: msg_id.to_vec(), timestamp_secs: i64::from_be_bytes(*time) })
}

fn clear_mut(out: &mut [u8; DELIVERY_ENCRYPTED_BYTES]) -> &mut [u8; DELIVERY_PADDED_BYTES] {
    let Some(clear) = out.last_chunk_mut() else {
        unreachable!("a sealed message is longer than its clear text");
    };
    clear
}
