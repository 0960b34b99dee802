//! Clients of every version, and what the router makes of each.

use ringpost_protocol::command::Command;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::SmpVersion;

use crate::common::{Client, Options, Queue, TestRouter};

fn all_versions() -> impl Iterator<Item = u16> {
    SmpVersion::V6.0..=SmpVersion::MAX.0
}

#[test]
fn clients_of_all_versions_exchange_messages() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let mut senders: Vec<Client> =
            all_versions().map(|version| Client::version(&router, version)).collect();
        for version in all_versions() {
            let mut recipient = Client::version(&router, version);
            let mut queue = Queue::subscribed(&mut recipient);
            for secured in [false, true] {
                if secured {
                    recipient.secure_by_recipient(&mut queue);
                }
                for sender in &mut senders {
                    // Authenticators exist from version 7 on: an older sender cannot use a queue secured with one.
                    if secured && version >= 7 && sender.version == SmpVersion::V6 {
                        continue;
                    }
                    let most = Command::send_body_bytes_max(sender.version);
                    let body = vec![u8::try_from(version).unwrap(); most];
                    sender.send_message(&queue, &body).assert_ok();
                    let message = recipient.message(&queue);
                    assert_eq!(message.body(), body);
                    recipient.ack(&queue, &message.id).assert_ok();
                }
            }
            recipient.ping();
            recipient.recipient(&queue, &Command::Que);
            recipient.recipient(&queue, &Command::Del).assert_ok();
        }
        senders.iter_mut().for_each(Client::ping);
    }
}

#[test]
fn only_clients_with_a_session_key_have_encrypted_blocks() {
    let router = TestRouter::start(2);
    for version in all_versions() {
        for session_key in [false, true] {
            let options = Options { session_key, ..Options::version(version) };
            let mut client = Client::open(&router, options).unwrap();
            assert_eq!(client.secret.is_some(), session_key && version >= 11, "version {version}");
            client.ping();
            let queue = Queue::subscribed(&mut client);
            client.send_message(&queue, b"hello").assert_ok();
            assert_eq!(client.message(&queue).body(), b"hello");
        }
    }
}

#[test]
fn clients_without_alpn_get_version_6_and_send_the_session_id() {
    let router = TestRouter::start(2);
    let options = Options { alpn: false, ..Options::default() };
    let mut client = Client::open(&router, options).unwrap();
    assert_eq!(client.version, SmpVersion::V6);
    let ping = client.prepare(None, &[], &Command::Ping);
    let session_id = client.session_id;
    assert_eq!(ping.bytes[1], 32);
    assert_eq!(&ping.bytes[2..34], session_id.as_ref());
    client.send(std::slice::from_ref(&ping));
    assert_eq!(client.receive().response(), Response::Pong);
    // With ALPN a client may still choose the oldest version.
    let mut client = Client::open(&router, Options { alpn: true, ..Options::version(6) }).unwrap();
    assert_eq!(client.version, SmpVersion::V6);
    client.ping();
}

/// A connection that was deleted from under its subscriber hears END where DELD does not exist, and OK instead of SOK.
#[test]
fn old_versions_get_old_words() {
    let router = TestRouter::start(2);
    let mut owner = Client::connect(&router);
    for version in all_versions() {
        let mut client = Client::version(&router, version);
        let queue = Queue::only_created(&mut owner);
        let sub = client.recipient(&queue, &Command::Sub);
        assert_eq!(sub.message.starts_with(b"SOK"), version >= 16, "{sub:?}");
        assert_eq!(sub.message == b"OK", version < 16, "{sub:?}");
        owner.recipient(&queue, &Command::Del).assert_ok();
        let event = client.receive();
        let expected: &[u8] = if version >= 10 { b"DELD" } else { b"END" };
        assert_eq!(event.message, expected, "version {version}");
        // No version has this.
        let corr_id: [u8; 24] = client.random_bytes();
        let unknown = client.prepare_bytes(None, &corr_id, &[], b"HELO");
        client.send(std::slice::from_ref(&unknown));
        client.receive().assert_error(&ErrorType::Cmd(CommandError::Unknown));
    }
}
