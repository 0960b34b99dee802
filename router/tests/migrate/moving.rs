//! To Ringpost and back: what comes in goes out again.

use std::fs;

use ringpost_protocol::error::{BlockingInfo, BlockingReason, ClientNotice};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_router::reference::{Change, MessageContent, QueueStatus, ServiceParty, StoreLine};
use ringpost_router::reference::{Link, Notifier};
use ringpost_router::storage::Storage;
use ringpost_store::disk::FileDisk;
use ringpost_store::log::{LogConfig, StartConfig, start};
use ringpost_store::{BodyPlace, IdHasher};
use serde_json::json;

use crate::sample::{change, create, id, many, message, message_with, record, recorded};
use crate::site::{MESSAGES, NOTIFICATIONS, STORE, Site};

fn recorded_site() -> Site {
    let [store, messages, notifications] =
        [STORE, MESSAGES, NOTIFICATIONS].map(|name| recorded(&format!("log/{name}")));
    Site::with(&[(STORE, &store), (MESSAGES, &messages), (NOTIFICATIONS, &notifications)])
}

/// Moves the exported files of a site to a new one.
fn exported(site: &Site) -> Site {
    site.run(&["export"]);
    let files = [STORE, MESSAGES, NOTIFICATIONS].map(|name| (name, site.read(name)));
    Site::with(&files.each_ref().map(|(name, content)| (*name, content.as_str())))
}

#[test]
fn the_recorded_data_directory_is_moved_here_and_back() {
    let site = recorded_site();
    let told = site.run(&["import"]);
    for line in [
        "smp-server-store.log: 24 lines read: 24 used, 0 passed over without loss, 0 rejected",
        "smp-server-messages.log: 136 lines read: 136 used, 0 passed over without loss, 0 rejected",
        "smp-server-ntfs.log: 2 lines read: 2 used, 0 passed over without loss, 0 rejected",
        "Queues: 8 (6 active, 1 suspended, 1 blocked; 4 messaging, 3 contact, 1 of old clients)",
        "Messages: 135 of 16610 bytes, 1 quota messages",
        "smp-server-store.log is now smp-server-store.log.imported",
    ] {
        assert!(told.lines().any(|l| l == line), "expected {line:?} in:\n{told}");
        assert!(site.read("ringpost-import.txt").lines().any(|l| l == line), "{line:?}");
    }
    let holdings = site.holdings();
    assert_eq!(holdings["queues"]["all"], 8);
    assert_eq!(holdings["services"], json!({ "all": 2, "recipient_queues": 1, "notifier_queues": 1 }));
    assert_eq!(holdings["notifiers"], json!({ "all": 2, "notifications": 2 }));

    let told = site.run(&["export"]);
    assert!(told.contains("smp-server-store.log: 10 lines\n"), "{told}");
    // The reference made these lines of the same directory.
    let compacted = recorded("samples/smp-server-store.compacted.log");
    let mut compacted: Vec<&str> = compacted.lines().collect();
    compacted.sort_unstable();
    assert_eq!(site.lines(STORE), compacted);
    assert!(site.read(STORE).starts_with("NEW_SERVICE"), "services come before the queues that name them");
    for name in [MESSAGES, NOTIFICATIONS] {
        assert_eq!(site.lines(name), site.lines(&format!("{name}.imported")), "{name}");
    }
}

#[test]
fn messages_of_a_queue_keep_their_order() {
    let site = recorded_site();
    site.run(&["import"]);
    site.run(&["export"]);
    let of_one = |text: String| -> Vec<String> {
        text.lines()
            .filter(|line| line.contains("CRMkNW_RCqKhXIRat9049WXf7lzmRuGq"))
            .map(str::to_owned)
            .collect()
    };
    let before = of_one(site.read(&format!("{MESSAGES}.imported")));
    assert!(before.len() > 100);
    assert_eq!(of_one(site.read(MESSAGES)), before);
}

#[test]
fn importing_what_was_exported_gives_the_same() {
    let first = recorded_site();
    first.run(&["import"]);
    let second = exported(&first);
    second.run(&["import"]);
    assert_eq!(second.holdings(), first.holdings());
    let third = exported(&second);
    for name in [STORE, MESSAGES, NOTIFICATIONS] {
        assert_eq!(third.lines(name), first.lines(name), "{name}");
    }
}

#[test]
fn a_router_with_any_number_of_shards_finds_what_was_imported() {
    let (store, messages) = many(500);
    let site = Site::with(&[(STORE, &store), (MESSAGES, &messages)]);
    site.run(&["import"]);
    let holdings = site.holdings();
    let storage = Storage::open(&site.home.data()).unwrap();
    for shards in [3, 1, 8] {
        let disk = FileDisk::new(storage.directory());
        let config =
            StartConfig { log: LogConfig::default(), shards, skip_corrupt: false, salt: 5, threads: false };
        let started = start::<_, BodyPlace>(&disk, &config, IdHasher::new(storage.id_hash_key())).unwrap();
        let queues: usize = started.shards.iter().map(|shard| shard.store.queue_count()).sum();
        let messages: usize = started.shards.iter().map(|shard| shard.store.message_count()).sum();
        assert_eq!((queues, messages, started.replayed), (500, 167, 0));
    }
    drop(storage);
    assert_eq!(site.holdings(), holdings);
    let told = site.run(&["check"]);
    assert!(told.contains("generation 4 of 8 shards"), "{told}");
    // What eight shards hold is written as what one held.
    site.run(&["export"]);
    let mut sorted: Vec<&str> = messages.lines().collect();
    sorted.sort_unstable();
    assert_eq!(site.lines(MESSAGES), sorted);
}

#[test]
fn everything_that_a_queue_can_have_is_kept() {
    let ed448 = |n: u8| AuthPublicKey::Ed448(Box::new([n; 57]));
    let service = recorded("log/smp-server-store.log");
    let service = service.lines().find(|line| line.starts_with("NEW_SERVICE")).unwrap();
    let Ok(StoreLine::Service(known)) = StoreLine::parse(service.as_bytes()) else { panic!("{service}") };

    let mut keys = record(1);
    keys.recipient_keys = (0..=254).map(ed448).collect();
    keys.sender_key = Some(ed448(1));
    keys.updated_secs = None;
    keys.mode = None;
    let mut blocked = record(2);
    let notice = Some(ClientNotice { ttl_secs: Some(60) });
    blocked.status = QueueStatus::Blocked(BlockingInfo { reason: BlockingReason::Content, notice });
    blocked.service = Some(known.id);
    let mut full = record(3);
    full.link = Some(Box::new(Link { id: id(3, b'l'), fixed: vec![1; 2_008], user: vec![2; 13_784] }));
    full.notifier =
        Some(Box::new(Notifier { id: id(3, b'n'), key: ed448(9), secret: [4; 32], service: Some(known.id) }));
    full.status = QueueStatus::Suspended;
    // A service that is not there.
    let mut orphan = record(4);
    orphan.service = Some(id(4, b'o'));

    let queues = [keys, blocked.clone(), full, orphan];
    let lines = (1..).zip(queues).map(|(n, queue)| change(n, Change::Create(Box::new(queue))));
    let store = format!("{service}\n{}", lines.collect::<String>());
    let largest = vec![9; 16_088];
    let messages =
        message(1, 1, &largest) + &message_with(1, 2, MessageContent::Quota) + &message(2, 3, b"x");
    let site = Site::with(&[(STORE, &store), (MESSAGES, &messages)]);
    site.run(&["import"]);
    let holdings = site.holdings();
    assert_eq!(holdings["queues"]["recipient_keys"], 258);
    assert_eq!(holdings["messages"], json!({ "all": 2, "bytes": 16_089, "quota": 1 }));
    assert_eq!(holdings["links"], json!({ "all": 1, "bytes": 15_792 }));

    site.run(&["export"]);
    // One line became two, since the reference cannot read it: see `QueueRecord::is_unreadable_in_one_line`.
    let service_apart = Change::Service { party: ServiceParty::Recipient, service: blocked.service.take() };
    let two = change(2, Change::Create(Box::new(blocked))) + &change(2, service_apart);
    let mut expected: Vec<&str> = store.lines().filter(|line| !line.contains("notice=")).collect();
    expected.extend(two.lines());
    expected.sort_unstable();
    assert_eq!(site.lines(STORE), expected);
    assert_eq!(site.lines(MESSAGES).len(), 3);

    let again = exported_from_files(&site);
    again.run(&["import"]);
    assert_eq!(again.holdings(), holdings);
}

fn exported_from_files(site: &Site) -> Site {
    let files = [STORE, MESSAGES, NOTIFICATIONS].map(|name| (name, site.read(name)));
    Site::with(&files.each_ref().map(|(name, content)| (*name, content.as_str())))
}

#[test]
fn what_the_other_server_cannot_read_is_left_out_and_counted() {
    let mut messages: String = (0..130).map(|n| message(1, n, b"m")).collect();
    messages += &message(2, 200, b"");
    let site = Site::with(&[(STORE, &(create(1) + &create(2))), (MESSAGES, &messages)]);
    site.run(&["import"]);
    assert_eq!(site.holdings()["messages"]["all"], 131);
    let output = site.home.run(["export"]);
    assert!(output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("1 messages without a body were left out"), "{errors}");
    assert!(errors.contains("2 messages are more than the other server keeps of a queue"), "{errors}");
    assert_eq!(site.lines(MESSAGES).len(), 130);
}

#[test]
fn files_elsewhere_are_read_and_written_there() {
    let (store, messages) = many(10);
    let source = Site::with(&[(STORE, &store), (MESSAGES, &messages)]);
    let before = source.files();
    let site = Site::with(&[]);
    let from = source.home.data().display().to_string();
    let told = site.run(&["import", "--from", &from]);
    assert!(!told.contains("is now"), "{told}");
    assert_eq!(source.files(), before, "files elsewhere stay as they are");
    assert_eq!(site.holdings()["queues"]["all"], 10);

    let target = Site::with(&[]);
    site.run(&["export", "--to", &target.home.data().display().to_string()]);
    assert_eq!(target.lines(MESSAGES), source.lines(MESSAGES));
    assert!(!site.data(STORE).exists());
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(target.data(STORE)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn names_of_earlier_imports_are_not_taken_again() {
    let site = Site::with(&[(STORE, &create(1))]);
    fs::write(site.data(&format!("{STORE}.imported")), "older").unwrap();
    let told = site.run(&["import"]);
    assert!(told.contains("smp-server-store.log is now smp-server-store.log.imported-2"), "{told}");
    assert!(told.contains("There is no messages log"), "{told}");
    assert_eq!(site.read(&format!("{STORE}.imported")), "older");
    assert_eq!(site.read(&format!("{STORE}.imported-2")), create(1));
}

#[test]
fn nothing_is_overwritten() {
    let site = Site::with(&[(STORE, &create(1))]);
    site.run(&["import"]);
    fs::write(site.data(STORE), create(2)).unwrap();
    let before = site.files();
    let directory = site.data("ringpost").display().to_string();
    site.fails(&["import"], 5, &[&directory, "1 queues already", "move"]);
    site.fails(&["export"], 5, &[STORE, "is not overwritten", "--to"]);
    fs::rename(site.data(STORE), site.data(&format!("{STORE}.start"))).unwrap();
    site.fails(&["export"], 5, &["smp-server-store.log.start", "is not overwritten"]);
    fs::rename(site.data(&format!("{STORE}.start")), site.data(STORE)).unwrap();
    assert_eq!(site.files(), before);
}

#[test]
fn a_log_without_queues_is_no_reason_to_refuse() {
    let site = Site::with(&[(STORE, "")]);
    site.run(&["import"]);
    assert_eq!(site.holdings()["queues"]["all"], 0);
    fs::write(site.data(STORE), create(1)).unwrap();
    site.run(&["import"]);
    assert_eq!(site.holdings()["queues"]["all"], 1);
}

#[test]
fn nothing_is_said_to_be_there_where_nothing_is() {
    let site = Site::with(&[]);
    assert!(site.run(&["check"]).contains("there are no queues"));
    let found: serde_json::Value = serde_json::from_str(&site.run(&["check", "--json"])).unwrap();
    assert_eq!((&found["log"], &found["damage"]), (&json!(null), &json!([])));
    site.fails(&["export"], 10, &["no queues to export"]);
    assert_eq!(site.files().len(), 0);
    site.fails(&["import"], 10, &["smp-server-store.log does not exist"]);
}

#[test]
fn a_data_directory_in_use_is_left_alone() {
    let site = Site::with(&[(STORE, &create(1))]);
    let storage = Storage::open(&site.home.data()).unwrap();
    let before = site.files();
    for command in ["import", "export", "check"] {
        if command != "import" {
            let _ = fs::remove_file(site.data(STORE));
        }
        site.fails(&[command], 12, &["in use by another process", "ringpost.lock"]);
    }
    fs::write(site.data(STORE), create(1)).unwrap();
    assert_eq!(site.files(), before);
    drop(storage);
    site.run(&["import"]);
}
