//! Files whose content does not go through the page cache.
#![allow(unsafe_code)] // The addresses in requests are of memory that the ring keeps for them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use io_uring::opcode;
use io_uring::types::{Fd, FsyncFlags};

use super::operation::Operation;

/// How a file is opened. Offsets, lengths and addresses are multiples of the block size of the device.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    Read,
    Write,
    /// What is written is on the disk when the write is complete.
    DurableWrite,
}

#[derive(Debug)]
pub struct File {
    /// Shared with the operations under way.
    fd: Rc<OwnedFd>,
}

impl File {
    pub async fn open(path: &Path, opening: Opening) -> io::Result<Self> {
        match Self::open_with(path, opening, libc::O_DIRECT).await {
            // A file system in memory, before Linux 6.6: there is no other cache.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Self::open_with(path, opening, 0).await
            }
            opened => opened,
        }
    }

    async fn open_with(path: &Path, opening: Opening, more: i32) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
        let flags = more
            | libc::O_CLOEXEC
            | match opening {
                Opening::Read => libc::O_RDONLY,
                Opening::Write => libc::O_WRONLY,
                Opening::DurableWrite => libc::O_WRONLY | libc::O_DSYNC,
            };
        let entry = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(flags).build();
        // SAFETY: a CString's bytes are on the heap.
        let (opened, _) = unsafe { Operation::start(entry, path, true) }.await;
        let fd = i32::try_from(opened?).map_err(io::Error::other)?;
        // SAFETY: the kernel has just given us this descriptor.
        Ok(Self { fd: Rc::new(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    pub fn bytes(&self) -> io::Result<u64> {
        u64::try_from(rustix::fs::fstat(&self.fd)?.st_size).map_err(io::Error::other)
    }

    /// Writes the first `bytes` bytes of a buffer, and gives it back with how many were written.
    pub async fn write_at<B: AsRef<[u8]> + 'static>(
        &self,
        buffer: B,
        bytes: usize,
        offset: u64,
    ) -> (io::Result<usize>, Option<B>) {
        let buffer = Box::new(buffer);
        let content: &[u8] = (*buffer).as_ref();
        let length = u32::try_from(bytes.min(content.len())).unwrap_or(u32::MAX);
        let entry =
            opcode::Write::new(Fd(self.fd.as_raw_fd()), content.as_ptr(), length).offset(offset).build();
        // SAFETY: the content is of the buffer, which does not move in its box and is not touched before the end.
        let operation = unsafe { Operation::start(entry, (Rc::clone(&self.fd), buffer), false) };
        // Others wait for it to be durable: it need not wait for the end of the turn.
        super::core().ring.submit();
        let (written, kept) = operation.await;
        (written.map(|written| written as usize), kept.map(|(_, buffer)| *buffer))
    }

    /// Fills a buffer from a file, as far as the file goes, and gives it back with how many bytes were read.
    pub async fn read_at<B: AsMut<[u8]> + 'static>(&self, buffer: B, offset: u64) -> io::Result<(usize, B)> {
        let mut buffer = Box::new(buffer);
        let content: &mut [u8] = (*buffer).as_mut();
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let entry =
            opcode::Read::new(Fd(self.fd.as_raw_fd()), content.as_mut_ptr(), length).offset(offset).build();
        // SAFETY: the content is of the buffer, which does not move in its box and is not touched before the end.
        let (read, kept) = unsafe { Operation::start(entry, (Rc::clone(&self.fd), buffer), false) }.await;
        let read = read?;
        let (_, buffer) = kept.ok_or_else(|| io::Error::other("the buffer of a read is gone"))?;
        Ok((read as usize, *buffer))
    }

    /// Brings all that was written to the disk.
    pub async fn sync_data(&self) -> io::Result<()> {
        let entry = opcode::Fsync::new(Fd(self.fd.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
        // SAFETY: the entry has no addresses.
        unsafe { Operation::start(entry, Rc::clone(&self.fd), false) }.await.0.map(drop)
    }

    /// Gives the space of a part of the file back; it reads as zeros then.
    pub async fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let entry = opcode::Fallocate::new(Fd(self.fd.as_raw_fd()), bytes).offset(offset).mode(mode).build();
        // SAFETY: the entry has no addresses.
        unsafe { Operation::start(entry, Rc::clone(&self.fd), false) }.await.0.map(drop)
    }
}
