//! Little-endian integers and keys as they stand in files.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::{BlockingInfo, BlockingReason, ClientNotice};
use ringpost_protocol::handshake::ServiceRole;
use ringpost_protocol::keys::AuthPublicKey;

use crate::id::QueueId;

/// The bytes are no encoding of what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed")]
pub struct Malformed;

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

const NO_KEY: u8 = 0;
const ED25519: u8 = 1;
const ED448: u8 = 2;
const X25519: u8 = 3;

/// One byte for the algorithm, then the raw key of 32 or 57 bytes; a single zero byte for no key.
pub fn put_key(out: &mut Vec<u8>, key: Option<&AuthPublicKey>) {
    let Some(key) = key else { return out.push(NO_KEY) };
    out.push(match key {
        AuthPublicKey::Ed25519(_) => ED25519,
        AuthPublicKey::Ed448(_) => ED448,
        AuthPublicKey::X25519(_) => X25519,
    });
    out.extend_from_slice(key.raw());
}

pub fn read_key(reader: &mut Reader<'_>) -> Result<Option<AuthPublicKey>, Malformed> {
    Ok(Some(match reader.u8()? {
        NO_KEY => return Ok(None),
        ED25519 => AuthPublicKey::Ed25519(reader.array()?),
        ED448 => AuthPublicKey::Ed448(Box::new(reader.array()?)),
        X25519 => AuthPublicKey::X25519(reader.array()?),
        _ => return Err(Malformed),
    }))
}

pub fn mode_byte(mode: Option<QueueMode>) -> u8 {
    match mode {
        None => 0,
        Some(QueueMode::Messaging) => 1,
        Some(QueueMode::Contact) => 2,
    }
}

pub fn mode_of(byte: u8) -> Result<Option<QueueMode>, Malformed> {
    match byte {
        0 => Ok(None),
        1 => Ok(Some(QueueMode::Messaging)),
        2 => Ok(Some(QueueMode::Contact)),
        _ => Err(Malformed),
    }
}

/// A zero byte for none, or a one and the ID.
pub fn put_optional_id(out: &mut Vec<u8>, id: Option<&QueueId>) {
    let Some(id) = id else { return out.push(0) };
    out.push(1);
    out.extend_from_slice(id);
}

pub fn read_optional_id(reader: &mut Reader<'_>) -> Result<Option<QueueId>, Malformed> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(reader.array()?)),
        _ => Err(Malformed),
    }
}

pub fn role_byte(role: ServiceRole) -> u8 {
    match role {
        ServiceRole::Messaging => 1,
        ServiceRole::Notifier => 2,
        ServiceRole::Proxy => 3,
    }
}

pub fn role_of(byte: u8) -> Result<ServiceRole, Malformed> {
    match byte {
        1 => Ok(ServiceRole::Messaging),
        2 => Ok(ServiceRole::Notifier),
        3 => Ok(ServiceRole::Proxy),
        _ => Err(Malformed),
    }
}

const NO_NOTICE: u8 = 0;
const NOTICE: u8 = 1;
const NOTICE_WITH_TTL: u8 = 2;

/// The reason, then the notice: whether there is one, and its time (8) if it has one.
pub fn put_blocking(out: &mut Vec<u8>, info: &BlockingInfo) {
    out.push(match info.reason {
        BlockingReason::Spam => 1,
        BlockingReason::Content => 2,
    });
    match info.notice {
        None => out.push(NO_NOTICE),
        Some(ClientNotice { ttl_secs: None }) => out.push(NOTICE),
        Some(ClientNotice { ttl_secs: Some(ttl_secs) }) => {
            out.push(NOTICE_WITH_TTL);
            out.extend_from_slice(&ttl_secs.to_le_bytes());
        }
    }
}

pub fn read_blocking(reader: &mut Reader<'_>) -> Result<BlockingInfo, Malformed> {
    let reason = match reader.u8()? {
        1 => BlockingReason::Spam,
        2 => BlockingReason::Content,
        _ => return Err(Malformed),
    };
    let notice = match reader.u8()? {
        NO_NOTICE => None,
        NOTICE => Some(ClientNotice { ttl_secs: None }),
        NOTICE_WITH_TTL => Some(ClientNotice { ttl_secs: Some(i64::from_le_bytes(reader.array()?)) }),
        _ => return Err(Malformed),
    };
    Ok(BlockingInfo { reason, notice })
}
