//! TLS over a blocking socket with time limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ringpost_protocol::tls::{Opened, TlsChannel, TlsError, no_server_name};
use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use super::DEADLINE;

/// Why nothing more comes.
#[derive(Debug, PartialEq)]
pub enum Ended {
    /// The other side has closed or reset the connection.
    Closed,
    Timeout,
    Tls(TlsError),
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
}

impl TlsStream {
    /// Connects and completes the TLS handshake.
    pub fn connect(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        receive_buffer_bytes: Option<usize>,
    ) -> Result<Self, Ended> {
        let socket = connect(address, receive_buffer_bytes);
        let channel = TlsChannel::client(config, no_server_name())?;
        let mut stream = Self { socket, channel, incoming: Vec::new() };
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
        let records = self.seal(plain);
        self.write_bytes(&records)
    }

    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// The next application data: at least one byte.
    pub fn read(&mut self) -> Result<Vec<u8>, Ended> {
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
