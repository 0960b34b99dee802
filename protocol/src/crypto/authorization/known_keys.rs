//! Checks of Ed25519 signatures, and keys that signed before.

use std::hint::black_box;
use std::sync::LazyLock;

use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::VerifyingKey;
use sha2::Digest;

use super::signature::{DUMMY_ED25519_KEY, by_dalek, ed25519_key, passes, point_of};
use crate::crypto::edwards25519::PreparedKey;
use crate::crypto::sha512::Sha512;
use crate::keys::AuthPublicKey;

const KNOWN_KEYS: usize = 2_048;

/// Ed25519 keys that were used with success lately, ready for the next check, which then takes a third of the time.
///
/// With AVX-512 a key is made ready for its first check already. Where that takes longer than a check, the point is kept at
/// the first success, which saves an eighth of the next check, and the key is made ready at the second.
///
/// What fails takes the same time whether its key is among them or not: what was saved is done for nothing. Each key has
/// one place, so whoever makes keys on purpose can push others out, and no more.
#[derive(Debug)]
pub struct KnownKeys {
    /// See [`PreparedKey::is_quick`].
    at_once: bool,
    /// 16 bytes each; a point is 192 more, a key that is ready 2 KiB.
    places: Vec<Option<Known>>,
}

#[derive(Debug)]
enum Known {
    Point(Box<VerifyingKey>),
    Ready(Box<ReadyKey>),
}

#[derive(Debug)]
struct ReadyKey {
    bytes: [u8; 32],
    prepared: PreparedKey,
}

impl ReadyKey {
    fn new(key: &[u8; 32]) -> Option<Self> {
        PreparedKey::new(key).map(|prepared| Self { bytes: *key, prepared })
    }

    /// And whether the bytes stand for a point: if not, it is the dummy's, so that a key that is no point of the curve, which a
    /// client may name, does not answer faster.
    fn or_dummy(key: &[u8; 32]) -> (Option<Self>, bool) {
        match Self::new(key) {
            Some(ready) => (Some(ready), true),
            None => (Self::new(&DUMMY_ED25519_KEY), false),
        }
    }

    /// The same answer as that of dalek's `verify`: R must be just the encoding of sB - hA.
    fn passes(&self, signature: &[u8; 64], authorized: &[&[u8]]) -> bool {
        let Some((r, s)) = signature.split_first_chunk::<32>() else { return false };
        let Ok(s) = <&[u8; 32]>::try_from(s) else { return false };
        if bool::from(Scalar::from_canonical_bytes(*s).is_none()) {
            return false;
        }
        let mut hash = Sha512::new_with_prefix(r);
        hash.update(self.bytes);
        for part in authorized {
            hash.update(part);
        }
        let h = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        self.prepared.combination(s, h.as_bytes()).as_ref() == Some(r)
    }
}

/// Takes the time of a check with a key that is ready where there is none.
static STAND_IN: LazyLock<Option<ReadyKey>> = LazyLock::new(|| ReadyKey::new(&DUMMY_ED25519_KEY));

impl Default for KnownKeys {
    fn default() -> Self {
        Self { at_once: PreparedKey::is_quick(), places: Vec::new() }
    }
}

impl KnownKeys {
    /// As [`verify`](super::verify) of an Ed25519 signature.
    pub fn verify_ed25519(
        &mut self,
        signature: &[u8; 64],
        authorized: &[&[u8]],
        queue_key: Option<&AuthPublicKey>,
    ) -> bool {
        let (bytes, is_queue_key) = ed25519_key(queue_key);
        let place = usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % KNOWN_KEYS;
        let known = self.places.get(place).and_then(Option::as_ref);
        if self.at_once {
            if let Some(Known::Ready(known)) = known.filter(|known| known.bytes() == bytes) {
                let matches = known.passes(signature, authorized);
                if !matches {
                    black_box(ReadyKey::or_dummy(black_box(bytes)));
                }
                return black_box(matches) & is_queue_key;
            }
            let (ready, is_point) = ReadyKey::or_dummy(bytes);
            let matches = ready.as_ref().is_some_and(|key| key.passes(signature, authorized));
            let holds = black_box(matches) & is_point & is_queue_key;
            if holds {
                self.keep(place, ready.map(|key| Known::Ready(Box::new(key))));
            }
            return holds;
        }
        match known.filter(|known| known.bytes() == bytes) {
            Some(Known::Ready(known)) => {
                let matches = known.passes(signature, authorized);
                if !matches {
                    black_box(by_dalek(signature, authorized, queue_key));
                }
                black_box(matches) & is_queue_key
            }
            Some(Known::Point(known)) => {
                let matches = passes(known, signature, authorized);
                if matches {
                    self.keep(place, ReadyKey::new(bytes).map(|key| Known::Ready(Box::new(key))));
                } else {
                    black_box(point_of(black_box(bytes)));
                    stand_in(signature, authorized);
                }
                black_box(matches) & is_queue_key
            }
            None => {
                let (key, is_point) = point_of(bytes);
                let matches = key.is_some_and(|key| passes(&key, signature, authorized));
                let holds = black_box(matches) & is_point & is_queue_key;
                if holds {
                    self.keep(place, key.map(|key| Known::Point(Box::new(key))));
                } else {
                    stand_in(signature, authorized);
                }
                holds
            }
        }
    }

    fn keep(&mut self, place: usize, known: Option<Known>) {
        if self.places.is_empty() {
            self.places.resize_with(KNOWN_KEYS, || None);
        }
        if let Some(place) = self.places.get_mut(place) {
            *place = known;
        }
    }
}

impl Known {
    fn bytes(&self) -> &[u8; 32] {
        match self {
            Self::Point(key) => key.as_bytes(),
            Self::Ready(key) => &key.bytes,
        }
    }
}

fn stand_in(signature: &[u8; 64], authorized: &[&[u8]]) {
    if let Some(stand_in) = STAND_IN.as_ref() {
        black_box(stand_in.passes(signature, authorized));
    }
}

/// One check: Ed25519 as RFC 8032 has it, without cofactor, as the reference checks. That is dalek's `verify`, not its
/// `verify_strict`: keys and points with a small-order part are allowed where the equation holds.
pub(super) fn verify_ed25519(
    signature: &[u8; 64],
    authorized: &[&[u8]],
    queue_key: Option<&AuthPublicKey>,
) -> bool {
    if !PreparedKey::is_quick() {
        return by_dalek(signature, authorized, queue_key);
    }
    let (key, is_queue_key) = ed25519_key(queue_key);
    let (key, is_point) = ReadyKey::or_dummy(key);
    let matches = key.is_some_and(|key| key.passes(signature, authorized));
    black_box(matches) & is_point & is_queue_key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::edwards::EdwardsPoint;
    use proptest::prelude::*;

    use super::*;

    const PARTS: &[&[u8]] = &[b"session", b"ACK"];

    fn challenge(r: &[u8; 32], key: &[u8; 32]) -> Scalar {
        let mut hash = Sha512::new_with_prefix(r).chain_update(key);
        for part in PARTS {
            hash.update(part);
        }
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }

    /// A signature by a secret, with parts of small order added to the key and to R as who owns the key can.
    fn sign(secret: Scalar, nonce: Scalar, of_key: usize, of_r: usize) -> ([u8; 32], [u8; 64]) {
        let key = (EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[of_key]).compress().to_bytes();
        let r = (EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[of_r]).compress().to_bytes();
        let s = nonce + challenge(&r, &key) * secret;
        (key, [r, s.to_bytes()].concat().try_into().unwrap())
    }

    fn both(key: &[u8; 32], signature: &[u8; 64]) -> (bool, bool) {
        let dalek = VerifyingKey::from_bytes(key).unwrap();
        (passes(&dalek, signature, PARTS), ReadyKey::new(key).unwrap().passes(signature, PARTS))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_table_gives_the_answer_of_dalek(
            secret: [u8; 32], nonce: [u8; 32], of_key in 0_usize..8, of_r in 0_usize..8, flip in prop::option::of(0_usize..512),
        ) {
            let [secret, nonce] = [secret, nonce].map(Scalar::from_bytes_mod_order);
            let (key, mut signature) = sign(secret, nonce, of_key, of_r);
            if let Some(bit) = flip {
                signature[bit / 8] ^= 1 << (bit % 8);
            }
            let (dalek, ours) = both(&key, &signature);
            prop_assert_eq!(dalek, ours);
            if flip.is_none() && of_key == 0 {
                prop_assert_eq!(ours, of_r == 0);
            }
        }

        #[test]
        fn sums_are_those_of_dalek(s: [u8; 32], h: [u8; 32], point: [u8; 32], torsion in 0_usize..8) {
            let [s, h, point] = [s, h, point].map(Scalar::from_bytes_mod_order);
            let key = EdwardsPoint::mul_base(&point) + EIGHT_TORSION[torsion];
            // dalek's product by the whole number, which a part of small order shows.
            let expected = ED25519_BASEPOINT_POINT * s - key * h;
            for prepared in [PreparedKey::new, PreparedKey::portable] {
                let prepared = prepared(key.compress().as_bytes()).unwrap();
                prop_assert_eq!(prepared.combination(s.as_bytes(), h.as_bytes()), Some(expected.compress().to_bytes()));
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers() {
        let key = EdwardsPoint::mul_base(&Scalar::from(5_u8));
        let prepared =
            [PreparedKey::new, PreparedKey::portable].map(|new| new(key.compress().as_bytes()).unwrap());
        let ends = [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, -Scalar::from(2_u8), Scalar::from(u128::MAX)];
        for s in ends {
            for h in ends {
                let expected = (ED25519_BASEPOINT_POINT * s - key * h).compress().to_bytes();
                for prepared in &prepared {
                    assert_eq!(prepared.combination(s.as_bytes(), h.as_bytes()), Some(expected));
                }
            }
        }
    }

    /// Encodings that RFC 8032 refuses and dalek takes for keys: y that is not reduced, and zero with a sign.
    #[test]
    fn odd_encodings_of_keys_are_read_as_dalek_reads_them() {
        let mut seen = 0;
        for low in 0..=255_u8 {
            for high in [0x00, 0x80, 0x7f, 0xff] {
                for middle in [0x00, 0xff] {
                    let mut key = [middle; 32];
                    (key[0], key[31]) = (low, high);
                    let dalek = VerifyingKey::from_bytes(&key).ok();
                    let ours = PreparedKey::new(&key);
                    assert_eq!(dalek.is_some(), ours.is_some(), "{key:02x?}");
                    if let (Some(dalek), Some(ours)) = (dalek, ours) {
                        seen += 1;
                        let h = Scalar::from(3_u8);
                        let expected = (-dalek.to_edwards() * h).compress().to_bytes();
                        assert_eq!(ours.combination(&[0; 32], h.as_bytes()), Some(expected), "{key:02x?}");
                    }
                }
            }
        }
        assert!(seen > 500);
    }

    #[test]
    fn a_scalar_that_is_not_reduced_is_refused() {
        let (key, mut signature) = sign(Scalar::from(7_u8), Scalar::from(9_u8), 0, 0);
        assert_eq!(both(&key, &signature), (true, true));
        // The order of the group added: the same multiple.
        let order_minus_1 = (-Scalar::ONE).to_bytes();
        let mut carry = 1;
        for (byte, add) in signature[32..].iter_mut().zip(order_minus_1) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(both(&key, &signature), (false, false));
    }

    #[test]
    fn every_use_of_a_key_is_answered_alike() {
        let (key, right) = sign(Scalar::from(7_u8), Scalar::from(9_u8), 0, 0);
        let mut wrong = right;
        wrong[3] ^= 1;
        let key = AuthPublicKey::Ed25519(key);
        let no_point = AuthPublicKey::Ed25519([2; 32]);
        for at_once in [true, false] {
            let mut known = KnownKeys { at_once, places: Vec::new() };
            for _ in 0..4 {
                assert!(!known.verify_ed25519(&wrong, PARTS, Some(&key)));
                assert!(known.verify_ed25519(&right, PARTS, Some(&key)));
                assert!(!known.verify_ed25519(&right, PARTS, None));
                assert!(!known.verify_ed25519(&right, PARTS, Some(&no_point)));
                assert!(!known.verify_ed25519(&right, &[b"other"], Some(&key)));
            }
            assert!(known.places.iter().any(|place| matches!(place, Some(Known::Ready(_)))));
        }
    }
}
