//! TLS configurations of routers and clients.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::client_auth::ServiceVerifier;
use super::error::TlsError;
use super::provider::{provider, provider_with_x448, web_provider};
use super::signer::LeafKey;
use super::verifier::RouterVerifier;
use crate::certificate::{RouterCredentials, SigningKey, WebCertificate};
use crate::handshake::ServiceCredentials;

/// The protocol name of SMP: "ALPN to agree handshake version".
pub const ALPN_SMP: &[u8] = b"smp/1";
/// What web clients may speak: HTTP/1.1, whatever they negotiate. HTTP/2 is not offered, unlike by the reference: nothing
/// here needs it, and browsers open web sockets with HTTP/1.1 alone.
const ALPN_WEB: [&[u8]; 2] = [ALPN_SMP, b"http/1.1"];

/// The configuration of an SMP router with X448: see [`server_config_with`].
pub fn server_config(credentials: &RouterCredentials) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_with(credentials, &[ALPN_SMP], provider_with_x448())
}

/// The configuration of a router. A client that offers only other protocol names is refused with the alert
/// `no_application_protocol`; a client that offers none is accepted, then [`super::TlsChannel::alpn`] is None.
/// A client certificate is asked for, which services have: whoever sends one proves in TLS to own it, and a chain that
/// does not hold together ends the handshake. `provider` is one of [`super::provider`].
pub fn server_config_with(
    credentials: &RouterCredentials,
    alpn: &[&[u8]],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_of(own_certificate(credentials), Arc::new(ServiceVerifier), alpn, provider)
}

/// The configuration for clients that name the router (by SNI): browsers. They see the web certificate, and are asked for
/// none, since they would ask their user.
pub fn web_server_config(certificate: &WebCertificate) -> Result<Arc<ServerConfig>, TlsError> {
    let nobody = WebPkiClientVerifier::no_client_auth();
    server_config_of(Arc::new(certificate.clone()), nobody, &ALPN_WEB, web_provider())
}

/// The configuration for WebSocket clients that need no web certificate: they see the router's own.
pub fn websocket_server_config(credentials: &RouterCredentials) -> Result<Arc<ServerConfig>, TlsError> {
    let nobody = WebPkiClientVerifier::no_client_auth();
    server_config_of(own_certificate(credentials), nobody, &ALPN_WEB, web_provider())
}

fn own_certificate(credentials: &RouterCredentials) -> Arc<dyn ResolvesServerCert> {
    Arc::new(SingleCertAndKey::from(certified(&credentials.chain, &credentials.key)))
}

fn certified(chain: &[CertificateDer<'static>], key: &SigningKey) -> Arc<CertifiedKey> {
    Arc::new(CertifiedKey::new(chain.to_vec(), Arc::new(LeafKey::new(key.clone()))))
}

fn server_config_of(
    certificate: Arc<dyn ResolvesServerCert>,
    clients: Arc<dyn ClientCertVerifier>,
    alpn: &[&[u8]],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// The configuration of an SMP client for one router: see [`client_config_with`].
pub fn client_config(identity: [u8; 32]) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_with_alpn(identity, &[ALPN_SMP])
}

/// The configuration of a client with other protocol names: see [`client_config_with`].
pub fn client_config_with_alpn(identity: [u8; 32], alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_with(identity, alpn, provider())
}

/// The configuration of a client for the router with this identity: the key hash in its address. The router's chain
/// must have that identity, be signed throughout and be valid now; names are not checked. No SNI is sent.
///
/// `provider` is one of [`super::provider`]. Its first group gets a share in the client's first message.
pub fn client_config_with(
    identity: [u8; 32],
    alpn: &[&[u8]],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    Ok(Arc::new(client_config_of(identity, alpn, provider)?))
}

/// The configuration of a service, which shows its certificates to the router with this identity and proves to own them.
pub fn service_client_config(
    identity: [u8; 32],
    service: &ServiceCredentials,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = client_config_of(identity, &[ALPN_SMP], provider())?;
    config.client_auth_cert_resolver =
        Arc::new(SingleCertAndKey::from(certified(&service.chain, &service.key)));
    Ok(Arc::new(config))
}

fn client_config_of(
    identity: [u8; 32],
    alpn: &[&[u8]],
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(RouterVerifier { identity }))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    config.enable_secret_extraction = true;
    Ok(config)
}

/// For [`super::TlsChannel::client`]: rustls wants a server name, the protocol has none.
pub fn no_server_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}
