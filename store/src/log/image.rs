//! A bucket's image: its queues with the places of their messages, in blocks of its own.
//!
//! Magic (4 bytes), bucket (2), number of queues (4), then for each queue: recipient ID, sender ID, delivery secret,
//! mode (1), status (1), day of the last use (4), recipient key, sender key, number of messages (4), messages. A message
//! is ID, time (8), kind (1: 0 quota, 2 sent, 3 sent with notification), and for a sent one the place of its body.
//! The checksum stands in the root.

use ringpost_protocol::limits::ID_BYTES;

use super::codec::{Malformed, Reader, mode_byte, mode_of, put_key, read_key};
use super::page::LogKey;
use super::record::{flags_byte, flags_of};
use super::segments::Segments;
use super::{BodyPlace, StoredBody};
use crate::id::Bucket;
use crate::message::{Content, Message};
use crate::queue::{NewQueue, Status};
use crate::store::Store;

const MAGIC: u32 = 0x4249_5052; // "RPIB"
const QUOTA: u8 = 0;
const SENT: u8 = 2;

/// A place in any segment, as files name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiskPlace {
    pub log: LogKey,
    pub sequence: u32,
    pub block: u32,
}

impl DiskPlace {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.log.generation.to_le_bytes());
        out.extend_from_slice(&self.log.shard.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.block.to_le_bytes());
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            log: LogKey { generation: reader.u32()?, shard: reader.u16()? },
            sequence: reader.u32()?,
            block: reader.u32()?,
        })
    }
}

/// Appends the image of a bucket. Gives the number of its queues; with none the image is of no use.
pub fn encode<B: StoredBody>(
    store: &Store<B>,
    segments: &Segments,
    bucket: Bucket,
    out: &mut Vec<u8>,
) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[bucket.partition(), bucket.sub()]);
    out.extend_from_slice(&[0; 4]);
    let mut queues: u32 = 0;
    for (_, queue) in store.queues_of(bucket) {
        queues += 1;
        out.extend_from_slice(&queue.recipient_id);
        out.extend_from_slice(&queue.sender_id);
        out.extend_from_slice(&queue.delivery_secret);
        out.push(mode_byte(queue.mode));
        out.push(match queue.status {
            Status::Active => 0,
            Status::Suspended => 1,
        });
        out.extend_from_slice(&queue.used_day.to_le_bytes());
        put_key(out, Some(&queue.recipient_key));
        put_key(out, queue.sender_key.as_ref());
        let count = queue.messages().map_or(0, crate::MessageQueue::len);
        out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        for message in queue.messages().into_iter().flatten() {
            encode_message(message, segments, out);
        }
    }
    if let Some(place) = out.get_mut(start + 6..start + 10) {
        place.copy_from_slice(&queues.to_le_bytes());
    }
    queues as usize
}

fn encode_message<B: StoredBody>(message: &Message<B>, segments: &Segments, out: &mut Vec<u8>) {
    out.extend_from_slice(&message.id);
    out.extend_from_slice(&message.received_secs.to_le_bytes());
    match &message.content {
        Content::Quota => out.push(QUOTA),
        Content::Sent { flags, body } => {
            let place = body.place();
            out.push(SENT | flags_byte(*flags));
            segments.disk_place(place.segment, place.block).encode(out);
            out.extend_from_slice(&place.bytes.to_le_bytes());
            out.extend_from_slice(&place.crc.to_le_bytes());
        }
    }
}

/// Puts the queues of an image into a store. Places of bodies are turned into this log's by `segment`.
pub fn restore<B: StoredBody>(
    bytes: &[u8],
    bucket: Bucket,
    store: &mut Store<B>,
    mut segment: impl FnMut(LogKey, u32) -> u32,
) -> Result<(), Malformed> {
    let mut reader = Reader(bytes);
    if reader.u32()? != MAGIC || Bucket::new(reader.u8()?, reader.u8()?) != Some(bucket) {
        return Err(Malformed);
    }
    for _ in 0..reader.u32()? {
        let recipient_id: [u8; ID_BYTES] = reader.array()?;
        let sender_id = reader.array()?;
        let delivery_secret = reader.array()?;
        let mode = mode_of(reader.u8()?)?;
        let status = reader.u8()?;
        let used_day = reader.u32()?;
        let recipient_key = read_key(&mut reader)?.ok_or(Malformed)?;
        let sender_key = read_key(&mut reader)?;
        if store.hasher().hash(&recipient_id).bucket() != bucket {
            return Err(Malformed);
        }
        let new = NewQueue { recipient_id, sender_id, recipient_key, delivery_secret, mode };
        let queue = store.create(new, used_day).map_err(|_| Malformed)?;
        if let Some(key) = sender_key {
            store.secure(queue, key).map_err(|_| Malformed)?;
        }
        match status {
            0 => {}
            1 => store.suspend(queue),
            _ => return Err(Malformed),
        }
        for _ in 0..reader.u32()? {
            let id = reader.array()?;
            let received_secs = reader.u64()?;
            let content = match reader.u8()? {
                QUOTA => Content::Quota,
                kind => {
                    let flags = flags_of(kind.checked_sub(SENT).ok_or(Malformed)?)?;
                    let place = DiskPlace::decode(&mut reader)?;
                    let body = BodyPlace {
                        segment: segment(place.log, place.sequence),
                        block: place.block,
                        bytes: reader.u16()?,
                        crc: reader.u32()?,
                    };
                    Content::Sent { flags, body: B::at(body) }
                }
            };
            store.restore_message(queue, Message { id, received_secs, content });
        }
    }
    reader.finish()
}
