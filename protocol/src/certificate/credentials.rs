//! What a router needs of its certificate files: chain, private key, identity.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::chain::{Certificate, ChainError, router_identity, verify_chain};
use super::key::{KeyError, SigningKey};
use super::{FINGERPRINT_BYTES, fingerprint_text};

/// Chain and key of a router, checked against each other.
#[derive(Clone, Debug)]
pub struct RouterCredentials {
    /// DER, leaf first, 2 to 4 certificates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: SigningKey,
    /// SHA-256 of the identity certificate's DER: the key hash in the router's address.
    pub ca_fingerprint: [u8; FINGERPRINT_BYTES],
}

/// Which text was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemInput {
    /// `ca.crt`
    CaCertificate,
    /// `ca.key`
    CaKey,
    /// `server.crt`
    ServerCertificate,
    /// `server.key`
    ServerKey,
}

impl std::fmt::Display for PemInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CaCertificate => "CA certificate (ca.crt)",
            Self::CaKey => "CA key (ca.key)",
            Self::ServerCertificate => "server certificate (server.crt)",
            Self::ServerKey => "server key (server.key)",
        })
    }
}

/// Why certificate files cannot be used. The texts are meant for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    #[error("{input}: there is no PEM section {section:?} in it")]
    Missing { input: PemInput, section: &'static str },
    #[error("{input}: bad PEM text: {problem}")]
    Pem { input: PemInput, problem: String },
    #[error("{input}: {error}")]
    Key { input: PemInput, error: KeyError },
    #[error("{key}: it does not belong to the {certificate}")]
    Mismatch { key: PemInput, certificate: PemInput },
    #[error("server certificate with CA certificate behind it, counted from 0: {0}")]
    Chain(#[from] ChainError),
}

impl RouterCredentials {
    /// Loads the texts of `ca.crt`, `server.crt` and `server.key`. The chain is all certificates of `server_pem`,
    /// then all of `ca_pem`. `now_secs` is Unix time: an expired chain is refused, because clients would refuse it.
    pub fn from_pem(
        ca_pem: &str,
        server_pem: &str,
        server_key_pem: &str,
        now_secs: i64,
    ) -> Result<Self, CredentialsError> {
        let mut chain = certificates(server_pem, PemInput::ServerCertificate)?;
        chain.extend(certificates(ca_pem, PemInput::CaCertificate)?);
        let key = private_key(server_key_pem, PemInput::ServerKey)?;
        Self::new(chain, key, now_secs)
    }

    /// Checks that the chain holds together, is valid at `now_secs` and has the leaf that `key` belongs to.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: SigningKey,
        now_secs: i64,
    ) -> Result<Self, CredentialsError> {
        let leaf_key = verify_chain(&chain, now_secs)?;
        if leaf_key != key.verifying_key() {
            return Err(CredentialsError::Mismatch {
                key: PemInput::ServerKey,
                certificate: PemInput::ServerCertificate,
            });
        }
        let ca_fingerprint = router_identity(&chain)?;
        Ok(Self { chain, key, ca_fingerprint })
    }

    /// The identity as in the `fingerprint` file: base64url with `=`, without a line end.
    pub fn fingerprint_text(&self) -> String {
        fingerprint_text(&self.ca_fingerprint)
    }

    /// The Unix time after which clients refuse the chain.
    pub fn not_after_secs(&self) -> i64 {
        let ends = self.chain.iter().filter_map(|der| Certificate::parse(der));
        ends.map(|certificate| certificate.not_after_secs()).min().unwrap_or(i64::MIN)
    }
}

/// All certificates of a PEM text, at least one. Other sections are skipped.
pub(super) fn certificates(
    text: &str,
    input: PemInput,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|error| pem_error(input, "CERTIFICATE", &error))?;
    if found.is_empty() {
        return Err(CredentialsError::Missing { input, section: "CERTIFICATE" });
    }
    Ok(found)
}

/// The first private key of a PEM text.
pub(super) fn private_key(text: &str, input: PemInput) -> Result<SigningKey, CredentialsError> {
    let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| pem_error(input, "PRIVATE KEY", &error))?;
    SigningKey::from_pkcs8_der(pkcs8.secret_pkcs8_der())
        .map_err(|error| CredentialsError::Key { input, error })
}

fn pem_error(input: PemInput, section: &'static str, error: &pem::Error) -> CredentialsError {
    match error {
        pem::Error::NoItemsFound => CredentialsError::Missing { input, section },
        other => CredentialsError::Pem { input, problem: pem_problem(other).into() },
    }
}

/// What is wrong with a PEM text. The library's texts may quote the line, which may be part of a key.
pub(super) fn pem_problem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "there is no section of the right kind",
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "it is not base64",
        _ => "it cannot be read",
    }
}
