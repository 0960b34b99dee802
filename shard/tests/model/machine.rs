//! The shards of a router on a disk that does what it is told at once: what is asked here is what is answered, not when.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use ringpost_protocol::error::BlockingInfo;
use ringpost_shard::arena::Arena;
use ringpost_shard::counters::Counters;
use ringpost_shard::service::{Batch, Body, ConnRef, Output, Progress, Service, ServiceConfig};
use ringpost_store::disk::{Disk, HeapBuffers};
use ringpost_store::log::{Durability, LogConfig, StartConfig, Started, start};
use ringpost_store::sim::SimDisk;
use ringpost_store::{Entry, IdHasher, Log, PartitionMap, QueueId, Record, SegmentLog};

/// Rounds until everything rests, at most.
const ROUNDS_MAX: u32 = 10_000;
/// Commands of a turn.
const COMMANDS_PER_TURN: usize = 3;
/// Blocks that a connection may hold: more than a block of commands can ask for.
pub const CREDIT: usize = 64;

pub struct Machine {
    disk: SimDisk,
    hasher: IdHasher,
    config: StartConfig,
    service_config: ServiceConfig,
    shards: Vec<Service<SegmentLog<HeapBuffers>>>,
    now_ms: u64,
    seed: u64,
}

impl Machine {
    pub fn new(seed: u64, service_config: ServiceConfig) -> Self {
        let log = LogConfig {
            segment_bytes: 4_096 * 256,
            durability: Durability::Always,
            erase_within_ms: 60_000,
            pending_bytes_max: 1 << 20,
            replay_pages_max: 1_000,
            reuses_all: true,
            mutation: None,
        };
        let config = StartConfig { log, shards: 1, skip_corrupt: false, salt: 1, threads: false };
        Self {
            disk: SimDisk::new(seed, 0),
            hasher: IdHasher::new(&[7; 16]),
            config,
            service_config,
            shards: Vec::new(),
            now_ms: 0,
            seed,
        }
    }

    /// Starts with so many shards and what is on the disk.
    pub fn start(&mut self, shards: usize) -> Result<(), String> {
        self.config.shards = shards;
        self.config.salt += 1;
        let started: Started<Body> =
            start(&self.disk, &self.config, self.hasher).map_err(|error| format!("no start: {error}"))?;
        let map = PartitionMap::new(shards).ok_or("no shards")?;
        self.service_config.links = Arc::default();
        for shard in &started.shards {
            self.service_config.links.add(&shard.store);
        }
        self.shards.clear();
        for (n, shard) in started.shards.into_iter().enumerate() {
            self.seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
            self.shards.push(Service::new(
                self.service_config.clone(),
                shard.store,
                shard.log,
                map.partitions(n),
                Arena::new(1_000, 32),
                ChaCha20Rng::seed_from_u64(self.seed),
                Arc::<Counters>::default(),
            ));
        }
        Ok(())
    }

    /// Brings everything to the disk; the machine may be switched off then.
    pub fn stop(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            for service in &mut self.shards {
                service.log_and_store().0.flush();
            }
            self.settle(0)?;
            if self.shards.iter().all(|service| service.log().is_flushed()) {
                self.disk.crash();
                return Ok(());
            }
        }
        Err("a log does not come to the disk".into())
    }

    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The shard of an ID; without one, of the connection.
    pub fn home(&self, conn: ConnRef, id: &[u8], is_link: bool) -> usize {
        let Ok(id) = QueueId::try_from(id) else { return usize::from(conn.shard) };
        let hash = self.hasher.hash(&id);
        let links = &self.service_config.links;
        let partition = if is_link { links.partition(hash) } else { hash.partition() };
        PartitionMap::new(self.shards.len()).map_or(0, |map| map.home(partition))
    }

    /// Gives a batch to a shard, and what everyone is told of it.
    pub fn process(&mut self, home: usize, batch: Batch, now_secs: u64) -> Result<Vec<Output>, String> {
        let conn = batch.session.conn;
        let mut progress = self.shards[home].process(Box::new(batch), COMMANDS_PER_TURN, now_secs);
        while progress == Progress::GoesOn {
            progress = self.shards[home].resume(conn, COMMANDS_PER_TURN, now_secs);
        }
        self.settle(now_secs)
    }

    pub fn disconnect(&mut self, conn: ConnRef) {
        for service in &mut self.shards {
            service.disconnected(conn);
        }
    }

    /// A round of the search for what is too old.
    pub fn expire(&mut self, now_secs: u64) -> Result<Vec<Output>, String> {
        let mut outputs = Vec::new();
        for n in 0..self.shards.len() {
            while !self.shards[n].expire_step(now_secs) {}
            outputs.append(&mut self.settle(now_secs)?);
        }
        Ok(outputs)
    }

    /// Blocks a queue, or unblocks it, as a tool does that works on the files.
    pub fn block(&mut self, recipient_id: &[u8], info: Option<BlockingInfo>) -> Result<(), String> {
        let queue = QueueId::try_from(recipient_id).map_err(|_| "an ID of another length")?;
        let hash = self.hasher.hash(&queue);
        let home = PartitionMap::new(self.shards.len()).map_or(0, |map| map.home(hash.partition()));
        let record = match info {
            Some(info) => Record::Block { queue, info },
            None => Record::Resume { queue },
        };
        let log = self.shards[home].log_and_store().0;
        log.append(&[Entry { hash, record }], &mut Vec::new()).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Queues, and messages, of all shards.
    pub fn miscounted(&self) -> Option<String> {
        self.shards.iter().find_map(Service::miscounted)
    }

    pub fn counts(&self) -> (usize, usize) {
        let stores = self.shards.iter().map(Service::store);
        stores.fold((0, 0), |(queues, messages), store| {
            (queues + store.queue_count(), messages + store.message_count())
        })
    }

    /// Goes on until nothing moves any more.
    fn settle(&mut self, now_secs: u64) -> Result<Vec<Output>, String> {
        let mut outputs = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let completions = self.disk.completions(self.now_ms);
            let mut has_moved = !completions.is_empty();
            for (n, completion) in completions {
                self.shards[n].log_and_store().0.complete(completion);
                self.shards[n].log_moved();
            }
            for n in 0..self.shards.len() {
                has_moved |= self.step(n, now_secs, &mut outputs)?;
            }
            if !has_moved {
                if let Some(n) = self.shards.iter().position(Service::has_held) {
                    return Err(format!("outputs of shard {n} wait for ever"));
                }
                return Ok(outputs);
            }
            self.now_ms += 1;
        }
        Err("there is no end of work".into())
    }

    fn step(&mut self, n: usize, now_secs: u64, outputs: &mut Vec<Output>) -> Result<bool, String> {
        let service = &mut self.shards[n];
        let mut has_moved = false;
        let (log, store) = service.log_and_store();
        log.advance(self.now_ms, store);
        while let Some(request) = log.next_request() {
            has_moved = true;
            self.disk.submit(self.now_ms, n, request);
        }
        if let Some(failure) = log.failure() {
            return Err(format!("a log failed: {failure}"));
        }
        for fetch in service.take_fetches() {
            has_moved = true;
            let mut blocks = vec![0; fetch.request.bytes];
            let read = self.disk.read(fetch.request.file, fetch.request.offset, &mut blocks);
            read.map_err(|error| format!("a body cannot be read: {error}"))?;
            service.fetched(&fetch, &blocks, true);
        }
        let mut goes_on: Vec<ConnRef> = service.take_resumable();
        while let Some(output) = service.next_output() {
            if let Output::Message { conn, .. } = &output
                && service.return_credit(*conn, 1) == Progress::GoesOn
            {
                goes_on.push(*conn);
            }
            outputs.push(output);
            has_moved = true;
        }
        for conn in goes_on {
            has_moved = true;
            while service.resume(conn, COMMANDS_PER_TURN, now_secs) == Progress::GoesOn {}
        }
        Ok(has_moved)
    }
}

/// Numbers by name, and names by number: of what a router named at random.
#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<usize, Vec<u8>>,
    numbers: BTreeMap<Vec<u8>, usize>,
}

impl Names {
    pub fn name(&self, number: usize) -> Option<&Vec<u8>> {
        self.names.get(&number)
    }

    pub fn latest(&self, back: usize) -> Option<(&usize, &Vec<u8>)> {
        self.names.iter().rev().nth(back)
    }

    /// Whether this name is this number's, and from now on it is.
    pub fn is(&mut self, number: usize, name: &[u8]) -> bool {
        let known = self.names.entry(number).or_insert_with(|| name.to_vec());
        let is_its = known == name;
        is_its && *self.numbers.entry(name.to_vec()).or_insert(number) == number
    }
}

/// What a shard reads from.
pub fn new_block() -> ringpost_shard::arena::Detached {
    Rc::clone(&Arena::new(1, 1)).lend_above_cap().detach()
}
