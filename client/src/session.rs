//! What was agreed when the connection was made.

use std::fmt;

use ringpost_protocol::handshake::ServiceRole;
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::transmission::Format;
use ringpost_protocol::version::SmpVersion;

use crate::id::EntityId;
use crate::queue::Authorizer;

/// The agreed parameters of a connection.
pub struct Session {
    pub(crate) format: Format,
    pub(crate) id: SessionId,
    /// The router's key of this session: what authenticators are made with. From version 7.
    pub(crate) router_key: Option<DhPublicKey>,
    pub(crate) encrypted_blocks: bool,
    /// The password of the address: needed to make queues on some routers.
    pub(crate) basic_auth: Option<Vec<u8>>,
    pub(crate) service: Option<Service>,
}

/// The service whose session this is.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) id: EntityId,
    pub(crate) role: ServiceRole,
    /// Of its certificate: stands in front of what the keys of its queues sign.
    pub(crate) fingerprint: [u8; 32],
    /// Of this session alone.
    pub(crate) key: Authorizer,
}

impl Session {
    /// The agreed SMP version.
    pub fn version(&self) -> SmpVersion {
        self.format.version
    }

    /// The channel binding of TLS, that all authorized commands cover.
    pub fn id(&self) -> &[u8] {
        self.id.as_ref()
    }

    /// The ID that the router has given to the service whose connection this is: always the same for its certificate.
    pub fn service_id(&self) -> Option<EntityId> {
        self.service.as_ref().map(|service| service.id)
    }

    /// Whether blocks are encrypted inside TLS.
    pub fn encrypted_blocks(&self) -> bool {
        self.encrypted_blocks
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.version())
            .field("encrypted_blocks", &self.encrypted_blocks)
            .finish_non_exhaustive()
    }
}
