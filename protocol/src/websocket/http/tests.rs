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
        (("Sec-WebSocket-Key", None), Refusal::BadRequest),
        (("Sec-WebSocket-Key", Some("dGhl")), Refusal::BadRequest),
        (("Sec-WebSocket-Key", Some("not base64 at all, no ==")), Refusal::BadRequest),
        (("Host", None), Refusal::BadRequest),
        (("Sec-WebSocket-Version", None), Refusal::UpgradeRequired),
        (("Sec-WebSocket-Version", Some("8")), Refusal::UpgradeRequired),
    ] {
        assert_eq!(read(&upgrade("/", Some(change))), Request::Refused(answer), "{change:?}");
    }
    for change in [("Connection", Some("keep-alive")), ("Upgrade", Some("h2c")), ("Upgrade", None)] {
        assert_eq!(read(&upgrade("/", Some(change))), page("/", true), "{change:?}");
    }
    let post = upgrade("/", None).replace("GET", "POST");
    assert_eq!(read(&post), Request::Refused(Refusal::BadRequest));
    let old = upgrade("/", None).replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(read(&old), Request::Refused(Refusal::BadRequest));
}

fn page(path: &str, with_body: bool) -> Request {
    Request::Page(PageRequest { path: path.to_owned(), with_body, has_versions: String::new() })
}

#[test]
fn pages_and_refusals() {
    for (line, request) in [
        ("GET / HTTP/1.1", page("/", true)),
        ("GET /?a=b HTTP/1.0", page("/", true)),
        ("HEAD / HTTP/1.1", page("/", false)),
        ("GET /favicon.ico HTTP/1.1", page("/favicon.ico", true)),
        ("GET https://smp.example.com/a?b#c HTTP/1.1", page("/a", true)),
        ("GET /a%20b/%c3%a9 HTTP/1.1", page("/a b/\u{e9}", true)),
        ("GET /../etc/passwd HTTP/1.1", page("/../etc/passwd", true)),
    ] {
        assert_eq!(read(&format!("{line}\r\n\r\n")), request, "{line}");
    }
    for (line, refusal) in [
        ("GET * HTTP/1.1", Refusal::BadRequest),
        ("GET /%00 HTTP/1.1", Refusal::BadRequest),
        ("GET /%ff HTTP/1.1", Refusal::BadRequest),
        ("GET /%4 HTTP/1.1", Refusal::BadRequest),
        ("GET /%zz HTTP/1.1", Refusal::BadRequest),
        ("POST / HTTP/1.1", Refusal::MethodNotAllowed),
        ("OPTIONS * HTTP/1.1", Refusal::MethodNotAllowed),
        ("PRI * HTTP/2.0", Refusal::BadRequest),
        ("GET /", Refusal::BadRequest),
        ("\u{1}\u{2}", Refusal::BadRequest),
    ] {
        assert_eq!(read(&format!("{line}\r\n\r\n")), Request::Refused(refusal), "{line}");
    }
    let asked = read("GET / HTTP/1.1\r\nIf-None-Match: \"a\"\r\nif-none-match: \"b\"\r\n\r\n");
    let Request::Page(asked) = asked else { panic!("{asked:?}") };
    assert_eq!(asked.has_versions, "\"a\",\"b\"");
}

#[test]
fn heads_are_bounded() {
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
    assert_eq!(read_request(&long.as_bytes()[..HEAD_BYTES_MAX - 1]), None);
    let refused = Request::Refused(Refusal::HeadTooLong);
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
    for (answer, status) in [
        (Refusal::BadRequest, 400),
        (Refusal::MethodNotAllowed, 405),
        (Refusal::UpgradeRequired, 426),
        (Refusal::HeadTooLong, 431),
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
        assert_eq!((value("content-length"), bytes.len()), (Some("0"), head), "{answer:?}");
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
