//! The durable log of a shard, as a state machine without I/O, clock or runtime.
//!
//! Above the log: [`Log`], which a replicated engine can implement too. Below it: [`Op`], which `io_uring`, plain files
//! and a simulated disk carry out. `docs/store.md` explains the format and why recovery is right.
//!
//! | module | what it knows |
//! |---|---|
//! | `record`, `record_codec`, `codec` | the records and how they are encoded |
//! | `batch` | records that are appended together |
//! | `page`, `image`, `root`, `file` | index pages, bucket images, roots; the names of files |
//! | `stream` | a commit while it is put together |
//! | `segments` | which segments hold something that lives |
//! | `engine`, `commit`, `spare`, `config` | the log: appending, group commit, the next segment |
//! | `clean`, `rooting`, `erase` | rounds: new images, a new root, erasure |
//! | `walk`, `load`, `start` | recovery |
//! | [`inspect`] | reading a log without changing anything |
//! | `replay` | records applied to a [`Store`](crate::Store) |
//! | `memory` | a log without a disk |

mod batch;
mod clean;
mod codec;
mod commit;
mod config;
mod engine;
mod erase;
mod file;
mod image;
pub mod inspect;
mod load;
mod memory;
pub mod op;
mod page;
mod record;
mod record_codec;
mod replay;
mod reuse;
mod root;
mod rooting;
mod segments;
mod spare;
mod start;
mod stream;
#[cfg(all(test, feature = "simulation"))]
mod tests;
mod walk;

use crate::id::IdHash;

pub use codec::Malformed;
pub use config::{Counts, LogConfig, Mutation};
pub use engine::SegmentLog;
pub use file::{FileKind, FileName, NotALogFile};
pub use memory::MemoryLog;
pub use op::{Buffers, Completion, DiskError, Op, ReadRequest, Request, Token};
pub use page::BLOCK_BYTES;
pub use record::{BODY_BYTES_MAX, BodyMeta, RECORD_KEYS_MAX, Record};
pub use replay::{Applied, Misfit, apply};
pub use start::{StartConfig, Started, StartedShard, start};
pub use walk::{Corruption, StartError};

/// A record to append, with the hash of the recipient ID of its queue, which says whose it is; a service's record has
/// the hash of its certificate's fingerprint.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub hash: IdHash,
    pub record: Record<&'a [u8]>,
}

/// A point between two records: all before it are meant. Positions of different logs cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Where a log keeps a body. Nobody but the log that gave it can say what is in it, except for the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyPlace {
    segment: u32,
    block: u32,
    crc: u32,
    bytes: u16,
}

impl BodyPlace {
    /// Of a body that no log has.
    pub const NOWHERE: Self = Self { segment: u32::MAX, block: 0, crc: 0, bytes: 0 };

    /// Of the body.
    pub fn len(&self) -> usize {
        usize::from(self.bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The body, if the first bytes of `block` are it.
    pub fn body_in<'a>(&self, blocks: &'a [u8]) -> Option<&'a [u8]> {
        blocks.get(..self.len()).filter(|body| crc32c::crc32c(body) == self.crc)
    }
}

/// What holds a body (of a message, a link, a service), if the log keeps the body too.
pub trait StoredBody {
    /// A body that is in the log only.
    fn at(place: BodyPlace) -> Self;
    fn place(&self) -> BodyPlace;
}

impl StoredBody for BodyPlace {
    fn at(place: BodyPlace) -> Self {
        place
    }

    fn place(&self) -> BodyPlace {
        *self
    }
}

/// When the sender of a command may be told that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk. A crash loses nothing that was answered.
    Always,
    /// At once; what was appended is brought to the disk every so many milliseconds. A crash loses up to that.
    Interval { ms: u64 },
    /// At once; what was appended is written when the disk is ready. A crash of the machine loses what the system had
    /// not brought to the disk by itself.
    Off,
}

/// Why records were not appended. None of the batch was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// What was appended before is not written yet: try again after the next completion.
    #[error("the log is busy")]
    Busy,
    /// Try again when there is space. Records that end something are accepted longer than others.
    #[error("no space left for the log")]
    NoSpace,
    /// A body or a list is longer than any that the protocol allows, or a batch than
    /// [`SegmentLog::BATCH_BLOCKS_MAX`].
    #[error("too large for the log")]
    TooLarge,
    /// The disk failed, so the state of the files is unknown: nothing is accepted until the log is started again.
    #[error("the log has failed: {0}")]
    Failed(String),
}

/// The durable order of all changes of a shard's state.
///
/// Nothing above it may assume that it is a local file, that an append completes at once, or that all partitions are
/// here. Who starts a log has its records replayed into a [`Store`](crate::Store): see [`start()`] and
/// [`MemoryLog::replay`].
pub trait Log {
    /// Appends all records in order, or none; after a crash too all of them are there or none. Adds the places of the
    /// bodies among them to `places`. They are durable when [`durable_up_to`](Self::durable_up_to) has reached the position that is returned.
    fn append(&mut self, entries: &[Entry<'_>], places: &mut Vec<BodyPlace>)
    -> Result<Position, AppendError>;

    /// What may be answered: every record before this position is as durable as the log was told to make it.
    fn durable_up_to(&self) -> Position;

    /// Whether bodies can be read from the log, so that they need not stay in memory.
    fn keeps_bodies(&self) -> bool;

    /// Bodies of records before this position can be read.
    fn readable_up_to(&self) -> Position;

    /// The read that gives a body. None if the log does not have it.
    fn read(&self, place: BodyPlace) -> Option<ReadRequest>;

    /// The body in the blocks that a [`read`](Self::read) gave. None: they were damaged, and must not be delivered.
    fn body<'a>(&self, place: BodyPlace, blocks: &'a [u8]) -> Option<&'a [u8]>;

    /// What had this body is gone: the record that says so was appended. The body leaves the disk in bounded time,
    /// but not before that record is durable. Once for each place.
    fn erase(&mut self, place: BodyPlace);
}
