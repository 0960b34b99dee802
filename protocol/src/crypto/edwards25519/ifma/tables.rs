//! Sums with tables, with AVX-512 IFMA.
#![allow(unsafe_code)] // Calls of functions that need the instructions, which `Ifma` shows to be there.

use std::sync::LazyLock;

use super::super::{BASE_POINT, Digits, Point, SPAN, SPANS};
use super::Ifma;
use super::extended::{Addend, AddendFactors, Extended};

/// There is one: it may take more room for fewer additions.
pub(super) const BASE_WIDTH: usize = 6;
/// 10 multiples of 160 bytes.
const WIDTH: usize = 3;

pub(super) static BASE: LazyLock<Option<Multiples>> =
    LazyLock::new(|| Some(Multiples::new(Ifma::get()?, &Point::decode(&BASE_POINT)?, BASE_WIDTH)));

/// Odd multiples of a point P, of 2^51 P, and so on: `1 << (width - 2)` of each.
#[derive(Debug)]
pub(in crate::crypto) struct Multiples {
    cpu: Ifma,
    width: usize,
    of_spans: Box<[Addend]>,
}

impl Multiples {
    /// Of a key.
    pub(in super::super) fn of(cpu: Ifma, key: &Point) -> Self {
        Self::new(cpu, key, WIDTH)
    }

    fn new(cpu: Ifma, point: &Point, width: usize) -> Self {
        // SAFETY: the processor has the instructions.
        let of_spans = unsafe { odd_multiples(point, width) };
        Self { cpu, width, of_spans }
    }

    /// sB - hA: see [`PreparedKey::combination`](super::super::PreparedKey::combination).
    pub(in super::super) fn combination(&self, s: &[u8; 32], h: &[u8; 32]) -> Option<[u8; 32]> {
        let base = BASE.as_ref()?;
        let Ifma(()) = self.cpu;
        // SAFETY: the processor has the instructions.
        let sum = unsafe { combination(base, &Digits::of(s, base.width), self, &Digits::of(h, self.width)) };
        Some(sum.encode())
    }

    /// The odd multiples of one part.
    pub(super) fn of_span(&self, span: usize) -> &[Addend] {
        let each = 1 << (self.width - 2);
        self.of_spans.get(span * each..(span + 1) * each).unwrap_or_default()
    }
}

#[target_feature(enable = "avx512ifma,avx512vl")]
fn odd_multiples(point: &Point, width: usize) -> Box<[Addend]> {
    let mut multiples = Vec::with_capacity(SPANS << (width - 2));
    let (mut first, factors) = (Extended::from(point), AddendFactors::new());
    for span in 0..SPANS {
        first.odd_multiples(width, &factors, &mut multiples);
        if span + 1 < SPANS {
            for _ in 0..SPAN {
                first = first.double();
            }
        }
    }
    multiples.into()
}

#[target_feature(enable = "avx512ifma,avx512vl")]
fn combination(base: &Multiples, s: &Digits, key: &Multiples, h: &Digits) -> Point {
    let mut sum = Extended::zero();
    for step in (0..SPAN).rev() {
        sum = sum.double();
        for span in 0..SPANS {
            sum = sum.add_digit(base.of_span(span), s.at(span, step));
            sum = sum.add_digit(key.of_span(span), -h.at(span, step));
        }
    }
    sum.point()
}
