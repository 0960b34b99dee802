//! A simulated machine with a router's shards, its clients, crashes and starts.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use ringpost_shard::arena::Arena;
use ringpost_shard::counters::Counters;
use ringpost_shard::service::{Body, Mutation, Service, ServiceConfig};
use ringpost_store::disk::HeapBuffers;
use ringpost_store::log::{Durability, LogConfig, StartConfig, StartError, Started, start};
use ringpost_store::sim::{Fault, Random, SimDisk};
use ringpost_store::{IdHasher, PartitionMap, SegmentLog};

use crate::client::Conn;
use crate::machine::{ROUNDS_MAX, Shard};
use crate::model::{Model, Verdict};

const BLOCK_BYTES: u64 = 4_096;
/// A day has 2,880 simulated milliseconds.
const SECS_PER_MS: u64 = 30;

pub struct World {
    pub random: Random,
    pub disk: SimDisk,
    pub now_ms: u64,
    pub hasher: IdHasher,
    pub config: StartConfig,
    pub service_config: ServiceConfig,
    pub mutation: Option<Mutation>,
    pub model: Model,
    pub shards: Vec<Shard>,
    pub conns: Vec<Conn>,
    pub next_corr: u64,
    pub next_tag: u64,
    /// Blocks that connections of a shard may hold.
    lent_max: usize,
    pub commands_per_turn: usize,
    pub mesh_ms_max: u64,
    pub read_ms_max: u64,
    pub expiry_ms: u64,
    /// Of reads, how many turn a bit.
    pub damage_permille: u64,
    /// A fault was given to the disk in this life.
    pub has_fault: bool,
    /// When a router whose log has failed stops.
    pub stops_ms: Option<u64>,
    /// Nothing new happens: what there is to do is done at once.
    pub is_calm: bool,
    pub stats: Stats,
}

/// What a run has met, so that it is seen that runs are not idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub crashes: u64,
    pub stops: u64,
    pub interrupted_starts: u64,
    pub answered: u64,
    pub refused: u64,
    pub delivered: u64,
    pub disconnects: u64,
    pub fetched: u64,
    pub evicted: u64,
    pub damaged: u64,
    /// Reads that went wrong once.
    pub read_again: u64,
    pub expired: u64,
    pub no_space: u64,
    pub failed_logs: u64,
    /// Commands that were under way at a crash, and queues that were made in vain.
    pub unanswered: u64,
    pub orphans: u64,
    /// Answers that a crash took back, where it may.
    pub taken_back: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.stops += other.stops;
        self.interrupted_starts += other.interrupted_starts;
        self.answered += other.answered;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.disconnects += other.disconnects;
        self.fetched += other.fetched;
        self.evicted += other.evicted;
        self.damaged += other.damaged;
        self.read_again += other.read_again;
        self.expired += other.expired;
        self.no_space += other.no_space;
        self.failed_logs += other.failed_logs;
        self.unanswered += other.unanswered;
        self.orphans += other.orphans;
        self.taken_back += other.taken_back;
    }

    /// What a few thousand runs must all have met.
    pub fn met(&self) -> [u64; 16] {
        [
            self.stops,
            self.interrupted_starts,
            self.answered,
            self.refused,
            self.delivered,
            self.disconnects,
            self.fetched,
            self.evicted,
            self.damaged,
            self.read_again,
            self.expired,
            self.no_space,
            self.failed_logs,
            self.unanswered,
            self.orphans,
            self.taken_back,
        ]
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
            segment_bytes: BLOCK_BYTES * [32, 64, 64, 128][random.index(4)],
            durability,
            erase_within_ms: 200 + random.below(4_000),
            pending_bytes_max: [20_000, 256 << 10][random.index(2)],
            replay_pages_max: 4 + random.index(200),
            reuses_all: random.chance(50),
            mutation: None,
        };
        let disk_ms_max = [0, 1, 5, 20][random.index(4)];
        let quota = [2, 3, 5, 10, 20][random.index(5)];
        let ttl_secs = random.chance(60).then(|| SECS_PER_MS * (20 + random.below(1_000)));
        let service_config = ServiceConfig {
            allow_new_queues: true,
            create_password: None,
            queue_quota: quota,
            message_ttl_secs: ttl_secs,
            expires_on_send: true,
            notification_ttl_secs: 86_400,
            unused_queue_days: None,
            links: Arc::default(),
            message_bytes_max: [1, 20_000, 60_000, 1 << 20][random.index(4)],
            queues_max: [2, 1_000, 1_000][random.index(3)],
            services_max: 1_000,
            subscriptions_per_connection: [3, 1_000, 1_000][random.index(3)],
            delivery_credit: 1 + random.index(3),
        };
        let has_caps =
            service_config.queues_max < 1_000 || service_config.subscriptions_per_connection < 1_000;
        Self {
            disk: SimDisk::new(random.next_u64(), disk_ms_max),
            now_ms: 0,
            hasher: IdHasher::new(&[7; 16]),
            config: StartConfig { log, shards: 1, skip_corrupt: false, salt: 0, threads: false },
            service_config,
            mutation,
            model: Model { ttl_secs, quota, has_caps, ..Model::default() },
            shards: Vec::new(),
            conns: Vec::new(),
            next_corr: 0,
            next_tag: 0,
            lent_max: [2, 4, 100][random.index(3)],
            commands_per_turn: 1 + random.index(5),
            mesh_ms_max: [0, 1, 5, 30][random.index(4)],
            read_ms_max: [1, 5, 50][random.index(3)],
            expiry_ms: 50 + random.below(500),
            damage_permille: [0, 0, 50][random.index(3)],
            has_fault: false,
            stops_ms: None,
            is_calm: false,
            stats: Stats::default(),
            random,
        }
    }

    /// Some lives of a router, and an end.
    pub fn run(&mut self) -> Verdict {
        let lives = 1 + self.random.below(4);
        for _ in 0..lives {
            self.start()?;
            if self.random.chance(10) {
                self.drain(false)?;
            }
            self.live()?;
            self.end_life()?;
        }
        self.start()?;
        self.end()
    }

    pub fn is_durable_when_answered(&self) -> bool {
        self.config.log.durability == Durability::Always
    }

    pub fn now_secs(&self) -> u64 {
        1_700_000_000 + self.now_ms * SECS_PER_MS
    }

    /// The shard of a queue.
    pub fn home(&self, queue: usize) -> usize {
        let id = &self.model.queues[queue].recipient_id;
        PartitionMap::new(self.shards.len()).unwrap().home(self.hasher.hash(id).partition())
    }

    /// Starts until it succeeds: starts are interrupted too. Then looks at what is there.
    fn start(&mut self) -> Verdict {
        let former = self.config.shards;
        loop {
            self.config.shards = 1 + self.random.index(4);
            self.config.salt = self.random.next_u64();
            let fuse = self.random.chance(10).then(|| u32::try_from(self.random.below(40)).unwrap());
            self.disk.set_fuse(fuse);
            let started: Result<Started<Body>, StartError> = start(&self.disk, &self.config, self.hasher);
            self.disk.set_fuse(None);
            match started {
                Ok(started) => return self.take_over(started, former),
                Err(StartError::Disk(_)) if fuse.is_some() => {
                    self.stats.interrupted_starts += 1;
                    self.disk.crash();
                }
                Err(StartError::Disk(_)) if self.disk.used_blocks() > 0 => {
                    // There was too little space to start.
                    self.disk.set_capacity_blocks(usize::MAX);
                    self.disk.crash();
                }
                Err(error) => return Err(format!("the start failed: {error}")),
            }
        }
    }

    fn take_over(&mut self, started: Started<Body>, former: usize) -> Verdict {
        self.model.now_secs = self.now_secs();
        self.compare(&started, former)?;
        let map = PartitionMap::new(started.shards.len()).unwrap();
        self.shards = started
            .shards
            .into_iter()
            .enumerate()
            .map(|(n, shard)| {
                let arena = Arena::new(self.lent_max, 32);
                let seed = self.random.next_u64();
                let counters = Arc::<Counters>::default();
                let mut service: Service<SegmentLog<HeapBuffers>> = Service::new(
                    self.service_config.clone(),
                    shard.store,
                    shard.log,
                    map.partitions(n),
                    Rc::clone(&arena),
                    ChaCha20Rng::seed_from_u64(seed),
                    Arc::clone(&counters),
                );
                if let Some(mutation) = self.mutation {
                    service.mutate(mutation);
                }
                Shard {
                    service,
                    arena,
                    counters,
                    work: VecDeque::new(),
                    reads: Vec::new(),
                    next_retry_ms: 0,
                    next_expiry_ms: 0,
                    has_failed: false,
                    not_durable: VecDeque::new(),
                }
            })
            .collect();
        self.conns.clear();
        self.model.forget_connections();
        self.has_fault = false;
        self.stops_ms = None;
        Ok(())
    }

    fn live(&mut self) -> Verdict {
        let steps = 10 + self.random.below(160);
        let pace = 1 + self.random.below(20);
        let fault_at = self.random.chance(15).then(|| self.random.below(steps));
        let full_at = self.random.chance(25).then(|| self.random.below(steps));
        for step in 0..steps {
            if fault_at == Some(step) {
                let fault = if self.random.chance(60) { Fault::Error } else { Fault::WriteNoSpace };
                self.has_fault = fault == Fault::Error;
                self.model.is_short |= fault == Fault::WriteNoSpace;
                self.disk.set_fault(u32::try_from(self.random.below(10)).unwrap(), fault);
            }
            if full_at == Some(step) {
                self.model.is_short = true;
                let most = [8, 80][self.random.index(2)];
                let more = self.random.index(most);
                self.disk.set_capacity_blocks(self.disk.used_blocks() + more);
            }
            if full_at.is_some_and(|at| step > at + 60) {
                self.disk.set_capacity_blocks(usize::MAX);
            }
            for _ in 0..=self.random.below(2) {
                self.act();
            }
            self.now_ms += self.random.below(pace);
            self.turn(ROUNDS_MAX)?;
            if self.stops_ms.is_some_and(|stops_ms| self.now_ms >= stops_ms) {
                break;
            }
        }
        self.disk.set_capacity_blocks(usize::MAX);
        Ok(())
    }

    /// A router stops, or the machine does, at any moment.
    fn end_life(&mut self) -> Verdict {
        let may_rest = self.stops_ms.is_none() && !self.has_fault;
        if may_rest && self.random.chance(30) {
            self.come_to_rest()?;
            self.wait_for_interval()?;
        }
        if may_rest && self.random.chance(20) {
            self.stop()?;
        } else if self.random.chance(50) {
            self.act();
            self.now_ms += self.random.below(5);
            let rounds = u32::try_from(1 + self.random.below(6)).unwrap();
            self.turn(rounds)?;
        }
        self.crash();
        Ok(())
    }

    /// Where answers do not wait for the disk, what was answered comes there in time.
    fn wait_for_interval(&mut self) -> Verdict {
        let Durability::Interval { ms } = self.config.log.durability else { return Ok(()) };
        self.run_until(self.now_ms + ms + 1_000)?;
        match self.shards.iter().map(|shard| shard.not_durable.len()).sum() {
            0 => Ok(()),
            left => Err(format!("{left} changes are not on the disk after {ms} ms")),
        }
    }

    /// What a stop does before the process ends: everything is brought to the disk.
    fn stop(&mut self) -> Verdict {
        self.stats.stops += 1;
        for _ in 0..1_000 {
            for shard in &mut self.shards {
                shard.service.log_and_store().0.flush();
            }
            self.turn(ROUNDS_MAX)?;
            if self.shards.iter().all(|shard| shard.service.log().is_flushed()) {
                return Ok(());
            }
            self.now_ms += 2;
        }
        Err("a log does not come to the disk".into())
    }

    fn crash(&mut self) {
        self.stats.crashes += 1;
        self.count();
        self.disk.crash();
    }

    /// Adds what the shards counted.
    pub fn count(&mut self) {
        for shard in &self.shards {
            self.stats.evicted += shard.counters.bodies_evicted.value();
            self.stats.expired += shard.counters.messages_expired.value();
            self.stats.no_space += shard.counters.refused_no_space.value();
        }
    }
}
