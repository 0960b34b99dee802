//! A disk of ordinary files, through the page cache.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::Disk;
use crate::log::{BLOCK_BYTES, DiskError, FileName, Op};

/// Files that are kept open for reading.
const OPEN_FILES_MAX: usize = 64;

#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
    open: Mutex<HashMap<FileName, Arc<File>>>,
}

impl FileDisk {
    /// A directory that exists.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), open: Mutex::default() }
    }

    pub fn path(&self, file: FileName) -> PathBuf {
        self.directory.join(file.to_string())
    }

    fn open(&self, file: FileName, write: bool) -> io::Result<File> {
        OpenOptions::new().read(true).write(write).open(self.path(file))
    }

    fn open_to_read(&self, file: FileName) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = open.get(&file) {
            return Ok(Arc::clone(opened));
        }
        if open.len() >= OPEN_FILES_MAX {
            open.clear();
        }
        let opened = Arc::new(self.open(file, false)?);
        open.insert(file, Arc::clone(&opened));
        Ok(opened)
    }

    fn forget(&self, file: FileName) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn create(&self, file: FileName, bytes: u64) -> io::Result<()> {
        let path = self.path(file);
        // A file that is left of an attempt that failed is made anew.
        let made = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let filled = reserve(&made, bytes).and_then(|()| made.sync_all());
        if let Err(error) = filled {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.sync_directory()
    }

    fn reuse(&self, from: FileName, file: FileName, bytes: u64) -> io::Result<()> {
        let path = self.path(file);
        std::fs::rename(self.path(from), &path)?;
        let renamed = OpenOptions::new().write(true).open(&path)?;
        reserve(&renamed, bytes)?;
        renamed.sync_all()?;
        self.sync_directory()
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync_directory(),
        }
    }
}

/// Reserves space where the file system can; elsewhere the file is just made as long.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
        done => Ok(done?),
    }
}

/// Punches a hole where the file system can; elsewhere writes zeros.
fn punch(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, offset, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        done => return Ok(done?),
    }
    let zeros = [0; BLOCK_BYTES];
    let mut at = offset;
    while at < offset + bytes {
        let step = (offset + bytes - at).min(BLOCK_BYTES as u64);
        let step_bytes = usize::try_from(step).unwrap_or(BLOCK_BYTES);
        file.write_all_at(zeros.get(..step_bytes).unwrap_or(&zeros), at)?;
        at += step;
    }
    Ok(())
}

impl Disk for FileDisk {
    fn list(&self) -> Result<Vec<(FileName, u64)>, DiskError> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let Some(file) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                files.push((file, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn read(&self, file: FileName, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        let opened = self.open_to_read(file)?;
        let mut at = 0;
        while let Some(rest) = out.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match opened.read_at(rest, offset + at as u64) {
                Ok(0) => {
                    rest.fill(0);
                    break;
                }
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn perform<Buf: AsRef<[u8]>>(&self, op: &Op<Buf>) -> Result<(), DiskError> {
        match op {
            Op::Create { file, bytes } => self.create(*file, *bytes)?,
            Op::Reuse { from, file, bytes } => {
                self.forget(*from);
                self.reuse(*from, *file, *bytes)?;
            }
            Op::Write { file, offset, buffer, bytes, durable } => {
                let data = buffer.as_ref().get(..*bytes).unwrap_or_default();
                let opened = self.open(*file, true)?;
                opened.write_all_at(data, *offset)?;
                if *durable {
                    opened.sync_data()?;
                }
            }
            Op::Sync { file } => self.open(*file, true)?.sync_data()?,
            Op::Punch { file, ranges } => {
                let opened = self.open(*file, true)?;
                for &(offset, bytes) in ranges {
                    punch(&opened, offset, bytes)?;
                }
                opened.sync_data()?;
            }
            Op::Delete { file } => {
                self.forget(*file);
                self.delete(&self.path(*file))?;
            }
        }
        Ok(())
    }
}
