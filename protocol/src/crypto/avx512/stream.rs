//! `Salsa20` and `ChaCha20`, sixteen blocks at once: word `n` of all of them in one register.
#![allow(unsafe_code)] // Vector stores, and calls of functions that need the instructions, which `Avx512` shows to be there.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use zeroize::Zeroizing;

use super::Avx512;

pub(super) const BLOCKS_AT_ONCE: u64 = 16;
pub(super) const BLOCK_BYTES: usize = 64;
pub(super) const BYTES_AT_ONCE: usize = 16 * BLOCK_BYTES;

/// "expand 32-byte k"
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
const DOUBLE_ROUNDS: usize = 10;

/// Whose blocks: they have the same words, in other places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cipher {
    /// Words 8 and 9 are the block's number.
    Salsa20,
    /// RFC 8439: word 12 is the block's number.
    ChaCha20,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(4 * at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

/// The words of block 0 of `Salsa20`.
pub(super) fn salsa20(key: &[u8; 32], nonce: [u8; 8]) -> Zeroizing<[u32; 16]> {
    let [c0, c1, c2, c3] = CONSTANTS;
    let k = |at| word(key, at);
    let n = |at| word(&nonce, at);
    Zeroizing::new([c0, k(0), k(1), k(2), k(3), c1, n(0), n(1), 0, 0, c2, k(4), k(5), k(6), k(7), c3])
}

/// The words of block 0 of `ChaCha20`.
pub(super) fn chacha20(key: &[u8; 32], nonce: &[u8; 12]) -> Zeroizing<[u32; 16]> {
    let [c0, c1, c2, c3] = CONSTANTS;
    let k = |at| word(key, at);
    let n = |at| word(nonce, at);
    Zeroizing::new([c0, c1, c2, c3, k(0), k(1), k(2), k(3), k(4), k(5), k(6), k(7), 0, n(0), n(1), n(2)])
}

/// 1,024 bytes of the key stream, from the block `counter` on.
pub(super) fn key_stream(
    _: Avx512,
    cipher: Cipher,
    state: &[u32; 16],
    counter: u64,
) -> Zeroizing<[u8; BYTES_AT_ONCE]> {
    let mut stream = Zeroizing::new([0; BYTES_AT_ONCE]);
    // SAFETY: the processor has the instructions.
    unsafe { add_blocks(cipher, state, counter, None, &mut stream) };
    stream
}

/// Adds 1,024 bytes of the key stream, from the block `counter` on, to those of `from` (or of `to`), into `to`.
pub(super) fn add_key_stream(
    _: Avx512,
    cipher: Cipher,
    state: &[u32; 16],
    counter: u64,
    from: Option<&[u8; BYTES_AT_ONCE]>,
    to: &mut [u8; BYTES_AT_ONCE],
) {
    // SAFETY: the processor has the instructions.
    unsafe { add_blocks(cipher, state, counter, from, to) };
}

/// The four quarter rounds of a column or row round, step by step: each needs the result of its step before.
macro_rules! salsa_quarter_rounds {
    ($x:ident; $(($a:literal, $b:literal, $c:literal, $d:literal)),+) => {
        $($x[$b] = _mm512_xor_si512($x[$b], _mm512_rol_epi32::<7>(_mm512_add_epi32($x[$a], $x[$d])));)+
        $($x[$c] = _mm512_xor_si512($x[$c], _mm512_rol_epi32::<9>(_mm512_add_epi32($x[$b], $x[$a])));)+
        $($x[$d] = _mm512_xor_si512($x[$d], _mm512_rol_epi32::<13>(_mm512_add_epi32($x[$c], $x[$b])));)+
        $($x[$a] = _mm512_xor_si512($x[$a], _mm512_rol_epi32::<18>(_mm512_add_epi32($x[$d], $x[$c])));)+
    };
}

/// The same of `ChaCha20`, of columns or diagonals.
macro_rules! chacha_quarter_rounds {
    ($x:ident; $(($a:literal, $b:literal, $c:literal, $d:literal)),+) => {
        $($x[$a] = _mm512_add_epi32($x[$a], $x[$b]);)+
        $($x[$d] = _mm512_rol_epi32::<16>(_mm512_xor_si512($x[$d], $x[$a]));)+
        $($x[$c] = _mm512_add_epi32($x[$c], $x[$d]);)+
        $($x[$b] = _mm512_rol_epi32::<12>(_mm512_xor_si512($x[$b], $x[$c]));)+
        $($x[$a] = _mm512_add_epi32($x[$a], $x[$b]);)+
        $($x[$d] = _mm512_rol_epi32::<8>(_mm512_xor_si512($x[$d], $x[$a]));)+
        $($x[$c] = _mm512_add_epi32($x[$c], $x[$d]);)+
        $($x[$b] = _mm512_rol_epi32::<7>(_mm512_xor_si512($x[$b], $x[$c]));)+
    };
}

#[target_feature(enable = "avx512f")]
fn add_blocks(
    cipher: Cipher,
    state: &[u32; 16],
    counter: u64,
    from: Option<&[u8; BYTES_AT_ONCE]>,
    to: &mut [u8; BYTES_AT_ONCE],
) {
    let mut start = [_mm512_setzero_si512(); 16];
    for (register, word) in start.iter_mut().zip(state) {
        *register = _mm512_set1_epi32(word.cast_signed());
    }
    // `counter` is a multiple of 16: its last bits are the place of a block among these.
    let places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let [low, high] = [counter, counter >> 32].map(|part| ((part & 0xffff_ffff) as u32).cast_signed());
    let low = _mm512_add_epi32(_mm512_set1_epi32(low), places);
    let mut x;
    match cipher {
        Cipher::Salsa20 => {
            (start[8], start[9]) = (low, _mm512_set1_epi32(high));
            x = start;
            for _ in 0..DOUBLE_ROUNDS {
                salsa_quarter_rounds!(x; (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11));
                salsa_quarter_rounds!(x; (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14));
            }
        }
        Cipher::ChaCha20 => {
            start[12] = low;
            x = start;
            for _ in 0..DOUBLE_ROUNDS {
                chacha_quarter_rounds!(x; (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15));
                chacha_quarter_rounds!(x; (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14));
            }
        }
    }
    for (register, start) in x.iter_mut().zip(start) {
        *register = _mm512_add_epi32(*register, start);
    }
    let blocks = transpose(&x);
    for (at, block) in blocks.into_iter().enumerate() {
        let bytes = at * BLOCK_BYTES..(at + 1) * BLOCK_BYTES;
        let text = match from {
            Some(from) => &from[bytes.clone()],
            None => &to[bytes.clone()],
        };
        // SAFETY: the slice has the 64 bytes that are read.
        let text = unsafe { _mm512_loadu_si512(text.as_ptr().cast()) };
        let out = to[bytes].as_mut_ptr();
        // SAFETY: the slice has the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(out.cast(), _mm512_xor_si512(text, block)) };
    }
}

/// From word `n` of sixteen blocks in register `n` to block `n` in register `n`.
#[target_feature(enable = "avx512f")]
fn transpose(x: &[__m512i; 16]) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    // Lane `l` of `quarters[i][g]`: words 4g to 4g + 3 of block 4l + i.
    let mut quarters = [[zero; 4]; 4];
    for (group, [a, b, c, d]) in x.as_chunks().0.iter().enumerate() {
        let (low_ab, high_ab) = (_mm512_unpacklo_epi32(*a, *b), _mm512_unpackhi_epi32(*a, *b));
        let (low_cd, high_cd) = (_mm512_unpacklo_epi32(*c, *d), _mm512_unpackhi_epi32(*c, *d));
        quarters[0][group] = _mm512_unpacklo_epi64(low_ab, low_cd);
        quarters[1][group] = _mm512_unpackhi_epi64(low_ab, low_cd);
        quarters[2][group] = _mm512_unpacklo_epi64(high_ab, high_cd);
        quarters[3][group] = _mm512_unpackhi_epi64(high_ab, high_cd);
    }
    let mut blocks = [zero; 16];
    for (i, [a, b, c, d]) in quarters.into_iter().enumerate() {
        let (low_ab, high_ab) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
        let (low_cd, high_cd) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
        blocks[i] = _mm512_shuffle_i32x4::<0x88>(low_ab, low_cd);
        blocks[4 + i] = _mm512_shuffle_i32x4::<0xdd>(low_ab, low_cd);
        blocks[8 + i] = _mm512_shuffle_i32x4::<0x88>(high_ab, high_cd);
        blocks[12 + i] = _mm512_shuffle_i32x4::<0xdd>(high_ab, high_cd);
    }
    blocks
}
