//! Connections to a router that is well, and to routers that are not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use ringpost_client::{
    Client, ClientConfig, ClientError, CommandFault, ConnectError, Connection, Disconnect, Event, Events,
    KeyKind, ProtocolFault, QueueOptions, RecipientQueue, SenderQueue, TransportFault,
};
use ringpost_protocol::command::{MsgFlags, QueueMode};
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use support::{FakeRouter, Faults};

fn versions(min: u16, max: u16) -> VersionRange {
    VersionRange::new(SmpVersion(min), SmpVersion(max)).unwrap()
}

async fn connect(router: &FakeRouter) -> (Client, Events) {
    Connection::connect(&router.address, ClientConfig::default()).await.unwrap()
}

/// A queue that is secured by its sender.
async fn queue(recipient: &Client, sender: &Client) -> (RecipientQueue, SenderQueue) {
    let queue = recipient.new_queue(QueueOptions::default()).await.unwrap();
    let sender_queue = SenderQueue::new(queue.sender_id, KeyKind::X25519.generate().unwrap());
    sender.secure_by_sender(&sender_queue).await.unwrap();
    (queue, sender_queue)
}

async fn message(events: &mut Events, queue: &RecipientQueue) -> ([u8; 24], Vec<u8>) {
    match events.recv().await {
        Some(Event::Message(message)) => {
            let id = message.id;
            (id, message.open(queue).unwrap().body().unwrap().to_vec())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_goes_from_sender_to_recipient() {
    let router = FakeRouter::start(Faults::default()).await;
    let (recipient, mut events) = connect(&router).await;
    let (sender, _) = connect(&router).await;
    assert_eq!(recipient.session().version(), SmpVersion::MAX);
    assert!(recipient.session().encrypted_blocks());
    recipient.ping().await.unwrap();
    let (queue, sender_queue) = queue(&recipient, &sender).await;
    assert_eq!(queue.mode, Some(QueueMode::Messaging));

    for body in [&b"one"[..], b"two", &[7; 16_048]] {
        sender.send(&sender_queue, MsgFlags { notification: true }, body).await.unwrap();
    }
    let (id, body) = message(&mut events, &queue).await;
    assert_eq!(body, b"one");
    let next = recipient.ack(&queue, &id).await.unwrap().expect("the next message");
    let id = next.id;
    let next = next.open(&queue).unwrap();
    assert_eq!(
        (next.body(), next.flags(), next.id),
        (Some(&b"two"[..]), Some(MsgFlags { notification: true }), id)
    );
    let last = recipient.ack(&queue, &id).await.unwrap().expect("the last message");
    let id = last.id;
    assert_eq!(last.open(&queue).unwrap().body().unwrap(), &[7; 16_048]);
    assert!(recipient.ack(&queue, &id).await.unwrap().is_none());
    assert!(matches!(recipient.ack(&queue, &id).await, Err(ClientError::Router(ErrorType::NoMsg))));

    assert_eq!(recipient.queue_info(&queue).await.unwrap(), b"{}");
    assert!(recipient.get(&queue).await.unwrap().is_none());
    recipient.suspend(&queue).await.unwrap();
    let refused = sender.send(&sender_queue, MsgFlags::default(), b"x").await.unwrap_err();
    assert_eq!(refused.kind(), "router AUTH");
    recipient.delete(&queue).await.unwrap();
    assert_eq!(recipient.subscribe(&queue).await.unwrap_err().kind(), "router AUTH");
}

#[tokio::test]
async fn every_version_and_kind_of_key_works() {
    for version in [6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19] {
        let router = FakeRouter::with_versions(Faults::default(), versions(6, version)).await;
        let kinds: &[KeyKind] = if version >= 7 {
            &[KeyKind::Ed25519, KeyKind::Ed448, KeyKind::X25519]
        } else {
            &[KeyKind::Ed25519]
        };
        for &kind in kinds {
            let config = ClientConfig { recipient_key: kind, ..ClientConfig::default() };
            let (recipient, mut events) = Connection::connect(&router.address, config).await.unwrap();
            let (sender, _) = connect(&router).await;
            assert_eq!(sender.session().version(), SmpVersion(version));
            assert_eq!(sender.session().encrypted_blocks(), version >= 11);
            let queue = recipient.new_queue(QueueOptions::default()).await.unwrap();
            let key = kind.generate().unwrap();
            let public = key.public();
            let sender_queue = SenderQueue::new(queue.sender_id, key);
            if version >= 9 {
                sender.secure_by_sender(&sender_queue).await.unwrap();
            } else {
                assert!(matches!(
                    sender.secure_by_sender(&sender_queue).await,
                    Err(ClientError::Command(CommandFault::NotInVersion { command: "SKEY", .. }))
                ));
                recipient.secure(&queue, &public).await.unwrap();
            }
            sender.send(&sender_queue, MsgFlags::default(), b"hello").await.unwrap();
            assert_eq!(message(&mut events, &queue).await.1, b"hello", "version {version}, {kind:?}");
        }
    }
}

#[tokio::test]
async fn blocks_can_do_without_encryption() {
    let router = FakeRouter::start(Faults::default()).await;
    let config = ClientConfig { block_encryption: false, ..ClientConfig::default() };
    let (client, mut events) = Connection::connect(&router.address, config).await.unwrap();
    assert!(!client.session().encrypted_blocks());
    let (queue, sender_queue) = queue(&client, &client).await;
    client.send(&sender_queue, MsgFlags::default(), b"hello").await.unwrap();
    assert_eq!(message(&mut events, &queue).await.1, b"hello");
}

#[tokio::test]
async fn an_unsecured_queue_takes_messages_without_authorization() {
    let router = FakeRouter::start(Faults::default()).await;
    let (client, mut events) = connect(&router).await;
    let queue = client.new_queue(QueueOptions::default()).await.unwrap();
    let unsecured = SenderQueue::unsecured(queue.sender_id);
    client.send(&unsecured, MsgFlags::default(), b"first").await.unwrap();
    assert_eq!(message(&mut events, &queue).await.1, b"first");
    assert!(matches!(
        client.secure_by_sender(&unsecured).await,
        Err(ClientError::Command(CommandFault::NoKey))
    ));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_here() {
    let router = FakeRouter::start(Faults::default()).await;
    let (client, _events) = connect(&router).await;
    let (_, sender_queue) = queue(&client, &client).await;
    let error = client.send(&sender_queue, MsgFlags::default(), &[0; 16_049]).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Command(CommandFault::BodyTooLarge { body_bytes_max: 16_048, .. })),
        "{error}"
    );
}

#[tokio::test]
async fn messages_handed_over_in_turn_arrive_in_turn() {
    let router = FakeRouter::start(Faults::default()).await;
    let (recipient, mut events) = connect(&router).await;
    let (sender, _) = connect(&router).await;
    let (queue, sender_queue) = queue(&recipient, &sender).await;
    let mut pending = Vec::new();
    for number in 0..100_u8 {
        pending.push(sender.start_send(&sender_queue, MsgFlags::default(), &[number; 1000]).await.unwrap());
    }
    for reply in pending {
        reply.await.unwrap();
    }
    let (mut id, body) = message(&mut events, &queue).await;
    assert_eq!(body, [0; 1000]);
    for number in 1..100_u8 {
        let next = recipient.ack(&queue, &id).await.unwrap().unwrap();
        id = next.id;
        assert_eq!(next.open(&queue).unwrap().body().unwrap(), [number; 1000]);
    }
    assert!(recipient.ack(&queue, &id).await.unwrap().is_none());
}

#[tokio::test]
async fn many_subscriptions_share_blocks() {
    const QUEUES: usize = 700;
    let router = FakeRouter::start(Faults::default()).await;
    let (first, mut first_events) = connect(&router).await;
    let mut queues = Vec::new();
    for _ in 0..QUEUES {
        queues.push(first.new_queue(QueueOptions::default()).await.unwrap());
    }
    let sender = SenderQueue::unsecured(queues[5].sender_id);
    first.send(&sender, MsgFlags::default(), b"waiting").await.unwrap();
    assert!(matches!(first_events.recv().await, Some(Event::Message(_))));
    // The events of 700 ENDs are not received, and the first connection must stand it.
    let (second, mut events) = connect(&router).await;
    let before = router.blocks().0;
    let results = second.subscribe_many(&queues).await;
    assert_eq!(results.len(), QUEUES);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let (blocks, most) = router.blocks();
    // 84 transmissions of 191 bytes fit into a block.
    assert!(
        blocks - before <= QUEUES.div_ceil(84) && most >= 84,
        "{} blocks, at most {most}",
        blocks - before
    );
    assert_eq!(message(&mut events, &queues[5]).await.1, b"waiting");
    let mut ended = 0;
    while ended < QUEUES {
        match first_events.recv().await {
            Some(Event::End { .. }) => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(second.subscribe_many::<RecipientQueue>(&[]).await.is_empty());
}

#[tokio::test]
async fn a_message_may_be_the_answer_to_a_subscription() {
    let router = FakeRouter::start(Faults { message_answers_sub: true, ..Faults::default() }).await;
    let (client, mut events) = connect(&router).await;
    let queue = client.new_queue(QueueOptions { subscribe: false, contact: false }).await.unwrap();
    client.send(&SenderQueue::unsecured(queue.sender_id), MsgFlags::default(), b"first").await.unwrap();
    client.subscribe(&queue).await.unwrap();
    assert_eq!(message(&mut events, &queue).await.1, b"first");
}

#[tokio::test]
async fn the_end_of_a_queue_is_an_event() {
    let router = FakeRouter::start(Faults::default()).await;
    let (first, mut events) = connect(&router).await;
    let (second, _second_events) = connect(&router).await;
    let options = QueueOptions { subscribe: true, contact: true };
    let (one, two) = (first.new_queue(options).await.unwrap(), first.new_queue(options).await.unwrap());
    assert_eq!(one.mode, Some(QueueMode::Contact));
    second.subscribe(&one).await.unwrap();
    second.delete(&two).await.unwrap();
    assert!(matches!(events.recv().await, Some(Event::End { queue }) if queue == one.recipient_id));
    assert!(matches!(events.recv().await, Some(Event::Deleted { queue }) if queue == two.recipient_id));
}

#[tokio::test]
async fn blocks_in_several_records_are_put_together() {
    let router = FakeRouter::start(Faults { small_records: true, ..Faults::default() }).await;
    let (client, mut events) = connect(&router).await;
    let (queue, sender_queue) = queue(&client, &client).await;
    client.send(&sender_queue, MsgFlags::default(), &[3; 16_000]).await.unwrap();
    assert_eq!(message(&mut events, &queue).await.1, [3; 16_000]);
}

#[tokio::test]
async fn closing_ends_everything() {
    let router = FakeRouter::start(Faults::default()).await;
    let (client, mut events) = connect(&router).await;
    let clone = client.clone();
    client.close().await;
    assert!(matches!(clone.disconnected(), Some(Disconnect::ByClient)));
    assert!(matches!(clone.ping().await, Err(ClientError::Closed)));
    assert!(matches!(events.recv().await, Some(Event::Disconnected(Disconnect::ByClient))));
    assert!(events.recv().await.is_none());

    let (client, mut events) = connect(&router).await;
    drop(client);
    assert!(matches!(events.recv().await, Some(Event::Disconnected(Disconnect::ByClient))));
}

#[tokio::test]
async fn another_identity_is_refused() {
    let router = FakeRouter::start(Faults::default()).await;
    let other = FakeRouter::start(Faults::default()).await;
    let mut address = other.address.clone();
    address.router.port = router.address.router.port;
    let error = Connection::connect(&address, ClientConfig::default()).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongIdentity), "{error}");
}

#[tokio::test]
async fn a_router_that_cannot_be_reached_is_told_apart() {
    let router = FakeRouter::start(Faults::default()).await;
    let address = router.address.clone();
    drop(router);
    // The port may be closed a little later than its task ends.
    let error = loop {
        match Connection::connect(&address, ClientConfig::default()).await {
            Err(error @ ConnectError::Network { .. }) => break error,
            _ => tokio::task::yield_now().await,
        }
    };
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_router_that_closes_in_the_handshake_is_told_apart() {
    for faults in [
        Faults { close_at_once: true, ..Faults::default() },
        Faults { close_in_handshake: true, ..Faults::default() },
    ] {
        let router = FakeRouter::start(faults).await;
        let error = Connection::connect(&router.address, ClientConfig::default()).await.unwrap_err();
        assert!(matches!(error, ConnectError::ClosedByRouter), "{error:?}");
    }
}

#[tokio::test]
async fn no_common_version_is_an_error() {
    let router = FakeRouter::with_versions(Faults::default(), versions(15, 19)).await;
    let config = ClientConfig { versions: versions(6, 14), ..ClientConfig::default() };
    let error = Connection::connect(&router.address, config).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Handshake(text) if text.contains("version")), "{error}");
}

#[tokio::test]
async fn a_router_that_says_nothing_is_a_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut address = FakeRouter::start(Faults::default()).await.address.clone();
    address.router.port = Some(listener.local_addr().unwrap().port());
    let config = ClientConfig { connect_timeout: Duration::from_millis(50), ..ClientConfig::default() };
    let error = Connection::connect(&address, config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn a_connection_that_is_cut_fails_all_commands() {
    let router = FakeRouter::start(Faults { cut_after_commands: Some(1), ..Faults::default() }).await;
    let (client, mut events) = connect(&router).await;
    client.ping().await.unwrap();
    let (one, two) = tokio::join!(client.ping(), client.ping());
    for result in [one, two, client.ping().await] {
        assert!(matches!(result, Err(ClientError::Transport(TransportFault::Network(_)))), "{result:?}");
    }
    assert!(matches!(
        events.recv().await,
        Some(Event::Disconnected(Disconnect::Transport(TransportFault::Network(_))))
    ));
    assert!(events.recv().await.is_none());
}

#[tokio::test]
async fn an_orderly_end_is_told_apart() {
    let router = FakeRouter::start(Faults { end_after_commands: Some(0), ..Faults::default() }).await;
    let (client, mut events) = connect(&router).await;
    assert!(matches!(client.ping().await, Err(ClientError::Closed)));
    assert!(matches!(events.recv().await, Some(Event::Disconnected(Disconnect::ByRouter))));
}

#[tokio::test]
async fn a_wrong_response_is_the_routers_fault() {
    let router = FakeRouter::start(Faults { pong_to: Some("NEW"), ..Faults::default() }).await;
    let (client, _events) = connect(&router).await;
    let error = client.new_queue(QueueOptions::default()).await.unwrap_err();
    let expected = ProtocolFault::UnexpectedResponse { command: "NEW", response: "PONG" };
    assert!(matches!(&error, ClientError::Protocol(fault) if *fault == expected), "{error}");
    // The connection goes on.
    client.ping().await.unwrap();
}

#[tokio::test]
async fn a_response_about_another_queue_is_refused() {
    let router = FakeRouter::start(Faults { other_queue_to: Some("OFF"), ..Faults::default() }).await;
    let (client, _events) = connect(&router).await;
    let queue = client.new_queue(QueueOptions::default()).await.unwrap();
    let error = client.suspend(&queue).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol(ProtocolFault::WrongEntity { command: "OFF" })), "{error}");
}

#[tokio::test]
async fn a_response_that_cannot_be_read_is_refused() {
    let router = FakeRouter::start(Faults { nonsense_to: Some("QUE"), ..Faults::default() }).await;
    let (client, _events) = connect(&router).await;
    let queue = client.new_queue(QueueOptions::default()).await.unwrap();
    let error = client.queue_info(&queue).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol(ProtocolFault::Unreadable(_))), "{error}");
    client.ping().await.unwrap();
}

#[tokio::test]
async fn a_broken_block_ends_the_connection() {
    let router = FakeRouter::start(Faults { broken_block_to: Some("PING"), ..Faults::default() }).await;
    let (client, mut events) = connect(&router).await;
    assert!(matches!(client.ping().await, Err(ClientError::Protocol(ProtocolFault::Unreadable(_)))));
    assert!(matches!(events.recv().await, Some(Event::Disconnected(Disconnect::Protocol(_)))));
}

#[tokio::test]
async fn a_command_without_response_times_out_alone() {
    let router = FakeRouter::start(Faults { silent_to: Some("QUE"), ..Faults::default() }).await;
    let config = ClientConfig { command_timeout: Duration::from_secs(1), ..ClientConfig::default() };
    let (client, _events) = Connection::connect(&router.address, config).await.unwrap();
    let queue = client.new_queue(QueueOptions::default()).await.unwrap();
    assert!(matches!(client.queue_info(&queue).await, Err(ClientError::Timeout)));
    client.ping().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_kept_alive() {
    let router = FakeRouter::start(Faults::default()).await;
    let config = ClientConfig { keep_alive: Some(Duration::from_millis(20)), ..ClientConfig::default() };
    let (client, _events) = Connection::connect(&router.address, config).await.unwrap();
    while router.blocks().0 < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(client.disconnected().is_none());
}

#[tokio::test]
async fn a_router_that_does_not_answer_is_given_up() {
    let router = FakeRouter::start(Faults { silent_to: Some("PING"), ..Faults::default() }).await;
    let config = ClientConfig {
        keep_alive: Some(Duration::from_millis(20)),
        command_timeout: Duration::from_millis(50),
        ..ClientConfig::default()
    };
    let (client, mut events) = Connection::connect(&router.address, config).await.unwrap();
    assert!(matches!(
        events.recv().await,
        Some(Event::Disconnected(Disconnect::Transport(TransportFault::KeepAlive)))
    ));
    assert!(matches!(client.ping().await, Err(ClientError::Transport(TransportFault::KeepAlive))));
}

/// Events that nobody receives stop the reading, and nothing is lost of them.
#[tokio::test]
async fn waiting_events_hold_the_connection_back() {
    let router = FakeRouter::start(Faults::default()).await;
    let config = ClientConfig {
        events_max: 1,
        events_before_response_max: 3,
        keep_alive: Some(Duration::from_millis(10)),
        command_timeout: Duration::from_secs(5),
        ..ClientConfig::default()
    };
    let (recipient, mut events) = Connection::connect(&router.address, config).await.unwrap();
    let (sender, _) = connect(&router).await;
    let mut queues = Vec::new();
    for _ in 0..20 {
        queues.push(recipient.new_queue(QueueOptions::default()).await.unwrap());
    }
    for queue in &queues {
        sender.send(&SenderQueue::unsecured(queue.sender_id), MsgFlags::default(), &[1; 500]).await.unwrap();
    }
    // A response behind the events has to wait for them.
    let ping = tokio::spawn(async move { recipient.ping().await });
    for queue in &queues {
        match events.recv().await {
            Some(Event::Message(message)) => assert_eq!(message.queue, queue.recipient_id),
            other => panic!("{other:?}"),
        }
    }
    ping.await.unwrap().unwrap();
}

/// The ordinary way to receive: an event, its acknowledgement, the next event.
#[tokio::test]
async fn acknowledgements_pass_waiting_events() {
    let router = FakeRouter::start(Faults::default()).await;
    let config = ClientConfig { events_max: 1, ..ClientConfig::default() };
    let (recipient, mut events) = Connection::connect(&router.address, config).await.unwrap();
    let (sender, _) = connect(&router).await;
    let mut queues = Vec::new();
    for _ in 0..50 {
        let queue = recipient.new_queue(QueueOptions::default()).await.unwrap();
        sender.send(&SenderQueue::unsecured(queue.sender_id), MsgFlags::default(), &[1; 500]).await.unwrap();
        queues.push(queue);
    }
    for queue in &queues {
        let (id, _) = message(&mut events, queue).await;
        assert!(recipient.ack(queue, &id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_dropped_acknowledgement_loses_no_message() {
    let router = FakeRouter::start(Faults::default()).await;
    let (client, mut events) = connect(&router).await;
    let (queue, sender_queue) = queue(&client, &client).await;
    for body in [b"one", b"two"] {
        client.send(&sender_queue, MsgFlags::default(), body).await.unwrap();
    }
    let (id, _) = message(&mut events, &queue).await;
    // Polled once, so that the command is handed over, then dropped.
    {
        let ack = client.ack(&queue, &id);
        tokio::pin!(ack);
        assert!(
            std::future::poll_fn(|context| {
                std::task::Poll::Ready(std::future::Future::poll(ack.as_mut(), context).is_pending())
            })
            .await
        );
    }
    assert_eq!(message(&mut events, &queue).await.1, b"two");
}
