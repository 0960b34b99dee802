//! Messages whose sender, home and recipient are on shards of their own.

use std::collections::{HashMap, HashSet};

use ringpost_protocol::command::{Command, MsgFlags, QueueMode, SubscribeMode};
use ringpost_protocol::crypto::AuthPrivateKey;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::response::Response;
use ringpost_shard::limits::Limits;

use crate::common::queue::assert_subscribed;
use crate::common::{Client, Options, Prepared, Queue, TestRouter};
use crate::{SHARD_COUNTS, placed, placed_at};

/// One client of each role, on different shards where there are enough: home of the queues, sender, recipient.
fn roles(clients: &mut [Vec<Client>]) -> [Client; 3] {
    let count = clients.len();
    [0, 1, 2].map(|role| clients[role % count].pop().unwrap())
}

#[test]
fn messages_find_their_way_between_three_shards() {
    for shards in SHARD_COUNTS {
        let (router, mut clients) = placed(shards, 3);
        let [mut owner, mut sender, mut recipient] = roles(&mut clients);
        let mut queue = Queue::only_created(&mut owner);
        let before = router.counter("mesh_messages");
        recipient.subscribe(&queue);
        // The sender secures the queue, and so may only authorized messages be sent.
        let key = AuthPrivateKey::x25519(sender.random_bytes());
        sender.request(Some(&key), &queue.sender_id, &Command::SKey(key.public())).assert_ok();
        owner.send_message(&queue, b"x").assert_error(&ErrorType::Auth);
        queue.sender_key = Some(key);
        for n in 0..50_u8 {
            let body = vec![n; usize::from(n) * 320];
            sender.send_message(&queue, &body).assert_ok();
            let message = recipient.message(&queue);
            assert_eq!(message.body(), body);
            recipient.ack(&queue, &message.id).assert_ok();
        }
        let crossed = router.counter("mesh_messages") - before;
        assert_eq!(crossed > 0, shards > 1, "{crossed} mesh messages");
    }
}

/// Several hundred subscriptions in one go, most with messages waiting, all homes among them.
#[test]
fn many_subscriptions_at_once_deliver_everything_once_and_in_order() {
    const QUEUES: usize = 300;
    for shards in SHARD_COUNTS {
        let (_router, mut clients) = placed(shards, 2);
        let mut recipient = clients[0].pop().unwrap();
        let mut queues = Vec::new();
        for n in 0..QUEUES {
            let owner = &mut clients[n % shards][0];
            let queue = Queue::only_created(owner);
            let messages: Vec<Prepared> = (0..n % 4)
                .map(|m| owner.prepare_message(&queue, format!("message {m} of queue {n}").as_bytes()))
                .collect();
            owner.send(&messages);
            for sent in &messages {
                owner.try_response(&sent.corr_id).unwrap().assert_ok();
            }
            queues.push(queue);
        }
        let by_id: HashMap<_, _> =
            queues.iter().enumerate().map(|(n, queue)| (queue.recipient_id.clone(), n)).collect();
        let subscriptions: Vec<Prepared> =
            queues.iter().map(|queue| recipient.prepare_recipient(queue, &Command::Sub)).collect();
        recipient.send(&subscriptions);
        let mut subscribed = vec![false; QUEUES];
        let mut delivered = [0; QUEUES];
        let mut unanswered: HashSet<Vec<u8>> =
            subscriptions.iter().map(|subscription| subscription.corr_id.clone()).collect();
        let total: usize = (0..QUEUES).map(|n| n % 4).sum();
        while !unanswered.is_empty() || delivered.iter().sum::<usize>() < total {
            let received = recipient.receive();
            let n = by_id[&received.entity_id];
            assert!(received.is_event() || unanswered.remove(&received.corr_id), "answered twice");
            match received.response() {
                Response::Sok { .. } => {
                    assert_eq!(received.corr_id, subscriptions[n].corr_id);
                    subscribed[n] = true;
                }
                Response::Msg { .. } => {
                    assert!(subscribed[n], "a message before the answer to SUB");
                    let message = queues[n].open(&received);
                    let m = delivered[n];
                    assert_eq!(message.body(), format!("message {m} of queue {n}").as_bytes());
                    delivered[n] += 1;
                    let ack = recipient.prepare_recipient(&queues[n], &Command::Ack { msg_id: &message.id });
                    unanswered.insert(ack.corr_id.clone());
                    recipient.send(&[ack]);
                }
                // To an acknowledgement. The next message, if there is one, follows without being asked for.
                Response::Ok => {}
                _ => panic!("{received:?}"),
            }
        }
        assert!((0..QUEUES).all(|n| delivered[n] == n % 4));
        assert_eq!(recipient.receive_soon(), None);
    }
}

/// More queues with messages than blocks may be under way: the others follow as blocks are written, without any
/// acknowledgement.
#[test]
fn deliveries_wait_for_credit_and_all_come() {
    for (shards, outbox_blocks) in [(1, 1), (1, 3), (2, 4), (3, 1), (7, 16)] {
        let router = TestRouter::with(shards, |config| {
            config.limits = Limits { outbox_blocks, ..Limits::default() };
        });
        let (router, mut clients) = placed_at(router, 1);
        let mut queues = Vec::new();
        for n in 0..84_u8 {
            let owner = &mut clients[usize::from(n) % shards][0];
            let queue = Queue::only_created(owner);
            owner.send_message(&queue, &[n; 16_000]).assert_ok();
            queues.push(queue);
        }
        // One that reads at once, one whose messages pile up before it reads.
        for receive_buffer_bytes in [None, Some(4 << 10)] {
            let options = Options { receive_buffer_bytes, ..Options::default() };
            let mut recipient = Client::open(&router, options).unwrap();
            let subscriptions: Vec<Prepared> =
                queues.iter().map(|queue| recipient.prepare_recipient(queue, &Command::Sub)).collect();
            recipient.send(&subscriptions);
            if receive_buffer_bytes.is_some() {
                router.wait_until("all commands are executed", |now| now["subscriptions"] == 84);
            }
            let mut delivered = [false; 84];
            for _ in 0..2 * queues.len() {
                let received = recipient.receive();
                if received.is_event() {
                    let n = queues.iter().position(|queue| queue.recipient_id == received.entity_id).unwrap();
                    assert_eq!(queues[n].open(&received).body(), [u8::try_from(n).unwrap(); 16_000]);
                    assert!(!std::mem::replace(&mut delivered[n], true));
                } else {
                    assert_subscribed(&received);
                }
            }
            assert!(delivered.iter().all(|delivered| *delivered));
            assert_eq!(recipient.receive_soon(), None);
            drop(recipient);
            router.wait_for("subscriptions", 0);
        }
    }
}

#[test]
fn one_block_may_have_commands_for_all_shards() {
    for shards in SHARD_COUNTS {
        let (_router, mut clients) = placed(shards, 2);
        let mut client = clients[0].pop().unwrap();
        let queues: Vec<Queue> = clients.iter_mut().map(|group| Queue::only_created(&mut group[0])).collect();
        let stranger = AuthPrivateKey::ed25519(&[9; 32]);
        let commands: Vec<Prepared> = commands_for_all(&mut client, &queues, &stranger);
        client.send(&commands);
        let mut messages = 0;
        let mut answers = HashMap::new();
        while messages < queues.len() || answers.len() < commands.len() {
            let received = client.receive();
            if received.is_event() && received.error() != Some(ErrorType::Block) {
                let queue = queues.iter().find(|queue| queue.recipient_id == received.entity_id).unwrap();
                assert_eq!(queue.open(&received).body(), b"to myself");
                messages += 1;
            } else {
                assert!(answers.insert(received.corr_id.clone(), received).is_none());
            }
        }
        let tag = |prepared: &Prepared| answers[&prepared.corr_id].response().tag().to_owned();
        assert_eq!(tag(&commands[0]), "PONG");
        answers[&commands[1].corr_id].assert_error(&ErrorType::Block);
        for of_queue in commands[2..2 + 4 * queues.len()].chunks(4) {
            assert_eq!(of_queue.iter().map(tag).collect::<Vec<_>>(), ["SOK", "OK", "ERR", "INFO"]);
            answers[&of_queue[2].corr_id].assert_error(&ErrorType::Auth);
        }
        for unknown in &commands[2 + 4 * queues.len()..] {
            answers[&unknown.corr_id].assert_error(&ErrorType::Auth);
        }
    }
}

/// Commands of one block for the queues of all shards, with wrong ones among them.
fn commands_for_all(client: &mut Client, queues: &[Queue], stranger: &AuthPrivateKey) -> Vec<Prepared> {
    let send = Command::Send { flags: MsgFlags::default(), body: b"x" };
    let bad = Prepared { corr_id: vec![], bytes: vec![77, 1] };
    let mut commands = vec![client.prepare(None, &[], &Command::Ping), bad];
    for queue in queues {
        commands.push(client.prepare_recipient(queue, &Command::Sub));
        commands.push(client.prepare_message(queue, b"to myself"));
        commands.push(client.prepare(Some(stranger), &queue.recipient_id, &Command::Del));
        commands.push(client.prepare_recipient(queue, &Command::Que));
    }
    commands.push(client.prepare(None, &[1; 24], &send));
    commands.push(client.prepare(None, b"short", &send));
    commands
}

/// Each sender's messages come in the order it sent them, all senders' together none twice, on all queues.
#[test]
fn the_order_of_a_queue_holds_under_load_from_several_senders() {
    const MESSAGES: usize = 60;
    const QUEUES: usize = 3;
    for shards in SHARD_COUNTS {
        let router = TestRouter::with(shards, |config| config.queue_quota = 100_000);
        let (_router, mut clients) = placed_at(router, 2);
        let mut recipient = clients[shards - 1].pop().unwrap();
        let queues: Vec<Queue> = (0..QUEUES)
            .map(|n| {
                let queue = Queue::only_created(&mut clients[n % shards][0]);
                recipient.subscribe(&queue);
                queue
            })
            .collect();
        let senders: Vec<Client> = clients.iter_mut().filter_map(Vec::pop).collect();
        let count = senders.len();
        let threads: Vec<_> = senders
            .into_iter()
            .enumerate()
            .map(|(sender, mut client)| {
                let queues = queues.clone();
                std::thread::spawn(move || {
                    let messages: Vec<Prepared> = (0..MESSAGES * QUEUES)
                        .map(|n| {
                            let mut body =
                                vec![u8::try_from(sender).unwrap(), u8::try_from(n / QUEUES).unwrap()];
                            // Some blocks have many messages, some one.
                            body.resize(if n % 20 == 0 { 15_000 } else { 2 + n }, 1);
                            client.prepare_message(&queues[n % QUEUES], &body)
                        })
                        .collect();
                    client.send(&messages);
                    for sent in &messages {
                        client.try_response(&sent.corr_id).unwrap().assert_ok();
                    }
                })
            })
            .collect();
        // By queue and sender: the number of the next message.
        let mut next = vec![vec![0; count]; QUEUES];
        for _ in 0..count * MESSAGES * QUEUES {
            let received = loop {
                let received = recipient.receive();
                if received.response() != Response::Ok {
                    break received;
                }
            };
            let n = queues.iter().position(|queue| queue.recipient_id == received.entity_id).unwrap();
            let message = queues[n].open(&received);
            let (sender, number) = (usize::from(message.body()[0]), message.body()[1]);
            assert_eq!(number, next[n][sender], "queue {n}, sender {sender}");
            next[n][sender] += 1;
            let ack = recipient.prepare_recipient(&queues[n], &Command::Ack { msg_id: &message.id });
            recipient.send(&[ack]);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(next.iter().flatten().all(|next| usize::from(*next) == MESSAGES));
    }
}

#[test]
fn contact_queues_cannot_be_secured_by_the_sender() {
    let (_router, mut clients) = placed(3, 1);
    let key = AuthPrivateKey::ed25519(&[5; 32]);
    let queue =
        Queue::create_with(&mut clients[0][0], SubscribeMode::Subscribe, key, QueueMode::Contact).unwrap();
    let sender_key = AuthPrivateKey::ed25519(&[6; 32]);
    let sender = &mut clients[1][0];
    let received = sender.request(Some(&sender_key), &queue.sender_id, &Command::SKey(sender_key.public()));
    received.assert_error(&ErrorType::Auth);
    sender.send_message(&queue, b"hello").assert_ok();
    assert_eq!(clients[0][0].message(&queue).body(), b"hello");
}
