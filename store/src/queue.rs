//! The record of a queue: "Simplex queue" and "Create queue command" of the protocol text.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::keys::AuthPublicKey;

use crate::id::QueueId;
use crate::message::{Message, MessageQueue};
use crate::store::Party;

/// What a NEW command and the router's random draws make of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewQueue {
    pub recipient_id: QueueId,
    pub sender_id: QueueId,
    pub recipient_key: AuthPublicKey,
    /// Agreed with the recipient; messages are encrypted with it when they are delivered.
    pub delivery_secret: [u8; 32],
    pub mode: Option<QueueMode>,
}

/// A queue with its undelivered messages. `B` is what holds a body.
#[derive(Debug)]
pub struct Queue<B> {
    pub recipient_id: QueueId,
    pub sender_id: QueueId,
    pub recipient_key: AuthPublicKey,
    pub sender_key: Option<AuthPublicKey>,
    pub delivery_secret: [u8; 32],
    pub mode: Option<QueueMode>,
    pub status: Status,
    /// The day of the last use, in days since 1970: no finer time is kept.
    pub used_day: u32,
    pub(crate) serial: u32,
    /// The neighbours in the list of the bucket; [`NO_PLACE`](crate::store::NO_PLACE) at its ends.
    pub(crate) previous: u32,
    pub(crate) next: u32,
    pub(crate) messages: Option<Box<MessageQueue<B>>>,
}

impl<B> Queue<B> {
    /// Its ID for a party.
    pub fn id(&self, party: Party) -> Option<QueueId> {
        match party {
            Party::Recipient => Some(self.recipient_id),
            Party::Sender => Some(self.sender_id),
        }
    }

    /// The messages, first the one to deliver next.
    pub fn messages(&self) -> Option<&MessageQueue<B>> {
        self.messages.as_deref()
    }

    /// The messages of a queue that was removed.
    pub fn into_messages(self) -> impl Iterator<Item = Message<B>> {
        self.messages.into_iter().flat_map(|messages| messages.into_iter())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Active,
    /// OFF: delivers what it has, accepts nothing.
    Suspended,
}
