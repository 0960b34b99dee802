//! Blocks of SHA-512 with BMI2 and AVX-512: the rounds with instructions that rotate into another register, and next to
//! them the message's schedule, four words at once, with the vector's own rotations.
#![allow(unsafe_code)] // Vector loads and stores, and calls of functions that need the instructions, which `Cpu` shows to be there.
#![allow(clippy::many_single_char_names, reason = "the names of FIPS 180-4")]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi64, _mm_ror_epi64, _mm_srli_epi64, _mm_ternarylogic_epi64, _mm256_add_epi64,
    _mm256_alignr_epi64, _mm256_castsi128_si256, _mm256_castsi256_si128, _mm256_extracti128_si256,
    _mm256_inserti128_si256, _mm256_loadu_si256, _mm256_ror_epi64, _mm256_set_epi8, _mm256_shuffle_epi8,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_ternarylogic_epi64,
};

use super::{BLOCK_BYTES, Words};

/// The exclusive or of three, as `ternarylogic` names it.
const XOR_3: i32 = 0x96;

/// FIPS 180-4, section 4.2.3.
static CONSTANTS: [u64; 80] = [
    0x428a_2f98_d728_ae22,
    0x7137_4491_23ef_65cd,
    0xb5c0_fbcf_ec4d_3b2f,
    0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538,
    0x59f1_11f1_b605_d019,
    0x923f_82a4_af19_4f9b,
    0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242,
    0x1283_5b01_4570_6fbe,
    0x2431_85be_4ee4_b28c,
    0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f,
    0x80de_b1fe_3b16_96b1,
    0x9bdc_06a7_25c7_1235,
    0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2,
    0xefbe_4786_384f_25e3,
    0x0fc1_9dc6_8b8c_d5b5,
    0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275,
    0x4a74_84aa_6ea6_e483,
    0x5cb0_a9dc_bd41_fbd4,
    0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab,
    0xa831_c66d_2db4_3210,
    0xb003_27c8_98fb_213f,
    0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2,
    0xd5a7_9147_930a_a725,
    0x06ca_6351_e003_826f,
    0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc,
    0x2e1b_2138_5c26_c926,
    0x4d2c_6dfc_5ac4_2aed,
    0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de,
    0x766a_0abb_3c77_b2a8,
    0x81c2_c92e_47ed_aee6,
    0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364,
    0xa81a_664b_bc42_3001,
    0xc24b_8b70_d0f8_9791,
    0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218,
    0xd699_0624_5565_a910,
    0xf40e_3585_5771_202a,
    0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8,
    0x1e37_6c08_5141_ab53,
    0x2748_774c_df8e_eb99,
    0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63,
    0x4ed8_aa4a_e341_8acb,
    0x5b9c_ca4f_7763_e373,
    0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc,
    0x78a5_636f_4317_2f60,
    0x84c8_7814_a1f0_ab72,
    0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28,
    0xa450_6ceb_de82_bde9,
    0xbef9_a3f7_b2c6_7915,
    0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c,
    0xd186_b8c7_21c0_c207,
    0xeada_7dd6_cde0_eb1e,
    0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba,
    0x0a63_7dc5_a2c8_98a6,
    0x113f_9804_bef9_0dae,
    0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84,
    0x32ca_ab7b_40c7_2493,
    0x3c9e_be0a_15c9_bebc,
    0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6,
    0x597f_299c_fc65_7e2a,
    0x5fcb_6fab_3ad6_faec,
    0x6c44_198c_4a47_5817,
];

/// Shows that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu(());

impl Cpu {
    pub(super) fn get() -> Option<Self> {
        (is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2"))
        .then_some(Self(()))
    }

    pub(super) fn compress<'a>(self, state: &mut Words, blocks: impl Iterator<Item = &'a [u8; BLOCK_BYTES]>) {
        let Self(()) = self;
        for block in blocks {
            // SAFETY: the processor has the instructions.
            unsafe { compress(state, block) }
        }
    }
}

/// FIPS 180-4, section 6.4.2, one round: `$word` is the schedule's and the constant. Instead of moving the eight
/// variables, the next round names them in another order. `$b_xor_c` is what the round before knew as a xor b.
macro_rules! round {
    ($b_xor_c:ident, $a:ident, $b:ident, $c:ident, $d:ident, $e:ident, $f:ident, $g:ident, $h:ident, $word:expr) => {{
        let choice = ($e & $f).wrapping_add(!$e & $g);
        let sum_1 = $e.rotate_right(14) ^ $e.rotate_right(18) ^ $e.rotate_right(41);
        let first = $h.wrapping_add($word).wrapping_add(choice).wrapping_add(sum_1);
        $d = $d.wrapping_add(first);
        let sum_0 = $a.rotate_right(28) ^ $a.rotate_right(34) ^ $a.rotate_right(39);
        let a_xor_b = $a ^ $b;
        let majority = $b ^ (a_xor_b & $b_xor_c);
        $h = first.wrapping_add(sum_0).wrapping_add(majority);
        $b_xor_c = a_xor_b;
    }};
}

#[target_feature(enable = "avx512vl,bmi1,bmi2")]
fn compress(state: &mut Words, block: &[u8; BLOCK_BYTES]) {
    let [mut w, mut x, mut y, mut z] = [0, 1, 2, 3].map(|quarter| big_endian(block, quarter));
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    let mut b_xor_c = b ^ c;
    // Sixteen words of the schedule with their constants, written four at a time where the last four were used.
    let mut next = [0; 16];
    put(&mut next, 0, w, 0);
    put(&mut next, 1, x, 0);
    put(&mut next, 2, y, 0);
    put(&mut next, 3, z, 0);
    macro_rules! rounds_0_to_3 {
        ($at:expr) => {
            round!(b_xor_c, a, b, c, d, e, f, g, h, next[$at]);
            round!(b_xor_c, h, a, b, c, d, e, f, g, next[$at + 1]);
            round!(b_xor_c, g, h, a, b, c, d, e, f, next[$at + 2]);
            round!(b_xor_c, f, g, h, a, b, c, d, e, next[$at + 3]);
        };
    }
    macro_rules! rounds_4_to_7 {
        ($at:expr) => {
            round!(b_xor_c, e, f, g, h, a, b, c, d, next[$at]);
            round!(b_xor_c, d, e, f, g, h, a, b, c, next[$at + 1]);
            round!(b_xor_c, c, d, e, f, g, h, a, b, next[$at + 2]);
            round!(b_xor_c, b, c, d, e, f, g, h, a, next[$at + 3]);
        };
    }
    for sixteen in 1..5 {
        w = scheduled(w, x, y, z);
        rounds_0_to_3!(0);
        put(&mut next, 0, w, sixteen);
        x = scheduled(x, y, z, w);
        rounds_4_to_7!(4);
        put(&mut next, 1, x, sixteen);
        y = scheduled(y, z, w, x);
        rounds_0_to_3!(8);
        put(&mut next, 2, y, sixteen);
        z = scheduled(z, w, x, y);
        rounds_4_to_7!(12);
        put(&mut next, 3, z, sixteen);
    }
    rounds_0_to_3!(0);
    rounds_4_to_7!(4);
    rounds_0_to_3!(8);
    rounds_4_to_7!(12);
    let _ = b_xor_c;
    for (word, variable) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(variable);
    }
}

/// Four words of a block, as numbers.
#[target_feature(enable = "avx512vl")]
#[inline]
fn big_endian(block: &[u8; BLOCK_BYTES], quarter: usize) -> __m256i {
    let order = _mm256_set_epi8(
        8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5,
        6, 7,
    );
    let bytes = &block[32 * quarter..32 * quarter + 32];
    // SAFETY: these are 32 bytes.
    let words = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    _mm256_shuffle_epi8(words, order)
}

/// Writes a quarter of sixteen words, with their constants.
#[target_feature(enable = "avx512vl")]
#[inline]
fn put(next: &mut [u64; 16], quarter: usize, words: __m256i, sixteen: usize) {
    let from = 16 * sixteen + 4 * quarter;
    let (constants, next) = (&CONSTANTS[from..from + 4], &mut next[4 * quarter..4 * quarter + 4]);
    // SAFETY: these are four words each.
    unsafe {
        let constants = _mm256_loadu_si256(constants.as_ptr().cast());
        _mm256_storeu_si256(next.as_mut_ptr().cast(), _mm256_add_epi64(words, constants));
    }
}

/// The four words of the schedule that follow on sixteen.
#[target_feature(enable = "avx512vl")]
#[inline]
fn scheduled(w: __m256i, x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    let second = _mm256_alignr_epi64::<1>(x, w);
    let tenth = _mm256_alignr_epi64::<1>(z, y);
    let sigma_0 = _mm256_ternarylogic_epi64::<XOR_3>(
        _mm256_ror_epi64::<1>(second),
        _mm256_ror_epi64::<8>(second),
        _mm256_srli_epi64::<7>(second),
    );
    let sum = _mm256_add_epi64(_mm256_add_epi64(w, tenth), sigma_0);
    // The last two hang on the first two.
    let low = _mm_add_epi64(_mm256_castsi256_si128(sum), sigma_1(_mm256_extracti128_si256::<1>(z)));
    let high = _mm_add_epi64(_mm256_extracti128_si256::<1>(sum), sigma_1(low));
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
}

#[target_feature(enable = "avx512vl")]
#[inline]
fn sigma_1(words: __m128i) -> __m128i {
    _mm_ternarylogic_epi64::<XOR_3>(
        _mm_ror_epi64::<19>(words),
        _mm_ror_epi64::<61>(words),
        _mm_srli_epi64::<6>(words),
    )
}
