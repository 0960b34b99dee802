//! Disks that block: for recovery, tools and tests. A running log's operations are carried out by the shard's runtime.

mod files;
mod heap;

pub use files::FileDisk;
pub use heap::{HeapBuffer, HeapBuffers};

use crate::log::{DiskError, FileName, Op};

/// A directory with a log's files.
pub trait Disk {
    /// The log's files with their lengths. Other files in the directory are none of its business.
    fn list(&self) -> Result<Vec<(FileName, u64)>, DiskError>;

    /// Fills `out` from a file. What lies behind the file's end reads as zeros.
    fn read(&self, file: FileName, offset: u64, out: &mut [u8]) -> Result<(), DiskError>;

    /// Carries out an operation; it is complete on return.
    fn perform<Buf: AsRef<[u8]>>(&self, op: &Op<Buf>) -> Result<(), DiskError>;
}
