//! A client service and a started router, over restarts of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ringpost_client::{
    Client, ClientConfig, ClientError, Connection, EntityId, Event, Events, QueueOptions, SenderQueue,
};
use ringpost_protocol::address::RouterAddress;
use ringpost_protocol::certificate::{CertificateAuthority, SigningKey};
use ringpost_protocol::command::{MsgFlags, ServiceSubs};
use ringpost_protocol::handshake::{ServiceCredentials, ServiceRole};
use ringpost_protocol::version::{SmpVersion, VersionRange};
use rustix::process::Signal;
use support::{Home, Running, free_port};

const DEADLINE: Duration = Duration::from_secs(20);

fn credentials(role: ServiceRole) -> Arc<ServiceCredentials> {
    let seed = [0x5e; 32];
    let authority = CertificateAuthority::generate(&seed, 1_790_000_000).unwrap();
    let chain = vec![authority.certificate().clone()];
    Arc::new(ServiceCredentials { role, chain, key: SigningKey::ed25519(&seed) })
}

async fn connect(address: &RouterAddress, role: Option<ServiceRole>, version: u16) -> (Client, Events) {
    let config = ClientConfig {
        versions: VersionRange::new(SmpVersion::V6, SmpVersion(version)).unwrap(),
        service: role.map(credentials),
        ..ClientConfig::default()
    };
    let (client, events) = Connection::connect(address, config).await.unwrap();
    assert_eq!(client.session().version(), SmpVersion(version), "what the router offers");
    (client, events)
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_finds_its_queues_again_after_restarts() {
    let port = free_port();
    let home = Home::initialized(port);
    let fingerprint = home.read("fingerprint").trim().to_owned();
    let address: RouterAddress = format!("smp://{fingerprint}@127.0.0.1:{port}").parse().unwrap();
    let role = Some(ServiceRole::Messaging);
    let mut known: Option<EntityId> = None;
    let mut queues = Vec::new();
    let mut has = ServiceSubs::NONE;
    for (round, shards) in ["2", "1", "3"].into_iter().enumerate() {
        let router = Running::start(home.smp_server(["start", "--shards", shards]));
        let (client, mut events) = connect(&address, role, 19).await;
        let id = client.session().service_id().unwrap();
        assert_eq!(*known.get_or_insert(id), id);
        assert_eq!(client.subscribe_service(has).await.unwrap(), has);
        // A message to each queue was sent before the router was stopped.
        for _ in &queues {
            let Event::Message(message) = next(&mut events).await else { panic!("no message") };
            let queue = queues
                .iter()
                .find(|queue: &&ringpost_client::RecipientQueue| queue.recipient_id == message.queue);
            let (queue, msg_id) = (queue.unwrap(), message.id);
            assert_eq!(message.open(queue).unwrap().body(), Some(&b"while it was away"[..]));
            assert!(client.ack(queue, &msg_id).await.unwrap().is_none());
        }
        assert!(matches!(next(&mut events).await, Event::ServiceDelivered));
        for _ in 0..3 {
            let queue = client.new_queue(QueueOptions::default()).await.unwrap();
            has.add_queue(queue.recipient_id.as_bytes());
            queues.push(queue);
        }
        // Another session takes over, in each version that has services.
        for version in [16, 17, 18, 19] {
            let (other, _events) = connect(&address, role, version).await;
            assert_eq!(other.session().service_id(), Some(id));
            let told = other.subscribe_service(has).await.unwrap();
            assert_eq!(told.count, has.count);
            assert_eq!(told.ids_hash, if version == 19 { has.ids_hash } else { [0; 16] });
            if version == 16 {
                assert!(matches!(next(&mut events).await, Event::ServiceEnd(ended) if ended == has));
            }
            other.close().await;
        }
        client.close().await;
        let (sender, _) = connect(&address, None, 18).await;
        assert!(sender.session().service_id().is_none());
        let refused = sender.subscribe_service(has).await.unwrap_err();
        assert!(matches!(refused, ClientError::Command(_)), "{refused}");
        for queue in &queues {
            let to = SenderQueue::unsecured(queue.sender_id);
            sender.send(&to, MsgFlags::default(), b"while it was away").await.unwrap();
        }
        sender.close().await;
        // The role of a certificate does not change.
        let config =
            ClientConfig { service: Some(credentials(ServiceRole::Notifier)), ..ClientConfig::default() };
        let refused = Connection::connect(&address, config).await.unwrap_err().to_string();
        assert!(refused.contains("BadService"), "round {round}: {refused}");
        router.signal(Signal::TERM);
        let (status, _, errors) = router.wait();
        assert_eq!(status.code(), Some(0), "{errors}");
    }
}
