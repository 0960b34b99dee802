//! Wrong TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use ringpost_protocol::tls::config::client_config_with_alpn;
use ringpost_protocol::tls::{TlsChannel, TlsError, client_config, no_server_name};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::beside_healthy;
use crate::common::tls::{connect, read_to_close};
use crate::common::{Ended, TestRouter, TlsStream};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// Sends bytes and gives what came until the router closed the connection.
fn answer_to(router: &TestRouter, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(router.address, None);
    // The router may close before it has read all.
    let _ = stream.write_all(bytes);
    read_to_close(&mut stream)
}

#[track_caller]
fn assert_alert(answer: &[u8], alert: AlertDescription) {
    assert_eq!(answer.first(), Some(&ALERT), "{answer:02x?}");
    assert_eq!(answer.last().copied().map(AlertDescription::from), Some(alert), "{answer:02x?}");
}

fn record(content_type: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[content_type, 3, 1], &length[..], payload].concat()
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
        vec![SignatureScheme::ED25519]
    }
}

pub fn config_with(provider: CryptoProvider) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"smp/1".to_vec()];
    config.enable_secret_extraction = true;
    Arc::new(config)
}

fn refused(router: &TestRouter, config: Arc<ClientConfig>) -> TlsError {
    match TlsStream::connect(router.address, config, None) {
        Err(Ended::Tls(error)) => error,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn other_protocol_names_are_refused() {
    beside_healthy(|router, _| {
        let before = router.counters();
        let config = client_config_with_alpn(router.credentials.ca_fingerprint, &[b"h2", b"xftp/1"]).unwrap();
        assert_eq!(refused(router, config), TlsError::Alert(AlertDescription::NoApplicationProtocol));
        router.expect(&before, &[("handshakes_failed_tls", 1)]);
    });
}

#[test]
fn other_cipher_suites_and_groups_are_refused() {
    beside_healthy(|router, _| {
        let before = router.counters();
        let mut provider = default_provider();
        provider.cipher_suites =
            vec![cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_AES_128_GCM_SHA256];
        assert_eq!(
            refused(router, config_with(provider)),
            TlsError::Alert(AlertDescription::HandshakeFailure)
        );
        let mut provider = default_provider();
        provider.kx_groups.retain(|group| group.name() != rustls::NamedGroup::X25519);
        assert_eq!(
            refused(router, config_with(provider)),
            TlsError::Alert(AlertDescription::HandshakeFailure)
        );
        router.expect(&before, &[("handshakes_failed_tls", 2)]);
    });
}

#[test]
fn a_client_that_wants_another_router_leaves() {
    beside_healthy(|router, _| {
        let before = router.counters();
        assert!(matches!(refused(router, client_config([7; 32]).unwrap()), TlsError::Identity(_)));
        // Its alert arrives instead of its Finished.
        router.expect(&before, &[("handshakes_failed_tls", 1)]);
    });
}

#[test]
fn tls_1_2_is_refused() {
    let extensions: &[&[u8]] = &[
        // supported_groups: x25519
        &[0, 10, 0, 4, 0, 2, 0, 29],
        // signature_algorithms: ed25519
        &[0, 13, 0, 4, 0, 2, 8, 7],
        // ec_point_formats: uncompressed
        &[0, 11, 0, 2, 1, 0],
    ];
    let extensions = extensions.concat();
    // TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    let mut hello = [&[3, 3][..], &[9; 32], &[0], &[0, 2, 0xcc, 0xa9], &[1, 0]].concat();
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &hello].concat();
    beside_healthy(|router, _| {
        let before = router.counters();
        assert_alert(&answer_to(router, &record(HANDSHAKE, &message)), AlertDescription::ProtocolVersion);
        router.expect(&before, &[("handshakes_failed_tls", 1)]);
    });
}

#[test]
fn what_is_not_tls_is_refused() {
    let garbage: Vec<u8> = (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let cases: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &vec![0; 16_406],
        &vec![0xff; 40_000],
        &garbage,
        // Application data, an alert, an empty handshake record before any handshake.
        &record(23, &[1; 100]),
        &record(ALERT, &[2, 40]),
        &record(HANDSHAKE, &[]),
        // A handshake message that is none.
        &record(HANDSHAKE, &[99, 0, 0, 1, 0]),
        &record(HANDSHAKE, &[1, 0, 0, 4, 3, 3, 0, 0]),
    ];
    beside_healthy(|router, healthy| {
        let before = router.counters();
        for case in cases {
            answer_to(router, case);
        }
        healthy.goes_on();
        router.expect(&before, &[("handshakes_failed_tls", cases.len().try_into().unwrap())]);
    });
}

/// A record or a message that is allowed to be this long, but that no client hello needs: longer than the memory for it.
#[test]
fn oversize_hellos_are_refused() {
    let huge_record =
        [&[HANDSHAKE, 3, 1], &18_000_u16.to_be_bytes()[..], &[1, 0, 0x46, 0x40], &vec![3; 18_000]].concat();
    // One message of 60,000 bytes in records of 16,000.
    let message = [&[1, 0, 0xea, 0x60][..], &vec![3; 60_000]].concat();
    let huge_message: Vec<u8> = message.chunks(16_000).flat_map(|part| record(HANDSHAKE, part)).collect();
    // The same in tiny records.
    let tiny_records: Vec<u8> = message.chunks(11).flat_map(|part| record(HANDSHAKE, part)).collect();
    beside_healthy(|router, healthy| {
        for case in [&huge_record, &huge_message, &tiny_records] {
            let before = router.counters();
            answer_to(router, case);
            router.expect(&before, &[("handshakes_failed_tls", 1)]);
            healthy.goes_on();
        }
    });
}

fn client_hello(router: &TestRouter) -> Vec<u8> {
    let config = client_config(router.credentials.ca_fingerprint).unwrap();
    let mut hello = Vec::new();
    TlsChannel::client(config, no_server_name()).unwrap().handshake(&mut [], &mut hello).unwrap();
    hello
}

#[test]
fn a_handshake_that_does_not_go_on_ends_at_its_limit() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let hello = client_hello(router);
        let mut streams: Vec<TcpStream> = (0..5).map(|_| connect(router.address, None)).collect();
        // Nothing at all, a part of a record's header, a part of the hello, all of it but the last byte.
        for (stream, length) in streams.iter_mut().zip([0, 3, 100, hello.len() - 1]) {
            stream.write_all(&hello[..length]).unwrap();
        }
        // The whole hello, and no more.
        streams[4].write_all(&hello).unwrap();
        healthy.goes_on();
        let answers: Vec<usize> = streams.iter_mut().map(|stream| read_to_close(stream).len()).collect();
        assert_eq!(answers[..4], [0; 4]);
        assert!(answers[4] > 0);
        router.expect(&before, &[("closed_handshake_timeout", 5)]);
    });
}

#[test]
fn a_handshake_byte_by_byte_ends_at_its_limit() {
    beside_healthy(|router, _| {
        let before = router.counters();
        let mut stream = connect(router.address, None);
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let sent = client_hello(router)
            .iter()
            .take_while(|&&byte| {
                stream.write_all(&[byte]).is_ok() && !matches!(stream.read(&mut [0; 8]), Ok(0))
            })
            .count();
        assert!(sent > 10);
        router.expect(&before, &[("closed_handshake_timeout", 1)]);
    });
}
