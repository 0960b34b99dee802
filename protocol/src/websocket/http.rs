//! The HTTP request with which a web client begins, and the answers: a WebSocket, or a page. Which pages there are is told
//! by [`pages`](super::pages).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use x509_parser::time::ASN1Time;

/// A longer head of a request is refused.
pub const HEAD_BYTES_MAX: usize = 8_192;
/// More header fields are refused: browsers send some twenty.
const HEADERS_MAX: usize = 64;

/// What a web client wants to see signed: TLS does not show it the router's own certificate.
pub const CHALLENGE_BYTES: usize = 32;
/// Appended to the key of the client: RFC 6455, 1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
const WEBSOCKET_VERSION: &str = "13";

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A WebSocket, on any path.
    WebSocket {
        /// See [`switching_protocols`].
        accept: String,
        /// What the router is to sign in its hello. Anything that is not 32 bytes counts as absent.
        challenge: Option<[u8; CHALLENGE_BYTES]>,
    },
    /// A page: the answer ends the connection.
    Page(PageRequest),
    /// Nothing that is served: the answer ends the connection.
    Refused(Refusal),
}

/// What a GET or a HEAD asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Decoded, without the query; it begins with `/`. Not checked in any other way.
    pub path: String,
    /// False for HEAD.
    pub with_body: bool,
    /// The field `If-None-Match`: the versions that the client has.
    pub has_versions: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    BadRequest,
    MethodNotAllowed,
    /// A WebSocket of another version.
    UpgradeRequired,
    HeadTooLong,
}

/// Reads the head of a request: None if it is not complete. Returns the request and the length of the head.
pub fn read_request(bytes: &[u8]) -> Option<(Request, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refused = |refusal| Some((Request::Refused(refusal), bytes.len()));
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) if head <= HEAD_BYTES_MAX => Some((decide(&request), head)),
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => None,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => refused(Refusal::HeadTooLong),
        Err(_) => refused(Refusal::BadRequest),
    }
}

fn decide(request: &httparse::Request<'_, '_>) -> Request {
    let method = request.method.unwrap_or_default();
    let (path, query) = split_target(request.path.unwrap_or_default());
    let has = |name, token: &str| {
        values(request, name)
            .any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    };
    if has("upgrade", "websocket") && has("connection", "upgrade") {
        let key = values(request, "sec-websocket-key").next().unwrap_or_default();
        return match STANDARD.decode(key) {
            _ if method != "GET"
                || request.version != Some(1)
                || values(request, "host").next().is_none() =>
            {
                Request::Refused(Refusal::BadRequest)
            }
            _ if !has("sec-websocket-version", WEBSOCKET_VERSION) => {
                Request::Refused(Refusal::UpgradeRequired)
            }
            Ok(bytes) if bytes.len() == KEY_BYTES => {
                Request::WebSocket { accept: accept(key), challenge: challenge(query) }
            }
            _ => Request::Refused(Refusal::BadRequest),
        };
    }
    if !matches!(method, "GET" | "HEAD") {
        return Request::Refused(Refusal::MethodNotAllowed);
    }
    match decoded(path) {
        Some(path) if path.starts_with('/') => Request::Page(PageRequest {
            path,
            with_body: method == "GET",
            has_versions: values(request, "if-none-match").collect::<Vec<_>>().join(","),
        }),
        _ => Request::Refused(Refusal::BadRequest),
    }
}

/// Without percent signs. None if that gives no text, or one with control characters.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first == b'%' {
            let digit = |at: usize| char::from(*more.get(at)?).to_digit(16);
            bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
            rest = more.get(2..)?;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

/// The values of a header field, which may come several times.
fn values<'a>(request: &'a httparse::Request<'_, '_>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
}

/// Path and query of a request target, which may be a whole URI (RFC 9112, 3.2.2).
fn split_target(target: &str) -> (&str, &str) {
    let local = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    local.split_once('?').unwrap_or((local, ""))
}

fn challenge(query: &str) -> Option<[u8; CHALLENGE_BYTES]> {
    let text = query.split('&').find_map(|pair| pair.strip_prefix("challenge="))?;
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn accept(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes()))
}

/// The answer that makes the connection a WebSocket: without extensions or subprotocol.
pub fn switching_protocols(accept: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

impl Refusal {
    /// The response. `now_secs` is Unix time.
    pub fn response(self, now_secs: u64) -> Vec<u8> {
        let (status, more) = match self {
            Self::BadRequest => ("400 Bad Request", ""),
            Self::MethodNotAllowed => ("405 Method Not Allowed", "allow: GET, HEAD\r\n"),
            Self::UpgradeRequired => {
                ("426 Upgrade Required", "upgrade: websocket\r\nsec-websocket-version: 13\r\n")
            }
            Self::HeadTooLong => ("431 Request Header Fields Too Large", ""),
        };
        let connection = if self == Self::UpgradeRequired { "upgrade, close" } else { "close" };
        response_head(
            status,
            &format!("{more}cache-control: no-store\r\nconnection: {connection}\r\n"),
            Some(0),
            now_secs,
        )
    }
}

/// The head of a response: status line, date, what all responses have, and `fields`, each with its line end. With the length
/// of the body, unless there is none by nature.
pub(super) fn response_head(status: &str, fields: &str, length: Option<usize>, now_secs: u64) -> Vec<u8> {
    let length = length.map(|length| format!("content-length: {length}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\ndate: {}\r\n{length}{fields}x-content-type-options: nosniff\r\n\
         referrer-policy: no-referrer\r\n\r\n",
        date(now_secs)
    )
    .into_bytes()
}

/// RFC 9110, 5.6.7.
fn date(now_secs: u64) -> String {
    let Ok(time) = ASN1Time::from_timestamp(i64::try_from(now_secs).unwrap_or(i64::MAX)) else {
        return "Thu, 01 Jan 1970 00:00:00 GMT".to_owned();
    };
    let time = time.to_datetime();
    let (weekday, month) = (time.weekday().to_string(), time.month().to_string());
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        weekday.get(..3).unwrap_or_default(),
        time.day(),
        month.get(..3).unwrap_or_default(),
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests;
