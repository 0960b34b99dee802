//! The algorithms of TLS: ring's, cut down to what the protocol allows, and key exchange of our own on two curves.

use std::sync::{Arc, LazyLock};

use rustls::crypto::ring::{self, cipher_suite, kx_group};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};

use super::finished::WatchedHkdf;
use super::key_exchange::{X448, X25519};
use super::random::FetchedRandom;

/// The provider of native connections: `TLS_CHACHA20_POLY1305_SHA256` and X25519. A router with it asks a client that
/// sent a share of another group only (the apps send one of X448) for a second hello.
///
/// Signatures are not its matter: routers sign with their own key type, clients verify with their own verifier.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(native(vec![&X25519])));
    Arc::clone(&PROVIDER)
}

/// The provider of native connections with X448 beside X25519: the apps need no second hello. Which of the two is used
/// the client says; one that sends shares of both gets the first in its own order.
pub fn provider_with_x448() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(native(vec![&X25519, &X448])));
    Arc::clone(&PROVIDER)
}

fn native(kx_groups: Vec<&'static dyn SupportedKxGroup>) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: watched(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256).into_iter().collect(),
        kx_groups,
        secure_random: &FetchedRandom,
        ..ring::default_provider()
    }
}

/// The provider of connections that browsers may make: in addition AES-GCM and the NIST curves. With
/// `TLS_AES_256_GCM_SHA384` the session identifier has 48 bytes.
pub fn web_provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let suites = ring::DEFAULT_CIPHER_SUITES.iter().copied();
        Arc::new(CryptoProvider {
            cipher_suites: suites.filter_map(watched).collect(),
            kx_groups: vec![&X25519, kx_group::SECP256R1, kx_group::SECP384R1],
            secure_random: &FetchedRandom,
            ..ring::default_provider()
        })
    });
    Arc::clone(&PROVIDER)
}

/// The suite with an HKDF that remembers `Finished` tags. None for suites of TLS 1.2, which have none.
///
/// Leaks a few bytes: rustls wants static suites. Call it once a suite.
fn watched(suite: SupportedCipherSuite) -> Option<SupportedCipherSuite> {
    // Without the tls12 feature of rustls the pattern cannot fail, with it (as another crate may ask) it can.
    #[allow(irrefutable_let_patterns)]
    let SupportedCipherSuite::Tls13(suite) = suite else {
        return None;
    };
    Some(SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        hkdf_provider: Box::leak(Box::new(WatchedHkdf(suite.hkdf_provider))),
        aead_alg: suite.aead_alg,
        quic: None,
    }))))
}
