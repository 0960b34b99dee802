//! Points with AVX-512 IFMA: the four products of each step of an addition are made at once.
//!
//! An element is five limbs of 51 bits. The multiplier takes 52 bits of each factor and adds the low or the high 52 bits of
//! the product to a register: the high ones count twice, since a limb has one bit less. Limbs pass 2^255 as 19 at the
//! bottom. What multiplication takes must be below 2^52; what comes out of it, and of a carry, is below 2^51 + 2^15. So one
//! difference or sum of two such can be had without a carry, and needs one before it is multiplied.
#![allow(unsafe_code)] // Calls of functions that need the instructions, which `Ifma` shows to be there.
#![allow(
    clippy::many_single_char_names,
    reason = "limbs, and the names that the formulas have in their sources"
)]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_extract_epi64, _mm256_madd52hi_epu64,
    _mm256_madd52lo_epu64, _mm256_mask_add_epi64, _mm256_mask_sub_epi64, _mm256_permutex_epi64,
    _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_slli_epi64, _mm256_srli_epi64,
};
use std::array::from_fn;
use std::sync::LazyLock;

use crrl::field::GF25519 as Element;

use super::{BASE_POINT, D, Digits, Point, SPAN, SPANS};

const MASK_51: u64 = (1 << 51) - 1;

/// There is one: it may take more room for fewer additions.
const BASE_WIDTH: usize = 6;
/// 10 multiples of 160 bytes.
const WIDTH: usize = 3;

static BASE: LazyLock<Option<Multiples>> =
    LazyLock::new(|| Some(Multiples::new(Ifma::get()?, &Point::decode(&BASE_POINT)?, BASE_WIDTH)));

/// Shows that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ifma(());

impl Ifma {
    pub(super) fn get() -> Option<Self> {
        (is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512ifma")).then_some(Self(()))
    }
}

/// Odd multiples of a point P, of 2^51 P, and so on: `1 << (width - 2)` of each.
#[derive(Debug)]
pub(in crate::crypto) struct Multiples {
    cpu: Ifma,
    width: usize,
    of_spans: Box<[Addend]>,
}

impl Multiples {
    /// Of a key.
    pub(super) fn of(cpu: Ifma, key: &Point) -> Self {
        Self::new(cpu, key, WIDTH)
    }

    fn new(cpu: Ifma, point: &Point, width: usize) -> Self {
        // SAFETY: the processor has the instructions.
        let of_spans = unsafe { odd_multiples(point, width) };
        Self { cpu, width, of_spans }
    }

    /// sB - hA: see [`PreparedKey::combination`](super::PreparedKey::combination).
    pub(super) fn combination(&self, s: &[u8; 32], h: &[u8; 32]) -> Option<[u8; 32]> {
        let base = BASE.as_ref()?;
        let _ = self.cpu;
        // SAFETY: the processor has the instructions.
        let sum = unsafe { combination(base, &Digits::of(s, base.width), self, &Digits::of(h, self.width)) };
        Some(sum.encode())
    }

    #[inline]
    fn of_digit(&self, span: usize, digit: i8) -> Option<&Addend> {
        if digit == 0 {
            return None;
        }
        self.of_spans.get((span << (self.width - 2)) + usize::from(digit.unsigned_abs() / 2))
    }
}

#[target_feature(enable = "avx512ifma,avx512vl")]
fn odd_multiples(point: &Point, width: usize) -> Box<[Addend]> {
    let each = 1 << (width - 2);
    let mut multiples = Vec::with_capacity(SPANS * each);
    let mut first = Extended::from(point);
    for _ in 0..SPANS {
        let twice = first.double().addend();
        let mut odd = first;
        for _ in 0..each {
            multiples.push(odd.addend());
            odd = odd.add(&twice, false);
        }
        for _ in 0..SPAN {
            first = first.double();
        }
    }
    multiples.into()
}

#[target_feature(enable = "avx512ifma,avx512vl")]
fn combination(base: &Multiples, s: &Digits, key: &Multiples, h: &Digits) -> Point {
    let mut sum =
        Extended::from(&Point { x: Element::ZERO, y: Element::ONE, z: Element::ONE, t: Element::ZERO });
    for step in (0..SPAN).rev() {
        sum = sum.double();
        for span in 0..SPANS {
            let (s, h) = (s.at(span, step), h.at(span, step));
            if let Some(addend) = base.of_digit(span, s) {
                sum = sum.add(addend, s < 0);
            }
            if let Some(addend) = key.of_digit(span, h) {
                sum = sum.add(addend, h > 0);
            }
        }
    }
    sum.point()
}

/// Four elements: in a register one limb of each.
#[derive(Clone, Copy, Debug)]
struct Lanes([__m256i; 5]);

/// Which of four lanes goes to each: the first is the lowest.
const fn order(lanes: [i32; 4]) -> i32 {
    lanes[0] | lanes[1] << 2 | lanes[2] << 4 | lanes[3] << 6
}

/// Multiples of the modulus whose limbs are all as large as those of `times` limbs after a carry, so that these can be
/// taken away. `times` is 2, 4 or 8; 0 gives zero.
const fn multiple_of_modulus(times: i64, limb: usize) -> i64 {
    times * if limb == 0 { (1 << 51) - 19 } else { (1 << 51) - 1 }
}

impl Lanes {
    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn new(elements: [&Element; 4]) -> Self {
        let limbs = elements.map(|element| {
            let bytes = element.encode();
            from_fn::<u64, 5, _>(|limb| {
                let (byte, bit) = (limb * 51 / 8, limb * 51 % 8);
                let mut eight = [0; 8];
                let rest = bytes.get(byte..).unwrap_or_default();
                let held = rest.len().min(8);
                eight
                    .get_mut(..held)
                    .unwrap_or_default()
                    .copy_from_slice(rest.get(..held).unwrap_or_default());
                u64::from_le_bytes(eight) >> bit & MASK_51
            })
        });
        let [a, b, c, d] = limbs;
        let limb = |limb: usize| {
            let [a, b, c, d] = [a, b, c, d].map(|of| of.get(limb).copied().unwrap_or(0).cast_signed());
            _mm256_set_epi64x(d, c, b, a)
        };
        Self([limb(0), limb(1), limb(2), limb(3), limb(4)])
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn elements(&self) -> [Element; 4] {
        let limbs = self.0.map(|limb| {
            [
                _mm256_extract_epi64::<0>(limb),
                _mm256_extract_epi64::<1>(limb),
                _mm256_extract_epi64::<2>(limb),
                _mm256_extract_epi64::<3>(limb),
            ]
        });
        from_fn(|lane| {
            let of_lane = limbs.iter().map(|limb| limb.get(lane).copied().unwrap_or(0).cast_unsigned());
            let element = |limb| Element::w64le(limb, 0, 0, 0);
            of_lane.rev().fold(Element::ZERO, |sum, limb| sum * element(1 << 51) + element(limb))
        })
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn permuted<const ORDER: i32>(&self) -> Self {
        let [a, b, c, d, e] = self.0;
        Self([
            _mm256_permutex_epi64::<ORDER>(a),
            _mm256_permutex_epi64::<ORDER>(b),
            _mm256_permutex_epi64::<ORDER>(c),
            _mm256_permutex_epi64::<ORDER>(d),
            _mm256_permutex_epi64::<ORDER>(e),
        ])
    }

    /// Multiples of the modulus: how many in each lane.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn moduli(times: [i64; 4]) -> Self {
        let [a, b, c, d] = times;
        let limb = |limb| {
            _mm256_set_epi64x(
                multiple_of_modulus(d, limb),
                multiple_of_modulus(c, limb),
                multiple_of_modulus(b, limb),
                multiple_of_modulus(a, limb),
            )
        };
        Self([limb(0), limb(1), limb(2), limb(3), limb(4)])
    }

    /// Adds in some lanes: bit 0 of `LANES` is the lowest.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn plus<const LANES: u8>(&self, other: &Self) -> Self {
        let ([a, b, c, d, e], [f, g, h, i, j]) = (self.0, other.0);
        let add = |to, from| _mm256_mask_add_epi64(to, LANES, to, from);
        Self([add(a, f), add(b, g), add(c, h), add(d, i), add(e, j)])
    }

    /// Takes away in some lanes.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn minus<const LANES: u8>(&self, other: &Self) -> Self {
        let ([a, b, c, d, e], [f, g, h, i, j]) = (self.0, other.0);
        let sub = |to, from| _mm256_mask_sub_epi64(to, LANES, to, from);
        Self([sub(a, f), sub(b, g), sub(c, h), sub(d, i), sub(e, j)])
    }

    /// Each limb gives what is above its 51 bits to the next.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn carried(&self) -> Self {
        let mask = _mm256_set1_epi64x(MASK_51.cast_signed());
        let [a, b, c, d, e] = self.0;
        let over = |limb| _mm256_srli_epi64::<51>(limb);
        let low = |limb| _mm256_and_si256(limb, mask);
        Self([
            _mm256_madd52lo_epu64(low(a), over(e), _mm256_set1_epi64x(19)),
            _mm256_add_epi64(low(b), over(a)),
            _mm256_add_epi64(low(c), over(b)),
            _mm256_add_epi64(low(d), over(c)),
            _mm256_add_epi64(low(e), over(d)),
        ])
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn times(&self, other: &Self) -> Self {
        let zero = _mm256_setzero_si256();
        // Of each weight, 51 bits apart: sums of low and of high halves. Five products of less than 2^52 each.
        let (mut low, mut high) = ([zero; 10], [zero; 10]);
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in other.0.iter().enumerate() {
                low[i + j] = _mm256_madd52lo_epu64(low[i + j], *a, *b);
                high[i + j + 1] = _mm256_madd52hi_epu64(high[i + j + 1], *a, *b);
            }
        }
        let weight = |at: usize| _mm256_add_epi64(low[at], _mm256_slli_epi64::<1>(high[at]));
        let folded = |at: usize| {
            let above = weight(at + 5);
            let above_19 = _mm256_add_epi64(
                _mm256_add_epi64(above, _mm256_slli_epi64::<1>(above)),
                _mm256_slli_epi64::<4>(above),
            );
            _mm256_add_epi64(weight(at), above_19)
        };
        Self([folded(0), folded(1), folded(2), folded(3), folded(4)]).carried()
    }
}

/// X, Y, Z, T of a point.
#[derive(Clone, Copy, Debug)]
struct Extended(Lanes);

/// What an addition needs of a point: Y - X, Y + X, 2dT, 2Z.
#[derive(Clone, Copy, Debug)]
struct Addend(Lanes);

/// The lanes E, H, G, F of a sum, of which X = EF, Y = GH, Z = FG, T = EH.
struct Parts(Lanes);

impl Parts {
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn extended(&self) -> Extended {
        let left = self.0.permuted::<{ order([0, 2, 3, 0]) }>();
        let right = self.0.permuted::<{ order([3, 1, 2, 1]) }>();
        Extended(left.times(&right))
    }
}

impl Extended {
    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn from(point: &Point) -> Self {
        Self(Lanes::new([&point.x, &point.y, &point.z, &point.t]))
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn point(&self) -> Point {
        let [x, y, z, t] = self.0.elements();
        Point { x, y, z, t }
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn double(&self) -> Self {
        // A = X², B = Y², Z², XY.
        let left = self.0.permuted::<{ order([0, 1, 2, 0]) }>();
        let right = self.0.permuted::<{ order([0, 1, 2, 1]) }>();
        let products = left.times(&right);
        let all_a = products.permuted::<{ order([0, 0, 0, 0]) }>();
        let all_b = products.permuted::<{ order([1, 1, 1, 1]) }>();
        // 2XY in the first lane, 2Z² in the last.
        let ends = products.permuted::<{ order([3, 0, 0, 2]) }>();
        // E = 2XY, H = -A - B, G = B - A, F = B - A - 2Z².
        let parts = Lanes::moduli([0, 4, 2, 8])
            .minus::<0b1110>(&all_a)
            .minus::<0b0010>(&all_b)
            .plus::<0b1100>(&all_b)
            .plus::<0b0001>(&ends)
            .plus::<0b0001>(&ends)
            .minus::<0b1000>(&ends)
            .minus::<0b1000>(&ends);
        Parts(parts.carried()).extended()
    }

    /// Y - X, Y + X, T, Z.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn spread(&self) -> Lanes {
        let all_x = self.0.permuted::<{ order([0, 0, 0, 0]) }>();
        self.0
            .permuted::<{ order([1, 1, 3, 2]) }>()
            .plus::<0b0001>(&Lanes::moduli([2, 0, 0, 0]))
            .minus::<0b0001>(&all_x)
            .plus::<0b0010>(&all_x)
            .carried()
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn addend(&self) -> Addend {
        let two = Element::w64le(2, 0, 0, 0);
        Addend(self.spread().times(&Lanes::new([&Element::ONE, &Element::ONE, &D.mul2(), &two])))
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn add(&self, addend: &Addend, negated: bool) -> Self {
        let addend = if negated {
            let swapped = addend.0.permuted::<{ order([1, 0, 2, 3]) }>();
            // Not negative, and below 2^52: no carry is needed.
            let negative = Lanes::moduli([0, 0, 2, 0]).minus::<0b0100>(&swapped);
            negative.plus::<0b1011>(&swapped)
        } else {
            addend.0
        };
        // A, B, C, D of the formula.
        let products = self.spread().times(&addend);
        let left = products.permuted::<{ order([1, 1, 3, 3]) }>();
        let right = products.permuted::<{ order([0, 0, 2, 2]) }>();
        // E = B - A, H = B + A, G = D + C, F = D - C.
        let parts =
            left.plus::<0b1001>(&Lanes::moduli([2, 0, 0, 2])).minus::<0b1001>(&right).plus::<0b0110>(&right);
        Parts(parts.carried()).extended()
    }
}
