//! Web clients of a started router: where they are served, with which certificate, and what stops the start.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use support::{Home, Running, assert_fails, free_port, openssl, stderr};

const KINDS: [&[&str]; 2] =
    [&["-newkey", "rsa:2048"], &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]];

/// A router for `port` with a certificate for browsers in its directory.
fn home(port: u16, kind: &[&str]) -> Home {
    let home = Home::initialized(port);
    let mut request = vec!["req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=smp.example.com"];
    request.extend([
        "-addext",
        "subjectAltName=DNS:smp.example.com",
        "-keyout",
        "web.key",
        "-out",
        "web.crt",
    ]);
    request.extend(kind);
    openssl(&home.config(""), &request);
    home
}

/// Sets keys of the ini: those of `init` are replaced, the others are added.
fn set(home: &Home, keys: &[(&str, &str, &str)]) {
    let mut ini = home.read("smp-server.ini");
    for (section, key, value) in keys {
        let set = ini.lines().find(|line| line.split('=').next().unwrap().trim() == *key).map(str::to_owned);
        let old = set.unwrap_or_else(|| format!("[{section}]"));
        let new =
            if old.starts_with('[') { format!("{old}\n{key} = {value}") } else { format!("{key} = {value}") };
        ini = ini.replacen(&format!("{old}\n"), &format!("{new}\n"), 1);
    }
    home.write("smp-server.ini", &ini);
}

fn with_web(home: &Home, https: u16) {
    let (certificate, key) = (home.config("web.crt"), home.config("web.key"));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let https = https.to_string();
    set(home, &[("WEB", "https", &https), ("WEB", "cert", certificate), ("WEB", "key", key)]);
}

/// A page over TLS, whose certificate must be signed by this one.
fn get(home: &Home, port: u16, authority: &str, name: &[&str]) -> String {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-connect"])
        .arg(format!("127.0.0.1:{port}"))
        .args(["-CAfile", authority])
        .args(name)
        .current_dir(home.config(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program openssl is needed");
    client.stdin.take().unwrap().write_all(b"GET / HTTP/1.1\r\nHost: smp.example.com\r\n\r\n").unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

const NAME: [&str; 4] = ["-servername", "smp.example.com", "-verify_hostname", "smp.example.com"];

#[test]
fn browsers_share_a_port_with_clients_and_have_others_alone() {
    for kind in KINDS {
        let (port, websocket) = (free_port(), free_port());
        let home = home(port, kind);
        with_web(&home, port);
        set(&home, &[("TRANSPORT", "websockets", &websocket.to_string())]);
        let router = Running::start(home.smp_server(["start", "--shards", "2"]));
        let all = router.lines.concat();
        assert!(
            all.contains(&format!("Serving SMP protocol, and web clients, on 127.0.0.1:{port}\n")),
            "{all}"
        );
        let page = get(&home, port, "web.crt", &NAME);
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("<!doctype html>"), "{page}");
        // The WebSocket port has the router's own certificate.
        let page = get(&home, websocket, "ca.crt", &["-noservername"]);
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        // Who names nobody is a native client.
        let address = format!("127.0.0.1:{port}");
        let mut native = vec!["s_client", "-connect", &address, "-noservername", "-alpn", "smp/1"];
        native.extend(["-CAfile", "ca.crt", "-verify_return_error"]);
        let text = openssl(&home.config(""), &native);
        assert!(text.contains("Verification: OK") && text.contains("ALPN protocol: smp/1"), "{text}");
    }
}

#[test]
fn browsers_may_have_a_port_of_their_own() {
    let (port, https) = (free_port(), free_port());
    let home = home(port, KINDS[1]);
    with_web(&home, https);
    let _router = Running::start(home.smp_server(["start", "--shards", "1"]));
    assert!(get(&home, https, "web.crt", &NAME).starts_with("HTTP/1.1 200 OK\r\n"));
    // On the other port a name does not matter.
    let address = format!("127.0.0.1:{port}");
    let client = ["s_client", "-connect", &address, "-servername", "a.example", "-CAfile", "ca.crt"];
    assert!(openssl(&home.config(""), &client).contains("Verification: OK"));
}

#[test]
fn files_that_cannot_be_used_stop_the_start() {
    let port = free_port();
    let home = home(port, KINDS[1]);
    with_web(&home, port);
    let refused = |code, words: &[&str]| assert_fails(&home.run(["start"]), code, words);
    let key = home.config("web.key");
    fs::copy(home.config("server.key"), &key).unwrap();
    refused(4, &["web.crt", "web.key", "does not belong to the certificate", "[WEB] https"]);
    fs::remove_file(&key).unwrap();
    refused(17, &["cannot read", key.to_str().unwrap(), "[WEB] https"]);
    fs::write(home.config("web.crt"), "no PEM").unwrap();
    fs::write(&key, "no PEM").unwrap();
    refused(4, &["there is no certificate in the file"]);
}
