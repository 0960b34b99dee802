//! Blocks of a segment that the log itself reads: the segment's header, and index pages.
//!
//! A commit is a run of blocks of one segment. It begins with an index page; bodies and images lie behind the page
//! whose records announce them, in the order of these records; when a page is full the next one follows where the run
//! has come to, and the page before it says how far that is. So every place is known when a record is appended.
//!
//! All integers are little-endian. A page's checksum covers the whole block. Its salt is secret, so that no body can
//! pass for a page.

use super::codec::{Malformed, Reader};

pub const BLOCK_BYTES: usize = 4_096;
pub const PAGE_HEADER_BYTES: usize = 80;

const PAGE_MAGIC: u32 = 0x4750_5052; // "RPPG"
const SEGMENT_MAGIC: u32 = 0x4753_5052; // "RPSG"
const VERSION: u32 = 1;
/// Magic and checksum stand outside of what is summed.
const SUMMED_FROM: usize = 8;

/// Bytes in blocks, rounded up.
pub fn blocks_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK_BYTES)).unwrap_or(u32::MAX)
}

/// Which log: one shard's of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogKey {
    pub generation: u32,
    pub shard: u16,
}

/// Block 0 of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub log: LogKey,
    pub sequence: u32,
    pub blocks: u32,
    pub salt: u64,
    /// There was a generation before this one.
    pub inherits: bool,
}

impl SegmentHeader {
    pub fn encode(&self, block: &mut [u8]) {
        let mut fields = Vec::with_capacity(64);
        fields.extend_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        fields.extend_from_slice(&[0; 4]);
        fields.extend_from_slice(&VERSION.to_le_bytes());
        fields.extend_from_slice(&self.log.generation.to_le_bytes());
        fields.extend_from_slice(&self.log.shard.to_le_bytes());
        fields.extend_from_slice(&self.sequence.to_le_bytes());
        fields.extend_from_slice(&self.blocks.to_le_bytes());
        fields.extend_from_slice(&self.salt.to_le_bytes());
        fields.push(u8::from(self.inherits));
        put_front(block, &fields);
        seal(block);
    }

    pub fn decode(block: &[u8]) -> Result<Self, Malformed> {
        let mut reader = opened(block, SEGMENT_MAGIC)?;
        if reader.u32()? != VERSION {
            return Err(Malformed);
        }
        Ok(Self {
            log: LogKey { generation: reader.u32()?, shard: reader.u16()? },
            sequence: reader.u32()?,
            blocks: reader.u32()?,
            salt: reader.u64()?,
            inherits: reader.u8()? != 0,
        })
    }
}

/// The first 80 bytes of an index page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    pub salt: u64,
    pub log: LogKey,
    /// Of the segment.
    pub sequence: u32,
    /// Where the page lies in the segment.
    pub block: u32,
    pub commit: u64,
    /// This commit and those before it were on the disk for certain when this one was written.
    pub durable_through: u64,
    /// The number of the page's first record.
    pub first_lsn: u64,
    /// Within the commit.
    pub page: u16,
    pub pages: u16,
    /// From this page to the next one of the commit. 0: it is the last.
    pub next_page_blocks: u32,
    pub commit_blocks: u32,
    pub records: u16,
    /// Bytes of the page in use, header included.
    pub used: u16,
}

impl PageHeader {
    /// Writes the header and the checksum; the records stand behind it already, then zeros.
    pub fn encode(&self, block: &mut [u8]) {
        let mut fields = Vec::with_capacity(PAGE_HEADER_BYTES);
        fields.extend_from_slice(&PAGE_MAGIC.to_le_bytes());
        fields.extend_from_slice(&[0; 4]);
        fields.extend_from_slice(&self.salt.to_le_bytes());
        fields.extend_from_slice(&self.log.generation.to_le_bytes());
        fields.extend_from_slice(&self.log.shard.to_le_bytes());
        fields.extend_from_slice(&self.page.to_le_bytes());
        fields.extend_from_slice(&self.sequence.to_le_bytes());
        fields.extend_from_slice(&self.block.to_le_bytes());
        fields.extend_from_slice(&self.commit.to_le_bytes());
        fields.extend_from_slice(&self.durable_through.to_le_bytes());
        fields.extend_from_slice(&self.first_lsn.to_le_bytes());
        fields.extend_from_slice(&self.next_page_blocks.to_le_bytes());
        fields.extend_from_slice(&self.commit_blocks.to_le_bytes());
        fields.extend_from_slice(&self.records.to_le_bytes());
        fields.extend_from_slice(&self.used.to_le_bytes());
        fields.extend_from_slice(&self.pages.to_le_bytes());
        fields.resize(PAGE_HEADER_BYTES, 0);
        put_front(block, &fields);
        seal(block);
    }

    /// Reads a header whose block is intact, and the records behind it.
    /// Without `check` the checksum is not looked at.
    pub fn decode(block: &[u8], check: bool) -> Result<(Self, Reader<'_>), Malformed> {
        let mut reader = if check { opened(block, PAGE_MAGIC)? } else { unchecked(block, PAGE_MAGIC)? };
        let salt = reader.u64()?;
        let log = LogKey { generation: reader.u32()?, shard: reader.u16()? };
        let page = reader.u16()?;
        let mut header = Self {
            salt,
            log,
            page,
            sequence: reader.u32()?,
            block: reader.u32()?,
            commit: reader.u64()?,
            durable_through: reader.u64()?,
            first_lsn: reader.u64()?,
            next_page_blocks: reader.u32()?,
            commit_blocks: reader.u32()?,
            records: reader.u16()?,
            used: reader.u16()?,
            pages: 0,
        };
        header.pages = reader.u16()?;
        let records = block.get(PAGE_HEADER_BYTES..usize::from(header.used)).ok_or(Malformed)?;
        Ok((header, Reader(records)))
    }
}

fn put_front(block: &mut [u8], fields: &[u8]) {
    if let Some(front) = block.get_mut(..fields.len()) {
        front.copy_from_slice(fields);
    }
}

/// Sets the checksum of a block.
pub fn seal(block: &mut [u8]) {
    if let Some((head, rest)) = block.split_at_mut_checked(SUMMED_FROM) {
        let crc = crc32c::crc32c(rest);
        if let Some(place) = head.get_mut(4..) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    }
}

fn unchecked(block: &[u8], magic: u32) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader(block);
    let found = reader.u32()?;
    reader.u32()?;
    if found == magic { Ok(reader) } else { Err(Malformed) }
}

/// Checks magic and checksum; gives what follows them.
pub fn opened(block: &[u8], magic: u32) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader(block);
    if reader.u32()? != magic {
        return Err(Malformed);
    }
    let crc = reader.u32()?;
    if crc32c::crc32c(reader.0) == crc { Ok(reader) } else { Err(Malformed) }
}
