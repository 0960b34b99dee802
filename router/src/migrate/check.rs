//! `smp-server check`: reads all of our log, offline and without changing anything.

use std::io::Write;

use ringpost_store::disk::FileDisk;
use ringpost_store::log::inspect::{Inspection, inspect};
use ringpost_store::log::{Corruption, StartError};
use ringpost_store::{BodyPlace, IdHasher};
use serde_json::{Value, json};

use super::{Holdings, tell, writer};
use crate::exit::{Fatal, Reason};
use crate::paths::Paths;
use crate::storage::Storage;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Prints one JSON object instead of text for people.
    pub json: bool,
}

/// What was found, printed whole before its damage is told as an error.
#[derive(Debug, Default)]
struct Findings {
    inspection: Option<(Inspection, Holdings)>,
    damage: Vec<Corruption>,
}

/// Prints what a data directory holds.
pub fn check(paths: &Paths, options: &CheckOptions, out: &mut dyn Write) -> Result<(), Fatal> {
    let storage = Storage::open_existing(&paths.data_dir)?;
    let findings = match &storage {
        Some(storage) => find(storage)?,
        None => Findings::default(),
    };
    let directory = paths.data_dir.display().to_string();
    if options.json {
        tell(out, &[findings.json(&directory).to_string()]);
    } else {
        tell(out, &findings.lines(&directory));
    }
    match findings.damage.len() {
        0 => Ok(()),
        count => {
            let message = format!("{directory}: the log is damaged in {count} places");
            let remedy = "Restore the data directory from a backup. What is not damaged can still be read.";
            Err(Fatal::new(Reason::LogDamaged, message).remedy(remedy))
        }
    }
}

fn find(storage: &Storage) -> Result<Findings, Fatal> {
    let disk = FileDisk::new(storage.directory());
    let mut inspection = match inspect(&disk, IdHasher::new(storage.id_hash_key())) {
        Ok(None) => return Ok(Findings::default()),
        Ok(Some(inspection)) => inspection,
        Err(StartError::Corrupt(damage)) => {
            return Ok(Findings { inspection: None, damage: vec![damage] });
        }
        Err(error) => return Err(writer::start_error(&error)),
    };
    let checked = inspection.check_bodies(&disk);
    checked.map_err(|error| Fatal::new(Reason::LogFailed, error.to_string()))?;
    let holdings = Holdings::of(&inspection.store, BodyPlace::len);
    let damage = std::mem::take(&mut inspection.damage);
    Ok(Findings { inspection: Some((inspection, holdings)), damage })
}

impl Findings {
    fn lines(&self, directory: &str) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.inspection {
            None if self.damage.is_empty() => lines.push(format!("{directory}: there are no queues")),
            None => lines.push(format!("{directory}: the log cannot be read")),
            Some((inspection, holdings)) => {
                lines.push(format!(
                    "{directory}: generation {} of {} shards",
                    inspection.generation, inspection.shards
                ));
                lines.push(format!(
                    "Segments: {} of {} bytes; a start replays {} records on {} pages",
                    inspection.segments, inspection.segment_bytes, inspection.replayed, inspection.pages
                ));
                lines.extend(holdings.lines());
                lines.extend(inspection.torn.iter().map(|(file, offset)| {
                    format!("Cut off by a crash, without loss of what was answered: {file} at {offset}")
                }));
            }
        }
        lines.extend(self.damage.iter().map(|damage| format!("Damaged: {damage}")));
        if self.damage.is_empty() {
            lines.push("No damage was found".to_owned());
        }
        lines
    }

    fn json(&self, directory: &str) -> Value {
        let damage = self.damage.iter().map(
            |damage| json!({ "file": damage.file.to_string(), "offset": damage.offset, "what": damage.what }),
        );
        let log = self.inspection.as_ref().map(|(inspection, holdings)| {
            let torn = inspection.torn.iter();
            let torn = torn.map(|(file, offset)| json!({ "file": file.to_string(), "offset": offset }));
            json!({
                "generation": inspection.generation,
                "shards": inspection.shards,
                "segments": inspection.segments,
                "segment_bytes": inspection.segment_bytes,
                "index_pages": inspection.pages,
                "replayed_records": inspection.replayed,
                "torn": torn.collect::<Vec<_>>(),
                "holdings": holdings.json(),
            })
        });
        json!({ "directory": directory, "log": log, "damage": damage.collect::<Vec<_>>() })
    }
}
