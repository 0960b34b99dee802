//! Lines of `smp-server-ntfs.log`.

use ringpost_protocol::limits::NONCE_BYTES;

use super::words::{Words, array, bytes, id, put_base64, put_secs, secs, unknown_kind};
use super::{BadLine, Id};

/// A notification that is kept until the notifier subscribes. Those of one notifier stand in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationLine {
    pub notifier_id: Id,
    pub message_id: Id,
    /// In seconds since 1970.
    pub received_secs: i64,
    pub nonce: [u8; NONCE_BYTES],
    /// The encrypted metadata of the message.
    pub meta: Vec<u8>,
}

impl NotificationLine {
    /// Reads a line without its line break.
    pub fn parse(line: &[u8]) -> Result<Self, BadLine> {
        let mut words = Words::new(line);
        let version = words.word("version")?;
        if version != b"v1" {
            return Err(unknown_kind(version));
        }
        let notification = Self {
            notifier_id: id("notifier ID", words.word("notifier ID")?)?,
            message_id: id("message ID", words.word("message ID")?)?,
            received_secs: secs("time", words.word("time")?)?,
            nonce: array("nonce", words.word("nonce")?)?,
            meta: bytes("metadata", words.word("metadata")?)?,
        };
        words.finish()?;
        Ok(notification)
    }

    /// Appends the line with its line break.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"v1 ");
        put_base64(out, &self.notifier_id);
        out.push(b' ');
        put_base64(out, &self.message_id);
        out.push(b' ');
        put_secs(out, self.received_secs);
        out.push(b' ');
        put_base64(out, &self.nonce);
        out.push(b' ');
        put_base64(out, &self.meta);
        out.push(b'\n');
    }
}
