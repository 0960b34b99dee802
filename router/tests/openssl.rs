//! Routers as OpenSSL sees them: its client, its certificates. These tests need the program `openssl`, version 3.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;

use ringpost_client::{ClientConfig, Connection, QueueOptions};
use support::{Home, Running, free_port, openssl, stderr};

/// A handshake with the router of these files, whose certificates must verify, then the end of it.
fn handshake(home: &Home, port: u16, more: &[&str]) -> String {
    let address = format!("127.0.0.1:{port}");
    let mut arguments = vec!["s_client", "-connect", &address, "-tls1_3", "-alpn", "smp/1", "-msg"];
    arguments.extend(["-CAfile", "ca.crt", "-verify_return_error", "-noservername"]);
    arguments.extend(more);
    let text = openssl(&home.config(""), &arguments);
    assert!(text.contains("Verification: OK") && text.contains("ALPN protocol: smp/1"), "{text}");
    text
}

/// As many hellos as the client had to send, and the group that was agreed on.
fn hellos_and_group(text: &str) -> (usize, &str) {
    let group = text.lines().find_map(|line| line.strip_prefix("Server Temp Key: "));
    (text.matches(", ClientHello").count(), group.unwrap_or_else(|| panic!("{text}")))
}

fn initialized(port: u16, more: &[&str]) -> Home {
    let home = Home::new();
    let port = port.to_string();
    let mut init = vec!["init", "--yes", "--ip", "127.0.0.1", "--no-password", "--listen", "127.0.0.1"];
    init.extend(["--port", &port]);
    init.extend(more);
    let output = home.run(init);
    assert!(output.status.success(), "{}", stderr(&output));
    home
}

/// Our client connects to the address that the router printed, and makes a queue.
fn makes_a_queue(router: &Running) {
    let address = router.lines.iter().find_map(|line| line.strip_prefix("Server address: ")).unwrap();
    let address = address.trim().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, _events) = Connection::connect(&address, ClientConfig::default()).await.unwrap();
        client.new_queue(QueueOptions::default()).await.unwrap();
    });
}

#[test]
fn the_apps_need_no_second_hello() {
    let port = free_port();
    let home = initialized(port, &[]);
    let _router = Running::start(home.smp_server(["start", "--shards", "1"]));
    for (groups, hellos, group) in [
        // As the apps offer them: a share of the first alone.
        ("X448:X25519", 1, "X448, 448 bits"),
        ("X25519:X448", 1, "X25519, 253 bits"),
        ("X448", 1, "X448, 448 bits"),
        ("P-256:X448", 2, "X448, 448 bits"),
    ] {
        let text = handshake(&home, port, &["-groups", groups]);
        assert_eq!(hellos_and_group(&text), (hellos, group), "{groups}");
    }
}

#[test]
fn an_operator_may_do_without_x448() {
    let port = free_port();
    let home = initialized(port, &[]);
    let ini = home.read("smp-server.ini").replace("# tls_x448 = on", "tls_x448 = off");
    home.write("smp-server.ini", &ini);
    let _router = Running::start(home.smp_server(["start", "--shards", "1"]));
    let text = handshake(&home, port, &["-groups", "X448:X25519"]);
    assert_eq!(hellos_and_group(&text), (2, "X25519, 253 bits"));
}

#[test]
fn identities_of_both_algorithms_are_made_and_served() {
    for algorithm in ["ED25519", "ED448"] {
        let port = free_port();
        let home = initialized(port, &["--sign-algorithm", algorithm]);
        let folder = home.config("");
        openssl(&folder, &["verify", "-CAfile", "ca.crt", "ca.crt", "server.crt"]);
        for certificate in ["ca.crt", "server.crt"] {
            let text = openssl(&folder, &["x509", "-in", certificate, "-noout", "-text"]);
            assert!(text.contains(&format!("Public Key Algorithm: {algorithm}")), "{text}");
            assert_eq!(text.matches(&format!("Signature Algorithm: {algorithm}")).count(), 2, "{text}");
        }
        for key in ["ca.key", "server.key"] {
            let text = openssl(&folder, &["pkey", "-in", key, "-noout", "-text"]);
            assert!(text.starts_with(&format!("{algorithm} Private-Key:")), "{key}");
        }
        let router = Running::start(home.smp_server(["start", "--shards", "1"]));
        let text = handshake(&home, port, &[]);
        assert!(text.contains(&format!("Peer signature type: {}", algorithm.to_lowercase())), "{text}");
        makes_a_queue(&router);
    }
}

/// The commands by which the reference makes its certificates, with Ed448, its default before smp-server chose Ed25519.
#[test]
fn an_ed448_identity_made_by_openssl_is_served() {
    let port = free_port();
    let home = initialized(port, &[]);
    let folder = home.config("");
    let conf = |name: &str, extensions: &str| {
        format!("[req]\ndistinguished_name = dn\nprompt = no\n[dn]\n{name}\n[v3]\n{extensions}\n")
    };
    home.write(
        "ca.conf",
        &conf(
            "CN = SMP server CA\nO = SimpleX",
            "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid:always\nbasicConstraints = critical,CA:true",
        ),
    );
    home.write(
        "server.conf",
        &conf(
            "CN = 127.0.0.1",
            "basicConstraints = CA:FALSE\nkeyUsage = digitalSignature, nonRepudiation, keyAgreement\n\
             extendedKeyUsage = serverAuth",
        ),
    );
    for command in [
        "genpkey -algorithm ED448 -out ca.key",
        "req -new -x509 -days 999999 -config ca.conf -extensions v3 -key ca.key -out ca.crt",
        "genpkey -algorithm ED448 -out server.key",
        "req -new -config server.conf -key server.key -out server.csr",
        "x509 -req -days 999999 -extfile server.conf -extensions v3 -in server.csr -CA ca.crt -CAkey ca.key \
         -CAcreateserial -out server.crt",
    ] {
        openssl(&folder, &command.split_whitespace().collect::<Vec<_>>());
    }
    let fingerprint = ringpost_protocol::certificate::parse_fingerprint(&home.read("fingerprint"));
    assert!(fingerprint.is_some());
    let refused = home.run(["start"]);
    assert!(stderr(&refused).contains("does not match"), "{}", stderr(&refused));

    let der = folder.join("ca.der");
    openssl(&folder, &["x509", "-in", "ca.crt", "-outform", "DER", "-out", "ca.der"]);
    let fingerprint = ringpost_protocol::certificate::fingerprint(&fs::read(der).unwrap());
    home.write("fingerprint", &ringpost_protocol::certificate::fingerprint_text(&fingerprint));
    let router = Running::start(home.smp_server(["start", "--shards", "1"]));
    let text = handshake(&home, port, &["-groups", "X448:X25519"]);
    assert!(text.contains("Peer signature type: ed448"), "{text}");
    makes_a_queue(&router);
}
