//! Primitive encodings of all `SimpleX` protocols: "SMP Transmission and transport block structure".
//!
//! Numbers are big-endian. A short string has a length byte, a large one a length of two bytes.
//! An optional value is `0`, or `1` and the value. A flag is `T` or `F`.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::limits::PAD_LENGTH_BYTES;

/// Longest content that can be padded. The reference stops two below what the length could say.
pub const PADDED_CONTENT_BYTES_MAX: usize = 65_533;
/// What follows padded content up to the padded length. Readers do not check it.
pub const FILLER: u8 = b'#';

/// Bytes that do not follow the encoding. The peer erred, not the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("input ends too early")]
    Truncated,
    #[error("bytes are left after the value")]
    Trailing,
    #[error("a byte or word that has no meaning here")]
    Invalid,
}

/// Content that does not fit into its fixed size. The caller is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content of {content_bytes} bytes, where at most {content_bytes_max} fit")]
pub struct TooLarge {
    pub content_bytes: usize,
    pub content_bytes_max: usize,
}

/// A cursor over borrowed bytes. Never copies, never allocates, never reads past the end.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the first byte on.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A number of two bytes.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(*self.array()?))
    }

    /// A number of four bytes.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(*self.array()?))
    }

    /// A signed number of eight bytes.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(*self.array()?))
    }

    /// A string of at most 255 bytes, after its length byte.
    #[inline]
    pub fn short(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A string of exactly `N` bytes, after its length byte.
    #[inline]
    pub fn short_array<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        self.short()?.try_into().map_err(|_| DecodeError::Invalid)
    }

    /// A string of at most 65,535 bytes, after its length of two bytes.
    #[inline]
    pub fn large(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// All that is left.
    #[inline]
    pub fn tail(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The bytes up to the next space, or up to the end. The space is not taken.
    #[inline]
    pub fn word(&mut self) -> &'a [u8] {
        let length = self.rest.iter().position(|&byte| byte == b' ').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word
    }

    /// One space.
    #[inline]
    pub fn space(&mut self) -> Result<(), DecodeError> {
        if self.u8()? == b' ' { Ok(()) } else { Err(DecodeError::Invalid) }
    }

    /// `T` or `F`.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            b'T' => Ok(true),
            b'F' => Ok(false),
            _ => Err(DecodeError::Invalid),
        }
    }

    /// `0`, or `1` and what `read` reads.
    #[inline]
    pub fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8()? {
            b'0' => Ok(None),
            b'1' => read(self).map(Some),
            _ => Err(DecodeError::Invalid),
        }
    }

    /// A list of 1 to 255 items, after their count in one byte.
    pub fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u8()?;
        if count == 0 {
            return Err(DecodeError::Invalid);
        }
        // Grows with what is really there: the count alone must not make us allocate.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// Refuses bytes that nobody read.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Where encoded bytes go: a `Vec<u8>`, a block that is being filled, or a counter.
pub trait Sink {
    /// These bytes, as they are.
    fn put(&mut self, bytes: &[u8]);

    /// A byte.
    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// A number of two bytes.
    #[inline]
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// A number of four bytes.
    #[inline]
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// A signed number of eight bytes.
    #[inline]
    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    /// A length byte and the string. Invariant of the caller: at most 255 bytes. What is longer is cut, so that a
    /// mistake cannot break the framing of what follows.
    #[inline]
    fn put_short(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= 255, "a short string of {} bytes", bytes.len());
        let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        self.put_u8(length);
        self.put(&bytes[..length.into()]);
    }

    /// A length of two bytes and the string. Invariant of the caller: at most 65,535 bytes; what is longer is cut.
    #[inline]
    fn put_large(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= 65_535, "a large string of {} bytes", bytes.len());
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.put_u16(length);
        self.put(&bytes[..length.into()]);
    }

    /// `T` or `F`.
    #[inline]
    fn put_bool(&mut self, value: bool) {
        self.put_u8(if value { b'T' } else { b'F' });
    }

    /// `0`, or `1` and what `write` writes.
    #[inline]
    fn put_maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T))
    where
        Self: Sized,
    {
        match value {
            None => self.put_u8(b'0'),
            Some(value) => {
                self.put_u8(b'1');
                write(self, value);
            }
        }
    }

    /// A count in one byte and the items. Invariant of the caller: 1 to 255 items; more are left out.
    fn put_list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T))
    where
        Self: Sized,
    {
        debug_assert!((1..=255).contains(&items.len()), "a list of {} items", items.len());
        let count = u8::try_from(items.len()).unwrap_or(u8::MAX);
        self.put_u8(count);
        for item in &items[..count.into()] {
            write(self, item);
        }
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A sink that only counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteCount(pub usize);

impl Sink for ByteCount {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Appends `content` padded to `padded_bytes`: its length in two bytes, the content, filler.
pub fn pad(content: &[u8], padded_bytes: usize, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let length = padded_length(content.len(), padded_bytes)?;
    let end = out.len() + padded_bytes;
    out.reserve(padded_bytes);
    out.put_u16(length);
    out.put(content);
    out.resize(end, FILLER);
    Ok(())
}

/// Pads content that is already in its place, `padded[2..2 + content_bytes]`: writes the length and the filler.
/// On an error nothing has changed.
pub fn pad_in_place(padded: &mut [u8], content_bytes: usize) -> Result<(), TooLarge> {
    let length = padded_length(content_bytes, padded.len())?;
    let (length_place, rest) = padded.split_at_mut(PAD_LENGTH_BYTES);
    length_place.copy_from_slice(&length.to_be_bytes());
    rest[content_bytes..].fill(FILLER);
    Ok(())
}

fn padded_length(content_bytes: usize, padded_bytes: usize) -> Result<u16, TooLarge> {
    let content_bytes_max = padded_bytes.saturating_sub(PAD_LENGTH_BYTES).min(PADDED_CONTENT_BYTES_MAX);
    let too_large = TooLarge { content_bytes, content_bytes_max };
    if content_bytes > content_bytes_max || padded_bytes < PAD_LENGTH_BYTES {
        return Err(too_large);
    }
    u16::try_from(content_bytes).map_err(|_| too_large)
}

/// The content of padded bytes. The filler is not checked.
pub fn unpad(padded: &[u8]) -> Result<&[u8], DecodeError> {
    Reader::new(padded).large()
}

const BASE64URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, GeneralPurposeConfig::new());
const BASE64URL_NO_PAD: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Base64url with `=` at the end.
pub fn base64url(bytes: &[u8]) -> String {
    BASE64URL.encode(bytes)
}

/// Base64url without `=`.
pub fn base64url_unpadded(bytes: &[u8]) -> String {
    BASE64URL_NO_PAD.encode(bytes)
}

/// Reads base64url (RFC 4648, section 5) with and without `=`. Refuses other characters, bits that say nothing, and
/// padding that is neither absent nor complete.
pub fn decode_base64url(text: impl AsRef<[u8]>) -> Result<Vec<u8>, DecodeError> {
    let engine = if text.as_ref().ends_with(b"=") { BASE64URL } else { BASE64URL_NO_PAD };
    engine.decode(text).map_err(|_| DecodeError::Invalid)
}
