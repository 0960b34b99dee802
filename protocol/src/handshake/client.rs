//! The client's side of the handshake.

use super::service::ServiceHello;
use super::{HandshakeFailure, encrypts_blocks, read_block, write_block};
use crate::certificate::{VerifyingKey, router_identity, verify_signed_key};
use crate::crypto::{DhPrivateKey, DhSecret};
use crate::encoding::{DecodeError, Reader, Sink};
use crate::keys::DhPublicKey;
use crate::limits::BLOCK_BYTES;
use crate::tls::SessionId;
use crate::version::{SmpVersion, VersionRange};

/// A client that waits for the router's hello.
#[derive(Debug)]
pub struct ClientHandshake<'a> {
    /// What this client speaks.
    pub versions: VersionRange,
    /// That of the TLS session.
    pub session_id: SessionId,
    /// The key hash in the router's address: SHA-256 of its identity certificate.
    pub identity: [u8; 32],
    /// The key of the leaf that the router showed in TLS.
    pub leaf_key: &'a VerifyingKey,
    /// New for this session. Without one, blocks are not encrypted inside TLS.
    pub session_private_key: Option<DhPrivateKey>,
    /// This client is a router that forwards commands of others.
    pub proxy: bool,
    /// Sent from version 16 on.
    pub service: Option<ServiceHello<'a>>,
}

/// What client and router agreed on.
#[derive(Clone, Debug)]
pub struct ClientSession {
    pub session_id: SessionId,
    pub version: SmpVersion,
    /// The versions that both sides have, as far as this connection may use them.
    pub versions: VersionRange,
    /// The router's part of the session key: authenticators of commands are made with it and the queue's key.
    /// None below version 7.
    pub router_key: Option<RouterKey>,
    /// X25519 of both session keys, if both sides sent one.
    pub secret: Option<DhSecret>,
    /// Whether blocks are encrypted inside TLS, with chains derived from `secret` and `session_id`.
    pub block_encryption: bool,
    /// The router's next block is for [`super::read_service_response`].
    pub service_sent: bool,
}

/// A router's session key and what proves it. Proxies pass the proof on in PKEY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterKey {
    pub key: DhPublicKey,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    pub signed_key: Vec<u8>,
}

impl ClientHandshake<'_> {
    /// Takes the router's hello and writes the client's into `answer`.
    pub fn router_hello(
        self,
        block: &[u8],
        answer: &mut [u8; BLOCK_BYTES],
    ) -> Result<ClientSession, HandshakeFailure> {
        let mut reader = read_block(block)?;
        let offered = VersionRange::read(&mut reader)?;
        let session_id = reader.short()?;
        // Some routers may send no key, and nothing marks that.
        let with_key = offered.max() >= SmpVersion::AUTH_COMMANDS && !reader.rest().is_empty();
        let signed = if with_key { Some(SignedParts::read(&mut reader)?) } else { None };
        if session_id != self.session_id.as_ref() {
            return Err(HandshakeFailure::Session);
        }
        let versions = self.usable_versions(offered).ok_or(HandshakeFailure::Version)?;
        let version = versions.max();
        let router_key = signed.map(|signed| signed.verify(&self.identity, self.leaf_key)).transpose()?;
        let service = self.service.filter(|_| version >= SmpVersion::SERVICE_CERTIFICATES);

        let mut hello = Vec::new();
        hello.put_u16(version.0);
        hello.put_short(&self.identity);
        if version >= SmpVersion::AUTH_COMMANDS
            && let Some(private) = &self.session_private_key
        {
            private.public().write(&mut hello);
        }
        if version >= SmpVersion::PROXY_FLAG {
            hello.put_bool(self.proxy);
        }
        if version >= SmpVersion::SERVICE_CERTIFICATES {
            hello.put_maybe(service.as_ref(), |hello, service| service.write(hello));
        }
        write_block(&hello, answer)?;

        let secret = match (&self.session_private_key, &router_key) {
            (Some(private), Some(router)) if version >= SmpVersion::AUTH_COMMANDS => {
                Some(private.agree(&router.key))
            }
            _ => None,
        };
        Ok(ClientSession {
            session_id: self.session_id,
            version,
            versions,
            block_encryption: encrypts_blocks(version, secret.as_ref(), self.proxy),
            router_key,
            secret,
            service_sent: service.is_some(),
        })
    }

    /// The versions of both sides. A proxy goes back to version 10 with a router below version 14, because block
    /// encryption could not be turned off there, and it makes the blocks of older clients too large.
    fn usable_versions(&self, offered: VersionRange) -> Option<VersionRange> {
        let ours = if self.proxy && offered.max() < SmpVersion::PROXY_FLAG {
            let max = self.versions.min().max(SmpVersion::DELETED_EVENT).min(self.versions.max());
            VersionRange::new(self.versions.min(), max)?
        } else {
            self.versions
        };
        offered.intersect(ours)
    }
}

/// `routerCertKey`, as sent.
struct SignedParts<'a> {
    chain: Vec<&'a [u8]>,
    signed_key: &'a [u8],
}

impl<'a> SignedParts<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { chain: reader.list(Reader::large)?, signed_key: reader.large()? })
    }

    fn verify(self, identity: &[u8; 32], leaf_key: &VerifyingKey) -> Result<RouterKey, HandshakeFailure> {
        if router_identity(&self.chain).as_ref() != Ok(identity) {
            return Err(HandshakeFailure::BadAuth);
        }
        let spki = verify_signed_key(self.signed_key, leaf_key).map_err(|_| HandshakeFailure::BadAuth)?;
        Ok(RouterKey {
            key: DhPublicKey::from_der(spki).map_err(|_| HandshakeFailure::BadAuth)?,
            chain: self.chain.into_iter().map(<[u8]>::to_vec).collect(),
            signed_key: self.signed_key.to_vec(),
        })
    }
}
