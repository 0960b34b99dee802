//! Records: one for each change of a shard's state.
//!
//! Bodies (of messages, the data of links, the certificates of services) do not stand in the index pages, where others'
//! records would keep their bytes on the disk: each has blocks of its own, and its record has its length and CRC32C.
//! `record_codec` has the bytes.

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::error::BlockingInfo;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::limits::{BLOCK_BYTES, SEND_BODY_BYTES_MAX};
use smallvec::SmallVec;

use super::codec::Malformed;
use crate::id::{QueueId, ServiceId};
use crate::message::MessageId;
use crate::parts::{Link, NewNotifier, Notification};
use crate::queue::{NewParts, NewQueue};
use crate::service::Service;

/// The longest body. Whatever arrives in one block of a connection fits: messages (at most 16,088 bytes), the data of a
/// link (about 15,900), a chain of certificates.
pub const BODY_BYTES_MAX: usize = BLOCK_BYTES;

const _: () = assert!(SEND_BODY_BYTES_MAX <= BODY_BYTES_MAX);

/// Keys of one record, so that it fits into an index page.
pub const RECORD_KEYS_MAX: usize = 64;

/// What happened to a queue. `T` stands for a body: its bytes on the way in, its size and checksum in a page, its place
/// after a replay. Queues are named by their recipient ID.
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
    /// The recipient's keys are these, and those of the `MoreKeys` of the same batch.
    Keys {
        queue: QueueId,
        /// From 1 to [`RECORD_KEYS_MAX`].
        keys: Vec<AuthPublicKey>,
    },
    MoreKeys {
        queue: QueueId,
        keys: Vec<AuthPublicKey>,
    },
    Suspend {
        queue: QueueId,
    },
    Block {
        queue: QueueId,
        info: BlockingInfo,
    },
    /// The queue is active again: the operator unblocked it.
    Resume {
        queue: QueueId,
    },
    Delete {
        queue: QueueId,
    },
    /// A new link, or other user data for the one that is there.
    Link {
        queue: QueueId,
        link: Link<T>,
    },
    LinkGone {
        queue: QueueId,
    },
    /// The notifier is this one, whoever it was before.
    Notifier {
        queue: QueueId,
        notifier: NewNotifier,
    },
    NotifierGone {
        queue: QueueId,
    },
    RecipientService {
        queue: QueueId,
        service: Option<ServiceId>,
    },
    NotifierService {
        queue: QueueId,
        service: Option<ServiceId>,
    },
    /// A new service. Its hash is that of the certificate's fingerprint.
    Service {
        service: Service<T>,
    },
    /// Kept for a notifier who is not there. The oldest is dropped if there are too many.
    Notification {
        queue: QueueId,
        notification: Notification,
    },
    /// The oldest so many notifications left: they were sent, or expired.
    NotificationsTaken {
        queue: QueueId,
        count: u8,
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

/// A body as its record describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyMeta {
    pub bytes: u16,
    pub crc: u32,
}

impl BodyMeta {
    /// None if the body is longer than any that the protocol allows.
    pub fn of(body: &[u8]) -> Option<Self> {
        let bytes = u16::try_from(body.len()).ok().filter(|_| body.len() <= BODY_BYTES_MAX)?;
        Some(Self { bytes, crc: crc32c::crc32c(body) })
    }

    pub(super) fn checked(self) -> Result<Self, Malformed> {
        if usize::from(self.bytes) <= BODY_BYTES_MAX { Ok(self) } else { Err(Malformed) }
    }
}

impl<T: AsRef<[u8]> + Clone> Record<T> {
    /// The record as it is appended.
    pub fn as_bytes(&self) -> Record<&[u8]> {
        match self {
            Self::Message { queue, id, received_secs, flags, body } => Record::Message {
                queue: *queue,
                id: *id,
                received_secs: *received_secs,
                flags: *flags,
                body: body.as_ref(),
            },
            Self::Link { queue, link } => {
                let Link { id, fixed_bytes, fixed_hash, ref data } = *link;
                Record::Link {
                    queue: *queue,
                    link: Link { id, fixed_bytes, fixed_hash, data: data.as_ref() },
                }
            }
            Self::Service { service } => {
                let Service { id, role, fingerprint, created_day, ref chain } = *service;
                let chain = chain.as_ref();
                Record::Service { service: Service { id, role, fingerprint, created_day, chain } }
            }
            // They have no body.
            other => other.clone().map_body(|_| &[][..]),
        }
    }
}

impl<T> Record<T> {
    /// A new queue with its parts, to be appended as one batch.
    pub fn creation(new: NewQueue, parts: NewParts<T>, today: u32) -> SmallVec<[Self; 4]> {
        let queue = new.recipient_id;
        let NewParts { link, notifier, recipient_service } = parts;
        let mut records = SmallVec::new();
        records.push(Self::Create { new, today });
        records.extend(link.map(|link| Self::Link { queue, link }));
        records.extend(notifier.map(|notifier| Self::Notifier { queue, notifier }));
        records.extend(
            recipient_service.map(|service| Self::RecipientService { queue, service: Some(service) }),
        );
        records
    }

    /// A list of recipient keys, to be appended as one batch.
    pub fn recipient_keys(queue: QueueId, keys: &[AuthPublicKey]) -> SmallVec<[Self; 1]> {
        let mut lists = keys.chunks(RECORD_KEYS_MAX);
        let first = lists.next().map(|keys| Self::Keys { queue, keys: keys.to_vec() });
        let more = lists.map(|keys| Self::MoreKeys { queue, keys: keys.to_vec() });
        first.into_iter().chain(more).collect()
    }

    /// The body that belongs to the record, if it has one.
    pub fn body(&self) -> Option<&T> {
        match self {
            Self::Message { body, .. } => Some(body),
            Self::Link { link, .. } => Some(&link.data),
            Self::Service { service } => Some(&service.chain),
            _ => None,
        }
    }

    /// The same record with another form of the body.
    pub fn map_body<U>(self, map: impl FnOnce(T) -> U) -> Record<U> {
        match self {
            Self::Message { queue, id, received_secs, flags, body } => {
                Record::Message { queue, id, received_secs, flags, body: map(body) }
            }
            Self::Link { queue, link } => Record::Link { queue, link: link.map(map) },
            Self::Service { service } => Record::Service { service: service.map(map) },
            Self::Create { new, today } => Record::Create { new, today },
            Self::Secure { queue, key } => Record::Secure { queue, key },
            Self::Keys { queue, keys } => Record::Keys { queue, keys },
            Self::MoreKeys { queue, keys } => Record::MoreKeys { queue, keys },
            Self::Suspend { queue } => Record::Suspend { queue },
            Self::Block { queue, info } => Record::Block { queue, info },
            Self::Resume { queue } => Record::Resume { queue },
            Self::Delete { queue } => Record::Delete { queue },
            Self::LinkGone { queue } => Record::LinkGone { queue },
            Self::Notifier { queue, notifier } => Record::Notifier { queue, notifier },
            Self::NotifierGone { queue } => Record::NotifierGone { queue },
            Self::RecipientService { queue, service } => Record::RecipientService { queue, service },
            Self::NotifierService { queue, service } => Record::NotifierService { queue, service },
            Self::Notification { queue, notification } => Record::Notification { queue, notification },
            Self::NotificationsTaken { queue, count } => Record::NotificationsTaken { queue, count },
            Self::Quota { queue, id, received_secs } => Record::Quota { queue, id, received_secs },
            Self::Take { queue, id } => Record::Take { queue, id },
            Self::Expire { queue, through } => Record::Expire { queue, through },
            Self::Used { queue, today } => Record::Used { queue, today },
            Self::Image { blocks } => Record::Image { blocks },
        }
    }

    /// Whether the record adds to what is kept. The others are accepted longer when space runs out: they free some.
    pub fn grows(&self) -> bool {
        !matches!(
            self,
            Self::Delete { .. }
                | Self::Take { .. }
                | Self::Expire { .. }
                | Self::Suspend { .. }
                | Self::LinkGone { .. }
                | Self::NotifierGone { .. }
                | Self::NotificationsTaken { .. }
        )
    }

    /// Whether something on the disk is history, or may be, once this record is. A body that is replaced need not be
    /// told here: it is erased.
    pub fn ends_something(&self) -> bool {
        !matches!(
            self,
            Self::Create { .. }
                | Self::Secure { .. }
                | Self::MoreKeys { .. }
                | Self::Suspend { .. }
                | Self::Block { .. }
                | Self::Link { .. }
                | Self::Service { .. }
                | Self::Message { .. }
                | Self::Quota { .. }
                | Self::Image { .. }
        )
    }
}
