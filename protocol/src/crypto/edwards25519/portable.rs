//! Points by the multiplications of the processor: what every machine can do.
#![allow(clippy::many_single_char_names, reason = "the names that the formulas have in their sources")]

use std::sync::LazyLock;

use crrl::field::GF25519 as Element;

use super::{BASE_POINT, D, Digits, Point, SPAN, SPANS};

/// There is one: it may take more room for fewer additions.
const BASE_WIDTH: usize = 7;
/// 20 multiples of 96 bytes.
const WIDTH: usize = 4;

static BASE: LazyLock<Option<Multiples>> =
    LazyLock::new(|| Some(Multiples::new(Point::decode(&BASE_POINT)?, BASE_WIDTH)));

/// Odd multiples of a point P, of 2^51 P, and so on: `1 << (width - 2)` of each.
#[derive(Debug)]
pub(in crate::crypto) struct Multiples {
    width: usize,
    of_spans: Box<[Addend]>,
}

impl Multiples {
    /// Of a key.
    pub(super) fn of(key: Point) -> Self {
        Self::new(key, WIDTH)
    }

    fn new(mut first: Point, width: usize) -> Self {
        let each = 1 << (width - 2);
        let mut points = Vec::with_capacity(SPANS * each);
        for _ in 0..SPANS {
            let twice = Sum::from(first).double().point();
            let mut odd = first;
            for _ in 0..each {
                points.push(odd);
                odd = Sum::add_points(&odd, &twice).point();
            }
            let mut next = Sum::from(first);
            for _ in 0..SPAN {
                next = next.double();
            }
            first = next.point();
        }
        let mut inverses: Vec<Element> = points.iter().map(|point| point.z).collect();
        Element::batch_invert(&mut inverses);
        let of_spans =
            points.iter().zip(&inverses).map(|(point, inverse)| Addend::new(point, inverse)).collect();
        Self { width, of_spans }
    }

    /// sB - hA: see [`PreparedKey::combination`](super::PreparedKey::combination).
    pub(super) fn combination(&self, s: &[u8; 32], h: &[u8; 32]) -> Option<[u8; 32]> {
        let base = BASE.as_ref()?;
        let (s, h) = (Digits::of(s, base.width), Digits::of(h, self.width));
        let mut sum = Sum::ZERO;
        for step in (0..SPAN).rev() {
            sum = sum.double();
            for span in 0..SPANS {
                sum = base.add_to(sum, span, s.at(span, step));
                sum = self.add_to(sum, span, -h.at(span, step));
            }
        }
        Some(sum.point().encode())
    }

    /// Adds a digit's multiple: digits are odd or zero.
    #[inline]
    fn add_to(&self, sum: Sum, span: usize, digit: i8) -> Sum {
        if digit == 0 {
            return sum;
        }
        let place = (span << (self.width - 2)) + usize::from(digit.unsigned_abs() / 2);
        match self.of_spans.get(place) {
            Some(addend) => sum.add(addend, digit < 0),
            None => sum,
        }
    }
}

/// A point as it comes out of an addition: x = E/G and y = H/F, with what each use needs not yet multiplied out.
#[derive(Clone, Copy, Debug)]
struct Sum {
    e: Element,
    f: Element,
    g: Element,
    h: Element,
}

impl From<Point> for Sum {
    fn from(point: Point) -> Self {
        Self { e: point.x, f: point.z, g: point.z, h: point.y }
    }
}

impl Sum {
    const ZERO: Self = Self { e: Element::ZERO, f: Element::ONE, g: Element::ONE, h: Element::ONE };

    #[inline]
    fn point(&self) -> Point {
        Point { x: self.e * self.f, y: self.g * self.h, z: self.f * self.g, t: self.e * self.h }
    }

    #[inline]
    fn double(&self) -> Self {
        let (x, y, z) = (self.e * self.f, self.g * self.h, self.f * self.g);
        let (a, b, c) = (x.square(), y.square(), z.square().mul2());
        let e = (x + y).square() - a - b;
        let g = b - a;
        Self { e, f: g - c, g, h: -(a + b) }
    }

    #[inline]
    fn add(&self, addend: &Addend, negated: bool) -> Self {
        let Point { x, y, z, t } = self.point();
        let (plus, minus) =
            if negated { (&addend.minus, &addend.plus) } else { (&addend.plus, &addend.minus) };
        let (a, b, c, d) = ((y - x) * minus, (y + x) * plus, t * addend.product, z.mul2());
        let (f, g) = if negated { (d + c, d - c) } else { (d - c, d + c) };
        Self { e: b - a, f, g, h: b + a }
    }

    fn add_points(one: &Point, other: &Point) -> Self {
        let a = (one.y - one.x) * (other.y - other.x);
        let b = (one.y + one.x) * (other.y + other.x);
        let c = (D * one.t * other.t).mul2();
        let d = (one.z * other.z).mul2();
        Self { e: b - a, f: d - c, g: d + c, h: b + a }
    }
}

/// What an addition needs of a point: y + x, y - x, 2dxy.
#[derive(Clone, Copy, Debug)]
struct Addend {
    plus: Element,
    minus: Element,
    product: Element,
}

impl Addend {
    fn new(point: &Point, inverse_of_z: &Element) -> Self {
        let (x, y) = (point.x * inverse_of_z, point.y * inverse_of_z);
        Self { plus: y + x, minus: y - x, product: (D * x * y).mul2() }
    }
}
