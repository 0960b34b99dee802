//! TLS between clients and routers: "TLS transport encryption" of the protocol text. Bytes in, bytes out.
//!
//! TLS 1.3 only, `TLS_CHACHA20_POLY1305_SHA256` only, X25519 or X448, certificates with Ed25519 or Ed448, no
//! resumption and no early data. rustls does the handshake. After it [`TlsChannel`] takes the traffic keys over and protects
//! records in the caller's memory: rustls would copy every record into a buffer of its own, and keep some kilobytes
//! for every idle connection.
//!
//! | module | what it knows |
//! |---|---|
//! | [`config`] | configurations of routers and clients |
//! | [`client_hello`] | which configuration a client needs |
//! | [`channel`] | one connection: the only module that names rustls' unbuffered API |
//! | `traffic`, `record` | records after the handshake: protection, key updates, alerts |
//! | [`provider`], `key_exchange`, `random`, `finished` | algorithms; the session identifier, caught during the handshake |
//! | `verifier`, `client_auth`, `signer` | checking and proving the identity of routers and services |

pub mod channel;
mod client_auth;
pub mod client_hello;
pub mod config;
mod error;
mod finished;
mod key_exchange;
pub mod provider;
mod random;
mod record;
mod signer;
mod traffic;
mod verifier;

use std::fmt;

pub use channel::{Handshake, Opened, TlsChannel};
pub use config::{ALPN_SMP, client_config, no_server_name, server_config};
pub use error::{Culprit, RecordFault, TlsError};
pub use record::{
    KEY_UPDATE_RECORD_BYTES, PLAINTEXT_BYTES_MAX, RECORD_BYTES_MAX, RECORD_HEADER_BYTES,
    RECORD_OVERHEAD_BYTES, SEALED_BLOCK_BYTES,
};

/// What identifies a session: the `tls-unique` channel binding, which is the client's TLS `Finished`, on both sides.
/// 32 bytes with SHA-256 cipher suites, 48 with SHA-384. Held inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    length: u8,
    /// Zeros behind `length`.
    bytes: [u8; Self::BYTES_MAX],
}

impl SessionId {
    pub const BYTES_MAX: usize = 48;

    /// None if longer than 48 bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = Self { length: u8::try_from(bytes.len()).ok()?, bytes: [0; Self::BYTES_MAX] };
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(id)
    }
}

impl AsRef<[u8]> for SessionId {
    fn as_ref(&self) -> &[u8] {
        // `length` is at most 48, from `new`.
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(")?;
        for byte in self.as_ref() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn session_identifiers_have_up_to_48_bytes() {
        for length in [0, 32, 48] {
            let bytes = vec![7; length];
            assert_eq!(SessionId::new(&bytes).unwrap().as_ref(), bytes);
        }
        for length in [49, 256, 300] {
            assert_eq!(SessionId::new(&vec![7; length]), None);
        }
        assert_ne!(SessionId::new(&[0; 32]), SessionId::new(&[0; 33]));
        assert_eq!(format!("{:?}", SessionId::new(&[1, 0xab]).unwrap()), "SessionId(01ab)");
    }

    #[test]
    fn channels_may_move_between_threads() {
        fn assert_send<T: Send>() {}
        assert_send::<TlsChannel>();
    }
}
