//! The HTTP request with which a web client begins, and the answers: a WebSocket, or a page.

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

const PAGE: &str = include_str!("page.html");
const NOT_FOUND_PAGE: &str =
    "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Not found</title>\n<p>There is no such page.\n";

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
    /// Anything else.
    Page(Answer),
}

/// A page or a refusal: all of them end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The information page, to a GET or a HEAD.
    Page {
        with_body: bool,
    },
    /// No page has this path.
    NotFound {
        with_body: bool,
    },
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
    let refused = |answer| Some((Request::Page(answer), bytes.len()));
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) if head <= HEAD_BYTES_MAX => Some((decide(&request), head)),
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => None,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => refused(Answer::HeadTooLong),
        Err(_) => refused(Answer::BadRequest),
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
                Request::Page(Answer::BadRequest)
            }
            _ if !has("sec-websocket-version", WEBSOCKET_VERSION) => Request::Page(Answer::UpgradeRequired),
            Ok(bytes) if bytes.len() == KEY_BYTES => {
                Request::WebSocket { accept: accept(key), challenge: challenge(query) }
            }
            _ => Request::Page(Answer::BadRequest),
        };
    }
    let with_body = method != "HEAD";
    Request::Page(match (method, path) {
        ("GET" | "HEAD", "/") => Answer::Page { with_body },
        ("GET" | "HEAD", _) => Answer::NotFound { with_body },
        _ => Answer::MethodNotAllowed,
    })
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

impl Answer {
    /// The response. `now_secs` is Unix time.
    pub fn response(self, now_secs: u64) -> Vec<u8> {
        let (status, more, body) = match self {
            Self::Page { .. } => ("200 OK", "", PAGE),
            Self::NotFound { .. } => ("404 Not Found", "", NOT_FOUND_PAGE),
            Self::BadRequest => ("400 Bad Request", "", ""),
            Self::MethodNotAllowed => ("405 Method Not Allowed", "allow: GET, HEAD\r\n", ""),
            Self::UpgradeRequired => {
                ("426 Upgrade Required", "upgrade: websocket\r\nsec-websocket-version: 13\r\n", "")
            }
            Self::HeadTooLong => ("431 Request Header Fields Too Large", "", ""),
        };
        let kind = if body.is_empty() { "" } else { "content-type: text/html; charset=utf-8\r\n" };
        let connection = if self == Self::UpgradeRequired { "upgrade, close" } else { "close" };
        let shown = match self {
            Self::Page { with_body: false } | Self::NotFound { with_body: false } => "",
            _ => body,
        };
        format!(
            "HTTP/1.1 {status}\r\ndate: {}\r\n{more}{kind}content-length: {}\r\ncache-control: no-store\r\n\
             content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n\
             x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\nconnection: {connection}\r\n\r\n{shown}",
            date(now_secs),
            body.len()
        )
        .into_bytes()
    }
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
