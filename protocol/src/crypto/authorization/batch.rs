//! Checks of many Ed25519 signatures at once.
//!
//! A signature (R, s) of a message by the key A holds if sB = R + hA, where h is the hash of R, A and the message. Instead of
//! each equation, one sum of all of them is checked, every one times a number of its own that nobody could know when they
//! were signed: the doublings are then shared. dalek has such a check, but takes these numbers from a transcript of
//! Keccak permutations, at a twentieth of the whole; here they are hashes of everything that is checked.

use std::hint::black_box;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use sha2::Digest;

use super::known_keys::verify_ed25519;
use super::signature::ed25519_key;
use crate::crypto::edwards25519::quick_sum_is_zero;
use crate::crypto::sha512::Sha512;
use crate::keys::AuthPublicKey;

/// An encoded point, and a number below the order of the base point.
type Term = ([u8; 32], [u8; 32]);

/// One signature of a batch: `signature` is said to be of the joined parts of `authorized`, by the owner of
/// `key`.
#[derive(Clone, Copy, Debug)]
pub struct Ed25519Claim<'a> {
    pub signature: &'a [u8; 64],
    pub authorized: &'a [&'a [u8]],
    /// As in [`verify`](super::verify): a missing key and one of another kind give false.
    pub key: Option<&'a AuthPublicKey>,
}

/// Checks many signatures at once: from about eight on, in 60% of the time of single checks. The answers are
/// in the order of `claims`. If one is wrong all are checked one by one to find it: make batches of what came
/// from one client, so that it slows down nobody else.
///
/// A signature that passes alone passes in every batch. The reverse fails for signatures that the owner of a
/// key made on purpose, with small-order parts or an odd encoding: one of them may pass in a batch and not alone. That
/// gives its maker nothing that an honest signature would not.
pub fn verify_ed25519_batch(claims: &[Ed25519Claim<'_>]) -> Vec<bool> {
    if claims.len() > 1 && batch_passes(claims) {
        return vec![true; claims.len()];
    }
    claims.iter().map(|claim| verify_ed25519(claim.signature, claim.authorized, claim.key)).collect()
}

/// Whether all claims hold. The dummy key takes part for missing keys.
fn batch_passes(claims: &[Ed25519Claim<'_>]) -> bool {
    sum_is_zero(claims).is_some_and(|holds| {
        let all_are_queue_keys = claims.iter().all(|claim| ed25519_key(claim.key).1);
        black_box(holds) & all_are_queue_keys
    })
}

/// The sum of -sB + R + hA, each times its number, compared with zero. None if something is no point or no scalar.
fn sum_is_zero(claims: &[Ed25519Claim<'_>]) -> Option<bool> {
    let (terms, of_base) = terms_of(claims)?;
    match quick_sum_is_zero(&terms, of_base.as_bytes()) {
        Some(answer) => answer.ok(),
        None => by_dalek(&terms, of_base),
    }
}

/// Points in their encoding, each with the number that it is multiplied by, and the number of the base point. None if an s is not
/// reduced.
fn terms_of(claims: &[Ed25519Claim<'_>]) -> Option<(Vec<Term>, Scalar)> {
    let mut parts = Vec::with_capacity(claims.len());
    let mut all = Sha512::new();
    for claim in claims {
        let (r, s) = claim.signature.split_first_chunk::<32>()?;
        let (key, _) = ed25519_key(claim.key);
        let s_scalar = Option::<Scalar>::from(Scalar::from_canonical_bytes(s.try_into().ok()?))?;
        let mut hash = Sha512::new_with_prefix(r);
        hash.update(key);
        claim.authorized.iter().for_each(|part| hash.update(part));
        let hash: [u8; 64] = hash.finalize().into();
        all.update(hash);
        all.update(s);
        parts.push((*key, *r, s_scalar, Scalar::from_bytes_mod_order_wide(&hash)));
    }
    let seed = all.finalize();
    let mut terms = Vec::with_capacity(2 * claims.len());
    let mut sum_of_s = Scalar::ZERO;
    for ((key, r, s, h), weight) in parts.into_iter().zip(weights(&seed)) {
        terms.push((key, (weight * h).to_bytes()));
        terms.push((r, weight.to_bytes()));
        sum_of_s += weight * s;
    }
    Some((terms, -sum_of_s))
}

fn by_dalek(terms: &[Term], of_base: Scalar) -> Option<bool> {
    let mut points = Vec::with_capacity(terms.len() + 1);
    let mut scalars = Vec::with_capacity(terms.len() + 1);
    for (encoded, number) in terms {
        points.push(CompressedEdwardsY(*encoded).decompress()?);
        scalars.push(Option::<Scalar>::from(Scalar::from_canonical_bytes(*number))?);
    }
    points.push(ED25519_BASEPOINT_POINT);
    scalars.push(of_base);
    Some(EdwardsPoint::vartime_multiscalar_mul(&scalars, &points).is_identity())
}

/// Numbers of 128 bits that hang on all that is checked.
fn weights(seed: &[u8]) -> impl Iterator<Item = Scalar> {
    (0_u64..).flat_map(move |place| {
        let hash: [u8; 64] =
            Sha512::new_with_prefix(seed).chain_update(place.to_le_bytes()).finalize().into();
        let quarter = |at: usize| hash[at..].first_chunk().map_or(1, |bytes| u128::from_le_bytes(*bytes));
        [0, 16, 32, 48].map(|at| Scalar::from(quarter(at)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;

    use super::super::AuthPrivateKey;
    use super::*;

    const PARTS: &[&[u8]] = &[b"session", b"SUB"];

    fn signed(count: u8) -> (Vec<AuthPublicKey>, Vec<[u8; 64]>) {
        (0..count)
            .map(|seed| {
                let key = AuthPrivateKey::ed25519(&[seed; 32]);
                let signature = key.authorize(PARTS, None, b"").unwrap();
                let signature: [u8; 64] = signature.as_bytes().try_into().unwrap();
                (key.public(), signature)
            })
            .unzip()
    }

    fn passes(keys: &[AuthPublicKey], signatures: &[[u8; 64]]) -> bool {
        let claims: Vec<_> = keys
            .iter()
            .zip(signatures)
            .map(|(key, signature)| Ed25519Claim { signature, authorized: PARTS, key: Some(key) })
            .collect();
        batch_passes(&claims)
    }

    fn change_s(signature: &mut [u8; 64], change: impl FnOnce(Scalar) -> Scalar) {
        let s = Scalar::from_canonical_bytes(signature[32..].try_into().unwrap()).unwrap();
        signature[32..].copy_from_slice(change(s).as_bytes());
    }

    /// What an attacker without keys would try: the plain sum over these is the same as over right ones.
    #[test]
    fn errors_that_cancel_in_the_plain_sum_are_noticed() {
        for count in [2, 3, 16, 100] {
            let (keys, right) = signed(count);
            assert!(passes(&keys, &right), "{count}");
            let mut wrong = right.clone();
            change_s(&mut wrong[0], |s| s + Scalar::ONE);
            change_s(&mut wrong[1], |s| s - Scalar::ONE);
            assert!(!passes(&keys, &wrong), "{count}");
            let mut swapped = right.clone();
            let (first, second) = swapped.split_at_mut(1);
            first[0][32..].swap_with_slice(&mut second[0][32..]);
            assert!(!passes(&keys, &swapped), "{count}");
        }
    }

    /// The order of the group added to s gives another signature of the same: RFC 8032, 5.1.7, refuses it.
    #[test]
    fn a_scalar_that_is_not_reduced_is_refused() {
        let (keys, mut signatures) = signed(4);
        let order_minus_1 = (-Scalar::ONE).to_bytes();
        let mut carry = 1;
        for (byte, add) in signatures[2][32..].iter_mut().zip(order_minus_1) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert!(!passes(&keys, &signatures));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// The sum without dalek's points, for as many as there may be, with parts of small order and with what is no point.
        #[test]
        fn sums_are_those_of_dalek(
            terms in prop::collection::vec((any::<[u8; 32]>(), any::<[u8; 32]>(), 0_usize..8), 0..40),
            of_base: [u8; 32],
            is_zero: bool,
            other in prop::option::weighted(0.3, any::<([u8; 32], prop::sample::Index)>()),
        ) {
            let mut sum = Scalar::ZERO;
            let mut encoded: Vec<Term> = terms.iter().map(|(secret, number, torsion)| {
                let [secret, number] = [secret, number].map(|bytes| Scalar::from_bytes_mod_order(*bytes));
                sum += secret * number;
                let part = if is_zero { 0 } else { *torsion };
                let point = EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[part];
                (point.compress().to_bytes(), number.to_bytes())
            }).collect();
            if let Some((other, at)) = other && !encoded.is_empty() {
                let at = at.index(encoded.len());
                encoded[at].0 = other;
            }
            let of_base = if is_zero { -sum } else { Scalar::from_bytes_mod_order(of_base) };
            let dalek = by_dalek(&encoded, of_base);
            match quick_sum_is_zero(&encoded, of_base.as_bytes()) {
                Some(quick) => prop_assert_eq!(quick.ok(), dalek),
                None => println!("this processor has no AVX-512 IFMA: dalek does all"),
            }
            if is_zero && other.is_none() {
                prop_assert_eq!(dalek, Some(true));
            }
        }
    }

    #[test]
    fn numbers_differ_by_place_and_content() {
        let numbers = [7, 8].map(|seed| weights(&[seed; 64]).take(20).collect::<Vec<_>>()).concat();
        for (at, one) in numbers.iter().enumerate() {
            assert!(!numbers[..at].contains(one));
        }
    }
}
