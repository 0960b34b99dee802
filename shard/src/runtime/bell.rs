//! How a shard that sleeps is woken by another: a byte through a socket pair.
//!
//! Not by glommio's wakers: with those, version 0.9 now and then puts an executor to sleep that has a task to run. Its
//! wake-up descriptor lies on the ring whose events preempt, and when such an event (or the preemption timer) comes at the
//! wrong moment, before the first task of a turn, the turn counts as idle. A readable socket has no such effect.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use futures_lite::AsyncReadExt;
use glommio::net::UnixStream as ShardStream;

use super::sys;
use crate::mesh::Bell;

/// The end that other shards ring.
#[derive(Debug)]
pub struct SocketBell(UnixStream);

/// The end that the shard listens to.
#[derive(Debug)]
pub struct Ear(ShardStream);

pub fn pair() -> io::Result<(SocketBell, UnixStream)> {
    let (bell, ear) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    ear.set_nonblocking(true)?;
    Ok((SocketBell(bell), ear))
}

impl Bell for SocketBell {
    fn ring(&self) {
        // If the socket is full the shard has been rung many times. If it is closed the shard has stopped.
        let _ = (&self.0).write(&[1]);
    }
}

impl Ear {
    /// For the executor of this thread.
    pub fn new(ear: UnixStream) -> Self {
        Self(sys::stream_of_this_executor(ear))
    }

    /// Waits for a ring.
    pub async fn listen(&mut self) -> io::Result<()> {
        let mut rings = [0; 64];
        match self.0.read(&mut rings).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
