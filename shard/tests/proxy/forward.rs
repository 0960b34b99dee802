//! Commands through a proxy to a relay that works.

use ringpost_protocol::command::{Command, LinkData, MsgFlags, QueueMode, SubscribeMode};
use ringpost_protocol::crypto::{AuthPrivateKey, DhPrivateKey};
use ringpost_protocol::encoding::Sink;
use ringpost_protocol::error::{CommandError, ErrorType, ProxyError};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::{SmpVersion, VersionRange};

use ringpost_shard::DataConfig;
use ringpost_store::log::Durability;

use crate::client::{address, no_session, relay};
use crate::common::queue::Content;
use crate::common::{Client, Queue, TestRouter};

fn send(body: &[u8]) -> Command<'_> {
    Command::Send { flags: MsgFlags { notification: true }, body }
}

#[test]
fn a_message_goes_through_a_proxy() {
    for (proxy_shards, relay_shards) in [(1, 1), (2, 3)] {
        let (proxy, relay) = (TestRouter::start(proxy_shards), relay(relay_shards));
        let mut recipient = Client::connect(&relay);
        let queue = Queue::subscribed(&mut recipient);
        let mut sender = Client::connect(&proxy);
        let session = sender.relay_session(&relay);
        let wanted = VersionRange::new(SmpVersion(8), SmpVersion(18)).unwrap();
        assert_eq!(session.versions, wanted);
        for size in [0, 1, 1_000, 16_048] {
            let body = vec![7; size];
            let response = sender.forward(&session, 17, None, &queue.sender_id, &send(&body)).unwrap();
            response.assert_ok();
            assert_eq!(response.entity_id, queue.sender_id);
            let message = recipient.message(&queue);
            assert_eq!(message.content, Content::Sent { notification: true, body });
            recipient.ack(&queue, &message.id).assert_ok();
        }
        assert_eq!(relay.counter("forwards_received"), 4);
        assert_eq!((proxy.counter("forward_requests"), proxy.counter("forward_successes")), (4, 4));
        assert_eq!((proxy.counter("relay_requests"), proxy.counter("relay_successes")), (1, 1));
        assert_eq!(proxy.counter("own_forward_requests"), 0);
        assert_eq!(relay.counter("connections"), 2);
    }
}

#[test]
fn a_sender_secures_the_queue_through_the_proxy_and_sends_with_its_key() {
    let (proxy, relay) = (TestRouter::start(2), relay(2));
    let mut recipient = Client::connect(&relay);
    let mut sender = Client::connect(&proxy);
    let session = sender.relay_session(&relay);
    let keys = [AuthPrivateKey::x25519([5; 32]), AuthPrivateKey::ed25519(&[6; 32])];
    for (key, version) in [(&keys[0], 17), (&keys[1], 17), (&keys[0], 9), (&keys[1], 15)] {
        let queue = Queue::subscribed(&mut recipient);
        let secure = Command::SKey(key.public());
        sender.forward(&session, version, Some(key), &queue.sender_id, &secure).unwrap().assert_ok();
        sender.forward(&session, version, Some(key), &queue.sender_id, &send(b"hi")).unwrap().assert_ok();
        assert_eq!(recipient.message(&queue).body(), b"hi");
        // Neither without the key nor with another.
        for other in [None, Some(&AuthPrivateKey::x25519([9; 32]))] {
            let refused = sender.forward(&session, version, other, &queue.sender_id, &send(b"no")).unwrap();
            refused.assert_error(&ErrorType::Auth);
        }
    }
    // Errors of the relay are inside: for the proxy, all went well.
    assert_eq!(proxy.counter("forward_successes"), 16);
    assert_eq!(proxy.counter("errors_auth"), 0);
}

#[test]
fn links_are_read_and_secured_through_the_proxy() {
    let (proxy, relay) = (TestRouter::start(2), relay(3));
    let mut recipient = Client::connect(&relay);
    let mut sender = Client::connect(&proxy);
    let session = sender.relay_session(&relay);
    // As large as apps make them: the response fills its box.
    let (fixed, user) = (vec![1; 2_016], vec![2; 13_784]);
    for mode in [QueueMode::Messaging, QueueMode::Contact] {
        let recipient_key = AuthPrivateKey::ed25519(&recipient.random_bytes());
        let queue =
            Queue::create_with(&mut recipient, SubscribeMode::Subscribe, recipient_key, mode).unwrap();
        let link_id: [u8; 24] = recipient.random_bytes();
        let data = LinkData { fixed: &fixed, user: &user };
        recipient.recipient(&queue, &Command::LSet { link_id: &link_id, data }).assert_ok();
        let key = AuthPrivateKey::x25519([8; 32]);
        let (key, command) = match mode {
            QueueMode::Messaging => (Some(&key), Command::LKey(key.public())),
            QueueMode::Contact => (None, Command::LGet),
        };
        let response = sender.forward(&session, 17, key, &link_id, &command).unwrap();
        assert_eq!(response.response(), Response::Lnk { sender_id: &queue.sender_id, data });
        sender.forward(&session, 17, key, &queue.sender_id, &send(b"found")).unwrap().assert_ok();
        assert_eq!(recipient.message(&queue).body(), b"found");
    }
}

#[test]
fn errors_of_the_queue_come_back_inside() {
    let proxy = TestRouter::start(1);
    let relay = TestRouter::with(1, |config| {
        config.credentials = crate::common::new_credentials(2);
        config.queue_quota = 1;
    });
    let mut recipient = Client::connect(&relay);
    let queue = Queue::create(&mut recipient, SubscribeMode::OnlyCreate);
    let mut sender = Client::connect(&proxy);
    let session = sender.relay_session(&relay);
    let mut answer = |version: u16, entity_id: &[u8], command: &Command<'_>| {
        sender.forward(&session, version, None, entity_id, command).unwrap().error()
    };
    assert_eq!(answer(17, &[8; 24], &send(b"")), Some(ErrorType::Auth));
    // The limit is that of the version in PFWD.
    assert_eq!(answer(17, &queue.sender_id, &send(&[0; 16_049])), Some(ErrorType::LargeMsg));
    assert_eq!(answer(10, &queue.sender_id, &send(&[0; 16_049])), None);
    assert_eq!(answer(17, &queue.sender_id, &send(b"")), Some(ErrorType::Quota));
    let prohibited = Some(ErrorType::Cmd(CommandError::Prohibited));
    assert_eq!(answer(17, &[], &Command::Ping), prohibited);
    let no_auth = Some(ErrorType::Cmd(CommandError::NoAuth));
    assert_eq!(answer(17, &queue.recipient_id, &Command::Sub), no_auth);
    // Even the recipient cannot do what is not for senders.
    let key = queue.recipient_key.clone();
    for command in [Command::Sub, Command::Del, Command::Get] {
        let response = sender.forward(&session, 17, Some(&key), &queue.recipient_id, &command).unwrap();
        assert_eq!(response.error(), prohibited, "{}", command.tag());
    }
    let unknown = sender.prepare_forward_bytes(&session, 17, None, &queue.sender_id, b"WHAT");
    let response = sender.forward_prepared(&unknown).unwrap();
    response.assert_error(&ErrorType::Cmd(CommandError::Unknown));
}

#[test]
fn what_is_not_one_transmission_is_refused_by_the_relay() {
    let (proxy, relay) = (TestRouter::start(1), relay(1));
    let mut recipient = Client::connect(&relay);
    let queue = Queue::subscribed(&mut recipient);
    let mut sender = Client::connect(&proxy);
    let session = sender.relay_session(&relay);
    let command_key = DhPrivateKey::from_bytes([4; 32]);
    let mut transmission = Vec::new();
    transmission.put_short(&[]);
    transmission.put_short(&[1; 24]);
    transmission.put_short(&queue.sender_id);
    transmission.put(b"SEND F twice");
    let mut two = vec![2];
    two.put_large(&transmission);
    two.put_large(&transmission);
    let version = SmpVersion(17);
    let forwarded = sender.prepare_forward_content(&session, version, [1; 24], &command_key, &two);
    let refused = ErrorType::Proxy(Box::new(ProxyError::Protocol(ErrorType::Block)));
    assert_eq!(sender.forward_prepared(&forwarded), Err(refused));
    // Content that is no transmission is answered inside, as in a block.
    for (nonce, content) in [(2, &b"\x01\x00\x09broken"[..]), (3, b"")] {
        let forwarded = sender.prepare_forward_content(&session, version, [nonce; 24], &command_key, content);
        let response = sender.forward_prepared(&forwarded).unwrap();
        response.assert_error(&ErrorType::Block);
        assert!(response.corr_id.is_empty() && response.entity_id.is_empty());
    }
    assert_eq!(recipient.receive_soon(), None);
}

#[test]
fn a_box_that_does_not_open_is_told_as_the_relays_error() {
    let (proxy, relay) = (TestRouter::start(1), relay(1));
    let mut sender = Client::connect(&proxy);
    let mut session = sender.relay_session(&relay);
    // Sealed for another relay.
    session.key = DhPrivateKey::from_bytes([1; 32]).public();
    let crypto = ErrorType::Proxy(Box::new(ProxyError::Protocol(ErrorType::Crypto)));
    assert_eq!(sender.forward(&session, 17, None, &[1; 24], &send(b"")), Err(crypto));
    assert_eq!(proxy.counter("forward_successes"), 1, "as the reference counts errors of the relay");
}

#[test]
fn sessions_that_are_not_there_and_commands_of_another_size_are_refused() {
    let (proxy, relay) = (TestRouter::start(2), relay(1));
    let mut sender = Client::connect(&proxy);
    let session = sender.relay_session(&relay);
    for id in [vec![0x70; 32], vec![1; 38], session.id[1..].to_vec()] {
        let unknown = crate::client::RelaySession { id, ..session.clone() };
        assert_eq!(sender.forward(&unknown, 17, None, &[1; 24], &send(b"")), Err(no_session()));
    }
    assert_eq!(proxy.counter("forward_errors_connect"), 3);
    let key = DhPrivateKey::from_bytes([1; 32]).public();
    for size in [0, 16_241, 16_243] {
        let transmission = vec![1; size];
        let command = Command::Pfwd { version: SmpVersion(17), key, transmission: &transmission };
        let response = sender.request(None, &session.id, &command);
        response.assert_error(&ErrorType::Cmd(CommandError::Syntax));
    }
    // PFWD names a session, PRXY must not.
    let transmission = vec![1; 16_242];
    let command = Command::Pfwd { version: SmpVersion(17), key, transmission: &transmission };
    sender.request(None, &[], &command).assert_error(&ErrorType::Cmd(CommandError::NoEntity));
    sender.ping();
}

#[test]
fn a_router_can_be_its_own_relay() {
    for shards in [1, 2] {
        let router = TestRouter::start(shards);
        let mut recipient = Client::connect(&router);
        let queue = Queue::subscribed(&mut recipient);
        let mut sender = Client::connect(&router);
        let session = sender.relay_session(&router);
        sender.forward(&session, 17, None, &queue.sender_id, &send(b"round")).unwrap().assert_ok();
        assert_eq!(recipient.message(&queue).body(), b"round");
    }
}

#[test]
fn a_password_is_asked_for_by_prxy() {
    let proxy = TestRouter::with(1, |config| config.create_password = Some("secret".to_owned()));
    let relay = relay(1);
    let mut sender = Client::connect(&proxy);
    let refused = ErrorType::Proxy(Box::new(ProxyError::BasicAuth));
    for wrong in [None, Some(&b"wrong"[..]), Some(b"secre"), Some(b"")] {
        sender.ask_for_session(&address(&relay), wrong).assert_error(&refused);
    }
    assert_eq!(relay.counter("connections_accepted"), 0);
    let received = sender.ask_for_session(&address(&relay), Some(b"secret"));
    assert!(matches!(received.response(), Response::Pkey { .. }), "{received:?}");
    // A router without a password does not mind one.
    let open = TestRouter::start(1);
    let received = Client::connect(&open).ask_for_session(&address(&relay), Some(b"any"));
    assert!(matches!(received.response(), Response::Pkey { .. }), "{received:?}");
}

#[test]
fn what_was_acknowledged_through_a_proxy_is_on_the_relays_disk() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        TestRouter::with(2, |config| {
            config.credentials = crate::common::new_credentials(2);
            config.data = Some(DataConfig {
                directory: directory.path().to_owned(),
                durability: Durability::Always,
                erase_within_ms: 60_000,
                segment_bytes: 4 << 20,
                skip_damaged: false,
                salt: 0x5a17,
            });
        })
    };
    let (proxy, relay) = (TestRouter::start(2), start());
    let mut recipient = Client::connect(&relay);
    let queues: Vec<_> = (0..6).map(|_| Queue::only_created(&mut recipient)).collect();
    let mut sender = Client::connect(&proxy);
    let session = sender.relay_session(&relay);
    let key = AuthPrivateKey::x25519([5; 32]);
    for (queue, size) in queues.iter().zip([0, 1, 100, 13_000, 16_000, 16_048]) {
        let secure = Command::SKey(key.public());
        sender.forward(&session, 17, Some(&key), &queue.sender_id, &secure).unwrap().assert_ok();
        let body = vec![3; size];
        sender.forward(&session, 17, Some(&key), &queue.sender_id, &send(&body)).unwrap().assert_ok();
    }
    // Dropping it is a stop that waits for nothing.
    drop(relay);
    let again = start();
    let mut recipient = Client::connect(&again);
    for (queue, size) in queues.iter().zip([0, 1, 100, 13_000, 16_000, 16_048]) {
        recipient.subscribe(queue);
        assert_eq!(recipient.message(queue).body(), vec![3; size]);
    }
}

#[test]
fn relays_of_the_own_domains_are_counted_apart() {
    let proxy = TestRouter::with(1, |config| config.proxy.own_domains = vec!["127.0.0.1".to_owned()]);
    let relay = relay(1);
    let mut sender = Client::connect(&proxy);
    let session = sender.relay_session(&relay);
    sender.forward(&session, 17, None, &[1; 24], &send(b"")).unwrap().assert_error(&ErrorType::Auth);
    for name in ["relay_requests", "relay_successes", "forward_requests", "forward_successes"] {
        assert_eq!((proxy.counter(name), proxy.counter(&format!("own_{name}"))), (1, 1), "{name}");
    }
}
