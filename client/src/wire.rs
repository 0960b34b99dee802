//! The bytes of a connection: TLS records, and the blocks in them. No I/O: [`crate::driver`] moves the bytes.

use ringpost_protocol::crypto::BlockCipher;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::{Opened, RECORD_HEADER_BYTES, SEALED_BLOCK_BYTES, TlsChannel};
use ringpost_protocol::transmission::BlockBuilder;

use crate::error::{Disconnect, ProtocolFault, TransportFault};
use crate::request::Transmission;
use crate::session::Session;

/// Room made for reading: a few records with one call to the system.
const READ_BYTES: usize = 4 * SEALED_BLOCK_BYTES;

/// What lies in the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    Block(T),
    /// No whole block.
    Incomplete,
    /// The router ended the connection in order.
    Closed,
}

/// Whole blocks in TLS records. An idle connection holds no buffer.
pub(crate) struct Records {
    tls: TlsChannel,
    /// Bytes from the network; those before `incoming_start` are done with.
    incoming: Vec<u8>,
    incoming_start: usize,
    /// A block that came in several records.
    partial: Vec<u8>,
    /// Records for the network; those before `outgoing_start` are sent.
    outgoing: Vec<u8>,
    outgoing_start: usize,
}

impl Records {
    /// `tls` is established. `incoming` is what was received behind its handshake.
    pub(crate) fn new(tls: TlsChannel, incoming: Vec<u8>) -> Self {
        Self {
            tls,
            incoming,
            incoming_start: 0,
            partial: Vec::new(),
            outgoing: Vec::new(),
            outgoing_start: 0,
        }
    }

    pub(crate) fn tls(&self) -> &TlsChannel {
        &self.tls
    }

    /// Where to read bytes from the network to: append to it.
    pub(crate) fn incoming_room(&mut self) -> &mut Vec<u8> {
        if self.incoming_start > 0 {
            self.incoming.drain(..self.incoming_start);
            self.incoming_start = 0;
        }
        self.incoming.reserve(READ_BYTES);
        &mut self.incoming
    }

    /// The next block, as it was sealed by the router, in its place.
    pub(crate) fn next_block(&mut self) -> Result<Next<&mut [u8]>, Disconnect> {
        if self.partial.len() == BLOCK_BYTES {
            // Given out by the call before.
            self.partial = Vec::new();
        }
        loop {
            let start = self.incoming_start;
            let incoming = self.incoming.get_mut(start..).unwrap_or_default();
            match self.tls.open(incoming).map_err(|error| local(&error))? {
                Opened::Data { consumed, payload } => {
                    self.incoming_start += consumed;
                    let payload = start + payload.start..start + payload.end;
                    // One block is one record, unless the router does it in its own way.
                    if self.partial.is_empty() && payload.len() == BLOCK_BYTES {
                        return Ok(Next::Block(self.incoming.get_mut(payload).unwrap_or_default()));
                    }
                    let payload = self.incoming.get(payload).unwrap_or_default();
                    if self.partial.len() + payload.len() > BLOCK_BYTES {
                        return Err(
                            ProtocolFault::Block("a record with parts of two blocks".to_owned()).into()
                        );
                    }
                    self.partial.extend_from_slice(payload);
                    if self.partial.len() == BLOCK_BYTES {
                        return Ok(Next::Block(&mut self.partial));
                    }
                }
                Opened::Incomplete { consumed } => {
                    self.incoming_start += consumed;
                    if self.incoming_start == self.incoming.len() {
                        self.incoming = Vec::new();
                        self.incoming_start = 0;
                    }
                    return Ok(Next::Incomplete);
                }
                Opened::Closed { .. } => return Ok(Next::Closed),
            }
        }
    }

    /// Makes a block by `fill` where it will be sent from, and seals it there.
    pub(crate) fn push_block(
        &mut self,
        fill: impl FnOnce(&mut [u8; BLOCK_BYTES]) -> Result<(), Disconnect>,
    ) -> Result<(), Disconnect> {
        let start = self.outgoing.len();
        self.outgoing.resize(start + SEALED_BLOCK_BYTES, 0);
        let record = self.outgoing.get_mut(start..).unwrap_or_default();
        let block = record.get_mut(RECORD_HEADER_BYTES..).and_then(|rest| rest.first_chunk_mut());
        fill(block.ok_or_else(|| TransportFault::Tls("a record shorter than a block".to_owned()))?)?;
        let mut ahead = Vec::new();
        let sealed =
            self.tls.seal_in_place(record, BLOCK_BYTES, &mut ahead).map_err(|error| local(&error))?;
        self.outgoing.truncate(start + sealed);
        if !ahead.is_empty() {
            self.outgoing.splice(start..start, ahead);
        }
        Ok(())
    }

    /// Says to the router that this is the end.
    pub(crate) fn close(&mut self) {
        // Nothing more can be done about a connection that cannot even be closed.
        let _ = self.tls.close_notify(&mut self.outgoing);
    }

    /// Bytes for the network.
    pub(crate) fn outgoing(&self) -> &[u8] {
        self.outgoing.get(self.outgoing_start..).unwrap_or_default()
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        self.outgoing_start < self.outgoing.len()
    }

    /// So many bytes of [`Records::outgoing`] were sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.outgoing_start += bytes;
        if !self.has_outgoing() {
            self.outgoing.clear();
            self.outgoing_start = 0;
        }
    }

    /// Gives the memory for sending back.
    pub(crate) fn release(&mut self) {
        if !self.has_outgoing() {
            self.outgoing = Vec::new();
            self.outgoing_start = 0;
        }
    }
}

/// The blocks of a session: encrypted inside TLS if that was agreed.
pub(crate) struct Wire {
    pub(crate) records: Records,
    cipher: BlockCipher,
}

impl Wire {
    pub(crate) fn new(records: Records, cipher: BlockCipher) -> Self {
        Self { records, cipher }
    }

    /// The content of the next block.
    pub(crate) fn next(&mut self) -> Result<Next<&[u8]>, Disconnect> {
        Ok(match self.records.next_block()? {
            Next::Block(block) => {
                let content =
                    self.cipher.open(block).map_err(|error| ProtocolFault::Block(error.to_string()))?;
                Next::Block(block.get(content).unwrap_or_default())
            }
            Next::Incomplete => Next::Incomplete,
            Next::Closed => Next::Closed,
        })
    }

    /// Makes one block of these transmissions, which must fit.
    pub(crate) fn push<'t>(
        &mut self,
        session: &Session,
        transmissions: impl Iterator<Item = &'t Transmission>,
    ) -> Result<(), Disconnect> {
        let cipher = &mut self.cipher;
        self.records.push_block(|block| {
            let place = block.get_mut(cipher.content_offset()..).unwrap_or_default();
            let mut content = BlockBuilder::new(place, session.format, session.id());
            for transmission in transmissions {
                content.push_transmission(transmission.as_bytes()).map_err(|error| local(&error))?;
            }
            let content_bytes = content.content_bytes();
            cipher.seal(block, content_bytes).map_err(|error| local(&error))
        })
    }
}

/// Only the message matters to the caller of the library.
fn local(error: &dyn std::error::Error) -> Disconnect {
    TransportFault::Tls(error.to_string()).into()
}
