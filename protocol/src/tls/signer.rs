//! A router's private key as rustls wants it. rustls itself has no Ed448, which identities in use have.

use std::fmt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::{Signer, SigningKey as RustlsSigningKey};

use crate::certificate::{SignatureAlgorithm, SigningKey};

/// Proves in the TLS handshake that this side has the leaf's private key.
#[derive(Clone)]
pub(super) struct LeafKey(Arc<SigningKey>);

impl LeafKey {
    pub(super) fn new(key: SigningKey) -> Self {
        Self(Arc::new(key))
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(super) fn scheme(algorithm: SignatureAlgorithm) -> SignatureScheme {
    match algorithm {
        SignatureAlgorithm::Ed25519 => SignatureScheme::ED25519,
        SignatureAlgorithm::Ed448 => SignatureScheme::ED448,
    }
}

impl RustlsSigningKey for LeafKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&scheme(self.0.algorithm())).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        match self.0.algorithm() {
            SignatureAlgorithm::Ed25519 => rustls::SignatureAlgorithm::ED25519,
            SignatureAlgorithm::Ed448 => rustls::SignatureAlgorithm::ED448,
        }
    }
}

impl Signer for LeafKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(message))
    }

    fn scheme(&self) -> SignatureScheme {
        scheme(self.0.algorithm())
    }
}
