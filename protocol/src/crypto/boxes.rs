//! Boxes: "Cryptographic algorithms" of the SMP text.
//!
//! Crypto boxes and secret boxes are the same here. Both take a 32-byte secret (agreed by X25519, or a
//! symmetric key), derive the key by `HSalsa20` over 16 zero bytes, and seal by `XSalsa20` and Poly1305 under
//! a 24-byte nonce. A sealed box is the 16-byte tag, then as many bytes as the clear text has.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{OpenError, TooLarge, secretbox, sodium};
use crate::encoding::{pad, unpad};
use crate::limits::{NONCE_BYTES, PAD_LENGTH_BYTES, TAG_BYTES};

/// 24 bytes that are used once under a key.
pub type Nonce = [u8; NONCE_BYTES];

/// A nonce from any bytes: the first 24 of them, and zeros behind them if there are fewer. A correlation ID
/// becomes the nonce of an authenticator this way.
pub fn nonce_from(bytes: &[u8]) -> Nonce {
    let mut nonce = [0; NONCE_BYTES];
    for (to, from) in nonce.iter_mut().zip(bytes) {
        *to = *from;
    }
    nonce
}

/// The nonce of the answer to what was sealed under `nonce`: its bytes in reverse order.
pub fn reversed(mut nonce: Nonce) -> Nonce {
    nonce.reverse();
    nonce
}

/// The key of boxes, derived from a shared secret once and then used for as many boxes as there are nonces.
/// Deriving takes about 0.1 us.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BoxKey([u8; 32]);

impl BoxKey {
    /// Derives the key of the boxes that both holders of `secret` exchange.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(sodium::hsalsa20_of_zeros(secret))
    }

    /// The derived key: what the secretbox of `NaCl` takes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxKey")
    }
}

/// Seals `buf`, that is 16 bytes of room for the tag and then the clear text, where it is.
///
/// # Panics
/// If there is no room for the tag.
pub fn seal_in_place(key: &BoxKey, nonce: &Nonce, buf: &mut [u8]) {
    let (tag, text) = split_tag_mut(buf);
    secretbox::seal_in_place(&key.0, nonce, tag, text);
}

/// Seals `clear` into `out`, which has 16 bytes more.
///
/// # Panics
/// If `out` has another size.
pub fn seal_into(key: &BoxKey, nonce: &Nonce, clear: &[u8], out: &mut [u8]) {
    let (tag, text) = split_tag_mut(out);
    secretbox::seal(&key.0, nonce, clear, tag, text);
}

/// Opens a box where it is, and gives its clear text: the part of `buf` behind the tag. On an error `buf` is
/// unchanged.
pub fn open_in_place<'a>(key: &BoxKey, nonce: &Nonce, buf: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
    let size = buf.len();
    let (tag, text) = buf.split_first_chunk_mut::<TAG_BYTES>().ok_or(OpenError::Size(size))?;
    if secretbox::open_in_place(&key.0, nonce, tag, text) { Ok(text) } else { Err(OpenError::Tag) }
}

/// Opens a box into `out`, which has 16 bytes less than `sealed`. On an error `out` is unchanged.
///
/// # Panics
/// If `sealed` has at least 16 bytes and `out` has another size.
pub fn open_into(key: &BoxKey, nonce: &Nonce, sealed: &[u8], out: &mut [u8]) -> Result<(), OpenError> {
    let (tag, text) = sealed.split_first_chunk::<TAG_BYTES>().ok_or(OpenError::Size(sealed.len()))?;
    if secretbox::open(&key.0, nonce, tag, text, out) { Ok(()) } else { Err(OpenError::Tag) }
}

/// Seals `clear` as it is, without padding. The box has 16 bytes more.
pub fn seal(key: &BoxKey, nonce: &Nonce, clear: &[u8]) -> Vec<u8> {
    let mut out = vec![0; TAG_BYTES + clear.len()];
    seal_into(key, nonce, clear, &mut out);
    out
}

/// Opens a box whose clear text is not padded.
pub fn open(key: &BoxKey, nonce: &Nonce, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut out = vec![0; sealed.len().saturating_sub(TAG_BYTES)];
    open_into(key, nonce, sealed, &mut out)?;
    Ok(out)
}

/// Pads `message` to `padded_len` bytes, the 2 length bytes included, and seals that. The box has
/// `padded_len` + 16 bytes.
pub fn seal_padded(
    key: &BoxKey,
    nonce: &Nonce,
    message: &[u8],
    padded_len: usize,
) -> Result<Vec<u8>, TooLarge> {
    let mut out = vec![0; TAG_BYTES];
    pad(message, padded_len, &mut out)?;
    seal_in_place(key, nonce, &mut out);
    Ok(out)
}

/// Opens a box whose clear text is padded, and gives the content.
pub fn open_padded(key: &BoxKey, nonce: &Nonce, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut clear = open(key, nonce, sealed)?;
    let content_bytes = unpad(&clear).map_err(|_| OpenError::Padding)?.len();
    clear.truncate(PAD_LENGTH_BYTES + content_bytes);
    clear.drain(..PAD_LENGTH_BYTES);
    Ok(clear)
}

fn split_tag_mut(buf: &mut [u8]) -> (&mut [u8; TAG_BYTES], &mut [u8]) {
    let Some(parts) = buf.split_first_chunk_mut() else {
        panic!("a box has room for its tag");
    };
    parts
}
