//! Bytes of errors. Each is a word, and some have another error, a text or JSON after a space.

use super::{
    BlockingInfo, BlockingReason, BrokerError, ClientNotice, CommandError, ErrorType, HandshakeError,
    NetworkError, ProxyError, TransportError,
};
use crate::encoding::{DecodeError, Reader, Sink};
use crate::version::SmpVersion;

/// How many `PROXY` may stand inside each other. The reference has no limit, but nothing needs more than two, and a
/// block would have place for a thousand: too deep for recursion.
pub const PROXY_NESTING_MAX: usize = 8;

impl ErrorType {
    /// Reads what follows `ERR ` in a response.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let error = Self::read(&mut reader, PROXY_NESTING_MAX)?;
        reader.finish()?;
        Ok(error)
    }

    pub(crate) fn read(r: &mut Reader<'_>, nesting_left: usize) -> Result<Self, DecodeError> {
        Ok(match r.word() {
            b"BLOCK" => Self::Block,
            b"SESSION" => Self::Session,
            b"CMD" => {
                r.space()?;
                Self::Cmd(CommandError::read(r)?)
            }
            b"PROXY" => {
                r.space()?;
                let nesting_left = nesting_left.checked_sub(1).ok_or(DecodeError::Invalid)?;
                Self::Proxy(Box::new(ProxyError::read(r, nesting_left)?))
            }
            b"AUTH" => Self::Auth,
            b"BLOCKED" => {
                r.space()?;
                Self::Blocked(BlockingInfo::read(r)?)
            }
            b"SERVICE" => Self::Service,
            b"CRYPTO" => Self::Crypto,
            b"QUOTA" => Self::Quota,
            b"STORE" => {
                r.space()?;
                Self::Store(String::from_utf8_lossy(r.tail()).into_owned())
            }
            b"EXPIRED" => Self::Expired,
            b"NO_MSG" => Self::NoMsg,
            b"LARGE_MSG" => Self::LargeMsg,
            b"INTERNAL" => Self::Internal,
            b"DUPLICATE_" => Self::Duplicate,
            _ => return Err(DecodeError::Invalid),
        })
    }

    /// Appends what follows `ERR ` in a response of `version`: older versions know no `BLOCKED`, or not its notice.
    pub fn encode(&self, version: SmpVersion, out: &mut impl Sink) {
        match self {
            Self::Blocked(_) if version < SmpVersion::BLOCKED_ERROR => out.put(b"AUTH"),
            Self::Blocked(info) if version < SmpVersion::BLOCKED_NOTICE => {
                Self::Blocked(BlockingInfo { reason: info.reason, notice: None }).write(out);
            }
            _ => self.write(out),
        }
    }

    /// The form of all versions, as it stands inside `PROXY PROTOCOL`.
    pub(crate) fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Block => out.put(b"BLOCK"),
            Self::Session => out.put(b"SESSION"),
            Self::Cmd(error) => {
                out.put(b"CMD ");
                out.put(error.word().as_bytes());
            }
            Self::Proxy(error) => {
                out.put(b"PROXY ");
                error.write(out);
            }
            Self::Auth => out.put(b"AUTH"),
            Self::Blocked(info) => {
                out.put(b"BLOCKED ");
                info.write(out);
            }
            Self::Service => out.put(b"SERVICE"),
            Self::Crypto => out.put(b"CRYPTO"),
            Self::Quota => out.put(b"QUOTA"),
            Self::Store(text) => {
                out.put(b"STORE ");
                out.put(text.as_bytes());
            }
            Self::Expired => out.put(b"EXPIRED"),
            Self::NoMsg => out.put(b"NO_MSG"),
            Self::LargeMsg => out.put(b"LARGE_MSG"),
            Self::Internal => out.put(b"INTERNAL"),
            Self::Duplicate => out.put(b"DUPLICATE_"),
        }
    }
}

impl CommandError {
    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Syntax => "SYNTAX",
            Self::Prohibited => "PROHIBITED",
            Self::NoAuth => "NO_AUTH",
            Self::HasAuth => "HAS_AUTH",
            Self::NoEntity => "NO_ENTITY",
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.word() {
            b"UNKNOWN" => Self::Unknown,
            b"SYNTAX" => Self::Syntax,
            b"PROHIBITED" => Self::Prohibited,
            b"NO_AUTH" => Self::NoAuth,
            b"HAS_AUTH" => Self::HasAuth,
            b"NO_ENTITY" | b"NO_QUEUE" => Self::NoEntity,
            _ => return Err(DecodeError::Invalid),
        })
    }
}

impl ProxyError {
    fn read(r: &mut Reader<'_>, nesting_left: usize) -> Result<Self, DecodeError> {
        Ok(match r.word() {
            b"PROTOCOL" => {
                r.space()?;
                Self::Protocol(ErrorType::read(r, nesting_left)?)
            }
            b"BROKER" => {
                r.space()?;
                Self::Broker(BrokerError::read(r)?)
            }
            b"BASIC_AUTH" => Self::BasicAuth,
            b"NO_SESSION" => Self::NoSession,
            _ => return Err(DecodeError::Invalid),
        })
    }

    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Protocol(error) => {
                out.put(b"PROTOCOL ");
                error.write(out);
            }
            Self::Broker(error) => {
                out.put(b"BROKER ");
                error.write(out);
            }
            Self::BasicAuth => out.put(b"BASIC_AUTH"),
            Self::NoSession => out.put(b"NO_SESSION"),
        }
    }
}

impl BrokerError {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.word() {
            b"RESPONSE" => Self::Response(read_text(r)?),
            b"UNEXPECTED" => Self::Unexpected(read_text(r)?),
            b"TRANSPORT" => {
                r.space()?;
                Self::Transport(TransportError::read(r)?)
            }
            b"NETWORK" if r.rest().is_empty() => Self::Network(NetworkError::Failed),
            b"NETWORK" => {
                r.space()?;
                Self::Network(NetworkError::read(r)?)
            }
            b"TIMEOUT" => Self::Timeout,
            b"HOST" => Self::Host,
            b"NO_SERVICE" => Self::NoService,
            _ => return Err(DecodeError::Invalid),
        })
    }

    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Response(text) => {
                out.put(b"RESPONSE ");
                put_text(out, text);
            }
            Self::Unexpected(text) => {
                out.put(b"UNEXPECTED ");
                put_text(out, text);
            }
            // Older clients cannot read the details.
            Self::Network(_) => out.put(b"NETWORK"),
            Self::Timeout => out.put(b"TIMEOUT"),
            Self::Host => out.put(b"HOST"),
            Self::NoService => out.put(b"NO_SERVICE"),
            Self::Transport(error) => {
                out.put(b"TRANSPORT ");
                error.write(out);
            }
        }
    }
}

impl NetworkError {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.word() {
            b"CONNECT" => Self::Connect(read_text(r)?),
            b"TLS" => Self::Tls(read_text(r)?),
            b"UNKNOWNCA" => Self::UnknownCa,
            b"FAILED" => Self::Failed,
            b"TIMEOUT" => Self::Timeout,
            b"SUBSCRIBE" => Self::Subscribe(read_text(r)?),
            _ => return Err(DecodeError::Invalid),
        })
    }
}

impl TransportError {
    /// Reads one word, or two. Also stands in the router's answer to a service's hello.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.word() {
            b"BLOCK" => Self::Block,
            b"VERSION" => Self::Version,
            b"LARGE_MSG" => Self::LargeMsg,
            b"SESSION" => Self::Session,
            b"NO_AUTH" => Self::NoAuth,
            b"HANDSHAKE" => {
                r.space()?;
                Self::Handshake(match r.word() {
                    b"PARSE" => HandshakeError::Parse,
                    b"IDENTITY" => HandshakeError::Identity,
                    b"BAD_AUTH" => HandshakeError::BadAuth,
                    b"BAD_SERVICE" => HandshakeError::BadService,
                    _ => return Err(DecodeError::Invalid),
                })
            }
            _ => return Err(DecodeError::Invalid),
        })
    }

    /// Writes what [`read`](Self::read) reads.
    pub fn write(self, out: &mut impl Sink) {
        out.put(match self {
            Self::Block => b"BLOCK".as_slice(),
            Self::Version => b"VERSION",
            Self::LargeMsg => b"LARGE_MSG",
            Self::Session => b"SESSION",
            Self::NoAuth => b"NO_AUTH",
            Self::Handshake(HandshakeError::Parse) => b"HANDSHAKE PARSE",
            Self::Handshake(HandshakeError::Identity) => b"HANDSHAKE IDENTITY",
            Self::Handshake(HandshakeError::BadAuth) => b"HANDSHAKE BAD_AUTH",
            Self::Handshake(HandshakeError::BadService) => b"HANDSHAKE BAD_SERVICE",
        });
    }
}

impl BlockingReason {
    /// The word on the wire, in the store log and on the control port.
    pub fn word(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::Content => "content",
        }
    }
}

impl BlockingInfo {
    /// Reads `reason=spam` or `reason=content`, then nothing or `,notice=` and JSON up to the end.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let rest = bytes.strip_prefix(b"reason=").ok_or(DecodeError::Invalid)?;
        let (reason, rest) = [BlockingReason::Spam, BlockingReason::Content]
            .into_iter()
            .find_map(|reason| Some((reason, rest.strip_prefix(reason.word().as_bytes())?)))
            .ok_or(DecodeError::Invalid)?;
        let notice = match rest.strip_prefix(b",notice=") {
            Some(json) => Some(ClientNotice::parse(json)?),
            None if rest.is_empty() => None,
            None => return Err(DecodeError::Trailing),
        };
        Ok(Self { reason, notice })
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::parse(r.tail())
    }

    /// Writes what [`parse`](Self::parse) reads.
    pub fn write(&self, out: &mut impl Sink) {
        out.put(b"reason=");
        out.put(self.reason.word().as_bytes());
        if let Some(notice) = self.notice {
            out.put(b",notice=");
            out.put(notice.to_json().as_bytes());
        }
    }
}

impl ClientNotice {
    /// Reads a JSON object. Members other than `ttl` are ignored; `null` means no limit.
    pub fn parse(json: &[u8]) -> Result<Self, DecodeError> {
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(|_| DecodeError::Invalid)?;
        let ttl_secs = match members.get("ttl") {
            None | Some(serde_json::Value::Null) => None,
            Some(ttl) => Some(ttl.as_i64().ok_or(DecodeError::Invalid)?),
        };
        Ok(Self { ttl_secs })
    }

    /// `{}` or `{"ttl":n}`.
    pub fn to_json(self) -> String {
        self.ttl_secs.map_or_else(|| "{}".to_owned(), |ttl_secs| format!("{{\"ttl\":{ttl_secs}}}"))
    }
}

fn read_text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    r.space()?;
    Ok(r.short()?.iter().map(|&byte| char::from(byte)).collect())
}

fn put_text(out: &mut impl Sink, text: &str) {
    let latin1: Vec<u8> =
        text.chars().take(255).map(|character| u8::try_from(character).unwrap_or(b'?')).collect();
    out.put_short(&latin1);
}
