//! Relays that are not there, not who they should be, or gone; and what others notice of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ringpost_protocol::address::{Hosts, Router};
use ringpost_protocol::command::{Command, MsgFlags};
use ringpost_protocol::error::{BrokerError, ErrorType, NetworkError};
use ringpost_protocol::response::Response;
use ringpost_shard::proxy::{SocksAuth, SocksMode, SocksProxy};

use crate::client::{address, address_of, broker, no_session, relay};
use crate::common::{Client, DEADLINE, Queue, TestRouter, new_credentials};
use crate::relays::{FakeRelay, fake_session};

fn network() -> ErrorType {
    broker(BrokerError::Network(NetworkError::Failed))
}

fn timeout() -> ErrorType {
    broker(BrokerError::Timeout)
}

fn send(body: &[u8]) -> Command<'_> {
    Command::Send { flags: MsgFlags::default(), body }
}

/// A port where nobody listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The kernel takes the rings of a router down, and with them its sockets, a moment after its end.
fn wait_until_free(port: u16) {
    let end = Instant::now() + DEADLINE;
    while TcpListener::bind(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "the port stays in use");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_relay_that_is_down_is_tried_again_after_a_while() {
    let proxy = TestRouter::with(2, |config| config.proxy.retry_secs = 2);
    let port = free_port();
    let credentials = new_credentials(2);
    let down = address_of(port, &credentials.ca_fingerprint);
    let mut clients = [Client::connect(&proxy), Client::connect(&proxy)];
    let begun = Instant::now();
    for client in &mut clients {
        client.ask_for_session(&down, None).assert_error(&network());
    }
    if begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(proxy.counter("relays_dialed"), 1, "the second client gets the first one's error");
    }
    let relay = TestRouter::with(1, |config| {
        config.listen = vec![SocketAddr::from(([127, 0, 0, 1], port)).into()];
        config.credentials = credentials;
    });
    let end = Instant::now() + DEADLINE;
    loop {
        let received = clients[0].ask_for_session(&address(&relay), None);
        if matches!(received.response(), Response::Pkey { .. }) {
            break;
        }
        received.assert_error(&network());
        assert!(Instant::now() < end, "the relay was not tried again");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(proxy.counter("relays_dialed"), 2);
    assert!(proxy.counter("relay_errors_connect") >= 2);
}

#[test]
fn a_relay_with_another_identity_is_refused() {
    let (proxy, relay) = (TestRouter::start(1), relay(1));
    let mut client = Client::connect(&proxy);
    for hash in [&[1; 32][..], &[1; 20]] {
        let other = address_of(relay.address.port(), hash);
        client.ask_for_session(&other, None).assert_error(&network());
    }
    // The same router under its own identity is another relay.
    client.relay_session(&relay);
    assert_eq!(proxy.counter("relays"), 1);
}

#[test]
fn hosts_that_cannot_be_reached_have_their_errors() {
    let proxy = TestRouter::start(1);
    let mut client = Client::connect(&proxy);
    let at = |hosts: &[&str]| Router {
        hosts: Hosts::new(hosts.iter().map(|host| host.parse().unwrap()).collect()).unwrap(),
        ..address_of(1, &[1; 32])
    };
    let onion = "bylepyau3ty4czmn77q4fglvperknl4bi2eb2fdy2bh4jxtf32kf73yd.onion";
    client.ask_for_session(&at(&["unknown.invalid"]), None).assert_error(&network());
    client.ask_for_session(&at(&[onion]), None).assert_error(&network());
    let strict = TestRouter::with(1, |config| config.proxy.required_host_mode = true);
    let mut client = Client::connect(&strict);
    client.ask_for_session(&at(&[onion]), None).assert_error(&broker(BrokerError::Host));
    assert_eq!(strict.counter("relay_errors_other"), 1);
}

#[test]
fn a_relay_that_says_nothing_holds_up_nobody() {
    let proxy = TestRouter::with(2, |config| config.proxy.connect_secs = 2);
    let relay = relay(1);
    let mut recipient = Client::connect(&relay);
    let queue = Queue::subscribed(&mut recipient);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = address_of(silent.local_addr().unwrap().port(), &[5; 32]);
    let mut hanging: Vec<_> = (0..4).map(|_| Client::connect(&proxy)).collect();
    let begun = Instant::now();
    let asked: Vec<_> = hanging
        .iter_mut()
        .map(|client| {
            let prepared = client.prepare_session(&silent_address, None);
            client.send(std::slice::from_ref(&prepared));
            prepared
        })
        .collect();
    // Neither other clients nor these are held up.
    let mut other = Client::connect(&proxy);
    for client in hanging.iter_mut().chain([&mut other]) {
        let session = client.relay_session(&relay);
        client.forward(&session, 17, None, &queue.sender_id, &send(b"on")).unwrap().assert_ok();
        let message = recipient.message(&queue);
        recipient.ack(&queue, &message.id).assert_ok();
        client.ping();
    }
    for (client, asked) in hanging.iter_mut().zip(asked) {
        client.try_response(&asked.corr_id).unwrap().assert_error(&network());
    }
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(proxy.counter("relays_dialed"), 2);
}

#[test]
fn commands_without_an_answer_are_told_timeout_and_hold_up_nobody() {
    let proxy = TestRouter::with(2, |config| config.proxy.response_secs = 2);
    let relay = relay(1);
    let mut recipient = Client::connect(&relay);
    let queue = Queue::subscribed(&mut recipient);
    let slow = FakeRelay::start((6, 19), |mut session| {
        let first = session.read_command().unwrap();
        while let Some((corr_id, command)) = session.read_command() {
            // What comes too late is dropped.
            session.answer_forwarded(&first.0, &first.1, b"OK");
            session.answer_forwarded(&corr_id, &command, b"OK");
        }
    });
    let mut client = Client::connect(&proxy);
    let slow_session = fake_session(&mut client, &slow).unwrap();
    let late = client.prepare_forward(&slow_session, 17, None, &[1; 24], &send(b"?"));
    client.send(std::slice::from_ref(&late.prepared));
    let session = client.relay_session(&relay);
    for _ in 0..5 {
        client.forward(&session, 17, None, &queue.sender_id, &send(b"on")).unwrap().assert_ok();
    }
    client.try_response(&late.prepared.corr_id).unwrap().assert_error(&timeout());
    // The session goes on.
    client.forward(&slow_session, 17, None, &[1; 24], &send(b"?")).unwrap().assert_ok();
    assert_eq!(client.receive_soon(), None);
    assert_eq!(proxy.counter("forward_errors_other"), 1);
}

#[test]
fn a_relay_that_goes_away_ends_its_session() {
    let proxy = TestRouter::start(2);
    let mut client = Client::connect(&proxy);
    let relay = FakeRelay::start((6, 19), |mut session| {
        // Two commands come, and are not answered.
        session.read_command().unwrap();
        session.read_command().unwrap();
    });
    let session = fake_session(&mut client, &relay).unwrap();
    let sent: Vec<_> =
        (0..2).map(|_| client.prepare_forward(&session, 17, None, &[1; 24], &send(b"?"))).collect();
    for command in &sent {
        client.send(std::slice::from_ref(&command.prepared));
    }
    for command in &sent {
        client.try_response(&command.prepared.corr_id).unwrap().assert_error(&timeout());
    }
    relay.join();
    assert_eq!(client.forward(&session, 17, None, &[1; 24], &send(b"?")).err(), Some(no_session()));
    proxy.wait_for("relays", 0);
}

#[test]
fn a_relay_that_was_restarted_is_connected_to_again() {
    let proxy = TestRouter::start(1);
    let mut client = Client::connect(&proxy);
    let first = relay(1);
    let port = first.address.port();
    let old = client.relay_session(&first);
    drop(first);
    proxy.wait_for("relays_ended", 1);
    wait_until_free(port);
    let again = TestRouter::with(1, |config| {
        config.listen = vec![SocketAddr::from(([127, 0, 0, 1], port)).into()];
        config.credentials = new_credentials(2);
    });
    assert_eq!(client.forward(&old, 17, None, &[1; 24], &send(b"?")).err(), Some(no_session()));
    let new = client.relay_session(&again);
    assert_ne!(new.id, old.id);
    let mut recipient = Client::connect(&again);
    let queue = Queue::subscribed(&mut recipient);
    client.forward(&new, 17, None, &queue.sender_id, &send(b"back")).unwrap().assert_ok();
    assert_eq!(recipient.message(&queue).body(), b"back");
}

#[test]
fn a_stop_answers_what_is_with_relays() {
    let proxy = TestRouter::start(2);
    let mut client = Client::connect(&proxy);
    let relay = FakeRelay::start((6, 19), |mut session| {
        session.read_command().unwrap();
        assert_eq!(session.read_block(), None);
    });
    let session = fake_session(&mut client, &relay).unwrap();
    let sent = client.prepare_forward(&session, 17, None, &[1; 24], &send(b"?"));
    client.send(std::slice::from_ref(&sent.prepared));
    client.ping();
    proxy.request_stop(ringpost_shard::StopMode::Graceful);
    client.try_response(&sent.prepared.corr_id).unwrap().assert_error(&timeout());
    proxy.join();
    relay.join();
}

/// A SOCKS5 proxy for one connection, that checks the login and says what it was asked for.
fn socks_proxy(relay_port: u16, login: &'static [u8]) -> (SocksProxy, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut read = |count: usize| {
            let mut bytes = vec![0; count];
            client.read_exact(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read(3), [5, 1, 2]);
        client.write_all(&[5, 2]).unwrap();
        let mut bytes = vec![0; login.len()];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, login);
        client.write_all(&[1, 0]).unwrap();
        let mut head = [0; 5];
        client.read_exact(&mut head).unwrap();
        let mut rest = vec![0; usize::from(head[4]) + 2];
        client.read_exact(&mut rest).unwrap();
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        let relay = TcpStream::connect(("127.0.0.1", relay_port)).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), relay.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut from, mut to) = (relay, client);
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        rest
    });
    (SocksProxy { address, auth: SocksAuth::None }, thread)
}

#[test]
fn an_onion_host_is_reached_through_a_socks_proxy() {
    let relay = relay(1);
    let (mut socks, thread) = socks_proxy(relay.address.port(), b"\x01\x04user\x04pass");
    socks.auth = SocksAuth::User { name: "user".to_owned(), password: "pass".to_owned() };
    let proxy = TestRouter::with(1, |config| {
        config.proxy.socks = Some(socks);
        config.proxy.socks_mode = SocksMode::Onion;
    });
    let onion = "bylepyau3ty4czmn77q4fglvperknl4bi2eb2fdy2bh4jxtf32kf73yd.onion";
    let hidden =
        Router { hosts: Hosts::new(vec![onion.parse().unwrap()]).unwrap(), port: None, ..address(&relay) };
    let mut client = Client::connect(&proxy);
    let received = client.ask_for_session(&hidden, None);
    assert!(matches!(received.response(), Response::Pkey { .. }), "{received:?}");
    // The name is not resolved here, and the port is the usual one.
    assert_eq!(thread.join().unwrap(), [onion.as_bytes(), &5223_u16.to_be_bytes()].concat());
    // Public hosts are connected to directly.
    client.relay_session(&relay);
    assert_eq!(proxy.counter("relays"), 2);
}
