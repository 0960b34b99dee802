//! What the tests of TLS and of the handshake share.
#![allow(dead_code)]

pub mod hello;
pub mod stock;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringpost_protocol::certificate::{CertificateAuthority, RouterCredentials, SigningKey};
use ringpost_protocol::tls::{Opened, TlsChannel, TlsError, client_config, no_server_name, server_config};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use serde_json::Value;

pub fn vector_path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")).join(name)
}

pub fn vector_text(name: &str) -> String {
    std::fs::read_to_string(vector_path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn vectors(name: &str) -> Value {
    serde_json::from_str(&vector_text(name)).unwrap()
}

/// The bytes of a field in hex.
pub fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap_or_else(|| panic!("no text: {value}"))).unwrap()
}

pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// The certificates of a `..._chain` object of the vectors, leaf first.
pub fn chain(value: &Value) -> Vec<CertificateDer<'static>> {
    let certificates = value["certificates_der_leaf_first"].as_array().unwrap();
    certificates.iter().map(|der| bytes(der).into()).collect()
}

/// The private key of the leaf of a `..._chain` object.
pub fn leaf_key(value: &Value) -> SigningKey {
    SigningKey::from_pkcs8_der(&bytes(&value["keys_leaf_first"][0]["private_der"])).unwrap()
}

pub fn now_secs() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Credentials made of seeds of these bytes.
pub fn credentials(ca: u8, server: u8) -> RouterCredentials {
    let authority = CertificateAuthority::generate(&[ca; 32], now_secs()).unwrap();
    let issued = authority.issue("localhost", &[server; 32], now_secs()).unwrap();
    let loaded = RouterCredentials::from_pem(
        &authority.certificate_pem(),
        &issued.certificate_pem,
        &issued.key_pem,
        now_secs(),
    );
    loaded.unwrap()
}

/// One side of a connection in memory, with bytes that came in and that are to go out.
pub struct End {
    pub channel: TlsChannel,
    pub incoming: Vec<u8>,
    pub outgoing: Vec<u8>,
    pub done: bool,
}

impl End {
    pub fn server(config: &Arc<ServerConfig>) -> Self {
        Self::new(TlsChannel::server(Arc::clone(config)).unwrap())
    }

    pub fn client(config: &Arc<ClientConfig>) -> Self {
        Self::new(TlsChannel::client(Arc::clone(config), no_server_name()).unwrap())
    }

    pub fn new(channel: TlsChannel) -> Self {
        Self { channel, incoming: Vec::new(), outgoing: Vec::new(), done: false }
    }

    /// One call of `handshake`, with the consumed bytes removed.
    pub fn step(&mut self) -> Result<(), TlsError> {
        let progress = self.channel.handshake(&mut self.incoming, &mut self.outgoing)?;
        self.incoming.drain(..progress.consumed);
        self.done = progress.done;
        Ok(())
    }

    /// Opens all that came, as one stream.
    pub fn open_all(&mut self) -> Result<Vec<u8>, TlsError> {
        let mut plain = Vec::new();
        loop {
            match self.channel.open(&mut self.incoming)? {
                Opened::Data { consumed, payload } => {
                    plain.extend_from_slice(&self.incoming[payload]);
                    self.incoming.drain(..consumed);
                }
                Opened::Incomplete { consumed } | Opened::Closed { consumed } => {
                    self.incoming.drain(..consumed);
                    return Ok(plain);
                }
            }
        }
    }

    /// Seals into the bytes to go out.
    pub fn send(&mut self, plain: &[u8]) {
        let start = self.outgoing.len();
        let length = self.channel.sealed_bytes(plain.len());
        self.outgoing.resize(start + length, 0);
        let written = self.channel.seal(plain, &mut self.outgoing[start..]).unwrap();
        assert_eq!(written, length);
    }
}

pub fn carry(from: &mut End, to: &mut End) {
    to.incoming.append(&mut from.outgoing);
}

/// Errors of both sides, if any.
pub type Failures = (Option<TlsError>, Option<TlsError>);

/// Runs a handshake to its end or to the errors of both sides.
pub fn shake_hands(server: &mut End, client: &mut End) -> Result<(), Box<Failures>> {
    let mut failures: Failures = (None, None);
    for _ in 0..10 {
        if failures.1.is_none()
            && let Err(error) = client.step()
        {
            failures.1 = Some(error);
        }
        carry(client, server);
        if failures.0.is_none()
            && let Err(error) = server.step()
        {
            failures.0 = Some(error);
        }
        carry(server, client);
        if server.done && client.done {
            return Ok(());
        }
    }
    // What a client hears after its side of the handshake comes as a record.
    if failures.1.is_none() && client.done {
        failures.1 = client.open_all().err();
    }
    Err(Box::new(failures))
}

pub fn established(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> (End, End) {
    let (mut server, mut client) = (End::server(server), End::client(client));
    shake_hands(&mut server, &mut client).unwrap();
    (server, client)
}

/// Two ends of an established connection with the usual configurations.
pub fn pair() -> (End, End) {
    let credentials = credentials(1, 2);
    let server = server_config(&credentials).unwrap();
    established(&server, &client_config(credentials.ca_fingerprint).unwrap())
}

/// A client with other algorithms that accepts any router.
pub fn client_with(provider: CryptoProvider, credentials: &RouterCredentials) -> Arc<ClientConfig> {
    let usual = client_config(credentials.ca_fingerprint).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny))
        .with_no_client_auth();
    config.alpn_protocols.clone_from(&usual.alpn_protocols);
    config.enable_sni = false;
    config.enable_secret_extraction = true;
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// A client that does not care who the router is.
#[derive(Debug)]
pub struct AcceptAny;

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
