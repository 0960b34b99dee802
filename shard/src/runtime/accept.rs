//! Accepting connections, within the caps.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;
use ringpost_protocol::tls::TlsChannel;

use super::address::{AddressKey, OfAddress};
use super::connection::{Close, Connection, Deadline};
use super::listen::ShardListener;
use super::reader::Receiver;
use super::shard::Shard;
use super::tls::Entry;
use super::{farewell, handshake, reader, sys, writer};
use crate::executor::{self, Listener, Stream, Task, sleep};
use crate::limits::{HANDSHAKES_PER_ADDRESS_DIVISOR, HANDSHAKES_PER_ADDRESS_MIN};

/// After an accept that failed for want of descriptors or memory: trying at once would only burn the processor.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// All clients come back after a router has handed over, some wait in the queues of its sockets already, and perhaps all have
/// one address: so long they are accepted as fast as handshakes get done, and not faster, to be refused.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(30);
/// What one connection waits at most: clients that say nothing must not hold up others for long.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between two looks whether there are fewer handshakes.
const PATIENCE_STEP: Duration = Duration::from_millis(2);

/// Accepts until the task is cancelled.
pub async fn run(shard: Rc<Shard>, listener: ShardListener, entry: Entry, is_successor: bool) {
    let ShardListener { listener, place } = listener;
    let listener = Listener::new(listener);
    let patient_until = is_successor.then(|| Instant::now() + SUCCESSOR_PATIENCE);
    loop {
        if patient_until.is_some_and(|until| Instant::now() < until) {
            be_patient(&shard).await;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Who waited since before the listener was ours has not its options.
                if patient_until.is_some_and(|until| Instant::now() < until)
                    && let Err(error) = sys::prepare(&stream)
                {
                    tracing::debug!("options of a connection cannot be set: {error}");
                }
                accepted(&shard, stream, peer, entry, place);
            }
            Err(error) => {
                shard.counters.accept_errors.add(1);
                // The peer was gone before it was accepted.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!("accepting connections fails: {error}");
                    sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
        yield_now().await;
    }
}

/// Waits for handshakes to end, so that no address has all that it may.
async fn be_patient(shard: &Shard) {
    let until = Instant::now() + PATIENCE;
    while shard.handshakes.get() >= handshakes_per_address_max(shard) / 2 && Instant::now() < until {
        sleep(PATIENCE_STEP).await;
    }
}

/// Counts the end of an accepted connection, however it ends.
struct Accepted {
    shard: Rc<Shard>,
    place: usize,
}

impl Accepted {
    fn new(shard: &Rc<Shard>, place: usize) -> Self {
        shard.counters.connections_accepted.add(1);
        if let Some(listener) = shard.listeners.get(place) {
            listener.accepted.add(1);
        }
        Self { shard: Rc::clone(shard), place }
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(listener) = self.shard.listeners.get(self.place) {
            listener.closed.add(1);
        }
    }
}

fn accepted(shard: &Rc<Shard>, stream: Stream, peer: SocketAddr, entry: Entry, place: usize) {
    let counted = Accepted::new(shard, place);
    let Some(address) = admit(shard, peer) else { return };
    if let Some(connection) = open(shard, stream, entry) {
        let shard = Rc::clone(shard);
        spawn(async move {
            serve(&shard, &connection, address).await;
            leave(&shard, address);
            drop(counted);
        })
        .detach();
    } else {
        end_handshake(shard, address);
        shard.connections_of_all.fetch_sub(1, Ordering::AcqRel);
        leave(shard, address);
    }
}

/// Counts a connection in, or refuses it: it is closed when the stream is dropped.
fn admit(shard: &Shard, peer: SocketAddr) -> Option<AddressKey> {
    let limits = &shard.config.limits;
    if shard.connections_of_all.load(Ordering::Acquire) >= limits.connections {
        shard.counters.refused_connections.add(1);
        return None;
    }
    if shard.handshakes.get() >= handshakes_max(shard) {
        shard.counters.refused_handshakes.add(1);
        return None;
    }
    let address = AddressKey::from(peer.ip());
    let mut by_address = shard.by_address.borrow_mut();
    let has = by_address.get(&address).copied().unwrap_or_default();
    // A shard sees only its own part of an address's connections.
    if has.connections >= limits.connections_per_address.div_ceil(shard.map.shards()) {
        shard.counters.refused_address.add(1);
        return None;
    }
    // A host that opens connections and says nothing must not keep all others out.
    if has.handshakes >= handshakes_per_address_max(shard) {
        shard.counters.refused_handshakes.add(1);
        return None;
    }
    by_address
        .insert(address, OfAddress { connections: has.connections + 1, handshakes: has.handshakes + 1 });
    shard.handshakes.set(shard.handshakes.get() + 1);
    shard.connections_of_all.fetch_add(1, Ordering::AcqRel);
    Some(address)
}

/// The shard's part of the handshakes under way.
fn handshakes_max(shard: &Shard) -> usize {
    shard.config.limits.handshakes.div_ceil(shard.map.shards())
}

/// That part of one address.
fn handshakes_per_address_max(shard: &Shard) -> usize {
    let all =
        (shard.config.limits.handshakes / HANDSHAKES_PER_ADDRESS_DIVISOR).max(HANDSHAKES_PER_ADDRESS_MIN);
    all.div_ceil(shard.map.shards())
}

fn leave(shard: &Shard, address: AddressKey) {
    let mut by_address = shard.by_address.borrow_mut();
    if let Some(of_address) = by_address.get_mut(&address) {
        of_address.connections -= 1;
        if of_address.connections == 0 {
            by_address.remove(&address);
        }
    }
}

fn end_handshake(shard: &Shard, address: AddressKey) {
    shard.handshakes.set(shard.handshakes.get() - 1);
    if let Some(of_address) = shard.by_address.borrow_mut().get_mut(&address) {
        of_address.handshakes -= 1;
    }
}

fn open(shard: &Shard, stream: Stream, entry: Entry) -> Option<Rc<Connection>> {
    let tls = TlsChannel::server(shard.config.tls.of(entry)).ok()?;
    let at = Instant::now() + Duration::from_secs(shard.config.limits.handshake_secs);
    let deadline = Deadline { at, reason: Close::HandshakeTimeout };
    let mut connections = shard.connections.borrow_mut();
    let place = connections.vacant_entry();
    let conn = shard.reference(place.key())?;
    let connection = Connection::new(conn, stream, tls, entry, deadline, false);
    place.insert(Rc::clone(&connection));
    shard.counters.connections.set(connections.len());
    Some(connection)
}

/// What each of the two tasks of a connection may take: it is held for as long as the connection is, however idle. Futures
/// that are rarely waited for are boxed, and buffers belong in none.
const TASK_BYTES_MAX: usize = 512;

fn spawn<T: Future + 'static>(task: T) -> Task<T::Output> {
    const { assert!(size_of::<T>() <= TASK_BYTES_MAX, "a connection's task is too large") };
    executor::spawn_local(task)
}

/// The life of a connection.
async fn serve(shard: &Rc<Shard>, connection: &Rc<Connection>, address: AddressKey) {
    shard.counters.handshakes.set(shard.handshakes.get());
    let mut receiver = Receiver::default();
    // Its state is large, and gone when the session begins.
    let agreed = Box::pin(handshake::run(shard, connection, &mut receiver)).await;
    end_handshake(shard, address);
    shard.counters.handshakes.set(shard.handshakes.get());
    let reason = match agreed {
        Ok(()) => {
            shard.counters.handshakes_done.add(1);
            connection.read_deadline.set(None);
            let writer = spawn({
                let (shard, connection) = (Rc::clone(shard), Rc::clone(connection));
                async move {
                    let mut reason = writer::run(&shard, &connection).await;
                    if reason == Close::Stop {
                        farewell::say(&connection).await;
                        reason = connection.ending.get().unwrap_or(reason);
                    }
                    connection.close(reason);
                }
            });
            let reason = reader::run(shard, connection, &mut receiver).await;
            // Its blocks are for others.
            drop(receiver);
            if reason != Close::Stop && connection.ending.get().is_none() {
                connection.close(reason);
            }
            writer.await;
            reason
        }
        Err(reason) => {
            drop(receiver);
            if connection.ending.get().is_some() {
                farewell::say(connection).await;
            }
            reason
        }
    };
    connection.close(reason);
    count(shard, connection.closed().unwrap_or(reason));
    shard.remove(connection);
}

fn count(shard: &Shard, reason: Close) {
    let counters = &shard.counters;
    match reason {
        Close::ByPeer => &counters.closed_by_peer,
        Close::HandshakeTls => &counters.handshakes_failed_tls,
        Close::HandshakeIdentity => &counters.handshakes_failed_identity,
        Close::HandshakeVersion => &counters.handshakes_failed_version,
        Close::HandshakeParse => &counters.handshakes_failed_parse,
        Close::HandshakeService => &counters.handshakes_failed_service,
        Close::HandshakeTimeout => &counters.closed_handshake_timeout,
        Close::BlockTimeout => &counters.closed_block_timeout,
        Close::WriteTimeout => &counters.closed_write_timeout,
        Close::Inactive => &counters.closed_inactive,
        Close::BadRecord => &counters.closed_bad_record,
        Close::BadFrame => &counters.closed_bad_frame,
        Close::Http => &counters.http_requests,
        Close::BadBlock => &counters.closed_bad_block,
        Close::SocketError => &counters.closed_socket_error,
        Close::Stop => &counters.closed_on_stop,
    }
    .add(1);
}
