//! Records applied to a store: by recovery, and by whoever serves the queues, after the append.

use smallvec::SmallVec;

use super::record::Record;
use crate::id::QueueId;
use crate::message::{Content, Message};
use crate::store::{ChangeError, Party, QueueIx, Store};

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
    #[error("a service was made whose ID or certificate is in use")]
    DuplicateService,
    #[error("a queue was changed in a way that it cannot be: {0}")]
    Change(#[from] ChangeError),
}

/// What a record did.
#[derive(Debug)]
pub struct Applied<B> {
    /// The queue it was about. After a Delete nothing is there any more.
    pub queue: Option<QueueIx>,
    /// Bodies that are nobody's any more.
    pub bodies: SmallVec<[B; 1]>,
}

/// Applies one record.
pub fn apply<B>(store: &mut Store<B>, record: Record<B>) -> Result<Applied<B>, Misfit> {
    let find = |store: &Store<B>, queue: &QueueId| -> Result<QueueIx, Misfit> {
        store.find(Party::Recipient, queue).ok_or(Misfit::NoQueue)
    };
    let mut bodies = SmallVec::new();
    let queue = match record {
        Record::Create { new, today } => store.create(new, today).map_err(|_| Misfit::DuplicateQueue)?,
        Record::Secure { queue, key } => {
            let queue = find(store, &queue)?;
            store.secure(queue, key).map_err(|_| Misfit::AlreadySecured)?;
            queue
        }
        Record::Keys { queue, keys } => {
            let queue = find(store, &queue)?;
            store.set_recipient_keys(queue, keys)?;
            queue
        }
        Record::MoreKeys { queue, keys } => {
            let queue = find(store, &queue)?;
            store.add_recipient_keys(queue, keys)?;
            queue
        }
        Record::Suspend { queue } => {
            let queue = find(store, &queue)?;
            store.suspend(queue);
            queue
        }
        Record::Block { queue, info } => {
            let queue = find(store, &queue)?;
            store.block(queue, info)?;
            queue
        }
        Record::Resume { queue } => {
            let queue = find(store, &queue)?;
            store.unblock(queue)?;
            queue
        }
        Record::Delete { queue } => {
            let queue = find(store, &queue)?;
            bodies.extend(store.delete(queue).into_iter().flat_map(crate::Queue::into_bodies));
            queue
        }
        Record::Link { queue, link } => {
            let queue = find(store, &queue)?;
            bodies.extend(store.set_link(queue, link)?.map(|former| former.data));
            queue
        }
        Record::LinkGone { queue } => {
            let queue = find(store, &queue)?;
            bodies.extend(store.remove_link(queue)?.map(|link| link.data));
            queue
        }
        Record::Notifier { queue, notifier } => {
            let queue = find(store, &queue)?;
            store.set_notifier(queue, notifier)?;
            queue
        }
        Record::NotifierGone { queue } => {
            let queue = find(store, &queue)?;
            store.remove_notifier(queue)?;
            queue
        }
        Record::RecipientService { queue, service } => {
            let queue = find(store, &queue)?;
            store.set_recipient_service(queue, service)?;
            queue
        }
        Record::NotifierService { queue, service } => {
            let queue = find(store, &queue)?;
            store.set_notifier_service(queue, service)?;
            queue
        }
        Record::Notification { queue, notification } => {
            let queue = find(store, &queue)?;
            store.note_notification(queue, notification)?;
            queue
        }
        Record::NotificationsTaken { queue, count } => {
            let queue = find(store, &queue)?;
            store.take_notifications(queue, usize::from(count))?;
            queue
        }
        Record::Message { queue, id, received_secs, flags, body } => {
            let queue = find(store, &queue)?;
            let content = Content::Sent { flags, body };
            store.restore_message(queue, Message { id, received_secs, content });
            queue
        }
        Record::Quota { queue, id, received_secs } => {
            let queue = find(store, &queue)?;
            store.restore_message(queue, Message { id, received_secs, content: Content::Quota });
            queue
        }
        Record::Take { queue, id } => {
            let queue = find(store, &queue)?;
            let taken = store.take_message(queue, &id).ok_or(Misfit::NoMessage)?;
            bodies.extend(taken.into_body());
            queue
        }
        Record::Expire { queue, through } => {
            let queue = find(store, &queue)?;
            let taken = store.take_through(queue, &through).ok_or(Misfit::NoMessage)?;
            bodies.extend(taken.into_iter().filter_map(Message::into_body));
            queue
        }
        Record::Used { queue, today } => {
            let queue = find(store, &queue)?;
            store.mark_used(queue, today);
            queue
        }
        Record::Service { service } => {
            store.add_service(service).map_err(|_| Misfit::DuplicateService)?;
            return Ok(Applied { queue: None, bodies });
        }
        Record::Image { .. } => return Ok(Applied { queue: None, bodies }),
    };
    Ok(Applied { queue: Some(queue), bodies })
}
