//! Queues and changes of any content.

use proptest::collection::vec;
use proptest::prelude::*;
use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::{BlockingInfo, BlockingReason, ClientNotice};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_router::reference::{Change, Link, Notifier, QueueRecord, QueueStatus, ServiceParty};

pub fn key() -> impl Strategy<Value = AuthPublicKey> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(AuthPublicKey::Ed25519),
        any::<[u8; 32]>().prop_map(AuthPublicKey::X25519),
        vec(any::<u8>(), 57).prop_map(|raw| AuthPublicKey::Ed448(Box::new(raw.try_into().unwrap()))),
    ]
}

pub fn id() -> impl Strategy<Value = [u8; 24]> {
    any::<[u8; 24]>()
}

prop_compose! {
    fn link()(id in id(), fixed in vec(any::<u8>(), 1..80), user in vec(any::<u8>(), 1..80)) -> Link {
        Link { id, fixed, user }
    }
}

prop_compose! {
    fn notifier()(id in id(), key in key(), secret: [u8; 32], service in proptest::option::of(id())) -> Notifier {
        Notifier { id, key, secret, service }
    }
}

fn blocking() -> impl Strategy<Value = BlockingInfo> {
    let reason = prop_oneof![Just(BlockingReason::Spam), Just(BlockingReason::Content)];
    let notice = proptest::option::of(any::<Option<i64>>().prop_map(|ttl_secs| ClientNotice { ttl_secs }));
    (reason, notice).prop_map(|(reason, notice)| BlockingInfo { reason, notice })
}

fn status() -> impl Strategy<Value = QueueStatus> {
    prop_oneof![
        Just(QueueStatus::Active),
        Just(QueueStatus::Suspended),
        blocking().prop_map(QueueStatus::Blocked)
    ]
}

fn mode() -> impl Strategy<Value = Option<QueueMode>> {
    prop_oneof![Just(None), Just(Some(QueueMode::Messaging)), Just(Some(QueueMode::Contact))]
}

prop_compose! {
    pub fn record()(
        (recipient_keys, sender_key) in (vec(key(), 1..6), proptest::option::of(key())),
        (delivery_secret, sender_id, mode) in (any::<[u8; 32]>(), id(), mode()),
        link in proptest::option::of(link()),
        notifier in proptest::option::of(notifier()),
        (updated_secs, status, service) in (any::<Option<i64>>(), status(), proptest::option::of(id())),
    ) -> Box<QueueRecord> {
        Box::new(QueueRecord {
            recipient_keys,
            delivery_secret,
            sender_id,
            sender_key,
            mode,
            link: link.map(Box::new),
            notifier: notifier.map(Box::new),
            updated_secs,
            status,
            service,
        })
    }
}

pub fn change() -> impl Strategy<Value = Change> {
    let party = prop_oneof![Just(ServiceParty::Recipient), Just(ServiceParty::Notifier)];
    prop_oneof![
        record().prop_map(Change::Create),
        link().prop_map(Change::Link),
        Just(Change::DeleteLink),
        key().prop_map(Change::Secure),
        vec(key(), 1..256).prop_map(Change::Keys),
        notifier().prop_map(|notifier| Change::Notifier(Box::new(notifier))),
        Just(Change::DeleteNotifier),
        Just(Change::Suspend),
        blocking().prop_map(Change::Block),
        Just(Change::Unblock),
        Just(Change::Delete),
        any::<i64>().prop_map(Change::Time),
        (party, proptest::option::of(id())).prop_map(|(party, service)| Change::Service { party, service }),
    ]
}
