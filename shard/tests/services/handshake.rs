//! The certificate in TLS and in the hello, and the answer.

use ringpost_protocol::command::{Command, ServiceSubs};
use ringpost_protocol::error::{CommandError, ErrorType, HandshakeError, TransportError};
use ringpost_protocol::handshake::{HandshakeFailure, ServiceRole};
use ringpost_protocol::tls::config::service_client_config;
use ringpost_protocol::version::SmpVersion;

use crate::common::web::with_web_entries;
use crate::common::{Client, Ended, Options, Queue, TestRouter, TestService, TlsStream, Web};

fn refused(error: HandshakeError) -> Ended {
    Ended::Refused(HandshakeFailure::Refused(TransportError::Handshake(error)))
}

#[track_caller]
fn assert_refused(router: &TestRouter, service: TestService, error: HandshakeError) {
    assert_eq!(Client::try_service(router, service, 19).err(), Some(refused(error)));
}

#[test]
fn a_service_keeps_its_id_in_every_role_and_version() {
    for shards in [1, 3] {
        let router = TestRouter::start(shards);
        let mut ids = Vec::new();
        for (seed, role) in [(1, ServiceRole::Messaging), (3, ServiceRole::Notifier), (5, ServiceRole::Proxy)]
        {
            for (is_single, seed) in [(false, seed), (true, seed + 50)] {
                let service = TestService { is_single, ..TestService::new(role, seed) };
                let first = Client::service(&router, service, 19).service_id().to_vec();
                assert_eq!(first.len(), 24);
                for version in 16..=19 {
                    let mut again = Client::service(&router, service, version);
                    assert_eq!(again.service_id(), first, "version {version}");
                    again.ping();
                }
                ids.push(first);
            }
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 6, "each has its own");
        assert_eq!(router.counter("services"), 6);
        // Before version 16 there are none: who has a certificate is a client like others.
        let mut old = Client::service(&router, TestService::messaging(1), 15);
        assert!(old.service.is_none());
        Queue::subscribed(&mut old);
    }
}

#[test]
fn a_service_is_told_why_it_is_refused() {
    let router = TestRouter::with(1, |config| config.limits.services = 2);
    let before = router.counters();
    let service = TestService::messaging(1);
    Client::service(&router, service, 19);
    // Whoever has read the certificates in a hello does not have the key.
    let unproven = TestService { hides_in_tls: true, ..service };
    assert_refused(&router, unproven, HandshakeError::BadAuth);
    // Its role is that of its first session.
    assert_refused(&router, TestService::notifier(1), HandshakeError::BadService);
    Client::service(&router, TestService::notifier(3), 19);
    assert_refused(&router, TestService::messaging(5), HandshakeError::BadService);
    // Those that are there are served.
    Client::service(&router, service, 18);
    router.wait_for("handshakes_failed_service", 3);
    assert_eq!(router.counter("services_refused"), 2);
    assert_eq!(router.counter("services"), 2);
    router.wait_until("all clients gone", |counters| counters["connections"] == 0);
    let failures = [("handshakes_failed_service", 3), ("closed_by_peer", 3)];
    router.expect(&before, &failures);
}

#[test]
fn a_chain_that_does_not_hold_together_ends_tls() {
    let router = TestRouter::start(1);
    let identity = router.credentials.ca_fingerprint;
    let (own, other) = (TestService::messaging(1).credentials(), TestService::messaging(3).credentials());
    // The other's identity behind our own leaf: that leaf is not signed by it.
    let mut forged = own.clone();
    forged.chain[1] = other.chain[1].clone();
    let mut too_long = own.clone();
    too_long.chain = vec![own.chain[1].clone(); 5];
    // Its certificates with a key that is another's.
    let mut stolen = own.clone();
    stolen.key = other.key.clone();
    for service in [forged, too_long, stolen] {
        let config = service_client_config(identity, &service).unwrap();
        // A client of TLS 1.3 is done before its certificate is looked at.
        let ended = TlsStream::connect(router.address, config, None).and_then(|mut stream| stream.read());
        assert!(matches!(ended, Err(Ended::Tls(_))), "{ended:?}");
    }
    router.wait_for("handshakes_failed_tls", 3);
    Client::service(&router, TestService::messaging(1), 19).ping();
}

#[test]
fn browsers_are_not_asked_for_certificates_and_cannot_be_services() {
    let router = TestRouter::with(1, with_web_entries);
    let options = Options {
        web: Some(Web::browser(&router)),
        service: Some(TestService::messaging(1)),
        ..Options::default()
    };
    assert_eq!(Client::open(&router, options).err(), Some(refused(HandshakeError::BadAuth)));
}

#[test]
fn a_service_may_do_what_its_role_says() {
    let router = TestRouter::start(2);
    let prohibited = ErrorType::Cmd(CommandError::Prohibited);
    let mut plain = Client::connect(&router);
    let queue = Queue::subscribed(&mut plain);
    for version in 16..=19 {
        let subs = ServiceSubs { count: 0, ids_hash: [0; 16] };
        let mut notifier = Client::service(&router, TestService::notifier(1), version);
        let mut proxy = Client::service(&router, TestService::new(ServiceRole::Proxy, 3), version);
        let mut messaging = Client::service(&router, TestService::messaging(5), version);
        for client in [&mut notifier, &mut proxy] {
            let send = client.prepare_message(&queue, b"not by this role");
            client.send(std::slice::from_ref(&send));
            client.try_response(&send.corr_id).unwrap().assert_error(&prohibited);
            client.recipient(&queue, &Command::Sub).assert_error(&prohibited);
            client.recipient(&queue, &Command::Del).assert_error(&prohibited);
            client.subs(subs).assert_error(&prohibited);
            client.ping();
        }
        for client in [&mut proxy, &mut messaging] {
            client.nsubs(subs).assert_error(&prohibited);
            client.request(Some(&queue.recipient_key), &[7; 24], &Command::NSub).assert_error(&prohibited);
        }
        messaging.send_message(&queue, b"by this one").assert_ok();
        let message = plain.message(&queue);
        plain.ack(&queue, &message.id).assert_ok();
        assert_eq!(messaging.version, SmpVersion(version));
    }
    // Outside of services there are no roles, and nothing to subscribe at once.
    let command = Command::Subs(ServiceSubs::UNKNOWN);
    plain.request(Some(&queue.recipient_key), &[7; 24], &command).assert_error(&ErrorType::Service);
}
