//! Lines to import.

use std::path::Path;

use ringpost_protocol::command::{MsgFlags, QueueMode};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_router::reference::{
    Change, Id, MessageContent, MessageLine, QueueRecord, QueueStatus, StoreLine,
};

/// A file of the recorded data of the reference.
pub fn recorded(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/reference_data");
    let path = Path::new(folder).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn id(n: u64, what: u8) -> Id {
    let mut id = [what; 24];
    id[..8].copy_from_slice(&n.to_le_bytes());
    id
}

pub fn record(n: u64) -> QueueRecord {
    QueueRecord {
        recipient_keys: vec![AuthPublicKey::Ed25519([n.to_le_bytes()[0]; 32])],
        delivery_secret: [7; 32],
        sender_id: id(n, b's'),
        sender_key: None,
        mode: Some(QueueMode::Messaging),
        link: None,
        notifier: None,
        updated_secs: Some(86_400 * 20_000),
        status: QueueStatus::Active,
        service: None,
    }
}

/// One line.
pub fn change(n: u64, change: Change) -> String {
    let mut line = Vec::new();
    StoreLine::Queue { recipient_id: id(n, b'r'), change }.write(&mut line);
    String::from_utf8(line).unwrap()
}

pub fn create(n: u64) -> String {
    change(n, Change::Create(Box::new(record(n))))
}

/// A line with a message for queue `n`.
pub fn message(n: u64, message: u64, body: &[u8]) -> String {
    let content = MessageContent::Sent { flags: MsgFlags { notification: true }, body: body.to_vec() };
    message_with(n, message, content)
}

pub fn message_with(n: u64, message: u64, content: MessageContent) -> String {
    let line = MessageLine {
        recipient_id: id(n, b'r'),
        message_id: id(message, b'm'),
        received_secs: 1_700_000_000,
        content,
    };
    let mut text = Vec::new();
    line.write(&mut text);
    String::from_utf8(text).unwrap()
}

/// A store log and a messages log with so many queues: half of them secured, a third with a message.
pub fn many(queues: u64) -> (String, String) {
    let (mut store, mut messages) = (String::new(), String::new());
    for n in 0..queues {
        store += &create(n);
        if n % 2 == 0 {
            store += &change(n, Change::Secure(AuthPublicKey::X25519([3; 32])));
        }
        if n % 3 == 0 {
            messages += &message(n, n, &[5; 900]);
        }
    }
    (store, messages)
}
