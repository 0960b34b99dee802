//! What a router's users know: which queues there are, and what is in them.

use std::collections::BTreeMap;

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_store::disk::Disk;
use ringpost_store::log::StartedShard;
use ringpost_store::sim::SimDisk;
use ringpost_store::{BodyPlace, Content, MessageId, NewQueue, Party, QueueId, Record, Status};

/// Every 32 bytes of a body name it, so that no block of it can hide.
pub const BODY_MARK: [u8; 8] = *b"\xf7BODY\x9e\x01\xc3";
pub const MESSAGE_MARK: [u8; 8] = *b"\xf7MESS\x9e\x02\xc3";
pub const QUEUE_MARK: [u8; 8] = *b"\xf7QUEU\x9e\x03\xc3";

pub fn named(mark: [u8; 8], tag: u64) -> [u8; 24] {
    let mut id = [0x5a; 24];
    id[..8].copy_from_slice(&mark);
    id[8..16].copy_from_slice(&tag.to_le_bytes());
    id
}

pub fn body_of(tag: u64, bytes: usize) -> Vec<u8> {
    let mut unit = [0; 32];
    unit[..8].copy_from_slice(&BODY_MARK);
    unit[8..16].copy_from_slice(&tag.to_le_bytes());
    unit[16..24].copy_from_slice(&tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let mut body = unit.repeat(bytes / 32);
    // No part of a name at the end.
    body.resize(bytes, 0x11);
    body
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelMessage {
    pub id: MessageId,
    pub received_secs: u64,
    /// Flag, tag and length of the body. None: a quota message.
    pub sent: Option<(bool, u64, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelQueue {
    pub new: NewQueue,
    pub sender_key: Option<AuthPublicKey>,
    pub is_suspended: bool,
    pub used_day: u32,
    pub messages: Vec<ModelMessage>,
}

pub type Queues = BTreeMap<QueueId, ModelQueue>;

/// A record whose body is its tag and length.
pub type ModelRecord = Record<(u64, usize)>;

fn of<'a>(queues: &'a mut Queues, queue: &QueueId) -> &'a mut ModelQueue {
    queues.get_mut(queue).expect("the model has the queue")
}

pub fn apply(queues: &mut Queues, record: &ModelRecord) {
    match record {
        Record::Create { new, today } => {
            queues.insert(
                new.recipient_id,
                ModelQueue {
                    new: new.clone(),
                    sender_key: None,
                    is_suspended: false,
                    used_day: *today,
                    messages: Vec::new(),
                },
            );
        }
        Record::Secure { queue, key } => of(queues, queue).sender_key = Some(key.clone()),
        Record::Suspend { queue } => of(queues, queue).is_suspended = true,
        Record::Delete { queue } => {
            queues.remove(queue);
        }
        Record::Message { queue, id, received_secs, flags, body } => {
            let sent = Some((flags.notification, body.0, body.1));
            of(queues, queue).messages.push(ModelMessage { id: *id, received_secs: *received_secs, sent });
        }
        Record::Quota { queue, id, received_secs } => {
            let message = ModelMessage { id: *id, received_secs: *received_secs, sent: None };
            of(queues, queue).messages.push(message);
        }
        Record::Take { queue, id } => {
            assert_eq!(of(queues, queue).messages.remove(0).id, *id);
        }
        Record::Expire { queue, through } => {
            let messages = &mut of(queues, queue).messages;
            let count = messages.iter().position(|message| message.id == *through).unwrap() + 1;
            messages.drain(..count);
        }
        Record::Used { queue, today } => of(queues, queue).used_day = *today,
        _ => unreachable!("{record:?}"),
    }
}

/// What can be told from a body that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySeen {
    Whole {
        tag: u64,
    },
    /// The log says that it is damaged.
    Refused,
    /// The log delivers something that nobody sent.
    Wrong,
}

fn see_body(disk: &SimDisk, shard: &StartedShard<BodyPlace>, place: BodyPlace) -> BodySeen {
    let Some(read) = shard.log.read(place) else { return BodySeen::Refused };
    let mut blocks = vec![0; read.bytes];
    if disk.read(read.file, read.offset, &mut blocks).is_err() {
        return BodySeen::Refused;
    }
    let Some(body) = shard.log.body(place, &blocks) else { return BodySeen::Refused };
    let tag = body.get(8..16).map_or(0, |tag| u64::from_le_bytes(tag.try_into().unwrap()));
    if body == body_of(tag, body.len()) { BodySeen::Whole { tag } } else { BodySeen::Wrong }
}

/// The queues of a shard as its users see them. Damaged bodies have the tag `u64::MAX` if `damage_is_fine`.
pub fn seen(disk: &SimDisk, shard: &StartedShard<BodyPlace>, damage_is_fine: bool) -> Result<Queues, String> {
    let mut queues = Queues::new();
    for (ix, queue) in shard.store.queues_between(0..u32::MAX) {
        if shard.store.find(Party::Sender, &queue.sender_id) != Some(ix) {
            return Err("a sender ID does not find its queue".into());
        }
        let mut messages = Vec::new();
        for message in queue.messages().into_iter().flatten() {
            let sent = match &message.content {
                Content::Quota => None,
                Content::Sent { flags, body } => {
                    let tag = match see_body(disk, shard, *body) {
                        BodySeen::Whole { tag } => tag,
                        BodySeen::Refused if damage_is_fine => u64::MAX,
                        other => return Err(format!("a body is {other:?}")),
                    };
                    Some((flags.notification, tag, body.len()))
                }
            };
            messages.push(ModelMessage { id: message.id, received_secs: message.received_secs, sent });
        }
        let new = NewQueue {
            recipient_id: queue.recipient_id,
            sender_id: queue.sender_id,
            recipient_key: queue.recipient_keys().next().unwrap().clone(),
            delivery_secret: queue.delivery_secret,
            mode: queue.mode,
        };
        let is_suspended = queue.status() == Status::Suspended;
        queues.insert(
            queue.recipient_id,
            ModelQueue {
                new,
                sender_key: queue.sender_key.clone(),
                is_suspended,
                used_day: queue.used_day,
                messages,
            },
        );
    }
    Ok(queues)
}

/// Whether two states are equal but for bodies that were refused.
pub fn same_but_refused(seen: &Queues, expected: &Queues) -> bool {
    let mut seen = seen.clone();
    for (id, queue) in &mut seen {
        let Some(other) = expected.get(id) else { return false };
        for (message, other) in queue.messages.iter_mut().zip(&other.messages) {
            if let (Some((_, tag, _)), Some((_, expected, _))) = (&mut message.sent, &other.sent)
                && *tag == u64::MAX
            {
                *tag = *expected;
            }
        }
    }
    seen == *expected
}

pub fn flags(notification: bool) -> MsgFlags {
    MsgFlags { notification }
}
