//! Writes a store log and a messages log as the reference implementation would, to measure an import with.
//!
//! `cargo run --release -p ringpost-router --example reference_log -- DIRECTORY QUEUES`: of ten queues nine are secured, three
//! have a notifier, one a link; one in ten has a message. Lines stand as a server writes them in the course of time, not
//! gathered.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use ringpost_protocol::command::{MsgFlags, QueueMode};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_router::reference::{
    Change, Link, MessageContent, MessageLine, Notifier, QueueRecord, QueueStatus, StoreLine,
};

/// 2026-01-01.
const NOW_SECS: i64 = 1_767_225_600;
/// Of most messages of the apps.
const BODY_BYTES: usize = 16_048;

/// `SplitMix64`: fast, and the same at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for part in bytes.chunks_mut(8) {
            let next = self.next().to_le_bytes();
            part.copy_from_slice(&next[..part.len()]);
        }
        bytes
    }
}

fn changes(random: &mut Random, n: u64) -> Vec<Change> {
    let day_secs = NOW_SECS - 86_400 * i64::from(random.bytes::<1>()[0]);
    let record = QueueRecord {
        recipient_keys: vec![AuthPublicKey::Ed25519(random.bytes())],
        delivery_secret: random.bytes(),
        sender_id: random.bytes(),
        sender_key: None,
        mode: Some(if n.is_multiple_of(5) { QueueMode::Contact } else { QueueMode::Messaging }),
        link: None,
        notifier: None,
        updated_secs: Some(day_secs),
        status: QueueStatus::Active,
        service: None,
    };
    let mut changes = vec![Change::Create(Box::new(record))];
    if !n.is_multiple_of(10) {
        changes.push(Change::Secure(AuthPublicKey::X25519(random.bytes())));
    }
    if n % 10 < 3 {
        changes.push(Change::Notifier(Box::new(Notifier {
            id: random.bytes(),
            key: AuthPublicKey::Ed25519(random.bytes()),
            secret: random.bytes(),
            service: None,
        })));
    }
    if n.is_multiple_of(10) {
        let (fixed, user) = (random.bytes::<96>().to_vec(), random.bytes::<400>().to_vec());
        changes.push(Change::Link(Link { id: random.bytes(), fixed, user }));
    }
    if n.is_multiple_of(4) {
        changes.push(Change::Time(day_secs + 86_400));
    }
    changes
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: reference_log DIRECTORY QUEUES";
    let directory = arguments.next().ok_or(usage)?;
    let queues: u64 = arguments.next().ok_or(usage)?.parse()?;
    let create = |name| File::create_new(Path::new(&directory).join(name)).map(BufWriter::new);
    let (mut store, mut messages) = (create("smp-server-store.log")?, create("smp-server-messages.log")?);
    let mut random = Random(1);
    let (mut store_lines, mut message_lines) = (0_u64, 0_u64);
    let mut text = Vec::new();
    for n in 0..queues {
        let recipient_id = random.bytes();
        for change in changes(&mut random, n) {
            text.clear();
            StoreLine::Queue { recipient_id, change }.write(&mut text);
            store.write_all(&text)?;
            store_lines += 1;
        }
        if n % 10 == 3 {
            let body = vec![n.to_le_bytes()[0]; BODY_BYTES];
            let content = MessageContent::Sent { flags: MsgFlags { notification: true }, body };
            let message_id = random.bytes();
            text.clear();
            MessageLine { recipient_id, message_id, received_secs: NOW_SECS, content }.write(&mut text);
            messages.write_all(&text)?;
            message_lines += 1;
        }
    }
    store.flush()?;
    messages.flush()?;
    println!("{queues} queues, {store_lines} lines of changes, {message_lines} messages");
    Ok(())
}
