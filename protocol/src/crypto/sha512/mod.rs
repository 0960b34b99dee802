//! SHA-512 (FIPS 180-4): sha2's, and where the processor has AVX-512 and BMI2 blocks in three quarters of its time.
//! Each message of 16 KB is hashed for its authenticator, and a step of a chain of keys is eight blocks.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

use digest::block_buffer::Eager;
use digest::core_api::{
    AlgorithmName, Block, BlockSizeUser, Buffer, BufferKindUser, CoreWrapper, FixedOutputCore,
    OutputSizeUser, UpdateCore,
};
use digest::typenum::{U64, U128};
use digest::{HashMarker, Output, Reset};

const BLOCK_BYTES: usize = 128;
const _: () = assert!(BLOCK_BYTES == 128);

type Words = [u64; 8];

/// FIPS 180-4, section 5.3.5.
const INITIAL: Words = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// A hash in the making, as sha2's type of that name.
pub(crate) type Sha512 = CoreWrapper<Sha512Core>;

/// What is between two blocks.
#[derive(Clone)]
pub(crate) struct Sha512Core {
    state: Words,
    blocks: u128,
}

impl Default for Sha512Core {
    fn default() -> Self {
        Self { state: INITIAL, blocks: 0 }
    }
}

impl HashMarker for Sha512Core {}

impl BlockSizeUser for Sha512Core {
    type BlockSize = U128;
}

impl BufferKindUser for Sha512Core {
    type BufferKind = Eager;
}

impl OutputSizeUser for Sha512Core {
    type OutputSize = U64;
}

impl UpdateCore for Sha512Core {
    fn update_blocks(&mut self, blocks: &[Block<Self>]) {
        self.blocks += blocks.len() as u128;
        compress(&mut self.state, blocks);
    }
}

impl FixedOutputCore for Sha512Core {
    fn finalize_fixed_core(&mut self, buffer: &mut Buffer<Self>, out: &mut Output<Self>) {
        let bits = 8 * (self.blocks * BLOCK_BYTES as u128 + buffer.get_pos() as u128);
        buffer.len128_padding_be(bits, |block| compress(&mut self.state, std::slice::from_ref(block)));
        for (bytes, word) in out.chunks_exact_mut(8).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }
}

impl Reset for Sha512Core {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl AlgorithmName for Sha512Core {
    fn write_alg_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha512")
    }
}

impl fmt::Debug for Sha512Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha512Core")
    }
}

fn compress(state: &mut Words, blocks: &[Block<Sha512Core>]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(cpu) = x86::Cpu::get() {
        cpu.compress(state, blocks.iter().map(AsRef::as_ref));
        return;
    }
    sha2::compress512(state, blocks);
}

#[cfg(test)]
mod tests {
    use digest::Digest;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// sha2 is the second opinion; in pieces, so that each place in a block is begun at.
        #[test]
        fn as_sha2(text in prop::collection::vec(any::<u8>(), 0..2_000), cuts in prop::collection::vec(0_usize..400, 0..9)) {
            let mut hash = Sha512::new();
            let mut rest = &text[..];
            for cut in cuts {
                let (piece, other) = rest.split_at(cut.min(rest.len()));
                hash.update(piece);
                rest = other;
            }
            hash.update(rest);
            prop_assert_eq!(hash.finalize(), sha2::Sha512::digest(&text));
        }
    }

    #[test]
    fn every_length_around_the_blocks() {
        let text: Vec<u8> = (0..17_000_u32).map(|at| ((at * 167) >> 3).to_le_bytes()[0]).collect();
        for len in (0..520).chain(16_000..16_400) {
            assert_eq!(Sha512::digest(&text[..len]), sha2::Sha512::digest(&text[..len]), "{len}");
        }
    }

    /// FIPS 180-4's example, so that not both are wrong together.
    #[test]
    fn abc() {
        let expected =
            [0xdd, 0xaf, 0x35, 0xa1, 0x93, 0x61, 0x7a, 0xba, 0xcc, 0x41, 0x73, 0x49, 0xae, 0x20, 0x41, 0x31];
        assert_eq!(Sha512::digest(b"abc")[..16], expected);
    }
}
