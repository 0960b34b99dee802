//! The answer to QUE: JSON with the members that the reference uses ("Get queue state").

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringpost_store::{Content, MessageId, Queue};

use super::body::Body;

/// How the asking connection reads the queue.
pub enum Reading {
    No,
    Subscribed {
        delivered: Option<MessageId>,
    },
    /// With GET.
    Got {
        delivered: Option<MessageId>,
    },
}

pub fn queue_info(queue: &Queue<Body>, reading: &Reading) -> String {
    use std::fmt::Write;
    let secured = queue.sender_key.is_some();
    let notified = queue.notifier().is_some();
    let mut json = format!(r#"{{"qiSnd":{secured},"qiNtf":{notified}"#);
    let (thread, delivered) = match reading {
        Reading::No => ("", &None),
        Reading::Subscribed { delivered } => ("noSub", delivered),
        Reading::Got { delivered } => ("prohibitSub", delivered),
    };
    // Writing to a String cannot fail.
    if !thread.is_empty() {
        let _ = write!(json, r#","qiSub":{{"qSubThread":"{thread}""#);
        if let Some(id) = delivered {
            let _ = write!(json, r#","qDelivered":"{}""#, STANDARD.encode(id));
        }
        json.push('}');
    }
    let messages = queue.messages();
    let _ = write!(json, r#","qiSize":{}"#, messages.map_or(0, ringpost_store::MessageQueue::len));
    if let Some(message) = messages.and_then(|messages| messages.first()) {
        let kind = match message.content {
            Content::Sent { .. } => "message",
            Content::Quota => "quota",
        };
        let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(message.received_secs));
        let _ = write!(
            json,
            r#","qiMsg":{{"msgId":"{}","msgTs":"{time}","msgType":"{kind}"}}"#,
            STANDARD.encode(message.id)
        );
    }
    json.push('}');
    json
}
