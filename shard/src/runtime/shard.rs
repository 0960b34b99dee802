//! One shard: its connections, its queues, its end of the mesh.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use ringpost_protocol::command::{Command, QueueRequest};
use ringpost_protocol::handshake::SessionKeys;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::{KEY_UPDATE_RECORD_BYTES, SEALED_BLOCK_BYTES};
use ringpost_protocol::transmission::Transmission;
use ringpost_protocol::version::SmpVersion;
use ringpost_store::{IdHasher, PartitionMap};
use slab::Slab;

use super::address::{AddressKey, OfAddress};
use super::connection::Connection;
use super::{InactiveClients, RouterConfig, StopState, relay};
use crate::aliases::Aliases;
use crate::arena::Arena;
use crate::counters::{Counters, ListenerCounts};
use crate::executor::Bell;
use crate::limits::{BLOCKS_PER_WRITE, COMMANDS_PER_TURN};
use crate::links::LinkDirectory;
use crate::mesh::Endpoint;
use crate::proxy::{RelayAnswer, RelayRequest};
use crate::service::{Batch, ConnRef, FindService, Output, Progress, Service, ServiceOrder};

use super::log::LogDesk;
use super::relay::RelayDesk;
use super::services;
use super::state::ShardLog;

/// What one shard sends to another.
#[derive(Debug)]
pub enum Letter {
    /// To the home of its queues.
    Batch(Box<Batch>),
    /// To a home shard: blocks of its messages were written.
    Credit {
        conn: ConnRef,
        blocks: usize,
    },
    /// To a home shard.
    Disconnected {
        conn: ConnRef,
    },
    /// From a home shard to the shard of a connection.
    Output(Output),
    /// To the shard of a relay's session, and back to the shard of the client's connection.
    Relay(Box<RelayRequest>),
    RelayAnswer(Box<RelayAnswer>),
    /// To the shard that keeps the services of such certificates.
    FindService(Box<FindService>),
    /// To the shard that gives the orders of a service, and from there to all.
    ServiceOrder(ServiceOrder),
    CarryOut(ServiceOrder),
    /// To a home shard, from that of a service's session: see [`Service::start_scan`].
    StartScan {
        conn: ConnRef,
    },
}

/// A letter with the time it was sent.
#[derive(Debug)]
pub struct Posted {
    pub letter: Letter,
    pub at: Instant,
}

/// Work for this shard's queues, in the order it came.
#[derive(Debug)]
pub enum Work {
    Batch(Box<Batch>),
    Credit {
        conn: ConnRef,
        blocks: usize,
    },
    Disconnected {
        conn: ConnRef,
    },
    /// A batch of this connection took its turn and is not done.
    Resume {
        conn: ConnRef,
    },
    FindService(Box<FindService>),
    CarryOut(ServiceOrder),
    StartScan {
        conn: ConnRef,
    },
    /// The search for what waits in the queues of this connection's service took a step and is not done.
    Scan {
        conn: ConnRef,
    },
}

/// Buffers that one write uses, of which a shard needs one set.
#[derive(Debug)]
pub struct Scratch {
    /// A block of small responses.
    pub small: Box<[u8; BLOCK_BYTES]>,
    /// Sealed records.
    pub sealed: Vec<u8>,
}

#[derive(Debug)]
pub struct Shard {
    pub id: usize,
    pub config: Arc<RouterConfig>,
    pub stop: Arc<StopState>,
    pub counters: Arc<Counters>,
    /// Of each listener.
    pub listeners: Arc<[ListenerCounts]>,
    pub inactive: Cell<Option<InactiveClients>>,
    pub map: PartitionMap,
    pub hasher: IdHasher,
    pub aliases: Arc<Aliases>,
    pub links: Arc<LinkDirectory>,
    pub arena: Rc<Arena>,
    pub service: RefCell<Service<ShardLog>>,
    pub log: LogDesk,
    pub relays: RelayDesk,
    pub random: RefCell<ChaCha20Rng>,
    /// For the next connections.
    pub session_keys: RefCell<SessionKeys>,
    pub endpoint: RefCell<Endpoint<Posted, Arc<Bell>>>,
    /// Letters that found their lane full, by shard.
    overflow: RefCell<Vec<VecDeque<Posted>>>,
    overflowing: Cell<usize>,
    pub work: RefCell<VecDeque<Work>>,
    worker: RefCell<Option<Waker>>,
    pub connections: RefCell<Slab<Rc<Connection>>>,
    next_generation: Cell<u32>,
    pub by_address: RefCell<HashMap<AddressKey, OfAddress>>,
    pub handshakes: Cell<usize>,
    /// Readers that wait for a block of the arena or for room in the mesh.
    waiting_readers: RefCell<VecDeque<Waker>>,
    pub scratch: RefCell<Scratch>,
    /// Connections of all shards.
    pub connections_of_all: Arc<AtomicUsize>,
}

impl Shard {
    /// Bytes for a private key: the system's. Who came to know the shard's own generator would know all keys from it, those
    /// of former sessions too.
    pub fn fill_secret(&self, to: &mut [u8]) {
        if let Err(error) = getrandom::fill(to) {
            tracing::warn!("the system has no random numbers: {error}");
            self.random.borrow_mut().fill_bytes(to);
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub fn new(
        id: usize,
        config: Arc<RouterConfig>,
        stop: Arc<StopState>,
        counters: Arc<Counters>,
        listeners: Arc<[ListenerCounts]>,
        inactive: Option<InactiveClients>,
        map: PartitionMap,
        endpoint: Endpoint<Posted, Arc<Bell>>,
        arena: Rc<Arena>,
        service: Service<ShardLog>,
        aliases: Arc<Aliases>,
        links: Arc<LinkDirectory>,
        random: ChaCha20Rng,
        connections_of_all: Arc<AtomicUsize>,
    ) -> Rc<Self> {
        let hasher = *service.store().hasher();
        let shards = map.shards();
        let relays = RelayDesk::new(&config);
        Rc::new(Self {
            id,
            config,
            stop,
            counters,
            listeners,
            inactive: Cell::new(inactive),
            map,
            hasher,
            arena,
            service: RefCell::new(service),
            log: LogDesk::default(),
            relays,
            aliases,
            links,
            random: RefCell::new(random),
            session_keys: RefCell::default(),
            endpoint: RefCell::new(endpoint),
            overflow: RefCell::new((0..shards).map(|_| VecDeque::new()).collect()),
            overflowing: Cell::new(0),
            work: RefCell::default(),
            worker: RefCell::default(),
            connections: RefCell::default(),
            next_generation: Cell::new(0),
            by_address: RefCell::default(),
            handshakes: Cell::new(0),
            waiting_readers: RefCell::default(),
            scratch: RefCell::new(Scratch {
                small: vec![0; BLOCK_BYTES].into_boxed_slice().try_into().unwrap_or_else(|_| unreachable!()),
                sealed: vec![0; BLOCKS_PER_WRITE * (SEALED_BLOCK_BYTES + KEY_UPDATE_RECORD_BYTES)],
            }),
            connections_of_all,
        })
    }

    /// Seconds since 1970.
    pub fn now_secs() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    /// The home of a queue ID. Whatever cannot be an ID of ours is answered here.
    pub fn home(&self, entity_id: &[u8]) -> usize {
        entity_id.try_into().map_or(self.id, |id| {
            let hash = self.hasher.hash(id);
            self.map.home(self.aliases.partition(hash))
        })
    }

    /// The home of a transmission's queue.
    pub fn home_of(&self, transmission: &Transmission<'_>, version: SmpVersion) -> usize {
        match routed_by(transmission, version) {
            RoutedBy::Entity => self.home(transmission.entity_id),
            RoutedBy::Sender(sender_id) => self.home(sender_id),
            RoutedBy::Link => transmission.entity_id.try_into().map_or(self.id, |id| {
                let hash = self.hasher.hash(id);
                self.map.home(self.links.partition(hash))
            }),
        }
    }

    pub fn reference(&self, place: usize) -> Option<ConnRef> {
        let generation = self.next_generation.get();
        self.next_generation.set(generation.wrapping_add(1));
        Some(ConnRef { shard: u16::try_from(self.id).ok()?, place: u32::try_from(place).ok()?, generation })
    }

    pub fn connection(&self, conn: ConnRef) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        connections.get(conn.place as usize).filter(|connection| connection.conn == conn).cloned()
    }

    /// Sends a letter to another shard. If the lane is full it waits here: then readers of this shard wait too.
    pub fn post(&self, to: usize, letter: Letter) {
        let posted = Posted { letter, at: Instant::now() };
        let mut overflow = self.overflow.borrow_mut();
        let Some(waiting) = overflow.get_mut(to) else { return };
        let refused =
            if waiting.is_empty() { self.endpoint.borrow().send(to, posted).err() } else { Some(posted) };
        if let Some(posted) = refused {
            self.counters.mesh_full.add(1);
            waiting.push_back(posted);
            self.overflowing.set(self.overflowing.get() + 1);
        }
    }

    /// Sends what waits for room. True if anything was sent. Wakes the readers when nothing waits any more.
    pub fn send_overflow(&self) -> bool {
        let before = self.overflowing.get();
        if before == 0 {
            return false;
        }
        let mut overflow = self.overflow.borrow_mut();
        let endpoint = self.endpoint.borrow();
        for (to, waiting) in overflow.iter_mut().enumerate() {
            while let Some(posted) = waiting.pop_front() {
                if let Err(posted) = endpoint.send(to, posted) {
                    waiting.push_front(posted);
                    break;
                }
                self.overflowing.set(self.overflowing.get() - 1);
            }
        }
        if self.overflowing.get() == 0 {
            self.wake_waiting_readers();
        }
        self.overflowing.get() < before
    }

    /// Whether letters wait for room in the mesh.
    pub fn is_mesh_congested(&self) -> bool {
        self.overflowing.get() > 0
    }

    /// Hands a batch to its home. On this shard it is processed at once if nothing is before it.
    pub fn dispatch(&self, home: usize, batch: Box<Batch>) {
        if home == self.id {
            self.do_work(Work::Batch(batch));
        } else {
            self.post(home, Letter::Batch(batch));
        }
    }

    /// Does work for this shard's queues, or puts it behind what waits.
    pub fn do_work(&self, work: Work) {
        if !self.work.borrow().is_empty() {
            self.work.borrow_mut().push_back(work);
            return;
        }
        self.work_turn(work);
    }

    /// Puts work behind what waits, for a turn of its own.
    pub fn defer(&self, work: Work) {
        self.work.borrow_mut().push_back(work);
        wake(&self.worker);
    }

    /// One turn of work. What is not done then comes behind the work of others.
    pub fn work_turn(&self, work: Work) {
        let mut service = self.service.borrow_mut();
        let now_secs = Self::now_secs();
        let (progress, next) = match work {
            Work::Batch(batch) => {
                let conn = batch.session.conn;
                (service.process(batch, COMMANDS_PER_TURN, now_secs), Work::Resume { conn })
            }
            Work::Resume { conn } => {
                (service.resume(conn, COMMANDS_PER_TURN, now_secs), Work::Resume { conn })
            }
            Work::Credit { conn, blocks } => (service.return_credit(conn, blocks), Work::Resume { conn }),
            Work::Disconnected { conn } => {
                service.disconnected(conn);
                (Progress::Rests, Work::Resume { conn })
            }
            Work::FindService(wanted) => {
                let conn = wanted.conn;
                service.find_service(wanted);
                (Progress::Rests, Work::Resume { conn })
            }
            Work::CarryOut(order) => {
                service.carry_out(&order);
                (Progress::Rests, Work::CarryOut(order))
            }
            Work::StartScan { conn } => (service.start_scan(conn), Work::Scan { conn }),
            Work::Scan { conn } => (service.scan(conn), Work::Scan { conn }),
        };
        if progress == Progress::GoesOn {
            self.defer(next);
        }
        self.after_service(&mut service);
    }

    /// Takes what the service has for others: to be called after whatever it did.
    pub fn after_service(&self, service: &mut Service<ShardLog>) {
        while let Some(output) = service.next_output() {
            self.route(output);
        }
        for conn in service.take_resumable() {
            self.defer(Work::Resume { conn });
        }
        for conn in service.take_scannable() {
            self.defer(Work::Scan { conn });
        }
        let fetches = service.take_fetches();
        if !fetches.is_empty() {
            self.log.fetch(fetches);
        }
        if service.log().segments().is_some_and(|log| log.has_pending() && !log.is_committing()) {
            self.log.appended();
        }
        if service.has_starved() {
            self.kick();
        }
    }

    pub fn set_worker(&self, waker: &Waker) {
        *self.worker.borrow_mut() = Some(waker.clone());
    }

    /// Sends what a service put out to the shard of its connection.
    pub fn route(&self, output: Output) {
        let shard = usize::from(output.conn().shard);
        if shard == self.id {
            self.receive_output(self.id, output);
        } else {
            self.post(shard, Letter::Output(output));
        }
    }

    /// Puts what a home shard sent into the outbox of its connection.
    pub fn receive_output(&self, home: usize, output: Output) {
        let Some(connection) = self.connection(output.conn()) else { return };
        if let Output::Service { part, .. } = output {
            services::take_part(self, &connection, home, part);
            return;
        }
        let mut outbox = connection.outbox.borrow_mut();
        match output {
            Output::Responses { bytes, answered, reply, .. } => {
                outbox.push_responses(match reply {
                    Some(reply) => relay::wrap(&connection, &reply, &bytes),
                    None => bytes,
                });
                if answered {
                    connection.in_flight.borrow_mut().pop();
                    connection.wake_held_back_reader();
                }
            }
            Output::Message { message, .. } => outbox.push_message(message, home, self.arena.charge()),
            Output::Service { .. } => {}
        }
        connection.wake_writer();
    }

    /// A block of a home's message was written to a connection.
    pub fn return_credit(&self, home: usize, conn: ConnRef, blocks: usize) {
        if home == self.id {
            self.do_work(Work::Credit { conn, blocks });
        } else {
            self.post(home, Letter::Credit { conn, blocks });
        }
    }

    pub fn wait_for_resources(&self, waker: &Waker) {
        self.waiting_readers.borrow_mut().push_back(waker.clone());
        self.kick();
    }

    /// Whether readers or deliveries wait for blocks.
    pub fn has_waiting(&self) -> bool {
        !self.waiting_readers.borrow().is_empty() || self.service.borrow().has_starved()
    }

    /// Wakes the sweep, which tries again what waits.
    fn kick(&self) {
        if let Some(waker) = self.stop.waker(self.id) {
            waker.wake();
        }
    }

    /// Wakes as many readers as there are blocks, those that have waited longest first. Gives their number: they take the
    /// blocks when it is their turn.
    pub fn wake_waiting_readers(&self) -> usize {
        let mut waiting = self.waiting_readers.borrow_mut();
        let most = waiting.len().min(self.arena.left());
        waiting.drain(..most).for_each(Waker::wake);
        most
    }

    /// Forgets a connection that has ended and tells the homes of its queues.
    pub fn remove(&self, connection: &Rc<Connection>) {
        let place = connection.conn.place as usize;
        if self.connections.borrow_mut().try_remove(place).is_none() {
            return;
        }
        self.counters.connections.set(self.connections.borrow().len());
        self.connections_of_all.fetch_sub(1, Ordering::AcqRel);
        services::release(self, connection);
        for home in 0..self.map.shards() {
            if connection.has_home(home) {
                if home == self.id {
                    self.do_work(Work::Disconnected { conn: connection.conn });
                } else {
                    self.post(home, Letter::Disconnected { conn: connection.conn });
                }
            }
        }
    }
}

/// What of a transmission says where it is to be executed.
enum RoutedBy<'a> {
    Entity,
    /// The entity is a link.
    Link,
    /// A queue is to be made for this sender ID.
    Sender(&'a [u8]),
}

fn routed_by<'a>(transmission: &Transmission<'a>, version: SmpVersion) -> RoutedBy<'a> {
    let command = transmission.command;
    if command == b"LGET" || command.starts_with(b"LKEY ") {
        return RoutedBy::Link;
    }
    if version < SmpVersion::SHORT_LINKS || !command.starts_with(b"NEW ") {
        return RoutedBy::Entity;
    }
    // It is parsed once more where it is executed; the signature that is checked there costs a hundred times that.
    match Command::parse(version, command) {
        Ok(Command::New(new)) => match new.request {
            Some(QueueRequest::Messaging(Some(link))) => RoutedBy::Sender(link.sender_id),
            Some(QueueRequest::Contact(Some(link))) => RoutedBy::Sender(link.sender_id),
            _ => RoutedBy::Entity,
        },
        _ => RoutedBy::Entity,
    }
}

fn wake(slot: &RefCell<Option<Waker>>) {
    let waker = slot.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}
