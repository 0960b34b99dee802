//! Points of edwards25519: sums of multiples of two points, with tables of both made ahead, for checks of signatures by keys
//! that sign often; of many points, for many checks; and several multiples of the base point at once, to make keys and
//! signatures.
//!
//! The curve is that of Ed25519 (RFC 8032, section 5.1): -x² + y² = 1 + dx²y² over the integers modulo 2^255 - 19. A
//! multiple of a point that is not known before takes 252 doublings. From tables of the point, and of what 51, 102, 153
//! and 204 doublings make of it, it takes 50. Points are added by the formulas of Hisil, Wong, Carter and Dawson (2008)
//! for a = -1; the field is crrl's, or four elements at once with AVX-512 IFMA.
//!
//! Time hangs on the numbers, which are public, but for [`quick_base_multiples`] and [`quick_public_keys`].

#[cfg(target_arch = "x86_64")]
mod ifma;
mod portable;

use std::array::from_fn;

use crrl::field::GF25519 as Element;
use zeroize::Zeroizing;

/// Doublings from one part of a table to the next.
const SPAN: usize = 51;
const SPANS: usize = 5;

const D: Element = Element::w64be(
    0x5203_6cee_2b6f_fe73,
    0x8cc7_4079_7779_e898,
    0x0070_0a4d_4141_d8ab,
    0x75eb_4dca_1359_78a3,
);
const BASE_POINT: [u8; 32] = [
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
];

/// A public key, ready for many checks: at most 2 KiB on the heap.
#[derive(Debug)]
pub(super) enum PreparedKey {
    Portable(portable::Multiples),
    #[cfg(target_arch = "x86_64")]
    Avx512(ifma::Multiples),
}

impl PreparedKey {
    /// None if the bytes stand for no point. As in dalek, a y that is not reduced is allowed.
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        let key = Point::decode(key)?;
        #[cfg(target_arch = "x86_64")]
        if let Some(cpu) = ifma::Ifma::get() {
            return Some(Self::Avx512(ifma::Multiples::of(cpu, &key)));
        }
        Some(Self::Portable(portable::Multiples::of(key)))
    }

    /// Whether making a key ready and checking with it takes less time than a check without.
    pub(super) fn is_quick() -> bool {
        #[cfg(target_arch = "x86_64")]
        return ifma::Ifma::get().is_some();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// sB - hA in its encoding, for the base point B and this key A; s and h are little-endian and below 2^253.
    pub(super) fn combination(&self, s: &[u8; 32], h: &[u8; 32]) -> Option<[u8; 32]> {
        match self {
            Self::Portable(multiples) => multiples.combination(s, h),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(multiples) => multiples.combination(s, h),
        }
    }

    /// As on a processor that has nothing special.
    #[cfg(test)]
    pub(super) fn portable(key: &[u8; 32]) -> Option<Self> {
        Point::decode(key).map(|key| Self::Portable(portable::Multiples::of(key)))
    }
}

/// Whether the sum of encoded points times their numbers and of the base point times its own is zero, where that is quick:
/// with AVX-512 IFMA, in a third of dalek's time. Numbers are little-endian and below 2^253. Odd encodings are allowed, as in
/// dalek.
pub(super) fn quick_sum_is_zero(
    terms: &[([u8; 32], [u8; 32])],
    of_base: &[u8; 32],
) -> Option<Result<bool, NoPoint>> {
    #[cfg(target_arch = "x86_64")]
    return ifma::Ifma::get().map(|cpu| cpu.sum_is_zero(terms, of_base));
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (terms, of_base);
        None
    }
}

/// What [`quick_base_multiples`] and [`quick_public_keys`] make at once.
pub(super) const MULTIPLES_AT_ONCE: usize = 8;

/// Multiples of the base point by secret numbers, encoded, where several at once take less time: a third, with AVX-512 IFMA.
/// Numbers are little-endian and below 2^255.
pub(super) fn quick_base_multiples(
    numbers: [&[u8; 32]; MULTIPLES_AT_ONCE],
) -> Option<[[u8; 32]; MULTIPLES_AT_ONCE]> {
    let points = quick_points(numbers)?;
    let mut inverses = points.map(|point| point.z);
    Element::batch_invert(&mut inverses);
    Some(from_fn(|at| encoded(points[at].x * inverses[at], points[at].y * inverses[at])))
}

/// The public keys of X25519 that belong to private ones (RFC 7748, section 5), where several at once take less time.
pub(super) fn quick_public_keys(
    privates: [&[u8; 32]; MULTIPLES_AT_ONCE],
) -> Option<[[u8; 32]; MULTIPLES_AT_ONCE]> {
    let scalars = Zeroizing::new(privates.map(|private| {
        let mut scalar = *private;
        scalar[0] &= 0xf8;
        scalar[31] = scalar[31] & 0x7f | 0x40;
        scalar
    }));
    let points = quick_points(scalars.each_ref())?;
    // u = (1 + y) / (1 - y), section 4.1. Such a scalar is no multiple of the order, so that y is not 1.
    let mut inverses = points.map(|point| point.z - point.y);
    Element::batch_invert(&mut inverses);
    Some(from_fn(|at| ((points[at].z + points[at].y) * inverses[at]).encode()))
}

#[cfg(target_arch = "x86_64")]
fn quick_points(numbers: [&[u8; 32]; MULTIPLES_AT_ONCE]) -> Option<[Point; MULTIPLES_AT_ONCE]> {
    let cpu = ifma::Ifma::get()?;
    let mut points = [Point::ZERO; MULTIPLES_AT_ONCE];
    for (points, numbers) in points.as_chunks_mut().0.iter_mut().zip(numbers.as_chunks().0) {
        *points = cpu.base_multiples(numbers)?;
    }
    Some(points)
}

#[cfg(not(target_arch = "x86_64"))]
fn quick_points(_: [&[u8; 32]; MULTIPLES_AT_ONCE]) -> Option<[Point; MULTIPLES_AT_ONCE]> {
    None
}

/// Something that should be an encoded point is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoPoint;

/// A number below 2^253 in signed digits of which at most one in `width` is not zero (the width-w non-adjacent form); those
/// are odd and below 2^(width - 1).
#[derive(Clone, Copy, Debug)]
struct Digits([i8; Self::COUNT]);

impl Digits {
    const COUNT: usize = SPAN * SPANS;

    /// `width` is 2 to 7.
    fn of(number: &[u8; 32], width: usize) -> Self {
        let mut digits = [0; Self::COUNT];
        let mut words = [0_u64; 5];
        for (word, bytes) in words.iter_mut().zip(number.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let (half, mut carry, mut place) = (1_u8 << (width - 1), 0, 0);
        while let Some(digit) = digits.get_mut(place) {
            let (word, bit) = (place / 64, place % 64);
            let at = |word: usize| u128::from(words.get(word).copied().unwrap_or(0));
            let [bits, ..] = ((at(word) | at(word + 1) << 64) >> bit).to_le_bytes();
            let value = (bits & (2 * half - 1)) + carry;
            if value & 1 == 0 {
                // A carry stays one where the bit below it was set.
                place += 1;
                continue;
            }
            let negative = value >= half;
            carry = u8::from(negative);
            // From -half to half.
            *digit = value.wrapping_sub(if negative { 2 * half } else { 0 }).cast_signed();
            place += width;
        }
        Self(digits)
    }

    #[inline]
    fn at(&self, span: usize, step: usize) -> i8 {
        self.digit(span * SPAN + step)
    }

    #[inline]
    fn digit(&self, place: usize) -> i8 {
        self.0.get(place).copied().unwrap_or(0)
    }
}

/// (X : Y : Z : T) with x = X/Z, y = Y/Z, T = XY/Z.
#[derive(Clone, Copy, Debug)]
struct Point {
    x: Element,
    y: Element,
    z: Element,
    t: Element,
}

impl Point {
    #[cfg(target_arch = "x86_64")]
    const ZERO: Self = Self { x: Element::ZERO, y: Element::ONE, z: Element::ONE, t: Element::ZERO };

    /// RFC 8032, section 5.1.3, but that y may be 2^255 - 19 or more, and zero may have a sign: as dalek reads keys.
    fn decode(encoded: &[u8; 32]) -> Option<Self> {
        let mut bytes = *encoded;
        let negative = bytes[31] >> 7;
        bytes[31] &= 0x7f;
        let y = Element::decode_reduce(&bytes);
        let square = y.square();
        let (mut x, is_square) = ((square - Element::ONE) / (D * square + Element::ONE)).sqrt();
        if is_square == 0 {
            return None;
        }
        // The root is the even one.
        if negative == 1 {
            x.set_neg();
        }
        Some(Self { x, y, z: Element::ONE, t: x * y })
    }

    /// RFC 8032, section 5.1.2.
    fn encode(&self) -> [u8; 32] {
        let inverse = Element::ONE / self.z;
        encoded(self.x * inverse, self.y * inverse)
    }
}

fn encoded(x: Element, y: Element) -> [u8; 32] {
    let mut encoded = y.encode();
    encoded[31] |= x.encode()[0] << 7;
    encoded
}
