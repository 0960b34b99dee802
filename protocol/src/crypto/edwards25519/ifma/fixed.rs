//! Multiples of the base point by secret numbers, four at once: each lane has a point of its own. Neither the time nor the
//! places in memory hang on the numbers.
#![allow(unsafe_code)] // Calls of functions that need the instructions, which `Ifma` shows to be there.
#![allow(clippy::many_single_char_names, reason = "the names that the formulas have in their sources")]

use std::arch::x86_64::{
    __m256i, _mm256_abs_epi64, _mm256_add_epi64, _mm256_cmpeq_epi64_mask, _mm256_cmplt_epi64_mask,
    _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_setzero_si256,
};
use std::array::from_fn;
use std::sync::LazyLock;

use crrl::field::GF25519 as Element;
use zeroize::Zeroizing;

use super::super::{BASE_POINT, D, Point};
use super::Ifma;
use super::extended::{AddendFactors, Extended};
use super::lanes::{LIMBS, Lanes, limbs_of};

/// Of a number: its digits to base 16, from -8 to 8.
const DIGITS: usize = 64;
/// A row serves two digits: what belongs to the higher one is multiplied by 16 at the end.
const ROWS: usize = DIGITS / 2;
const ENTRIES: usize = 8;
const DOUBLINGS_A_ROW: usize = 8;

/// y + x, y - x and 2dxy of a point, in limbs.
type Entry = [[u64; LIMBS]; 3];
/// Of a row, the multiples from 1 to 8 of what 256 to the power of its number makes of the base point: 30 KB.
type Table = Box<[[Entry; ENTRIES]]>;

static TABLE: LazyLock<Option<Table>> = LazyLock::new(|| {
    Ifma::get()?;
    // SAFETY: the processor has the instructions.
    Some(unsafe { table(&Point::decode(&BASE_POINT)?) })
});

impl Ifma {
    /// Multiples of the base point. Numbers are little-endian and below 2^255.
    pub(in super::super) fn base_multiples(self, numbers: &[&[u8; 32]; 4]) -> Option<[Point; 4]> {
        let Self(()) = self;
        let table = TABLE.as_ref()?;
        let digits = Zeroizing::new(numbers.map(digits));
        // SAFETY: the processor has the instructions.
        Some(unsafe { sums(table, &digits) })
    }
}

#[target_feature(enable = "avx512ifma,avx512vl")]
fn table(base: &Point) -> Table {
    let factors = AddendFactors::new();
    let mut first = Extended::from(base);
    let mut points = Vec::with_capacity(ROWS * ENTRIES);
    for _ in 0..ROWS {
        let (addend, mut multiple) = (first.addend(&factors), first);
        points.push(multiple.point());
        for _ in 1..ENTRIES {
            multiple = multiple.add(&addend, false);
            points.push(multiple.point());
        }
        for _ in 0..DOUBLINGS_A_ROW {
            first = first.double();
        }
    }
    let mut inverses: Vec<Element> = points.iter().map(|point| point.z).collect();
    Element::batch_invert(&mut inverses);
    let entries: Vec<Entry> = points
        .iter()
        .zip(inverses)
        .map(|(point, inverse)| {
            let (x, y) = (point.x * inverse, point.y * inverse);
            [y + x, y - x, (D * x * y).mul2()].map(|element| limbs_of(&element))
        })
        .collect();
    entries.as_chunks().0.into()
}

/// The lowest digit first.
fn digits(number: &[u8; 32]) -> [i8; DIGITS] {
    debug_assert!(number[31] < 0x80, "its last digit would be in no table");
    let mut digits = [0_i8; DIGITS];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(number) {
        *pair = [byte & 15, byte >> 4].map(u8::cast_signed);
    }
    let mut carry = 0;
    for digit in digits.iter_mut().take(DIGITS - 1) {
        *digit += carry;
        carry = (*digit + 8) >> 4;
        *digit -= carry << 4;
    }
    if let Some(last) = digits.last_mut() {
        *last += carry;
    }
    digits
}

#[target_feature(enable = "avx512ifma,avx512vl")]
fn sums(table: &Table, digits: &[[i8; DIGITS]; 4]) -> [Point; 4] {
    let [a, b, c, d] = digits;
    let at = |place: usize| {
        let [a, b, c, d] = [a, b, c, d].map(|of| of.get(place).copied().map_or(0, i64::from));
        _mm256_set_epi64x(d, c, b, a)
    };
    let mut sums = Points::zero();
    for (row, entries) in table.iter().enumerate() {
        sums = sums.add(&Addends::select(entries, at(2 * row + 1)));
    }
    sums = sums.double().double().double().double();
    for (row, entries) in table.iter().enumerate() {
        sums = sums.add(&Addends::select(entries, at(2 * row)));
    }
    let [x, y, z, t] = [sums.x, sums.y, sums.z, sums.t].map(|lanes| lanes.elements());
    from_fn(|lane| Point { x: x[lane], y: y[lane], z: z[lane], t: t[lane] })
}

/// y + x, y - x and 2dxy of four points.
struct Addends {
    sum: Lanes,
    difference: Lanes,
    product: Lanes,
}

impl Addends {
    /// Those that the digits say. All entries are read, and those that are not wanted are masked out.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn select(entries: &[Entry; ENTRIES], digits: __m256i) -> Self {
        let negative = _mm256_cmplt_epi64_mask(digits, _mm256_setzero_si256());
        let size = _mm256_abs_epi64(digits);
        // The digit 0: the point (0, 1).
        let (mut sum, mut difference, mut product) = (Lanes::one(), Lanes::one(), Lanes::zero());
        let mut of_size = _mm256_setzero_si256();
        for [of_sum, of_difference, of_product] in entries {
            of_size = _mm256_add_epi64(of_size, _mm256_set1_epi64x(1));
            let wanted = _mm256_cmpeq_epi64_mask(size, of_size);
            sum = sum.replaced(wanted, of_sum);
            difference = difference.replaced(wanted, of_difference);
            product = product.replaced(wanted, of_product);
        }
        // Of the opposite point the first two are exchanged, and the last is negative: below 2^52, as factors must be.
        let opposite = Lanes::moduli([2; 4]).minus::<0b1111>(&product);
        Self {
            sum: sum.blended(negative, &difference),
            difference: difference.blended(negative, &sum),
            product: product.blended(negative, &opposite),
        }
    }
}

/// Four points: (X : Y : Z : T) of each.
#[derive(Clone, Copy)]
struct Points {
    x: Lanes,
    y: Lanes,
    z: Lanes,
    t: Lanes,
}

impl Points {
    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn zero() -> Self {
        Self { x: Lanes::zero(), y: Lanes::one(), z: Lanes::one(), t: Lanes::zero() }
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    fn add(&self, addends: &Addends) -> Self {
        let a = difference(&self.y, &self.x).times(&addends.difference);
        let b = self.y.plus::<0b1111>(&self.x).carried().times(&addends.sum);
        let c = self.t.times(&addends.product);
        let d = self.z.plus::<0b1111>(&self.z);
        let e = difference(&b, &a);
        let f = difference(&d, &c);
        let g = d.plus::<0b1111>(&c).carried();
        let h = b.plus::<0b1111>(&a).carried();
        Self { x: e.times(&f), y: g.times(&h), z: f.times(&g), t: e.times(&h) }
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    fn double(&self) -> Self {
        let (a, b, zz, xy) = (self.x.squared(), self.y.squared(), self.z.squared(), self.x.times(&self.y));
        let e = xy.plus::<0b1111>(&xy).carried();
        let h = Lanes::moduli([4; 4]).minus::<0b1111>(&a).minus::<0b1111>(&b).carried();
        let g = difference(&b, &a);
        let f = difference(&g, &zz.plus::<0b1111>(&zz).carried());
        Self { x: e.times(&f), y: g.times(&h), z: f.times(&g), t: e.times(&h) }
    }
}

/// What is taken away must be carried.
#[target_feature(enable = "avx512ifma,avx512vl")]
#[inline]
fn difference(from: &Lanes, take: &Lanes) -> Lanes {
    from.plus::<0b1111>(&Lanes::moduli([2; 4])).minus::<0b1111>(take).carried()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [[0; 32], [0x88; 32], [0x77; 32], [0xf7; 32], {
            let mut most = [0xff; 32];
            most[31] = 0x7f;
            most
        }] {
            let mut number = number;
            number[31] &= 0x7f;
            let digits = digits(&number);
            assert!(digits.iter().all(|digit| (-8..=8).contains(digit)), "{digits:?}");
            // From the lowest digit on what stands at its place, and above it, is the rest of the number.
            let mut carry = 0_i16;
            for (pair, byte) in digits.as_chunks::<2>().0.iter().zip(number) {
                let value = i16::from(pair[0]) + 16 * i16::from(pair[1]) + carry;
                assert_eq!(value.rem_euclid(256), i16::from(byte));
                carry = value.div_euclid(256);
            }
            assert_eq!(carry, 0);
        }
    }
}
