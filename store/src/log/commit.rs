//! Group commit: all that was appended while the last write and sync were under way goes into the next ones.

use super::Durability;
use super::config::Mutation;
use super::engine::{RETRY_MS, SegmentLog};
use super::op::{Buffers, DiskError, Op, Purpose};
use super::page::BLOCK_BYTES;
use super::segments::segment_file;
use super::stream::Pending;

/// The commit under way. There is at most one.
#[derive(Debug)]
pub enum Flight<Buf> {
    Idle,
    Writing(Writing<Buf>),
    /// Everything written so far is being brought to the disk.
    Syncing,
}

#[derive(Debug)]
pub struct Writing<Buf> {
    sequence: u32,
    commit: u64,
    end_lsn: u64,
    durable_through: u64,
    /// The writes are complete when they are on the disk: no sync follows.
    durable: bool,
    /// Writes that are not complete.
    left: usize,
    /// Writes to be done again when there is space: block, buffer, bytes.
    stuck: Vec<(u32, Buf, usize)>,
    retry_ms: u64,
}

/// How far the log has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Synced {
    /// Handed to the disk.
    pub issued_lsn: u64,
    /// The newest commit that is written, where its records end, what its pages say about durability, its segment.
    pub written_commit: u64,
    pub written_lsn: u64,
    written_proof: u64,
    written_sequence: u32,
    /// The newest commit that is on the disk for certain.
    pub commit: u64,
    pub lsn: u64,
    /// The newest commit whose durability is on the disk for certain: a later commit says so.
    pub proven: u64,
    pub last_sync_ms: u64,
    /// A sync is wanted up to this commit, whatever the mode.
    pub wanted: u64,
}

impl<A: Buffers> SegmentLog<A> {
    pub(super) fn answerable_lsn(&self) -> u64 {
        if self.config.mutated(Mutation::AnswerBeforeSync) {
            return self.synced.issued_lsn;
        }
        self.synced.lsn
    }

    pub(super) fn drive_commits(&mut self) {
        match &mut self.flight {
            Flight::Syncing => {}
            Flight::Writing(writing) => {
                if !writing.stuck.is_empty() && writing.retry_ms <= self.now_ms {
                    let (sequence, durable) = (writing.sequence, writing.durable);
                    let again = std::mem::take(&mut writing.stuck);
                    self.write(sequence, again, durable);
                }
            }
            Flight::Idle => {
                if self.is_sync_due() {
                    self.sync();
                } else {
                    self.start_commit();
                }
            }
        }
    }

    fn is_sync_due(&self) -> bool {
        let synced = &self.synced;
        if synced.written_commit == synced.commit {
            return false;
        }
        // One sync is of one file: the former segment's comes before the first write to the next.
        let moves_on = self
            .sealed
            .front()
            .or(self.open.as_ref())
            .is_some_and(|next| next.sequence != synced.written_sequence);
        let due = match self.config.durability {
            Durability::Always => true,
            Durability::Interval { ms } => synced.last_sync_ms + ms <= self.now_ms,
            Durability::Off => false,
        };
        // What is wanted may be still to be written: then it is synced with it.
        due || moves_on || (synced.wanted > synced.commit && synced.written_commit >= synced.wanted)
    }

    fn sync(&mut self) {
        self.counts.syncs += 1;
        self.synced.last_sync_ms = self.now_ms;
        self.flight = Flight::Syncing;
        if self.config.mutated(Mutation::SkipSync) {
            self.commit_synced(Ok(()));
            return;
        }
        let file = segment_file(self.log, self.synced.written_sequence);
        self.request(Purpose::CommitSync, Op::Sync { file });
    }

    fn start_commit(&mut self) {
        if self.sealed.is_empty() {
            self.seal();
        }
        let Some(mut commit) = self.sealed.pop_front() else { return };
        self.counts.commits += 1;
        self.reuse.committed(commit.blocks);
        let durable_through = self.synced.commit;
        commit.finish(self.log, self.salt, durable_through);
        for block in commit.page_blocks() {
            self.cleaning.page_written(commit.number, commit.segment, block);
        }
        self.synced.issued_lsn = commit.end_lsn;
        let Pending { number, sequence, end_lsn, .. } = commit;
        let writes: Vec<_> = commit.into_writes().collect();
        // One operation instead of two: the device gets the same, the kernel's worker half of the calls.
        let durable = self.config.durability == Durability::Always;
        self.flight = Flight::Writing(Writing {
            sequence,
            commit: number,
            end_lsn,
            durable_through,
            durable,
            left: writes.len(),
            stuck: Vec::new(),
            retry_ms: 0,
        });
        self.write(sequence, writes, durable);
    }

    fn write(&mut self, sequence: u32, writes: Vec<(u32, A::Buffer, usize)>, durable: bool) {
        let file = segment_file(self.log, sequence);
        let durable = durable && !self.config.mutated(Mutation::SkipSync);
        for (block, buffer, bytes) in writes {
            let offset = u64::from(block) * BLOCK_BYTES as u64;
            // A write has at most 256 KiB.
            let purpose = Purpose::CommitWrite { block, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) };
            self.request(purpose, Op::Write { file, offset, buffer, bytes, durable });
        }
    }

    pub(super) fn commit_written(
        &mut self,
        (block, bytes): (u32, u32),
        result: Result<(), DiskError>,
        buffer: Option<A::Buffer>,
    ) {
        let Flight::Writing(writing) = &mut self.flight else { return };
        match (result, buffer) {
            // The segment's space was reserved, but not every file system keeps its word. The commit is as it
            // was appended, and waits.
            (Err(DiskError::NoSpace), Some(buffer)) => {
                writing.stuck.push((block, buffer, bytes as usize));
                writing.retry_ms = self.now_ms + RETRY_MS;
                return;
            }
            (Err(_), _) if writing.durable && self.config.mutated(Mutation::IgnoreSyncError) => {}
            (Err(error), _) => self.fail("writing a commit", &error),
            (Ok(()), Some(buffer)) => self.pool.give_back(buffer),
            (Ok(()), None) => {}
        }
        let Flight::Writing(writing) = &mut self.flight else { return };
        writing.left -= 1;
        if writing.left > 0 || self.failed.is_some() {
            return;
        }
        self.synced.written_commit = writing.commit;
        self.synced.written_lsn = writing.end_lsn;
        self.synced.written_proof = writing.durable_through;
        self.synced.written_sequence = writing.sequence;
        let durable = writing.durable;
        self.flight = Flight::Idle;
        if durable {
            self.counts.syncs += 1;
            self.commit_synced(Ok(()));
        } else if self.is_sync_due() {
            // The sync follows at once, before the next call of `advance`.
            self.sync();
        }
    }

    pub(super) fn commit_synced(&mut self, result: Result<(), DiskError>) {
        if let Err(error) = result
            && !self.config.mutated(Mutation::IgnoreSyncError)
        {
            // The kernel may have dropped what it could not write: nothing says any more what is on the disk.
            self.fail("syncing a commit", &error);
            return;
        }
        self.flight = Flight::Idle;
        self.synced.commit = self.synced.written_commit;
        self.synced.lsn = self.synced.written_lsn;
        self.synced.proven = self.synced.written_proof;
    }

    pub(super) fn commit_wake_ms(&self) -> Option<u64> {
        match (&self.flight, self.config.durability) {
            (Flight::Writing(writing), _) if !writing.stuck.is_empty() => Some(writing.retry_ms),
            (Flight::Idle, Durability::Interval { ms })
                if self.synced.written_commit != self.synced.commit =>
            {
                Some(self.synced.last_sync_ms + ms)
            }
            _ => None,
        }
    }
}
