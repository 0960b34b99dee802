//! Hello blocks of SMP: "Transport handshake" of the protocol text. Blocks in, blocks and the agreed session out.
//!
//! ```text
//! router                                          client
//!   RouterHandshake::start  -- router hello -->     ClientHandshake::router_hello
//!   RouterHandshake::client_hello  <-- client hello --
//!   write_service_response  -- only to services -->  read_service_response
//! ```
//!
//! Handshake blocks are padded and never encrypted inside TLS. Bytes behind what is known here are ignored, so that
//! later versions can add to them.

mod client;
mod router;
mod service;
mod session_key;

use crate::crypto::DhSecret;
use crate::encoding::{DecodeError, Reader, pad_in_place, unpad};
use crate::error::{HandshakeError, TransportError};
use crate::limits::{BLOCK_BYTES, PAD_LENGTH_BYTES};
use crate::tls::ALPN_SMP;
use crate::version::{SmpVersion, VersionRange};

pub use client::{ClientHandshake, ClientSession, RouterKey};
pub use router::{RouterHandshake, RouterHello, RouterSession};
pub use service::{
    ServiceCredentials, ServiceHello, ServiceResponse, ServiceRole, VerifiedService, read_service_response,
    write_service_response,
};
pub use session_key::{SessionKey, SessionKeys};

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFailure {
    #[error("a handshake block is not padded as it must be")]
    Block,
    #[error("a handshake block cannot be read")]
    Parse,
    #[error("there is no protocol version that both sides have")]
    Version,
    #[error("the router's hello is for another TLS session")]
    Session,
    #[error("the client wants a router with another identity")]
    Identity,
    #[error("a certificate or a key signed with it is not valid")]
    BadAuth,
    #[error("the handshake does not fit into a block")]
    TooLarge,
    #[error("the router refused the service: {0:?}")]
    Refused(TransportError),
}

impl From<DecodeError> for HandshakeFailure {
    fn from(_: DecodeError) -> Self {
        Self::Parse
    }
}

impl From<HandshakeFailure> for TransportError {
    fn from(failure: HandshakeFailure) -> Self {
        match failure {
            HandshakeFailure::Block => Self::Block,
            HandshakeFailure::Parse => Self::Handshake(HandshakeError::Parse),
            HandshakeFailure::Version => Self::Version,
            HandshakeFailure::Session => Self::Session,
            HandshakeFailure::Identity => Self::Handshake(HandshakeError::Identity),
            HandshakeFailure::BadAuth => Self::Handshake(HandshakeError::BadAuth),
            HandshakeFailure::TooLarge => Self::LargeMsg,
            HandshakeFailure::Refused(error) => error,
        }
    }
}

/// The versions that a router offers after TLS with this protocol name: without one the client is an old one.
pub fn offered_versions(alpn: Option<&[u8]>) -> VersionRange {
    if alpn == Some(ALPN_SMP) { VersionRange::ALL } else { VersionRange::WITHOUT_ALPN }
}

/// Blocks are encrypted inside TLS from version 11 on, if the client sent a key, but not for proxies, whose contents
/// are encrypted already.
fn encrypts_blocks(version: SmpVersion, secret: Option<&DhSecret>, proxy: bool) -> bool {
    version >= SmpVersion::BLOCK_ENCRYPTION && secret.is_some() && !proxy
}

/// What stands in a handshake block. Whoever reads it ignores what is left at the end.
fn read_block(block: &[u8]) -> Result<Reader<'_>, HandshakeFailure> {
    if block.len() != BLOCK_BYTES {
        return Err(HandshakeFailure::Block);
    }
    unpad(block).map(Reader::new).map_err(|_| HandshakeFailure::Block)
}

/// Makes a handshake block of its content.
fn write_block(content: &[u8], block: &mut [u8; BLOCK_BYTES]) -> Result<(), HandshakeFailure> {
    let place = block.get_mut(PAD_LENGTH_BYTES..PAD_LENGTH_BYTES + content.len());
    place.ok_or(HandshakeFailure::TooLarge)?.copy_from_slice(content);
    pad_in_place(block, content.len()).map_err(|_| HandshakeFailure::TooLarge)
}
