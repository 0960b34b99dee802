//! A disk that is full, and has space again.

use std::process::Command;

use ringpost_client::{
    Client, ClientConfig, ClientError, Connection, Event, Events, QueueOptions, RecipientQueue, SenderQueue,
};
use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::error::ErrorType;

use super::support::{Home, Running};
use super::{address, home, runtime};

/// A router whose data directory is a file system of its own, of this size. It is seen by the router's process only.
fn start_on(home: &Home, mib: u32) -> Running {
    let data = home.data();
    std::fs::create_dir_all(&data).unwrap();
    let server = home.smp_server([]);
    let script = format!(
        "mount -t tmpfs -o size={mib}m,mode=700 tmpfs '{}' && exec '{}' start --shards 2",
        data.display(),
        server.get_program().display()
    );
    // Own namespaces, so that no privilege is needed and nothing is left mounted. The process keeps its ID.
    let mut command = home.command("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    let can = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    assert!(
        can.is_ok_and(|status| status.success()),
        "the test needs user namespaces (unshare of util-linux)"
    );
    Running::start(command)
}

async fn send_until_refused(client: &Client, sender: &SenderQueue, tag: u8) -> usize {
    for count in 0..100_000 {
        match client.send(sender, MsgFlags::default(), &[tag; 16_000]).await {
            Ok(()) => {}
            Err(ClientError::Router(ErrorType::Store(reason))) => {
                assert!(String::from_utf8_lossy(reason.as_ref()).contains("full"), "{reason:?}");
                return count;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("the disk was never full");
}

/// Takes messages out of a queue.
async fn take(client: &Client, events: &mut Events, queue: &RecipientQueue, count: usize, tag: u8) {
    let mut next = None;
    for n in 0..count {
        let message = match next.take() {
            Some(message) => message,
            None => match events.recv().await {
                Some(Event::Message(message)) => message,
                other => panic!("after {n} messages of {count}: {other:?}"),
            },
        };
        let received = message.open(queue).unwrap();
        assert!(received.body() == Some(&[tag; 16_000][..]), "message {n} was altered");
        next = client.ack(queue, &received.id).await.unwrap();
    }
    assert!(next.is_none(), "more than {count} messages");
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_space() {
    let home = home("erase_within_secs = 1\nsegment_mib = 2\nqueue_quota = 100000\n");
    let running = start_on(&home, 24);
    let at = address(&home, &running);
    runtime().block_on(async {
        let (client, mut events) = Connection::connect(&at, ClientConfig::default()).await.unwrap();
        let mut stored = Vec::new();
        let mut queues = Vec::new();
        for tag in 0..3 {
            let options = QueueOptions { subscribe: false, contact: false };
            let queue = client.new_queue(options).await.unwrap();
            let sender = SenderQueue::unsecured(queue.sender_id);
            queues.push((queue, sender, tag));
        }
        // The shards share the disk: each queue is filled until its shard has nothing left.
        for (_, sender, tag) in &queues {
            stored.push(Box::pin(send_until_refused(&client, sender, *tag)).await);
        }
        let first = stored.iter().sum::<usize>();
        assert!(first > 200, "only {stored:?} messages were stored");
        client.ping().await.unwrap();
        // Reading and acknowledging goes on while the disk is full, and makes room.
        let (queue, sender, tag) = &queues[0];
        client.subscribe(queue).await.unwrap();
        take(&client, &mut events, queue, stored[0], *tag).await;
        let mut again = 0;
        for _ in 0..200 {
            match client.send(sender, MsgFlags::default(), &[*tag; 16_000]).await {
                Ok(()) => again += 1,
                Err(ClientError::Router(ErrorType::Store(_))) => {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                Err(other) => panic!("{other:?}"),
            }
            if again == 20 {
                break;
            }
        }
        assert_eq!(again, 20, "the router did not take messages again");
        take(&client, &mut events, queue, again, *tag).await;
        // What was there before is there still.
        for ((queue, _, tag), stored) in queues.iter().zip(&stored).skip(1) {
            client.subscribe(queue).await.unwrap();
            take(&client, &mut events, queue, *stored, *tag).await;
        }
    });
}
