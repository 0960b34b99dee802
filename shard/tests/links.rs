//! Short links, several recipients and notifications over the wire: where clients choose IDs, what is kept over a restart
//! with another number of shards, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

mod common;

use std::path::Path;

use common::queue::assert_subscribed;
use common::{Client, Prepared, Received, TestRouter};
use ringpost_protocol::command::{
    Command, ContactLink, LinkData, MessagingLink, MsgFlags, NewQueue, NotifierCredentials, QueueRequest,
    SubscribeMode,
};
use ringpost_protocol::crypto::delivery::decrypt_notification_meta;
use ringpost_protocol::crypto::ids::sender_id_from_correlation;
use ringpost_protocol::crypto::{AuthPrivateKey, BoxKey, DhPrivateKey};
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::response::Response;
use ringpost_shard::{DataConfig, StopMode};
use ringpost_store::log::Durability;

const PROHIBITED: ErrorType = ErrorType::Cmd(CommandError::Prohibited);

/// A queue that was made with a link.
struct Linked {
    recipient_id: Vec<u8>,
    sender_id: Vec<u8>,
    link_id: Vec<u8>,
    key: AuthPrivateKey,
}

/// Data of the sizes that apps send.
fn fixed(n: u8) -> Vec<u8> {
    vec![n; 2_016]
}

fn user(n: u8) -> Vec<u8> {
    vec![n ^ 0xff; 13_784]
}

fn new_link(client: &mut Client, n: u8, contact: Option<[u8; 24]>, corr_id: [u8; 24]) -> Prepared {
    let key = AuthPrivateKey::ed25519(&[n; 32]);
    let sender_id = sender_id_from_correlation(&corr_id);
    let (fixed, user) = (fixed(n), user(n));
    let data = LinkData { fixed: &fixed, user: &user };
    let link_id = contact.unwrap_or_default();
    let request = match contact {
        Some(_) => {
            QueueRequest::Contact(Some(ContactLink { link_id: &link_id, sender_id: &sender_id, data }))
        }
        None => QueueRequest::Messaging(Some(MessagingLink { sender_id: &sender_id, data })),
    };
    let new = NewQueue {
        recipient_key: key.public(),
        recipient_dh_key: DhPrivateKey::from_bytes([n; 32]).public(),
        basic_auth: None,
        subscribe: SubscribeMode::OnlyCreate,
        request: Some(request),
        notifier: None,
    };
    let mut bytes = Vec::new();
    Command::New(Box::new(new)).encode(client.version, &mut bytes);
    client.prepare_bytes(Some(&key), &corr_id, &[], &bytes)
}

fn ask(client: &mut Client, prepared: &Prepared) -> Received {
    client.send(std::slice::from_ref(prepared));
    client.try_response(&prepared.corr_id).unwrap()
}

fn create(client: &mut Client, n: u8, contact: Option<[u8; 24]>) -> Linked {
    let corr_id = client.random_bytes();
    let prepared = new_link(client, n, contact, corr_id);
    let received = ask(client, &prepared);
    let Response::Ids(ids) = received.response() else { panic!("{received:?}") };
    Linked {
        recipient_id: ids.recipient_id.to_vec(),
        sender_id: ids.sender_id.to_vec(),
        link_id: ids.link_id.unwrap().to_vec(),
        key: AuthPrivateKey::ed25519(&[n; 32]),
    }
}

#[track_caller]
fn assert_link(received: &Received, linked: &Linked, fixed: &[u8], user: &[u8]) {
    let Response::Lnk { sender_id, data } = received.response() else { panic!("{received:?}") };
    assert_eq!(sender_id, linked.sender_id);
    assert!(data.fixed == fixed && data.user == user, "other data");
}

fn start(directory: &Path, shards: usize) -> TestRouter {
    TestRouter::with(shards, |config| {
        config.limits.message_bytes = 40_000;
        config.data = Some(DataConfig {
            directory: directory.to_owned(),
            durability: Durability::Always,
            erase_within_ms: 1_000,
            segment_bytes: 4 << 20,
            skip_damaged: false,
            salt: 1,
        });
    })
}

#[test]
fn links_are_found_from_every_shard_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut links = Vec::new();
    {
        let router = start(directory.path(), 3);
        let mut client = Client::connect(&router);
        for n in 0..12 {
            let contact = (n % 2 == 0).then(|| client.random_bytes());
            links.push(create(&mut client, n, contact));
        }
        // A queue that was made without a link gets one whose ID lies anywhere.
        let queue = common::Queue::only_created(&mut client);
        let link_id: [u8; 24] = client.random_bytes();
        let (fixed, user) = (fixed(50), user(50));
        let data = LinkData { fixed: &fixed, user: &user };
        client.recipient(&queue, &Command::LSet { link_id: &link_id, data }).assert_ok();
        let sender = AuthPrivateKey::x25519([7; 32]);
        let got = client.request(Some(&sender), &link_id, &Command::LKey(sender.public()));
        let Response::Lnk { sender_id, .. } = got.response() else { panic!("{got:?}") };
        assert_eq!(sender_id, queue.sender_id);
        router.request_stop(StopMode::Graceful);
        drop(client);
        router.join();
    }
    for shards in [1, 4] {
        let router = start(directory.path(), shards);
        let mut client = Client::connect(&router);
        for (n, linked) in (0..).zip(&links) {
            if n % 2 == 0 {
                let received = client.request(None, &linked.link_id, &Command::LGet);
                assert_link(&received, linked, &fixed(n), &user(n));
            } else {
                let key = AuthPrivateKey::x25519([n; 32]);
                let received = client.request(Some(&key), &linked.link_id, &Command::LKey(key.public()));
                assert_link(&received, linked, &fixed(n), &user(n));
                let other = AuthPrivateKey::x25519([n + 100; 32]);
                let received = client.request(Some(&other), &linked.link_id, &Command::LKey(other.public()));
                received.assert_error(&ErrorType::Auth);
            }
        }
        drop(client);
    }
}

#[test]
fn ids_that_clients_choose_are_checked() {
    let router = TestRouter::start(2);
    let mut client = Client::connect(&router);
    let link_id: [u8; 24] = client.random_bytes();
    let linked = create(&mut client, 1, Some(link_id));
    // Another queue with this link, and the same NEW once more.
    let (other_corr, corr_id) = (client.random_bytes(), client.random_bytes());
    let prepared = new_link(&mut client, 2, Some(link_id), other_corr);
    ask(&mut client, &prepared).assert_error(&ErrorType::Auth);
    let prepared = new_link(&mut client, 3, None, corr_id);
    assert!(matches!(ask(&mut client, &prepared).response(), Response::Ids(_)));
    ask(&mut client, &prepared).assert_error(&ErrorType::Auth);
    // A sender ID that does not follow from the correlation ID.
    let mut wrong = new_link(&mut client, 4, None, client_corr(4));
    let key = AuthPrivateKey::ed25519(&[4; 32]);
    let at = wrong.bytes.windows(4).position(|window| window == b"NEW ").unwrap();
    let command = wrong.bytes[at..].to_vec();
    wrong = client.prepare_bytes(Some(&key), &client_corr(5), &[], &command);
    ask(&mut client, &wrong).assert_error(&PROHIBITED);
    // The link of a deleted queue is free again.
    client.request(Some(&linked.key), &linked.recipient_id, &Command::Del).assert_ok();
    client.request(None, &link_id, &Command::LGet).assert_error(&ErrorType::Auth);
    let again = create(&mut client, 6, Some(link_id));
    let received = client.request(None, &link_id, &Command::LGet);
    assert_link(&received, &again, &fixed(6), &user(6));
}

fn client_corr(n: u8) -> [u8; 24] {
    [n; 24]
}

/// A notifier of a queue, with what its notifications are encrypted with.
fn notifier(client: &mut Client, queue: &common::Queue, n: u8) -> (Vec<u8>, AuthPrivateKey, BoxKey) {
    let key = AuthPrivateKey::ed25519(&[n; 32]);
    let dh = DhPrivateKey::from_bytes([n; 32]);
    let credentials = NotifierCredentials { notifier_key: key.public(), recipient_dh_key: dh.public() };
    let received = client.recipient(queue, &Command::NKey(credentials));
    let Response::Nid { notifier_id, router_dh_key } = received.response() else { panic!("{received:?}") };
    (notifier_id.to_vec(), key, dh.agree(&router_dh_key).box_key())
}

fn send(client: &mut Client, queue: &common::Queue, notification: bool) {
    let command = Command::Send { flags: MsgFlags { notification }, body: b"x" };
    client.request(None, &queue.sender_id, &command).assert_ok();
}

#[test]
fn notifications_wait_for_their_notifier_even_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, (notifier_id, key, secret)) = {
        let router = start(directory.path(), 2);
        let mut client = Client::connect(&router);
        let queue = common::Queue::only_created(&mut client);
        let made = notifier(&mut client, &queue, 9);
        for n in 0..20 {
            send(&mut client, &queue, n % 4 != 0);
        }
        (queue, made)
    };
    let router = start(directory.path(), 3);
    let (mut client, mut other) = (Client::connect(&router), Client::connect(&router));
    assert_subscribed(&other.request(Some(&key), &notifier_id, &Command::NSub));
    let mut about = Vec::new();
    for _ in 0..15 {
        let received = other.receive();
        assert_eq!(received.entity_id, notifier_id);
        let Response::Nmsg { nonce, meta } = received.response() else { panic!("{received:?}") };
        about.push(decrypt_notification_meta(&secret, nonce, meta).unwrap().msg_id);
    }
    // They are told once. What comes now is told at once, and names the message.
    client.request(Some(&key), &notifier_id, &Command::NSub);
    assert_eq!(other.receive().response(), Response::End);
    send(&mut client, &queue, true);
    let received = client.receive();
    let Response::Nmsg { nonce, meta } = received.response() else { panic!("{received:?}") };
    about.push(decrypt_notification_meta(&secret, nonce, meta).unwrap().msg_id);
    let mut found = Vec::new();
    client.subscribe(&queue);
    let mut message = client.message(&queue);
    loop {
        found.push(message.id.clone());
        let received = client.ack(&queue, &message.id);
        if found.len() == 21 {
            break;
        }
        message = match received.response() {
            Response::Msg { .. } => queue.open(&received),
            _ => client.message(&queue),
        };
    }
    let notified: Vec<_> =
        found.iter().enumerate().filter(|(n, _)| n % 4 != 0 || *n == 20).map(|(_, id)| id.clone()).collect();
    assert_eq!(about, notified);
    // A new notifier takes the place of the old one, and who subscribed to that is told.
    assert_subscribed(&other.request(Some(&key), &notifier_id, &Command::NSub));
    assert_eq!(client.receive().response(), Response::End);
    let (second, second_key, _) = notifier(&mut client, &queue, 10);
    let deleted = other.receive();
    assert_eq!((deleted.response(), &deleted.entity_id), (Response::Deld, &notifier_id));
    other.request(Some(&key), &notifier_id, &Command::NSub).assert_error(&ErrorType::Auth);
    assert_subscribed(&other.request(Some(&second_key), &second, &Command::NSub));
    client.recipient(&queue, &Command::NDel).assert_ok();
    assert_eq!(other.receive().response(), Response::Deld);
    // Unless its own command did it.
    let (third, third_key, _) = notifier(&mut client, &queue, 11);
    assert_subscribed(&client.request(Some(&third_key), &third, &Command::NSub));
    client.recipient(&queue, &Command::NDel).assert_ok();
    client.recipient(&queue, &Command::NDel).assert_ok();
    assert_eq!(client.receive_soon(), None);
}
