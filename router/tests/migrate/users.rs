//! The users of a moved router notice nothing: with the keys that they had before they take the messages that wait, and
//! write on.

use std::fs;
use std::time::Duration;

use ringpost_client::{ClientConfig, Connection, EntityId, Event, RecipientQueue, SenderQueue};
use ringpost_protocol::address::RouterAddress;
use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::crypto::{AuthPrivateKey, DhPrivateKey};
use ringpost_protocol::keys::DhPublicKey;
use rustix::process::Signal;
use serde_json::Value;

use crate::sample::recorded;
use crate::site::{MESSAGES, NOTIFICATIONS, STORE, Site};
use crate::support::{Running, free_port};

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn key(value: &Value) -> AuthPrivateKey {
    match value["alg"].as_str().unwrap() {
        "Ed25519" => AuthPrivateKey::ed25519(&bytes(&value["private"])),
        "Ed448" => AuthPrivateKey::ed448(&bytes(&value["private"])),
        "X25519" => AuthPrivateKey::x25519(bytes(&value["private"])),
        other => panic!("{other}"),
    }
}

fn recipient_queue(queue: &Value, with: &str) -> RecipientQueue {
    let id = |name: &str| EntityId::new(&bytes::<24>(&queue[name])).unwrap();
    let router_key: [u8; 44] = bytes(&queue["server_dh_public_der"]);
    RecipientQueue::new(
        id("recipient_id"),
        id("sender_id"),
        None,
        key(&queue[with]),
        &DhPrivateKey::from_bytes(bytes(&queue["recipient_dh_key"]["private"])),
        DhPublicKey::from_der(&router_key).unwrap(),
    )
}

/// The messages that must come: flag and body, None for the quota message.
fn waiting(queue: &Value) -> Vec<Option<(bool, Vec<u8>)>> {
    if let Some(accepted) = queue["accepted_messages"].as_u64() {
        let bodies = (1..=accepted).map(|n| Some((false, format!("m{n}").into_bytes())));
        return bodies.chain([None]).collect();
    }
    let body = |body: &Value| match body {
        Value::String(text) => hex::decode(text).unwrap(),
        repeated => {
            let [byte] = bytes::<1>(&repeated["byte"]);
            vec![byte; usize::try_from(repeated["len"].as_u64().unwrap()).unwrap()]
        }
    };
    let messages = queue["messages"].as_array().unwrap().iter();
    messages
        .map(|message| Some((message["notification"].as_bool().unwrap(), body(&message["body"]))))
        .collect()
}

/// Subscribes and takes `expected` messages, and what comes beyond them.
async fn take(
    address: &RouterAddress,
    queue: &RecipientQueue,
    expected: usize,
) -> Vec<Option<(bool, Vec<u8>)>> {
    let (client, mut events) = Connection::connect(address, ClientConfig::default()).await.unwrap();
    client.subscribe(queue).await.unwrap_or_else(|error| panic!("{:?}: {error}", queue.recipient_id));
    let mut taken = Vec::new();
    let mut acknowledged = None;
    loop {
        // The next message is the answer to ACK, or comes by itself.
        let message = if let Some(message) = acknowledged.take() {
            message
        } else {
            let patience = if taken.len() < expected { 20_000 } else { 200 };
            match tokio::time::timeout(Duration::from_millis(patience), events.recv()).await {
                Ok(Some(Event::Message(message))) => message,
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            }
        };
        let id = message.id;
        let received = message.open(queue).unwrap();
        assert_eq!(received.timestamp_secs, 1_795_384_926, "the time of the first router");
        let flag = received.flags().is_some_and(|flags| flags.notification);
        taken.push(received.body().map(|body| (flag, body.to_vec())));
        acknowledged = client.ack(queue, &id).await.unwrap();
    }
    client.close().await;
    taken
}

/// The recorded directories of the reference. Its ini has other ports, and messages that do not expire in this test.
fn recorded_site() -> Site {
    let [store, messages, notifications] =
        [STORE, MESSAGES, NOTIFICATIONS].map(|name| recorded(&format!("log/{name}")));
    let site = Site::with(&[(STORE, &store), (MESSAGES, &messages), (NOTIFICATIONS, &notifications)]);
    for name in ["ca.crt", "ca.key", "fingerprint", "server.crt", "server.key"] {
        site.home.write(name, &recorded(&format!("etc/{name}")));
    }
    let mut ini = recorded("etc/smp-server.ini");
    for (old, new) in [
        ("port = 25223", format!("port = {}", free_port())),
        ("control_port = 25224", format!("control_port = {}", free_port())),
        ("expire_messages_days = 21", "expire_messages_days = 3650".to_owned()),
        ("static_path = /var/opt/simplex/www", format!("static_path = {}", site.data("www").display())),
    ] {
        assert!(ini.contains(old), "{old}");
        ini = ini.replace(old, &new);
    }
    site.home.write("smp-server.ini", &format!("{ini}[RINGPOST]\nlisten = 127.0.0.1\n"));
    site
}

fn start(site: &Site, shards: &str) -> (Running, RouterAddress) {
    let running = Running::start(site.home.smp_server(["start", "--shards", shards]));
    let serving = running.lines.iter().find(|line| line.starts_with("Serving ")).unwrap();
    let host = serving.rsplit(' ').next().unwrap().trim();
    let address = format!("smp://{}@{host}", site.home.read("fingerprint").trim()).parse().unwrap();
    (running, address)
}

fn stop(running: Running) {
    running.signal(Signal::TERM);
    let (status, _, errors) = running.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
}

#[test]
fn users_take_their_messages_from_the_new_router() {
    let queues: Value = serde_json::from_str(&recorded("queues.json")).unwrap();
    let queues = queues["queues"].as_array().unwrap();
    assert_eq!(queues.len(), 8);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (shards, imports_by_itself) in [("1", true), ("3", false)] {
        let site = recorded_site();
        if !imports_by_itself {
            site.run(&["import"]);
        }
        let (running, address) = start(&site, shards);
        let imported =
            running.lines.iter().any(|line| line.starts_with("Taking over the queues and messages"));
        assert_eq!(imported, imports_by_itself, "{:?}", running.lines);
        runtime.block_on(async {
            for queue in queues {
                let recipient = recipient_queue(queue, "recipient_key");
                if queue["status"].as_str().is_some_and(|status| status.starts_with("blocked")) {
                    let (client, _events) =
                        Connection::connect(&address, ClientConfig::default()).await.unwrap();
                    let refused = client.subscribe(&recipient).await.unwrap_err().to_string();
                    assert!(refused.contains("BLOCKED reason=spam"), "{refused}");
                    client.close().await;
                    continue;
                }
                let expected = waiting(queue);
                let taken = take(&address, &recipient, expected.len()).await;
                assert!(taken == expected, "{}: {} of {}", queue["name"], taken.len(), expected.len());
            }
            // Any of a queue's recipients, and senders with and without a key.
            take(&address, &recipient_queue(&queues[5], "second_recipient_key"), 0).await;
            let (client, _events) = Connection::connect(&address, ClientConfig::default()).await.unwrap();
            let sender_id = |queue: &Value| EntityId::new(&bytes::<24>(&queue["sender_id"])).unwrap();
            let known = SenderQueue::new(sender_id(&queues[2]), key(&queues[2]["sender_key"]));
            client.send(&known, MsgFlags::default(), b"secured").await.unwrap();
            let unknown = SenderQueue::unsecured(sender_id(&queues[2]));
            client.send(&unknown, MsgFlags::default(), b"without the key").await.unwrap_err();
            let open = SenderQueue::unsecured(sender_id(&queues[1]));
            client.send(&open, MsgFlags::default(), b"contact").await.unwrap();
            let suspended = SenderQueue::new(sender_id(&queues[3]), key(&queues[3]["sender_key"]));
            client.send(&suspended, MsgFlags::default(), b"after OFF").await.unwrap_err();
            let blocked = SenderQueue::unsecured(sender_id(&queues[4]));
            client.send(&blocked, MsgFlags::default(), b"after the block").await.unwrap_err();
            let emptied = SenderQueue::unsecured(sender_id(&queues[7]));
            client.send(&emptied, MsgFlags::default(), b"after the quota").await.unwrap();
            client.close().await;
        });
        stop(running);
        // What was taken is not there any more, what was sent is; and the message in the blocked queue.
        let holdings = site.holdings();
        assert_eq!(holdings["messages"]["all"], 4);
        site.run(&["export"]);
        assert_eq!(site.lines(MESSAGES).len(), 4);
        assert!(fs::metadata(site.data(STORE)).unwrap().len() > 0);
    }
}
