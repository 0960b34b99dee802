//! Lines of `smp-server-messages.log`. Of its forms only `v3` is read, as in the reference.

use ringpost_protocol::command::MsgFlags;

use super::words::{Words, bytes, id, put_base64, put_secs, secs, unknown_kind};
use super::{BadLine, Id};

/// An undelivered message of a queue. The messages of one queue stand in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageLine {
    pub recipient_id: Id,
    pub message_id: Id,
    /// In seconds since 1970.
    pub received_secs: i64,
    pub content: MessageContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageContent {
    Sent {
        flags: MsgFlags,
        body: Vec<u8>,
    },
    /// Stands where the quota was exceeded.
    Quota,
}

impl MessageLine {
    /// Reads a line without its line break. An empty body is read, since the reference writes it, although it does not
    /// read it again.
    pub fn parse(line: &[u8]) -> Result<Self, BadLine> {
        let mut words = Words::new(line);
        let version = words.word("version")?;
        if version != b"v3" {
            return Err(unknown_kind(version));
        }
        let recipient_id = id("recipient ID", words.word("recipient ID")?)?;
        let message_id = id("message ID", words.word("message ID")?)?;
        let received_secs = secs("time", words.word("time")?)?;
        let content = if let Some(text) = words.option("flags=") {
            let notification = match text.first() {
                Some(b'T') => true,
                // What follows the first flag is for later versions.
                Some(b'F') => false,
                _ => return Err(BadLine::Field { field: "flags", what: "neither T nor F" }),
            };
            let body = match words.word("body")? {
                b"" => Vec::new(),
                text => bytes("body", text)?,
            };
            MessageContent::Sent { flags: MsgFlags { notification }, body }
        } else {
            match words.word("body")? {
                b"quota" => MessageContent::Quota,
                text => MessageContent::Sent { flags: MsgFlags::default(), body: bytes("body", text)? },
            }
        };
        words.finish()?;
        Ok(Self { recipient_id, message_id, received_secs, content })
    }

    /// Appends the line with its line break.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"v3 ");
        put_base64(out, &self.recipient_id);
        out.push(b' ');
        put_base64(out, &self.message_id);
        out.push(b' ');
        put_secs(out, self.received_secs);
        match &self.content {
            MessageContent::Quota => out.extend_from_slice(b" quota"),
            MessageContent::Sent { flags, body } => {
                out.extend_from_slice(if flags.notification { b" flags=T " } else { b" flags=F " });
                put_base64(out, body);
            }
        }
        out.push(b'\n');
    }
}
