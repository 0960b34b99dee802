//! Which connections were accepted by the same shard: seen by whether their commands cross the mesh.

use ringpost_protocol::command::Command;

use super::{Client, Options, Queue, TestRouter};

/// Connections of one shard. Queues that they create have that shard as their home.
pub struct Group {
    pub clients: Vec<Client>,
    probe: Queue,
}

/// Opens connections until each shard has at least `wanted`. There must be no other traffic meanwhile.
pub fn groups(router: &TestRouter, wanted: usize, options: Options) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut opened = 0;
    while groups.len() < router.shards || groups.iter().any(|group| group.clients.len() < wanted) {
        assert!(opened < 100 * router.shards * wanted, "some shard accepts no connections");
        opened += 1;
        let mut client = Client::open(router, options).unwrap();
        let own = groups.iter().position(|group| is_home(router, &mut client, &group.probe));
        if let Some(place) = own {
            groups[place].clients.push(client);
        } else {
            let probe = Queue::only_created(&mut client);
            groups.push(Group { clients: vec![client], probe });
        }
        assert!(groups.len() <= router.shards);
    }
    groups
}

/// Whether the shard that accepted the connection is the home of the queue.
pub fn is_home(router: &TestRouter, client: &mut Client, queue: &Queue) -> bool {
    let before = router.counter("mesh_messages");
    let received = client.recipient(queue, &Command::Que);
    assert!(received.error().is_none(), "{received:?}");
    // The command and its answer: counted before the answer is written.
    match router.counter("mesh_messages") - before {
        0 => true,
        2 => false,
        other => panic!("{other} mesh messages for one command"),
    }
}
