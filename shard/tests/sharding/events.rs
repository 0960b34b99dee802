//! What a connection is told when another one, on another shard, takes or deletes its queue.

use ringpost_protocol::command::Command;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::response::Response;

use crate::common::{Client, Queue};
use crate::{SHARD_COUNTS, placed};

#[track_caller]
fn assert_event(client: &mut Client, queue: &Queue, event: &Response<'_>) {
    let received = client.receive();
    assert!(received.is_event(), "{received:?}");
    assert_eq!((&received.response(), &received.entity_id), (event, &queue.recipient_id));
}

#[test]
fn a_subscriber_is_told_when_another_takes_its_queue() {
    for shards in SHARD_COUNTS {
        let (_router, mut clients) = placed(shards, 2);
        let mut owner = clients[0].pop().unwrap();
        let queue = Queue::only_created(&mut owner);
        let mut subscribers: Vec<Client> = clients.into_iter().flatten().collect();
        if let [first] = &mut subscribers[..] {
            first.subscribe(&queue);
            owner.subscribe(&queue);
            assert_event(first, &queue, &Response::End);
            continue;
        }
        let count = subscribers.len();
        subscribers[0].subscribe(&queue);
        for n in 1..3 * count {
            let (former, next) = ((n - 1) % count, n % count);
            subscribers[next].subscribe(&queue);
            assert_event(&mut subscribers[former], &queue, &Response::End);
            // Only the new one gets messages, and only it can acknowledge them.
            owner.send_message(&queue, &[u8::try_from(n).unwrap()]).assert_ok();
            let message = subscribers[next].message(&queue);
            assert_eq!(message.body(), [u8::try_from(n).unwrap()]);
            subscribers[former].ack(&queue, &message.id).assert_error(&ErrorType::NoMsg);
            if n % 3 == 0 {
                // Or it does not: then the next subscriber gets the message again.
                let after = (n + 1) % count;
                subscribers[after].subscribe(&queue);
                assert_eq!(subscribers[after].message(&queue), message);
                assert_event(&mut subscribers[next], &queue, &Response::End);
                subscribers[next].subscribe(&queue);
                assert_event(&mut subscribers[after], &queue, &Response::End);
                assert_eq!(subscribers[next].message(&queue), message);
            }
            subscribers[next].ack(&queue, &message.id).assert_ok();
        }
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.receive_soon(), None);
        }
    }
}

#[test]
fn a_subscriber_is_told_when_another_deletes_its_queue() {
    for shards in SHARD_COUNTS {
        let (_router, mut clients) = placed(shards, 2);
        let mut owner = clients[0].pop().unwrap();
        let mut others: Vec<Client> = clients.into_iter().flatten().collect();
        for other in &mut others {
            let queue = Queue::only_created(&mut owner);
            other.subscribe(&queue);
            owner.send_message(&queue, b"goes with the queue").assert_ok();
            let message = other.message(&queue);
            owner.recipient(&queue, &Command::Del).assert_ok();
            assert_event(other, &queue, &Response::Deld);
            let auth = ErrorType::Auth;
            other.ack(&queue, &message.id).assert_error(&auth);
            other.recipient(&queue, &Command::Sub).assert_error(&auth);
            owner.send_message(&queue, b"x").assert_error(&auth);
        }
        // One's own deletion is answered, and is no event.
        let queue = Queue::subscribed(&mut owner);
        owner.recipient(&queue, &Command::Del).assert_ok();
        assert_eq!(owner.receive_soon(), None);
    }
}

/// Connections that subscribe to the same queue all the time: whoever was last has it, and everyone knows.
#[test]
fn competing_subscribers_agree_on_who_has_the_queue() {
    const ROUNDS: usize = 100;
    for shards in SHARD_COUNTS {
        let (router, mut clients) = placed(shards, 2);
        let mut owner = clients[0].pop().unwrap();
        let queue = Queue::only_created(&mut owner);
        let mut competitors: Vec<Client> = clients.into_iter().flatten().take(4).collect();
        if shards == 1 {
            competitors.push(Client::connect(&router));
        }
        let threads: Vec<_> = competitors
            .into_iter()
            .map(|mut client| {
                let queue = queue.clone();
                std::thread::spawn(move || {
                    let mut has_it = false;
                    for _ in 0..ROUNDS {
                        let sub = client.prepare_recipient(&queue, &Command::Sub);
                        client.send(std::slice::from_ref(&sub));
                        loop {
                            let received = client.receive();
                            if received.is_event() {
                                assert_eq!(received.response(), Response::End);
                                assert!(std::mem::replace(&mut has_it, false), "END without a subscription");
                            } else {
                                assert_eq!(received.corr_id, sub.corr_id);
                                assert_eq!(received.response(), Response::Sok { service_id: None });
                                has_it = true;
                                break;
                            }
                        }
                    }
                    (client, has_it)
                })
            })
            .collect();
        let mut having: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for (client, has_it) in &mut having {
            while let Some(received) = client.receive_soon() {
                assert_eq!(received.response(), Response::End);
                assert!(std::mem::replace(has_it, false), "END without a subscription");
            }
        }
        owner.send_message(&queue, b"for the last one").assert_ok();
        assert_eq!(having.iter().filter(|(_, has_it)| *has_it).count(), 1);
        for (client, has_it) in &mut having {
            match client.receive_soon() {
                Some(received) => {
                    assert!(*has_it);
                    assert_eq!(queue.open(&received).body(), b"for the last one");
                }
                None => assert!(!*has_it),
            }
        }
    }
}

/// A connection that has gone is subscribed to nothing, wherever the queues live.
#[test]
fn subscriptions_end_with_their_connection() {
    for shards in SHARD_COUNTS {
        let (router, mut clients) = placed(shards, 2);
        let mut recipient = clients[0].pop().unwrap();
        let mut owners: Vec<Client> = clients.into_iter().filter_map(|mut group| group.pop()).collect();
        let queues: Vec<Queue> = owners.iter_mut().map(Queue::only_created).collect();
        for queue in &queues {
            recipient.subscribe(queue);
        }
        router.wait_for("subscriptions", queues.len().try_into().unwrap());
        drop(recipient);
        router.wait_for("subscriptions", 0);
        let mut recipient = Client::connect(&router);
        for (queue, owner) in queues.iter().zip(&mut owners) {
            owner.send_message(queue, b"later").assert_ok();
            recipient.subscribe(queue);
            assert_eq!(recipient.message(queue).body(), b"later");
        }
    }
}
