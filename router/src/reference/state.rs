//! What the changes in a store log come to, line by line as the reference applies them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{Change, Id, Link, Notifier, QueueRecord, QueueStatus, ServiceParty, ServiceRecord, StoreLine};

/// A queue that is left when all lines were applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    pub recipient_id: Id,
    /// The line that made the queue, from 1.
    pub line: u64,
    pub record: Box<QueueRecord>,
}

/// A line that could be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Done,
    /// Nothing is lost by passing the line over: this is why.
    NoEffect(&'static str),
}

pub const QUEUE_DELETED: &str = "the queue was deleted before";

/// Why a line cannot be applied. The reference passes such lines over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such queue")]
    NoQueue,
    #[error("another queue has this {0}")]
    Duplicate(&'static str),
    #[error("the queue is secured with another key")]
    OtherSenderKey,
    #[error("the queue has another link, or other fixed link data")]
    OtherLink,
    #[error("the queue has no notifier")]
    NoNotifier,
    #[error("there is such a service with another certificate or role")]
    OtherService,
}

/// Places of queues. The hash has a random seed: IDs that come from clients do not crowd it.
type ById = HashMap<Id, u32, foldhash::fast::RandomState>;

/// Queues and services. Lines are applied in the order of the file.
#[derive(Debug, Default)]
pub struct State {
    /// In the order in which they were made; None for those that were deleted.
    queues: Vec<Option<QueueState>>,
    /// Deleted queues are still named here.
    by_recipient: ById,
    by_sender: ById,
    by_notifier: ById,
    by_link: ById,
    services: Vec<ServiceRecord>,
}

impl State {
    /// Applies line `number`.
    pub fn apply(&mut self, number: u64, line: StoreLine) -> Result<Applied, Refused> {
        match line {
            StoreLine::Service(service) => self.add_service(*service),
            StoreLine::Queue { recipient_id, change: Change::Create(record) } => {
                self.create(QueueState { recipient_id, line: number, record })
            }
            StoreLine::Queue { recipient_id, change } => self.change(&recipient_id, change),
        }
    }

    /// A queue that was not deleted; `Some(None)` if it was.
    pub fn queue(&self, recipient_id: &Id) -> Option<Option<&QueueState>> {
        let place = *self.by_recipient.get(recipient_id)?;
        Some(self.queues.get(place as usize)?.as_ref())
    }

    /// The queue that has a notifier with this ID now.
    pub fn queue_of_notifier(&self, notifier_id: &Id) -> Option<&QueueState> {
        let place = *self.by_notifier.get(notifier_id)?;
        self.queues.get(place as usize)?.as_ref()
    }

    pub fn services(&self) -> &[ServiceRecord] {
        &self.services
    }

    /// In the order in which they were made.
    pub fn queues(&self) -> impl Iterator<Item = &QueueState> {
        self.queues.iter().flatten()
    }

    /// In the order in which they were made; memory is given back on the way.
    pub fn into_queues(self) -> impl Iterator<Item = QueueState> {
        self.queues.into_iter().flatten()
    }

    fn add_service(&mut self, service: ServiceRecord) -> Result<Applied, Refused> {
        let alike =
            |known: &&ServiceRecord| known.id == service.id || known.fingerprint == service.fingerprint;
        match self.services.iter().find(alike) {
            None => {
                self.services.push(service);
                Ok(Applied::Done)
            }
            Some(known)
                if (known.id, known.fingerprint, known.role)
                    == (service.id, service.fingerprint, service.role) =>
            {
                Ok(Applied::NoEffect("the service is there already"))
            }
            Some(_) => Err(Refused::OtherService),
        }
    }

    fn create(&mut self, queue: QueueState) -> Result<Applied, Refused> {
        let record = &queue.record;
        // Places are below 2^32: no file of this format comes near.
        let place = u32::try_from(self.queues.len()).unwrap_or(u32::MAX);
        if self.by_sender.contains_key(&record.sender_id) {
            return Err(Refused::Duplicate("sender ID"));
        }
        if record.notifier.as_ref().is_some_and(|notifier| self.by_notifier.contains_key(&notifier.id)) {
            return Err(Refused::Duplicate("notifier ID"));
        }
        if record.link.as_ref().is_some_and(|link| self.by_link.contains_key(&link.id)) {
            return Err(Refused::Duplicate("link ID"));
        }
        match self.by_recipient.entry(queue.recipient_id) {
            Entry::Occupied(_) => return Err(Refused::Duplicate("recipient ID, or had it")),
            Entry::Vacant(entry) => entry.insert(place),
        };
        self.by_sender.insert(record.sender_id, place);
        if let Some(notifier) = &record.notifier {
            self.by_notifier.insert(notifier.id, place);
        }
        if let Some(link) = &record.link {
            self.by_link.insert(link.id, place);
        }
        self.queues.push(Some(queue));
        Ok(Applied::Done)
    }

    fn change(&mut self, recipient_id: &Id, change: Change) -> Result<Applied, Refused> {
        let place = *self.by_recipient.get(recipient_id).ok_or(Refused::NoQueue)?;
        let slot = self.queues.get_mut(place as usize).ok_or(Refused::NoQueue)?;
        let Some(queue) = slot else { return Ok(Applied::NoEffect(QUEUE_DELETED)) };
        let queue = &mut queue.record;
        match change {
            // Applied elsewhere.
            Change::Create(_) => {}
            Change::Link(link) => return set_link(queue, &mut self.by_link, place, link),
            Change::DeleteLink => {
                if let Some(link) = queue.link.take() {
                    self.by_link.remove(&link.id);
                }
            }
            Change::Secure(key) => match &queue.sender_key {
                Some(known) if *known != key => return Err(Refused::OtherSenderKey),
                _ => queue.sender_key = Some(key),
            },
            Change::Keys(keys) => queue.recipient_keys = keys,
            Change::Notifier(notifier) => {
                return set_notifier(queue, &mut self.by_notifier, place, notifier);
            }
            Change::DeleteNotifier => {
                if let Some(notifier) = queue.notifier.take() {
                    self.by_notifier.remove(&notifier.id);
                }
            }
            Change::Suspend => queue.status = QueueStatus::Suspended,
            Change::Block(info) => queue.status = QueueStatus::Blocked(info),
            Change::Unblock => queue.status = QueueStatus::Active,
            Change::Delete => {
                if let Some(queue) = slot.take() {
                    self.by_sender.remove(&queue.record.sender_id);
                    if let Some(notifier) = &queue.record.notifier {
                        self.by_notifier.remove(&notifier.id);
                    }
                    if let Some(link) = &queue.record.link {
                        self.by_link.remove(&link.id);
                    }
                }
            }
            Change::Time(secs) => queue.updated_secs = Some(secs),
            Change::Service { party: ServiceParty::Recipient, service } => queue.service = service,
            Change::Service { party: ServiceParty::Notifier, service } => {
                queue.notifier.as_mut().ok_or(Refused::NoNotifier)?.service = service;
            }
        }
        Ok(Applied::Done)
    }
}

fn set_link(queue: &mut QueueRecord, by_link: &mut ById, place: u32, link: Link) -> Result<Applied, Refused> {
    match &queue.link {
        Some(known) if known.id != link.id || known.fixed != link.fixed => return Err(Refused::OtherLink),
        _ => {}
    }
    if *by_link.entry(link.id).or_insert(place) != place {
        return Err(Refused::Duplicate("link ID"));
    }
    queue.link = Some(Box::new(link));
    Ok(Applied::Done)
}

fn set_notifier(
    queue: &mut QueueRecord,
    by_notifier: &mut ById,
    place: u32,
    notifier: Box<Notifier>,
) -> Result<Applied, Refused> {
    if queue.notifier.as_ref() == Some(&notifier) {
        return Ok(Applied::NoEffect("the queue has this notifier already"));
    }
    match by_notifier.entry(notifier.id) {
        Entry::Occupied(_) => return Err(Refused::Duplicate("notifier ID, or this one with other keys")),
        Entry::Vacant(entry) => entry.insert(place),
    };
    if let Some(former) = queue.notifier.replace(notifier) {
        by_notifier.remove(&former.id);
    }
    Ok(Applied::Done)
}
