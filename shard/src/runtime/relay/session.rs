//! One session with a relay: connecting, commands to it, answers from it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;
use rand_core::RngCore;
use ringpost_protocol::address::{Router, Scheme};
use ringpost_protocol::certificate::chain::Certificate;
use ringpost_protocol::crypto::boxes::Nonce;
use ringpost_protocol::crypto::{BoxKey, DhPrivateKey};
use ringpost_protocol::error::{BrokerError, ErrorType, ProxyError, TransportError};
use ringpost_protocol::handshake::{ClientHandshake, ClientSession, HandshakeFailure};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::{BLOCK_BYTES, NONCE_BYTES};
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::{SessionId, TlsChannel, client_config, no_server_name};
use ringpost_protocol::transmission::parse_content;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use zeroize::Zeroizing;

use super::super::connection::{Close, Connection, Deadline};
use super::super::handshake;
use super::super::reader::{ReceivedBlock, Receiver};
use super::super::shard::Shard;
use super::super::sys;
use super::super::tls::Entry;
use super::desk::{self, NO_KEY};
use super::dial::{self, Target};
use crate::executor::Stream;
use crate::limits::RELAY_IN_FLIGHT_MAX;
use crate::proxy::{
    Answer, Forward, InFlight, Outcome, RelayAnswer, RelayFailure, RelayKeys, Subject, Waiter, count,
    open_response, proxy_error,
};
use crate::service::{Session, SessionCounts};

/// What clients may speak with a relay through a proxy. As in the reference it is one less than a proxy speaks itself, so
/// that a relay does not learn from the version how new the client is. (Released ones speak 18 and tell clients 17.)
const CLIENT_VERSIONS: (SmpVersion, SmpVersion) = (SmpVersion::PROXY, SmpVersion::BLOCKED_NOTICE);

/// What was sent to a relay.
#[derive(Debug)]
enum Sent {
    Command(Waiter),
    Ping,
}

#[derive(Debug)]
pub struct Relay {
    pub is_own: bool,
    pub connection: Rc<Connection>,
    pub session_id: SessionId,
    /// What clients are told, or why the relay is of no use to them.
    pub keys: Result<Arc<RelayKeys>, TransportError>,
    /// Of the boxes between this proxy and the relay.
    key: Option<BoxKey>,
    in_flight: RefCell<InFlight<Sent>>,
    pub last_used: Cell<Instant>,
    pub last_received: Cell<Instant>,
    /// Bytes that wait to be written, as last looked at.
    pub queued: Cell<usize>,
}

impl Relay {
    /// Sends a PFWD of a client as RFWD. If that cannot be, gives the answer.
    pub fn forward(
        &self,
        shard: &Shard,
        client: Waiter,
        version: SmpVersion,
        key: DhPublicKey,
        transmission: &[u8],
    ) -> Option<RelayAnswer> {
        let Some(box_key) = &self.key else {
            return Some(self.failed(shard, client, RelayFailure::Transport(NO_KEY).error()));
        };
        if self.in_flight.borrow().len() >= RELAY_IN_FLIGHT_MAX || !shard.relays.has_room(self) {
            shard.counters.forwards_refused.add(1);
            return Some(self.failed(shard, client, RelayFailure::Timeout.error()));
        }
        let nonce = nonce(shard);
        let forward = Forward { corr_id: &client.corr_id, version, key, transmission };
        let mut sealed = Vec::new();
        if forward.seal(box_key, &nonce, &mut sealed).is_err() {
            let error = RelayFailure::Transport(TransportError::LargeMsg).error();
            return Some(self.failed(shard, client, error));
        }
        let now = Instant::now();
        self.last_used.set(now);
        self.send(sealed, nonce, Sent::Command(client), now);
        None
    }

    /// Asks the relay whether it is there.
    pub fn ping(&self, shard: &Shard, now: Instant) {
        if !self.in_flight.borrow().is_empty() {
            return;
        }
        let nonce = nonce(shard);
        let mut bytes = vec![0, 0, 0];
        bytes.push(u8::try_from(NONCE_BYTES).unwrap_or(0));
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(b"\0PING");
        let len = u16::try_from(bytes.len() - 2).unwrap_or(0);
        bytes[..2].copy_from_slice(&len.to_be_bytes());
        self.send(bytes, nonce, Sent::Ping, now);
    }

    fn send(&self, transmission: Vec<u8>, nonce: Nonce, sent: Sent, now: Instant) {
        self.in_flight.borrow_mut().sent(nonce, sent, now);
        self.connection.outbox.borrow_mut().push_responses(transmission);
        self.connection.wake_writer();
    }

    pub fn is_idle(&self) -> bool {
        self.in_flight.borrow().is_empty()
    }

    pub fn timeouts(&self) -> usize {
        self.in_flight.borrow().timeouts()
    }

    /// The answer to a command whose time is over.
    pub fn next_late(&self, shard: &Shard, now: Instant) -> Option<RelayAnswer> {
        loop {
            let late = self.in_flight.borrow_mut().next_late(now)?;
            if let Sent::Command(client) = late {
                return Some(self.failed(shard, client, RelayFailure::Timeout.error()));
            }
        }
    }

    /// The answers to all commands: the session is over.
    pub fn give_up(&self, shard: &Shard) -> Vec<RelayAnswer> {
        let sent = self.in_flight.borrow_mut().take_all();
        let commands = sent.into_iter().filter_map(|sent| match sent {
            Sent::Command(client) => Some(client),
            Sent::Ping => None,
        });
        // The relay may have executed them: for the client that is no other than an answer that is late.
        commands.map(|client| self.failed(shard, client, RelayFailure::Timeout.error())).collect()
    }

    fn failed(&self, shard: &Shard, client: Waiter, error: ErrorType) -> RelayAnswer {
        count(&shard.counters, Subject::Forward, self.is_own, Outcome::OtherError);
        self.answer(client, Answer::Error(error))
    }

    fn answer(&self, client: Waiter, answer: Answer) -> RelayAnswer {
        RelayAnswer { client, session_id: Some(self.session_id), answer }
    }
}

fn nonce(shard: &Shard) -> Nonce {
    let mut nonce = [0; NONCE_BYTES];
    shard.random.borrow_mut().fill_bytes(&mut nonce);
    nonce
}

/// Takes what the relay sends until the session ends.
pub async fn receive(shard: &Rc<Shard>, relay: &Relay, mut receiver: Receiver) -> Close {
    loop {
        let block = match receiver.block(shard, &relay.connection).await {
            Ok(block) => block,
            Err(reason) => return reason,
        };
        let now = Instant::now();
        relay.connection.read_deadline.set(None);
        relay.connection.last_received.set(now);
        relay.last_received.set(now);
        if let Err(reason) = receive_block(shard, relay, block) {
            return reason;
        }
        yield_now().await;
    }
}

fn receive_block(shard: &Rc<Shard>, relay: &Relay, block: ReceivedBlock) -> Result<(), Close> {
    let ReceivedBlock { mut buffer, at } = block;
    let opened = {
        let bytes = buffer.get_mut(at..at + BLOCK_BYTES).ok_or(Close::BadBlock)?;
        relay.connection.opener.borrow_mut().open(bytes).map_err(|_| Close::BadBlock)?
    };
    let Some(session) = relay.connection.session.get() else { return Err(Close::BadBlock) };
    let base = buffer.as_ptr().addr();
    let mut response = None;
    let content = buffer.get(at + opened.start..at + opened.end).unwrap_or_default();
    for parsed in parse_content(content, session.format()) {
        let (corr_id, decoded) = match &parsed {
            Ok(parsed) => {
                (parsed.corr_id, parsed.decode_response(session.version, session.session_id.as_ref()))
            }
            Err(bad) => (bad.corr_id, Err(bad.error.clone())),
        };
        let Some((nonce, Sent::Command(client))) = relay.in_flight.borrow_mut().answered(corr_id) else {
            // It came too late, or is the answer to a ping.
            continue;
        };
        match decoded {
            Ok(Response::Rres(sealed)) if sealed.len() >= crate::proxy::CLIENT_BOX_BYTES => {
                // It fills the block.
                let start = sealed.as_ptr().addr() - base;
                response = Some((nonce, client, start..start + sealed.len()));
            }
            Ok(Response::Err(error)) => {
                count(&shard.counters, Subject::Forward, relay.is_own, Outcome::Success);
                let error = ErrorType::Proxy(Box::new(ProxyError::Protocol(error)));
                desk::deliver(shard, relay.answer(client, Answer::Error(error)));
            }
            Ok(Response::Rres(_)) => {
                let error = proxy_error(BrokerError::Response("BLOCK".to_owned()));
                desk::deliver(shard, relay.failed(shard, client, error));
            }
            Ok(other) => {
                let text = format!("{other:?}").chars().take(UNEXPECTED_CHARS).collect();
                let error = proxy_error(BrokerError::Unexpected(text));
                desk::deliver(shard, relay.failed(shard, client, error));
            }
            Err(error) => {
                let error = proxy_error(BrokerError::Response(words(&error)));
                desk::deliver(shard, relay.failed(shard, client, error));
            }
        }
    }
    let Some((nonce, client, place)) = response else { return Ok(()) };
    let opened = match (&relay.key, buffer.get_mut(place.clone())) {
        (Some(key), Some(sealed)) => open_response(key, &nonce, sealed),
        _ => Err(ErrorType::Crypto),
    };
    let answer = match opened {
        Ok(transmission) => {
            count(&shard.counters, Subject::Forward, relay.is_own, Outcome::Success);
            let transmission = place.start + transmission.start..place.start + transmission.end;
            relay.answer(client, Answer::Response { block: buffer.detach(), transmission })
        }
        Err(ErrorType::Crypto) => relay.failed(shard, client, ErrorType::Crypto),
        Err(error) => {
            let error = proxy_error(BrokerError::Response(words(&error)));
            relay.failed(shard, client, error)
        }
    };
    desk::deliver(shard, answer);
    Ok(())
}

/// How much of a response that nobody expected is told, as in the reference.
const UNEXPECTED_CHARS: usize = 32;

fn words(error: &ErrorType) -> String {
    let mut bytes = Vec::new();
    error.encode(SmpVersion::MAX, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Keeps a connection among those of its shard.
#[derive(Debug)]
pub struct Registered {
    shard: Rc<Shard>,
    connection: Rc<Connection>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shard.remove(&self.connection);
    }
}

/// Connects to a relay and agrees a session.
pub async fn establish(
    shard: &Rc<Shard>,
    router: &Router,
) -> Result<(Rc<Relay>, Receiver, Registered), RelayFailure> {
    // Descriptors are counted out among connections of all kinds.
    if shard.connections_of_all.load(Ordering::Acquire) >= shard.config.limits.connections {
        shard.counters.refused_connections.add(1);
        tracing::debug!("no connection to {}: the router has as many as it may", router.hosts);
        return Err(RelayFailure::Network);
    }
    let proxy = &shard.config.proxy;
    let limit = Duration::from_secs(proxy.connect_secs);
    let deadline = Instant::now() + limit;
    let host = proxy.host(router).ok_or(RelayFailure::Host)?;
    let target = Target {
        host: host.clone(),
        port: router.port.unwrap_or(Scheme::Smp.default_port()),
        socks: proxy.socks_for(host).cloned(),
    };
    // An address with another kind of hash is that of no router.
    let identity = <[u8; 32]>::try_from(router.key_hash.as_bytes()).map_err(|_| RelayFailure::Network)?;
    let dialed = dial::dial(&shard.config, target, limit).await;
    let stream = dialed.and_then(prepare).map_err(|error| {
        tracing::debug!("connecting to {}: {error}", router.hosts);
        RelayFailure::Network
    })?;
    let registered = register(shard, stream, identity, deadline).ok_or(RelayFailure::Network)?;
    let connection = Rc::clone(&registered.connection);
    let mut receiver = Receiver::default();
    handshake::tls_as_client(shard, &connection, &mut receiver).await.map_err(|_| RelayFailure::Network)?;
    let (agreed, private_key) = agree(shard, &connection, &mut receiver, identity).await?;
    connection.read_deadline.set(None);
    let now = Instant::now();
    let relay = Relay {
        is_own: proxy.is_own(router),
        connection,
        session_id: agreed.session_id,
        keys: keys(&agreed).map(Arc::new),
        key: agreed.secret.as_ref().map(ringpost_protocol::crypto::DhSecret::box_key),
        in_flight: RefCell::new(InFlight::new(Duration::from_secs(proxy.response_secs))),
        last_used: Cell::new(now),
        last_received: Cell::new(now),
        queued: Cell::new(0),
    };
    let session = Session {
        conn: relay.connection.conn,
        version: agreed.version,
        session_id: agreed.session_id,
        router_key: private_key,
        forward_key: None,
        proxy: true,
        forwarded: false,
        counts: SessionCounts::default(),
        service: None,
    };
    // Nothing else sets it.
    let _ = relay.connection.session.set(Arc::new(session));
    Ok((Rc::new(relay), receiver, registered))
}

fn prepare(stream: std::net::TcpStream) -> io::Result<Stream> {
    let stream = Stream::new(stream);
    sys::prepare(&stream)?;
    Ok(stream)
}

fn register(shard: &Rc<Shard>, stream: Stream, identity: [u8; 32], at: Instant) -> Option<Registered> {
    let tls = TlsChannel::client(client_config(identity).ok()?, no_server_name()).ok()?;
    let deadline = Deadline { at, reason: Close::HandshakeTimeout };
    let mut connections = shard.connections.borrow_mut();
    let entry = connections.vacant_entry();
    let conn = shard.reference(entry.key())?;
    let connection = Connection::new(conn, stream, tls, Entry::Native, deadline, true);
    entry.insert(Rc::clone(&connection));
    shard.counters.connections.set(connections.len());
    shard.connections_of_all.fetch_add(1, Ordering::AcqRel);
    Some(Registered { shard: Rc::clone(shard), connection })
}

/// Exchanges the hello blocks.
async fn agree(
    shard: &Shard,
    connection: &Connection,
    receiver: &mut Receiver,
    identity: [u8; 32],
) -> Result<(ClientSession, DhPrivateKey), RelayFailure> {
    let received = receiver.block(shard, connection).await.map_err(|_| RelayFailure::Network)?;
    let block = received.buffer.get(received.at..received.at + BLOCK_BYTES).ok_or(RelayFailure::Network)?;
    let mut private_key = Zeroizing::new([0; 32]);
    shard.fill_secret(&mut *private_key);
    let mut sealed = Vec::new();
    let agreed = {
        let mut tls = connection.tls.borrow_mut();
        let leaf = tls.peer_certificates().first().and_then(|leaf| Certificate::parse(leaf));
        let leaf_key = leaf.and_then(|leaf| leaf.verifying_key().ok()).ok_or(RelayFailure::Network)?;
        let handshake = ClientHandshake {
            versions: VersionRange::ALL,
            session_id: tls.session_id().ok_or(RelayFailure::Network)?,
            identity,
            leaf_key: &leaf_key,
            session_private_key: Some(DhPrivateKey::from_bytes(*private_key)),
            proxy: true,
            service: None,
        };
        let mut scratch = shard.scratch.borrow_mut();
        let failed = |failure: HandshakeFailure| RelayFailure::Transport(failure.into());
        let agreed = handshake.router_hello(block, &mut scratch.small).map_err(failed)?;
        sealed.resize(tls.sealed_bytes(BLOCK_BYTES), 0);
        tls.seal(&scratch.small[..], &mut sealed).map_err(|_| RelayFailure::Network)?;
        agreed
    };
    handshake::write_all(connection, &sealed).await.map_err(|_| RelayFailure::Network)?;
    Ok((agreed, DhPrivateKey::from_bytes(*private_key)))
}

/// What clients are told of a session.
fn keys(agreed: &ClientSession) -> Result<RelayKeys, TransportError> {
    let (min, max) = CLIENT_VERSIONS;
    let versions = VersionRange::new(min, max)
        .and_then(|allowed| agreed.versions.intersect(allowed))
        .filter(|_| agreed.version >= SmpVersion::PROXY)
        .ok_or(TransportError::Version)?;
    let proof = agreed.router_key.as_ref().ok_or(NO_KEY)?;
    Ok(RelayKeys {
        session_id: agreed.session_id,
        versions,
        chain: proof.chain.clone(),
        signed_key: proof.signed_key.clone(),
    })
}
