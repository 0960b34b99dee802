//! The router's side of the handshake.

use super::service::ServiceHello;
use super::session_key::SessionKey;
use super::{HandshakeFailure, encrypts_blocks, read_block, write_block};
use crate::certificate::RouterCredentials;
use crate::crypto::{DhPrivateKey, DhSecret};
use crate::encoding::{Reader, Sink};
use crate::keys::DhPublicKey;
use crate::limits::BLOCK_BYTES;
use crate::tls::SessionId;
use crate::version::{SmpVersion, VersionRange};

/// What a router's hello is made of.
#[derive(Debug)]
pub struct RouterHello<'a> {
    /// See [`super::offered_versions`].
    pub offered: VersionRange,
    /// That of the TLS session.
    pub session_id: SessionId,
    pub credentials: &'a RouterCredentials,
    /// New for this session.
    pub session_key: SessionKey,
    /// Only for WebSocket sessions: the 32 bytes that the client wants to see signed. Browsers do not show the page
    /// the router's certificate in TLS, so the router proves here that it has the leaf's key (from version 19).
    pub web_challenge: Option<&'a [u8; 32]>,
}

/// A router that has sent its hello and waits for the client's.
#[derive(Debug)]
pub struct RouterHandshake {
    offered: VersionRange,
    session_id: SessionId,
    identity: [u8; 32],
    session_private_key: DhPrivateKey,
}

/// What router and client agreed on.
#[derive(Debug)]
pub struct RouterSession<'b> {
    pub session_id: SessionId,
    pub version: SmpVersion,
    /// From the least version offered to the agreed one.
    pub versions: VersionRange,
    /// The router's part of the session key: authenticators of commands are verified with it and the queue's key.
    pub session_private_key: DhPrivateKey,
    pub client_key: Option<DhPublicKey>,
    /// X25519 of both session keys, if the client sent one.
    pub secret: Option<DhSecret>,
    /// Whether blocks are encrypted inside TLS, with chains derived from `secret` and `session_id`.
    pub block_encryption: bool,
    /// The client is a router that forwards commands of others.
    pub proxy: bool,
    /// The client is a service, which waits for [`super::write_service_response`].
    pub service: Option<ServiceHello<'b>>,
}

impl RouterHandshake {
    /// Writes the router's hello into `block`.
    pub fn start(hello: RouterHello<'_>, block: &mut [u8; BLOCK_BYTES]) -> Result<Self, HandshakeFailure> {
        let RouterHello { offered, session_id, credentials, mut session_key, web_challenge } = hello;
        let mut content = Vec::new();
        offered.write(&mut content);
        content.put_short(session_id.as_ref());
        if offered.max() >= SmpVersion::AUTH_COMMANDS {
            content.put_list(&credentials.chain, |content, der| content.put_large(der));
            content.put_large(&session_key.signed(&credentials.key));
        }
        if let Some(challenge) = web_challenge
            && offered.max() >= SmpVersion::SERVICE_SUBSCRIPTIONS
        {
            let signed = [&challenge[..], session_id.as_ref()].concat();
            content.put_short(&credentials.key.sign(&signed));
        }
        write_block(&content, block)?;
        let identity = credentials.ca_fingerprint;
        Ok(Self { offered, session_id, identity, session_private_key: session_key.private })
    }

    /// Takes the client's hello. On an error the connection is closed without an answer.
    pub fn client_hello(self, block: &[u8]) -> Result<RouterSession<'_>, HandshakeFailure> {
        let mut reader = read_block(block)?;
        let version = SmpVersion(reader.u16()?);
        let identity = reader.short()?;
        let client_key =
            if version >= SmpVersion::AUTH_COMMANDS { read_session_key(&mut reader) } else { None };
        let proxy = if version >= SmpVersion::PROXY_FLAG { reader.bool()? } else { false };
        let service = if version >= SmpVersion::SERVICE_CERTIFICATES {
            reader.maybe(ServiceHello::read)?
        } else {
            None
        };
        if identity != self.identity {
            return Err(HandshakeFailure::Identity);
        }
        let versions = VersionRange::new(self.offered.min(), version)
            .filter(|_| self.offered.contains(version))
            .ok_or(HandshakeFailure::Version)?;
        let secret = client_key.as_ref().map(|key| self.session_private_key.agree(key));
        Ok(RouterSession {
            session_id: self.session_id,
            version,
            versions,
            block_encryption: encrypts_blocks(version, secret.as_ref(), proxy),
            session_private_key: self.session_private_key,
            client_key,
            secret,
            proxy,
            service,
        })
    }
}

/// A client's session key, if one stands here. Nothing marks its absence: what follows is then read as something else.
fn read_session_key(reader: &mut Reader<'_>) -> Option<DhPublicKey> {
    let mut ahead = *reader;
    let key = DhPublicKey::read(&mut ahead).ok()?;
    *reader = ahead;
    Some(key)
}
