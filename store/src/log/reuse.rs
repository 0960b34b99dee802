//! Segments that are written over instead of deleted.
//!
//! To the first write of a block that a file system has only reserved belongs a note in its own log, and the commit waits for
//! that too. Over blocks that were written before, a commit is its data and one flush, and nothing is given back to a device
//! that would have to be told. So segments in which nothing lives become the next ones.
//!
//! Pages know them apart by the segment's number. What a former use left behind must go as other erased things do: a
//! segment is kept only if, as fast as commits came lately, it will be full in time, and what was not reached by then is
//! punched.

use std::collections::VecDeque;

use super::config::Mutation;
use super::engine::SegmentLog;
use super::erase::Job;
use super::file::FileName;
use super::op::{Buffers, FileStep, Op, Purpose};
use super::page::BLOCK_BYTES;
use super::segments::{Segment, segment_file};
use super::spare::Spare;

/// A round frees segments to write over when so many are full,
const ROUND_SEGMENTS: u64 = 2;
/// and when it writes at most one in so many of the blocks that came since the last one.
const ROUND_SHARE: u64 = 16;

/// A segment in which nothing lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retired {
    pub file: FileName,
    /// Nothing of its content may be left then.
    pub until_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Reuse {
    retired: VecDeque<Retired>,
    /// When nothing of the former content of the current segment may be left. None: it had none.
    pub current_until_ms: Option<u64>,
    /// Of commits, handed to the disk.
    committed_blocks: u64,
    /// The same when the last round began; what came in the time before that, and how long that was.
    at_round_blocks: u64,
    recent_blocks: u64,
    recent_ms: u64,
}

impl Reuse {
    pub fn committed(&mut self, blocks: u32) {
        self.committed_blocks += u64::from(blocks);
    }

    pub fn round_began(&mut self, since_last_ms: u64) {
        self.recent_blocks = self.since_round_blocks();
        self.recent_ms = since_last_ms;
        self.at_round_blocks = self.committed_blocks;
    }

    /// Blocks of commits since the last round began.
    pub fn since_round_blocks(&self) -> u64 {
        self.committed_blocks - self.at_round_blocks
    }

    /// The next segment to write over: the one with the least time.
    pub fn take(&mut self) -> Option<Retired> {
        self.retired.pop_front()
    }
}

impl<A: Buffers> SegmentLog<A> {
    /// Keeps a dead segment if it will be written over in time. Otherwise it is to be deleted.
    pub(super) fn retire(&mut self, segment: &Segment) -> bool {
        let blocks = self.segment_blocks();
        // The time that is left of `erase_within` when a round begins is half of it: the other half of that is for punching.
        let until_ms = self.cleaning.round_ms + self.config.erase_within_ms / 4;
        let left_ms = until_ms.saturating_sub(self.now_ms);
        let reuse = &self.reuse;
        let will_come =
            u128::from(reuse.recent_blocks) * u128::from(left_ms) / u128::from(reuse.recent_ms.max(1));
        let to_come = reuse.retired.len() as u128 + 1 + u128::from(reuse.current_until_ms.is_some());
        // What was punched has to be reserved again: it would be as slow as a new one.
        let pays = segment.punched_blocks <= blocks / 8 && to_come * u128::from(blocks) <= will_come;
        let keeps = segment.log == self.log
            && segment.blocks == blocks
            && !self.is_out_of_space()
            // What is queued for a file would hit what it holds next.
            && !self.cleaning.has_job_for(segment.file())
            && (pays || self.config.reuses_all);
        if keeps {
            self.reuse.retired.push_back(Retired { file: segment.file(), until_ms });
        }
        keeps
    }

    /// Whether a round is worth its writes because segments may be dead.
    pub(super) fn is_reuse_round_due(&self) -> bool {
        let since = self.reuse.since_round_blocks();
        since >= ROUND_SEGMENTS * u64::from(self.segment_blocks())
            && since >= ROUND_SHARE * self.cleaning.round_blocks()
    }

    /// Deletes what is kept: the space is wanted.
    pub(super) fn release_retired(&mut self) {
        let jobs = self.reuse.retired.drain(..).map(|retired| Job::delete(retired.file));
        self.cleaning.jobs.extend(jobs);
    }

    pub(super) fn reuse_for_spare(&mut self, retired: Retired) {
        let blocks = self.segment_blocks();
        self.spare = Spare::Making { blocks, reused: Some(retired) };
        self.counts.segments_reused += 1;
        let bytes = u64::from(blocks) * BLOCK_BYTES as u64;
        let file = segment_file(self.log, self.current_sequence + 1);
        self.request(Purpose::Spare(FileStep::Create), Op::Reuse { from: retired.file, file, bytes });
    }

    /// Punches what is behind the last commit of the current segment, if it was used before.
    pub(super) fn punch_rest(&mut self) {
        if self.reuse.current_until_ms.take().is_none() || self.config.mutated(Mutation::KeepRest) {
            return;
        }
        let (end, blocks) = (self.end(), self.current_blocks.saturating_sub(self.end()));
        if blocks > 0
            && let Some(segment) = self.segments.get_mut(self.current)
        {
            segment.punched_blocks += blocks;
            let file = segment.file();
            self.push_punch(file, vec![(end, blocks)]);
        }
    }

    /// Sees to it that nothing is left of former content whose time is over.
    pub(super) fn expire_reused(&mut self) {
        if self.config.mutated(Mutation::KeepRetired) {
            return;
        }
        while self.reuse.retired.front().is_some_and(|retired| retired.until_ms <= self.now_ms) {
            if let Some(retired) = self.reuse.retired.pop_front() {
                self.cleaning.jobs.push_back(Job::delete(retired.file));
            }
        }
        let Spare::Ready { until_ms, .. } = self.spare else { return };
        if until_ms.is_some_and(|until_ms| until_ms <= self.now_ms) {
            self.drop_spare();
        } else if self.reuse.current_until_ms.is_some_and(|until_ms| until_ms <= self.now_ms) {
            // Nothing more goes here: the next commit finds no room.
            self.punch_rest();
            self.current_blocks = self.end();
        }
    }

    /// Deletes the spare and makes another.
    pub(super) fn drop_spare(&mut self) {
        self.spare = Spare::Dropping;
        let file = segment_file(self.log, self.current_sequence + 1);
        self.request(Purpose::Spare(FileStep::Delete), Op::Delete { file });
    }

    pub(super) fn reuse_wake_ms(&self) -> Option<u64> {
        if self.config.mutated(Mutation::KeepRetired) {
            return None;
        }
        let retired = self.reuse.retired.front().map(|retired| retired.until_ms);
        let in_use = match self.spare {
            Spare::Ready { until_ms, .. } => until_ms.into_iter().chain(self.reuse.current_until_ms).min(),
            _ => None,
        };
        retired.into_iter().chain(in_use).min()
    }
}
