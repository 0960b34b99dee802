//! Words of a line, separated by single spaces, and the values in them.

use ringpost_protocol::encoding::{base64url, decode_base64url};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::limits::ID_BYTES;

use super::{BadLine, Id};

/// How much of an unknown word is repeated in a report.
const KIND_CHARACTERS_MAX: usize = 20;

/// The words of a line that were not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(Option<&'a [u8]>);

impl<'a> Words<'a> {
    pub fn new(line: &'a [u8]) -> Self {
        Self(Some(line))
    }

    /// The next word, which may be empty. None behind the last one.
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let length = rest.iter().position(|&byte| byte == b' ');
        let (word, rest) = length
            .map_or((rest, None), |length| (rest.get(..length).unwrap_or_default(), rest.get(length + 1..)));
        self.0 = rest;
        Some(word)
    }

    /// The next word; `name` is what it is called in a report.
    pub fn word(&mut self, name: &'static str) -> Result<&'a [u8], BadLine> {
        self.next().ok_or(BadLine::Missing(name))
    }

    /// What follows `prefix` in the next word, if it begins so. Otherwise nothing is read.
    pub fn option(&mut self, prefix: &'static str) -> Option<&'a [u8]> {
        let mut words = *self;
        let value = words.next()?.strip_prefix(prefix.as_bytes())?;
        *self = words;
        Some(value)
    }

    /// What follows `prefix` in the next word, which must begin so.
    pub fn field(&mut self, prefix: &'static str) -> Result<&'a [u8], BadLine> {
        self.option(prefix).ok_or(BadLine::Missing(prefix))
    }

    /// What follows `prefix` in the rest of the line, spaces included, if it begins so. Otherwise nothing is read.
    pub fn option_rest(&mut self, prefix: &'static str) -> Option<&'a [u8]> {
        let rest = self.0?.strip_prefix(prefix.as_bytes())?;
        self.0 = None;
        Some(rest)
    }

    /// All that is left.
    pub fn rest(&mut self, name: &'static str) -> Result<&'a [u8], BadLine> {
        self.0.take().ok_or(BadLine::Missing(name))
    }

    /// Refuses words that nobody read.
    pub fn finish(self) -> Result<(), BadLine> {
        if self.0.is_none() { Ok(()) } else { Err(BadLine::Trailing) }
    }
}

/// The report of a line that begins with a word that is no kind of line.
pub fn unknown_kind(word: &[u8]) -> BadLine {
    if word.is_empty() {
        return BadLine::Empty;
    }
    let start = word.get(..word.len().min(KIND_CHARACTERS_MAX)).unwrap_or(word);
    BadLine::Kind(start.escape_ascii().to_string())
}

fn wrong(field: &'static str, what: &'static str) -> BadLine {
    BadLine::Field { field, what }
}

/// Padded base64url, as the reference reads it: without its padding a text that was cut off could pass for a whole one.
pub fn bytes(field: &'static str, text: &[u8]) -> Result<Vec<u8>, BadLine> {
    if text.is_empty() {
        return Err(wrong(field, "nothing where base64url should be"));
    }
    let decoded = if text.len().is_multiple_of(4) { decode_base64url(text).ok() } else { None };
    decoded.ok_or(wrong(field, "not padded base64url"))
}

pub fn id(field: &'static str, text: &[u8]) -> Result<Id, BadLine> {
    let bytes = bytes(field, text)?;
    bytes.as_slice().try_into().map_err(|_| BadLine::IdLength { field, bytes: bytes.len() })
}

const _: () = assert!(ID_BYTES == 24, "the message of IdLength says so");

/// Empty for None.
pub fn maybe_id(field: &'static str, text: &[u8]) -> Result<Option<Id>, BadLine> {
    if text.is_empty() { Ok(None) } else { id(field, text).map(Some) }
}

pub fn array<const N: usize>(field: &'static str, text: &[u8]) -> Result<[u8; N], BadLine> {
    bytes(field, text)?.as_slice().try_into().map_err(|_| wrong(field, "not as many bytes as it has"))
}

pub fn key(field: &'static str, text: &[u8]) -> Result<AuthPublicKey, BadLine> {
    let der = bytes(field, text)?;
    AuthPublicKey::from_der(&der).map_err(|_| wrong(field, "not an Ed25519, Ed448 or X25519 key"))
}

/// One key or more, separated by commas.
pub fn keys(field: &'static str, text: &[u8]) -> Result<Vec<AuthPublicKey>, BadLine> {
    text.split(|&byte| byte == b',').map(|text| key(field, text)).collect()
}

/// Seconds since 1970.
pub fn secs(field: &'static str, text: &[u8]) -> Result<i64, BadLine> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or(wrong(field, "not a number of seconds"))
}

pub fn flag(field: &'static str, text: &[u8]) -> Result<bool, BadLine> {
    match text {
        b"T" => Ok(true),
        b"F" => Ok(false),
        _ => Err(wrong(field, "neither T nor F")),
    }
}

pub fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(base64url(bytes).as_bytes());
}

pub fn put_key(out: &mut Vec<u8>, key: &AuthPublicKey) {
    put_base64(out, &key.to_der());
}

pub fn put_keys(out: &mut Vec<u8>, keys: &[AuthPublicKey]) {
    for (place, key) in keys.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        put_key(out, key);
    }
}

pub fn put_secs(out: &mut Vec<u8>, secs: i64) {
    out.extend_from_slice(secs.to_string().as_bytes());
}
