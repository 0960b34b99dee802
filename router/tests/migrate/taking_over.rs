//! `smp-server start` where the reference has run: it imports by itself, or leaves everything as it was and says what to do.

use std::fs;

use rustix::process::Signal;

use crate::sample::{create, message};
use crate::site::{MESSAGES, STORE, Site};
use crate::support::{Home, Running, assert_fails, free_port, stdout};

/// An initialized router with these files of the reference in its data directory.
fn replaced(files: &[(&str, &str)]) -> Site {
    let site = Site { home: Home::initialized(free_port()) };
    let ini = site.home.read("smp-server.ini");
    site.home
        .write("smp-server.ini", &ini.replace("expire_messages_days = 21", "expire_messages_days = 3650"));
    for (name, content) in files {
        fs::write(site.data(name), content).unwrap();
    }
    site
}

fn start_and_stop(site: &Site) -> Vec<String> {
    let router = Running::start(site.home.smp_server(["start"]));
    let lines = router.lines.clone();
    router.signal(Signal::TERM);
    let (status, _, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    lines
}

fn loaded(lines: &[String]) -> &str {
    lines.iter().find_map(|line| line.strip_prefix("Loaded ")).unwrap().trim()
}

#[test]
fn the_first_start_imports_and_the_next_ones_do_not() {
    let (store, messages) = (create(1) + &create(2), message(1, 1, b"one") + &message(1, 2, b"two"));
    let site = replaced(&[(STORE, &store), (MESSAGES, &messages)]);
    let lines = start_and_stop(&site);
    assert!(lines.contains(&format!("{STORE} is now {STORE}.imported\n")), "{lines:?}");
    assert_eq!(loaded(&lines), "2 queues and 2 messages");
    assert_eq!(site.read(&format!("{STORE}.imported")), store);
    assert_eq!(site.read(&format!("{MESSAGES}.imported")), messages);
    let lines = start_and_stop(&site);
    assert!(!lines.iter().any(|line| line.contains("Taking over")), "{lines:?}");
    assert_eq!(loaded(&lines), "2 queues and 2 messages");
}

#[test]
fn an_empty_store_log_is_no_obstacle() {
    let site = replaced(&[(STORE, "")]);
    assert_eq!(loaded(&start_and_stop(&site)), "0 queues and 0 messages");
    assert!(!site.data(STORE).exists());
}

#[test]
fn a_failed_import_leaves_everything_as_it_was() {
    let site = replaced(&[(STORE, &(create(1) + "nonsense\n")), (MESSAGES, &message(1, 1, b"one"))]);
    let before: Vec<_> = [STORE, MESSAGES].map(|name| site.read(name)).into();
    for _ in 0..2 {
        site.fails(
            &["start"],
            15,
            &[":2: rejected", "nothing was imported", "smp-server import --accept-rejected"],
        );
        assert_eq!([STORE, MESSAGES].map(|name| site.read(name)).to_vec(), before);
        assert!(site.log_files().is_empty());
    }
    site.home.run(["import", "--accept-rejected"]);
    assert_eq!(loaded(&start_and_stop(&site)), "1 queues and 1 messages");
}

#[test]
fn an_error_that_has_nothing_to_do_with_it_comes_before_the_import() {
    let site = replaced(&[(STORE, &create(1))]);
    let key = site.home.config("server.key");
    fs::rename(&key, key.with_extension("away")).unwrap();
    site.fails(&["start"], 17, &["server.key"]);
    assert_eq!(site.files().into_keys().collect::<Vec<_>>(), [STORE]);
}

#[test]
fn maintenance_imports_too() {
    let site = replaced(&[(STORE, &create(1))]);
    let output = site.home.run(["start", "--maintenance"]);
    let out = stdout(&output);
    assert!(out.contains("is now") && out.contains("Maintenance completed"), "{out}");
    assert_eq!(loaded(&start_and_stop(&site)), "1 queues and 0 messages");
}

#[test]
fn queues_of_both_servers_are_not_mixed() {
    let site = replaced(&[(STORE, &create(1))]);
    start_and_stop(&site);
    fs::write(site.data(STORE), create(2)).unwrap();
    site.fails(&["start"], 5, &["has 1 queues already", "away"]);
    assert_eq!(site.read(STORE), create(2));
    fs::rename(site.data("ringpost"), site.data("old")).unwrap();
    assert_eq!(loaded(&start_and_stop(&site)), "1 queues and 0 messages");
}

#[test]
fn an_import_that_was_interrupted_at_its_end_is_completed() {
    let site = replaced(&[(STORE, &create(1)), (MESSAGES, &message(1, 1, b"one"))]);
    start_and_stop(&site);
    // As if the first of two files had been renamed when the power went.
    fs::rename(site.data(&format!("{MESSAGES}.imported")), site.data(MESSAGES)).unwrap();
    let mark = format!("{STORE} {STORE}.imported\n{MESSAGES} {MESSAGES}.imported\n");
    fs::write(site.data("ringpost/importing"), mark).unwrap();
    assert_eq!(loaded(&start_and_stop(&site)), "1 queues and 1 messages");
    assert!(!site.data(MESSAGES).exists() && site.data(&format!("{MESSAGES}.imported")).exists());
}

#[test]
fn messages_without_their_queues_are_not_passed_over() {
    let site = replaced(&[(MESSAGES, &message(1, 1, b"one"))]);
    site.fails(&["start"], 3, &[MESSAGES, STORE, "SMP_SERVER_LOG_PATH"]);
    let site = replaced(&[]);
    fs::create_dir(site.data("messages")).unwrap();
    site.fails(&["start"], 3, &["messages of another server"]);
    fs::write(site.data(STORE), create(1)).unwrap();
    site.fails(&["start"], 10, &["journal export"]);
}

#[test]
fn a_router_that_keeps_nothing_reads_nothing() {
    let site = replaced(&[(STORE, &create(1))]);
    let ini = site.home.read("smp-server.ini").replace("enable = on", "enable = off");
    site.home.write("smp-server.ini", &ini);
    let router = Running::start(site.home.smp_server(["start"]));
    router.signal(Signal::TERM);
    let (status, _, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(errors.contains("enable = off") && errors.contains(STORE), "{errors}");
    assert_eq!(site.files().into_keys().collect::<Vec<_>>(), [STORE]);
}

#[test]
fn the_other_servers_stores_are_named() {
    for (key, value) in [("store_messages", "journal"), ("store_queues", "database")] {
        let site = replaced(&[]);
        let ini =
            site.home.read("smp-server.ini").replace(&format!("{key} = memory"), &format!("{key} = {value}"));
        site.home.write("smp-server.ini", &ini);
        assert_fails(&site.home.run(["start"]), 3, &[&format!("{key} = {value}"), "`memory`"]);
    }
}
