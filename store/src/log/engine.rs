//! The log over segments: its state, appending, and what came of operations.

use std::collections::VecDeque;

use super::batch::Batch;
use super::clean::Cleaning;
use super::commit::{Flight, Synced};
use super::config::{Counts, LogConfig, Mutation};
use super::op::{Buffers, Completion, DiskError, Op, Purpose, ReadRequest, Request, Token};
use super::page::{BLOCK_BYTES, LogKey, blocks_of};
use super::record::{BodyMeta, Record};
use super::reuse::Reuse;
use super::segments::Segments;
use super::spare::Spare;
use super::stream::{COMMIT_BLOCKS_MAX, Pending, Pool};
use super::{AppendError, BodyPlace, Durability, Entry, Log, Position, StoredBody};
use crate::id::{Bucket, PartitionMap};
use crate::store::Store;

/// A shard's log. It holds no file and does no I/O: [`advance`](Self::advance) it, carry out what
/// [`next_request`](Self::next_request) gives, and tell it by [`complete`](Self::complete).
#[derive(Debug)]
pub struct SegmentLog<A: Buffers> {
    pub(super) config: LogConfig,
    pub(super) pool: Pool<A>,
    pub(super) log: LogKey,
    pub(super) map: PartitionMap,
    pub(super) salt: u64,
    pub(super) inherits: bool,
    pub(super) now_ms: u64,
    pub(super) segments: Segments,
    /// The segment that commits go to, in the table; its sequence number; the block behind the last sealed commit.
    pub(super) current: u32,
    pub(super) current_sequence: u32,
    pub(super) cursor: u32,
    /// Of the current segment.
    pub(super) current_blocks: u32,
    pub(super) spare: Spare,
    pub(super) reuse: Reuse,
    pub(super) next_commit: u64,
    pub(super) next_lsn: u64,
    pub(super) open: Option<Pending<A::Buffer>>,
    pub(super) sealed: VecDeque<Pending<A::Buffer>>,
    pub(super) flight: Flight<A::Buffer>,
    pub(super) synced: Synced,
    pub(super) requests: VecDeque<Request<A::Buffer>>,
    pub(super) cleaning: Cleaning,
    pub(super) failed: Option<String>,
    pub(super) counts: Counts,
    batch: Batch,
}

/// What blocks are wanted for. The last part of the space is kept for what frees some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Growth,
    /// Records that end something.
    Ending,
    /// A commit that says that others are durable, so that what ended can be erased.
    Proof,
}

/// How long after a lack of space things are tried again.
pub(super) const RETRY_MS: u64 = 1_000;

impl<A: Buffers> SegmentLog<A> {
    /// Blocks that a batch may take, so that it fits into one commit. A batch is as large as what one 16 KB block of a
    /// connection can carry, and one body is at most 4 blocks: this leaves room.
    pub const BATCH_BLOCKS_MAX: u32 = 256;

    /// A log that goes on from `segments` and `cleaning`. Its first segment is `sequence` 1; how large it was made is
    /// to be put into `current_blocks`.
    pub(super) fn new(
        config: LogConfig,
        buffers: A,
        log: LogKey,
        (map, salt, inherits): (PartitionMap, u64, bool),
        mut segments: Segments,
        cleaning: Cleaning,
    ) -> Self {
        let current = segments.enter(log, 1);
        Self {
            config,
            pool: Pool::new(buffers),
            log,
            map,
            salt,
            inherits,
            now_ms: 0,
            segments,
            current,
            current_sequence: 1,
            cursor: 1,
            current_blocks: 0,
            spare: Spare::Wanted,
            reuse: Reuse::default(),
            next_commit: 1,
            next_lsn: 0,
            open: None,
            sealed: VecDeque::new(),
            flight: Flight::Idle,
            synced: Synced::default(),
            requests: VecDeque::new(),
            cleaning,
            failed: None,
            counts: Counts::default(),
            batch: Batch::default(),
        }
    }

    /// The same log with other buffers. For a log that was just started, which has nothing under way.
    pub fn with_buffers<A2: Buffers>(self, buffers: A2) -> SegmentLog<A2> {
        debug_assert!(self.open.is_none() && self.sealed.is_empty() && self.requests.is_empty());
        debug_assert!(matches!(self.flight, Flight::Idle));
        SegmentLog {
            config: self.config,
            pool: Pool::new(buffers),
            log: self.log,
            map: self.map,
            salt: self.salt,
            inherits: self.inherits,
            now_ms: self.now_ms,
            segments: self.segments,
            current: self.current,
            current_sequence: self.current_sequence,
            cursor: self.cursor,
            current_blocks: self.current_blocks,
            spare: self.spare,
            reuse: self.reuse,
            next_commit: self.next_commit,
            next_lsn: self.next_lsn,
            open: None,
            sealed: VecDeque::new(),
            flight: Flight::Idle,
            synced: self.synced,
            requests: VecDeque::new(),
            cleaning: self.cleaning,
            failed: self.failed,
            counts: self.counts,
            batch: self.batch,
        }
    }

    /// Whether the first root is on the disk and nothing is under way.
    pub(super) fn is_based(&self) -> bool {
        self.cleaning.is_based()
            && matches!(self.flight, Flight::Idle)
            && !matches!(self.spare, Spare::Wanted | Spare::Making { .. } | Spare::Dropping)
            && self.open.is_none()
            && self.sealed.is_empty()
            && self.synced.written_commit == self.synced.commit
    }

    /// Whether there was no space to write the first root.
    pub(super) fn has_given_up(&self) -> bool {
        self.cleaning.has_given_up()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Segments that hold something of this shard.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// What is on the disk for certain, whatever may be answered.
    pub fn synced_up_to(&self) -> Position {
        Position(self.synced.lsn)
    }

    /// Why the log has stopped for good, if it has.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Whether the next record that adds something would be refused for lack of space.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self.spare, Spare::NoSpace { .. })
    }

    /// The next operation to carry out.
    pub fn next_request(&mut self) -> Option<Request<A::Buffer>> {
        if self.failed.is_some() {
            return None;
        }
        self.requests.pop_front()
    }

    pub(super) fn request(&mut self, purpose: Purpose, op: Op<A::Buffer>) {
        if let Op::Write { bytes, .. } = &op {
            self.counts.written_bytes += *bytes as u64;
        }
        self.requests.push_back(Request { token: Token(purpose), op });
    }

    pub(super) fn fail(&mut self, what: &str, error: &DiskError) {
        self.failed.get_or_insert_with(|| format!("{what}: {error}"));
    }

    /// Goes on with all that is due: the next commit, the next segment, a step of renewing images and erasing. To be
    /// called after appending, after completions, and every few milliseconds: `next_wake_ms` says when at the latest.
    /// One call encodes at most 256 KiB of images, and one image more.
    pub fn advance<B: StoredBody>(&mut self, now_ms: u64, store: &Store<B>) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.failed.is_some() {
            return;
        }
        self.expire_reused();
        self.make_spare();
        self.clean(store);
        self.drive_commits();
    }

    /// When [`advance`](Self::advance) has something to do although nothing was appended or completed.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.failed.is_some() {
            return None;
        }
        let spare = match self.spare {
            Spare::NoSpace { retry_ms } => Some(retry_ms),
            _ => None,
        };
        [spare, self.reuse_wake_ms(), self.commit_wake_ms(), self.clean_wake_ms()].into_iter().flatten().min()
    }

    /// What an operation came to.
    pub fn complete(&mut self, completion: Completion<A::Buffer>) {
        let Completion { token: Token(purpose), result, buffer } = completion;
        if result == Err(DiskError::NoSpace) {
            self.release_retired();
        }
        match purpose {
            Purpose::CommitWrite { block, bytes } => self.commit_written((block, bytes), result, buffer),
            Purpose::CommitSync => self.commit_synced(result),
            Purpose::Spare(step) => self.spare_made(step, result),
            Purpose::Root(step) => self.root_made(step, result),
            Purpose::Erase => self.erased(result),
        }
    }

    /// Brings all that was appended to the disk, whatever the mode: see [`is_flushed`](Self::is_flushed).
    pub fn flush(&mut self) {
        self.synced.wanted = self.synced.wanted.max(self.next_commit - 1);
    }

    /// Whether all that was appended is on the disk.
    pub fn is_flushed(&self) -> bool {
        self.synced.lsn == self.next_lsn
    }

    /// Whether a commit is being written or synced.
    pub fn is_committing(&self) -> bool {
        !matches!(self.flight, Flight::Idle)
    }

    /// Whether answers wait for the commits.
    pub fn is_awaited(&self) -> bool {
        self.config.durability == Durability::Always
    }

    /// Whether something was appended that is not yet handed to the disk.
    pub fn has_pending(&self) -> bool {
        self.open.is_some() || !self.sealed.is_empty()
    }

    /// Of a segment for which there is enough space.
    pub(super) fn segment_blocks(&self) -> u32 {
        u32::try_from(self.config.segment_bytes / BLOCK_BYTES as u64).unwrap_or(u32::MAX)
    }

    /// The block behind everything that was appended.
    pub(super) fn end(&self) -> u32 {
        self.open.as_ref().map_or(self.cursor, Pending::end)
    }

    pub(super) fn pending_bytes(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |commit| commit.blocks);
        let sealed: u32 = self.sealed.iter().map(|commit| commit.blocks).sum();
        (open + sealed) as usize * BLOCK_BYTES
    }

    /// Whether so many blocks can be appended.
    pub(super) fn room(&self, blocks: u32, to_what_end: Use) -> Result<(), AppendError> {
        if let Some(failure) = &self.failed {
            return Err(AppendError::Failed(failure.clone()));
        }
        let reserve = |of_blocks: u32| match to_what_end {
            Use::Growth => of_blocks / 8,
            Use::Ending => of_blocks / 32 + 1,
            Use::Proof => 0,
        };
        // A new commit needs a page of its own.
        let needed = 1 + blocks;
        let in_current = self.end() + needed + reserve(self.current_blocks) <= self.current_blocks;
        match self.spare {
            _ if in_current => Ok(()),
            Spare::Ready { blocks, .. } if blocks == self.segment_blocks() => Ok(()),
            // A smaller one means that space is short.
            Spare::Ready { blocks, .. } if 1 + needed + reserve(blocks) <= blocks => Ok(()),
            Spare::Wanted | Spare::Making { .. } | Spare::Dropping => Err(AppendError::Busy),
            // What ends something waits for the space that is being given back, and for the next try to take it.
            Spare::NoSpace { retry_ms } if to_what_end != Use::Growth && retry_ms <= self.now_ms => {
                Err(AppendError::Busy)
            }
            Spare::Ready { .. } | Spare::NoSpace { .. }
                if to_what_end != Use::Growth && self.cleaning.gives_space() =>
            {
                Err(AppendError::Busy)
            }
            Spare::Ready { .. } | Spare::NoSpace { .. } => Err(AppendError::NoSpace),
        }
    }

    /// Makes the whole batch lie in one commit, so that a crash leaves all of it or nothing. There must be room.
    fn make_place(&mut self, batch: &Batch) {
        if let Some(open) = &self.open {
            let needed = batch.blocks_behind(open.page_bytes());
            if open.blocks + needed > COMMIT_BLOCKS_MAX || open.end() + needed > self.current_blocks {
                self.seal();
            }
        }
        if self.open.is_none() {
            self.open_commit(batch.blocks());
        }
    }

    /// Adds a record and the blocks that belong to it to the open commit. Gives segment and block where these begin.
    fn push(&mut self, record: &[u8], extent: &[u8]) -> (u32, u32) {
        self.next_lsn += 1;
        match &mut self.open {
            Some(open) => (open.segment, open.push(record, extent, &mut self.pool)),
            None => (self.current, 0),
        }
    }

    /// Appends an image. There must be room.
    pub(super) fn push_image(&mut self, bucket: Bucket, image: &[u8]) -> (u32, u32) {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        batch.add(&Record::Image { blocks: blocks_of(image.len()) }, bucket);
        self.make_place(&batch);
        let mut at = (self.current, 0);
        for (_, record) in batch.iter() {
            at = self.push(record, image);
        }
        self.batch = batch;
        at
    }

    /// Whether a batch can be appended now.
    fn admit(&mut self, batch: &Batch) -> Result<(), AppendError> {
        // `room` counts the page.
        let blocks = batch.blocks() - 1;
        if blocks >= Self::BATCH_BLOCKS_MAX.min(self.segment_blocks() / 2) {
            return Err(AppendError::TooLarge);
        }
        let room = if self.pending_bytes() > self.config.pending_bytes_max {
            Err(AppendError::Busy)
        } else {
            self.room(blocks, if batch.grows { Use::Growth } else { Use::Ending })
        };
        match room {
            Err(AppendError::Busy) => self.counts.refused_busy += 1,
            Err(AppendError::NoSpace) => self.counts.refused_no_space += 1,
            _ => {}
        }
        room
    }

    fn push_batch(&mut self, batch: &Batch, entries: &[Entry<'_>], places: &mut Vec<BodyPlace>) {
        self.make_place(batch);
        for ((record, bytes), entry) in batch.iter().zip(entries) {
            let extent: &[u8] = entry.record.body().copied().unwrap_or_default();
            let (segment, block) = self.push(bytes, extent);
            self.counts.appended_bytes += (bytes.len() + extent.len()) as u64;
            if let Some(BodyMeta { bytes, crc }) = record.body {
                self.segments.count_live(segment);
                places.push(BodyPlace { segment, block, crc, bytes });
            }
            self.cleaning.has_history |= record.ends_something;
            self.mark_dirty(record.bucket);
            if self.config.mutated(Mutation::SplitBatches) && self.end() + 16 < self.current_blocks {
                self.seal();
                self.open_commit(8);
            }
        }
    }

    /// Ends the open commit. What comes next goes into another.
    pub(super) fn seal(&mut self) {
        if let Some(commit) = self.open.take() {
            self.cursor = commit.end();
            self.sealed.push_back(commit);
        }
    }

    pub(super) fn open_commit(&mut self, blocks: u32) {
        if self.cursor + blocks > self.current_blocks {
            self.next_segment();
        }
        let number = self.next_commit;
        self.next_commit += 1;
        if let Some(segment) = self.segments.get_mut(self.current) {
            segment.last_commit = number;
        }
        self.cleaning.commit_opened(number, self.current_sequence, self.cursor, self.next_lsn);
        let place = (self.current, self.current_sequence, self.cursor);
        self.open = Some(Pending::new(number, place, self.next_lsn, &mut self.pool));
    }

    fn next_segment(&mut self) {
        debug_assert!(matches!(self.spare, Spare::Ready { .. }), "room was not asked for");
        self.punch_rest();
        if let Spare::Ready { blocks, until_ms } = self.spare {
            self.current_blocks = blocks;
            self.reuse.current_until_ms = until_ms;
        }
        if let Some(segment) = self.segments.get_mut(self.current) {
            segment.sealed = true;
        }
        self.current_sequence += 1;
        self.current = self.segments.enter(self.log, self.current_sequence);
        if let Some(segment) = self.segments.get_mut(self.current) {
            segment.blocks = self.current_blocks;
        }
        self.cursor = 1;
        self.spare = Spare::Wanted;
    }
}

impl<A: Buffers> Log for SegmentLog<A> {
    fn append(
        &mut self,
        entries: &[Entry<'_>],
        places: &mut Vec<BodyPlace>,
    ) -> Result<Position, AppendError> {
        let mut batch = std::mem::take(&mut self.batch);
        let appended = batch.encode(entries).and_then(|()| self.admit(&batch));
        if appended.is_ok() && !entries.is_empty() {
            self.push_batch(&batch, entries, places);
        }
        self.batch = batch;
        appended.map(|()| Position(self.next_lsn))
    }

    fn durable_up_to(&self) -> Position {
        match self.config.durability {
            Durability::Always => Position(self.answerable_lsn()),
            Durability::Interval { .. } | Durability::Off => Position(self.next_lsn),
        }
    }

    fn keeps_bodies(&self) -> bool {
        true
    }

    fn readable_up_to(&self) -> Position {
        Position(self.synced.written_lsn)
    }

    /// Blocks of a message that has left its queue in the meantime may read as zeros, or their file may be gone: look
    /// whether the message is still there when the read is done.
    fn read(&self, place: BodyPlace) -> Option<ReadRequest> {
        Some(ReadRequest {
            file: self.segments.get(place.segment)?.file(),
            offset: u64::from(place.block) * BLOCK_BYTES as u64,
            bytes: blocks_of(place.len()) as usize * BLOCK_BYTES,
            body_bytes: place.len(),
        })
    }

    fn body<'a>(&self, place: BodyPlace, blocks: &'a [u8]) -> Option<&'a [u8]> {
        if self.config.mutated(Mutation::IgnoreCrcAtDelivery) {
            return blocks.get(..place.len());
        }
        place.body_in(blocks)
    }

    fn erase(&mut self, place: BodyPlace) {
        self.erase_extent(place.segment, place.block, blocks_of(place.len()));
    }
}
