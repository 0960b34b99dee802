//! The secretbox (`XSalsa20` and Poly1305) and TLS' `ChaCha20` and Poly1305 (RFC 8439) with AVX-512: the same bytes as
//! libsodium's and ring's. libsodium stops at AVX2 for the cipher and at SSE2 for the authenticator, ring at AVX2 for both.
//!
//! Straight-line code without branches or look-ups that depend on keys or texts. The tests compare it with them,
//! over all lengths around its steps and over the extremes of each limb.

mod poly1305;
mod stream;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use self::stream::Cipher;
use super::sodium;
use crate::limits::{NONCE_BYTES, TAG_BYTES};

/// Shows that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn get() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")).then_some(Self(()))
    }

    /// Encrypts `text` and gives its tag.
    pub(super) fn seal(
        self,
        key: &[u8; 32],
        nonce: &[u8; NONCE_BYTES],
        mut text: Text<'_>,
    ) -> [u8; TAG_BYTES] {
        let stream = Stream::xsalsa20(self, key, nonce);
        stream.apply(&mut text);
        poly1305::tag(self, stream.poly_key(), text.written())
    }

    /// Checks the tag in constant time, then decrypts. False, and nothing written, if it does not match.
    #[must_use]
    pub(super) fn open(
        self,
        key: &[u8; 32],
        nonce: &[u8; NONCE_BYTES],
        tag: &[u8; TAG_BYTES],
        mut text: Text<'_>,
    ) -> bool {
        let stream = Stream::xsalsa20(self, key, nonce);
        let is_right = poly1305::tag(self, stream.poly_key(), text.read()).ct_eq(tag).into();
        if is_right {
            stream.apply(&mut text);
        }
        is_right
    }

    /// Encrypts `text` by RFC 8439, section 2.8, and gives its tag.
    pub(crate) fn seal_record(
        self,
        key: &[u8; 32],
        nonce: &[u8; 12],
        header: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let stream = Stream::chacha20(self, key, nonce);
        stream.apply(&mut Text::InPlace(text));
        poly1305::tag_with_header(self, stream.poly_key(), header, text)
    }

    /// Checks the tag in constant time, then decrypts. False, and nothing written, if it does not match.
    #[must_use]
    pub(crate) fn open_record(
        self,
        key: &[u8; 32],
        nonce: &[u8; 12],
        header: &[u8],
        tag: &[u8; TAG_BYTES],
        text: &mut [u8],
    ) -> bool {
        let stream = Stream::chacha20(self, key, nonce);
        let expected = poly1305::tag_with_header(self, stream.poly_key(), header, text);
        let is_right = expected.ct_eq(tag).into();
        if is_right {
            stream.apply(&mut Text::InPlace(text));
        }
        is_right
    }
}

/// What is encrypted or decrypted.
#[derive(Debug)]
pub(super) enum Text<'a> {
    InPlace(&'a mut [u8]),
    /// Two of the same length.
    Into(&'a [u8], &'a mut [u8]),
}

impl Text<'_> {
    fn read(&self) -> &[u8] {
        match self {
            Self::InPlace(text) => text,
            Self::Into(from, _) => from,
        }
    }

    fn written(&self) -> &[u8] {
        match self {
            Self::InPlace(text) => text,
            Self::Into(_, to) => to,
        }
    }
}

/// The first bytes of the key stream are the authenticator's key.
const POLY_KEY_BYTES: usize = 32;

/// The key stream of one box or record.
struct Stream {
    cpu: Avx512,
    cipher: Cipher,
    state: Zeroizing<[u32; 16]>,
    /// The first kilobyte.
    first: Zeroizing<[u8; stream::BYTES_AT_ONCE]>,
    /// Where in it the text begins.
    text_at: usize,
}

impl Stream {
    /// `Salsa20` under the key that `HSalsa20` makes of the box's key and the first 16 bytes of its nonce.
    fn xsalsa20(cpu: Avx512, key: &[u8; 32], nonce: &[u8; NONCE_BYTES]) -> Self {
        let (mut first, mut rest) = ([0; 16], [0; NONCE_BYTES - 16]);
        first.copy_from_slice(&nonce[..16]);
        rest.copy_from_slice(&nonce[16..]);
        let subkey = Zeroizing::new(sodium::hsalsa20(key, &first));
        Self::new(cpu, Cipher::Salsa20, stream::salsa20(&subkey, rest), POLY_KEY_BYTES)
    }

    /// The text begins with block 1.
    fn chacha20(cpu: Avx512, key: &[u8; 32], nonce: &[u8; 12]) -> Self {
        Self::new(cpu, Cipher::ChaCha20, stream::chacha20(key, nonce), stream::BLOCK_BYTES)
    }

    fn new(cpu: Avx512, cipher: Cipher, state: Zeroizing<[u32; 16]>, text_at: usize) -> Self {
        let first = stream::key_stream(cpu, cipher, &state, 0);
        Self { cpu, cipher, state, first, text_at }
    }

    fn poly_key(&self) -> &[u8; POLY_KEY_BYTES] {
        self.first.first_chunk().unwrap_or_else(|| unreachable!("the kilobyte is longer"))
    }

    /// Adds the stream to the text.
    fn apply(&self, text: &mut Text<'_>) {
        let begun = add(&self.first[self.text_at..], text, 0);
        let mut counter = stream::BLOCKS_AT_ONCE;
        let mut add_next = |from, to: &mut _| {
            stream::add_key_stream(self.cpu, self.cipher, &self.state, counter, from, to);
            counter += stream::BLOCKS_AT_ONCE;
        };
        match text {
            Text::InPlace(text) => {
                let (chunks, _) = text[begun..].as_chunks_mut();
                for chunk in chunks {
                    add_next(None, chunk);
                }
            }
            Text::Into(from, to) => {
                let ((from, _), (to, _)) = (from[begun..].as_chunks(), to[begun..].as_chunks_mut());
                for (from, to) in from.iter().zip(to) {
                    add_next(Some(from), to);
                }
            }
        }
        let rest = (text.read().len() - begun) % stream::BYTES_AT_ONCE;
        if rest > 0 {
            let at = text.read().len() - rest;
            add(&stream::key_stream(self.cpu, self.cipher, &self.state, counter)[..], text, at);
        }
    }
}

/// Adds `stream` to the text from `at` on, as far as both go. Says where that ends.
fn add(stream: &[u8], text: &mut Text<'_>, at: usize) -> usize {
    match text {
        Text::InPlace(text) => {
            let text = &mut text[at..];
            text.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
            at + stream.len().min(text.len())
        }
        Text::Into(from, to) => {
            let (from, to) = (&from[at..], &mut to[at..]);
            to.iter_mut().zip(from).zip(stream).for_each(|((to, from), key)| *to = from ^ key);
            at + stream.len().min(from.len())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn check(cpu: Avx512, key: &[u8; 32], nonce: &[u8; NONCE_BYTES], clear: &[u8]) {
        let mut expected = clear.to_vec();
        let mut expected_tag = [0; TAG_BYTES];
        sodium::seal_in_place(key, nonce, &mut expected_tag, &mut expected);

        let mut in_place = clear.to_vec();
        assert_eq!(cpu.seal(key, nonce, Text::InPlace(&mut in_place)), expected_tag, "{}", clear.len());
        assert!(in_place == expected, "{} in place", clear.len());
        let mut into = vec![0xaa; clear.len()];
        assert_eq!(cpu.seal(key, nonce, Text::Into(clear, &mut into)), expected_tag);
        assert!(into == expected, "{}", clear.len());

        let mut wrong = expected_tag;
        wrong[clear.len() % TAG_BYTES] ^= 1 << (clear.len() % 8);
        assert!(!cpu.open(key, nonce, &wrong, Text::InPlace(&mut in_place)));
        assert!(in_place == expected, "changed by a wrong tag");
        into.fill(0xaa);
        assert!(!cpu.open(key, nonce, &wrong, Text::Into(&expected, &mut into)));
        assert!(into.iter().all(|byte| *byte == 0xaa), "written in spite of a wrong tag");

        assert!(cpu.open(key, nonce, &expected_tag, Text::InPlace(&mut in_place)));
        assert!(in_place == clear, "{} opened in place", clear.len());
        assert!(cpu.open(key, nonce, &expected_tag, Text::Into(&expected, &mut into)));
        assert!(into == clear, "{} opened", clear.len());
    }

    /// Without the instructions there is nothing to test: libsodium does all the work then.
    fn with_cpu(test: impl FnOnce(Avx512)) {
        match Avx512::get() {
            Some(cpu) => test(cpu),
            None => println!("this processor has no AVX-512 IFMA: libsodium seals and opens alone"),
        }
    }

    #[test]
    fn every_length_around_the_steps() {
        with_cpu(|cpu| {
            let text: Vec<u8> = (0..40_000_u32).map(|at| ((at * 167) >> 3).to_le_bytes()[0]).collect();
            let near = |at: usize| at.saturating_sub(20)..at + 20;
            let lengths = (0..2_200).chain([3_072 - 32, 16_000, 16_384, 16_354].into_iter().flat_map(near));
            for len in lengths {
                check(cpu, &[7; 32], &[9; NONCE_BYTES], &text[..len]);
            }
        });
    }

    /// ring is the second opinion for records.
    fn check_record(cpu: Avx512, key: &[u8; 32], nonce: &[u8; 12], header: &[u8], clear: &[u8]) {
        use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
        let theirs = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
        let mut expected = clear.to_vec();
        let nonce_of_ring = Nonce::assume_unique_for_key(*nonce);
        let tag = theirs.seal_in_place_separate_tag(nonce_of_ring, Aad::from(header), &mut expected).unwrap();
        let tag: [u8; TAG_BYTES] = tag.as_ref().try_into().unwrap();

        let mut text = clear.to_vec();
        assert_eq!(cpu.seal_record(key, nonce, header, &mut text), tag, "{}", clear.len());
        assert!(text == expected, "{}", clear.len());
        let mut wrong = tag;
        wrong[clear.len() % TAG_BYTES] ^= 1 << (clear.len() % 8);
        assert!(!cpu.open_record(key, nonce, header, &wrong, &mut text));
        assert!(text == expected, "changed by a wrong tag");
        assert!(cpu.open_record(key, nonce, header, &tag, &mut text));
        assert!(text == clear, "{} opened", clear.len());
    }

    #[test]
    fn records_of_every_length_around_the_steps() {
        with_cpu(|cpu| {
            let text: Vec<u8> = (0..40_000_u32).map(|at| ((at * 167) >> 3).to_le_bytes()[0]).collect();
            let near = |at: usize| at.saturating_sub(20)..at + 20;
            let lengths = (0..2_200).chain([3_072 - 64, 16_000, 16_384, 16_640].into_iter().flat_map(near));
            for len in lengths {
                check_record(cpu, &[7; 32], &[9; 12], &[23, 3, 3, 64, 17], &text[..len]);
            }
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn as_ring(
            key: [u8; 32],
            nonce: [u8; 12],
            header in proptest::collection::vec(any::<u8>(), 0..50),
            clear in proptest::collection::vec(any::<u8>(), 0..5_000),
        ) {
            with_cpu(|cpu| check_record(cpu, &key, &nonce, &header, &clear));
        }

        #[test]
        fn as_libsodium(
            key: [u8; 32],
            nonce: [u8; NONCE_BYTES],
            clear in proptest::collection::vec(any::<u8>(), 0..5_000),
        ) {
            with_cpu(|cpu| check(cpu, &key, &nonce, &clear));
        }
    }
}
