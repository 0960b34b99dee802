//! More than the limits allow.

use std::time::Instant;

use ringpost_protocol::command::{Command, QueueMode, SubscribeMode};
use ringpost_protocol::crypto::AuthPrivateKey;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::response::Response;
use ringpost_shard::limits::Limits;

use crate::common::placement::groups;
use crate::common::queue::assert_subscribed;
use crate::common::tls::{connect, read_to_close};
use crate::common::{Client, Ended, Options, Queue, TestRouter};
use crate::{beside_healthy_with, short_limits};

fn refused(router: &TestRouter) {
    match Client::open(router, Options::default()) {
        Err(Ended::Closed) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn connections_above_the_cap_are_closed() {
    for shards in [1, 2, 3] {
        let limits = Limits { connections: 5, ..short_limits() };
        beside_healthy_with(shards, limits, |router, healthy| {
            let before = router.counters();
            let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(router)).collect();
            (0..3).for_each(|_| refused(router));
            healthy.goes_on();
            clients.iter_mut().for_each(Client::ping);
            router.expect(&before, &[("refused_connections", 3)]);
            clients.pop();
            router.wait_for("connections", 4);
            clients.push(Client::connect(router));
            refused(router);
            drop(clients);
            router.expect(&before, &[("refused_connections", 4), ("closed_by_peer", 4)]);
        });
    }
}

#[test]
fn connections_of_one_address_above_the_cap_are_closed() {
    // With one shard: each shard counts for itself, and the kernel spreads connections as it likes.
    let limits = Limits { connections_per_address: 5, ..short_limits() };
    beside_healthy_with(1, limits, |router, healthy| {
        let before = router.counters();
        let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(router)).collect();
        (0..3).for_each(|_| refused(router));
        healthy.goes_on();
        clients.iter_mut().for_each(Client::ping);
        router.expect(&before, &[("refused_address", 3)]);
        clients.pop();
        router.wait_for("connections", 4);
        clients.push(Client::connect(router));
        drop(clients);
        router.expect(&before, &[("refused_address", 3), ("closed_by_peer", 4)]);
    });
}

#[test]
fn handshakes_above_the_cap_are_closed() {
    let limits = Limits { handshakes: 3, ..short_limits() };
    beside_healthy_with(1, limits, |router, healthy| {
        let before = router.counters();
        let mut silent: Vec<_> = (0..3).map(|_| connect(router.address, None)).collect();
        router.wait_for("handshakes", 3);
        (0..3).for_each(|_| refused(router));
        healthy.goes_on();
        for stream in &mut silent {
            assert!(read_to_close(stream).is_empty());
        }
        router.expect(&before, &[("refused_handshakes", 3), ("closed_handshake_timeout", 3)]);
        Client::connect(router).ping();
        router.expect(
            &before,
            &[("refused_handshakes", 3), ("closed_handshake_timeout", 3), ("closed_by_peer", 1)],
        );
    });
}

#[test]
fn subscriptions_above_the_cap_get_quota() {
    for shards in [1, 2, 3] {
        let limits = Limits { subscriptions_per_connection: 6, ..short_limits() };
        let router = TestRouter::with(shards, |config| config.limits = limits);
        // The cap is on the connection, wherever its queues live.
        let mut owners = groups(&router, 1, Options::default());
        let queues: Vec<Queue> =
            (0..8).map(|n| Queue::only_created(&mut owners[n % shards].clients[0])).collect();
        let before = router.counters();
        let mut client = Client::connect(&router);
        for queue in &queues[..4] {
            client.subscribe(queue);
            // Once more is no second subscription.
            client.subscribe(queue);
        }
        // Reading with GET counts as well.
        for queue in &queues[4..6] {
            client.recipient(queue, &Command::Get).assert_ok();
            client.recipient(queue, &Command::Get).assert_ok();
        }
        let quota = ErrorType::Quota;
        client.recipient(&queues[6], &Command::Sub).assert_error(&quota);
        client.recipient(&queues[6], &Command::Get).assert_error(&quota);
        let key = AuthPrivateKey::ed25519(&[1; 32]);
        let new = Queue::create_with(&mut client, SubscribeMode::Subscribe, key, QueueMode::Messaging);
        new.unwrap_err().assert_error(&quota);
        router.expect(&before, &[("errors_quota", 3)]);
        // A queue that is not subscribed needs no place, and a deleted one gives its place back.
        Queue::only_created(&mut client);
        client.recipient(&queues[0], &Command::Del).assert_ok();
        client.recipient(&queues[4], &Command::Del).assert_ok();
        client.subscribe(&queues[6]);
        client.subscribe(&queues[7]);
        router.expect(&before, &[("errors_quota", 3)]);
        // So does one that another connection took.
        let mut other = Client::connect(&router);
        other.subscribe(&queues[1]);
        let end = client.receive();
        assert_eq!((end.response(), &end.entity_id), (Response::End, &queues[1].recipient_id));
        Queue::subscribed(&mut client);
        other.recipient(&queues[2], &Command::Sub);
    }
}

#[test]
fn messages_above_the_memory_for_them_get_store() {
    for shards in [1, 2] {
        // Room for four large messages a shard.
        let limits = Limits { message_bytes: shards * 4 * 16_500, ..short_limits() };
        let router = TestRouter::with(shards, |config| config.limits = limits);
        let mut client = Client::connect(&router);
        let (first, second) = (Queue::only_created(&mut client), Queue::only_created(&mut client));
        let before = router.counters();
        let mut sent = 0;
        let refused = loop {
            let received = client.send_message(&first, &[3; 16_000]);
            match received.error() {
                None => sent += 1,
                Some(error) => break error,
            }
            assert!(sent < 10);
        };
        assert!((3..=5).contains(&sent), "{sent}");
        assert!(matches!(refused, ErrorType::Store(_)), "{refused:?}");
        // Small ones and other queues find no room either.
        assert!(matches!(client.send_message(&second, b"x").error(), Some(ErrorType::Store(_))));
        router.expect(&before, &[("messages_refused_memory", 2), ("errors_other", 2)]);
        // What is acknowledged gives its room back. What was refused is not there.
        client.subscribe(&first);
        let mut message = client.message(&first);
        for left in (0..sent).rev() {
            assert_eq!(message.body(), [3; 16_000]);
            let received = client.ack(&first, &message.id);
            if left == 0 {
                received.assert_ok();
            } else {
                message = first.open(&received);
            }
        }
        router.wait_for("message_bytes", 0);
        client.send_message(&second, b"x").assert_ok();
        client.recipient(&second, &Command::Del).assert_ok();
        router.wait_for("message_bytes", 0);
        router.wait_for("messages", 0);
        router.expect(&before, &[("messages_refused_memory", 2), ("errors_other", 2)]);
    }
}

/// Holds one block of the arena, with half of a command.
struct Holder {
    client: Client,
    rest: Vec<u8>,
}

impl Holder {
    fn start(mut client: Client) -> Self {
        let ping = client.prepare(None, &[], &Command::Ping);
        let block = client.blocks(&[ping]).remove(0);
        let mut record = client.tls.seal(&block[..]);
        let rest = record.split_off(8_000);
        client.tls.write_bytes(&record).unwrap();
        Self { client, rest }
    }

    fn finish(&mut self) {
        self.client.tls.write_bytes(&self.rest).unwrap();
        assert_eq!(self.client.receive().response(), Response::Pong);
    }
}

/// As many blocks as the smallest arena of a shard lends.
const SMALLEST_ARENA_BLOCKS: usize = 4;

fn smallest_arena() -> Limits {
    Limits { session_bytes: 1, block_secs: 20, ..short_limits() }
}

#[test]
fn readers_wait_for_blocks_of_the_arena_and_go_on() {
    beside_healthy_with(1, smallest_arena(), |router, healthy| {
        let before = router.counters();
        let mut waiting: Vec<Client> = (0..6).map(|_| Client::connect(router)).collect();
        // Everything works with so few blocks.
        waiting.iter_mut().for_each(Client::ping);
        healthy.goes_on();
        let mut holders: Vec<Holder> =
            (0..SMALLEST_ARENA_BLOCKS).map(|_| Holder::start(Client::connect(router))).collect();
        router.wait_for("arena_lent", 4);
        let pings: Vec<_> =
            waiting.iter_mut().map(|client| client.prepare(None, &[], &Command::Ping)).collect();
        let began = Instant::now();
        for (client, ping) in waiting.iter_mut().zip(&pings) {
            client.send(std::slice::from_ref(ping));
        }
        router.wait_until("readers wait", |now| now["arena_refused"] > before["arena_refused"]);
        assert!(waiting.iter_mut().all(|client| client.receive_soon().is_none()));
        // They are tried again now and then, not all the time: the processor has better things to do.
        let refused = u128::from(router.counter("arena_refused") - before["arena_refused"]);
        assert!(refused <= 10 * began.elapsed().as_millis(), "{refused} in {:?}", began.elapsed());
        holders.iter_mut().for_each(Holder::finish);
        for client in &mut waiting {
            assert_eq!(client.receive().response(), Response::Pong);
        }
        healthy.goes_on();
        router.expect(&before, &[]);
        drop((waiting, holders));
        router.expect(&before, &[("closed_by_peer", 10)]);
    });
}

#[test]
fn those_who_hold_the_arena_for_too_long_lose_it() {
    let limits = Limits { block_secs: 1, ..smallest_arena() };
    beside_healthy_with(1, limits, |router, healthy| {
        let before = router.counters();
        let mut holders: Vec<Holder> =
            (0..SMALLEST_ARENA_BLOCKS).map(|_| Holder::start(Client::connect(router))).collect();
        healthy.goes_on();
        for holder in &mut holders {
            assert!(holder.client.read_to_close().is_empty());
        }
        router.expect(&before, &[("closed_block_timeout", 4)]);
    });
}

/// The home of the queues has no block for a delivery; commands reach it over the mesh all the same.
#[test]
fn deliveries_wait_for_blocks_of_the_arena_and_go_on() {
    let router = TestRouter::with(2, |config| config.limits = smallest_arena());
    let mut groups = groups(&router, 1 + SMALLEST_ARENA_BLOCKS, Options::default());
    let mut others = groups.pop().unwrap();
    let mut homes = groups.pop().unwrap();
    let mut owner = homes.clients.pop().unwrap();
    let queues: Vec<Queue> = (0..10).map(|_| Queue::only_created(&mut owner)).collect();
    let mut recipient = others.clients.pop().unwrap();
    let before = router.counters();
    let mut holders: Vec<Holder> = homes.clients.drain(..SMALLEST_ARENA_BLOCKS).map(Holder::start).collect();
    router.wait_for("arena_lent", 4);
    for queue in &queues {
        recipient.send_message(queue, b"for later").assert_ok();
    }
    let subscriptions: Vec<_> =
        queues.iter().map(|queue| recipient.prepare_recipient(queue, &Command::Sub)).collect();
    recipient.send(&subscriptions);
    for _ in &queues {
        assert_subscribed(&recipient.receive());
    }
    router.wait_until("deliveries wait", |now| now["arena_refused"] > before["arena_refused"]);
    assert_eq!(recipient.receive_soon(), None);
    holders.iter_mut().for_each(Holder::finish);
    let mut delivered = std::collections::HashSet::new();
    for _ in &queues {
        let received = recipient.receive();
        let queue = queues.iter().find(|queue| queue.recipient_id == received.entity_id).unwrap();
        assert_eq!(queue.open(&received).body(), b"for later");
        assert!(delivered.insert(received.entity_id));
    }
    router.expect(&before, &[]);
}
