//! Four elements of the field at once, with AVX-512 IFMA.
//!
//! An element is five limbs of 51 bits. The multiplier takes 52 bits of each factor and adds the low or the high 52 bits of
//! the product to a register: the high ones count twice, since a limb has one bit less. Limbs pass 2^255 as 19 at the
//! bottom. What multiplication takes must be below 2^52; what comes out of it, and of a carry, is below 2^51 + 2^15. So one
//! difference or sum of two such can be had without a carry, and needs one before it is multiplied.
#![allow(clippy::many_single_char_names, reason = "limbs, and the names that formulas have in their sources")]

use std::arch::x86_64::{
    __m256i, __mmask8, _mm256_add_epi64, _mm256_and_si256, _mm256_extract_epi64, _mm256_madd52hi_epu64,
    _mm256_madd52lo_epu64, _mm256_mask_add_epi64, _mm256_mask_blend_epi64, _mm256_mask_sub_epi64,
    _mm256_permutex_epi64, _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_slli_epi64,
    _mm256_srli_epi64,
};
use std::array::from_fn;

use crrl::field::GF25519 as Element;

use super::unmasked::unmasked;

const MASK_51: u64 = (1 << 51) - 1;
/// Of an element.
pub(super) const LIMBS: usize = 5;

/// Four elements: in a register one limb of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes([__m256i; 5]);

/// Which of four lanes goes to each: the first is the lowest.
pub(super) const fn order(lanes: [i32; 4]) -> i32 {
    lanes[0] | lanes[1] << 2 | lanes[2] << 4 | lanes[3] << 6
}

/// Multiples of the modulus whose limbs are all as large as those of `times` limbs after a carry, so that these can be
/// taken away. `times` is 2, 4 or 8; 0 gives zero.
const fn multiple_of_modulus(times: i64, limb: usize) -> i64 {
    times * if limb == 0 { (1 << 51) - 19 } else { (1 << 51) - 1 }
}

/// The lowest first. None is above 51 bits.
pub(super) fn limbs_of(element: &Element) -> [u64; LIMBS] {
    let bytes = element.encode();
    from_fn(|limb| {
        let (byte, bit) = (limb * 51 / 8, limb * 51 % 8);
        let mut eight = [0; 8];
        let rest = bytes.get(byte..).unwrap_or_default();
        let held = rest.len().min(8);
        eight.get_mut(..held).unwrap_or_default().copy_from_slice(rest.get(..held).unwrap_or_default());
        u64::from_le_bytes(eight) >> bit & MASK_51
    })
}

impl Lanes {
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn zero() -> Self {
        Self([_mm256_setzero_si256(); LIMBS])
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn one() -> Self {
        let [_, b, c, d, e] = Self::zero().0;
        Self([_mm256_set1_epi64x(1), b, c, d, e])
    }

    /// With the other's elements in the lanes of the mask.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn blended(&self, lanes: __mmask8, other: &Self) -> Self {
        let ([a, b, c, d, e], [f, g, h, i, j]) = (self.0, other.0);
        let blend = |from, to| _mm256_mask_blend_epi64(lanes, from, to);
        Self([blend(a, f), blend(b, g), blend(c, h), blend(d, i), blend(e, j)])
    }

    /// With this element in the lanes of the mask. It is read whatever the mask.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn replaced(&self, lanes: __mmask8, by: &[u64; LIMBS]) -> Self {
        let [a, b, c, d, e] = by.map(|limb| unmasked(_mm256_set1_epi64x(limb.cast_signed())));
        self.blended(lanes, &Self([a, b, c, d, e]))
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    pub(super) fn new(elements: [&Element; 4]) -> Self {
        let [a, b, c, d] = elements.map(limbs_of);
        let limb = |limb: usize| {
            let [a, b, c, d] = [a, b, c, d].map(|of| of.get(limb).copied().unwrap_or(0).cast_signed());
            _mm256_set_epi64x(d, c, b, a)
        };
        Self([limb(0), limb(1), limb(2), limb(3), limb(4)])
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    pub(super) fn elements(&self) -> [Element; 4] {
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
    pub(super) fn permuted<const ORDER: i32>(&self) -> Self {
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
    pub(super) fn moduli(times: [i64; 4]) -> Self {
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
    pub(super) fn plus<const LANES: u8>(&self, other: &Self) -> Self {
        let ([a, b, c, d, e], [f, g, h, i, j]) = (self.0, other.0);
        let add = |to, from| _mm256_mask_add_epi64(to, LANES, to, from);
        Self([add(a, f), add(b, g), add(c, h), add(d, i), add(e, j)])
    }

    /// Takes away in some lanes.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn minus<const LANES: u8>(&self, other: &Self) -> Self {
        let ([a, b, c, d, e], [f, g, h, i, j]) = (self.0, other.0);
        let sub = |to, from| _mm256_mask_sub_epi64(to, LANES, to, from);
        Self([sub(a, f), sub(b, g), sub(c, h), sub(d, i), sub(e, j)])
    }

    /// Each limb gives what is above its 51 bits to the next.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn carried(&self) -> Self {
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
    pub(super) fn times(&self, other: &Self) -> Self {
        let zero = _mm256_setzero_si256();
        // Of each weight, 51 bits apart: sums of low and of high halves. Five products of less than 2^52 each.
        let (mut low, mut high) = ([zero; 10], [zero; 10]);
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in other.0.iter().enumerate() {
                low[i + j] = _mm256_madd52lo_epu64(low[i + j], *a, *b);
                high[i + j + 1] = _mm256_madd52hi_epu64(high[i + j + 1], *a, *b);
            }
        }
        folded(&from_fn(|at| _mm256_add_epi64(low[at], _mm256_slli_epi64::<1>(high[at]))))
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn squared(&self) -> Self {
        let zero = _mm256_setzero_si256();
        // As in `times`: products of two limbs are counted once, and doubled at the end.
        let (mut low, mut high) = ([zero; 10], [zero; 10]);
        let (mut low_once, mut high_once) = ([zero; 10], [zero; 10]);
        for (i, a) in self.0.iter().enumerate() {
            low[2 * i] = _mm256_madd52lo_epu64(zero, *a, *a);
            high[2 * i + 1] = _mm256_madd52hi_epu64(zero, *a, *a);
            for (j, b) in self.0.iter().enumerate().skip(i + 1) {
                low_once[i + j] = _mm256_madd52lo_epu64(low_once[i + j], *a, *b);
                high_once[i + j + 1] = _mm256_madd52hi_epu64(high_once[i + j + 1], *a, *b);
            }
        }
        let twice = |once| _mm256_slli_epi64::<1>(once);
        folded(&from_fn(|at| {
            let low = _mm256_add_epi64(low[at], twice(low_once[at]));
            let high = _mm256_add_epi64(high[at], twice(high_once[at]));
            _mm256_add_epi64(low, twice(high))
        }))
    }
}

/// What stands at each weight, brought below 2^255. Below 2^56 each.
#[target_feature(enable = "avx512ifma,avx512vl")]
#[inline]
fn folded(weights: &[__m256i; 10]) -> Lanes {
    let [a, b, c, d, e, f, g, h, i, j] = *weights;
    let fold = |at, above| {
        let three = _mm256_add_epi64(above, _mm256_slli_epi64::<1>(above));
        _mm256_add_epi64(at, _mm256_add_epi64(three, _mm256_slli_epi64::<4>(above)))
    };
    Lanes([fold(a, f), fold(b, g), fold(c, h), fold(d, i), fold(e, j)]).carried()
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)] // Calls of functions that need the instructions, which `Ifma` shows to be there.
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::Ifma;
    use super::*;

    /// The largest that stands in a limb after a carry, and the largest that multiplication takes.
    const CARRIED: u64 = (1 << 51) + (1 << 15);
    const FACTOR: u64 = (1 << 52) - 1;

    type Limbs = [[u64; 5]; 4];

    fn limbs(most: u64) -> impl Strategy<Value = Limbs> {
        let edges = vec![0, 1, 18, 19, MASK_51 - 1, MASK_51, most - 1, most];
        let limb = prop_oneof![select(edges), 0..=most];
        prop::array::uniform4(prop::array::uniform5(prop_oneof![limb, select(vec![most])]))
    }

    fn values(of: &Limbs) -> [Element; 4] {
        of.map(|limbs| {
            limbs.iter().rev().fold(Element::ZERO, |sum, limb| {
                sum * Element::w64le(1 << 51, 0, 0, 0) + Element::w64le(*limb, 0, 0, 0)
            })
        })
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn lanes(of: &Limbs) -> Lanes {
        let [a, b, c, d] = of.map(|limbs| limbs.map(u64::cast_signed));
        Lanes(from_fn(|limb| _mm256_set_epi64x(d[limb], c[limb], b[limb], a[limb])))
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn most(of: &Lanes) -> u64 {
        let of_limb = |limb| {
            [
                _mm256_extract_epi64::<0>(limb),
                _mm256_extract_epi64::<1>(limb),
                _mm256_extract_epi64::<2>(limb),
                _mm256_extract_epi64::<3>(limb),
            ]
        };
        of.0.into_iter().flat_map(of_limb).map(i64::cast_unsigned).max().unwrap_or(0)
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn check(a: &Limbs, b: &Limbs, c: &Limbs, d: &Limbs) {
        let (a_values, b_values, c_values, d_values) = (values(a), values(b), values(c), values(d));
        let (a, b, c, d) = (lanes(a), lanes(b), lanes(c), lanes(d));
        let same = |lanes: &Lanes, expected: [Element; 4]| {
            assert!(most(lanes) <= CARRIED, "{lanes:?}");
            for (element, expected) in lanes.elements().iter().zip(expected) {
                assert!(element.equals(expected) != 0, "{lanes:?}");
            }
        };
        same(&a.times(&b), from_fn(|lane| a_values[lane] * b_values[lane]));
        same(&a.squared(), a_values.map(Element::square));
        // Differences, as points have them: of limbs after a carry.
        let [e, f, g, h] = c_values;
        let [i, j, _, l] = d_values;
        let difference = Lanes::moduli([2, 2, 4, 8]).plus::<0b1111>(&c).minus::<0b1011>(&d).carried();
        same(&difference, [e - i, f - j, g, h - l]);
        same(&c.permuted::<{ order([3, 0, 0, 2]) }>(), [h, e, e, g]);
        same(&Lanes::new([&e, &f, &g, &h]), c_values);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn as_one_element_at_a_time(
            a in limbs(FACTOR), b in limbs(FACTOR), c in limbs(CARRIED), d in limbs(CARRIED),
        ) {
            match Ifma::get() {
                // SAFETY: the processor has the instructions.
                Some(_) => unsafe { check(&a, &b, &c, &d) },
                None => println!("this processor has no AVX-512 IFMA: the portable code does all"),
            }
        }
    }
}
