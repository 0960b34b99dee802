//! Records as bytes.
//!
//! In an index page a record is: length of the payload (2 bytes), kind (1), bucket (2: partition, then sub-bucket),
//! payload. Integers are little-endian. A kind's form never changes: another form is another kind.

use ringpost_protocol::command::MsgFlags;

use super::codec::{
    Malformed, Reader, mode_byte, mode_of, put_blocking, put_key, put_optional_id, read_blocking, read_key,
    read_optional_id, role_byte, role_of,
};
use super::page::blocks_of;
use super::record::{BodyMeta, RECORD_KEYS_MAX, Record};
use crate::id::{Bucket, QueueId};
use crate::parts::{Link, NOTIFICATION_META_BYTES_MAX, NewNotifier, Notification};
use crate::queue::NewQueue;
use crate::service::Service;

pub const RECORD_HEADER_BYTES: usize = 5;
/// A list of [`RECORD_KEYS_MAX`] Ed448 keys is the longest record.
pub const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + 24 + 1 + RECORD_KEYS_MAX * 58;

const _: () = assert!(RECORD_BYTES_MAX <= super::page::BLOCK_BYTES - super::page::PAGE_HEADER_BYTES);

const CREATE: u8 = 1;
const SECURE: u8 = 2;
const SUSPEND: u8 = 3;
const DELETE: u8 = 4;
const MESSAGE: u8 = 5;
const QUOTA: u8 = 6;
const TAKE: u8 = 7;
const EXPIRE: u8 = 8;
const USED: u8 = 9;
const IMAGE: u8 = 10;
const KEYS: u8 = 11;
const MORE_KEYS: u8 = 12;
const BLOCK: u8 = 13;
const RESUME: u8 = 14;
const LINK: u8 = 15;
const LINK_GONE: u8 = 16;
const NOTIFIER: u8 = 17;
const NOTIFIER_GONE: u8 = 18;
const RECIPIENT_SERVICE: u8 = 19;
const NOTIFIER_SERVICE: u8 = 20;
const SERVICE: u8 = 21;
const NOTIFICATION: u8 = 22;
const NOTIFICATIONS_TAKEN: u8 = 23;

/// In the byte of flags.
const NOTIFIES: u8 = 1;

impl Record<BodyMeta> {
    /// The blocks that belong to the record and lie behind its page.
    pub fn extent_blocks(&self) -> u32 {
        match self {
            Self::Image { blocks } => *blocks,
            other => other.body().map_or(0, |body| blocks_of(usize::from(body.bytes))),
        }
    }

    /// Whether lists and lengths are such that [`decode`](Self::decode) reads the record again.
    pub fn is_within_limits(&self) -> bool {
        match self {
            Self::Keys { keys, .. } | Self::MoreKeys { keys, .. } => {
                (1..=RECORD_KEYS_MAX).contains(&keys.len())
            }
            Self::Link { link, .. } => link.fixed_bytes <= link.data.bytes,
            Self::Notification { notification, .. } => notification.meta.len() <= NOTIFICATION_META_BYTES_MAX,
            _ => true,
        }
    }

    /// Appends header and payload. The record [`is_within_limits`](Self::is_within_limits).
    pub fn encode(&self, bucket: Bucket, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        let kind = self.encode_payload(out);
        // Below RECORD_BYTES_MAX.
        let len = u16::try_from(out.len() - at - RECORD_HEADER_BYTES).unwrap_or(u16::MAX);
        let [len_low, len_high] = len.to_le_bytes();
        if let Some(header) = out.get_mut(at..at + RECORD_HEADER_BYTES) {
            header.copy_from_slice(&[len_low, len_high, kind, bucket.partition(), bucket.sub()]);
        }
    }

    fn encode_payload(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Create { new, today } => {
                out.extend_from_slice(&new.recipient_id);
                out.extend_from_slice(&new.sender_id);
                put_key(out, Some(&new.recipient_key));
                out.extend_from_slice(&new.delivery_secret);
                out.push(mode_byte(new.mode));
                out.extend_from_slice(&today.to_le_bytes());
                CREATE
            }
            Self::Secure { queue, key } => {
                out.extend_from_slice(queue);
                put_key(out, Some(key));
                SECURE
            }
            Self::Keys { queue, keys } | Self::MoreKeys { queue, keys } => {
                out.extend_from_slice(queue);
                // At most RECORD_KEYS_MAX.
                out.push(u8::try_from(keys.len()).unwrap_or(u8::MAX));
                for key in keys {
                    put_key(out, Some(key));
                }
                if matches!(self, Self::Keys { .. }) { KEYS } else { MORE_KEYS }
            }
            Self::Suspend { queue } => named(queue, SUSPEND, out),
            Self::Block { queue, info } => {
                out.extend_from_slice(queue);
                put_blocking(out, info);
                BLOCK
            }
            Self::Resume { queue } => named(queue, RESUME, out),
            Self::Delete { queue } => named(queue, DELETE, out),
            Self::Link { queue, link } => {
                out.extend_from_slice(queue);
                out.extend_from_slice(&link.id);
                out.extend_from_slice(&link.fixed_bytes.to_le_bytes());
                out.extend_from_slice(&link.fixed_hash.to_le_bytes());
                put_body(out, link.data);
                LINK
            }
            Self::LinkGone { queue } => named(queue, LINK_GONE, out),
            Self::Notifier { queue, notifier } => {
                out.extend_from_slice(queue);
                put_notifier(out, notifier);
                NOTIFIER
            }
            Self::NotifierGone { queue } => named(queue, NOTIFIER_GONE, out),
            Self::RecipientService { queue, service } => {
                out.extend_from_slice(queue);
                put_optional_id(out, service.as_ref());
                RECIPIENT_SERVICE
            }
            Self::NotifierService { queue, service } => {
                out.extend_from_slice(queue);
                put_optional_id(out, service.as_ref());
                NOTIFIER_SERVICE
            }
            Self::Service { service } => {
                put_service(out, service);
                put_body(out, service.chain);
                SERVICE
            }
            Self::Notification { queue, notification } => {
                out.extend_from_slice(queue);
                put_notification(out, notification);
                NOTIFICATION
            }
            Self::NotificationsTaken { queue, count } => {
                out.extend_from_slice(queue);
                out.push(*count);
                NOTIFICATIONS_TAKEN
            }
            Self::Message { queue, id, received_secs, flags, body } => {
                out.extend_from_slice(queue);
                out.extend_from_slice(id);
                out.extend_from_slice(&received_secs.to_le_bytes());
                out.push(flags_byte(*flags));
                put_body(out, *body);
                MESSAGE
            }
            Self::Quota { queue, id, received_secs } => {
                out.extend_from_slice(queue);
                out.extend_from_slice(id);
                out.extend_from_slice(&received_secs.to_le_bytes());
                QUOTA
            }
            Self::Take { queue, id } => {
                out.extend_from_slice(queue);
                out.extend_from_slice(id);
                TAKE
            }
            Self::Expire { queue, through } => {
                out.extend_from_slice(queue);
                out.extend_from_slice(through);
                EXPIRE
            }
            Self::Used { queue, today } => {
                out.extend_from_slice(queue);
                out.extend_from_slice(&today.to_le_bytes());
                USED
            }
            Self::Image { blocks } => {
                out.extend_from_slice(&blocks.to_le_bytes());
                IMAGE
            }
        }
    }

    /// Reads one record from the front of a page's records.
    pub fn decode(reader: &mut Reader<'_>) -> Result<(Bucket, Self), Malformed> {
        let len = reader.u16()?;
        let kind = reader.u8()?;
        let bucket = Bucket::new(reader.u8()?, reader.u8()?);
        let mut payload = Reader(reader.bytes(usize::from(len))?);
        let record = Self::decode_payload(kind, &mut payload)?;
        payload.finish()?;
        if record.is_within_limits() { Ok((bucket, record)) } else { Err(Malformed) }
    }

    fn decode_payload(kind: u8, payload: &mut Reader<'_>) -> Result<Self, Malformed> {
        match kind {
            IMAGE => return Ok(Self::Image { blocks: payload.u32()? }),
            SERVICE => return Ok(Self::Service { service: read_service(payload, read_body)? }),
            _ => {}
        }
        let queue: QueueId = payload.array()?;
        Ok(match kind {
            CREATE => {
                let new = NewQueue {
                    recipient_id: queue,
                    sender_id: payload.array()?,
                    recipient_key: read_key(payload)?.ok_or(Malformed)?,
                    delivery_secret: payload.array()?,
                    mode: mode_of(payload.u8()?)?,
                };
                Self::Create { new, today: payload.u32()? }
            }
            SECURE => Self::Secure { queue, key: read_key(payload)?.ok_or(Malformed)? },
            KEYS | MORE_KEYS => {
                let keys = (0..payload.u8()?).map(|_| read_key(payload)?.ok_or(Malformed)).collect::<Result<
                    Vec<_>,
                    Malformed,
                >>(
                )?;
                if kind == KEYS { Self::Keys { queue, keys } } else { Self::MoreKeys { queue, keys } }
            }
            SUSPEND => Self::Suspend { queue },
            BLOCK => Self::Block { queue, info: read_blocking(payload)? },
            RESUME => Self::Resume { queue },
            DELETE => Self::Delete { queue },
            LINK => {
                let link = Link {
                    id: payload.array()?,
                    fixed_bytes: payload.u16()?,
                    fixed_hash: payload.u64()?,
                    data: read_body(payload)?,
                };
                Self::Link { queue, link }
            }
            LINK_GONE => Self::LinkGone { queue },
            NOTIFIER => Self::Notifier { queue, notifier: read_notifier(payload)? },
            NOTIFIER_GONE => Self::NotifierGone { queue },
            RECIPIENT_SERVICE => Self::RecipientService { queue, service: read_optional_id(payload)? },
            NOTIFIER_SERVICE => Self::NotifierService { queue, service: read_optional_id(payload)? },
            NOTIFICATION => Self::Notification { queue, notification: read_notification(payload)? },
            NOTIFICATIONS_TAKEN => Self::NotificationsTaken { queue, count: payload.u8()? },
            MESSAGE => Self::Message {
                queue,
                id: payload.array()?,
                received_secs: payload.u64()?,
                flags: flags_of(payload.u8()?)?,
                body: read_body(payload)?,
            },
            QUOTA => Self::Quota { queue, id: payload.array()?, received_secs: payload.u64()? },
            TAKE => Self::Take { queue, id: payload.array()? },
            EXPIRE => Self::Expire { queue, through: payload.array()? },
            USED => Self::Used { queue, today: payload.u32()? },
            _ => return Err(Malformed),
        })
    }
}

/// A payload that names a queue only.
fn named(queue: &QueueId, kind: u8, out: &mut Vec<u8>) -> u8 {
    out.extend_from_slice(queue);
    kind
}

fn put_body(out: &mut Vec<u8>, body: BodyMeta) {
    out.extend_from_slice(&body.bytes.to_le_bytes());
    out.extend_from_slice(&body.crc.to_le_bytes());
}

fn read_body(reader: &mut Reader<'_>) -> Result<BodyMeta, Malformed> {
    BodyMeta { bytes: reader.u16()?, crc: reader.u32()? }.checked()
}

/// Without its notifications.
pub fn put_notifier(out: &mut Vec<u8>, notifier: &NewNotifier) {
    out.extend_from_slice(&notifier.id);
    put_key(out, Some(&notifier.key));
    out.extend_from_slice(&notifier.secret);
    put_optional_id(out, notifier.service.as_ref());
}

pub fn read_notifier(reader: &mut Reader<'_>) -> Result<NewNotifier, Malformed> {
    Ok(NewNotifier {
        id: reader.array()?,
        key: read_key(reader)?.ok_or(Malformed)?,
        secret: reader.array()?,
        service: read_optional_id(reader)?,
    })
}

pub fn put_notification(out: &mut Vec<u8>, notification: &Notification) {
    out.extend_from_slice(&notification.message_id);
    out.extend_from_slice(&notification.received_secs.to_le_bytes());
    out.extend_from_slice(&notification.nonce);
    // What is longer is not appended.
    out.push(u8::try_from(notification.meta.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(&notification.meta);
}

pub fn read_notification(reader: &mut Reader<'_>) -> Result<Notification, Malformed> {
    let (message_id, received_secs, nonce) = (reader.array()?, reader.u64()?, reader.array()?);
    let meta_bytes = usize::from(reader.u8()?);
    Ok(Notification { message_id, received_secs, nonce, meta: reader.bytes(meta_bytes)?.into() })
}

/// Without its chain.
pub fn put_service<T>(out: &mut Vec<u8>, service: &Service<T>) {
    out.extend_from_slice(&service.id);
    out.push(role_byte(service.role));
    out.extend_from_slice(&service.fingerprint);
    out.extend_from_slice(&service.created_day.to_le_bytes());
}

pub fn read_service<'a, T>(
    reader: &mut Reader<'a>,
    read_chain: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Service<T>, Malformed> {
    Ok(Service {
        id: reader.array()?,
        role: role_of(reader.u8()?)?,
        fingerprint: reader.array()?,
        created_day: reader.u32()?,
        chain: read_chain(reader)?,
    })
}

pub fn flags_byte(flags: MsgFlags) -> u8 {
    if flags.notification { NOTIFIES } else { 0 }
}

pub fn flags_of(byte: u8) -> Result<MsgFlags, Malformed> {
    if byte & !NOTIFIES == 0 { Ok(MsgFlags { notification: byte == NOTIFIES }) } else { Err(Malformed) }
}
