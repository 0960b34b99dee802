//! Records applied to a store.

use super::StoredBody;
use super::record::Record;
use crate::id::QueueId;
use crate::message::{Content, Message};
use crate::store::{Party, QueueIx, Store};
use crate::{BodyPlace, Status};

/// A record does not fit the state it is applied to, so something before it is missing or came twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("a record for a queue that is not there")]
    NoQueue,
    #[error("a queue was made whose IDs are in use")]
    DuplicateQueue,
    #[error("a queue was secured again")]
    AlreadySecured,
    #[error("a message left a queue in which it was not the one to leave")]
    NoMessage,
}

/// Applies one record. The messages that left their queue are dropped: their bodies are nobody's any more.
pub fn apply<B: StoredBody>(store: &mut Store<B>, record: Record<BodyPlace>) -> Result<(), Misfit> {
    let find = |store: &Store<B>, queue: &QueueId| -> Result<QueueIx, Misfit> {
        store.find(Party::Recipient, queue).ok_or(Misfit::NoQueue)
    };
    match record {
        Record::Create { new, today } => {
            store.create(new, today).map_err(|_| Misfit::DuplicateQueue)?;
        }
        Record::Secure { queue, key } => {
            let queue = find(store, &queue)?;
            store.secure(queue, key).map_err(|_| Misfit::AlreadySecured)?;
        }
        Record::Suspend { queue } => {
            let queue = find(store, &queue)?;
            store.suspend(queue);
            debug_assert!(store.queue(queue).is_some_and(|queue| queue.status == Status::Suspended));
        }
        Record::Delete { queue } => {
            let queue = find(store, &queue)?;
            store.delete(queue);
        }
        Record::Message { queue, id, received_secs, flags, body } => {
            let queue = find(store, &queue)?;
            let content = Content::Sent { flags, body: B::at(body) };
            store.restore_message(queue, Message { id, received_secs, content });
        }
        Record::Quota { queue, id, received_secs } => {
            let queue = find(store, &queue)?;
            store.restore_message(queue, Message { id, received_secs, content: Content::Quota });
        }
        Record::Take { queue, id } => {
            let queue = find(store, &queue)?;
            store.take_message(queue, &id).ok_or(Misfit::NoMessage)?;
        }
        Record::Expire { queue, through } => {
            let queue = find(store, &queue)?;
            store.take_through(queue, &through).ok_or(Misfit::NoMessage)?;
        }
        Record::Used { queue, today } => {
            let queue = find(store, &queue)?;
            store.mark_used(queue, today);
        }
        Record::Image { .. } => {}
    }
    Ok(())
}
