//! Router identities: certificates, their keys and chains ("Router certificate" of the protocol text).
//!
//! A router is known by the SHA-256 fingerprint of one certificate of its chain, which stands in its address. Names
//! in certificates are not checked: the fingerprint is what the client trusts.
//!
//! | module | what it knows |
//! |---|---|
//! | [`key`] | Ed25519 and Ed448 keys: PKCS#8, signatures |
//! | [`chain`] | chains as sent in TLS and in hello blocks: identity, signatures, validity |
//! | [`signed_key`] | the session key that a certificate's key signs |
//! | [`credentials`] | what a router loads from its PEM files |
//! | [`web`] | the certificate for browsers |
//! | [`generate`], `write` | new identities and server certificates |

pub mod chain;
pub mod credentials;
mod der;
pub mod generate;
pub mod key;
mod pem;
pub mod signed_key;
pub mod web;
mod write;

use sha2::{Digest, Sha256};

use crate::encoding::{base64url, decode_base64url};

pub use chain::{
    ChainError, router_identity, service_identity, verify_chain, verify_router_chain, verify_service_chain,
};
pub use credentials::{CredentialsError, RouterCredentials};
pub use generate::{CertificateAuthority, GenerateError, IssuedCertificate, OldCertificate};
pub use key::{KeyError, SignatureAlgorithm, SigningKey, VerifyingKey};
pub use signed_key::{SignedKeyError, sign_key, sign_keys, verify_signed_key};
pub use web::{WebCertificate, WebCertificateError};

/// SHA-256 of a certificate's DER.
pub const FINGERPRINT_BYTES: usize = 32;

/// The fingerprint of a certificate: SHA-256 of its DER.
pub fn fingerprint(certificate_der: &[u8]) -> [u8; FINGERPRINT_BYTES] {
    Sha256::digest(certificate_der).into()
}

/// A fingerprint as in the `fingerprint` file and in router addresses: base64url with `=`, 44 characters.
pub fn fingerprint_text(fingerprint: &[u8; FINGERPRINT_BYTES]) -> String {
    base64url(fingerprint)
}

/// Reads a fingerprint in base64url, with or without `=`. Spaces and line ends around it are ignored.
/// None if it is anything else than 32 bytes.
pub fn parse_fingerprint(text: &str) -> Option<[u8; FINGERPRINT_BYTES]> {
    decode_base64url(text.trim()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fingerprints_are_read_with_and_without_padding() {
        let bytes = fingerprint(b"certificate");
        let text = fingerprint_text(&bytes);
        assert_eq!(text.len(), 44);
        assert!(text.ends_with('='));
        assert_eq!(parse_fingerprint(&text), Some(bytes));
        assert_eq!(parse_fingerprint(text.trim_end_matches('=')), Some(bytes));
        assert_eq!(parse_fingerprint(&format!("{text}\n")), Some(bytes));
        for wrong in ["", "AAAA", "not base64!", &text[1..], &format!("A{text}")] {
            assert_eq!(parse_fingerprint(wrong), None, "{wrong}");
        }
    }
}
