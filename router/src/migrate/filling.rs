//! What was read from the reference's files, as records of our log.

use ringpost_store::{IdHasher, Link, NewNotifier, NewParts, NewQueue, Notification, Party, Record, Service};

use super::files::Source;
use super::reading::{Notifications, Refusal, day};
use super::writer::LogWriter;
use super::{chain, reading};
use crate::exit::{Fatal, Reason};
use crate::reference::{
    Id, MessageContent, MessageLine, NotificationLine, QueueRecord, QueueStatus, ServiceRecord,
};

/// What was checked when it was read does not fit any more.
fn changed(what: &dyn std::fmt::Display) -> Fatal {
    Fatal::new(Reason::Files, format!("a file was changed while it was read: {what}"))
}

fn secs(secs: i64) -> Result<u64, Fatal> {
    u64::try_from(secs).map_err(|_| changed(&Refusal::Time))
}

/// Appends records.
#[derive(Debug)]
pub struct Filler {
    pub log: LogWriter,
    hasher: IdHasher,
}

impl Filler {
    pub fn new(log: LogWriter) -> Self {
        let hasher = *log.store().hasher();
        Self { log, hasher }
    }

    pub fn service(&mut self, service: &ServiceRecord) -> Result<(), Fatal> {
        let hash = self.hasher.hash_fingerprint(&service.fingerprint);
        let chain = chain::encode(&service.chain);
        let service = Service {
            id: service.id,
            role: service.role,
            fingerprint: service.fingerprint,
            created_day: day(service.created_secs).map_err(|error| changed(&error))?,
            chain: chain.as_slice(),
        };
        self.log.append(hash, [Record::Service { service }])
    }

    /// A queue with its notifications, and without its link: bodies between the records of queues would keep the pages
    /// of these records from being given back segment by segment.
    pub fn queue(
        &mut self,
        id: Id,
        record: &QueueRecord,
        notifications: &mut Notifications,
    ) -> Result<(), Fatal> {
        let hash = self.hasher.hash(&id);
        let today = record.updated_secs.map_or(Ok(0), day).map_err(|error| changed(&error))?;
        let Some(first_key) = record.recipient_keys.first() else {
            return Err(changed(&"a queue without a recipient key"));
        };
        let new = NewQueue {
            recipient_id: id,
            sender_id: record.sender_id,
            recipient_key: first_key.clone(),
            delivery_secret: record.delivery_secret,
            mode: record.mode,
        };
        let notifier = record.notifier.as_deref();
        let parts = NewParts {
            link: None,
            notifier: notifier.map(|notifier| NewNotifier {
                id: notifier.id,
                key: notifier.key.clone(),
                secret: notifier.secret,
                service: notifier.service,
            }),
            recipient_service: record.service,
        };
        let mut records = Record::creation(new, parts, today);
        records.extend(record.sender_key.clone().map(|key| Record::Secure { queue: id, key }));
        if record.recipient_keys.len() > 1 {
            records.extend(Record::recipient_keys(id, &record.recipient_keys));
        }
        match &record.status {
            QueueStatus::Active => {}
            QueueStatus::Suspended => records.push(Record::Suspend { queue: id }),
            QueueStatus::Blocked(info) => records.push(Record::Block { queue: id, info: info.clone() }),
        }
        let kept = notifier.and_then(|notifier| notifications.remove(&notifier.id));
        for kept in kept.into_iter().flatten() {
            records.push(Record::Notification { queue: id, notification: notification(kept)? });
        }
        self.log.append(hash, records)
    }

    /// The link of a queue that was made.
    pub fn link(&mut self, queue: Id, link: &crate::reference::Link) -> Result<(), Fatal> {
        let data = [link.fixed.as_slice(), &link.user].concat();
        let link = Link {
            id: link.id,
            // Both parts fit into a body.
            fixed_bytes: u16::try_from(link.fixed.len()).unwrap_or(u16::MAX),
            fixed_hash: self.hasher.hash_fixed_data(&link.fixed),
            data: data.as_slice(),
        };
        self.log.append(self.hasher.hash(&queue), [Record::Link { queue, link }])
    }

    /// The lines of a messages log that are imported. Says how many there were.
    pub fn messages(&mut self, source: &Source) -> Result<u64, Fatal> {
        let mut written = 0;
        let read = reading::parse_lines(source.open()?, reading::message, |_, line| {
            // What is refused now was reported when it was judged.
            if let Ok(line) = line
                && self.log.store().find(Party::Recipient, &line.recipient_id).is_some()
            {
                self.message(&line)?;
                written += 1;
            }
            Ok::<_, Fatal>(())
        })?;
        read.map_err(|error| source.error(&error))?;
        Ok(written)
    }

    fn message(&mut self, line: &MessageLine) -> Result<(), Fatal> {
        let MessageLine { recipient_id: queue, message_id: id, .. } = *line;
        let received_secs = secs(line.received_secs)?;
        let record = match &line.content {
            MessageContent::Quota => Record::Quota { queue, id, received_secs },
            MessageContent::Sent { flags, body } => {
                Record::Message { queue, id, received_secs, flags: *flags, body: body.as_slice() }
            }
        };
        self.log.append(self.hasher.hash(&queue), [record])
    }
}

fn notification(kept: NotificationLine) -> Result<Notification, Fatal> {
    Ok(Notification {
        message_id: kept.message_id,
        received_secs: secs(kept.received_secs)?,
        nonce: kept.nonce,
        meta: kept.meta.into_boxed_slice(),
    })
}
