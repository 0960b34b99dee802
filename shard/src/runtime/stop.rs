//! Asking the shards to stop, from any thread.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use atomic_waker::AtomicWaker;

use super::FatalError;

/// How a router is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum StopMode {
    Run = 0,
    /// As the next one, but clients that have connected get a session first, and new ones wait: the listening sockets stay
    /// open, for another program. See [`Router::left_listeners`](super::Router::left_listeners).
    HandOver = 1,
    /// Accept and read no more; answer what is under way, within the limit.
    Graceful = 2,
    Immediate = 3,
}

#[derive(Debug)]
pub(super) struct StopState {
    mode: AtomicU8,
    /// Connections of all shards.
    pub connections: Arc<AtomicUsize>,
    /// Wakes the sweep of each shard.
    wakers: Vec<AtomicWaker>,
    /// Why the router cannot go on.
    failure: Mutex<Option<FatalError>>,
    /// Shards whose clients may be new: they accept, or have handshakes to finish.
    welcoming: AtomicUsize,
    /// A descriptor of each listening socket, which keeps it open without the shards.
    listeners: Mutex<Vec<TcpListener>>,
}

impl StopState {
    pub fn new(shards: usize, listeners: Vec<TcpListener>) -> Self {
        Self {
            welcoming: AtomicUsize::new(shards),
            listeners: Mutex::new(listeners),
            mode: AtomicU8::new(StopMode::Run as u8),
            connections: Arc::default(),
            wakers: std::iter::repeat_with(AtomicWaker::new).take(shards).collect(),
            failure: Mutex::default(),
        }
    }

    pub fn mode(&self) -> StopMode {
        match self.mode.load(Ordering::Acquire) {
            0 => StopMode::Run,
            1 => StopMode::HandOver,
            2 => StopMode::Graceful,
            _ => StopMode::Immediate,
        }
    }

    /// Never goes back to a milder mode.
    pub fn request(&self, mode: StopMode) {
        if mode > StopMode::HandOver {
            drop(self.take_listeners());
        }
        self.mode.fetch_max(mode as u8, Ordering::AcqRel);
        self.wakers.iter().for_each(AtomicWaker::wake);
    }

    /// A log has failed: nothing may be answered any more.
    pub fn fail_log(&self, why: String) {
        self.fail(FatalError::Log(why));
    }

    /// The router cannot go on. The first failure is what it ends with.
    pub fn fail(&self, failure: FatalError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.request(StopMode::Immediate);
    }

    pub fn take_failure(&self) -> Option<FatalError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A shard gets no new sessions any more. To be said by each, once.
    pub fn note_no_more_sessions(&self) {
        if self.welcoming.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wakers.iter().for_each(AtomicWaker::wake);
        }
    }

    /// No shard gets new sessions any more.
    pub fn no_more_sessions(&self) -> bool {
        self.welcoming.load(Ordering::Acquire) == 0
    }

    /// The listening sockets, if the router has not been asked to close them.
    pub fn take_listeners(&self) -> Vec<TcpListener> {
        std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn all_connections_ended(&self) -> bool {
        self.connections.load(Ordering::Acquire) == 0
    }

    /// The waker of a shard's sweep.
    pub fn waker(&self, shard: usize) -> Option<&AtomicWaker> {
        self.wakers.get(shard)
    }
}
