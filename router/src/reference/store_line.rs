//! Lines of `smp-server-store.log`.

use ringpost_protocol::error::BlockingInfo;
use ringpost_protocol::keys::AuthPublicKey;

use super::queue::blocking;
use super::words::{
    Words, id, key, keys, maybe_id, put_base64, put_key, put_keys, put_secs, secs, unknown_kind,
};
use super::{BadLine, Id, Link, Notifier, QueueRecord, ServiceRecord};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLine {
    /// `NEW_SERVICE`
    Service(Box<ServiceRecord>),
    Queue {
        recipient_id: Id,
        change: Change,
    },
}

/// What happened to a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Create(Box<QueueRecord>),
    Link(Link),
    /// `LDELETE`
    DeleteLink,
    Secure(AuthPublicKey),
    /// All keys of the recipient, in place of the former ones. At least one.
    Keys(Vec<AuthPublicKey>),
    Notifier(Box<Notifier>),
    /// `NDELETE`
    DeleteNotifier,
    Suspend,
    Block(BlockingInfo),
    Unblock,
    Delete,
    /// The beginning of the day of the last use, in seconds since 1970.
    Time(i64),
    /// `QUEUE_SERVICE`: None takes the service away.
    Service {
        party: ServiceParty,
        service: Option<Id>,
    },
}

/// For whom a service receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceParty {
    /// `R`
    Recipient,
    /// `N`
    Notifier,
}

impl StoreLine {
    /// Reads a line without its line break. Older forms are read too.
    pub fn parse(line: &[u8]) -> Result<Self, BadLine> {
        let mut words = Words::new(line);
        let kind = words.word("kind")?;
        match kind {
            b"NEW_SERVICE" => return Ok(Self::Service(Box::new(ServiceRecord::parse(words)?))),
            b"CREATE" => {
                let recipient_id = id("rid", words.field("rid=")?)?;
                let change = Change::Create(Box::new(QueueRecord::parse(words)?));
                return Ok(Self::Queue { recipient_id, change });
            }
            b"LINK" | b"LDELETE" | b"SECURE" | b"KEYS" | b"NOTIFIER" | b"NDELETE" | b"SUSPEND" | b"BLOCK"
            | b"UNBLOCK" | b"DELETE" | b"TIME" | b"QUEUE_SERVICE" => {}
            _ => return Err(unknown_kind(kind)),
        }
        let recipient_id = id("recipient ID", words.word("recipient ID")?)?;
        let change = match kind {
            b"LINK" => {
                let link_id = words.word("link_id")?;
                Change::Link(Link::parse(&mut words, link_id)?)
            }
            b"LDELETE" => Change::DeleteLink,
            b"SECURE" => Change::Secure(key("sender key", words.word("sender key")?)?),
            b"KEYS" => Change::Keys(keys("recipient keys", words.word("recipient keys")?)?),
            b"NOTIFIER" => {
                let notifier_id = words.word("notifier ID")?;
                Change::Notifier(Box::new(Notifier::parse(&mut words, notifier_id)?))
            }
            b"NDELETE" => Change::DeleteNotifier,
            b"SUSPEND" => Change::Suspend,
            b"BLOCK" => Change::Block(blocking(words.rest("reason")?)?),
            b"UNBLOCK" => Change::Unblock,
            b"DELETE" => Change::Delete,
            b"TIME" => Change::Time(secs("time", words.word("time")?)?),
            _ => Change::Service {
                party: match words.word("party")? {
                    b"R" => ServiceParty::Recipient,
                    b"N" => ServiceParty::Notifier,
                    _ => return Err(BadLine::Field { field: "party", what: "neither R nor N" }),
                },
                service: maybe_id("service ID", words.word("service ID")?)?,
            },
        };
        words.finish()?;
        Ok(Self::Queue { recipient_id, change })
    }

    /// The lines that make a queue: one, or two where the reference could not read one line with all of it.
    pub fn creation(recipient_id: Id, mut record: Box<QueueRecord>) -> impl Iterator<Item = Self> {
        let apart = record.is_unreadable_in_one_line().then(|| record.service.take());
        let change = Change::Create(record);
        let service = apart.map(|service| Self::Queue {
            recipient_id,
            change: Change::Service { party: ServiceParty::Recipient, service },
        });
        std::iter::once(Self::Queue { recipient_id, change }).chain(service)
    }

    /// Appends the line in its newest form, with its line break.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Service(service) => {
                out.extend_from_slice(b"NEW_SERVICE ");
                service.put(out);
            }
            Self::Queue { recipient_id, change } => change.put(recipient_id, out),
        }
        out.push(b'\n');
    }
}

impl Change {
    fn put(&self, recipient_id: &Id, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Create(_) => b"CREATE rid=".as_slice(),
            Self::Link(_) => b"LINK ",
            Self::DeleteLink => b"LDELETE ",
            Self::Secure(_) => b"SECURE ",
            Self::Keys(_) => b"KEYS ",
            Self::Notifier(_) => b"NOTIFIER ",
            Self::DeleteNotifier => b"NDELETE ",
            Self::Suspend => b"SUSPEND ",
            Self::Block(_) => b"BLOCK ",
            Self::Unblock => b"UNBLOCK ",
            Self::Delete => b"DELETE ",
            Self::Time(_) => b"TIME ",
            Self::Service { .. } => b"QUEUE_SERVICE ",
        });
        put_base64(out, recipient_id);
        match self {
            Self::DeleteLink | Self::DeleteNotifier | Self::Suspend | Self::Unblock | Self::Delete => return,
            _ => out.push(b' '),
        }
        match self {
            Self::Create(queue) => queue.put(out),
            Self::Link(link) => {
                put_base64(out, &link.id);
                out.push(b' ');
                link.put_data(out);
            }
            Self::Secure(key) => put_key(out, key),
            Self::Keys(keys) => put_keys(out, keys),
            Self::Notifier(notifier) => notifier.put(out),
            Self::Block(info) => info.write(out),
            Self::Time(secs) => put_secs(out, *secs),
            Self::Service { party, service } => {
                out.extend_from_slice(match party {
                    ServiceParty::Recipient => b"R ",
                    ServiceParty::Notifier => b"N ",
                });
                if let Some(service) = service {
                    put_base64(out, service);
                }
            }
            Self::DeleteLink | Self::DeleteNotifier | Self::Suspend | Self::Unblock | Self::Delete => {}
        }
    }
}
