//! One accepted connection: what its tasks share.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use ringpost_protocol::crypto::block::{BlockOpener, BlockSealer};
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::TlsChannel;

use super::services::Serving;
use super::sys;
use super::tls::Entry;
use super::websocket::WebSocket;
use crate::arena::Charge;
use crate::executor::Stream;
use crate::outbox::Outbox;
use crate::proxy::RelayRequest;
use crate::service::{ConnRef, Session, append};

/// Why a connection ends. Each reason is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    ByPeer,
    HandshakeTls,
    HandshakeIdentity,
    HandshakeVersion,
    HandshakeParse,
    /// A service was told why it is refused.
    HandshakeService,
    HandshakeTimeout,
    BlockTimeout,
    WriteTimeout,
    Inactive,
    BadRecord,
    /// A WebSocket frame that breaks the rules, or a message that is no block.
    BadFrame,
    BadBlock,
    /// An HTTP request was answered.
    Http,
    SocketError,
    Stop,
}

/// A time limit that the sweep looks at: no timer for each read and write.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    pub at: Instant,
    pub reason: Close,
}

/// Commands of one client for relays.
#[derive(Debug, Default)]
pub struct Forwarding {
    pub under_way: Cell<usize>,
    pub waiting: RefCell<VecDeque<RelayRequest>>,
}

impl Forwarding {
    pub fn is_idle(&self) -> bool {
        self.under_way.get() == 0 && self.waiting.borrow().is_empty()
    }
}

#[derive(Debug)]
pub struct Connection {
    pub conn: ConnRef,
    pub stream: RefCell<Stream>,
    pub tls: RefCell<TlsChannel>,
    /// It leads to a relay, for which this router is a client. It is always read: who waits for its answers is held back.
    pub is_relay: bool,
    pub entry: Entry,
    /// Set when the connection is one.
    pub websocket: OnceCell<Box<WebSocket>>,
    /// Set when the client is a service.
    pub serving: OnceCell<Box<Serving>>,
    /// Set when the protocol handshake is done.
    pub session: OnceCell<Arc<Session>>,
    pub opener: RefCell<BlockOpener>,
    pub sealer: RefCell<BlockSealer>,
    pub outbox: RefCell<Outbox>,
    /// Batches that are with their homes.
    pub in_flight: RefCell<Vec<Charge>>,
    /// Commands of the client that are with relays, and those that wait until it has fewer there.
    pub forwarding: Forwarding,
    /// Shards that have been sent batches, which must hear of the end: a bit each.
    pub homes: Cell<[u64; 4]>,
    /// The reader waits until batches are answered and answers are written.
    pub held_back: Cell<bool>,
    /// Of the handshake or of a block that is being received.
    pub read_deadline: Cell<Option<Deadline>>,
    pub write_deadline: Cell<Option<Deadline>>,
    pub created_at: Instant,
    pub last_received: Cell<Instant>,
    pub last_sent: Cell<Instant>,
    closed: Cell<Option<Close>>,
    /// No more is read; what is in the outbox is written, then the connection ends.
    pub draining: Cell<bool>,
    /// Why it is drained, if not because the router stops.
    pub ending: Cell<Option<Close>>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Connection {
    pub fn new(
        conn: ConnRef,
        stream: Stream,
        tls: TlsChannel,
        entry: Entry,
        handshake: Deadline,
        is_relay: bool,
    ) -> Rc<Self> {
        let now = Instant::now();
        let (sealer, opener) = ringpost_protocol::crypto::block::BlockCipher::plain().split();
        Rc::new(Self {
            conn,
            stream: RefCell::new(stream),
            tls: RefCell::new(tls),
            is_relay,
            entry,
            websocket: OnceCell::new(),
            serving: OnceCell::new(),
            session: OnceCell::new(),
            opener: RefCell::new(opener),
            sealer: RefCell::new(sealer),
            outbox: RefCell::default(),
            in_flight: RefCell::default(),
            forwarding: Forwarding::default(),
            homes: Cell::new([0; 4]),
            held_back: Cell::new(false),
            read_deadline: Cell::new(Some(handshake)),
            write_deadline: Cell::new(None),
            created_at: now,
            last_received: Cell::new(now),
            last_sent: Cell::new(now),
            closed: Cell::new(None),
            draining: Cell::new(false),
            ending: Cell::new(None),
            reader: RefCell::new(None),
            writer: RefCell::new(None),
        })
    }

    /// When anything was received or sent last.
    pub fn last_active(&self) -> Instant {
        self.last_received.get().max(self.last_sent.get())
    }

    /// Puts an answer or event of this shard itself into the outbox. Before there is a session nobody is told.
    pub fn respond(&self, corr_id: &[u8], entity_id: &[u8], response: &Response<'_>) {
        let Some(session) = self.session.get() else { return };
        let mut bytes = Vec::new();
        append(&mut bytes, session, corr_id, entity_id, response);
        self.outbox.borrow_mut().push_responses(bytes);
        self.wake_writer();
    }

    /// Ends the connection. The first reason stands.
    pub fn close(&self, reason: Close) {
        if self.closed.get().is_some() {
            return;
        }
        self.closed.set(Some(reason));
        sys::shutdown(&self.stream.borrow());
        self.wake_reader();
        self.wake_writer();
    }

    /// Ends the connection when what is under way is answered and written, and after a farewell.
    pub fn end(&self, reason: Close) {
        self.ending.set(Some(reason));
        self.draining.set(true);
        self.wake_writer();
    }

    pub fn closed(&self) -> Option<Close> {
        self.closed.get()
    }

    pub fn note_home(&self, shard: usize) {
        let mut homes = self.homes.get();
        if let Some(word) = homes.get_mut(shard / 64) {
            *word |= 1 << (shard % 64);
        }
        self.homes.set(homes);
    }

    pub fn has_home(&self, shard: usize) -> bool {
        self.homes.get().get(shard / 64).is_some_and(|word| word & (1 << (shard % 64)) != 0)
    }

    pub fn set_reader(&self, waker: &Waker) {
        set(&self.reader, waker);
    }

    pub fn set_writer(&self, waker: &Waker) {
        set(&self.writer, waker);
    }

    pub fn wake_reader(&self) {
        wake(&self.reader);
    }

    /// Lets a reader that was held back look again. One that waits for the socket is left alone.
    pub fn wake_held_back_reader(&self) {
        if self.held_back.take() {
            self.wake_reader();
        }
    }

    pub fn wake_writer(&self) {
        wake(&self.writer);
    }
}

fn set(slot: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut slot = slot.borrow_mut();
    if !slot.as_ref().is_some_and(|present| present.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}

fn wake(slot: &RefCell<Option<Waker>>) {
    let waker = slot.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}
