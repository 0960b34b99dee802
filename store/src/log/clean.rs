//! Rounds: renewing the images of buckets, moving the floor of recovery, and erasing what has ended.
//!
//! A round writes a new image of every bucket that changed, waits until all is durable, erases the bodies of messages
//! that had gone when it began, writes a root that lets recovery begin behind everything the images contain, and erases
//! what only the old root needed. The order is what makes it right; each step says why.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::engine::{Mutation, RETRY_MS, SegmentLog, Use};
use super::file::{FileKind, FileName};
use super::image;
use super::op::{Buffers, DiskError, FileStep, Op, Purpose};
use super::page::{BLOCK_BYTES, blocks_of};
use super::record::Record;
use super::root::{Floor, Root, RootEntry};
use super::{AppendError, StoredBody};
use crate::id::Bucket;
use crate::store::Store;

/// Bytes of images that one step encodes: about 0.1 ms.
pub const STEP_BYTES: usize = 256 << 10;
/// Images wait while so much is not yet handed to the disk, so that they do not delay what clients wait for.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// Between the beginnings of two rounds.
const ROUND_MS_MIN: u64 = 1_000;
/// Ranges of one punch: bounds the time that one operation takes.
const PUNCH_RANGES_MAX: usize = 64;

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
struct Extent {
    segment: u32,
    block: u32,
    blocks: u32,
}

/// Where a commit began.
#[derive(Clone, Copy, Debug)]
struct CommitStart {
    number: u64,
    floor: Floor,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Rest,
    Imaging {
        next: usize,
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

/// What a round is about.
#[derive(Debug, Default)]
struct Round {
    buckets: Vec<Bucket>,
    bodies: Vec<Extent>,
    /// There was no space for all images: no root is written.
    is_partial: bool,
    floor: Option<Floor>,
    /// Bodies in segments that will be deleted as a whole.
    with_segment: Vec<Extent>,
}

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
    fn delete(file: FileName) -> Self {
        Self { file, ranges: Vec::new(), hold: None, release: None }
    }

    fn punch(file: FileName, ranges: Vec<(u32, u32)>) -> Self {
        Self { file, ranges, hold: None, release: None }
    }
}

#[derive(Debug, Default)]
pub struct Cleaning {
    first_bucket: usize,
    pub buckets: Vec<BucketState>,
    /// Buckets whose image lacks something.
    pub dirty: Vec<Bucket>,
    /// All commits from the floor on.
    commits: VecDeque<CommitStart>,
    /// Index pages from the floor on: commit, segment, block.
    pages: VecDeque<(u64, u32, u32)>,
    /// Bodies that ended since the round began.
    dead: Vec<Extent>,
    /// Images that are not valid any more, but that the root on the disk still names.
    superseded: Vec<Extent>,
    pub has_history: bool,
    phase: Phase,
    round: Round,
    next_round_ms: u64,
    /// When the last round began.
    round_ms: u64,
    root_sequence: u32,
    pending_root: Option<Root>,
    pub jobs: VecDeque<Job>,
    job: Option<Job>,
    jobs_retry_ms: u64,
    erased_count: u64,
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

    fn bucket_of(&self, index: usize) -> Option<Bucket> {
        Bucket::from_index(self.first_bucket + index)
    }

    fn has_no_jobs(&self) -> bool {
        self.job.is_none() && self.jobs.is_empty()
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
        if self.config.mutated(Mutation::EraseTooEarly) && blocks > 0 {
            if let Some(file) = self.segments.get(segment).map(super::segments::Segment::file) {
                self.cleaning.jobs.push_back(Job::punch(file, vec![(block, blocks)]));
            }
        }
        // An empty body has no blocks, but its segment counts it.
        self.cleaning.dead.push(Extent { segment, block, blocks });
    }

    fn is_round_due(&self) -> bool {
        let cleaning = &self.cleaning;
        if cleaning.pages.len() > self.config.replay_pages_max
            && cleaning.round_ms + ROUND_MS_MIN <= self.now_ms
        {
            return true;
        }
        (cleaning.has_history || !cleaning.dead.is_empty()) && cleaning.next_round_ms <= self.now_ms
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
            Phase::Rest if cleaning.has_history || !cleaning.dead.is_empty() => Some(cleaning.next_round_ms),
            Phase::Imaging { .. }
                if self.pending_bytes() < PENDING_BYTES_MAX && self.room(1, Use::Growth).is_ok() =>
            {
                Some(self.now_ms)
            }
            _ => None,
        }
    }

    /// Begins a round now. Two rounds begin half of `erase_within` apart, so that with a round's own duration
    /// everything is gone in time.
    pub(super) fn begin_round(&mut self) {
        let cleaning = &mut self.cleaning;
        cleaning.next_round_ms = self.now_ms + self.config.erase_within_ms / 2;
        cleaning.round_ms = self.now_ms;
        cleaning.has_history = false;
        cleaning.round = Round {
            buckets: std::mem::take(&mut cleaning.dirty),
            bodies: std::mem::take(&mut cleaning.dead),
            ..Round::default()
        };
        cleaning.phase = Phase::Imaging { next: 0 };
    }

    /// Goes on as far as possible.
    pub(super) fn clean<B: StoredBody>(&mut self, store: &Store<B>) {
        self.next_job();
        match self.cleaning.phase {
            Phase::Rest if self.is_round_due() && self.cleaning.has_no_jobs() => self.begin_round(),
            Phase::Imaging { next } => self.write_images(store, next),
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
                self.cleaning.phase = Phase::Imaging { next };
                return;
            }
            bytes.clear();
            let queues = image::encode(store, &self.segments, bucket, &mut bytes);
            step_bytes += bytes.len();
            match self.write_image(bucket, &bytes, queues) {
                Ok(()) => next += 1,
                Err(AppendError::TooLarge) => {
                    self.counts.oversized_images += 1;
                    self.cleaning.dirty.push(bucket);
                    next += 1;
                }
                Err(AppendError::Busy) => {
                    self.cleaning.phase = Phase::Imaging { next };
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
            let (segment, block) = self.push(&Record::Image { blocks }, bucket, bytes);
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
    fn floor(&self) -> Floor {
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

    fn erase_bodies(&mut self) {
        let floor = self.floor();
        let bodies = std::mem::take(&mut self.cleaning.round.bodies);
        for body in &bodies {
            self.segments.count_dead(body.segment);
        }
        let mut ranges = BTreeMap::new();
        for body in bodies {
            let Some(segment) = self.segments.get(body.segment) else { continue };
            // What the root cannot be written for is erased at once: that makes space for it.
            if segment.is_dead(floor.commit) && segment.users.is_none() && !self.cleaning.round.is_partial {
                self.cleaning.round.with_segment.push(body);
            } else {
                add_range(&mut ranges, body);
            }
        }
        self.add_punches(ranges);
        self.cleaning.phase = Phase::ErasingBodies;
        self.next_job();
    }

    fn root_file(&self, sequence: u32) -> FileName {
        let kind = FileKind::Root;
        FileName { kind, generation: self.log.generation, shard: self.log.shard, sequence }
    }

    fn root(&self, floor: Floor) -> Root {
        let mut entries = Vec::new();
        for (index, state) in self.cleaning.buckets.iter().enumerate() {
            let Some(bucket) = self.cleaning.bucket_of(index) else { continue };
            let (place, bytes, crc) = match state.image {
                Some(image) => (self.segments.disk_place(image.segment, image.block), image.bytes, image.crc),
                // That a bucket became empty matters while older records of it may be read.
                None if state.lsn > floor.lsn => (self.segments.disk_place(self.current, 0), 0, 0),
                None => continue,
            };
            entries.push(RootEntry { bucket, place, bytes, crc, lsn: state.lsn });
        }
        Root {
            log: self.log,
            // The map has at most 256.
            shards: u16::try_from(self.map.shards()).unwrap_or(u16::MAX),
            sequence: self.cleaning.root_sequence + 1,
            salt: self.salt,
            floor,
            durable_commit: self.synced.commit,
            entries,
        }
    }

    fn write_root(&mut self) {
        let mut floor = self.floor();
        if self.config.mutated(Mutation::FloorTooHigh)
            && let Some(later) = self.cleaning.commits.iter().find(|start| start.number > floor.commit)
        {
            floor = later.floor;
        }
        self.cleaning.round.floor = Some(floor);
        self.cleaning.phase = Phase::WritingRoot;
        let root = self.root(floor);
        let bytes = u64::from(blocks_of(Root::encoded_bytes(root.entries.len()))) * BLOCK_BYTES as u64;
        let file = self.root_file(root.sequence);
        self.cleaning.pending_root = Some(root);
        self.request(Purpose::Root(FileStep::Create), Op::Create { file, bytes });
    }

    pub(super) fn root_made(&mut self, step: FileStep, result: Result<(), DiskError>) {
        let sequence = self.cleaning.root_sequence + 1;
        let file = self.root_file(sequence);
        match (step, result) {
            (FileStep::Create, Ok(())) => {
                let Some(root) = self.cleaning.pending_root.take() else { return };
                let bytes = blocks_of(Root::encoded_bytes(root.entries.len())) as usize * BLOCK_BYTES;
                let mut buffer = self.pool.lend(bytes);
                if let Some(place) = buffer.as_mut().get_mut(..bytes) {
                    place.fill(0);
                    root.encode(place);
                }
                self.request(Purpose::Root(FileStep::Write), Op::Write { file, offset: 0, buffer, bytes });
            }
            (FileStep::Write, Ok(())) => {
                self.request(Purpose::Root(FileStep::Sync), Op::Sync { file });
            }
            // The former root goes before anything that only it names.
            (FileStep::Sync, Ok(())) if sequence > 1 => {
                let file = self.root_file(sequence - 1);
                self.request(Purpose::Root(FileStep::Delete), Op::Delete { file });
            }
            (FileStep::Sync, Ok(())) => self.root_written(),
            (FileStep::Delete, Ok(())) if self.cleaning.round.floor.is_none() => self.abandon_root(),
            (FileStep::Delete, Ok(())) => self.root_written(),
            (FileStep::Create | FileStep::Write, Err(DiskError::NoSpace)) => {
                self.cleaning.round.floor = None;
                self.request(Purpose::Root(FileStep::Delete), Op::Delete { file });
            }
            (_, Err(error)) => self.fail("writing a root", &error),
        }
    }

    /// Ends a round for which there was no space. It is tried again soon.
    fn abandon_root(&mut self) {
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

    fn root_written(&mut self) {
        self.cleaning.root_sequence += 1;
        if let Some(floor) = self.cleaning.round.floor.take() {
            self.erase_rest(floor);
        }
        self.cleaning.phase = Phase::ErasingRest;
        self.next_job();
    }

    /// Erases what no root names any more: pages below the floor, former images, segments in which nothing lives.
    fn erase_rest(&mut self, floor: Floor) {
        let mut ranges = BTreeMap::new();
        let keep_pages = self.config.mutated(Mutation::KeepOldPages);
        let cleaning = &mut self.cleaning;
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
        self.add_punches(ranges);
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
            if let Some(file) = self.segments.get(number).map(super::segments::Segment::file) {
                self.push_punch(file, ranges);
            }
        }
    }

    fn push_punch(&mut self, file: FileName, mut ranges: Vec<(u32, u32)>) {
        coalesce(&mut ranges);
        for ranges in ranges.chunks(PUNCH_RANGES_MAX) {
            self.cleaning.jobs.push_back(Job::punch(file, ranges.to_vec()));
        }
    }

    /// Hands the next job to the disk if none is under way.
    fn next_job(&mut self) {
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
