//! Asking the shards to stop, from any thread.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use atomic_waker::AtomicWaker;

/// How a router is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum StopMode {
    Run = 0,
    /// Accept and read no more; answer what is under way, within the limit.
    Graceful = 1,
    Immediate = 2,
}

#[derive(Debug)]
pub(super) struct StopState {
    mode: AtomicU8,
    /// Connections of all shards.
    pub connections: Arc<AtomicUsize>,
    /// Wakes the sweep of each shard.
    wakers: Vec<AtomicWaker>,
    /// Why a log has failed.
    log_failure: Mutex<Option<String>>,
}

impl StopState {
    pub fn new(shards: usize) -> Self {
        Self {
            mode: AtomicU8::new(StopMode::Run as u8),
            connections: Arc::default(),
            wakers: std::iter::repeat_with(AtomicWaker::new).take(shards).collect(),
            log_failure: Mutex::default(),
        }
    }

    pub fn mode(&self) -> StopMode {
        match self.mode.load(Ordering::Acquire) {
            0 => StopMode::Run,
            1 => StopMode::Graceful,
            _ => StopMode::Immediate,
        }
    }

    /// Never goes back to a milder mode.
    pub fn request(&self, mode: StopMode) {
        self.mode.fetch_max(mode as u8, Ordering::AcqRel);
        self.wakers.iter().for_each(AtomicWaker::wake);
    }

    /// A log has failed: nothing may be answered any more.
    pub fn fail_log(&self, why: String) {
        self.log_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.request(StopMode::Immediate);
    }

    pub fn log_failure(&self) -> Option<String> {
        self.log_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn all_connections_ended(&self) -> bool {
        self.connections.load(Ordering::Acquire) == 0
    }

    /// The waker of a shard's sweep.
    pub fn waker(&self, shard: usize) -> Option<&AtomicWaker> {
        self.wakers.get(shard)
    }
}
