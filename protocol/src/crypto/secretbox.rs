//! The secretbox: with AVX-512 where the processor has it and the text is long enough, by libsodium otherwise.

use super::sodium;
use crate::limits::{NONCE_BYTES, TAG_BYTES};

#[cfg(target_arch = "x86_64")]
use super::avx512::{Avx512, Text};

/// Below it libsodium is faster: AVX-512 makes a kilobyte of the key stream at once.
#[cfg(target_arch = "x86_64")]
const AVX512_FROM_BYTES: usize = 512;

#[cfg(target_arch = "x86_64")]
fn avx512_for(text_bytes: usize) -> Option<Avx512> {
    if text_bytes < AVX512_FROM_BYTES { None } else { Avx512::get() }
}

/// Encrypts `text` where it is and writes its tag.
pub(super) fn seal_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    tag: &mut [u8; TAG_BYTES],
    text: &mut [u8],
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(cpu) = avx512_for(text.len()) {
        *tag = cpu.seal(key, nonce, Text::InPlace(text));
        return;
    }
    sodium::seal_in_place(key, nonce, tag, text);
}

/// Encrypts `clear` into `sealed`, which must be as long, and writes its tag.
pub(super) fn seal(
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    clear: &[u8],
    tag: &mut [u8; TAG_BYTES],
    sealed: &mut [u8],
) {
    assert_eq!(clear.len(), sealed.len(), "a sealed text is as long as its clear text");
    #[cfg(target_arch = "x86_64")]
    if let Some(cpu) = avx512_for(clear.len()) {
        *tag = cpu.seal(key, nonce, Text::Into(clear, sealed));
        return;
    }
    sodium::seal(key, nonce, clear, tag, sealed);
}

/// Checks the tag in constant time, then decrypts `text` where it is. False, and `text` unchanged, if it does not match.
#[must_use]
pub(super) fn open_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    tag: &[u8; TAG_BYTES],
    text: &mut [u8],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(cpu) = avx512_for(text.len()) {
        return cpu.open(key, nonce, tag, Text::InPlace(text));
    }
    sodium::open_in_place(key, nonce, tag, text)
}

/// Checks the tag in constant time, then decrypts `sealed` into `clear`, which must be as long. False, and `clear`
/// unchanged, if it does not match.
#[must_use]
pub(super) fn open(
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    tag: &[u8; TAG_BYTES],
    sealed: &[u8],
    clear: &mut [u8],
) -> bool {
    assert_eq!(clear.len(), sealed.len(), "a clear text is as long as its sealed text");
    #[cfg(target_arch = "x86_64")]
    if let Some(cpu) = avx512_for(sealed.len()) {
        return cpu.open(key, nonce, tag, Text::Into(sealed, clear));
    }
    sodium::open(key, nonce, tag, sealed, clear)
}
