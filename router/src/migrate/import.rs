//! `smp-server import`: from the reference's files into our log.
//!
//! All files are read and judged before anything is written. What is written stands under a mark until it is complete,
//! was read back, and the reference's files have their new names. So an import that is interrupted at any point is
//! either done again, or only its end is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ringpost_store::BodyPlace;
use ringpost_store::log::FileName;

use super::files::{Sources, imported_name, sync_directory};
use super::filling::Filler;
use super::mark::{Mark, Renaming, rename_all};
use super::reading::{self, Notifications};
use super::report::{LineCounts, Report};
use super::writer::LogWriter;
use super::{Holdings, read_log, tell};
use crate::configuration;
use crate::exit::{Fatal, Reason};
use crate::paths::Paths;
use crate::reference::{QueueState, State};
use crate::settings::keys::STORE_LOG as STORE_LOG_SECTION;
use crate::storage::Storage;

/// In the data directory.
pub const REPORT: &str = "ringpost-import.txt";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Where the reference's files are. None: in the data directory, where they are renamed afterwards.
    pub from: Option<PathBuf>,
    /// Goes on in spite of lines that are rejected.
    pub accept_rejected: bool,
}

/// Imports. What was done goes to `out`, lines that are not imported go to `err`.
pub fn import(
    paths: &Paths,
    options: &ImportOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Fatal> {
    refuse_databases(paths)?;
    let storage = Storage::open_to_import(&paths.data_dir)?;
    let mark = Mark::of(&storage);
    match mark.read()? {
        Some(renamings) if !renamings.is_empty() => {
            tell(out, &["An earlier import had written everything; this one does what was left.".to_owned()]);
            return end(paths, &mark, &renamings, out);
        }
        Some(_) => {
            tell(out, &["An earlier import was interrupted; this one begins anew.".to_owned()]);
            remove_log(&storage)?;
        }
        None => refuse_queues(&storage)?,
    }
    let directory = options.from.as_deref().unwrap_or(&paths.data_dir);
    let sources = Sources::find(directory)?;
    let mut report = Report::create(&paths.data_dir.join(REPORT), err)?;
    let mut clock = Clock::start();
    let read = Everything::read(&sources, &mut report)?;
    let mut lines = read.lines(&sources);
    lines.push(format!("Read in {}", clock.lap()));
    report.say_all(&lines);
    tell(out, &lines);
    let rejected: u64 = read.counts.iter().map(|(_, counts)| counts.rejected).sum();
    if rejected > 0 && !options.accept_rejected {
        report.say("Nothing was imported.");
        let message = format!("{rejected} lines were rejected, so nothing was imported");
        let remedy = format!(
            "{} lists them. What they say would be missing; to import the rest, run `smp-server import \
             --accept-rejected`.",
            report.path().display()
        );
        report.finish()?;
        return Err(Fatal::new(Reason::ImportRejected, message).remedy(remedy));
    }
    mark.begin()?;
    let written = read.write(&storage, &sources).and_then(|holdings| {
        let written = clock.lap();
        verify(&storage, &holdings)?;
        Ok((holdings, format!("Written in {written}, read back in {}", clock.lap())))
    });
    let (holdings, durations) = match written {
        Ok(written) => written,
        Err(error) => {
            report.say(&format!("Nothing was imported: {}", error.message));
            // What cannot be removed now is removed by the next attempt.
            if remove_log(&storage).is_ok() {
                let _ = mark.remove();
            }
            let _ = report.finish();
            return Err(error);
        }
    };
    let mut lines = vec![format!("Imported into {}, and read back:", storage.directory().display())];
    lines.extend(holdings.lines());
    lines.push(durations);
    let renamings = if options.from.is_none() { renamings(&paths.data_dir, &sources)? } else { Vec::new() };
    report.say_all(&lines);
    for name in &renamings {
        report.say(&format!("{} is now {}", name.from, name.to));
    }
    report.finish()?;
    tell(out, &lines);
    if renamings.is_empty() {
        return mark.remove();
    }
    mark.complete(&renamings)?;
    end(paths, &mark, &renamings, out)
}

/// The reference's files get new names, so that nobody takes them for the newest state.
fn end(paths: &Paths, mark: &Mark, renamings: &[Renaming], out: &mut dyn Write) -> Result<(), Fatal> {
    rename_all(&paths.data_dir, renamings)?;
    mark.remove()?;
    let lines: Vec<String> =
        renamings.iter().map(|name| format!("{} is now {}", name.from, name.to)).collect();
    tell(out, &lines);
    Ok(())
}

fn renamings(directory: &Path, sources: &Sources) -> Result<Vec<Renaming>, Fatal> {
    let renaming = |source: &super::files::Source| {
        Ok(Renaming { from: source.name.to_owned(), to: imported_name(directory, source.name)? })
    };
    sources.iter().map(renaming).collect()
}

/// The newest queues would be in the database, and the files may be old.
fn refuse_databases(paths: &Paths) -> Result<(), Fatal> {
    let Some(ini) = configuration::read_if_there(paths)? else { return Ok(()) };
    let (path, config) = (&ini.path, |message: String| Fatal::new(Reason::Config, message));
    for key in ["store_queues", "store_messages"] {
        if let Some(entry) = ini.entry(STORE_LOG_SECTION, key)
            && entry.value == "database"
        {
            let message = format!(
                "{}:{}: [{STORE_LOG_SECTION}] {key} = database: the newest state is in a database",
                path.display(),
                entry.line
            );
            let remedy = "Run `smp-server database export` of that server, then set the key to memory.";
            return Err(config(message).remedy(remedy));
        }
    }
    Ok(())
}

fn refuse_queues(storage: &Storage) -> Result<(), Fatal> {
    let Some((_, inspection)) = read_log(storage)? else { return Ok(()) };
    if let Some(damage) = inspection.damage.first() {
        let message =
            format!("there is a log in {}, which is damaged: {damage}", storage.directory().display());
        return Err(Fatal::new(Reason::LogDamaged, message).remedy("`smp-server check` lists all damage."));
    }
    let queues = inspection.store.queue_count();
    if queues == 0 && inspection.store.services().next().is_none() {
        return Ok(());
    }
    let directory = storage.directory().display();
    let message =
        format!("{directory} has {queues} queues already: an import would not know which are newer");
    let remedy = format!(
        "To import in their place, move {directory} away; to keep them, move the files of the \
                          other server away."
    );
    Err(Fatal::new(Reason::AlreadyInitialized, message).remedy(remedy))
}

/// Removes a log that is not complete.
fn remove_log(storage: &Storage) -> Result<(), Fatal> {
    let directory = storage.directory();
    let failed = |error: std::io::Error| {
        Fatal::new(Reason::Files, format!("cannot remove the log in {}: {error}", directory.display()))
    };
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(|name| name.parse::<FileName>().is_ok()) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    sync_directory(directory)
}

/// What was written is there, whole, and nothing else.
fn verify(storage: &Storage, written: &Holdings) -> Result<(), Fatal> {
    let wrong = |what: String| {
        Fatal::new(Reason::LogFailed, format!("what was written does not read back as it was: {what}"))
    };
    let (disk, mut inspection) = read_log(storage)?.ok_or_else(|| wrong("there is no log".to_owned()))?;
    inspection.check_bodies(&disk).map_err(|error| wrong(error.to_string()))?;
    if let Some(damage) = inspection.damage.first() {
        return Err(wrong(damage.to_string()));
    }
    let found = Holdings::of(&inspection.store, BodyPlace::len);
    if found == *written { Ok(()) } else { Err(wrong(format!("{found:?}, not {written:?}"))) }
}

/// How long things take, for people.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the last lap.
    fn lap(&mut self) -> String {
        let began = std::mem::replace(&mut self.0, Instant::now());
        format!("{:.1} s", began.elapsed().as_secs_f64())
    }
}

/// Everything that is imported, except for the messages, which are read again when they are written.
struct Everything {
    state: State,
    notifications: Notifications,
    counts: Vec<(&'static str, LineCounts)>,
    message_lines: u64,
}

impl Everything {
    fn read(sources: &Sources, report: &mut Report<'_>) -> Result<Self, Fatal> {
        let source = &sources.store;
        let (state, counts) =
            reading::store_log(source.open()?, source.name, report).map_err(|error| source.error(&error))?;
        let mut read = Self {
            state,
            notifications: Notifications::default(),
            counts: vec![(source.name, counts)],
            message_lines: 0,
        };
        if let Some(source) = &sources.messages {
            let counts = reading::messages_log(source.open()?, source.name, &read.state, report)
                .map_err(|error| source.error(&error))?;
            read.message_lines = counts.used();
            read.counts.push((source.name, counts));
        }
        if let Some(source) = &sources.notifications {
            let (notifications, counts) =
                reading::notifications_log(source.open()?, source.name, &read.state, report)
                    .map_err(|error| source.error(&error))?;
            read.notifications = notifications;
            read.counts.push((source.name, counts));
        }
        report.end_of_lines();
        Ok(read)
    }

    /// What was read, for people.
    fn lines(&self, sources: &Sources) -> Vec<String> {
        let mut lines: Vec<String> = self
            .counts
            .iter()
            .map(|(name, counts)| {
                format!(
                    "{name}: {} lines read: {} used, {} passed over without loss, {} rejected",
                    counts.read,
                    counts.used(),
                    counts.passed_over,
                    counts.rejected
                )
            })
            .collect();
        if sources.messages.is_none() {
            lines.push("There is no messages log: the queues come without messages".to_owned());
        }
        lines
    }

    /// Writes the log, complete and on the disk.
    fn write(self, storage: &Storage, sources: &Sources) -> Result<Holdings, Fatal> {
        let Self { state, mut notifications, message_lines, .. } = self;
        let mut filler = Filler::new(LogWriter::open(storage)?);
        for service in state.services() {
            filler.service(service)?;
        }
        filler.log.reserve(state.queues().count());
        let mut links = Vec::new();
        for QueueState { recipient_id, mut record, .. } in state.into_queues() {
            filler.queue(recipient_id, &record, &mut notifications)?;
            links.extend(record.link.take().map(|link| (recipient_id, link)));
        }
        for (recipient_id, link) in links {
            filler.link(recipient_id, &link)?;
        }
        if let Some(source) = &sources.messages {
            let written = filler.messages(source)?;
            if written != message_lines {
                let message = format!("{} was changed while it was read", source.path.display());
                return Err(Fatal::new(Reason::Files, message)
                    .remedy("Stop the server that writes it, then import again."));
            }
        }
        let store = filler.log.finish()?;
        Ok(Holdings::of(&store, BodyPlace::len))
    }
}
