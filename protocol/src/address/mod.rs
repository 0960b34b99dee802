//! Addresses of routers and queues, as text and in binary.
//!
//! | module | what it knows |
//! |---|---|
//! | [`host`] | domain names, IP addresses and onion names, and lists of them |
//! | [`router`] | `smp://`, `xftp://` and `ntf://` addresses, and their binary form |
//! | [`queue`] | queue URIs and queue information ("SMP queue URI" of the protocol text) |
//! | [`client_version`] | versions of the protocol between SMP clients |
//! | `binary` | what their binary forms share |
//!
//! # Where the reference reads or writes something else
//!
//! - IPv6 addresses are written in brackets in text. The reference writes none, so that a port behind the
//!   address reads as a part of it. Both forms are read, and a bare one takes everything, as in the
//!   reference.
//! - Four numbers are an IPv4 address or an error. The reference cuts a last number above 255 down to 8 bits,
//!   and takes others above 255 for a domain name.
//! - A port above 65,535 is refused.
//! - Domain names have the characters that such names can have. The reference takes nearly all there are.

mod binary;
pub mod client_version;
pub mod host;
pub mod queue;
pub mod router;

use std::fmt;

pub use client_version::{ClientVersion, ClientVersionRange};
pub use host::{Host, Hosts};
pub use queue::{QueueAddress, QueueInfo, QueueUri, SenderId};
pub use router::{KeyHash, Password, Router, RouterAddress, Scheme};

/// Which part of an address is wrong, and why. The author of the address is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong {part}: {reason}")]
pub struct AddressError {
    pub part: AddressPart,
    pub reason: &'static str,
}

impl AddressError {
    fn new(part: AddressPart, reason: &'static str) -> Self {
        Self { part, reason }
    }
}

/// The parts of an address, in the order of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPart {
    Scheme,
    KeyHash,
    Password,
    Host,
    Port,
    SenderId,
    Query,
    Versions,
    DhKey,
    /// Bytes behind the binary form.
    End,
}

impl fmt::Display for AddressPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "scheme",
            Self::KeyHash => "key hash",
            Self::Password => "password",
            Self::Host => "host",
            Self::Port => "port",
            Self::SenderId => "sender ID",
            Self::Query => "query",
            Self::Versions => "versions",
            Self::DhKey => "DH key",
            Self::End => "end",
        })
    }
}
