//! Writing files. A set of new ones: all of them or none, never over one that exists, and on disk before it is said so.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::exit::{Fatal, Reason};

/// Read and written by the owner alone.
pub const SECRET_MODE: u32 = 0o600;
/// Read by all.
pub const PUBLIC_MODE: u32 = 0o644;
/// Read by the owner's group.
pub const GROUP_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    pub path: &'a Path,
    pub content: &'a str,
    pub mode: u32,
}

/// Makes a directory and those above it, where they do not exist.
pub fn make_directory(path: &Path) -> Result<(), Fatal> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(|error| {
        Fatal::new(Reason::Files, format!("cannot make the directory {}: {error}", path.display()))
            .remedy("Make it, or run as a user who may; the directories are set by environment variables.")
    })
}

/// Puts a file into the place of the one that is there: whoever reads it sees the one or the other.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(GROUP_MODE).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Writes all files, or leaves none behind.
pub fn write_all(files: &[NewFile<'_>]) -> Result<(), Fatal> {
    let mut written: Vec<PathBuf> = Vec::new();
    for file in files {
        if let Err(error) = write_new(file, &mut written) {
            for path in &written {
                // What cannot be removed is named by the next attempt.
                let _ = fs::remove_file(path);
            }
            return Err(Fatal::new(Reason::Files, format!("cannot write {}: {error}", file.path.display())));
        }
    }
    Ok(())
}

fn write_new(new: &NewFile<'_>, written: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(new.mode).open(new.path)?;
    written.push(new.path.to_owned());
    // The umask may have taken bits away; a service's group needs them.
    file.set_permissions(fs::Permissions::from_mode(new.mode))?;
    file.write_all(new.content.as_bytes())?;
    file.sync_all()?;
    match new.path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn modes_are_exact_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, public) = (folder.path().join("secret"), folder.path().join("public"));
        let files = [
            NewFile { path: &secret, content: "s", mode: SECRET_MODE },
            NewFile { path: &public, content: "p", mode: PUBLIC_MODE },
        ];
        write_all(&files).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&secret), mode(&public)), (SECRET_MODE, PUBLIC_MODE));
        let again = write_all(&[NewFile { path: &secret, content: "other", mode: PUBLIC_MODE }]).unwrap_err();
        assert_eq!(again.reason, Reason::Files);
        assert_eq!(fs::read_to_string(&secret).unwrap(), "s");
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        fs::write(&second, "old").unwrap();
        let files = [&first, &second].map(|path| NewFile { path, content: "new", mode: PUBLIC_MODE });
        assert!(write_all(&files).unwrap_err().message.contains("second"));
        assert!(!first.exists());
        assert_eq!(fs::read_to_string(&second).unwrap(), "old");
    }
}
