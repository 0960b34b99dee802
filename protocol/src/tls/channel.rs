//! One TLS connection, of either side: bytes in, bytes out.

use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, ServerConfig};

use super::SessionId;
use super::error::TlsError;
use super::finished::watch;
use super::record::record_bytes;
use super::traffic::{KeySource, Traffic};

/// A TLS connection.
///
/// First [`handshake`](Self::handshake) until it is done, then [`open`](Self::open) and [`seal`](Self::seal). The
/// caller owns all memory for bytes of the connection; for incoming bytes it must be able to hold
/// [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX). When such memory is full and nothing of it is consumed, the peer is
/// to be dropped.
///
/// An established channel takes about a kilobyte.
pub struct TlsChannel {
    state: State,
    session_id: Option<SessionId>,
    alpn: Option<Box<[u8]>>,
    peer_certificates: Vec<CertificateDer<'static>>,
}

/// Boxed, so that a channel is small and each state's memory goes with it.
enum State {
    Handshaking(Box<Handshaking>),
    Established(Box<Traffic>),
    Failed,
}

/// What [`TlsChannel::handshake`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// These bytes at the front of the incoming ones are done with. The others must be given again, unchanged,
    /// with more behind them.
    pub consumed: usize,
    /// The handshake is complete. What is left of the incoming bytes is for [`TlsChannel::open`].
    pub done: bool,
}

/// What [`TlsChannel::open`] found. `consumed` bytes at the front of the incoming ones are done with (after the use
/// of the payload, which lies in them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Application data, at least one byte: `incoming[payload]` is clear text now.
    Data { consumed: usize, payload: Range<usize> },
    /// There is no whole record of application data.
    Incomplete { consumed: usize },
    /// The peer sends nothing more. Everything that it sent has been seen: the stream was not cut.
    Closed { consumed: usize },
}

impl TlsChannel {
    /// A router's side. The configuration must allow extraction of secrets and have the provider of this crate, as
    /// those of [`super::config`] do.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        if !config.enable_secret_extraction {
            return Err(NO_EXTRACTION);
        }
        Ok(Self::new(Connection::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// A client's side. Clients of SMP have no name for the server: [`super::no_server_name`].
    pub fn client(config: Arc<ClientConfig>, server_name: ServerName<'static>) -> Result<Self, TlsError> {
        if !config.enable_secret_extraction {
            return Err(NO_EXTRACTION);
        }
        Ok(Self::new(Connection::Client(UnbufferedClientConnection::new(config, server_name)?)))
    }

    fn new(connection: Connection) -> Self {
        let handshaking = Handshaking { connection, presented: 0, finished: None };
        Self {
            state: State::Handshaking(Box::new(handshaking)),
            session_id: None,
            alpn: None,
            peer_certificates: Vec::new(),
        }
    }

    /// Takes the handshake as far as the incoming bytes allow and appends what must be sent to `outgoing`: on errors
    /// too, when there is an alert to send. A client's first call, without incoming bytes, makes its first message.
    ///
    /// Records are opened in place. What is not consumed must be given again as this call left it.
    pub fn handshake(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> Result<Handshake, TlsError> {
        let handshaking = match &mut self.state {
            State::Handshaking(handshaking) => handshaking,
            State::Established(_) => return Ok(Handshake { consumed: 0, done: true }),
            State::Failed => return Err(TlsError::Ended),
        };
        match handshaking.advance(incoming, outgoing) {
            Ok(progress) => {
                if progress.done {
                    self.establish()?;
                }
                Ok(progress)
            }
            Err(error) => {
                handshaking.take_alerts(outgoing);
                self.state = State::Failed;
                Err(error)
            }
        }
    }

    /// Replaces the handshake's state by what is needed afterwards. On an error the channel has failed.
    fn establish(&mut self) -> Result<(), TlsError> {
        let State::Handshaking(handshaking) = mem::replace(&mut self.state, State::Failed) else {
            return Err(TlsError::Impossible("no handshake to complete"));
        };
        let finished = handshaking.finished;
        self.session_id = Some(finished.ok_or(TlsError::Configuration("the provider is not this crate's"))?);
        let common = handshaking.connection.common();
        self.alpn = common.alpn_protocol().map(Box::from);
        self.peer_certificates = common.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        let (secrets, keys) = match handshaking.connection {
            Connection::Server(connection) => {
                let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
                (secrets, KeySource::Server(keys))
            }
            Connection::Client(connection) => {
                let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
                (secrets, KeySource::Client(keys))
            }
        };
        self.state = State::Established(Box::new(Traffic::new(secrets, keys)?));
        Ok(())
    }

    /// Opens the first record of application data in place and says where in `incoming` the clear text lies. Other
    /// records in front of it are dealt with on the way.
    ///
    /// A peer may split a block over several records; putting it together is the caller's part. A key update that the
    /// peer asks for is answered by the next [`seal`](Self::seal), as RFC 8446, 4.6.3 has it. After an error the
    /// channel is of no more use than for [`close_notify`](Self::close_notify).
    pub fn open(&mut self, incoming: &mut [u8]) -> Result<Opened, TlsError> {
        self.established()?.open(incoming)
    }

    /// How many bytes [`seal`](Self::seal) would write now: a block of 16,384 bytes makes one record of
    /// [`SEALED_BLOCK_BYTES`](super::SEALED_BLOCK_BYTES), and rarely a key update of
    /// [`KEY_UPDATE_RECORD_BYTES`](super::KEY_UPDATE_RECORD_BYTES) comes in front.
    pub fn sealed_bytes(&self, plain_bytes: usize) -> usize {
        match &self.state {
            State::Established(traffic) => traffic.sealed_bytes(plain_bytes),
            _ => 0,
        }
    }

    /// Copies application data into `out` as records and returns their length. They must be sent in the order in
    /// which they were sealed. When `out` is too small nothing has happened, and the error says what is needed.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        self.established()?.seal(plain, out)
    }

    /// Makes a record of the application data that stands in `buffer` behind
    /// [`RECORD_HEADER_BYTES`](super::RECORD_HEADER_BYTES) free bytes, without a copy: header in front of it, tag
    /// behind. `buffer` must have [`RECORD_OVERHEAD_BYTES`](super::RECORD_OVERHEAD_BYTES) more than `plain_bytes`,
    /// which is at most 16,384. Returns the record's length. What it appends to `ahead` (rarely, a key update) must
    /// be sent before the record.
    pub fn seal_in_place(
        &mut self,
        buffer: &mut [u8],
        plain_bytes: usize,
        ahead: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        self.established()?.seal_in_place(buffer, plain_bytes, ahead)
    }

    /// Ends this side of the connection and appends the alert that says so to `out`: `close_notify`, or after an
    /// error of [`open`](Self::open) the alert for it. Nothing can be sealed after it. Nothing is appended when the
    /// handshake is not complete, or when the end was said before.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.state {
            State::Established(traffic) => traffic.close(out),
            State::Handshaking(_) | State::Failed => {
                self.state = State::Failed;
                Ok(())
            }
        }
    }

    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// The session identifier, from the end of the handshake on.
    pub fn session_id(&self) -> Option<SessionId> {
        self.session_id
    }

    /// The protocol name that both sides agreed on, if they did.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The peer's chain, leaf first, from the end of the handshake on: verified on the client's side.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.peer_certificates
    }

    /// For tests that make records which no channel makes.
    #[cfg(test)]
    pub(super) fn traffic(&mut self) -> &mut Traffic {
        self.established().unwrap_or_else(|error| panic!("{error}"))
    }

    fn established(&mut self) -> Result<&mut Traffic, TlsError> {
        match &mut self.state {
            State::Established(traffic) => Ok(traffic),
            State::Handshaking(_) => Err(TlsError::NotEstablished),
            State::Failed => Err(TlsError::Ended),
        }
    }
}

impl fmt::Debug for TlsChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Handshaking(_) => "handshaking",
            State::Established(_) => "established",
            State::Failed => "failed",
        };
        let mut debug = f.debug_struct("TlsChannel");
        debug.field("state", &state).field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

const NO_EXTRACTION: TlsError = TlsError::Configuration("secret extraction is not enabled");

enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Connection {
    fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }
}

struct Handshaking {
    connection: Connection,
    /// Bytes at the front of the incoming ones that rustls has seen and not discarded: it remembers positions in
    /// them, so they must be given again.
    presented: usize,
    /// The last `Finished` tag so far.
    finished: Option<SessionId>,
}

/// What rustls wants after one call.
enum Step {
    /// To be called again, at once.
    Again,
    /// More bytes, or nothing.
    Idle,
}

impl Handshaking {
    /// Records are given to rustls one at a time: it would go on into application data behind the handshake.
    fn advance(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> Result<Handshake, TlsError> {
        let given = incoming.len();
        let mut consumed = 0;
        // Bytes of an incomplete record, shown once because a wrong header is an error at once.
        let mut incomplete = 0;
        let mut incomplete_shown = false;
        loop {
            let end = consumed + self.presented + incomplete;
            let bytes = incoming
                .get_mut(consumed..end)
                .ok_or(TlsError::BufferTooSmall { required: self.presented, given })?;
            let (discard, step) = self.step(bytes, outgoing);
            let step = step?;
            consumed += discard;
            self.presented = self.presented.saturating_sub(discard);
            if matches!(step, Step::Again) {
                continue;
            }
            let common = self.connection.common();
            if !common.is_handshaking() && !common.wants_write() {
                return Ok(Handshake { consumed, done: true });
            }
            let rest = incoming.get(consumed + self.presented..).unwrap_or_default();
            match record_bytes(rest) {
                Some(length) if length <= rest.len() => {
                    self.presented += length;
                    incomplete = 0;
                }
                Some(_) if !incomplete_shown => {
                    incomplete = rest.len();
                    incomplete_shown = true;
                }
                _ => return Ok(Handshake { consumed, done: false }),
            }
        }
    }

    /// One call into rustls. Returns how many bytes it discards.
    fn step(&mut self, bytes: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, Result<Step, TlsError>) {
        let ((discard, step), finished) = match &mut self.connection {
            Connection::Server(connection) => {
                watch(|| handle(connection.process_tls_records(bytes), outgoing))
            }
            Connection::Client(connection) => {
                watch(|| handle(connection.process_tls_records(bytes), outgoing))
            }
        };
        if finished.is_some() {
            self.finished = finished;
        }
        (discard, step)
    }

    /// After an error: what rustls has to say to the peer about it.
    fn take_alerts(&mut self, outgoing: &mut Vec<u8>) {
        while self.connection.common().wants_write() {
            if !matches!(self.step(&mut [], outgoing), (_, Ok(Step::Again))) {
                return;
            }
        }
    }
}

fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Step, TlsError>) {
    let step = match status.state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::EncodeTlsData(mut record)) => {
            append(outgoing, |out| record.encode(out)).map(|()| Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(transmission)) => {
            transmission.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(Step::Idle),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(TlsError::ClosedInHandshake),
        Ok(_) => Err(TlsError::Impossible("application data before the end of the handshake")),
    };
    (status.discard, step)
}

/// Asks for the size first, then has it written.
fn append(
    outgoing: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), TlsError> {
    let required = match encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(TlsError::Impossible("a record was lost")),
    };
    let start = outgoing.len();
    outgoing.resize(start + required, 0);
    let written = encode(outgoing.get_mut(start..).unwrap_or_default());
    let written = written.map_err(|_| TlsError::Impossible("a record of changing size"))?;
    outgoing.truncate(start + written);
    Ok(())
}
