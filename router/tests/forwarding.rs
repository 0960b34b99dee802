//! Two routers and the client library: what is sent through one of them arrives at the other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use ringpost_client::{ClientConfig, ClientError, Connection, Event, KeyKind, QueueOptions, SenderQueue};
use ringpost_protocol::address::RouterAddress;
use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use support::{Home, Running, free_port};

/// Against hangs.
const DEADLINE: Duration = Duration::from_secs(60);

fn start() -> (Home, Running, RouterAddress) {
    let home = Home::initialized(free_port());
    let running = Running::start(home.smp_server(["start", "--shards", "2"]));
    let serving = running.lines.iter().find(|line| line.starts_with("Serving ")).unwrap();
    let host = serving.rsplit(' ').next().unwrap().trim().to_owned();
    let address = format!("smp://{}@{host}", home.read("fingerprint").trim()).parse().unwrap();
    (home, running, address)
}

async fn messages_arrive(proxy: &RouterAddress, relay: &RouterAddress) {
    let (sender, _) = Connection::connect(proxy, ClientConfig::default()).await.unwrap();
    let (recipient, mut events) = Connection::connect(relay, ClientConfig::default()).await.unwrap();
    let queue = recipient.new_queue(QueueOptions::default()).await.unwrap();
    let session = sender.relay_session(relay, VersionRange::ALL).await.unwrap();
    assert!(session.version() >= SmpVersion::PROXY);

    let sender_queue = SenderQueue::new(queue.sender_id, KeyKind::X25519.generate().unwrap());
    sender.secure_by_sender_through(&session, &sender_queue).await.unwrap();
    let bodies: Vec<Vec<u8>> = [1_usize, 1_000, 16_000].iter().map(|&bytes| vec![7; bytes]).collect();
    for body in &bodies {
        let flags = MsgFlags { notification: true };
        sender.start_send_through(&session, &sender_queue, flags, body).await.unwrap().await.unwrap();
    }
    // After the first one the router answers each ACK with the next message.
    let mut answered = None;
    for body in &bodies {
        let message = match answered.take() {
            Some(message) => message,
            None => match events.recv().await {
                Some(Event::Message(message)) => message,
                other => panic!("no message: {other:?}"),
            },
        };
        let id = message.id;
        assert_eq!(message.open(&queue).unwrap().body(), Some(&body[..]));
        answered = recipient.ack(&queue, &id).await.unwrap();
    }
    assert!(answered.is_none());

    // The relay's refusals come through.
    let stranger = SenderQueue::new(queue.sender_id, KeyKind::X25519.generate().unwrap());
    let refused =
        sender.start_send_through(&session, &stranger, MsgFlags::default(), b"x").await.unwrap().await;
    assert!(matches!(refused, Err(ClientError::Router(ErrorType::Auth))), "{refused:?}");
    // A relay that is not who the address says is none.
    let other: RouterAddress =
        format!("smp://{}@127.0.0.1:{}", "A".repeat(43) + "=", relay.port()).parse().unwrap();
    let refused = sender.relay_session(&other, VersionRange::ALL).await;
    assert!(matches!(refused, Err(ClientError::Router(ErrorType::Proxy(_)))), "{refused:?}");
}

#[test]
fn the_client_library_sends_through_a_proxy() {
    let (_proxy_home, _proxy, proxy) = start();
    let (_relay_home, _relay, relay) = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, messages_arrive(&proxy, &relay)).await.expect("a hang");
    });
}
