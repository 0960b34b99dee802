//! Records that are appended together, and the blocks that they take.

use smallvec::SmallVec;

use super::page::{BLOCK_BYTES, PAGE_HEADER_BYTES};
use super::record::{BODY_BYTES_MAX, BodyMeta, Record};
use super::{AppendError, Entry};
use crate::id::Bucket;

/// A record of the batch, as it will stand in a page.
#[derive(Debug)]
pub struct Encoded {
    pub bucket: Bucket,
    pub body: Option<BodyMeta>,
    pub ends_something: bool,
    /// In the batch's bytes.
    end: usize,
    extent_blocks: u32,
}

#[derive(Debug, Default)]
pub struct Batch {
    pub records: SmallVec<[Encoded; 4]>,
    bytes: Vec<u8>,
    pub grows: bool,
}

impl Batch {
    pub fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        self.grows = false;
    }

    /// Encodes records in place of those before.
    pub fn encode(&mut self, entries: &[Entry<'_>]) -> Result<(), AppendError> {
        self.clear();
        for entry in entries {
            if entry.record.body().is_some_and(|body| body.len() > BODY_BYTES_MAX) {
                return Err(AppendError::TooLarge);
            }
            // The length was checked.
            let meta = |body: &[u8]| BodyMeta::of(body).unwrap_or(BodyMeta { bytes: 0, crc: 0 });
            let record = entry.record.clone().map_body(meta);
            if !record.is_within_limits() {
                return Err(AppendError::TooLarge);
            }
            self.add(&record, entry.hash.bucket());
            self.grows |= record.grows();
        }
        Ok(())
    }

    pub fn add(&mut self, record: &Record<BodyMeta>, bucket: Bucket) {
        record.encode(bucket, &mut self.bytes);
        self.records.push(Encoded {
            bucket,
            body: record.body().copied(),
            ends_something: record.ends_something(),
            end: self.bytes.len(),
            extent_blocks: record.extent_blocks(),
        });
    }

    /// The bytes of each record.
    pub fn iter(&self) -> impl Iterator<Item = (&Encoded, &[u8])> {
        let mut start = 0;
        self.records.iter().map(move |record| {
            let bytes = self.bytes.get(start..record.end).unwrap_or_default();
            start = record.end;
            (record, bytes)
        })
    }

    /// Blocks that the batch adds behind a page of which so many bytes are in use.
    pub fn blocks_behind(&self, mut page_bytes: usize) -> u32 {
        let mut blocks = 0;
        for (record, bytes) in self.iter() {
            if page_bytes + bytes.len() > BLOCK_BYTES {
                blocks += 1;
                page_bytes = PAGE_HEADER_BYTES;
            }
            page_bytes += bytes.len();
            blocks += record.extent_blocks;
        }
        blocks
    }

    /// Blocks of a commit with nothing but the batch.
    pub fn blocks(&self) -> u32 {
        1 + self.blocks_behind(PAGE_HEADER_BYTES)
    }
}

const _: () = assert!(BODY_BYTES_MAX.div_ceil(BLOCK_BYTES) == 4);
