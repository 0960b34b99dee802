//! Moving between the reference implementation and Ringpost, and looking at what a data directory holds.
//!
//! | module | what it does |
//! |---|---|
//! | [`import`] | from the reference's files into our log |
//! | [`export`] | from our log into the reference's files |
//! | [`check`] | reads all of our log, offline, and says what it holds and what is damaged |
//! | `files`, `mark`, `report` | which files there are; an import that was interrupted; the lines that were not imported |
//! | `reading` | the reference's files, read and judged |
//! | `filling`, `writer`, `chain` | records of our log, and the log while it is filled |
//! | `holdings` | what a store holds, in numbers |

pub mod check;
pub mod export;
pub mod import;

mod chain;
pub(crate) mod files;
mod filling;
mod holdings;
mod mark;
mod reading;
mod report;
mod writer;

pub use holdings::Holdings;

use std::io::Write;

use ringpost_store::IdHasher;
use ringpost_store::disk::FileDisk;
use ringpost_store::log::inspect::{Inspection, inspect};

use crate::exit::Fatal;
use crate::storage::Storage;

/// Reads our log. None if there is none.
fn read_log(storage: &Storage) -> Result<Option<(FileDisk, Inspection)>, Fatal> {
    let disk = FileDisk::new(storage.directory());
    let inspection = inspect(&disk, IdHasher::new(storage.id_hash_key()));
    let inspection = inspection.map_err(|error| writer::start_error(&error))?;
    Ok(inspection.map(|inspection| (disk, inspection)))
}

pub(crate) fn tell(out: &mut dyn Write, lines: &[String]) {
    // Work is done whether or not somebody listens.
    let _ = out.write_all((lines.join("\n") + "\n").as_bytes()).and_then(|()| out.flush());
}
