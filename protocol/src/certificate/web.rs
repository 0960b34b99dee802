//! The certificate that browsers see: made by an authority that they know, for the router's domain name. It says nothing
//! about the router's identity.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::chain::Certificate;
use super::credentials::pem_problem;

/// Why the files of a web certificate cannot be used. The texts are meant for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebCertificateError {
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    #[error("there is no certificate in the file")]
    NoCertificate,
    #[error("the key cannot be read: {0}")]
    Key(String),
    #[error("the key is of a kind that is not supported: RSA, ECDSA (P-256, P-384) and Ed25519 are")]
    KeyKind,
    #[error("the key does not belong to the certificate")]
    Mismatch,
}

/// A chain with the key of its first certificate. Clones are the same certificate: one that is [renewed](Self::renew) is
/// shown to the next browser by whoever has a clone.
#[derive(Clone)]
pub struct WebCertificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl WebCertificate {
    /// From PEM: the chain, leaf first, and the key in PKCS#8, PKCS#1 or SEC1 form. Whether browsers will trust it is not
    /// looked at.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, WebCertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect();
        let chain = chain.map_err(|error| WebCertificateError::Certificate(pem_problem(&error).into()))?;
        if chain.is_empty() {
            return Err(WebCertificateError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| WebCertificateError::Key(pem_problem(&error).into()))?;
        let key = any_supported_type(&key).map_err(|_| WebCertificateError::KeyKind)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => WebCertificateError::Mismatch,
            _ => WebCertificateError::Certificate("it is not valid X.509".into()),
        })?;
        Ok(Self(Arc::new(RwLock::new(Arc::new(certified)))))
    }

    /// Puts another certificate in the place of this one.
    pub fn renew(&self, other: &Self) {
        let other = other.current();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other;
    }

    /// The Unix time after which browsers refuse it.
    pub fn not_after_secs(&self) -> i64 {
        let current = self.current();
        let leaf = current.cert.first().and_then(|der| Certificate::parse(der));
        leaf.map_or(i64::MAX, |leaf| leaf.not_after_secs())
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for WebCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for WebCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "web chain of {} certificates", self.current().cert.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn made(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String) {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(["smp.example.com".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn certificates_of_usual_kinds_load() {
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let (certificate, key) = made(algorithm);
            let loaded = WebCertificate::from_pem(&certificate.repeat(2), &key).unwrap();
            assert_eq!(format!("{loaded:?}"), "web chain of 2 certificates");
        }
    }

    #[test]
    fn a_renewed_certificate_is_the_one_of_all_clones() {
        let loaded = |certificates: usize| {
            let (certificate, key) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
            WebCertificate::from_pem(&certificate.repeat(certificates), &key).unwrap()
        };
        let (old, new) = (loaded(1), loaded(2));
        let clone = old.clone();
        old.renew(&new);
        assert_eq!(format!("{clone:?}"), "web chain of 2 certificates");
        assert!(Arc::ptr_eq(&clone.current(), &new.current()));
        assert!(clone.not_after_secs() > 0);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let (certificate, key) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (_, other) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        let error = |certificate: &str, key: &str| WebCertificate::from_pem(certificate, key).unwrap_err();
        assert_eq!(error("", &key), WebCertificateError::NoCertificate);
        assert_eq!(error(&certificate, &other), WebCertificateError::Mismatch);
        assert_eq!(
            error(&certificate[..200], &key),
            WebCertificateError::Certificate("a section has no END line".into())
        );
        assert_eq!(
            error(&certificate, ""),
            WebCertificateError::Key("there is no section of the right kind".into())
        );
        let ed448 = super::super::SigningKey::ed448(&[1; 57]).to_pkcs8_pem();
        assert_eq!(error(&certificate, &ed448), WebCertificateError::KeyKind);
    }
}
