//! Lines of any content: they are read or refused with a reason, and what is read is written so that it is read again.

use proptest::collection::vec;
use proptest::prelude::*;
use ringpost_protocol::command::MsgFlags;
use ringpost_router::reference::{
    BadLine, Change, MessageContent, MessageLine, NotificationLine, State, StoreLine,
};

use crate::recorded_text;
use crate::strategies::{change, id, record};

/// Reads a line as each kind of file would have it.
fn try_all(line: &[u8]) {
    fn check<T: PartialEq + std::fmt::Debug>(
        line: &[u8],
        parse: impl Fn(&[u8]) -> Result<T, BadLine>,
        write: impl Fn(&T, &mut Vec<u8>),
    ) {
        match parse(line) {
            Err(reason) => {
                let reason = reason.to_string();
                assert!(!reason.is_empty() && !reason.contains('\n') && reason.len() < 200, "{reason}");
            }
            Ok(read) => {
                let mut written = Vec::new();
                write(&read, &mut written);
                assert_eq!(written.pop(), Some(b'\n'));
                assert_eq!(parse(&written), Ok(read));
            }
        }
    }
    check(line, StoreLine::parse, StoreLine::write);
    check(line, MessageLine::parse, MessageLine::write);
    check(line, NotificationLine::parse, NotificationLine::write);
}

/// Lines of every kind and form.
fn recorded_lines() -> Vec<Vec<u8>> {
    let files = ["storelog_lines.txt", "log/smp-server-messages.log", "log/smp-server-ntfs.log"];
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for file in files {
        lines.extend(recorded_text(file).lines().take(80).map(|line| line.as_bytes().to_vec()));
    }
    assert!(lines.len() > 100);
    lines
}

#[test]
fn no_line_that_was_cut_off_is_taken_for_another() {
    for line in recorded_lines() {
        for end in 0..line.len() {
            try_all(&line[..end]);
        }
    }
}

#[test]
fn a_key_or_id_that_was_cut_off_is_refused() {
    let line = "SECURE 3wAuz1jmA8XWNwV1Tgwlauznpyz1Fo4W MCowBQYDK2VuAyEA8zrOloT_no9kHea726jbXu3PmVoapcZ8zJa-WfC6pC8=";
    assert!(StoreLine::parse(line.as_bytes()).is_ok());
    for end in 0..line.len() {
        assert!(StoreLine::parse(&line.as_bytes()[..end]).is_err(), "{end}");
    }
    let long = line.replace("3wAu", "3wAu3wAu");
    let refused = StoreLine::parse(long.as_bytes()).unwrap_err();
    assert_eq!(refused, BadLine::IdLength { field: "recipient ID", bytes: 27 });
}

proptest! {
    #[test]
    fn any_bytes_never_panic(line in vec(any::<u8>(), 0..400)) {
        try_all(&line);
    }

    #[test]
    fn mangled_lines_never_panic(
        which: prop::sample::Index,
        changes in vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..6),
    ) {
        let lines = recorded_lines();
        let mut line = which.get(&lines).clone();
        for (place, kind, byte) in changes {
            let place = place.index(line.len() + 1);
            match kind {
                0 => line.insert(place, byte),
                1 if place < line.len() => { line.remove(place); }
                _ if place < line.len() => line[place] = byte,
                _ => {}
            }
        }
        try_all(&line);
    }

    #[test]
    fn words_in_any_order_never_panic(words in vec(prop_oneof![
        Just("CREATE"), Just("NOTIFIER"), Just("QUEUE_SERVICE"), Just("NEW_SERVICE"), Just("v3"), Just("v1"), Just(""),
        Just("rid=3wAuz1jmA8XWNwV1Tgwlauznpyz1Fo4W"), Just("3wAuz1jmA8XWNwV1Tgwlauznpyz1Fo4W"), Just("R"),
        Just("rk=MCowBQYDK2VwAyEAupP7OkaCtg0jQKB_kZvp0Am7fTWMQQUEVr7aZnVnjHc="), Just("sk="), Just("quota"),
        Just("rdh=jX_lzDDnBs18DU8m2HgOi2NT3zOA2Vks182VlwA-ijM="), Just("sid=7kvM_Eo8vsfvR6yrKFUCX3vJheEJdqiE"),
        Just("status=off"), Just("status=blocked,reason=spam,notice={}"), Just("1700006400"), Just("flags=T"),
        Just("rsrv=IUjrf851LgalLT-DFt2b5phwKfiDp6lu"), Just("notice={\"a\":\" rsrv=\"}"), Just("queue_mode=C"),
    ], 0..14)) {
        try_all(words.join(" ").as_bytes());
    }

    #[test]
    fn every_change_is_read_as_it_was_written(recipient_id in id(), change in change()) {
        let line = StoreLine::Queue { recipient_id, change };
        let mut written = Vec::new();
        line.write(&mut written);
        prop_assert_eq!(written.pop(), Some(b'\n'));
        prop_assert!(!written.contains(&b'\n'));
        prop_assert_eq!(StoreLine::parse(&written), Ok(line));
    }

    #[test]
    fn every_message_is_read_as_it_was_written(
        (recipient_id, message_id, received_secs) in (id(), id(), any::<i64>()),
        content in prop_oneof![
            Just(MessageContent::Quota),
            (any::<bool>(), vec(any::<u8>(), 0..200)).prop_map(|(notification, body)| {
                MessageContent::Sent { flags: MsgFlags { notification }, body }
            }),
        ],
        (nonce, meta) in (any::<[u8; 24]>(), vec(any::<u8>(), 1..200)),
    ) {
        let line = MessageLine { recipient_id, message_id, received_secs, content };
        let mut written = Vec::new();
        line.write(&mut written);
        prop_assert_eq!(MessageLine::parse(&written[..written.len() - 1]), Ok(line));
        let line = NotificationLine { notifier_id: recipient_id, message_id, received_secs, nonce, meta };
        let mut written = Vec::new();
        line.write(&mut written);
        prop_assert_eq!(NotificationLine::parse(&written[..written.len() - 1]), Ok(line));
    }

    /// The lines that make a queue have a form that the reference can read, and come to the queue.
    #[test]
    fn a_queue_is_written_so_that_it_comes_to_itself(recipient_id in id(), record in record()) {
        let mut state = State::default();
        for (number, line) in (1..).zip(StoreLine::creation(recipient_id, record.clone())) {
            if let StoreLine::Queue { change: Change::Create(record), .. } = &line {
                prop_assert!(!record.is_unreadable_in_one_line());
            }
            state.apply(number, line).unwrap();
        }
        prop_assert_eq!(&state.queue(&recipient_id).unwrap().unwrap().record, &record);
    }
}
