//! The TLS side of a router.

use std::sync::Arc;

use ringpost_protocol::certificate::RouterCredentials;
use ringpost_protocol::tls::config::{ALPN_SMP, server_config_with};
use ringpost_protocol::tls::provider::{provider, provider_with_x448};
use rustls::ServerConfig;

use super::StartError;

/// What an operator may choose of TLS.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Whether X448 may be used for key exchange. The apps offer it first: without it each of their connections takes one
    /// more round trip, with it a handshake takes more than twice the processor time (0.2 ms more).
    pub x448: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { x448: true }
    }
}

impl TlsOptions {
    /// For native clients.
    pub(super) fn native(&self, credentials: &RouterCredentials) -> Result<Arc<ServerConfig>, StartError> {
        let provider = if self.x448 { provider_with_x448() } else { provider() };
        server_config_with(credentials, &[ALPN_SMP], provider)
            .map_err(|error| StartError::Tls(error.to_string()))
    }
}
