//! Changes applied one after the other: what they come to, and which are refused.

use ringpost_protocol::keys::AuthPublicKey;
use ringpost_router::reference::{
    Applied, Change, Id, Link, Notifier, QueueRecord, QueueStatus, Refused, ServiceParty, State, StoreLine,
};

use crate::recorded_text;

fn key(n: u8) -> AuthPublicKey {
    AuthPublicKey::Ed25519([n; 32])
}

fn link(id: u8, fixed: u8, user: u8) -> Link {
    Link { id: [id; 24], fixed: vec![fixed; 9], user: vec![user; 5] }
}

fn notifier(id: u8) -> Notifier {
    Notifier { id: [id; 24], key: key(id), secret: [id; 32], service: None }
}

/// A queue whose IDs are all made of `n`.
fn record(n: u8) -> Box<QueueRecord> {
    Box::new(QueueRecord {
        recipient_keys: vec![key(n)],
        delivery_secret: [n; 32],
        sender_id: [n + 100; 24],
        sender_key: None,
        mode: None,
        link: None,
        notifier: None,
        updated_secs: None,
        status: QueueStatus::Active,
        service: None,
    })
}

struct Log {
    state: State,
    line: u64,
}

impl Log {
    /// With queues 1 and 2.
    fn new() -> Self {
        let mut log = Self { state: State::default(), line: 0 };
        log.done(1, Change::Create(record(1)));
        log.done(2, Change::Create(record(2)));
        log
    }

    fn apply(&mut self, queue: u8, change: Change) -> Result<Applied, Refused> {
        self.line += 1;
        self.state.apply(self.line, StoreLine::Queue { recipient_id: [queue; 24], change })
    }

    fn done(&mut self, queue: u8, change: Change) {
        assert_eq!(self.apply(queue, change), Ok(Applied::Done));
    }

    fn record(&self, queue: u8) -> &QueueRecord {
        &self.state.queue(&[queue; 24]).unwrap().unwrap().record
    }
}

const NO_EFFECT: fn(&Result<Applied, Refused>) -> bool =
    |applied| matches!(applied, Ok(Applied::NoEffect(why)) if !why.is_empty());

#[test]
fn changes_of_a_queue_that_is_not_there_are_refused() {
    let mut log = Log::new();
    for change in [Change::Suspend, Change::Delete, Change::Time(0), Change::Secure(key(1))] {
        assert_eq!(log.apply(9, change), Err(Refused::NoQueue));
    }
}

#[test]
fn no_id_is_used_twice() {
    let mut log = Log::new();
    log.done(1, Change::Link(link(50, 1, 1)));
    log.done(1, Change::Notifier(Box::new(notifier(60))));
    let mut like_sender = record(3);
    like_sender.sender_id = [101; 24];
    let mut like_link = record(3);
    like_link.link = Some(Box::new(link(50, 1, 1)));
    let mut like_notifier = record(3);
    like_notifier.notifier = Some(Box::new(notifier(60)));
    for (queue, record) in [(1, record(3)), (3, like_sender), (3, like_link), (3, like_notifier)] {
        let refused = log.apply(queue, Change::Create(record));
        assert!(matches!(refused, Err(Refused::Duplicate(_))), "{refused:?}");
    }
    assert!(matches!(log.apply(2, Change::Link(link(50, 1, 1))), Err(Refused::Duplicate(_))));
    let refused = log.apply(2, Change::Notifier(Box::new(notifier(60))));
    assert!(matches!(refused, Err(Refused::Duplicate(_))), "{refused:?}");
    // Nothing of what was refused stays.
    assert_eq!(log.state.queues().count(), 2);
    log.done(3, Change::Create(record(3)));
    assert_eq!(*log.record(2), *record(2));
}

#[test]
fn a_deleted_queue_gives_its_ids_back_and_takes_no_more_changes() {
    let mut log = Log::new();
    log.done(1, Change::Link(link(50, 1, 1)));
    log.done(1, Change::Notifier(Box::new(notifier(60))));
    log.done(1, Change::Delete);
    assert_eq!(log.state.queue(&[1; 24]), Some(None));
    assert!(log.state.queue_of_notifier(&[60; 24]).is_none());
    for change in [Change::Suspend, Change::Delete, Change::Secure(key(1)), Change::Time(1)] {
        assert!(NO_EFFECT(&log.apply(1, change)));
    }
    let again = log.apply(1, Change::Create(record(1)));
    assert!(matches!(again, Err(Refused::Duplicate(_))), "{again:?}");
    let mut other = record(3);
    other.sender_id = [101; 24];
    other.link = Some(Box::new(link(50, 2, 2)));
    other.notifier = Some(Box::new(notifier(60)));
    log.done(3, Change::Create(other));
    assert_eq!(log.state.queue_of_notifier(&[60; 24]).unwrap().recipient_id, [3; 24]);
    assert_eq!(log.state.queues().map(|queue| queue.line).collect::<Vec<_>>(), [2, log.line]);
}

#[test]
fn a_queue_is_secured_once_with_one_key() {
    let mut log = Log::new();
    log.done(1, Change::Secure(key(7)));
    log.done(1, Change::Secure(key(7)));
    assert_eq!(log.apply(1, Change::Secure(key(8))), Err(Refused::OtherSenderKey));
    assert_eq!(log.record(1).sender_key, Some(key(7)));
    log.done(1, Change::Keys(vec![key(4), key(5)]));
    assert_eq!(log.record(1).recipient_keys, [key(4), key(5)]);
}

#[test]
fn only_the_user_data_of_a_link_changes() {
    let mut log = Log::new();
    log.done(1, Change::DeleteLink);
    log.done(1, Change::Link(link(50, 1, 1)));
    log.done(1, Change::Link(link(50, 1, 2)));
    assert_eq!(log.record(1).link.as_ref().unwrap().user, [2; 5]);
    assert_eq!(log.apply(1, Change::Link(link(51, 1, 1))), Err(Refused::OtherLink));
    assert_eq!(log.apply(1, Change::Link(link(50, 2, 1))), Err(Refused::OtherLink));
    log.done(1, Change::DeleteLink);
    assert_eq!(log.record(1).link, None);
    log.done(2, Change::Link(link(50, 2, 1)));
}

#[test]
fn a_notifier_takes_the_place_of_the_one_before() {
    let mut log = Log::new();
    log.done(1, Change::Notifier(Box::new(notifier(60))));
    assert!(NO_EFFECT(&log.apply(1, Change::Notifier(Box::new(notifier(60))))));
    log.done(1, Change::Notifier(Box::new(notifier(61))));
    log.done(2, Change::Notifier(Box::new(notifier(60))));
    log.done(1, Change::DeleteNotifier);
    log.done(1, Change::DeleteNotifier);
    assert_eq!(log.record(1).notifier, None);
    assert_eq!(log.state.queue_of_notifier(&[60; 24]).unwrap().recipient_id, [2; 24]);
    assert!(log.state.queue_of_notifier(&[61; 24]).is_none());
}

#[test]
fn the_last_status_and_time_count() {
    let mut log = Log::new();
    let info = ringpost_protocol::error::BlockingInfo::parse(b"reason=content,notice={\"ttl\":5}").unwrap();
    for (change, status) in [
        (Change::Suspend, QueueStatus::Suspended),
        (Change::Block(info.clone()), QueueStatus::Blocked(info)),
        (Change::Unblock, QueueStatus::Active),
    ] {
        log.done(1, change);
        assert_eq!(log.record(1).status, status);
    }
    log.done(1, Change::Time(86_400));
    log.done(1, Change::Time(172_800));
    assert_eq!(log.record(1).updated_secs, Some(172_800));
}

#[test]
fn services_are_given_to_queues_and_taken_away() {
    let mut log = Log::new();
    let give = |party, service| Change::Service { party, service };
    let id: Option<Id> = Some([77; 24]);
    log.done(1, give(ServiceParty::Recipient, id));
    assert_eq!(log.record(1).service, id);
    assert_eq!(log.apply(1, give(ServiceParty::Notifier, id)), Err(Refused::NoNotifier));
    log.done(1, Change::Notifier(Box::new(notifier(60))));
    log.done(1, give(ServiceParty::Notifier, id));
    log.done(1, give(ServiceParty::Recipient, None));
    assert_eq!(log.record(1).service, None);
    assert_eq!(log.record(1).notifier.as_ref().unwrap().service, id);
}

#[test]
fn a_service_is_known_by_its_id_and_its_certificate() {
    let log = recorded_text("log/smp-server-store.log");
    let line = log.lines().find(|line| line.starts_with("NEW_SERVICE")).unwrap();
    let Ok(StoreLine::Service(service)) = StoreLine::parse(line.as_bytes()) else { panic!("{line}") };
    let mut state = State::default();
    let mut add = |service: &ringpost_router::reference::ServiceRecord| {
        state.apply(1, StoreLine::Service(Box::new(service.clone())))
    };
    assert_eq!(add(&service), Ok(Applied::Done));
    assert!(NO_EFFECT(&add(&service)));
    let mut other = service.clone();
    other.id[0] ^= 1;
    assert_eq!(add(&other), Err(Refused::OtherService));
    let mut other = service.clone();
    other.fingerprint[0] ^= 1;
    assert_eq!(add(&other), Err(Refused::OtherService));
    other.id[0] ^= 1;
    assert_eq!(add(&other), Ok(Applied::Done));
    assert_eq!(state.services().len(), 2);
}
