//! Clients that disconnect in the middle of everything, again and again.

use std::io::Write;

use ringpost_protocol::command::Command;
use ringpost_protocol::tls::{TlsChannel, config::client_config_with_alpn};
use ringpost_protocol::tls::{client_config, no_server_name};

use crate::beside_healthy_with;
use crate::common::tls::{connect, reset};
use crate::common::{Client, Queue, TestRouter, TlsStream};
use crate::short_limits;

const ROUNDS: usize = 12;

/// Connects and goes as far as `stage` says, then leaves.
fn vanish(router: &TestRouter, stage: usize, queue: &Queue, with_reset: bool) {
    let config = client_config(router.credentials.ca_fingerprint).unwrap();
    let leave = |stream: &std::net::TcpStream| {
        if with_reset {
            reset(stream);
        }
    };
    match stage {
        // No byte, a part of the TLS hello, all of it.
        0..=2 => {
            let mut stream = connect(router.address, None);
            let mut hello = Vec::new();
            TlsChannel::client(config, no_server_name()).unwrap().handshake(&mut [], &mut hello).unwrap();
            stream.write_all(&hello[..hello.len() * stage / 2]).unwrap();
            leave(&stream);
        }
        // Between TLS and hello, and within the hello.
        3 | 4 => {
            let mut tls = TlsStream::connect(router.address, config, None).unwrap();
            tls.write(&vec![0; 8_000 * (stage - 3)]).unwrap();
            leave(&tls.socket);
        }
        // In a session: silent, within a block, with unread answers and messages under way, with a whole queue.
        5 => leave(&Client::connect(router).tls.socket),
        6 => {
            let mut client = Client::connect(router);
            let ping = client.prepare(None, &[], &Command::Ping);
            let block = client.blocks(&[ping]).remove(0);
            client.tls.write(&block[..9_000]).unwrap();
            leave(&client.tls.socket);
        }
        7 => {
            let mut client = Client::connect(router);
            let commands: Vec<_> = (0..200)
                .map(|n| match n % 4 {
                    0 => client.prepare_recipient(queue, &Command::Sub),
                    1 => client.prepare_message(queue, &[7; 3_000]),
                    2 => client.prepare_recipient(queue, &Command::Que),
                    _ => client.prepare(None, &[], &Command::Ping),
                })
                .collect();
            client.try_send(&commands).unwrap();
            leave(&client.tls.socket);
        }
        _ => {
            let mut client = Client::connect(router);
            let own = Queue::subscribed(&mut client);
            for _ in 0..3 {
                client.send_message(&own, &[8; 16_000]).assert_ok();
            }
            client.recipient(&own, &Command::Del).assert_ok();
            Queue::subscribed(&mut client);
            leave(&client.tls.socket);
        }
    }
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    for shards in [1, 3] {
        beside_healthy_with(shards, short_limits(), |router, healthy| {
            let mut owner = Client::connect(router);
            let queue = Queue::only_created(&mut owner);
            let before = router.counters();
            let mut vanished = 0;
            for _ in 0..ROUNDS {
                for stage in 0..9 {
                    for with_reset in [false, true] {
                        vanish(router, stage, &queue, with_reset);
                        vanished += 1;
                    }
                }
                healthy.goes_on();
            }
            // Every one of them ended in one of the two ways.
            router.wait_for("connections", 3);
            let now = router.counters();
            let delta = |name: &str| now[name] - before[name];
            assert_eq!(delta("connections_accepted"), vanished);
            let ended = delta("closed_by_peer") + delta("closed_socket_error");
            assert_eq!(ended, vanished, "before: {before:?}, now: {now:?}");
            let ended = [
                ("closed_by_peer", delta("closed_by_peer")),
                ("closed_socket_error", delta("closed_socket_error")),
            ];
            router.expect(&before, &[ended[0], ended[1], ("errors_quota", delta("errors_quota"))]);
            // The queue that they fought over still works.
            owner.recipient(&queue, &Command::Del).assert_ok();
            drop(owner);
        });
    }
}

/// Connections that the kernel has accepted for us and that are gone when we look.
#[test]
fn bursts_of_connections_that_are_reset_at_once() {
    let router = TestRouter::with(2, |config| config.limits = short_limits());
    let before = router.counters();
    for _ in 0..20 {
        let streams: Vec<_> = (0..50).map(|_| connect(router.address, None)).collect();
        streams.iter().for_each(reset);
    }
    router.wait_until("every connection was seen", |now| {
        now["connections_accepted"] - before["connections_accepted"] + now["accept_errors"] >= 1_000
    });
    router.wait_for("connections", 0);
    router.wait_for("handshakes", 0);
    let config = client_config_with_alpn(router.credentials.ca_fingerprint, &[b"smp/1"]).unwrap();
    assert!(TlsStream::connect(router.address, config, None).is_ok());
    Client::connect(&router).ping();
}
