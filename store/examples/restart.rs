//! Measures what the log costs and how long a start takes, on files in a directory.
//!
//! `cargo run --release -p ringpost-store --example restart -- DIRECTORY QUEUES SHARDS`: makes as many queues with one
//! message of 16,048 bytes each, then starts from the files twice (after a kill, and again), and prints what it took.

use std::time::{Duration, Instant};

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_store::disk::{Disk, FileDisk};
use ringpost_store::log::{
    AppendError, Completion, LogConfig, Op, StartConfig, StartError, Started, StartedShard, start,
};
use ringpost_store::{
    BodyPlace, Content, Entry, IdHasher, Log, Message, NewQueue, PartitionMap, Party, Record,
};

/// Messages appended between two commits: what a busy router gathers while one sync runs.
const GROUP: u64 = 64;

fn id(n: u64, salt: u64) -> [u8; 24] {
    let mut id = [0; 24];
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt;
    for part in id.chunks_mut(8) {
        state = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(salt);
        part.copy_from_slice(&(state ^ n).to_le_bytes());
    }
    id
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1_024
}

/// Carries out what the log wants now.
fn serve(disk: &FileDisk, shard: &mut StartedShard<BodyPlace>, now_ms: u64) -> bool {
    shard.log.advance(now_ms, &shard.store);
    let mut is_busy = false;
    while let Some(request) = shard.log.next_request() {
        is_busy = true;
        let result = disk.perform(&request.op);
        let buffer = match request.op {
            Op::Write { buffer, .. } => Some(buffer),
            _ => None,
        };
        shard.log.complete(Completion { token: request.token, result, buffer });
    }
    is_busy
}

fn append(
    disk: &FileDisk,
    shard: &mut StartedShard<BodyPlace>,
    entry: &Entry<'_>,
    now_ms: u64,
) -> Result<Option<BodyPlace>, AppendError> {
    let mut places = Vec::new();
    loop {
        match shard.log.append(std::slice::from_ref(entry), &mut places) {
            Err(AppendError::Busy) => _ = serve(disk, shard, now_ms),
            other => return other.map(|_| places.pop()),
        }
    }
}

fn fill(
    disk: &FileDisk,
    started: &mut Started<BodyPlace>,
    hasher: &IdHasher,
    queues: u64,
) -> Result<(), AppendError> {
    let begun = Instant::now();
    let map = PartitionMap::new(started.shards.len());
    for n in 0..queues {
        let now_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let queue = id(n, 1);
        let hash = hasher.hash(&queue);
        let home = map.map_or(0, |map| map.home(hash.partition()));
        let Some(shard) = started.shards.get_mut(home) else { continue };
        let new = NewQueue {
            recipient_id: queue,
            sender_id: id(n, 2),
            recipient_key: AuthPublicKey::Ed25519([1; 32]),
            delivery_secret: [2; 32],
            mode: None,
        };
        append(disk, shard, &Entry { hash, record: Record::Create { new: new.clone(), today: 1 } }, now_ms)?;
        let Ok(ix) = shard.store.create(new, 1) else { continue };
        let key = AuthPublicKey::Ed25519([3; 32]);
        append(disk, shard, &Entry { hash, record: Record::Secure { queue, key: key.clone() } }, now_ms)?;
        let _ = shard.store.secure(ix, key);
        let body = [n.to_le_bytes()[0]; 16_048];
        let (message_id, flags) = (id(n, 3), MsgFlags::default());
        let record = Record::Message { queue, id: message_id, received_secs: 1, flags, body: &body[..] };
        if let Some(place) = append(disk, shard, &Entry { hash, record }, now_ms)? {
            let content = Content::Sent { flags, body: place };
            shard.store.write(ix, Message { id: message_id, received_secs: 1, content }, 128);
        }
        if n % GROUP == GROUP - 1 {
            for shard in &mut started.shards {
                serve(disk, shard, now_ms);
            }
        }
    }
    for shard in &mut started.shards {
        while serve(disk, shard, 0) {}
    }
    Ok(())
}

/// Acknowledges one message in so many queues, and runs the round that erases it. Gives the bytes of images and all bytes
/// written, and the longest call of `advance`.
fn renew(
    disk: &FileDisk,
    started: &mut Started<BodyPlace>,
    hasher: &IdHasher,
    queues: u64,
    (taken, mut now_ms): (u64, u64),
) -> Result<(u64, u64, Duration), AppendError> {
    let map = PartitionMap::new(started.shards.len());
    let totals = |started: &Started<BodyPlace>| {
        let counts = started.shards.iter().map(|shard| *shard.log.counts());
        counts.fold((0, 0), |sum, counts| (sum.0 + counts.image_bytes, sum.1 + counts.written_bytes))
    };
    let before = totals(started);
    let mut longest = Duration::ZERO;
    for n in (0..taken).map(|n| n * queues / taken.max(1)) {
        let queue = id(n, 1);
        let hash = hasher.hash(&queue);
        let home = map.map_or(0, |map| map.home(hash.partition()));
        let Some(shard) = started.shards.get_mut(home) else { continue };
        let Some(ix) = shard.store.find(Party::Recipient, &queue) else { continue };
        let message = id(n, 3);
        if shard.store.first_message(ix).is_none_or(|first| first.id != message) {
            continue;
        }
        append(disk, shard, &Entry { hash, record: Record::Take { queue, id: message } }, 0)?;
        if let Some(Content::Sent { body, .. }) =
            shard.store.take_message(ix, &message).map(|message| message.content)
        {
            shard.log.erase(body);
        }
    }
    for _ in 0..2_000 {
        now_ms += 1;
        for shard in &mut started.shards {
            let begun = Instant::now();
            shard.log.advance(now_ms, &shard.store);
            longest = longest.max(begun.elapsed());
            serve(disk, shard, now_ms);
        }
    }
    let after = totals(started);
    Ok((after.0 - before.0, after.1 - before.1, longest))
}

fn timed(
    disk: &FileDisk,
    config: &StartConfig,
    hasher: IdHasher,
) -> Result<(Started<BodyPlace>, Duration), StartError> {
    let begun = Instant::now();
    let started = start(disk, config, hasher)?;
    Ok((started, begun.elapsed()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: restart DIRECTORY QUEUES SHARDS";
    let directory = arguments.next().ok_or(usage)?;
    let queues: u64 = arguments.next().ok_or(usage)?.parse()?;
    let shards: usize = arguments.next().ok_or(usage)?.parse()?;
    let disk = FileDisk::new(directory);
    let hasher = IdHasher::new(&[5; 16]);
    let config =
        StartConfig { log: LogConfig::default(), shards, skip_corrupt: false, salt: 99, threads: true };

    let (mut started, took) = timed(&disk, &config, hasher)?;
    println!("first start: {took:?}");
    let begun = Instant::now();
    fill(&disk, &mut started, &hasher, queues)?;
    let took = begun.elapsed();
    let (mut appended, mut written, mut images, mut syncs) = (0, 0, 0, 0);
    for shard in &started.shards {
        let counts = shard.log.counts();
        appended += counts.appended_bytes;
        written += counts.written_bytes;
        images += counts.image_bytes;
        syncs += counts.syncs;
    }
    println!("{queues} queues, each with a message: {took:?}, {syncs} syncs");
    println!(
        "written / appended bytes: {written} / {appended} = {:.3} (images: {images})",
        ratio(written, appended)
    );
    // The first of these rounds writes everything. Times behind all that the log has seen, and far apart.
    for (round, taken) in (1..).zip([1, 2, 1_000.min(queues)]) {
        let (images, written, longest) = renew(&disk, &mut started, &hasher, queues, (taken, round << 40))?;
        println!(
            "a round after {taken} messages were taken: {images} bytes of images, {written} written, longest step {longest:?}"
        );
    }
    drop(started);
    for what in ["start after a kill", "start with what that left"] {
        let before = resident_bytes();
        let (started, took) = timed(&disk, &config, hasher)?;
        let found: usize = started.shards.iter().map(|shard| shard.store.queue_count()).sum();
        let memory = resident_bytes().saturating_sub(before);
        println!(
            "{what}: {took:?}, {found} queues, {} records replayed, {} bytes of memory a queue",
            started.replayed,
            memory / found.max(1)
        );
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}
