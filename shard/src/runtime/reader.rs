//! From socket bytes to batches of commands.
//!
//! A block is one TLS record when the peer writes it whole, as ours and the reference do. Then it is decrypted where it
//! was received and never copied. Other splits are legal; their pieces are put together in a second buffer.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::AsyncRead;
use futures_lite::future::{poll_fn, yield_now};
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::{Opened, RECORD_HEADER_BYTES, SEALED_BLOCK_BYTES};
use ringpost_protocol::transmission::{Format, parse_content};
use smallvec::SmallVec;

use super::connection::{Close, Connection, Deadline};
use super::relay;
use super::services::{self, Subscribe};
use super::shard::Shard;
use super::websocket;
use crate::arena::{BUFFER_BYTES, Block};
use crate::counters::Count;
use crate::limits::{BATCHES_IN_FLIGHT_PER_CONNECTION, BATCHES_IN_FLIGHT_PER_PROXY, RECORDS_PER_BLOCK_MAX};
use crate::service::{Batch, BatchData, Session, append};

/// Where an assembled block lies in its buffer: where a received one would.
pub(super) const ASSEMBLED_AT: usize = RECORD_HEADER_BYTES;

/// The receiving half of a connection.
#[derive(Debug, Default)]
pub struct Receiver {
    /// Bytes from the socket: `at..filled` are not opened yet. None while there are none.
    pub buffer: Option<Block>,
    pub at: usize,
    pub filled: usize,
    /// A block that came in pieces, and how much of it is there.
    pub(super) assembly: Option<(Block, usize)>,
    /// Plaintext behind the end of the assembled block: the beginning of the next one, with its frames.
    pub(super) surplus: Option<(Block, std::ops::Range<usize>)>,
    /// Bytes of the next block were taken. Until then it may have to wait; afterwards its time runs.
    begun: bool,
    /// Records opened since the last block.
    pub(super) records: usize,
}

/// A transport block, decrypted by TLS, at `at` of its buffer.
#[derive(Debug)]
pub struct ReceivedBlock {
    pub buffer: Block,
    pub at: usize,
}

impl Receiver {
    /// The next block of 16,384 bytes.
    pub async fn block(&mut self, shard: &Shard, connection: &Connection) -> Result<ReceivedBlock, Close> {
        if self.has_bytes(connection) {
            // The end of the former block came together with the beginning of this one.
            poll_fn(|cx| self.poll_begin(shard, connection, cx)).await?;
            self.begin(shard, connection);
        }
        loop {
            let found = match connection.websocket.get() {
                Some(socket) => websocket::open_next(self, shard, connection, socket)?,
                None => self.open_next(shard, connection)?,
            };
            if let Some(block) = found {
                self.begun = false;
                self.records = 0;
                return Ok(block);
            }
            if !self.has_bytes(connection) && connection.session.get().is_some() {
                // Records of TLS itself begin no block. (A handshake's time goes on.)
                self.begun = false;
                connection.read_deadline.set(None);
            }
            self.read(shard, connection).await?;
            if connection.websocket.get().is_some() {
                // Pings are no blocks: a flood of them must not hold up others.
                yield_now().await;
            }
        }
    }

    fn has_bytes(&self, connection: &Connection) -> bool {
        self.buffer.is_some()
            || self.assembly.is_some()
            || self.surplus.is_some()
            || connection.websocket.get().is_some_and(|socket| socket.is_partial())
    }

    /// Ready when the next block may begin: the connection and the shard have not enough to do without it.
    fn poll_begin(
        &self,
        shard: &Shard,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Close>> {
        if let Some(reason) = connection.closed() {
            return Poll::Ready(Err(reason));
        }
        connection.set_reader(cx.waker());
        if connection.draining.get() {
            return Poll::Ready(Err(Close::Stop));
        }
        if self.begun {
            return Poll::Ready(Ok(()));
        }
        if is_held_back(shard, connection) {
            return Poll::Pending;
        }
        if shard.is_mesh_congested() {
            shard.wait_for_resources(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// From the first byte on a block has limited time: it keeps memory of the arena.
    fn begin(&mut self, shard: &Shard, connection: &Connection) {
        self.begun = true;
        if connection.read_deadline.get().is_none() {
            let at = Instant::now() + Duration::from_secs(shard.config.limits.block_secs);
            connection.read_deadline.set(Some(Deadline { at, reason: Close::BlockTimeout }));
        }
    }

    /// Opens records that are there until a block is complete. None if more bytes are needed.
    fn open_next(&mut self, shard: &Shard, connection: &Connection) -> Result<Option<ReceivedBlock>, Close> {
        while let Some((piece, range)) = self.open_plaintext(shard, connection)? {
            if self.assembly.is_none() && range.len() == BLOCK_BYTES {
                return Ok(Some(ReceivedBlock { at: range.start, buffer: piece }));
            }
            if let Some(block) = self.assemble(shard, piece, range) {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// What the next record holds, in a block with nothing else that is needed. None if more bytes are needed.
    pub(super) fn open_plaintext(
        &mut self,
        shard: &Shard,
        connection: &Connection,
    ) -> Result<Option<(Block, std::ops::Range<usize>)>, Close> {
        if let Some(surplus) = self.surplus.take() {
            return Ok(Some(surplus));
        }
        let Some(mut buffer) = self.buffer.take() else { return Ok(None) };
        let (at, filled) = (self.at, self.filled);
        let Some(bytes) = buffer.get_mut(at..filled) else { return Err(Close::BadRecord) };
        let (consumed, payload) = match connection.tls.borrow_mut().open(bytes) {
            Ok(Opened::Data { consumed, payload }) => (consumed, Some(payload)),
            Ok(Opened::Incomplete { consumed }) => (consumed, None),
            Ok(Opened::Closed { .. }) => return Err(Close::ByPeer),
            Err(_) => return Err(Close::BadRecord),
        };
        self.at += consumed;
        let is_used_up = self.at >= filled;
        if is_used_up {
            (self.at, self.filled) = (0, 0);
        }
        let Some(payload) = payload else {
            self.buffer = Some(buffer).filter(|_| !is_used_up);
            return Ok(None);
        };
        self.records += 1;
        if self.records > RECORDS_PER_BLOCK_MAX {
            return Err(Close::BadRecord);
        }
        let range = at + payload.start..at + payload.end;
        if is_used_up {
            return Ok(Some((buffer, range)));
        }
        // The buffer holds more records: the plaintext is copied out of it.
        let mut copy = shard.arena.lend_above_cap();
        let place = ASSEMBLED_AT..ASSEMBLED_AT + range.len();
        copy[place.clone()].copy_from_slice(&buffer[range]);
        self.buffer = Some(buffer);
        Ok(Some((copy, place)))
    }

    /// The next plaintext of any length: at least a byte.
    pub(super) async fn plaintext(
        &mut self,
        shard: &Shard,
        connection: &Connection,
    ) -> Result<(Block, std::ops::Range<usize>), Close> {
        loop {
            if let Some(found) = self.open_plaintext(shard, connection)? {
                return Ok(found);
            }
            self.read(shard, connection).await?;
        }
    }

    /// Puts plaintext that was read too far back in front of what comes: at most as much as a block holds.
    pub(super) fn give_back(&mut self, shard: &Shard, plain: &[u8]) {
        let mut block = shard.arena.lend_above_cap();
        if let Some(place) = block.get_mut(..plain.len()).filter(|place| !place.is_empty()) {
            place.copy_from_slice(plain);
            self.surplus = Some((block, 0..plain.len()));
        }
    }

    /// Adds plaintext to the block that is being assembled. Gives the block when it is complete.
    fn assemble(
        &mut self,
        shard: &Shard,
        from: Block,
        range: std::ops::Range<usize>,
    ) -> Option<ReceivedBlock> {
        let (mut block, have) = self.assembly.take().unwrap_or_else(|| (shard.arena.lend_above_cap(), 0));
        let part = range.len().min(BLOCK_BYTES - have);
        let to = ASSEMBLED_AT + have;
        block[to..to + part].copy_from_slice(&from[range.start..range.start + part]);
        if part < range.len() {
            self.surplus = Some((from, range.start + part..range.end));
        }
        if have + part < BLOCK_BYTES {
            if have + part > 0 {
                self.assembly = Some((block, have + part));
            }
            return None;
        }
        Some(ReceivedBlock { buffer: block, at: ASSEMBLED_AT })
    }

    /// Shows what was received and not opened to `take`, which says how much of it is done with. For the TLS handshake.
    pub fn with_received<T>(&mut self, take: impl FnOnce(&mut [u8]) -> (usize, T)) -> T {
        let (consumed, result) = match &mut self.buffer {
            Some(buffer) => take(buffer.get_mut(self.at..self.filled).unwrap_or_default()),
            None => take(&mut []),
        };
        self.at += consumed;
        if self.at >= self.filled {
            (self.at, self.filled) = (0, 0);
            self.buffer = None;
        }
        result
    }

    /// Reads more bytes, as many as the next record needs. Waits while the connection or the shard has enough to do.
    /// While nothing has arrived no buffer is held.
    pub async fn read(&mut self, shard: &Shard, connection: &Connection) -> Result<(), Close> {
        poll_fn(|cx| self.poll_read(shard, connection, cx)).await
    }

    fn poll_read(
        &mut self,
        shard: &Shard,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Close>> {
        std::task::ready!(self.poll_begin(shard, connection, cx))?;
        let keeps = self.buffer.is_some();
        let Some(mut buffer) = self.buffer.take().or_else(|| shard.arena.lend()) else {
            shard.wait_for_resources(cx.waker());
            return Poll::Pending;
        };
        let Some(end) = self.make_room(&mut buffer) else { return Poll::Ready(Err(Close::BadRecord)) };
        let mut stream = connection.stream.borrow_mut();
        let read = std::pin::Pin::new(&mut *stream).poll_read(cx, &mut buffer[self.filled..end]);
        match read {
            Poll::Pending => {
                if keeps {
                    self.buffer = Some(buffer);
                }
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => Poll::Ready(Err(connection.closed().unwrap_or(Close::ByPeer))),
            Poll::Ready(Ok(count)) => {
                self.filled += count;
                self.buffer = Some(buffer);
                self.begin(shard, connection);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(connection.closed().unwrap_or(Close::SocketError))),
        }
    }

    /// Moves what is not opened yet to the front if the record does not fit behind it. Gives the end to read up to: that
    /// of the record, where its header is there, so that blocks stay aligned with reads. None if the buffer is full of
    /// what cannot be opened: a record that is too long, or a TLS handshake message, which no client needs so long.
    fn make_room(&mut self, buffer: &mut Block) -> Option<usize> {
        let have = self.filled - self.at;
        let needed = match buffer.get(self.at..self.filled) {
            Some(&[_, _, _, high, low, ..]) => {
                let record = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
                // A record with a false length is refused when it is opened.
                if record > have { record } else { SEALED_BLOCK_BYTES }
            }
            _ => SEALED_BLOCK_BYTES,
        };
        if self.at + needed > BUFFER_BYTES {
            buffer.copy_within(self.at..self.filled, 0);
            (self.at, self.filled) = (0, have);
        }
        (self.filled < BUFFER_BYTES).then(|| (self.at + needed).clamp(self.filled + 1, BUFFER_BYTES))
    }
}

/// Whether the connection has enough to do before more of it is read. If so, what makes this false wakes its reader.
fn is_held_back(shard: &Shard, connection: &Connection) -> bool {
    if connection.is_relay {
        return false;
    }
    let outbox = connection.outbox.borrow();
    let forwards_max = shard.config.proxy.client_concurrency;
    let is_proxy = connection.session.get().is_some_and(|session| session.proxy);
    let batches_max = if is_proxy { BATCHES_IN_FLIGHT_PER_PROXY } else { BATCHES_IN_FLIGHT_PER_CONNECTION };
    let held_back = connection.in_flight.borrow().len() >= batches_max
        || connection.forwarding.under_way.get() >= forwards_max
        || outbox.response_bytes() > shard.config.limits.outbox_bytes;
    connection.held_back.set(held_back);
    held_back
}

/// Receives the commands of an established session until the connection ends.
pub async fn run(shard: &Rc<Shard>, connection: &Rc<Connection>, receiver: &mut Receiver) -> Close {
    let Some(session) = connection.session.get() else { return Close::HandshakeParse };
    loop {
        let block = match receiver.block(shard, connection).await {
            Ok(block) => block,
            Err(reason) => return reason,
        };
        connection.read_deadline.set(None);
        connection.last_received.set(Instant::now());
        shard.counters.blocks_received.add(1);
        if let Err(reason) = receive(shard, connection, session, block).await {
            return reason;
        }
        yield_now().await;
    }
}

/// Opens a block and takes care of what it asks for.
async fn receive(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    session: &Arc<Session>,
    block: ReceivedBlock,
) -> Result<(), Close> {
    let ReceivedBlock { mut buffer, at } = block;
    let opened = {
        let bytes = buffer.get_mut(at..at + BLOCK_BYTES).ok_or(Close::BadBlock)?;
        connection.opener.borrow_mut().open(bytes).map_err(|_| Close::BadBlock)?
    };
    let content = at + opened.start..at + opened.end;
    if session.service.is_some() {
        let content = buffer.get(content.clone()).unwrap_or_default();
        Box::pin(services::claim(shard, connection, session, content)).await?;
    }
    let subscriptions = hand_over(shard, connection, session, buffer, content)?;
    if !subscriptions.is_empty() {
        Box::pin(services::subscribe_all(shard, connection, session, subscriptions)).await?;
    }
    Ok(())
}

/// Parses the transmissions of a block and hands them to their homes. Gives the subscriptions of a service among them.
fn hand_over(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    session: &Arc<Session>,
    buffer: Block,
    content: std::ops::Range<usize>,
) -> Result<Vec<Subscribe>, Close> {
    let mut subscriptions = Vec::new();
    let base = buffer.as_ptr().addr();
    let mut homes: SmallVec<[(usize, (u16, u16)); 4]> = SmallVec::new();
    let mut refused = Vec::new();
    let mut forwarded = None;
    let mut batch_of = None;
    let format = Format::of_session(session.version);
    for parsed in parse_content(buffer.get(content).unwrap_or_default(), format) {
        match parsed {
            Ok(transmission) => {
                let start = transmission.bytes.as_ptr().addr() - base;
                let (Ok(start), Ok(len)) = (u16::try_from(start), u16::try_from(transmission.bytes.len()))
                else {
                    return Err(Close::BadBlock);
                };
                let refuse = |refused: &mut Vec<u8>, error: ErrorType| {
                    let bad = transmission.refused(error);
                    shard.counters.error(&bad.error);
                    append(refused, session, bad.corr_id, bad.entity_id, &Response::Err(bad.error));
                };
                match services::subscription(session, &transmission) {
                    Some(Ok(subscribe)) => {
                        subscriptions.push(subscribe);
                        continue;
                    }
                    Some(Err(error)) => {
                        refuse(&mut refused, error);
                        continue;
                    }
                    None => {}
                }
                match relay::sort(shard, connection, session, &transmission) {
                    relay::Sorted::ForService => {
                        batch_of.get_or_insert_with(|| batch_count(shard, transmission.command));
                        homes.push((shard.home_of(&transmission, session.version), (start, len)));
                    }
                    // It fills its block.
                    relay::Sorted::Forwarded => forwarded = Some((start, len)),
                    relay::Sorted::Taken => {}
                    relay::Sorted::Refused(error) => refuse(&mut refused, error),
                }
            }
            Err(bad) => {
                shard.counters.error(&bad.error);
                append(&mut refused, session, bad.corr_id, bad.entity_id, &Response::Err(bad.error));
            }
        }
    }
    if !refused.is_empty() {
        connection.outbox.borrow_mut().push_responses(refused);
        connection.wake_writer();
    }
    if let Some(place) = forwarded {
        relay::receive(shard, connection, session, buffer, place);
        return Ok(subscriptions);
    }
    let Some(&(first_home, _)) = homes.first() else { return Ok(subscriptions) };
    if let Some(Some(batch_of)) = batch_of
        && homes.len() > 1
    {
        batch_of.add(1);
    }
    if homes.iter().all(|(home, _)| *home == first_home) {
        let transmissions = homes.into_iter().map(|(_, place)| place).collect();
        let data = BatchData::Block(buffer.detach());
        send(
            shard,
            connection,
            first_home,
            Batch { session: Arc::clone(session), data, transmissions, next: 0, forwarded: None },
        );
        return Ok(subscriptions);
    }
    while let Some(&(home, _)) = homes.first() {
        let mut bytes = Vec::new();
        let mut transmissions = SmallVec::new();
        homes.retain(|&mut (other, (start, len))| {
            if other == home {
                // Together they are not longer than the block.
                transmissions.push((u16::try_from(bytes.len()).unwrap_or(u16::MAX), len));
                let start = usize::from(start);
                bytes.extend_from_slice(&buffer[start..start + usize::from(len)]);
            }
            other != home
        });
        let data = BatchData::Copied(bytes.into_boxed_slice());
        let batch = Batch { session: Arc::clone(session), data, transmissions, next: 0, forwarded: None };
        send(shard, connection, home, batch);
    }
    Ok(subscriptions)
}

/// What counts blocks in which this command comes several times, as clients send it.
fn batch_count<'a>(shard: &'a Shard, command: &[u8]) -> Option<&'a Count> {
    match command {
        b"SUB" => Some(&shard.counters.subscribe_batches),
        b"NSUB" => Some(&shard.counters.notifier_subscribe_batches),
        b"DEL" => Some(&shard.counters.delete_batches),
        b"NDEL" => Some(&shard.counters.notifier_delete_batches),
        _ => None,
    }
}

/// Hands a batch to its home.
pub(super) fn send(shard: &Shard, connection: &Connection, home: usize, batch: Batch) {
    connection.in_flight.borrow_mut().push(shard.arena.charge());
    connection.note_home(home);
    shard.dispatch(home, Box::new(batch));
}
