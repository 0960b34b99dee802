//! From an address to a connection: TCP, TLS, SMP handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use ringpost_protocol::address::{Host, RouterAddress, Scheme};
use ringpost_protocol::certificate::VerifyingKey;
use ringpost_protocol::certificate::chain::{Certificate, ChainError};
use ringpost_protocol::crypto::{BlockCipher, DhPrivateKey};
use ringpost_protocol::handshake::{
    ClientHandshake, ClientSession, HandshakeFailure, ServiceCredentials, read_service_response,
};
use ringpost_protocol::tls::config::service_client_config;
use ringpost_protocol::tls::{
    RECORD_BYTES_MAX, SessionId, TlsChannel, TlsError, client_config, no_server_name,
};
use ringpost_protocol::transmission::Format;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::config::ClientConfig;
use crate::driver::Driver;
use crate::error::{ConnectError, Disconnect, TransportFault};
use crate::event::Events;
use crate::id::EntityId;
use crate::queue::{Authorizer, KeyKind, random};
use crate::session::{Service, Session};
use crate::wire::{Next, Records, Wire};

/// Makes connections.
#[derive(Debug)]
pub struct Connection;

impl Connection {
    /// Connects to the first host of the address that can be reached, checks that the router has the identity of the
    /// address, and agrees the protocol version and keys. The connection runs in a task of its own.
    pub async fn connect(
        address: &RouterAddress,
        config: ClientConfig,
    ) -> Result<(Client, Events), ConnectError> {
        if address.scheme != Scheme::Smp {
            return Err(ConnectError::Scheme);
        }
        let hash = address.router.key_hash.as_bytes();
        let identity = <[u8; 32]>::try_from(hash).map_err(|_| ConnectError::KeyHash(hash.len()))?;
        let connecting = async {
            let mut stream = tcp(address, config.local_ip).await?;
            let mut records = tls(&mut stream, identity, config.service.as_deref()).await?;
            let (agreed, service) = agree(&mut stream, &mut records, identity, &config).await?;
            Ok((stream, records, agreed, service))
        };
        let (stream, records, agreed, service) = tokio::time::timeout(config.connect_timeout, connecting)
            .await
            .map_err(|_| ConnectError::Timeout(config.connect_timeout))??;

        let cipher = match &agreed.secret {
            Some(secret) if agreed.block_encryption => {
                BlockCipher::client(agreed.session_id.as_ref(), secret)
            }
            _ => BlockCipher::plain(),
        };
        let session = Arc::new(Session {
            format: Format::of_session(agreed.version),
            id: agreed.session_id,
            router_key: agreed.router_key.map(|key| key.key),
            encrypted_blocks: agreed.block_encryption,
            basic_auth: address.password.as_ref().map(|password| password.as_str().as_bytes().to_vec()),
            service,
        });
        let (commands, outgoing) = mpsc::channel(config.queued_commands_max.max(1));
        let (sender, receiver) = mpsc::channel(config.events_max.max(1));
        let ended = Arc::new(OnceLock::new());
        let client = Client::new(
            Arc::clone(&session),
            commands,
            Arc::clone(&ended),
            config.command_timeout,
            config.recipient_key,
        );
        let wire = Wire::new(records, cipher);
        tokio::spawn(Driver::new(stream, wire, session, outgoing, sender, ended, &config).run());
        Ok((client, Events { receiver }))
    }
}

/// Tries the hosts in the order of the address, and each of their IP addresses.
async fn tcp(address: &RouterAddress, local_ip: Option<IpAddr>) -> Result<TcpStream, ConnectError> {
    let mut failure = ConnectError::NoHost;
    for host in address.router.hosts.as_slice() {
        let port = address.port();
        let resolved: io::Result<Vec<SocketAddr>> = match host {
            Host::Ipv4(ip) => Ok(vec![(*ip, port).into()]),
            Host::Ipv6(ip) => Ok(vec![(*ip, port).into()]),
            Host::Domain(name) => lookup_host((name.as_str(), port)).await.map(Iterator::collect),
            Host::Onion(_) => continue,
        };
        let failed = |error| ConnectError::Network { host: format!("{host}:{port}"), error };
        match resolved {
            Err(error) => failure = failed(error),
            Ok(resolved) => {
                for remote in resolved {
                    match tcp_to(remote, local_ip).await {
                        Ok(stream) => return Ok(stream),
                        Err(error) => failure = failed(error),
                    }
                }
            }
        }
    }
    Err(failure)
}

async fn tcp_to(remote: SocketAddr, local_ip: Option<IpAddr>) -> io::Result<TcpStream> {
    let stream = match local_ip {
        None => TcpStream::connect(remote).await?,
        Some(ip) => {
            let socket = if ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind((ip, 0).into())?;
            socket.connect(remote).await?
        }
    };
    // Blocks are written whole: waiting for more would only delay them.
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn tls(
    stream: &mut TcpStream,
    identity: [u8; 32],
    service: Option<&ServiceCredentials>,
) -> Result<Records, ConnectError> {
    let config = match service {
        Some(service) => service_client_config(identity, service),
        None => client_config(identity),
    };
    let config = config.map_err(|error| tls_error(&error))?;
    let mut tls = TlsChannel::client(config, no_server_name()).map_err(|error| tls_error(&error))?;
    let mut incoming = Vec::with_capacity(RECORD_BYTES_MAX);
    let mut outgoing = Vec::new();
    loop {
        let step = tls.handshake(&mut incoming, &mut outgoing);
        // On an error too: that is the alert.
        let written = stream.write_all(&outgoing).await;
        let step = step.map_err(|error| tls_error(&error))?;
        written.map_err(|error| handshake_io(&error))?;
        outgoing.clear();
        incoming.drain(..step.consumed);
        if step.done {
            return Ok(Records::new(tls, incoming));
        }
        // A router's certificates come in one record or few: far less than two of the longest.
        if incoming.len() >= 2 * RECORD_BYTES_MAX {
            return Err(ConnectError::Tls("a handshake message that is too long".to_owned()));
        }
        incoming.reserve(RECORD_BYTES_MAX);
        if stream.read_buf(&mut incoming).await.map_err(|error| handshake_io(&error))? == 0 {
            return Err(ConnectError::ClosedByRouter);
        }
    }
}

/// Exchanges the hello blocks.
async fn agree(
    stream: &mut TcpStream,
    records: &mut Records,
    identity: [u8; 32],
    config: &ClientConfig,
) -> Result<(ClientSession, Option<Service>), ConnectError> {
    let no_randomness = |error: getrandom::Error| ConnectError::Randomness(error.to_string());
    let session_private_key = if config.block_encryption {
        Some(DhPrivateKey::from_bytes(random().map_err(no_randomness)?))
    } else {
        None
    };
    let service_key = KeyKind::Ed25519.generate().map_err(no_randomness)?;
    let signed_key = config.service.as_ref().map(|service| service.sign(&service_key));
    let refused = |failure: HandshakeFailure| ConnectError::Handshake(failure.to_string());
    let (session_id, leaf_key) =
        peer(records.tls()).ok_or_else(|| ConnectError::Tls("no certificate".to_owned()))?;
    let handshake = ClientHandshake {
        versions: config.versions,
        session_id,
        identity,
        leaf_key: &leaf_key,
        session_private_key,
        proxy: false,
        service: config
            .service
            .as_deref()
            .zip(signed_key.as_deref())
            .map(|(service, key)| service.hello(key)),
    };
    let hello = block(stream, records).await?;
    let mut agreed = None;
    records
        .push_block(|block| {
            agreed = Some(handshake.router_hello(&hello, block));
            Ok(())
        })
        .map_err(ended)?;
    let agreed = agreed.ok_or(ConnectError::ClosedByRouter)?.map_err(refused)?;
    stream.write_all(records.outgoing()).await.map_err(|error| handshake_io(&error))?;
    records.sent(records.outgoing().len());
    records.release();
    let service = match &config.service {
        Some(credentials) if agreed.service_sent => {
            let response = block(stream, records).await?;
            let id = read_service_response(&response).map_err(refused)?;
            Some(Service {
                id: EntityId::new(id).ok_or_else(|| refused(HandshakeFailure::Parse))?,
                role: credentials.role,
                fingerprint: credentials.fingerprint().map_err(|_| refused(HandshakeFailure::BadAuth))?,
                key: Authorizer::new(service_key),
            })
        }
        _ => None,
    };
    Ok((agreed, service))
}

/// The next block of the handshake.
async fn block(stream: &mut TcpStream, records: &mut Records) -> Result<Vec<u8>, ConnectError> {
    loop {
        match records.next_block().map_err(ended)? {
            Next::Block(block) => return Ok(block.to_vec()),
            Next::Closed => return Err(ConnectError::ClosedByRouter),
            Next::Incomplete => {}
        }
        if stream.read_buf(records.incoming_room()).await.map_err(|error| handshake_io(&error))? == 0 {
            return Err(ConnectError::ClosedByRouter);
        }
    }
}

/// The session's identifier and the key of the router's leaf certificate.
fn peer(tls: &TlsChannel) -> Option<(SessionId, VerifyingKey)> {
    let leaf = Certificate::parse(tls.peer_certificates().first()?)?;
    Some((tls.session_id()?, leaf.verifying_key().ok()?))
}

fn tls_error(error: &TlsError) -> ConnectError {
    match error {
        TlsError::Identity(ChainError::Identity { .. }) => ConnectError::WrongIdentity,
        TlsError::ClosedInHandshake => ConnectError::ClosedByRouter,
        error => ConnectError::Tls(error.to_string()),
    }
}

/// The end of TCP in a handshake is the router's refusal, not a failure of the network.
fn handshake_io(error: &io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            ConnectError::ClosedByRouter
        }
        _ => ConnectError::Tls(error.to_string()),
    }
}

fn ended(reason: Disconnect) -> ConnectError {
    match reason {
        Disconnect::Transport(TransportFault::Tls(text)) => ConnectError::Tls(text),
        other => ConnectError::Handshake(other.to_string()),
    }
}
