//! Upgrades that cannot be: the router goes on.

use std::net::TcpStream;

use ringpost_client::{ClientConfig, Connection};
use rustix::process::Signal;

use crate::campaign::{drain, make_queues};
use crate::runtime;
use crate::site::{self, Site, home, is_file, program, set};
use crate::support::{assert_fails, free_port};

/// Asks for an upgrade and waits for the reason why there is none. The connection of a client outlives that.
fn refuses(site: &mut Site, words: &[&str]) {
    let address = site.address();
    let before = site.count("err", "no upgrade, going on as before");
    runtime().block_on(async {
        let (client, _events) = Connection::connect(&address, ClientConfig::default()).await.unwrap();
        tokio::task::block_in_place(|| {
            site.signal(Signal::USR2);
            site.wait_for("err", "no upgrade, going on as before", before + 1);
        });
        client.ping().await.unwrap();
    });
    let errors = site.read("err");
    let line = errors.lines().rfind(|line| line.contains("no upgrade")).unwrap();
    let program = program(&site.home).display().to_string();
    for words in words.iter().copied().chain([program.as_str()]) {
        assert!(line.contains(words), "expected {words:?} in {line}");
    }
}

#[test]
fn a_program_that_does_not_start_changes_nothing() {
    let mut site = Site::start(&[], &["--shards", "1"]);
    site.install_script("#!/bin/sh\necho \"error: not today\" >&2\nexit 1\n");
    refuses(&mut site, &["exit status: 1", "error: not today"]);
    site.install_script("#!/bin/sh\necho hello\n");
    refuses(&mut site, &["does not know how to take over", "hello"]);
    site.install_script("#!/no/such/interpreter\n");
    refuses(&mut site, &["cannot be run", "No such file"]);
    std::fs::remove_file(program(&site.home)).unwrap();
    refuses(&mut site, &["cannot be run", "No such file"]);
    assert!(!is_file(&program(&site.home)));
    site.install_real();
    set(&site.home, "RINGPOST", "queue_quota = many");
    refuses(&mut site, &["exit status: 3", "queue_quota"]);
    set(&site.home, "RINGPOST", "queue_quota = 128");
    std::fs::rename(site.home.config("server.key"), site.home.config("away")).unwrap();
    refuses(&mut site, &["exit status: 17", "server.key"]);
    std::fs::rename(site.home.config("away"), site.home.config("server.key")).unwrap();
    assert_eq!(site.count("out", "Serving SMP protocol"), 1);
    site.upgrade();
    site.stop();
}

/// The check passed, and then there is nothing to run.
#[test]
fn a_program_that_vanishes_leaves_the_process_to_the_old_one() {
    let mut site = Site::start(&[], &["--shards", "2"]);
    let (address, runtime) = (site.address(), runtime());
    let queues = runtime.block_on(make_queues(&address, 2));
    let _silent = TcpStream::connect(site.socket()).unwrap();
    site.signal(Signal::USR2);
    site.wait_for("err", "handing over; new clients wait", 1);
    std::fs::remove_file(program(&site.home)).unwrap();
    site.wait_for("out", "Serving SMP protocol", 2);
    let errors = site.read("err");
    assert!(
        errors.contains("cannot be run: No such file") && errors.contains("this program goes on"),
        "{errors}"
    );
    runtime.block_on(drain(&address, &queues));
    // The next one is there again.
    site.install_real();
    site.upgrade();
    site.stop();
}

/// A version whose check passes, but that cannot read what is stored: it looks for the key under another name.
#[test]
fn a_version_that_cannot_start_gives_way_to_the_one_before() {
    let mut site = Site::start(&[], &["--shards", "2"]);
    let (address, runtime) = (site.address(), runtime());
    let queues = runtime.block_on(make_queues(&address, 2));
    site.install_altered(b"id_hash.key", b"id_hash.kez");
    site.upgrade();
    let errors = site.read("err");
    assert!(errors.contains("id_hash.kez is missing"), "{errors}");
    assert!(errors.contains("this version cannot start; the one that ran before goes on"), "{errors}");
    assert!(errors.matches("taking over").count() == 1, "the altered one came so far: {errors}");
    runtime.block_on(drain(&address, &queues));
    site.install_real();
    site.upgrade();
    assert!(site.inheritable().is_empty(), "{:?}", site.inheritable());
    site.stop();
}

#[test]
fn a_check_changes_nothing_and_finds_what_a_start_would_find() {
    let port = free_port();
    let home = home(port, &[]);
    let before = home.files();
    let check = ["start", "--check", "--shards", "2"];
    let output = site::run(&home, &check);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.starts_with("Ringpost smp-server ") && text.contains("\nChecked: the server can start"),
        "{text}"
    );
    assert_eq!(home.files(), before);
    assert!(!home.data().join("ringpost").exists() && !home.data().join("ringpost.lock").exists());
    set(&home, "TRANSPORT", "port = none");
    assert_fails(&site::run(&home, &check), 3, &["smp-server.ini", "port"]);
    assert_fails(&site::run(&home, &["start", "--check", "--maintenance"]), 2, &["--maintenance"]);
}
