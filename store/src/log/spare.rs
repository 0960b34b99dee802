//! The next segment, made before it is needed.

use super::engine::{RETRY_MS, SegmentLog};
use super::erase::Job;
use super::op::{Buffers, DiskError, FileStep, Op, Purpose};
use super::page::{BLOCK_BYTES, SegmentHeader};
use super::reuse::Retired;
use super::segments::segment_file;

/// The next segment.
#[derive(Debug)]
pub(super) enum Spare {
    /// Not yet asked for.
    Wanted,
    Making {
        blocks: u32,
        /// What it was.
        reused: Option<Retired>,
    },
    Ready {
        blocks: u32,
        /// When nothing of its former content may be left, if it had some.
        until_ms: Option<u64>,
    },
    /// Being deleted. Then another is wanted.
    Dropping,
    /// Tried again at this time.
    NoSpace { retry_ms: u64 },
}

/// Of the smallest segment.
const BLOCKS_MIN: u32 = 16;

/// The next size to try when there is no space for a segment of this one: what is left of a disk shall be used.
pub(super) fn smaller(blocks: u32) -> Option<u32> {
    Some(blocks / 2).filter(|&half| half >= BLOCKS_MIN)
}

impl<A: Buffers> SegmentLog<A> {
    pub(super) fn make_spare(&mut self) {
        match self.spare {
            Spare::Wanted => {}
            Spare::NoSpace { retry_ms } if retry_ms <= self.now_ms => {}
            _ => return,
        }
        match self.reuse.take() {
            Some(retired) => self.reuse_for_spare(retired),
            None => self.create_spare(self.segment_blocks()),
        }
    }

    fn create_spare(&mut self, blocks: u32) {
        self.spare = Spare::Making { blocks, reused: None };
        let file = segment_file(self.log, self.current_sequence + 1);
        let bytes = u64::from(blocks) * BLOCK_BYTES as u64;
        self.request(Purpose::Spare(FileStep::Create), Op::Create { file, bytes });
    }

    pub(super) fn spare_made(&mut self, step: FileStep, result: Result<(), DiskError>) {
        let file = segment_file(self.log, self.current_sequence + 1);
        let (blocks, reused) = match self.spare {
            Spare::Making { blocks, reused } => (blocks, reused),
            Spare::Dropping => (0, None),
            _ => return,
        };
        match (step, result) {
            (FileStep::Create, Ok(())) => {
                let mut buffer = self.pool.lend(BLOCK_BYTES);
                if let Some(block) = buffer.as_mut().get_mut(..BLOCK_BYTES) {
                    block.fill(0);
                    self.segment_header(self.current_sequence + 1, blocks).encode(block);
                }
                self.request(
                    Purpose::Spare(FileStep::Write),
                    Op::Write { file, offset: 0, buffer, bytes: BLOCK_BYTES, durable: false },
                );
            }
            (FileStep::Write, Ok(())) => {
                self.request(Purpose::Spare(FileStep::Sync), Op::Sync { file });
            }
            (FileStep::Sync, Ok(())) => {
                self.spare = Spare::Ready { blocks, until_ms: reused.map(|former| former.until_ms) };
            }
            // It may have its new name or the old one.
            (FileStep::Create | FileStep::Write, Err(DiskError::NoSpace)) if reused.is_some() => {
                self.cleaning.jobs.extend(reused.map(|former| Job::delete(former.file)));
                self.drop_spare();
            }
            (FileStep::Create, Err(DiskError::NoSpace)) => match smaller(blocks) {
                Some(smaller) => self.create_spare(smaller),
                None => self.spare = Spare::NoSpace { retry_ms: self.now_ms + RETRY_MS },
            },
            (FileStep::Delete, Ok(())) if matches!(self.spare, Spare::Dropping) => self.spare = Spare::Wanted,
            (FileStep::Delete, Ok(())) => {
                self.spare = Spare::NoSpace { retry_ms: self.now_ms + RETRY_MS };
            }
            (FileStep::Write, Err(DiskError::NoSpace)) => {
                self.request(Purpose::Spare(FileStep::Delete), Op::Delete { file });
            }
            (_, Err(error)) => self.fail("making a segment", &error),
        }
    }

    pub(super) fn segment_header(&self, sequence: u32, blocks: u32) -> SegmentHeader {
        SegmentHeader { log: self.log, sequence, blocks, salt: self.salt, inherits: self.inherits }
    }
}
