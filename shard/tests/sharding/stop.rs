//! Stopping: what was taken is answered, and nobody can prevent the end.

use std::time::Duration;

use ringpost_protocol::command::{Command, SubscribeMode};
use ringpost_protocol::crypto::AuthPrivateKey;
use ringpost_protocol::response::Response;
use ringpost_shard::StopMode;
use ringpost_shard::limits::{BATCHES_IN_FLIGHT_PER_CONNECTION, Limits};

use crate::common::{Client, Options, Prepared, Queue, TestRouter};
use crate::{SHARD_COUNTS, placed, placed_at};

#[test]
fn a_graceful_stop_answers_what_is_in_flight() {
    for shards in SHARD_COUNTS {
        let (router, mut clients) = placed(shards, 2);
        let mut idle = Client::connect(&router);
        let queues: Vec<Queue> = clients.iter_mut().map(|group| Queue::only_created(&mut group[0])).collect();
        let mut busy: Vec<Client> = clients.into_iter().filter_map(|mut group| group.pop()).collect();
        let before = router.counter("blocks_received");
        let mut blocks = 0;
        let sent: Vec<Vec<Prepared>> = busy
            .iter_mut()
            .map(|client| {
                // As much as the router takes at once: commands with signatures, for all homes.
                let wanted_blocks = BATCHES_IN_FLIGHT_PER_CONNECTION.div_ceil(shards);
                let commands: Vec<Prepared> = (0..130 * wanted_blocks)
                    .map(|n| client.prepare_recipient(&queues[n % queues.len()], &Command::Que))
                    .collect();
                let made = client.blocks(&commands);
                blocks += made.len();
                for block in made {
                    client.tls.write(&block[..]).unwrap();
                }
                commands
            })
            .collect();
        let blocks = u64::try_from(blocks).unwrap();
        router.wait_until("all blocks were read", |now| now["blocks_received"] - before == blocks);
        router.request_stop(StopMode::Graceful);
        for (client, commands) in busy.iter_mut().zip(&sent) {
            let received = client.read_to_close();
            let mut answered: Vec<_> = received.iter().map(|received| &received.corr_id).collect();
            let mut expected: Vec<_> = commands.iter().map(|command| &command.corr_id).collect();
            answered.sort();
            expected.sort();
            assert_eq!(answered, expected);
            assert!(received.iter().all(|received| matches!(received.response(), Response::Info(_))));
        }
        assert!(idle.read_to_close().is_empty());
        let ended = router.counters();
        let address = router.address;
        router.join();
        assert!(std::net::TcpStream::connect(address).is_err(), "it still listens");
        assert_eq!(ended["accept_errors"], 0);
    }
}

/// Neither half blocks, handshakes that do not go on, nor clients that do not read hold up a stop.
#[test]
fn a_graceful_stop_ends_at_its_limit() {
    for shards in [1, 3] {
        let router = TestRouter::with(shards, |config| {
            config.limits = Limits { stop_secs: 1, ..Limits::default() };
        });
        let (router, mut clients) = placed_at(router, 1);
        let owner = &mut clients[0][0];
        let queue = Queue::only_created(owner);
        for _ in 0..20 {
            owner.send_message(&queue, &[1; 16_000]).assert_ok();
        }
        let silent = crate::common::tls::connect(router.address, None);
        let mut half = Client::connect(&router);
        half.tls.socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let ping = half.prepare(None, &[], &Command::Ping);
        let block = half.blocks(&[ping]).remove(0);
        half.tls.write(&block[..5_000]).unwrap();
        let options = Options { receive_buffer_bytes: Some(4 << 10), ..Options::default() };
        let mut deaf = Client::open(&router, options).unwrap();
        let reads: Vec<Prepared> = (0..400).map(|_| deaf.prepare_recipient(&queue, &Command::Get)).collect();
        deaf.try_send(&reads).unwrap();
        router.wait_until("the outbox is full", |now| now["messages_delivered"] >= 16);
        router.request_stop(StopMode::Graceful);
        assert!(half.read_to_close().is_empty());
        router.join();
        drop((silent, deaf));
    }
}

#[test]
fn an_immediate_stop_ends_everything() {
    let (router, mut clients) = placed(3, 2);
    let _queue = Queue::subscribed(&mut clients[0][0]);
    router.request_stop(StopMode::Immediate);
    for client in clients.iter_mut().flatten() {
        assert!(client.read_to_close().is_empty());
    }
    router.join();
}

/// Two routers at one address would share its connections by chance.
#[test]
fn a_second_router_at_the_address_does_not_start() {
    let router = TestRouter::start(2);
    let mut config = TestRouter::config(2);
    config.listen = vec![router.address.into()];
    let error = ringpost_shard::Router::start(config).unwrap_err();
    assert!(matches!(error, ringpost_shard::StartError::Listen { .. }), "{error}");
    let mut client = Client::connect(&router);
    client.ping();
    let key = AuthPrivateKey::ed25519(&[1; 32]);
    let mode = ringpost_protocol::command::QueueMode::Messaging;
    assert!(Queue::create_with(&mut client, SubscribeMode::Subscribe, key, mode).is_ok());
}
