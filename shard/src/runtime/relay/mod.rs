//! Forwarded commands: PRXY and PFWD of clients, for which this router is the proxy, and RFWD of proxies, for which it
//! is the relay.
//!
//! | file | what it does |
//! |---|---|
//! | `incoming` | RFWD: opening, executing, wrapping the response |

mod incoming;

use std::rc::Rc;
use std::sync::Arc;

use ringpost_protocol::command::Command;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::transmission::Transmission;

use super::connection::Connection;
use super::shard::Shard;
use crate::arena::Block;
use crate::service::Session;

pub use incoming::wrap;

/// What becomes of a transmission.
pub enum Sorted {
    /// The queue service executes it.
    ForService,
    /// PFWD or RFWD, for [`receive`]: it is alone in its block.
    Forwarded,
    /// It will be answered.
    Taken,
    Refused(ErrorType),
}

/// Sorts out the commands that are forwarded.
pub fn sort(
    _shard: &Rc<Shard>,
    _connection: &Rc<Connection>,
    session: &Arc<Session>,
    transmission: &Transmission<'_>,
) -> Sorted {
    if !matches!(transmission.command.get(..5), Some(b"PRXY " | b"PFWD " | b"RFWD ")) {
        return Sorted::ForService;
    }
    match transmission.decode_command(session.version, session.session_id.as_ref()) {
        Ok(Command::Rfwd(sealed)) if sealed.len() < crate::proxy::CLIENT_BOX_BYTES => {
            Sorted::Refused(ErrorType::Crypto)
        }
        Ok(Command::Rfwd(_)) => Sorted::Forwarded,
        Ok(_) => Sorted::ForService,
        Err(error) => Sorted::Refused(error),
    }
}

/// Takes the block of a PFWD or RFWD, whose transmission lies at `place`: its start and length.
pub fn receive(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    session: &Arc<Session>,
    buffer: Block,
    place: (u16, u16),
) {
    incoming::execute(shard, connection, session, buffer, place);
}
