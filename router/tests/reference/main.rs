//! The files of the reference implementation: recorded lines, recorded files, and lines of any content.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod any_lines;
mod recorded;
mod shown;
mod state;
mod strategies;

use std::path::PathBuf;

/// A file of the recorded data.
pub fn recorded_file(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/reference_data");
    PathBuf::from(folder).join(name)
}

pub fn recorded_text(name: &str) -> String {
    let path = recorded_file(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
