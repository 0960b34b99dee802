//! A shard's service and its connections in memory: everything between the sockets and the disk of a router, driven as
//! `shard/src/runtime` drives it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use ringpost_protocol::certificate::{CertificateAuthority, RouterCredentials, SigningKey};
use ringpost_protocol::crypto::block::{BlockOpener, BlockSealer};
use ringpost_protocol::crypto::{BlockCipher, DhPrivateKey};
use ringpost_protocol::handshake::{ClientHandshake, RouterHandshake, RouterHello, SessionKeys};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::config::{ALPN_SMP, client_config, server_config_with};
use ringpost_protocol::tls::provider::provider_with_x448;
use ringpost_protocol::tls::{Opened, SEALED_BLOCK_BYTES, SessionId, TlsChannel, no_server_name};
use ringpost_protocol::transmission::{BlockBuilder, Format, parse_content};
use ringpost_protocol::version::{SmpVersion, VersionRange};
use ringpost_shard::arena::{Arena, BUFFER_BYTES, Block};
use ringpost_shard::counters::Counters;
use ringpost_shard::limits::{BLOCKS_PER_WRITE, COMMANDS_PER_TURN};
use ringpost_shard::outbox::{Composed, Outbox};
use ringpost_shard::service::{
    Batch, BatchData, Body, ConnRef, Output, Progress, Service, ServiceConfig, Session, SessionCounts,
};
use ringpost_store::disk::{Disk, HeapBuffers};
use ringpost_store::log::{
    Completion, DiskError, Durability, FileName, LogConfig, Op, StartConfig, StoredBody, start,
};
use ringpost_store::{IdHasher, PartitionMap, SegmentLog, Store};
use rustls::{ClientConfig, ServerConfig};
use smallvec::SmallVec;

use crate::material::{NOW_SECS, Scope, VERSION, block};
use crate::meter::Meter;
use crate::{Fault, Outcome};

/// Blocks of messages that may be under way to one connection.
const CREDIT: usize = 16;

/// A disk that takes everything and has nothing: what the kernel and the device do is not ours to count.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDisk;

impl Disk for NoDisk {
    fn list(&self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(Vec::new())
    }

    fn read(&self, _: FileName, _: u64, out: &mut [u8]) -> Result<(), DiskError> {
        out.fill(0);
        Ok(())
    }

    fn perform<Buf: AsRef<[u8]>>(&self, _: &Op<Buf>) -> Result<(), DiskError> {
        Ok(())
    }
}

/// The secret hash of IDs.
pub fn hasher() -> IdHasher {
    IdHasher::new(&[3; 16])
}

/// A log without a disk below it, and an empty store.
pub fn new_log<B: StoredBody + Send>() -> Outcome<(SegmentLog<HeapBuffers>, Store<B>)> {
    let log = LogConfig { durability: Durability::Always, ..LogConfig::default() };
    let config = StartConfig { log, shards: 1, skip_corrupt: false, salt: 1, threads: false };
    let started = start(&NoDisk, &config, hasher())?;
    let shard = started.shards.into_iter().next().ok_or("a log without shards")?;
    Ok((shard.log, shard.store))
}

/// Lets a log do what is due; its operations are done at once.
pub fn drive<B: StoredBody>(log: &mut SegmentLog<HeapBuffers>, store: &Store<B>, now_ms: u64) {
    loop {
        log.advance(now_ms, store);
        let mut has_moved = false;
        while let Some(request) = log.next_request() {
            has_moved = true;
            let buffer = match request.op {
                Op::Write { buffer, .. } => Some(buffer),
                _ => None,
            };
            log.complete(Completion { token: request.token, result: Ok(()), buffer });
        }
        if !has_moved {
            return;
        }
    }
}

/// A router's identity and both sides' TLS configurations.
#[derive(Debug)]
pub struct Identity {
    credentials: RouterCredentials,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    session_keys: RefCell<SessionKeys>,
}

impl Identity {
    pub fn new() -> Outcome<Self> {
        let now_secs = now_secs()?;
        let authority = CertificateAuthority::generate_with(SigningKey::ed25519(&[1; 32]), now_secs)?;
        let issued = authority.issue_with("localhost", &SigningKey::ed25519(&[2; 32]), now_secs)?;
        let credentials = RouterCredentials::from_pem(
            &authority.certificate_pem(),
            &issued.certificate_pem,
            &issued.key_pem,
            now_secs,
        )?;
        let server = server_config_with(&credentials, &[ALPN_SMP], provider_with_x448())?;
        let client = client_config(credentials.ca_fingerprint)?;
        Ok(Self { credentials, server, client, session_keys: RefCell::default() })
    }
}

/// TLS looks at the clock, so certificates must be valid now.
fn now_secs() -> Outcome<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_secs())?)
}

/// A client's end of a connection.
#[derive(Debug)]
pub struct ClientEnd {
    tls: TlsChannel,
    cipher: BlockCipher,
    pub session_id: SessionId,
    pub router_key: DhPublicKey,
}

/// The router's end.
#[derive(Debug)]
pub struct RouterEnd {
    pub tls: TlsChannel,
    pub opener: BlockOpener,
    pub sealer: BlockSealer,
    pub outbox: Outbox,
    pub session: Arc<Session>,
}

/// Room for what one write of a router sends.
pub fn records() -> Vec<u8> {
    vec![0; (BLOCKS_PER_WRITE + 1) * (SEALED_BLOCK_BYTES + 64)]
}

/// The handshakes of TLS and protocol. The router's part is measured.
pub fn connect(identity: &Identity, place: u32, meter: &mut Meter) -> Outcome<(ClientEnd, RouterEnd)> {
    let mut router = meter.run(|| TlsChannel::server(Arc::clone(&identity.server)))?;
    let mut client = TlsChannel::client(Arc::clone(&identity.client), no_server_name())?;
    let (mut to_router, mut to_client) = (Vec::new(), Vec::new());
    while !(router.is_established() && client.is_established()) {
        let progress = client.handshake(&mut to_client, &mut to_router)?;
        to_client.drain(..progress.consumed);
        let progress = meter.run(|| router.handshake(&mut to_router, &mut to_client))?;
        to_router.drain(..progress.consumed);
    }
    let session_id = router.session_id().ok_or("no session ID")?;
    let versions = VersionRange::new(SmpVersion::V6, VERSION).ok_or("no versions")?;
    let (mut hello, mut record) = (block(), records());
    // The router's hello.
    let seed = u8::try_from(place % 251)?;
    let (handshake, length) = meter.run(|| {
        let mut session_keys = identity.session_keys.borrow_mut();
        let started = RouterHandshake::start(
            RouterHello {
                offered: versions,
                session_id,
                credentials: &identity.credentials,
                session_key: session_keys.take(&identity.credentials.key, |bytes| bytes.fill(seed)),
                web_challenge: None,
            },
            &mut hello,
        )?;
        Ok::<_, Fault>((started, router.seal(&hello[..], &mut record)?))
    })?;
    let range = payload(client.open(&mut record[..length])?)?;
    let leaf_key = identity.credentials.key.verifying_key();
    let ours = ClientHandshake {
        versions,
        session_id,
        identity: identity.credentials.ca_fingerprint,
        leaf_key: &leaf_key,
        session_private_key: Some(DhPrivateKey::from_bytes([4; 32])),
        proxy: false,
        service: None,
    };
    let agreed = ours.router_hello(&record[range], &mut hello)?;
    let length = client.seal(&hello[..], &mut record)?;
    // The client's.
    let conn = ConnRef { shard: 0, place, generation: 0 };
    let router = meter.run(|| {
        let range = payload(router.open(&mut record[..length])?)?;
        let agreed = handshake.client_hello(&record[range])?;
        let secret = agreed.secret.as_ref().ok_or("no key of the client")?;
        let (sealer, opener) = BlockCipher::router(agreed.session_id.as_ref(), secret).split();
        let session = Session {
            conn,
            version: agreed.version,
            session_id: agreed.session_id,
            service: None,
            router_key: agreed.session_private_key,
            forward_key: Some(secret.box_key()),
            proxy: false,
            forwarded: false,
            counts: SessionCounts::default(),
        };
        let session = Arc::new(session);
        Ok::<_, Fault>(RouterEnd { tls: router, opener, sealer, outbox: Outbox::default(), session })
    })?;
    let secret = agreed.secret.as_ref().ok_or("no key of the router")?;
    let cipher = BlockCipher::client(agreed.session_id.as_ref(), secret);
    let router_key = agreed.router_key.ok_or("no key of the router")?.key;
    Ok((ClientEnd { tls: client, cipher, session_id, router_key }, router))
}

fn payload(opened: Opened) -> Outcome<std::ops::Range<usize>> {
    match opened {
        Opened::Data { payload, .. } => Ok(payload),
        other => Err(format!("no block: {other:?}").into()),
    }
}

impl ClientEnd {
    pub fn scope(&self) -> Scope<'_> {
        Scope { session_id: self.session_id.as_ref(), router_key: &self.router_key }
    }

    /// A block of transmissions, as one record. Gives its length.
    pub fn seal(&mut self, transmissions: &[Vec<u8>], record: &mut [u8]) -> Outcome<usize> {
        let mut block = block();
        let at = self.cipher.content_offset();
        let format = Format::of_session(VERSION);
        let mut content = BlockBuilder::new(&mut block[at..], format, self.session_id.as_ref());
        for transmission in transmissions {
            content.push_transmission(transmission)?;
        }
        let content_bytes = content.content_bytes();
        self.cipher.seal(&mut block, content_bytes)?;
        Ok(self.tls.seal(&block[..], record)?)
    }

    /// Opens all records, and shows their transmissions.
    pub fn open(&mut self, mut records: &mut [u8], mut show: impl FnMut(&[u8]) -> Outcome) -> Outcome {
        while !records.is_empty() {
            let Opened::Data { consumed, payload } = self.tls.open(records)? else {
                return Err("no whole record".into());
            };
            let block = &mut records[payload];
            let content = self.cipher.open(block)?;
            for parsed in parse_content(&block[content], Format::of_session(VERSION)) {
                let transmission = parsed.map_err(|bad| format!("{:?}", bad.error))?;
                show(transmission.bytes)?;
            }
            records = std::mem::take(&mut records).split_at_mut(consumed).1;
        }
        Ok(())
    }
}

/// A shard without its executor.
#[derive(Debug)]
pub struct World {
    pub arena: Rc<Arena>,
    service: Service<SegmentLog<HeapBuffers>>,
    hasher: IdHasher,
    map: PartitionMap,
    small: Box<[u8; BLOCK_BYTES]>,
    now_ms: u64,
    pub ends: Vec<RouterEnd>,
    /// Blocks of messages written to each connection whose credit is not yet returned.
    written: Vec<usize>,
}

impl World {
    pub fn new() -> Outcome<Self> {
        let config = ServiceConfig {
            allow_new_queues: true,
            create_password: None,
            queue_quota: 128,
            services_max: 1,
            message_ttl_secs: Some(21 * 86_400),
            expires_on_send: true,
            notification_ttl_secs: 86_400,
            unused_queue_days: None,
            links: Arc::default(),
            message_bytes_max: 1 << 30,
            queues_max: 1_000_000,
            subscriptions_per_connection: 200_000,
            delivery_credit: CREDIT,
        };
        let (log, store) = new_log::<Body>()?;
        let arena = Arena::new(1_000, 256);
        let random = ChaCha20Rng::seed_from_u64(7);
        let counters = Arc::<Counters>::default();
        let service = Service::new(config, store, log, 0..256, Rc::clone(&arena), random, counters);
        Ok(Self {
            arena,
            service,
            hasher: hasher(),
            map: PartitionMap::new(1).ok_or("no shards")?,
            small: block(),
            now_ms: 0,
            ends: Vec::new(),
            written: Vec::new(),
        })
    }

    /// Takes connections over, with their places from 0 on.
    pub fn add(&mut self, end: RouterEnd) {
        self.ends.push(end);
        self.written.push(0);
    }

    /// A buffer with what a socket brought.
    pub fn received(&self, record: &[u8]) -> Outcome<Block> {
        let mut buffer = self.arena.lend().ok_or("the arena is empty")?;
        buffer.get_mut(..record.len()).ok_or("a record longer than a buffer")?.copy_from_slice(record);
        Ok(buffer)
    }

    /// Opens and parses a block, executes its commands, brings the changes to the log, and puts what is to be told into
    /// the outboxes.
    pub fn receive(&mut self, from: usize, mut buffer: Block, filled: usize) -> Outcome {
        let end = self.ends.get_mut(from).ok_or("no such connection")?;
        let at = payload(end.tls.open(buffer.get_mut(..filled).ok_or("too long")?)?)?.start;
        let opened = end.opener.open(buffer.get_mut(at..at + BLOCK_BYTES).ok_or("no block")?)?;
        let base = buffer.as_ptr().addr();
        let mut transmissions = SmallVec::new();
        let content = buffer.get(at + opened.start..at + opened.end).unwrap_or_default();
        for parsed in parse_content(content, end.session.format()) {
            let transmission = parsed.map_err(|bad| format!("{:?}", bad.error))?;
            if let Ok(id) = <&[u8; 24]>::try_from(transmission.entity_id) {
                std::hint::black_box(self.map.home(self.hasher.hash(id).partition()));
            }
            let start = u16::try_from(transmission.bytes.as_ptr().addr() - base)?;
            transmissions.push((start, u16::try_from(transmission.bytes.len())?));
        }
        let session = Arc::clone(&end.session);
        let conn = session.conn;
        let data = BatchData::Block(buffer.detach());
        let batch = Batch { session, data, transmissions, next: 0, forwarded: None };
        let mut progress = self.service.process(Box::new(batch), COMMANDS_PER_TURN, NOW_SECS);
        while progress == Progress::GoesOn {
            progress = self.service.resume(conn, COMMANDS_PER_TURN, NOW_SECS);
        }
        self.now_ms += 1;
        let (log, store) = self.service.log_and_store();
        drive(log, store, self.now_ms);
        self.service.log_moved();
        self.collect()
    }

    fn collect(&mut self) -> Outcome {
        while let Some(output) = self.service.next_output() {
            let (Output::Responses { conn, .. }
            | Output::Message { conn, .. }
            | Output::Service { conn, .. }) = &output;
            let end = self.ends.get_mut(conn.place as usize).ok_or("an output for nobody")?;
            match output {
                Output::Responses { bytes, .. } => end.outbox.push_responses(bytes),
                Output::Message { message, .. } => end.outbox.push_message(message, 0, self.arena.charge()),
                Output::Service { .. } => return Err("no client here is a service".into()),
            }
        }
        Ok(())
    }

    /// Packs and seals what waits for a connection, for one write. Gives its length.
    pub fn write(&mut self, to: usize, sealed: &mut [u8]) -> Outcome<usize> {
        let end = self.ends.get_mut(to).ok_or("no such connection")?;
        let written = self.written.get_mut(to).ok_or("no such connection")?;
        let mut length = 0;
        for _ in 0..BLOCKS_PER_WRITE {
            let Some(composed) = end.outbox.compose(&mut self.small, end.sealer.content_offset()) else {
                break;
            };
            let out = sealed.get_mut(length..).ok_or("no room")?;
            length += match composed {
                Composed::Small { content_len } => {
                    end.sealer.seal(&mut self.small, content_len)?;
                    end.tls.seal(&self.small[..], out)?
                }
                Composed::Message { mut buffer, block_at, content_len, .. } => {
                    let block: &mut [u8; BLOCK_BYTES] = buffer
                        .get_mut(block_at..)
                        .and_then(|bytes| bytes.first_chunk_mut())
                        .ok_or("no room for a block")?;
                    end.sealer.seal(block, content_len)?;
                    let sealed_bytes = end.tls.seal(block, out)?;
                    self.arena.recycle(buffer);
                    *written += 1;
                    sealed_bytes
                }
            };
        }
        if *written >= CREDIT.div_ceil(2) {
            let blocks = std::mem::take(written);
            self.service.return_credit(end.session.conn, blocks);
            self.collect()?;
        }
        Ok(length)
    }

    pub fn service(&self) -> &Service<SegmentLog<HeapBuffers>> {
        &self.service
    }
}

const _: () = assert!(BUFFER_BYTES >= SEALED_BLOCK_BYTES);
