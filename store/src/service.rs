//! Services: clients with a certificate of their own, and how many queues each has.
//!
//! A service lives where the hash of its certificate's fingerprint says, its queues anywhere. So a shard counts its own
//! queues of every service, and the sum over all shards is what the service is told.

use std::collections::{BTreeMap, HashMap};

use ringpost_protocol::command::ServiceSubs;
pub use ringpost_protocol::command::id_hash;
use ringpost_protocol::handshake::ServiceRole;

use crate::id::{Bucket, Fingerprint, QueueId, ServiceId};

/// A service client. `B` is what holds its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service<B> {
    pub id: ServiceId,
    pub role: ServiceRole,
    pub fingerprint: Fingerprint,
    /// In days since 1970.
    pub created_day: u32,
    /// The certificate chain, in a form that is the caller's.
    pub chain: B,
}

impl<B> Service<B> {
    /// The same service with another form of the chain.
    pub fn map<U>(self, map: impl FnOnce(B) -> U) -> Service<U> {
        let Self { id, role, fingerprint, created_day, chain } = self;
        Service { id, role, fingerprint, created_day, chain: map(chain) }
    }
}

/// What a service does for a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceParty {
    /// Receives its messages.
    Recipient,
    /// Is notified of its messages.
    Notifier,
}

/// Queues of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceTotal {
    pub count: u64,
    /// XOR of the MD5 hashes of their IDs: recipient IDs or notifier IDs.
    pub ids_hash: [u8; 16],
}

impl ServiceTotal {
    /// Adds the queues of another shard.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.toggle(other.ids_hash);
    }

    fn toggle(&mut self, hash: [u8; 16]) {
        for (byte, other) in self.ids_hash.iter_mut().zip(hash) {
            *byte ^= other;
        }
    }
}

impl From<ServiceTotal> for ServiceSubs {
    fn from(total: ServiceTotal) -> Self {
        Self { count: i64::try_from(total.count).unwrap_or(i64::MAX), ids_hash: total.ids_hash }
    }
}

#[derive(Debug)]
pub(crate) struct Services<B> {
    by_fingerprint: BTreeMap<(Bucket, Fingerprint), Service<B>>,
    by_id: HashMap<ServiceId, (Bucket, Fingerprint)>,
    totals: HashMap<(ServiceParty, ServiceId), ServiceTotal>,
    /// Queues of all services: received from, and notified of.
    received: usize,
    notified: usize,
}

impl<B> Default for Services<B> {
    fn default() -> Self {
        Self {
            by_fingerprint: BTreeMap::new(),
            by_id: HashMap::new(),
            totals: HashMap::new(),
            received: 0,
            notified: 0,
        }
    }
}

impl<B> Services<B> {
    /// False if there is a service with this ID or certificate.
    pub fn add(&mut self, bucket: Bucket, service: Service<B>) -> bool {
        let key = (bucket, service.fingerprint);
        if self.by_id.contains_key(&service.id) || self.by_fingerprint.contains_key(&key) {
            return false;
        }
        self.by_id.insert(service.id, key);
        self.by_fingerprint.insert(key, service);
        true
    }

    pub fn get(&self, id: &ServiceId) -> Option<&Service<B>> {
        self.by_fingerprint.get(self.by_id.get(id)?)
    }

    pub fn with_certificate(&self, bucket: Bucket, fingerprint: &Fingerprint) -> Option<&Service<B>> {
        self.by_fingerprint.get(&(bucket, *fingerprint))
    }

    pub fn len(&self) -> usize {
        self.by_fingerprint.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Service<B>> {
        self.by_fingerprint.values()
    }

    pub fn of(&self, bucket: Bucket) -> impl Iterator<Item = &Service<B>> {
        self.by_fingerprint.range((bucket, [0; 32])..=(bucket, [0xff; 32])).map(|(_, service)| service)
    }

    pub fn total(&self, party: ServiceParty, id: &ServiceId) -> ServiceTotal {
        self.totals.get(&(party, *id)).copied().unwrap_or_default()
    }

    pub fn queue_count(&self, party: ServiceParty) -> usize {
        match party {
            ServiceParty::Recipient => self.received,
            ServiceParty::Notifier => self.notified,
        }
    }

    fn queue_count_mut(&mut self, party: ServiceParty) -> &mut usize {
        match party {
            ServiceParty::Recipient => &mut self.received,
            ServiceParty::Notifier => &mut self.notified,
        }
    }

    /// A queue is the service's from now on.
    pub fn count(&mut self, party: ServiceParty, id: &ServiceId, queue: &QueueId) {
        let total = self.totals.entry((party, *id)).or_default();
        total.count += 1;
        total.toggle(id_hash(queue));
        *self.queue_count_mut(party) += 1;
    }

    /// A queue is no longer the service's.
    pub fn discount(&mut self, party: ServiceParty, id: &ServiceId, queue: &QueueId) {
        let Some(total) = self.totals.get_mut(&(party, *id)) else { return };
        total.count = total.count.saturating_sub(1);
        total.toggle(id_hash(queue));
        if total.count == 0 {
            debug_assert_eq!(total.ids_hash, [0; 16]);
            self.totals.remove(&(party, *id));
        }
        let count = self.queue_count_mut(party);
        *count = count.saturating_sub(1);
    }
}
