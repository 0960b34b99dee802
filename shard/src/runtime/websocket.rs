//! Web clients: their HTTP request, and blocks as WebSocket messages.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::{
    KEY_UPDATE_RECORD_BYTES, RECORD_OVERHEAD_BYTES, SEALED_BLOCK_BYTES, TlsChannel, TlsError,
};
use ringpost_protocol::websocket::frame::{
    BLOCK_HEADER, CONTROL_BYTES_MAX, Event, FrameFault, FrameReader, close, pong,
};
use ringpost_protocol::websocket::http::{CHALLENGE_BYTES, Request, read_request, switching_protocols};

use super::connection::{Close, Connection};
use super::handshake::write_all;
use super::reader::{ASSEMBLED_AT, ReceivedBlock, Receiver};
use super::shard::Shard;
use crate::arena::Block;

/// RFC 6455, 7.4.1: the router stops.
const STATUS_GOING_AWAY: u16 = 1001;

/// The WebSocket of a connection.
#[derive(Debug, Default)]
pub struct WebSocket {
    frames: RefCell<FrameReader>,
    /// The answer to the newest ping. (RFC 6455, 5.5.3: older ones need none.) So pings do not pile up.
    pong: RefCell<Option<Vec<u8>>>,
    /// What the last frame is to say.
    status: Cell<Option<u16>>,
}

/// Room for what [`seal_block`] and [`WebSocket::seal_pong`] write for one block.
const SEALED_FRAMES_BYTES: usize = BLOCK_HEADER.len()
    + CONTROL_BYTES_MAX
    + 2
    + 2 * (RECORD_OVERHEAD_BYTES + KEY_UPDATE_RECORD_BYTES)
    + SEALED_BLOCK_BYTES
    + KEY_UPDATE_RECORD_BYTES;

/// How much room a write must have before another block is composed for this connection.
pub fn sealed_bytes_max(connection: &Connection) -> usize {
    match connection.websocket.get() {
        Some(_) => SEALED_FRAMES_BYTES,
        None => SEALED_BLOCK_BYTES + KEY_UPDATE_RECORD_BYTES,
    }
}

/// Seals a block, as a message where that is what the client expects. Gives the length of what is to be written.
///
/// The header of a message is a record of its own: in front of the block it would make two large ones of it.
pub fn seal_block(
    connection: &Connection,
    tls: &mut TlsChannel,
    block: &[u8; BLOCK_BYTES],
    out: &mut [u8],
) -> Result<usize, TlsError> {
    let header = match connection.websocket.get() {
        Some(_) => tls.seal(&BLOCK_HEADER, out)?,
        None => 0,
    };
    Ok(header + tls.seal(block, out.get_mut(header..).unwrap_or_default())?)
}

impl WebSocket {
    pub fn has_pong(&self) -> bool {
        self.pong.borrow().is_some()
    }

    /// Seals the answer that is due, if any. Gives the length of what is to be written.
    pub fn seal_pong(&self, tls: &mut TlsChannel, out: &mut [u8]) -> Result<usize, TlsError> {
        match self.pong.borrow_mut().take() {
            Some(pong) => tls.seal(&pong, out),
            None => Ok(0),
        }
    }

    /// Whether a frame or a message has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        self.frames.borrow().is_partial()
    }

    /// The last frame.
    pub fn close_frame(&self, connection: &Connection) -> Vec<u8> {
        let stops = connection.ending.get().is_none();
        close(if stops { Some(STATUS_GOING_AWAY) } else { self.status.get() })
    }

    /// Ends the session with a frame that says why. What is under way is answered first.
    fn end(&self, connection: &Connection, reason: Close, status: Option<u16>) -> Close {
        self.status.set(status);
        connection.end(reason);
        reason
    }
}

/// Reads the request of a web client. If it asks for a WebSocket, makes the connection one and returns the challenge that
/// is to be signed. Anything else is answered, and is the end of the connection.
pub async fn upgrade(
    shard: &Shard,
    connection: &Connection,
    receiver: &mut Receiver,
) -> Result<Option<[u8; CHALLENGE_BYTES]>, Close> {
    let mut received = Vec::new();
    let (request, head_bytes) = loop {
        let (piece, range) = receiver.plaintext(shard, connection).await?;
        received.extend_from_slice(piece.get(range).unwrap_or_default());
        if let Some(found) = read_request(&received) {
            break found;
        }
    };
    match request {
        Request::WebSocket { accept, challenge } => {
            send(connection, &switching_protocols(&accept)).await?;
            // Nothing else sets it.
            let _ = connection.websocket.set(Box::default());
            shard.counters.websocket_upgrades.add(1);
            receiver.give_back(shard, received.get(head_bytes..).unwrap_or_default());
            Ok(challenge)
        }
        Request::Page(request) => {
            let response = shard.config.pages.answer(&request, now_secs());
            send(connection, &response.head).await?;
            // In pieces: a client that reads slowly holds one of them at a time.
            for piece in response.body.chunks(BLOCK_BYTES) {
                send(connection, piece).await?;
            }
            connection.end(Close::Http);
            Err(Close::Http)
        }
        Request::Refused(refusal) => {
            send(connection, &refusal.response(now_secs())).await?;
            connection.end(Close::Http);
            Err(Close::Http)
        }
    }
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

async fn send(connection: &Connection, plain: &[u8]) -> Result<(), Close> {
    let mut sealed = Vec::new();
    {
        let mut tls = connection.tls.borrow_mut();
        sealed.resize(tls.sealed_bytes(plain.len()), 0);
        tls.seal(plain, &mut sealed).map_err(|_| Close::HandshakeTls)?;
    }
    write_all(connection, &sealed).await
}

/// Opens records and takes the frames in them apart until a block is complete. None if more bytes are needed.
pub fn open_next(
    receiver: &mut Receiver,
    shard: &Shard,
    connection: &Connection,
    socket: &WebSocket,
) -> Result<Option<ReceivedBlock>, Close> {
    while let Some((mut piece, range)) = receiver.open_plaintext(shard, connection)? {
        let mut at = range.start;
        loop {
            let found = {
                let bytes = piece.get_mut(at..range.end).unwrap_or_default();
                socket.frames.borrow_mut().read(bytes)
            };
            let found = found
                .map_err(|fault: FrameFault| socket.end(connection, Close::BadFrame, Some(fault.status())))?;
            let from = at;
            at += found.consumed;
            match found.event {
                Event::Nothing => break,
                Event::Block { payload, last } => {
                    let place = from + payload.start..from + payload.end;
                    if let Some(block) = append(receiver, shard, &piece, place, last) {
                        if at < range.end {
                            receiver.surplus = Some((piece, at..range.end));
                        }
                        return Ok(Some(block));
                    }
                }
                Event::Ping(ping) => {
                    receiver.records = 0;
                    socket.pong.replace(Some(pong(&ping)));
                    connection.wake_writer();
                }
                Event::Close(status) => return Err(socket.end(connection, Close::ByPeer, status)),
            }
        }
    }
    Ok(None)
}

/// Adds a part of a message to the block that is being assembled, which is given when it is complete. That messages are
/// as long as blocks the frames have seen to.
fn append(
    receiver: &mut Receiver,
    shard: &Shard,
    from: &Block,
    range: Range<usize>,
    last: bool,
) -> Option<ReceivedBlock> {
    let (mut block, have) = receiver.assembly.take().unwrap_or_else(|| (shard.arena.lend_above_cap(), 0));
    let to = ASSEMBLED_AT + have..ASSEMBLED_AT + have + range.len();
    let filled = have + range.len();
    if let (Some(to), Some(from)) = (block.get_mut(to), from.get(range)) {
        to.copy_from_slice(from);
    }
    if last {
        return Some(ReceivedBlock { buffer: block, at: ASSEMBLED_AT });
    }
    receiver.assembly = Some((block, filled));
    None
}
