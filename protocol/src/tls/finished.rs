//! The session identifier, which rustls does not give: the verify data of the client's `Finished` message.
//!
//! In TLS 1.3 both sides compute it with HMAC (RFC 8446, 4.4.4): the client to send it, the router to compare it. In a
//! handshake without resumption HMAC signs nothing but the two `Finished` messages, the client's last. So the HKDF
//! of each cipher suite is wrapped to remember its last tag, for the time of one call into rustls.

use std::cell::Cell;

use rustls::crypto::ActiveKeyExchange;
use rustls::crypto::hmac;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock};

use super::SessionId;

thread_local! {
    /// The last tag of the call into rustls that runs on this thread now.
    static LAST_TAG: Cell<Option<SessionId>> = const { Cell::new(None) };
}

/// Runs `step`, one call into rustls for one connection, and returns the last `Finished` tag that it computed.
/// What another connection left is cleared before, and nothing is left behind.
pub(super) fn watch<R>(step: impl FnOnce() -> R) -> (R, Option<SessionId>) {
    LAST_TAG.set(None);
    let result = step();
    (result, LAST_TAG.take())
}

/// An HKDF that remembers the last tag it made.
pub(super) struct WatchedHkdf(pub &'static dyn Hkdf);

impl Hkdf for WatchedHkdf {
    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> hmac::Tag {
        let tag = self.0.hmac_sign(key, message);
        LAST_TAG.set(SessionId::new(tag.as_ref()));
        tag
    }

    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.0.extract_from_zero_ikm(salt)
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        self.0.extract_from_secret(salt, secret)
    }

    fn extract_from_kx_shared_secret(
        &self,
        salt: Option<&[u8]>,
        kx: Box<dyn ActiveKeyExchange>,
        peer_pub_key: &[u8],
    ) -> Result<Box<dyn HkdfExpander>, rustls::Error> {
        self.0.extract_from_kx_shared_secret(salt, kx, peer_pub_key)
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        self.0.expander_for_okm(okm)
    }
}
