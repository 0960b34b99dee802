//! Reading a log from its floor to its end, and telling a torn end from damage.
//!
//! A commit is torn if a crash can have left it so: nothing on the disk says that it was durable. What says so is a
//! later commit, which names the last one that was durable when it was written, or the root. A commit that was
//! durable and cannot be read is damage.

use std::collections::HashMap;
use std::fmt;

use super::config::Mutation;
use super::file::FileName;
use super::op::DiskError;
use super::page::{BLOCK_BYTES, PageHeader, SegmentHeader, blocks_of};
use super::record::{BodyMeta, Record};
use super::root::Root;
use super::segments::segment_file;
use super::start::StartConfig;
use crate::disk::Disk;
use crate::id::Bucket;

/// Damage found in a log's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    pub file: FileName,
    /// In bytes.
    pub offset: u64,
    pub what: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.file, self.offset, self.what)
    }
}

/// Why a log could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("the log is damaged: {0}")]
    Corrupt(Corruption),
    #[error("the log cannot be read or written: {0}")]
    Disk(#[from] DiskError),
    #[error("the number of shards must be 1 to 256")]
    Shards,
    #[error("the size of a segment must be a multiple of the block size, from 16 blocks to 4 GiB")]
    SegmentBytes,
}

/// The files of a log.
pub type Files = HashMap<FileName, u64>;

#[derive(Debug)]
pub struct Page {
    pub header: PageHeader,
    pub bytes: Vec<u8>,
}

/// A record of a page.
#[derive(Debug)]
pub struct Recorded {
    pub lsn: u64,
    pub bucket: Bucket,
    pub record: Record<BodyMeta>,
    /// Where the blocks that belong to the record begin.
    pub block: u32,
}

impl Page {
    pub fn file(&self) -> FileName {
        segment_file(self.header.log, self.header.sequence)
    }

    pub fn corruption(&self, what: impl Into<String>) -> Corruption {
        let offset = u64::from(self.header.block) * BLOCK_BYTES as u64;
        Corruption { file: self.file(), offset, what: what.into() }
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = Result<Recorded, Corruption>> {
        let records = self.bytes.get(super::page::PAGE_HEADER_BYTES..usize::from(self.header.used));
        let mut reader = super::codec::Reader(records.unwrap_or_default());
        let mut block = self.header.block.saturating_add(1);
        (0..u64::from(self.header.records)).map(move |n| {
            let (bucket, record) = Record::decode(&mut reader)
                .map_err(|_| self.corruption(format!("record {n} of the page is malformed")))?;
            let at = block;
            block = block.saturating_add(record.extent_blocks());
            Ok(Recorded { lsn: self.header.first_lsn.saturating_add(n), bucket, record, block: at })
        })
    }
}

/// What a log has behind its floor.
#[derive(Debug, Default)]
pub struct Tail {
    pub pages: Vec<Page>,
    /// Where commits that were never durable were cut off.
    pub torn: Option<(FileName, u64)>,
    /// Damage that was passed over.
    pub skipped: Vec<Corruption>,
}

struct Walk<'a, D> {
    disk: &'a D,
    files: &'a Files,
    root: &'a Root,
    config: &'a StartConfig,
    tail: Tail,
}

pub fn walk<D: Disk>(disk: &D, files: &Files, root: &Root, config: &StartConfig) -> Result<Tail, StartError> {
    let mut walk = Walk { disk, files, root, config, tail: Tail::default() };
    walk.run()?;
    Ok(walk.tail)
}

impl<D: Disk> Walk<'_, D> {
    fn run(&mut self) -> Result<(), StartError> {
        let floor = self.root.floor;
        let (mut sequence, mut block, mut commit, mut lsn) =
            (floor.sequence, floor.block, floor.commit, floor.lsn);
        let bad_block = loop {
            // A commit lies behind the one before it, or at the beginning of the next segment.
            let (pages, bad_block) = match self.read_commit(sequence, block, commit, lsn)? {
                Ok(pages) => (pages, 0),
                Err(bad_block) => match self.read_commit(sequence.saturating_add(1), 1, commit, lsn)? {
                    Ok(pages) => {
                        sequence += 1;
                        (pages, 0)
                    }
                    Err(_) => (Vec::new(), bad_block),
                },
            };
            let (Some(first), Some(last)) = (pages.first(), pages.last()) else { break bad_block };
            block = first.header.block.saturating_add(first.header.commit_blocks);
            lsn = last.header.first_lsn.saturating_add(u64::from(last.header.records));
            commit = commit.saturating_add(1);
            self.tail.pages.extend(pages);
        };
        let file = segment_file(self.root.log, sequence);
        let offset = u64::from(bad_block) * BLOCK_BYTES as u64;
        if self.config.log.mutated(Mutation::IgnoreLostEnd) {
            return Ok(());
        }
        let later = self.scan(sequence, bad_block.saturating_add(1))?;
        let claimed = later.iter().map(|page| page.header.durable_through).max().unwrap_or(0);
        let missing = if claimed.max(self.root.durable_commit) >= commit {
            Some(format!("commit {commit} was durable and cannot be read"))
        } else {
            self.lost_blocks(sequence, offset)?
        };
        if let Some(what) = missing {
            let damage = Corruption { file, offset, what };
            if !self.config.skip_corrupt {
                return Err(StartError::Corrupt(damage));
            }
            self.tail.skipped.push(damage);
            self.tail.pages.extend(later.into_iter().filter(|page| page.header.commit >= commit));
            return Ok(());
        }
        if !later.is_empty() {
            self.tail.torn = Some((file, offset));
        }
        self.cut_unproven(commit)
    }

    /// Says so if the blocks where the log ends are gone: a segment has all its blocks from the beginning, so no crash
    /// makes it shorter.
    fn lost_blocks(&self, sequence: u32, offset: u64) -> Result<Option<String>, StartError> {
        let file = segment_file(self.root.log, sequence);
        let next = segment_file(self.root.log, sequence.saturating_add(1));
        let Some(&bytes) = self.files.get(&file) else {
            // A segment is deleted when nothing in it lives and the next one is in use.
            return Ok((!self.files.contains_key(&next)).then(|| "the segment is missing".into()));
        };
        let mut block = vec![0; BLOCK_BYTES];
        self.disk.read(file, 0, &mut block)?;
        let made_blocks = SegmentHeader::decode(&block).map_or(1, |header| header.blocks);
        let made_bytes = u64::from(made_blocks) * BLOCK_BYTES as u64;
        let is_cut = bytes < made_bytes && offset + BLOCK_BYTES as u64 > bytes;
        Ok(is_cut.then(|| format!("the segment was cut off: it has {bytes} bytes of {made_bytes}")))
    }

    /// Reads a block of a segment. None if there is no such block.
    fn block(&self, sequence: u32, block: u32, out: &mut [u8]) -> Result<bool, StartError> {
        let file = segment_file(self.root.log, sequence);
        let offset = u64::from(block) * BLOCK_BYTES as u64;
        // A file that lost its end reads as zeros there; one that is gone has no blocks.
        if self.files.get(&file).is_none_or(|&bytes| offset >= bytes) {
            return Ok(false);
        }
        self.disk.read(file, offset, out)?;
        Ok(true)
    }

    /// A page of this log, if the block is one and lies where it belongs.
    fn page(&self, sequence: u32, block: u32, bytes: &[u8]) -> Option<PageHeader> {
        let check = !self.config.log.mutated(Mutation::IgnorePageCrc);
        let (header, _) = PageHeader::decode(bytes, check).ok()?;
        let fits = header.salt == self.root.salt
            && header.log == self.root.log
            && header.sequence == sequence
            && header.block == block;
        fits.then_some(header)
    }

    /// Reads the pages of a commit that begins at a block. The inner error is the block that is not as it should be.
    fn read_commit(
        &self,
        sequence: u32,
        start: u32,
        commit: u64,
        lsn: u64,
    ) -> Result<Result<Vec<Page>, u32>, StartError> {
        let mut pages: Vec<Page> = Vec::new();
        let (mut block, mut lsn) = (start, lsn);
        loop {
            let mut bytes = vec![0; BLOCK_BYTES];
            if !self.block(sequence, block, &mut bytes)? {
                return Ok(Err(block));
            }
            let Some(header) = self.page(sequence, block, &bytes) else { return Ok(Err(block)) };
            let first = pages.first().map_or(header, |page| page.header);
            let fits = header.commit == commit
                && usize::from(header.page) == pages.len()
                && header.first_lsn == lsn
                && (header.pages, header.commit_blocks) == (first.pages, first.commit_blocks)
                && block - start < header.commit_blocks
                && header.page < header.pages
                && (header.page + 1 == header.pages) == (header.next_page_blocks == 0);
            if !fits {
                return Ok(Err(block));
            }
            lsn = lsn.saturating_add(u64::from(header.records));
            pages.push(Page { header, bytes });
            if header.next_page_blocks == 0 {
                return Ok(Ok(pages));
            }
            let Some(next) = block.checked_add(header.next_page_blocks) else { return Ok(Err(block)) };
            block = next;
        }
    }

    /// All pages of this log from a block on, in this segment and the later ones.
    fn scan(&self, sequence: u32, from: u32) -> Result<Vec<Page>, StartError> {
        const STEP_BLOCKS: u32 = 256;
        let mut found = Vec::new();
        let mut later: Vec<(u32, u64)> = self
            .files
            .iter()
            .filter(|(file, _)| **file == segment_file(self.root.log, file.sequence))
            .map(|(file, &bytes)| (file.sequence, bytes))
            .filter(|&(known, _)| known >= sequence)
            .collect();
        later.sort_unstable();
        let mut bytes = vec![0; STEP_BLOCKS as usize * BLOCK_BYTES];
        for (known, file_bytes) in later {
            let end = blocks_of(usize::try_from(file_bytes).unwrap_or(usize::MAX));
            let mut block = if known == sequence { from } else { 1 };
            while block < end {
                let file = segment_file(self.root.log, known);
                self.disk.read(file, u64::from(block) * BLOCK_BYTES as u64, &mut bytes)?;
                for (n, candidate) in (block..end).zip(bytes.chunks(BLOCK_BYTES)) {
                    if let Some(header) = self.page(known, n, candidate) {
                        found.push(Page { header, bytes: candidate.to_vec() });
                    }
                }
                block = block.saturating_add(STEP_BLOCKS);
            }
        }
        Ok(found)
    }

    /// Cuts off the commits whose bodies did not all reach the disk, and what follows them. Those before `end` that
    /// are known to have been durable are not read.
    fn cut_unproven(&mut self, end: u64) -> Result<(), StartError> {
        let claims = self.tail.pages.iter().map(|page| page.header.durable_through);
        let proven = claims.max().unwrap_or(0).max(self.root.durable_commit);
        if proven.saturating_add(1) >= end || self.config.log.mutated(Mutation::IgnoreBodyCrc) {
            return Ok(());
        }
        let mut torn_from = None;
        for page in self.tail.pages.iter().filter(|page| page.header.commit > proven) {
            if !self.has_bodies(page)? {
                torn_from = Some((page.header.commit, page.file(), page.header.block));
                break;
            }
        }
        if let Some((commit, file, block)) = torn_from {
            self.tail.pages.retain(|page| page.header.commit < commit);
            self.tail.torn = Some((file, u64::from(block) * BLOCK_BYTES as u64));
        }
        Ok(())
    }

    fn has_bodies(&self, page: &Page) -> Result<bool, StartError> {
        let mut body = Vec::new();
        for recorded in page.records() {
            let Recorded { record, block, .. } = recorded.map_err(StartError::Corrupt)?;
            let Some(&meta) = record.body() else { continue };
            body.resize(blocks_of(usize::from(meta.bytes)) as usize * BLOCK_BYTES, 0);
            let offset = u64::from(block) * BLOCK_BYTES as u64;
            self.disk.read(page.file(), offset, &mut body)?;
            let (content, rest) = body.split_at(usize::from(meta.bytes));
            // The rest was written as zeros: other bytes are of a former use of the segment.
            if BodyMeta::of(content) != Some(meta) || rest.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
