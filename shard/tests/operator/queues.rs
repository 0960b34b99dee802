//! Blocking, unblocking and deleting queues.

use ringpost_protocol::command::{Command, MsgFlags, QueueMode, SubscribeMode};
use ringpost_protocol::crypto::AuthPrivateKey;
use ringpost_protocol::error::{BlockingInfo, BlockingReason, ClientNotice, ErrorType};
use ringpost_protocol::response::Response;
use ringpost_shard::service::{QueueAction, ServiceChange};
use ringpost_shard::{Change, DataConfig, OperatorError, StopMode};
use ringpost_store::Status;
use ringpost_store::log::Durability;

use super::common::{Client, Queue, TestRouter};
use super::{id, on};

fn spam() -> BlockingInfo {
    BlockingInfo { reason: BlockingReason::Spam, notice: None }
}

fn content() -> BlockingInfo {
    BlockingInfo { reason: BlockingReason::Content, notice: Some(ClientNotice { ttl_secs: Some(86_400) }) }
}

#[test]
fn a_blocked_queue_refuses_all_but_its_end_and_its_subscriber_is_told() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let operator = router.router().operator();
        let (mut recipient, mut sender) = (Client::connect(&router), Client::connect(&router));
        let queue = Queue::subscribed(&mut recipient);
        sender.send_message(&queue, b"before").assert_ok();
        let message = recipient.message(&queue);

        let report = on(&operator, &queue.sender_id, &QueueAction::Block(spam()));
        assert_eq!((report.status, report.messages), (Status::Active, 1));
        assert_eq!(report.mode, Some(QueueMode::Messaging));
        let event = recipient.receive();
        assert!(event.is_event());
        assert_eq!(event.entity_id, queue.recipient_id);
        event.assert_error(&ErrorType::Blocked(spam()));

        let blocked = ErrorType::Blocked(spam());
        sender.send_message(&queue, b"after").assert_error(&blocked);
        recipient.ack(&queue, &message.id).assert_error(&blocked);
        for command in [Command::Sub, Command::Get, Command::Que, Command::LDel, Command::NDel] {
            recipient.recipient(&queue, &command).assert_error(&blocked);
        }
        let key = AuthPrivateKey::ed25519(&[5; 32]);
        let secure = Command::SKey(key.public());
        sender.request(Some(&key), &queue.sender_id, &secure).assert_error(&blocked);

        // Another reason replaces the first one; the same one is no news.
        let report = on(&operator, &queue.recipient_id, &QueueAction::Block(content()));
        assert_eq!(report.status, Status::Blocked(spam()));
        recipient.receive().assert_error(&ErrorType::Blocked(content()));
        on(&operator, &queue.sender_id, &QueueAction::Block(content()));
        let report = on(&operator, &queue.sender_id, &QueueAction::Look);
        assert_eq!(report.status, Status::Blocked(content()));
        assert_eq!(router.counter("queues_blocked"), 1);
        assert_eq!(router.counter("sends_refused_blocked"), 1);

        let report = on(&operator, &queue.sender_id, &QueueAction::Unblock);
        assert_eq!(report.status, Status::Blocked(content()));
        assert_eq!(on(&operator, &queue.sender_id, &QueueAction::Unblock).status, Status::Active);
        sender.send_message(&queue, b"again").assert_ok();
        let received = recipient.ack(&queue, &message.id);
        assert_eq!(queue.open(&received).body(), b"again");
        assert_eq!(recipient.receive_soon(), None);
    }
}

#[test]
fn what_a_blocked_queue_answers_depends_on_the_version() {
    let router = TestRouter::start(2);
    let operator = router.router().operator();
    let mut client = Client::connect(&router);
    let queue = Queue::only_created(&mut client);
    on(&operator, &queue.sender_id, &QueueAction::Block(content()));
    let without_notice = BlockingInfo { notice: None, ..content() };
    for (version, expected) in [
        (11, ErrorType::Auth),
        (12, ErrorType::Blocked(without_notice.clone())),
        (17, ErrorType::Blocked(without_notice)),
        (18, ErrorType::Blocked(content())),
    ] {
        let mut sender = Client::version(&router, version);
        let command = Command::Send { flags: MsgFlags::default(), body: b"x" };
        sender.request(None, &queue.sender_id, &command).assert_error(&expected);
    }
    // A suspended queue that is blocked and unblocked is active, as in the reference.
    on(&operator, &queue.sender_id, &QueueAction::Unblock);
    client.recipient(&queue, &Command::Off).assert_ok();
    let report = on(&operator, &queue.sender_id, &QueueAction::Block(spam()));
    assert_eq!(report.status, Status::Suspended);
    assert_eq!(router.counter("queues_blocked"), 1);
    on(&operator, &queue.sender_id, &QueueAction::Unblock);
    client.send_message(&queue, b"x").assert_ok();
}

#[test]
fn blocking_and_deleting_outlive_the_router() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        TestRouter::with(2, |config| {
            config.data = Some(DataConfig {
                directory: directory.path().to_owned(),
                durability: Durability::Always,
                erase_within_ms: 60_000,
                segment_bytes: 4 << 20,
                skip_damaged: false,
                salt: 1,
            });
        })
    };
    let router = start();
    let operator = router.router().operator();
    let mut client = Client::connect(&router);
    let [blocked, deleted] = [(); 2].map(|()| Queue::subscribed(&mut client));
    for body in [b"1", b"2"] {
        client.send_message(&deleted, body).assert_ok();
    }
    let _ = client.message(&deleted);
    on(&operator, &blocked.sender_id, &QueueAction::Block(content()));
    client.receive().assert_error(&ErrorType::Blocked(content()));
    assert_eq!(on(&operator, &deleted.sender_id, &QueueAction::Delete).messages, 2);
    assert_eq!(operator.queue(&id(&deleted.sender_id), &QueueAction::Look), Ok(None));
    // As in the reference, the subscriber hears nothing; what it asks for is not there.
    client.recipient(&deleted, &Command::Sub).assert_error(&ErrorType::Auth);
    assert_eq!(client.receive_soon(), None);
    assert_eq!(router.counter("messages"), 0);
    assert_eq!((router.counter("queues_deleted"), router.counter("queues_deleted_new")), (1, 1));
    // Nothing is written at the end: the process might have been killed.
    router.request_stop(StopMode::Immediate);
    router.join();
    let router = start();
    let operator = router.router().operator();
    assert_eq!(on(&operator, &blocked.recipient_id, &QueueAction::Look).status, Status::Blocked(content()));
    assert_eq!(operator.queue(&id(&deleted.recipient_id), &QueueAction::Look), Ok(None));
}

#[test]
fn a_queue_is_found_by_its_link_too() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let operator = router.router().operator();
        let mut client = Client::connect(&router);
        // Client-given IDs lie in any partition.
        for n in 0..8 {
            let key = AuthPrivateKey::ed25519(&client.random_bytes());
            let queue =
                Queue::create_with(&mut client, SubscribeMode::OnlyCreate, key, QueueMode::Contact).unwrap();
            let link_id = [n; 24];
            let data = ringpost_protocol::command::LinkData { fixed: b"fixed", user: b"user" };
            client.recipient(&queue, &Command::LSet { link_id: &link_id, data }).assert_ok();
            let report = on(&operator, &link_id, &QueueAction::Block(spam()));
            assert_eq!((report.status, report.mode), (Status::Active, Some(QueueMode::Contact)));
            client.request(None, &link_id, &Command::LGet).assert_error(&ErrorType::Blocked(spam()));
            on(&operator, &link_id, &QueueAction::Delete);
            assert_eq!(operator.queue(&link_id, &QueueAction::Look), Ok(None));
        }
        assert_eq!((router.counter("links"), router.counter("queues")), (0, 0));
    }
}

#[test]
fn a_router_that_has_stopped_says_so() {
    let router = TestRouter::start(2);
    let operator = router.router().operator();
    router.request_stop(StopMode::Immediate);
    router.join();
    assert_eq!(operator.queue(&[1; 24], &QueueAction::Look), Err(OperatorError::Stopping));
    assert_eq!(operator.active_counts(), Err(OperatorError::Stopping));
}

#[test]
fn settings_change_while_the_router_runs() {
    let router = TestRouter::start(2);
    let operator = router.router().operator();
    let mut client = Client::connect(&router);
    let queue = Queue::only_created(&mut client);
    let mut change = Change {
        service: ServiceChange {
            allow_new_queues: false,
            create_password: None,
            queue_quota: 1,
            message_ttl_secs: None,
            notification_ttl_secs: 60,
        },
        inactive: None,
    };
    operator.change(&change).unwrap();
    let key = AuthPrivateKey::ed25519(&[1; 32]);
    let refused =
        Queue::create_with(&mut client, SubscribeMode::OnlyCreate, key.clone(), QueueMode::Messaging);
    refused.unwrap_err().assert_error(&ErrorType::Auth);
    client.send_message(&queue, b"1").assert_ok();
    client.send_message(&queue, b"2").assert_error(&ErrorType::Quota);
    change.service.allow_new_queues = true;
    change.service.create_password = Some((*b"secret").into());
    operator.change(&change).unwrap();
    let refused = Queue::create_with(&mut client, SubscribeMode::OnlyCreate, key, QueueMode::Messaging);
    refused.unwrap_err().assert_error(&ErrorType::Auth);
    let relay = ringpost_protocol::command::Command::Ping;
    assert_eq!(client.request(None, &[], &relay).response(), Response::Pong);
}
