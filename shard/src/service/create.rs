//! NEW: keys and IDs of a queue.

use rand_core::RngCore;
use ringpost_protocol::command::{LinkData, NewQueue as NewCommand, QueueRequest};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::crypto::ids::sender_id_from_correlation;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_store::{Entry, Log, NewParts, NewQueue, QueueId, QueueIx, Record, ServiceId};

use smallvec::SmallVec;

use super::Service;
use super::ledger::Refused;

/// Draws of all IDs before NEW fails. One draw collides with a chance far below 2^-100.
const CREATE_ATTEMPTS: usize = 3;

pub struct Created {
    pub queue: QueueIx,
    pub recipient_id: QueueId,
    pub sender_id: QueueId,
    pub router_dh_key: DhPublicKey,
    pub link_id: Option<QueueId>,
    /// The notifier's ID, and the router's key for it.
    pub notifier: Option<(QueueId, DhPublicKey)>,
}

/// What a NEW with link data asks for.
struct WantedLink<'a> {
    sender_id: QueueId,
    /// Of a contact address; of a messaging queue it is drawn.
    link_id: Option<QueueId>,
    data: LinkData<'a>,
}

pub enum NotCreated {
    Error(ErrorType),
    Refused(Refused),
}

impl<L: Log> Service<L> {
    /// What PRXY asks for, as NEW.
    pub fn create_password(&self) -> Option<&[u8]> {
        self.config.create_password.as_deref()
    }

    /// Whether the operator lets this client make queues.
    pub(super) fn may_create(&self, password: Option<&[u8]>) -> bool {
        let password_fits = match &self.config.create_password {
            None => true,
            Some(wanted) => password.is_some_and(|given| same(given, wanted)),
        };
        self.config.allow_new_queues && password_fits
    }

    /// Makes the queue of an authorized NEW, with its link and notifier, or nothing.
    pub(super) fn create(
        &mut self,
        new: &NewCommand<'_>,
        corr_id: &[u8],
        service: Option<ServiceId>,
        today: u32,
    ) -> Result<Created, NotCreated> {
        let wanted = wanted_link(new.request.as_ref(), corr_id)?;
        if self.store.queue_count() >= self.config.queues_max {
            self.counters.queues_refused.add(1);
            return Err(NotCreated::Error(ErrorType::Store(
                "the router's limit of queues is reached".into(),
            )));
        }
        let router_key = DhPrivateKey::from_bytes(self.random_bytes());
        let secret = router_key.agree(&new.recipient_dh_key);
        for _ in 0..CREATE_ATTEMPTS {
            let (recipient_id, sender_id) = match &wanted {
                None => self.draw_ids(),
                Some(wanted) => (self.draw_beside(&wanted.sender_id), wanted.sender_id),
            };
            let queue = NewQueue {
                recipient_id,
                sender_id,
                recipient_key: new.recipient_key.clone(),
                delivery_secret: *secret.as_bytes(),
                mode: new.request.as_ref().map(QueueRequest::mode),
            };
            match self.create_drawn(queue, router_key.public(), wanted.as_ref(), new, service, today) {
                Ok(created) => {
                    self.counters.queues_created.add(1);
                    self.counters.queues.set(self.store.queue_count());
                    self.publish_service_queues();
                    if created.notifier.is_some() {
                        self.counters.notifiers_created_new.add(1);
                        self.counters.notifiers.set(self.store.notifier_count());
                    }
                    if created.link_id.is_some() {
                        self.counters.links.set(self.store.link_count());
                    }
                    return Ok(created);
                }
                // Other draws would not change the IDs that the client has given.
                Err(None) if wanted.is_some() => return Err(NotCreated::Error(ErrorType::Auth)),
                Err(None) => {}
                Err(Some(refused)) => return Err(NotCreated::Refused(refused)),
            }
        }
        Err(NotCreated::Error(ErrorType::Internal))
    }

    /// None: an ID is in use.
    fn create_drawn(
        &mut self,
        queue: NewQueue,
        router_dh_key: DhPublicKey,
        wanted: Option<&WantedLink<'_>>,
        new: &NewCommand<'_>,
        service: Option<ServiceId>,
        today: u32,
    ) -> Result<Created, Option<Refused>> {
        let (recipient_id, sender_id) = (queue.recipient_id, queue.sender_id);
        let hash = self.store.hasher().hash(&recipient_id);
        let partition = hash.partition();
        let notifier = new.notifier.as_ref().map(|credentials| self.draw_notifier(credentials, partition));
        let link = match wanted {
            None => None,
            Some(wanted) => {
                let id = wanted.link_id.unwrap_or_else(|| self.draw_id(|drawn| drawn == partition));
                Some(self.new_link(id, &wanted.data).ok_or(Some(Refused::Internal))?)
            }
        };
        let link_id = link.as_ref().map(|link| link.id);
        let link_hash = link_id.map(|id| self.store.hasher().hash(&id));
        let parts = NewParts {
            link,
            notifier: notifier.as_ref().map(|(notifier, _)| notifier.clone()),
            recipient_service: service,
        };
        if self.store.check_new(&queue, &parts).is_err() {
            return Err(None);
        }
        if link_hash.is_some_and(|link_hash| !self.config.links.try_claim(link_hash, partition)) {
            return Err(None);
        }
        let records = Record::creation(queue.clone(), parts.clone(), today);
        let entries: SmallVec<[Entry<'_>; 1]> =
            records.iter().map(|record| Entry { hash, record: record.as_bytes() }).collect();
        if let Err(refused) = self.append_all(&entries) {
            if let Some(link_hash) = link_hash {
                self.config.links.release(link_hash);
            }
            return Err(Some(refused));
        }
        let parts = NewParts {
            link: parts.link.map(|link| self.kept_link(link)),
            notifier: parts.notifier,
            recipient_service: service,
        };
        // It was checked before.
        let ix = self.store.create_with(queue, parts, today).map_err(|_| Some(Refused::Internal))?;
        self.count_link(ix);
        let notifier = notifier.map(|(notifier, key)| (notifier.id, key));
        Ok(Created { queue: ix, recipient_id, sender_id, router_dh_key, link_id, notifier })
    }

    /// A recipient ID in the partition of the sender ID that the client has given.
    fn draw_beside(&mut self, sender_id: &QueueId) -> QueueId {
        let home = self.store.hasher().hash(sender_id).partition();
        self.draw_id(|partition| partition == home)
    }

    /// IDs that fall into one partition, and that into this shard: queues live where their recipient is connected
    /// when they are made.
    fn draw_ids(&mut self) -> (QueueId, QueueId) {
        let mine = self.partitions.clone();
        let recipient_id = self.draw_id(|partition| mine.contains(&usize::from(partition)));
        let home = self.store.hasher().hash(&recipient_id).partition();
        (recipient_id, self.draw_id(|partition| partition == home))
    }

    /// A random ID in a partition that is wanted. Only its last 8 bytes are drawn again until it is: all IDs of these
    /// partitions are as likely as each other, since the hash treats every byte alike, and 256 draws take half the time.
    pub(super) fn draw_id(&mut self, is_wanted: impl Fn(u8) -> bool) -> QueueId {
        let mut id: QueueId = self.random_bytes();
        while !is_wanted(self.store.hasher().hash(&id).partition()) {
            let end = self.random.next_u64().to_le_bytes();
            if let Some(last) = id.last_chunk_mut() {
                *last = end;
            }
        }
        id
    }

    pub(super) fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill_bytes(&mut bytes);
        bytes
    }
}

/// What a NEW asks for besides a queue. The sender ID that a client gives must follow from its correlation ID: otherwise
/// NEW would tell whether an ID is in use.
fn wanted_link<'a>(
    request: Option<&QueueRequest<'a>>,
    corr_id: &[u8],
) -> Result<Option<WantedLink<'a>>, NotCreated> {
    let refused = |error| NotCreated::Error(ErrorType::Cmd(error));
    let (sender_id, link_id, data) = match request {
        Some(QueueRequest::Messaging(Some(link))) => (link.sender_id, None, link.data),
        Some(QueueRequest::Contact(Some(link))) => (link.sender_id, Some(link.link_id), link.data),
        None | Some(QueueRequest::Messaging(None) | QueueRequest::Contact(None)) => return Ok(None),
    };
    let derived = sender_id_from_correlation(corr_id);
    if sender_id != derived {
        return Err(refused(CommandError::Prohibited));
    }
    let link_id = link_id.map(QueueId::try_from).transpose();
    let link_id = link_id.map_err(|_| refused(CommandError::Syntax))?;
    Ok(Some(WantedLink { sender_id: derived, link_id, data }))
}

/// Compares in a time that depends on the lengths only.
pub fn same(given: &[u8], wanted: &[u8]) -> bool {
    given.len() == wanted.len() && given.iter().zip(wanted).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}
