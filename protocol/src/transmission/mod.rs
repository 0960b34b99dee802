//! Transmissions and the content of blocks: "SMP Transmission and transport block structure".
//!
//! ```text
//! block content  = count (1 byte) { length (2 bytes) transmission }
//! transmission   = authorization [service signature] authorized
//! authorized     = [session ID] correlation ID, entity ID, command
//! ```
//!
//! Parsing borrows from the block and allocates nothing. [`BlockBuilder`] writes responses where they are sent from.

mod batch;
mod parse;
mod write;

pub use batch::{Batch, BlockBuilder, Refused, plan_batches};
pub use parse::{
    BadTransmission, ServiceAuthorization, Transmission, Transmissions, decode_commands, parse_content,
};
pub use write::{Authorized, write_response};

use crate::version::SmpVersion;

/// An Ed25519 signature, of a queue's key or of a service.
pub const ED25519_SIGNATURE_BYTES: usize = 64;
/// An Ed448 signature.
pub const ED448_SIGNATURE_BYTES: usize = 114;
/// An authenticator: a box (tag and SHA-512 hash) made with an X25519 key.
pub const AUTHENTICATOR_BYTES: usize = 80;

/// What decides the form of the transmissions of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub version: SmpVersion,
    /// From version 7 the session ID is authorized but not sent.
    pub session_implied: bool,
    /// From version 16 a field for the service signature follows an authorization that is not empty.
    pub service_signature: bool,
}

impl Format {
    /// The form of a session between a client and a router.
    pub fn of_session(version: SmpVersion) -> Self {
        Self {
            version,
            session_implied: version >= SmpVersion::AUTH_COMMANDS,
            service_signature: version >= SmpVersion::SERVICE_CERTIFICATES,
        }
    }

    /// The form of a transmission inside PFWD, with the version that stands there. Its session, between the proxy
    /// and the router, is at least of version 8, so the session ID is implied whatever that version is.
    pub fn forwarded(version: SmpVersion) -> Self {
        Self { session_implied: true, ..Self::of_session(version) }
    }
}

/// The authorization of a transmission: not verified, only told apart by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization<'a> {
    None,
    Ed25519(&'a [u8; ED25519_SIGNATURE_BYTES]),
    Ed448(&'a [u8; ED448_SIGNATURE_BYTES]),
    Authenticator(&'a [u8; AUTHENTICATOR_BYTES]),
}

impl<'a> Authorization<'a> {
    /// Tells them apart by their size; none if nothing has this size.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        match bytes.len() {
            0 => Some(Self::None),
            ED25519_SIGNATURE_BYTES => bytes.try_into().ok().map(Self::Ed25519),
            ED448_SIGNATURE_BYTES => bytes.try_into().ok().map(Self::Ed448),
            AUTHENTICATOR_BYTES => bytes.try_into().ok().map(Self::Authenticator),
            _ => None,
        }
    }

    /// The bytes on the wire, without their length; at most 114.
    pub fn as_bytes(&self) -> &'a [u8] {
        match *self {
            Self::None => &[],
            Self::Ed25519(signature) => signature,
            Self::Ed448(signature) => signature,
            Self::Authenticator(authenticator) => authenticator,
        }
    }

    /// Whether the transmission came without authorization.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}
