//! Queues that become a service's, leave it, and are subscribed to all at once.

use std::collections::BTreeSet;

use ringpost_protocol::command::{Command, ServiceSubs, SubscribeMode};
use ringpost_protocol::crypto::AuthPrivateKey;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::SmpVersion;

use crate::common::service::subs_of;
use crate::common::{Client, Queue, Received, TestRouter, TestService};

const SERVICE: ErrorType = ErrorType::Service;
const ALLS: Response<'static> = Response::Alls;

fn ids(queues: &[Queue]) -> impl Iterator<Item = &[u8]> {
    queues.iter().map(|queue| &queue.recipient_id[..])
}

/// What comes until all that waited has been sent: one message of each queue, in any order.
#[track_caller]
fn messages_until_alls(client: &mut Client) -> Vec<Received> {
    let mut messages = Vec::new();
    loop {
        let received = client.receive();
        assert!(received.is_event(), "{received:?}");
        if received.response() == ALLS {
            assert!(received.entity_id.is_empty());
            return messages;
        }
        messages.push(received);
    }
}

#[test]
fn queues_made_in_a_session_are_subscribed_to_at_once_in_the_next() {
    for shards in [1, 2, 3] {
        for version in 16..=19 {
            let router = TestRouter::start(shards);
            let service = TestService::messaging(1);
            // Connections of several shards make queues, so that all shards have some.
            let mut queues: Vec<Queue> = Vec::new();
            for _ in 0..4 {
                let mut client = Client::service(&router, service, version);
                queues.extend((0..3).map(|_| client.service_queue()));
            }
            let mut sender = Client::connect(&router);
            for (n, queue) in queues.iter().enumerate().skip(4) {
                sender.send_message(queue, &[n.to_le_bytes()[0]; 50]).assert_ok();
            }
            let mut client = Client::service(&router, service, version);
            let has = subs_of(ids(&queues), client.version);
            client.subs(has).assert_soks(has);
            let mut bodies = BTreeSet::new();
            for _ in 4..queues.len() {
                let received = client.receive();
                let queue = queues.iter().find(|queue| queue.recipient_id == received.entity_id).unwrap();
                let message = queue.open(&received);
                assert!(bodies.insert(message.body()[0]), "twice");
                client.ack(queue, &message.id).assert_ok();
            }
            if client.version >= SmpVersion::SERVICE_SUBSCRIPTIONS {
                assert_eq!(client.receive().response(), ALLS);
            }
            // What comes later comes too, also from queues that were empty.
            for queue in [&queues[0], &queues[5]] {
                sender.send_message(queue, b"later").assert_ok();
                let message = client.message(queue);
                assert_eq!(message.body(), b"later");
                sender.send_message(queue, b"behind").assert_ok();
                let received = client.ack(queue, &message.id);
                let next = queue.open(&received);
                assert_eq!(next.body(), b"behind");
                client.ack(queue, &next.id).assert_ok();
            }
            // Again: it is told the same, and nothing is sent anew.
            client.subs(has).assert_soks(has);
            assert_eq!(client.receive_soon(), None);
            for (name, count) in [
                ("recipient_service_subs_right", 1),
                ("recipient_service_subs_repeated", 1),
                ("recipient_service_subs_more", 0),
                ("recipient_service_subs_fewer", 0),
                ("recipient_service_subs_other", 0),
                ("service_queues_sent", 8),
                ("service_queues_sent_before", 0),
            ] {
                assert_eq!(router.counter(name), count, "{name}");
            }
        }
    }
}

#[test]
fn a_queue_becomes_a_services_and_leaves_it_again() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let mut owner = Client::connect(&router);
        let queues: Vec<Queue> = (0..3).map(|_| Queue::subscribed(&mut owner)).collect();
        owner.send_message(&queues[1], b"waits").assert_ok();
        let waiting = owner.message(&queues[1]);

        let mut client = Client::service(&router, TestService::messaging(1), 19);
        client.subs(ServiceSubs::NONE).assert_soks(ServiceSubs::NONE);
        assert_eq!(client.receive().response(), ALLS);
        for queue in &queues[..2] {
            client.subscribe(queue);
            owner.receive().assert_event(&queue.recipient_id, &Response::End);
        }
        // What was delivered to the former subscriber is delivered to the service.
        assert_eq!(client.message(&queues[1]), waiting);
        owner.ack(&queues[1], &waiting.id).assert_error(&ErrorType::NoMsg);
        let has = subs_of(ids(&queues[..2]), client.version);
        client.subs(has).assert_soks(has);
        // A repeated SUB delivers again what is not acknowledged.
        client.subscribe(&queues[1]);
        assert_eq!(client.message(&queues[1]), waiting);
        client.ack(&queues[1], &waiting.id).assert_ok();

        // Without a service's signature, as by a client that does not use services any more, the queue leaves.
        owner.send_message(&queues[0], b"to the service").assert_ok();
        let message = client.message(&queues[0]);
        owner.subscribe(&queues[0]);
        client.receive().assert_event(&queues[0].recipient_id, &Response::End);
        assert_eq!(owner.message(&queues[0]), message);
        owner.ack(&queues[0], &message.id).assert_ok();
        client.ack(&queues[0], &message.id).assert_error(&ErrorType::NoMsg);
        let has = subs_of(ids(&queues[1..2]), client.version);
        client.subs(has).assert_soks(has);

        // Another service takes it over.
        let mut other = Client::service(&router, TestService::messaging(3), 19);
        other.subscribe(&queues[1]);
        client.receive().assert_event(&queues[1].recipient_id, &Response::End);
        client.subs(has).assert_soks(ServiceSubs::NONE);
        other.subs(has).assert_soks(has);
        assert_eq!(other.receive().response(), ALLS);
        owner.send_message(&queues[1], b"to the other").assert_ok();
        assert_eq!(other.message(&queues[1]).body(), b"to the other");

        // Who deletes it tells the service that has it.
        owner.recipient(&queues[1], &Command::Del).assert_ok();
        other.receive().assert_event(&queues[1].recipient_id, &Response::Deld);
        other.subs(has).assert_soks(ServiceSubs::NONE);
        let own = other.service_queue();
        other.recipient(&own, &Command::Del).assert_ok();
        other.subs(has).assert_soks(ServiceSubs::NONE);
        for client in [&mut owner, &mut client, &mut other] {
            assert_eq!(client.receive_soon(), None);
        }
    }
}

#[test]
fn a_command_needs_the_signatures_that_belong_to_it() {
    let router = TestRouter::start(2);
    let mut client = Client::service(&router, TestService::messaging(1), 19);
    let mut plain = Client::connect(&router);
    let queue = client.service_queue();
    let has = subs_of([&queue.recipient_id[..]], client.version);
    let ask = |client: &mut Client, key: &AuthPrivateKey, entity: &[u8], command: &[u8], by_service: bool| {
        let corr_id: [u8; 24] = client.random_bytes();
        let prepared = client.prepare_signed(Some(key), &corr_id, entity, command, by_service);
        client.send(std::slice::from_ref(&prepared));
        client.try_response(&corr_id).unwrap()
    };
    let key = queue.recipient_key.clone();
    let id = queue.recipient_id.clone();
    // Where the service must sign and does not, and where it must not and does.
    ask(&mut client, &key, &id, b"SUB", false).assert_error(&SERVICE);
    for command in [&b"GET"[..], b"DEL", b"OFF", b"QUE", b"NDEL"] {
        ask(&mut client, &key, &id, command, true).assert_error(&SERVICE);
    }
    // The queue's key must sign what the service adds: another's certificate cannot be put in its place.
    let service = client.service.clone().unwrap();
    client.service.as_mut().unwrap().fingerprint = [7; 32];
    ask(&mut client, &key, &id, b"SUB", true).assert_error(&ErrorType::Auth);
    client.service = Some(service.clone());
    // The service's key must be that of this session.
    client.service.as_mut().unwrap().key = AuthPrivateKey::ed25519(&[9; 32]);
    ask(&mut client, &key, &id, b"SUB", true).assert_error(&SERVICE);
    client.subs(has).assert_error(&SERVICE);
    client.service = Some(service.clone());
    let other_key = AuthPrivateKey::ed25519(&[8; 32]);
    ask(&mut client, &other_key, &id, b"SUB", true).assert_error(&ErrorType::Auth);
    ask(&mut client, &other_key, &[6; 24], b"SUB", true).assert_error(&ErrorType::Auth);
    // Outside of a service session nobody signs as one.
    plain.service = Some(service.clone());
    ask(&mut plain, &key, &id, b"SUB", true).assert_error(&SERVICE);
    plain.service = None;

    // SUBS is for the service itself, signed by its key alone.
    let mut subs = Vec::new();
    Command::Subs(has).encode(client.version, &mut subs);
    ask(&mut client, &service.key, &id, &subs, false).assert_error(&SERVICE);
    ask(&mut client, &key, &service.id, &subs, false).assert_error(&SERVICE);
    ask(&mut client, &service.key, &service.id, &subs, true).assert_error(&SERVICE);
    let syntax = ErrorType::Cmd(CommandError::Syntax);
    ask(&mut client, &service.key, &service.id, b"SUBS", false).assert_error(&syntax);
    ask(&mut client, &service.key, &service.id, &subs[..subs.len() - 1], false).assert_error(&syntax);
    let corr_id: [u8; 24] = client.random_bytes();
    let unsigned = client.prepare_signed(None, &corr_id, &service.id, &subs, false);
    client.send(std::slice::from_ref(&unsigned));
    let no_auth = ErrorType::Cmd(CommandError::NoAuth);
    client.try_response(&corr_id).unwrap().assert_error(&no_auth);

    // A service receives from its queues: it makes none that nobody subscribes to.
    let prohibited = ErrorType::Cmd(CommandError::Prohibited);
    let key = AuthPrivateKey::ed25519(&[1; 32]);
    let mode = ringpost_protocol::command::QueueMode::Messaging;
    let made = Queue::create_with(&mut client, SubscribeMode::OnlyCreate, key, mode);
    made.unwrap_err().assert_error(&prohibited);
    client.subs(has).assert_soks(has);
    // Version 18 has no parameters.
    let mut old = Client::service(&router, TestService::messaging(3), 18);
    let service = old.service.clone().unwrap();
    ask(&mut old, &service.key, &service.id, &subs, false).assert_error(&syntax);
    old.subs(ServiceSubs::UNKNOWN).assert_soks(ServiceSubs::NONE);
}

#[test]
fn more_waiting_messages_than_credit_come_before_the_end_is_told() {
    for shards in [1, 3] {
        let router = TestRouter::with(shards, |config| config.limits.outbox_blocks = 2 * shards);
        let service = TestService::messaging(1);
        let mut client = Client::service(&router, service, 19);
        let mut sender = Client::connect(&router);
        let queues: Vec<Queue> = (0..60).map(|_| client.service_queue()).collect();
        drop(client);
        for queue in &queues {
            sender.send_message(queue, &[1; 100]).assert_ok();
            sender.send_message(queue, &[2; 100]).assert_ok();
        }
        // Others of the same shards do not receive them.
        let mut other = Client::service(&router, TestService::messaging(3), 19);
        other.subs(ServiceSubs::NONE).assert_soks(ServiceSubs::NONE);
        assert_eq!(other.receive().response(), ALLS);

        let mut client = Client::service(&router, service, 19);
        let wrong = subs_of(ids(&queues[..59]), client.version);
        let has = subs_of(ids(&queues), client.version);
        client.subs(wrong).assert_soks(has);
        assert_eq!(router.counter("recipient_service_subs_more"), 1);
        assert_eq!(router.counter("recipient_service_subs_more_queues"), 1);
        let messages = messages_until_alls(&mut client);
        let of: BTreeSet<&[u8]> = messages.iter().map(|received| &received.entity_id[..]).collect();
        assert_eq!((messages.len(), of.len()), (60, 60), "the first of each queue, once");
        for received in &messages {
            let queue = queues.iter().find(|queue| queue.recipient_id == received.entity_id).unwrap();
            let first = queue.open(received);
            assert_eq!(first.body(), [1; 100]);
            let second = client.ack(queue, &first.id);
            // Without credit it follows as an event.
            let second =
                if second.response() == Response::Ok { client.message(queue) } else { queue.open(&second) };
            assert_eq!(second.body(), [2; 100]);
            client.ack(queue, &second.id).assert_ok();
        }
        assert_eq!(client.receive_soon(), None);
        assert_eq!(other.receive_soon(), None);
    }
}

#[test]
fn commands_in_one_block_are_executed_before_the_subscription_behind_them() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let mut owner = Client::connect(&router);
        let queues: Vec<Queue> = (0..50).map(|_| Queue::only_created(&mut owner)).collect();
        let mut client = Client::service(&router, TestService::messaging(1), 19);
        let has = subs_of(ids(&queues), client.version);
        let mut block: Vec<_> =
            queues.iter().map(|queue| client.prepare_recipient(queue, &Command::Sub)).collect();
        block.push(client.prepare_subs(&Command::Subs(has)));
        client.send(&block);
        for sub in &block[..queues.len()] {
            let received = client.try_response(&sub.corr_id).unwrap();
            let service_id = Some(client.service_id());
            assert_eq!(received.response(), Response::Sok { service_id });
        }
        client.try_response(&block[queues.len()].corr_id).unwrap().assert_soks(has);
        assert_eq!(client.receive().response(), ALLS);
    }
}
