//! Bodies that say which they are.

/// Every 32 bytes of a body name it, so that no block of it can hide.
pub const BODY_MARK: [u8; 8] = *b"\xf7BODY\x9e\x01\xc3";
/// Shorter bodies begin with their number only.
const NAMED_BYTES: usize = 32;
/// Still shorter ones do not say which they are.
pub const NUMBERED_BYTES: usize = 8;

/// A message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    /// 0 if the body is too short to have a number.
    pub tag: u64,
    pub bytes: usize,
    pub notification: bool,
}

pub fn body_of(tag: u64, bytes: usize) -> Vec<u8> {
    if bytes < NUMBERED_BYTES {
        return vec![0x44; bytes];
    }
    if bytes < NAMED_BYTES {
        let mut body = tag.to_le_bytes().to_vec();
        body.resize(bytes, 0x33);
        return body;
    }
    let mut unit = [0; 32];
    unit[..16].copy_from_slice(&body_name(tag));
    unit[16..24].copy_from_slice(&tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let mut body = unit.repeat(bytes / 32);
    // No part of a name at the end.
    body.resize(bytes, 0x11);
    body
}

pub fn body_name(tag: u64) -> [u8; 16] {
    let mut name = [0; 16];
    name[..8].copy_from_slice(&BODY_MARK);
    name[8..].copy_from_slice(&tag.to_le_bytes());
    name
}

/// The number of a body that is one of ours, from its first to its last byte.
pub fn tag_of(body: &[u8]) -> Option<u64> {
    let number_at = if body.len() < NAMED_BYTES { 0 } else { BODY_MARK.len() };
    let tag = match body.get(number_at..)?.first_chunk() {
        Some(number) if body.len() >= NUMBERED_BYTES => u64::from_le_bytes(*number),
        _ => 0,
    };
    (body == body_of(tag, body.len())).then_some(tag)
}
