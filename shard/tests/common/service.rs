//! Services: certificates of their own, and what a session has of them.

use ringpost_protocol::certificate::{CertificateAuthority, SigningKey};
use ringpost_protocol::command::{Command, ServiceSubs, SubscribeMode};
use ringpost_protocol::crypto::AuthPrivateKey;
use ringpost_protocol::handshake::{ServiceCredentials, ServiceRole};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::SmpVersion;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Client, Ended, Options, Prepared, Queue, Received, TestRouter};

/// A service, the same for the same seed.
#[derive(Clone, Copy, Debug)]
pub struct TestService {
    pub role: ServiceRole,
    pub seed: u8,
    /// A certificate that signed itself, alone.
    pub is_single: bool,
    /// Not shown in TLS.
    pub hides_in_tls: bool,
}

impl TestService {
    pub fn new(role: ServiceRole, seed: u8) -> Self {
        Self { role, seed, is_single: false, hides_in_tls: false }
    }

    pub fn messaging(seed: u8) -> Self {
        Self::new(ServiceRole::Messaging, seed)
    }

    pub fn notifier(seed: u8) -> Self {
        Self::new(ServiceRole::Notifier, seed)
    }

    /// A fixed time: the certificates must be the same for every connection.
    pub fn credentials(self) -> ServiceCredentials {
        const MADE_SECS: i64 = 1_750_000_000;
        let authority = CertificateAuthority::generate(&[self.seed; 32], MADE_SECS).unwrap();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let ca = der(&authority.certificate_pem());
        if self.is_single {
            let key = SigningKey::ed25519(&[self.seed; 32]);
            return ServiceCredentials { role: self.role, chain: vec![ca], key };
        }
        let leaf_seed = [self.seed.wrapping_add(1); 32];
        let issued = authority.issue("service", &leaf_seed, MADE_SECS).unwrap();
        let chain = vec![der(&issued.certificate_pem), ca];
        ServiceCredentials { role: self.role, chain, key: SigningKey::ed25519(&leaf_seed) }
    }

    /// Signs its commands.
    pub fn session_key(self) -> AuthPrivateKey {
        AuthPrivateKey::ed25519(&[self.seed ^ 0x80; 32])
    }
}

/// What a session of a service has.
#[derive(Clone, Debug)]
pub struct ServiceSession {
    pub id: Vec<u8>,
    pub fingerprint: [u8; 32],
    pub key: AuthPrivateKey,
}

impl Client {
    /// Connects as a service with this version.
    pub fn service(router: &TestRouter, service: TestService, version: u16) -> Self {
        Self::try_service(router, service, version).unwrap()
    }

    pub fn try_service(router: &TestRouter, service: TestService, version: u16) -> Result<Self, Ended> {
        Self::open(router, Options { service: Some(service), ..Options::version(version) })
    }

    pub fn service_id(&self) -> &[u8] {
        &self.service.as_ref().unwrap().id
    }

    /// SUBS or NSUBS.
    pub fn prepare_subs(&mut self, command: &Command<'_>) -> Prepared {
        let ServiceSession { id, key, .. } = self.service.clone().unwrap();
        self.prepare(Some(&key), &id, command)
    }

    #[track_caller]
    pub fn subs(&mut self, expected: ServiceSubs) -> Received {
        let prepared = self.prepare_subs(&Command::Subs(expected));
        self.send(std::slice::from_ref(&prepared));
        self.try_response(&prepared.corr_id).unwrap()
    }

    #[track_caller]
    pub fn nsubs(&mut self, expected: ServiceSubs) -> Received {
        let prepared = self.prepare_subs(&Command::NSubs(expected));
        self.send(std::slice::from_ref(&prepared));
        self.try_response(&prepared.corr_id).unwrap()
    }

    #[track_caller]
    pub fn service_queue(&mut self) -> Queue {
        Queue::create(self, SubscribeMode::Subscribe)
    }
}

/// Count and hash of these IDs, as this version says them.
pub fn subs_of<'a>(ids: impl IntoIterator<Item = &'a [u8]>, version: SmpVersion) -> ServiceSubs {
    let mut subs = ServiceSubs::NONE;
    ids.into_iter().for_each(|id| subs.add_queue(id));
    if version < SmpVersion::SERVICE_SUBSCRIPTIONS {
        subs.ids_hash = [0; 16];
    }
    subs
}

impl Received {
    #[track_caller]
    pub fn assert_soks(&self, subs: ServiceSubs) {
        assert_eq!(self.response(), Response::Soks(subs), "{self:?}");
    }

    /// An event that nobody asked for, about this entity.
    #[track_caller]
    pub fn assert_event(&self, entity_id: &[u8], response: &Response<'_>) {
        assert!(self.is_event(), "{self:?}");
        assert_eq!((&self.entity_id[..], &self.response()), (entity_id, response), "{self:?}");
    }
}
