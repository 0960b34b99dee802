//! Counters in the words of the reference's statistics, connections, and active queues.

use std::time::{SystemTime, UNIX_EPOCH};

use ringpost_protocol::command::{Command, MsgFlags, NotifierCredentials};
use ringpost_protocol::crypto::{AuthPrivateKey, DhPrivateKey};
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::response::Response;
use ringpost_shard::StopMode;
use ringpost_shard::service::{ActiveCounts, ActiveQueue, Periods, SubscriptionReport};

use super::common::{Client, Queue, TestRouter};

fn today() -> u16 {
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400).try_into().unwrap()
}

#[test]
fn what_clients_do_is_counted() {
    let router = TestRouter::start(2);
    let (mut recipient, mut sender) = (Client::connect(&router), Client::connect(&router));
    let mut queue = Queue::only_created(&mut recipient);
    recipient.secure_by_recipient(&mut queue);
    let notify = Command::Send { flags: MsgFlags { notification: true }, body: b"n" };
    sender.request(queue.sender_key.as_ref(), &queue.sender_id, &notify).assert_ok();
    sender.send_message(&queue, b"2").assert_ok();
    // Refused: not authorized, too large.
    sender
        .request(None, &queue.sender_id, &Command::Send { flags: MsgFlags::default(), body: b"x" })
        .assert_error(&ErrorType::Auth);
    let large = vec![b'x'; 16_049];
    sender.send_message(&queue, &large).assert_error(&ErrorType::LargeMsg);

    recipient.subscribe(&queue);
    let first = recipient.message(&queue);
    // Again: the message comes again.
    recipient.subscribe(&queue);
    assert_eq!(recipient.message(&queue), first);
    recipient.recipient(&queue, &Command::Get).assert_error(&ErrorType::Cmd(CommandError::Prohibited));
    let second = queue.open(&recipient.ack(&queue, &first.id));
    recipient.ack(&queue, &second.id).assert_ok();
    let mut other = Client::connect(&router);
    other.subscribe(&queue);
    assert_eq!(recipient.receive().response(), Response::End);
    let mut thief = Queue { recipient_key: AuthPrivateKey::ed25519(&[9; 32]), ..queue.clone() };
    other.recipient(&thief, &Command::Sub).assert_error(&ErrorType::Auth);

    // GET, on a connection that does not subscribe.
    sender.send_message(&queue, b"3").assert_ok();
    let third = other.message(&queue);
    drop(other);
    router.wait_for("subscriptions", 0);
    let mut getter = Client::connect(&router);
    let got = getter.recipient(&queue, &Command::Get);
    assert_eq!(queue.open(&got), third);
    let again = getter.recipient(&queue, &Command::Get);
    assert_eq!(queue.open(&again), third);
    getter.ack(&queue, &third.id).assert_ok();
    getter.recipient(&queue, &Command::Get).assert_ok();
    getter.recipient(&queue, &Command::Sub).assert_error(&ErrorType::Cmd(CommandError::Prohibited));
    getter.recipient(&thief, &Command::Get).assert_error(&ErrorType::Auth);

    // A notifier: told at once, and what is kept for it while it is away.
    let (notifier_key, dh) = (AuthPrivateKey::ed25519(&[7; 32]), DhPrivateKey::from_bytes([8; 32]));
    let credentials =
        NotifierCredentials { notifier_key: notifier_key.public(), recipient_dh_key: dh.public() };
    let nid = recipient.recipient(&queue, &Command::NKey(credentials));
    let Response::Nid { notifier_id, .. } = nid.response() else { panic!("{nid:?}") };
    sender.request(queue.sender_key.as_ref(), &queue.sender_id, &notify).assert_ok();
    assert_eq!((router.counter("notifiers"), router.counter("notifications")), (1, 1));
    let mut notifier = Client::connect(&router);
    notifier.request(Some(&notifier_key), notifier_id, &Command::NSub);
    assert!(matches!(notifier.receive().response(), Response::Nmsg { .. }));
    assert_eq!((router.counter("notifications"), router.counter("notifier_subscriptions")), (0, 1));
    notifier.request(Some(&notifier_key), notifier_id, &Command::NSub);
    notifier
        .request(Some(&AuthPrivateKey::ed25519(&[1; 32])), notifier_id, &Command::NSub)
        .assert_error(&ErrorType::Auth);
    recipient.recipient(&queue, &Command::NDel).assert_ok();
    assert_eq!(notifier.receive().response(), Response::Deld);

    // Blocks of several commands of one kind.
    let batch =
        [recipient.prepare_recipient(&queue, &Command::Sub), recipient.prepare(None, &[], &Command::Ping)];
    recipient.send(&batch);
    for prepared in &batch {
        recipient.try_response(&prepared.corr_id).unwrap();
    }
    let batch =
        [recipient.prepare_recipient(&queue, &Command::Del), recipient.prepare(None, &[], &Command::Ping)];
    recipient.send(&batch);
    for prepared in &batch {
        recipient.try_response(&prepared.corr_id).unwrap();
    }
    thief = Queue::only_created(&mut recipient);
    recipient.recipient(&thief, &Command::Del).assert_ok();

    for (name, value) in [
        ("queues_created", 2),
        ("queues_secured", 1),
        ("queues_deleted", 2),
        ("queues_deleted_secured", 1),
        ("queues_deleted_new", 1),
        ("delete_batches", 1),
        ("messages_received", 4),
        ("messages_received_notified", 2),
        ("messages_read", 3),
        ("messages_read_got", 1),
        ("messages_read_notified", 1),
        ("sends_refused_auth", 1),
        ("sends_refused_large", 1),
        ("subscribes_repeated", 1),
        ("subscribes_prohibited", 1),
        ("subscribes_refused_auth", 1),
        ("subscribe_batches", 1),
        // END to the first, DELD to the notifier.
        ("subscriptions_ended", 2),
        ("gets", 1),
        ("gets_repeated", 1),
        ("gets_empty", 1),
        ("gets_prohibited", 1),
        ("gets_refused_auth", 1),
        ("notifiers_created", 1),
        ("notifiers_deleted", 1),
        ("notifiers", 0),
        ("notifier_subscribes_new", 1),
        ("notifier_subscribes_repeated", 1),
        ("notifier_subscribes_refused_auth", 1),
        ("notifications_sent", 1),
        ("acks_within_1_s", 3),
        ("active_day", 1),
        ("active_week", 1),
        ("active_month", 1),
        ("active_notified_day", 1),
    ] {
        assert_eq!(router.counter(name), value, "{name}");
    }
    // With a message: when the second one subscribed there was none, when the first one subscribed there was.
    assert_eq!(router.counter("subscribes_new"), 2);
}

#[test]
fn connections_are_described() {
    let router = TestRouter::start(3);
    let operator = router.router().operator();
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(&router)).collect();
    for (count, client) in clients.iter_mut().enumerate() {
        for _ in 0..count {
            Queue::subscribed(client);
        }
    }
    let mut reports = Vec::new();
    operator.clients(|some| reports.extend(some)).unwrap();
    let mut subscriptions: Vec<usize> = reports.iter().map(|report| report.subscriptions).collect();
    subscriptions.sort_unstable();
    assert_eq!(subscriptions, [0, 1, 2, 3, 4]);
    assert_eq!(operator.subscriptions().unwrap().subscribed_clients, 4);
    let ids: std::collections::BTreeSet<u64> = reports.iter().map(|report| report.id).collect();
    assert_eq!(ids.len(), 5);
    for report in &reports {
        assert!(report.is_open);
        assert_eq!(report.session_id.len(), 32);
        assert!(report.created_at <= report.last_received && report.last_received <= SystemTime::now());
    }
    let [listener] = operator.listeners()[..] else { panic!("one listener") };
    assert_eq!((listener.accepted, listener.closed), (5, 0));
    drop(clients);
    router.wait_for("connections", 0);
    router.wait_until("closed", |_| operator.listeners()[0].closed == 5);
    assert_eq!(operator.subscriptions(), Ok(SubscriptionReport::default()));
}

#[test]
fn activity_is_taken_over_and_left() {
    let today = today();
    let periods = Periods::of(today);
    let before = periods.start() - 1;
    let gone = |hash, day, notified_day| ActiveQueue { hash, day, notified_day };
    let router = TestRouter::with(2, |config| {
        config.active_queues =
            Some(vec![gone(1, today, today), gone(2, periods.start(), 0), gone(3, before, before)]);
    });
    let operator = router.router().operator();
    let mut client = Client::connect(&router);
    let mut queues: Vec<Queue> = (0..3).map(|_| Queue::only_created(&mut client)).collect();
    for queue in &queues {
        client.send_message(queue, b"1").assert_ok();
        client.send_message(queue, b"2").assert_ok();
    }
    // One that is deleted stays counted.
    client.recipient(&queues.pop().unwrap(), &Command::Del).assert_ok();
    let (now, ended) = operator.active_counts().unwrap();
    let in_week = u64::from(periods.start() >= periods.week_start);
    let in_month = u64::from(periods.start() >= periods.month_start);
    let same_day = u64::from(periods.start() == today);
    assert_eq!(now.day, today);
    assert_eq!(now.all, ActiveCounts { day: 4 + same_day, week: 4 + in_week, month: 4 + in_month });
    assert_eq!(now.notified, ActiveCounts { day: 1, week: 1, month: 1 });
    assert!(ended.is_none_or(|ended| ended.day < today));
    let while_running = operator.active_queues().unwrap();
    router.request_stop(StopMode::Graceful);
    drop(client);
    router.join();
    let mut left = operator.last_active_queues();
    left.sort_by_key(|queue| queue.hash);
    assert_eq!(left.len(), 5);
    assert_eq!(left[..2], [gone(1, today, today), gone(2, periods.start(), 0)]);
    assert!(left[2..].iter().all(|queue| (queue.day, queue.notified_day) == (today, 0)));
    let mut while_running = while_running;
    while_running.sort_by_key(|queue| queue.hash);
    assert_eq!(while_running, left);
}
