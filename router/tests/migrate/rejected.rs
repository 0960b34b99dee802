//! Lines that are not imported: each is told with its number and its reason, and none is lost without a word.

use std::fs;

use ringpost_protocol::keys::AuthPublicKey;
use ringpost_router::reference::{Change, Link, Notifier};

use crate::sample::{change, create, id, message, record};
use crate::site::{MESSAGES, NOTIFICATIONS, STORE, Site};
use crate::support::stderr;

const REPORT: &str = "ringpost-import.txt";

/// A store log with lines that are rejected (4, 5, 6, 7, 8, 9, 13) and one that has no effect (11).
fn store_log() -> String {
    let mut other_sender = record(3);
    other_sender.sender_id = id(1, b's');
    let link = Link { id: id(1, b'l'), fixed: vec![1; 16_000], user: vec![1; 400] };
    [
        create(1),
        create(2),
        change(1, Change::Secure(AuthPublicKey::Ed25519([1; 32]))),
        change(1, Change::Secure(AuthPublicKey::Ed25519([2; 32]))),
        "SOMETHING else\n".to_owned(),
        "\n".to_owned(),
        change(3, Change::Create(Box::new(other_sender))),
        change(9, Change::Suspend),
        change(1, Change::Link(link)),
        change(2, Change::Delete),
        change(2, Change::Suspend),
        create(4),
        change(4, Change::Time(-1)),
    ]
    .concat()
}

const REASONS: [&str; 8] = [
    "smp-server-store.log:4: rejected: the queue is secured with another key",
    "smp-server-store.log:5: rejected: a line of unknown kind: SOMETHING",
    "smp-server-store.log:6: rejected: the line is empty",
    "smp-server-store.log:7: rejected: another queue has this sender ID",
    "smp-server-store.log:8: rejected: there is no such queue",
    "smp-server-store.log:9: rejected: link data of 16400 bytes, where 16384 are the most",
    "smp-server-store.log:11: passed over: the queue was deleted before",
    "smp-server-store.log:13: rejected: a time before 1970, or out of reach",
];

#[test]
fn with_rejected_lines_nothing_is_imported_unless_that_is_accepted() {
    let site = Site::with(&[(STORE, &store_log())]);
    let output = site.fails(&["import"], 15, &["7 lines were rejected, so nothing was imported", REPORT]);
    let errors = stderr(&output);
    let report = site.read(REPORT);
    for reason in REASONS {
        assert!(errors.lines().any(|line| line == reason), "expected {reason:?} in:\n{errors}");
        assert!(report.lines().any(|line| line == reason), "expected {reason:?} in:\n{report}");
    }
    assert_eq!(report.lines().filter(|line| line.contains("rejected: ")).count(), 7);
    assert!(report.contains("13 lines read: 5 used, 1 passed over without loss, 7 rejected"), "{report}");
    assert!(report.contains("Nothing was imported."), "{report}");
    assert_eq!(site.log_files().len(), 0);
    assert_eq!(site.read(STORE), store_log());
    assert!(site.run(&["check"]).contains("there are no queues"));

    let output = site.home.run(["import", "--accept-rejected"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(site.holdings()["queues"]["all"], 2);
    assert_eq!(site.read(&format!("{STORE}.imported")), store_log());
    assert!(site.read(REPORT).contains("Queues: 2 ("));
}

#[test]
fn lines_without_effect_are_told_but_do_not_stop_the_import() {
    let store = [create(1), change(1, Change::Delete), change(1, Change::Suspend)].concat();
    let messages = message(1, 1, b"gone with its queue");
    let site = Site::with(&[(STORE, &store), (MESSAGES, &messages)]);
    let output = site.home.run(["import"]);
    assert!(output.status.success());
    assert_eq!(
        stderr(&output),
        "smp-server-store.log:3: passed over: the queue was deleted before\n\
         smp-server-messages.log:1: passed over: the queue was deleted before\n"
    );
}

#[test]
fn messages_without_a_queue_or_too_large_are_rejected() {
    let messages = [
        message(1, 1, b"good"),
        message(2, 2, b"no queue"),
        message(1, 3, &[1; 16_089]),
        "v2 old\n".to_owned(),
        message(1, 4, &[1; 16_088]),
        message(1, 5, b"cut off")[..100].to_owned(),
    ]
    .concat();
    let site = Site::with(&[(STORE, &create(1)), (MESSAGES, &messages)]);
    let reasons = [
        "smp-server-messages.log:2: rejected: there is no such queue",
        "smp-server-messages.log:3: rejected: a message body of 16089 bytes, where 16088 are the most",
        "smp-server-messages.log:4: rejected: a line of unknown kind: v2",
        "smp-server-messages.log:6: rejected: the line may have been cut off",
    ];
    site.fails(&["import"], 15, &reasons);
    assert_eq!(site.log_files().len(), 0);
    assert!(site.home.run(["import", "--accept-rejected"]).status.success());
    assert_eq!(site.holdings()["messages"]["all"], 2);
}

#[test]
fn a_last_line_that_may_have_been_cut_off_is_rejected() {
    // What is left of it would be a queue without its notifier.
    let site = Site::with(&[(STORE, create(1).trim_end())]);
    site.fails(
        &["import"],
        15,
        &["smp-server-store.log:1: rejected: the line may have been cut off", "add one"],
    );
    let site = Site::with(&[(STORE, &create(1))]);
    site.run(&["import"]);
}

#[test]
fn more_notifications_than_are_kept_are_told() {
    let mut queue = record(1);
    let key = AuthPublicKey::Ed25519([1; 32]);
    queue.notifier = Some(Box::new(Notifier { id: id(1, b'n'), key, secret: [1; 32], service: None }));
    let store = change(1, Change::Create(Box::new(queue)));
    let line = |notifier: u64, n: u64| {
        let line = ringpost_router::reference::NotificationLine {
            notifier_id: id(notifier, b'n'),
            message_id: id(n, b'm'),
            received_secs: 1_700_000_000,
            nonce: [1; 24],
            meta: vec![2; 144],
        };
        let mut text = Vec::new();
        line.write(&mut text);
        String::from_utf8(text).unwrap()
    };
    let notifications: String = (0..18).map(|n| line(1, n)).chain([line(2, 1)]).collect();
    let site = Site::with(&[(STORE, &store), (NOTIFICATIONS, &notifications)]);
    let output = site.home.run(["import"]);
    assert!(output.status.success(), "{}", stderr(&output));
    for line in [
        "smp-server-ntfs.log:1: passed over: the router keeps the newest 16 notifications of a notifier",
        "smp-server-ntfs.log:2: passed over: the router keeps the newest 16 notifications of a notifier",
        "smp-server-ntfs.log:19: passed over: no queue has this notifier",
    ] {
        assert!(stderr(&output).lines().any(|l| l == line), "{line:?} in {}", stderr(&output));
    }
    site.run(&["export"]);
    let kept: String = (2..18).map(|n| line(1, n)).collect();
    assert_eq!(site.read(NOTIFICATIONS), kept, "the newest, the oldest of them first");
}

#[test]
fn the_report_has_all_lines_and_the_terminal_not_too_many() {
    let site = Site::with(&[(STORE, &"NONSENSE\n".repeat(1_500))]);
    let output = site.fails(&["import"], 15, &["1500 lines were rejected", "... and 500 more lines: see "]);
    assert_eq!(stderr(&output).lines().filter(|line| line.contains("rejected: ")).count(), 1_000);
    assert_eq!(site.read(REPORT).lines().filter(|line| line.contains("rejected: ")).count(), 1_500);
}

#[test]
fn an_incomplete_directory_is_refused_before_anything_is_read() {
    let site = Site::with(&[(STORE, &create(1)), ("smp-server-store.log.start", "")]);
    site.fails(&["import"], 10, &["smp-server-store.log.start exists", "interrupted"]);
    fs::remove_file(site.data("smp-server-store.log.start")).unwrap();

    fs::create_dir(site.data("messages")).unwrap();
    site.fails(&["import"], 10, &["messages exists", "smp-server journal export"]);
    fs::remove_dir(site.data("messages")).unwrap();

    let ini = |key: &str| format!("[STORE_LOG]\n{key} = database\n[TRANSPORT]\nport = 5223\n");
    for key in ["store_queues", "store_messages"] {
        site.home.write("smp-server.ini", &ini(key));
        let place =
            format!("{}:2: [STORE_LOG] {key} = database", site.home.config("smp-server.ini").display());
        site.fails(&["import"], 3, &[&place, "smp-server database export"]);
    }
    site.home.write("smp-server.ini", "[STORE_LOG]\nstore_messages = memory\n");
    assert_eq!(site.log_files().len(), 0);
    site.run(&["import"]);
}
