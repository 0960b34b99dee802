//! Commands that were sent and wait for their responses, and what arrives for them.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use ringpost_protocol::error::ErrorType;
use ringpost_protocol::limits::ID_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::transmission::{Transmission, parse_content};

use crate::buffer::Buffer;
use crate::error::{ClientError, ProtocolFault};
use crate::event::{Event, Message};
use crate::id::EntityId;
use crate::proxy::RelayKeys;
use crate::request::{CorrId, QueueIds, Reply, Waiting};
use crate::session::Session;

/// By correlation ID. The connection's task bounds how many.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    waiting: HashMap<CorrId, Waiting>,
}

impl InFlight {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn insert(&mut self, corr_id: CorrId, waiting: Waiting) {
        self.waiting.insert(corr_id, waiting);
    }

    /// Tells those whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        for (_, waiting) in self.waiting.extract_if(|_, waiting| waiting.deadline <= now) {
            // Who no longer waits needs no answer.
            let _ = waiting.reply.send(Err(ClientError::Timeout));
        }
    }

    /// Tells everyone that no response will come.
    pub(crate) fn fail_all(&mut self, error: &ClientError) {
        for (_, waiting) in self.waiting.drain() {
            let _ = waiting.reply.send(Err(error.clone()));
        }
    }

    /// Hands the transmissions of a block's content to those who wait for them, and appends the events. An error is one
    /// after which the connection cannot go on.
    pub(crate) fn receive(
        &mut self,
        content: &[u8],
        session: &Session,
        events: &mut VecDeque<Event>,
    ) -> Result<(), ProtocolFault> {
        for transmission in parse_content(content, session.format) {
            let transmission = transmission.map_err(|bad| ProtocolFault::Unreadable(bad.error))?;
            let response = transmission.decode_response(session.version(), session.id());
            let corr_id = <&CorrId>::try_from(transmission.corr_id).ok();
            match corr_id.and_then(|corr_id| self.waiting.remove(corr_id)) {
                Some(waiting) => events.extend(respond(waiting, &transmission, response)),
                None => events.extend(event(&transmission, response)?),
            }
        }
        Ok(())
    }
}

/// Answers who waits. A message that nobody waits for any more becomes an event: it was delivered, and must not be lost.
fn respond(
    waiting: Waiting,
    transmission: &Transmission<'_>,
    response: Result<Response<'_>, ErrorType>,
) -> Option<Event> {
    let command = waiting.command;
    let no_entity = transmission.entity_id.is_empty() && matches!(response, Ok(Response::Err(_)));
    let is_about = |entity: EntityId| transmission.entity_id == entity.as_bytes();
    let reply = if waiting.entity.is_none_or(is_about) || no_entity {
        match response {
            Ok(response) => reply(command, waiting.entity, response),
            Err(error) => Err(ClientError::Protocol(ProtocolFault::Unreadable(error))),
        }
    } else {
        Err(ClientError::Protocol(ProtocolFault::WrongEntity { command }))
    };
    // The protocol's text lets routers answer SUB with the first message.
    let (reply, event) = match reply {
        Ok(Reply::Message(message)) if command == "SUB" => {
            (Ok(Reply::Subscribed), Some(Event::Message(message)))
        }
        reply => (reply, None),
    };
    match waiting.reply.send(reply) {
        Err(Ok(Reply::Message(message))) => Some(Event::Message(message)),
        _ => event,
    }
}

fn reply(
    command: &'static str,
    entity: Option<EntityId>,
    response: Response<'_>,
) -> Result<Reply, ClientError> {
    Ok(match response {
        Response::Err(error) => return Err(ClientError::Router(error)),
        Response::Ok => Reply::Ok,
        Response::Sok { .. } => Reply::Subscribed,
        Response::Soks(subs) => Reply::Service(subs),
        Response::Pong => Reply::Pong,
        Response::Info(json) => Reply::Info(json.to_vec()),
        Response::Msg { msg_id, body } => {
            let entity = entity.unwrap_or(EntityId::EMPTY);
            Reply::Message(message(entity, msg_id, body).map_err(ClientError::Protocol)?)
        }
        Response::Pkey { session_id, versions, certificates, signed_key } => {
            Reply::Relay(Box::new(RelayKeys {
                session_id: SessionId::new(session_id)
                    .ok_or(ClientError::Protocol(ProtocolFault::IdSize(session_id.len())))?,
                versions,
                certificates: certificates.into_iter().map(<[u8]>::to_vec).collect(),
                signed_key: signed_key.to_vec(),
            }))
        }
        Response::Pres(sealed) => {
            let mut buffer = Buffer::of_block();
            buffer.extend_from_slice(sealed);
            Reply::Forwarded(buffer)
        }
        Response::Ids(ids) => Reply::Ids(QueueIds {
            recipient_id: entity_id(ids.recipient_id).map_err(ClientError::Protocol)?,
            sender_id: entity_id(ids.sender_id).map_err(ClientError::Protocol)?,
            router_dh_key: ids.router_dh_key,
            mode: ids.mode,
        }),
        other => {
            let response = other.tag();
            return Err(ClientError::Protocol(ProtocolFault::UnexpectedResponse { command, response }));
        }
    })
}

/// What comes without a command. Late responses and events of later versions are passed over.
fn event(
    transmission: &Transmission<'_>,
    response: Result<Response<'_>, ErrorType>,
) -> Result<Option<Event>, ProtocolFault> {
    let queue = || entity_id(transmission.entity_id);
    Ok(match response {
        Ok(Response::Msg { msg_id, body }) => Some(Event::Message(message(queue()?, msg_id, body)?)),
        Ok(Response::End) => Some(Event::End { queue: queue()? }),
        Ok(Response::Deld) => Some(Event::Deleted { queue: queue()? }),
        Ok(Response::Ends(subs)) => Some(Event::ServiceEnd(subs)),
        Ok(Response::Alls) => Some(Event::ServiceDelivered),
        // The router could not read a block of ours: what was in it stays without response.
        Ok(Response::Err(_)) if transmission.corr_id.is_empty() => {
            return Err(ProtocolFault::UnexpectedEvent("ERR"));
        }
        Ok(response) => {
            tracing::debug!(response = response.tag(), "response without a command");
            None
        }
        Err(error) => {
            tracing::debug!(?error, "event that cannot be read");
            None
        }
    })
}

fn message(queue: EntityId, msg_id: &[u8], encrypted: &[u8]) -> Result<Message, ProtocolFault> {
    let id: [u8; ID_BYTES] = msg_id.try_into().map_err(|_| ProtocolFault::IdSize(msg_id.len()))?;
    let mut body = Buffer::of_block();
    body.extend_from_slice(encrypted);
    Ok(Message { queue, id, body })
}

fn entity_id(id: &[u8]) -> Result<EntityId, ProtocolFault> {
    EntityId::new(id).ok_or(ProtocolFault::IdSize(id.len()))
}
