//! New identities: a CA certificate, which is the router's identity, and server certificates signed by it.
//!
//! They have the form of those that the reference makes with OpenSSL: the same names, extensions and validity.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::extensions::ParsedExtension;
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::chain::Certificate;
use super::credentials::{CredentialsError, PemInput, certificates, private_key};
use super::key::{SignatureAlgorithm, SigningKey};
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
    #[error("CA certificate (ca.crt): it is not valid X.509, or its name cannot be copied")]
    CaCertificate,
    #[error("CA keys with {0} cannot sign new certificates, only Ed25519 keys can")]
    Algorithm(SignatureAlgorithm),
    #[error("a certificate's name must have 1 to 64 characters")]
    Name,
    #[error("Unix time {0} is outside of what certificates can say")]
    Time(i64),
    #[error("the certificate could not be written: {0}")]
    Encoding(String),
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

impl CertificateAuthority {
    /// A new self-signed Ed25519 CA. `key_seed` must be random and is the private key; `now_secs` is Unix time.
    pub fn generate(key_seed: &[u8; 32], now_secs: i64) -> Result<Self, GenerateError> {
        let key = SigningKey::ed25519(key_seed);
        let mut params = params(now_secs)?;
        params.distinguished_name.push(DnType::CommonName, CA_COMMON_NAME);
        params.distinguished_name.push(DnType::OrganizationName, CA_ORGANIZATION);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&RcgenKey::new(&key)).map_err(|error| encoding(&error))?;
        Ok(Self { certificate: certificate.into(), key })
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
        if host.is_empty() || host.chars().count() > COMMON_NAME_CHARACTERS_MAX {
            return Err(GenerateError::Name);
        }
        if self.key.algorithm() != SignatureAlgorithm::Ed25519 {
            return Err(GenerateError::Algorithm(self.key.algorithm()));
        }
        let key = SigningKey::ed25519(key_seed);
        let mut params = params(now_secs)?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
            KeyUsagePurpose::KeyAgreement,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer_params = self.issuer_params().ok_or(GenerateError::CaCertificate)?;
        let issuer = Issuer::new(issuer_params, RcgenKey::new(&self.key));
        let certificate =
            params.signed_by(&RcgenKey::new(&key), &issuer).map_err(|error| encoding(&error))?;
        Ok(IssuedCertificate {
            certificate_pem: certificate_pem(certificate.der()),
            key_pem: key.to_pkcs8_pem(),
        })
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
    fn issuer_params(&self) -> Option<CertificateParams> {
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.certificate).ok()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for attribute in certificate.subject().iter_attributes() {
            let oid: Vec<u64> = attribute.attr_type().iter()?.collect();
            params.distinguished_name.push(DnType::from_oid(&oid), name_value(attribute.attr_value())?);
        }
        let key_identifier = certificate.extensions().iter().find_map(|extension| {
            let ParsedExtension::SubjectKeyIdentifier(identifier) = extension.parsed_extension() else {
                return None;
            };
            Some(identifier.0.to_vec())
        });
        if let Some(identifier) = key_identifier {
            params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
        }
        Some(params)
    }
}

/// Keeps the string type, without which names would not be equal byte for byte.
fn name_value(value: &Any<'_>) -> Option<DnValue> {
    let text = std::str::from_utf8(value.data).ok()?;
    match value.header.tag() {
        Tag::Utf8String => Some(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => Some(DnValue::PrintableString(text.try_into().ok()?)),
        Tag::Ia5String => Some(DnValue::Ia5String(text.try_into().ok()?)),
        _ => None,
    }
}

/// Parameters common to both kinds. The serial number is left to rcgen: a hash of the key, which is random.
fn params(now_secs: i64) -> Result<CertificateParams, GenerateError> {
    let date = |secs: Option<i64>| {
        let time = secs.and_then(|secs| ASN1Time::from_timestamp(secs).ok());
        time.map(|time| time.to_datetime()).ok_or(GenerateError::Time(now_secs))
    };
    let mut params = CertificateParams::default();
    params.not_before = date(now_secs.checked_sub(BACKDATED_SECS))?;
    params.not_after = date(now_secs.checked_add(VALIDITY_SECS))?;
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn certificate_pem(der: &[u8]) -> String {
    String::clone(&pem::encode("CERTIFICATE", der))
}

fn encoding(error: &rcgen::Error) -> GenerateError {
    GenerateError::Encoding(error.to_string())
}

/// An Ed25519 key as rcgen wants it.
struct RcgenKey<'a> {
    key: &'a SigningKey,
    public: super::key::VerifyingKey,
}

impl<'a> RcgenKey<'a> {
    fn new(key: &'a SigningKey) -> Self {
        Self { key, public: key.verifying_key() }
    }
}

impl rcgen::PublicKeyData for RcgenKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for RcgenKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign(message))
    }
}
