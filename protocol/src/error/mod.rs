//! SMP errors: "Error responses" of the protocol text.

mod codec;

pub use codec::PROXY_NESTING_MAX;

/// The error of an `ERR` response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorType {
    Block,
    Session,
    Cmd(CommandError),
    Proxy(Box<ProxyError>),
    Auth,
    Blocked(BlockingInfo),
    Service,
    Crypto,
    Quota,
    Store(String),
    Expired,
    NoMsg,
    LargeMsg,
    Internal,
    Duplicate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    Unknown,
    Syntax,
    Prohibited,
    NoAuth,
    HasAuth,
    /// Also read from the older `NO_QUEUE`.
    NoEntity,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyError {
    Protocol(ErrorType),
    Broker(BrokerError),
    BasicAuth,
    NoSession,
}

/// What went wrong between a proxy and a router.
///
/// Texts have one byte for a character (Latin-1) and a length byte: at most 255 characters are sent, and what
/// Latin-1 does not have becomes `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerError {
    Response(String),
    Unexpected(String),
    /// Written without details, read with and without.
    Network(NetworkError),
    Timeout,
    Host,
    NoService,
    Transport(TransportError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkError {
    Connect(String),
    Tls(String),
    UnknownCa,
    Failed,
    Timeout,
    Subscribe(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    Block,
    Version,
    LargeMsg,
    Session,
    NoAuth,
    Handshake(HandshakeError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    Parse,
    Identity,
    BadAuth,
    BadService,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockingInfo {
    pub reason: BlockingReason,
    /// From version 18.
    pub notice: Option<ClientNotice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockingReason {
    Spam,
    Content,
}

/// A JSON object on the wire: `{}` or `{"ttl":n}`, other members are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNotice {
    pub ttl_secs: Option<i64>,
}
