//! How clients verify a router: by the fingerprint in its address, not by names and authorities.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, PeerIncompatible, SignatureScheme};
use std::sync::Arc;

use super::signer::scheme;
use crate::certificate::chain::Certificate;
use crate::certificate::{ChainError, verify_router_chain};

/// Accepts the router whose chain has the identity, and no other.
#[derive(Debug)]
pub(super) struct RouterVerifier {
    /// SHA-256 of the identity certificate's DER.
    pub identity: [u8; 32],
}

/// The reason travels through rustls inside its error.
fn refused(reason: ChainError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

impl ServerCertVerifier for RouterVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (chain, now_secs) = shown(end_entity, intermediates, now);
        verify_router_chain(&chain, &self.identity, now_secs).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_leaf_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

/// What certificates of the protocol sign with.
pub(super) const SCHEMES: [SignatureScheme; 2] = [SignatureScheme::ED25519, SignatureScheme::ED448];

/// The chain from its leaf on, and the time in seconds since 1970.
pub(super) fn shown<'a>(
    leaf: &'a CertificateDer<'_>,
    intermediates: &'a [CertificateDer<'_>],
    now: UnixTime,
) -> (Vec<&'a [u8]>, i64) {
    let chain = std::iter::once(leaf).chain(intermediates).map(AsRef::as_ref).collect();
    (chain, i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// TLS 1.3 alone is spoken, so nobody asks for it.
pub(super) fn no_tls12() -> Error {
    PeerIncompatible::ServerDoesNotSupportTls12Or13.into()
}

/// Whether the owner of this certificate's key signed the TLS handshake.
pub(super) fn verify_leaf_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let leaf = Certificate::parse(cert).ok_or_else(|| refused(ChainError::Malformed { certificate: 0 }))?;
    let key = leaf.verifying_key();
    let key = key.map_err(|error| refused(ChainError::Key { certificate: 0, error }))?;
    if dss.scheme == scheme(key.algorithm()) && key.verify(message, dss.signature()) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}
