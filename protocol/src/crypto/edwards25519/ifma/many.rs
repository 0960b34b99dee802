//! Sums of multiples of many points.
#![allow(unsafe_code)] // Calls of functions that need the instructions, which `Ifma` shows to be there.
#![allow(clippy::many_single_char_names, reason = "the names that the formulas have in their sources")]

use crrl::field::GF25519 as Element;

use super::super::{D, Digits, NoPoint, Point};
use super::Ifma;
use super::extended::{Addend, AddendFactors, Extended};
use super::lanes::Lanes;
use super::tables::{BASE, BASE_WIDTH};

/// 4 multiples of 160 bytes for each point.
const WIDTH: usize = 4;
const EACH: usize = 1 << (WIDTH - 2);
/// Points that are decoded at once.
const DECODED_AT_ONCE: usize = 8;

/// A square root of -1.
const ROOT_OF_MINUS_1: Element = Element::w64be(
    0x2b83_2480_4fc1_df0b,
    0x2b4d_0099_3dfb_d7a7,
    0x2f43_1806_ad2f_e478,
    0xc4ee_1b27_4a0e_a0b0,
);

impl Ifma {
    /// Whether the sum of the points times their numbers and of the base point times its own is zero. Numbers are
    /// little-endian and below 2^253. An odd encoding of a point is allowed.
    pub(in crate::crypto) fn sum_is_zero(
        self,
        terms: &[([u8; 32], [u8; 32])],
        of_base: &[u8; 32],
    ) -> Result<bool, NoPoint> {
        let Self(()) = self;
        // SAFETY: the processor has the instructions.
        let sum = unsafe { sum(terms, of_base) }.ok_or(NoPoint)?;
        Ok((sum.x.iszero() & sum.y.equals(sum.z)) != 0)
    }
}

#[target_feature(enable = "avx512ifma,avx512vl")]
fn sum(terms: &[([u8; 32], [u8; 32])], of_base: &[u8; 32]) -> Option<Point> {
    let base = BASE.as_ref()?.of_span(0);
    let factors = AddendFactors::new();
    let mut multiples: Vec<Addend> = Vec::with_capacity(terms.len() * EACH);
    for few in terms.chunks(DECODED_AT_ONCE) {
        for point in decode(few)?.iter().take(few.len()) {
            Extended::from(point).odd_multiples(WIDTH, &factors, &mut multiples);
        }
    }
    let of_base = Digits::of(of_base, BASE_WIDTH);
    let numbers: Vec<Digits> = terms.iter().map(|(_, number)| Digits::of(number, WIDTH)).collect();
    let mut sum = Extended::zero();
    for place in (0..Digits::COUNT).rev() {
        sum = sum.double().add_digit(base, of_base.digit(place));
        for (number, multiples) in numbers.iter().zip(multiples.chunks_exact(EACH)) {
            sum = sum.add_digit(multiples, number.digit(place));
        }
    }
    Some(sum.point())
}

/// As [`Point::decode`], the power that a root takes for eight at once. There are as many as terms, filled up with any.
#[target_feature(enable = "avx512ifma,avx512vl")]
fn decode(terms: &[([u8; 32], [u8; 32])]) -> Option<[Point; DECODED_AT_ONCE]> {
    let mut ys = [Element::ONE; DECODED_AT_ONCE];
    for (y, (encoded, _)) in ys.iter_mut().zip(terms) {
        let mut bytes = *encoded;
        bytes[31] &= 0x7f;
        *y = Element::decode_reduce(&bytes);
    }
    // x² = u/v, and a root is uv³ (uv⁷)^((p - 5)/8), times the root of -1 or not: RFC 8032, section 5.1.3.
    let fractions = ys.map(|y| (y.square() - Element::ONE, D * y.square() + Element::ONE));
    let [a, b, c, d, e, f, g, h] = fractions.map(|(u, v)| {
        let v3 = v.square() * v;
        u * v3.square() * v
    });
    let powers = power(&[Lanes::new([&a, &b, &c, &d]), Lanes::new([&e, &f, &g, &h])]);
    let [low, high] = powers.map(|powers| powers.elements());
    let mut points = [Point::ZERO; DECODED_AT_ONCE];
    let powers = low.into_iter().chain(high);
    for ((((point, y), (u, v)), power), (encoded, _)) in
        points.iter_mut().zip(ys).zip(fractions).zip(powers).zip(terms)
    {
        let mut x = u * v.square() * v * power;
        let square = v * x.square();
        if square.equals(-u) != 0 {
            x *= ROOT_OF_MINUS_1;
        } else if square.equals(u) == 0 {
            return None;
        }
        if x.encode()[0] & 1 != encoded[31] >> 7 {
            x.set_neg();
        }
        *point = Point { x, y, z: Element::ONE, t: x * y };
    }
    Some(points)
}

/// To the power of (p - 5)/8 = 2^252 - 3. The two go at the same time: each waits for its own results only.
#[target_feature(enable = "avx512ifma,avx512vl")]
fn power(bases: &[Lanes; 2]) -> [Lanes; 2] {
    // To the power of 2^n - 1, for n that grow by what was reached.
    let to_2 = times(&squared(bases, 1), bases);
    let to_4 = times(&squared(&to_2, 2), &to_2);
    let to_5 = times(&squared(&to_4, 1), bases);
    let to_10 = times(&squared(&to_5, 5), &to_5);
    let to_20 = times(&squared(&to_10, 10), &to_10);
    let to_40 = times(&squared(&to_20, 20), &to_20);
    let to_50 = times(&squared(&to_40, 10), &to_10);
    let to_100 = times(&squared(&to_50, 50), &to_50);
    let to_200 = times(&squared(&to_100, 100), &to_100);
    let to_250 = times(&squared(&to_200, 50), &to_50);
    times(&squared(&to_250, 2), bases)
}

#[target_feature(enable = "avx512ifma,avx512vl")]
#[inline]
fn squared(of: &[Lanes; 2], times: usize) -> [Lanes; 2] {
    let [mut one, mut other] = *of;
    for _ in 0..times {
        one = one.squared();
        other = other.squared();
    }
    [one, other]
}

#[target_feature(enable = "avx512ifma,avx512vl")]
#[inline]
fn times(left: &[Lanes; 2], right: &[Lanes; 2]) -> [Lanes; 2] {
    let ([a, b], [c, d]) = (left, right);
    [a.times(c), b.times(d)]
}
