//! Reading a log without changing it: the same state as a start finds, every damage, and no other file afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_store::disk::{Disk, FileDisk};
use ringpost_store::log::inspect::{Inspection, inspect};
use ringpost_store::log::{
    AppendError, Completion, LogConfig, Op, StartConfig, StartError, StartedShard, apply, start,
};
use ringpost_store::{
    BodyPlace, Content, Entry, IdHasher, Log, NewQueue, PartitionMap, QueueId, Record, Store,
};

const BLOCK_BYTES: usize = 4_096;
const QUEUES: u16 = 300;

fn hasher() -> IdHasher {
    IdHasher::new(&[9; 16])
}

fn config(shards: usize) -> StartConfig {
    StartConfig {
        log: LogConfig { segment_bytes: 512 << 10, erase_within_ms: 1_000, ..LogConfig::default() },
        shards,
        skip_corrupt: false,
        salt: 0x1234_5678_9abc_def0,
        threads: false,
    }
}

/// Carries out what the log wants. Says whether there was something.
fn serve(disk: &FileDisk, shard: &mut StartedShard<BodyPlace>, now_ms: u64) -> bool {
    shard.log.advance(now_ms, &shard.store);
    let mut was_busy = false;
    while let Some(request) = shard.log.next_request() {
        was_busy = true;
        let result = disk.perform(&request.op);
        let buffer = match request.op {
            Op::Write { buffer, .. } => Some(buffer),
            _ => None,
        };
        shard.log.complete(Completion { token: request.token, result, buffer });
    }
    assert_eq!(shard.log.failure(), None);
    was_busy
}

fn append(disk: &FileDisk, shard: &mut StartedShard<BodyPlace>, id: &QueueId, record: Record<&[u8]>) {
    let entry = Entry { hash: hasher().hash(id), record };
    let mut places = Vec::new();
    while let Err(error) = shard.log.append(std::slice::from_ref(&entry), &mut places) {
        assert_eq!(error, AppendError::Busy);
        serve(disk, shard, 0);
    }
    apply(&mut shard.store, entry.record.map_body(|_| places[0])).unwrap();
}

fn queue_id(n: u16, party: u8) -> QueueId {
    let mut id = [party; 24];
    id[..2].copy_from_slice(&n.to_be_bytes());
    id
}

fn body(n: u16) -> Vec<u8> {
    format!("the body of message {n:05} ").into_bytes().into_iter().cycle().take(5_000).collect()
}

/// Queues, each with a message, in a log of so many shards. The first half is in images, the rest is behind them.
fn fill(disk: &FileDisk, shards: usize) {
    let mut started = start(disk, &config(shards), hasher()).unwrap();
    let map = PartitionMap::new(shards).unwrap();
    for n in 0..QUEUES {
        let queue = queue_id(n, 1);
        let shard = &mut started.shards[map.home(hasher().hash(&queue).partition())];
        let new = NewQueue {
            recipient_id: queue,
            sender_id: queue_id(n, 2),
            recipient_key: AuthPublicKey::Ed25519([1; 32]),
            delivery_secret: [2; 32],
            mode: None,
        };
        append(disk, shard, &queue, Record::Create { new, today: 1 });
        let body = body(n);
        let record = Record::Message {
            queue,
            id: queue_id(n, 3),
            received_secs: 1,
            flags: MsgFlags::default(),
            body: &body[..],
        };
        append(disk, shard, &queue, record);
        if n == QUEUES / 2 {
            for shard in &mut started.shards {
                shard.log.renew();
                while serve(disk, shard, 10_000) {}
            }
        }
    }
    for shard in &mut started.shards {
        while serve(disk, shard, 10_001) {}
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Message ID and place of every body.
fn messages(store: &Store<BodyPlace>) -> BTreeMap<QueueId, BodyPlace> {
    let queues = store.queues_between(0..u32::MAX).filter_map(|(_, queue)| queue.messages());
    let sent = queues.flatten().filter_map(|message| match message.content {
        Content::Sent { body, .. } => Some((message.id, body)),
        Content::Quota => None,
    });
    sent.collect()
}

fn look(folder: &Path) -> Result<Inspection, StartError> {
    let disk = FileDisk::new(folder);
    let mut inspection = inspect(&disk, hasher())?.expect("a log");
    inspection.check_bodies(&disk).unwrap();
    Ok(inspection)
}

#[test]
fn it_finds_what_a_start_finds_and_changes_nothing() {
    for shards in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(folder.path());
        assert!(inspect(&disk, hasher()).unwrap().is_none());
        fill(&disk, shards);
        let before = files(folder.path());
        let mut inspection = inspect(&disk, hasher()).unwrap().unwrap();
        let counted = inspection.check_bodies(&disk).unwrap();
        assert_eq!(counted, (u64::from(QUEUES), u64::from(QUEUES) * 5_000));
        assert_eq!((inspection.generation, usize::from(inspection.shards)), (1, shards));
        assert_eq!((&inspection.damage, &inspection.torn), (&vec![], &vec![]));
        assert!(inspection.replayed > 0 && inspection.pages > 0 && inspection.segments > 1);
        let mut buffer = Vec::new();
        for (id, place) in messages(&inspection.store) {
            let n = u16::from_be_bytes([id[0], id[1]]);
            assert_eq!(inspection.read_body(&disk, place, &mut buffer).unwrap().unwrap(), body(n));
        }
        assert!(files(folder.path()) == before, "a file was changed");

        let started = start::<_, BodyPlace>(&disk, &config(2), hasher()).unwrap();
        assert_eq!(started.replayed, inspection.replayed);
        let mut found: Vec<QueueId> =
            started.shards.iter().flat_map(|shard| messages(&shard.store).into_keys()).collect();
        found.sort_unstable();
        assert_eq!(found, messages(&inspection.store).into_keys().collect::<Vec<_>>());
        let again = look(folder.path()).unwrap();
        assert_eq!((again.generation, again.shards, again.replayed), (2, 2, 0));
    }
}

/// Turns a bit in every block that was written, one at a time. Whatever is in the block, it is noticed, with the place; or the
/// block is none that anything needs.
#[test]
fn every_changed_block_is_noticed_or_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::new(folder.path());
    fill(&disk, 1);
    let whole = look(folder.path()).unwrap();
    let expected = messages(&whole.store).into_keys().collect::<Vec<_>>();
    let (mut noticed, mut not_needed, mut ends) = (0, 0, 0);
    for (name, content) in files(folder.path()) {
        let path = folder.path().join(&name);
        for (block, bytes) in content.chunks(BLOCK_BYTES).enumerate() {
            if bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            let mut changed = content.clone();
            changed[block * BLOCK_BYTES + 17] ^= 1;
            fs::write(&path, &changed).unwrap();
            match look(folder.path()) {
                Ok(found) if found.damage.is_empty() => {
                    let left: Vec<QueueId> = messages(&found.store).into_keys().collect();
                    // The last commit, of which nothing says that it was durable, looks as a crash leaves it.
                    assert!(expected.starts_with(&left), "{name} {block}: {} messages", left.len());
                    ends += usize::from(left.len() < expected.len());
                    not_needed += 1;
                }
                Ok(found) => {
                    let at = (block * BLOCK_BYTES) as u64;
                    let near = found.damage.iter().any(|damage| {
                        // A commit that cannot be read is missing where the one before it ended. Bodies and images
                        // begin some blocks before.
                        damage.what.contains("was durable and cannot be read")
                            || (damage.file.to_string() == name
                                && (at.saturating_sub(8 * BLOCK_BYTES as u64)..=at).contains(&damage.offset))
                    });
                    assert!(near, "{name} {block}: {:?}", found.damage);
                    noticed += 1;
                }
                Err(StartError::Corrupt(damage)) => {
                    assert_eq!(damage.file.to_string(), name);
                    noticed += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        fs::write(&path, &content).unwrap();
    }
    assert!(ends < 40, "{ends} blocks of the last commit");
    // Bodies, images, pages, headers and the root; against the former images and pages, until they are erased.
    assert!(noticed > 2 * usize::from(QUEUES), "{noticed} noticed, {not_needed} not needed");
    assert!(not_needed < noticed / 4, "{noticed} noticed, {not_needed} not needed");
}

#[test]
fn a_torn_end_is_told_and_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::new(folder.path());
    fill(&disk, 1);
    let whole = messages(&look(folder.path()).unwrap().store);
    // The last message's body never arrived: nothing says that its commit was durable.
    let last = body(QUEUES - 1);
    let (name, content) = files(folder.path())
        .into_iter()
        .find(|(_, content)| content.windows(100).any(|part| part == &last[..100]))
        .unwrap();
    let at = content.windows(100).position(|part| part == &last[..100]).unwrap();
    let mut torn = content.clone();
    torn[at..at + last.len()].fill(0);
    fs::write(folder.path().join(&name), torn).unwrap();
    let found = look(folder.path()).unwrap();
    assert_eq!(found.damage, []);
    assert_eq!(found.torn.len(), 1);
    assert_eq!(found.torn[0].0.to_string(), name);
    let left = messages(&found.store);
    assert!(left.len() < whole.len());
    assert!(left.keys().all(|id| whole.contains_key(id)));
}

#[test]
fn all_damage_is_listed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::new(folder.path());
    fill(&disk, 1);
    for (name, mut content) in files(folder.path()) {
        for n in [3, 50, 100] {
            let part = &body(n)[..100];
            if let Some(at) = content.windows(100).position(|bytes| bytes == part) {
                content[at + 1] ^= 1;
            }
        }
        fs::write(folder.path().join(name), content).unwrap();
    }
    let found = look(folder.path()).unwrap();
    assert_eq!(found.damage.len(), 3, "{:?}", found.damage);
    assert!(found.damage.iter().all(|damage| damage.what == "a body is not what was written"));
    let mut offsets: Vec<u64> = found.damage.iter().map(|damage| damage.offset).collect();
    offsets.dedup();
    assert_eq!(offsets.len(), 3);
}
