//! TLS handshakes: between two channels, and with other configurations of rustls.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use ringpost_protocol::certificate::{CertificateAuthority, ChainError, RouterCredentials, SigningKey};
use ringpost_protocol::handshake::{ServiceCredentials, ServiceRole};
use ringpost_protocol::tls::config::{client_config_with_alpn, server_config_with, service_client_config};
use ringpost_protocol::tls::provider::{provider, provider_with_x448, web_provider};
use ringpost_protocol::tls::{Culprit, TlsChannel, TlsError, client_config, server_config};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, ClientConfig, PeerIncompatible, ServerConfig};
use support::{
    End, Failures, carry, chain, client_with, credentials, established, leaf_key, now_secs, shake_hands,
    vectors,
};

/// The random of a `HelloRetryRequest`: RFC 8446, 4.1.3.
const RETRY_RANDOM: [u8; 8] = [0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11];

fn refused(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Failures {
    *shake_hands(&mut End::server(server), &mut End::client(client)).expect_err("refused")
}

#[test]
fn both_sides_get_the_same_session_identifier() {
    let credentials = credentials(1, 2);
    let server = server_config(&credentials).unwrap();
    let client = client_config(credentials.ca_fingerprint).unwrap();
    let (first_server, first_client) = established(&server, &client);
    let (second_server, second_client) = established(&server, &client);
    let id = first_server.channel.session_id().unwrap();
    assert_eq!(id.as_ref().len(), 32);
    assert_eq!(first_client.channel.session_id(), Some(id));
    assert_eq!(second_client.channel.session_id(), second_server.channel.session_id());
    assert_ne!(second_client.channel.session_id(), Some(id));
    assert_eq!(first_server.channel.alpn(), Some(&b"smp/1"[..]));
    assert_eq!(first_client.channel.alpn(), Some(&b"smp/1"[..]));
    assert_eq!(first_client.channel.peer_certificates(), credentials.chain);
    assert!(first_server.channel.peer_certificates().is_empty());
}

/// Ed25519 and Ed448, alone and behind a leaf; and that the leaf's key is another's ends the handshake.
#[test]
fn services_show_their_certificates() {
    let credentials = credentials(1, 2);
    let server = server_config(&credentials).unwrap();
    let mut ids = Vec::new();
    for authority_key in [SigningKey::ed25519(&[5; 32]), SigningKey::ed448(&[5; 57])] {
        let authority = CertificateAuthority::generate_with(authority_key.clone(), now_secs()).unwrap();
        let leaf_key = SigningKey::ed448(&[6; 57]);
        let issued = authority.issue_with("service", &leaf_key, now_secs()).unwrap();
        let leaf = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        let ca = authority.certificate().clone();
        for (chain, key) in [(vec![ca.clone()], authority_key.clone()), (vec![leaf, ca], leaf_key)] {
            let role = ServiceRole::Messaging;
            let mut service = ServiceCredentials { role, chain, key };
            let client = service_client_config(credentials.ca_fingerprint, &service).unwrap();
            let (server_end, client_end) = established(&server, &client);
            assert_eq!(server_end.channel.peer_certificates(), service.chain);
            assert_eq!(client_end.channel.session_id(), server_end.channel.session_id());
            ids.push(server_end.channel.session_id());
            service.key = SigningKey::ed25519(&[7; 32]);
            let client = service_client_config(credentials.ca_fingerprint, &service).unwrap();
            refused(&server, &client);
        }
    }
    assert!(ids.iter().enumerate().all(|(place, id)| !ids[..place].contains(id)));
}

#[test]
fn interleaved_handshakes_keep_their_own_identifiers() {
    let credentials = credentials(1, 2);
    let server = server_config(&credentials).unwrap();
    let client = client_config(credentials.ca_fingerprint).unwrap();
    let mut servers = [End::server(&server), End::server(&server)];
    let mut clients = [End::client(&client), End::client(&client)];
    // Every step of one connection is followed by a step of the other.
    for _ in 0..3 {
        for end in &mut clients {
            end.step().unwrap();
        }
        for (client, server) in clients.iter_mut().zip(&mut servers) {
            carry(client, server);
        }
        for end in servers.iter_mut().rev() {
            end.step().unwrap();
        }
        for (client, server) in clients.iter_mut().zip(&mut servers) {
            carry(server, client);
        }
    }
    let ids = servers.each_ref().map(|end| end.channel.session_id().unwrap());
    assert_eq!(clients.each_ref().map(|end| end.channel.session_id().unwrap()), ids);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn no_resumption_is_offered_by_either_side() {
    let credentials = credentials(1, 2);
    let server = server_config(&credentials).unwrap();
    let client = client_config(credentials.ca_fingerprint).unwrap();
    let (mut server_end, _) = established(&server, &client);
    assert!(server_end.outgoing.is_empty(), "no tickets behind the handshake");
    assert_eq!(server.send_tls13_tickets, 0);
    server_end.channel.close_notify(&mut server_end.outgoing).unwrap();
    // A second connection with the same configurations is a full handshake: certificates are sent.
    let mut second = End::client(&client);
    second.step().unwrap();
    let pre_shared_key_extension = [0, 41];
    let hello = &second.outgoing;
    // It would be the last extension of the hello.
    assert!(!hello.windows(2).skip(hello.len().saturating_sub(60)).any(|w| w == pre_shared_key_extension));
}

#[test]
fn a_client_without_alpn_is_accepted() {
    let credentials = credentials(1, 2);
    let client = client_config_with_alpn(credentials.ca_fingerprint, &[]).unwrap();
    let (server, client) = established(&server_config(&credentials).unwrap(), &client);
    assert_eq!(server.channel.alpn(), None);
    assert_eq!(client.channel.alpn(), None);
    assert_eq!(client.channel.session_id(), server.channel.session_id());
}

#[test]
fn a_client_with_other_protocols_gets_the_alert() {
    let credentials = credentials(1, 2);
    let client = client_config_with_alpn(credentials.ca_fingerprint, &[b"xftp/1", b"h2"]).unwrap();
    let (server, client) = refused(&server_config(&credentials).unwrap(), &client);
    let server = server.unwrap();
    assert_eq!(server, TlsError::Handshake(rustls::Error::NoApplicationProtocol));
    assert_eq!(server.culprit(), Culprit::Peer);
    assert_eq!(client, Some(TlsError::Alert(AlertDescription::NoApplicationProtocol)));
}

#[test]
fn the_first_common_protocol_of_the_router_is_taken() {
    let credentials = credentials(1, 2);
    let server = server_config_with(&credentials, &[b"xftp/1", b"h2"], provider()).unwrap();
    let client = client_config_with_alpn(credentials.ca_fingerprint, &[b"h2", b"xftp/1"]).unwrap();
    let (server, client) = established(&server, &client);
    assert_eq!(server.channel.alpn(), Some(&b"xftp/1"[..]));
    assert_eq!(client.channel.alpn(), Some(&b"xftp/1"[..]));
}

#[test]
fn another_router_is_refused_and_the_client_knows_why() {
    let (ours, theirs) = (credentials(1, 2), credentials(3, 4));
    let client = client_config(ours.ca_fingerprint).unwrap();
    let (server, client) = refused(&server_config(&theirs).unwrap(), &client);
    let expected = ChainError::Identity { expected: ours.ca_fingerprint, found: theirs.ca_fingerprint };
    assert_eq!(client, Some(TlsError::Identity(expected)));
    assert_eq!(server, Some(TlsError::Alert(AlertDescription::CertificateUnknown)));
}

#[test]
fn a_leaf_of_another_ca_is_refused() {
    let (ours, theirs) = (credentials(1, 2), credentials(3, 4));
    let mut mixed = theirs.clone();
    mixed.chain[1] = ours.chain[1].clone();
    let client = client_config(ours.ca_fingerprint).unwrap();
    let (_, client) = refused(&server_config(&mixed).unwrap(), &client);
    assert_eq!(client, Some(TlsError::Identity(ChainError::Signature { certificate: 0 })));
}

#[test]
fn a_router_without_the_private_key_is_refused() {
    let mut stolen = credentials(1, 2);
    stolen.key = SigningKey::ed25519(&[9; 32]);
    let client = client_config(stolen.ca_fingerprint).unwrap();
    let (_, client) = refused(&server_config(&stolen).unwrap(), &client);
    let bad_signature = rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature);
    assert_eq!(client, Some(TlsError::Handshake(bad_signature)));
}

#[test]
fn chains_of_other_lengths_are_refused() {
    let full = credentials(1, 2);
    for length in [1, 5] {
        let mut other = full.clone();
        other.chain.resize(length, full.chain[1].clone());
        let client = client_config(full.ca_fingerprint).unwrap();
        let (_, client) = refused(&server_config(&other).unwrap(), &client);
        assert_eq!(client, Some(TlsError::Identity(ChainError::Length(length))));
    }
}

#[test]
fn certificates_outside_of_their_time_are_refused() {
    let far = now_secs() + 400 * 86_400;
    let authority = CertificateAuthority::generate(&[1; 32], far).unwrap();
    let issued = authority.issue("localhost", &[2; 32], far).unwrap();
    let early = RouterCredentials::from_pem(
        &authority.certificate_pem(),
        &issued.certificate_pem,
        &issued.key_pem,
        far,
    );
    let early = early.unwrap();
    let client = client_config(early.ca_fingerprint).unwrap();
    let (_, failure) = refused(&server_config(&early).unwrap(), &client);
    assert!(matches!(failure, Some(TlsError::Identity(ChainError::NotYetValid { certificate: 0, .. }))));

    // One that ended in the year 2000.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1999, 1, 1);
    params.not_after = rcgen::date_time_ymd(2000, 1, 1);
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let leaf_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let leaf = rcgen::CertificateParams::default().signed_by(&leaf_key, &issuer).unwrap();
    let key = SigningKey::from_pkcs8_der(leaf_key.serialized_der()).unwrap();
    let expired =
        RouterCredentials::new(vec![leaf.der().clone(), ca.der().clone()], key, 930_000_000).unwrap();
    assert_eq!(expired.not_after_secs(), 946_684_800);
    let client = client_config(expired.ca_fingerprint).unwrap();
    let (_, failure) = refused(&server_config(&expired).unwrap(), &client);
    let why = ChainError::Expired { certificate: 1, not_after_secs: 946_684_800 };
    assert_eq!(failure, Some(TlsError::Identity(why)));
}

#[test]
fn recorded_chains_of_2_3_and_4_certificates_with_both_algorithms() {
    let recorded = vectors("handshake.json");
    let mut seen = Vec::new();
    for case in recorded["cases"].as_array().unwrap() {
        let shape = (chain(&case["server_chain"]).len(), leaf_key(&case["server_chain"]).algorithm());
        if seen.contains(&shape) {
            continue;
        }
        seen.push(shape);
        let credentials =
            RouterCredentials::new(chain(&case["server_chain"]), leaf_key(&case["server_chain"]), now_secs());
        let credentials = credentials.unwrap();
        let identity = support::array(&case["server_chain"]["identity_fingerprint"]);
        assert_eq!(credentials.ca_fingerprint, identity);
        let (server, client) =
            established(&server_config(&credentials).unwrap(), &client_config(identity).unwrap());
        assert_eq!(server.channel.session_id(), client.channel.session_id());
        // No other certificate of the chain will do.
        for (index, der) in credentials.chain.iter().enumerate().filter(|(index, _)| *index != 1) {
            let other = client_config(ringpost_protocol::certificate::fingerprint(der)).unwrap();
            let (_, failure) = refused(&server_config(&credentials).unwrap(), &other);
            assert!(matches!(failure, Some(TlsError::Identity(ChainError::Identity { .. }))), "{index}");
        }
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn a_key_share_of_another_group_is_retried_with_x25519() {
    let credentials = credentials(1, 2);
    let mut groups = CryptoProvider::clone(&provider());
    // Only the first one gets a share in the first hello.
    groups.kx_groups = vec![kx_group::SECP256R1, kx_group::X25519];
    let (mut server, mut client) =
        (End::server(&server_config(&credentials).unwrap()), End::client(&client_with(groups, &credentials)));
    client.step().unwrap();
    carry(&mut client, &mut server);
    server.step().unwrap();
    assert!(server.outgoing.windows(8).any(|bytes| bytes == RETRY_RANDOM), "a retry is asked for");
    carry(&mut server, &mut client);
    shake_hands(&mut server, &mut client).unwrap();
    assert_eq!(server.channel.session_id(), client.channel.session_id());
    assert_eq!(server.channel.session_id().unwrap().as_ref().len(), 32);
}

/// As the apps: a share of X448 alone, and X25519 for those who want another hello.
#[test]
fn a_share_of_x448_needs_no_retry() {
    let credentials = credentials(1, 2);
    let mut app = CryptoProvider::clone(&provider_with_x448());
    app.kx_groups.reverse();
    for (routers, retried) in [(provider_with_x448(), false), (provider(), true)] {
        let config = server_config_with(&credentials, &[b"smp/1"], routers).unwrap();
        let (mut server, mut client) =
            (End::server(&config), End::client(&client_with(app.clone(), &credentials)));
        client.step().unwrap();
        carry(&mut client, &mut server);
        server.step().unwrap();
        assert_eq!(server.outgoing.windows(8).any(|bytes| bytes == RETRY_RANDOM), retried);
        carry(&mut server, &mut client);
        shake_hands(&mut server, &mut client).unwrap();
        assert_eq!(server.channel.session_id(), client.channel.session_id());
    }
}

#[test]
fn an_x448_share_of_low_order_is_refused() {
    let credentials = credentials(1, 2);
    let mut app = CryptoProvider::clone(&provider_with_x448());
    app.kx_groups.reverse();
    let mut server = End::server(&server_config(&credentials).unwrap());
    let mut client = End::client(&client_with(app, &credentials));
    client.step().unwrap();
    // The only entry of the key_share extension: group 30, 56 bytes.
    let entry = [0, 51, 0, 62, 0, 60, 0, 30, 0, 56];
    let at = client.outgoing.windows(entry.len()).position(|bytes| bytes == entry).unwrap() + entry.len();
    client.outgoing[at..at + 56].fill(0);
    carry(&mut client, &mut server);
    let error = server.step().unwrap_err();
    let invalid = rustls::Error::PeerMisbehaved(rustls::PeerMisbehaved::InvalidKeyShare);
    assert_eq!(error, TlsError::Handshake(invalid));
}

#[test]
fn clients_without_the_cipher_suite_or_the_group_are_refused() {
    let credentials = credentials(1, 2);
    let server = server_config(&credentials).unwrap();
    let mut aes = default_provider();
    aes.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384];
    let (failure, client) = refused(&server, &client_with(aes, &credentials));
    let no_suite = rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon);
    assert_eq!(failure, Some(TlsError::Handshake(no_suite)));
    assert_eq!(client, Some(TlsError::Alert(AlertDescription::HandshakeFailure)));

    let mut groups = default_provider();
    groups.kx_groups = vec![kx_group::SECP256R1, kx_group::SECP384R1];
    let (failure, client) = refused(&server, &client_with(groups, &credentials));
    let failure = failure.unwrap();
    assert!(matches!(failure, TlsError::Handshake(rustls::Error::PeerIncompatible(_))), "{failure:?}");
    assert_eq!(client, Some(TlsError::Alert(AlertDescription::HandshakeFailure)));
}

#[test]
fn a_client_of_tls_1_2_is_refused() {
    // A hello without supported_versions: cipher suite ECDHE-RSA-CHACHA20, groups X25519, signatures Ed25519.
    let extensions: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 29, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 8, 7];
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xcc, 0xa8, 1, 0, 0, u8::try_from(extensions.len()).unwrap()]);
    body.extend_from_slice(extensions);
    let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend_from_slice(&body);
    let mut server = End::server(&server_config(&credentials(1, 2)).unwrap());
    server.incoming.extend_from_slice(&[22, 3, 1, 0, u8::try_from(message.len()).unwrap()]);
    server.incoming.extend_from_slice(&message);
    let error = server.step().unwrap_err();
    assert!(matches!(error, TlsError::Handshake(rustls::Error::PeerIncompatible(_))), "{error:?}");
    // A plain fatal alert: protocol_version.
    assert_eq!(server.outgoing, [21, 3, 3, 0, 2, 2, 70]);
    assert_eq!(server.step(), Err(TlsError::Ended));
}

#[test]
fn browsers_may_choose_other_suites() {
    let credentials = credentials(1, 2);
    let mut config = ServerConfig::clone(&server_config(&credentials).unwrap());
    let certified = config.cert_resolver.clone();
    config = ServerConfig::builder_with_provider(web_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certified);
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    let server = Arc::new(config);
    for (suite, id_bytes) in [
        (cipher_suite::TLS13_AES_128_GCM_SHA256, 32),
        (cipher_suite::TLS13_AES_256_GCM_SHA384, 48),
        (cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, 32),
    ] {
        let mut one = CryptoProvider::clone(&web_provider());
        one.cipher_suites.retain(|known| known.suite() == suite.suite());
        let (mut server, mut client) = established(&server, &client_with(one, &credentials));
        let id = server.channel.session_id().unwrap();
        assert_eq!(id.as_ref().len(), id_bytes);
        assert_eq!(client.channel.session_id(), Some(id));
        client.send(b"to the router");
        carry(&mut client, &mut server);
        assert_eq!(server.open_all().unwrap(), b"to the router");
        let page = vec![5; 40_000];
        server.send(&page);
        carry(&mut server, &mut client);
        assert_eq!(client.open_all().unwrap(), page);
    }
}

#[test]
fn configurations_that_cannot_work_are_named() {
    let credentials = credentials(1, 2);
    let mut closed = ServerConfig::clone(&server_config(&credentials).unwrap());
    closed.enable_secret_extraction = false;
    let error = TlsChannel::server(Arc::new(closed)).unwrap_err();
    assert!(matches!(error, TlsError::Configuration(_)));
    assert_eq!(error.culprit(), Culprit::Local);

    // A provider without the watched HKDF: no session identifier, so no connection.
    let (mut server, mut client) = (
        End::server(&server_config(&credentials).unwrap()),
        End::client(&client_with(default_provider(), &credentials)),
    );
    let (_, failure) = *shake_hands(&mut server, &mut client).unwrap_err();
    assert!(matches!(failure, Some(TlsError::Configuration(_))), "{failure:?}");
}
