//! Session keys signed by the key of a certificate: `signedRouterKey` and `signedServiceKey` of the handshake.
//!
//! ```text
//! SEQUENCE {
//!   SEQUENCE { SubjectPublicKeyInfo },   -- the signed object: 46 bytes for X25519 and Ed25519 keys
//!   AlgorithmIdentifier,                 -- of the certificate's key
//!   BIT STRING signature                 -- over the signed object, tag and length included
//! }
//! ```
//!
//! 122 bytes with an Ed25519 certificate, 173 with Ed448.

use super::der::{self, BIT_STRING, Der, SEQUENCE};
use super::key::{OtherAlgorithm, SignatureAlgorithm, SigningKey, VerifyingKey};

/// A signed key that cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedKeyError {
    #[error("the signed key is malformed")]
    Malformed,
    #[error("the signed key names another algorithm than its certificate's {0}")]
    Algorithm(SignatureAlgorithm),
    #[error("the signature of the signed key is wrong")]
    Signature,
}

/// Signs `spki`, the `SubjectPublicKeyInfo` of a session key (44 bytes).
pub fn sign_key(spki: &[u8], key: &SigningKey) -> Vec<u8> {
    let object = object(spki);
    let signature = key.sign(&object);
    signed(object, &signature, key)
}

/// As [`sign_key`], of each session key. Of many it takes less time.
pub fn sign_keys(spkis: &[[u8; 44]], key: &SigningKey) -> Vec<Vec<u8>> {
    let objects: Vec<_> = spkis.iter().map(|spki| object(spki)).collect();
    let signatures = key.sign_each(&objects);
    objects.into_iter().zip(signatures).map(|(object, signature)| signed(object, &signature, key)).collect()
}

fn object(spki: &[u8]) -> Vec<u8> {
    let mut object = Vec::with_capacity(spki.len() + 2);
    der::put(&mut object, SEQUENCE, spki);
    object
}

fn signed(object: Vec<u8>, signature: &[u8], key: &SigningKey) -> Vec<u8> {
    let mut bits = Vec::with_capacity(signature.len() + 1);
    // No unused bits.
    bits.push(0);
    bits.extend_from_slice(signature);
    let mut content = object;
    content.extend_from_slice(&key.algorithm().identifier_der());
    der::put(&mut content, BIT_STRING, &bits);
    let mut signed = Vec::with_capacity(content.len() + 3);
    der::put(&mut signed, SEQUENCE, &content);
    signed
}

/// Checks the signature and returns the `SubjectPublicKeyInfo` of the session key, borrowed from `signed`.
pub fn verify_signed_key<'a>(signed: &'a [u8], key: &VerifyingKey) -> Result<&'a [u8], SignedKeyError> {
    let (object, spki, algorithm, signature) = parse(signed).ok_or(SignedKeyError::Malformed)?;
    if !algorithm.is_ok_and(|algorithm| algorithm == key.algorithm()) {
        return Err(SignedKeyError::Algorithm(key.algorithm()));
    }
    if key.verify(object, signature) { Ok(spki) } else { Err(SignedKeyError::Signature) }
}

/// Signed object, `SubjectPublicKeyInfo` in it, algorithm, signature.
type Parts<'a> = (&'a [u8], &'a [u8], Result<SignatureAlgorithm, OtherAlgorithm>, &'a [u8]);

fn parse(signed: &[u8]) -> Option<Parts<'_>> {
    let mut outer = Der::new(signed);
    let content = outer.take(SEQUENCE).filter(|_| outer.is_empty())?;
    let mut content = Der::new(content.content);
    let object = content.take(SEQUENCE)?;
    let algorithm = SignatureAlgorithm::take(&mut content)?;
    let bits = content.take(BIT_STRING).filter(|_| content.is_empty())?;
    let (unused, signature) = bits.content.split_first()?;
    if *unused != 0 {
        return None;
    }
    let mut inner = Der::new(object.content);
    let spki = inner.take(SEQUENCE).filter(|_| inner.is_empty())?;
    Some((object.raw, spki.raw, algorithm, signature))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SPKI: [u8; 44] = {
        let mut spki = [5; 44];
        spki[0] = 0x30;
        spki[1] = 42;
        spki
    };

    #[test]
    fn round_trip_truncation_and_changed_bytes() {
        for (key, other, length) in [
            (SigningKey::ed25519(&[1; 32]), SigningKey::ed25519(&[2; 32]), 122),
            (SigningKey::ed448(&[1; 57]), SigningKey::ed448(&[2; 57]), 173),
        ] {
            let signed = sign_key(&SPKI, &key);
            assert_eq!(sign_keys(&[SPKI; 9], &key), vec![signed.clone(); 9]);
            assert_eq!(signed.len(), length);
            assert_eq!(verify_signed_key(&signed, &key.verifying_key()), Ok(&SPKI[..]));
            assert_eq!(verify_signed_key(&signed, &other.verifying_key()), Err(SignedKeyError::Signature));
            for end in 0..signed.len() {
                let cut = verify_signed_key(&signed[..end], &key.verifying_key());
                assert_eq!(cut, Err(SignedKeyError::Malformed));
            }
            for index in 0..signed.len() {
                let mut changed = signed.clone();
                changed[index] ^= 1;
                assert!(verify_signed_key(&changed, &key.verifying_key()).is_err(), "byte {index}");
            }
        }
    }

    #[test]
    fn the_algorithm_must_be_that_of_the_certificate() {
        let signed = sign_key(&SPKI, &SigningKey::ed25519(&[1; 32]));
        let ed448 = SigningKey::ed448(&[1; 57]).verifying_key();
        let refused = verify_signed_key(&signed, &ed448);
        assert_eq!(refused, Err(SignedKeyError::Algorithm(SignatureAlgorithm::Ed448)));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = SigningKey::ed25519(&[1; 32]).verifying_key();
            prop_assert!(verify_signed_key(&bytes, &key).is_err());
        }
    }
}
