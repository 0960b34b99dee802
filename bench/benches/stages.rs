//! The stages of a message, one at a time: `cargo bench -p ringpost-bench`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringpost_bench::{BODY_BYTES, SESSION_ID, VERSION, router_key, send, transmission};
use ringpost_protocol::command::{Command, MsgFlags, QueueMode};
use ringpost_protocol::crypto::authorization::{
    AuthPrivateKey, authenticator_box_key, authenticator_hash, verify_authenticator,
};
use ringpost_protocol::crypto::block::BlockCipher;
use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_protocol::crypto::delivery::{DeliveryHeader, seal_delivery};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::limits::{BLOCK_BYTES, DELIVERY_ENCRYPTED_BYTES, DELIVERY_PADDED_BYTES};
use ringpost_protocol::transmission::{Format, Transmission};
use ringpost_store::{Content, IdHasher, Message, NewQueue, Party, Store};

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    let recipient = AuthPrivateKey::ed25519(&[1; 32]);
    let sender = AuthPrivateKey::x25519([2; 32]);
    let cases = [
        ("SEND", send(&sender, &[4; 24]).unwrap()),
        ("SUB", transmission(&recipient, &[4; 24], &Command::Sub).unwrap()),
        ("ACK", transmission(&recipient, &[4; 24], &Command::Ack { msg_id: &[6; 24] }).unwrap()),
    ];
    let format = Format::of_session(VERSION);
    for (name, bytes) in &cases {
        group.bench_function(*name, |b| {
            b.iter(|| {
                let transmission = Transmission::parse(black_box(bytes), format).unwrap();
                black_box(transmission.decode_command(VERSION, &SESSION_ID).unwrap());
            });
        });
    }
}

fn authorize(c: &mut Criterion) {
    let mut group = c.benchmark_group("authorize");
    let router = router_key();
    let sender = AuthPrivateKey::x25519([2; 32]);
    let bytes = send(&sender, &[4; 24]).unwrap();
    let parsed = Transmission::parse(&bytes, Format::of_session(VERSION)).unwrap();
    let parts = parsed.for_authorization_parts(&SESSION_ID);
    group.bench_function("agree", |b| b.iter(|| authenticator_box_key(&router, Some(&sender.public()))));
    group.bench_function("hash", |b| b.iter(|| authenticator_hash(black_box(&parts))));
    let (key, _) = authenticator_box_key(&router, Some(&sender.public()));
    let hash = authenticator_hash(&parts);
    let authenticator = parsed.authorization.as_bytes().try_into().unwrap();
    group.bench_function("authenticator", |b| {
        b.iter(|| assert!(verify_authenticator(&key, &[3; 24], black_box(&hash), authenticator)));
    });
}

fn boxes(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal");
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    let secret = router_key().agree(&DhPrivateKey::from_bytes([8; 32]).public());
    let mut cipher = BlockCipher::router(&SESSION_ID, &secret);
    let mut block: Box<[u8; BLOCK_BYTES]> = vec![0; BLOCK_BYTES].into_boxed_slice().try_into().unwrap();
    group.bench_function("block", |b| b.iter(|| cipher.seal(&mut block, 16_300).unwrap()));
    let key = BoxKey::from_secret(&[1; 32]);
    let mut clear: Box<[u8; DELIVERY_PADDED_BYTES]> =
        vec![0; DELIVERY_PADDED_BYTES].into_boxed_slice().try_into().unwrap();
    let header = DeliveryHeader { timestamp_secs: 1, flags: MsgFlags::default() };
    header.frame(&mut clear, BODY_BYTES).unwrap();
    let mut out: Box<[u8; DELIVERY_ENCRYPTED_BYTES]> =
        vec![0; DELIVERY_ENCRYPTED_BYTES].into_boxed_slice().try_into().unwrap();
    group.bench_function("delivery", |b| b.iter(|| seal_delivery(&key, &[2; 24], &clear, &mut out)));
}

fn store(c: &mut Criterion) {
    let mut group = c.benchmark_group("store");
    let mut store: Store<u64> = Store::new(IdHasher::new(&[1; 16]));
    let id = |n: u64, party: u8| {
        let mut id = [party; 24];
        id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        id
    };
    for n in 0..100_000 {
        let new = NewQueue {
            recipient_id: id(n, 1),
            sender_id: id(n, 2),
            recipient_key: AuthPrivateKey::x25519([1; 32]).public(),
            delivery_secret: [1; 32],
            mode: Some(QueueMode::Messaging),
        };
        store.create(new, 1).unwrap();
    }
    let mut n = 0;
    group.bench_function("find, write, take", |b| {
        b.iter_batched(
            || {
                n = (n + 7_919) % 100_000;
                let content = Content::Sent { flags: MsgFlags::default(), body: n };
                (n, Message { id: [9; 24], received_secs: 1, content })
            },
            |(n, message)| {
                let queue = store.find(Party::Sender, &id(n, 2)).unwrap();
                store.write(queue, message, 128).unwrap();
                let queue = store.find(Party::Recipient, &id(n, 1)).unwrap();
                store.take_message(queue, &[9; 24]).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! { name = stages; config = config(); targets = parse, authorize, boxes, store }
criterion_main!(stages);
