//! Keys and signatures that are made several at once, before anybody wants them: where the processor has AVX-512 IFMA
//! that takes a third of the time of one after the other.
//!
//! Whoever takes one of them away has the only copy: what is left waits in memory for the next connections.

use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::SigningKey;
use ed25519_dalek::hazmat::ExpandedSecretKey;
use sha2::Digest;
use zeroize::{Zeroize, Zeroizing};

use super::awslc::{ed25519_sign, x25519_base};
use super::edwards25519::{MULTIPLES_AT_ONCE, PreparedKey, quick_base_multiples, quick_public_keys};
use super::sha512::Sha512;

/// How many to make at once: one, where more gain nothing.
pub(crate) fn at_once() -> usize {
    if PreparedKey::is_quick() { MULTIPLES_AT_ONCE } else { 1 }
}

/// The public keys of X25519 that belong to private ones.
pub(crate) fn x25519_bases(privates: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let (several, rest) = privates.as_chunks::<MULTIPLES_AT_ONCE>();
    let mut public = Vec::with_capacity(privates.len());
    for privates in several {
        match quick_public_keys(privates.each_ref()) {
            Some(quick) => public.extend(quick),
            None => public.extend(privates.iter().map(x25519_base)),
        }
    }
    public.extend(rest.iter().map(x25519_base));
    public
}

/// Signatures of several messages: those of RFC 8032, as they are made one by one.
pub(crate) fn ed25519_sign_each(key: &SigningKey, messages: &[Vec<u8>]) -> Vec<[u8; 64]> {
    let (several, rest) = messages.as_chunks::<MULTIPLES_AT_ONCE>();
    let pair = Zeroizing::new(key.to_keypair_bytes());
    let one = |message: &Vec<u8>| {
        ed25519_sign(&pair, message).unwrap_or_else(|| ed25519_dalek::Signer::sign(key, message).to_bytes())
    };
    let mut signatures = Vec::with_capacity(messages.len());
    for messages in several {
        match quick_signatures(key, messages) {
            Some(quick) => signatures.extend(quick),
            None => signatures.extend(messages.iter().map(one)),
        }
    }
    signatures.extend(rest.iter().map(one));
    signatures
}

/// RFC 8032, section 5.1.6.
fn quick_signatures(
    key: &SigningKey,
    messages: &[Vec<u8>; MULTIPLES_AT_ONCE],
) -> Option<[[u8; 64]; MULTIPLES_AT_ONCE]> {
    let secret = ExpandedSecretKey::from(key.as_bytes());
    let public = key.verifying_key().to_bytes();
    let mut nonces = messages.each_ref().map(|message| {
        let hash = Sha512::new().chain_update(secret.hash_prefix).chain_update(message).finalize();
        Scalar::from_bytes_mod_order_wide(&Zeroizing::<[u8; 64]>::new(hash.into()))
    });
    let numbers = Zeroizing::new(nonces.map(|nonce| nonce.to_bytes()));
    let mut signatures = [[0; 64]; MULTIPLES_AT_ONCE];
    let points = quick_base_multiples(numbers.each_ref());
    for (((signature, nonce), message), point) in
        signatures.iter_mut().zip(&mut nonces).zip(messages).zip(points.iter().flatten())
    {
        let hash = Sha512::new().chain_update(point).chain_update(public).chain_update(message).finalize();
        let s = Scalar::from_bytes_mod_order_wide(&hash.into()) * secret.scalar + *nonce;
        nonce.zeroize();
        signature[..32].copy_from_slice(point);
        signature[32..].copy_from_slice(s.as_bytes());
    }
    points.map(|_| signatures)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer;
    use proptest::prelude::*;

    use super::*;

    fn numbers() -> impl Strategy<Value = [u8; 32]> {
        // Bytes whose digits are at the edges, and any.
        let byte = prop::sample::select(vec![0_u8, 0x07, 0x08, 0x70, 0x77, 0x80, 0x88, 0xff]);
        prop_oneof![any::<[u8; 32]>(), prop::array::uniform32(byte)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn public_keys_as_one_by_one(privates in prop::collection::vec(numbers(), 0..20)) {
            let expected: Vec<_> = privates.iter().map(x25519_base).collect();
            prop_assert_eq!(x25519_bases(&privates), expected);
        }

        #[test]
        fn signatures_as_one_by_one(
            seed: [u8; 32],
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        ) {
            let key = SigningKey::from_bytes(&seed);
            let expected: Vec<_> = messages.iter().map(|message| key.sign(message).to_bytes()).collect();
            prop_assert_eq!(ed25519_sign_each(&key, &messages), expected);
        }
    }

    #[test]
    fn the_quick_way_is_taken_where_there_is_one() {
        let privates = [1, 2, 3, 4, 5, 6, 7, 8].map(|number| [number; 32]);
        assert_eq!(quick_public_keys(privates.each_ref()).is_some(), at_once() > 1);
    }
}
