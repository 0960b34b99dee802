//! Clients that stop sending, and clients that do not read.

use std::io::Write;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringpost_protocol::command::Command;
use ringpost_protocol::crypto::AuthPrivateKey;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::limits::{BATCH_TRANSMISSIONS_MAX, BLOCK_BYTES};
use ringpost_protocol::response::Response;
use ringpost_shard::InactiveClients;
use ringpost_shard::limits::{BATCHES_IN_FLIGHT_PER_CONNECTION, BLOCKS_PER_WRITE, Limits};

use crate::common::queue::assert_subscribed;
use crate::common::{Client, Counters, DEADLINE, Ended, Options, Prepared, Queue, TestRouter};
use crate::{beside_healthy, beside_healthy_with, short_limits};

fn ping_block(client: &mut Client) -> Vec<u8> {
    let ping = client.prepare(None, &[], &Command::Ping);
    client.blocks(&[ping])[0].to_vec()
}

#[test]
fn a_part_of_a_block_ends_the_connection_at_the_limit() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(router)).collect();
        for (client, length) in clients.iter_mut().zip([1, 5, 8_000, 16_405]) {
            let block = ping_block(client);
            let record = client.tls.seal(&block);
            client.tls.write_bytes(&record[..length]).unwrap();
        }
        // A whole record with half of a block.
        let mut half = Client::connect(router);
        let block = ping_block(&mut half);
        half.tls.write(&block[..BLOCK_BYTES / 2]).unwrap();
        clients.push(half);
        healthy.goes_on();
        for client in &mut clients {
            assert!(client.read_to_close().is_empty());
        }
        router.expect(&before, &[("closed_block_timeout", 5)]);
    });
}

/// The limit holds for what follows a whole block too, however the two are cut into records and reads.
#[test]
fn a_part_of_a_block_behind_a_whole_one_ends_the_connection_at_the_limit() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let mut clients = Vec::new();
        // The second record has the end of the first block and the beginning of the next.
        let mut client = Client::connect(router);
        let mut plain = ping_block(&mut client);
        plain.extend(ping_block(&mut client));
        client.tls.write(&plain[..10_000]).unwrap();
        client.tls.write(&plain[10_000..20_000]).unwrap();
        clients.push(client);
        // Small records, the last one of them cut, in one piece.
        let mut client = Client::connect(router);
        let mut plain = ping_block(&mut client);
        plain.extend(ping_block(&mut client));
        let mut records: Vec<u8> =
            plain[..BLOCK_BYTES].chunks(4_096).flat_map(|part| client.tls.seal(part)).collect();
        let next = client.tls.seal(&plain[BLOCK_BYTES..BLOCK_BYTES + 300]);
        records.extend(&next[..200]);
        client.tls.write_bytes(&records).unwrap();
        clients.push(client);
        // The same with whole records.
        let mut client = Client::connect(router);
        let mut plain = ping_block(&mut client);
        plain.extend(ping_block(&mut client));
        let records: Vec<u8> =
            plain[..BLOCK_BYTES + 1_000].chunks(1_000).flat_map(|part| client.tls.seal(part)).collect();
        client.tls.write_bytes(&records).unwrap();
        clients.push(client);
        healthy.goes_on();
        for client in &mut clients {
            let received = client.read_to_close();
            assert_eq!(received.len(), 1);
            assert_eq!(received[0].response(), Response::Pong);
        }
        router.expect(&before, &[("closed_block_timeout", 3)]);
    });
}

/// Neither is anything wrong: pieces of a block may come slowly, and a session may be silent.
#[test]
fn slow_and_silent_clients_stay() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let mut silent = Client::connect(router);
        let mut slow = Client::connect(router);
        let block = ping_block(&mut slow);
        let records: Vec<u8> = block.chunks(1_000).flat_map(|part| slow.tls.seal(part)).collect();
        let end = Instant::now() + Duration::from_millis(2_500);
        for part in records.chunks(records.len() / 10) {
            slow.tls.write_bytes(part).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
        assert_eq!(slow.receive().response(), Response::Pong);
        // Longer than all limits.
        while Instant::now() < end {
            healthy.goes_on();
        }
        silent.ping();
        router.expect(&before, &[]);
        drop((silent, slow));
        router.expect(&before, &[("closed_by_peer", 2)]);
    });
}

#[test]
fn inactive_clients_are_closed_but_not_if_they_are_subscribed() {
    let router = TestRouter::with(2, |config| {
        config.limits = short_limits();
        config.inactive = Some(InactiveClients { ttl_secs: 1, check_interval_secs: 1 });
    });
    let before = router.counters();
    let mut silent = Client::connect(&router);
    let mut recipient = Client::connect(&router);
    let queue = Queue::subscribed(&mut recipient);
    let mut former = Client::connect(&router);
    let former_queue = Queue::subscribed(&mut former);
    former.recipient(&former_queue, &Command::Del).assert_ok();
    assert!(silent.read_to_close().is_empty());
    assert!(former.read_to_close().is_empty());
    router.expect(&before, &[("closed_inactive", 2)]);
    recipient.send_message(&queue, b"still here").assert_ok();
    assert_eq!(recipient.message(&queue).body(), b"still here");
}

/// A client whose answers soon find no room: its own receive buffer is small.
fn deaf_client(router: &TestRouter) -> Client {
    let options = Options { receive_buffer_bytes: Some(4 << 10), ..Options::default() };
    Client::open(router, options).unwrap()
}

/// Sends the same blocks again and again, never reading, until the router ends the connection. Watches what the router
/// holds for it meanwhile. Gives how many blocks were taken.
fn flood(
    router: &TestRouter,
    client: &mut Client,
    transmissions: impl Fn(&mut Client) -> Vec<Prepared>,
    check: impl Fn(&Counters),
) -> usize {
    client.tls.socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let end = Instant::now() + DEADLINE;
    let mut taken = 0;
    let mut left: Vec<u8> = Vec::new();
    loop {
        assert!(Instant::now() < end, "the router goes on with a client that does not read");
        if left.is_empty() {
            let transmissions = transmissions(client);
            for block in client.blocks(&transmissions) {
                left.extend(client.tls.seal(&block[..]));
            }
        }
        match client.tls.socket.write(&left).map_err(Ended::from) {
            Ok(count) => {
                left.drain(..count);
                taken += usize::from(left.is_empty());
            }
            Err(Ended::Timeout) => {}
            Err(Ended::Closed) => return taken,
            Err(other) => panic!("{other:?}"),
        }
        check(&router.counters());
    }
}

fn few_blocks() -> Limits {
    Limits { outbox_bytes: 4 << 10, outbox_blocks: 4, ..short_limits() }
}

/// Responses that may wait: the limit, and the answers to what was read before it was reached.
fn waiting_responses_max(limits: &Limits, response_bytes: usize) -> u64 {
    let in_flight = (BATCHES_IN_FLIGHT_PER_CONNECTION + 1) * BATCH_TRANSMISSIONS_MAX;
    let written = BLOCKS_PER_WRITE * BATCH_TRANSMISSIONS_MAX;
    u64::try_from(limits.outbox_bytes / response_bytes + in_flight + written).unwrap()
}

#[test]
fn a_client_that_never_reads_pongs_is_held_back_and_closed() {
    for shards in [1, 2] {
        let limits = few_blocks();
        beside_healthy_with(shards, limits, |router, healthy| {
            let before = router.counters();
            let mut client = deaf_client(router);
            let most = waiting_responses_max(&limits, 33);
            flood(
                router,
                &mut client,
                |client| (0..200).map(|_| client.prepare(None, &[], &Command::Ping)).collect(),
                |now| {
                    let executed = now["commands"] - before["commands"];
                    let written = (now["blocks_sent"] - before["blocks_sent"]) * 255;
                    assert!(executed <= written + most, "{executed} executed, {written} written");
                },
            );
            healthy.goes_on();
            router.expect(&before, &[("closed_write_timeout", 1)]);
        });
    }
}

#[test]
fn a_client_that_never_reads_messages_is_held_back_and_closed() {
    for shards in [1, 2] {
        let limits = few_blocks();
        beside_healthy_with(shards, limits, |router, healthy| {
            let before = router.counters();
            let mut owner = Client::connect(router);
            let queue = Queue::only_created(&mut owner);
            owner.send_message(&queue, &[1; 16_000]).assert_ok();
            for command in [Command::Sub, Command::Get] {
                let mut client = deaf_client(router);
                // Each answer to GET, and each event after SUB, is a block.
                flood(
                    router,
                    &mut client,
                    |client| (0..100).map(|_| client.prepare_recipient(&queue, &command)).collect(),
                    |now| {
                        let delivered = now["messages_delivered"] - before["messages_delivered"];
                        let written = now["blocks_sent"] - before["blocks_sent"];
                        let waiting = delivered.saturating_sub(written);
                        // What the healthy connections have under way is counted too.
                        let most = u64::try_from(limits.outbox_blocks).unwrap() + 16;
                        assert!(waiting <= most, "{}: {waiting} blocks of messages wait", command.tag());
                    },
                );
                healthy.goes_on();
            }
            drop(owner);
            router.expect(&before, &[("closed_write_timeout", 2), ("closed_by_peer", 1)]);
        });
    }
}

/// Bad transmissions are answered by the connection's shard alone, on another way than commands.
#[test]
fn a_client_that_never_reads_errors_is_held_back_and_closed() {
    let limits = few_blocks();
    beside_healthy_with(1, limits, |router, healthy| {
        let before = router.counters();
        let mut client = deaf_client(router);
        let bad = Prepared { corr_id: vec![], bytes: vec![200, 1, 2, 3] };
        let most = waiting_responses_max(&limits, 11);
        flood(
            router,
            &mut client,
            |_| vec![bad.clone(); 250],
            |now| {
                let answered = now["errors_block"] - before["errors_block"];
                let written = (now["blocks_sent"] - before["blocks_sent"]) * 255;
                assert!(answered <= written + most, "{answered} answered, {written} written");
            },
        );
        healthy.goes_on();
        let errors = router.counter("errors_block") - before["errors_block"];
        router.expect(&before, &[("closed_write_timeout", 1), ("errors_block", errors)]);
    });
}

/// Thousands of commands in a row, more than the router takes before it has written: all are answered once the client
/// reads. It is held back meanwhile, not forgotten.
#[test]
fn thousands_of_commands_are_all_answered_when_the_client_reads_at_last() {
    for (shards, outbox_bytes) in [(1, 1), (1, 4 << 10), (2, 4 << 10), (3, 256 << 10)] {
        let limits = Limits { outbox_bytes, write_secs: 15, ..short_limits() };
        beside_healthy_with(shards, limits, |router, healthy| {
            let before = router.counters();
            let mut owner = Client::connect(router);
            let queue = Queue::only_created(&mut owner);
            for options in
                [Options::default(), Options { receive_buffer_bytes: Some(4 << 10), ..Options::default() }]
            {
                let mut client = Client::open(router, options).unwrap();
                let prepared: Vec<Prepared> = (0..6_000)
                    .map(|n| match n % 8 {
                        0 => client.prepare_recipient(&queue, &Command::Sub),
                        1 => Prepared { corr_id: vec![], bytes: vec![200, 1, 2, 3] },
                        _ => client.prepare(None, &[], &Command::Ping),
                    })
                    .collect();
                let mut records = Vec::new();
                for block in client.blocks(&prepared) {
                    records.extend(client.tls.seal(&block[..]));
                }
                let writer = std::thread::spawn({
                    let mut socket = client.tls.socket.try_clone().unwrap();
                    move || socket.write_all(&records).unwrap()
                });
                std::thread::sleep(Duration::from_millis(100));
                healthy.goes_on();
                let mut corr_ids = std::collections::HashSet::new();
                let mut errors = 0;
                for _ in 0..prepared.len() {
                    let received = client.receive();
                    match received.response() {
                        Response::Err(_) => errors += 1,
                        Response::Pong => assert!(corr_ids.insert(received.corr_id.clone())),
                        _ => {
                            assert_subscribed(&received);
                            assert!(corr_ids.insert(received.corr_id.clone()));
                        }
                    }
                }
                writer.join().unwrap();
                assert_eq!(errors, prepared.len() / 8);
                let all: std::collections::HashSet<_> = prepared
                    .into_iter()
                    .map(|prepared| prepared.corr_id)
                    .filter(|id| !id.is_empty())
                    .collect();
                assert_eq!(corr_ids, all);
                client.ping();
            }
            drop(owner);
            router.expect(&before, &[("errors_block", 1_500), ("closed_by_peer", 3)]);
        });
    }
}

/// Whoever sends Ed448 signatures makes the router work, several times as much as others and for nothing. The work is done
/// in small turns, and others have theirs.
#[test]
fn expensive_signatures_do_not_hold_up_others() {
    const SIGNATURES: usize = 500;
    const ROUNDS: usize = 8;
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let key = AuthPrivateKey::ed448(&[7; 57]);
        let attackers: Vec<_> = (0..3)
            .map(|_| {
                let mut client = Client::connect(router);
                // One signature for all: it is wrong anyway.
                let command = client.prepare(Some(&key), &[9; 24], &Command::Sub);
                std::thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        client.send(&vec![command.clone(); SIGNATURES]);
                        for _ in 0..SIGNATURES {
                            client.receive().assert_error(&ErrorType::Auth);
                        }
                    }
                })
            })
            .collect();
        // Each of their commands waits for a few turns, not for the attackers' whole blocks.
        let mut exchanges = 0;
        while !attackers.iter().all(JoinHandle::is_finished) {
            healthy.goes_on();
            exchanges += 1;
        }
        assert!(exchanges >= 3, "{exchanges} exchanges meanwhile");
        for attacker in attackers {
            attacker.join().unwrap();
        }
        let refused = u64::try_from(3 * ROUNDS * SIGNATURES).unwrap();
        router.expect(&before, &[("errors_auth", refused), ("closed_by_peer", 3)]);
    });
}
