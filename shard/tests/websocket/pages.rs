//! HTTP requests that ask for no WebSocket.

use std::time::Duration;

use ringpost_protocol::tls::TlsError;

use crate::beside_healthy;
use crate::common::web::{WEB_NAME, read_head, upgrade_request};
use crate::common::{Ended, TestRouter, TlsStream, Web};

/// Sends bytes and reads the whole answer: head and body. The router must end TLS properly.
fn answer(router: &TestRouter, address: usize, request: &[u8]) -> (String, Vec<u8>) {
    let address = router.router().local_addrs()[address];
    let mut tls = Web { address, ..Web::browser(router) }.connect_tls(None).unwrap();
    tls.write_plain(request).unwrap();
    let (head, mut body) = read_head(&mut tls).unwrap();
    loop {
        match tls.read_plain() {
            Ok(more) => body.extend(more),
            Err(Ended::Closed) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    // Not just the end of the socket: close_notify came, or the body might have been cut.
    assert!(matches!(tls.channel.open(&mut []), Ok(ringpost_protocol::tls::Opened::Closed { .. })));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert!(head.contains("connection: close\r\n") || head.contains("connection: upgrade, close\r\n"));
    if !request.starts_with(b"HEAD") {
        assert_eq!(length, body.len().to_string());
    }
    (head, body)
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {WEB_NAME}\r\nAccept: */*\r\n\r\n").into_bytes()
}

#[test]
fn pages_are_served_at_all_entries() {
    beside_healthy(|router, _| {
        let before = router.counters();
        for entry in 0..3 {
            let (head, body) = answer(router, entry, &get("/"));
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("content-type: text/html; charset=utf-8\r\n"), "{head}");
            assert!(String::from_utf8(body).unwrap().starts_with("<!doctype html>"));
            let (head, _) = answer(router, entry, &get("/other"));
            assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        }
        let (head, body) = answer(router, 0, &get("/large"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, "<p>".repeat(30_000).as_bytes());
        let (head, body) = answer(router, 0, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}");
        router.wait_for("http_requests", before["http_requests"] + 8);
        // An answered request is no failure.
        router.expect(&before, &[]);
    });
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    beside_healthy(|router, _| {
        let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(9_000));
        let no_key = upgrade_request("/").replace("Sec-WebSocket-Key", "X");
        let old = upgrade_request("/").replace("Version: 13", "Version: 8");
        for (request, status) in [
            (&b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\nhello"[..], "405"),
            (b"\x00\x01\x02\x03", "400"),
            (b"GET\r\n\r\n", "400"),
            // The preface of HTTP/2.
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
            (long.as_bytes(), "431"),
            (no_key.as_bytes(), "400"),
            (old.as_bytes(), "426"),
        ] {
            let (head, _) = answer(router, 0, request);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        }
    });
}

fn connect(router: &TestRouter) -> TlsStream {
    Web::browser(router).connect_tls(None).unwrap()
}

#[test]
fn requests_may_come_in_pieces() {
    beside_healthy(|router, _| {
        let mut tls = connect(router);
        for part in get("/").chunks(7) {
            tls.write_plain(part).unwrap();
        }
        assert!(read_head(&mut tls).unwrap().0.starts_with("HTTP/1.1 200 "));
        // An upgrade byte by byte, and the router's hello behind it.
        let mut tls = connect(router);
        for byte in upgrade_request("/").as_bytes() {
            tls.write_plain(&[*byte]).unwrap();
        }
        let (head, mut rest) = read_head(&mut tls).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        while rest.len() < 4 + 16_384 {
            rest.extend(tls.read_plain().unwrap());
        }
        assert_eq!((&rest[..4], rest.len()), (&[0x82, 126, 0x40, 0][..], 4 + 16_384));
    });
}

#[test]
fn slow_and_silent_requests_end_with_the_handshakes_time() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let silent = connect(router);
        let mut slow = connect(router);
        let header = b"GET / HTTP/1.1\r\nx: ";
        slow.write_plain(header).unwrap();
        while slow.write_plain(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        healthy.goes_on();
        // One without an end, in records of a byte, is cut off sooner.
        let mut tiny = connect(router);
        tiny.write_plain(header).unwrap();
        while tiny.write_plain(b"x").is_ok() {}
        router.expect(&before, &[("closed_handshake_timeout", 2), ("closed_bad_record", 1)]);
        drop(silent);
    });
}

/// One that never reads its page holds nothing for long.
#[test]
fn an_unread_page_is_given_up() {
    beside_healthy(|router, _| {
        let before = router.counters();
        let unread: Vec<_> = (0..5)
            .map(|_| {
                let mut tls = connect(router);
                tls.write_plain(&get("/")).unwrap();
                tls
            })
            .collect();
        router.wait_for("http_requests", before["http_requests"] + 5);
        router.wait_for("connections", 2);
        drop(unread);
        // Gone before the answer, or with a broken session.
        let mut tls = connect(router);
        tls.write_plain(&get("/")).unwrap();
        drop(tls);
        let mut tls = connect(router);
        let mut record = tls.seal(b"GET / HTTP/1.1\r\n\r\n");
        record[9] ^= 1;
        tls.write_bytes(&record).unwrap();
        let end = tls.read_plain();
        assert!(matches!(end, Err(Ended::Closed | Ended::Tls(TlsError::Alert(_)))), "{end:?}");
        router.wait_for("connections", 2);
    });
}
