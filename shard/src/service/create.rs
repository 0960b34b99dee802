//! NEW: keys and IDs of a queue.

use rand_core::RngCore;
use ringpost_protocol::command::{NewQueue as NewCommand, QueueRequest};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_store::{Log, NewQueue, Party, QueueId, QueueIx, Record};

use super::Service;
use super::ledger::Refused;

/// Draws of all IDs before NEW fails. One draw collides with a chance far below 2^-100.
const CREATE_ATTEMPTS: usize = 3;

pub struct Created {
    pub queue: QueueIx,
    pub recipient_id: QueueId,
    pub sender_id: QueueId,
    pub router_dh_key: DhPublicKey,
}

pub enum NotCreated {
    Error(ErrorType),
    Refused(Refused),
}

impl<L: Log> Service<L> {
    /// Whether the operator lets this client make queues.
    pub(super) fn may_create(&self, password: Option<&[u8]>) -> bool {
        let password_fits = match &self.config.create_password {
            None => true,
            Some(wanted) => password.is_some_and(|given| same(given, wanted)),
        };
        self.config.allow_new_queues && password_fits
    }

    /// Makes the queue of an authorized NEW.
    pub(super) fn create(&mut self, new: &NewCommand<'_>, today: u32) -> Result<Created, NotCreated> {
        // Link data and notifiers exist from versions on that the handshake does not offer yet.
        let has_link =
            !matches!(new.request, None | Some(QueueRequest::Messaging(None) | QueueRequest::Contact(None)));
        if has_link || new.notifier.is_some() {
            return Err(NotCreated::Error(ErrorType::Cmd(CommandError::Prohibited)));
        }
        if self.store.queue_count() >= self.config.queues_max {
            self.counters.queues_refused.add(1);
            return Err(NotCreated::Error(ErrorType::Store(
                "the router's limit of queues is reached".into(),
            )));
        }
        let router_key = DhPrivateKey::from_bytes(self.random_bytes());
        let secret = router_key.agree(&new.recipient_dh_key);
        for _ in 0..CREATE_ATTEMPTS {
            let (recipient_id, sender_id) = self.draw_ids();
            let taken = self.store.find(Party::Recipient, &recipient_id).is_some()
                || self.store.find(Party::Sender, &sender_id).is_some();
            if taken {
                continue;
            }
            let queue = NewQueue {
                recipient_id,
                sender_id,
                recipient_key: new.recipient_key.clone(),
                delivery_secret: *secret.as_bytes(),
                mode: new.request.as_ref().map(QueueRequest::mode),
            };
            let record = Record::Create { new: queue.clone(), today };
            self.append(&recipient_id, record).map_err(NotCreated::Refused)?;
            if let Ok(queue) = self.store.create(queue, today) {
                self.counters.queues_created.add(1);
                self.counters.queues.set(self.store.queue_count());
                return Ok(Created { queue, recipient_id, sender_id, router_dh_key: router_key.public() });
            }
        }
        Err(NotCreated::Error(ErrorType::Internal))
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
    fn draw_id(&mut self, is_wanted: impl Fn(u8) -> bool) -> QueueId {
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

/// Compares in a time that depends on the lengths only.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    given.len() == wanted.len() && given.iter().zip(wanted).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}
