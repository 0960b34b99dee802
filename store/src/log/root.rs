//! Roots: where recovery begins.
//!
//! A root names the images of a shard's buckets and the commit from which on the log has what the images lack. It is
//! written to a file of its own, and the one before it is deleted when it is on the disk. A generation is complete
//! when all of its shards have a root; only then do its logs take records.

use super::codec::Malformed;
use super::image::DiskPlace;
use super::page::{LogKey, opened, seal};
use crate::id::Bucket;

const MAGIC: u32 = 0x5452_5052; // "RPRT"
const VERSION: u32 = 1;
pub const ROOT_HEADER_BYTES: usize = 4 + 4 + 4 + 4 + 2 + 2 + 4 + 8 + 4 + 4 + 8 + 8 + 8 + 4;
pub const ROOT_ENTRY_BYTES: usize = 2 + 14 + 4 + 4 + 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub log: LogKey,
    /// Shards of this generation.
    pub shards: u16,
    pub sequence: u32,
    pub salt: u64,
    pub floor: Floor,
    /// Commits up to this one were on the disk when the root was written: if one is missing, it was lost.
    pub durable_commit: u64,
    pub entries: Vec<RootEntry>,
}

/// The place where the first commit begins that recovery reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Of the segment.
    pub sequence: u32,
    pub block: u32,
    pub commit: u64,
    pub lsn: u64,
}

/// A bucket's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootEntry {
    pub bucket: Bucket,
    pub place: DiskPlace,
    /// 0: the bucket was empty, there is no image.
    pub bytes: u32,
    pub crc: u32,
    /// Records of the root's own log below this number are contained in the image.
    pub lsn: u64,
}

impl RootEntry {
    /// In one piece: a root of a large shard has 65,536 of them, and is encoded in one step.
    fn to_bytes(self) -> [u8; ROOT_ENTRY_BYTES] {
        let mut bytes = [0; ROOT_ENTRY_BYTES];
        let [partition, sub] = [self.bucket.partition(), self.bucket.sub()];
        bytes[..2].copy_from_slice(&[partition, sub]);
        bytes[2..6].copy_from_slice(&self.place.log.generation.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.place.log.shard.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.place.sequence.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.place.block.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.crc.to_le_bytes());
        bytes[24..].copy_from_slice(&self.lsn.to_le_bytes());
        bytes
    }
}

impl Root {
    pub fn encoded_bytes(entries: usize) -> usize {
        ROOT_HEADER_BYTES + entries * ROOT_ENTRY_BYTES
    }

    /// Writes the root to the front of `out`, which has [`encoded_bytes`](Self::encoded_bytes) and zeros behind them.
    pub fn encode(&self, out: &mut [u8]) {
        let mut bytes = Vec::with_capacity(Self::encoded_bytes(self.entries.len()));
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.log.generation.to_le_bytes());
        bytes.extend_from_slice(&self.log.shard.to_le_bytes());
        bytes.extend_from_slice(&self.shards.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.floor.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.floor.block.to_le_bytes());
        bytes.extend_from_slice(&self.floor.commit.to_le_bytes());
        bytes.extend_from_slice(&self.floor.lsn.to_le_bytes());
        bytes.extend_from_slice(&self.durable_commit.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.entries.len()).unwrap_or(u32::MAX).to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.to_bytes());
        }
        if let Some(front) = out.get_mut(..bytes.len()) {
            front.copy_from_slice(&bytes);
        }
        seal(out);
    }

    /// Reads a whole file, padding included.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = opened(bytes, MAGIC)?;
        if reader.u32()? != VERSION {
            return Err(Malformed);
        }
        let mut root = Self {
            log: LogKey { generation: reader.u32()?, shard: reader.u16()? },
            shards: reader.u16()?,
            sequence: reader.u32()?,
            salt: reader.u64()?,
            floor: Floor {
                sequence: reader.u32()?,
                block: reader.u32()?,
                commit: reader.u64()?,
                lsn: reader.u64()?,
            },
            durable_commit: reader.u64()?,
            entries: Vec::new(),
        };
        let count = reader.u32()? as usize;
        if count > crate::id::BUCKETS {
            return Err(Malformed);
        }
        root.entries.reserve(count);
        for _ in 0..count {
            root.entries.push(RootEntry {
                bucket: Bucket::new(reader.u8()?, reader.u8()?),
                place: DiskPlace::decode(&mut reader)?,
                bytes: reader.u32()?,
                crc: reader.u32()?,
                lsn: reader.u64()?,
            });
        }
        Ok(root)
    }
}
