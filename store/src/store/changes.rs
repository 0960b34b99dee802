//! What changes of a queue besides its messages.

use ringpost_protocol::error::BlockingInfo;
use ringpost_protocol::keys::AuthPublicKey;

use super::{Party, QueueIx, Store};
use crate::id::ServiceId;
use crate::parts::{Link, NewNotifier, Notification, Notifier, Parts};
use crate::queue::{Queue, RECIPIENT_KEYS_MAX, State};
use crate::service::ServiceParty;

/// The queue is secured with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is secured with another key")]
pub struct KeyConflict;

/// Why a queue was not changed. It is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no such queue")]
    NoQueue,
    #[error("the ID is in use")]
    DuplicateId,
    #[error("the queue has another link, or other fixed data")]
    OtherLink,
    #[error("the queue has no notifier")]
    NoNotifier,
    #[error("a queue has from 1 to {RECIPIENT_KEYS_MAX} recipient keys")]
    KeyCount,
    #[error("there are fewer notifications")]
    NoNotifications,
}

impl<B> Store<B> {
    fn change(&mut self, ix: QueueIx) -> Result<&mut Queue<B>, ChangeError> {
        self.queue_mut(ix).ok_or(ChangeError::NoQueue)
    }

    /// Changes what few queues have.
    fn change_parts<T>(
        &mut self,
        ix: QueueIx,
        change: impl FnOnce(&mut Parts<B>) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let queue = self.change(ix)?;
        let parts = queue.parts.get_or_insert_default();
        let result = change(parts);
        if parts.is_empty() {
            queue.parts = None;
        }
        result
    }

    /// KEY and SKEY: repeating the same key is no conflict.
    pub fn secure(&mut self, ix: QueueIx, key: AuthPublicKey) -> Result<(), KeyConflict> {
        let queue = self.queue_mut(ix).ok_or(KeyConflict)?;
        match &queue.sender_key {
            Some(present) if *present != key => Err(KeyConflict),
            Some(_) => Ok(()),
            None => {
                queue.sender_key = Some(key);
                Ok(())
            }
        }
    }

    /// RKEY: these keys instead of those before.
    pub fn set_recipient_keys(
        &mut self,
        ix: QueueIx,
        keys: impl IntoIterator<Item = AuthPublicKey>,
    ) -> Result<(), ChangeError> {
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(ChangeError::KeyCount)?;
        let more: Box<[AuthPublicKey]> = keys.collect();
        if more.len() >= RECIPIENT_KEYS_MAX {
            return Err(ChangeError::KeyCount);
        }
        self.change(ix)?.recipient_key = first;
        self.change_parts(ix, |parts| {
            parts.more_recipient_keys = more;
            Ok(())
        })
    }

    /// Adds keys to those that are there: a long list comes in several records.
    pub fn add_recipient_keys(
        &mut self,
        ix: QueueIx,
        keys: impl IntoIterator<Item = AuthPublicKey>,
    ) -> Result<(), ChangeError> {
        self.change_parts(ix, |parts| {
            let more: Box<[AuthPublicKey]> = parts.more_recipient_keys.iter().cloned().chain(keys).collect();
            if more.len() >= RECIPIENT_KEYS_MAX {
                return Err(ChangeError::KeyCount);
            }
            parts.more_recipient_keys = more;
            Ok(())
        })
    }

    /// OFF.
    pub fn suspend(&mut self, ix: QueueIx) {
        // A queue that is not there accepts nothing either.
        let _ = self.set_state(ix, State::Suspended, None);
    }

    /// The operator blocks the queue, whatever its status was; blocking again replaces the reason.
    pub fn block(&mut self, ix: QueueIx, info: BlockingInfo) -> Result<(), ChangeError> {
        self.set_state(ix, State::Blocked, Some(Box::new(info)))
    }

    /// The queue becomes active, whatever its status was.
    pub fn unblock(&mut self, ix: QueueIx) -> Result<(), ChangeError> {
        self.set_state(ix, State::Active, None)
    }

    fn set_state(
        &mut self,
        ix: QueueIx,
        state: State,
        blocking: Option<Box<BlockingInfo>>,
    ) -> Result<(), ChangeError> {
        let queue = self.change(ix)?;
        queue.state = state;
        if blocking.is_none() && queue.parts.is_none() {
            return Ok(());
        }
        self.change_parts(ix, |parts| {
            parts.blocking = blocking;
            Ok(())
        })
    }

    /// Notes that the queue was used on this day. True if that is news.
    pub fn mark_used(&mut self, ix: QueueIx, today: u32) -> bool {
        match self.queue_mut(ix) {
            Some(queue) if queue.used_day != today => {
                queue.used_day = today;
                true
            }
            _ => false,
        }
    }

    /// LSET: gives the queue a link, or its link other user data. Gives back what was there.
    ///
    /// Whether another queue has the link is not looked at. Links lie in any partition, so that takes all shards; and while
    /// the logs of several shards are replayed, one after the other, a link that moved between them stands here twice.
    pub fn set_link(&mut self, ix: QueueIx, link: Link<B>) -> Result<Option<Link<B>>, ChangeError> {
        let id = link.id;
        let present = self.queue(ix).ok_or(ChangeError::NoQueue)?.link();
        if present.is_some_and(|present| !link.is_same_but_user_data(present)) {
            return Err(ChangeError::OtherLink);
        }
        let is_new = present.is_none();
        let former = self.change_parts(ix, |parts| Ok(parts.link.replace(Box::new(link))))?;
        if is_new {
            self.insert_index(Party::Link, &id, ix.place);
        }
        Ok(former.map(|former| *former))
    }

    /// LDEL: none if there was no link.
    pub fn remove_link(&mut self, ix: QueueIx) -> Result<Option<Link<B>>, ChangeError> {
        let removed = self.change_parts(ix, |parts| Ok(parts.link.take()))?;
        if let Some(link) = &removed {
            self.remove_index(Party::Link, &link.id, ix.place);
        }
        Ok(removed.map(|link| *link))
    }

    /// The data of a link, for changing where it is.
    pub fn link_data_mut(&mut self, ix: QueueIx) -> Option<&mut B> {
        let link = self.queue_mut(ix)?.parts.as_mut()?.link.as_mut()?;
        Some(&mut link.data)
    }

    /// NKEY: gives the queue a notifier. Gives back the former one, with its notifications.
    pub fn set_notifier(
        &mut self,
        ix: QueueIx,
        notifier: NewNotifier,
    ) -> Result<Option<Notifier>, ChangeError> {
        let (id, service) = (notifier.id, notifier.service);
        if self.is_taken(Party::Notifier, &id) {
            return Err(ChangeError::DuplicateId);
        }
        let former = self.remove_notifier(ix)?;
        self.change_parts(ix, |parts| {
            parts.notifier = Some(Box::new(notifier.into()));
            Ok(())
        })?;
        self.insert_index(Party::Notifier, &id, ix.place);
        if let Some(service) = &service {
            self.services.count(ServiceParty::Notifier, service, &id);
        }
        Ok(former)
    }

    /// NDEL: none if there was no notifier.
    pub fn remove_notifier(&mut self, ix: QueueIx) -> Result<Option<Notifier>, ChangeError> {
        let removed = self.change_parts(ix, |parts| Ok(parts.notifier.take()))?;
        if let Some(notifier) = &removed {
            self.remove_index(Party::Notifier, &notifier.id, ix.place);
            if let Some(service) = &notifier.service {
                self.services.discount(ServiceParty::Notifier, service, &notifier.id);
            }
        }
        Ok(removed.map(|notifier| *notifier))
    }

    /// The service that receives the queue's messages from now on; none: its recipient does. Gives back the former one.
    pub fn set_recipient_service(
        &mut self,
        ix: QueueIx,
        service: Option<ServiceId>,
    ) -> Result<Option<ServiceId>, ChangeError> {
        let id = self.change(ix)?.recipient_id;
        let former = self.change_parts(ix, |parts| {
            Ok(std::mem::replace(&mut parts.recipient_service, service.map(Box::new)))
        })?;
        if let Some(former) = &former {
            self.services.discount(ServiceParty::Recipient, former, &id);
        }
        if let Some(service) = &service {
            self.services.count(ServiceParty::Recipient, service, &id);
        }
        Ok(former.map(|former| *former))
    }

    /// The service that is notified from now on; none: the notifier is. Gives back the former one.
    pub fn set_notifier_service(
        &mut self,
        ix: QueueIx,
        service: Option<ServiceId>,
    ) -> Result<Option<ServiceId>, ChangeError> {
        let (id, former) = self.change_notifier(ix, |notifier| {
            Ok((notifier.id, std::mem::replace(&mut notifier.service, service)))
        })?;
        if let Some(former) = &former {
            self.services.discount(ServiceParty::Notifier, former, &id);
        }
        if let Some(service) = &service {
            self.services.count(ServiceParty::Notifier, service, &id);
        }
        Ok(former)
    }

    fn change_notifier<T>(
        &mut self,
        ix: QueueIx,
        change: impl FnOnce(&mut Notifier) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let queue = self.change(ix)?;
        let notifier = queue.parts.as_mut().and_then(|parts| parts.notifier.as_mut());
        change(notifier.ok_or(ChangeError::NoNotifier)?)
    }

    /// Keeps a notification until the notifier is there. Gives back the oldest if it was dropped for this one.
    pub fn note_notification(
        &mut self,
        ix: QueueIx,
        notification: Notification,
    ) -> Result<Option<Notification>, ChangeError> {
        self.change_notifier(ix, |notifier| Ok(notifier.note(notification)))
    }

    /// Takes the oldest so many notifications.
    pub fn take_notifications(
        &mut self,
        ix: QueueIx,
        count: usize,
    ) -> Result<Vec<Notification>, ChangeError> {
        self.change_notifier(ix, |notifier| notifier.take(count).ok_or(ChangeError::NoNotifications))
    }

    /// Drops the notifications of messages received before this time. How many there are says
    /// [`Notifier::count_before`].
    pub fn expire_notifications(
        &mut self,
        ix: QueueIx,
        before_secs: u64,
    ) -> Result<Vec<Notification>, ChangeError> {
        self.change_notifier(ix, |notifier| {
            let count = notifier.count_before(before_secs);
            notifier.take(count).ok_or(ChangeError::NoNotifications)
        })
    }
}
