//! What the shard of a client asks of the shard of a relay's session, and what it hears.

use std::ops::Range;
use std::sync::Arc;

use ringpost_protocol::address::Router;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::version::{SmpVersion, VersionRange};

use super::CorrId;
use crate::arena::Detached;
use crate::service::ConnRef;

/// Who waits for an answer.
#[derive(Clone, Debug)]
pub struct Waiter {
    pub conn: ConnRef,
    pub corr_id: CorrId,
}

/// A command of a client, to the shard that has, or is to have, the relay's session.
#[derive(Debug)]
pub struct RelayRequest {
    pub client: Waiter,
    pub requested: Requested,
}

#[derive(Debug)]
pub enum Requested {
    /// PRXY.
    Session(Box<Router>),
    /// PFWD.
    Forward {
        session_id: SessionId,
        version: SmpVersion,
        key: DhPublicKey,
        /// The client's box lies in it.
        block: Detached,
        transmission: Range<usize>,
    },
}

/// The answer, to the shard of the client's connection.
#[derive(Debug)]
pub struct RelayAnswer {
    pub client: Waiter,
    /// The entity of the answer: that of PFWD.
    pub session_id: Option<SessionId>,
    pub answer: Answer,
}

#[derive(Debug)]
pub enum Answer {
    /// PKEY.
    Keys(Arc<RelayKeys>),
    /// PRES: the client's box lies in the block.
    Response {
        block: Detached,
        transmission: Range<usize>,
    },
    Error(ErrorType),
}

/// What clients must know of a session with a relay.
#[derive(Debug)]
pub struct RelayKeys {
    pub session_id: SessionId,
    /// The versions that clients may use, as far as the relay has them.
    pub versions: VersionRange,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    pub signed_key: Vec<u8>,
}
