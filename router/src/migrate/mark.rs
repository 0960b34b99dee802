//! The mark of an import that is under way, in the directory of the log. While it is there no router uses the log, and
//! another import begins anew; or, when the mark names the files to rename, does only that.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::files::sync_directory;
use crate::exit::{Fatal, Reason};
use crate::files::exists;
use crate::storage::Storage;

/// A file to rename, both names in the same directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    pub from: String,
    pub to: String,
}

#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
}

impl Mark {
    pub fn of(storage: &Storage) -> Self {
        Self { path: storage.import_mark() }
    }

    /// What an earlier import left to do. None: there is no mark. Empty: the log is not complete.
    pub fn read(&self) -> Result<Option<Vec<Renaming>>, Fatal> {
        if !exists(&self.path)? {
            return Ok(None);
        }
        let text = fs::read_to_string(&self.path).map_err(|error| self.error("read", &error))?;
        let renaming = |line: &str| {
            let (from, to) = line.split_once(' ')?;
            Some(Renaming { from: from.to_owned(), to: to.to_owned() })
        };
        Ok(Some(text.lines().filter_map(renaming).collect()))
    }

    /// The log is not complete until [`complete`](Self::complete).
    pub fn begin(&self) -> Result<(), Fatal> {
        self.write("")
    }

    /// The log is complete; these files are to be renamed. There is at least one.
    pub fn complete(&self, renamings: &[Renaming]) -> Result<(), Fatal> {
        let lines: Vec<String> =
            renamings.iter().map(|name| format!("{} {}\n", name.from, name.to)).collect();
        self.write(&lines.concat())
    }

    pub fn remove(&self) -> Result<(), Fatal> {
        fs::remove_file(&self.path).map_err(|error| self.error("remove", &error))?;
        sync_directory(self.directory())
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The old content or the new one is there, whatever happens.
    fn write(&self, content: &str) -> Result<(), Fatal> {
        let new = self.path.with_extension("new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)
        };
        write().map_err(|error| self.error("write", &error))?;
        sync_directory(self.directory())
    }

    fn error(&self, what: &str, error: &std::io::Error) -> Fatal {
        Fatal::new(Reason::Files, format!("cannot {what} {}: {error}", self.path.display()))
    }
}

/// Renames what was not renamed before.
pub fn rename_all(directory: &Path, renamings: &[Renaming]) -> Result<(), Fatal> {
    for Renaming { from, to } in renamings {
        let (source, target) = (directory.join(from), directory.join(to));
        if exists(&source)? && !exists(&target)? {
            fs::rename(&source, &target).map_err(|error| {
                let message = format!("cannot rename {} to {}: {error}", source.display(), target.display());
                Fatal::new(Reason::Files, message)
            })?;
        }
    }
    sync_directory(directory)
}
