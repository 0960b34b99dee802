//! From commands and responses to transmissions.

use super::{Authorization, ED25519_SIGNATURE_BYTES, Format};
use crate::command::Command;
use crate::encoding::{ByteCount, Sink};
use crate::response::Response;

/// The part of a transmission that is authorized. A client builds it, authorizes it, and then writes the whole.
#[derive(Clone, Copy, Debug)]
pub struct Authorized<'b> {
    /// Session ID, correlation ID, entity ID and command.
    bytes: &'b [u8],
    /// Where the part that is sent begins in `bytes`.
    sent_from: usize,
    format: Format,
}

impl<'b> Authorized<'b> {
    /// Puts a command together in `buffer`, which is cleared.
    pub fn command(
        format: Format,
        session_id: &[u8],
        corr_id: &[u8],
        entity_id: &[u8],
        command: &Command<'_>,
        buffer: &'b mut Vec<u8>,
    ) -> Self {
        buffer.clear();
        buffer.put_short(session_id);
        let sent_from = if format.session_implied { buffer.len() } else { 0 };
        buffer.put_short(corr_id);
        buffer.put_short(entity_id);
        command.encode(format.version, buffer);
        Self { bytes: buffer, sent_from, format }
    }

    /// What the authorization must cover. In a service session the queue's key covers the SHA-256 fingerprint of
    /// the service certificate before this, the service's key this alone.
    pub fn for_authorization(&self) -> &'b [u8] {
        self.bytes
    }

    /// What is sent of it: without the session ID from version 7 on.
    pub fn sent(&self) -> &'b [u8] {
        &self.bytes[self.sent_from..]
    }

    /// Appends the transmission, without its length. A service signature can only stand beside an authorization, and
    /// from version 16; elsewhere it is left out.
    pub fn write(
        &self,
        authorization: Authorization<'_>,
        service_signature: Option<&[u8; ED25519_SIGNATURE_BYTES]>,
        out: &mut impl Sink,
    ) {
        out.put_short(authorization.as_bytes());
        if self.format.service_signature && !authorization.is_none() {
            out.put_maybe(service_signature, |out, signature| out.put_short(signature));
        }
        out.put(self.sent());
    }

    /// Size of what [`write`](Self::write) appends.
    pub fn transmission_bytes(
        &self,
        authorization: Authorization<'_>,
        service_signature: Option<&[u8; ED25519_SIGNATURE_BYTES]>,
    ) -> usize {
        let mut count = ByteCount::default();
        self.write(authorization, service_signature, &mut count);
        count.0
    }
}

/// Appends the transmission of a response, without its length. Its authorization is always empty.
pub fn write_response(
    format: Format,
    session_id: &[u8],
    corr_id: &[u8],
    entity_id: &[u8],
    response: &Response<'_>,
    out: &mut impl Sink,
) {
    write_response_head(format, session_id, corr_id, entity_id, out);
    response.encode(format.version, out);
}

/// What stands before a response.
pub(super) fn write_response_head(
    format: Format,
    session_id: &[u8],
    corr_id: &[u8],
    entity_id: &[u8],
    out: &mut impl Sink,
) {
    out.put_short(&[]);
    if !format.session_implied {
        out.put_short(session_id);
    }
    out.put_short(corr_id);
    out.put_short(entity_id);
}
