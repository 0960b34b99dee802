//! What a log asks of a disk, and what it is told.

use super::file::FileName;

/// Where buffers come from that a disk can write: aligned as it needs, of any content.
pub trait Buffers {
    type Buffer: AsRef<[u8]> + AsMut<[u8]>;

    /// A buffer of at least so many bytes, a multiple of the block size.
    fn lend(&mut self, bytes: usize) -> Self::Buffer;
}

/// An operation. Offsets and lengths of all but reads are multiples of the block size.
#[derive(Debug)]
pub enum Op<Buf> {
    /// Makes a file that reads as zeros, with the space for it reserved. Complete when file and name are on the disk.
    Create { file: FileName, bytes: u64 },
    /// Gives a file of so many bytes another name, and reserves space where it has none. It keeps its content. Complete when
    /// the name is on the disk. After a failure it has one name or the other.
    Reuse { from: FileName, file: FileName, bytes: u64 },
    /// Writes the first `bytes` bytes of the buffer. Complete when written, and if it is to be `durable`, when these bytes
    /// are on the disk. The buffer may come back with the completion; after a failure for lack of space it must.
    Write { file: FileName, offset: u64, buffer: Buf, bytes: usize, durable: bool },
    /// Complete when all writes to the file that were complete before are on the disk.
    Sync { file: FileName },
    /// Makes ranges `(offset, bytes)` read as zeros and gives their space back; writes zeros where the file system
    /// cannot punch. Complete when that is on the disk.
    Punch { file: FileName, ranges: Vec<(u64, u64)> },
    /// Complete when the name is gone from the disk.
    Delete { file: FileName },
}

/// An operation with the token for its completion. Requests may be carried out in any order and at the same time.
#[derive(Debug)]
pub struct Request<Buf> {
    pub token: Token,
    pub op: Op<Buf>,
}

/// Names an operation under way. Opaque: give it back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub(super) Purpose);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    CommitWrite { block: u32, bytes: u32 },
    CommitSync,
    Spare(FileStep),
    Root(FileStep),
    Erase,
}

/// The steps that make a file with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileStep {
    Create,
    Write,
    Sync,
    /// Of the former file, or of this one when it could not be written.
    Delete,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space, or a quota is reached: may pass.
    #[error("no space left")]
    NoSpace,
    #[error("{0}")]
    Failed(String),
}

impl From<std::io::Error> for DiskError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => Self::NoSpace,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Completion<Buf> {
    pub token: Token,
    pub result: Result<(), DiskError>,
    /// The buffer of a write.
    pub buffer: Option<Buf>,
}

/// A read, for the body of a message: whole blocks, of which the first `body_bytes` are the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    pub file: FileName,
    pub offset: u64,
    pub bytes: usize,
    pub body_bytes: usize,
}
