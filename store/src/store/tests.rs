#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, VecDeque};

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::error::{BlockingInfo, BlockingReason, ClientNotice};
use ringpost_protocol::handshake::ServiceRole;
use ringpost_protocol::keys::AuthPublicKey;

use super::*;
use crate::id::BUCKETS;
use crate::message::{Content, Message, Written};
use crate::parts::{Link, NewNotifier, Notification, Notifier, Parts};
use crate::queue::Status;
use crate::service::{Service, ServiceTotal, id_hash};

fn new_queue(n: u8) -> NewQueue {
    NewQueue {
        recipient_id: [n; 24],
        sender_id: [n ^ 0x80; 24],
        recipient_key: AuthPublicKey::Ed25519([n; 32]),
        delivery_secret: [n; 32],
        mode: None,
    }
}

fn message(n: u8) -> Message<u8> {
    Message {
        id: [n; 24],
        received_secs: u64::from(n),
        content: Content::Sent { flags: MsgFlags::default(), body: n },
    }
}

fn store() -> Store<u8> {
    Store::new(IdHasher::new(&[1; 16]))
}

#[test]
fn ids_find_their_queue_in_their_role_only() {
    let mut store = store();
    let ix = store.create(new_queue(1), 0).unwrap();
    assert_eq!(store.find(Party::Recipient, &[1; 24]), Some(ix));
    assert_eq!(store.find(Party::Sender, &[0x81; 24]), Some(ix));
    assert_eq!(store.find(Party::Sender, &[1; 24]), None);
    assert_eq!(store.create(new_queue(1), 0), Err(DuplicateId));
    assert!(store.delete(ix).is_some());
    assert_eq!(store.find(Party::Recipient, &[1; 24]), None);
    assert_eq!(store.find(Party::Sender, &[0x81; 24]), None);
    assert!(store.delete(ix).is_none());
    assert_ne!(store.create(new_queue(1), 0).unwrap(), ix);
    assert!(store.queue(ix).is_none());
}

#[test]
fn a_queue_keeps_its_first_sender_key() {
    let mut store = store();
    let ix = store.create(new_queue(1), 0).unwrap();
    let key = AuthPublicKey::X25519([1; 32]);
    assert_eq!(store.secure(ix, key.clone()), Ok(()));
    assert_eq!(store.secure(ix, key), Ok(()));
    assert_eq!(store.secure(ix, AuthPublicKey::X25519([2; 32])), Err(KeyConflict));
}

/// Random operations against the simplest model: a map from recipient ID to a list.
#[test]
fn it_agrees_with_a_simple_model() {
    let mut store = store();
    let mut model: HashMap<u8, VecDeque<u8>> = HashMap::new();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for step in 0..20_000_u32 {
        let n = u8::try_from(random(100)).unwrap();
        let m = u8::try_from(step % 251).unwrap();
        let ix = store.find(Party::Recipient, &[n; 24]);
        assert_eq!(ix.is_some(), model.contains_key(&n));
        assert_eq!(store.find(Party::Sender, &[n ^ 0x80; 24]), ix);
        match (random(6), ix) {
            (0, None) => {
                store.create(new_queue(n), 0).unwrap();
                model.insert(n, VecDeque::new());
            }
            (1, Some(ix)) if random(4) == 0 => {
                store.delete(ix).unwrap();
                model.remove(&n);
            }
            (2 | 3, Some(ix)) => {
                assert!(matches!(store.write(ix, message(m), 1000), Some(Written::Stored { .. })));
                model.get_mut(&n).unwrap().push_back(m);
            }
            (4, Some(ix)) => {
                let first = model.get_mut(&n).unwrap().pop_front();
                assert_eq!(store.first_message(ix).map(|m| m.id[0]), first);
                if let Some(first) = first {
                    assert!(store.take_message(ix, &[first; 24]).is_some());
                }
            }
            _ => {}
        }
        assert_eq!(store.queue_count(), model.len());
        assert_eq!(store.message_count(), model.values().map(VecDeque::len).sum::<usize>());
    }
    assert_eq!(store.queues_between(0..u32::MAX).count(), model.len());
    let mut by_bucket = 0;
    for bucket in (0..BUCKETS).filter_map(Bucket::from_index) {
        for (ix, queue) in store.queues_of(bucket) {
            assert_eq!(store.hasher().hash(&queue.recipient_id).bucket(), bucket);
            assert_eq!(store.find(Party::Recipient, &queue.recipient_id), Some(ix));
            by_bucket += 1;
        }
    }
    assert_eq!(by_bucket, model.len());
}

fn key(n: u8) -> AuthPublicKey {
    AuthPublicKey::Ed25519([n; 32])
}

fn link(n: u8, data: u8) -> Link<u8> {
    Link { id: [n; 24], fixed_bytes: 3, fixed_hash: 4, data }
}

fn notifier(n: u8, service: Option<u8>) -> NewNotifier {
    NewNotifier { id: [n; 24], key: key(n), secret: [n; 32], service: service.map(|n| [n; 24]) }
}

fn notification(n: u8) -> Notification {
    Notification { message_id: [n; 24], received_secs: u64::from(n), nonce: [n; 24], meta: [n; 144].into() }
}

#[test]
fn a_link_is_found_changed_in_its_user_data_only_and_removed() {
    let mut store = store();
    let ix = store.create(new_queue(1), 0).unwrap();
    let other = store.create(new_queue(2), 0).unwrap();
    assert_eq!(store.remove_link(ix), Ok(None));
    assert_eq!(store.set_link(ix, link(7, 1)), Ok(None));
    assert_eq!(store.find(Party::Link, &[7; 24]), Some(ix));
    // While it is replayed, a link that moved may be found in both queues.
    assert_eq!(store.set_link(other, link(7, 1)), Ok(None));
    assert_eq!(store.remove_link(other), Ok(Some(link(7, 1))));
    assert_eq!(store.find(Party::Link, &[7; 24]), Some(ix));
    assert_eq!(store.set_link(ix, link(7, 2)), Ok(Some(link(7, 1))));
    assert_eq!(store.set_link(ix, link(8, 2)), Err(ChangeError::OtherLink));
    assert_eq!(store.set_link(ix, Link { fixed_bytes: 2, ..link(7, 2) }), Err(ChangeError::OtherLink));
    assert_eq!(store.set_link(ix, Link { fixed_hash: 2, ..link(7, 2) }), Err(ChangeError::OtherLink));
    assert_eq!(store.queue(ix).unwrap().link(), Some(&link(7, 2)));
    assert_eq!(store.remove_link(ix), Ok(Some(link(7, 2))));
    assert_eq!(store.find(Party::Link, &[7; 24]), None);
    assert!(store.queue(ix).unwrap().parts.is_none());
    assert_eq!(store.set_link(other, link(7, 3)), Ok(None));
    assert_eq!(store.bodies().copied().collect::<Vec<u8>>(), [3]);
    assert_eq!(store.delete(other).unwrap().into_bodies().collect::<Vec<u8>>(), [3]);
    assert_eq!(store.find(Party::Link, &[7; 24]), None);
    assert_eq!(store.set_link(other, link(7, 3)), Err(ChangeError::NoQueue));
}

#[test]
fn a_notifier_is_replaced_with_its_notifications() {
    let mut store = store();
    let ix = store.create(new_queue(1), 0).unwrap();
    assert_eq!(store.note_notification(ix, notification(1)), Err(ChangeError::NoNotifier));
    assert!(store.set_notifier(ix, notifier(5, None)).unwrap().is_none());
    assert_eq!(store.set_notifier(ix, notifier(5, None)).unwrap_err(), ChangeError::DuplicateId);
    for n in 1..=4 {
        assert_eq!(store.note_notification(ix, notification(n)), Ok(None));
    }
    assert_eq!(store.take_notifications(ix, 1), Ok(vec![notification(1)]));
    assert_eq!(store.expire_notifications(ix, 3), Ok(vec![notification(2)]));
    assert_eq!(store.take_notifications(ix, 3), Err(ChangeError::NoNotifications));
    let former = store.set_notifier(ix, notifier(6, None)).unwrap().unwrap();
    assert_eq!((former.id, former.notifications().len()), ([5; 24], 2));
    assert_eq!(store.find(Party::Notifier, &[5; 24]), None);
    assert_eq!(store.find(Party::Notifier, &[6; 24]), Some(ix));
    assert_eq!(store.queue(ix).unwrap().notifier().unwrap().notifications().len(), 0);
    assert!(store.remove_notifier(ix).unwrap().is_some());
    assert!(store.remove_notifier(ix).unwrap().is_none());
    assert!(store.queue(ix).unwrap().parts.is_none());
}

#[test]
fn recipient_keys_are_replaced_as_a_list() {
    let mut store = store();
    let ix = store.create(new_queue(1), 0).unwrap();
    let keys = |store: &Store<u8>| {
        store.queue(ix).unwrap().recipient_keys().cloned().collect::<Vec<AuthPublicKey>>()
    };
    assert_eq!(keys(&store), [key(1)]);
    store.set_recipient_keys(ix, [key(2), key(3)]).unwrap();
    store.add_recipient_keys(ix, [key(4)]).unwrap();
    assert_eq!(keys(&store), [key(2), key(3), key(4)]);
    assert_eq!(store.set_recipient_keys(ix, []), Err(ChangeError::KeyCount));
    let many = |count| std::iter::repeat_n(key(9), count);
    assert_eq!(store.set_recipient_keys(ix, many(256)), Err(ChangeError::KeyCount));
    assert_eq!(keys(&store).len(), 3);
    store.set_recipient_keys(ix, many(255)).unwrap();
    assert_eq!(store.add_recipient_keys(ix, many(1)), Err(ChangeError::KeyCount));
    store.set_recipient_keys(ix, [key(5)]).unwrap();
    assert_eq!(keys(&store), [key(5)]);
    assert!(store.queue(ix).unwrap().parts.is_none());
}

#[test]
fn blocking_keeps_its_reason_until_the_status_changes() {
    let mut store = store();
    let ix = store.create(new_queue(1), 0).unwrap();
    let status = |store: &Store<u8>| store.queue(ix).unwrap().status();
    let spam = BlockingInfo { reason: BlockingReason::Spam, notice: None };
    let notice = Some(ClientNotice { ttl_secs: Some(5) });
    let content = BlockingInfo { reason: BlockingReason::Content, notice };
    assert_eq!(status(&store), Status::Active);
    store.block(ix, spam.clone()).unwrap();
    assert_eq!(status(&store), Status::Blocked(spam));
    store.block(ix, content.clone()).unwrap();
    assert_eq!(status(&store), Status::Blocked(content.clone()));
    store.unblock(ix).unwrap();
    assert_eq!(status(&store), Status::Active);
    store.suspend(ix);
    store.block(ix, content).unwrap();
    store.suspend(ix);
    assert_eq!(status(&store), Status::Suspended);
    assert!(store.queue(ix).unwrap().parts.is_none());
}

#[test]
fn a_queue_is_made_with_all_its_parts_or_not_at_all() {
    let mut store = store();
    let parts = |n: u8| NewParts {
        link: Some(link(n, n)),
        notifier: Some(notifier(n, Some(8))),
        recipient_service: Some([9; 24]),
    };
    let ix = store.create_with(new_queue(1), parts(1), 3).unwrap();
    let queue = store.queue(ix).unwrap();
    assert_eq!(queue.link(), Some(&link(1, 1)));
    assert_eq!(queue.notifier().unwrap().key, key(1));
    assert_eq!((queue.recipient_service(), queue.notifier_service()), (Some(&[9; 24]), Some(&[8; 24])));
    for wrong in [
        NewParts { link: Some(link(1, 2)), ..parts(2) },
        NewParts { notifier: Some(notifier(1, None)), ..parts(2) },
    ] {
        assert_eq!(store.create_with(new_queue(2), wrong, 3), Err(DuplicateId));
    }
    assert_eq!((store.queue_count(), store.find(Party::Link, &[2; 24])), (1, None));
    assert_eq!(store.service_total(ServiceParty::Recipient, &[9; 24]).count, 1);
    store.delete(ix).unwrap();
    assert_eq!(store.find(Party::Notifier, &[1; 24]), None);
    assert_eq!(store.service_total(ServiceParty::Notifier, &[8; 24]), ServiceTotal::default());
}

#[test]
fn a_service_has_one_id_and_one_certificate() {
    let mut store = store();
    let service = |id: u8, fingerprint: u8| Service {
        id: [id; 24],
        role: ServiceRole::Notifier,
        fingerprint: [fingerprint; 32],
        created_day: 1,
        chain: id,
    };
    store.add_service(service(1, 1)).unwrap();
    store.add_service(service(2, 2)).unwrap();
    assert_eq!(store.add_service(service(1, 3)), Err(DuplicateService));
    assert_eq!(store.add_service(service(3, 1)), Err(DuplicateService));
    assert_eq!(store.service(&[1; 24]), Some(&service(1, 1)));
    assert_eq!(store.service_with_certificate(&[2; 32]), Some(&service(2, 2)));
    assert_eq!((store.service(&[3; 24]), store.service_with_certificate(&[3; 32])), (None, None));
    assert_eq!(store.services().count(), 2);
    let bucket = store.hasher().hash_fingerprint(&[1; 32]).bucket();
    assert_eq!(store.services_of(bucket).map(|service| service.id).collect::<Vec<_>>(), [[1; 24]]);
}

#[test]
fn the_hash_of_ids_is_the_xor_of_their_md5() {
    let mut total = ServiceTotal { count: 1, ids_hash: id_hash(&[1; 24]) };
    assert_eq!(u128::from_be_bytes(total.ids_hash), 0x1454_8bed_5b3c_e76e_b53b_75a8_59e1_280c);
    total.add(&ServiceTotal { count: 1, ids_hash: id_hash(&[2; 24]) });
    assert_eq!(
        (total.count, u128::from_be_bytes(total.ids_hash)),
        (2, 0x340f_f55e_ba8f_4daf_e489_c000_970c_b6c9)
    );
}

/// Totals against what the queues say, through random changes.
#[test]
fn totals_of_services_are_those_of_their_queues() {
    let mut store = store();
    let mut random = crate::sim::Random::new(5);
    let mut next_notifier = 0_u64;
    for step in 0..5_000 {
        let n = u8::try_from(random.below(30)).unwrap();
        let service = random.chance(70).then(|| [u8::try_from(random.below(4)).unwrap(); 24]);
        let Some(ix) = store.find(Party::Recipient, &[n; 24]) else {
            store
                .create_with(new_queue(n), NewParts { recipient_service: service, ..NewParts::default() }, 0)
                .unwrap();
            continue;
        };
        match random.below(8) {
            0 => drop(store.delete(ix)),
            1..4 => _ = store.set_recipient_service(ix, service).unwrap(),
            4 => drop(store.remove_notifier(ix)),
            5 => {
                next_notifier += 1;
                let mut id = [0; 24];
                id[..8].copy_from_slice(&next_notifier.to_le_bytes());
                drop(store.set_notifier(ix, NewNotifier { id, service, ..notifier(0, None) }).unwrap());
            }
            _ => _ = store.set_notifier_service(ix, service),
        }
        if step % 10 > 0 {
            continue;
        }
        let mut expected: HashMap<(ServiceParty, [u8; 24]), ServiceTotal> = HashMap::new();
        for (ix, queue) in store.queues_between(0..u32::MAX) {
            let mut count = |party, service: &[u8; 24], id| {
                let total = expected.entry((party, *service)).or_default();
                total.add(&ServiceTotal { count: 1, ids_hash: id_hash(id) });
            };
            if let Some(service) = queue.recipient_service() {
                count(ServiceParty::Recipient, service, &queue.recipient_id);
            }
            if let Some(notifier) = queue.notifier() {
                assert_eq!(store.find(Party::Notifier, &notifier.id), Some(ix));
                if let Some(service) = &notifier.service {
                    count(ServiceParty::Notifier, service, &notifier.id);
                }
            }
        }
        for service in 0..4 {
            for party in [ServiceParty::Recipient, ServiceParty::Notifier] {
                let total = expected.get(&(party, [service; 24])).copied().unwrap_or_default();
                assert_eq!(store.service_total(party, &[service; 24]), total);
            }
        }
    }
    assert!(next_notifier > 100);
}

#[test]
fn a_queue_record_is_small() {
    assert!(size_of::<Queue<[u64; 2]>>() <= 200, "{}", size_of::<Queue<[u64; 2]>>());
    // A queue with a notifier has parts and the notifier besides.
    assert!(size_of::<Parts<[u64; 2]>>() <= 48, "{}", size_of::<Parts<[u64; 2]>>());
    assert!(size_of::<Notifier>() <= 152, "{}", size_of::<Notifier>());
}
