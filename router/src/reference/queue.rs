//! A queue as a line that creates it has it.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::BlockingInfo;
use ringpost_protocol::keys::AuthPublicKey;

use super::words::{Words, array, bytes, flag, id, key, keys, put_base64, put_key, put_keys, put_secs, secs};
use super::{BadLine, Id};

/// Everything but the recipient ID, which stands in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRecord {
    /// At least one.
    pub recipient_keys: Vec<AuthPublicKey>,
    /// Agreed with the recipient.
    pub delivery_secret: [u8; 32],
    pub sender_id: Id,
    pub sender_key: Option<AuthPublicKey>,
    /// None in queues of old clients.
    pub mode: Option<QueueMode>,
    /// Boxed, as few queues have one.
    pub link: Option<Box<Link>>,
    /// Boxed, as few queues have one.
    pub notifier: Option<Box<Notifier>>,
    /// The beginning of the day of the last use, in seconds since 1970. None in old queues.
    pub updated_secs: Option<i64>,
    pub status: QueueStatus,
    /// The service that receives for the recipient.
    pub service: Option<Id>,
}

/// A short link with its encrypted data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub id: Id,
    pub fixed: Vec<u8>,
    pub user: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifier {
    pub id: Id,
    pub key: AuthPublicKey,
    /// Agreed with the recipient.
    pub secret: [u8; 32],
    /// The service that receives notifications.
    pub service: Option<Id>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueStatus {
    Active,
    Suspended,
    Blocked(BlockingInfo),
}

impl Link {
    pub(super) fn parse(words: &mut Words<'_>, link_id: &[u8]) -> Result<Self, BadLine> {
        Ok(Self {
            id: id("link_id", link_id)?,
            fixed: bytes("fixed link data", words.word("fixed link data")?)?,
            user: bytes("user link data", words.word("user link data")?)?,
        })
    }

    pub(super) fn put_data(&self, out: &mut Vec<u8>) {
        put_base64(out, &self.fixed);
        out.push(b' ');
        put_base64(out, &self.user);
    }
}

impl Notifier {
    pub(super) fn parse(words: &mut Words<'_>, notifier_id: &[u8]) -> Result<Self, BadLine> {
        Ok(Self {
            id: id("notifier ID", notifier_id)?,
            key: key("notifier key", words.word("notifier key")?)?,
            secret: array("notifier secret", words.word("notifier secret")?)?,
            service: words.option("nsrv=").map(|text| id("nsrv", text)).transpose()?,
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_base64(out, &self.id);
        out.push(b' ');
        put_key(out, &self.key);
        out.push(b' ');
        put_base64(out, &self.secret);
        if let Some(service) = &self.service {
            out.extend_from_slice(b" nsrv=");
            put_base64(out, service);
        }
    }
}

pub(super) fn blocking(text: &[u8]) -> Result<BlockingInfo, BadLine> {
    let what = "not `reason=spam` or `reason=content`, alone or with a notice in JSON";
    BlockingInfo::parse(text).map_err(|_| BadLine::Field { field: "reason", what })
}

impl QueueStatus {
    fn parse(text: &[u8]) -> Result<Self, BadLine> {
        match text {
            b"active" => Ok(Self::Active),
            b"off" => Ok(Self::Suspended),
            _ => {
                let what = "neither active, off nor blocked with a reason";
                let info = text.strip_prefix(b"blocked,").ok_or(BadLine::Field { field: "status", what })?;
                blocking(info).map(Self::Blocked)
            }
        }
    }
}

const SERVICE: &str = " rsrv=";

/// Splits off the service that follows a status. The status may hold JSON with any text in it.
fn split_service(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let place = text.windows(SERVICE.len()).rposition(|window| window == SERVICE.as_bytes());
    let split = place.and_then(|place| Some((text.get(..place)?, text.get(place + SERVICE.len()..)?)));
    split.map_or((text, None), |(status, service)| (status, Some(service)))
}

impl QueueRecord {
    /// Reads what follows the recipient ID, to the end of the line.
    pub(super) fn parse(mut words: Words<'_>) -> Result<Self, BadLine> {
        let mut queue = Self {
            recipient_keys: keys("rk", words.field("rk=")?)?,
            delivery_secret: array("rdh", words.field("rdh=")?)?,
            sender_id: id("sid", words.field("sid=")?)?,
            sender_key: match words.field("sk=")? {
                b"" => None,
                text => Some(key("sk", text)?),
            },
            mode: mode(&mut words)?,
            link: None,
            notifier: None,
            updated_secs: None,
            status: QueueStatus::Active,
            service: None,
        };
        if let Some(link_id) = words.option("link_id=") {
            let fixed = words.field("queue_data=")?;
            queue.link = Some(Box::new(Link {
                id: id("link_id", link_id)?,
                fixed: bytes("queue_data", fixed)?,
                user: bytes("user link data", words.word("user link data")?)?,
            }));
        }
        if let Some(notifier_id) = words.option("notifier=") {
            queue.notifier = Some(Box::new(Notifier::parse(&mut words, notifier_id)?));
        }
        queue.updated_secs = words.option("updated_at=").map(|text| secs("updated_at", text)).transpose()?;
        if let Some(rest) = words.option_rest("status=") {
            let (status, service) = split_service(rest);
            queue.status = QueueStatus::parse(status)?;
            queue.service = service.map(|text| id("rsrv", text)).transpose()?;
        } else {
            queue.service = words.option("rsrv=").map(|text| id("rsrv", text)).transpose()?;
        }
        words.finish()?;
        Ok(queue)
    }

    /// Whether the reference loses the queue if one line says all of this: it reads the notice of a blocked queue to
    /// the end of the line, and so does not find the service behind it.
    pub fn is_unreadable_in_one_line(&self) -> bool {
        matches!(&self.status, QueueStatus::Blocked(info) if info.notice.is_some()) && self.service.is_some()
    }

    /// Writes the newest form.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"rk=");
        put_keys(out, &self.recipient_keys);
        out.extend_from_slice(b" rdh=");
        put_base64(out, &self.delivery_secret);
        out.extend_from_slice(b" sid=");
        put_base64(out, &self.sender_id);
        out.extend_from_slice(b" sk=");
        if let Some(key) = &self.sender_key {
            put_key(out, key);
        }
        match self.mode {
            None => {}
            Some(QueueMode::Messaging) => out.extend_from_slice(b" queue_mode=M"),
            Some(QueueMode::Contact) => out.extend_from_slice(b" queue_mode=C"),
        }
        if let Some(link) = &self.link {
            out.extend_from_slice(b" link_id=");
            put_base64(out, &link.id);
            out.extend_from_slice(b" queue_data=");
            link.put_data(out);
        }
        if let Some(notifier) = &self.notifier {
            out.extend_from_slice(b" notifier=");
            notifier.put(out);
        }
        if let Some(secs) = self.updated_secs {
            out.extend_from_slice(b" updated_at=");
            put_secs(out, secs);
        }
        match &self.status {
            QueueStatus::Active => {}
            QueueStatus::Suspended => out.extend_from_slice(b" status=off"),
            QueueStatus::Blocked(info) => {
                out.extend_from_slice(b" status=blocked,");
                info.write(out);
            }
        }
        if let Some(service) = &self.service {
            out.extend_from_slice(SERVICE.as_bytes());
            put_base64(out, service);
        }
    }
}

/// Older files have a flag instead, and the oldest nothing.
fn mode(words: &mut Words<'_>) -> Result<Option<QueueMode>, BadLine> {
    if let Some(text) = words.option("sndSecure=") {
        let can_secure = flag("sndSecure", text)?;
        return Ok(Some(if can_secure { QueueMode::Messaging } else { QueueMode::Contact }));
    }
    match words.option("queue_mode=") {
        None => Ok(None),
        Some(b"M") => Ok(Some(QueueMode::Messaging)),
        Some(b"C") => Ok(Some(QueueMode::Contact)),
        Some(_) => Err(BadLine::Field { field: "queue_mode", what: "neither M nor C" }),
    }
}
