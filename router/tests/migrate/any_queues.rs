//! Queues of any content, moved here and back.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use ringpost_protocol::command::MsgFlags;
use ringpost_router::migrate::export::{ExportOptions, export};
use ringpost_router::migrate::import::{ImportOptions, import};
use ringpost_router::paths::Paths;
use ringpost_router::reference::{Change, Id, MessageContent, MessageLine, QueueRecord, State, StoreLine};

use crate::site::{MESSAGES, STORE};
use crate::strategies::{change, record};

/// In a queue's first change all is as a store can have it.
fn storable(mut record: Box<QueueRecord>) -> Box<QueueRecord> {
    // Whole days; the first day is that which is not known.
    record.updated_secs = record.updated_secs.map(|secs| (secs.rem_euclid(60_000) + 1) * 86_400);
    record
}

fn text(line: &StoreLine) -> String {
    let mut text = Vec::new();
    line.write(&mut text);
    String::from_utf8(text).unwrap()
}

fn message(recipient_id: Id, n: u8, body: &[u8]) -> String {
    let content = match body.len() {
        0 => MessageContent::Quota,
        _ => MessageContent::Sent { flags: MsgFlags::default(), body: body.to_vec() },
    };
    let line = MessageLine { recipient_id, message_id: [n; 24], received_secs: i64::from(n), content };
    let mut text = Vec::new();
    line.write(&mut text);
    String::from_utf8(text).unwrap()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Imports the files, exports them, and gives what came out.
fn there_and_back(store: &str, messages: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (from, to) = (directory("from"), directory("to"));
    std::fs::write(from.join(STORE), store).unwrap();
    std::fs::write(from.join(MESSAGES), messages).unwrap();
    let paths = Paths { config_dir: directory("etc"), data_dir: directory("var") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let options = ImportOptions { from: Some(from), accept_rejected: true };
    import(&paths, &options, &mut out, &mut err).unwrap();
    let options = ExportOptions { to: Some(to.clone()) };
    export(&paths, &options, &mut out, &mut err).unwrap();
    let read = |name| std::fs::read_to_string(to.join(name)).unwrap();
    (read(STORE), read(MESSAGES))
}

proptest! {
    // Each case makes, syncs and reads several files.
    #![proptest_config(Config::with_cases(16))]

    #[test]
    fn queues_and_messages_come_back_as_they_were(
        queues in vec((record(), vec(vec(any::<u8>(), 0..300), 0..4)), 0..20),
    ) {
        let (mut store, mut messages) = (String::new(), String::new());
        for (n, (record, bodies)) in (0..).zip(queues) {
            let recipient_id = [n; 24];
            for line in StoreLine::creation(recipient_id, storable(record)) {
                store += &text(&line);
            }
            for (message_number, body) in (0..).zip(bodies) {
                messages += &message(recipient_id, message_number, &body);
            }
        }
        let (store_back, messages_back) = there_and_back(&store, &messages);
        prop_assert_eq!(sorted(&store_back), sorted(&store));
        prop_assert_eq!(sorted(&messages_back), sorted(&messages));
    }

    /// Changes in any order, most of which do not fit: what is left is what the changes come to.
    #[test]
    fn any_history_comes_to_its_end(changes in vec((0..4_u8, change()), 0..60)) {
        let mut state = State::default();
        let mut store = String::new();
        for (number, (queue, change)) in (1..).zip(changes) {
            let change = match change {
                Change::Create(record) => Change::Create(storable(record)),
                Change::Time(secs) => Change::Time((secs.rem_euclid(60_000) + 1) * 86_400),
                other => other,
            };
            let line = StoreLine::Queue { recipient_id: [queue; 24], change };
            store += &text(&line);
            let _ = state.apply(number, line);
        }
        let lines = |state: State| -> String {
            let queues = state.into_queues();
            queues.flat_map(|queue| StoreLine::creation(queue.recipient_id, queue.record)).map(|line| text(&line)).collect()
        };
        let (store_back, _) = there_and_back(&store, "");
        let left = lines(state);
        prop_assert_eq!(sorted(&store_back), sorted(&left));
    }
}
