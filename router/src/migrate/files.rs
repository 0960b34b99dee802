//! The reference's files in a directory: which there are, and names for those that are done with.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use crate::exit::{Fatal, Reason};
use crate::files::exists;

pub const STORE_LOG: &str = "smp-server-store.log";
pub const MESSAGES_LOG: &str = "smp-server-messages.log";
pub const NOTIFICATIONS_LOG: &str = "smp-server-ntfs.log";
/// Where the reference keeps messages in files of its own, if it is told to.
pub const MESSAGES_JOURNAL: &str = "messages";

/// Files are read and written in steps of this.
pub const BUFFER_BYTES: usize = 1 << 20;
/// Names with a number that are tried before giving up.
const NAMES_MAX: u32 = 1_000;

/// A file to read.
#[derive(Debug)]
pub struct Source {
    pub name: &'static str,
    pub path: PathBuf,
}

impl Source {
    pub fn open(&self) -> Result<BufReader<File>, Fatal> {
        let file = File::open(&self.path).map_err(|error| self.error(&error))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, file))
    }

    pub fn error(&self, error: &io::Error) -> Fatal {
        Fatal::new(Reason::Files, format!("cannot read {}: {error}", self.path.display()))
    }
}

/// What is to be imported.
#[derive(Debug)]
pub struct Sources {
    pub store: Source,
    pub messages: Option<Source>,
    pub notifications: Option<Source>,
}

impl Sources {
    /// Refuses a directory where something is missing that must not be lost.
    pub fn find(directory: &Path) -> Result<Self, Fatal> {
        let source = |name| Source { name, path: directory.join(name) };
        let store = source(STORE_LOG);
        let interrupted = directory.join(format!("{STORE_LOG}.start"));
        if exists(&interrupted)? {
            let message = format!(
                "{} exists: the server was interrupted while it wrote {STORE_LOG} anew, which may be incomplete",
                interrupted.display()
            );
            let remedy = format!("Start and stop that server once more, or rename this file to {STORE_LOG}.");
            return Err(Fatal::new(Reason::Files, message).remedy(remedy));
        }
        let journal = directory.join(MESSAGES_JOURNAL);
        if exists(&journal)? {
            let message = format!("{} exists: the messages in it would be missing", journal.display());
            let remedy = "Run `smp-server journal export` of that server, which writes them to \
                          smp-server-messages.log, and move the directory away.";
            return Err(Fatal::new(Reason::Files, message).remedy(remedy));
        }
        if !exists(&store.path)? {
            let message = format!("{} does not exist: there is nothing to import", store.path.display());
            return Err(Fatal::new(Reason::Files, message));
        }
        let optional = |name| {
            let source = source(name);
            Ok::<_, Fatal>(exists(&source.path)?.then_some(source))
        };
        Ok(Self { store, messages: optional(MESSAGES_LOG)?, notifications: optional(NOTIFICATIONS_LOG)? })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        let more = [self.messages.as_ref(), self.notifications.as_ref()];
        std::iter::once(&self.store).chain(more.into_iter().flatten())
    }
}

/// `NAME.imported`, or with a number if that is taken.
pub fn imported_name(directory: &Path, name: &str) -> Result<String, Fatal> {
    let numbered = (2..NAMES_MAX).map(|number| format!("{name}.imported-{number}"));
    for candidate in std::iter::once(format!("{name}.imported")).chain(numbered) {
        if !exists(&directory.join(&candidate))? {
            return Ok(candidate);
        }
    }
    let message = format!("{}: there are too many files named {name}.imported-*", directory.display());
    Err(Fatal::new(Reason::Files, message).remedy("Remove those that are not needed any more."))
}

pub fn sync_directory(path: &Path) -> Result<(), Fatal> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| {
        Fatal::new(Reason::Files, format!("cannot sync the directory {}: {error}", path.display()))
    })
}
