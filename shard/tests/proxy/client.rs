//! What a client does to send through a proxy.

use ringpost_protocol::address::{Host, Hosts, KeyHash, Router};
use ringpost_protocol::certificate::{router_identity, verify_signed_key};
use ringpost_protocol::command::{Command, RouterBinary};
use ringpost_protocol::crypto::boxes::{BoxKey, Nonce, open_padded, reversed, seal_padded};
use ringpost_protocol::crypto::{AuthPrivateKey, DhPrivateKey, OwnedAuthorization};
use ringpost_protocol::encoding::Sink;
use ringpost_protocol::error::{BrokerError, ErrorType, ProxyError};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{Format, parse_content};
use ringpost_protocol::version::{SmpVersion, VersionRange};
use ringpost_shard::proxy::PADDED_BYTES;

use crate::common::{Client, Prepared, Received, TestRouter, new_credentials};

/// A relay with an identity of its own.
pub fn relay(shards: usize) -> TestRouter {
    TestRouter::with(shards, |config| config.credentials = new_credentials(2))
}

/// The address of a router in this process.
pub fn address(router: &TestRouter) -> Router {
    address_of(router.address.port(), &router.credentials.ca_fingerprint)
}

pub fn address_of(port: u16, fingerprint: &[u8]) -> Router {
    Router {
        hosts: Hosts::new(vec![Host::Ipv4([127, 0, 0, 1].into())]).unwrap(),
        port: Some(port),
        key_hash: KeyHash::new(fingerprint).unwrap(),
    }
}

pub fn broker(error: BrokerError) -> ErrorType {
    ErrorType::Proxy(Box::new(ProxyError::Broker(error)))
}

pub fn no_session() -> ErrorType {
    ErrorType::Proxy(Box::new(ProxyError::NoSession))
}

/// A session between proxy and relay, as PKEY tells of it.
#[derive(Clone, Debug)]
pub struct RelaySession {
    pub id: Vec<u8>,
    pub versions: VersionRange,
    pub key: DhPublicKey,
}

impl RelaySession {
    /// Reads PKEY and checks it as clients must.
    #[track_caller]
    pub fn read(received: &Received, relay: &TestRouter) -> Self {
        let Response::Pkey { session_id, versions, certificates, signed_key } = received.response() else {
            panic!("no PKEY: {received:?}");
        };
        assert_eq!(router_identity(&certificates), Ok(relay.credentials.ca_fingerprint));
        let der = verify_signed_key(signed_key, &relay.credentials.key.verifying_key()).unwrap();
        Self { id: session_id.to_vec(), versions, key: DhPublicKey::from_der(der).unwrap() }
    }
}

/// A command on its way through a proxy.
pub struct Forwarded {
    pub prepared: Prepared,
    pub version: SmpVersion,
    nonce: Nonce,
    key: BoxKey,
}

impl Forwarded {
    /// Opens what PRES has.
    #[track_caller]
    pub fn open(&self, received: &Received) -> Received {
        let Response::Pres(sealed) = received.response() else { panic!("no PRES: {received:?}") };
        let content = open_padded(&self.key, &reversed(self.nonce), sealed).unwrap();
        let transmission = parse_content(&content, Format::forwarded(self.version)).next().unwrap().unwrap();
        Received {
            corr_id: transmission.corr_id.to_vec(),
            entity_id: transmission.entity_id.to_vec(),
            message: transmission.command.to_vec(),
            version: self.version,
            block: received.block,
        }
    }
}

impl Client {
    pub fn prepare_session(&mut self, relay: &Router, password: Option<&[u8]>) -> Prepared {
        let hosts: Vec<Vec<u8>> =
            relay.hosts.as_slice().iter().map(|host| host.to_string().into_bytes()).collect();
        let port = relay.port.map(|port| port.to_string()).unwrap_or_default();
        let router = RouterBinary {
            hosts: hosts.iter().map(Vec::as_slice).collect(),
            port: port.as_bytes(),
            key_hash: relay.key_hash.as_bytes(),
        };
        self.prepare(None, &[], &Command::Prxy { router, basic_auth: password })
    }

    #[track_caller]
    pub fn ask_for_session(&mut self, relay: &Router, password: Option<&[u8]>) -> Received {
        let prepared = self.prepare_session(relay, password);
        self.send(std::slice::from_ref(&prepared));
        self.try_response(&prepared.corr_id).unwrap()
    }

    #[track_caller]
    pub fn relay_session(&mut self, relay: &TestRouter) -> RelaySession {
        let received = self.ask_for_session(&address(relay), None);
        RelaySession::read(&received, relay)
    }

    pub fn prepare_forward(
        &mut self,
        session: &RelaySession,
        version: u16,
        key: Option<&AuthPrivateKey>,
        entity_id: &[u8],
        command: &Command<'_>,
    ) -> Forwarded {
        let mut bytes = Vec::new();
        command.encode(SmpVersion(version), &mut bytes);
        self.prepare_forward_bytes(session, version, key, entity_id, &bytes)
    }

    pub fn prepare_forward_bytes(
        &mut self,
        session: &RelaySession,
        version: u16,
        key: Option<&AuthPrivateKey>,
        entity_id: &[u8],
        command: &[u8],
    ) -> Forwarded {
        let nonce: Nonce = self.random_bytes();
        let command_key = DhPrivateKey::from_bytes(self.random_bytes());
        let version = SmpVersion(version);
        let mut authorized = Vec::new();
        authorized.put_short(&session.id);
        let sent_from = authorized.len();
        authorized.put_short(&nonce);
        authorized.put_short(entity_id);
        authorized.put(command);
        let authorization = key.map(|key| key.authorize(&[&authorized], Some(&session.key), &nonce).unwrap());
        let mut transmission = Vec::new();
        transmission.put_short(authorization.as_ref().map_or(&[], OwnedAuthorization::as_bytes));
        if version >= SmpVersion::SERVICE_CERTIFICATES && authorization.is_some() {
            transmission.put(b"0");
        }
        transmission.put(&authorized[sent_from..]);
        let mut content = vec![1];
        content.put_large(&transmission);
        self.prepare_forward_content(session, version, nonce, &command_key, &content)
    }

    /// A PFWD whose box has this content, which need not be one transmission.
    pub fn prepare_forward_content(
        &mut self,
        session: &RelaySession,
        version: SmpVersion,
        nonce: Nonce,
        command_key: &DhPrivateKey,
        content: &[u8],
    ) -> Forwarded {
        let key = command_key.agree(&session.key).box_key();
        let sealed = seal_padded(&key, &nonce, content, PADDED_BYTES).unwrap();
        let command = Command::Pfwd { version, key: command_key.public(), transmission: &sealed };
        let mut bytes = Vec::new();
        command.encode(self.version, &mut bytes);
        let prepared = self.prepare_bytes(None, &nonce, &session.id, &bytes);
        Forwarded { prepared, version, nonce, key }
    }

    /// Sends a command through the proxy. The relay's response, or the proxy's error.
    #[track_caller]
    pub fn forward(
        &mut self,
        session: &RelaySession,
        version: u16,
        key: Option<&AuthPrivateKey>,
        entity_id: &[u8],
        command: &Command<'_>,
    ) -> Result<Received, ErrorType> {
        let forwarded = self.prepare_forward(session, version, key, entity_id, command);
        self.forward_prepared(&forwarded)
    }

    #[track_caller]
    pub fn forward_prepared(&mut self, forwarded: &Forwarded) -> Result<Received, ErrorType> {
        self.send(std::slice::from_ref(&forwarded.prepared));
        let received = self.try_response(&forwarded.prepared.corr_id).unwrap();
        match received.error() {
            Some(error) => Err(error),
            None => Ok(forwarded.open(&received)),
        }
    }
}
