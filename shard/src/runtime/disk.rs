//! A shard's log files: commits, bodies, syncs and punching on the shard's own ring; making and deleting files, which is
//! rare, on a thread that may block. (What ends on another thread wakes the executor in a way that can put it to sleep too
//! early: see `bell`.)

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use hashbrown::HashMap;
use ringpost_store::disk::{Disk, FileDisk};
use ringpost_store::log::{Buffers, Completion, DiskError, FileKind, FileName, Op, ReadRequest, Request};

/// Segments that a shard keeps open for reading bodies.
const READ_FILES_MAX: usize = 32;

/// Buffers for commits, from the memory that is registered with the ring while there is some.
#[derive(Clone, Debug)]
pub struct DmaBuffers {
    /// glommio allocates through a file only.
    anchor: Rc<DmaFile>,
}

impl Buffers for DmaBuffers {
    type Buffer = DmaBuffer;

    fn lend(&mut self, bytes: usize) -> DmaBuffer {
        self.anchor.alloc_dma_buffer(bytes)
    }
}

/// How a file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    Read,
    Write,
    /// Writes are on the disk when they are complete.
    DurableWrite,
}

#[derive(Debug)]
pub struct ShardDisk {
    blocking: Arc<FileDisk>,
    directory: PathBuf,
    open: RefCell<HashMap<(FileName, Mode), Rc<DmaFile>>>,
}

impl ShardDisk {
    /// The disk, and buffers for it. The directory has the files of a log that was started.
    pub async fn open(directory: PathBuf) -> io::Result<(Self, DmaBuffers)> {
        let blocking = Arc::new(FileDisk::new(&directory));
        let files = blocking.list().map_err(io::Error::other)?;
        // Small, so that it is no loss of space if it lives longer than its name.
        let anchor = files.into_iter().map(|(file, _)| file).find(|file| file.kind == FileKind::Root);
        let anchor = anchor.ok_or_else(|| io::Error::other("the log has no root"))?;
        let anchor = OpenOptions::new().read(true).dma_open(blocking.path(anchor)).await?;
        let disk = Self { blocking, directory, open: RefCell::default() };
        Ok((disk, DmaBuffers { anchor: Rc::new(anchor) }))
    }

    /// Carries out an operation of the log.
    pub async fn carry_out(&self, request: Request<DmaBuffer>) -> Completion<DmaBuffer> {
        let Request { token, op } = request;
        let (result, buffer) = match op {
            Op::Write { file, offset, buffer, bytes, durable } => {
                self.write(file, offset, buffer, bytes, durable).await
            }
            Op::Create { file, bytes } => (self.block(Op::Create { file, bytes }).await, None),
            Op::Reuse { from, file, bytes } => {
                self.forget(from).await;
                (self.block(Op::Reuse { from, file, bytes }).await, None)
            }
            Op::Sync { file } => (self.sync(file).await.map_err(DiskError::from), None),
            Op::Punch { file, ranges } => (self.punch(file, ranges).await, None),
            Op::Delete { file } => (self.delete(file).await, None),
        };
        Completion { token, result, buffer }
    }

    async fn block(&self, op: Op<Vec<u8>>) -> Result<(), DiskError> {
        let disk = Arc::clone(&self.blocking);
        glommio::executor().spawn_blocking(move || disk.perform(&op)).await
    }

    async fn sync(&self, file: FileName) -> io::Result<()> {
        Ok(self.file(file, Mode::Write).await?.fdatasync().await?)
    }

    async fn punch(&self, file: FileName, ranges: Vec<(u64, u64)>) -> Result<(), DiskError> {
        let opened = self.file(file, Mode::Write).await?;
        for &(offset, bytes) in &ranges {
            match give_back(&opened, offset, bytes).await {
                Ok(()) => {}
                // Zeros are written where the file system has no holes.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    return self.block(Op::Punch { file, ranges }).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(opened.fdatasync().await.map_err(io::Error::from)?)
    }

    /// The name goes first, so that a crash leaves no half of a file; then the space, a piece at a time.
    async fn delete(&self, file: FileName) -> Result<(), DiskError> {
        self.forget(file).await;
        let path = self.directory.join(file.to_string());
        let opened = OpenOptions::new().write(true).dma_open(path).await.ok();
        let bytes = match &opened {
            // By the file's name, which it has still.
            Some(opened) => opened.file_size().await.unwrap_or(0),
            None => 0,
        };
        let deleted = self.block(Op::Delete { file }).await;
        if let Some(opened) = opened {
            if deleted.is_ok() {
                // What stays is given back by closing.
                let _ = give_back(&opened, 0, bytes).await;
            }
            let _ = opened.close().await;
        }
        deleted
    }

    async fn write(
        &self,
        file: FileName,
        offset: u64,
        mut buffer: DmaBuffer,
        bytes: usize,
        durable: bool,
    ) -> (Result<(), DiskError>, Option<DmaBuffer>) {
        let opened = match self.file(file, if durable { Mode::DurableWrite } else { Mode::Write }).await {
            Ok(opened) => opened,
            Err(error) => return (Err(error.into()), Some(buffer)),
        };
        buffer.trim_to_size(bytes.min(buffer.len()));
        let buffer = Rc::new(buffer);
        let result = match opened.write_rc_at(Rc::clone(&buffer), offset).await {
            Ok(written) if written == bytes => Ok(()),
            // Part of it was written: what stops in the middle has met the end of the space.
            Ok(_) => Err(DiskError::NoSpace),
            Err(error) => Err(io::Error::from(error).into()),
        };
        // A buffer that was trimmed cannot carry another commit; for the same write it serves again.
        let again = result.is_err().then(|| Rc::try_unwrap(buffer).ok()).flatten();
        (result, again)
    }

    /// Reads whole blocks.
    pub async fn read(&self, request: &ReadRequest) -> io::Result<impl std::ops::Deref<Target = [u8]>> {
        let opened = self.file(request.file, Mode::Read).await?;
        let read = opened.read_at_aligned(request.offset, request.bytes).await.map_err(io::Error::from)?;
        Ok(read)
    }

    async fn file(&self, file: FileName, mode: Mode) -> io::Result<Rc<DmaFile>> {
        if let Some(opened) = self.open.borrow().get(&(file, mode)) {
            return Ok(Rc::clone(opened));
        }
        self.make_place(mode).await;
        let mut options = OpenOptions::new();
        match mode {
            Mode::Read => options.read(true),
            Mode::Write => options.write(true),
            Mode::DurableWrite => options.write(true).custom_flags(libc::O_DSYNC),
        };
        let opened = Rc::new(options.dma_open(self.directory.join(file.to_string())).await?);
        let before = self.open.borrow_mut().insert((file, mode), Rc::clone(&opened));
        if let Some(before) = before {
            // Opened twice at the same time.
            close(before).await;
        }
        Ok(opened)
    }

    /// Commits go to one segment after the other: of those for writing the last few are enough.
    async fn make_place(&self, mode: Mode) {
        let most = if mode == Mode::Read { READ_FILES_MAX } else { 2 };
        let oldest = {
            let mut open = self.open.borrow_mut();
            let of_mode = open.keys().filter(|(_, other)| *other == mode);
            if of_mode.clone().count() < most {
                return;
            }
            let oldest = of_mode.min_by_key(|(file, _)| *file).copied();
            oldest.and_then(|key| open.remove(&key))
        };
        if let Some(oldest) = oldest {
            close(oldest).await;
        }
    }

    async fn forget(&self, file: FileName) {
        for mode in [Mode::Read, Mode::Write, Mode::DurableWrite] {
            let opened = self.open.borrow_mut().remove(&(file, mode));
            if let Some(opened) = opened {
                close(opened).await;
            }
        }
    }
}

/// Space that is given back at once. File systems mounted with `discard` tell the device of it, and a device that is told
/// of a whole segment may do nothing else meanwhile: commits waited for 50 ms.
const PIECE_BYTES: u64 = 1 << 20;
/// Between two pieces, so that commits come in between and each piece is another transaction of the file system.
const PIECE_PAUSE: Duration = Duration::from_millis(2);

/// Gives the space of a part of a file back to the file system, which reads as zeros then.
async fn give_back(file: &DmaFile, offset: u64, bytes: u64) -> io::Result<()> {
    let end = offset.saturating_add(bytes);
    let mut at = offset;
    while at < end {
        let piece_bytes = PIECE_BYTES.min(end - at);
        file.deallocate(at, piece_bytes).await?;
        at += piece_bytes;
        if at < end {
            glommio::timer::sleep(PIECE_PAUSE).await;
        }
    }
    Ok(())
}

/// Closes a file when the last operation on it is done.
async fn close(file: Rc<DmaFile>) {
    // Data that matters was synced before.
    let _ = file.close_rc().await;
}
