//! X25519 and signing with Ed25519 by AWS-LC, behind functions that cannot be misused.
//!
//! A connection costs its router four multiplications on Curve25519 and two signatures, a queue two multiplications. Those of
//! AWS-LC (proven assembly of s2n-bignum) take half the time of the other libraries here. `aws-lc-rs` above it makes a key
//! object for each use, with the public key in it, which costs a third of that again.
#![allow(unsafe_code)] // Foreign functions: every call passes arrays of the sizes that the functions read and write.

use aws_lc_sys as ffi;

/// Of a scalar, a coordinate, a secret.
const KEY_BYTES: usize = 32;
/// A seed and the public key that it gives.
const ED25519_PAIR_BYTES: usize = 64;
const ED25519_SIGNATURE_BYTES: usize = 64;

const _: () = {
    assert!(KEY_BYTES == ffi::X25519_PRIVATE_KEY_LEN as usize);
    assert!(KEY_BYTES == ffi::X25519_PUBLIC_VALUE_LEN as usize);
    assert!(KEY_BYTES == ffi::X25519_SHARED_KEY_LEN as usize);
    assert!(ED25519_PAIR_BYTES == ffi::ED25519_PRIVATE_KEY_LEN as usize);
    assert!(ED25519_SIGNATURE_BYTES == ffi::ED25519_SIGNATURE_LEN as usize);
};

/// X25519 of a private and a public key. All zeros for a public key of low order.
pub(crate) fn x25519(private: &[u8; KEY_BYTES], public: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let mut shared = [0_u8; KEY_BYTES];
    // SAFETY: three arrays of the asserted size, of which the first is written.
    let result = unsafe { ffi::X25519(shared.as_mut_ptr(), private.as_ptr(), public.as_ptr()) };
    // It fails for public keys of low order only, whose product is zero.
    if result == 1 { shared } else { [0; KEY_BYTES] }
}

/// The public key of a private one.
pub(crate) fn x25519_base(private: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let mut public = [0_u8; KEY_BYTES];
    // SAFETY: two arrays of the asserted size, of which the first is written.
    unsafe { ffi::X25519_public_from_private(public.as_mut_ptr(), private.as_ptr()) };
    public
}

/// A signature by the seed in the first half of `pair`, whose public key must be the second half. None if the library
/// reports a failure, for which it has no cause.
pub(crate) fn ed25519_sign(
    pair: &[u8; ED25519_PAIR_BYTES],
    message: &[u8],
) -> Option<[u8; ED25519_SIGNATURE_BYTES]> {
    let mut signature = [0_u8; ED25519_SIGNATURE_BYTES];
    // SAFETY: `message` is valid for its length, and the two arrays have the asserted sizes.
    let result =
        unsafe { ffi::ED25519_sign(signature.as_mut_ptr(), message.as_ptr(), message.len(), pair.as_ptr()) };
    (result == 1).then_some(signature)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;
    use x25519_dalek::{PublicKey, StaticSecret};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Scalars that are not clamped, and coordinates above p, on the curve and on its twist, are among them.
        #[test]
        fn agrees_with_dalek(private: [u8; 32], public: [u8; 32], high: bool) {
            let mut public = public;
            if high {
                public[1..].fill(0xff);
            }
            let dalek = StaticSecret::from(private);
            prop_assert_eq!(x25519(&private, &public), *dalek.diffie_hellman(&PublicKey::from(public)).as_bytes());
            prop_assert_eq!(x25519_base(&private), *PublicKey::from(&dalek).as_bytes());
        }

        #[test]
        fn signs_as_dalek(seed: [u8; 32], message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let key = SigningKey::from_bytes(&seed);
            let signature = ed25519_sign(&key.to_keypair_bytes(), &message);
            prop_assert_eq!(signature, Some(key.sign(&message).to_bytes()));
        }
    }

    #[test]
    fn low_order_gives_zeros() {
        for public in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            assert_eq!(x25519(&[7; 32], &public), [0; 32]);
        }
    }
}
