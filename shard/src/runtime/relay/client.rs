//! PRXY and PFWD on the shard of the client's connection.

use std::ops::Range;
use std::rc::Rc;

use ringpost_protocol::address::Router;
use ringpost_protocol::command::RouterBinary;
use ringpost_protocol::error::{CommandError, ErrorType, ProxyError};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::version::SmpVersion;
use smallvec::SmallVec;

use super::super::connection::Connection;
use super::super::shard::{Letter, Shard};
use super::desk;
use crate::arena::Block;
use crate::proxy::{
    Answer, CorrId, Outcome, RelayAnswer, RelayDirectory, RelayRequest, Requested, Subject, Waiter, count,
};
use crate::service::same_password;

/// A PFWD, and where the client's box lies in its block.
pub struct Forward {
    pub corr_id: CorrId,
    pub session_id: SmallVec<[u8; 64]>,
    pub version: SmpVersion,
    pub key: DhPublicKey,
    pub transmission: Range<usize>,
}

/// PRXY.
pub fn ask_for_session(
    shard: &Rc<Shard>,
    connection: &Connection,
    corr_id: &[u8],
    relay: &RouterBinary<'_>,
    password: Option<&[u8]>,
) -> Result<(), ErrorType> {
    if let Some(wanted) = shard.service.borrow().create_password()
        && !password.is_some_and(|given| same_password(given, wanted))
    {
        return Err(ErrorType::Proxy(Box::new(ProxyError::BasicAuth)));
    }
    let relay = Router::try_from(relay).map_err(|_| ErrorType::Cmd(CommandError::Syntax))?;
    let client = Waiter { conn: connection.conn, corr_id: corr_id.into() };
    submit(shard, connection, RelayRequest { client, requested: Requested::Session(Box::new(relay)) });
    Ok(())
}

/// PFWD.
pub fn forward(shard: &Rc<Shard>, connection: &Connection, forward: Forward, block: Block) {
    let client = Waiter { conn: connection.conn, corr_id: forward.corr_id };
    let Some(session_id) = SessionId::new(&forward.session_id) else {
        count(&shard.counters, Subject::Forward, false, Outcome::NoConnection);
        let error = ErrorType::Proxy(Box::new(ProxyError::NoSession));
        shard.counters.error(&error);
        connection.respond(&client.corr_id, &forward.session_id, &Response::Err(error));
        return;
    };
    let requested = Requested::Forward {
        session_id,
        version: forward.version,
        key: forward.key,
        block: block.detach(),
        transmission: forward.transmission,
    };
    submit(shard, connection, RelayRequest { client, requested });
}

fn submit(shard: &Rc<Shard>, connection: &Connection, request: RelayRequest) {
    connection.forwarding.waiting.borrow_mut().push_back(request);
    start_waiting(shard, connection);
}

/// Starts as many of a client's commands as may be under way.
fn start_waiting(shard: &Rc<Shard>, connection: &Connection) {
    let forwarding = &connection.forwarding;
    while forwarding.under_way.get() < shard.config.proxy.client_concurrency {
        let Some(request) = forwarding.waiting.borrow_mut().pop_front() else { return };
        forwarding.under_way.set(forwarding.under_way.get() + 1);
        if let Some(answer) = start(shard, request) {
            finish(shard, connection, answer);
        }
    }
}

/// Sends a command to the shard that it is for. Gives the answer if it is there at once.
fn start(shard: &Rc<Shard>, request: RelayRequest) -> Option<RelayAnswer> {
    let home = match &request.requested {
        Requested::Session(relay) => RelayDirectory::shard_of_relay(relay, shard.map.shards()),
        Requested::Forward { session_id, .. } => {
            let Some(home) = shard.config.relays.shard_of_session(session_id) else {
                return Some(no_session(shard, request.client, *session_id));
            };
            home
        }
    };
    if home == shard.id {
        return desk::take_request(shard, request);
    }
    shard.post(home, Letter::Relay(Box::new(request)));
    None
}

/// There is no session of this ID, or none any more.
pub fn no_session(shard: &Shard, client: Waiter, session_id: SessionId) -> RelayAnswer {
    count(&shard.counters, Subject::Forward, false, Outcome::NoConnection);
    let error = ErrorType::Proxy(Box::new(ProxyError::NoSession));
    RelayAnswer { client, session_id: Some(session_id), answer: Answer::Error(error) }
}

/// An answer has come to the shard of its client.
pub fn answered(shard: &Rc<Shard>, answer: RelayAnswer) {
    let Some(connection) = shard.connection(answer.client.conn) else { return };
    finish(shard, &connection, answer);
    start_waiting(shard, &connection);
    connection.wake_held_back_reader();
}

fn finish(shard: &Shard, connection: &Connection, answer: RelayAnswer) {
    let forwarding = &connection.forwarding;
    forwarding.under_way.set(forwarding.under_way.get().saturating_sub(1));
    let corr_id = &answer.client.corr_id;
    let entity_id = answer.session_id.as_ref().map_or(&[][..], AsRef::as_ref);
    match answer.answer {
        Answer::Keys(keys) => {
            let response = Response::Pkey {
                session_id: keys.session_id.as_ref(),
                versions: keys.versions,
                certificates: keys.chain.iter().map(Vec::as_slice).collect(),
                signed_key: &keys.signed_key,
            };
            connection.respond(corr_id, entity_id, &response);
        }
        Answer::Response { block, transmission } => {
            let sealed = block.get(transmission).unwrap_or_default();
            connection.respond(corr_id, entity_id, &Response::Pres(sealed));
            shard.arena.recycle(block);
        }
        Answer::Error(error) => {
            shard.counters.error(&error);
            connection.respond(corr_id, entity_id, &Response::Err(error));
        }
    }
}
