//! New identities: a CA certificate, which is the router's identity, and server certificates signed by it.
//!
//! They have the form of those that the reference makes with OpenSSL: the same names, extensions and validity.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use zeroize::Zeroizing;

use super::chain::{Certificate, ChainError};
use super::credentials::{CredentialsError, PemInput, certificates, private_key};
use super::key::{SignatureAlgorithm, SigningKey};
use super::write::{NewCertificate, Purpose, key_identifier, name};
use super::{FINGERPRINT_BYTES, fingerprint, pem};

/// Common name of a new CA certificate.
pub const CA_COMMON_NAME: &str = "SMP server CA";
/// Organization of a new CA certificate.
pub const CA_ORGANIZATION: &str = "SimpleX";
/// The reference's 999,999 days: identities are not meant to end.
const VALIDITY_SECS: i64 = 999_999 * 86_400;
/// A new router is to be usable by clients whose clocks are late.
const BACKDATED_SECS: i64 = 86_400;
/// RFC 5280 allows 64 characters in a common name.
const COMMON_NAME_CHARACTERS_MAX: usize = 64;

/// Why a certificate cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("CA certificate (ca.crt): it is not valid X.509")]
    CaCertificate,
    #[error("a certificate's name must have 1 to 64 characters")]
    Name,
    #[error("Unix time {0} is outside of what certificates can say")]
    Time(i64),
}

/// The offline certificate of a router with its private key.
#[derive(Debug)]
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    key: SigningKey,
}

/// A server certificate with its private key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    pub certificate_pem: String,
    pub key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedCertificate").finish_non_exhaustive()
    }
}

/// What a new server certificate takes over from the one that it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldCertificate {
    /// In the file. With several the issuer is one of them.
    pub certificates: usize,
    /// The common name of the first.
    pub name: Option<String>,
    /// Of its key. None: neither of ours.
    pub algorithm: Option<SignatureAlgorithm>,
}

impl OldCertificate {
    /// From the text of `server.crt`. Its validity does not matter.
    pub fn from_pem(certificate_pem: &str) -> Result<Self, CredentialsError> {
        let found = certificates(certificate_pem, PemInput::ServerCertificate)?;
        let first = found.first().and_then(|der| Certificate::parse(der));
        let first = first.ok_or(ChainError::Malformed { certificate: 0 })?;
        Ok(Self {
            certificates: found.len(),
            name: first.common_name().map(str::to_owned),
            algorithm: first.verifying_key().ok().map(|key| key.algorithm()),
        })
    }
}

impl CertificateAuthority {
    /// A new self-signed Ed25519 CA. `key_seed` must be random and is the private key; `now_secs` is Unix time.
    pub fn generate(key_seed: &[u8; 32], now_secs: i64) -> Result<Self, GenerateError> {
        Self::generate_with(SigningKey::ed25519(key_seed), now_secs)
    }

    /// A new self-signed CA with this key, which must be new.
    pub fn generate_with(key: SigningKey, now_secs: i64) -> Result<Self, GenerateError> {
        let subject = name(CA_COMMON_NAME, Some(CA_ORGANIZATION));
        let public_key = key.verifying_key();
        let (not_before_secs, not_after_secs) = validity(now_secs)?;
        let new = NewCertificate {
            purpose: Purpose::Authority,
            subject: &subject,
            issuer: &subject,
            public_key: &public_key,
            issuer_key: &key,
            issuer_key_identifier: &key_identifier(&public_key),
            not_before_secs,
            not_after_secs,
        };
        let certificate = new.sign().ok_or(GenerateError::Time(now_secs))?.into();
        Ok(Self { certificate, key })
    }

    /// Loads the texts of `ca.crt` and `ca.key`. Of several certificates the first is taken.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, GenerateError> {
        let found = certificates(certificate_pem, PemInput::CaCertificate)?;
        let certificate = found.into_iter().next().ok_or(GenerateError::CaCertificate)?;
        let key = private_key(key_pem, PemInput::CaKey)?;
        let public = Certificate::parse(&certificate).ok_or(GenerateError::CaCertificate)?.verifying_key();
        if public != Ok(key.verifying_key()) {
            let mismatch =
                CredentialsError::Mismatch { key: PemInput::CaKey, certificate: PemInput::CaCertificate };
            return Err(mismatch.into());
        }
        Ok(Self { certificate, key })
    }

    /// A server certificate for `host`, a name or an IP address, with a new Ed25519 key of the random `key_seed`.
    pub fn issue(
        &self,
        host: &str,
        key_seed: &[u8; 32],
        now_secs: i64,
    ) -> Result<IssuedCertificate, GenerateError> {
        self.issue_with(host, &SigningKey::ed25519(key_seed), now_secs)
    }

    /// As [`issue`](Self::issue), for this key, which must be new.
    pub fn issue_with(
        &self,
        host: &str,
        key: &SigningKey,
        now_secs: i64,
    ) -> Result<IssuedCertificate, GenerateError> {
        if host.is_empty() || host.chars().count() > COMMON_NAME_CHARACTERS_MAX {
            return Err(GenerateError::Name);
        }
        let (issuer, issuer_key_identifier) = self.as_issuer().ok_or(GenerateError::CaCertificate)?;
        let (not_before_secs, not_after_secs) = validity(now_secs)?;
        let new = NewCertificate {
            purpose: Purpose::Server,
            subject: &name(host, None),
            issuer: &issuer,
            public_key: &key.verifying_key(),
            issuer_key: &self.key,
            issuer_key_identifier: &issuer_key_identifier,
            not_before_secs,
            not_after_secs,
        };
        let certificate = new.sign().ok_or(GenerateError::Time(now_secs))?;
        Ok(IssuedCertificate { certificate_pem: certificate_pem(&certificate), key_pem: key.to_pkcs8_pem() })
    }

    /// DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pkcs8_pem()
    }

    /// The identity of routers with certificates of this CA.
    pub fn fingerprint(&self) -> [u8; FINGERPRINT_BYTES] {
        fingerprint(&self.certificate)
    }

    /// What an issued certificate repeats of this one: its name, byte for byte, and its key identifier.
    fn as_issuer(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.certificate).ok()?;
        let identifier = certificate.extensions().iter().find_map(|extension| {
            let ParsedExtension::SubjectKeyIdentifier(identifier) = extension.parsed_extension() else {
                return None;
            };
            Some(identifier.0.to_vec())
        });
        let identifier = identifier.unwrap_or_else(|| key_identifier(&self.key.verifying_key()).to_vec());
        Some((certificate.subject().as_raw().to_vec(), identifier))
    }
}

/// From when to when a certificate made now is valid: Unix times.
fn validity(now_secs: i64) -> Result<(i64, i64), GenerateError> {
    let from = now_secs.checked_sub(BACKDATED_SECS).ok_or(GenerateError::Time(now_secs))?;
    let to = now_secs.checked_add(VALIDITY_SECS).ok_or(GenerateError::Time(now_secs))?;
    Ok((from, to))
}

fn certificate_pem(der: &[u8]) -> String {
    String::clone(&pem::encode("CERTIFICATE", der))
}
