//! Lines as the recorded data describes them.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::BlockingInfo;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_router::reference::{
    Change, Link, MessageContent, MessageLine, Notifier, QueueRecord, QueueStatus, ServiceParty, StoreLine,
};
use serde_json::{Value, json};

pub fn store_line(line: &StoreLine) -> Value {
    let (recipient_id, change) = match line {
        StoreLine::Service(service) => {
            return json!({
                "record": "NEW_SERVICE",
                "service_id": hex::encode(service.id),
                "created_at": service.created_secs,
            });
        }
        StoreLine::Queue { recipient_id, change } => (recipient_id, change),
    };
    let (record, more) = match change {
        Change::Create(queue) => ("CREATE", self::queue(queue)),
        Change::Link(link) => ("LINK", self::link(link)),
        Change::DeleteLink => ("LDELETE", json!({})),
        Change::Secure(key) => ("SECURE", json!({ "sender_key_der": der(key) })),
        Change::Keys(keys) => ("KEYS", json!({ "keys_der": keys.iter().map(der).collect::<Vec<_>>() })),
        Change::Notifier(notifier) => ("NOTIFIER", json!({ "notifier": self::notifier(notifier) })),
        Change::DeleteNotifier => ("NDELETE", json!({})),
        Change::Suspend => ("SUSPEND", json!({})),
        Change::Block(info) => ("BLOCK", json!({ "info": blocking(info) })),
        Change::Unblock => ("UNBLOCK", json!({})),
        Change::Delete => ("DELETE", json!({})),
        Change::Time(secs) => ("TIME", json!({ "time": secs })),
        Change::Service { party, service } => {
            let party = match party {
                ServiceParty::Recipient => "R",
                ServiceParty::Notifier => "N",
            };
            ("QUEUE_SERVICE", json!({ "party": party, "service_id": service.map(hex::encode) }))
        }
    };
    let mut shown = json!({ "record": record, "recipient_id": hex::encode(recipient_id) });
    for (name, value) in more.as_object().unwrap() {
        shown[name] = value.clone();
    }
    shown
}

fn queue(queue: &QueueRecord) -> Value {
    json!({
        "recipient_keys_der": queue.recipient_keys.iter().map(der).collect::<Vec<_>>(),
        "rcv_dh_secret": hex::encode(queue.delivery_secret),
        "sender_id": hex::encode(queue.sender_id),
        "sender_key_der": queue.sender_key.as_ref().map(der),
        "queue_mode": queue.mode.map(|mode| match mode {
            QueueMode::Messaging => "M",
            QueueMode::Contact => "C",
        }),
        "link": queue.link.as_deref().map(link),
        "notifier": queue.notifier.as_deref().map(notifier),
        "status": match &queue.status {
            QueueStatus::Active => json!("active"),
            QueueStatus::Suspended => json!("off"),
            QueueStatus::Blocked(info) => json!({ "blocked": blocking(info) }),
        },
        "updated_at": queue.updated_secs,
        "rcv_service_id": queue.service.map(hex::encode),
    })
}

fn der(key: &AuthPublicKey) -> String {
    hex::encode(key.to_der())
}

fn link(link: &Link) -> Value {
    json!({
        "link_id": hex::encode(link.id),
        "fixed": hex::encode(&link.fixed),
        "user": hex::encode(&link.user),
    })
}

fn notifier(notifier: &Notifier) -> Value {
    json!({
        "notifier_id": hex::encode(notifier.id),
        "notifier_key_der": der(&notifier.key),
        "rcv_ntf_dh_secret": hex::encode(notifier.secret),
        "service_id": notifier.service.map(hex::encode),
    })
}

fn blocking(info: &BlockingInfo) -> Value {
    let ttl = info.notice.map(|notice| notice.ttl_secs.map_or(json!("indefinite"), |secs| json!(secs)));
    json!({ "reason": info.reason.word(), "notice_ttl": ttl })
}

pub fn message_line(line: &MessageLine) -> Value {
    let mut shown = json!({
        "recipient_id": hex::encode(line.recipient_id),
        "msg_id": hex::encode(line.message_id),
        "time": line.received_secs,
    });
    match &line.content {
        MessageContent::Quota => shown["quota"] = json!(true),
        MessageContent::Sent { flags, body } => {
            shown["notification"] = json!(flags.notification);
            shown["body"] = json!(hex::encode(body));
        }
    }
    shown
}
