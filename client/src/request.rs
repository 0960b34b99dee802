//! From a command to the bytes of its transmission, and the response on its way back.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use ringpost_protocol::command::{Command, QueueMode, ServiceSubs};
use ringpost_protocol::encoding::Sink;
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::ID_BYTES;
use tokio::sync::oneshot;

use crate::buffer::Buffer;
use crate::error::{ClientError, CommandFault, ProtocolFault};
use crate::event::Message;
use crate::id::EntityId;
use crate::proxy::{Forwarding, RelayKeys};
use crate::queue::Authorizer;
use crate::session::Session;

/// Random, never used twice: it is the nonce of authenticators too.
pub(crate) type CorrId = [u8; ID_BYTES];

/// Room in front of the authorized bytes for the authorization (at most an Ed448 signature with its length) and the
/// signature of a service with its flag and length.
const HEAD_BYTES: usize = 1 + 114 + 1 + 1 + 64;

/// A transmission, ready to be put into a block.
#[derive(Debug)]
pub(crate) struct Transmission {
    buffer: Buffer,
    start: usize,
}

impl Transmission {
    /// Encodes and authorizes a command. Its body is copied once.
    ///
    /// The authorized bytes begin with the session ID, which is not sent from version 7 on. So they are written behind
    /// some room, and the authorization then goes right before the part that is sent.
    pub(crate) fn new(
        session: &Session,
        corr_id: &CorrId,
        entity: &[u8],
        command: &Command<'_>,
        key: Option<&Authorizer>,
    ) -> Result<Self, CommandFault> {
        let mut buffer = match command {
            Command::Send { .. } | Command::Pfwd { .. } => Buffer::of_block(),
            _ => Buffer::small(),
        };
        buffer.resize(HEAD_BYTES, 0);
        buffer.put_short(session.id());
        let sent_from = if session.format.session_implied { buffer.len() } else { HEAD_BYTES };
        buffer.put_short(corr_id);
        buffer.put_short(entity);
        command.encode(session.version(), &mut *buffer);

        let mut head = Vec::with_capacity(HEAD_BYTES);
        match key {
            None => head.put_short(&[]),
            Some(key) => {
                let authorized = buffer.get(HEAD_BYTES..).unwrap_or_default();
                let service = session.service.as_ref().filter(|_| command.is_service_signed());
                let fingerprint = service.map_or(&[][..], |service| &service.fingerprint);
                let parts = [fingerprint, authorized];
                let authorization = key.authorize(&parts, session.router_key.as_ref(), corr_id)?;
                head.put_short(authorization.as_bytes());
                if session.format.service_signature {
                    let signature =
                        service.map(|service| service.key.authorize(&[authorized], None, corr_id));
                    let signature = signature.transpose()?;
                    head.put_maybe(signature.as_ref(), |head, signature| {
                        head.put_short(signature.as_bytes());
                    });
                }
            }
        }
        let start = sent_from - head.len();
        if let Some(place) = buffer.get_mut(start..sent_from) {
            place.copy_from_slice(&head);
        }
        Ok(Self { buffer, start })
    }

    /// As it stands in a block, without its length.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

/// A command on its way to the connection's task.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) transmission: Transmission,
    pub(crate) corr_id: CorrId,
    pub(crate) waiting: Waiting,
}

/// Who waits for the response to what.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// What the response must be about, if that is known.
    pub(crate) entity: Option<EntityId>,
    pub(crate) command: &'static str,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<Reply, ClientError>>,
}

/// A response that is no error, owned.
#[derive(Debug)]
pub(crate) enum Reply {
    Ok,
    Subscribed,
    Pong,
    Ids(QueueIds),
    Message(Message),
    Info(Vec<u8>),
    Service(ServiceSubs),
    /// PKEY.
    Relay(Box<RelayKeys>),
    /// The box in PRES.
    Forwarded(Buffer),
}

#[derive(Debug)]
pub(crate) struct QueueIds {
    pub(crate) recipient_id: EntityId,
    pub(crate) sender_id: EntityId,
    pub(crate) router_dh_key: DhPublicKey,
    pub(crate) mode: Option<QueueMode>,
}

impl Reply {
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Subscribed => "SOK",
            Self::Pong => "PONG",
            Self::Ids(_) => "IDS",
            Self::Message(_) => "MSG",
            Self::Info(_) => "INFO",
            Self::Service(_) => "SOKS",
            Self::Relay(_) => "PKEY",
            Self::Forwarded(_) => "PRES",
        }
    }

    pub(crate) fn unexpected(&self, command: &'static str) -> ClientError {
        ClientError::Protocol(ProtocolFault::UnexpectedResponse { command, response: self.tag() })
    }
}

/// The response to a command that was handed over. Dropping it does not take the command back.
#[derive(Debug)]
pub(crate) struct PendingReply {
    pub(crate) command: &'static str,
    pub(crate) receiver: oneshot::Receiver<Result<Reply, ClientError>>,
}

impl Future for PendingReply {
    type Output = Result<Reply, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|reply| reply.unwrap_or(Err(ClientError::Closed)))
    }
}

/// The response to a SEND that was handed over with [`Client::start_send`](crate::Client::start_send), or through a proxy.
#[derive(Debug)]
#[must_use = "the router may refuse the message"]
pub struct PendingSend {
    pub(crate) reply: PendingReply,
    /// Opens the relay's response.
    pub(crate) forwarding: Option<Forwarding>,
}

impl Future for PendingSend {
    type Output = Result<(), ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let command = self.reply.command;
        let reply = std::task::ready!(Pin::new(&mut self.reply).poll(context));
        Poll::Ready(match (reply?, &self.forwarding) {
            (Reply::Ok, None) => Ok(()),
            (Reply::Forwarded(sealed), Some(forwarding)) => forwarding.done(sealed, "SEND"),
            (other, _) => Err(other.unexpected(command)),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringpost_protocol::command::MsgFlags;
    use ringpost_protocol::crypto::{DhPrivateKey, OwnedAuthorization};
    use ringpost_protocol::tls::SessionId;
    use ringpost_protocol::transmission::{Authorization, Authorized, Format};
    use ringpost_protocol::version::SmpVersion;

    use ringpost_protocol::handshake::ServiceRole;

    use crate::queue::{KeyKind, SenderQueue};
    use crate::session::Service;

    fn session(version: u16) -> Session {
        Session {
            format: Format::of_session(SmpVersion(version)),
            id: SessionId::new(&[8; 32]).unwrap(),
            router_key: Some(DhPrivateKey::from_bytes([3; 32]).public()),
            encrypted_blocks: true,
            basic_auth: None,
            service: None,
        }
    }

    /// In a service's session the queue's key covers the certificate too, and the service signs beside it.
    #[test]
    fn a_service_signs_what_makes_a_queue_its_own() {
        let entity = EntityId::new(&[4; 24]).unwrap();
        let corr_id = [9; 24];
        let service_key = KeyKind::Ed25519.generate().unwrap();
        let key = KeyKind::Ed25519.generate().unwrap();
        let queue = SenderQueue::new(entity, key.clone());
        for version in [16, 19] {
            let mut session = session(version);
            session.service = Some(Service {
                id: EntityId::new(&[5; 24]).unwrap(),
                role: ServiceRole::Messaging,
                fingerprint: [6; 32],
                key: Authorizer::new(service_key.clone()),
            });
            for (command, is_signed) in [(Command::Sub, true), (Command::NSub, true), (Command::Del, false)] {
                let made =
                    Transmission::new(&session, &corr_id, entity.as_bytes(), &command, queue.key.as_ref())
                        .unwrap();
                let mut scratch = Vec::new();
                let expected = Authorized::command(
                    session.format,
                    session.id(),
                    &corr_id,
                    entity.as_bytes(),
                    &command,
                    &mut scratch,
                );
                let claimed = expected.for_authorization();
                let fingerprint = if is_signed { &[6; 32][..] } else { &[] };
                let authorization = key.authorize(&[fingerprint, claimed], None, &corr_id).unwrap();
                let signature = is_signed.then(|| service_key.authorize(&[claimed], None, &corr_id).unwrap());
                let signature: Option<&[u8; 64]> =
                    signature.as_ref().map(|signature| signature.as_bytes().try_into().unwrap());
                let mut written = Vec::new();
                expected.write(authorization.as_borrowed(), signature, &mut written);
                assert_eq!(made.as_bytes(), written, "version {version}, {}", command.tag());
            }
        }
    }

    /// The transmission is what the protocol's own writer makes, in every version and with every key.
    #[test]
    fn is_the_transmission_of_the_protocol() {
        let entity = EntityId::new(&[4; 24]).unwrap();
        let corr_id = [9; 24];
        let send = Command::Send { flags: MsgFlags { notification: true }, body: &[1; 15_000] };
        for version in [6, 7, 11, 15, 16, 19] {
            let session = session(version);
            for command in [&send, &Command::Ping] {
                for kind in [None, Some(KeyKind::Ed25519), Some(KeyKind::Ed448), Some(KeyKind::X25519)] {
                    let queue = kind.map(|kind| SenderQueue::new(entity, kind.generate().unwrap()));
                    let key = queue.as_ref().and_then(|queue| queue.key.as_ref());
                    let made =
                        Transmission::new(&session, &corr_id, entity.as_bytes(), command, key).unwrap();
                    let mut scratch = Vec::new();
                    let expected = Authorized::command(
                        session.format,
                        session.id(),
                        &corr_id,
                        entity.as_bytes(),
                        command,
                        &mut scratch,
                    );
                    let authorization = key.map(|key| {
                        key.authorize(&[expected.for_authorization()], session.router_key.as_ref(), &corr_id)
                            .unwrap()
                    });
                    let authorization =
                        authorization.as_ref().map_or(Authorization::None, OwnedAuthorization::as_borrowed);
                    let mut written = Vec::new();
                    expected.write(authorization, None, &mut written);
                    assert_eq!(made.as_bytes(), written, "version {version}, {kind:?}");
                }
            }
        }
    }
}
