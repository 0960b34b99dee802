#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// The example of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request as browsers send it, with a path and one line changed: by name, None to leave it out.
fn upgrade(target: &str, change: Option<(&str, Option<&str>)>) -> String {
    let mut text = format!("GET {target} HTTP/1.1\r\n");
    for (name, value) in [
        ("Host", "smp.example.com"),
        ("User-Agent", "Mozilla/5.0"),
        ("Sec-WebSocket-Version", "13"),
        ("Origin", "https://app.example.com"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Sec-WebSocket-Key", KEY),
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
    ] {
        let value = match change {
            Some((changed, value)) if changed == name => value,
            _ => Some(value),
        };
        if let Some(value) = value {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    text + "\r\n"
}

fn read(text: &str) -> Request {
    let (request, head) = read_request(text.as_bytes()).unwrap();
    assert_eq!(head, text.len());
    request
}

fn websocket(challenge: Option<[u8; CHALLENGE_BYTES]>) -> Request {
    Request::WebSocket { accept: ACCEPT.to_owned(), challenge }
}

#[test]
fn an_upgrade_on_any_path() {
    for target in ["/", "/any/path?x=1", "*", "wss://smp.example.com/", "https://smp.example.com"] {
        assert_eq!(read(&upgrade(target, None)), websocket(None), "{target}");
    }
    for change in [
        ("Connection", "upgrade"),
        ("Connection", "UPGRADE , close"),
        ("Upgrade", "WebSocket"),
        ("Upgrade", "h2c, websocket"),
        ("Origin", "null"),
    ] {
        assert_eq!(read(&upgrade("/", Some((change.0, Some(change.1))))), websocket(None), "{change:?}");
    }
    let answer = String::from_utf8(switching_protocols(ACCEPT)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains(&format!("\r\nsec-websocket-accept: {ACCEPT}\r\n")), "{answer}");
}

#[test]
fn a_challenge_is_32_bytes_or_absent() {
    let text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let bytes = std::array::from_fn(|at| u8::try_from(at).unwrap());
    for target in [
        format!("/?challenge={text}"),
        format!("/path?a=b&challenge={text}&c"),
        format!("wss://smp.example.com/?challenge={text}"),
    ] {
        assert_eq!(read(&upgrade(&target, None)), websocket(Some(bytes)), "{target}");
    }
    for target in [
        "/?challenge=".to_owned(),
        format!("/?challenge={}", &text[1..]),
        format!("/?challenge={text}A"),
        format!("/?challenge={text}="),
        format!("/?challenge={}/", &text[1..]),
        format!("/?challenge={}9", &text[..42]),
        format!("/?Challenge={text}"),
        format!("/challenge={text}"),
    ] {
        assert_eq!(read(&upgrade(&target, None)), websocket(None), "{target}");
    }
}

#[test]
fn upgrades_that_cannot_be() {
    for (change, answer) in [
        (("Sec-WebSocket-Key", None), Answer::BadRequest),
        (("Sec-WebSocket-Key", Some("dGhl")), Answer::BadRequest),
        (("Sec-WebSocket-Key", Some("not base64 at all, no ==")), Answer::BadRequest),
        (("Host", None), Answer::BadRequest),
        (("Sec-WebSocket-Version", None), Answer::UpgradeRequired),
        (("Sec-WebSocket-Version", Some("8")), Answer::UpgradeRequired),
        // These are no upgrades.
        (("Connection", Some("keep-alive")), Answer::Page { with_body: true }),
        (("Upgrade", Some("h2c")), Answer::Page { with_body: true }),
        (("Upgrade", None), Answer::Page { with_body: true }),
    ] {
        assert_eq!(read(&upgrade("/", Some(change))), Request::Page(answer), "{change:?}");
    }
    let post = upgrade("/", None).replace("GET", "POST");
    assert_eq!(read(&post), Request::Page(Answer::BadRequest));
    let old = upgrade("/", None).replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(read(&old), Request::Page(Answer::BadRequest));
}

#[test]
fn pages_and_refusals() {
    for (line, answer) in [
        ("GET / HTTP/1.1", Answer::Page { with_body: true }),
        ("GET /?a=b HTTP/1.0", Answer::Page { with_body: true }),
        ("HEAD / HTTP/1.1", Answer::Page { with_body: false }),
        ("GET /favicon.ico HTTP/1.1", Answer::NotFound { with_body: true }),
        ("HEAD /x HTTP/1.1", Answer::NotFound { with_body: false }),
        ("POST / HTTP/1.1", Answer::MethodNotAllowed),
        ("OPTIONS * HTTP/1.1", Answer::MethodNotAllowed),
        ("PRI * HTTP/2.0", Answer::BadRequest),
        ("GET /", Answer::BadRequest),
        ("\u{1}\u{2}", Answer::BadRequest),
    ] {
        assert_eq!(read(&format!("{line}\r\n\r\n")), Request::Page(answer), "{line}");
    }
}

#[test]
fn heads_are_bounded() {
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
    assert_eq!(read_request(&long.as_bytes()[..HEAD_BYTES_MAX - 1]), None);
    let refused = Request::Page(Answer::HeadTooLong);
    assert_eq!(read_request(&long.as_bytes()[..HEAD_BYTES_MAX]).unwrap().0, refused);
    assert_eq!(read(&long), refused);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
    assert_eq!(read(&many), refused);
    // Every shorter part of a request waits.
    let whole = upgrade("/", None);
    for end in 0..whole.len() {
        assert_eq!(read_request(&whole.as_bytes()[..end]), None);
    }
    let with_more = whole.clone() + "frames";
    assert_eq!(read_request(with_more.as_bytes()), Some((websocket(None), whole.len())));
}

#[test]
fn answers_say_how_long_they_are_and_that_they_are_the_last() {
    for (answer, status, with_body) in [
        (Answer::Page { with_body: true }, 200, true),
        (Answer::Page { with_body: false }, 200, false),
        (Answer::NotFound { with_body: true }, 404, true),
        (Answer::NotFound { with_body: false }, 404, false),
        (Answer::BadRequest, 400, false),
        (Answer::MethodNotAllowed, 405, false),
        (Answer::UpgradeRequired, 426, false),
        (Answer::HeadTooLong, 431, false),
    ] {
        let bytes = answer.response(784_111_777);
        let mut headers = [httparse::EMPTY_HEADER; 20];
        let mut response = httparse::Response::new(&mut headers);
        let head = response.parse(&bytes).unwrap().unwrap();
        assert_eq!(response.code, Some(status));
        let value = |name: &str| {
            let header = response.headers.iter().find(|header| header.name == name);
            header.map(|header| std::str::from_utf8(header.value).unwrap())
        };
        assert_eq!(value("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert!(value("connection").unwrap().ends_with("close"));
        let length: usize = value("content-length").unwrap().parse().unwrap();
        assert_eq!(bytes.len() - head, if with_body { length } else { 0 }, "{answer:?}");
        let has_page = matches!(answer, Answer::Page { .. } | Answer::NotFound { .. });
        assert_eq!((length > 0, value("content-type").is_some()), (has_page, has_page));
        assert_eq!(value("x-content-type-options"), Some("nosniff"));
    }
    assert!(date(u64::MAX).ends_with("GMT"));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_request(&bytes);
    }

    #[test]
    fn changed_requests_never_panic(at in 0_usize..250, value: u8) {
        let mut request = upgrade("/?challenge=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", None).into_bytes();
        request[at] = value;
        let _ = read_request(&request);
    }
}
