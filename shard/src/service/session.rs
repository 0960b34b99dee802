//! What the home of a queue must know of the connection that a command came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use ringpost_protocol::crypto::BoxKey;
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::handshake::{ServiceRole, VerifiedService};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::transmission::Format;
use ringpost_protocol::version::SmpVersion;
use ringpost_store::{Fingerprint, ServiceId, ServiceParty};
use smallvec::SmallVec;

use crate::arena::Detached;
use crate::proxy::Reply;

/// A connection: its shard and its place there. The generation tells it from others that had the place before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnRef {
    pub shard: u16,
    pub place: u32,
    pub generation: u32,
}

/// An established session. Shared with the shards that are homes of its queues.
#[derive(Debug)]
pub struct Session {
    pub conn: ConnRef,
    pub version: SmpVersion,
    pub session_id: SessionId,
    /// The router's key of this session: authenticators are made for it.
    pub router_key: DhPrivateKey,
    /// What the client's key and the router's agreed, for commands that the client forwards. None if it sent no key.
    pub forward_key: Option<BoxKey>,
    /// The client forwards commands of others, and does many things at once.
    pub proxy: bool,
    /// Commands come from inside of RFWD: the session ID is implied whatever the version, and few are allowed.
    pub forwarded: bool,
    pub counts: SessionCounts,
    /// The client is a service.
    pub service: Option<Box<SessionService>>,
}

/// What a session has on all shards, counted by the homes of its queues.
#[derive(Debug, Default)]
pub struct SessionCounts {
    /// Queues subscribed. A session with any is never inactive.
    pub subscriptions: AtomicU32,
    /// Queues of whose messages it is notified, as well.
    pub notified: AtomicU32,
    /// Queues that it has read with GET.
    pub queues_read: AtomicU32,
    /// Shards that have delivered to it what it has not acknowledged.
    pub delivering: AtomicU32,
}

/// What a service proved in the handshake of a session.
#[derive(Debug)]
pub struct SessionService {
    pub id: ServiceId,
    pub role: ServiceRole,
    /// Of its certificate: stands in front of what the keys of its queues sign.
    pub fingerprint: Fingerprint,
    /// What it signs with in this session.
    pub key: AuthPublicKey,
    /// Shards on which this session receives for the service.
    pub held: AtomicUsize,
    /// It has subscribed: to one of its queues, or to all.
    pub subscribes: AtomicBool,
}

impl SessionService {
    pub fn new(id: ServiceId, verified: &VerifiedService) -> Self {
        let VerifiedService { role, fingerprint, session_key } = *verified;
        Self {
            id,
            role,
            fingerprint,
            key: AuthPublicKey::Ed25519(session_key),
            held: AtomicUsize::new(0),
            subscribes: AtomicBool::new(false),
        }
    }

    /// What it can subscribe to at once.
    pub fn party(&self) -> Option<ServiceParty> {
        match self.role {
            ServiceRole::Messaging => Some(ServiceParty::Recipient),
            ServiceRole::Notifier => Some(ServiceParty::Notifier),
            ServiceRole::Proxy => None,
        }
    }
}

impl Session {
    /// The session as a command sees it that was forwarded in it with this version.
    #[must_use]
    pub fn forwarding(&self, version: SmpVersion) -> Self {
        Self {
            conn: self.conn,
            version,
            session_id: self.session_id,
            router_key: self.router_key.clone(),
            forward_key: None,
            proxy: false,
            forwarded: true,
            counts: SessionCounts::default(),
            // Whoever sent it is not the proxy.
            service: None,
        }
    }

    /// The service of the session: what its queues become.
    pub fn service_id(&self) -> Option<ServiceId> {
        self.service.as_ref().map(|service| service.id)
    }

    /// The form of the session's transmissions.
    pub fn format(&self) -> Format {
        if self.forwarded { Format::forwarded(self.version) } else { Format::of_session(self.version) }
    }

    pub fn has_subscriptions(&self) -> bool {
        self.subscribes_queues() || self.is_notified()
    }

    /// Whether it receives from queues, its own or those of its service.
    pub fn subscribes_queues(&self) -> bool {
        self.counts.subscriptions.load(Ordering::Relaxed) > 0 || self.holds(ServiceParty::Recipient)
    }

    /// Whether it is notified of the messages of queues, in the same way.
    pub fn is_notified(&self) -> bool {
        self.counts.notified.load(Ordering::Relaxed) > 0 || self.holds(ServiceParty::Notifier)
    }

    /// Whether something was delivered to it that it has not acknowledged.
    pub fn has_pending(&self) -> bool {
        self.counts.delivering.load(Ordering::Relaxed) > 0
    }

    fn holds(&self, party: ServiceParty) -> bool {
        self.service
            .as_ref()
            .is_some_and(|service| service.party() == Some(party) && service.held.load(Ordering::Relaxed) > 0)
    }

    /// Queues that it subscribes, as recipient or as notifier.
    pub fn subscription_count(&self) -> usize {
        let SessionCounts { subscriptions, notified, .. } = &self.counts;
        subscriptions.load(Ordering::Relaxed) as usize + notified.load(Ordering::Relaxed) as usize
    }

    /// What the cap on subscriptions counts.
    pub fn subscribed_and_read(&self) -> usize {
        self.subscription_count() + self.counts.queues_read.load(Ordering::Relaxed) as usize
    }

    /// The session ID as it stands in transmissions: below version 7; later it is implied.
    pub fn wire_session_id(&self) -> Option<&[u8]> {
        (!self.format().session_implied).then_some(self.session_id.as_ref())
    }
}

/// Transmissions of one block that have the same home, in their order.
#[derive(Debug)]
pub struct Batch {
    pub session: Arc<Session>,
    pub data: BatchData,
    /// Where each transmission lies in the data: start and length, without its 2-byte length.
    pub transmissions: SmallVec<[(u16, u16); 1]>,
    /// The first one that is not processed yet.
    pub next: usize,
    /// Set if the batch is one command that a proxy forwarded.
    pub forwarded: Option<Box<ForwardedBatch>>,
}

/// A forwarded command: what it is executed with, and how it is answered.
#[derive(Debug)]
pub struct ForwardedBatch {
    pub session: Arc<Session>,
    pub reply: Reply,
}

#[derive(Debug)]
pub enum BatchData {
    /// The block itself: all of its transmissions have this home.
    Block(Detached),
    /// Copies: the block's transmissions have several homes.
    Copied(Box<[u8]>),
    /// The block became the body of a stored message.
    Taken,
}

impl BatchData {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Block(block) => &block[..],
            Self::Copied(bytes) => bytes,
            Self::Taken => &[],
        }
    }
}
