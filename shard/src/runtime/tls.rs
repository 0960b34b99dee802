//! What is spoken where, and the TLS configurations for it.

use std::net::SocketAddr;
use std::sync::Arc;

use ringpost_protocol::certificate::{RouterCredentials, WebCertificate};
use ringpost_protocol::tls::TlsError;
use ringpost_protocol::tls::config::{
    ALPN_SMP, server_config_with, web_server_config, websocket_server_config,
};
use ringpost_protocol::tls::provider::{provider, provider_with_x448};
use rustls::ServerConfig;

use super::StartError;

/// Who is expected at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Native clients. Whether they name the server (by SNI) does not matter.
    Native,
    /// Native clients, and web clients with the web certificate: those that name the server.
    Shared,
    /// Web clients, with the web certificate.
    Web,
    /// Web clients, with the router's own certificate, which browsers do not accept.
    WebSocket,
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    pub entry: Entry,
}

impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Self { address, entry: Entry::Native }
    }
}

/// What an operator may choose of TLS.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Whether X448 may be used for key exchange. The apps offer it first: without it each of their connections takes one
    /// more round trip, with it a handshake takes more than twice the processor time (0.2 ms more).
    pub x448: bool,
    /// For [`Entry::Shared`] and [`Entry::Web`].
    pub web: Option<WebCertificate>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { x448: true, web: None }
    }
}

/// The configurations of a router.
pub(crate) struct TlsConfigs {
    native: Arc<ServerConfig>,
    web: Option<Arc<ServerConfig>>,
    websocket: Arc<ServerConfig>,
}

impl TlsConfigs {
    pub(super) fn new(
        options: &TlsOptions,
        credentials: &RouterCredentials,
        listeners: &[Listener],
    ) -> Result<Self, StartError> {
        let error = |error: TlsError| StartError::Tls(error.to_string());
        let needs_web = |listener: &Listener| matches!(listener.entry, Entry::Shared | Entry::Web);
        if options.web.is_none() && listeners.iter().any(needs_web) {
            return Err(StartError::Tls("there is none for web clients".into()));
        }
        let provider = if options.x448 { provider_with_x448() } else { provider() };
        Ok(Self {
            native: server_config_with(credentials, &[ALPN_SMP], provider).map_err(error)?,
            web: options.web.as_ref().map(web_server_config).transpose().map_err(error)?,
            websocket: websocket_server_config(credentials).map_err(error)?,
        })
    }

    /// For a client that came to this entry: at a shared one, before it is known what it is.
    pub(super) fn of(&self, entry: Entry) -> Arc<ServerConfig> {
        Arc::clone(match entry {
            Entry::Native | Entry::Shared => &self.native,
            Entry::Web => self.web.as_ref().unwrap_or(&self.native),
            Entry::WebSocket => &self.websocket,
        })
    }

    /// For a client that named the server at a shared entry.
    pub(super) fn web(&self) -> Arc<ServerConfig> {
        self.of(Entry::Web)
    }
}
