//! Sending through a proxy: "Proxying sender commands" of the protocol text.
//!
//! ```text
//! PRXY relay -> PKEY        the proxy's session with the relay: its ID, versions and key
//! PFWD box   -> PRES box    box of a block's content: one transmission, for the relay alone
//! ```
//!
//! The box of a command is sealed with a key of its own and the relay's session key; the nonce is the correlation ID of
//! PFWD, and that of the response the same with its bytes reversed.

use std::time::{SystemTime, UNIX_EPOCH};

use ringpost_protocol::address::RouterAddress;
use ringpost_protocol::certificate::{verify_router_chain, verify_signed_key};
use ringpost_protocol::command::{Command, MsgFlags, RouterBinary};
use ringpost_protocol::crypto::boxes::{BoxKey, open_in_place, reversed, seal_in_place};
use ringpost_protocol::crypto::{DhPrivateKey, OwnedAuthorization};
use ringpost_protocol::encoding::{Sink, unpad};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::TAG_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::transmission::{Format, parse_content};
use ringpost_protocol::version::{SmpVersion, VersionRange};

use crate::buffer::Buffer;
use crate::client::{Client, Outgoing, no_randomness};
use crate::error::{ClientError, CommandFault, ProtocolFault};
use crate::id::EntityId;
use crate::queue::{SenderQueue, random};
use crate::request::{CorrId, PendingSend, Reply};

/// The padded content of a forwarded block. All boxes have this size and a tag.
const PADDED_BYTES: usize = 16_226;

/// A proxy's session with a relay, through which clients reach the relay's queues.
#[derive(Clone, Debug)]
pub struct RelaySession {
    id: SessionId,
    version: SmpVersion,
    key: DhPublicKey,
}

/// PKEY, owned.
#[derive(Debug)]
pub(crate) struct RelayKeys {
    pub(crate) session_id: SessionId,
    pub(crate) versions: VersionRange,
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) signed_key: Vec<u8>,
}

impl RelayKeys {
    /// Checks that the relay itself has made the key.
    fn verify(&self, identity: &[u8; 32]) -> Result<DhPublicKey, ProtocolFault> {
        let now_secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now_secs = i64::try_from(now_secs).unwrap_or(i64::MAX);
        let fault = |error: &dyn std::fmt::Display| ProtocolFault::RelayIdentity(error.to_string());
        let leaf =
            verify_router_chain(&self.certificates, identity, now_secs).map_err(|error| fault(&error))?;
        let der = verify_signed_key(&self.signed_key, &leaf).map_err(|error| fault(&error))?;
        DhPublicKey::from_der(der).map_err(|error| fault(&error))
    }
}

impl RelaySession {
    /// The version in which commands are sent to the relay.
    pub fn version(&self) -> SmpVersion {
        self.version
    }
}

/// A command on its way through a proxy, and what opens the response.
#[derive(Debug)]
pub(crate) struct Forwarding {
    session_id: SessionId,
    version: SmpVersion,
    key: BoxKey,
    nonce: CorrId,
}

impl Forwarding {
    /// Seals a command: the box, and what opens its response. `nonce` is the correlation ID of PFWD.
    fn seal(
        session: &RelaySession,
        queue: &SenderQueue,
        command: &Command<'_>,
        nonce: CorrId,
        command_key: &DhPrivateKey,
    ) -> Result<(Self, Buffer), CommandFault> {
        let mut authorized = Buffer::of_block();
        authorized.put_short(session.id.as_ref());
        let sent_from = authorized.len();
        authorized.put_short(&nonce);
        authorized.put_short(queue.sender_id.as_bytes());
        command.encode(session.version, &mut *authorized);
        let authorization = match &queue.key {
            Some(key) => Some(key.authorize(&[&authorized[..]], Some(&session.key), &nonce)?),
            None => None,
        };
        let authorization = authorization.as_ref().map_or(&[][..], OwnedAuthorization::as_bytes);
        let has_service_signature =
            !authorization.is_empty() && Format::forwarded(session.version).service_signature;
        let sent = authorized.get(sent_from..).unwrap_or_default();
        let transmission_bytes = 1 + authorization.len() + usize::from(has_service_signature) + sent.len();
        let content_bytes = 1 + 2 + transmission_bytes;
        if 2 + content_bytes > PADDED_BYTES {
            return Err(CommandFault::TooLarge);
        }
        let length = |bytes: usize| u16::try_from(bytes).map_err(|_| CommandFault::TooLarge);
        let mut sealed = Buffer::of_block();
        sealed.resize(TAG_BYTES, 0);
        sealed.put_u16(length(content_bytes)?);
        sealed.put(&[1]);
        sealed.put_u16(length(transmission_bytes)?);
        sealed.put_short(authorization);
        if has_service_signature {
            sealed.put(b"0");
        }
        sealed.put(sent);
        sealed.resize(TAG_BYTES + PADDED_BYTES, b'#');
        let key = command_key.agree(&session.key).box_key();
        seal_in_place(&key, &nonce, &mut sealed);
        Ok((Self { session_id: session.id, version: session.version, key, nonce }, sealed))
    }

    /// Opens the relay's response: OK, or its error.
    pub(crate) fn done(&self, mut sealed: Buffer, command: &'static str) -> Result<(), ClientError> {
        let block = |text: &str| ClientError::Protocol(ProtocolFault::Block(text.to_owned()));
        let padded = open_in_place(&self.key, &reversed(self.nonce), &mut sealed)
            .map_err(|error| block(&error.to_string()))?;
        let content = unpad(padded).map_err(|_| block("a response that is not padded"))?;
        let transmission = parse_content(content, Format::forwarded(self.version)).next();
        let transmission = transmission
            .ok_or_else(|| block("no response"))?
            .map_err(|bad| ClientError::Protocol(ProtocolFault::Unreadable(bad.error)))?;
        match transmission.decode_response(self.version, self.session_id.as_ref()) {
            Ok(Response::Ok) => Ok(()),
            Ok(Response::Err(error)) => Err(ClientError::Router(error)),
            Ok(other) => {
                let response = other.tag();
                Err(ClientError::Protocol(ProtocolFault::UnexpectedResponse { command, response }))
            }
            Err(error) => Err(ClientError::Protocol(ProtocolFault::Unreadable(error))),
        }
    }
}

impl Client {
    /// Asks this router for its session with another, to send to the other's queues through it (PRXY). From version 8.
    /// The relay's identity is checked against its address; commands will have a version from `versions`.
    pub async fn relay_session(
        &self,
        relay: &RouterAddress,
        versions: VersionRange,
    ) -> Result<RelaySession, ClientError> {
        let identity = <[u8; 32]>::try_from(relay.router.key_hash.as_bytes())
            .map_err(|_| ClientError::Command(CommandFault::RelayAddress))?;
        let hosts: Vec<String> = relay.router.hosts.as_slice().iter().map(ToString::to_string).collect();
        let port = relay.port().to_string();
        let router = RouterBinary {
            hosts: hosts.iter().map(String::as_bytes).collect(),
            port: port.as_bytes(),
            key_hash: relay.router.key_hash.as_bytes(),
        };
        let command = Command::Prxy { router, basic_auth: self.session().basic_auth.as_deref() };
        self.check_version(SmpVersion::PROXY, &command)?;
        match self.command(EntityId::EMPTY, &command, None).await? {
            Reply::Relay(keys) => {
                let key = keys.verify(&identity).map_err(ClientError::Protocol)?;
                let version = keys.versions.intersect(versions).map(VersionRange::max);
                let version = version.ok_or(ClientError::Protocol(ProtocolFault::RelayVersion))?;
                Ok(RelaySession { id: keys.session_id, version, key })
            }
            other => Err(other.unexpected("PRXY")),
        }
    }

    /// Sends a message to a queue of a relay: see [`start_send`](Self::start_send).
    pub async fn start_send_through(
        &self,
        relay: &RelaySession,
        queue: &SenderQueue,
        flags: MsgFlags,
        body: &[u8],
    ) -> Result<PendingSend, ClientError> {
        let version = relay.version;
        let body_bytes_max = Command::send_body_bytes_max(version);
        if body.len() > body_bytes_max {
            let fault = CommandFault::BodyTooLarge { body_bytes: body.len(), body_bytes_max, version };
            return Err(ClientError::Command(fault));
        }
        self.forward(relay, queue, &Command::Send { flags, body }).await
    }

    /// Lets a sender secure a queue of a relay with its own key: see [`secure_by_sender`](Self::secure_by_sender).
    pub async fn secure_by_sender_through(
        &self,
        relay: &RelaySession,
        queue: &SenderQueue,
    ) -> Result<(), ClientError> {
        let key = queue.public_key().ok_or(ClientError::Command(CommandFault::NoKey))?;
        self.forward(relay, queue, &Command::SKey(key)).await?.await
    }

    async fn forward(
        &self,
        relay: &RelaySession,
        queue: &SenderQueue,
        command: &Command<'_>,
    ) -> Result<PendingSend, ClientError> {
        let nonce = random().map_err(no_randomness)?;
        let command_key = random().map(DhPrivateKey::from_bytes).map_err(no_randomness)?;
        let (forwarding, sealed) =
            Forwarding::seal(relay, queue, command, nonce, &command_key).map_err(ClientError::Command)?;
        let command =
            Command::Pfwd { version: relay.version, key: command_key.public(), transmission: &sealed };
        let (request, reply) = self.request_as(nonce, relay.id.as_ref(), &command, None)?;
        self.hand_over(Outgoing::One(Box::new(request))).await?;
        Ok(PendingSend { reply, forwarding: Some(forwarding) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use ringpost_protocol::command::MsgFlags;
    use ringpost_protocol::crypto::boxes::open_padded;
    use ringpost_protocol::error::ErrorType;
    use ringpost_protocol::transmission::{Authorization, write_response};

    use crate::queue::KeyKind;

    fn relay() -> (DhPrivateKey, RelaySession) {
        let key = DhPrivateKey::from_bytes([3; 32]);
        let session = RelaySession {
            id: SessionId::new(&[8; 32]).unwrap(),
            version: SmpVersion(17),
            key: key.public(),
        };
        (key, session)
    }

    fn answer(forwarding: &Forwarding, response: &Response<'_>) -> Buffer {
        let mut transmission = Vec::new();
        let format = Format::forwarded(forwarding.version);
        write_response(format, &[], &forwarding.nonce, &[4; 24], response, &mut transmission);
        let mut content = vec![1];
        content.put_large(&transmission);
        let mut sealed = Buffer::of_block();
        sealed.resize(TAG_BYTES, 0);
        sealed.put_u16(u16::try_from(content.len()).unwrap());
        sealed.put(&content);
        sealed.resize(TAG_BYTES + PADDED_BYTES, b'#');
        seal_in_place(&forwarding.key, &reversed(forwarding.nonce), &mut sealed);
        sealed
    }

    /// What a relay finds in the box is the command, authorized for its session; what it answers is read.
    #[test]
    fn a_relay_can_read_what_is_forwarded_and_its_answer_is_read() {
        let (relay_key, session) = relay();
        let command_key = DhPrivateKey::from_bytes([5; 32]);
        let nonce = [9; 24];
        for kind in [None, Some(KeyKind::Ed25519), Some(KeyKind::X25519)] {
            let id = EntityId::new(&[4; 24]).unwrap();
            let queue = kind.map_or_else(
                || SenderQueue::unsecured(id),
                |kind| SenderQueue::new(id, kind.generate().unwrap()),
            );
            let command = Command::Send { flags: MsgFlags { notification: true }, body: &[7; 16_000] };
            let (forwarding, sealed) =
                Forwarding::seal(&session, &queue, &command, nonce, &command_key).unwrap();
            assert_eq!(sealed.len(), TAG_BYTES + PADDED_BYTES);
            let key = relay_key.agree(&command_key.public()).box_key();
            let content = open_padded(&key, &nonce, &sealed).unwrap();
            let parsed = parse_content(&content, Format::forwarded(session.version)).next().unwrap().unwrap();
            assert_eq!((parsed.corr_id, parsed.entity_id), (&nonce[..], &[4; 24][..]));
            assert_eq!(parsed.decode_command(session.version, &[8; 32]).unwrap(), command);
            assert_eq!(matches!(parsed.authorization, Authorization::None), kind.is_none());
            let parts = parsed.for_authorization_parts(&[8; 32]);
            let context = ringpost_protocol::crypto::authorization::VerifyContext {
                session_key: Some(&relay_key),
                corr_id: &nonce,
            };
            let public = queue.public_key();
            assert!(
                kind.is_none()
                    || ringpost_protocol::crypto::authorization::verify(
                        parsed.authorization,
                        &parts,
                        public.as_ref(),
                        context
                    )
            );

            forwarding.done(answer(&forwarding, &Response::Ok), "SEND").unwrap();
            let refused = answer(&forwarding, &Response::Err(ErrorType::Auth));
            assert!(matches!(forwarding.done(refused, "SEND"), Err(ClientError::Router(ErrorType::Auth))));
            let odd = answer(&forwarding, &Response::Pong);
            assert!(matches!(forwarding.done(odd, "SEND"), Err(ClientError::Protocol(_))));
            let mut turned = answer(&forwarding, &Response::Ok);
            turned[100] ^= 1;
            assert!(forwarding.done(turned, "SEND").is_err());
        }
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let (_, session) = relay();
        let id = EntityId::new(&[4; 24]).unwrap();
        let queue = SenderQueue::new(id, KeyKind::X25519.generate().unwrap());
        let command_key = DhPrivateKey::from_bytes([5; 32]);
        let sealed = |bytes: usize| {
            let body = vec![7; bytes];
            let command = Command::Send { flags: MsgFlags::default(), body: &body };
            Forwarding::seal(&session, &queue, &command, [9; 24], &command_key).map(drop)
        };
        sealed(Command::send_body_bytes_max(session.version)).unwrap();
        assert_eq!(sealed(16_200), Err(CommandFault::TooLarge));
    }
}
