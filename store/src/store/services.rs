//! Services and the queues that they have.

use super::Store;
use crate::id::{Bucket, Fingerprint, ServiceId};
use crate::service::{Service, ServiceParty, ServiceTotal};

/// There is a service with this ID or certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is a service with this ID or certificate")]
pub struct DuplicateService;

impl<B> Store<B> {
    /// Enters a service. Its home is the shard that has the hash of its fingerprint.
    pub fn add_service(&mut self, service: Service<B>) -> Result<(), DuplicateService> {
        let bucket = self.hasher.hash_fingerprint(&service.fingerprint).bucket();
        if self.services.add(bucket, service) { Ok(()) } else { Err(DuplicateService) }
    }

    pub fn service(&self, id: &ServiceId) -> Option<&Service<B>> {
        self.services.get(id)
    }

    /// The service with this certificate. It has one role; a client that comes with another is to be refused.
    pub fn service_with_certificate(&self, fingerprint: &Fingerprint) -> Option<&Service<B>> {
        self.services.with_certificate(self.hasher.hash_fingerprint(fingerprint).bucket(), fingerprint)
    }

    /// How many services have this shard as their home.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The services whose home this shard is, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Service<B>> {
        self.services.iter()
    }

    pub(crate) fn services_of(&self, bucket: Bucket) -> impl Iterator<Item = &Service<B>> {
        self.services.of(bucket)
    }

    /// This shard's queues of all services.
    pub fn service_queue_count(&self, party: ServiceParty) -> usize {
        self.services.queue_count(party)
    }

    /// This shard's queues of a service, wherever its own home is.
    pub fn service_total(&self, party: ServiceParty, service: &ServiceId) -> ServiceTotal {
        self.services.total(party, service)
    }
}
