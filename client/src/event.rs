//! What a router sends on its own account: messages, and the end of subscriptions.

use ringpost_protocol::command::{MsgFlags, ServiceSubs};
use ringpost_protocol::crypto::OpenError;
use ringpost_protocol::crypto::boxes::open_in_place;
use ringpost_protocol::crypto::delivery::{Delivered, DeliveredKind, MsgId};
use ringpost_protocol::encoding::unpad;
use ringpost_protocol::limits::{PAD_LENGTH_BYTES, TAG_BYTES};
use tokio::sync::mpsc;

use crate::buffer::Buffer;
use crate::error::Disconnect;
use crate::id::EntityId;
use crate::queue::RecipientQueue;

/// Something that happened to a subscribed queue or to the connection.
#[derive(Debug)]
pub enum Event {
    Message(Message),
    /// Another connection subscribed to the queue.
    End {
        queue: EntityId,
    },
    /// The queue was deleted from another connection.
    Deleted {
        queue: EntityId,
    },
    /// Another connection of this service subscribed to its queues, which were these.
    ServiceEnd(ServiceSubs),
    /// All messages were sent that waited when the service subscribed to its queues. From version 19.
    ServiceDelivered,
    /// The last event of every connection.
    Disconnected(Disconnect),
}

/// The events of one connection, in the order in which they came.
///
/// The connection stops reading when too many events wait here: see
/// [`ClientConfig::events_max`](crate::ClientConfig::events_max) and
/// [`ClientConfig::events_before_response_max`](crate::ClientConfig::events_before_response_max). Then commands get no
/// responses either, so whoever subscribes must receive. A connection that is only used to send may drop it: then events
/// are discarded.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; none after [`Event::Disconnected`]. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event, if one is waiting.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}

/// A delivered message, still encrypted by the router for the recipient.
#[derive(Debug)]
pub struct Message {
    /// The recipient's ID of the queue.
    pub queue: EntityId,
    /// To be acknowledged.
    pub id: MsgId,
    pub(crate) body: Buffer,
}

/// A message after [`Message::open`].
#[derive(Debug)]
pub struct Received {
    pub queue: EntityId,
    pub id: MsgId,
    /// When the router received it, or first refused one: seconds since 1970-01-01.
    pub timestamp_secs: i64,
    content: Content,
    clear: Buffer,
}

#[derive(Debug)]
enum Content {
    Message { flags: MsgFlags, body_start: usize, body_end: usize },
    Quota,
}

impl Message {
    /// Decrypts the message in place with the secret of the queue that it came for.
    pub fn open(self, queue: &RecipientQueue) -> Result<Received, OpenError> {
        let Self { queue: entity, id, body: mut clear } = self;
        open_in_place(&queue.box_key, &id, &mut clear)?;
        let padded = clear.get(TAG_BYTES..).unwrap_or_default();
        let content = unpad(padded).map_err(|_| OpenError::Padding)?;
        let Delivered { timestamp_secs, kind } = Delivered::parse(content)?;
        let content = match kind {
            DeliveredKind::Message { flags, body } => {
                // The body is the end of the content, which follows tag and length.
                let body_end = TAG_BYTES + PAD_LENGTH_BYTES + content.len();
                Content::Message { flags, body_start: body_end - body.len(), body_end }
            }
            DeliveredKind::Quota => Content::Quota,
        };
        Ok(Received { queue: entity, id, timestamp_secs, content, clear })
    }
}

impl Received {
    /// What the sender sent. None for the notice that the queue was full and messages were refused.
    pub fn body(&self) -> Option<&[u8]> {
        match self.content {
            Content::Message { body_start, body_end, .. } => self.clear.get(body_start..body_end),
            Content::Quota => None,
        }
    }

    /// The flags of the SEND.
    pub fn flags(&self) -> Option<MsgFlags> {
        match self.content {
            Content::Message { flags, .. } => Some(flags),
            Content::Quota => None,
        }
    }
}
