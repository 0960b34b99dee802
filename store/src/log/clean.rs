//! Rounds: renewing the images of buckets, moving the floor of recovery, and erasing what has ended.
//!
//! A round writes a new image of every bucket that changed, waits until all is durable, erases the bodies of messages
//! that had gone when it began, writes a root that lets recovery begin behind everything the images contain, and erases
//! what only the old root needed. The order is what makes it right; each step says why.

use std::collections::VecDeque;

use super::config::Mutation;
use super::engine::{RETRY_MS, SegmentLog, Use};
use super::erase::Job;
use super::file::FileName;
use super::image;
use super::op::Buffers;
use super::page::{BLOCK_BYTES, blocks_of};
use super::root::{Floor, Root};
use super::{AppendError, StoredBody};
use crate::id::Bucket;
use crate::store::Store;

/// Bytes of images that one step encodes: about 0.1 ms.
pub const STEP_BYTES: usize = 256 << 10;
/// Images wait while so much is not yet handed to the disk, so that they do not delay what clients wait for.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// Between the beginnings of two rounds.
const ROUND_MS_MIN: u64 = 1_000;
/// The same when there is no space left, and a round gives some.
const ROUND_MS_MIN_FULL: u64 = 100;

/// What the log knows of a bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketState {
    pub image: Option<Image>,
    /// The image contains the records below this number.
    pub lsn: u64,
    /// The commit of the first record that the image lacks. 0: it lacks none.
    pub dirty_commit: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub segment: u32,
    pub block: u32,
    pub bytes: u32,
    pub crc: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub segment: u32,
    pub block: u32,
    pub blocks: u32,
}

/// Where a commit began.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommitStart {
    pub number: u64,
    pub floor: Floor,
}

#[derive(Debug, Default)]
pub(super) enum Phase {
    #[default]
    Rest,
    Imaging {
        next: usize,
        /// What the next image was last seen to need.
        blocks: u32,
    },
    /// Until all commits to this one are durable.
    Settling {
        through: u64,
    },
    /// Until the disk says that they are.
    Proving {
        through: u64,
    },
    ErasingBodies,
    WritingRoot,
    ErasingRest,
}

/// Why a round begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is time: what ended is erased.
    #[default]
    Time,
    /// There would be much to replay, or segments to write over. What ended in segments that live on is erased when it is
    /// time: most of them will be dead by then, and those with holes are not written over.
    Growth,
}

/// What a round is about.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub cause: Cause,
    pub buckets: Vec<Bucket>,
    pub bodies: Vec<Extent>,
    /// There was no space for all images: no root is written.
    pub is_partial: bool,
    pub floor: Option<Floor>,
    /// Bodies in segments that will be deleted as a whole.
    pub with_segment: Vec<Extent>,
}

#[derive(Debug, Default)]
pub struct Cleaning {
    pub(super) first_bucket: usize,
    pub buckets: Vec<BucketState>,
    /// Buckets whose image lacks something.
    pub dirty: Vec<Bucket>,
    /// All commits from the floor on.
    pub(super) commits: VecDeque<CommitStart>,
    /// Index pages from the floor on: commit, segment, block.
    pub(super) pages: VecDeque<(u64, u32, u32)>,
    /// Bodies that ended since the round began.
    pub(super) dead: Vec<Extent>,
    /// Pages and images that no root names, which a round left to the next.
    pub(super) postponed: Vec<Extent>,
    /// Images that are not valid any more, but that the root on the disk still names.
    pub(super) superseded: Vec<Extent>,
    pub has_history: bool,
    pub(super) phase: Phase,
    pub(super) round: Round,
    pub(super) next_round_ms: u64,
    /// When the last round began.
    pub(super) round_ms: u64,
    pub(super) root_sequence: u32,
    /// Of the last root.
    pub(super) root_blocks: u32,
    pub(super) pending_root: Option<Root>,
    pub jobs: VecDeque<Job>,
    pub(super) job: Option<Job>,
    pub(super) jobs_retry_ms: u64,
    pub(super) erased_count: u64,
}

impl Cleaning {
    pub fn new(first_bucket: usize, buckets: Vec<BucketState>, dirty: Vec<Bucket>) -> Self {
        Self { first_bucket, buckets, dirty, ..Self::default() }
    }

    fn state(&mut self, bucket: Bucket) -> Option<&mut BucketState> {
        self.buckets.get_mut(bucket.index().checked_sub(self.first_bucket)?)
    }

    pub fn commit_opened(&mut self, number: u64, sequence: u32, block: u32, lsn: u64) {
        self.commits.push_back(CommitStart { number, floor: Floor { sequence, block, commit: number, lsn } });
    }

    pub fn page_written(&mut self, commit: u64, segment: u32, block: u32) {
        self.pages.push_back((commit, segment, block));
    }

    pub(super) fn bucket_of(&self, index: usize) -> Option<Bucket> {
        Bucket::from_index(self.first_bucket + index)
    }

    /// What a round would write, about: images of a block for most buckets, and a root.
    pub(super) fn round_blocks(&self) -> u64 {
        self.dirty.len() as u64 + u64::from(self.root_blocks)
    }

    pub(super) fn has_job_for(&self, file: FileName) -> bool {
        self.job.iter().chain(&self.jobs).any(|job| job.file == file)
    }

    pub(super) fn has_no_jobs(&self) -> bool {
        self.job.is_none() && self.jobs.is_empty()
    }

    /// Whether space is given back without anybody's doing: bodies that ended are to be erased, or a round is to come.
    pub(super) fn gives_space(&self) -> bool {
        self.has_history || !self.dead.is_empty() || !self.round.bodies.is_empty() || !self.has_no_jobs()
    }

    /// Whether no root is there although a round has ended.
    pub fn has_given_up(&self) -> bool {
        self.root_sequence == 0 && matches!(self.phase, Phase::Rest)
    }

    /// Whether a root of this log is on the disk, and nothing is under way.
    pub fn is_based(&self) -> bool {
        self.root_sequence > 0 && matches!(self.phase, Phase::Rest)
    }
}

impl<A: Buffers> SegmentLog<A> {
    pub(super) fn mark_dirty(&mut self, bucket: Bucket) {
        let commit = self.next_commit - 1;
        if let Some(state) = self.cleaning.state(bucket)
            && state.dirty_commit == 0
        {
            state.dirty_commit = commit;
            self.cleaning.dirty.push(bucket);
        }
    }

    pub(super) fn erase_extent(&mut self, segment: u32, block: u32, blocks: u32) {
        self.cleaning.erased_count += 1;
        if self.config.mutated(Mutation::ForgetErase) && self.cleaning.erased_count.is_multiple_of(4) {
            return;
        }
        if self.config.mutated(Mutation::EraseTooEarly)
            && blocks > 0
            && let Some(file) = self.segments.get(segment).map(super::segments::Segment::file)
        {
            self.cleaning.jobs.push_back(Job::punch(file, vec![(block, blocks)]));
        }
        // An empty body has no blocks, but its segment counts it.
        self.cleaning.dead.push(Extent { segment, block, blocks });
    }

    fn due_round(&self) -> Option<Cause> {
        let cleaning = &self.cleaning;
        if (cleaning.has_history || !cleaning.dead.is_empty()) && self.next_round_ms() <= self.now_ms {
            return Some(Cause::Time);
        }
        let has_grown = cleaning.pages.len() > self.config.replay_pages_max || self.is_reuse_round_due();
        (has_grown && cleaning.round_ms + ROUND_MS_MIN <= self.now_ms).then_some(Cause::Growth)
    }

    fn next_round_ms(&self) -> u64 {
        let cleaning = &self.cleaning;
        if self.is_out_of_space() && !cleaning.dead.is_empty() {
            return cleaning.next_round_ms.min(cleaning.round_ms + ROUND_MS_MIN_FULL);
        }
        cleaning.next_round_ms
    }

    pub(super) fn clean_wake_ms(&self) -> Option<u64> {
        let cleaning = &self.cleaning;
        if cleaning.job.is_some() {
            return None;
        }
        if !cleaning.jobs.is_empty() {
            return Some(cleaning.jobs_retry_ms);
        }
        match cleaning.phase {
            Phase::Rest if cleaning.has_history || !cleaning.dead.is_empty() => Some(self.next_round_ms()),
            Phase::Imaging { blocks, .. }
                if self.pending_bytes() < PENDING_BYTES_MAX && self.room(blocks, Use::Growth).is_ok() =>
            {
                Some(self.now_ms)
            }
            _ => None,
        }
    }

    /// Begins a round as soon as none is under way, whether or not anything ended: what was appended is in images then,
    /// and a start has little to replay.
    pub fn renew(&mut self) {
        self.cleaning.has_history = true;
        self.cleaning.next_round_ms = 0;
    }

    /// Begins a round now. Two rounds that erase begin half of `erase_within` apart, so that with a round's own duration
    /// everything is gone in time.
    pub(super) fn begin_round(&mut self, cause: Cause) {
        let cleaning = &mut self.cleaning;
        self.reuse.round_began(self.now_ms - cleaning.round_ms);
        cleaning.round_ms = self.now_ms;
        if cause == Cause::Time {
            cleaning.next_round_ms = self.now_ms + self.config.erase_within_ms / 2;
            cleaning.has_history = false;
        } else {
            // Of what it leaves.
            cleaning.has_history = true;
        }
        cleaning.round = Round {
            cause,
            buckets: std::mem::take(&mut cleaning.dirty),
            bodies: std::mem::take(&mut cleaning.dead),
            ..Round::default()
        };
        cleaning.phase = Phase::Imaging { next: 0, blocks: 1 };
    }

    /// Goes on as far as possible.
    pub(super) fn clean<B: StoredBody>(&mut self, store: &Store<B>) {
        self.next_job();
        match self.cleaning.phase {
            Phase::Rest if self.cleaning.has_no_jobs() => {
                if let Some(cause) = self.due_round() {
                    self.begin_round(cause);
                }
            }
            Phase::Imaging { next, .. } => self.write_images(store, next),
            _ => {}
        }
        if let Phase::Settling { through } = self.cleaning.phase
            && (self.synced.commit >= through || self.config.mutated(Mutation::RootBeforeImages))
        {
            // Bodies are erased when the disk itself says that the commits they were in were durable. Otherwise
            // recovery, which finds a body of the last commit missing, would have to take the commit for torn.
            self.cleaning.phase = Phase::Proving { through };
        }
        if let Phase::Proving { through } = self.cleaning.phase {
            let nothing_to_prove =
                self.cleaning.round.bodies.is_empty() || self.config.mutated(Mutation::SkipProof);
            if self.synced.proven >= through || nothing_to_prove {
                self.erase_bodies();
            } else if self.synced.wanted <= through {
                // Any commit that is written from now on is a proof.
                if self.open.is_none() && self.sealed.is_empty() && self.room(0, Use::Proof).is_ok() {
                    self.open_commit(1);
                }
                if self.open.is_some() || !self.sealed.is_empty() {
                    self.synced.wanted = self.next_commit - 1;
                }
            }
        }
        self.next_job();
        if matches!(self.cleaning.phase, Phase::ErasingBodies) && self.cleaning.has_no_jobs() {
            // The root comes after the bodies were erased: while the old root is valid, recovery reads the records
            // that say which bodies have ended, and erases them again. After that nobody knows.
            if self.cleaning.round.is_partial {
                self.abandon_root();
            } else {
                if self.config.mutated(Mutation::CleanBeforeRoot) {
                    let floor = self.floor();
                    self.erase_rest(floor);
                }
                self.write_root();
            }
        }
        if matches!(self.cleaning.phase, Phase::ErasingRest) && self.cleaning.has_no_jobs() {
            self.counts.rounds += 1;
            self.cleaning.phase = Phase::Rest;
        }
    }

    fn write_images<B: StoredBody>(&mut self, store: &Store<B>, mut next: usize) {
        let mut bytes = Vec::new();
        let mut step_bytes = 0;
        while let Some(&bucket) = self.cleaning.round.buckets.get(next) {
            if step_bytes >= STEP_BYTES || self.pending_bytes() >= PENDING_BYTES_MAX {
                self.cleaning.phase = Phase::Imaging { next, blocks: 1 };
                return;
            }
            bytes.clear();
            let queues = image::encode(store, &self.segments, bucket, &mut bytes);
            step_bytes += blocks_of(bytes.len()) as usize * BLOCK_BYTES;
            match self.write_image(bucket, &bytes, queues) {
                Ok(()) => next += 1,
                Err(AppendError::TooLarge) => {
                    self.counts.oversized_images += 1;
                    self.cleaning.dirty.push(bucket);
                    next += 1;
                }
                Err(AppendError::Busy) => {
                    let blocks = blocks_of(bytes.len());
                    self.cleaning.phase = Phase::Imaging { next, blocks };
                    return;
                }
                Err(_) => {
                    let rest = self.cleaning.round.buckets.split_off(next);
                    self.cleaning.dirty.extend(rest);
                    self.cleaning.round.is_partial = true;
                }
            }
        }
        let through = self.next_commit - 1;
        self.synced.wanted = self.synced.wanted.max(through);
        self.cleaning.phase = Phase::Settling { through };
    }

    fn write_image(&mut self, bucket: Bucket, bytes: &[u8], queues: usize) -> Result<(), AppendError> {
        let mut image = None;
        if queues > 0 {
            let blocks = blocks_of(bytes.len());
            if blocks + 2 > self.segment_blocks() {
                return Err(AppendError::TooLarge);
            }
            self.room(blocks, Use::Growth)?;
            let (segment, block) = self.push_image(bucket, bytes);
            self.segments.count_live(segment);
            self.counts.image_bytes += bytes.len() as u64;
            let crc = crc32c::crc32c(bytes);
            let bytes = u32::try_from(bytes.len()).map_err(|_| AppendError::TooLarge)?;
            image = Some(Image { segment, block, bytes, crc });
        }
        let lsn = self.next_lsn;
        let Some(state) = self.cleaning.state(bucket) else { return Ok(()) };
        state.lsn = lsn;
        state.dirty_commit = 0;
        if let Some(old) = std::mem::replace(&mut state.image, image) {
            self.segments.count_dead(old.segment);
            let blocks = blocks_of(old.bytes as usize);
            self.cleaning.superseded.push(Extent { segment: old.segment, block: old.block, blocks });
        }
        Ok(())
    }

    /// The first commit that has something which no image contains, or that is not yet durable.
    pub(super) fn floor(&self) -> Floor {
        let cleaning = &self.cleaning;
        let oldest = cleaning.dirty.iter().filter_map(|bucket| {
            let state = cleaning.buckets.get(bucket.index().checked_sub(cleaning.first_bucket)?)?;
            Some(state.dirty_commit).filter(|&commit| commit > 0)
        });
        let commit = oldest.min().unwrap_or(u64::MAX).min(self.synced.commit + 1);
        let known = cleaning
            .commits
            .front()
            .and_then(|front| cleaning.commits.get(usize::try_from(commit.checked_sub(front.number)?).ok()?));
        known.map_or(
            Floor {
                sequence: self.current_sequence,
                block: self.cursor,
                commit: self.next_commit,
                lsn: self.next_lsn,
            },
            |start| start.floor,
        )
    }

    /// Ends a round for which there was no space. It is tried again soon.
    pub(super) fn abandon_root(&mut self) {
        let cleaning = &mut self.cleaning;
        cleaning.has_history = true;
        cleaning.next_round_ms = self.now_ms + RETRY_MS;
        let rest = std::mem::take(&mut cleaning.round.with_segment);
        for body in &rest {
            // They are counted dead again in the next round.
            self.segments.count_live(body.segment);
        }
        self.cleaning.dead.extend(rest);
        self.cleaning.phase = Phase::Rest;
    }
}
