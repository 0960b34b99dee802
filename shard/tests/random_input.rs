//! Random transmissions, right and wrong ones, from several connections at once, some of them of web clients, some for relays:
//! the router survives them all, its answers are always well formed, and at the end nothing is left of what was deleted.
//!
//! A failure shows its seed; `RINGPOST_TEST_SEED=<seed> cargo test -p ringpost-shard --test random_input` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Write;

use common::tls::reset;
use common::{Client, Ended, Options, Prepared, Queue, TestRouter, Web};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use ringpost_protocol::command::{
    Command, MsgFlags, NewQueue, QueueMode, QueueRequest, RouterBinary, SubscribeMode,
};
use ringpost_protocol::crypto::{AuthPrivateKey, DhPrivateKey};
use ringpost_protocol::limits::{BLOCK_BYTES, BLOCK_CONTENT_BYTES};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::SmpVersion;
use ringpost_shard::limits::Limits;
use ringpost_shard::proxy::PADDED_BYTES;

const CONNECTIONS: usize = 6;
const STEPS: usize = 500;

struct Random(ChaCha20Rng);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % u64::try_from(end).unwrap()).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }

    /// A few changed, lost or added bytes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() + 1);
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.bytes(1)[0]),
                _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => bytes.extend(self.bytes(at % 40)),
            }
        }
    }
}

struct World {
    router: TestRouter,
    random: Random,
    clients: Vec<Client>,
    control: Client,
    queues: Vec<Queue>,
    /// What was delivered of late: recipient IDs and message IDs.
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    /// Sessions of the router with itself as a relay.
    relay_sessions: Vec<Vec<u8>>,
}

impl World {
    fn start(shards: usize, seed: u64) -> Self {
        let router = TestRouter::with(shards, |config| {
            common::web::with_web_entries(config);
            config.queue_quota = 8;
            config.limits = Limits {
                handshake_secs: 2,
                block_secs: 1,
                write_secs: 2,
                subscriptions_per_connection: 30,
                outbox_bytes: 8 << 10,
                outbox_blocks: 4,
                message_bytes: shards << 20,
                ..Limits::default()
            };
        });
        let control = Client::connect(&router);
        let random = Random(ChaCha20Rng::seed_from_u64(seed));
        let mut world = Self {
            router,
            random,
            clients: Vec::new(),
            control,
            queues: Vec::new(),
            messages: Vec::new(),
            relay_sessions: Vec::new(),
        };
        for _ in 0..CONNECTIONS {
            let client = world.connect();
            world.clients.push(client);
        }
        for _ in 0..4 {
            world.create();
        }
        world
    }

    fn connect(&mut self) -> Client {
        let versions = SmpVersion::V6.0..=SmpVersion::MAX.0;
        let version = versions.clone().nth(self.random.below(versions.count())).unwrap();
        let session_key = version > 6 && !self.random.one_in(4);
        let web = self.random.one_in(3).then(|| Web::browser(&self.router));
        Client::open(&self.router, Options { session_key, web, ..Options::version(version) }).unwrap()
    }

    fn create(&mut self) {
        let mode = if self.random.one_in(3) { QueueMode::Contact } else { QueueMode::Messaging };
        let subscribe =
            if self.random.one_in(2) { SubscribeMode::Subscribe } else { SubscribeMode::OnlyCreate };
        let key = self.key();
        // Refused when the connection has too many subscriptions.
        if let Ok(mut queue) = Queue::create_with(&mut self.control, subscribe, key, mode) {
            if self.random.one_in(2) {
                self.control.secure_by_recipient(&mut queue);
            }
            self.queues.push(queue);
        }
    }

    fn key(&mut self) -> AuthPrivateKey {
        let bytes = self.random.bytes(57);
        match self.random.below(8) {
            0 => AuthPrivateKey::ed448(bytes.first_chunk().unwrap()),
            _ => AuthPrivateKey::ed25519(bytes.first_chunk().unwrap()),
        }
    }

    /// A command for a relay, or of one. Boxes hold anything.
    fn proxied(&mut self, place: usize) -> Prepared {
        let random = &mut self.random;
        let port = if random.one_in(4) { 1 } else { self.router.address.port() }.to_string();
        let key_hash = self.router.credentials.ca_fingerprint;
        let session = random.pick(&self.relay_sessions).cloned().unwrap_or_default();
        let entity = if random.one_in(4) { random.bytes(32) } else { session };
        let sealed_bytes = match random.below(3) {
            0 => random.below(16_300),
            1 => PADDED_BYTES,
            _ => PADDED_BYTES + 16,
        };
        let sealed = random.bytes(sealed_bytes);
        let key = DhPrivateKey::from_bytes(*random.bytes(32).first_chunk().unwrap()).public();
        let version = SmpVersion(u16::try_from(random.below(25)).unwrap());
        let (entity, command) = match random.below(4) {
            0 => {
                let router =
                    RouterBinary { hosts: vec![b"127.0.0.1"], port: port.as_bytes(), key_hash: &key_hash };
                (Vec::new(), Command::Prxy { router, basic_auth: None })
            }
            1 => (Vec::new(), Command::Rfwd(&sealed)),
            _ => (entity, Command::Pfwd { version, key, transmission: &sealed }),
        };
        let mut prepared = self.clients[place].prepare(None, &entity, &command);
        if self.random.one_in(10) {
            self.random.damage(&mut prepared.bytes);
        }
        prepared.bytes.truncate(BLOCK_CONTENT_BYTES - 2);
        prepared
    }

    /// A transmission for one of the queues, mostly right.
    fn transmission(&mut self, place: usize) -> Prepared {
        if self.random.one_in(8) {
            return self.proxied(place);
        }
        let random = &mut self.random;
        let Some(mut queue) = random.pick(&self.queues).cloned() else {
            return self.clients[place].prepare(None, &[], &Command::Ping);
        };
        let (of_queue, msg_id) = random.pick(&self.messages).cloned().unwrap_or_default();
        // Often the queue that the message was delivered from.
        let delivered_from = self.queues.iter().find(|queue| queue.recipient_id == of_queue);
        if let Some(delivered_from) = delivered_from.filter(|_| random.one_in(3)) {
            queue = delivered_from.clone();
        }
        let body_bytes = if random.one_in(4) { random.below(16_200) } else { random.below(200) };
        let body = random.bytes(body_bytes);
        let new_key = AuthPrivateKey::ed25519(random.bytes(32).first_chunk().unwrap());
        let dh_key = DhPrivateKey::from_bytes(*random.bytes(32).first_chunk().unwrap());
        let version = self.clients[place].version;
        let (command, by_sender) = match random.below(20) {
            0..=2 => (Command::Sub, false),
            3 | 4 => (Command::Get, false),
            5..=7 => (Command::Ack { msg_id: &msg_id }, false),
            8 => (Command::Que, false),
            9 if random.one_in(10) => (Command::Off, false),
            10 if random.one_in(15) => (Command::Del, false),
            11 if random.one_in(10) => (Command::Key(new_key.public()), false),
            12 if random.one_in(10) => (Command::SKey(new_key.public()), true),
            13 => {
                let new = NewQueue {
                    recipient_key: new_key.public(),
                    recipient_dh_key: dh_key.public(),
                    basic_auth: random.one_in(2).then_some(&body[..body.len().min(20)]),
                    subscribe: SubscribeMode::OnlyCreate,
                    request: (version >= SmpVersion::SENDER_KEY).then_some(QueueRequest::Messaging(None)),
                    notifier: None,
                };
                let new = Command::New(Box::new(new));
                return self.clients[place].prepare(Some(&new_key), &[], &new);
            }
            _ => (Command::Send { flags: MsgFlags { notification: random.one_in(2) }, body: &body }, true),
        };
        let right = if by_sender { queue.sender_key.clone() } else { Some(queue.recipient_key.clone()) };
        let key = match random.below(20) {
            0 => None,
            1 => Some(new_key),
            2 => Some(queue.recipient_key.clone()),
            // Authenticators do not exist in version 6.
            3 if version >= SmpVersion::AUTH_COMMANDS => {
                Some(AuthPrivateKey::x25519(*random.bytes(32).first_chunk().unwrap()))
            }
            _ => right,
        };
        let is_x25519 = matches!(key, Some(AuthPrivateKey::X25519(_)));
        let key = key.filter(|_| !is_x25519 || version >= SmpVersion::AUTH_COMMANDS);
        let entity_id = match random.below(20) {
            0 => {
                let length = random.below(256);
                random.bytes(length)
            }
            1 => queue.sender_id.clone(),
            2 => queue.recipient_id.clone(),
            _ if by_sender => queue.sender_id.clone(),
            _ => queue.recipient_id.clone(),
        };
        let corr_bytes = if random.one_in(10) { random.below(256) } else { 24 };
        let corr_id = random.bytes(corr_bytes);
        let mut encoded = Vec::new();
        command.encode(version, &mut encoded);
        if random.one_in(6) {
            random.damage(&mut encoded);
        }
        let mut prepared = self.clients[place].prepare_bytes(key.as_ref(), &corr_id, &entity_id, &encoded);
        if self.random.one_in(15) {
            self.random.damage(&mut prepared.bytes);
        }
        prepared.bytes.truncate(BLOCK_CONTENT_BYTES - 2);
        prepared
    }

    /// What a connection sends in one step. An error if the router had closed it before.
    fn act(&mut self, place: usize) -> Result<(), Ended> {
        match self.random.below(40) {
            // A block of anything, encrypted as it must be.
            0 => {
                let length = self.random.below(BLOCK_CONTENT_BYTES);
                let content = self.random.bytes(length);
                let block = self.clients[place].block_of(&content);
                self.clients[place].tls.write(&block[..])
            }
            // The structure of a block, damaged.
            1 | 2 => {
                let prepared = self.transmission(place);
                let length = u16::try_from(prepared.bytes.len()).unwrap().to_be_bytes();
                let mut content = [&[1][..], &length, &prepared.bytes].concat();
                self.random.damage(&mut content);
                content.truncate(BLOCK_CONTENT_BYTES);
                let block = self.clients[place].block_of(&content);
                self.clients[place].tls.write(&block[..])
            }
            // A block that does not open, or whose padding may be wrong.
            3 => {
                let block = self.random.bytes(BLOCK_BYTES);
                let tls = &mut self.clients[place].tls;
                // Over a WebSocket also as frames of any kind.
                if self.random.one_in(2) { tls.write(&block) } else { tls.write_plain(&block) }
            }
            // No TLS record.
            4 => {
                let length = self.random.below(20_000);
                let bytes = self.random.bytes(length);
                Ok(self.clients[place].tls.socket.write_all(&bytes)?)
            }
            // A part of a block, and no more; then the connection goes, one way or another.
            5 | 6 => {
                let length = self.random.below(BLOCK_BYTES);
                let with_reset = self.random.one_in(2);
                let client = &mut self.clients[place];
                let ping = client.prepare(None, &[], &Command::Ping);
                let block = client.blocks(&[ping]).remove(0);
                client.tls.write(&block[..length])?;
                if with_reset {
                    reset(&client.tls.socket);
                }
                Err(Ended::Closed)
            }
            _ => {
                let count = if self.random.one_in(5) { 40 } else { 1 + self.random.below(4) };
                let prepared: Vec<Prepared> = (0..count).map(|_| self.transmission(place)).collect();
                let blocks = self.clients[place].blocks(&prepared);
                let plain: Vec<u8> = blocks.iter().flat_map(|block| block.to_vec()).collect();
                let record_bytes =
                    if self.random.one_in(4) { 1 + self.random.below(16_384) } else { BLOCK_BYTES };
                plain.chunks(record_bytes.max(500)).try_for_each(|part| self.clients[place].tls.write(part))
            }
        }
    }

    /// Reads what came for a connection, up to the answer to a new command. All of it is well formed, or this panics.
    fn drain(&mut self, place: usize) -> Result<(), Ended> {
        let client = &mut self.clients[place];
        let ping = client.prepare(None, &[], &Command::Ping);
        client.try_send(std::slice::from_ref(&ping))?;
        loop {
            let received = client.try_receive()?;
            match received.response() {
                Response::Pong if received.corr_id == ping.corr_id => return Ok(()),
                Response::Msg { msg_id, .. } => {
                    self.messages.push((received.entity_id.clone(), msg_id.to_vec()));
                }
                Response::Pkey { session_id, .. } => self.relay_sessions.push(session_id.to_vec()),
                _ => {}
            }
        }
    }

    fn step(&mut self) {
        let place = self.random.below(CONNECTIONS);
        let mut result = self.act(place);
        if result.is_ok() && self.random.one_in(3) {
            result = self.drain(place);
        }
        match result {
            Ok(()) => {}
            Err(Ended::Timeout) => panic!("connection {place} is stuck"),
            Err(_) => self.clients[place] = self.connect(),
        }
        self.messages.drain(..self.messages.len().saturating_sub(20));
        self.relay_sessions.drain(..self.relay_sessions.len().saturating_sub(3));
    }

    fn run(mut self) {
        for step in 0..STEPS {
            self.step();
            if step % 20 == 0 {
                self.control.ping();
                self.create();
            }
        }
        // Whatever was done to them: the queues are there or deleted, and deleting them all leaves no message.
        self.control.ping();
        self.clients.clear();
        for queue in &self.queues {
            let received = self.control.recipient(queue, &Command::Del);
            let tag = received.response().tag();
            assert!(matches!(tag, "OK" | "ERR"), "{received:?}");
        }
        self.control.ping();
        drop(self.control);
        assert!(!self.relay_sessions.is_empty(), "no relay was met");
        // Both ends of the session with itself may stay.
        self.router.wait_until("few connections", |counters| counters["connections"] <= 2);
        for gauge in ["handshakes", "messages", "message_bytes", "subscriptions", "arena_lent"] {
            self.router.wait_for(gauge, 0);
        }
        let counters = self.router.counters();
        assert_eq!(counters["queues"], counters["queues_created"] - counters["queues_deleted"]);
        assert_eq!(counters["accept_errors"], 0);
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("RINGPOST_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("RINGPOST_TEST_SEED is a number")],
        Err(_) => vec![1, getrandom::u64().unwrap()],
    }
}

#[test]
fn random_input_does_not_harm_the_router() {
    for seed in seeds() {
        for shards in [1, 3] {
            println!("RINGPOST_TEST_SEED={seed} with {shards} shards");
            World::start(shards, seed).run();
        }
    }
}
