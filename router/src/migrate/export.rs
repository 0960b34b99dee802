//! `smp-server export`: from our log into the reference's files, in their newest format.
//!
//! Our log is only read. A file is written under another name and renamed when it is complete; the store log comes
//! last, so where it is, all is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ringpost_store::log::inspect::Inspection;
use ringpost_store::{BodyPlace, Content, Link, Message, Queue, Service, Status};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::files::{BUFFER_BYTES, MESSAGES_LOG, NOTIFICATIONS_LOG, STORE_LOG, sync_directory};
use super::{Holdings, chain, read_log, tell};
use crate::exit::{Fatal, Reason};
use crate::files::SECRET_MODE;
use crate::files::exists;
use crate::paths::Paths;
use crate::reference::{
    MessageContent, MessageLine, NotificationLine, Notifier, QueueRecord, QueueStatus, ServiceRecord,
    StoreLine,
};
use crate::storage::Storage;
use ringpost_store::disk::FileDisk;

/// Messages of one queue that the reference takes back; it drops more.
const REFERENCE_QUOTA: u64 = 128;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Where the files are written. None: into the data directory.
    pub to: Option<PathBuf>,
}

/// What the reference could not read, or would drop.
#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    empty_messages: u64,
    links: u64,
    services: u64,
    beyond_quota: u64,
}

/// Exports. What was done goes to `out`, what could not be goes to `err`.
pub fn export(
    paths: &Paths,
    options: &ExportOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Fatal> {
    let directory = options.to.as_deref().unwrap_or(&paths.data_dir);
    refuse_to_overwrite(directory)?;
    let nothing = || {
        let message = format!("{} has no queues to export", paths.data_dir.display());
        Fatal::new(Reason::Files, message)
    };
    let storage = Storage::open_existing(&paths.data_dir)?.ok_or_else(nothing)?;
    let (disk, inspection) = read_log(&storage)?.ok_or_else(nothing)?;
    if let Some(damage) = inspection.damage.first() {
        return Err(damaged(&damage.to_string()));
    }
    let holdings = Holdings::of(&inspection.store, BodyPlace::len);
    let mut files = Files::create(directory)?;
    let written =
        Exporter { disk: &disk, inspection: &inspection, files: &mut files, buffer: Vec::new() }.run();
    let (left_out, lines) = match written.and_then(|left_out| Ok((left_out, files.finish()?))) {
        Ok(done) => done,
        Err(error) => {
            files.remove();
            return Err(error);
        }
    };
    for line in left_out.lines() {
        let _ = writeln!(err, "{line}");
    }
    let mut told = vec![format!("Exported into {}:", directory.display())];
    told.extend(lines);
    told.push("From a log that holds:".to_owned());
    told.extend(holdings.lines());
    tell(out, &told);
    Ok(())
}

fn damaged(what: &str) -> Fatal {
    Fatal::new(Reason::LogDamaged, format!("the log is damaged: {what}"))
        .remedy("`smp-server check` lists all damage. Restore the data directory from a backup.")
}

fn refuse_to_overwrite(directory: &Path) -> Result<(), Fatal> {
    let start = format!("{STORE_LOG}.start");
    for name in [STORE_LOG, MESSAGES_LOG, NOTIFICATIONS_LOG, &start] {
        let path = directory.join(name);
        if exists(&path)? {
            let message = format!("{} exists, and is not overwritten", path.display());
            return Err(Fatal::new(Reason::AlreadyInitialized, message)
                .remedy("Move it away, or name another directory with --to."));
        }
    }
    Ok(())
}

impl LeftOut {
    fn lines(&self) -> Vec<String> {
        let all = [
            (
                self.empty_messages,
                "messages without a body were left out: the other server could not read them",
            ),
            (self.links, "links without data were left out: the other server could not read them"),
            (self.services, "services whose certificates are not readable were left out"),
            (
                self.beyond_quota,
                "messages are more than the other server keeps of a queue: it will drop them",
            ),
        ];
        all.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// A file that is being written.
struct Target {
    name: &'static str,
    path: PathBuf,
    new: PathBuf,
    file: BufWriter<File>,
    lines: u64,
}

impl Target {
    fn create(directory: &Path, name: &'static str) -> Result<Self, Fatal> {
        let path = directory.join(name);
        let new = directory.join(format!("{name}.exporting"));
        let mut open = OpenOptions::new();
        let file = open.write(true).create(true).truncate(true).mode(SECRET_MODE).open(&new);
        let file = file.map_err(|error| cannot_write(&new, &error))?;
        Ok(Self { name, path, new, file: BufWriter::with_capacity(BUFFER_BYTES, file), lines: 0 })
    }

    fn put(&mut self, line: &[u8]) -> Result<(), Fatal> {
        self.lines += 1;
        self.file.write_all(line).map_err(|error| cannot_write(&self.new, &error))
    }

    /// Gives the file its name, if no other has it now.
    fn finish(&mut self) -> Result<String, Fatal> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| cannot_write(&self.new, &error))?;
        rename_new(&self.new, &self.path).map_err(|error| cannot_write(&self.path, &error))?;
        Ok(format!("{}: {} lines", self.name, self.lines))
    }
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot look and rename at once.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !to.try_exists()? => fs::rename(from, to),
        done => Ok(done?),
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Fatal {
    Fatal::new(Reason::Files, format!("cannot write {}: {error}", path.display()))
}

struct Files {
    directory: PathBuf,
    messages: Target,
    notifications: Target,
    store: Target,
}

impl Files {
    fn create(directory: &Path) -> Result<Self, Fatal> {
        Ok(Self {
            directory: directory.to_owned(),
            messages: Target::create(directory, MESSAGES_LOG)?,
            notifications: Target::create(directory, NOTIFICATIONS_LOG)?,
            store: Target::create(directory, STORE_LOG)?,
        })
    }

    fn finish(&mut self) -> Result<Vec<String>, Fatal> {
        let mut lines = Vec::new();
        for target in [&mut self.messages, &mut self.notifications, &mut self.store] {
            lines.push(target.finish()?);
            sync_directory(&self.directory)?;
        }
        Ok(lines)
    }

    /// Those that have no name yet.
    fn remove(&self) {
        for target in [&self.messages, &self.notifications, &self.store] {
            // The next attempt writes over what cannot be removed.
            let _ = fs::remove_file(&target.new);
        }
    }
}

struct Exporter<'a> {
    disk: &'a FileDisk,
    inspection: &'a Inspection,
    files: &'a mut Files,
    buffer: Vec<u8>,
}

impl Exporter<'_> {
    fn run(mut self) -> Result<LeftOut, Fatal> {
        let mut left_out = LeftOut::default();
        let store = &self.inspection.store;
        for service in store.services() {
            match self.service(service)? {
                Some(line) => self.put_store_line(&line)?,
                None => left_out.services += 1,
            }
        }
        for (_, queue) in store.queues_between(0..u32::MAX) {
            let record = self.record(queue, &mut left_out)?;
            for line in StoreLine::creation(queue.recipient_id, record) {
                self.put_store_line(&line)?;
            }
            self.put_notifications(queue)?;
            self.put_messages(queue, &mut left_out)?;
        }
        Ok(left_out)
    }

    fn put_store_line(&mut self, line: &StoreLine) -> Result<(), Fatal> {
        let mut text = Vec::new();
        line.write(&mut text);
        self.files.store.put(&text)
    }

    fn body(&mut self, place: BodyPlace) -> Result<Vec<u8>, Fatal> {
        let read = self.inspection.read_body(self.disk, place, &mut self.buffer);
        let body = read.map_err(|error| Fatal::new(Reason::LogFailed, error.to_string()))?;
        body.map(<[u8]>::to_vec).map_err(|damage| damaged(&damage.to_string()))
    }

    /// None if the certificates are in a form that is not known.
    fn service(&mut self, service: &Service<BodyPlace>) -> Result<Option<StoreLine>, Fatal> {
        let Some(chain) = chain::decode(&self.body(service.chain)?) else { return Ok(None) };
        Ok(Some(StoreLine::Service(Box::new(ServiceRecord {
            id: service.id,
            role: service.role,
            chain,
            fingerprint: service.fingerprint,
            created_secs: day_start_secs(service.created_day),
        }))))
    }

    fn record(
        &mut self,
        queue: &Queue<BodyPlace>,
        left_out: &mut LeftOut,
    ) -> Result<Box<QueueRecord>, Fatal> {
        let link = match queue.link() {
            None => None,
            Some(link) => {
                let readable = self.link(link)?;
                left_out.links += u64::from(readable.is_none());
                readable
            }
        };
        let notifier = queue.notifier().map(|notifier| {
            Box::new(Notifier {
                id: notifier.id,
                key: notifier.key.clone(),
                secret: notifier.secret,
                service: notifier.service,
            })
        });
        Ok(Box::new(QueueRecord {
            recipient_keys: queue.recipient_keys().cloned().collect(),
            delivery_secret: queue.delivery_secret,
            sender_id: queue.sender_id,
            sender_key: queue.sender_key.clone(),
            mode: queue.mode,
            link,
            notifier,
            updated_secs: (queue.used_day > 0).then(|| day_start_secs(queue.used_day)),
            status: match queue.status() {
                Status::Active => QueueStatus::Active,
                Status::Suspended => QueueStatus::Suspended,
                Status::Blocked(info) => QueueStatus::Blocked(info),
            },
            service: queue.recipient_service().copied(),
        }))
    }

    /// None if one of its parts is empty: the format has no place for that.
    fn link(&mut self, link: &Link<BodyPlace>) -> Result<Option<Box<crate::reference::Link>>, Fatal> {
        let data = self.body(link.data)?;
        let parts = data.split_at_checked(usize::from(link.fixed_bytes));
        let parts = parts.filter(|(fixed, user)| !fixed.is_empty() && !user.is_empty());
        Ok(parts.map(|(fixed, user)| {
            Box::new(crate::reference::Link { id: link.id, fixed: fixed.to_vec(), user: user.to_vec() })
        }))
    }

    fn put_notifications(&mut self, queue: &Queue<BodyPlace>) -> Result<(), Fatal> {
        let Some(notifier) = queue.notifier() else { return Ok(()) };
        for kept in notifier.notifications() {
            let line = NotificationLine {
                notifier_id: notifier.id,
                message_id: kept.message_id,
                received_secs: i64::try_from(kept.received_secs).unwrap_or(i64::MAX),
                nonce: kept.nonce,
                meta: kept.meta.to_vec(),
            };
            let mut text = Vec::new();
            line.write(&mut text);
            self.files.notifications.put(&text)?;
        }
        Ok(())
    }

    fn put_messages(&mut self, queue: &Queue<BodyPlace>, left_out: &mut LeftOut) -> Result<(), Fatal> {
        let mut written = 0;
        for message in queue.messages().into_iter().flatten() {
            let Some(line) = self.message(queue, message)? else {
                left_out.empty_messages += 1;
                continue;
            };
            let mut text = Vec::new();
            line.write(&mut text);
            self.files.messages.put(&text)?;
            written += u64::from(line.content != MessageContent::Quota);
        }
        left_out.beyond_quota += written.saturating_sub(REFERENCE_QUOTA);
        Ok(())
    }

    /// None if it has an empty body, with which the reference would not start.
    fn message(
        &mut self,
        queue: &Queue<BodyPlace>,
        message: &Message<BodyPlace>,
    ) -> Result<Option<MessageLine>, Fatal> {
        let content = match &message.content {
            Content::Quota => MessageContent::Quota,
            Content::Sent { body, .. } if body.is_empty() => return Ok(None),
            Content::Sent { flags, body } => MessageContent::Sent { flags: *flags, body: self.body(*body)? },
        };
        Ok(Some(MessageLine {
            recipient_id: queue.recipient_id,
            message_id: message.id,
            received_secs: i64::try_from(message.received_secs).unwrap_or(i64::MAX),
            content,
        }))
    }
}

fn day_start_secs(day: u32) -> i64 {
    i64::from(day) * 86_400
}
