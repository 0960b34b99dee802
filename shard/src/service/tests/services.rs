//! Services, as one shard sees them. What several shards make of it is in `shard/tests/services`.

use ringpost_protocol::handshake::{ServiceRole, VerifiedService};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_store::{ServiceId, ServiceTotal, id_hash};

use super::*;
use crate::limits::SERVICE_STEP_QUEUES;

static FINGERPRINT: [u8; 32] = [0xf1; 32];

fn service_key() -> AuthPrivateKey {
    AuthPrivateKey::ed25519(&[0x5e; 32])
}

/// What the key of an entity signs.
pub fn claimed<'a>(session: &Session, command: &Command<'_>, authorized: &Authorized<'a>) -> [&'a [u8]; 2] {
    let is_signed = session.service.is_some() && command.is_service_signed();
    [if is_signed { &FINGERPRINT[..] } else { &[] }, authorized.for_authorization()]
}

/// What the service signs beside it.
pub fn signature(session: &Session, command: &Command<'_>, authorized: &Authorized<'_>) -> Option<[u8; 64]> {
    let is_signed = session.service.is_some() && command.is_service_signed();
    let signed = is_signed.then(|| service_key().authorize(&[authorized.for_authorization()], None, &[]));
    signed.map(|signed| signed.unwrap().as_bytes().try_into().unwrap())
}

fn service_session(place: u32, id: ServiceId, role: ServiceRole) -> Arc<Session> {
    let mut session = Arc::into_inner(session(place, 19)).unwrap();
    let AuthPublicKey::Ed25519(session_key) = service_key().public() else { unreachable!() };
    let fingerprint = FINGERPRINT;
    let verified = VerifiedService { role, fingerprint, session_key };
    session.service = Some(Box::new(SessionService::new(id, &verified)));
    Arc::new(session)
}

fn find(world: &mut World, place: u32, seed: u8, role: ServiceRole) -> Option<ServiceId> {
    let conn = ConnRef { shard: 0, place, generation: 0 };
    let wanted = FindService { conn, role, fingerprint: [seed; 32], chain: vec![1, 0, 0], today: 20_000 };
    world.service.find_service(Box::new(wanted));
    let conn = ConnRef { shard: 0, place: 0, generation: 0 };
    world.run(conn, Progress::Rests);
    match world.parts.pop() {
        Some((to, ServicePart::Found(id))) if to == place => id,
        other => panic!("{other:?}"),
    }
}

fn hold(
    world: &mut World,
    session: &Arc<Session>,
    round: u32,
    subscribes_all: bool,
) -> Vec<(u32, ServicePart)> {
    world.service.carry_out(&ServiceOrder::Hold { session: Arc::clone(session), round, subscribes_all });
    let got = world.run(session.conn, Progress::Rests);
    assert_eq!(got, []);
    std::mem::take(&mut world.parts)
}

/// Lets the scan of a connection run until it rests. Gives its steps and what came.
fn scan(world: &mut World, conn: ConnRef) -> (usize, Vec<(u32, Got)>) {
    let (mut steps, mut progress) = (1, world.service.start_scan(conn));
    while progress == Progress::GoesOn {
        steps += 1;
        progress = world.service.scan(conn);
    }
    (steps, world.run(conn, Progress::Rests))
}

fn total(queues: &[&Queue]) -> ServiceTotal {
    let mut total = ServiceTotal::default();
    for queue in queues {
        total.add(&ServiceTotal { count: 1, ids_hash: id_hash(&queue.recipient_id) });
    }
    total
}

#[test]
fn a_certificate_has_one_id_and_one_role_and_their_number_has_a_limit() {
    let mut world = world();
    let id = find(&mut world, 1, 7, ServiceRole::Messaging).unwrap();
    assert_eq!(find(&mut world, 2, 7, ServiceRole::Messaging), Some(id));
    assert_eq!(find(&mut world, 3, 7, ServiceRole::Notifier), None);
    let other = find(&mut world, 4, 8, ServiceRole::Notifier).unwrap();
    assert_ne!(other, id);
    assert_eq!(find(&mut world, 5, 9, ServiceRole::Messaging), None, "two are the limit");
    assert_eq!(find(&mut world, 6, 8, ServiceRole::Notifier), Some(other));
    let stored = world.service.store().service(&id).unwrap();
    assert_eq!((stored.role, stored.created_day), (ServiceRole::Messaging, 20_000));
}

#[test]
fn queues_are_received_from_by_the_session_that_holds_their_service() {
    let mut world = world();
    world.version = 19;
    let (a, b) = (session(1, 19), session(2, 19));
    let (x, y) = ([7; 24], [8; 24]);
    let first = service_session(3, x, ServiceRole::Messaging);
    let second = service_session(4, x, ServiceRole::Messaging);
    let other = service_session(5, y, ServiceRole::Messaging);
    let queue = world.new_queue(&a, SubscribeMode::Subscribe);
    assert_eq!(
        hold(&mut world, &first, 1, false),
        [(3, ServicePart::Holds { round: 1, total: total(&[]), is_new: false })]
    );
    assert!(first.has_subscriptions());
    let sub = |world: &mut World, session| {
        world.command(session, &queue.recipient_id, Some(&queue.key), &Command::Sub)
    };
    assert_eq!(sub(&mut world, &first), [(1, Got::End), (3, Got::Sok)]);
    assert!(!a.has_subscriptions());
    // A second time it is not told to anyone, and counted once.
    assert_eq!(sub(&mut world, &first), [(3, Got::Sok)]);
    let own = total(&[&queue]);
    assert_eq!(
        hold(&mut world, &first, 2, true),
        [(3, ServicePart::Holds { round: 2, total: own, is_new: true })]
    );
    assert_eq!(scan(&mut world, first.conn).1, []);
    assert_eq!(std::mem::take(&mut world.parts), [(3, ServicePart::Delivered { round: 2 })]);

    let got = world.send(&b, &queue, None, b"one");
    assert_eq!(got[0], (2, Got::Ok));
    let (id, body) = opened(&got[1], 3, &queue);
    assert_eq!(body.unwrap(), b"one");
    // The second session takes over: what was delivered to the first is void.
    assert_eq!(
        hold(&mut world, &second, 1, true),
        [
            (3, ServicePart::Ended { round: 2, total: own }),
            (4, ServicePart::Holds { round: 1, total: own, is_new: true })
        ]
    );
    assert!(!first.has_subscriptions() && second.has_subscriptions());
    assert_eq!(world.ack(&first, &queue, &id), [(3, Got::Err(ErrorType::NoMsg))]);
    let (_, got) = scan(&mut world, second.conn);
    assert_eq!(opened(&got[0], 4, &queue).0, id);
    // Back again, in a new term: it is delivered anew.
    hold(&mut world, &first, 3, true);
    let (_, got) = scan(&mut world, first.conn);
    assert_eq!(opened(&got[0], 3, &queue).0, id);
    assert_eq!(world.ack(&second, &queue, &id), [(4, Got::Err(ErrorType::NoMsg))]);
    assert_eq!(world.ack(&first, &queue, &id), [(3, Got::Ok)]);

    // Another service takes the queue; then its owner does.
    hold(&mut world, &other, 1, false);
    assert_eq!(sub(&mut world, &other), [(3, Got::End), (5, Got::Sok)]);
    assert_eq!(sub(&mut world, &a), [(5, Got::End), (1, Got::Sok)]);
    let got = world.send(&b, &queue, None, b"two");
    assert_eq!(opened(&got[1], 1, &queue).1.unwrap(), b"two");
    world.parts.clear();
    let parts = hold(&mut world, &first, 4, true);
    assert_eq!(parts, [(3, ServicePart::Holds { round: 4, total: total(&[]), is_new: false })]);
}

#[test]
fn nobody_receives_for_a_service_that_is_gone() {
    let mut world = world();
    world.version = 19;
    let b = session(2, 19);
    let first = service_session(3, [7; 24], ServiceRole::Messaging);
    hold(&mut world, &first, 1, true);
    let queue = world.new_queue(&first, SubscribeMode::Subscribe);
    assert_eq!(world.send(&b, &queue, None, b"one").len(), 2);
    // However the two letters of its end are ordered, and even if an order comes between them.
    world.service.disconnected(first.conn);
    assert_eq!(world.send(&b, &queue, None, b"two"), [(2, Got::Ok)]);
    world.service.carry_out(&ServiceOrder::Release { session: Arc::clone(&first) });
    world.service.disconnected(first.conn);
    assert_eq!(world.service.subscription_count(), 0);
    let second = service_session(4, [7; 24], ServiceRole::Messaging);
    let parts = hold(&mut world, &second, 1, true);
    assert_eq!(parts, [(4, ServicePart::Holds { round: 1, total: total(&[&queue]), is_new: true })]);
    let (_, got) = scan(&mut world, second.conn);
    assert_eq!(opened(&got[0], 4, &queue).1.unwrap(), b"one");
}

#[test]
fn a_step_goes_through_few_queues_and_delivers_few_messages() {
    let mut world = world();
    world.version = 19;
    world.service.config.queues_max = 10_000;
    let b = session(2, 19);
    let first = service_session(3, [7; 24], ServiceRole::Messaging);
    hold(&mut world, &first, 1, false);
    let step_queues = SERVICE_STEP_QUEUES as usize;
    let queues: Vec<Queue> =
        (0..3 * step_queues + 5).map(|_| world.new_queue(&first, SubscribeMode::Subscribe)).collect();
    world.service.carry_out(&ServiceOrder::Release { session: first });
    for queue in queues.iter().step_by(500) {
        world.send(&b, queue, None, b"waits");
    }
    let waiting = queues.len().div_ceil(500);
    let second = service_session(4, [7; 24], ServiceRole::Messaging);
    hold(&mut world, &second, 9, true);
    let (mut steps, mut came) = scan(&mut world, second.conn);
    // It waits when its credit is used up, and goes on with more.
    while world.parts.is_empty() {
        assert!(came.len() <= waiting);
        assert_eq!(came.len() % CREDIT, 0);
        world.service.return_credit(second.conn, CREDIT);
        for conn in world.service.take_scannable() {
            assert_eq!(conn, second.conn);
            let mut progress = Progress::GoesOn;
            while progress == Progress::GoesOn {
                steps += 1;
                progress = world.service.scan(conn);
            }
        }
        came.extend(world.run(second.conn, Progress::Rests));
    }
    assert_eq!(world.parts, [(4, ServicePart::Delivered { round: 9 })]);
    assert_eq!(came.len(), waiting);
    assert!(steps >= queues.len().div_ceil(step_queues), "{steps} steps");
}

#[test]
fn an_order_of_a_session_without_a_subscription_changes_nothing() {
    let mut world = world();
    let plain = session(1, 19);
    let proxy = service_session(2, [7; 24], ServiceRole::Proxy);
    for session in [plain, proxy] {
        assert_eq!(hold(&mut world, &session, 1, true), []);
        assert_eq!(world.service.start_scan(session.conn), Progress::Rests);
        assert!(!session.has_subscriptions());
    }
}
