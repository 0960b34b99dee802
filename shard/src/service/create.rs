//! NEW: keys and IDs of a queue.

use rand_core::RngCore;
use ringpost_protocol::command::{NewQueue as NewCommand, QueueRequest};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_store::{NewQueue, QueueId, QueueIx};

use super::Service;

/// Draws of all IDs before NEW fails. One draw collides with a chance far below 2^-100.
const CREATE_ATTEMPTS: usize = 3;

pub struct Created {
    pub queue: QueueIx,
    pub recipient_id: QueueId,
    pub sender_id: QueueId,
    pub router_dh_key: DhPublicKey,
}

impl Service {
    /// Whether the operator lets this client make queues.
    pub(super) fn may_create(&self, password: Option<&[u8]>) -> bool {
        let password_fits = match &self.config.create_password {
            None => true,
            Some(wanted) => password.is_some_and(|given| same(given, wanted)),
        };
        self.config.allow_new_queues && password_fits
    }

    /// Makes the queue of an authorized NEW.
    pub(super) fn create(&mut self, new: &NewCommand<'_>, today: u32) -> Result<Created, ErrorType> {
        // Link data and notifiers exist from versions on that the handshake does not offer yet.
        let has_link =
            !matches!(new.request, None | Some(QueueRequest::Messaging(None) | QueueRequest::Contact(None)));
        if has_link || new.notifier.is_some() {
            return Err(ErrorType::Cmd(CommandError::Prohibited));
        }
        let router_key = DhPrivateKey::from_bytes(self.random_bytes());
        let secret = router_key.agree(&new.recipient_dh_key);
        for _ in 0..CREATE_ATTEMPTS {
            let (recipient_id, sender_id) = self.draw_ids();
            let record = NewQueue {
                recipient_id,
                sender_id,
                recipient_key: new.recipient_key.clone(),
                delivery_secret: *secret.as_bytes(),
                mode: new.request.as_ref().map(QueueRequest::mode),
            };
            if let Ok(queue) = self.store.create(record, today) {
                self.counters.queues_created.add(1);
                self.counters.queues.set(self.store.queue_count());
                return Ok(Created { queue, recipient_id, sender_id, router_dh_key: router_key.public() });
            }
        }
        Err(ErrorType::Internal)
    }

    /// IDs that fall into one partition, and that into this shard: queues live where their recipient is connected
    /// when they are made. Uniform among all such pairs, since what does not fit is drawn again.
    fn draw_ids(&mut self) -> (QueueId, QueueId) {
        let (recipient_id, partition) = loop {
            let id: QueueId = self.random_bytes();
            let partition = self.store.hasher().hash(&id).partition();
            if self.partitions.contains(&usize::from(partition)) {
                break (id, partition);
            }
        };
        loop {
            let sender_id: QueueId = self.random_bytes();
            if self.store.hasher().hash(&sender_id).partition() == partition {
                return (recipient_id, sender_id);
            }
        }
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
