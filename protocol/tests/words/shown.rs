//! Errors as the vectors show them: the reference's debug text, such as `CMD {cmdErr = NO_ENTITY}`.

use ringpost_protocol::error::{
    BlockingInfo, BlockingReason, BrokerError, ClientNotice, CommandError, ErrorType, HandshakeError,
    NetworkError, ProxyError, TransportError,
};

/// A constructor with its arguments (names of fields are left out), a text or a number.
#[derive(Debug)]
enum Shown {
    Constructor(String, Vec<Shown>),
    Text(String),
    Number(i64),
}

struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    fn eat(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        match self.0.strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn while_matches(&mut self, matches: impl Fn(char) -> bool) -> String {
        let end = self.0.find(|character| !matches(character)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken.to_owned()
    }

    fn value(&mut self, with_arguments: bool) -> Shown {
        if self.eat("(") {
            let value = self.value(true);
            assert!(self.eat(")"), "no closing bracket before {:?}", self.0);
            return value;
        }
        if self.eat("\"") {
            let text = self.while_matches(|character| character != '"');
            assert!(self.eat("\""));
            return Shown::Text(text);
        }
        if self.0.trim_start().starts_with(|character: char| character.is_ascii_digit()) {
            self.0 = self.0.trim_start();
            return Shown::Number(
                self.while_matches(|character| character.is_ascii_digit()).parse().unwrap(),
            );
        }
        self.0 = self.0.trim_start();
        let constructor = self.while_matches(|character| character.is_alphanumeric() || character == '_');
        assert!(!constructor.is_empty(), "no value at {:?}", self.0);
        let mut arguments = Vec::new();
        if self.eat("{") {
            loop {
                self.0 = self.0.trim_start();
                self.while_matches(char::is_alphanumeric);
                assert!(self.eat("="));
                arguments.push(self.value(true));
                if !self.eat(",") {
                    break;
                }
            }
            assert!(self.eat("}"), "no closing brace before {:?}", self.0);
        } else if with_arguments {
            while !self.0.trim_start().is_empty() && !self.0.trim_start().starts_with([')', '}', ',']) {
                arguments.push(self.value(false));
            }
        }
        Shown::Constructor(constructor, arguments)
    }
}

/// The error behind a shown text.
pub fn error(text: &str) -> ErrorType {
    let mut cursor = Cursor(text);
    let shown = cursor.value(true);
    assert_eq!(cursor.0.trim(), "", "left over from {text}");
    error_type(&shown)
}

fn parts(shown: &Shown) -> (&str, &[Shown]) {
    match shown {
        Shown::Constructor(constructor, arguments) => (constructor, arguments),
        other => panic!("not a constructor: {other:?}"),
    }
}

fn string(shown: &Shown) -> String {
    match shown {
        Shown::Text(text) => text.clone(),
        other => panic!("not a text: {other:?}"),
    }
}

fn maybe<T>(shown: &Shown, read: impl FnOnce(&Shown) -> T) -> Option<T> {
    match parts(shown) {
        ("Nothing", []) => None,
        ("Just", [value]) => Some(read(value)),
        other => panic!("neither Just nor Nothing: {other:?}"),
    }
}

fn error_type(shown: &Shown) -> ErrorType {
    match parts(shown) {
        ("BLOCK", []) => ErrorType::Block,
        ("SESSION", []) => ErrorType::Session,
        ("CMD", [error]) => ErrorType::Cmd(match parts(error) {
            ("UNKNOWN", []) => CommandError::Unknown,
            ("SYNTAX", []) => CommandError::Syntax,
            ("PROHIBITED", []) => CommandError::Prohibited,
            ("NO_AUTH", []) => CommandError::NoAuth,
            ("HAS_AUTH", []) => CommandError::HasAuth,
            ("NO_ENTITY", []) => CommandError::NoEntity,
            other => panic!("{other:?}"),
        }),
        ("PROXY", [error]) => ErrorType::Proxy(Box::new(proxy_error(error))),
        ("AUTH", []) => ErrorType::Auth,
        ("BLOCKED", [info]) => ErrorType::Blocked(blocking_info(info)),
        ("SERVICE", []) => ErrorType::Service,
        ("CRYPTO", []) => ErrorType::Crypto,
        ("QUOTA", []) => ErrorType::Quota,
        ("STORE", [text]) => ErrorType::Store(string(text)),
        ("EXPIRED", []) => ErrorType::Expired,
        ("NO_MSG", []) => ErrorType::NoMsg,
        ("LARGE_MSG", []) => ErrorType::LargeMsg,
        ("INTERNAL", []) => ErrorType::Internal,
        ("DUPLICATE_", []) => ErrorType::Duplicate,
        other => panic!("{other:?}"),
    }
}

fn blocking_info(shown: &Shown) -> BlockingInfo {
    let ("BlockingInfo", [reason, notice]) = parts(shown) else { panic!("{shown:?}") };
    BlockingInfo {
        reason: match parts(reason) {
            ("BRSpam", []) => BlockingReason::Spam,
            ("BRContent", []) => BlockingReason::Content,
            other => panic!("{other:?}"),
        },
        notice: maybe(notice, |notice| {
            let ("ClientNotice", [ttl]) = parts(notice) else { panic!("{notice:?}") };
            let ttl_secs = maybe(ttl, |ttl| match ttl {
                Shown::Number(ttl_secs) => *ttl_secs,
                other => panic!("{other:?}"),
            });
            ClientNotice { ttl_secs }
        }),
    }
}

fn proxy_error(shown: &Shown) -> ProxyError {
    match parts(shown) {
        ("PROTOCOL", [error]) => ProxyError::Protocol(error_type(error)),
        ("BROKER", [error]) => ProxyError::Broker(match parts(error) {
            ("RESPONSE", [text]) => BrokerError::Response(string(text)),
            ("UNEXPECTED", [text]) => BrokerError::Unexpected(string(text)),
            ("NETWORK", [error]) => BrokerError::Network(match parts(error) {
                ("NEConnectError", [text]) => NetworkError::Connect(string(text)),
                ("NETLSError", [text]) => NetworkError::Tls(string(text)),
                ("NEUnknownCAError", []) => NetworkError::UnknownCa,
                ("NEFailedError", []) => NetworkError::Failed,
                ("NETimeoutError", []) => NetworkError::Timeout,
                ("NESubscribeError", [text]) => NetworkError::Subscribe(string(text)),
                other => panic!("{other:?}"),
            }),
            ("TIMEOUT", []) => BrokerError::Timeout,
            ("HOST", []) => BrokerError::Host,
            ("NO_SERVICE", []) => BrokerError::NoService,
            ("TRANSPORT", [error]) => BrokerError::Transport(match parts(error) {
                ("TEBadBlock", []) => TransportError::Block,
                ("TEVersion", []) => TransportError::Version,
                ("TELargeMsg", []) => TransportError::LargeMsg,
                ("TEBadSession", []) => TransportError::Session,
                ("TENoServerAuth", []) => TransportError::NoAuth,
                ("TEHandshake", [error]) => TransportError::Handshake(match parts(error) {
                    ("PARSE", []) => HandshakeError::Parse,
                    ("IDENTITY", []) => HandshakeError::Identity,
                    ("BAD_AUTH", []) => HandshakeError::BadAuth,
                    ("BAD_SERVICE", []) => HandshakeError::BadService,
                    other => panic!("{other:?}"),
                }),
                other => panic!("{other:?}"),
            }),
            other => panic!("{other:?}"),
        }),
        ("BASIC_AUTH", []) => ProxyError::BasicAuth,
        ("NO_SESSION", []) => ProxyError::NoSession,
        other => panic!("{other:?}"),
    }
}
