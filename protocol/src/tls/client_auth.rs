//! How routers verify services: clients with certificates of their own ("Service certificates" of the protocol text).
//!
//! Anyone may make such certificates, and the router knows none of them beforehand: what counts is that the chain holds
//! together up to the certificate by which the service is known, and that the client has the leaf's key.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::verifier::{SCHEMES, no_tls12, shown, verify_leaf_signature};
use crate::certificate::{ChainError, verify_service_chain};

/// Asks for a certificate, and accepts clients without one.
#[derive(Debug)]
pub(super) struct ServiceVerifier;

/// The alert says what is wrong, as the reference's does.
fn refused(reason: ChainError) -> Error {
    let error = match reason {
        ChainError::NotYetValid { .. } => CertificateError::NotValidYet,
        ChainError::Expired { .. } => CertificateError::Expired,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(error)
}

impl ClientCertVerifier for ServiceVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (chain, now_secs) = shown(end_entity, intermediates, now);
        verify_service_chain(&chain, now_secs).map_err(refused)?;
        Ok(ClientCertVerified::assertion())
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
