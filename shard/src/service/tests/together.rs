//! Subscriptions of one block, whose signatures are checked together.

use super::*;

const SUB: Command<'_> = Command::Sub;
const MOST: usize = 16;

fn run(world: &mut World, session: &Arc<Session>, transmissions: &[Vec<u8>]) -> Vec<Got> {
    let batch = world.block(session, transmissions);
    let progress = world.service.process(Box::new(batch), MOST, world.now_secs);
    world.run(session.conn, progress).into_iter().map(|(_, got)| got).collect()
}

/// Each transmission of a block is answered as if it had come alone, whatever stands beside it.
#[test]
fn each_is_answered_as_if_it_were_alone() {
    let stranger = AuthPrivateKey::ed25519(&[99; 32]);
    for wrong in 0..8_usize {
        for defect in ["none", "key", "queue", "bytes", "borrowed"] {
            let mut world = world();
            let (maker, client) = (session(1, 18), session(2, 18));
            let queues: Vec<Queue> =
                (0..8).map(|_| world.new_queue(&maker, SubscribeMode::OnlyCreate)).collect();
            let mut block: Vec<Vec<u8>> = Vec::new();
            for (place, queue) in queues.iter().enumerate() {
                let is_wrong = place == wrong && defect != "none";
                let (entity, key) = match defect {
                    "key" if is_wrong => (&queue.recipient_id[..], &stranger),
                    "queue" if is_wrong => (&[7; 24][..], &queue.key),
                    _ => (&queue.recipient_id[..], &queue.key),
                };
                let mut bytes = world.transmission(&client, entity, Some(key), &SUB);
                if is_wrong && defect == "bytes" {
                    // In the signature, which is in front.
                    bytes[20] ^= 1;
                }
                if is_wrong && defect == "borrowed" && place > 0 {
                    // The signature of its neighbour, which is right there.
                    let neighbour = block[place - 1][..65].to_vec();
                    bytes[..65].copy_from_slice(&neighbour);
                }
                block.push(bytes);
            }
            let got = run(&mut world, &client, &block);
            let expected: Vec<Got> = (0..8)
                .map(|place| {
                    let is_right = place != wrong || defect == "none" || (defect == "borrowed" && place == 0);
                    if is_right { Got::Sok } else { AUTH }
                })
                .collect();
            assert_eq!(got, expected, "{defect} at {wrong}");
        }
    }
}

/// A signature that was found right before the turn does not hold for a queue that a command of the turn has deleted.
#[test]
fn what_was_found_does_not_outlive_the_queue() {
    let mut world = world();
    let client = session(1, 18);
    let queues: Vec<Queue> = (0..5).map(|_| world.new_queue(&client, SubscribeMode::OnlyCreate)).collect();
    let mut block = Vec::new();
    for queue in &queues {
        let (entity, key) = (&queue.recipient_id[..], Some(&queue.key));
        block.push(world.transmission(&client, entity, key, &SUB));
        block.push(world.transmission(&client, entity, key, &Command::Del));
        block.push(world.transmission(&client, entity, key, &SUB));
    }
    let got = run(&mut world, &client, &block);
    let expected: Vec<Got> = (0..5).flat_map(|_| [Got::Sok, Got::Ok, AUTH]).collect();
    assert_eq!(got, expected);
}

/// Nothing that was found in one block is used in the next.
#[test]
fn what_was_found_does_not_outlive_the_turn() {
    let mut world = world();
    let client = session(1, 18);
    let queues: Vec<Queue> = (0..8).map(|_| world.new_queue(&client, SubscribeMode::OnlyCreate)).collect();
    let right: Vec<Vec<u8>> = queues
        .iter()
        .map(|queue| world.transmission(&client, &queue.recipient_id, Some(&queue.key), &SUB))
        .collect();
    assert!(run(&mut world, &client, &right).iter().all(|got| *got == Got::Sok));
    let stranger = AuthPrivateKey::ed25519(&[99; 32]);
    for queue in &queues {
        let wrong = world.transmission(&client, &queue.recipient_id, Some(&stranger), &SUB);
        assert_eq!(run(&mut world, &client, &[wrong]), [AUTH]);
    }
}
