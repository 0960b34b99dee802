//! Certificate chains, leaf first, as routers send them in TLS and in hello blocks: "Router certificate".

use std::fmt;

use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser as _;

use super::key::{KeyError, SignatureAlgorithm, VerifyingKey};
use super::{FINGERPRINT_BYTES, fingerprint, fingerprint_text};

/// Certificates in a router's chain: leaf and identity, then what an operator adds above.
pub const CHAIN_CERTIFICATES_MIN: usize = 2;
pub const CHAIN_CERTIFICATES_MAX: usize = 4;

/// Why a chain is not trusted. Certificates are counted from the leaf, which is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// Neither 2, 3 nor 4 certificates.
    Length(usize),
    /// The chain is that of another router: the fingerprint of its identity certificate is another one.
    Identity {
        expected: [u8; FINGERPRINT_BYTES],
        found: [u8; FINGERPRINT_BYTES],
    },
    /// Not an X.509 certificate, or followed by other bytes.
    Malformed {
        certificate: usize,
    },
    /// The key is unusable: another algorithm, or not a valid point.
    Key {
        certificate: usize,
        error: KeyError,
    },
    /// The next certificate's key did not sign this one.
    Signature {
        certificate: usize,
    },
    NotYetValid {
        certificate: usize,
        not_before_secs: i64,
    },
    Expired {
        certificate: usize,
        not_after_secs: i64,
    },
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(count) => write!(f, "the chain has {count} certificates, not 2, 3 or 4"),
            Self::Identity { expected, found } => write!(
                f,
                "the router's identity is {}, expected was {}",
                fingerprint_text(found),
                fingerprint_text(expected)
            ),
            Self::Malformed { certificate } => write!(f, "certificate {certificate} is not valid X.509"),
            Self::Key { certificate, error } => {
                write!(f, "the key of certificate {certificate} cannot be used: {error}")
            }
            Self::Signature { certificate } => {
                write!(f, "certificate {certificate} is not signed by certificate {}", certificate + 1)
            }
            Self::NotYetValid { certificate, not_before_secs } => {
                write!(f, "certificate {certificate} is valid only from Unix time {not_before_secs}")
            }
            Self::Expired { certificate, not_after_secs } => {
                write!(f, "certificate {certificate} expired at Unix time {not_after_secs}")
            }
        }
    }
}

impl std::error::Error for ChainError {}

/// A parsed certificate: what is needed of it here.
pub struct Certificate<'a>(X509Certificate<'a>);

impl<'a> Certificate<'a> {
    /// None if `der` is not exactly one X.509 certificate.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        // Extensions are not used, and parsing them costs time on every connection.
        let (rest, certificate) =
            X509CertificateParser::new().with_deep_parse_extensions(false).parse(der).ok()?;
        rest.is_empty().then_some(Self(certificate))
    }

    pub fn verifying_key(&self) -> Result<VerifyingKey, KeyError> {
        let info = &self.0.tbs_certificate.subject_pki;
        let algorithm = SignatureAlgorithm::from_oid(info.algorithm.algorithm.as_bytes());
        VerifyingKey::from_raw(algorithm.ok_or(KeyError::Algorithm)?, &info.subject_public_key.data)
    }

    /// Whether the owner of `issuer` signed this certificate.
    #[must_use]
    pub fn is_signed_by(&self, issuer: &VerifyingKey) -> bool {
        let outer = self.0.signature_algorithm.algorithm.as_bytes();
        // RFC 5280, 4.1.1.2: both algorithm fields must be the same.
        outer == self.0.tbs_certificate.signature.algorithm.as_bytes()
            && SignatureAlgorithm::from_oid(outer) == Some(issuer.algorithm())
            && issuer.verify(self.0.tbs_certificate.as_ref(), &self.0.signature_value.data)
    }

    /// The first common name of the subject.
    pub fn common_name(&self) -> Option<&str> {
        self.0.subject().iter_common_name().next().and_then(|name| name.as_str().ok())
    }

    /// First second of validity, Unix time.
    pub fn not_before_secs(&self) -> i64 {
        self.0.validity().not_before.timestamp()
    }

    /// Last second of validity, Unix time.
    pub fn not_after_secs(&self) -> i64 {
        self.0.validity().not_after.timestamp()
    }
}

impl fmt::Debug for Certificate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate of {}", self.0.subject())
    }
}

/// The fingerprint that a router with this chain is known by. It is that of the second certificate in chains of
/// 2, 3 and 4 alike: of those in use, that is where the reference looks.
pub fn router_identity<T: AsRef<[u8]>>(chain: &[T]) -> Result<[u8; FINGERPRINT_BYTES], ChainError> {
    match chain {
        [_, identity] | [_, identity, _] | [_, identity, _, _] => Ok(fingerprint(identity.as_ref())),
        _ => Err(ChainError::Length(chain.len())),
    }
}

/// The fingerprint that a service with this chain is known by: as [`router_identity`], and of a single certificate its own.
pub fn service_identity<T: AsRef<[u8]>>(chain: &[T]) -> Result<[u8; FINGERPRINT_BYTES], ChainError> {
    match chain {
        [only] => Ok(fingerprint(only.as_ref())),
        _ => router_identity(chain),
    }
}

/// Checks that each certificate is signed by the next one and that all are valid at `now_secs` (Unix time).
/// Returns the leaf's key. Names are not checked. Whether the last certificate signed itself does not matter:
/// nothing trusts it for that.
pub fn verify_chain<T: AsRef<[u8]>>(chain: &[T], now_secs: i64) -> Result<VerifyingKey, ChainError> {
    if !(CHAIN_CERTIFICATES_MIN..=CHAIN_CERTIFICATES_MAX).contains(&chain.len()) {
        return Err(ChainError::Length(chain.len()));
    }
    verify_links(chain, now_secs)
}

fn verify_links<T: AsRef<[u8]>>(chain: &[T], now_secs: i64) -> Result<VerifyingKey, ChainError> {
    let mut leaf_key = None;
    let mut below: Option<Certificate<'_>> = None;
    for (index, der) in chain.iter().enumerate() {
        let certificate =
            Certificate::parse(der.as_ref()).ok_or(ChainError::Malformed { certificate: index })?;
        let key =
            certificate.verifying_key().map_err(|error| ChainError::Key { certificate: index, error })?;
        if let Some(below) = &below
            && !below.is_signed_by(&key)
        {
            return Err(ChainError::Signature { certificate: index - 1 });
        }
        if now_secs < certificate.not_before_secs() {
            let not_before_secs = certificate.not_before_secs();
            return Err(ChainError::NotYetValid { certificate: index, not_before_secs });
        }
        if now_secs > certificate.not_after_secs() {
            let not_after_secs = certificate.not_after_secs();
            return Err(ChainError::Expired { certificate: index, not_after_secs });
        }
        leaf_key.get_or_insert(key);
        below = Some(certificate);
    }
    leaf_key.ok_or(ChainError::Length(0))
}

/// What a client checks of a router's chain: its identity first, then [`verify_chain`]. Returns the leaf's key.
pub fn verify_router_chain<T: AsRef<[u8]>>(
    chain: &[T],
    identity: &[u8; FINGERPRINT_BYTES],
    now_secs: i64,
) -> Result<VerifyingKey, ChainError> {
    let found = router_identity(chain)?;
    if found != *identity {
        return Err(ChainError::Identity { expected: *identity, found });
    }
    verify_chain(chain, now_secs)
}

/// What a router checks of a service's chain: [`verify_chain`], or of a single certificate, which nobody else vouches for,
/// that it is valid at `now_secs`. Returns the leaf's key.
pub fn verify_service_chain<T: AsRef<[u8]>>(chain: &[T], now_secs: i64) -> Result<VerifyingKey, ChainError> {
    match chain {
        [only] => verify_links(std::slice::from_ref(only), now_secs),
        _ => verify_chain(chain, now_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Certificate::parse(&bytes).is_none());
            let chain = [&bytes[..], &bytes];
            prop_assert_eq!(verify_chain(&chain, 0).err(), Some(ChainError::Malformed { certificate: 0 }));
        }
    }
}
