//! Protection of single records of TLS 1.3 in the caller's memory (RFC 8446, 5.2).

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroizing;

use super::error::{RecordFault, TlsError};
#[cfg(target_arch = "x86_64")]
use crate::crypto::avx512::Avx512;
use crate::limits::BLOCK_BYTES;

/// Type, version and length in front of every record.
pub const RECORD_HEADER_BYTES: usize = 5;
/// The most that one record carries.
pub const PLAINTEXT_BYTES_MAX: usize = 16_384;
/// What protection adds to the content of a record: header, inner content type, tag.
pub const RECORD_OVERHEAD_BYTES: usize = RECORD_HEADER_BYTES + 1 + AEAD_TAG_BYTES;
/// A transport block as one record.
pub const SEALED_BLOCK_BYTES: usize = BLOCK_BYTES + RECORD_OVERHEAD_BYTES;
/// The largest record that a peer may send (it may pad). Memory for incoming bytes must hold this much.
pub const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + CIPHERTEXT_BYTES_MAX;
/// A `KeyUpdate` message as one record.
pub const KEY_UPDATE_RECORD_BYTES: usize = 5 + RECORD_OVERHEAD_BYTES;

const CIPHERTEXT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 256;
const AEAD_TAG_BYTES: usize = 16;
const AEAD_NONCE_BYTES: usize = 12;
/// The C library copies more than some kilobytes by `rep movsb`, which some processors do twenty times slower (4.6 us for
/// a block) where the target lies a few bytes further in its page than the source: behind a header of 5 bytes it does.
const COPIED_AT_ONCE_BYTES: usize = 2_048;

/// Below it ring is faster: AVX-512 makes a kilobyte of the key stream at once.
#[cfg(target_arch = "x86_64")]
const AVX512_FROM_BYTES: usize = 1_024;

const _: () = {
    // One block is exactly one record.
    assert!(BLOCK_BYTES <= PLAINTEXT_BYTES_MAX);
    assert!(SEALED_BLOCK_BYTES == 16_406);
    assert!(SEALED_BLOCK_BYTES <= RECORD_BYTES_MAX);
};

/// Content types of records.
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// The length of the record at the front, header included, as its header says. None before the header is complete.
pub(super) fn record_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, _, _, high, low, ..] => {
            Some(RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}

/// The first record after the handshake. None if it is not complete; an error as soon as its header is wrong.
pub(super) fn first_record(bytes: &mut [u8]) -> Result<Option<&mut [u8]>, RecordFault> {
    match (bytes.first(), record_bytes(bytes)) {
        // All that comes now is encrypted, and so looks like application data from outside.
        (Some(&content_type), _) if content_type != APPLICATION_DATA => Err(RecordFault::UnexpectedMessage),
        (_, Some(length)) if length > RECORD_BYTES_MAX => Err(RecordFault::RecordOverflow),
        (_, Some(length)) => Ok(bytes.get_mut(..length)),
        (_, None) => Ok(None),
    }
}

enum Key {
    /// The bare key: expanding it is a copy, while ring's key would take half a kilobyte of every idle connection.
    ChaCha20Poly1305(Zeroizing<[u8; 32]>),
    /// Expanding an AES key is work, so this is done once.
    Aes(Box<LessSafeKey>),
}

/// Protects the records of one direction, with one key.
pub(super) struct Protection {
    key: Key,
    iv: [u8; AEAD_NONCE_BYTES],
    /// Of the next record.
    sequence: u64,
    /// No record may have this number: the key would be used too often.
    sequence_end: u64,
}

impl Protection {
    /// `records_max`: how many records the cipher suite allows for one key.
    pub(super) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
        records_max: u64,
    ) -> Result<Self, TlsError> {
        let (key, iv) = match &secrets {
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                let key =
                    key.as_ref().try_into().map_err(|_| TlsError::Impossible("a key of another size"))?;
                (Key::ChaCha20Poly1305(Zeroizing::new(key)), iv)
            }
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
                (Key::Aes(Box::new(expand(&AES_128_GCM, key.as_ref())?)), iv)
            }
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
                (Key::Aes(Box::new(expand(&AES_256_GCM, key.as_ref())?)), iv)
            }
            _ => return Err(TlsError::Configuration("a cipher suite is enabled that is not supported here")),
        };
        let iv = iv.as_ref().try_into().map_err(|_| TlsError::Impossible("an IV of another size"))?;
        Ok(Self { key, iv, sequence, sequence_end: records_max })
    }

    /// How many more records this key may protect.
    pub(super) fn records_left(&self) -> u64 {
        self.sequence_end.saturating_sub(self.sequence)
    }

    /// Makes a record of the content that stands at `RECORD_HEADER_BYTES` of `buffer`, around it.
    /// Returns the record's length: `content_bytes` and `RECORD_OVERHEAD_BYTES`.
    pub(super) fn seal_in_place(
        &mut self,
        content_type: u8,
        buffer: &mut [u8],
        content_bytes: usize,
    ) -> Result<usize, TlsError> {
        if content_bytes > PLAINTEXT_BYTES_MAX {
            return Err(TlsError::Impossible("content longer than a record"));
        }
        let length = content_bytes + RECORD_OVERHEAD_BYTES;
        let given = buffer.len();
        let too_small = TlsError::BufferTooSmall { required: length, given };
        let Some((record, _)) = buffer.split_at_mut_checked(length) else {
            return Err(too_small);
        };
        let Ok(ciphertext_bytes) = u16::try_from(length - RECORD_HEADER_BYTES) else {
            return Err(TlsError::Impossible("content longer than a record"));
        };
        let [high, low] = ciphertext_bytes.to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        let (header_out, body) = record.split_at_mut(RECORD_HEADER_BYTES);
        header_out.copy_from_slice(&header);
        let (inner, tag_out) = body.split_at_mut(content_bytes + 1);
        if let Some(last) = inner.last_mut() {
            *last = content_type;
        }
        let nonce = self.nonce().ok_or(TlsError::Ended)?;
        match self.quick_key(inner.len()) {
            #[cfg(target_arch = "x86_64")]
            Some((cpu, key)) => tag_out.copy_from_slice(&cpu.seal_record(key, &nonce, &header, inner)),
            _ => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = self
                    .with_key(|key| key.seal_in_place_separate_tag(nonce, Aad::from(header), inner))?
                    .map_err(|_| TlsError::Impossible("encryption failed"))?;
                tag_out.copy_from_slice(tag.as_ref());
            }
        }
        self.sequence += 1;
        Ok(length)
    }

    /// Copies `content` into `out` as one record. Returns the record's length.
    pub(super) fn seal(
        &mut self,
        content_type: u8,
        content: &[u8],
        out: &mut [u8],
    ) -> Result<usize, TlsError> {
        let given = out.len();
        let end = RECORD_HEADER_BYTES + content.len();
        let required = content.len() + RECORD_OVERHEAD_BYTES;
        let place = out.get_mut(RECORD_HEADER_BYTES..end);
        let place = place.ok_or(TlsError::BufferTooSmall { required, given })?;
        for (to, from) in place.chunks_mut(COPIED_AT_ONCE_BYTES).zip(content.chunks(COPIED_AT_ONCE_BYTES)) {
            to.copy_from_slice(from);
        }
        self.seal_in_place(content_type, out, content.len())
    }

    /// Opens one whole record in place. Returns its content type and the length of its content, which stands at
    /// `RECORD_HEADER_BYTES`.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(u8, usize), TlsError> {
        let Some((header, body)) = record.split_first_chunk_mut::<RECORD_HEADER_BYTES>() else {
            return Err(TlsError::Impossible("a record without header"));
        };
        let nonce = self.nonce().ok_or(TlsError::Ended)?;
        let text_bytes = body.len().saturating_sub(AEAD_TAG_BYTES);
        let inner = match (self.quick_key(text_bytes), body.split_last_chunk_mut::<AEAD_TAG_BYTES>()) {
            #[cfg(target_arch = "x86_64")]
            (Some((cpu, key)), Some((text, tag))) => {
                if !cpu.open_record(key, &nonce, header, tag, text) {
                    return Err(RecordFault::BadRecordMac.into());
                }
                &*text
            }
            _ => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                self.with_key(|key| key.open_in_place(nonce, Aad::from(*header), body).map(|inner| &*inner))?
                    .map_err(|_| RecordFault::BadRecordMac)?
            }
        };
        self.sequence += 1;
        if inner.len() > PLAINTEXT_BYTES_MAX + 1 {
            return Err(RecordFault::RecordOverflow.into());
        }
        // The content type stands behind the content; zeros behind it are padding.
        let end = inner.iter().rposition(|&byte| byte != 0).ok_or(RecordFault::UnexpectedMessage)?;
        let content_type = inner.get(end).copied().ok_or(RecordFault::UnexpectedMessage)?;
        Ok((content_type, end))
    }

    /// None when the key may not be used any more.
    fn nonce(&self) -> Option<[u8; AEAD_NONCE_BYTES]> {
        if self.records_left() == 0 {
            return None;
        }
        let mut nonce = self.iv;
        for (byte, sequence) in nonce.iter_mut().rev().zip(self.sequence.to_le_bytes()) {
            *byte ^= sequence;
        }
        Some(nonce)
    }

    /// The key, where AVX-512 protects a text of this length in less time than ring.
    #[cfg(target_arch = "x86_64")]
    fn quick_key(&self, text_bytes: usize) -> Option<(Avx512, &[u8; 32])> {
        match &self.key {
            Key::ChaCha20Poly1305(key) if text_bytes >= AVX512_FROM_BYTES => Some((Avx512::get()?, key)),
            _ => None,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn quick_key(&self, _: usize) -> Option<std::convert::Infallible> {
        None
    }

    fn with_key<R>(&self, work: impl FnOnce(&LessSafeKey) -> R) -> Result<R, TlsError> {
        match &self.key {
            Key::ChaCha20Poly1305(key) => Ok(work(&expand(&CHACHA20_POLY1305, &key[..])?)),
            Key::Aes(key) => Ok(work(key)),
        }
    }
}

fn expand(algorithm: &'static Algorithm, key: &[u8]) -> Result<LessSafeKey, TlsError> {
    let key = UnboundKey::new(algorithm, key).map_err(|_| TlsError::Impossible("a key of another size"))?;
    Ok(LessSafeKey::new(key))
}
