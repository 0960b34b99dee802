//! Forwarded commands: PRXY and PFWD of clients, for which this router is the proxy, and RFWD of proxies, for which it
//! is the relay.
//!
//! ```text
//! client's shard                     shard of the relay's session
//! PRXY, PFWD  -- RelayRequest -->    one session a relay, for the clients of all shards
//!                                    RFWD  -- TLS -->  relay
//! PKEY, PRES  <-- RelayAnswer --     RRES  <--------
//! ```
//!
//! Nothing here waits for a relay on behalf of a client: requests are noted, and answered when something comes, when
//! their time is over, or when the session ends.
//!
//! | file | what it does |
//! |---|---|
//! | `client` | PRXY and PFWD on the shard of the client |
//! | `desk` | the sessions of a shard: who waits for what |
//! | `session` | connecting to a relay; commands to it and answers from it |
//! | `dial` | from an address to a connected socket |
//! | `incoming` | RFWD: opening, executing, wrapping the response |

mod client;
mod desk;
mod dial;
mod incoming;
mod session;

use std::rc::Rc;
use std::sync::Arc;

use ringpost_protocol::command::Command;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::transmission::Transmission;

use super::connection::Connection;
use super::shard::Shard;
use crate::arena::Block;
use crate::proxy::CLIENT_BOX_BYTES;
use crate::service::{Session, check_service};

pub use client::answered;
pub use desk::{RelayDesk, request, watch};
pub use incoming::wrap;

/// What becomes of a transmission.
pub enum Sorted {
    /// The queue service executes it.
    ForService,
    /// PFWD or RFWD, for [`receive`]: it is so large that it is alone in its block.
    Forwarded,
    /// It will be answered.
    Taken,
    Refused(ErrorType),
}

/// Sorts out the commands that are forwarded.
pub fn sort(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    session: &Arc<Session>,
    transmission: &Transmission<'_>,
) -> Sorted {
    if !matches!(transmission.command.get(..5), Some(b"PRXY " | b"PFWD " | b"RFWD ")) {
        return Sorted::ForService;
    }
    let decoded = transmission
        .decode_command(session.version, session.session_id.as_ref())
        .and_then(|command| check_service(session, transmission, &command).map(|()| command));
    match decoded {
        // What clients seal is padded to one size.
        Ok(Command::Pfwd { transmission, .. }) if transmission.len() != CLIENT_BOX_BYTES => {
            Sorted::Refused(ErrorType::Cmd(CommandError::Syntax))
        }
        Ok(Command::Rfwd(sealed)) if sealed.len() < CLIENT_BOX_BYTES => Sorted::Refused(ErrorType::Crypto),
        Ok(Command::Pfwd { .. } | Command::Rfwd(_)) => Sorted::Forwarded,
        Ok(Command::Prxy { router, basic_auth }) => {
            match client::ask_for_session(shard, connection, transmission.corr_id, &router, basic_auth) {
                Ok(()) => Sorted::Taken,
                Err(error) => Sorted::Refused(error),
            }
        }
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
    let (start, len) = (usize::from(place.0), usize::from(place.1));
    let bytes = buffer.get(start..start + len).unwrap_or_default();
    let Ok(parsed) = Transmission::parse(bytes, session.format()) else { return };
    if parsed.command.starts_with(b"RFWD ") {
        incoming::execute(shard, connection, session, buffer, place);
        return;
    }
    let Ok(Command::Pfwd { version, key, transmission }) =
        parsed.decode_command(session.version, session.session_id.as_ref())
    else {
        return;
    };
    let at = transmission.as_ptr().addr() - buffer.as_ptr().addr();
    let forward = client::Forward {
        corr_id: parsed.corr_id.into(),
        session_id: parsed.entity_id.into(),
        version,
        key,
        transmission: at..at + transmission.len(),
    };
    client::forward(shard, connection, forward, buffer);
}
