//! TLS over a blocking socket with time limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ringpost_protocol::handshake::HandshakeFailure;
use ringpost_protocol::tls::{Opened, TlsChannel, TlsError, no_server_name};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{Domain, Socket, Type};
use tungstenite::Message;
use tungstenite::protocol::WebSocketContext;

use super::DEADLINE;
use super::web::{Pipe, ended};

/// Why nothing more comes.
#[derive(Debug, PartialEq)]
pub enum Ended {
    /// The other side has closed or reset the connection.
    Closed,
    Timeout,
    Tls(TlsError),
    /// The router has told a service that it is refused.
    Refused(HandshakeFailure),
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Timeout,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::NotConnected => Self::Closed,
            _ => panic!("{error}"),
        }
    }
}

impl From<TlsError> for Ended {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// A connection without TLS. Its receive buffer is small where the router is to feel a slow reader soon.
pub fn connect(address: SocketAddr, receive_buffer_bytes: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    socket.connect_timeout(&address.into(), DEADLINE).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads until the other side closes; gives what came.
pub fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part).map_err(Ended::from) {
            Ok(0) | Err(Ended::Closed) => return bytes,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(other) => panic!("the connection was not closed: {other:?}"),
        }
    }
}

/// Ends a connection with a reset instead of a close.
pub fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub struct TlsStream {
    pub socket: TcpStream,
    pub channel: TlsChannel,
    incoming: Vec<u8>,
    /// Application data that a WebSocket has not taken yet.
    pub plain: Vec<u8>,
    /// Where this is one, what is read and written are its binary messages.
    pub websocket: Option<Box<WebSocketContext>>,
    /// Payloads of pongs that came.
    pub pongs: Vec<Vec<u8>>,
    /// The status of the router's close frame, once it came: 1005 if it had none.
    pub closed_with: Option<u16>,
}

impl TlsStream {
    /// Connects and completes the TLS handshake.
    pub fn connect(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        receive_buffer_bytes: Option<usize>,
    ) -> Result<Self, Ended> {
        Self::connect_to(address, config, no_server_name(), receive_buffer_bytes)
    }

    /// The same with a server name.
    pub fn connect_to(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        receive_buffer_bytes: Option<usize>,
    ) -> Result<Self, Ended> {
        let socket = connect(address, receive_buffer_bytes);
        let channel = TlsChannel::client(config, name)?;
        let mut stream = Self {
            socket,
            channel,
            incoming: Vec::new(),
            plain: Vec::new(),
            websocket: None,
            pongs: Vec::new(),
            closed_with: None,
        };
        let mut outgoing = Vec::new();
        loop {
            let progress = stream.channel.handshake(&mut stream.incoming, &mut outgoing);
            // On an error this is the alert; the router may be gone already.
            let written = stream.write_bytes(&std::mem::take(&mut outgoing));
            let progress = progress?;
            written?;
            stream.incoming.drain(..progress.consumed);
            if progress.done {
                return Ok(stream);
            }
            stream.read_socket()?;
        }
    }

    fn read_socket(&mut self) -> Result<(), Ended> {
        let have = self.incoming.len();
        self.incoming.resize(have + (64 << 10), 0);
        let read = self.socket.read(&mut self.incoming[have..]);
        self.incoming.truncate(have + *read.as_ref().unwrap_or(&0));
        if read? == 0 { Err(Ended::Closed) } else { Ok(()) }
    }

    /// TLS records of this application data.
    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut records = vec![0; self.channel.sealed_bytes(plain.len())];
        let length = self.channel.seal(plain, &mut records).unwrap();
        records.truncate(length);
        records
    }

    pub fn write(&mut self, plain: &[u8]) -> Result<(), Ended> {
        if self.websocket.is_some() {
            return self.write_message(Message::Binary(plain.to_vec().into()));
        }
        self.write_plain(plain)
    }

    pub fn write_message(&mut self, message: Message) -> Result<(), Ended> {
        let mut socket = self.websocket.take().unwrap();
        let mut pipe = Pipe(self);
        let written = socket.write(&mut pipe, message).and_then(|()| socket.flush(&mut pipe));
        self.websocket = Some(socket);
        written.map_err(|error| ended(&error))
    }

    /// Application data, whatever it is.
    pub fn write_plain(&mut self, plain: &[u8]) -> Result<(), Ended> {
        let records = self.seal(plain);
        self.write_bytes(&records)
    }

    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// The next application data: at least one byte, or a message.
    pub fn read(&mut self) -> Result<Vec<u8>, Ended> {
        if self.websocket.is_some() { self.read_message() } else { self.read_plain() }
    }

    fn read_message(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            let mut socket = self.websocket.take().unwrap();
            let message = socket.read(&mut Pipe(self));
            self.websocket = Some(socket);
            match message.map_err(|error| ended(&error))? {
                Message::Binary(message) => return Ok(message.to_vec()),
                Message::Pong(payload) => self.pongs.push(payload.to_vec()),
                Message::Close(frame) => {
                    self.closed_with = Some(frame.map_or(1005, |frame| frame.code.into()));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn read_plain(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            let (consumed, found) = match self.channel.open(&mut self.incoming)? {
                Opened::Data { consumed, payload } => (consumed, Some(self.incoming[payload].to_vec())),
                Opened::Incomplete { consumed } => (consumed, None),
                Opened::Closed { .. } => return Err(Ended::Closed),
            };
            self.incoming.drain(..consumed);
            match found {
                Some(data) => return Ok(data),
                None => self.read_socket()?,
            }
        }
    }

    pub fn set_read_timeout(&self, limit: Duration) {
        self.socket.set_read_timeout(Some(limit)).unwrap();
    }
}
