//! This router as a relay: commands that a proxy forwards to its queues.
//!
//! The layers are opened where the block was received, so a forwarded message is copied no more than another. The command
//! goes to the home of its queue like any; only what wraps its response goes with it and comes back.

use std::sync::Arc;

use ringpost_protocol::error::{BrokerError, ErrorType, ProxyError, TransportError};
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{Format, Transmission, parse_content};
use smallvec::smallvec;

use super::super::connection::Connection;
use super::super::reader;
use super::super::shard::Shard;
use crate::arena::Block;
use crate::proxy::{Forwarded, Reply};
use crate::service::{Batch, BatchData, ForwardedBatch, Session, append};

/// Opens a RFWD whose transmission lies at `place` and hands its command to the home of its queue.
pub fn execute(
    shard: &Shard,
    connection: &Connection,
    session: &Arc<Session>,
    mut buffer: Block,
    place: (u16, u16),
) {
    let (start, len) = (usize::from(place.0), usize::from(place.1));
    let mut out = Vec::new();
    let opened = {
        let Some(bytes) = buffer.get_mut(start..start + len) else { return };
        open(session, bytes)
    };
    match opened {
        Ok((forwarded, sealed_at)) => {
            shard.counters.forwards_received.add(1);
            let Forwarded { version, content, reply } = forwarded;
            let acting = Arc::new(session.forwarding(version));
            let at = start + sealed_at;
            let content = at + content.start..at + content.end;
            match only_transmission(buffer.get(content).unwrap_or_default(), acting.format()) {
                Ok(transmission) => {
                    let place = transmission.bytes.as_ptr().addr() - buffer.as_ptr().addr();
                    let home = shard.home_of(&transmission, version);
                    let (Ok(place), Ok(len)) =
                        (u16::try_from(place), u16::try_from(transmission.bytes.len()))
                    else {
                        return;
                    };
                    let batch = Batch {
                        session: Arc::clone(session),
                        data: BatchData::Block(buffer.detach()),
                        transmissions: smallvec![(place, len)],
                        next: 0,
                        forwarded: Some(Box::new(ForwardedBatch { session: acting, reply })),
                    };
                    reader::send(shard, connection, home, batch);
                    return;
                }
                Err(NotOne::Many) => {
                    refuse(shard, session, &mut out, reply.corr_id(), ErrorType::Block);
                }
                Err(NotOne::Bad(bad)) => {
                    shard.counters.error(&bad.error);
                    let mut response = Vec::new();
                    append(&mut response, &acting, bad.corr_id, bad.entity_id, &Response::Err(bad.error));
                    out = wrap(connection, &reply, &response);
                }
            }
        }
        Err((corr_id, error)) => refuse(shard, session, &mut out, &corr_id, error),
    }
    connection.outbox.borrow_mut().push_responses(out);
    connection.wake_writer();
}

/// The layers of a RFWD transmission, opened where they are, and where its sealed part begins.
fn open(
    session: &Session,
    bytes: &mut [u8],
) -> Result<(Forwarded, usize), (crate::proxy::CorrId, ErrorType)> {
    // It was parsed before.
    let Ok(parsed) = Transmission::parse(bytes, session.format()) else {
        return Err((crate::proxy::CorrId::new(), ErrorType::Block));
    };
    let corr_id: crate::proxy::CorrId = parsed.corr_id.into();
    let Some(key) = &session.forward_key else {
        let no_key = BrokerError::Transport(TransportError::NoAuth);
        return Err((corr_id, ErrorType::Proxy(Box::new(ProxyError::Broker(no_key)))));
    };
    let sealed_at = bytes.len() - parsed.command.len() + b"RFWD ".len();
    let sealed = bytes.get_mut(sealed_at..).unwrap_or_default();
    match Forwarded::open(key, &session.router_key, &corr_id, sealed) {
        Ok(forwarded) => Ok((forwarded, sealed_at)),
        Err(error) => Err((corr_id, error)),
    }
}

enum NotOne<'a> {
    Many,
    Bad(ringpost_protocol::transmission::BadTransmission<'a>),
}

/// Only one transmission may be forwarded at once.
fn only_transmission(content: &[u8], format: Format) -> Result<Transmission<'_>, NotOne<'_>> {
    let mut transmissions = parse_content(content, format);
    match (transmissions.next(), transmissions.next()) {
        (Some(Ok(transmission)), None) => Ok(transmission),
        (Some(Err(bad)), None) => Err(NotOne::Bad(bad)),
        _ => Err(NotOne::Many),
    }
}

fn refuse(shard: &Shard, session: &Session, out: &mut Vec<u8>, corr_id: &[u8], error: ErrorType) {
    shard.counters.error(&error);
    append(out, session, corr_id, &[], &Response::Err(error));
}

/// The RRES with the response to a forwarded command, as a transmission with its 2-byte length.
pub fn wrap(connection: &Connection, reply: &Reply, response: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(session) = connection.session.get() else { return out };
    let sealed = session.forward_key.as_ref().map(|key| reply.seal(key, response, &mut out));
    if !matches!(sealed, Some(Ok(()))) {
        append(&mut out, session, reply.corr_id(), &[], &Response::Err(ErrorType::Block));
    }
    out
}
