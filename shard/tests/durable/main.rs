//! Queues and messages outlive the router: stops, other numbers of shards, memory that holds a small part of the bodies,
//! erasure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Client, Queue, TestRouter};
use ringpost_protocol::command::{Command, SubscribeMode};
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::response::Response;
use ringpost_shard::{DataConfig, StopMode};
use ringpost_store::log::Durability;

fn data(directory: &Path) -> DataConfig {
    DataConfig {
        directory: directory.to_owned(),
        durability: Durability::Always,
        erase_within_ms: 60_000,
        segment_bytes: 4 << 20,
        skip_damaged: false,
        salt: 0x5a17,
    }
}

fn start(directory: &Path, shards: usize) -> TestRouter {
    TestRouter::with(shards, |config| config.data = Some(data(directory)))
}

/// A body that tells its number, and is unlike any other.
fn body(n: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (n.wrapping_mul(131) + at.wrapping_mul(7 + n % 5)).to_le_bytes()[0]).collect()
}

/// Receives and acknowledges everything that a queue holds.
fn drain(client: &mut Client, queue: &Queue) -> Vec<Vec<u8>> {
    client.subscribe(queue);
    let mut bodies = Vec::new();
    let mut message = client.message(queue);
    loop {
        bodies.push(message.body().to_vec());
        let received = client.ack(queue, &message.id);
        match received.response() {
            // The next one comes as the answer, or as an event if it must be read from the disk first.
            Response::Msg { .. } => message = queue.open(&received),
            Response::Ok => match client.recipient(queue, &Command::Que).response() {
                Response::Info(json) if String::from_utf8_lossy(json).contains(r#""qiSize":0"#) => {
                    return bodies;
                }
                _ => message = client.message(queue),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn queues_and_messages_outlive_stops_and_other_numbers_of_shards() {
    let directory = tempfile::tempdir().unwrap();
    let router = start(directory.path(), 2);
    let mut client = Client::connect(&router);
    let mut queues: Vec<Queue> = (0..12).map(|_| Queue::only_created(&mut client)).collect();
    for queue in &mut queues {
        client.secure_by_recipient(queue);
    }
    let deleted = queues.pop().unwrap();
    client.recipient(&deleted, &Command::Del).assert_ok();
    client.recipient(&queues[0], &Command::Off).assert_ok();
    for n in 0..5 {
        for (at, queue) in queues.iter().enumerate().skip(1) {
            client.send_message(queue, &body(n * 100 + at, 16_000 - n * 3_000)).assert_ok();
        }
    }
    drop(client);
    drop(router);
    for shards in [3, 1] {
        let router = start(directory.path(), shards);
        let messages = if shards == 3 { 50 } else { 25 };
        let recovered = router.router().recovered();
        assert_eq!((recovered.queues, recovered.messages), (queues.len(), messages));
        let mut client = Client::connect(&router);
        client.recipient(&deleted, &Command::Sub).assert_error(&ErrorType::Auth);
        client.send_message(&queues[0], b"suspended").assert_error(&ErrorType::Auth);
        // Half of the queues are drained at the first start, the others at the second.
        for (at, queue) in
            queues.iter().enumerate().skip(1).filter(|(at, _)| at % 2 == usize::from(shards == 3))
        {
            let expected: Vec<_> = (0..5).map(|n| body(n * 100 + at, 16_000 - n * 3_000)).collect();
            assert!(drain(&mut client, queue) == expected, "queue {at}");
        }
        if shards == 3 {
            router.request_stop(StopMode::Graceful);
            drop(client);
            router.join();
        }
    }
    let router = start(directory.path(), 2);
    assert_eq!((router.router().recovered().messages, router.router().recovered().queues), (0, queues.len()));
}

#[test]
fn bodies_past_the_cap_are_read_from_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let router = TestRouter::with(2, |config| {
        config.data = Some(data(directory.path()));
        config.limits.message_bytes = 10 * 17_000;
    });
    let mut client = Client::connect(&router);
    let queues: Vec<Queue> = (0..4).map(|_| Queue::only_created(&mut client)).collect();
    for n in 0..30 {
        for (at, queue) in queues.iter().enumerate() {
            client.send_message(queue, &body(n * 10 + at, 16_048)).assert_ok();
        }
    }
    assert!(router.counter("bodies_evicted") >= 100, "{:?}", router.counters());
    assert!(router.counter("message_bytes") <= 12 * 17_000, "{:?}", router.counters());
    // GET waits for the disk as SUB does.
    let received = client.recipient(&queues[0], &Command::Get);
    let first = queues[0].open(&received);
    assert!(first.body() == body(0, 16_048));
    client.ack(&queues[0], &first.id).assert_ok();
    let mut other = Client::connect(&router);
    for (at, queue) in queues.iter().enumerate() {
        let skipped = usize::from(at == 0);
        let expected: Vec<_> = (skipped..30).map(|n| body(n * 10 + at, 16_048)).collect();
        assert!(drain(&mut other, queue) == expected, "queue {at}");
    }
    assert!(router.counter("bodies_fetched") >= 100);
    assert_eq!(router.counter("messages_damaged"), 0);
}

#[test]
fn what_ended_is_gone_from_the_files_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let router = TestRouter::with(2, |config| {
        config.data = Some(DataConfig { erase_within_ms: 1_000, ..data(directory.path()) });
    });
    let mut client = Client::connect(&router);
    let queues: Vec<Queue> = (0..3).map(|_| Queue::only_created(&mut client)).collect();
    for (at, queue) in queues.iter().enumerate() {
        for n in 0..4 {
            client.send_message(queue, &body(50 + n * 10 + at, 16_048)).assert_ok();
        }
    }
    let stays = |needle: &[u8]| -> bool {
        std::fs::read_dir(directory.path()).unwrap().any(|entry| {
            let content = std::fs::read(entry.unwrap().path()).unwrap_or_default();
            content.windows(needle.len()).any(|window| window == needle)
        })
    };
    let part = |n: usize, at: usize| body(50 + n * 10 + at, 16_048)[8_000..8_064].to_vec();
    assert!(stays(&part(3, 0)) && stays(&part(0, 1)) && stays(&queues[1].recipient_id));
    drain(&mut client, &queues[0]);
    client.recipient(&queues[1], &Command::Del).assert_ok();
    let gone: Vec<Vec<u8>> = (0..4)
        .flat_map(|n| [part(n, 0), part(n, 1)])
        .chain([queues[1].recipient_id.clone(), queues[1].sender_id.clone()])
        .collect();
    let end = Instant::now() + common::DEADLINE;
    while gone.iter().any(|needle| stays(needle)) {
        assert!(Instant::now() < end, "acknowledged or deleted data is still on the disk");
        std::thread::sleep(Duration::from_millis(100));
    }
    // What lives was left alone.
    let expected: Vec<_> = (0..4).map(|n| body(50 + n * 10 + 2, 16_048)).collect();
    assert!(drain(&mut client, &queues[2]) == expected);
}

#[test]
fn nothing_is_lost_in_the_relaxed_modes_when_the_stop_is_orderly() {
    for durability in [Durability::Interval { ms: 50 }, Durability::Off] {
        let directory = tempfile::tempdir().unwrap();
        let with = |shards| {
            TestRouter::with(shards, |config| {
                config.data = Some(DataConfig { durability, ..data(directory.path()) });
            })
        };
        let router = with(1);
        let mut client = Client::connect(&router);
        let queue = Queue::create(&mut client, SubscribeMode::OnlyCreate);
        for n in 0..20 {
            client.send_message(&queue, &body(n, 800 * n)).assert_ok();
        }
        router.request_stop(StopMode::Graceful);
        drop(client);
        router.join();
        let router = with(2);
        let mut client = Client::connect(&router);
        let expected: Vec<_> = (0..20).map(|n| body(n, 800 * n)).collect();
        let found = drain(&mut client, &queue);
        assert_eq!(
            found.iter().map(Vec::len).collect::<Vec<_>>(),
            (0..20).map(|n| 800 * n).collect::<Vec<_>>()
        );
        assert!(found == expected, "{durability:?}");
    }
}

#[test]
fn old_messages_are_looked_for_at_the_start_if_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let router = start(directory.path(), 2);
    let mut client = Client::connect(&router);
    let queue = Queue::only_created(&mut client);
    client.send_message(&queue, b"old soon").assert_ok();
    drop(client);
    router.request_stop(StopMode::Graceful);
    router.join();
    std::thread::sleep(Duration::from_millis(2_100));
    for is_wanted in [false, true] {
        let router = TestRouter::with(2, |config| {
            config.data = Some(data(directory.path()));
            config.message_ttl_secs = Some(1);
            config.expires_on_start = is_wanted;
        });
        if is_wanted {
            router.wait_for("messages_expired", 1);
        } else {
            // The time of two looks at all connections, with the first of which the search would begin.
            std::thread::sleep(Duration::from_millis(1_200));
            assert_eq!((router.counter("messages"), router.counter("messages_expired")), (1, 0));
        }
        router.request_stop(StopMode::Graceful);
        router.join();
    }
}
