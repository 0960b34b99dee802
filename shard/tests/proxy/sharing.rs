//! Many clients, one session.

use std::collections::HashSet;

use ringpost_protocol::command::{Command, MsgFlags};

use crate::client::{Forwarded, RelaySession, address, relay};
use crate::common::{Client, Queue, TestRouter};

fn send(body: &[u8]) -> Command<'_> {
    Command::Send { flags: MsgFlags::default(), body }
}

#[test]
fn all_clients_of_all_shards_share_one_session() {
    const CLIENTS: usize = 24;
    let (proxy, relay) = (TestRouter::start(3), relay(2));
    let mut recipient = Client::connect(&relay);
    let queues: Vec<_> = (0..CLIENTS).map(|_| Queue::subscribed(&mut recipient)).collect();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&proxy)).collect();
    // All ask before the session is there.
    let asked: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            let prepared = client.prepare_session(&address(&relay), None);
            client.send(std::slice::from_ref(&prepared));
            prepared
        })
        .collect();
    let sessions: Vec<_> = clients
        .iter_mut()
        .zip(&asked)
        .map(|(client, asked)| RelaySession::read(&client.try_response(&asked.corr_id).unwrap(), &relay))
        .collect();
    let ids: HashSet<_> = sessions.iter().map(|session| session.id.clone()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!((proxy.counter("relays_dialed"), proxy.counter("relays")), (1, 1));
    for round in 0..3_u8 {
        let sent: Vec<_> = clients
            .iter_mut()
            .zip(&queues)
            .map(|(client, queue)| {
                let body = [round; 100];
                let forwarded =
                    client.prepare_forward(&sessions[0], 17, None, &queue.sender_id, &send(&body));
                client.send(std::slice::from_ref(&forwarded.prepared));
                forwarded
            })
            .collect();
        for (client, sent) in clients.iter_mut().zip(&sent) {
            let received = client.try_response(&sent.prepared.corr_id).unwrap();
            sent.open(&received).assert_ok();
        }
        for _ in 0..CLIENTS {
            let received = recipient.receive();
            let queue = queues.iter().find(|queue| queue.recipient_id == received.entity_id).unwrap();
            let message = queue.open(&received);
            assert_eq!(message.body(), [round; 100]);
            recipient.ack(queue, &message.id).assert_ok();
        }
    }
    assert_eq!(proxy.counter("forward_successes"), 3 * CLIENTS as u64);
}

#[test]
fn a_client_may_send_more_than_may_be_under_way() {
    const COMMANDS: usize = 100;
    let proxy = TestRouter::with(2, |config| config.proxy.client_concurrency = 3);
    let relay = TestRouter::with(2, |config| {
        config.credentials = crate::common::new_credentials(2);
        config.queue_quota = COMMANDS;
    });
    let mut recipient = Client::connect(&relay);
    let queue = Queue::only_created(&mut recipient);
    let mut client = Client::connect(&proxy);
    let session = client.relay_session(&relay);
    let sent: Vec<Forwarded> = (0..COMMANDS)
        .map(|n| {
            let body = n.to_be_bytes();
            let forwarded = client.prepare_forward(&session, 17, None, &queue.sender_id, &send(&body));
            client.send(std::slice::from_ref(&forwarded.prepared));
            forwarded
        })
        .collect();
    for sent in &sent {
        let received = client.try_response(&sent.prepared.corr_id).unwrap();
        sent.open(&received).assert_ok();
    }
    // Many PRXY in one block, more than may be under way.
    let asked: Vec<_> = (0..40).map(|_| client.prepare_session(&address(&relay), None)).collect();
    client.send(&asked);
    for asked in &asked {
        RelaySession::read(&client.try_response(&asked.corr_id).unwrap(), &relay);
    }
    client.ping();
    assert_eq!(relay.counter("messages"), COMMANDS as u64);
}

#[test]
fn clients_that_leave_do_not_disturb_others() {
    let (proxy, relay) = (TestRouter::start(2), relay(1));
    let mut recipient = Client::connect(&relay);
    let queue = Queue::only_created(&mut recipient);
    let mut staying = Client::connect(&proxy);
    let session = staying.relay_session(&relay);
    for _ in 0..10 {
        let mut leaving = Client::connect(&proxy);
        let forwarded = leaving.prepare_forward(&session, 17, None, &queue.sender_id, &send(b"bye"));
        leaving.send(std::slice::from_ref(&forwarded.prepared));
        drop(leaving);
        staying.forward(&session, 17, None, &queue.sender_id, &send(b"here")).unwrap().assert_ok();
    }
    proxy.wait_for("connections", 1 + 1);
    assert_eq!(proxy.counter("relays"), 1);
}
