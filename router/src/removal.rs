//! `smp-server delete`: removes what a router, ours or the reference's, has written into its two directories. What
//! somebody else put there stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::interview::Interview;
use crate::exit::{Fatal, Reason};
use crate::paths::Paths;
use crate::storage::{Storage, StorageError};

/// In the configuration directory: what `init` makes, here and in the reference.
const CONFIG_FILES: &[&str] = &[
    "smp-server.ini",
    "fingerprint",
    "ca.crt",
    "ca.key",
    "ca.srl",
    "server.crt",
    "server.key",
    "server.csr",
    "openssl_ca.conf",
    "openssl_server.conf",
];
/// In the data directory: how the names of files begin.
const DATA_PREFIXES: &[&str] = &["smp-server-", "ringpost-", "ringpost."];
/// In the data directory: our log, the reference's messages, the generated pages.
const DATA_DIRECTORIES: &[&str] = &["ringpost", "messages", "www"];

const WARNING: &str = "WARNING: without its keys nobody can run this server's address again: all queues on it are lost.\n\
                       THIS CANNOT BE UNDONE!";

/// Deletes after a confirmation.
pub fn delete(paths: &Paths, interview: &mut Interview<'_>) -> Result<(), Fatal> {
    // Held until all is gone, so that no router starts meanwhile.
    let _storage = match Storage::open_existing(&paths.data_dir) {
        Err(error @ StorageError::InUse { .. }) => return Err(error.into()),
        other => other.ok(),
    };
    let found = Found::in_directories(paths)?;
    if found.files.is_empty() && found.directories.is_empty() {
        interview.say("There is nothing to delete");
        return Ok(());
    }
    for path in found.files.iter().chain(&found.directories) {
        interview.say(&format!("  {}", path.display()));
    }
    if !interview.is_sure(WARNING)? {
        return Err(Fatal::new(Reason::Other, "nothing was deleted: the answer was not a capital Y"));
    }
    for path in &found.files {
        fs::remove_file(path).map_err(|error| failed(path, &error))?;
    }
    for path in &found.directories {
        fs::remove_dir_all(path).map_err(|error| failed(path, &error))?;
    }
    interview.say("Deleted configuration, keys, queues and messages");
    for directory in [&paths.config_dir, &paths.data_dir] {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                interview.say(&format!("{} has other files, which are left", directory.display()));
            }
            // It may be a mount point, or in a directory of somebody else: it is empty, and does no harm.
            _ => {}
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Found {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Found {
    fn in_directories(paths: &Paths) -> Result<Self, Fatal> {
        let mut found = Self::default();
        for entry in entries(&paths.config_dir)? {
            if entry.is_file && CONFIG_FILES.contains(&entry.name.as_str()) {
                found.files.push(entry.path);
            }
        }
        for entry in entries(&paths.data_dir)? {
            if !entry.is_file && DATA_DIRECTORIES.contains(&entry.name.as_str()) {
                found.directories.push(entry.path);
            } else if entry.is_file && DATA_PREFIXES.iter().any(|prefix| entry.name.starts_with(prefix)) {
                found.files.push(entry.path);
            }
        }
        Ok(found)
    }
}

struct Entry {
    name: String,
    path: PathBuf,
    /// Also a link, wherever it leads.
    is_file: bool,
}

/// In the order of their names. Nothing where there is no directory.
fn entries(directory: &Path) -> Result<Vec<Entry>, Fatal> {
    let unreadable = |error: io::Error| {
        Fatal::new(Reason::Files, format!("cannot read the directory {}: {error}", directory.display()))
    };
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(unreadable)?,
    };
    let mut entries = Vec::new();
    for entry in listed {
        let entry = entry.map_err(unreadable)?;
        let is_file = !entry.file_type().map_err(unreadable)?.is_dir();
        entries.push(Entry {
            name: entry.file_name().to_string_lossy().into_owned(),
            path: entry.path(),
            is_file,
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn failed(path: &Path, error: &io::Error) -> Fatal {
    Fatal::new(Reason::Files, format!("cannot delete {}: {error}", path.display()))
        .remedy("What was listed before it is deleted. Run it again as a user who may delete the rest.")
}
