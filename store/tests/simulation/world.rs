//! A simulated machine with a router's shards, its clients, crashes and starts.

use std::collections::VecDeque;

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_store::log::{
    AppendError, Durability, LogConfig, Mutation, StartConfig, StartError, Started, StartedShard, start,
};
use ringpost_store::sim::{Fault, Random, SimDisk};
use ringpost_store::{
    BodyPlace, Content, Entry, IdHasher, Log, Message, NewQueue, PartitionMap, Party, Position, QueueId,
    Record, Written,
};

use crate::model::{MESSAGE_MARK, ModelRecord, QUEUE_MARK, Queues, apply, body_of, flags, named, seen};

const BLOCK_BYTES: u64 = 4_096;
const QUOTA: usize = 6;

/// A shard's part of the model: what must be there, and what may be there.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) durable: Queues,
    /// Appended and not yet durable, in order.
    pub(crate) pending: VecDeque<(Position, ModelRecord)>,
}

pub struct World {
    pub(crate) random: Random,
    pub(crate) disk: SimDisk,
    pub(crate) now_ms: u64,
    pub(crate) hasher: IdHasher,
    pub(crate) config: StartConfig,
    pub(crate) known: Vec<Known>,
    pub(crate) shards: Vec<StartedShard<BodyPlace>>,
    next_tag: u64,
    pub(crate) queues: Vec<QueueId>,
    /// A fault was given to the disk in this life.
    pub(crate) has_fault: bool,
    pub stats: Stats,
}

/// What a run has met, so that it is seen that runs are not idle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub crashes: u64,
    pub starts: u64,
    pub interrupted_starts: u64,
    pub records: u64,
    pub refused: u64,
    pub torn: u64,
    pub rounds: u64,
    pub punched: u64,
    pub failed_logs: u64,
    pub corrupt_starts: u64,
    pub refused_bodies: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.starts += other.starts;
        self.interrupted_starts += other.interrupted_starts;
        self.records += other.records;
        self.refused += other.refused;
        self.torn += other.torn;
        self.rounds += other.rounds;
        self.punched += other.punched;
        self.failed_logs += other.failed_logs;
        self.corrupt_starts += other.corrupt_starts;
        self.refused_bodies += other.refused_bodies;
    }
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut random = Random::new(seed);
        let durability = match random.below(6) {
            0 => Durability::Interval { ms: 1 + random.below(200) },
            1 => Durability::Off,
            _ => Durability::Always,
        };
        let log = LogConfig {
            segment_bytes: BLOCK_BYTES * [32, 64, 64, 128, 256][random.index(5)],
            durability,
            erase_within_ms: 200 + random.below(4_000),
            pending_bytes_max: 256 << 10,
            replay_pages_max: 4 + random.index(200),
            mutation,
        };
        let delay_ms_max = [0, 1, 5, 20][random.index(4)];
        let disk = SimDisk::new(random.next_u64(), delay_ms_max);
        let salt = random.next_u64();
        Self {
            disk,
            now_ms: 0,
            hasher: IdHasher::new(&[7; 16]),
            config: StartConfig { log, shards: 1, skip_corrupt: false, salt, threads: false },
            known: vec![Known::default()],
            shards: Vec::new(),
            next_tag: 1,
            queues: Vec::new(),
            has_fault: false,
            stats: Stats::default(),
            random,
        }
    }

    /// Some lives of a router, then a quiet end.
    pub fn run(&mut self) -> Result<(), String> {
        let lives = 1 + self.random.below(5);
        for _ in 0..lives {
            self.start()?;
            self.live()?;
            self.crash();
        }
        self.start()?;
        self.quiet_end()?;
        if self.random.chance(50) {
            self.damage()?;
        }
        Ok(())
    }

    pub(crate) fn home(&self, queue: &QueueId) -> usize {
        PartitionMap::new(self.shards.len()).unwrap().home(self.hasher.hash(queue).partition())
    }

    /// Starts until it succeeds: starts are interrupted too. Then looks at what is there.
    fn start(&mut self) -> Result<(), String> {
        loop {
            self.config.shards = 1 + self.random.index(4);
            self.config.salt = self.random.next_u64();
            let fuse = self.random.chance(30).then(|| u32::try_from(self.random.below(40)).unwrap());
            self.disk.set_fuse(fuse);
            let started: Result<Started<BodyPlace>, StartError> =
                start(&self.disk, &self.config, self.hasher);
            self.disk.set_fuse(None);
            match started {
                Ok(started) => {
                    self.stats.starts += 1;
                    self.stats.torn += started.torn.len() as u64;
                    return self.take_over(started);
                }
                Err(StartError::Disk(_)) if fuse.is_some() => {
                    self.stats.interrupted_starts += 1;
                    self.disk.crash();
                }
                Err(StartError::Disk(error)) => {
                    // There was too little space to start.
                    if self.disk.used_blocks() == 0 {
                        return Err(format!("a start on an empty disk failed: {error}"));
                    }
                    self.disk.set_capacity_blocks(usize::MAX);
                    self.disk.crash();
                }
                Err(error) => return Err(format!("the start failed: {error}")),
            }
        }
    }

    /// Compares what a start found with what is known.
    fn take_over(&mut self, started: Started<BodyPlace>) -> Result<(), String> {
        let former = PartitionMap::new(self.known.len()).unwrap();
        let mut all = Queues::new();
        let map = PartitionMap::new(started.shards.len()).unwrap();
        for (n, shard) in started.shards.iter().enumerate() {
            for (id, queue) in seen(&self.disk, shard, false)? {
                if map.home(self.hasher.hash(&id).partition()) != n {
                    return Err("a queue is not at home".into());
                }
                all.insert(id, queue);
            }
        }
        for (shard, known) in self.known.iter().enumerate() {
            let found: Queues = all
                .iter()
                .filter(|(id, _)| former.home(self.hasher.hash(id).partition()) == shard)
                .map(|(id, queue)| (*id, queue.clone()))
                .collect();
            let mut expected = known.durable.clone();
            let mut fits = found == expected;
            for (_, record) in &known.pending {
                if fits {
                    break;
                }
                apply(&mut expected, record);
                fits = found == expected;
            }
            if !fits {
                return Err(format!("shard {shard}: {}", difference(&known.durable, &found)));
            }
        }
        self.shards = started.shards;
        self.known = self.shards.iter().map(|_| Known::default()).collect();
        self.queues = all.keys().copied().collect();
        for (id, queue) in all {
            let home = self.home(&id);
            self.known[home].durable.insert(id, queue);
        }
        Ok(())
    }

    fn live(&mut self) -> Result<(), String> {
        let steps = 10 + self.random.below(250);
        let pace = 1 + self.random.below(20);
        let fault_at = self.random.chance(15).then(|| self.random.below(steps));
        let full_at = self.random.chance(25).then(|| self.random.below(steps));
        let delete_percent = self.random.below(8);
        self.has_fault = false;
        for step in 0..steps {
            if fault_at == Some(step) {
                let fault = if self.random.chance(60) { Fault::Error } else { Fault::WriteNoSpace };
                self.has_fault = fault == Fault::Error;
                self.disk.set_fault(u32::try_from(self.random.below(10)).unwrap(), fault);
            }
            if full_at == Some(step) {
                let more = self.random.index(100);
                self.disk.set_capacity_blocks(self.disk.used_blocks() + more);
            }
            if full_at.is_some_and(|at| step > at + 60) {
                self.disk.set_capacity_blocks(usize::MAX);
            }
            for _ in 0..=self.random.below(3) {
                self.command(delete_percent)?;
            }
            self.now_ms += self.random.below(pace);
            self.turn()?;
        }
        self.disk.set_capacity_blocks(usize::MAX);
        Ok(())
    }

    /// Moves every log and the disk.
    pub(crate) fn turn(&mut self) -> Result<(), String> {
        loop {
            for (n, shard) in self.shards.iter_mut().enumerate() {
                shard.log.advance(self.now_ms, &shard.store);
                while let Some(request) = shard.log.next_request() {
                    self.disk.submit(self.now_ms, n, request);
                }
            }
            let completions = self.disk.completions(self.now_ms);
            if completions.is_empty() {
                return self.note_durable();
            }
            for (n, completion) in completions {
                self.shards[n].log.complete(completion);
            }
        }
    }

    /// Goes from event to event.
    pub(crate) fn run_until(&mut self, end_ms: u64) -> Result<(), String> {
        let mut idle_turns = 0;
        loop {
            self.turn()?;
            let wakes = self.shards.iter().filter_map(|shard| shard.log.next_wake_ms());
            let Some(next_ms) = wakes.chain(self.disk.next_due_ms()).min().filter(|next| *next <= end_ms)
            else {
                self.now_ms = end_ms;
                return self.turn();
            };
            idle_turns = if next_ms > self.now_ms { 0 } else { idle_turns + 1 };
            if idle_turns > 1_000 {
                return Err("a log asks to be woken and has nothing to do".into());
            }
            self.now_ms = self.now_ms.max(next_ms);
        }
    }

    fn note_durable(&mut self) -> Result<(), String> {
        let always = self.config.log.durability == Durability::Always;
        for (shard, known) in self.shards.iter().zip(&mut self.known) {
            if let Some(failure) = shard.log.failure()
                && !self.has_fault
            {
                return Err(format!("a log failed: {failure}"));
            }
            let durable = if always { shard.log.durable_up_to() } else { shard.log.synced_up_to() };
            while known.pending.front().is_some_and(|(position, _)| *position <= durable) {
                let (_, record) = known.pending.pop_front().unwrap();
                apply(&mut known.durable, &record);
            }
        }
        Ok(())
    }

    pub(crate) fn crash(&mut self) {
        self.stats.crashes += 1;
        self.stats.failed_logs +=
            self.shards.iter().filter(|shard| shard.log.failure().is_some()).count() as u64;
        for shard in &self.shards {
            self.stats.rounds += shard.log.counts().rounds;
            self.stats.punched += shard.log.counts().punched_bytes;
        }
        self.shards.clear();
        self.disk.crash();
    }

    fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    pub(crate) fn today(&self) -> u32 {
        20_000 + u32::try_from(self.now_ms / 500).unwrap()
    }

    pub(crate) fn append(
        &mut self,
        shard: usize,
        queue: &QueueId,
        record: &ModelRecord,
    ) -> Result<Option<Vec<BodyPlace>>, String> {
        let bytes = match record {
            Record::Message { body, .. } => body_of(body.0, body.1),
            _ => Vec::new(),
        };
        let entry =
            Entry { hash: self.hasher.hash(queue), record: record.clone().map_body(|_| bytes.as_slice()) };
        let mut places = Vec::new();
        match self.shards[shard].log.append(&[entry], &mut places) {
            Ok(position) => {
                self.stats.records += 1;
                self.known[shard].pending.push_back((position, record.clone()));
                Ok(Some(places))
            }
            Err(AppendError::TooLarge) => Err("a body was too large".into()),
            Err(AppendError::Failed(_)) if !self.has_fault => Err("a log failed".into()),
            Err(_) => {
                self.stats.refused += 1;
                Ok(None)
            }
        }
    }

    /// One command of a client.
    pub(crate) fn command(&mut self, delete_percent: u64) -> Result<(), String> {
        if self.queues.len() < 3 || (self.queues.len() < 40 && self.random.chance(10)) {
            return self.create();
        }
        let at = self.random.index(self.queues.len());
        let queue = self.queues[at];
        let shard = self.home(&queue);
        let Some(ix) = self.shards[shard].store.find(Party::Recipient, &queue) else {
            return Err("a queue is gone".into());
        };
        match self.random.below(100) {
            roll if roll < delete_percent => {
                if self.append(shard, &queue, &Record::Delete { queue })?.is_some() {
                    self.queues.swap_remove(at);
                    let deleted = self.shards[shard].store.delete(ix).unwrap();
                    for message in deleted.into_messages() {
                        self.erase(shard, &message);
                    }
                }
            }
            0..50 => self.send(shard, queue, ix)?,
            50..85 => {
                let Some(id) = self.shards[shard].store.first_message(ix).map(|message| message.id) else {
                    return Ok(());
                };
                if self.append(shard, &queue, &Record::Take { queue, id })?.is_some() {
                    let taken = self.shards[shard].store.take_message(ix, &id).unwrap();
                    self.erase(shard, &taken);
                }
            }
            85..88 => {
                let count = 1 + self.random.index(3);
                let messages = self.shards[shard].store.queue(ix).unwrap().messages();
                let Some(through) = messages.into_iter().flatten().take(count).last().map(|last| last.id)
                else {
                    return Ok(());
                };
                if self.append(shard, &queue, &Record::Expire { queue, through })?.is_some() {
                    for message in self.shards[shard].store.take_through(ix, &through).unwrap() {
                        self.erase(shard, &message);
                    }
                }
            }
            88..92 => {
                if self.shards[shard].store.queue(ix).unwrap().sender_key.is_none() {
                    let key = AuthPublicKey::Ed25519([3; 32]);
                    if self.append(shard, &queue, &Record::Secure { queue, key: key.clone() })?.is_some() {
                        self.shards[shard].store.secure(ix, key).unwrap();
                    }
                }
            }
            92..95 => {
                if self.append(shard, &queue, &Record::Suspend { queue })?.is_some() {
                    self.shards[shard].store.suspend(ix);
                }
            }
            _ => {
                let today = self.today();
                if self.append(shard, &queue, &Record::Used { queue, today })?.is_some() {
                    self.shards[shard].store.mark_used(ix, today);
                }
            }
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(), String> {
        let tag = self.tag();
        let recipient_id = named(QUEUE_MARK, tag);
        let mut sender_id = recipient_id;
        sender_id[23] = 1;
        let recipient_key = match tag % 3 {
            0 => AuthPublicKey::Ed448(Box::new([9; 57])),
            1 => AuthPublicKey::X25519([8; 32]),
            _ => AuthPublicKey::Ed25519([7; 32]),
        };
        let mode = [None, Some(QueueMode::Messaging), Some(QueueMode::Contact)][self.random.index(3)];
        let new = NewQueue { recipient_id, sender_id, recipient_key, delivery_secret: [5; 32], mode };
        let today = self.today();
        let shard = self.home(&recipient_id);
        if self.append(shard, &recipient_id, &Record::Create { new: new.clone(), today })?.is_some() {
            self.shards[shard].store.create(new, today).unwrap();
            self.queues.push(recipient_id);
        }
        Ok(())
    }

    fn send(&mut self, shard: usize, queue: QueueId, ix: ringpost_store::QueueIx) -> Result<(), String> {
        let tag = self.tag();
        let id = named(MESSAGE_MARK, tag);
        let received_secs = self.now_ms / 1_000;
        let store = &self.shards[shard].store;
        let messages = store.queue(ix).unwrap().messages();
        let count = messages.map_or(0, ringpost_store::MessageQueue::len);
        let is_closed =
            messages.into_iter().flatten().last().is_some_and(|last| last.content == Content::Quota);
        if is_closed {
            return Ok(());
        }
        if count >= QUOTA {
            if self.append(shard, &queue, &Record::Quota { queue, id, received_secs })?.is_some() {
                let message = Message { id, received_secs, content: Content::Quota };
                let written = self.shards[shard].store.write(ix, message, QUOTA);
                assert_eq!(written, Some(Written::OverQuota { marked: true }));
            }
            return Ok(());
        }
        let bytes = match self.random.below(10) {
            0 => 0,
            1..6 => 32 + self.random.index(300),
            6..8 => self.random.index(16_088),
            _ => 16_048,
        };
        // A body that is shorter than its name cannot be told from others.
        let bytes = if bytes < 32 { 0 } else { bytes };
        let tag = if bytes == 0 { 0 } else { tag };
        let flags = flags(self.random.chance(30));
        let record = Record::Message { queue, id, received_secs, flags, body: (tag, bytes) };
        if let Some(places) = self.append(shard, &queue, &record)? {
            let message = Message { id, received_secs, content: Content::Sent { flags, body: places[0] } };
            self.shards[shard].store.write(ix, message, QUOTA);
        }
        Ok(())
    }

    fn erase(&mut self, shard: usize, message: &Message<BodyPlace>) {
        if let Content::Sent { body, .. } = &message.content {
            self.shards[shard].log.erase(*body);
        }
    }
}

pub fn difference(expected: &Queues, found: &Queues) -> String {
    for (id, queue) in expected {
        match found.get(id) {
            None => {
                return format!("a queue is missing ({} are known, {} found)", expected.len(), found.len());
            }
            Some(other) if other != queue => return format!("a queue is {other:?} instead of {queue:?}"),
            Some(_) => {}
        }
    }
    format!("{} queues are known, {} found", expected.len(), found.len())
}
