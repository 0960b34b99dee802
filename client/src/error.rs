//! What can go wrong, and whose fault it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringpost_protocol::error::ErrorType;
use ringpost_protocol::version::SmpVersion;

/// Why a command failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The router refused the command.
    #[error("the router answered {}", error_text(.0))]
    Router(ErrorType),
    /// No response in time. The router may have executed the command or not.
    #[error("no response in time")]
    Timeout,
    /// The connection was closed, by either side, before the response came.
    #[error("the connection is closed")]
    Closed,
    /// The router broke the protocol.
    #[error("the router broke the protocol: {0}")]
    Protocol(ProtocolFault),
    /// The network or TLS failed under the connection.
    #[error("the connection failed: {0}")]
    Transport(TransportFault),
    /// The caller asked for what cannot be sent.
    #[error("the command cannot be sent: {0}")]
    Command(CommandFault),
}

impl ClientError {
    /// A short name from a small set, for counting: `router AUTH`, `timeout`, `closed`, ...
    pub fn kind(&self) -> String {
        match self {
            Self::Router(error) => format!("router {}", error_text(error)),
            Self::Timeout => "timeout".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Protocol(_) => "protocol".to_owned(),
            Self::Transport(_) => "transport".to_owned(),
            Self::Command(_) => "command".to_owned(),
        }
    }
}

/// What a router sent that the protocol does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolFault {
    #[error("{response} is no response to {command}")]
    UnexpectedResponse { command: &'static str, response: &'static str },
    #[error("the response to {command} is about another queue")]
    WrongEntity { command: &'static str },
    #[error("a response could not be read: {}", error_text(.0))]
    Unreadable(ErrorType),
    #[error("a block could not be opened: {0}")]
    Block(String),
    #[error("{0} where it does not belong")]
    UnexpectedEvent(&'static str),
    #[error("an ID of {0} bytes")]
    IdSize(usize),
    /// A proxy gave a key for a relay that the relay did not make.
    #[error("the relay is not the one of the address: {0}")]
    RelayIdentity(String),
    #[error("the relay has no version that can be used")]
    RelayVersion,
}

/// How the transport failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportFault {
    #[error("{0}")]
    Network(Arc<io::Error>),
    #[error("TLS: {0}")]
    Tls(String),
    /// A PING had no answer, and nothing else came either.
    #[error("the router does not answer")]
    KeepAlive,
    /// The peer took no bytes for longer than a command may last.
    #[error("the router does not read")]
    WriteStalled,
}

/// What the caller did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandFault {
    #[error("a body of {body_bytes} bytes, where version {version} allows {body_bytes_max}")]
    BodyTooLarge { body_bytes: usize, body_bytes_max: usize, version: SmpVersion },
    #[error("version {version} has no {command}")]
    NotInVersion { command: &'static str, version: SmpVersion },
    #[error("only a connection of a service has {command}")]
    NoService { command: &'static str },
    #[error("it could not be authorized: {0}")]
    Authorize(String),
    #[error("no randomness from the system: {0}")]
    Randomness(String),
    #[error("it does not fit into a block")]
    TooLarge,
    #[error("the queue has no private key to authorize it with")]
    NoKey,
    #[error("the relay's address has no key hash of 32 bytes")]
    RelayAddress,
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the address is not one of an SMP router")]
    Scheme,
    #[error("the address has a key hash of {0} bytes, where 32 are needed")]
    KeyHash(usize),
    #[error("the address names no host that can be reached without a proxy")]
    NoHost,
    #[error("{host}: {error}")]
    Network { host: String, error: io::Error },
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The router proved another identity than the address has.
    #[error("the router has another identity than the address says")]
    WrongIdentity,
    #[error("TLS: {0}")]
    Tls(String),
    #[error("SMP handshake: {0}")]
    Handshake(String),
    #[error("the router closed the connection during the handshake")]
    ClosedByRouter,
    #[error("no randomness from the system: {0}")]
    Randomness(String),
}

/// Why a connection ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Disconnect {
    /// The last [`Client`](crate::Client) was dropped or closed.
    #[error("closed by this side")]
    ByClient,
    /// The router ended it properly.
    #[error("closed by the router")]
    ByRouter,
    #[error("the connection failed: {0}")]
    Transport(#[from] TransportFault),
    #[error("the router broke the protocol: {0}")]
    Protocol(#[from] ProtocolFault),
}

impl From<&Disconnect> for ClientError {
    fn from(reason: &Disconnect) -> Self {
        match reason {
            Disconnect::ByClient | Disconnect::ByRouter => Self::Closed,
            Disconnect::Transport(fault) => Self::Transport(fault.clone()),
            Disconnect::Protocol(fault) => Self::Protocol(fault.clone()),
        }
    }
}

/// An error as the protocol writes it: `AUTH`, `CMD SYNTAX`.
pub fn error_text(error: &ErrorType) -> String {
    let mut text = Vec::new();
    error.encode(SmpVersion::MAX, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_as_on_the_wire() {
        use ringpost_protocol::error::CommandError;
        let error = ClientError::Router(ErrorType::Cmd(CommandError::Prohibited));
        assert_eq!(error.kind(), "router CMD PROHIBITED");
        assert_eq!(error.to_string(), "the router answered CMD PROHIBITED");
    }
}
