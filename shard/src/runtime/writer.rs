//! From the outbox of a connection to its socket.
//!
//! Blocks are sealed into a buffer of the shard, several at a time, and written with one call. What the socket does not
//! take is copied to blocks of the arena and written when the socket has room; until then nothing more is sealed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::AsyncWrite;
use futures_lite::future::{poll_fn, yield_now};
use ringpost_protocol::limits::BLOCK_BYTES;
use smallvec::SmallVec;

use super::connection::{Close, Connection, Deadline};
use super::services;
use super::shard::{Scratch, Shard};
use super::websocket::{seal_block, sealed_bytes_max};
use crate::arena::{BUFFER_BYTES, Block};
use crate::limits::BLOCKS_PER_WRITE;
use crate::outbox::Composed;

/// Sealed bytes that the socket did not take.
#[derive(Default)]
struct Rest {
    parts: VecDeque<(Block, usize, usize)>,
}

/// Credits to return: how many, by home shard.
type Credits = SmallVec<[(usize, usize); 4]>;

/// Writes until the connection ends.
pub async fn run(shard: &Shard, connection: &Rc<Connection>) -> Close {
    let mut rest = Rest::default();
    let mut credits = Credits::new();
    loop {
        if let Err(reason) = poll_fn(|cx| poll_write(shard, connection, &mut rest, &mut credits, cx)).await {
            return reason;
        }
        return_credits(shard, connection, &mut credits);
        yield_now().await;
    }
}

/// Writes what is there. Ready when something was written; an error ends the connection.
fn poll_write(
    shard: &Shard,
    connection: &Connection,
    rest: &mut Rest,
    credits: &mut Credits,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Close>> {
    connection.set_writer(cx.waker());
    if let Some(reason) = connection.closed() {
        return Poll::Ready(Err(reason));
    }
    if !rest.parts.is_empty() {
        return poll_rest(shard, connection, rest, cx);
    }
    let has_pong = connection.websocket.get().is_some_and(|socket| socket.has_pong());
    if connection.outbox.borrow().is_empty() && !has_pong {
        let done = connection.draining.get()
            && connection.in_flight.borrow().is_empty()
            && connection.forwarding.is_idle();
        return if done { Poll::Ready(Err(Close::Stop)) } else { Poll::Pending };
    }
    let mut scratch = shard.scratch.borrow_mut();
    let sealed_len = match seal(shard, connection, &mut scratch, credits) {
        Ok(len) => len,
        Err(reason) => return Poll::Ready(Err(reason)),
    };
    let Some(sealed) = scratch.sealed.get(..sealed_len) else { return Poll::Ready(Err(Close::BadBlock)) };
    shard.counters.writes.add(1);
    let mut stream = connection.stream.borrow_mut();
    let written = match Pin::new(&mut *stream).poll_write(cx, sealed) {
        Poll::Ready(Ok(written)) => written,
        Poll::Ready(Err(_)) => return Poll::Ready(Err(connection.closed().unwrap_or(Close::SocketError))),
        Poll::Pending => 0,
    };
    connection.last_sent.set(Instant::now());
    connection.wake_held_back_reader();
    services::written(shard, connection);
    let left = sealed.get(written..).unwrap_or_default();
    if !left.is_empty() {
        rest.parts = left
            .chunks(BUFFER_BYTES)
            .map(|part| {
                let mut block = shard.arena.lend_above_cap();
                block[..part.len()].copy_from_slice(part);
                (block, 0, part.len())
            })
            .collect();
        let at = Instant::now() + Duration::from_secs(shard.config.limits.write_secs);
        connection.write_deadline.set(Some(Deadline { at, reason: Close::WriteTimeout }));
    }
    Poll::Ready(Ok(()))
}

fn poll_rest(
    shard: &Shard,
    connection: &Connection,
    rest: &mut Rest,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Close>> {
    let mut stream = connection.stream.borrow_mut();
    while let Some((block, at, end)) = rest.parts.front_mut() {
        match Pin::new(&mut *stream).poll_write(cx, &block[*at..*end]) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(written)) if written > 0 => {
                *at += written;
                if let Some(deadline) = connection.write_deadline.get() {
                    // The limit is on writes without any progress.
                    let progress_secs = WRITE_PROGRESS_SECS.min(shard.config.limits.write_secs);
                    let at = deadline.at.max(Instant::now() + Duration::from_secs(progress_secs));
                    connection.write_deadline.set(Some(Deadline { at, ..deadline }));
                }
                if *at == *end {
                    rest.parts.pop_front();
                }
            }
            Poll::Ready(_) => return Poll::Ready(Err(connection.closed().unwrap_or(Close::SocketError))),
        }
    }
    connection.write_deadline.set(None);
    connection.last_sent.set(Instant::now());
    Poll::Ready(Ok(()))
}

/// A write that made progress gets at least this long for the next one, if that is within the limit.
const WRITE_PROGRESS_SECS: u64 = 10;

/// Composes and seals blocks into the scratch buffer. Gives the length of what is to be written.
fn seal(
    shard: &Shard,
    connection: &Connection,
    scratch: &mut Scratch,
    credits: &mut Credits,
) -> Result<usize, Close> {
    let mut outbox = connection.outbox.borrow_mut();
    let mut sealer = connection.sealer.borrow_mut();
    let mut tls = connection.tls.borrow_mut();
    let mut sealed_len = match connection.websocket.get() {
        Some(socket) => socket.seal_pong(&mut tls, &mut scratch.sealed).map_err(|_| Close::BadRecord)?,
        None => 0,
    };
    for _ in 0..BLOCKS_PER_WRITE {
        if scratch.sealed.len() - sealed_len < sealed_bytes_max(connection) {
            break;
        }
        let Some(composed) = outbox.compose(&mut scratch.small, sealer.content_offset()) else { break };
        let out = scratch.sealed.get_mut(sealed_len..).ok_or(Close::BadBlock)?;
        shard.counters.blocks_sent.add(1);
        sealed_len += match composed {
            Composed::Small { content_len } => {
                sealer.seal(&mut scratch.small, content_len).map_err(|_| Close::BadBlock)?;
                seal_block(connection, &mut tls, &scratch.small, out)
            }
            Composed::Message { mut buffer, block_at, content_len, credit_home } => {
                let block: &mut [u8; BLOCK_BYTES] = buffer
                    .get_mut(block_at..)
                    .and_then(|bytes| bytes.first_chunk_mut())
                    .ok_or(Close::BadBlock)?;
                sealer.seal(block, content_len).map_err(|_| Close::BadBlock)?;
                let len = seal_block(connection, &mut tls, block, out);
                shard.arena.recycle(buffer);
                match credits.iter_mut().find(|(home, _)| *home == credit_home) {
                    Some((_, blocks)) => *blocks += 1,
                    None => credits.push((credit_home, 1)),
                }
                len
            }
        }
        .map_err(|_| Close::BadRecord)?;
    }
    Ok(sealed_len)
}

/// Tells home shards that their messages were written: not for each one, but before they run out of credit.
fn return_credits(shard: &Shard, connection: &Connection, credits: &mut Credits) {
    if connection.write_deadline.get().is_some() {
        return;
    }
    let enough = shard.config.delivery_credit().div_ceil(2);
    credits.retain(|(home, blocks)| {
        let returns = *blocks >= enough;
        if returns {
            shard.return_credit(*home, connection.conn, *blocks);
        }
        !returns
    });
}
