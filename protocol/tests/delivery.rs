//! Delivered messages and notification metadata against `delivery.json`, and their properties.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{array, assert_bytes, bytes, list, load, number, text};
use proptest::prelude::*;
use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::crypto::boxes::{BoxKey, open, seal_padded};
use ringpost_protocol::crypto::delivery::{
    DELIVERY_BODY_OFFSET, Delivered, DeliveredKind, DeliveryHeader, NOTIFICATION_META_ENCRYPTED_BYTES,
    NotificationMeta, decrypt_message, decrypt_notification_meta, encrypt_message, encrypt_notification_meta,
    encrypt_quota, seal_delivery, seal_message,
};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::crypto::{OpenError, TooLarge};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::{DELIVERY_ENCRYPTED_BYTES, DELIVERY_PADDED_BYTES, SEND_BODY_BYTES_MAX};
use serde_json::Value;

fn agreed(case: &Value, private: &str, public: &str) -> BoxKey {
    let secret = DhPrivateKey::from_bytes(array(&case[private]["private"]))
        .agree(&DhPublicKey(array(&case[public]["public"])));
    assert_eq!(secret.as_bytes().to_vec(), bytes(&case["dh_secret"]));
    secret.box_key()
}

fn timestamp(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

#[test]
fn messages() {
    let vectors = load("delivery.json");
    for case in list(&vectors, "messages") {
        let name = text(&case["name"]);
        let key = agreed(case, "server_key", "recipient_key");
        let msg_id = array(&case["msg_id_and_nonce"]);
        let body = bytes(&case["body"]);
        let flags = MsgFlags { notification: case["notification"].as_bool().unwrap() };
        let header = DeliveryHeader { timestamp_secs: timestamp(&case["timestamp_seconds"]), flags };

        let mut clear = Box::new([0xee; DELIVERY_PADDED_BYTES]);
        clear[DELIVERY_BODY_OFFSET..][..body.len()].copy_from_slice(&body);
        header.frame(&mut clear, body.len()).unwrap();
        assert_eq!(number(&case["padded_len"]), clear.len());
        assert_bytes(&clear[2..DELIVERY_BODY_OFFSET + body.len()], &case["clear"], name);
        let mut sealed = Box::new([0; DELIVERY_ENCRYPTED_BYTES]);
        seal_delivery(&key, &msg_id, &clear, &mut sealed);
        assert_bytes(sealed.as_slice(), &case["encrypted"], name);
        assert_eq!(encrypt_message(&key, &msg_id, header, &body).unwrap(), sealed, "{name}");

        let key = agreed(case, "recipient_key", "server_key");
        let kind = DeliveredKind::Message { flags, body: &body };
        let expected = Delivered { timestamp_secs: header.timestamp_secs, kind };
        assert_eq!(decrypt_message(&key, &msg_id, sealed.as_mut_slice()), Ok(expected), "{name}");
    }
}

#[test]
fn limits_of_bodies() {
    let vectors = load("delivery.json");
    let limits = &vectors["max_body_len_of_SEND_by_client_version (larger is refused with ERR LARGE_MSG)"];
    assert_eq!(number(&limits["v6..v7"]), SEND_BODY_BYTES_MAX);
    let header = DeliveryHeader { timestamp_secs: 0, flags: MsgFlags::default() };
    let (key, body) = (BoxKey::from_secret(&[1; 32]), vec![0; SEND_BODY_BYTES_MAX + 1]);
    let refused = TooLarge { content_bytes: body.len(), content_bytes_max: SEND_BODY_BYTES_MAX };
    let mut sealed = Box::new([0; DELIVERY_ENCRYPTED_BYTES]);
    assert_eq!(seal_message(&key, &[2; 24], header, &body, &mut sealed), Err(refused));
    assert_eq!(*sealed, [0; DELIVERY_ENCRYPTED_BYTES]);
    assert!(seal_message(&key, &[2; 24], header, &body[1..], &mut sealed).is_ok());
}

#[test]
fn quota_messages() {
    let vectors = load("delivery.json");
    for case in list(&vectors, "quota_messages") {
        let key = agreed(case, "server_key", "recipient_key");
        let msg_id = array(&case["msg_id_and_nonce"]);
        let timestamp_secs = timestamp(&case["timestamp_seconds"]);
        let mut sealed = encrypt_quota(&key, &msg_id, timestamp_secs);
        assert_bytes(sealed.as_slice(), &case["encrypted"], text(&case["name"]));
        let expected = Delivered { timestamp_secs, kind: DeliveredKind::Quota };
        assert_eq!(decrypt_message(&key, &msg_id, sealed.as_mut_slice()), Ok(expected));
    }
}

#[test]
fn notifications() {
    let vectors = load("delivery.json");
    for case in list(&vectors, "notifications") {
        let key = agreed(case, "server_ntf_key", "recipient_ntf_key");
        let (nonce, msg_id) = (array(&case["nonce"]), array(&case["msg_id"]));
        let timestamp_secs = timestamp(&case["timestamp_seconds"]);
        let sealed = encrypt_notification_meta(&key, &nonce, &msg_id, timestamp_secs);
        assert_bytes(&sealed, &case["encrypted"], text(&case["name"]));
        let padded = open(&key, &nonce, &sealed).unwrap();
        assert_bytes(&padded[2..35], &case["clear"], text(&case["name"]));
        let expected = NotificationMeta { msg_id: msg_id.to_vec(), timestamp_secs };
        assert_eq!(decrypt_notification_meta(&key, &nonce, &sealed), Ok(expected));
    }
}

#[test]
fn clear_bodies() {
    let vectors = load("delivery.json");
    for case in list(&vectors, "clear_body_parsing") {
        let name = text(&case["name"]);
        let clear = bytes(&case["clear"]);
        let parsed = Delivered::parse(&clear);
        if case["error"].is_string() {
            assert!(matches!(parsed, Err(OpenError::Content(_))), "{name}");
        } else if case["quota_timestamp_seconds"].is_i64() {
            let timestamp_secs = timestamp(&case["quota_timestamp_seconds"]);
            assert_eq!(parsed, Ok(Delivered { timestamp_secs, kind: DeliveredKind::Quota }), "{name}");
        } else {
            let body = bytes(&case["body"]);
            let flags = MsgFlags { notification: case["notification"].as_bool().unwrap() };
            let kind = DeliveredKind::Message { flags, body: &body };
            let timestamp_secs = timestamp(&case["timestamp_seconds"]);
            assert_eq!(parsed, Ok(Delivered { timestamp_secs, kind }), "{name}");
        }
    }
}

/// Longer metadata of a later version is read, shorter is not.
#[test]
fn notification_metadata_of_other_lengths() {
    let (key, nonce) = (BoxKey::from_secret(&[1; 32]), [2; 24]);
    let mut clear = vec![3, b'a', b'b', b'c'];
    clear.extend_from_slice(&5_i64.to_be_bytes());
    for len in 0..clear.len() {
        let sealed = seal_padded(&key, &nonce, &clear[..len], 128).unwrap();
        let refused = decrypt_notification_meta(&key, &nonce, &sealed);
        assert!(matches!(refused, Err(OpenError::Content(_))), "{len}");
    }
    for later in [&b""[..], b"later"] {
        let sealed = seal_padded(&key, &nonce, &[&clear, later].concat(), 128).unwrap();
        let expected = NotificationMeta { msg_id: b"abc".to_vec(), timestamp_secs: 5 };
        assert_eq!(decrypt_notification_meta(&key, &nonce, &sealed), Ok(expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn messages_come_back(
        secret in any::<[u8; 32]>(), msg_id in any::<[u8; 24]>(),
        timestamp_secs in 0_i64.., notification in any::<bool>(),
        body in prop::collection::vec(any::<u8>(), 0..=SEND_BODY_BYTES_MAX),
        change in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let key = BoxKey::from_secret(&secret);
        let header = DeliveryHeader { timestamp_secs, flags: MsgFlags { notification } };
        let sealed = encrypt_message(&key, &msg_id, header, &body).unwrap();
        let mut changed = sealed.clone();
        changed[change.index(DELIVERY_ENCRYPTED_BYTES)] ^= 1_u8 << bit;
        prop_assert_eq!(decrypt_message(&key, &msg_id, changed.as_mut_slice()), Err(OpenError::Tag));
        let cut = change.index(DELIVERY_ENCRYPTED_BYTES);
        prop_assert!(decrypt_message(&key, &msg_id, &mut sealed.clone()[..cut]).is_err());
        let mut opened = sealed;
        let delivered = decrypt_message(&key, &msg_id, opened.as_mut_slice()).unwrap();
        prop_assert_eq!(delivered.timestamp_secs, timestamp_secs);
        let kind = DeliveredKind::Message { flags: MsgFlags { notification }, body: &body };
        prop_assert_eq!(delivered.kind, kind);
    }

    #[test]
    fn metadata_comes_back(msg_id in any::<[u8; 24]>(), timestamp_secs in any::<i64>(), bit in 0..8_u32) {
        let (key, nonce) = (BoxKey::from_secret(&[1; 32]), [2; 24]);
        let sealed = encrypt_notification_meta(&key, &nonce, &msg_id, timestamp_secs);
        let meta = decrypt_notification_meta(&key, &nonce, &sealed).unwrap();
        prop_assert_eq!(meta, NotificationMeta { msg_id: msg_id.to_vec(), timestamp_secs });
        for at in 0..NOTIFICATION_META_ENCRYPTED_BYTES {
            let mut changed = sealed;
            changed[at] ^= 1_u8 << bit;
            prop_assert_eq!(decrypt_notification_meta(&key, &nonce, &changed), Err(OpenError::Tag));
            prop_assert!(decrypt_notification_meta(&key, &nonce, &sealed[..at]).is_err());
        }
    }

    #[test]
    fn clear_text_of_any_bytes_never_panics(
        clear in prop::collection::vec(any::<u8>(), 0..40),
        quota in any::<bool>(),
    ) {
        let clear = if quota { [b"QUOTA ", &clear[..]].concat() } else { clear };
        let _ = Delivered::parse(&clear);
    }
}
