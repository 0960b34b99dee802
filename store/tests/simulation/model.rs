//! What a router's users know: which queues and services there are, and what is in them.

use std::collections::BTreeMap;

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_store::{
    Link, MessageId, NOTIFICATIONS_MAX, NewNotifier, NewQueue, Notification, QueueId, Record, Service,
    ServiceId, Status,
};

/// What names things that can end, so that they are found in files: 8 bytes, then a tag.
pub const BODY_MARK: [u8; 8] = *b"\xf7BODY\x9e\x01\xc3";
pub const MESSAGE_MARK: [u8; 8] = *b"\xf7MESS\x9e\x02\xc3";
pub const QUEUE_MARK: [u8; 8] = *b"\xf7QUEU\x9e\x03\xc3";
pub const LINK_MARK: [u8; 8] = *b"\xf7LINK\x9e\x04\xc3";
pub const NOTIFIER_MARK: [u8; 8] = *b"\xf7NOTI\x9e\x05\xc3";
pub const NOTE_MARK: [u8; 8] = *b"\xf7NOTE\x9e\x06\xc3";
pub const KEY_MARK: [u8; 8] = *b"\xf7KEYS\x9e\x07\xc3";
pub const MARKS: [[u8; 8]; 7] =
    [BODY_MARK, MESSAGE_MARK, QUEUE_MARK, LINK_MARK, NOTIFIER_MARK, NOTE_MARK, KEY_MARK];

pub fn named(mark: [u8; 8], tag: u64) -> [u8; 24] {
    let mut id = [0x5a; 24];
    id[..8].copy_from_slice(&mark);
    id[8..16].copy_from_slice(&tag.to_le_bytes());
    id
}

/// Every 32 bytes of it name it, so that no block of it can hide.
pub fn named_bytes(mark: [u8; 8], tag: u64, bytes: usize) -> Vec<u8> {
    let mut unit = [0; 32];
    unit[..16].copy_from_slice(&named(mark, tag)[..16]);
    unit[16..24].copy_from_slice(&tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let mut body = unit.repeat(bytes / 32);
    // No part of a name at the end.
    body.resize(bytes, 0x11);
    body
}

pub fn body_of(tag: u64, bytes: usize) -> Vec<u8> {
    named_bytes(BODY_MARK, tag, bytes)
}

/// Of any algorithm.
pub fn named_key(tag: u64) -> AuthPublicKey {
    let bytes = named_bytes(KEY_MARK, tag, 57);
    match tag % 3 {
        0 => AuthPublicKey::Ed448(Box::new(bytes.try_into().unwrap())),
        1 => AuthPublicKey::X25519(bytes[..32].try_into().unwrap()),
        _ => AuthPublicKey::Ed25519(bytes[..32].try_into().unwrap()),
    }
}

/// A body by its tag and length.
pub type Named = (u64, usize);
pub type ModelRecord = Record<Named>;

/// The tag of a body that could not be read where that is fine.
pub const REFUSED: u64 = u64::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelMessage {
    pub id: MessageId,
    pub received_secs: u64,
    /// Flag and body. None: a quota message.
    pub sent: Option<(bool, Named)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelNotifier {
    pub new: NewNotifier,
    pub notifications: Vec<Notification>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelQueue {
    /// As it was made; its key is the first one now.
    pub new: NewQueue,
    pub more_keys: Vec<AuthPublicKey>,
    pub sender_key: Option<AuthPublicKey>,
    pub status: Status,
    pub used_day: u32,
    pub link: Option<Link<Named>>,
    pub notifier: Option<ModelNotifier>,
    pub recipient_service: Option<ServiceId>,
    pub messages: Vec<ModelMessage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub queues: BTreeMap<QueueId, ModelQueue>,
    pub services: BTreeMap<ServiceId, Service<Named>>,
}

impl State {
    fn of(&mut self, queue: &QueueId) -> &mut ModelQueue {
        self.queues.get_mut(queue).expect("the model has the queue")
    }

    fn notifier(&mut self, queue: &QueueId) -> &mut ModelNotifier {
        self.of(queue).notifier.as_mut().expect("the model has the notifier")
    }

    pub fn apply(&mut self, record: &ModelRecord) {
        match record {
            Record::Create { new, today } => {
                let queue = ModelQueue {
                    new: new.clone(),
                    more_keys: Vec::new(),
                    sender_key: None,
                    status: Status::Active,
                    used_day: *today,
                    link: None,
                    notifier: None,
                    recipient_service: None,
                    messages: Vec::new(),
                };
                assert!(self.queues.insert(new.recipient_id, queue).is_none());
            }
            Record::Secure { queue, key } => self.of(queue).sender_key = Some(key.clone()),
            Record::Keys { queue, keys } => {
                let queue = self.of(queue);
                queue.new.recipient_key = keys[0].clone();
                queue.more_keys = keys[1..].to_vec();
            }
            Record::MoreKeys { queue, keys } => self.of(queue).more_keys.extend_from_slice(keys),
            Record::Suspend { queue } => self.of(queue).status = Status::Suspended,
            Record::Block { queue, info } => self.of(queue).status = Status::Blocked(info.clone()),
            Record::Resume { queue } => self.of(queue).status = Status::Active,
            Record::Delete { queue } => assert!(self.queues.remove(queue).is_some()),
            Record::Link { queue, link } => self.of(queue).link = Some(link.clone()),
            Record::LinkGone { queue } => self.of(queue).link = None,
            Record::Notifier { queue, notifier } => {
                let notifier = ModelNotifier { new: notifier.clone(), notifications: Vec::new() };
                self.of(queue).notifier = Some(notifier);
            }
            Record::NotifierGone { queue } => self.of(queue).notifier = None,
            Record::RecipientService { queue, service } => self.of(queue).recipient_service = *service,
            Record::NotifierService { queue, service } => self.notifier(queue).new.service = *service,
            Record::Notification { queue, notification } => {
                let kept = &mut self.notifier(queue).notifications;
                kept.push(notification.clone());
                if kept.len() > NOTIFICATIONS_MAX {
                    kept.remove(0);
                }
            }
            Record::NotificationsTaken { queue, count } => {
                self.notifier(queue).notifications.drain(..usize::from(*count));
            }
            Record::Service { service } => {
                assert!(self.services.insert(service.id, service.clone()).is_none());
            }
            Record::Message { queue, id, received_secs, flags, body } => {
                let sent = Some((flags.notification, *body));
                self.of(queue).messages.push(ModelMessage { id: *id, received_secs: *received_secs, sent });
            }
            Record::Quota { queue, id, received_secs } => {
                let message = ModelMessage { id: *id, received_secs: *received_secs, sent: None };
                self.of(queue).messages.push(message);
            }
            Record::Take { queue, id } => assert_eq!(self.of(queue).messages.remove(0).id, *id),
            Record::Expire { queue, through } => {
                let messages = &mut self.of(queue).messages;
                let count = messages.iter().position(|message| message.id == *through).unwrap() + 1;
                messages.drain(..count);
            }
            Record::Used { queue, today } => self.of(queue).used_day = *today,
            Record::Image { .. } => {}
        }
    }

    /// The queues and services that are where `is_here` says.
    pub fn part(
        &self,
        queue_is_here: impl Fn(&QueueId) -> bool,
        service_is_here: impl Fn(&Service<Named>) -> bool,
    ) -> Self {
        let queues = self.queues.iter().filter(|(id, _)| queue_is_here(id));
        let services = self.services.iter().filter(|(_, service)| service_is_here(service));
        Self {
            queues: queues.map(|(id, queue)| (*id, queue.clone())).collect(),
            services: services.map(|(id, service)| (*id, service.clone())).collect(),
        }
    }

    pub fn extend(&mut self, other: Self) {
        self.queues.extend(other.queues);
        self.services.extend(other.services);
    }

    /// The first 16 bytes of every name that is in use.
    pub fn names(&self) -> impl Iterator<Item = Vec<u8>> {
        let bodies = self.services.values().map(|service| service.chain.0);
        let mut names: Vec<Vec<u8>> = bodies.map(|tag| named(BODY_MARK, tag).to_vec()).collect();
        for queue in self.queues.values() {
            names.push(queue.new.recipient_id.to_vec());
            let keys = [&queue.new.recipient_key].into_iter().chain(&queue.more_keys);
            names.extend(keys.chain(&queue.sender_key).map(|key| key.raw().to_vec()));
            if let Some(link) = &queue.link {
                names.extend([link.id, named(BODY_MARK, link.data.0)].map(|name| name.to_vec()));
            }
            if let Some(notifier) = &queue.notifier {
                names.extend([notifier.new.id.to_vec(), notifier.new.key.raw().to_vec()]);
                names.extend(notifier.notifications.iter().map(|note| note.message_id.to_vec()));
            }
            for message in &queue.messages {
                names.push(message.id.to_vec());
                names.extend(message.sent.map(|(_, body)| named(BODY_MARK, body.0).to_vec()));
            }
        }
        names.into_iter().map(|mut name| {
            name.truncate(16);
            name
        })
    }

    fn bodies_mut(&mut self) -> impl Iterator<Item = &mut Named> {
        self.queues
            .values_mut()
            .flat_map(|queue| {
                let sent = queue.messages.iter_mut().filter_map(|message| message.sent.as_mut());
                sent.map(|(_, body)| body).chain(queue.link.as_mut().map(|link| &mut link.data))
            })
            .chain(self.services.values_mut().map(|service| &mut service.chain))
    }

    /// Whether two states are equal but for bodies that were refused.
    pub fn is_same_but_refused(&self, expected: &Self) -> bool {
        let (mut found, mut known) = (self.clone(), expected.clone());
        for (body, known) in found.bodies_mut().zip(known.bodies_mut()) {
            if body.0 == REFUSED {
                body.0 = known.0;
            }
        }
        found == *expected
    }
}

/// Says what is not as it should be.
pub fn difference(expected: &State, found: &State) -> String {
    for (id, queue) in &expected.queues {
        let tag = u64::from_le_bytes(id[8..16].try_into().unwrap());
        match found.queues.get(id) {
            None => return format!("queue {tag} is missing"),
            Some(other) if other != queue => {
                // From the first line on that is not the same.
                let [known, other] = [queue, other].map(|queue| short(&format!("{queue:?}")));
                let same = known.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
                let part =
                    |text: &str| text.chars().skip(same.saturating_sub(40)).take(200).collect::<String>();
                return format!("queue {tag} has {:?} instead of {:?}", part(&other), part(&known));
            }
            Some(_) => {}
        }
    }
    for (id, service) in &expected.services {
        if found.services.get(id) != Some(service) {
            let found = short(&format!("{:?}", found.services.get(id)));
            return format!("a service is {found} instead of {}", short(&format!("{service:?}")));
        }
    }
    let [known, found] = [expected, found].map(|state| (state.queues.len(), state.services.len()));
    format!("{known:?} queues and services are known, {found:?} found")
}

/// Without the filling of IDs and keys.
fn short(text: &str) -> String {
    text.replace(", 90", "").replace(", 17", "").replace(", 5, 5", "")
}

pub fn flags(notification: bool) -> MsgFlags {
    MsgFlags { notification }
}
