//! A simulated machine with a router's shards, its clients, crashes and starts.

use std::collections::VecDeque;

use ringpost_store::log::{
    Durability, LogConfig, Mutation, StartConfig, StartError, Started, StartedShard, start,
};
use ringpost_store::sim::{Fault, Random, SimDisk};
use ringpost_store::{BodyPlace, Fingerprint, IdHasher, Log, PartitionMap, Position, QueueId, ServiceId};

use crate::model::{ModelRecord, State, difference};
use crate::seen::seen;

const BLOCK_BYTES: u64 = 4_096;

/// A shard's part of the model: what must be there, and what may be there.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) durable: State,
    /// Batches appended and not yet durable, in order.
    pub(crate) pending: VecDeque<(Position, Vec<ModelRecord>)>,
}

pub struct World {
    pub(crate) random: Random,
    pub(crate) disk: SimDisk,
    pub(crate) now_ms: u64,
    pub(crate) hasher: IdHasher,
    pub(crate) config: StartConfig,
    pub(crate) known: Vec<Known>,
    pub(crate) shards: Vec<StartedShard<BodyPlace>>,
    pub(crate) next_tag: u64,
    pub(crate) queues: Vec<QueueId>,
    pub(crate) services: Vec<ServiceId>,
    /// A fault was given to the disk in this life.
    pub(crate) has_fault: bool,
    /// Few queues, whose messages are soon taken: whole segments die.
    pub(crate) is_hasty: bool,
    pub stats: Stats,
}

/// What a run has met, so that it is seen that runs are not idle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub crashes: u64,
    pub starts: u64,
    pub interrupted_starts: u64,
    pub records: u64,
    /// Of more than one record.
    pub batches: u64,
    pub refused: u64,
    pub torn: u64,
    pub rounds: u64,
    pub punched: u64,
    /// Segments that were written over.
    pub reused: u64,
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
        self.batches += other.batches;
        self.refused += other.refused;
        self.torn += other.torn;
        self.rounds += other.rounds;
        self.punched += other.punched;
        self.reused += other.reused;
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
        let is_hasty = random.chance(30);
        let log = LogConfig {
            segment_bytes: BLOCK_BYTES * [32, 64, 64, 128, 256][random.index(5)],
            durability,
            erase_within_ms: 200 + random.below(if is_hasty { 600 } else { 4_000 }),
            pending_bytes_max: 256 << 10,
            replay_pages_max: 4 + random.index(200),
            reuses_all: random.chance(50),
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
            services: Vec::new(),
            has_fault: false,
            is_hasty,
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

    pub(crate) fn service_home(&self, fingerprint: &Fingerprint) -> usize {
        let partition = self.hasher.hash_fingerprint(fingerprint).partition();
        PartitionMap::new(self.shards.len()).unwrap().home(partition)
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

    /// The part of a state that is at home in one of so many shards.
    fn part(&self, state: &State, shard: usize, shards: usize) -> State {
        let map = PartitionMap::new(shards).unwrap();
        state.part(
            |queue| map.home(self.hasher.hash(queue).partition()) == shard,
            |service| map.home(self.hasher.hash_fingerprint(&service.fingerprint).partition()) == shard,
        )
    }

    /// Compares what a start found with what is known.
    fn take_over(&mut self, started: Started<BodyPlace>) -> Result<(), String> {
        let mut all = State::default();
        for (n, shard) in started.shards.iter().enumerate() {
            let state = seen(&self.disk, shard, false)?;
            if self.part(&state, n, started.shards.len()) != state {
                return Err("a queue or service is not at home".into());
            }
            all.extend(state);
        }
        for (shard, known) in self.known.iter().enumerate() {
            let found = self.part(&all, shard, self.known.len());
            let mut expected = known.durable.clone();
            let mut fits = found == expected;
            // A batch is there as a whole or not at all.
            for (_, batch) in &known.pending {
                if fits {
                    break;
                }
                for record in batch {
                    expected.apply(record);
                }
                fits = found == expected;
            }
            if !fits {
                return Err(format!("shard {shard}: {}", difference(&known.durable, &found)));
            }
        }
        self.shards = started.shards;
        self.queues = all.queues.keys().copied().collect();
        self.services = all.services.keys().copied().collect();
        let shards = self.shards.len();
        let known = |shard| Known { durable: self.part(&all, shard, shards), pending: VecDeque::new() };
        self.known = (0..shards).map(known).collect();
        Ok(())
    }

    fn live(&mut self) -> Result<(), String> {
        let steps = 10 + self.random.below(if self.is_hasty { 500 } else { 250 });
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
                let (_, batch) = known.pending.pop_front().unwrap();
                for record in &batch {
                    known.durable.apply(record);
                }
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
            self.stats.reused += shard.log.counts().segments_reused;
        }
        self.shards.clear();
        self.disk.crash();
    }
}
