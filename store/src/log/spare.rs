//! The next segment, made before it is needed.

use super::engine::{RETRY_MS, SegmentLog};
use super::op::{Buffers, DiskError, FileStep, Op, Purpose};
use super::page::{BLOCK_BYTES, SegmentHeader};
use super::segments::segment_file;

/// The next segment.
#[derive(Debug)]
pub(super) enum Spare {
    /// Not yet asked for.
    Wanted,
    Making,
    Ready,
    /// Tried again at this time.
    NoSpace {
        retry_ms: u64,
    },
}

impl<A: Buffers> SegmentLog<A> {
    pub(super) fn make_spare(&mut self) {
        match self.spare {
            Spare::Wanted => {}
            Spare::NoSpace { retry_ms } if retry_ms <= self.now_ms => {}
            _ => return,
        }
        self.spare = Spare::Making;
        let file = segment_file(self.log, self.current_sequence + 1);
        let bytes = self.config.segment_bytes;
        self.request(Purpose::Spare(FileStep::Create), Op::Create { file, bytes });
    }

    pub(super) fn spare_made(&mut self, step: FileStep, result: Result<(), DiskError>) {
        let file = segment_file(self.log, self.current_sequence + 1);
        match (step, result) {
            (FileStep::Create, Ok(())) => {
                let mut buffer = self.pool.lend(BLOCK_BYTES);
                if let Some(block) = buffer.as_mut().get_mut(..BLOCK_BYTES) {
                    block.fill(0);
                    self.segment_header(self.current_sequence + 1).encode(block);
                }
                self.request(
                    Purpose::Spare(FileStep::Write),
                    Op::Write { file, offset: 0, buffer, bytes: BLOCK_BYTES, durable: false },
                );
            }
            (FileStep::Write, Ok(())) => {
                self.request(Purpose::Spare(FileStep::Sync), Op::Sync { file });
            }
            (FileStep::Sync, Ok(())) => self.spare = Spare::Ready,
            (FileStep::Create, Err(DiskError::NoSpace)) | (FileStep::Delete, Ok(())) => {
                self.spare = Spare::NoSpace { retry_ms: self.now_ms + RETRY_MS };
            }
            (FileStep::Write, Err(DiskError::NoSpace)) => {
                self.request(Purpose::Spare(FileStep::Delete), Op::Delete { file });
            }
            (_, Err(error)) => self.fail("making a segment", &error),
        }
    }

    pub(super) fn segment_header(&self, sequence: u32) -> SegmentHeader {
        SegmentHeader {
            log: self.log,
            sequence,
            blocks: self.segment_blocks(),
            salt: self.salt,
            inherits: self.inherits,
        }
    }
}
