//! Services: clients with a certificate of their own (from version 16), and the third message of their handshake.

use rustls::pki_types::CertificateDer;

use crate::certificate::chain::Certificate;
use crate::certificate::{
    ChainError, FINGERPRINT_BYTES, SigningKey, service_identity, sign_key, verify_signed_key,
};
use crate::crypto::AuthPrivateKey;
use crate::encoding::{DecodeError, Reader, Sink};
use crate::error::{HandshakeError, TransportError};
use crate::keys::AuthPublicKey;
use crate::limits::BLOCK_BYTES;

use super::{HandshakeFailure, read_block, write_block};

/// What a service client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceRole {
    /// "M"
    Messaging,
    /// "N"
    Notifier,
    /// "P"
    Proxy,
}

impl ServiceRole {
    fn byte(self) -> u8 {
        match self {
            Self::Messaging => b'M',
            Self::Notifier => b'N',
            Self::Proxy => b'P',
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'M' => Some(Self::Messaging),
            b'N' => Some(Self::Notifier),
            b'P' => Some(Self::Proxy),
            _ => None,
        }
    }
}

/// What a service client has: its role, and the certificate by which routers know it.
#[derive(Clone, Debug)]
pub struct ServiceCredentials {
    pub role: ServiceRole,
    /// DER, leaf first: a single one that signed itself, or 2 to 4.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: SigningKey,
}

impl ServiceCredentials {
    /// SHA-256 of the identity certificate's DER.
    pub fn fingerprint(&self) -> Result<[u8; FINGERPRINT_BYTES], ChainError> {
        service_identity(&self.chain)
    }

    /// The session key, signed by the leaf's key.
    pub fn sign(&self, session_key: &AuthPrivateKey) -> Vec<u8> {
        sign_key(&session_key.public().to_der(), &self.key)
    }

    /// The service's part of a client hello, with what [`sign`](Self::sign) gave.
    pub fn hello<'a>(&'a self, signed_key: &'a [u8]) -> ServiceHello<'a> {
        ServiceHello { role: self.role, chain: self.chain.iter().map(AsRef::as_ref).collect(), signed_key }
    }
}

/// The service's part of a client hello, as sent: not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHello<'a> {
    pub role: ServiceRole,
    /// DER, leaf first, at least one. A single one is self-signed.
    pub chain: Vec<&'a [u8]>,
    /// An Ed25519 key signed by the leaf: see [`crate::certificate::signed_key`].
    pub signed_key: &'a [u8],
}

/// A service that has proved to own its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedService {
    pub role: ServiceRole,
    /// SHA-256 of the identity certificate's DER: of the only certificate, or the second of 2 to 4.
    pub fingerprint: [u8; 32],
    /// The Ed25519 key that signs commands in this session.
    pub session_key: [u8; 32],
}

impl<'a> ServiceHello<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let role = ServiceRole::from_byte(reader.u8()?).ok_or(DecodeError::Invalid)?;
        Ok(Self { role, chain: reader.list(Reader::large)?, signed_key: reader.large()? })
    }

    pub(super) fn write(&self, out: &mut impl Sink) {
        out.put_u8(self.role.byte());
        out.put_list(&self.chain, |out, der| out.put_large(der));
        out.put_large(self.signed_key);
    }

    /// Checks the service against the chain that the client proved to own in TLS: both must be equal, and the leaf's
    /// key must have signed the session key. Otherwise the service is to be told [`HandshakeError::BadAuth`].
    pub fn verify<T: AsRef<[u8]>>(&self, tls_chain: &[T]) -> Result<VerifiedService, HandshakeFailure> {
        if !self.chain.iter().copied().eq(tls_chain.iter().map(AsRef::as_ref)) {
            return Err(HandshakeFailure::BadAuth);
        }
        self.verified().ok_or(HandshakeFailure::BadAuth)
    }

    fn verified(&self) -> Option<VerifiedService> {
        let identity = service_identity(&self.chain).ok()?;
        let leaf_key = Certificate::parse(self.chain.first()?)?.verifying_key().ok()?;
        let session_key =
            AuthPublicKey::from_der(verify_signed_key(self.signed_key, &leaf_key).ok()?).ok()?;
        let AuthPublicKey::Ed25519(session_key) = session_key else {
            return None;
        };
        Some(VerifiedService { role: self.role, fingerprint: identity, session_key })
    }
}

/// The router's answer to a service: `routerHandshakeResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceResponse<'a> {
    /// "R"
    Accepted { service_id: &'a [u8] },
    /// "E"
    Refused(TransportError),
}

/// Writes the third block. `TooLarge` if the service ID has more than 255 bytes.
pub fn write_service_response(
    response: ServiceResponse<'_>,
    block: &mut [u8; BLOCK_BYTES],
) -> Result<(), HandshakeFailure> {
    let mut content = Vec::new();
    match response {
        ServiceResponse::Accepted { service_id } if service_id.len() > 255 => {
            return Err(HandshakeFailure::TooLarge);
        }
        ServiceResponse::Accepted { service_id } => {
            content.put_u8(b'R');
            content.put_short(service_id);
        }
        ServiceResponse::Refused(error) => {
            content.put_u8(b'E');
            content.put(error_text(error).as_bytes());
        }
    }
    write_block(&content, block)
}

/// Reads the third block: the service ID, or [`HandshakeFailure::Refused`].
pub fn read_service_response(block: &[u8]) -> Result<&[u8], HandshakeFailure> {
    let mut reader = read_block(block)?;
    match reader.u8()? {
        b'R' => Ok(reader.short()?),
        b'E' => {
            let error = error_from_text(reader.rest()).ok_or(HandshakeFailure::Parse)?;
            Err(HandshakeFailure::Refused(error))
        }
        _ => Err(HandshakeFailure::Parse),
    }
}

/// Every error with its text: `transportError`.
const ERROR_TEXTS: [(TransportError, &str); 9] = [
    (TransportError::Block, "BLOCK"),
    (TransportError::Version, "VERSION"),
    (TransportError::LargeMsg, "LARGE_MSG"),
    (TransportError::Session, "SESSION"),
    (TransportError::NoAuth, "NO_AUTH"),
    (TransportError::Handshake(HandshakeError::Parse), "HANDSHAKE PARSE"),
    (TransportError::Handshake(HandshakeError::Identity), "HANDSHAKE IDENTITY"),
    (TransportError::Handshake(HandshakeError::BadAuth), "HANDSHAKE BAD_AUTH"),
    (TransportError::Handshake(HandshakeError::BadService), "HANDSHAKE BAD_SERVICE"),
];

fn error_text(error: TransportError) -> &'static str {
    ERROR_TEXTS.iter().find(|(known, _)| *known == error).map_or("BLOCK", |(_, text)| text)
}

/// The error at the front of `text`. Words behind it are ignored.
fn error_from_text(text: &[u8]) -> Option<TransportError> {
    ERROR_TEXTS.iter().find_map(|(error, known)| {
        let rest = text.strip_prefix(known.as_bytes())?;
        matches!(rest.first(), None | Some(b' ')).then_some(*error)
    })
}
