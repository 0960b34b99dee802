//! What the larger curve costs a router: X448 in the handshake against the retry that it saves, and Ed448 signatures.
//! `cargo bench -p ringpost-bench --bench curve448`
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use criterion::{Criterion, criterion_group, criterion_main};
use ringpost_protocol::certificate::{CertificateAuthority, RouterCredentials, SigningKey};
use ringpost_protocol::crypto::ed448;
use ringpost_protocol::tls::config::{ALPN_SMP, client_config_with, server_config_with};
use ringpost_protocol::tls::provider::{provider, provider_with_x448};
use ringpost_protocol::tls::{TlsChannel, no_server_name};
use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};

fn credentials(key: impl Fn(u8) -> SigningKey) -> RouterCredentials {
    let now_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    let authority = CertificateAuthority::generate_with(key(1), now_secs).unwrap();
    let issued = authority.issue_with("localhost", &key(2), now_secs).unwrap();
    let (ca, key) = (authority.certificate_pem(), &issued.key_pem);
    RouterCredentials::from_pem(&ca, &issued.certificate_pem, key, now_secs).unwrap()
}

/// The processor time of this thread.
fn spent() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// A handshake. Returns the processor time that the router's side took.
fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Duration {
    let mut router_time = Duration::ZERO;
    let before = spent();
    let mut server = TlsChannel::server(Arc::clone(server)).unwrap();
    router_time += spent().saturating_sub(before);
    let mut client = TlsChannel::client(Arc::clone(client), no_server_name()).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    while !(server.is_established() && client.is_established()) {
        let progress = client.handshake(&mut to_client, &mut to_server).unwrap();
        to_client.drain(..progress.consumed);
        let before = spent();
        let progress = server.handshake(&mut to_server, &mut to_client).unwrap();
        router_time += spent().saturating_sub(before);
        to_server.drain(..progress.consumed);
    }
    black_box(server.session_id());
    router_time
}

fn handshakes(c: &mut Criterion) {
    let mut group = c.benchmark_group("router's part of a TLS handshake");
    let ed25519 = credentials(|seed| SigningKey::ed25519(&[seed; 32]));
    let ed448 = credentials(|seed| SigningKey::ed448(&[seed; 57]));
    let server = |credentials, provider| server_config_with(credentials, &[ALPN_SMP], provider).unwrap();
    let client = |credentials: &RouterCredentials, provider| {
        client_config_with(credentials.ca_fingerprint, &[ALPN_SMP], provider).unwrap()
    };
    // As the apps: a share of X448 alone, X25519 as the second choice.
    let mut app = CryptoProvider::clone(&provider_with_x448());
    app.kx_groups.reverse();
    let app = Arc::new(app);
    for (name, credentials, routers, clients) in [
        ("X25519", &ed25519, provider(), provider()),
        ("X448", &ed25519, provider_with_x448(), Arc::clone(&app)),
        ("X25519 after a retry", &ed25519, provider(), Arc::clone(&app)),
        ("X25519 with an Ed448 certificate", &ed448, provider(), provider()),
    ] {
        let (server, client) = (server(credentials, routers), client(credentials, clients));
        group.bench_function(name, |b| {
            b.iter_custom(|times| (0..times).map(|_| handshake(&server, &client)).sum());
        });
    }
}

fn signatures(c: &mut Criterion) {
    use ed448_goldilocks_plus::{SecretKey, Signature, SigningKey, VerifyingKey};
    let mut group = c.benchmark_group("Ed448");
    let key = ed448::PrivateKey::from_seed(&[3; 57]);
    let public = *key.public().as_bytes();
    let message: &[&[u8]] = &[&[4; 200]];
    let signature = key.sign(message);
    // As a router does it for a command: the key comes as bytes.
    group.bench_function("verify", |b| {
        b.iter(|| {
            assert!(ed448::PublicKey::from_bytes(black_box(&public)).unwrap().verify(&signature, message));
        });
    });
    group.bench_function("verify, ed448-goldilocks-plus", |b| {
        b.iter(|| {
            let key = VerifyingKey::from_bytes(black_box(&public)).unwrap();
            key.verify_raw(&Signature::from_bytes(&signature).unwrap(), message[0]).unwrap();
        });
    });
    group.bench_function("sign", |b| b.iter(|| key.sign(black_box(message))));
    let other = SigningKey::from_bytes(&SecretKey::from([3; 57]));
    group.bench_function("sign, ed448-goldilocks-plus", |b| b.iter(|| other.sign_raw(black_box(message[0]))));
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! { name = curve448; config = config(); targets = handshakes, signatures }
criterion_main!(curve448);
