//! What became of each line of the imported files.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::exit::{Fatal, Reason};
use crate::files::GROUP_MODE;

/// Lines that standard error shows; the report file has all.
const SHOWN_MAX: u64 = 1_000;

/// What becomes of a line that is not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What it says is lost.
    Rejected,
    /// It changes nothing: nothing is lost without it.
    PassedOver,
}

/// The lines of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    pub read: u64,
    pub passed_over: u64,
    pub rejected: u64,
}

impl LineCounts {
    pub fn used(&self) -> u64 {
        self.read - self.passed_over - self.rejected
    }
}

/// Tells the operator, on standard error and in a file, of every line that is not imported.
pub struct Report<'a> {
    path: PathBuf,
    file: BufWriter<File>,
    err: &'a mut dyn Write,
    shown: u64,
    left_out: u64,
    failed: Option<io::Error>,
}

impl std::fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a> Report<'a> {
    /// Takes the place of the report of an earlier attempt.
    pub fn create(path: &Path, err: &'a mut dyn Write) -> Result<Self, Fatal> {
        let mut open = OpenOptions::new();
        let file = open.write(true).create(true).truncate(true).mode(GROUP_MODE).open(path);
        let file = file.map_err(|error| cannot_write(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            err,
            shown: 0,
            left_out: 0,
            failed: None,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Line `number` of `file` is not imported.
    pub fn line(&mut self, file: &str, number: u64, verdict: Verdict, reason: &dyn Display) {
        let verdict = match verdict {
            Verdict::Rejected => "rejected",
            Verdict::PassedOver => "passed over",
        };
        let text = format!("{file}:{number}: {verdict}: {reason}");
        if self.shown < SHOWN_MAX {
            self.shown += 1;
            let _ = writeln!(self.err, "{text}");
        } else {
            self.left_out += 1;
        }
        self.keep(&text);
    }

    /// Something about the whole that is worth knowing.
    pub fn say(&mut self, text: &str) {
        self.keep(text);
    }

    pub fn say_all(&mut self, lines: &[String]) {
        for line in lines {
            self.keep(line);
        }
    }

    fn keep(&mut self, text: &str) {
        // An import does not stop half way because the disk has no space for its report; its end says so.
        if self.failed.is_none()
            && let Err(error) = writeln!(self.file, "{text}")
        {
            self.failed = Some(error);
        }
    }

    /// Says how many lines standard error did not show.
    pub fn end_of_lines(&mut self) {
        if self.left_out > 0 {
            let _ = writeln!(self.err, "... and {} more lines: see {}", self.left_out, self.path.display());
            self.left_out = 0;
        }
    }

    /// Complete and on the disk.
    pub fn finish(mut self) -> Result<(), Fatal> {
        self.end_of_lines();
        let done = match self.failed {
            Some(error) => Err(error),
            None => self.file.flush().and_then(|()| self.file.get_ref().sync_all()),
        };
        done.map_err(|error| cannot_write(&self.path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Fatal {
    Fatal::new(Reason::Files, format!("cannot write {}: {error}", path.display()))
}
