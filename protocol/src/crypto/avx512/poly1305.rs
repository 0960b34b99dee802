//! Poly1305, eight blocks at once.
//!
//! A number below 2^130 is three limbs of 44, 44 and 42 bits, so that products of limbs fit the multiplier of AVX-512 IFMA: it
//! takes 52 bits of each factor and adds the low or the high 52 bits of the product to a register. Where a product passes
//! 2^130, four of its limbs are five at the bottom: 2^132 = 4 * 2^130, which is 4 * 5. What stands in a limb between two steps
//! may be a few bits longer.
#![allow(unsafe_code)] // Vector loads, and calls of functions that need the instructions, which `Avx512` shows to be there.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_loadu_si512, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_or_si512, _mm512_reduce_add_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_slli_epi64, _mm512_srli_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::Avx512;

const BLOCK_BYTES: usize = 16;
const BYTES_AT_ONCE: usize = 8 * BLOCK_BYTES;
const MASK_44: u64 = (1 << 44) - 1;
const MASK_42: u64 = (1 << 42) - 1;
/// 2^128 in the third limb: it stands above each whole block.
const ABOVE_BLOCK: u64 = 1 << (128 - 88);

/// The tag of `text` under a key that is used once: `r` and what is added at the end.
pub(super) fn tag(cpu: Avx512, key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    let (r, end) = parts(key);
    let (mut sum, remainder) = sum_of_blocks(cpu, &r, [0; 3], text);
    if !remainder.is_empty() {
        let mut last = [0; BLOCK_BYTES];
        last[..remainder.len()].copy_from_slice(remainder);
        last[remainder.len()] = 1;
        sum = multiply(&plus(&sum, &limbs(&last)), &r);
    }
    finish(sum, &end)
}

/// The tag of a header and `text`, each filled up with zeros to whole blocks, and their lengths (RFC 8439,
/// section 2.8).
pub(super) fn tag_with_header(cpu: Avx512, key: &[u8; 32], header: &[u8], text: &[u8]) -> [u8; 16] {
    let (r, end) = parts(key);
    let add = |sum: &[u64; 3], bytes: &[u8]| {
        let mut block = [0; BLOCK_BYTES];
        let held = bytes.len().min(BLOCK_BYTES);
        block[..held].copy_from_slice(&bytes[..held]);
        multiply(&plus(sum, &whole(&block)), &r)
    };
    let begun = header.chunks(BLOCK_BYTES).fold([0; 3], |sum, bytes| add(&sum, bytes));
    let (mut sum, remainder) = sum_of_blocks(cpu, &r, begun, text);
    if !remainder.is_empty() {
        sum = add(&sum, remainder);
    }
    let mut lengths = [0; BLOCK_BYTES];
    lengths[..8].copy_from_slice(&(header.len() as u64).to_le_bytes());
    lengths[8..].copy_from_slice(&(text.len() as u64).to_le_bytes());
    finish(add(&sum, &lengths), &end)
}

fn parts(key: &[u8; 32]) -> ([u64; 3], [u64; 3]) {
    let (r, end) = key.split_at(16);
    let (low, high) = halves(r);
    let r =
        [low & 0x0ffc_0fff_ffff, (low >> 44 | high << 20) & 0x0fff_ffc0_ffff, high >> 24 & 0x000f_ffff_fc0f];
    (r, limbs(end))
}

/// The sum over whole blocks, which goes on from `begun`; and what is left of the text.
fn sum_of_blocks<'a>(_: Avx512, r: &[u64; 3], begun: [u64; 3], text: &'a [u8]) -> ([u64; 3], &'a [u8]) {
    let (many, rest) = text.split_at(text.len() - text.len() % BYTES_AT_ONCE);
    let mut sum = begun;
    if !many.is_empty() {
        // SAFETY: the processor has the instructions.
        sum = unsafe { sum_of_eights(r, &begun, many) };
    }
    let mut blocks = rest.chunks_exact(BLOCK_BYTES);
    for block in blocks.by_ref() {
        sum = multiply(&plus(&sum, &whole(block)), r);
    }
    (sum, blocks.remainder())
}

/// The limbs of a block that is whole: a one stands above it.
fn whole(block: &[u8]) -> [u64; 3] {
    let [a, b, c] = limbs(block);
    [a, b, c | ABOVE_BLOCK]
}

/// The little-endian halves of 16 bytes.
fn halves(bytes: &[u8]) -> (u64, u64) {
    let half = |at: usize| {
        bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |half| u64::from_le_bytes(*half))
    };
    (half(0), half(8))
}

fn limbs(bytes: &[u8]) -> [u64; 3] {
    let (low, high) = halves(bytes);
    [low & MASK_44, (low >> 44 | high << 20) & MASK_44, high >> 24]
}

fn plus(a: &[u64; 3], b: &[u64; 3]) -> [u64; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// The product of numbers whose limbs may be a bit longer than they should. So may its second.
fn multiply(a: &[u64; 3], b: &[u64; 3]) -> [u64; 3] {
    let [a0, a1, a2] = a.map(u128::from);
    let [b0, b1, b2] = b.map(u128::from);
    let (over_1, over_2) = (20 * b1, 20 * b2);
    let d0 = a0 * b0 + a1 * over_2 + a2 * over_1;
    let d1 = a0 * b1 + a1 * b0 + a2 * over_2 + (d0 >> 44);
    let d2 = a0 * b2 + a1 * b1 + a2 * b0 + (d1 >> 44);
    #[allow(clippy::cast_possible_truncation)] // The mask has 64 bits.
    let low = |number: u128, mask: u64| (number & u128::from(mask)) as u64;
    // Below 2^52: the third sum is below 2^92.
    let first = low(d0, MASK_44) + 5 * low(d2 >> 42, u64::MAX);
    [first & MASK_44, low(d1, MASK_44) + (first >> 44), low(d2, MASK_42)]
}

/// The sum reduced, and `end` added modulo 2^128.
fn finish(sum: [u64; 3], end: &[u64; 3]) -> [u8; 16] {
    let mut h = sum;
    // Twice round: then every limb has its bits and no more.
    for _ in 0..2 {
        h[1] += h[0] >> 44;
        h[0] &= MASK_44;
        h[2] += h[1] >> 44;
        h[1] &= MASK_44;
        h[0] += 5 * (h[2] >> 42);
        h[2] &= MASK_42;
    }
    h[1] += h[0] >> 44;
    h[0] &= MASK_44;
    // If h + 5 passes 2^130, h is not below the prime, and h + 5 - 2^130 is what is left of it.
    let g0 = h[0] + 5;
    let g1 = h[1] + (g0 >> 44);
    let g2 = h[2] + (g1 >> 44);
    let takes = (g2 >> 42 & 1).wrapping_neg();
    let choose = |h: u64, g: u64| h & !takes | g & takes;
    let h = [choose(h[0], g0 & MASK_44), choose(h[1], g1 & MASK_44), choose(h[2], g2 & MASK_42)];
    let t0 = h[0] + end[0];
    let t1 = h[1] + end[1] + (t0 >> 44);
    let t2 = h[2] + end[2] + (t1 >> 44);
    let low = t0 & MASK_44 | t1 << 44;
    let high = (t1 & MASK_44) >> 20 | t2 << 24;
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&low.to_le_bytes());
    tag[8..].copy_from_slice(&high.to_le_bytes());
    tag
}

/// The sum over whole groups of eight blocks, each multiplied as often as blocks stand from it to the end, as is what came
/// before.
#[target_feature(enable = "avx512f,avx512ifma")]
fn sum_of_eights(r: &[u64; 3], begun: &[u64; 3], text: &[u8]) -> [u64; 3] {
    let mut powers = [*r; 8];
    for at in 1..8 {
        powers[at] = multiply(&powers[at - 1], r);
    }
    // Two loads and an unpacking give blocks in this order.
    let order = [0, 4, 1, 5, 2, 6, 3, 7];
    let last = Factor::new([0, 1, 2].map(|limb| lanes(order.map(|block| powers[7 - block][limb]))));
    let each = Factor::new([0, 1, 2].map(|limb| lanes([powers[7][limb]; 8])));

    // With the first block of all.
    let mut sum = begun.map(|limb| lanes([limb, 0, 0, 0, 0, 0, 0, 0]));
    let mut groups = text.chunks_exact(BYTES_AT_ONCE).peekable();
    while let Some(group) = groups.next() {
        let [a, b, c] = load(group);
        let with_group =
            [_mm512_add_epi64(sum[0], a), _mm512_add_epi64(sum[1], b), _mm512_add_epi64(sum[2], c)];
        sum = times(with_group, if groups.peek().is_some() { &each } else { &last });
    }
    // Eight limbs of at most 46 bits.
    sum.map(|limb| _mm512_reduce_add_epi64(limb).cast_unsigned())
}

#[target_feature(enable = "avx512f")]
fn lanes(numbers: [u64; 8]) -> __m512i {
    // SAFETY: an array of eight numbers is the 64 bytes that are read.
    unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
}

/// The limbs of eight blocks, in the order 0, 4, 1, 5, 2, 6, 3, 7.
#[target_feature(enable = "avx512f")]
fn load(group: &[u8]) -> [__m512i; 3] {
    let (first, second) = group.split_at(BYTES_AT_ONCE / 2);
    // SAFETY: each slice has the 64 bytes that are read: a group has twice as many.
    let [first, second] = unsafe {
        [_mm512_loadu_si512(first.as_ptr().cast()), _mm512_loadu_si512(second[..64].as_ptr().cast())]
    };
    let (low, high) = (_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    let above = _mm512_set1_epi64(ABOVE_BLOCK.cast_signed());
    [
        _mm512_and_si512(low, mask_44()),
        _mm512_and_si512(middle, mask_44()),
        _mm512_or_si512(_mm512_srli_epi64::<24>(high), above),
    ]
}

#[target_feature(enable = "avx512f")]
fn mask_44() -> __m512i {
    _mm512_set1_epi64(MASK_44.cast_signed())
}

/// A number in each lane to multiply with: its limbs, and twenty times the upper two.
struct Factor {
    limbs: [__m512i; 3],
    over: [__m512i; 2],
}

impl Factor {
    #[target_feature(enable = "avx512f")]
    fn new(limbs: [__m512i; 3]) -> Self {
        let by_20 = |limb| _mm512_add_epi64(_mm512_slli_epi64::<4>(limb), _mm512_slli_epi64::<2>(limb));
        Self { limbs, over: [by_20(limbs[1]), by_20(limbs[2])] }
    }
}

/// Products, lane by lane. The limbs of `a` have at most 46 bits, so the sums below stay under 2^55.
#[target_feature(enable = "avx512f,avx512ifma")]
fn times(a: [__m512i; 3], b: &Factor) -> [__m512i; 3] {
    let Factor { limbs: [b0, b1, b2], over: [over_1, over_2] } = *b;
    let zero = _mm512_setzero_si512();
    let low = |x: [__m512i; 3]| {
        let sum = _mm512_madd52lo_epu64(zero, a[0], x[0]);
        _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(sum, a[1], x[1]), a[2], x[2])
    };
    let high = |x: [__m512i; 3]| {
        let sum = _mm512_madd52hi_epu64(zero, a[0], x[0]);
        _mm512_madd52hi_epu64(_mm512_madd52hi_epu64(sum, a[1], x[1]), a[2], x[2])
    };
    let columns = [[b0, over_2, over_1], [b1, b0, over_2], [b2, b1, b0]];
    let [l0, l1, l2] = columns.map(low);
    let [h0, h1, h2] = columns.map(high);

    // The high halves count 2^52: 2^8 in the next limb of 44 bits, 2^10 above the third, which has 42.
    let d0 = _mm512_and_si512(l0, mask_44());
    let up = _mm512_add_epi64(_mm512_srli_epi64::<44>(l0), _mm512_slli_epi64::<8>(h0));
    let l1 = _mm512_add_epi64(l1, up);
    let d1 = _mm512_and_si512(l1, mask_44());
    let up = _mm512_add_epi64(_mm512_srli_epi64::<44>(l1), _mm512_slli_epi64::<8>(h1));
    let l2 = _mm512_add_epi64(l2, up);
    let d2 = _mm512_and_si512(l2, _mm512_set1_epi64(MASK_42.cast_signed()));
    let up = _mm512_add_epi64(_mm512_srli_epi64::<42>(l2), _mm512_slli_epi64::<10>(h2));
    // 2^130 is 5.
    let d0 = _mm512_add_epi64(d0, _mm512_add_epi64(up, _mm512_slli_epi64::<2>(up)));
    [_mm512_and_si512(d0, mask_44()), _mm512_add_epi64(d1, _mm512_srli_epi64::<44>(d0)), d2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sodium;

    /// Keys and texts that make limbs as large, and sums as near to the prime, as they can be.
    #[test]
    fn extremes() {
        let Some(cpu) = Avx512::get() else {
            println!("this processor has no AVX-512 IFMA");
            return;
        };
        let fills = [0x00, 0x01, 0x7f, 0x80, 0xfb, 0xfc, 0xfe, 0xff];
        for r in fills {
            for end in fills {
                let mut key = [r; 32];
                key[16..].fill(end);
                for fill in fills {
                    for len in [0, 1, 15, 16, 17, 112, 127, 128, 129, 144, 255, 256, 257, 1_024, 16_384] {
                        let text = vec![fill; len];
                        assert_eq!(
                            tag(cpu, &key, &text),
                            sodium::poly1305(&key, &text),
                            "{r} {end} {fill} {len}"
                        );
                    }
                }
            }
        }
    }

    /// With r = 1 the tag is the plain sum of the blocks: here it is near the prime from both sides.
    #[test]
    fn sums_around_the_prime() {
        let Some(cpu) = Avx512::get() else {
            println!("this processor has no AVX-512 IFMA");
            return;
        };
        let mut key = [0; 32];
        key[0] = 1;
        for blocks in [4, 8, 12, 16, 20] {
            for lowest in 0..=255 {
                let mut text = vec![0xff; BLOCK_BYTES * blocks];
                text[0] = lowest;
                assert_eq!(tag(cpu, &key, &text), sodium::poly1305(&key, &text), "{blocks} {lowest}");
            }
        }
    }
}
