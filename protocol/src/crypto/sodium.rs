//! The secretbox (`XSalsa20` and Poly1305) and `HSalsa20` of libsodium, behind functions that cannot be misused.
//!
//! A message is sealed and opened three times on its way through a router, 16 KB each time: the largest
//! single cost of a message. libsodium needs 7.9 us for 16 KB where the pure-Rust crates need 47 us.
#![allow(unsafe_code)] // Foreign functions: every call passes lengths taken from the slices it points into.

use std::ptr;
use std::sync::Once;

use libsodium_sys as ffi;

use crate::limits::{NONCE_BYTES, TAG_BYTES};

const KEY_BYTES: usize = 32;
const HSALSA20_INPUT_BYTES: usize = 16;

const _: () = {
    assert!(KEY_BYTES == ffi::crypto_secretbox_KEYBYTES as usize);
    assert!(NONCE_BYTES == ffi::crypto_secretbox_NONCEBYTES as usize);
    assert!(TAG_BYTES == ffi::crypto_secretbox_MACBYTES as usize);
    assert!(KEY_BYTES == ffi::crypto_core_hsalsa20_KEYBYTES as usize);
    assert!(KEY_BYTES == ffi::crypto_core_hsalsa20_OUTPUTBYTES as usize);
    assert!(HSALSA20_INPUT_BYTES == ffi::crypto_core_hsalsa20_INPUTBYTES as usize);
};

/// Lets libsodium choose its implementations for this CPU. Its result is ignored on purpose: it can fail only
/// to find randomness, which is not used here, and without it the portable implementations give the same
/// bytes, slower.
fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        // SAFETY: no arguments; safe to call from any thread, and here it is called once.
        let _ = unsafe { ffi::sodium_init() };
    });
}

/// `HSalsa20` over 16 zero bytes: the key of every box from a shared secret.
pub(super) fn hsalsa20_of_zeros(secret: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    hsalsa20(secret, &[0; HSALSA20_INPUT_BYTES])
}

pub(super) fn hsalsa20(key: &[u8; KEY_BYTES], input: &[u8; HSALSA20_INPUT_BYTES]) -> [u8; KEY_BYTES] {
    init();
    let mut out = [0_u8; KEY_BYTES];
    // SAFETY: the arrays have the sizes that the function reads and writes (asserted above); a null constant
    // means the standard one.
    let _ = unsafe { ffi::crypto_core_hsalsa20(out.as_mut_ptr(), input.as_ptr(), key.as_ptr(), ptr::null()) };
    out
}

/// Poly1305 alone.
#[cfg(test)]
pub(super) fn poly1305(key: &[u8; KEY_BYTES], text: &[u8]) -> [u8; TAG_BYTES] {
    init();
    let mut tag = [0_u8; TAG_BYTES];
    // SAFETY: `text` is valid for its length, the tag and the key are arrays of the right sizes.
    let _ = unsafe {
        ffi::crypto_onetimeauth_poly1305(tag.as_mut_ptr(), text.as_ptr(), text.len() as u64, key.as_ptr())
    };
    tag
}

/// Encrypts `text` where it is and writes its tag.
pub(super) fn seal_in_place(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    tag: &mut [u8; TAG_BYTES],
    text: &mut [u8],
) {
    init();
    let text_ptr = text.as_mut_ptr();
    // SAFETY: `text_ptr` is valid for `text.len()` bytes of reading and writing, the function allows the
    // clear and the sealed text to be the same memory, and the tag, nonce and key are arrays of the right
    // sizes.
    let _ = unsafe {
        ffi::crypto_secretbox_detached(
            text_ptr,
            tag.as_mut_ptr(),
            text_ptr,
            text.len() as u64,
            nonce.as_ptr(),
            key.as_ptr(),
        )
    };
}

/// Encrypts `clear` into `sealed`, which must be as long, and writes its tag.
pub(super) fn seal(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    clear: &[u8],
    tag: &mut [u8; TAG_BYTES],
    sealed: &mut [u8],
) {
    assert_eq!(clear.len(), sealed.len(), "a sealed text is as long as its clear text");
    init();
    // SAFETY: both texts are valid for the asserted common length, and do not overlap since one is borrowed
    // mutably.
    let _ = unsafe {
        ffi::crypto_secretbox_detached(
            sealed.as_mut_ptr(),
            tag.as_mut_ptr(),
            clear.as_ptr(),
            clear.len() as u64,
            nonce.as_ptr(),
            key.as_ptr(),
        )
    };
}

/// Checks the tag in constant time, then decrypts `text` where it is. False, and `text` unchanged, if it does
/// not match.
#[must_use]
pub(super) fn open_in_place(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    tag: &[u8; TAG_BYTES],
    text: &mut [u8],
) -> bool {
    init();
    let text_ptr = text.as_mut_ptr();
    // SAFETY: as for `seal_in_place`.
    let result = unsafe {
        ffi::crypto_secretbox_open_detached(
            text_ptr,
            text_ptr,
            tag.as_ptr(),
            text.len() as u64,
            nonce.as_ptr(),
            key.as_ptr(),
        )
    };
    result == 0
}

/// Checks the tag in constant time, then decrypts `sealed` into `clear`, which must be as long. False, and
/// `clear` unchanged, if it does not match.
#[must_use]
pub(super) fn open(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    tag: &[u8; TAG_BYTES],
    sealed: &[u8],
    clear: &mut [u8],
) -> bool {
    assert_eq!(clear.len(), sealed.len(), "a clear text is as long as its sealed text");
    init();
    // SAFETY: as for `seal`.
    let result = unsafe {
        ffi::crypto_secretbox_open_detached(
            clear.as_mut_ptr(),
            sealed.as_ptr(),
            tag.as_ptr(),
            sealed.len() as u64,
            nonce.as_ptr(),
            key.as_ptr(),
        )
    };
    result == 0
}
