//! What browsers get from a started router: pages with and without TLS, as files, and certificates that are renewed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Home, Running, assert_fails, free_port, openssl};

/// Far above what anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);
const LINK_KINDS: [&str; 7] = ["contact", "invitation", "a", "c", "g", "r", "i"];

struct Response {
    status: u16,
    fields: HashMap<String, String>,
    body: String,
}

/// Sends bytes and reads until the end.
fn exchange(port: u16, request: &str) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    parsed(&text)
}

fn parsed(text: &str) -> Response {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines.map(|line| line.split_once(": ").unwrap());
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Response { status, fields, body: body.to_owned() }
}

fn get(port: u16, path: &str) -> Response {
    exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: smp.example.com\r\n\r\n"))
}

/// A router with pages on a port without TLS, and more in its ini.
fn home(http: u16, more: &[(&str, String)]) -> Home {
    let home = Home::initialized(free_port());
    let mut ini = home.read("smp-server.ini");
    for (key, value) in [("http", http.to_string())].iter().chain(more) {
        let old =
            ini.lines().find(|line| line.trim_start_matches("# ").split(" =").next() == Some(key)).unwrap();
        ini = ini.replacen(&format!("{old}\n"), &format!("{key} = {value}\n"), 1);
    }
    home.write("smp-server.ini", &ini);
    home
}

fn www(home: &Home) -> PathBuf {
    home.data().join("www")
}

fn wait_for(what: &str, reached: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !reached() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_pages_of_the_reference_are_there() {
    let http = free_port();
    let home = home(
        http,
        &[
            ("operator", "Acme & Sons".to_owned()),
            ("server_country", "fr".to_owned()),
            ("log_stats", "off".to_owned()),
        ],
    );
    let router = Running::start(home.smp_server(["start", "--shards", "1"]));
    let front = get(http, "/");
    assert_eq!((front.status, front.fields["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    for words in
        ["<title>SimpleX messaging server</title>", "Acme &amp; Sons", "<td>FR</td>", "Ringpost smp-server"]
    {
        assert!(front.body.contains(words), "{words} in {}", front.body);
    }
    assert!(front.fields["content-security-policy"].starts_with("default-src 'none'"));
    assert_eq!(front.fields["referrer-policy"], "no-referrer");
    for kind in LINK_KINDS {
        for path in [format!("/{kind}"), format!("/{kind}/"), format!("/{kind}?x=y")] {
            let page = get(http, &path);
            assert_eq!(page.status, 200, "{path}");
            assert!(
                page.body.contains(&format!("data-kind=\"{kind}\"")) && page.body.contains("<noscript>"),
                "{path}"
            );
        }
        assert_eq!(
            fs::read_to_string(www(&home).join(kind).join("index.html")).unwrap(),
            get(http, &format!("/{kind}")).body
        );
    }
    assert_eq!(fs::read_to_string(www(&home).join("index.html")).unwrap(), front.body);
    for (name, word) in [("apple-app-site-association", "applinks"), ("assetlinks.json", "chat.simplex.app")]
    {
        let file = get(http, &format!("/.well-known/{name}"));
        assert_eq!((file.status, file.fields["content-type"].as_str()), (200, "application/json"));
        assert!(file.body.contains(word));
        assert_eq!(fs::read_to_string(www(&home).join("well-known").join(name)).unwrap(), file.body);
    }
    router.signal(Signal::TERM);
    assert_eq!(router.wait().0.code(), Some(0));
}

#[test]
fn requests_get_the_answers_that_they_deserve() {
    let http = free_port();
    let home = home(http, &[]);
    let _router = Running::start(home.smp_server(["start", "--shards", "1"]));
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\n\r\n", 404),
        ("GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n\r\n", 404),
        ("GET //etc/passwd HTTP/1.1\r\n\r\n", 404),
        ("GET /www/../index.html HTTP/1.1\r\n\r\n", 404),
        ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", 405),
        ("\0\0\0\0\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            400,
        ),
        (&format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(9_000)), 431),
    ] {
        let response = exchange(http, request);
        assert_eq!(response.status, status, "{request}");
        assert_eq!(response.fields["connection"], "close", "{request}");
    }
    let head = exchange(http, "HEAD / HTTP/1.1\r\n\r\n");
    assert!(head.status == 200 && head.body.is_empty() && head.fields["content-length"] != "0");
    let request = format!("GET / HTTP/1.1\r\nif-none-match: {}\r\n\r\n", head.fields["etag"]);
    let unchanged = exchange(http, &request);
    assert!(unchanged.status == 304 && unchanged.body.is_empty());
}

#[test]
fn files_beside_the_pages_are_served_as_they_come_and_go() {
    let http = free_port();
    let home = home(http, &[]);
    fs::create_dir_all(www(&home)).unwrap();
    fs::write(www(&home).join("index.html"), "old").unwrap();
    fs::write(www(&home).join("robots.txt"), "User-agent: *\n").unwrap();
    fs::write(home.data().join("secret"), "no").unwrap();
    std::os::unix::fs::symlink(home.data().join("secret"), www(&home).join("link.txt")).unwrap();
    let _router = Running::start(home.smp_server(["start", "--shards", "1"]));
    // Generated anew at each start, as by the reference.
    assert!(get(http, "/").body.contains("SimpleX messaging server"));
    let robots = get(http, "/robots.txt");
    assert_eq!(
        (robots.body.as_str(), robots.fields["content-type"].as_str()),
        ("User-agent: *\n", "text/plain; charset=utf-8")
    );
    assert_eq!(get(http, "/link.txt").status, 404);
    let token = www(&home).join(".well-known/acme-challenge");
    fs::create_dir_all(&token).unwrap();
    fs::write(token.join("token"), "proof").unwrap();
    wait_for("a new file", || get(http, "/.well-known/acme-challenge/token").body == "proof");
    fs::remove_file(www(&home).join("robots.txt")).unwrap();
    wait_for("the end of a file", || get(http, "/robots.txt").status == 404);
}

#[test]
fn a_directory_that_cannot_be_written_is_no_reason_not_to_serve() {
    let http = free_port();
    let occupied = tempfile::NamedTempFile::new().unwrap();
    let home = home(http, &[("static_path", occupied.path().display().to_string())]);
    let router = Running::start(home.smp_server(["start", "--shards", "1"]));
    assert_eq!(get(http, "/a").status, 200);
    router.signal(Signal::TERM);
    let (status, _, errors) = router.wait();
    assert_eq!(status.code(), Some(0));
    assert!(errors.contains("the pages cannot be written to") && errors.contains("from memory"), "{errors}");
}

#[test]
fn those_who_say_nothing_do_not_keep_others_out() {
    let http = free_port();
    let home = home(http, &[]);
    let _router = Running::start(home.smp_server(["start", "--shards", "1"]));
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", http)).unwrap()).collect();
    assert_eq!(get(http, "/").status, 200);
    // More than are served at a time: the silent ones are cut off after some time.
    let more: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", http)).unwrap()).collect();
    assert_eq!(get(http, "/").status, 200);
    drop((silent, more));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let home = home(address.port(), &[]);
    assert_fails(&home.run(["start"]), 6, &[&format!("cannot listen on {address}"), "[WEB]"]);
}

fn web_certificate(home: &Home, name: &str) {
    let subject = format!("/CN={name}");
    let mut request =
        vec!["req", "-x509", "-nodes", "-days", "1", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    request.extend(["-subj", &subject, "-keyout", "new.key", "-out", "new.crt"]);
    openssl(&home.config(""), &request);
    fs::rename(home.config("new.key"), home.config("web.key")).unwrap();
    fs::rename(home.config("new.crt"), home.config("web.crt")).unwrap();
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let (http, https) = (free_port(), free_port());
    let home =
        home(http, &[("https", https.to_string()), ("cert", "CERT".to_owned()), ("key", "KEY".to_owned())]);
    let path = |file: &str| home.config(file).display().to_string();
    let ini = home.read("smp-server.ini");
    home.write(
        "smp-server.ini",
        &ini.replace("= CERT", &format!("= {}", path("web.crt")))
            .replace("= KEY", &format!("= {}", path("web.key"))),
    );
    web_certificate(&home, "old.example.com");
    let router = Running::start(home.smp_server(["start", "--shards", "2"]));
    let address = format!("127.0.0.1:{https}");
    let shown = || {
        openssl(
            &home.config(""),
            &["s_client", "-connect", &address, "-servername", "a.example", "-alpn", "http/1.1"],
        )
    };
    assert!(shown().contains("CN = old.example.com"));
    web_certificate(&home, "new.example.com");
    wait_for("the new certificate", || shown().contains("CN = new.example.com"));
    // What cannot be used leaves the old one.
    fs::write(home.config("web.crt"), "no PEM").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(shown().contains("CN = new.example.com"));
    web_certificate(&home, "third.example.com");
    wait_for("the third certificate", || shown().contains("CN = third.example.com"));
    router.signal(Signal::TERM);
    let (_, _, errors) = router.wait();
    assert!(errors.contains("the old certificate for web clients stays"), "{errors}");
}

#[test]
fn failed_handshakes_are_logged_if_that_is_wanted_and_name_nobody() {
    for (log, words) in [("on", true), ("off", false)] {
        let home = home(free_port(), &[("log_tls_errors", log.to_owned())]);
        let router = Running::start(home.smp_server(["start", "--shards", "1"]));
        let address =
            router.lines.iter().find_map(|line| line.strip_prefix("Serving SMP protocol on ")).unwrap();
        let mut client = TcpStream::connect(address.trim()).unwrap();
        let name = client.local_addr().unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let _ = client.read_to_end(&mut Vec::new());
        router.signal(Signal::TERM);
        let (_, _, errors) = router.wait();
        assert_eq!(errors.contains("a TLS handshake with a client failed"), words, "{errors}");
        assert!(!errors.contains(&name.to_string()), "{errors}");
    }
}
