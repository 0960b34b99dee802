//! What depends on the version, and JSON.

use super::*;

#[test]
fn versions_6_and_7_speak_their_forms() {
    for version in [6, 7] {
        let mut world = world();
        world.version = version;
        let (a, b) = (session(1, version), session(2, version));
        let queue = world.new_queue(&a, SubscribeMode::Subscribe);
        let got = world.send(&b, &queue, None, &[1; 16_088]);
        assert_eq!(got[0], (2, Got::Ok));
        let Got::Msg { .. } = &got[1].1 else { panic!("{got:?}") };
        let got = world.command(&a, &queue.recipient_id, Some(&queue.key), &Command::Sub);
        assert_eq!(got[0], (1, Got::Ok), "SOK is written as OK below 16");
    }
}

#[test]
fn queue_information_is_json() {
    let mut world = world();
    let a = session(1, 18);
    let queue = world.new_queue(&a, SubscribeMode::Subscribe);
    let que = |world: &mut World| world.command(&a, &queue.recipient_id, Some(&queue.key), &Command::Que);
    let expected = r#"{"qiSnd":false,"qiNtf":false,"qiSub":{"qSubThread":"noSub"},"qiSize":0}"#;
    assert_eq!(que(&mut world), [(1, Got::Info(expected.into()))]);
    world.send(&a, &queue, None, b"x");
    let got = que(&mut world);
    let Got::Info(json) = &got[0].1 else { panic!("{got:?}") };
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["qiSize"], 1);
    assert_eq!(json["qiMsg"]["msgType"], "message");
    assert_eq!(json["qiMsg"]["msgTs"], "1970-01-12T13:46:40Z");
    assert_eq!(json["qiSub"]["qDelivered"], json["qiMsg"]["msgId"]);
}
