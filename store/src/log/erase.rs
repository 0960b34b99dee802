//! Erasing: bodies that ended, pages and images that no root names, segments in which nothing lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::clean::{Cause, Extent, Phase};
use super::config::Mutation;
use super::engine::{RETRY_MS, SegmentLog};
use super::file::FileName;
use super::op::{Buffers, DiskError, Op, Purpose};
use super::page::BLOCK_BYTES;
use super::root::Floor;
use super::spare::Spare;

/// Ranges of one punch: bounds the time that one operation takes.
pub const PUNCH_RANGES_MAX: usize = 64;

#[derive(Debug)]
pub struct Job {
    pub file: FileName,
    /// Blocks and counts of what to punch. Empty: delete the file.
    pub ranges: Vec<(u32, u32)>,
    /// A segment that waits for this.
    pub hold: Option<u32>,
    /// This shard is done with the file then, and deletes it if it was the last to use it.
    pub release: Option<Arc<AtomicUsize>>,
}

impl Job {
    pub fn delete(file: FileName) -> Self {
        Self { file, ranges: Vec::new(), hold: None, release: None }
    }

    pub fn punch(file: FileName, ranges: Vec<(u32, u32)>) -> Self {
        Self { file, ranges, hold: None, release: None }
    }
}

impl<A: Buffers> SegmentLog<A> {
    pub(super) fn erase_bodies(&mut self) {
        let floor = self.floor();
        let bodies = std::mem::take(&mut self.cleaning.round.bodies);
        for body in &bodies {
            self.segments.count_dead(body.segment);
        }
        let mut ranges = BTreeMap::new();
        let mut postponed = Vec::new();
        for body in bodies {
            let Some(segment) = self.segments.get(body.segment) else { continue };
            let round = &mut self.cleaning.round;
            // What the root cannot be written for is erased at once: that makes space for it.
            if segment.is_dead(floor.commit) && segment.users.is_none() && !round.is_partial {
                round.with_segment.push(body);
            } else if round.cause == Cause::Growth && !round.is_partial {
                postponed.push(body);
            } else {
                add_range(&mut ranges, body);
            }
        }
        for body in &postponed {
            // They are counted dead again in the next round, and their segment lives until then.
            self.segments.count_live(body.segment);
        }
        self.cleaning.dead.extend(postponed);
        self.add_punches(ranges);
        self.cleaning.phase = Phase::ErasingBodies;
        self.next_job();
    }

    /// Erases what no root names any more: pages below the floor, former images, segments in which nothing lives.
    pub(super) fn erase_rest(&mut self, floor: Floor) {
        let mut ranges = BTreeMap::new();
        let keep_pages = self.config.mutated(Mutation::KeepOldPages);
        let cleaning = &mut self.cleaning;
        for extent in cleaning.postponed.drain(..) {
            add_range(&mut ranges, extent);
        }
        while cleaning.commits.front().is_some_and(|start| start.number < floor.commit) {
            cleaning.commits.pop_front();
        }
        while let Some(&(commit, segment, block)) = cleaning.pages.front()
            && commit < floor.commit
        {
            cleaning.pages.pop_front();
            if !keep_pages {
                add_range(&mut ranges, Extent { segment, block, blocks: 1 });
            }
        }
        for image in cleaning.superseded.drain(..) {
            add_range(&mut ranges, image);
        }
        let dead: Vec<u32> = self
            .segments
            .iter()
            .filter(|(_, segment)| segment.is_dead(floor.commit))
            .map(|(number, _)| number)
            .collect();
        for number in dead {
            let Some(segment) = self.segments.remove(number) else { continue };
            let (file, own) = (segment.file(), ranges.remove(&number));
            if self.retire(&segment) {
                continue;
            }
            match (segment.users, own) {
                (None, _) => self.delete_segment(file),
                // Other shards may need the rest of it: this shard's part goes first, then its claim.
                (Some(users), Some(own)) => {
                    self.push_punch(file, own);
                    if let Some(last) = self.cleaning.jobs.back_mut() {
                        last.release = Some(users);
                    }
                }
                (Some(users), None) => self.release(file, &users),
            }
        }
        if self.cleaning.round.cause == Cause::Time {
            self.add_punches(ranges);
        } else {
            self.cleaning.postponed.extend(extents(ranges));
        }
    }

    fn delete_segment(&mut self, file: FileName) {
        self.counts.segments_deleted += 1;
        self.cleaning.jobs.push_back(Job::delete(file));
    }

    fn release(&mut self, file: FileName, users: &AtomicUsize) {
        if users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.delete_segment(file);
        }
    }

    fn add_punches(&mut self, ranges: BTreeMap<u32, Vec<(u32, u32)>>) {
        for (number, ranges) in ranges {
            let Some(segment) = self.segments.get_mut(number) else { continue };
            segment.punched_blocks += ranges.iter().map(|(_, blocks)| blocks).sum::<u32>();
            let file = segment.file();
            self.push_punch(file, ranges);
        }
    }

    pub(super) fn push_punch(&mut self, file: FileName, mut ranges: Vec<(u32, u32)>) {
        coalesce(&mut ranges);
        for ranges in ranges.chunks(PUNCH_RANGES_MAX) {
            self.cleaning.jobs.push_back(Job::punch(file, ranges.to_vec()));
        }
    }

    /// Hands the next job to the disk if none is under way.
    pub(super) fn next_job(&mut self) {
        if self.cleaning.job.is_some() || self.cleaning.jobs_retry_ms > self.now_ms {
            return;
        }
        let Some(job) = self.cleaning.jobs.pop_front() else { return };
        let block_bytes = BLOCK_BYTES as u64;
        let op = if job.ranges.is_empty() {
            Op::Delete { file: job.file }
        } else {
            let ranges: Vec<(u64, u64)> = job
                .ranges
                .iter()
                .map(|&(block, blocks)| (u64::from(block) * block_bytes, u64::from(blocks) * block_bytes))
                .collect();
            self.counts.punched_bytes += ranges.iter().map(|(_, bytes)| bytes).sum::<u64>();
            Op::Punch { file: job.file, ranges }
        };
        self.cleaning.job = Some(job);
        self.request(Purpose::Erase, op);
    }

    pub(super) fn erased(&mut self, result: Result<(), DiskError>) {
        let Some(job) = self.cleaning.job.take() else { return };
        match result {
            Ok(()) => {
                if let Some(held) = job.hold {
                    self.segments.count_dead(held);
                }
                if let Some(users) = job.release {
                    self.release(job.file, &users);
                }
                if let Spare::NoSpace { retry_ms } = &mut self.spare
                    && self.cleaning.has_no_jobs()
                {
                    *retry_ms = self.now_ms;
                }
            }
            // Punching may need space for the file system's own notes.
            Err(DiskError::NoSpace) => {
                self.cleaning.jobs.push_front(job);
                self.cleaning.jobs_retry_ms = self.now_ms + RETRY_MS;
            }
            Err(error) => self.fail("erasing", &error),
        }
    }
}

fn add_range(ranges: &mut BTreeMap<u32, Vec<(u32, u32)>>, extent: Extent) {
    if extent.blocks > 0 {
        ranges.entry(extent.segment).or_default().push((extent.block, extent.blocks));
    }
}

fn extents(ranges: BTreeMap<u32, Vec<(u32, u32)>>) -> impl Iterator<Item = Extent> {
    ranges.into_iter().flat_map(|(segment, mut ranges)| {
        coalesce(&mut ranges);
        ranges.into_iter().map(move |(block, blocks)| Extent { segment, block, blocks })
    })
}

/// Sorts ranges and joins neighbours.
pub fn coalesce(ranges: &mut Vec<(u32, u32)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let joined = last.0 + last.1 >= next.0;
        if joined {
            last.1 = last.1.max(next.0 + next.1 - last.0);
        }
        joined
    });
}
