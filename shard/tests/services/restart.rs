//! Services and their queues outlive the router.

use std::path::Path;

use ringpost_protocol::response::Response;
use ringpost_shard::DataConfig;
use ringpost_store::log::Durability;

use crate::common::service::subs_of;
use crate::common::{Client, Queue, TestRouter, TestService};

fn start(directory: &Path, shards: usize) -> TestRouter {
    TestRouter::with(shards, |config| {
        // Most bodies are in the log only.
        config.limits.message_bytes = shards * (100 << 10);
        config.data = Some(DataConfig {
            directory: directory.to_owned(),
            durability: Durability::Always,
            erase_within_ms: 60_000,
            segment_bytes: 4 << 20,
            skip_damaged: false,
            salt: 0x5a17,
        });
    })
}

#[test]
fn service_ids_and_queues_outlive_stops_and_other_numbers_of_shards() {
    let directory = tempfile::tempdir().unwrap();
    let services: Vec<TestService> = (0..4).map(|n| TestService::messaging(2 * n + 1)).collect();
    let mut ids: Vec<Vec<u8>> = Vec::new();
    let mut queues: Vec<Vec<Queue>> = services.iter().map(|_| Vec::new()).collect();
    for (round, shards) in [2, 3, 1, 2].into_iter().enumerate() {
        let router = start(directory.path(), shards);
        let mut sender = Client::connect(&router);
        for (at, service) in services.iter().enumerate() {
            let mut client = Client::service(&router, *service, 19);
            if round == 0 {
                ids.push(client.service_id().to_vec());
            }
            assert_eq!(client.service_id(), ids[at]);
            let has = subs_of(queues[at].iter().map(|queue| &queue.recipient_id[..]), client.version);
            client.subs(has).assert_soks(has);
            // Each has a message from the round before, of a size that does not stay in memory.
            let mut bodies = Vec::new();
            loop {
                let received = client.receive();
                if received.response() == Response::Alls {
                    break;
                }
                let queue = queues[at].iter().find(|queue| queue.recipient_id == received.entity_id).unwrap();
                let message = queue.open(&received);
                assert_eq!(message.body().len(), 15_000);
                bodies.push(queue.recipient_id.clone());
                client.ack(queue, &message.id).assert_ok();
            }
            bodies.sort();
            bodies.dedup();
            assert_eq!(bodies.len(), queues[at].len());
            // One leaves, others come.
            if let Some(gone) = queues[at].pop() {
                sender.subscribe(&gone);
                client.receive().assert_event(&gone.recipient_id, &Response::End);
            }
            queues[at].extend((0..5).map(|_| client.service_queue()));
            drop(client);
        }
        router.wait_for("connections", 1);
        for queue in queues.iter().flatten() {
            sender.send_message(queue, &[7; 15_000]).assert_ok();
        }
        assert_eq!(router.counter("services"), 4);
    }
}
