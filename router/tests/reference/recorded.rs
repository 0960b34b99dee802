//! Recorded lines, one by one, and the recorded data directory.

use std::collections::BTreeSet;

use ringpost_router::reference::{
    LineReader, MessageContent, MessageLine, NotificationLine, QueueStatus, State, StoreLine,
};
use serde_json::Value;

use crate::{recorded_text, shown};

fn cases(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(&recorded_text("storelog_lines.json")).unwrap();
    let cases = all[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn text(case: &Value, name: &str) -> Option<String> {
    case.get(name).map(|value| value.as_str().unwrap().to_owned())
}

#[test]
fn every_recorded_store_line_is_read_as_the_reference_reads_it() {
    let mut read_here_only = Vec::new();
    for case in cases("lines") {
        let line = text(&case, "line").unwrap();
        let parsed = StoreLine::parse(line.as_bytes());
        let expected = case.get("parsed");
        match (&parsed, expected) {
            (Ok(parsed), Some(expected)) => assert_eq!(shown::store_line(parsed), *expected, "{line}"),
            (Ok(_), None) => read_here_only.push(line.clone()),
            (Err(reason), Some(_)) => panic!("{line}: {reason}"),
            (Err(reason), None) => assert!(!reason.to_string().is_empty(), "{line}"),
        }
        if let (Ok(parsed), Some(_)) = (parsed, expected) {
            let mut written = Vec::new();
            parsed.write(&mut written);
            let expected = text(&case, "written_again").unwrap_or(line) + "\n";
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }
    // The reference writes this line, and loses the queue at its next start.
    assert_eq!(read_here_only.len(), 1);
    assert!(read_here_only[0].contains("status=blocked,reason=spam,notice={} rsrv="));
}

#[test]
fn the_text_file_has_the_same_lines() {
    let lines: Vec<String> = cases("lines").iter().map(|case| text(case, "line").unwrap()).collect();
    let file = recorded_text("storelog_lines.txt");
    let mut reader = LineReader::new(file.as_bytes());
    let mut found = Vec::new();
    while let Some(line) = reader.next_line().unwrap() {
        assert_eq!(usize::try_from(line.number).unwrap(), found.len() + 1);
        found.push(String::from_utf8(line.content.unwrap().to_vec()).unwrap());
    }
    assert_eq!(found, lines);
}

#[test]
fn every_recorded_message_line_is_read_as_the_reference_reads_it() {
    let mut read_here_only = Vec::new();
    for case in cases("message_log_lines") {
        let line = text(&case, "line").unwrap();
        match (MessageLine::parse(line.as_bytes()), case.get("parsed")) {
            (Ok(parsed), Some(expected)) => {
                assert_eq!(shown::message_line(&parsed), *expected, "{line}");
                let mut written = Vec::new();
                parsed.write(&mut written);
                let newest = if line.contains("flags=") || line.ends_with("quota") {
                    format!("{line}\n")
                } else {
                    line.replace(" Ym9k", " flags=F Ym9k") + "\n"
                };
                assert_eq!(String::from_utf8(written).unwrap(), newest);
            }
            (Ok(parsed), None) => read_here_only.push(parsed),
            (Err(reason), Some(_)) => panic!("{line}: {reason}"),
            (Err(reason), None) => assert!(!reason.to_string().is_empty(), "{line}"),
        }
    }
    // The reference writes a message with an empty body so, and does not start with it.
    let [empty] = &read_here_only[..] else { panic!("{read_here_only:?}") };
    assert!(matches!(&empty.content, MessageContent::Sent { body, .. } if body.is_empty()));
}

/// All lines of a file, read and written again.
fn both_ways<T>(
    file: &str,
    parse: impl Fn(&[u8]) -> Result<T, ringpost_router::reference::BadLine>,
    write: impl Fn(&T, &mut Vec<u8>),
) -> Vec<T> {
    let text = recorded_text(file);
    let mut written = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let parsed = parse(line.as_bytes()).unwrap_or_else(|reason| panic!("{line}: {reason}"));
        write(&parsed, &mut written);
        found.push(parsed);
    }
    assert_eq!(String::from_utf8(written).unwrap(), text, "{file}");
    found
}

#[test]
fn the_recorded_messages_and_notifications_are_read_and_written_unchanged() {
    let messages = both_ways("log/smp-server-messages.log", MessageLine::parse, MessageLine::write);
    assert_eq!(messages.len(), 136);
    let notifications =
        both_ways("log/smp-server-ntfs.log", NotificationLine::parse, NotificationLine::write);
    assert_eq!(notifications.len(), 2);
    assert!(notifications.iter().all(|notification| notification.meta.len() == 144));
}

fn state(file: &str) -> State {
    let mut state = State::default();
    for (number, line) in (1..).zip(both_ways(file, StoreLine::parse, StoreLine::write)) {
        state.apply(number, line).unwrap();
    }
    state
}

/// The lines that make the state, as a set: the reference writes queues in an order of its own.
fn lines(state: State) -> BTreeSet<String> {
    let services: Vec<_> =
        state.services().iter().map(|service| StoreLine::Service(Box::new(service.clone()))).collect();
    let queues = state.into_queues().flat_map(|queue| StoreLine::creation(queue.recipient_id, queue.record));
    let line = |line: StoreLine| {
        let mut written = Vec::new();
        line.write(&mut written);
        String::from_utf8(written).unwrap()
    };
    services.into_iter().chain(queues).map(line).collect()
}

#[test]
fn the_recorded_log_comes_to_what_the_reference_made_of_it() {
    let state = state("log/smp-server-store.log");
    assert_eq!((state.queues().count(), state.services().len()), (8, 2));
    let blocked = |status: &QueueStatus| matches!(status, QueueStatus::Blocked(_));
    assert_eq!(state.queues().filter(|queue| blocked(&queue.record.status)).count(), 1);
    let compacted = recorded_text("samples/smp-server-store.compacted.log");
    let expected: BTreeSet<String> = compacted.lines().map(|line| format!("{line}\n")).collect();
    assert_eq!(lines(state), expected);
    assert_eq!(lines(self::state("samples/smp-server-store.compacted.log")), expected);
}
