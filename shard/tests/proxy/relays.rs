//! Relays that do as a test wants: other versions, answers that nobody expects, or none.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

use ringpost_protocol::address::Router;
use ringpost_protocol::command::Command;
use ringpost_protocol::crypto::{BoxKey, DhPrivateKey};
use ringpost_protocol::encoding::unpad;
use ringpost_protocol::error::{BrokerError, ErrorType, ProxyError, TransportError};
use ringpost_protocol::handshake::{RouterHandshake, RouterHello};
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::{Opened, TlsChannel, server_config};
use ringpost_protocol::transmission::{BlockBuilder, Format, parse_content};
use ringpost_protocol::version::{SmpVersion, VersionRange};
use ringpost_shard::proxy::Forwarded;

use crate::client::{RelaySession, address_of, broker};
use crate::common::{Client, DEADLINE, TestRouter, new_credentials};

/// A relay that serves one connection.
pub struct FakeRelay {
    pub address: Router,
    thread: JoinHandle<()>,
}

/// What it has agreed with the proxy.
pub struct FakeSession {
    socket: TcpStream,
    tls: TlsChannel,
    incoming: Vec<u8>,
    plain: Vec<u8>,
    pub version: SmpVersion,
    pub is_proxy: bool,
    pub encrypted_blocks: bool,
    key: Option<BoxKey>,
    session_key: DhPrivateKey,
}

impl FakeRelay {
    pub fn start(versions: (u16, u16), serve: impl FnOnce(FakeSession) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = address_of(port, &new_credentials(3).ca_fingerprint);
        let thread = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            serve(FakeSession::agree(socket, versions));
        });
        Self { address, thread }
    }

    pub fn join(self) {
        self.thread.join().unwrap();
    }
}

impl FakeSession {
    fn agree(mut socket: TcpStream, (min, max): (u16, u16)) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let credentials = new_credentials(3);
        let mut tls = TlsChannel::server(server_config(&credentials).unwrap()).unwrap();
        let mut incoming = Vec::new();
        loop {
            let mut outgoing = Vec::new();
            let progress = tls.handshake(&mut incoming, &mut outgoing).unwrap();
            socket.write_all(&outgoing).unwrap();
            incoming.drain(..progress.consumed);
            if progress.done {
                break;
            }
            let mut part = [0; 16_000];
            let count = socket.read(&mut part).unwrap();
            incoming.extend_from_slice(&part[..count]);
        }
        let hello = RouterHello {
            offered: VersionRange::new(SmpVersion(min), SmpVersion(max)).unwrap(),
            session_id: tls.session_id().unwrap(),
            credentials: &credentials,
            session_key: DhPrivateKey::from_bytes([77; 32]).into(),
            web_challenge: None,
        };
        let mut block = Box::new([0; BLOCK_BYTES]);
        let handshake = RouterHandshake::start(hello, &mut block).unwrap();
        let mut session = Self {
            socket,
            tls,
            incoming,
            plain: Vec::new(),
            version: SmpVersion(max),
            is_proxy: false,
            encrypted_blocks: false,
            key: None,
            session_key: DhPrivateKey::from_bytes([77; 32]),
        };
        session.write_block(&block[..]);
        let answer = session.read_block().unwrap();
        let agreed = handshake.client_hello(&answer).unwrap();
        session.version = agreed.version;
        session.is_proxy = agreed.proxy;
        session.encrypted_blocks = agreed.block_encryption;
        session.key = agreed.secret.map(|secret| secret.box_key());
        session
    }

    fn write_block(&mut self, block: &[u8]) {
        let mut sealed = vec![0; self.tls.sealed_bytes(block.len())];
        let length = self.tls.seal(block, &mut sealed).unwrap();
        self.socket.write_all(&sealed[..length]).unwrap();
    }

    /// None if the proxy has closed.
    pub fn read_block(&mut self) -> Option<Vec<u8>> {
        while self.plain.len() < BLOCK_BYTES {
            match self.tls.open(&mut self.incoming).unwrap() {
                Opened::Data { consumed, payload } => {
                    self.plain.extend_from_slice(&self.incoming[payload]);
                    self.incoming.drain(..consumed);
                }
                Opened::Incomplete { consumed } => {
                    self.incoming.drain(..consumed);
                    let mut part = [0; 16_000];
                    let count = self.socket.read(&mut part).ok()?;
                    if count == 0 {
                        return None;
                    }
                    self.incoming.extend_from_slice(&part[..count]);
                }
                Opened::Closed { .. } => return None,
            }
        }
        let rest = self.plain.split_off(BLOCK_BYTES);
        Some(std::mem::replace(&mut self.plain, rest))
    }

    /// Correlation ID and command of the only transmission of the next block.
    pub fn read_command(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let block = self.read_block()?;
        let content = unpad(&block).unwrap();
        let transmissions: Vec<_> = parse_content(content, Format::of_session(self.version)).collect();
        assert_eq!(transmissions.len(), 1);
        let only = transmissions[0].as_ref().unwrap();
        Some((only.corr_id.to_vec(), only.command.to_vec()))
    }

    /// Sends a block with one response, without block encryption.
    pub fn respond(&mut self, corr_id: &[u8], response: &Response<'_>) {
        let mut block = Box::new([0; BLOCK_BYTES]);
        let mut builder = BlockBuilder::new(&mut block[2..], Format::of_session(self.version), &[]);
        builder.push_response(corr_id, &[], response).unwrap();
        let length = builder.content_bytes();
        ringpost_protocol::encoding::pad_in_place(&mut block[..], length).unwrap();
        self.write_block(&block[..]);
    }

    /// Opens a RFWD and sends back the response that it is given, which has no IDs.
    pub fn answer_forwarded(&mut self, corr_id: &[u8], command: &[u8], response: &[u8]) {
        let mut sealed = command.strip_prefix(b"RFWD ").unwrap().to_vec();
        let key = self.key.clone().unwrap();
        let forwarded = Forwarded::open(&key, &self.session_key, corr_id, &mut sealed).unwrap();
        let mut transmission = vec![0, 0, 0, 0, 0];
        transmission.extend_from_slice(response);
        let length = u16::try_from(transmission.len() - 2).unwrap();
        transmission[..2].copy_from_slice(&length.to_be_bytes());
        let mut out = Vec::new();
        forwarded.reply.seal(&key, &transmission, &mut out).unwrap();
        // Without length, authorization, correlation ID and entity ID.
        let rres = Response::parse(self.version, &out[2 + 1 + 25 + 1..]).unwrap();
        self.respond(corr_id, &rres);
    }
}

/// The session that PKEY tells of, whose keys are those of fake relays.
#[track_caller]
pub fn fake_session(client: &mut Client, relay: &FakeRelay) -> Result<RelaySession, ErrorType> {
    let received = client.ask_for_session(&relay.address, None);
    if let Some(error) = received.error() {
        return Err(error);
    }
    let Response::Pkey { session_id, versions, .. } = received.response() else { panic!("{received:?}") };
    let key = DhPrivateKey::from_bytes([77; 32]).public();
    Ok(RelaySession { id: session_id.to_vec(), versions, key })
}

const LGET: Command<'_> = Command::LGet;

#[test]
fn versions_are_capped_as_in_the_reference() {
    let proxy = TestRouter::start(1);
    let mut client = Client::connect(&proxy);
    // Offered by the relay; agreed with the proxy; told to the client.
    for (offered, agreed, told) in [
        ((6, 19), 19, (8, 18)),
        ((6, 18), 18, (8, 18)),
        ((16, 19), 19, (16, 18)),
        ((6, 15), 15, (8, 15)),
        ((6, 14), 14, (8, 14)),
        // Below 14 nothing turns block encryption off, and it begins with 11.
        ((6, 13), 10, (8, 10)),
        ((6, 11), 10, (8, 10)),
        ((6, 8), 8, (8, 8)),
    ] {
        let (give, take) = mpsc::channel();
        let relay = FakeRelay::start(offered, move |mut session| {
            give.send((session.version.0, session.is_proxy, session.encrypted_blocks)).unwrap();
            if let Some((corr_id, command)) = session.read_command() {
                session.answer_forwarded(&corr_id, &command, b"OK");
            }
        });
        let session = fake_session(&mut client, &relay).unwrap();
        assert_eq!((session.versions.min().0, session.versions.max().0), told, "{offered:?}");
        // From 14 the relay is told that this is a proxy.
        assert_eq!(take.recv().unwrap(), (agreed, agreed >= 14, false), "{offered:?}");
        let response = client.forward(&session, told.1, None, &[1; 24], &LGET).unwrap();
        assert_eq!(response.response(), Response::Ok);
        relay.join();
    }
}

#[test]
fn relays_that_cannot_be_forwarded_to_are_refused() {
    let proxy = TestRouter::start(1);
    let mut client = Client::connect(&proxy);
    let version = broker(BrokerError::Transport(TransportError::Version));
    for offered in [(6, 7), (6, 6), (20, 30)] {
        let relay = FakeRelay::start(offered, |mut session| {
            session.read_block();
        });
        assert_eq!(fake_session(&mut client, &relay).err(), Some(version.clone()), "{offered:?}");
        // The thread of one whose handshake failed ends with a panic.
        drop(relay);
    }
    assert_eq!(proxy.counter("relay_errors_compat"), 2);
    assert_eq!(proxy.counter("relay_errors_other"), 1);
}

/// What a client is told when a relay answers RFWD with this.
fn told(answer: impl FnOnce(&mut FakeSession, &[u8], &[u8]) + Send + 'static) -> ErrorType {
    let proxy = TestRouter::start(1);
    let mut client = Client::connect(&proxy);
    let relay = FakeRelay::start((6, 19), |mut session| {
        let (corr_id, command) = session.read_command().unwrap();
        answer(&mut session, &corr_id, &command);
        session.read_block();
    });
    let session = fake_session(&mut client, &relay).unwrap();
    client.forward(&session, 17, None, &[1; 24], &LGET).expect_err("an error")
}

#[test]
fn wrong_answers_of_relays_are_told_in_the_words_of_the_protocol() {
    let protocol = |error| ErrorType::Proxy(Box::new(ProxyError::Protocol(error)));
    let error = told(|session, corr_id, _| session.respond(corr_id, &Response::Err(ErrorType::Internal)));
    assert_eq!(error, protocol(ErrorType::Internal));
    let error = told(|session, corr_id, _| session.respond(corr_id, &Response::Pong));
    assert!(
        matches!(&error, ErrorType::Proxy(proxy) if matches!(**proxy, ProxyError::Broker(BrokerError::Unexpected(_)))),
        "{error:?}"
    );
    let response = |text: &str| broker(BrokerError::Response(text.to_owned()));
    let error = told(|session, corr_id, _| session.respond(corr_id, &Response::Rres(b"short")));
    assert_eq!(error, response("BLOCK"));
    let error = told(|session, corr_id, _| session.respond(corr_id, &Response::Rres(&[1; 16_283])));
    assert_eq!(error, ErrorType::Crypto);
    // A proxy's box with something else in it.
    let error = told(|session, corr_id, _| {
        let key = session.key.clone().unwrap();
        let nonce = ringpost_protocol::crypto::boxes::reversed(corr_id.try_into().unwrap());
        let sealed = ringpost_protocol::crypto::boxes::seal(&key, &nonce, &[0; 16_300]);
        session.respond(corr_id, &Response::Rres(&sealed));
    });
    assert_eq!(error, response("BLOCK"));
}

#[test]
fn answers_that_nobody_waits_for_are_ignored() {
    let proxy = TestRouter::start(1);
    let mut client = Client::connect(&proxy);
    let relay = FakeRelay::start((6, 19), |mut session| {
        session.respond(&[9; 24], &Response::Ok);
        session.respond(b"", &Response::Err(ErrorType::Auth));
        let (corr_id, command) = session.read_command().unwrap();
        session.respond(b"other", &Response::Rres(&[1; 16_283]));
        session.answer_forwarded(&corr_id, &command, b"OK");
        session.read_block();
    });
    let session = fake_session(&mut client, &relay).unwrap();
    client.forward(&session, 17, None, &[1; 24], &LGET).unwrap().assert_ok();
}

#[test]
fn a_silent_session_is_asked_and_then_given_up() {
    let proxy = TestRouter::with(1, |config| {
        config.proxy.ping_secs = 1;
        config.proxy.response_secs = 1;
        config.proxy.silence_secs = 3;
    });
    let mut client = Client::connect(&proxy);
    let relay = FakeRelay::start((6, 19), |mut session| {
        let (corr_id, command) = session.read_command().unwrap();
        assert_eq!(command, b"PING");
        session.respond(&corr_id, &Response::Pong);
        let mut pings = 0;
        while let Some((_, command)) = session.read_command() {
            assert_eq!(command, b"PING");
            pings += 1;
        }
        assert!(pings >= 3, "{pings}");
    });
    fake_session(&mut client, &relay).unwrap();
    proxy.wait_for("relays_ended", 1);
    relay.join();
}

#[test]
fn a_session_without_commands_is_closed() {
    let proxy = TestRouter::with(1, |config| config.proxy.idle_secs = 1);
    let mut client = Client::connect(&proxy);
    let relay = FakeRelay::start((6, 19), |mut session| assert_eq!(session.read_block(), None));
    fake_session(&mut client, &relay).unwrap();
    relay.join();
    proxy.wait_for("relays", 0);
}
