//! A bucket's image: its queues and services, with the places of their bodies, in blocks of its own.
//!
//! Magic (4 bytes), bucket (2), number of queues (4), of services (4), queues, services.
//!
//! A queue: recipient ID, sender ID, delivery secret, mode (1), status (1), which parts it has (1), day of the last use
//! (4), recipient key, sender key, its parts, number of messages (4), messages.
//!
//! Parts, if the queue has them: count (1) and keys besides the first; link ID, number of bytes of fixed data (2), their
//! hash (8), place of the data; the notifier as its record has it, count (1) and kept notifications; the recipient's
//! service ID; the blocking information.
//!
//! A message: ID, time (8), kind (1: 0 quota, 2 sent, 3 sent with notification), and for a sent one the place of its
//! body. A service: as its record has it, and the place of its certificates. A place: log, segment, block, length (2),
//! CRC32C. The image's own checksum stands in the root.

use ringpost_protocol::limits::ID_BYTES;

use super::codec::{Malformed, Reader, mode_byte, mode_of, put_blocking, put_key, read_blocking, read_key};
use super::page::LogKey;
use super::record_codec::{
    flags_byte, flags_of, put_notification, put_notifier, put_service, read_notification, read_notifier,
    read_service,
};
use super::segments::Segments;
use super::{BodyPlace, StoredBody};
use crate::id::Bucket;
use crate::message::{Content, Message};
use crate::parts::{Link, NewNotifier};
use crate::queue::{NewQueue, Queue, State};
use crate::store::{QueueIx, Store};

const MAGIC: u32 = 0x4249_5052; // "RPIB"
const QUOTA: u8 = 0;
const SENT: u8 = 2;

const ACTIVE: u8 = 0;
const SUSPENDED: u8 = 1;
const BLOCKED: u8 = 2;

const MORE_KEYS: u8 = 1;
const LINK: u8 = 2;
const NOTIFIER: u8 = 4;
const SERVICE: u8 = 8;

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

/// Appends the image of a bucket. Gives the number of its queues and services; with none the image is of no use.
pub fn encode<B: StoredBody>(
    store: &Store<B>,
    segments: &Segments,
    bucket: Bucket,
    out: &mut Vec<u8>,
) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[bucket.partition(), bucket.sub()]);
    out.extend_from_slice(&[0; 8]);
    let (mut queues, mut services): (u32, u32) = (0, 0);
    for (_, queue) in store.queues_of(bucket) {
        queues += 1;
        encode_queue(queue, segments, out);
    }
    for service in store.services_of(bucket) {
        services += 1;
        put_service(out, service);
        put_place(out, segments, service.chain.place());
    }
    if let Some(counts) = out.get_mut(start + 6..start + 14) {
        counts.copy_from_slice(&(u64::from(services) << 32 | u64::from(queues)).to_le_bytes());
    }
    queues as usize + services as usize
}

fn encode_queue<B: StoredBody>(queue: &Queue<B>, segments: &Segments, out: &mut Vec<u8>) {
    out.extend_from_slice(&queue.recipient_id);
    out.extend_from_slice(&queue.sender_id);
    out.extend_from_slice(&queue.delivery_secret);
    out.push(mode_byte(queue.mode));
    out.push(match queue.state {
        State::Active => ACTIVE,
        State::Suspended => SUSPENDED,
        State::Blocked => BLOCKED,
    });
    let parts_at = out.len();
    out.push(0);
    out.extend_from_slice(&queue.used_day.to_le_bytes());
    put_key(out, Some(&queue.recipient_key));
    put_key(out, queue.sender_key.as_ref());
    let parts = encode_parts(queue, segments, out);
    if let Some(place) = out.get_mut(parts_at) {
        *place = parts;
    }
    let count = queue.messages().map_or(0, crate::MessageQueue::len);
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    for message in queue.messages().into_iter().flatten() {
        encode_message(message, segments, out);
    }
}

/// Gives the byte that says which parts there are. The blocking information belongs to the status.
fn encode_parts<B: StoredBody>(queue: &Queue<B>, segments: &Segments, out: &mut Vec<u8>) -> u8 {
    let Some(parts) = &queue.parts else { return 0 };
    let mut present = 0;
    if !parts.more_recipient_keys.is_empty() {
        present |= MORE_KEYS;
        // At most RECIPIENT_KEYS_MAX.
        out.push(u8::try_from(parts.more_recipient_keys.len()).unwrap_or(u8::MAX));
        for key in &parts.more_recipient_keys {
            put_key(out, Some(key));
        }
    }
    if let Some(link) = &parts.link {
        present |= LINK;
        out.extend_from_slice(&link.id);
        out.extend_from_slice(&link.fixed_bytes.to_le_bytes());
        out.extend_from_slice(&link.fixed_hash.to_le_bytes());
        put_place(out, segments, link.data.place());
    }
    if let Some(notifier) = &parts.notifier {
        present |= NOTIFIER;
        let crate::Notifier { id, secret, service, .. } = **notifier;
        put_notifier(out, &NewNotifier { id, key: notifier.key.clone(), secret, service });
        // At most NOTIFICATIONS_MAX.
        out.push(u8::try_from(notifier.notifications().len()).unwrap_or(u8::MAX));
        for notification in notifier.notifications() {
            put_notification(out, notification);
        }
    }
    if let Some(service) = &parts.recipient_service {
        present |= SERVICE;
        out.extend_from_slice(&**service);
    }
    if let Some(blocking) = &parts.blocking {
        put_blocking(out, blocking);
    }
    present
}

fn encode_message<B: StoredBody>(message: &Message<B>, segments: &Segments, out: &mut Vec<u8>) {
    out.extend_from_slice(&message.id);
    out.extend_from_slice(&message.received_secs.to_le_bytes());
    match &message.content {
        Content::Quota => out.push(QUOTA),
        Content::Sent { flags, body } => {
            out.push(SENT | flags_byte(*flags));
            put_place(out, segments, body.place());
        }
    }
}

fn put_place(out: &mut Vec<u8>, segments: &Segments, place: BodyPlace) {
    segments.disk_place(place.segment, place.block).encode(out);
    out.extend_from_slice(&place.bytes.to_le_bytes());
    out.extend_from_slice(&place.crc.to_le_bytes());
}

/// Puts the queues and services of an image into a store. Places of bodies are turned into this log's by `segment`.
pub fn restore<B: StoredBody>(
    bytes: &[u8],
    bucket: Bucket,
    store: &mut Store<B>,
    segment: impl FnMut(LogKey, u32) -> u32,
) -> Result<(), Malformed> {
    let mut reader = Reader(bytes);
    if reader.u32()? != MAGIC || Bucket::new(reader.u8()?, reader.u8()?) != bucket {
        return Err(Malformed);
    }
    let (queues, services) = (reader.u32()?, reader.u32()?);
    let mut restore = Restore { reader, store, segment };
    for _ in 0..queues {
        restore.queue(bucket)?;
    }
    for _ in 0..services {
        restore.service(bucket)?;
    }
    restore.reader.finish()
}

struct Restore<'a, B, F> {
    reader: Reader<'a>,
    store: &'a mut Store<B>,
    segment: F,
}

impl<B: StoredBody, F: FnMut(LogKey, u32) -> u32> Restore<'_, B, F> {
    fn body(&mut self) -> Result<B, Malformed> {
        let place = DiskPlace::decode(&mut self.reader)?;
        Ok(B::at(BodyPlace {
            segment: (self.segment)(place.log, place.sequence),
            block: place.block,
            bytes: self.reader.u16()?,
            crc: self.reader.u32()?,
        }))
    }

    fn queue(&mut self, bucket: Bucket) -> Result<(), Malformed> {
        let reader = &mut self.reader;
        let recipient_id: [u8; ID_BYTES] = reader.array()?;
        let sender_id = reader.array()?;
        let delivery_secret = reader.array()?;
        let mode = mode_of(reader.u8()?)?;
        let (status, parts) = (reader.u8()?, reader.u8()?);
        let used_day = reader.u32()?;
        let recipient_key = read_key(reader)?.ok_or(Malformed)?;
        let sender_key = read_key(reader)?;
        if self.store.hasher().hash(&recipient_id).bucket() != bucket {
            return Err(Malformed);
        }
        let new = NewQueue { recipient_id, sender_id, recipient_key, delivery_secret, mode };
        let queue = self.store.create(new, used_day).map_err(|_| Malformed)?;
        if let Some(key) = sender_key {
            self.store.secure(queue, key).map_err(|_| Malformed)?;
        }
        self.parts(queue, parts)?;
        match status {
            ACTIVE => {}
            SUSPENDED => self.store.suspend(queue),
            BLOCKED => {
                let info = read_blocking(&mut self.reader)?;
                self.store.block(queue, info).map_err(|_| Malformed)?;
            }
            _ => return Err(Malformed),
        }
        for _ in 0..self.reader.u32()? {
            let message = self.message()?;
            self.store.restore_message(queue, message);
        }
        Ok(())
    }

    fn parts(&mut self, queue: QueueIx, parts: u8) -> Result<(), Malformed> {
        if parts & !(MORE_KEYS | LINK | NOTIFIER | SERVICE) != 0 {
            return Err(Malformed);
        }
        if parts & MORE_KEYS != 0 {
            let count = self.reader.u8()?;
            let keys = (0..count).map(|_| read_key(&mut self.reader)?.ok_or(Malformed));
            let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
            self.store.add_recipient_keys(queue, keys).map_err(|_| Malformed)?;
        }
        if parts & LINK != 0 {
            let (id, fixed_bytes, fixed_hash) =
                (self.reader.array()?, self.reader.u16()?, self.reader.u64()?);
            let data = self.body()?;
            if usize::from(fixed_bytes) > data.place().len() {
                return Err(Malformed);
            }
            let link = Link { id, fixed_bytes, fixed_hash, data };
            self.store.set_link(queue, link).map_err(|_| Malformed)?;
        }
        if parts & NOTIFIER != 0 {
            let notifier = read_notifier(&mut self.reader)?;
            self.store.set_notifier(queue, notifier).map_err(|_| Malformed)?;
            for _ in 0..self.reader.u8()? {
                let notification = read_notification(&mut self.reader)?;
                self.store.note_notification(queue, notification).map_err(|_| Malformed)?;
            }
        }
        if parts & SERVICE != 0 {
            let service = self.reader.array()?;
            self.store.set_recipient_service(queue, Some(service)).map_err(|_| Malformed)?;
        }
        Ok(())
    }

    fn message(&mut self) -> Result<Message<B>, Malformed> {
        let id = self.reader.array()?;
        let received_secs = self.reader.u64()?;
        let content = match self.reader.u8()? {
            QUOTA => Content::Quota,
            kind => {
                let flags = flags_of(kind.checked_sub(SENT).ok_or(Malformed)?)?;
                Content::Sent { flags, body: self.body()? }
            }
        };
        Ok(Message { id, received_secs, content })
    }

    fn service(&mut self, bucket: Bucket) -> Result<(), Malformed> {
        let service = read_service(&mut self.reader, |_| Ok(()))?;
        if self.store.hasher().hash_fingerprint(&service.fingerprint).bucket() != bucket {
            return Err(Malformed);
        }
        let chain = self.body()?;
        self.store.add_service(service.map(|()| chain)).map_err(|_| Malformed)
    }
}
