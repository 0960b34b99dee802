//! Imports that were interrupted at any point.

use std::fs;
use std::thread::sleep;
use std::time::Instant;

use crate::sample::{create, many};
use crate::site::{MESSAGES, STORE, Site};

#[test]
fn an_import_that_was_killed_is_done_again_from_the_beginning_or_only_its_end_is() {
    let (store, messages) = many(6_000);
    let (expected, whole_import) = {
        let site = Site::with(&[(STORE, &store), (MESSAGES, &messages)]);
        let began = Instant::now();
        site.run(&["import"]);
        let took = began.elapsed();
        (site.holdings(), took)
    };
    assert_eq!(expected["queues"]["all"], 6_000);
    let mut unfinished = 0;
    for tenth in 0..10 {
        let site = Site::with(&[(STORE, &store), (MESSAGES, &messages)]);
        let mut import =
            site.home.smp_server(["import"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        sleep(whole_import * tenth / 10);
        let _ = import.kill();
        import.wait().unwrap();
        let source = [STORE.to_owned(), format!("{STORE}.imported")];
        let whole = source.iter().filter(|name| site.data(name).exists()).map(|name| site.read(name));
        assert!(whole.eq([store.as_str()]), "the file is there, under one name");
        if site.data("ringpost/importing").exists() {
            unfinished += 1;
            site.fails(&["check"], 13, &["was not completed", "smp-server import"]);
            site.fails(&["export"], if site.data(STORE).exists() { 5 } else { 13 }, &[]);
        }
        if site.data(STORE).exists() || site.data("ringpost/importing").exists() {
            site.run(&["import"]);
        }
        assert_eq!(site.holdings(), expected, "killed after {tenth} tenths");
        assert!(!site.data(STORE).exists() && !site.data(MESSAGES).exists());
        assert_eq!(site.read(&format!("{STORE}.imported")), store);
    }
    // How many depends on the machine; that there are some does not.
    println!("{unfinished} of 10 were interrupted while they wrote");
}

#[test]
fn what_an_import_left_of_a_log_is_removed() {
    let site = Site::with(&[(STORE, &create(1))]);
    site.run(&["import"]);
    let old = site.log_files();
    fs::write(site.data("ringpost/importing"), "").unwrap();
    fs::write(site.data("ringpost/00000009-000-00000001.seg"), "half").unwrap();
    fs::write(site.data(STORE), create(2) + &create(3)).unwrap();
    let told = site.run(&["import"]);
    assert!(told.contains("An earlier import was interrupted; this one begins anew."), "{told}");
    assert_eq!(site.holdings()["queues"]["all"], 2);
    assert!(!old.is_empty() && !site.data("ringpost/00000009-000-00000001.seg").exists());
}

#[test]
fn when_only_the_names_are_left_to_change_only_they_are_changed() {
    let site = Site::with(&[(STORE, &create(1)), (MESSAGES, "")]);
    site.run(&["import"]);
    let log = site.files().into_iter().filter(|(name, _)| name.starts_with("ringpost/")).collect::<Vec<_>>();
    // As it is when the power fails between the two names.
    let plan = format!("{STORE} {STORE}.imported\n{MESSAGES} {MESSAGES}.imported\n");
    fs::write(site.data("ringpost/importing"), plan).unwrap();
    fs::rename(site.data(&format!("{MESSAGES}.imported")), site.data(MESSAGES)).unwrap();
    let told = site.run(&["import"]);
    assert!(told.contains("this one does what was left"), "{told}");
    assert!(site.data(&format!("{MESSAGES}.imported")).exists() && !site.data(MESSAGES).exists());
    let after =
        site.files().into_iter().filter(|(name, _)| name.starts_with("ringpost/")).collect::<Vec<_>>();
    assert_eq!(after, log);
    assert_eq!(site.holdings()["queues"]["all"], 1);
}
