//! Messages that are too old.

use super::*;

#[test]
fn old_messages_expire() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queues: Vec<Queue> = (0..3).map(|_| world.new_queue(&a, SubscribeMode::OnlyCreate)).collect();
    for queue in &queues {
        world.send(&b, queue, None, b"old");
    }
    world.now_secs += 500;
    world.send(&b, &queues[0], None, b"young");
    assert!(world.service.expire_step(world.now_secs));
    assert_eq!(world.service.store().message_count(), 4);
    world.now_secs += 501;
    assert!(world.service.expire_step(world.now_secs));
    assert_eq!(world.service.store().message_count(), 1);
    let got = world.command(&a, &queues[0].recipient_id, Some(&queues[0].key), &Command::Sub);
    assert_eq!(opened(&got[1], 1, &queues[0]).1.unwrap(), b"young");
}

#[test]
fn old_messages_make_room_for_new_ones_if_that_is_wanted() {
    for (expires_on_send, answer) in [(true, Got::Ok), (false, Got::Err(ErrorType::Quota))] {
        let mut world = world();
        world.service.config.expires_on_send = expires_on_send;
        let (a, b) = (session(1, 18), session(2, 18));
        let queue = world.new_queue(&a, SubscribeMode::OnlyCreate);
        (0..=QUOTA).for_each(|_| _ = world.send(&b, &queue, None, b"old"));
        world.now_secs += 1001;
        assert_eq!(world.send(&b, &queue, None, b"new")[0].1, answer);
    }
}
