//! Starting and stopping a router.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use ringpost_protocol::certificate::RouterCredentials;
use ringpost_protocol::version::VersionRange;
use ringpost_protocol::websocket::pages::Pages;
use ringpost_store::{IdHasher, MemoryLog, PARTITIONS, PartitionMap};

use super::disk::ShardDisk;
use super::listen::{Listening, ShardListener, listen};
use super::operator::{LastActive, Line, Operator};
use super::shard::{Posted, Shard};
use super::state::{self, DataConfig, Recovered, ShardLog, ShardState};
use super::stop::{StopMode, StopState};
use super::tls::{Listener, TlsConfigs, TlsOptions};
use super::{RouterConfig, accept, log, operator, relay, sweep, sys, worker};
use crate::aliases::Aliases;
use crate::arena::{Arena, BUFFER_BYTES};
use crate::counters::{Counters, ListenerCounts};
use crate::executor::{self, Bell, Ear, RingSize};
use crate::limits::{FREE_BLOCKS_KEPT, Limits, MESH_LANE_SLOTS};
use crate::links::LinkDirectory;
use crate::mesh::{Endpoint, mesh};
use crate::proxy::{ProxyConfig, RelayDirectory};
use crate::service::{ActiveQueue, Service, ServiceConfig};

/// Everything a router needs to start.
#[derive(Debug)]
pub struct Config {
    pub listen: Vec<Listener>,
    /// 1 to 256. With no more shards than processors each shard gets a processor of its own.
    pub shards: usize,
    pub credentials: RouterCredentials,
    pub tls: TlsOptions,
    /// Whether failed TLS handshakes are logged, without the client's address.
    pub log_tls_errors: bool,
    /// For web clients.
    pub pages: Pages,
    pub versions: VersionRange,
    /// The key of the hash that maps IDs to partitions: secret, and the same at every start.
    pub id_hash_key: [u8; 16],
    pub allow_new_queues: bool,
    /// Asked for by NEW.
    pub create_password: Option<String>,
    /// None: messages do not expire.
    pub message_ttl_secs: Option<u64>,
    /// Notifications for notifiers that are away are dropped after this time.
    pub notification_ttl_secs: u64,
    /// Between two rounds of the search for expired messages.
    pub expiry_interval_secs: u64,
    /// The first round is at the start, not after that time.
    pub expires_on_start: bool,
    /// A SEND drops what is too old in its queue first.
    pub expires_on_send: bool,
    /// Invitations that nobody took in so many days are deleted. None: never.
    pub unused_queue_days: Option<u32>,
    pub queue_quota: usize,
    pub inactive: Option<InactiveClients>,
    pub limits: Limits,
    pub proxy: ProxyConfig,
    /// None: nothing outlives the process.
    pub data: Option<DataConfig>,
    /// Queues that were active in an earlier run; what is then left at the end of this one says
    /// [`Operator::last_active_queues`]. None: nobody wants to know.
    pub active_queues: Option<Vec<ActiveQueue>>,
}

/// When connections without subscriptions and without traffic are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InactiveClients {
    pub ttl_secs: u64,
    pub check_interval_secs: u64,
}

/// Why a router does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the number of shards must be from 1 to {PARTITIONS}, not {0}")]
    Shards(usize),
    #[error("no address to listen on")]
    NoAddress,
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(
        "{shards} shards need {needed_bytes} bytes of locked memory, the limit is {limit_bytes}: raise it \
         (LimitMEMLOCK in systemd, ulimit -l in a shell) or start fewer shards"
    )]
    LockedMemory { shards: usize, needed_bytes: u64, limit_bytes: u64 },
    #[error(
        "other programs of this user have locked memory, and the limit, {limit_bytes} bytes, leaves too little: raise it \
         (LimitMEMLOCK in systemd, ulimit -l in a shell) or start fewer shards"
    )]
    LockedMemoryTaken { limit_bytes: u64 },
    #[error(
        "the kernel does not let this process use io_uring: {0}. It needs Linux 5.13 or later, \
         kernel.io_uring_disabled=0, and in a container a seccomp profile that allows io_uring"
    )]
    IoUring(String),
    #[error("the random number generator of the system fails: {0}")]
    Random(String),
    #[error("the bells of shards cannot be made: {0}")]
    Bell(String),
    #[error("the certificate cannot be used for TLS: {0}")]
    Tls(String),
    #[error("the queues and messages cannot be loaded: {0}")]
    Log(#[from] ringpost_store::log::StartError),
}

/// Why a running router ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    #[error("shard {shard} ended: {reason}")]
    Shard { shard: usize, reason: String },
    #[error("the log failed: {0}")]
    Log(String),
}

/// A running router.
pub struct Router {
    addresses: Vec<SocketAddr>,
    stop: Arc<StopState>,
    operator: Operator,
    recovered: Recovered,
    threads: Vec<(usize, JoinHandle<Result<(), String>>)>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// What a shard's thread takes with it.
struct Seed {
    id: usize,
    config: Arc<RouterConfig>,
    service: ServiceConfig,
    state: ShardState,
    aliases: Arc<Aliases>,
    links: Arc<LinkDirectory>,
    data_directory: Option<PathBuf>,
    ring: RingSize,
    map: PartitionMap,
    endpoint: Endpoint<Posted, Arc<Bell>>,
    bell: Arc<Bell>,
    listeners: Vec<ShardListener>,
    /// The router took sockets over: clients wait in their queues.
    is_successor: bool,
    random: ChaCha20Rng,
    stop: Arc<StopState>,
    counters: Arc<Counters>,
    listener_counts: Arc<[ListenerCounts]>,
    inactive: Option<InactiveClients>,
    line: Arc<Line>,
    /// Active queues of an earlier run that are gone.
    departed: Option<Vec<ActiveQueue>>,
    last_active: Option<Arc<LastActive>>,
}

impl Router {
    /// Binds, starts the shards and returns when all of them run.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::take_over(config, Vec::new())
    }

    /// Whether this machine and its limits let so many shards run.
    pub fn check(shards: usize) -> Result<(), StartError> {
        PartitionMap::new(shards).ok_or(StartError::Shards(shards))?;
        ring_size(shards)?;
        probe_io_uring()
    }

    /// As [`Router::start`], with listening sockets that an earlier router has left. Those at addresses that are not wanted
    /// are closed.
    pub fn take_over(config: Config, inherited: Vec<TcpListener>) -> Result<Self, StartError> {
        let shards = config.shards;
        let map = PartitionMap::new(shards).ok_or(StartError::Shards(shards))?;
        let ring = ring_size(shards)?;
        probe_io_uring()?;
        let is_successor = !inherited.is_empty();
        let wanted: Vec<SocketAddr> = config.listen.iter().map(|listener| listener.address).collect();
        let Listening { addresses, of_shards: mut listeners, kept } = listen(&wanted, shards, inherited)?;
        let tls = TlsConfigs::new(&config.tls, &config.credentials, &config.listen)?;
        let limits = config.limits;
        let router_config = Arc::new(RouterConfig {
            tls,
            entries: config.listen.iter().map(|listener| listener.entry).collect(),
            credentials: config.credentials,
            versions: config.versions,
            limits,
            expiry_interval_secs: config.expiry_interval_secs,
            expires_on_start: config.expires_on_start,
            log_tls_errors: config.log_tls_errors,
            pages: config.pages,
            shards,
            proxy: config.proxy,
            relays: RelayDirectory::default(),
            socks_user: socks_user()?,
        });
        let links = Arc::new(LinkDirectory::default());
        let service = ServiceConfig {
            allow_new_queues: config.allow_new_queues,
            create_password: config.create_password.map(|password| password.into_bytes().into_boxed_slice()),
            queue_quota: config.queue_quota,
            message_ttl_secs: config.message_ttl_secs,
            notification_ttl_secs: config.notification_ttl_secs,
            expires_on_send: config.expires_on_send,
            unused_queue_days: config.unused_queue_days,
            links: Arc::clone(&links),
            message_bytes_max: limits.message_bytes / shards,
            queues_max: limits.queues.div_ceil(shards),
            services_max: limits.services.div_ceil(shards),
            subscriptions_per_connection: limits.subscriptions_per_connection,
            delivery_credit: router_config.delivery_credit(),
        };
        let hasher = IdHasher::new(&config.id_hash_key);
        let (mut states, recovered) = state::load(config.data.as_ref(), shards, hasher)?;
        let keeps_active = config.active_queues.is_some();
        // Those that no shard has any more go to the first.
        let mut departed = config.active_queues.map(|active| state::take_over_activity(&mut states, active));
        let mut aliases = Aliases::default();
        for state in &states {
            aliases.add(&state.store);
            links.add(&state.store);
        }
        let aliases = Arc::new(aliases);
        let stop = Arc::new(StopState::new(shards, kept));
        let counters: Vec<Arc<Counters>> = (0..shards).map(|_| Arc::default()).collect();
        let cpus = sys::allowed_cpus();
        let operator = Operator(Arc::new(operator::Shared {
            lines: bells(shards)?.into_iter().map(|bell| Arc::new(Line::new(bell))).collect(),
            map,
            hasher,
            aliases: Arc::clone(&aliases),
            links: Arc::clone(&links),
            counters: counters.clone(),
            listeners: (0..shards)
                .map(|_| addresses.iter().map(|_| ListenerCounts::default()).collect())
                .collect(),
            last_active: Arc::default(),
        }));
        let mut router = Self {
            addresses,
            stop: Arc::clone(&stop),
            operator: operator.clone(),
            recovered,
            threads: Vec::new(),
        };
        let (started, starts) = std::sync::mpsc::channel();
        let bells = bells(shards)?;
        let ends = mesh(bells.clone(), MESH_LANE_SLOTS).into_iter().zip(bells);
        let operators = operator.0.lines.iter().zip(&operator.0.listeners);
        for ((((endpoint, bell), counters), state), (line, listener_counts)) in
            ends.zip(counters).zip(states).zip(operators)
        {
            let id = endpoint.shard();
            let mut seed_bytes = [0; 32];
            getrandom::fill(&mut seed_bytes).map_err(|error| StartError::Random(error.to_string()))?;
            let seed = Seed {
                id,
                config: Arc::clone(&router_config),
                service: service.clone(),
                state,
                aliases: Arc::clone(&aliases),
                links: Arc::clone(&links),
                data_directory: config.data.as_ref().map(|data| data.directory.clone()),
                ring,
                map,
                endpoint,
                bell,
                listeners: listeners.pop().unwrap_or_default(),
                is_successor,
                random: ChaCha20Rng::from_seed(seed_bytes),
                stop: Arc::clone(&stop),
                counters,
                listener_counts: Arc::clone(listener_counts),
                inactive: config.inactive,
                line: Arc::clone(line),
                departed: departed.as_mut().map(std::mem::take),
                last_active: keeps_active.then(|| Arc::clone(&operator.0.last_active)),
            };
            let cpu = cpus.get(id).copied().filter(|_| shards <= cpus.len());
            router.threads.push((id, spawn(seed, cpu, started.clone())?));
        }
        drop(started);
        for _ in 0..shards {
            match starts.recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(router.abandon(error)),
                Err(_) => return Err(router.abandon(StartError::IoUring("an executor ended".into()))),
            }
        }
        Ok(router)
    }

    fn abandon(self, error: StartError) -> StartError {
        self.request_stop(StopMode::Immediate);
        error
    }

    /// Where the router listens, with the ports that the system chose for port 0.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was loaded from the data directory.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    pub fn request_stop(&self, mode: StopMode) {
        self.stop.request(mode);
    }

    /// A handle with which another thread can ask for a stop.
    pub fn stopper(&self) -> impl Fn(StopMode) + Send + Sync + 'static {
        let stop = Arc::clone(&self.stop);
        move |mode| stop.request(mode)
    }

    /// After the end of a router that was asked to hand over: its listening sockets, in whose queues clients wait. None
    /// after another request to stop.
    pub fn left_listeners(&self) -> impl FnOnce() -> Vec<TcpListener> + Send + 'static {
        let stop = Arc::clone(&self.stop);
        move || stop.take_listeners()
    }

    /// The counters of all shards, added up; of those that end in `_max` the largest.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.operator.counter_sums()
    }

    /// Asks the shards and reads their counters, which it can also after the router has stopped.
    pub fn operator(&self) -> Operator {
        self.operator.clone()
    }

    /// Waits until all shards have stopped. If one ends by itself the others are stopped too: no half-dead router.
    pub fn join(self) -> Result<(), FatalError> {
        let mut result = Ok(());
        for (shard, thread) in self.threads {
            let reason = match thread.join() {
                Ok(Ok(())) => continue,
                Ok(Err(reason)) => reason,
                Err(_) => "it panicked".into(),
            };
            self.stop.request(StopMode::Immediate);
            result = result.and(Err(FatalError::Shard { shard, reason }));
        }
        self.stop.take_failure().map_or(result, Err)
    }
}

/// New at each start, as long as the reference's.
fn socks_user() -> Result<String, StartError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(ringpost_protocol::encoding::base64url(&bytes))
}

/// In a thread of its own: when a ring is closed the kernel interrupts the system calls of the thread that made it.
fn probe_io_uring() -> Result<(), StartError> {
    let refused = |error: io::Error| ring_error(&error);
    let thread = std::thread::Builder::new().name("io_uring".to_owned()).spawn(executor::probe);
    match thread.map_err(refused)?.join() {
        Ok(probed) => probed.map_err(refused),
        Err(_) => Err(StartError::IoUring("asking for it failed".to_owned())),
    }
}

/// Rings that fit into the limit of this process.
fn ring_size(shards: usize) -> Result<RingSize, StartError> {
    ring_size_within(shards, sys::locked_memory_limit_bytes().unwrap_or(u64::MAX))
}

/// Others of this user may have locked what the limit leaves.
fn ring_error(error: &io::Error) -> StartError {
    let limit_bytes = sys::locked_memory_limit_bytes();
    match limit_bytes.filter(|_| error.raw_os_error() == Some(libc::ENOMEM)) {
        Some(limit_bytes) => StartError::LockedMemoryTaken { limit_bytes },
        None => StartError::IoUring(error.to_string()),
    }
}

fn ring_size_within(shards: usize, limit_bytes: u64) -> Result<RingSize, StartError> {
    // Of the probe too, whose ring may be there for a moment when the first shard starts.
    let needed_bytes = |ring: RingSize| shards as u64 * ring.locked_bytes() + RingSize::LEAST.locked_bytes();
    // Half of the limit is left to others of this user.
    if needed_bytes(RingSize::LARGE) <= limit_bytes / 2 {
        return Ok(RingSize::LARGE);
    }
    let needed_bytes = needed_bytes(RingSize::SMALL);
    if needed_bytes <= limit_bytes {
        return Ok(RingSize::SMALL);
    }
    Err(StartError::LockedMemory { shards, needed_bytes, limit_bytes })
}

fn bells(shards: usize) -> Result<Vec<Arc<Bell>>, StartError> {
    let bell = || Bell::new().map(Arc::new).map_err(|error| StartError::Bell(error.to_string()));
    (0..shards).map(|_| bell()).collect()
}

type Started = std::sync::mpsc::Sender<Result<(), StartError>>;

fn spawn(
    seed: Seed,
    cpu: Option<usize>,
    started: Started,
) -> Result<JoinHandle<Result<(), String>>, StartError> {
    let stop = Arc::clone(&seed.stop);
    let ring = seed.ring;
    std::thread::Builder::new()
        .name(format!("shard-{}", seed.id))
        .spawn(move || {
            if let Some(cpu) = cpu {
                sys::pin_to(cpu);
            }
            // If a shard ends without having been asked to, the others must not go on without its queues.
            let _ends = EndsAll(Arc::clone(&stop));
            let (shard, failed) = (seed.id, started.clone());
            executor::run(ring, run(seed, started)).unwrap_or_else(|error| {
                let reason = format!("io_uring: {error}");
                // The receiver waits for every shard; or they run already, and must not go on without this one.
                let _ = failed.send(Err(ring_error(&error)));
                stop.fail(FatalError::Shard { shard, reason: reason.clone() });
                Err(reason)
            })
        })
        .map_err(|error| StartError::IoUring(error.to_string()))
}

struct EndsAll(Arc<StopState>);

impl Drop for EndsAll {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.request(StopMode::Immediate);
        }
    }
}

/// A shard's life.
async fn run(seed: Seed, started: Started) -> Result<(), String> {
    let limits = &seed.config.limits;
    let lent_max = (limits.session_bytes / seed.config.shards / BUFFER_BYTES).max(4);
    let arena = Arena::new(lent_max, FREE_BLOCKS_KEPT);
    let mut random = seed.random;
    let (log, disk) = match (seed.state.log, seed.data_directory) {
        (Some(log), Some(directory)) => {
            (ShardLog::Segments(Box::new(log)), Some(std::rc::Rc::new(ShardDisk::new(directory))))
        }
        _ => (ShardLog::Memory(MemoryLog::new()), None),
    };
    let mut service = Service::new(
        seed.service,
        seed.state.store,
        log,
        seed.map.partitions(seed.id),
        std::rc::Rc::clone(&arena),
        ChaCha20Rng::from_rng(&mut random),
        Arc::clone(&seed.counters),
    );
    service.publish();
    if let Some(departed) = seed.departed {
        service.take_over_activity(departed, Shard::now_secs());
    }
    let connections = Arc::clone(&seed.stop.connections);
    let shard = Shard::new(
        seed.id,
        seed.config,
        seed.stop,
        seed.counters,
        seed.listener_counts,
        seed.inactive,
        seed.map,
        seed.endpoint,
        arena,
        service,
        seed.aliases,
        seed.links,
        random,
        connections,
    );
    let letters =
        executor::spawn_local(worker::exchange_letters(std::rc::Rc::clone(&shard), Ear::new(seed.bell)));
    let work = executor::spawn_local(worker::work(std::rc::Rc::clone(&shard)));
    let answers = executor::spawn_local(operator::answer(std::rc::Rc::clone(&shard), seed.line));
    let relays = executor::spawn_local(relay::watch(std::rc::Rc::clone(&shard)));
    let log_tasks = disk.map(|disk| {
        let drive = log::drive(std::rc::Rc::clone(&shard), std::rc::Rc::clone(&disk));
        let read = log::read_bodies(std::rc::Rc::clone(&shard), disk);
        (executor::spawn_local(drive), executor::spawn_local(read))
    });
    let acceptors: Vec<_> = seed
        .listeners
        .into_iter()
        .filter_map(|listener| {
            let entry = *shard.config.entries.get(listener.place)?;
            let accept = accept::run(std::rc::Rc::clone(&shard), listener, entry, seed.is_successor);
            Some(executor::spawn_local(accept))
        })
        .collect();
    // The receiver waits for every shard.
    let _ = started.send(Ok(()));
    let acceptors = std::cell::RefCell::new(acceptors);
    sweep::run(std::rc::Rc::clone(&shard), || drop(acceptors.take())).await;
    answers.cancel().await;
    relays.cancel().await;
    letters.cancel().await;
    work.cancel().await;
    if let Some((drive, read)) = log_tasks {
        shard.log.stop().await;
        drive.cancel().await;
        read.cancel().await;
    }
    if let Some(last_active) = seed.last_active {
        operator::leave_active(&shard, &last_active);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rings_fit_into_locked_memory() {
        let probe = RingSize::LEAST.locked_bytes();
        let large = 2 * (RingSize::LARGE.locked_bytes() + probe);
        assert_eq!(ring_size_within(1, large).unwrap(), RingSize::LARGE);
        assert_eq!(ring_size_within(2, large).unwrap(), RingSize::SMALL);
        let small = 3 * RingSize::SMALL.locked_bytes() + probe;
        assert_eq!(ring_size_within(3, small).unwrap(), RingSize::SMALL);
        assert!(matches!(
            ring_size_within(3, small - 1),
            Err(StartError::LockedMemory { shards: 3, needed_bytes, limit_bytes })
                if needed_bytes == small && limit_bytes == small - 1
        ));
        assert_eq!(ring_size_within(256, u64::MAX).unwrap(), RingSize::LARGE);
    }
}
