//! The log on real files: starts with other numbers of shards, a log cut off anywhere, damage that is passed over, and
//! what erasing leaves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_store::disk::{Disk, FileDisk};
use ringpost_store::log::{
    AppendError, Completion, FileKind, FileName, LogConfig, Op, StartConfig, StartError, Started,
    StartedShard, apply, start,
};
use ringpost_store::sim::SimDisk;
use ringpost_store::{
    BodyPlace, Content, Entry, IdHasher, Link, Log, MemoryLog, Message, NewQueue, Party, QueueId, QueueIx,
    Record, Store,
};

const BODY_BYTES: usize = 16_048;

fn hasher() -> IdHasher {
    IdHasher::new(&[9; 16])
}

fn config(shards: usize) -> StartConfig {
    StartConfig {
        log: LogConfig { segment_bytes: 256 << 10, erase_within_ms: 1_000, ..LogConfig::default() },
        shards,
        skip_corrupt: false,
        salt: 0x1234_5678_9abc_def0,
        threads: true,
    }
}

/// Carries out all that the log wants until it wants nothing.
fn settle(disk: &impl Disk, shard: &mut StartedShard<BodyPlace>, now_ms: u64) {
    loop {
        shard.log.advance(now_ms, &shard.store);
        let mut is_quiet = true;
        while let Some(request) = shard.log.next_request() {
            is_quiet = false;
            let result = disk.perform(&request.op);
            let buffer = match request.op {
                Op::Write { buffer, .. } => Some(buffer),
                _ => None,
            };
            shard.log.complete(Completion { token: request.token, result, buffer });
        }
        if is_quiet {
            assert_eq!(shard.log.failure(), None);
            return;
        }
    }
}

fn queue_id(n: u16) -> QueueId {
    let mut id = [0x77; 24];
    id[..2].copy_from_slice(&n.to_be_bytes());
    id
}

fn body(n: u16) -> Vec<u8> {
    format!("the body of message {n:05} ").into_bytes().into_iter().cycle().take(BODY_BYTES).collect()
}

fn home(started: &Started<BodyPlace>, id: &QueueId) -> usize {
    let map = ringpost_store::PartitionMap::new(started.shards.len()).unwrap();
    map.home(hasher().hash(id).partition())
}

fn append(shard: &mut StartedShard<BodyPlace>, id: &QueueId, record: Record<&[u8]>) -> Vec<BodyPlace> {
    let mut places = Vec::new();
    shard.log.append(&[Entry { hash: hasher().hash(id), record }], &mut places).unwrap();
    places
}

fn create(shard: &mut StartedShard<BodyPlace>, n: u16) -> QueueIx {
    let recipient_id = queue_id(n);
    let mut sender_id = recipient_id;
    sender_id[23] = 1;
    let new = NewQueue {
        recipient_id,
        sender_id,
        recipient_key: AuthPublicKey::Ed25519([1; 32]),
        delivery_secret: [2; 32],
        mode: None,
    };
    append(shard, &recipient_id, Record::Create { new: new.clone(), today: 1 });
    shard.store.create(new, 1).unwrap()
}

fn send(shard: &mut StartedShard<BodyPlace>, ix: QueueIx, id: &QueueId, n: u16) {
    let (flags, body) = (MsgFlags::default(), body(n));
    let message_id = queue_id(n);
    let record = Record::Message { queue: *id, id: message_id, received_secs: 1, flags, body: &body[..] };
    let place = append(shard, id, record)[0];
    let content = Content::Sent { flags, body: place };
    shard.store.write(ix, Message { id: message_id, received_secs: 1, content }, 128);
}

fn take(shard: &mut StartedShard<BodyPlace>, ix: QueueIx, id: &QueueId) {
    let message_id = shard.store.first_message(ix).unwrap().id;
    append(shard, id, Record::Take { queue: *id, id: message_id });
    if let Content::Sent { body, .. } = shard.store.take_message(ix, &message_id).unwrap().content {
        shard.log.erase(body);
    }
}

/// The numbers of the messages that are there, with their bodies read and compared.
fn messages(disk: &impl Disk, started: &Started<BodyPlace>, id: &QueueId) -> Vec<u16> {
    let shard = &started.shards[home(started, id)];
    let ix = shard.store.find(Party::Recipient, id).expect("the queue is there");
    let mut found = Vec::new();
    for message in shard.store.queue(ix).unwrap().messages().into_iter().flatten() {
        let Content::Sent { body: place, .. } = message.content else { panic!("a quota message") };
        let read = shard.log.read(place).unwrap();
        let mut blocks = vec![0; read.bytes];
        disk.read(read.file, read.offset, &mut blocks).unwrap();
        let n = u16::from_be_bytes(message.id[..2].try_into().unwrap());
        assert_eq!(shard.log.body(place, &blocks), Some(&body(n)[..]));
        found.push(n);
    }
    found
}

fn starts(disk: &(impl Disk + Sync), shards: usize) -> Started<BodyPlace> {
    start(disk, &config(shards), hasher()).unwrap()
}

/// Twenty queues with three messages each, of which the first was taken.
fn filled(directory: &Path) -> FileDisk {
    let disk = FileDisk::new(directory);
    let mut started = starts(&disk, 3);
    for n in 0..20 {
        let id = queue_id(n);
        let shard = home(&started, &id);
        let shard = &mut started.shards[shard];
        let ix = create(shard, n);
        for message in 0..3 {
            send(shard, ix, &id, n * 10 + message);
        }
        settle(&disk, shard, 0);
        take(shard, ix, &id);
        settle(&disk, shard, 0);
    }
    disk
}

#[test]
fn queues_move_with_the_number_of_shards() {
    let directory = tempfile::tempdir().unwrap();
    let disk = filled(directory.path());
    for shards in [1, 4, 2, 7, 3] {
        let started = starts(&disk, shards);
        for n in 0..20 {
            assert_eq!(messages(&disk, &started, &queue_id(n)), [n * 10 + 1, n * 10 + 2], "{shards} shards");
        }
        assert_eq!(started.torn, []);
    }
}

fn give_link(shard: &mut StartedShard<BodyPlace>, queue: QueueId) {
    let ix = shard.store.find(Party::Recipient, &queue).unwrap();
    let link = Link { id: [0x11; 24], fixed_bytes: 1, fixed_hash: 1, data: body(0) };
    let record = Record::Link { queue, link: link.clone() };
    let data = append(shard, &queue, record.as_bytes())[0];
    shard.store.set_link(ix, link.map(|_| data)).unwrap();
}

/// A link that was one queue's and then another's, of another shard, whichever log is replayed first, and whether the
/// first queue's image or its log has the link.
#[test]
fn a_link_moves_between_shards() {
    for (from, to) in [(0, 1), (1, 0)] {
        for starts_between in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let disk = FileDisk::new(directory.path());
            let mut started = starts(&disk, 2);
            let of = |shard: usize| (0..u16::MAX).find(|n| home(&started, &queue_id(*n)) == shard).unwrap();
            let (first, second) = (of(from), of(to));
            for (shard, n) in [(from, first), (to, second)] {
                create(&mut started.shards[shard], n);
            }
            give_link(&mut started.shards[from], queue_id(first));
            started.shards.iter_mut().for_each(|shard| settle(&disk, shard, 0));
            if starts_between {
                started = starts(&disk, 2);
            }
            let queue = queue_id(first);
            append(&mut started.shards[from], &queue, Record::LinkGone { queue });
            settle(&disk, &mut started.shards[from], 0);
            give_link(&mut started.shards[to], queue_id(second));
            settle(&disk, &mut started.shards[to], 0);
            let started = starts(&disk, 1);
            let store = &started.shards[0].store;
            let has_link = |n: u16| {
                let ix = store.find(Party::Recipient, &queue_id(n)).unwrap();
                store.queue(ix).unwrap().link().is_some()
            };
            assert!(!has_link(first) && has_link(second));
            assert_eq!(store.find(Party::Link, &[0x11; 24]), store.find(Party::Recipient, &queue_id(second)));
        }
    }
}

#[test]
fn taken_messages_leave_files_and_their_space() {
    let directory = tempfile::tempdir().unwrap();
    let disk = filled(directory.path());
    let contains = |text: &str| {
        disk.list().unwrap().iter().any(|(file, _)| {
            let content = std::fs::read(disk.path(*file)).unwrap();
            content.windows(text.len()).any(|part| part == text.as_bytes())
        })
    };
    assert!(contains("the body of message 00000 ") && contains("the body of message 00001 "));
    let mut started = starts(&disk, 2);
    for shard in &mut started.shards {
        settle(&disk, shard, 2_000);
    }
    for n in 0..20 {
        assert!(!contains(&format!("the body of message {:05} ", n * 10)));
        assert!(contains(&format!("the body of message {:05} ", n * 10 + 1)));
    }
    let occupied: u64 = disk
        .list()
        .unwrap()
        .iter()
        .filter(|(file, _)| file.kind == FileKind::Segment && file.generation == 1)
        .map(|(file, _)| std::fs::metadata(disk.path(*file)).unwrap().blocks() * 512)
        .sum();
    // Forty bodies and a header for each segment, where the file system can punch holes.
    assert!(occupied <= 40 * 16_384 + 3 * 4 * 4_096, "{occupied}");
}

/// Names and inodes of the segments.
fn segments(directory: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| {
        (entry.file_name().into_string().unwrap(), std::fs::metadata(entry.path()).unwrap().ino())
    });
    named.filter(|(name, _)| name.strip_suffix(".seg").is_some()).collect()
}

/// With time enough to write over what is dead.
fn patient() -> StartConfig {
    let mut config = config(1);
    config.log.erase_within_ms = 8_000;
    config
}

#[test]
fn a_busy_log_writes_over_its_segments_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, config) = (FileDisk::new(directory.path()), patient());
    let mut started: Started<BodyPlace> = start(&disk, &config, hasher()).unwrap();
    let shard = &mut started.shards[0];
    let queue = create(shard, 0);
    let (mut names, mut inodes) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..600 {
        send(shard, queue, &queue_id(0), n);
        settle(&disk, shard, u64::from(n) * 20);
        take(shard, queue, &queue_id(0));
        settle(&disk, shard, u64::from(n) * 20 + 10);
        for (name, inode) in segments(directory.path()) {
            names.insert(name);
            inodes.insert(inode);
        }
    }
    // 12 messages fill a segment. Those with holes, from the rounds that erased, were deleted.
    assert!(names.len() > 45, "{names:?}");
    assert!(shard.log.counts().segments_reused > 30, "{:?}", shard.log.counts());
    assert!(inodes.len() < 20, "{} files", inodes.len());
    // What was acknowledged may stand in segments that wait, and goes although nothing comes any more.
    for step in 0..80 {
        settle(&disk, shard, 12_000 + step * 100);
    }
    let allocated: u64 = segments(directory.path())
        .iter()
        .map(|(name, _)| std::fs::metadata(directory.path().join(name)).unwrap().blocks() * 512)
        .sum();
    assert!(allocated <= 2 * (256 << 10), "{allocated} bytes in {:?}", segments(directory.path()));
    for (name, _) in segments(directory.path()) {
        let content = std::fs::read(directory.path().join(&name)).unwrap();
        let found = content.windows(19).filter(|bytes| bytes == b"the body of message").count();
        assert_eq!(found, 0, "{name}");
    }
}

#[test]
fn a_log_that_writes_over_segments_starts_from_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, config) = (FileDisk::new(directory.path()), patient());
    let mut now_ms = 0;
    let mut reused = 0;
    let mut expected: VecDeque<u16> = VecDeque::new();
    for life in 0..12 {
        let mut started: Started<BodyPlace> = start(&disk, &config, hasher()).unwrap();
        let queue = if life == 0 {
            create(&mut started.shards[0], 0)
        } else {
            assert_eq!(messages(&disk, &started, &queue_id(0)), Vec::from(expected.clone()));
            started.shards[0].store.find(Party::Recipient, &queue_id(0)).unwrap()
        };
        let shard = &mut started.shards[0];
        // A life ends wherever it happens to be in a segment and in a round.
        for n in 0..100 + life * 7 {
            send(shard, queue, &queue_id(0), n);
            expected.push_back(n);
            now_ms += 20;
            settle(&disk, shard, now_ms);
            if expected.len() > 3 {
                take(shard, queue, &queue_id(0));
                expected.pop_front();
            }
        }
        settle(&disk, shard, now_ms);
        reused += shard.log.counts().segments_reused;
    }
    assert!(reused > 30, "{reused}");
}

/// Five messages in a queue, each in a commit of its own. Gives the segment they are in.
fn five_messages(disk: &(impl Disk + Sync)) -> FileName {
    let mut started = starts(disk, 1);
    let shard = &mut started.shards[0];
    let ix = create(shard, 0);
    for n in 0..5 {
        send(shard, ix, &queue_id(0), n);
        settle(disk, shard, 0);
    }
    disk.list().unwrap().into_iter().map(|(file, _)| file).filter(|file| file.sequence == 1).min().unwrap()
}

fn end_of(content: &[u8]) -> usize {
    content.iter().rposition(|&byte| byte != 0).unwrap() + 1
}

/// Zeros from some byte on, at every byte of the last kilobyte: what a crash can leave of the last commit.
#[test]
fn a_log_whose_last_kilobyte_did_not_arrive_starts() {
    let mut cut_messages = 0;
    let mut bytes_left = None;
    loop {
        let disk = SimDisk::new(1, 0);
        let segment = five_messages(&disk);
        let (_, content) = disk.images().into_iter().find(|(file, _)| *file == segment).unwrap();
        let end = end_of(&content);
        let left: usize = bytes_left.unwrap_or(end);
        disk.zero_from(segment, left);
        let found = messages(&disk, &starts(&disk, 1), &queue_id(0));
        match found[..] {
            [0, 1, 2, 3, 4] => assert_eq!(left, end),
            [0, 1, 2, 3] => cut_messages += 1,
            _ => panic!("{found:?} with {left} of {end} bytes"),
        }
        if left == end - 1_024 {
            break;
        }
        bytes_left = Some(left - 1);
    }
    assert_eq!(cut_messages, 1_024);
}

/// A segment is made with all its blocks, so a shorter one was damaged. Where that matters the start is refused.
#[test]
fn a_shortened_segment_starts_whole_or_is_refused() {
    let mut refused = 0;
    let mut left = 0;
    loop {
        let disk = SimDisk::new(1, 0);
        let segment = five_messages(&disk);
        let (_, content) = disk.images().into_iter().find(|(file, _)| *file == segment).unwrap();
        if left > content.len() {
            break;
        }
        disk.truncate(segment, left);
        match start::<_, BodyPlace>(&disk, &config(1), hasher()) {
            Ok(started) => {
                // There is at least one empty block behind the log.
                assert!(left >= end_of(&content).next_multiple_of(4_096) + 4_096);
                assert_eq!(messages(&disk, &started, &queue_id(0)), [0, 1, 2, 3, 4], "cut at {left}");
            }
            Err(StartError::Corrupt(what)) => {
                assert_eq!(what.file, segment);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
        left += 509;
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn a_shortened_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FileDisk::new(directory.path());
    let segment = five_messages(&disk);
    let content = std::fs::read(disk.path(segment)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(disk.path(segment)).unwrap();
    file.set_len(end_of(&content) as u64 - 100).unwrap();
    let refused = start::<_, BodyPlace>(&disk, &config(1), hasher());
    assert!(matches!(refused, Err(StartError::Corrupt(what)) if what.file == segment));
    file.set_len(content.len() as u64).unwrap();
    assert_eq!(messages(&disk, &starts(&disk, 1), &queue_id(0)), [0, 1, 2, 3]);
}

#[test]
fn a_memory_log_replays_what_was_appended() {
    let (mut log, mut places) = (MemoryLog::recording(), Vec::new());
    let id = queue_id(1);
    let new = NewQueue {
        recipient_id: id,
        sender_id: queue_id(2),
        recipient_key: AuthPublicKey::Ed25519([1; 32]),
        delivery_secret: [2; 32],
        mode: None,
    };
    let message = |n: u16, body| Record::Message {
        queue: id,
        id: queue_id(n),
        received_secs: 1,
        flags: MsgFlags::default(),
        body,
    };
    let hash = hasher().hash(&id);
    let records = [Record::Create { new, today: 1 }, message(3, &b"first"[..]), message(4, b"second")];
    let entries = records.map(|record| Entry { hash, record });
    let position = log.append(&entries, &mut places).unwrap();
    assert_eq!(log.durable_up_to(), position);
    let taken = Entry { hash, record: Record::Take { queue: id, id: queue_id(3) } };
    log.append(&[taken], &mut places).unwrap();
    log.erase(places[0]);
    assert_eq!((log.recorded_body(places[0]), log.recorded_body(places[1])), (None, Some(&b"second"[..])));
    let mut store: Store<BodyPlace> = Store::new(hasher());
    for (_, record) in log.replay() {
        apply(&mut store, record.clone()).unwrap();
    }
    let ix = store.find(Party::Recipient, &id).unwrap();
    assert_eq!(store.first_message(ix).unwrap().id, queue_id(4));
    let body = vec![0; 16_385];
    let too_large = Entry { hash, record: message(5, &body) };
    assert_eq!(log.append(&[too_large], &mut places), Err(AppendError::TooLarge));
}

#[test]
fn damage_is_named_and_passed_over_if_asked() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FileDisk::new(directory.path());
    let mut started = starts(&disk, 1);
    let shard = &mut started.shards[0];
    for n in 0..5 {
        create(shard, n);
        settle(&disk, shard, 0);
    }
    drop(started);
    let segment =
        disk.list().unwrap().into_iter().map(|(file, _)| file).filter(|file| file.sequence == 1).min();
    let path = disk.path(segment.unwrap());
    let mut content = std::fs::read(&path).unwrap();
    // Commits of one page each: the third lies in the third block behind the header.
    content[3 * 4_096 + 100] ^= 1;
    std::fs::write(&path, content).unwrap();
    let Err(StartError::Corrupt(what)) = start::<_, BodyPlace>(&disk, &config(1), hasher()) else {
        panic!("the damage was not noticed");
    };
    assert_eq!((Some(what.file), what.offset), (segment, 3 * 4_096));
    let started: Started<BodyPlace> =
        start(&disk, &StartConfig { skip_corrupt: true, ..config(1) }, hasher()).unwrap();
    let there: Vec<u16> =
        (0..5).filter(|n| started.shards[0].store.find(Party::Recipient, &queue_id(*n)).is_some()).collect();
    assert_eq!(there, [0, 1, 3, 4]);
    assert_eq!(started.skipped.len(), 1);
}

#[test]
fn lost_roots_are_no_first_start() {
    let directory = tempfile::tempdir().unwrap();
    let disk = filled(directory.path());
    for (file, _) in disk.list().unwrap() {
        if file.kind == FileKind::Root && file.shard == 1 {
            std::fs::write(disk.path(file), [0; 4_096]).unwrap();
        }
    }
    let refused = start::<_, BodyPlace>(&disk, &config(3), hasher());
    assert!(matches!(refused, Err(StartError::Corrupt(what)) if what.file.kind == FileKind::Root));
}
