//! The data directory of a router: who may use it, and what is needed to read the log in it.
//!
//! | file | what it is |
//! |---|---|
//! | `ringpost.lock` | locked (flock) by the process that uses the directory, as long as it lives |
//! | `ringpost/` | mode 0700, since the log has the secrets of queues |
//! | `ringpost/id_hash.key` | 16 random bytes, mode 0600: the log is written under this key and cannot be read with another |
//! | `ringpost/*.seg`, `*.root` | the log |
//! | `ringpost/importing` | there as long as an import is not complete: nobody else may use the log |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ringpost_store::log::FileName;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::exit::{Fatal, Reason};
use crate::files::{SECRET_MODE, make_directory};
use crate::random::random;

const LOCK: &str = "ringpost.lock";
const DIRECTORY: &str = "ringpost";
const DIRECTORY_MODE: u32 = 0o700;
const KEY: &str = "id_hash.key";
/// The key while it is written.
const NEW_KEY: &str = "id_hash.key.new";
const IMPORT_MARK: &str = "importing";
pub const ID_HASH_KEY_BYTES: usize = 16;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{} is in use by another process, which holds the lock {}", .data_dir.display(), .lock.display())]
    InUse { data_dir: PathBuf, lock: PathBuf },
    /// There is a log that cannot be read without the key.
    #[error("{} is missing, but there is a log that was written under it", .0.display())]
    KeyMissing(PathBuf),
    #[error("{}: expected {ID_HASH_KEY_BYTES} bytes", .0.display())]
    KeyLength(PathBuf),
    #[error("the import into {} was not completed", .0.display())]
    ImportUnfinished(PathBuf),
    #[error("{what} {}: {source}", .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// A directory that could not be made, or no random numbers.
    #[error(transparent)]
    Other(Fatal),
}

impl From<StorageError> for Fatal {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        match error {
            StorageError::InUse { lock, .. } => Self::new(Reason::DataInUse, message).remedy(format!(
                "Stop the server that uses it; `fuser {}` names its process.",
                lock.display()
            )),
            StorageError::KeyMissing(_) | StorageError::KeyLength(_) => {
                Self::new(Reason::LogDamaged, message).remedy(
                    "Restore the file from a backup: the stored queues cannot be read with another key.",
                )
            }
            StorageError::ImportUnfinished(_) => Self::new(Reason::LogDamaged, message)
                .remedy("Run `smp-server import` again: it does what is left, or begins anew."),
            StorageError::Io { .. } => Self::new(Reason::Files, message)
                .remedy("Run as the user who owns the data directory, and see that the disk has space."),
            StorageError::Other(fatal) => fatal,
        }
    }
}

/// A data directory that is this process's alone until the value is dropped.
#[derive(Debug)]
pub struct Storage {
    directory: PathBuf,
    id_hash_key: Zeroizing<[u8; ID_HASH_KEY_BYTES]>,
    /// The lock goes with the file.
    _lock: File,
}

impl Storage {
    /// Makes what is missing: the directories, and the key if there is no log yet. All of it is on the disk on return.
    pub fn open(data_dir: &Path) -> Result<Self, StorageError> {
        Self::open_to_import(data_dir)?.unless_importing()
    }

    /// The same, but an import that was not completed may be there.
    pub fn open_to_import(data_dir: &Path) -> Result<Self, StorageError> {
        make_directory(data_dir).map_err(StorageError::Other)?;
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(SECRET_MODE);
        let lock = lock(data_dir, &open)?;
        let directory = data_dir.join(DIRECTORY);
        match DirBuilder::new().mode(DIRECTORY_MODE).create(&directory) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StorageError::Io { what: "cannot make", path: directory, source });
            }
            _ => sync_directory(data_dir)?,
        }
        let id_hash_key = match read_key(&directory)? {
            Some(key) => key,
            None => make_key(&directory)?,
        };
        Ok(Self { directory, id_hash_key, _lock: lock })
    }

    /// Changes nothing. None if no router has kept anything in this directory.
    pub fn open_existing(data_dir: &Path) -> Result<Option<Self>, StorageError> {
        let directory = data_dir.join(DIRECTORY);
        if !exists(&directory)? {
            return Ok(None);
        }
        let lock = lock(data_dir, OpenOptions::new().read(true))?;
        match read_key(&directory)? {
            Some(id_hash_key) => Self { directory, id_hash_key, _lock: lock }.unless_importing().map(Some),
            None if has_log(&directory)? => Err(StorageError::KeyMissing(directory.join(KEY))),
            None => Ok(None),
        }
    }

    fn unless_importing(self) -> Result<Self, StorageError> {
        if exists(&self.import_mark())? {
            Err(StorageError::ImportUnfinished(self.directory))
        } else {
            Ok(self)
        }
    }

    /// The file that is there while an import writes the log.
    pub fn import_mark(&self) -> PathBuf {
        self.directory.join(IMPORT_MARK)
    }

    /// Where the log's files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn id_hash_key(&self) -> &[u8; ID_HASH_KEY_BYTES] {
        &self.id_hash_key
    }
}

/// Whether an import has written everything, and only its last steps are left: see [`Storage::import_mark`].
pub fn import_is_nearly_done(data_dir: &Path) -> Result<bool, StorageError> {
    let path = data_dir.join(DIRECTORY).join(IMPORT_MARK);
    match fs::metadata(&path) {
        Ok(mark) => Ok(mark.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StorageError::Io { what: "cannot look at", path, source }),
    }
}

fn lock(data_dir: &Path, open: &OpenOptions) -> Result<File, StorageError> {
    let path = data_dir.join(LOCK);
    let failed = |source: io::Error| StorageError::Io { what: "cannot lock", path: path.clone(), source };
    let file = open.open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(StorageError::InUse { data_dir: data_dir.to_owned(), lock: path.clone() })
        }
        Err(error) => Err(failed(error.into())),
    }
}

fn exists(path: &Path) -> Result<bool, StorageError> {
    path.try_exists().map_err(|source| StorageError::Io {
        what: "cannot look at",
        path: path.to_owned(),
        source,
    })
}

fn has_log(directory: &Path) -> Result<bool, StorageError> {
    let failed =
        |source| StorageError::Io { what: "cannot read the directory", path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.to_str().is_some_and(|name| name.parse::<FileName>().is_ok()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_key(directory: &Path) -> Result<Option<Zeroizing<[u8; ID_HASH_KEY_BYTES]>>, StorageError> {
    let path = directory.join(KEY);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StorageError::Io { what: "cannot read", path, source }),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(ID_HASH_KEY_BYTES + 1));
    // One byte more than is wanted tells that there is too much.
    let read = file.take(ID_HASH_KEY_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| StorageError::Io { what: "cannot read", path: path.clone(), source })?;
    match bytes.as_slice().try_into() {
        Ok(key) => Ok(Some(Zeroizing::new(key))),
        Err(_) => Err(StorageError::KeyLength(path)),
    }
}

/// Under its name the key is complete or not there at all.
fn make_key(directory: &Path) -> Result<Zeroizing<[u8; ID_HASH_KEY_BYTES]>, StorageError> {
    let path = directory.join(KEY);
    if has_log(directory)? {
        return Err(StorageError::KeyMissing(path));
    }
    let key = random::<ID_HASH_KEY_BYTES>().map_err(StorageError::Other)?;
    let new = directory.join(NEW_KEY);
    let write = || {
        let mut open = OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(SECRET_MODE).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(SECRET_MODE))?;
        file.write_all(key.as_slice())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|source| StorageError::Io { what: "cannot write", path: path.clone(), source })?;
    sync_directory(directory)?;
    Ok(key)
}

fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|source| StorageError::Io { what: "cannot sync", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a/b");
        let first = *Storage::open(&data_dir).unwrap().id_hash_key();
        let storage = Storage::open(&data_dir).unwrap();
        assert_eq!(*storage.id_hash_key(), first);
        assert_eq!(mode(storage.directory()), 0o700);
        assert_eq!(mode(&storage.directory().join(KEY)), 0o600);
        assert_eq!(fs::read(storage.directory().join(KEY)).unwrap(), first);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(*Storage::open(other.path()).unwrap().id_hash_key(), first);
    }

    #[test]
    fn a_second_user_is_refused_until_the_first_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path()).unwrap();
        for second in [Storage::open(folder.path()).map(Some), Storage::open_existing(folder.path())] {
            let fatal = Fatal::from(second.unwrap_err());
            assert_eq!(fatal.reason, Reason::DataInUse);
            assert!(fatal.to_string().contains(&*folder.path().join(LOCK).to_string_lossy()), "{fatal}");
        }
        drop(storage);
        let existing = Storage::open_existing(folder.path()).unwrap();
        assert!(existing.is_some() && Storage::open(folder.path()).is_err());
        drop(existing);
        Storage::open(folder.path()).unwrap();
    }

    #[test]
    fn looking_at_a_directory_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Storage::open_existing(folder.path()).unwrap().is_none());
        assert!(Storage::open_existing(&folder.path().join("absent")).unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_log_without_its_key_is_not_given_another() {
        let folder = tempfile::tempdir().unwrap();
        let key = Storage::open(folder.path()).unwrap().directory().join(KEY);
        for wrong in [&[7; 15][..], &[7; 17], b""] {
            fs::write(&key, wrong).unwrap();
            let fatal = Fatal::from(Storage::open(folder.path()).unwrap_err());
            assert_eq!(fatal.reason, Reason::LogDamaged);
        }
        fs::remove_file(&key).unwrap();
        fs::write(key.with_file_name("00000001-000-00000001.seg"), "").unwrap();
        for opened in [Storage::open(folder.path()).map(Some), Storage::open_existing(folder.path())] {
            let error = opened.unwrap_err();
            assert!(matches!(&error, StorageError::KeyMissing(path) if *path == key), "{error}");
        }
        assert!(!key.exists());
    }

    #[test]
    fn nobody_uses_a_log_that_is_being_imported() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path()).unwrap();
        fs::write(storage.import_mark(), "").unwrap();
        drop(storage);
        for opened in [Storage::open(folder.path()).map(Some), Storage::open_existing(folder.path())] {
            let error = opened.unwrap_err();
            assert!(matches!(&error, StorageError::ImportUnfinished(_)), "{error}");
            assert_eq!(Fatal::from(error).reason, Reason::LogDamaged);
        }
        Storage::open_to_import(folder.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let fatal = Fatal::from(Storage::open(&file).unwrap_err());
        assert_eq!(fatal.reason, Reason::Files);
        assert!(fatal.message.contains(&*file.to_string_lossy()), "{fatal}");
    }
}
