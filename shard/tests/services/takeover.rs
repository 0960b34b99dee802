//! Several sessions of one service: the last that subscribes receives.

use ringpost_protocol::command::ServiceSubs;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::response::Response;

use crate::common::service::subs_of;
use crate::common::{Client, Queue, TestRouter, TestService};

const ALLS: Response<'static> = Response::Alls;

#[test]
fn the_last_session_to_subscribe_receives_and_the_former_is_told() {
    for shards in [1, 2, 3] {
        for version in [18, 19] {
            let router = TestRouter::start(shards);
            let service = TestService::messaging(1);
            let mut sessions: Vec<Client> =
                (0..3).map(|_| Client::service(&router, service, version)).collect();
            let queues: Vec<Queue> = (0..6).map(|n| {
                let queue = sessions[n % 3].service_queue();
                // Making a queue takes the subscription over.
                if n > 0 {
                    let former = &mut sessions[(n - 1) % 3];
                    let subs = former.receive();
                    assert!(matches!(subs.response(), Response::Ends(ServiceSubs { count, .. }) if count == i64::try_from(n).unwrap()), "{subs:?}");
                    assert_eq!(subs.entity_id, former.service_id());
                }
                queue
            }).collect();
            let mut sender = Client::connect(&router);
            let ids: Vec<&[u8]> = queues.iter().map(|queue| &queue.recipient_id[..]).collect();
            let has = subs_of(ids, sessions[0].version);
            let ends = Response::Ends(has);
            // The third holds it from making the last queue.
            let mut holder = 2;
            for round in 0..7 {
                let next = (holder + 1 + round % 2) % 3;
                let id = sessions[next].service_id().to_vec();
                sessions[next].subs(has).assert_soks(has);
                sessions[holder].receive().assert_event(&id, &ends);
                if version == 19 {
                    assert_eq!(sessions[next].receive().response(), ALLS);
                }
                let queue = &queues[round % queues.len()];
                sender.send_message(queue, b"to the last").assert_ok();
                let message = sessions[next].message(queue);
                sessions[holder].ack(queue, &message.id).assert_error(&ErrorType::NoMsg);
                if round % 3 == 0 {
                    // Not acknowledged: whoever comes next gets it again.
                    let after = (next + 1) % 3;
                    sessions[after].subs(has).assert_soks(has);
                    assert_eq!(sessions[after].message(queue), message);
                    if version == 19 {
                        assert_eq!(sessions[after].receive().response(), ALLS);
                    }
                    sessions[next].receive().assert_event(&id, &ends);
                    sessions[next].ack(queue, &message.id).assert_error(&ErrorType::NoMsg);
                    sessions[after].ack(queue, &message.id).assert_ok();
                    holder = after;
                } else {
                    sessions[next].ack(queue, &message.id).assert_ok();
                    holder = next;
                }
            }
            for session in &mut sessions {
                assert_eq!(session.receive_soon(), None);
            }
        }
    }
}

#[test]
fn messages_wait_while_a_service_is_away() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let service = TestService::messaging(1);
        let mut sender = Client::connect(&router);
        let mut client = Client::service(&router, service, 19);
        let queue = client.service_queue();
        let has = subs_of([&queue.recipient_id[..]], client.version);
        for n in 0..5 {
            drop(client);
            router.wait_for("connections", 1);
            sender.send_message(&queue, &[n; 10]).assert_ok();
            client = Client::service(&router, service, 19);
            // Subscribed or not, it is not delivered before SUBS or SUB.
            assert_eq!(client.receive_soon(), None);
            if n % 2 == 0 {
                client.subs(has).assert_soks(has);
            } else {
                client.subscribe(&queue);
            }
            let message = client.message(&queue);
            assert_eq!(message.body(), [n; 10]);
            if n % 2 == 0 {
                assert_eq!(client.receive().response(), ALLS);
            }
            client.ack(&queue, &message.id).assert_ok();
        }
    }
}

#[test]
fn sessions_that_come_and_go_at_once_leave_one_that_receives() {
    for shards in [2, 3] {
        let router = TestRouter::start(shards);
        let service = TestService::messaging(1);
        let mut first = Client::service(&router, service, 19);
        let queues: Vec<Queue> = (0..20).map(|_| first.service_queue()).collect();
        let ids: Vec<&[u8]> = queues.iter().map(|queue| &queue.recipient_id[..]).collect();
        let has = subs_of(ids, first.version);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let router = &router;
                scope.spawn(move || {
                    for round in 0..15 {
                        let mut client = Client::service(router, service, 19);
                        let subs = client.prepare_subs(&ringpost_protocol::command::Command::Subs(has));
                        client.send(std::slice::from_ref(&subs));
                        if (thread + round) % 3 != 0 {
                            client.try_response(&subs.corr_id).unwrap().assert_soks(has);
                        }
                    }
                });
            }
        });
        router.wait_for("connections", 1);
        let mut sender = Client::connect(&router);
        let mut last = Client::service(&router, service, 19);
        last.subs(has).assert_soks(has);
        assert_eq!(last.receive().response(), ALLS);
        for queue in &queues {
            sender.send_message(queue, b"once").assert_ok();
            let message = last.message(queue);
            last.ack(queue, &message.id).assert_ok();
        }
        // Whatever the first was told, it does not receive any more.
        while let Some(received) = first.receive_soon() {
            assert_eq!(received.response(), Response::Ends(has));
        }
        for name in ["subs_more", "subs_fewer", "subs_other"] {
            assert_eq!(router.counter(&format!("recipient_service_{name}")), 0, "{name}");
        }
    }
}
