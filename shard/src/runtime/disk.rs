//! A shard's log files: commits, bodies, syncs and punching on the shard's own ring; making and deleting files, which is
//! rare, on a thread that may block.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use ringpost_store::disk::{Disk, FileDisk, HeapBuffer};
use ringpost_store::log::{Completion, DiskError, FileName, Op, ReadRequest, Request};

use crate::executor::{self, File, Opening, sleep};

/// Segments that a shard keeps open for reading bodies.
const READ_FILES_MAX: usize = 32;

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
    open: RefCell<HashMap<(FileName, Mode), Rc<File>>>,
}

impl ShardDisk {
    /// The disk of a directory that has the files of a log which was started, and is not driven yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { blocking: Arc::new(FileDisk::new(&directory)), directory, open: RefCell::default() }
    }

    /// Carries out an operation of the log.
    pub async fn carry_out(&self, request: Request<HeapBuffer>) -> Completion<HeapBuffer> {
        let Request { token, op } = request;
        let (result, buffer) = match op {
            Op::Write { file, offset, buffer, bytes, durable } => {
                self.write(file, offset, buffer, bytes, durable).await
            }
            Op::Create { file, bytes } => (self.block(Op::Create { file, bytes }).await, None),
            Op::Reuse { from, file, bytes } => {
                self.forget(from);
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
        executor::spawn_blocking(move || disk.perform(&op)).await?
    }

    async fn sync(&self, file: FileName) -> io::Result<()> {
        self.file(file, Mode::Write).await?.sync_data().await
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
        Ok(opened.sync_data().await?)
    }

    /// The name goes first, so that a crash leaves no half of a file; then the space, a piece at a time.
    async fn delete(&self, file: FileName) -> Result<(), DiskError> {
        self.forget(file);
        let path = self.directory.join(file.to_string());
        let opened = File::open(&path, Opening::Write).await.ok();
        let bytes = opened.as_ref().and_then(|opened| opened.bytes().ok()).unwrap_or(0);
        let deleted = self.block(Op::Delete { file }).await;
        if let Some(opened) = opened.filter(|_| deleted.is_ok()) {
            // What stays is given back by closing.
            let _ = give_back(&opened, 0, bytes).await;
        }
        deleted
    }

    async fn write(
        &self,
        file: FileName,
        offset: u64,
        buffer: HeapBuffer,
        bytes: usize,
        durable: bool,
    ) -> (Result<(), DiskError>, Option<HeapBuffer>) {
        let opened = match self.file(file, if durable { Mode::DurableWrite } else { Mode::Write }).await {
            Ok(opened) => opened,
            Err(error) => return (Err(error.into()), Some(buffer)),
        };
        let (written, buffer) = opened.write_at(buffer, bytes, offset).await;
        let result = match written {
            Ok(written) if written == bytes => Ok(()),
            // Part of it was written: what stops in the middle has met the end of the space.
            Ok(_) => Err(DiskError::NoSpace),
            Err(error) => Err(error.into()),
        };
        (result, buffer)
    }

    /// Reads whole blocks.
    pub async fn read(&self, request: &ReadRequest) -> io::Result<ReadBlocks> {
        let opened = self.file(request.file, Mode::Read).await?;
        let (bytes, buffer) = opened.read_at(HeapBuffer::new(request.bytes), request.offset).await?;
        Ok(ReadBlocks { buffer, bytes })
    }

    async fn file(&self, file: FileName, mode: Mode) -> io::Result<Rc<File>> {
        if let Some(opened) = self.open.borrow().get(&(file, mode)) {
            return Ok(Rc::clone(opened));
        }
        self.make_place(mode);
        let opening = match mode {
            Mode::Read => Opening::Read,
            Mode::Write => Opening::Write,
            Mode::DurableWrite => Opening::DurableWrite,
        };
        let opened = Rc::new(File::open(&self.directory.join(file.to_string()), opening).await?);
        let before = self.open.borrow_mut().insert((file, mode), Rc::clone(&opened));
        if let Some(before) = before {
            // Opened twice at the same time.
            drop(before);
        }
        Ok(opened)
    }

    /// Commits go to one segment after the other: of those for writing the last few are enough.
    fn make_place(&self, mode: Mode) {
        let most = if mode == Mode::Read { READ_FILES_MAX } else { 2 };
        let mut open = self.open.borrow_mut();
        let of_mode = open.keys().filter(|(_, other)| *other == mode);
        if of_mode.clone().count() < most {
            return;
        }
        let oldest = of_mode.min_by_key(|(file, _)| *file).copied();
        oldest.and_then(|key| open.remove(&key));
    }

    /// Closes a file when the last operation on it is done.
    fn forget(&self, file: FileName) {
        for mode in [Mode::Read, Mode::Write, Mode::DurableWrite] {
            self.open.borrow_mut().remove(&(file, mode));
        }
    }
}

/// Space that is given back at once. File systems mounted with `discard` tell the device of it, and a device that is told
/// of a whole segment may do nothing else meanwhile: commits waited for 50 ms.
const PIECE_BYTES: u64 = 1 << 20;
/// Between two pieces, so that commits come in between and each piece is another transaction of the file system.
const PIECE_PAUSE: Duration = Duration::from_millis(2);

/// Gives the space of a part of a file back to the file system, which reads as zeros then.
async fn give_back(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let end = offset.saturating_add(bytes);
    let mut at = offset;
    while at < end {
        let piece_bytes = PIECE_BYTES.min(end - at);
        file.punch(at, piece_bytes).await?;
        at += piece_bytes;
        if at < end {
            sleep(PIECE_PAUSE).await;
        }
    }
    Ok(())
}

/// What a read gave.
#[derive(Debug)]
pub struct ReadBlocks {
    buffer: HeapBuffer,
    bytes: usize,
}

impl std::ops::Deref for ReadBlocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.as_ref().get(..self.bytes).unwrap_or_default()
    }
}
