//! Keys of certificates: Ed25519 and Ed448 (RFC 8410).

use std::fmt;

use ed25519_dalek::Signer as _;
use zeroize::Zeroizing;

use super::der::{self, Der, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use super::pem;
use crate::crypto::several::ed25519_sign_each;
use crate::crypto::{awslc, ed448};

/// An algorithm that is none of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherAlgorithm;

/// The signature algorithms of certificates. The protocol text has Ed25519; routers in use have Ed448 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    Ed25519,
    Ed448,
}

impl SignatureAlgorithm {
    /// 1.3.101.112 and 1.3.101.113.
    const ED25519_OID: [u8; 3] = [0x2b, 0x65, 0x70];
    const ED448_OID: [u8; 3] = [0x2b, 0x65, 0x71];

    pub(super) fn from_oid(oid: &[u8]) -> Option<Self> {
        match oid.try_into() {
            Ok(Self::ED25519_OID) => Some(Self::Ed25519),
            Ok(Self::ED448_OID) => Some(Self::Ed448),
            _ => None,
        }
    }

    /// The DER `AlgorithmIdentifier`: an identifier without parameters.
    pub(super) fn identifier_der(self) -> [u8; 7] {
        let [a, b, c] = match self {
            Self::Ed25519 => Self::ED25519_OID,
            Self::Ed448 => Self::ED448_OID,
        };
        [SEQUENCE, 5, OBJECT_IDENTIFIER, 3, a, b, c]
    }

    /// Reads an `AlgorithmIdentifier`. None if it is malformed.
    pub(super) fn take(der: &mut Der<'_>) -> Option<Result<Self, OtherAlgorithm>> {
        let mut identifier = Der::new(der.take(SEQUENCE)?.content);
        let oid = identifier.take(OBJECT_IDENTIFIER)?.content;
        match Self::from_oid(oid) {
            // These two have no parameters.
            Some(algorithm) => identifier.is_empty().then_some(Ok(algorithm)),
            None => Some(Err(OtherAlgorithm)),
        }
    }

    pub const fn signature_bytes(self) -> usize {
        match self {
            Self::Ed25519 => 64,
            Self::Ed448 => 114,
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "Ed25519",
            Self::Ed448 => "Ed448",
        })
    }
}

/// A key in a file or in a certificate that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is not a private key in PKCS#8 form")]
    MalformedPrivate,
    #[error("it is not a valid public key")]
    MalformedPublic,
    #[error("its algorithm is neither Ed25519 nor Ed448")]
    Algorithm,
}

/// The public key of a certificate.
#[derive(Clone)]
pub enum VerifyingKey {
    Ed25519(ed25519_dalek::VerifyingKey),
    /// Boxed: rare and large.
    Ed448(Box<ed448::PublicKey>),
}

impl VerifyingKey {
    /// From the raw key: 32 bytes for Ed25519, 57 for Ed448.
    pub fn from_raw(algorithm: SignatureAlgorithm, raw: &[u8]) -> Result<Self, KeyError> {
        match algorithm {
            SignatureAlgorithm::Ed25519 => {
                let raw = raw.try_into().map_err(|_| KeyError::MalformedPublic)?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(raw);
                Ok(Self::Ed25519(key.map_err(|_| KeyError::MalformedPublic)?))
            }
            SignatureAlgorithm::Ed448 => {
                let raw: &[u8; 57] = raw.try_into().map_err(|_| KeyError::MalformedPublic)?;
                let key = ed448::PublicKey::from_bytes(raw).ok_or(KeyError::MalformedPublic)?;
                Ok(Self::Ed448(Box::new(key)))
            }
        }
    }

    pub fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::Ed25519(_) => SignatureAlgorithm::Ed25519,
            Self::Ed448(_) => SignatureAlgorithm::Ed448,
        }
    }

    /// The raw key: 32 or 57 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key.as_bytes(),
            Self::Ed448(key) => key.as_bytes(),
        }
    }

    /// Whether `signature` over `message` was made with this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Self::Ed448(key) => signature.try_into().is_ok_and(|signature| key.verify(signature, &[message])),
        }
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        // Raw keys of the two algorithms differ in length.
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key", self.algorithm())
    }
}

/// The private key of a certificate. Wiped when dropped, never printed.
#[derive(Clone)]
pub enum SigningKey {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    Ed448(Box<ed448::PrivateKey>),
}

impl SigningKey {
    /// The Ed25519 key of a seed of 32 random bytes.
    pub fn ed25519(seed: &[u8; 32]) -> Self {
        Self::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    /// The Ed448 key of a seed of 57 random bytes.
    pub fn ed448(seed: &[u8; 57]) -> Self {
        Self::Ed448(Box::new(ed448::PrivateKey::from_seed(seed)))
    }

    /// From PKCS#8 DER, version 1 as OpenSSL writes it, or 2.
    pub fn from_pkcs8_der(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let (algorithm, seed) = private_key(pkcs8).ok_or(KeyError::MalformedPrivate)?;
        match algorithm.map_err(|OtherAlgorithm| KeyError::Algorithm)? {
            SignatureAlgorithm::Ed25519 => {
                Ok(Self::ed25519(seed.try_into().map_err(|_| KeyError::MalformedPrivate)?))
            }
            SignatureAlgorithm::Ed448 => {
                Ok(Self::ed448(seed.try_into().map_err(|_| KeyError::MalformedPrivate)?))
            }
        }
    }

    /// PKCS#8, version 1, in PEM: the form of `server.key` and `ca.key`.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let seed: &[u8] = match self {
            Self::Ed25519(key) => key.as_bytes(),
            Self::Ed448(key) => key.seed(),
        };
        // Capacities above every size here: no reallocation leaves a copy of the key.
        let mut inner = Zeroizing::new(Vec::with_capacity(64));
        der::put(&mut inner, OCTET_STRING, seed);
        let mut info = Zeroizing::new(Vec::with_capacity(128));
        der::put(&mut info, INTEGER, &[0]);
        info.extend_from_slice(&self.algorithm().identifier_der());
        der::put(&mut info, OCTET_STRING, &inner);
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(128));
        der::put(&mut pkcs8, SEQUENCE, &info);
        pem::encode("PRIVATE KEY", &pkcs8)
    }

    pub fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::Ed25519(_) => SignatureAlgorithm::Ed25519,
            Self::Ed448(_) => SignatureAlgorithm::Ed448,
        }
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        match self {
            Self::Ed25519(key) => VerifyingKey::Ed25519(key.verifying_key()),
            Self::Ed448(key) => VerifyingKey::Ed448(Box::new(*key.public())),
        }
    }

    /// A signature of 64 (Ed25519) or 114 bytes (Ed448).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            // AWS-LC signs in half the time of dalek.
            Self::Ed25519(key) => awslc::ed25519_sign(&Zeroizing::new(key.to_keypair_bytes()), message)
                .unwrap_or_else(|| key.sign(message).to_bytes())
                .to_vec(),
            Self::Ed448(key) => key.sign(&[message]).to_vec(),
        }
    }

    /// As [`sign`](Self::sign), of each message.
    pub(super) fn sign_each(&self, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
        match self {
            Self::Ed25519(key) => {
                ed25519_sign_each(key, messages).iter().map(|signature| signature.to_vec()).collect()
            }
            Self::Ed448(_) => messages.iter().map(|message| self.sign(message)).collect(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} private key", self.algorithm())
    }
}

/// Algorithm and seed of a PKCS#8 key.
fn private_key(pkcs8: &[u8]) -> Option<(Result<SignatureAlgorithm, OtherAlgorithm>, &[u8])> {
    let mut outer = Der::new(pkcs8);
    let info = outer.take(SEQUENCE).filter(|_| outer.is_empty())?;
    let mut info = Der::new(info.content);
    let version = info.take(INTEGER)?;
    if !matches!(version.content, [0 | 1]) {
        return None;
    }
    let algorithm = SignatureAlgorithm::take(&mut info)?;
    // Attributes and, in version 2, the public key may follow.
    let key = info.take(OCTET_STRING)?;
    if algorithm.is_err() {
        return Some((algorithm, key.content));
    }
    let mut key = Der::new(key.content);
    let seed = key.take(OCTET_STRING).filter(|_| key.is_empty())?;
    Some((algorithm, seed.content))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject;

    fn pkcs8_der(key: &SigningKey) -> Vec<u8> {
        let pem = key.to_pkcs8_pem();
        PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_pkcs8_der().to_vec()
    }

    #[test]
    fn pkcs8_round_trip_and_truncation() {
        for (key, length) in [(SigningKey::ed25519(&[7; 32]), 48), (SigningKey::ed448(&[9; 57]), 73)] {
            let der = pkcs8_der(&key);
            assert_eq!(der.len(), length);
            let again = SigningKey::from_pkcs8_der(&der).unwrap();
            assert_eq!(again.verifying_key(), key.verifying_key());
            let signature = again.sign(b"message");
            assert_eq!(signature.len(), key.algorithm().signature_bytes());
            assert!(key.verifying_key().verify(b"message", &signature));
            assert!(!key.verifying_key().verify(b"messag", &signature));
            for end in 0..der.len() {
                assert!(SigningKey::from_pkcs8_der(&der[..end]).is_err());
            }
        }
    }

    #[test]
    fn version_2_keys_are_read() {
        // As made by rcgen: with the public key behind.
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let key = SigningKey::from_pkcs8_der(made.serialized_der()).unwrap();
        assert_eq!(key.verifying_key().as_bytes(), made.public_key_raw());
    }

    #[test]
    fn other_algorithms_are_named() {
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        assert!(matches!(SigningKey::from_pkcs8_der(made.serialized_der()), Err(KeyError::Algorithm)));
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", SigningKey::ed25519(&[7; 32])), "Ed25519 private key");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = SigningKey::from_pkcs8_der(&bytes);
            let _ = VerifyingKey::from_raw(SignatureAlgorithm::Ed448, &bytes);
            let key = SigningKey::ed448(&[1; 57]).verifying_key();
            prop_assert!(!key.verify(b"", &bytes));
        }
    }
}
