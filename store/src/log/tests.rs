//! Properties of the encodings, and recovery from files of any content.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ringpost_protocol::command::{MsgFlags, QueueMode};
use ringpost_protocol::error::{BlockingInfo, BlockingReason, ClientNotice};
use ringpost_protocol::handshake::ServiceRole;
use ringpost_protocol::keys::AuthPublicKey;

use super::batch::Batch;
use super::codec::Reader;
use super::page::{BLOCK_BYTES, LogKey, PAGE_HEADER_BYTES, PageHeader, seal};
use super::record::{BODY_BYTES_MAX, BodyMeta, RECORD_KEYS_MAX, Record};
use super::record_codec::RECORD_BYTES_MAX;
use super::root::{Floor, Root, RootEntry};
use super::segments::{Segments, segment_file};
use super::stream::{Pending, Pool};
use super::{AppendError, Entry, FileKind, FileName, LogConfig, Op, StartConfig, apply, image, start};
use crate::disk::{Disk, HeapBuffer, HeapBuffers};
use crate::id::{BUCKETS, Bucket, IdHasher};
use crate::parts::{Link, NewNotifier, Notification};
use crate::queue::{NewParts, NewQueue};
use crate::service::{Service, ServiceParty};
use crate::sim::SimDisk;
use crate::store::Store;
use crate::{BodyPlace, Party};

fn id() -> impl Strategy<Value = [u8; 24]> {
    any::<[u8; 24]>()
}

fn key() -> impl Strategy<Value = AuthPublicKey> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(AuthPublicKey::Ed25519),
        any::<[u8; 32]>().prop_map(AuthPublicKey::X25519),
        prop::collection::vec(any::<u8>(), 57)
            .prop_map(|key| AuthPublicKey::Ed448(Box::new(key.try_into().unwrap()))),
    ]
}

fn mode() -> impl Strategy<Value = Option<QueueMode>> {
    prop_oneof![Just(None), Just(Some(QueueMode::Messaging)), Just(Some(QueueMode::Contact))]
}

fn new_queue() -> impl Strategy<Value = NewQueue> {
    (id(), id(), key(), any::<[u8; 32]>(), mode()).prop_map(
        |(recipient_id, sender_id, recipient_key, delivery_secret, mode)| NewQueue {
            recipient_id,
            sender_id,
            recipient_key,
            delivery_secret,
            mode,
        },
    )
}

fn blocking() -> impl Strategy<Value = BlockingInfo> {
    let notice =
        prop::option::of(prop::option::of(any::<i64>()).prop_map(|ttl_secs| ClientNotice { ttl_secs }));
    let reason = prop_oneof![Just(BlockingReason::Spam), Just(BlockingReason::Content)];
    (reason, notice).prop_map(|(reason, notice)| BlockingInfo { reason, notice })
}

fn body() -> impl Strategy<Value = BodyMeta> {
    (0..=16_384_u16, any::<u32>()).prop_map(|(bytes, crc)| BodyMeta { bytes, crc })
}

fn link() -> impl Strategy<Value = Link<BodyMeta>> {
    (id(), any::<u16>(), any::<u64>(), body()).prop_map(|(id, fixed, fixed_hash, data)| Link {
        id,
        fixed_bytes: fixed % (data.bytes + 1),
        fixed_hash,
        data,
    })
}

fn notifier() -> impl Strategy<Value = NewNotifier> {
    (id(), key(), any::<[u8; 32]>(), prop::option::of(id()))
        .prop_map(|(id, key, secret, service)| NewNotifier { id, key, secret, service })
}

fn notification() -> impl Strategy<Value = Notification> {
    (id(), any::<u64>(), any::<[u8; 24]>(), prop::collection::vec(any::<u8>(), 0..=255)).prop_map(
        |(message_id, received_secs, nonce, meta)| Notification {
            message_id,
            received_secs,
            nonce,
            meta: meta.into(),
        },
    )
}

fn service() -> impl Strategy<Value = Service<BodyMeta>> {
    let role =
        prop_oneof![Just(ServiceRole::Messaging), Just(ServiceRole::Notifier), Just(ServiceRole::Proxy)];
    (id(), role, any::<[u8; 32]>(), any::<u32>(), body()).prop_map(
        |(id, role, fingerprint, created_day, chain)| Service { id, role, fingerprint, created_day, chain },
    )
}

fn keys() -> impl Strategy<Value = Vec<AuthPublicKey>> {
    prop_oneof![
        prop::collection::vec(key(), 1..4),
        Just(vec![AuthPublicKey::Ed448(Box::new([7; 57])); RECORD_KEYS_MAX]),
    ]
}

fn queue_record() -> impl Strategy<Value = Record<BodyMeta>> {
    prop_oneof![
        (new_queue(), any::<u32>()).prop_map(|(new, today)| Record::Create { new, today }),
        (id(), key()).prop_map(|(queue, key)| Record::Secure { queue, key }),
        (id(), keys()).prop_map(|(queue, keys)| Record::Keys { queue, keys }),
        (id(), keys()).prop_map(|(queue, keys)| Record::MoreKeys { queue, keys }),
        id().prop_map(|queue| Record::Suspend { queue }),
        (id(), blocking()).prop_map(|(queue, info)| Record::Block { queue, info }),
        id().prop_map(|queue| Record::Resume { queue }),
        id().prop_map(|queue| Record::Delete { queue }),
        (id(), link()).prop_map(|(queue, link)| Record::Link { queue, link }),
        id().prop_map(|queue| Record::LinkGone { queue }),
        (id(), any::<u32>()).prop_map(|(queue, today)| Record::Used { queue, today }),
    ]
}

fn party_record() -> impl Strategy<Value = Record<BodyMeta>> {
    prop_oneof![
        (id(), notifier()).prop_map(|(queue, notifier)| Record::Notifier { queue, notifier }),
        id().prop_map(|queue| Record::NotifierGone { queue }),
        (id(), prop::option::of(id()))
            .prop_map(|(queue, service)| Record::RecipientService { queue, service }),
        (id(), prop::option::of(id()))
            .prop_map(|(queue, service)| Record::NotifierService { queue, service }),
        service().prop_map(|service| Record::Service { service }),
        (id(), notification()).prop_map(|(queue, notification)| Record::Notification { queue, notification }),
        (id(), any::<u8>()).prop_map(|(queue, count)| Record::NotificationsTaken { queue, count }),
    ]
}

fn message_record() -> impl Strategy<Value = Record<BodyMeta>> {
    prop_oneof![
        (id(), id(), any::<u64>(), any::<bool>(), body()).prop_map(
            |(queue, id, received_secs, notification, body)| Record::Message {
                queue,
                id,
                received_secs,
                flags: MsgFlags { notification },
                body,
            }
        ),
        (id(), id(), any::<u64>()).prop_map(|(queue, id, received_secs)| Record::Quota {
            queue,
            id,
            received_secs
        }),
        (id(), id()).prop_map(|(queue, id)| Record::Take { queue, id }),
        (id(), id()).prop_map(|(queue, through)| Record::Expire { queue, through }),
        any::<u32>().prop_map(|blocks| Record::Image { blocks }),
    ]
}

fn record() -> impl Strategy<Value = Record<BodyMeta>> {
    prop_oneof![queue_record(), party_record(), message_record()]
}

/// With an extent that can be made.
fn sized_record() -> impl Strategy<Value = Record<BodyMeta>> {
    record().prop_map(|record| match record {
        Record::Image { blocks } => Record::Image { blocks: blocks % 20 },
        other => other,
    })
}

fn config() -> StartConfig {
    StartConfig {
        log: LogConfig { segment_bytes: 16 * BLOCK_BYTES as u64, ..LogConfig::default() },
        shards: 2,
        skip_corrupt: false,
        salt: 1,
        threads: false,
    }
}

fn put(disk: &SimDisk, file: FileName, content: &[u8]) {
    let bytes = content.len().next_multiple_of(BLOCK_BYTES);
    let mut buffer = HeapBuffer::new(bytes);
    buffer.as_mut()[..content.len()].copy_from_slice(content);
    disk.perform(&Op::<HeapBuffer>::Create { file, bytes: bytes as u64 }).unwrap();
    disk.perform(&Op::Write { file, offset: 0, buffer, bytes, durable: false }).unwrap();
}

/// Files of a generation with one shard whose root is right, and whose segment holds `pages`.
fn disk_with(pages: &[(PageHeader, Vec<u8>)], entries: Vec<RootEntry>) -> SimDisk {
    let log = LogKey { generation: 1, shard: 0 };
    let disk = SimDisk::new(1, 0);
    let floor = Floor { sequence: 1, block: 1, commit: 1, lsn: 0 };
    let root = Root { log, shards: 1, sequence: 1, salt: 7, floor, durable_commit: 0, entries };
    let mut content = vec![0; Root::encoded_bytes(root.entries.len()).next_multiple_of(BLOCK_BYTES)];
    root.encode(&mut content);
    put(&disk, FileName { kind: FileKind::Root, generation: 1, shard: 0, sequence: 1 }, &content);
    let mut segment = vec![0; 16 * BLOCK_BYTES];
    for (header, records) in pages {
        let at = header.block as usize % 16 * BLOCK_BYTES;
        let block = &mut segment[at..at + BLOCK_BYTES];
        let len = records.len().min(BLOCK_BYTES - PAGE_HEADER_BYTES);
        block[PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + len].copy_from_slice(&records[..len]);
        header.encode(block);
    }
    put(&disk, segment_file(log, 1), &segment);
    disk
}

fn header(block: u32, commit: u64) -> PageHeader {
    PageHeader {
        salt: 7,
        log: LogKey { generation: 1, shard: 0 },
        sequence: 1,
        block,
        commit,
        durable_through: 0,
        first_lsn: 0,
        page: 0,
        pages: 1,
        next_page_blocks: 0,
        commit_blocks: 1,
        records: 0,
        used: 4_096,
    }
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(record in record(), index in 0..BUCKETS) {
        let bucket = Bucket::from_index(index).unwrap();
        let mut bytes = Vec::new();
        prop_assert!(record.is_within_limits());
        record.encode(bucket, &mut bytes);
        // So that every record fits into an index page.
        prop_assert!(bytes.len() <= RECORD_BYTES_MAX);
        let mut reader = Reader(&bytes);
        prop_assert_eq!(Record::decode(&mut reader).unwrap(), (bucket, record));
        prop_assert!(reader.0.is_empty());
        for cut in 0..bytes.len() {
            prop_assert!(Record::decode(&mut Reader(&bytes[..cut])).is_err());
        }
    }

    /// What `append` counts on when it looks whether a batch fits into the open commit.
    #[test]
    fn a_batch_takes_the_blocks_that_were_counted(
        before in prop::collection::vec(sized_record(), 0..30),
        records in prop::collection::vec(sized_record(), 1..30),
    ) {
        let bucket = Bucket::from_index(0).unwrap();
        let mut pool = Pool::new(HeapBuffers);
        let mut commit = Pending::new(1, (0, 1, 1), 0, &mut pool);
        let mut push = |commit: &mut Pending<HeapBuffer>, batch: &Batch, records: &[Record<BodyMeta>]| {
            for ((_, bytes), record) in batch.iter().zip(records) {
                let extent = vec![0; record.extent_blocks() as usize * BLOCK_BYTES];
                commit.push(bytes, &extent, &mut pool);
            }
        };
        let batch_of = |records: &[Record<BodyMeta>]| {
            let mut batch = Batch::default();
            for record in records {
                batch.add(record, bucket);
            }
            batch
        };
        let first = batch_of(&before);
        push(&mut commit, &first, &before);
        prop_assert_eq!(commit.blocks, first.blocks());
        let second = batch_of(&records);
        let counted = second.blocks_behind(commit.page_bytes());
        push(&mut commit, &second, &records);
        prop_assert_eq!(commit.blocks, first.blocks() + counted);
    }

    #[test]
    fn any_bytes_are_a_record_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Record::decode(&mut Reader(&bytes));
        let bucket = Bucket::from_index(usize::from(bytes.first().copied().unwrap_or(0))).unwrap();
        let mut store: Store<BodyPlace> = Store::new(IdHasher::new(&[1; 16]));
        let _ = image::restore(&bytes, bucket, &mut store, |_, _| 0);
        let mut root = bytes.clone();
        seal(&mut root);
        let _ = Root::decode(&root);
    }

    /// Pages whose checksums are right and whose content is anything: what only a fault of ours could write.
    #[test]
    fn recovery_survives_any_page(
        fields in prop::collection::vec((any::<[u32; 6]>(), any::<[u16; 4]>(), 0..5_u8), 1..4),
        records in prop::collection::vec(any::<u8>(), 0..200),
        real in prop::collection::vec(record(), 0..10),
        entry in any::<[u32; 6]>(),
        skip_corrupt in any::<bool>(),
    ) {
        let mut pages = Vec::new();
        for (n, (wide, narrow, wild)) in fields.into_iter().enumerate() {
            let mut content = Vec::new();
            for record in &real {
                record.encode(Bucket::from_index(wide[0] as usize % BUCKETS).unwrap(), &mut content);
            }
            content.extend_from_slice(&records);
            let mut header = header(u32::try_from(n).unwrap() + 1, n as u64 + 1);
            header.records = narrow[0] % 20;
            header.commit_blocks = 1 + wide[1] % 3;
            if wild > 2 {
                header.used = narrow[1];
                header.pages = narrow[2];
                header.page = narrow[3];
                header.next_page_blocks = wide[2];
                header.commit_blocks = wide[3];
                header.first_lsn = u64::from(wide[4]);
                header.durable_through = u64::from(wide[5]);
            }
            pages.push((header, content));
        }
        let place = super::image::DiskPlace {
            log: LogKey { generation: 1, shard: 0 },
            sequence: entry[0] % 3,
            block: entry[1] % 20,
        };
        let bucket = Bucket::from_index(entry[2] as usize % BUCKETS).unwrap();
        let entries = vec![RootEntry { bucket, place, bytes: entry[3] % 70_000, crc: entry[4], lsn: 3 }];
        let disk = disk_with(&pages, entries);
        let config = StartConfig { skip_corrupt, ..config() };
        let _ = start::<_, BodyPlace>(&disk, &config, IdHasher::new(&[1; 16]));
    }
}

/// A queue with all that a queue can have, in a bucket with a service.
fn full_store(hasher: IdHasher) -> (Store<BodyPlace>, Bucket) {
    let mut store = Store::new(hasher);
    let body = |n: u16| BodyPlace { segment: 0, block: u32::from(n), crc: 9, bytes: 100 + n };
    let (queue, bucket) = ([1; 24], hasher.hash(&[1; 24]).bucket());
    let key = |n| AuthPublicKey::Ed25519([n; 32]);
    let new = NewQueue {
        recipient_id: queue,
        sender_id: [2; 24],
        recipient_key: AuthPublicKey::Ed448(Box::new([3; 57])),
        delivery_secret: [4; 32],
        mode: Some(QueueMode::Contact),
    };
    let link = Link { id: [5; 24], fixed_bytes: 7, fixed_hash: 8, data: body(1) };
    let notifier = NewNotifier { id: [6; 24], key: key(6), secret: [6; 32], service: Some([7; 24]) };
    let parts = NewParts { link: Some(link), notifier: Some(notifier), recipient_service: Some([8; 24]) };
    let mut records = Record::creation(new, parts, 11).into_vec();
    records.push(Record::Secure { queue, key: key(1) });
    records.push(Record::MoreKeys { queue, keys: vec![key(2), key(3)] });
    records.extend([1_u8, 2].map(|n| Record::Notification {
        queue,
        notification: Notification {
            message_id: [n; 24],
            received_secs: u64::from(n),
            nonce: [n; 24],
            meta: [n; 144].into(),
        },
    }));
    let notice = Some(ClientNotice { ttl_secs: Some(3) });
    records.push(Record::Block { queue, info: BlockingInfo { reason: BlockingReason::Content, notice } });
    let flags = MsgFlags { notification: true };
    records.push(Record::Message { queue, id: [9; 24], received_secs: 12, flags, body: body(2) });
    records.push(Record::Quota { queue, id: [10; 24], received_secs: 13 });
    let fingerprint = (0_u64..10_000_000)
        .map(|n| {
            let mut fingerprint = [0; 32];
            fingerprint[..8].copy_from_slice(&n.to_le_bytes());
            fingerprint
        })
        .find(|fingerprint| hasher.hash_fingerprint(fingerprint).bucket() == bucket)
        .unwrap();
    let role = ServiceRole::Messaging;
    let service = Service { id: [12; 24], role, fingerprint, created_day: 14, chain: body(3) };
    records.push(Record::Service { service });
    for record in records {
        apply(&mut store, record).unwrap();
    }
    (store, bucket)
}

#[test]
fn an_image_holds_all_that_a_queue_has() {
    let hasher = IdHasher::new(&[1; 16]);
    let (store, bucket) = full_store(hasher);
    let mut segments = Segments::default();
    let log = LogKey { generation: 1, shard: 0 };
    assert_eq!(segments.enter(log, 1), 0);
    let mut bytes = Vec::new();
    assert_eq!(image::encode(&store, &segments, bucket, &mut bytes), 2);
    let mut restored: Store<BodyPlace> = Store::new(hasher);
    image::restore(&bytes, bucket, &mut restored, |_, _| 0).unwrap();
    let shown = |store: &Store<BodyPlace>| {
        let (ix, queue) = store.queues_of(bucket).next().unwrap();
        for party in [Party::Recipient, Party::Sender, Party::Notifier, Party::Link] {
            assert_eq!(store.find(party, &queue.id(party).unwrap()), Some(ix));
        }
        let totals = [ServiceParty::Recipient, ServiceParty::Notifier]
            .map(|party| [[7; 24], [8; 24]].map(|id| store.service_total(party, &id)));
        let services: Vec<_> = store.services().collect();
        format!("{queue:?} {:?} {totals:?} {services:?}", queue.status())
    };
    assert_eq!(shown(&restored), shown(&store));
    for cut in 0..bytes.len() {
        let mut store: Store<BodyPlace> = Store::new(hasher);
        assert!(image::restore(&bytes[..cut], bucket, &mut store, |_, _| 0).is_err(), "{cut}");
    }
}

#[test]
fn what_could_not_be_read_again_is_not_appended() {
    let (mut batch, hash) = (Batch::default(), IdHasher::new(&[1; 16]).hash(&[1; 24]));
    let queue = [1; 24];
    let key = AuthPublicKey::Ed25519([1; 32]);
    let keys = |count| Record::Keys { queue, keys: vec![key.clone(); count] };
    let notification = |bytes| Record::Notification {
        queue,
        notification: Notification {
            message_id: [1; 24],
            received_secs: 1,
            nonce: [1; 24],
            meta: vec![0; bytes].into(),
        },
    };
    let data = vec![0; BODY_BYTES_MAX + 1];
    let link = |fixed_bytes, bytes| {
        let link = Link { id: [1; 24], fixed_bytes, fixed_hash: 0, data: &data[..bytes] };
        Record::Link { queue, link }
    };
    for record in [keys(1), keys(64), notification(255), link(100, 100), link(0, BODY_BYTES_MAX)] {
        assert_eq!(batch.encode(&[Entry { hash, record }]), Ok(()));
    }
    for record in [keys(0), keys(65), notification(256), link(101, 100), link(0, BODY_BYTES_MAX + 1)] {
        assert_eq!(batch.encode(&[Entry { hash, record }]), Err(AppendError::TooLarge));
    }
    let list = Record::<&[u8]>::recipient_keys(queue, &vec![key.clone(); 255]);
    let counts = list.iter().map(|record| match record {
        Record::Keys { keys, .. } | Record::MoreKeys { keys, .. } => keys.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(counts.collect::<Vec<_>>(), [64, 64, 64, 63]);
}

#[test]
fn an_ordinary_page_is_replayed() {
    let hasher = IdHasher::new(&[1; 16]);
    let new = NewQueue {
        recipient_id: [1; 24],
        sender_id: [2; 24],
        recipient_key: AuthPublicKey::Ed25519([3; 32]),
        delivery_secret: [4; 32],
        mode: None,
    };
    let mut records = Vec::new();
    Record::Create { new, today: 5 }.encode(hasher.hash(&[1; 24]).bucket(), &mut records);
    let mut header = header(1, 1);
    header.records = 1;
    header.used = u16::try_from(PAGE_HEADER_BYTES + records.len()).unwrap();
    let disk = disk_with(&[(header, records)], Vec::new());
    let started = start::<_, BodyPlace>(&disk, &config(), hasher).unwrap();
    let found = started.shards.iter().filter(|shard| shard.store.find(Party::Recipient, &[1; 24]).is_some());
    assert_eq!(found.count(), 1);
    assert_eq!((started.replayed, started.generation), (1, 2));
}
