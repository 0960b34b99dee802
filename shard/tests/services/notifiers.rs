//! Services that are notified.

use ringpost_protocol::command::{Command, MsgFlags, NotifierCredentials, ServiceSubs};
use ringpost_protocol::crypto::delivery::decrypt_notification_meta;
use ringpost_protocol::crypto::{AuthPrivateKey, BoxKey, DhPrivateKey};
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::response::Response;
use ringpost_protocol::version::SmpVersion;

use crate::common::service::subs_of;
use crate::common::{Client, Queue, Received, TestRouter, TestService};

pub struct Notified {
    pub queue: Queue,
    pub notifier_id: Vec<u8>,
    key: AuthPrivateKey,
    meta_key: BoxKey,
}

/// Gives a queue a notifier, or another one.
fn add_notifier(owner: &mut Client, queue: Queue) -> Notified {
    let key = AuthPrivateKey::x25519(owner.random_bytes());
    let dh = DhPrivateKey::from_bytes(owner.random_bytes());
    let credentials = NotifierCredentials { notifier_key: key.public(), recipient_dh_key: dh.public() };
    let received = owner.recipient(&queue, &Command::NKey(credentials));
    let Response::Nid { notifier_id, router_dh_key } = received.response() else { panic!("{received:?}") };
    let meta_key = dh.agree(&router_dh_key).box_key();
    Notified { queue, notifier_id: notifier_id.to_vec(), key, meta_key }
}

impl Notified {
    pub fn new(owner: &mut Client) -> Self {
        let queue = Queue::only_created(owner);
        add_notifier(owner, queue)
    }

    #[track_caller]
    fn send(&self, sender: &mut Client) {
        let command = Command::Send { flags: MsgFlags { notification: true }, body: b"notify" };
        sender.request(None, &self.queue.sender_id, &command).assert_ok();
    }

    #[track_caller]
    pub fn subscribe(&self, client: &mut Client) {
        let received = client.request(Some(&self.key), &self.notifier_id, &Command::NSub);
        let service_id = client.service.as_ref().map(|service| &service.id[..]);
        assert_eq!(received.response(), Response::Sok { service_id });
    }

    #[track_caller]
    fn assert_notification(&self, received: &Received) {
        assert!(received.is_event(), "{received:?}");
        assert_eq!(received.entity_id, self.notifier_id, "{received:?}");
        let Response::Nmsg { nonce, meta } = received.response() else { panic!("{received:?}") };
        assert_eq!(decrypt_notification_meta(&self.meta_key, nonce, meta).unwrap().msg_id.len(), 24);
    }
}

fn ids(notified: &[Notified]) -> impl Iterator<Item = &[u8]> {
    notified.iter().map(|notified| &notified.notifier_id[..])
}

#[test]
fn a_service_is_notified_of_all_its_queues_also_of_what_came_while_it_was_away() {
    for shards in [1, 2, 3] {
        for version in 16..=19 {
            let router = TestRouter::start(shards);
            let service = TestService::notifier(1);
            let mut owners: Vec<Client> = (0..3).map(|_| Client::connect(&router)).collect();
            let notified: Vec<Notified> = (0..9).map(|n| Notified::new(&mut owners[n % 3])).collect();
            let mut client = Client::service(&router, service, version);
            notified[0].send(&mut owners[0]);
            for each in &notified {
                each.subscribe(&mut client);
            }
            // What was kept for the notifier before.
            notified[0].assert_notification(&client.receive());
            notified[1].send(&mut owners[0]);
            notified[1].assert_notification(&client.receive());
            let has = subs_of(ids(&notified), SmpVersion(version));
            client.nsubs(has).assert_soks(has);
            drop(client);
            router.wait_for("connections", 3);

            for each in &notified[2..6] {
                each.send(&mut owners[0]);
                each.send(&mut owners[1]);
            }
            let mut client = Client::service(&router, service, version);
            assert_eq!(client.receive_soon(), None);
            client.nsubs(has).assert_soks(has);
            let mut came = [0; 9];
            for _ in 0..8 {
                let received = client.receive();
                let of = notified.iter().position(|each| each.notifier_id == received.entity_id).unwrap();
                notified[of].assert_notification(&received);
                came[of] += 1;
            }
            assert_eq!(came, [0, 0, 2, 2, 2, 2, 0, 0, 0]);
            notified[7].send(&mut owners[0]);
            notified[7].assert_notification(&client.receive());
            // Nothing more, and no ALLS.
            client.nsubs(has).assert_soks(has);
            assert_eq!(client.receive_soon(), None);
            // Taken once, they are not kept.
            let mut again = Client::service(&router, service, version);
            again.nsubs(has).assert_soks(has);
            let id = client.service_id().to_vec();
            client.receive().assert_event(&id, &Response::Ends(has));
            assert_eq!(again.receive_soon(), None);
        }
    }
}

#[test]
fn a_notifier_becomes_a_services_leaves_it_and_ends() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let mut owner = Client::connect(&router);
        let mut plain = Client::connect(&router);
        let notified = [Notified::new(&mut owner), Notified::new(&mut owner)];
        let has = subs_of(ids(&notified[..1]), SmpVersion(19));
        notified[0].subscribe(&mut plain);
        let mut client = Client::service(&router, TestService::notifier(1), 19);
        notified[0].subscribe(&mut client);
        plain.receive().assert_event(&notified[0].notifier_id, &Response::End);
        notified[0].send(&mut owner);
        notified[0].assert_notification(&client.receive());
        client.nsubs(has).assert_soks(has);

        notified[0].subscribe(&mut plain);
        client.receive().assert_event(&notified[0].notifier_id, &Response::End);
        client.nsubs(has).assert_soks(ServiceSubs::NONE);
        notified[0].send(&mut owner);
        notified[0].assert_notification(&plain.receive());

        let mut other = Client::service(&router, TestService::notifier(3), 19);
        notified[0].subscribe(&mut client);
        plain.receive().assert_event(&notified[0].notifier_id, &Response::End);
        notified[0].subscribe(&mut other);
        client.receive().assert_event(&notified[0].notifier_id, &Response::End);
        notified[1].subscribe(&mut other);
        let both = subs_of(ids(&notified), SmpVersion(19));
        other.nsubs(both).assert_soks(both);
        client.nsubs(has).assert_soks(ServiceSubs::NONE);
        // A wrong key changes nothing, whoever asks.
        let wrong = AuthPrivateKey::x25519([1; 32]);
        client.request(Some(&wrong), &notified[0].notifier_id, &Command::NSub).assert_error(&ErrorType::Auth);
        other.nsubs(both).assert_soks(both);

        let [first, second] = notified;
        owner.recipient(&first.queue, &Command::NDel).assert_ok();
        other.receive().assert_event(&first.notifier_id, &Response::Deld);
        let second_id = second.notifier_id.clone();
        let second = add_notifier(&mut owner, second.queue);
        other.receive().assert_event(&second_id, &Response::Deld);
        other.nsubs(both).assert_soks(ServiceSubs::NONE);
        second.subscribe(&mut other);
        owner.recipient(&second.queue, &Command::Del).assert_ok();
        other.receive().assert_event(&second.notifier_id, &Response::Deld);
        other.nsubs(both).assert_soks(ServiceSubs::NONE);
        for client in [&mut owner, &mut plain, &mut client, &mut other] {
            assert_eq!(client.receive_soon(), None);
        }
    }
}

#[test]
fn kept_notifications_wait_for_room_and_all_come() {
    for shards in [1, 3] {
        let router = TestRouter::with(shards, |config| config.limits.outbox_bytes = 4 << 10);
        let service = TestService::notifier(1);
        let mut owners: Vec<Client> = (0..3).map(|_| Client::connect(&router)).collect();
        let notified: Vec<Notified> = (0..60).map(|n| Notified::new(&mut owners[n % 3])).collect();
        let mut client = Client::service(&router, service, 19);
        for each in &notified {
            each.subscribe(&mut client);
        }
        drop(client);
        router.wait_for("connections", 3);
        for each in &notified {
            for _ in 0..10 {
                each.send(&mut owners[0]);
            }
        }
        let mut client = Client::service(&router, service, 19);
        let has = subs_of(ids(&notified), SmpVersion(19));
        client.nsubs(has).assert_soks(has);
        for _ in 0..600 {
            let received = client.receive();
            assert!(matches!(received.response(), Response::Nmsg { .. }), "{received:?}");
        }
        assert_eq!(client.receive_soon(), None);
    }
}
