//! A connection after the handshake: application data, key updates, alerts (RFC 8446, 4.6, 5 and 6).
//!
//! rustls derives new keys on key updates through its kernel API, made for those who protect records themselves.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};

use super::channel::Opened;
use super::error::{RecordFault, TlsError};
use super::record::{
    ALERT, APPLICATION_DATA, HANDSHAKE, KEY_UPDATE_RECORD_BYTES, PLAINTEXT_BYTES_MAX, Protection,
    RECORD_HEADER_BYTES, RECORD_OVERHEAD_BYTES, first_record,
};

/// Records in a row without application data: more is an attempt to keep this side busy for nothing.
const EMPTY_RECORDS_MAX: u8 = 32;
/// Handshake message types that may come after the handshake.
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// `KeyUpdate` with `update_not_requested`, as a whole message.
const KEY_UPDATE_MESSAGE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
/// The largest that its fields allow (RFC 8446, 4.6.1).
const NEW_SESSION_TICKET_BYTES_MAX: u32 = 4 + 4 + (1 + 255) + (2 + 65_535) + (2 + 65_534);

/// What derives the keys of the next generation.
pub(super) enum KeySource {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

impl KeySource {
    fn suite(&self) -> (ProtocolVersion, SupportedCipherSuite) {
        match self {
            Self::Server(keys) => (keys.protocol_version(), keys.negotiated_cipher_suite()),
            Self::Client(keys) => (keys.protocol_version(), keys.negotiated_cipher_suite()),
        }
    }

    fn next_sending(&mut self, records_max: u64) -> Result<Protection, TlsError> {
        let secrets = match self {
            Self::Server(keys) => keys.update_tx_secret(),
            Self::Client(keys) => keys.update_tx_secret(),
        };
        Protection::new(secrets?, records_max)
    }

    fn next_receiving(&mut self) -> Result<Protection, TlsError> {
        let secrets = match self {
            Self::Server(keys) => keys.update_rx_secret(),
            Self::Client(keys) => keys.update_rx_secret(),
        };
        Protection::new(secrets?, u64::MAX)
    }
}

/// A handshake message that may be spread over records. Its content is not kept: none that is allowed has any use
/// here beyond a byte.
#[derive(Default)]
struct PartialMessage {
    header: [u8; 4],
    header_filled: usize,
    /// Bytes of a session ticket still to come.
    to_skip: u32,
}

pub(super) struct Traffic {
    keys: KeySource,
    sending: Protection,
    receiving: Protection,
    /// How many records one key may protect.
    records_max: u64,
    message: PartialMessage,
    empty_records: u8,
    /// A key update has to be sent before the next application data.
    key_update_due: bool,
    peer_closed: bool,
    /// Receiving has failed.
    failed: bool,
    /// What this side ended the connection with, or will end it with after an error.
    end: Option<AlertDescription>,
    end_sent: bool,
}

impl Traffic {
    pub(super) fn new(secrets: ExtractedSecrets, keys: KeySource) -> Result<Self, TlsError> {
        let (version, suite) = keys.suite();
        let Some(records_max) = records_max(suite).filter(|_| version == ProtocolVersion::TLSv1_3) else {
            return Err(TlsError::Configuration("a TLS version is enabled that is not 1.3"));
        };
        Ok(Self {
            keys,
            sending: Protection::new(secrets.tx, records_max)?,
            receiving: Protection::new(secrets.rx, u64::MAX)?,
            records_max,
            message: PartialMessage::default(),
            empty_records: 0,
            key_update_due: false,
            peer_closed: false,
            failed: false,
            end: None,
            end_sent: false,
        })
    }

    pub(super) fn open(&mut self, incoming: &mut [u8]) -> Result<Opened, TlsError> {
        if self.failed {
            return Err(TlsError::Ended);
        }
        self.open_records(incoming).inspect_err(|error| {
            self.failed = true;
            self.end.get_or_insert(match error {
                TlsError::Record(fault) => fault.alert(),
                // No answer to a fatal alert.
                TlsError::Alert(_) => {
                    self.end_sent = true;
                    AlertDescription::CloseNotify
                }
                _ => AlertDescription::InternalError,
            });
        })
    }

    fn open_records(&mut self, incoming: &mut [u8]) -> Result<Opened, TlsError> {
        let mut consumed = 0;
        loop {
            if self.peer_closed {
                // RFC 8446, 6.1: what comes after close_notify is ignored.
                return Ok(Opened::Closed { consumed: incoming.len() });
            }
            let Some(record) = first_record(incoming.get_mut(consumed..).unwrap_or_default())? else {
                return Ok(Opened::Incomplete { consumed });
            };
            let record_end = consumed + record.len();
            let (content_type, content_bytes) = self.receiving.open(record)?;
            let content = consumed + RECORD_HEADER_BYTES..consumed + RECORD_HEADER_BYTES + content_bytes;
            if content_type != HANDSHAKE && self.message.is_partial() {
                return Err(RecordFault::UnexpectedMessage.into());
            }
            match content_type {
                APPLICATION_DATA if content_bytes > 0 => {
                    self.empty_records = 0;
                    return Ok(Opened::Data { consumed: record_end, payload: content });
                }
                APPLICATION_DATA => {}
                HANDSHAKE if content_bytes > 0 => {
                    self.post_handshake(incoming.get(content).unwrap_or_default())?;
                }
                ALERT => self.alert(incoming.get(content).unwrap_or_default())?,
                _ => return Err(RecordFault::UnexpectedMessage.into()),
            }
            consumed = record_end;
            self.empty_records += 1;
            if self.empty_records > EMPTY_RECORDS_MAX {
                return Err(RecordFault::TooManyEmptyRecords.into());
            }
        }
    }

    /// Handshake messages after the handshake: key updates, and session tickets, which clients ignore.
    fn post_handshake(&mut self, mut bytes: &[u8]) -> Result<(), TlsError> {
        while let Some((&first, rest)) = bytes.split_first() {
            let message = &mut self.message;
            if message.to_skip > 0 {
                let available = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let skipped = message.to_skip.min(available);
                message.to_skip -= skipped;
                bytes = bytes.get(skipped as usize..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            if let Some(byte) = message.header.get_mut(message.header_filled) {
                *byte = first;
                message.header_filled += 1;
                if message.header_filled == message.header.len() {
                    let [kind, length @ ..] = message.header;
                    let length = u32::from_be_bytes([0, length[0], length[1], length[2]]);
                    match kind {
                        KEY_UPDATE if length != 1 => return Err(RecordFault::DecodeError.into()),
                        KEY_UPDATE => {}
                        NEW_SESSION_TICKET if matches!(self.keys, KeySource::Client(_)) => {
                            if length > NEW_SESSION_TICKET_BYTES_MAX {
                                return Err(RecordFault::DecodeError.into());
                            }
                            *message = PartialMessage { to_skip: length, ..PartialMessage::default() };
                        }
                        _ => return Err(RecordFault::UnexpectedMessage.into()),
                    }
                }
                continue;
            }
            // The only byte of a key update. Nothing may follow it under the old key.
            if !bytes.is_empty() {
                return Err(RecordFault::UnexpectedMessage.into());
            }
            *message = PartialMessage::default();
            match first {
                0 => {}
                1 => self.key_update_due = true,
                _ => return Err(RecordFault::IllegalParameter.into()),
            }
            self.receiving = self.keys.next_receiving()?;
        }
        Ok(())
    }

    fn alert(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        // In TLS 1.3 the level says nothing.
        let &[_level, description] = bytes else {
            return Err(RecordFault::DecodeError.into());
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.peer_closed = true,
            // A close_notify follows.
            AlertDescription::UserCanceled => {}
            other => return Err(TlsError::Alert(other)),
        }
        Ok(())
    }

    /// How much room `seal` needs for this much application data now.
    pub(super) fn sealed_bytes(&self, plain_bytes: usize) -> usize {
        let records = plain_bytes.div_ceil(PLAINTEXT_BYTES_MAX);
        let ahead = if self.needs_key_update(records) { KEY_UPDATE_RECORD_BYTES } else { 0 };
        plain_bytes + records * RECORD_OVERHEAD_BYTES + ahead
    }

    fn needs_key_update(&self, records: usize) -> bool {
        // One record is kept for the key update itself.
        self.key_update_due || self.sending.records_left() <= records as u64
    }

    pub(super) fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        self.check_open()?;
        let required = self.sealed_bytes(plain.len());
        if out.len() < required {
            return Err(TlsError::BufferTooSmall { required, given: out.len() });
        }
        let mut written = 0;
        if self.needs_key_update(plain.len().div_ceil(PLAINTEXT_BYTES_MAX)) {
            written = self.update_sending_key(out)?;
        }
        for content in plain.chunks(PLAINTEXT_BYTES_MAX) {
            let rest = out.get_mut(written..).unwrap_or_default();
            written += self.sending.seal(APPLICATION_DATA, content, rest)?;
        }
        Ok(written)
    }

    pub(super) fn seal_in_place(
        &mut self,
        buffer: &mut [u8],
        plain_bytes: usize,
        ahead: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        self.check_open()?;
        let required = plain_bytes + RECORD_OVERHEAD_BYTES;
        if buffer.len() < required || plain_bytes > PLAINTEXT_BYTES_MAX {
            return Err(TlsError::BufferTooSmall { required, given: buffer.len() });
        }
        if self.needs_key_update(1) {
            let mut record = [0; KEY_UPDATE_RECORD_BYTES];
            let length = self.update_sending_key(&mut record)?;
            ahead.extend_from_slice(record.get(..length).unwrap_or_default());
        }
        self.sending.seal_in_place(APPLICATION_DATA, buffer, plain_bytes)
    }

    fn update_sending_key(&mut self, out: &mut [u8]) -> Result<usize, TlsError> {
        let length = self.sending.seal(HANDSHAKE, &KEY_UPDATE_MESSAGE, out)?;
        self.sending = self.keys.next_sending(self.records_max)?;
        self.key_update_due = false;
        Ok(length)
    }

    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let end = *self.end.get_or_insert(AlertDescription::CloseNotify);
        if self.end_sent {
            return Ok(());
        }
        self.end_sent = true;
        let level = if end == AlertDescription::CloseNotify { 1 } else { 2 };
        let mut record = [0; 2 + RECORD_OVERHEAD_BYTES];
        let length = self.sending.seal(ALERT, &[level, end.into()], &mut record)?;
        out.extend_from_slice(record.get(..length).unwrap_or_default());
        Ok(())
    }

    fn check_open(&self) -> Result<(), TlsError> {
        if self.end.is_some() { Err(TlsError::Ended) } else { Ok(()) }
    }
}

/// How many records one key may protect. None for suites of TLS 1.2.
fn records_max(suite: SupportedCipherSuite) -> Option<u64> {
    // Without the tls12 feature of rustls the pattern cannot fail.
    #[allow(irrefutable_let_patterns)]
    let SupportedCipherSuite::Tls13(suite) = suite else {
        return None;
    };
    Some(suite.common.confidentiality_limit)
}

impl PartialMessage {
    fn is_partial(&self) -> bool {
        self.header_filled > 0 || self.to_skip > 0
    }
}

#[cfg(test)]
mod tests;
