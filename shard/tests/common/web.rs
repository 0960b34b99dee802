//! Web clients: TLS with a server name, the HTTP upgrade, blocks as WebSocket messages. The messages are tungstenite's.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use ringpost_protocol::certificate::WebCertificate;
use ringpost_protocol::encoding::base64url_unpadded;
use ringpost_protocol::tls::no_server_name;
use ringpost_protocol::tls::provider::web_provider;
use ringpost_shard::{Config, Entry, Listener};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketContext};

use super::TestRouter;
use super::tls::{Ended, TlsStream};

/// The name in the web certificate.
pub const WEB_NAME: &str = "smp.example.com";
/// Any 16 bytes.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// How a web client connects.
#[derive(Clone, Copy, Debug)]
pub struct Web {
    pub address: SocketAddr,
    /// Names the server, as browsers do.
    pub sni: bool,
    /// Protocol names, separated by commas.
    pub alpn: &'static str,
    /// The only one that is offered.
    pub suite: Option<CipherSuite>,
    pub challenge: Option<[u8; 32]>,
}

impl Web {
    /// As a browser, at the first listener.
    pub fn browser(router: &TestRouter) -> Self {
        let address = router.router().local_addrs()[0];
        Self { address, sni: true, alpn: "http/1.1", suite: None, challenge: None }
    }

    /// TLS alone.
    pub fn connect_tls(self, receive_buffer_bytes: Option<usize>) -> Result<TlsStream, Ended> {
        let mut provider = CryptoProvider::clone(&web_provider());
        provider.cipher_suites.retain(|suite| self.suite.is_none_or(|only| suite.suite() == only));
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny))
            .with_no_client_auth();
        let names = self.alpn.split(',').filter(|name| !name.is_empty());
        config.alpn_protocols = names.map(|name| name.as_bytes().to_vec()).collect();
        config.enable_sni = self.sni;
        config.enable_secret_extraction = true;
        config.resumption = rustls::client::Resumption::disabled();
        let name = if self.sni { ServerName::try_from(WEB_NAME).unwrap() } else { no_server_name() };
        TlsStream::connect_to(self.address, config.into(), name, receive_buffer_bytes)
    }

    /// TLS and the upgrade to a WebSocket.
    pub fn connect(self, receive_buffer_bytes: Option<usize>) -> Result<TlsStream, Ended> {
        let mut stream = self.connect_tls(receive_buffer_bytes)?;
        let target = match self.challenge {
            Some(challenge) => format!("/?challenge={}", base64url_unpadded(&challenge)),
            None => "/".to_owned(),
        };
        stream.write_plain(upgrade_request(&target).as_bytes())?;
        let (head, rest) = read_head(&mut stream)?;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let accept = format!("sec-websocket-accept: {}\r\n", derive_accept_key(KEY.as_bytes()));
        assert!(head.contains(&accept), "{head}");
        for absent in ["sec-websocket-extensions", "sec-websocket-protocol"] {
            assert!(!head.to_lowercase().contains(absent), "{head}");
        }
        stream.websocket = Some(Box::new(WebSocketContext::from_partially_read(rest, Role::Client, None)));
        Ok(stream)
    }
}

pub fn upgrade_request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {WEB_NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nOrigin: https://app.example.com\r\n\r\n"
    )
}

/// The head of a response, and what came behind it.
pub fn read_head(stream: &mut TlsStream) -> Result<(String, Vec<u8>), Ended> {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(stream.read_plain()?);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8(bytes).unwrap(), rest));
        }
    }
}

/// A certificate for [`WEB_NAME`], and its DER.
pub fn web_certificate() -> (WebCertificate, CertificateDer<'static>) {
    static MADE: OnceLock<(WebCertificate, CertificateDer<'static>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let made = rcgen::CertificateParams::new([WEB_NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let loaded = WebCertificate::from_pem(&made.pem(), &key.serialize_pem()).unwrap();
        (loaded, made.der().clone())
    })
    .clone()
}

/// Makes the listeners of a router shared, web and WebSocket ones, in this order.
pub fn with_web_entries(config: &mut Config) {
    let address = config.listen[0].address;
    config.listen =
        [Entry::Shared, Entry::Web, Entry::WebSocket].map(|entry| Listener { address, entry }).to_vec();
    config.tls.web = Some(web_certificate().0);
}

/// What tungstenite reads from and writes to.
pub struct Pipe<'a>(pub &'a mut TlsStream);

impl Read for Pipe<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.0.plain.is_empty() {
            match self.0.read_plain() {
                Ok(plain) => self.0.plain = plain,
                Err(Ended::Closed) => return Ok(0),
                Err(Ended::Timeout) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(Ended::Tls(error)) => return Err(io::Error::other(error)),
                Err(Ended::Refused(failure)) => return Err(io::Error::other(failure)),
            }
        }
        let count = out.len().min(self.0.plain.len());
        out[..count].copy_from_slice(&self.0.plain[..count]);
        self.0.plain.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write_plain(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(Ended::Timeout) => Err(io::ErrorKind::WouldBlock.into()),
            Err(Ended::Closed) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(Ended::Tls(error)) => Err(io::Error::other(error)),
            Err(Ended::Refused(failure)) => Err(io::Error::other(failure)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn ended(error: &tungstenite::Error) -> Ended {
    match error {
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => Ended::Timeout,
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::Other => panic!("{error}"),
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
        | tungstenite::Error::Io(_)
        | tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed => Ended::Closed,
        other => panic!("{other}"),
    }
}

#[derive(Debug)]
struct AcceptAny;

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
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}
