//! A session of a client: hello blocks, transmissions in blocks, responses and events.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use ringpost_protocol::command::Command;
use ringpost_protocol::crypto::block::{BlockCipher, BlockOpener, BlockSealer};
use ringpost_protocol::crypto::dh::{DhPrivateKey, DhSecret};
use ringpost_protocol::crypto::{AuthPrivateKey, OwnedAuthorization};
use ringpost_protocol::encoding::Sink;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::handshake::{ClientHandshake, read_service_response};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::config::{client_config_with_alpn, service_client_config};
use ringpost_protocol::tls::{ALPN_SMP, SessionId};
use ringpost_protocol::transmission::{BlockBuilder, Format, Refused, parse_content};
use ringpost_protocol::version::{SmpVersion, VersionRange};

use super::service::{ServiceSession, TestService};
use super::tls::{Ended, TlsStream};
use super::web::Web;
use super::{DEADLINE, TestRouter};

/// How a client connects.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Also the newest one.
    pub version: u16,
    pub alpn: bool,
    /// Without it blocks are not encrypted inside TLS.
    pub session_key: bool,
    pub receive_buffer_bytes: Option<usize>,
    /// Over a WebSocket. What it says of ALPN counts.
    pub web: Option<Web>,
    pub service: Option<TestService>,
}

impl Options {
    /// What clients of a version do: those of version 6 do not know ALPN.
    pub fn version(version: u16) -> Self {
        Self {
            version,
            alpn: version > 6,
            session_key: version > 6,
            receive_buffer_bytes: None,
            web: None,
            service: None,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::version(SmpVersion::MAX.0)
    }
}

/// A transmission that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub corr_id: Vec<u8>,
    pub bytes: Vec<u8>,
}

/// A response, or an event if the correlation ID is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    pub corr_id: Vec<u8>,
    pub entity_id: Vec<u8>,
    pub message: Vec<u8>,
    pub version: SmpVersion,
    /// The how-manieth block of the session it came in.
    pub block: usize,
}

impl Received {
    pub fn response(&self) -> Response<'_> {
        Response::parse(self.version, &self.message).unwrap_or_else(|error| panic!("{error:?}: {self:?}"))
    }

    pub fn is_event(&self) -> bool {
        self.corr_id.is_empty()
    }

    pub fn error(&self) -> Option<ErrorType> {
        match self.response() {
            Response::Err(error) => Some(error),
            _ => None,
        }
    }

    #[track_caller]
    pub fn assert_ok(&self) {
        assert_eq!(self.response(), Response::Ok);
    }

    #[track_caller]
    pub fn assert_error(&self, error: &ErrorType) {
        assert_eq!(self.error().as_ref(), Some(error), "{self:?}");
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.message[..self.message.len().min(60)];
        let (corr_id, entity_id) = (hex::encode(&self.corr_id), hex::encode(&self.entity_id));
        write!(
            f,
            "Received({corr_id}, {entity_id}, {:?}, {} bytes)",
            shown.escape_ascii().to_string(),
            self.message.len()
        )
    }
}

pub struct Client {
    pub tls: TlsStream,
    pub version: SmpVersion,
    pub session_id: SessionId,
    router_key: Option<DhPublicKey>,
    /// Of block encryption, if there is.
    pub secret: Option<DhSecret>,
    sealer: BlockSealer,
    opener: BlockOpener,
    /// Bytes of the next block.
    plain: Vec<u8>,
    received: VecDeque<Received>,
    pub blocks_received: usize,
    /// The router's hello.
    pub hello: Box<[u8; BLOCK_BYTES]>,
    pub service: Option<ServiceSession>,
    pub random: ChaCha20Rng,
}

/// Tests repeat their keys, clients of one test have different ones.
fn next_random() -> ChaCha20Rng {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    ChaCha20Rng::seed_from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Client {
    pub fn connect(router: &TestRouter) -> Self {
        Self::open(router, Options::default()).unwrap()
    }

    pub fn version(router: &TestRouter, version: u16) -> Self {
        let client = Self::open(router, Options::version(version)).unwrap();
        assert_eq!(client.version, SmpVersion(version));
        client
    }

    /// As a browser, at the first listener.
    pub fn web(router: &TestRouter) -> Self {
        Self::open(router, Options { web: Some(Web::browser(router)), ..Options::default() }).unwrap()
    }

    pub fn open(router: &TestRouter, options: Options) -> Result<Self, Ended> {
        let mut tls = if let Some(web) = options.web {
            web.connect(options.receive_buffer_bytes)?
        } else {
            let alpn: &[&[u8]] = if options.alpn { &[ALPN_SMP] } else { &[] };
            let identity = router.credentials.ca_fingerprint;
            let config = match options.service.filter(|service| !service.hides_in_tls) {
                Some(service) => service_client_config(identity, &service.credentials()).unwrap(),
                None => client_config_with_alpn(identity, alpn).unwrap(),
            };
            TlsStream::connect(router.address, config, options.receive_buffer_bytes)?
        };
        let session_id = tls.channel.session_id().unwrap();
        let mut random = next_random();
        let mut private_key = [0; 32];
        random.fill_bytes(&mut private_key);
        let service = options.service.map(|service| (service.credentials(), service.session_key()));
        let signed = service.as_ref().map(|(credentials, key)| credentials.sign(key));
        let service_hello = service.as_ref().zip(signed.as_deref());
        let handshake = ClientHandshake {
            versions: VersionRange::new(SmpVersion::V6, SmpVersion(options.version)).unwrap(),
            session_id,
            identity: router.credentials.ca_fingerprint,
            leaf_key: &router.credentials.key.verifying_key(),
            session_private_key: options.session_key.then(|| DhPrivateKey::from_bytes(private_key)),
            proxy: false,
            service: service_hello.map(|((credentials, _), signed)| credentials.hello(signed)),
        };
        let mut plain = Vec::new();
        let hello = next_block(&mut tls, &mut plain)?;
        let mut answer = Box::new([0; BLOCK_BYTES]);
        let session = handshake.router_hello(&hello[..], &mut answer).unwrap();
        tls.write(&answer[..])?;
        let secret = session.secret.filter(|_| session.block_encryption);
        let cipher = match &secret {
            Some(secret) => BlockCipher::client(session_id.as_ref(), secret),
            None => BlockCipher::plain(),
        };
        let (sealer, opener) = cipher.split();
        let service = match service {
            Some((credentials, key)) if session.service_sent => {
                let response = next_block(&mut tls, &mut plain)?;
                match read_service_response(&response[..]) {
                    Ok(id) => {
                        let fingerprint = credentials.fingerprint().unwrap();
                        Some(ServiceSession { id: id.to_vec(), fingerprint, key })
                    }
                    Err(refused) => return Err(Ended::Refused(refused)),
                }
            }
            _ => None,
        };
        Ok(Self {
            tls,
            version: session.version,
            session_id,
            router_key: session.router_key.map(|key| key.key),
            secret,
            sealer,
            opener,
            plain,
            received: VecDeque::new(),
            blocks_received: 0,
            hello,
            service,
            random,
        })
    }

    pub fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    pub fn prepare(
        &mut self,
        key: Option<&AuthPrivateKey>,
        entity_id: &[u8],
        command: &Command<'_>,
    ) -> Prepared {
        let mut bytes = Vec::new();
        command.encode(self.version, &mut bytes);
        let corr_id: [u8; 24] = self.random_bytes();
        self.prepare_bytes(key, &corr_id, entity_id, &bytes)
    }

    /// A transmission whose command may be anything. A service signs what services sign.
    pub fn prepare_bytes(
        &self,
        key: Option<&AuthPrivateKey>,
        corr_id: &[u8],
        entity_id: &[u8],
        command: &[u8],
    ) -> Prepared {
        let is_signed =
            self.service.is_some() && (matches!(command, b"SUB" | b"NSUB") || command.starts_with(b"NEW "));
        self.prepare_signed(key, corr_id, entity_id, command, is_signed)
    }

    /// The same, signed by the service or not.
    pub fn prepare_signed(
        &self,
        key: Option<&AuthPrivateKey>,
        corr_id: &[u8],
        entity_id: &[u8],
        command: &[u8],
        by_service: bool,
    ) -> Prepared {
        let mut authorized = Vec::new();
        authorized.put_short(self.session_id.as_ref());
        let session_end = authorized.len();
        authorized.put_short(corr_id);
        authorized.put_short(entity_id);
        authorized.put(command);
        let service = self.service.as_ref().filter(|_| by_service);
        let fingerprint = service.map_or(&[][..], |service| &service.fingerprint);
        let authorization = key.map(|key| {
            key.authorize(&[fingerprint, &authorized], self.router_key.as_ref(), corr_id).unwrap()
        });
        let format = Format::of_session(self.version);
        let mut bytes = Vec::new();
        bytes.put_short(authorization.as_ref().map_or(&[], OwnedAuthorization::as_bytes));
        if format.service_signature && authorization.is_some() {
            let signed = service.map(|service| service.key.authorize(&[&authorized], None, corr_id).unwrap());
            bytes.put_maybe(signed.as_ref(), |bytes, signed| bytes.put_short(signed.as_bytes()));
        }
        bytes.put(if format.session_implied { &authorized[session_end..] } else { &authorized });
        Prepared { corr_id: corr_id.to_vec(), bytes }
    }

    /// The blocks of these transmissions, in order, each as full as it can be.
    pub fn blocks(&mut self, transmissions: &[Prepared]) -> Vec<Box<[u8; BLOCK_BYTES]>> {
        let format = Format::of_session(self.version);
        let session_id = self.session_id;
        let mut blocks = Vec::new();
        let mut left = transmissions;
        while !left.is_empty() {
            let mut block = Box::new([0; BLOCK_BYTES]);
            let offset = self.sealer.content_offset();
            let mut builder = BlockBuilder::new(&mut block[offset..], format, session_id.as_ref());
            while let Some((first, rest)) = left.split_first() {
                match builder.push_transmission(&first.bytes) {
                    Ok(()) => left = rest,
                    Err(Refused::BlockFull) => break,
                    Err(Refused::TooLarge) => panic!("a transmission of {} bytes", first.bytes.len()),
                }
            }
            let length = builder.content_bytes();
            self.sealer.seal(&mut block, length).unwrap();
            blocks.push(block);
        }
        blocks
    }

    /// A block with this content, which need not be transmissions.
    pub fn block_of(&mut self, content: &[u8]) -> Box<[u8; BLOCK_BYTES]> {
        let mut block = Box::new([0; BLOCK_BYTES]);
        let offset = self.sealer.content_offset();
        block[offset..offset + content.len()].copy_from_slice(content);
        self.sealer.seal(&mut block, content.len()).unwrap();
        block
    }

    pub fn try_send(&mut self, transmissions: &[Prepared]) -> Result<(), Ended> {
        for block in self.blocks(transmissions) {
            self.tls.write(&block[..])?;
        }
        Ok(())
    }

    pub fn send(&mut self, transmissions: &[Prepared]) {
        self.try_send(transmissions).unwrap();
    }

    /// What comes next, except for what [`Self::response`] kept for later.
    pub fn try_receive(&mut self) -> Result<Received, Ended> {
        loop {
            if let Some(received) = self.received.pop_front() {
                return Ok(received);
            }
            let mut block = next_block(&mut self.tls, &mut self.plain)?;
            let content = self.opener.open(&mut block[..]).unwrap();
            let format = Format::of_session(self.version);
            for transmission in parse_content(&block[content], format) {
                let transmission = transmission.unwrap();
                if !format.session_implied {
                    assert_eq!(transmission.session_id, self.session_id.as_ref());
                }
                self.received.push_back(Received {
                    corr_id: transmission.corr_id.to_vec(),
                    entity_id: transmission.entity_id.to_vec(),
                    message: transmission.command.to_vec(),
                    version: self.version,
                    block: self.blocks_received,
                });
            }
            self.blocks_received += 1;
        }
    }

    #[track_caller]
    pub fn receive(&mut self) -> Received {
        match self.try_receive() {
            Ok(received) => received,
            Err(ended) => panic!("nothing was received: {ended:?}"),
        }
    }

    /// The response to a command. What comes before it waits for [`Self::receive`].
    pub fn try_response(&mut self, corr_id: &[u8]) -> Result<Received, Ended> {
        let mut others = VecDeque::new();
        let found = loop {
            match self.try_receive() {
                Ok(received) if received.corr_id == corr_id => break Ok(received),
                Ok(other) => others.push_back(other),
                Err(ended) => break Err(ended),
            }
        };
        others.append(&mut self.received);
        self.received = others;
        found
    }

    /// Sends one command and gives its response.
    #[track_caller]
    pub fn request(
        &mut self,
        key: Option<&AuthPrivateKey>,
        entity_id: &[u8],
        command: &Command<'_>,
    ) -> Received {
        match self.try_request(key, entity_id, command) {
            Ok(received) => received,
            Err(ended) => panic!("{} was not answered: {ended:?}", command.tag()),
        }
    }

    pub fn try_request(
        &mut self,
        key: Option<&AuthPrivateKey>,
        entity_id: &[u8],
        command: &Command<'_>,
    ) -> Result<Received, Ended> {
        let prepared = self.prepare(key, entity_id, command);
        self.try_send(std::slice::from_ref(&prepared))?;
        self.try_response(&prepared.corr_id)
    }

    #[track_caller]
    pub fn ping(&mut self) {
        assert_eq!(self.request(None, &[], &Command::Ping).response(), Response::Pong);
    }

    /// What comes within a short time, which should be nothing: a wrong event would rather show up late than never.
    pub fn receive_soon(&mut self) -> Option<Received> {
        self.tls.set_read_timeout(Duration::from_millis(60));
        let received = self.try_receive();
        self.tls.set_read_timeout(DEADLINE);
        match received {
            Ok(received) => Some(received),
            Err(Ended::Timeout) => None,
            Err(ended) => panic!("{ended:?}"),
        }
    }

    /// Reads until the router closes the connection. Gives what came before.
    #[track_caller]
    pub fn read_to_close(&mut self) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            match self.try_receive() {
                Ok(received) => all.push(received),
                Err(Ended::Timeout) => panic!("the connection was not closed"),
                Err(_) => return all,
            }
        }
    }
}

/// Reads a block, of whatever records it is made.
fn next_block(tls: &mut TlsStream, plain: &mut Vec<u8>) -> Result<Box<[u8; BLOCK_BYTES]>, Ended> {
    while plain.len() < BLOCK_BYTES {
        plain.extend(tls.read()?);
    }
    let rest = plain.split_off(BLOCK_BYTES);
    let block = std::mem::replace(plain, rest).into_boxed_slice();
    Ok(block.try_into().unwrap())
}
