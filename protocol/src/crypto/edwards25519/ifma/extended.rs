//! Points whose coordinates are the lanes of registers: the four products of each step of an addition are made at once.
#![allow(clippy::many_single_char_names, reason = "the names that the formulas have in their sources")]

use crrl::field::GF25519 as Element;

use super::super::{D, Point};
use super::lanes::{Lanes, order};

/// X, Y, Z, T of a point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extended(Lanes);

/// What an addition needs of a point: Y - X, Y + X, 2dT, 2Z.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addend(Lanes);

/// What makes an [`Addend`] of Y - X, Y + X, T, Z. To be made once for many.
#[derive(Debug)]
pub(super) struct AddendFactors(Lanes);

impl AddendFactors {
    #[target_feature(enable = "avx512ifma,avx512vl")]
    pub(super) fn new() -> Self {
        let (one, two) = (Element::ONE, Element::w64le(2, 0, 0, 0));
        Self(Lanes::new([&one, &one, &D.mul2(), &two]))
    }
}

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
    pub(super) fn from(point: &Point) -> Self {
        Self(Lanes::new([&point.x, &point.y, &point.z, &point.t]))
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    pub(super) fn point(&self) -> Point {
        let [x, y, z, t] = self.0.elements();
        Point { x, y, z, t }
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn double(&self) -> Self {
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
    pub(super) fn addend(&self, factors: &AddendFactors) -> Addend {
        Addend(self.spread().times(&factors.0))
    }

    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn add(&self, addend: &Addend, negated: bool) -> Self {
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

    #[target_feature(enable = "avx512ifma,avx512vl")]
    pub(super) fn zero() -> Self {
        Self::from(&Point::ZERO)
    }

    /// Appends P, 3P and so on: `1 << (width - 2)`.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    pub(super) fn odd_multiples(&self, width: usize, factors: &AddendFactors, multiples: &mut Vec<Addend>) {
        let twice = self.double().addend(factors);
        let mut odd = *self;
        multiples.push(odd.addend(factors));
        for _ in 1..1 << (width - 2) {
            odd = odd.add(&twice, false);
            multiples.push(odd.addend(factors));
        }
    }

    /// Adds the multiple that an odd digit or zero says.
    #[target_feature(enable = "avx512ifma,avx512vl")]
    #[inline]
    pub(super) fn add_digit(&self, odd_multiples: &[Addend], digit: i8) -> Self {
        if digit == 0 {
            return *self;
        }
        match odd_multiples.get(usize::from(digit.unsigned_abs() / 2)) {
            Some(addend) => self.add(addend, digit < 0),
            None => *self,
        }
    }
}
