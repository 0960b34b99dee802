//! The record of a queue: "Simplex queue" and "Create queue command" of the protocol text.
//!
//! What every queue has stands in [`Queue`]. What few have (a link, a notifier, further keys, services, blocking) stands
//! behind one pointer, so that a plain queue stays small.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::BlockingInfo;
use ringpost_protocol::keys::AuthPublicKey;

use crate::id::{QueueId, ServiceId};
use crate::message::{Message, MessageQueue};
use crate::parts::{Link, NewNotifier, Notifier, Parts};
use crate::store::Party;

/// Keys of a queue's recipients: the count of RKEY is one byte.
pub const RECIPIENT_KEYS_MAX: usize = 255;

/// What a NEW command and the router's random draws make of every queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewQueue {
    pub recipient_id: QueueId,
    pub sender_id: QueueId,
    pub recipient_key: AuthPublicKey,
    /// Agreed with the recipient; messages are encrypted with it when they are delivered.
    pub delivery_secret: [u8; 32],
    pub mode: Option<QueueMode>,
}

/// What a NEW command may make besides. `B` is what holds a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewParts<B> {
    pub link: Option<Link<B>>,
    pub notifier: Option<NewNotifier>,
    pub recipient_service: Option<ServiceId>,
}

impl<B> Default for NewParts<B> {
    fn default() -> Self {
        Self { link: None, notifier: None, recipient_service: None }
    }
}

/// A queue with its undelivered messages. `B` is what holds a body.
#[derive(Debug)]
pub struct Queue<B> {
    pub recipient_id: QueueId,
    pub sender_id: QueueId,
    pub(crate) recipient_key: AuthPublicKey,
    pub sender_key: Option<AuthPublicKey>,
    pub delivery_secret: [u8; 32],
    pub mode: Option<QueueMode>,
    pub(crate) state: State,
    /// The day of the last use, in days since 1970: no finer time is kept. 0: not known.
    pub used_day: u32,
    pub activity: Activity,
    pub(crate) serial: u32,
    /// The neighbours in the list of the bucket; [`NO_PLACE`](crate::store::NO_PLACE) at its ends.
    pub(crate) previous: u32,
    pub(crate) next: u32,
    pub(crate) messages: Option<Box<MessageQueue<B>>>,
    pub(crate) parts: Option<Box<Parts<B>>>,
}

impl<B> Queue<B> {
    /// The messages, first the one to deliver next.
    pub fn messages(&self) -> Option<&MessageQueue<B>> {
        self.messages.as_deref()
    }

    pub fn status(&self) -> Status {
        match self.state {
            State::Active => Status::Active,
            State::Suspended => Status::Suspended,
            State::Blocked => self
                .parts
                .as_ref()
                .and_then(|parts| parts.blocking.as_deref().cloned())
                .map_or(Status::Suspended, Status::Blocked),
        }
    }

    /// The keys whose owners may give the recipient's commands. There is at least one.
    pub fn recipient_keys(&self) -> impl Iterator<Item = &AuthPublicKey> + Clone {
        let more = self.parts.as_ref().map_or(&[][..], |parts| &parts.more_recipient_keys);
        std::iter::once(&self.recipient_key).chain(more)
    }

    pub fn link(&self) -> Option<&Link<B>> {
        self.parts.as_ref()?.link.as_deref()
    }

    pub fn notifier(&self) -> Option<&Notifier> {
        self.parts.as_ref()?.notifier.as_deref()
    }

    /// The service that receives the messages, if one does.
    pub fn recipient_service(&self) -> Option<&ServiceId> {
        self.parts.as_ref()?.recipient_service.as_deref()
    }

    /// The service that is notified, if one is.
    pub fn notifier_service(&self) -> Option<&ServiceId> {
        self.notifier()?.service.as_ref()
    }

    /// Its ID for a party.
    pub fn id(&self, party: Party) -> Option<QueueId> {
        match party {
            Party::Recipient => Some(self.recipient_id),
            Party::Sender => Some(self.sender_id),
            Party::Notifier => self.notifier().map(|notifier| notifier.id),
            Party::Link => self.link().map(|link| link.id),
        }
    }

    /// The bodies of the messages, and the link's.
    pub fn bodies(&self) -> impl Iterator<Item = &B> {
        let messages = self.messages().into_iter().flatten();
        messages.filter_map(Message::body).chain(self.link().map(|link| &link.data))
    }

    /// The messages of a queue that was removed.
    pub fn into_messages(self) -> impl Iterator<Item = Message<B>> {
        self.messages.into_iter().flat_map(|messages| messages.into_iter())
    }

    /// All bodies of a queue that was removed.
    pub fn into_bodies(mut self) -> impl Iterator<Item = B> {
        let link = self.parts.take().and_then(|parts| parts.link).map(|link| link.data);
        self.into_messages().filter_map(Message::into_body).chain(link)
    }
}

/// When messages went through a queue last, in days since 1970; 0: not known. For statistics: it does not outlive the
/// process. A day tells whether a queue was counted in its day, week and month, in less memory than three sets of IDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    pub day: u16,
    /// Of messages that ask for a notification.
    pub notified_day: u16,
}

/// What a queue does with commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Active,
    /// OFF: delivers what it has, accepts nothing.
    Suspended,
    /// By the operator.
    Blocked(BlockingInfo),
}

/// [`Status`] in one byte: the information about blocking stands in the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Active,
    Suspended,
    Blocked,
}
