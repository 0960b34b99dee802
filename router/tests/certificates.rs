//! `smp-server cert` and `smp-server delete`: another online certificate for the same address, and the end of a router.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ringpost_client::{ClientConfig, Connection, QueueOptions, RecipientQueue};
use ringpost_protocol::certificate::{OldCertificate, RouterCredentials, SignatureAlgorithm};
use rustix::process::Signal;
use support::{Home, Running, assert_fails, free_port, openssl, run_with_input, stderr, stdout};

const NOW_SECS: i64 = 1_900_000_000;

fn renewed(home: &Home, options: &[&str]) -> OldCertificate {
    let output = home.run(["cert"].iter().chain(options).copied());
    assert!(output.status.success(), "{}", stderr(&output));
    let made = home.read("server.crt");
    RouterCredentials::from_pem(&home.read("ca.crt"), &made, &home.read("server.key"), NOW_SECS).unwrap();
    openssl(&home.config(""), &["verify", "-CAfile", "ca.crt", "server.crt"]);
    OldCertificate::from_pem(&made).unwrap()
}

#[test]
fn a_new_certificate_keeps_address_name_and_algorithm() {
    for (init, algorithm) in [("ED25519", SignatureAlgorithm::Ed25519), ("ED448", SignatureAlgorithm::Ed448)]
    {
        let home = Home::new();
        let output = home.run(["init", "-y", "-n", "smp.example.com", "-a", init]);
        assert!(output.status.success(), "{}", stderr(&output));
        let before = home.files();
        let made = renewed(&home, &[]);
        assert_eq!((made.name.as_deref(), made.algorithm), (Some("smp.example.com"), Some(algorithm)));
        let changed: Vec<String> = (before.into_iter().zip(home.files()))
            .filter(|(before, after)| before != after)
            .map(|(before, _)| before.0)
            .collect();
        assert_eq!(changed, ["server.crt", "server.key"]);
        assert_eq!((home.mode("server.key"), home.mode("server.crt")), (0o600, 0o644));
    }
}

#[test]
fn name_and_algorithm_may_be_changed() {
    let home = Home::new();
    home.run(["init", "-y", "-n", "old.example.com"]);
    let made = renewed(&home, &["--cn", "new.example.com", "-a", "ED448"]);
    assert_eq!(
        (made.name.as_deref(), made.algorithm),
        (Some("new.example.com"), Some(SignatureAlgorithm::Ed448))
    );
    // The next one takes over what this one has.
    let made = renewed(&home, &["--cn", "192.0.2.1"]);
    assert_eq!((made.name.as_deref(), made.algorithm), (Some("192.0.2.1"), Some(SignatureAlgorithm::Ed448)));
    // With both the old one is not looked at.
    fs::remove_file(home.config("server.crt")).unwrap();
    assert_fails(&home.run(["cert", "--cn", "a.example"]), 17, &["server.crt"]);
    renewed(&home, &["--cn", "a.example", "-a", "ED25519"]);
}

/// The directory of a router of the reference, and clients that connected before and after.
#[test]
fn clients_of_a_reference_router_do_not_notice() {
    let port = free_port();
    let home = Home::initialized(port);
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/reference_data/etc");
    for file in ["ca.crt", "ca.key", "fingerprint", "server.crt", "server.key"] {
        fs::copy(format!("{recorded}/{file}"), home.config(file)).unwrap();
        fs::set_permissions(home.config(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let address = format!("smp://{}@127.0.0.1:{port}", home.read("fingerprint").trim()).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let router = Running::start(home.smp_server(["start", "--shards", "1"]));
    let queue: RecipientQueue = runtime.block_on(async {
        let (client, _events) = Connection::connect(&address, ClientConfig::default()).await.unwrap();
        client.new_queue(QueueOptions::default()).await.unwrap()
    });
    renewed(&home, &["-a", "ED448"]);
    router.signal(Signal::TERM);
    assert_eq!(router.wait().0.code(), Some(0));
    let _router = Running::start(home.smp_server(["start", "--shards", "1"]));
    runtime.block_on(async {
        let (client, _events) = Connection::connect(&address, ClientConfig::default()).await.unwrap();
        client.subscribe(&queue).await.unwrap();
    });
}

#[test]
fn what_does_not_belong_together_is_refused_and_changes_nothing() {
    let (home, other) = (Home::new(), Home::new());
    home.run(["init", "-y"]);
    other.run(["init", "-y"]);
    for (file, content, code, words) in [
        ("ca.key", None, 17, &["ca.key", "kept elsewhere"][..]),
        ("ca.key", Some(other.read("ca.key")), 4, &["does not belong"]),
        ("ca.crt", None, 17, &["ca.crt"]),
        ("fingerprint", Some(other.read("fingerprint")), 18, &["does not match"]),
        ("server.crt", Some(home.read("server.crt").repeat(2)), 4, &["2 certificates", "--cn"]),
        ("server.crt", Some("no PEM".to_owned()), 4, &["server.crt", "--cn"]),
    ] {
        let good = home.read(file);
        match content {
            Some(content) => home.write(file, &content),
            None => fs::remove_file(home.config(file)).unwrap(),
        }
        let before = home.files();
        assert_fails(&home.run(["cert"]), code, words);
        assert_eq!(home.files(), before, "{file}");
        home.write(file, &good);
    }
}

#[test]
fn an_expired_certificate_has_its_own_exit_code() {
    let home = Home::new();
    home.run(["init", "-y", "--ip", "127.0.0.1"]);
    home.write("index.txt", "");
    home.write("serial", "01");
    let conf = "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\ndefault_md = default\n\
                policy = p\n[p]\ncommonName = supplied\n";
    home.write("ca.conf", conf);
    for command in [
        "req -new -key server.key -subj /CN=127.0.0.1 -out server.csr",
        "ca -batch -notext -config ca.conf -in server.csr -cert ca.crt -keyfile ca.key \
         -startdate 20200101000000Z -enddate 20200102000000Z -out server.crt",
    ] {
        openssl(&home.config(""), &command.split_whitespace().collect::<Vec<_>>());
    }
    assert_fails(&home.run(["start"]), 19, &["expired", "smp-server cert"]);
    renewed(&home, &[]);
    assert!(home.run(["start", "-m"]).status.success());
}

#[test]
fn delete_asks_and_leaves_what_is_not_the_routers() {
    let home = Home::initialized(free_port());
    drop(Running::start(home.smp_server(["start"])));
    home.write("web.crt", "mine");
    fs::write(home.data().join("smp-server-store.log.imported"), "").unwrap();
    let before = home.files();
    for answer in ["", "\n", "y\n", "yes\n"] {
        let output = run_with_input(home.smp_server(["delete"]), answer);
        assert!(!output.status.success());
        assert_eq!(home.files(), before);
        assert!(home.data().join("ringpost").exists());
    }
    assert_fails(&run_with_input(home.smp_server(["delete"]), "n\n"), 1, &["nothing was deleted"]);
    let running = Running::start(home.smp_server(["start"]));
    assert_fails(&run_with_input(home.smp_server(["delete"]), "Y\n"), 12, &["ringpost.lock"]);
    drop(running);

    let output = run_with_input(home.smp_server(["delete"]), "Y\n");
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    assert!(text.contains("CANNOT BE UNDONE") && text.contains("has other files, which are left"), "{text}");
    assert_eq!(home.files(), [("web.crt".to_owned(), b"mine".to_vec())]);
    assert!(!home.data().exists());
    let output = run_with_input(home.smp_server(["delete"]), "Y\n");
    assert!(stdout(&output).contains("nothing to delete"), "{}", stdout(&output));
}
