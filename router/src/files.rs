//! Writing files. A set of new ones: all of them or none, never over one that exists, and on disk before it is said so. Or
//! others in the place of old ones.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
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
    sync_parent(new.path)
}

/// Replaces files, or makes those that are not there. Each is the old one or the new one at any time; they keep owner and
/// mode, so that a router which may not run as root can still read what root has made.
pub fn replace_all(files: &[NewFile<'_>]) -> Result<(), Fatal> {
    let mut written: Vec<(PathBuf, &Path)> = Vec::new();
    let replaced = write_beside(files, &mut written).and_then(|()| {
        written.iter().try_for_each(|(new, path)| {
            fs::rename(new, path).and_then(|()| sync_parent(path)).map_err(|error| (*path, error))
        })
    });
    replaced.map_err(|(path, error)| {
        for (new, _) in &written {
            // Those that were renamed are not there any more.
            let _ = fs::remove_file(new);
        }
        Fatal::new(Reason::Files, format!("cannot replace {}: {error}", path.display()))
            .remedy("Run it again as the user who owns the directory.")
    })
}

fn write_beside<'a>(
    files: &[NewFile<'a>],
    written: &mut Vec<(PathBuf, &'a Path)>,
) -> Result<(), (&'a Path, io::Error)> {
    for file in files {
        let new = file
            .path
            .with_file_name(format!("{}.new", file.path.file_name().unwrap_or_default().to_string_lossy()));
        written.push((new.clone(), file.path));
        write_like_old(file, &new).map_err(|error| (file.path, error))?;
    }
    Ok(())
}

fn write_like_old(new: &NewFile<'_>, path: &Path) -> io::Result<()> {
    // What an earlier attempt left may have another owner and mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(SECRET_MODE).open(path)?;
    let mode = match fs::metadata(new.path) {
        Ok(old) => {
            let made = file.metadata()?;
            if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            old.mode() & 0o777
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => new.mode,
        Err(error) => return Err(error),
    };
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(new.content.as_bytes())?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// A link that leads nowhere is there too.
pub fn exists(path: &Path) -> Result<bool, Fatal> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Fatal::new(Reason::Files, format!("cannot look at {}: {error}", path.display()))),
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
    fn files_are_replaced_with_the_mode_of_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (old, absent) = (folder.path().join("old"), folder.path().join("absent"));
        fs::write(&old, "old").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(folder.path().join("old.new"), "left by an earlier attempt").unwrap();
        let files = [&old, &absent].map(|path| NewFile { path, content: "new", mode: SECRET_MODE });
        replace_all(&files).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&old), mode(&absent)), (0o640, SECRET_MODE));
        assert_eq!(fs::read_to_string(&old).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn nothing_is_replaced_where_one_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let (old, nowhere) = (folder.path().join("old"), folder.path().join("no/where"));
        fs::write(&old, "old").unwrap();
        let files = [&old, &nowhere].map(|path| NewFile { path, content: "new", mode: SECRET_MODE });
        assert!(replace_all(&files).unwrap_err().message.contains("no/where"));
        assert_eq!(fs::read_to_string(&old).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
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
