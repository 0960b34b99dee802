//! What is counted of services, in the reference's way.

use ringpost_protocol::command::{Command, ServiceSubs};
use ringpost_protocol::response::Response;
use ringpost_shard::service::SubscribedServices;

use crate::common::service::subs_of;
use crate::common::{Client, Queue, TestRouter, TestService};
use crate::notifiers::Notified;

const ALLS: Response<'static> = Response::Alls;

#[track_caller]
fn assert_counts(router: &TestRouter, party: &str, counts: &[(&str, u64)]) {
    for (name, count) in counts {
        assert_eq!(router.counter(&format!("{party}_service_{name}")), *count, "{name}");
    }
}

#[test]
fn queues_that_become_a_services_and_leave_it_are_counted() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let mut owner = Client::connect(&router);
        let queues: Vec<Queue> = (0..4).map(|_| Queue::only_created(&mut owner)).collect();
        owner.send_message(&queues[0], b"waits").assert_ok();
        let mut client = Client::service(&router, TestService::messaging(1), 19);
        let mut other = Client::service(&router, TestService::messaging(3), 19);
        let _notified = Client::service(&router, TestService::notifier(5), 19);
        assert_counts(&router, "recipient", &[("count", 2), ("queues", 0)]);
        assert_counts(&router, "notifier", &[("count", 1), ("queues", 0)]);

        // The first of a session is counted as its subscription, and as one of a queue with a message.
        for queue in &queues[..3] {
            client.subscribe(queue);
        }
        let waiting = client.message(&queues[0]);
        client.ack(&queues[0], &waiting.id).assert_ok();
        client.subscribe(&queues[1]);
        assert_counts(&router, "recipient", &[("queues", 3), ("queues_new", 3), ("queues_repeated", 1)]);
        assert_counts(&router, "recipient", &[("subscribes", 1), ("queues_subscribed", 3)]);
        assert_eq!(router.counter("subscribes_new"), 1);

        // Another service takes one, and a client without a service another.
        other.subscribe(&queues[1]);
        client.receive().assert_event(&queues[1].recipient_id, &Response::End);
        owner.subscribe(&queues[2]);
        client.receive().assert_event(&queues[2].recipient_id, &Response::End);
        assert_counts(&router, "recipient", &[("queues", 2), ("queues_moved", 1), ("queues_left", 1)]);
        assert_counts(&router, "recipient", &[("subscribes", 2), ("queues_subscribed", 4)]);

        // NEW makes a queue of the service, and is not counted among those that became one; a SUB after it is not the first.
        let mut second = Client::service(&router, TestService::messaging(1), 19);
        let own = second.service_queue();
        client.receive().assert_event(
            client.service_id().to_vec().as_slice(),
            &Response::Ends(subs_of([&queues[0].recipient_id[..]], client.version)),
        );
        second.subscribe(&own);
        assert_counts(&router, "recipient", &[("queues", 3), ("queues_new", 3), ("queues_repeated", 2)]);
        assert_counts(
            &router,
            "recipient",
            &[("subscribes", 2), ("queues_subscribed", 4), ("subs_ended", 1)],
        );
        // Who was told of the end begins anew with its next queue, for which it is the service's already.
        client.subscribe(&queues[0]);
        assert_counts(&router, "recipient", &[("subscribes", 3), ("queues_subscribed", 5)]);
        router.wait_for("recipient_service_subs_ended", 2);
        second.recipient(&own, &Command::Del).assert_ok();
        assert_counts(&router, "recipient", &[("queues", 2)]);
        let report = router.router().operator().subscriptions().unwrap();
        assert_eq!(report.recipient_services, SubscribedServices { services: 2, queues: 2 });
        // The owner has a queue, and two services.
        assert_eq!((report.subscribed_clients, report.notified_clients), (3, 0));
        assert_counts(&router, "notifier", &[("queues", 0), ("queues_new", 0), ("queues_subscribed", 0)]);
    }
}

#[test]
fn what_services_believe_to_have_is_compared() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let service = TestService::messaging(1);
        let mut maker = Client::service(&router, service, 19);
        let queues: Vec<Queue> = (0..5).map(|_| maker.service_queue()).collect();
        let subs = |range: std::ops::Range<usize>, version| {
            subs_of(queues[range].iter().map(|queue| &queue.recipient_id[..]), version)
        };
        let mut sessions = vec![maker];
        let mut ask = |version: u16, expected: &dyn Fn(ServiceSubs) -> ServiceSubs| {
            let mut client = Client::service(&router, service, version);
            let has = subs(0..5, client.version);
            client.subs(expected(has)).assert_soks(has);
            sessions.push(client);
        };
        ask(19, &|has| has);
        // It does not say it.
        ask(18, &|_| ServiceSubs::UNKNOWN);
        ask(19, &|has| ServiceSubs { count: has.count - 3, ..has });
        ask(19, &|has| ServiceSubs { count: has.count + 2, ..has });
        ask(19, &|has| ServiceSubs { ids_hash: [7; 16], ..has });
        assert_counts(
            &router,
            "recipient",
            &[
                ("subs_right", 2),
                ("subs_more", 1),
                ("subs_more_queues", 3),
                ("subs_fewer", 1),
                ("subs_fewer_queues", 2),
                ("subs_other", 1),
                ("subs_repeated", 0),
                ("subscribes", 0),
            ],
        );
        let last = sessions.last_mut().unwrap();
        assert_eq!(last.receive().response(), ALLS);
        last.subs(subs(0..5, last.version)).assert_soks(subs(0..5, last.version));
        // A queue that is subscribed after all of them is not the first of the session.
        last.subscribe(&queues[0]);
        assert_counts(
            &router,
            "recipient",
            &[("subscribes", 0), ("queues_subscribed", 0), ("queues_repeated", 1)],
        );
        // Every session but the last was told of the end.
        router.wait_for("recipient_service_subs_ended", 5);
        assert_counts(&router, "recipient", &[("subs_repeated", 1), ("subs_right", 2)]);
        assert_counts(&router, "notifier", &[("subs_right", 0), ("subs_repeated", 0), ("subs_ended", 0)]);
    }
}

#[test]
fn what_waits_is_counted_when_it_is_sent_after_subs() {
    let router = TestRouter::start(2);
    let service = TestService::messaging(1);
    let mut client = Client::service(&router, service, 19);
    let queues: Vec<Queue> = (0..6).map(|_| client.service_queue()).collect();
    let mut sender = Client::connect(&router);
    // Three come to the session before it subscribes to all.
    for queue in &queues[..3] {
        sender.send_message(queue, b"before").assert_ok();
        client.message(queue);
    }
    let has = subs_of(queues.iter().map(|queue| &queue.recipient_id[..]), client.version);
    client.subs(has).assert_soks(has);
    assert_eq!(client.receive().response(), ALLS);
    assert_eq!((router.counter("service_queues_sent"), router.counter("service_queues_sent_before")), (0, 3));
    sender.send_message(&queues[3], b"later").assert_ok();
    client.message(&queues[3]);
    let mut next = Client::service(&router, service, 19);
    next.subs(has).assert_soks(has);
    for _ in 0..4 {
        assert!(matches!(next.receive().response(), Response::Msg { .. }));
    }
    assert_eq!(next.receive().response(), ALLS);
    assert_eq!((router.counter("service_queues_sent"), router.counter("service_queues_sent_before")), (4, 3));
    // What was delivered to the first is not waited for any more.
    let report = router.router().operator().subscriptions().unwrap();
    assert_eq!((report.pending.total, report.pending.by_age[0], report.pending_clients), (4, 4, 1));
}

#[test]
fn notifiers_of_services_are_counted_apart() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let mut owner = Client::connect(&router);
        let notified: Vec<Notified> = (0..4).map(|_| Notified::new(&mut owner)).collect();
        let mut client = Client::service(&router, TestService::notifier(1), 19);
        let mut other = Client::service(&router, TestService::notifier(3), 19);
        let mut plain = Client::connect(&router);
        for each in &notified[..3] {
            each.subscribe(&mut client);
        }
        notified[0].subscribe(&mut client);
        notified[1].subscribe(&mut other);
        notified[2].subscribe(&mut plain);
        notified[2].subscribe(&mut plain);
        notified[3].subscribe(&mut plain);
        assert_counts(&router, "notifier", &[("count", 2), ("queues", 2)]);
        assert_counts(&router, "notifier", &[("queues_new", 3), ("queues_repeated", 1)]);
        assert_counts(&router, "notifier", &[("queues_moved", 1), ("queues_left", 1)]);
        assert_counts(&router, "notifier", &[("subscribes", 2), ("queues_subscribed", 4)]);
        // Those of clients without a service alone.
        assert_eq!(router.counter("notifier_subscribes_new"), 2);
        assert_eq!(router.counter("notifier_subscribes_repeated"), 1);
        let report = router.router().operator().subscriptions().unwrap();
        assert_eq!(report.notifier_services, SubscribedServices { services: 2, queues: 2 });
        assert_eq!((report.notified_clients, report.subscribed_clients), (3, 0));

        // A queue that goes, and a notifier that goes.
        owner.recipient(&notified[0].queue, &Command::Del).assert_ok();
        assert_counts(&router, "notifier", &[("queues", 1)]);
        owner.recipient(&notified[1].queue, &Command::NDel).assert_ok();
        assert_counts(&router, "notifier", &[("queues", 0), ("queues_left", 1)]);

        other.receive().assert_event(&notified[1].notifier_id, &Response::Deld);
        for _ in 0..2 {
            other.nsubs(ServiceSubs { count: 1, ids_hash: [1; 16] }).assert_soks(ServiceSubs::NONE);
        }
        assert_counts(&router, "notifier", &[("subs_fewer", 1), ("subs_fewer_queues", 1)]);
        assert_counts(&router, "notifier", &[("subs_repeated", 1), ("subs_right", 0)]);
        assert_counts(&router, "recipient", &[("subs_fewer", 0), ("queues_new", 0), ("count", 0)]);
    }
}

#[test]
fn deliveries_wait_for_their_acknowledgement() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let pending = |expected: (u64, u64)| {
            let report = || router.router().operator().subscriptions().unwrap();
            router.wait_until(&format!("{expected:?} deliveries and clients"), |_| {
                let report = report();
                assert_eq!(report.pending.by_age, [report.pending.total, 0, 0, 0, 0]);
                (report.pending.total, report.pending_clients) == expected
            });
        };
        let (mut first, mut sender) = (Client::connect(&router), Client::connect(&router));
        let queues: Vec<Queue> = (0..3).map(|_| Queue::subscribed(&mut first)).collect();
        let mut second = Client::connect(&router);
        let far = Queue::subscribed(&mut second);
        pending((0, 0));
        let mut messages = Vec::new();
        for queue in &queues {
            sender.send_message(queue, b"1").assert_ok();
            sender.send_message(queue, b"2").assert_ok();
            messages.push(first.message(queue));
        }
        sender.send_message(&far, b"1").assert_ok();
        let other = second.message(&far);
        pending((4, 2));
        // The answer to an acknowledgement is the next delivery.
        let next = queues[0].open(&first.ack(&queues[0], &messages[0].id));
        pending((4, 2));
        first.ack(&queues[0], &next.id).assert_ok();
        pending((3, 2));
        // Delivered again, it is pending once.
        first.subscribe(&queues[1]);
        first.message(&queues[1]);
        pending((3, 2));
        // Another client takes the queue, and with it the message.
        second.subscribe(&queues[1]);
        second.message(&queues[1]);
        first.receive().assert_event(&queues[1].recipient_id, &Response::End);
        pending((3, 2));
        second.ack(&far, &other.id).assert_ok();
        second.recipient(&queues[1], &Command::Del).assert_ok();
        pending((1, 1));
        // GET counts too.
        sender.send_message(&far, b"2").assert_ok();
        second.message(&far);
        drop(second);
        pending((1, 1));
        let mut getter = Client::connect(&router);
        let got = getter.recipient(&far, &Command::Get);
        assert!(matches!(got.response(), Response::Msg { .. }));
        getter.recipient(&far, &Command::Get);
        pending((2, 2));
        getter.ack(&far, &far.open(&got).id).assert_ok();
        pending((1, 1));
        sender.send_message(&far, b"3").assert_ok();
        getter.recipient(&far, &Command::Get);
        pending((2, 2));
        drop(getter);
        drop(first);
        pending((0, 0));
    }
}
