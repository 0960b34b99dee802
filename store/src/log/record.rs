//! Records: one for each change of a shard's state.
//!
//! In an index page a record is: length of the payload (2 bytes), kind (1), bucket (2: partition, then sub-bucket),
//! payload. A message's body does not stand in the page, where others' records would keep its bytes on the disk: it
//! has blocks of its own, and the record has its length and CRC32C.

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::limits::SEND_BODY_BYTES_MAX;

use super::codec::{Malformed, Reader, mode_byte, mode_of, put_key, read_key};
use crate::id::{Bucket, QueueId};
use crate::message::MessageId;
use crate::queue::NewQueue;

pub const RECORD_HEADER_BYTES: usize = 5;

/// What happened to a queue. `T` stands for a message's body: its bytes on the way in, its size and checksum in a
/// page, its place after a replay. Queues are named by their recipient ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<T> {
    Create {
        new: NewQueue,
        /// In days since 1970.
        today: u32,
    },
    Secure {
        queue: QueueId,
        key: AuthPublicKey,
    },
    Suspend {
        queue: QueueId,
    },
    Delete {
        queue: QueueId,
    },
    Message {
        queue: QueueId,
        id: MessageId,
        received_secs: u64,
        flags: MsgFlags,
        body: T,
    },
    /// The quota message: stands where the quota was exceeded.
    Quota {
        queue: QueueId,
        id: MessageId,
        received_secs: u64,
    },
    /// The first message, which has this ID, left the queue: it was acknowledged.
    Take {
        queue: QueueId,
        id: MessageId,
    },
    /// The messages from the first to this one left the queue: they expired.
    Expire {
        queue: QueueId,
        through: MessageId,
    },
    Used {
        queue: QueueId,
        today: u32,
    },
    /// The log's own: blocks follow that hold no body, but a bucket's image.
    Image {
        blocks: u32,
    },
}

/// The body of a message as its record describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyMeta {
    pub bytes: u16,
    pub crc: u32,
}

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

const NOTIFICATION: u8 = 1;

impl<T> Record<T> {
    /// The same record with another form of the body.
    pub fn map_body<U>(self, map: impl FnOnce(T) -> U) -> Record<U> {
        match self {
            Self::Create { new, today } => Record::Create { new, today },
            Self::Secure { queue, key } => Record::Secure { queue, key },
            Self::Suspend { queue } => Record::Suspend { queue },
            Self::Delete { queue } => Record::Delete { queue },
            Self::Message { queue, id, received_secs, flags, body } => {
                Record::Message { queue, id, received_secs, flags, body: map(body) }
            }
            Self::Quota { queue, id, received_secs } => Record::Quota { queue, id, received_secs },
            Self::Take { queue, id } => Record::Take { queue, id },
            Self::Expire { queue, through } => Record::Expire { queue, through },
            Self::Used { queue, today } => Record::Used { queue, today },
            Self::Image { blocks } => Record::Image { blocks },
        }
    }

    /// Whether the record adds to what is kept. The others are accepted longer when space runs out: they free some.
    pub fn grows(&self) -> bool {
        !matches!(self, Self::Delete { .. } | Self::Take { .. } | Self::Expire { .. } | Self::Suspend { .. })
    }

    /// Whether something on the disk is history once this record is.
    pub fn ends_something(&self) -> bool {
        matches!(self, Self::Delete { .. } | Self::Take { .. } | Self::Expire { .. } | Self::Used { .. })
    }
}

impl Record<BodyMeta> {
    /// Appends header and payload.
    pub fn encode(&self, bucket: Bucket, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        let kind = self.encode_payload(out);
        // Payloads are at most 143 bytes (Create with an Ed448 key).
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
            Self::Suspend { queue } => {
                out.extend_from_slice(queue);
                SUSPEND
            }
            Self::Delete { queue } => {
                out.extend_from_slice(queue);
                DELETE
            }
            Self::Message { queue, id, received_secs, flags, body } => {
                out.extend_from_slice(queue);
                out.extend_from_slice(id);
                out.extend_from_slice(&received_secs.to_le_bytes());
                out.push(flags_byte(*flags));
                out.extend_from_slice(&body.bytes.to_le_bytes());
                out.extend_from_slice(&body.crc.to_le_bytes());
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
        let bucket = Bucket::new(reader.u8()?, reader.u8()?).ok_or(Malformed)?;
        let mut payload = Reader(reader.bytes(usize::from(len))?);
        let record = Self::decode_payload(kind, &mut payload)?;
        payload.finish()?;
        Ok((bucket, record))
    }

    fn decode_payload(kind: u8, payload: &mut Reader<'_>) -> Result<Self, Malformed> {
        if kind == IMAGE {
            return Ok(Self::Image { blocks: payload.u32()? });
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
            SUSPEND => Self::Suspend { queue },
            DELETE => Self::Delete { queue },
            MESSAGE => Self::Message {
                queue,
                id: payload.array()?,
                received_secs: payload.u64()?,
                flags: flags_of(payload.u8()?)?,
                body: BodyMeta { bytes: payload.u16()?, crc: payload.u32()? }.checked()?,
            },
            QUOTA => Self::Quota { queue, id: payload.array()?, received_secs: payload.u64()? },
            TAKE => Self::Take { queue, id: payload.array()? },
            EXPIRE => Self::Expire { queue, through: payload.array()? },
            USED => Self::Used { queue, today: payload.u32()? },
            _ => return Err(Malformed),
        })
    }
}

impl BodyMeta {
    /// None if the body is longer than any that the protocol allows.
    pub fn of(body: &[u8]) -> Option<Self> {
        let bytes = u16::try_from(body.len()).ok().filter(|_| body.len() <= SEND_BODY_BYTES_MAX)?;
        Some(Self { bytes, crc: crc32c::crc32c(body) })
    }

    fn checked(self) -> Result<Self, Malformed> {
        if usize::from(self.bytes) <= SEND_BODY_BYTES_MAX { Ok(self) } else { Err(Malformed) }
    }
}

pub fn flags_byte(flags: MsgFlags) -> u8 {
    if flags.notification { NOTIFICATION } else { 0 }
}

pub fn flags_of(byte: u8) -> Result<MsgFlags, Malformed> {
    if byte & !NOTIFICATION == 0 {
        Ok(MsgFlags { notification: byte == NOTIFICATION })
    } else {
        Err(Malformed)
    }
}
