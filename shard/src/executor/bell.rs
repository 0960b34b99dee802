//! Waking an executor from another thread: a counter that its ring watches.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_lite::future::poll_fn;
use rustix::event::{EventfdFlags, eventfd};

use super::watch::Watch;

/// Rings from any thread.
#[derive(Debug)]
pub struct Bell {
    /// An `eventfd`.
    rings: OwnedFd,
}

impl Bell {
    pub fn new() -> io::Result<Self> {
        Ok(Self { rings: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)? })
    }

    /// Whoever listens next hears it at once.
    pub fn ring(&self) {
        // It fails only if the counter is at its end, and then it was rung.
        let _ = rustix::io::write(&self.rings, &1_u64.to_ne_bytes());
    }
}

/// The end that a task of this executor listens to.
#[derive(Debug)]
pub struct Ear {
    /// Before the bell, which it watches.
    watch: Watch,
    bell: Arc<Bell>,
}

impl Ear {
    pub fn new(bell: Arc<Bell>) -> Self {
        Self { watch: Watch::to_receive(&bell.rings), bell }
    }

    /// Waits until it was rung since the last time.
    pub async fn listen(&self) {
        let mut rings = [0; 8];
        // An error, which an eventfd does not have, would be a ring too much.
        let _ = poll_fn(|cx| self.watch.poll(cx, || rustix::io::read(&self.bell.rings, &mut rings))).await;
        // The counter was taken as a whole, and a ring that comes after that has an event of its own.
        self.watch.drained();
    }
}
