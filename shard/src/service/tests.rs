//! The service without sockets: commands in, outputs out. What a running reference router answers to the same steps is in
//! `shared/vectors/smp_session.json`; `shard/tests/session_vectors.rs` replays it over the wire.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod expiry;

use rand_core::SeedableRng;
use ringpost_protocol::command::{Command, MsgFlags, NewQueue, QueueRequest, SubscribeMode};
use ringpost_protocol::crypto::authorization::{AuthPrivateKey, OwnedAuthorization};
use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_protocol::crypto::delivery::{DeliveredKind, decrypt_message};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::transmission::{Authorization, Authorized, Format, Transmission};
use ringpost_protocol::version::SmpVersion;

use ringpost_store::{IdHasher, MemoryLog};

use super::*;

mod forms;
mod services;
mod together;

const QUOTA: usize = 4;
const CREDIT: usize = 2;

/// A response or event, decoded.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Ids { recipient_id: Vec<u8>, sender_id: Vec<u8>, router_dh: [u8; 32] },
    Ok,
    Sok,
    Pong,
    End,
    Deld,
    Info(String),
    Msg { id: Vec<u8>, body: Vec<u8> },
    Err(ErrorType),
}

struct World {
    service: Service<MemoryLog>,
    now_secs: u64,
    next_corr: u8,
    version: u16,
    /// Batches that were answered.
    answered: usize,
    /// What services were told, with the place of their connection.
    parts: Vec<(u32, ServicePart)>,
}

struct Queue {
    recipient_id: Vec<u8>,
    sender_id: Vec<u8>,
    key: AuthPrivateKey,
    secret: BoxKey,
}

fn world() -> World {
    let config = ServiceConfig {
        allow_new_queues: true,
        create_password: None,
        queue_quota: QUOTA,
        message_ttl_secs: Some(1000),
        expires_on_send: true,
        notification_ttl_secs: 1000,
        unused_queue_days: None,
        links: Arc::default(),
        message_bytes_max: 1 << 20,
        queues_max: 1000,
        services_max: 2,
        subscriptions_per_connection: 100,
        delivery_credit: CREDIT,
    };
    let random = ChaCha20Rng::seed_from_u64(7);
    let arena = Arena::new(100, 4);
    let store = Store::new(IdHasher::new(&[3; 16]));
    let service = Service::new(config, store, MemoryLog::new(), 0..256, arena, random, Arc::default());
    World { service, now_secs: 1_000_000, next_corr: 0, version: 18, answered: 0, parts: Vec::new() }
}

fn session(place: u32, version: u16) -> Arc<Session> {
    Arc::new(Session {
        conn: ConnRef { shard: 0, place, generation: 0 },
        version: SmpVersion(version),
        session_id: SessionId::new(&[u8::try_from(place).unwrap(); 32]).unwrap(),
        forward_key: None,
        proxy: false,
        forwarded: false,
        router_key: DhPrivateKey::from_bytes([9; 32]),
        counts: SessionCounts::default(),
        service: None,
    })
}

impl World {
    fn transmission(
        &mut self,
        session: &Session,
        entity_id: &[u8],
        key: Option<&AuthPrivateKey>,
        command: &Command<'_>,
    ) -> Vec<u8> {
        self.next_corr = self.next_corr.wrapping_add(1);
        let corr_id = [self.next_corr; 24];
        let mut buffer = Vec::new();
        let format = Format::of_session(session.version);
        let authorized = Authorized::command(
            format,
            session.session_id.as_ref(),
            &corr_id,
            entity_id,
            command,
            &mut buffer,
        );
        let made = key.map(|key| {
            let router_key = session.router_key.public();
            let claimed = services::claimed(session, command, &authorized);
            key.authorize(&claimed, Some(&router_key), &corr_id).unwrap()
        });
        let authorization = made.as_ref().map_or(Authorization::None, OwnedAuthorization::as_borrowed);
        let mut out = Vec::new();
        let signature = services::signature(session, command, &authorized);
        authorized.write(authorization, signature.as_ref(), &mut out);
        out
    }

    /// Sends transmissions as one block and gives what every connection receives, by its place.
    fn batch(&mut self, session: &Arc<Session>, transmissions: &[Vec<u8>]) -> Vec<(u32, Got)> {
        let batch = self.block(session, transmissions);
        self.process(Box::new(batch))
    }

    #[allow(clippy::unused_self)]
    fn block(&self, session: &Arc<Session>, transmissions: &[Vec<u8>]) -> Batch {
        let mut block = Arena::new(1, 1).lend().unwrap().detach();
        let mut places = smallvec::SmallVec::new();
        let mut at = 26;
        for bytes in transmissions {
            block[at..at + bytes.len()].copy_from_slice(bytes);
            places.push((u16::try_from(at).unwrap(), u16::try_from(bytes.len()).unwrap()));
            at += bytes.len() + 2;
        }
        let data = BatchData::Block(block);
        Batch { session: Arc::clone(session), data, transmissions: places, next: 0, forwarded: None }
    }

    /// Processes a batch as far as it goes.
    fn process(&mut self, batch: Box<Batch>) -> Vec<(u32, Got)> {
        let conn = batch.session.conn;
        let progress = self.service.process(batch, 2, self.now_secs);
        self.run(conn, progress)
    }

    /// Resumes a connection until it rests, and gives what everyone received.
    fn run(&mut self, conn: ConnRef, mut progress: Progress) -> Vec<(u32, Got)> {
        while progress == Progress::GoesOn {
            progress = self.service.resume(conn, 2, self.now_secs);
        }
        // Transmissions carry the session of the connection they go to.
        let of = |conn: ConnRef| session(conn.place, self.version);
        let mut got = Vec::new();
        while let Some(output) = self.service.next_output() {
            match output {
                Output::Responses { conn, bytes, answered, .. } => {
                    self.answered += usize::from(answered);
                    let mut rest = &bytes[..];
                    while let Some((len, after)) = rest.split_first_chunk() {
                        let (bytes, after) = after.split_at(usize::from(u16::from_be_bytes(*len)));
                        got.push((conn.place, decode(&of(conn), bytes)));
                        rest = after;
                    }
                }
                Output::Message { conn, message, .. } => {
                    got.push((conn.place, decode(&of(conn), &message.bytes()[2..])));
                }
                Output::Service { conn, part } => self.parts.push((conn.place, part)),
            }
        }
        got
    }

    fn command(
        &mut self,
        session: &Arc<Session>,
        entity_id: &[u8],
        key: Option<&AuthPrivateKey>,
        command: &Command<'_>,
    ) -> Vec<(u32, Got)> {
        let bytes = self.transmission(session, entity_id, key, command);
        self.batch(session, &[bytes])
    }

    fn new_queue(&mut self, session: &Arc<Session>, subscribe: SubscribeMode) -> Queue {
        self.next_corr = self.next_corr.wrapping_add(1);
        let key = AuthPrivateKey::ed25519(&[self.next_corr; 32]);
        let dh = DhPrivateKey::from_bytes([self.next_corr; 32]);
        let new = NewQueue {
            recipient_key: key.public(),
            recipient_dh_key: dh.public(),
            basic_auth: None,
            subscribe,
            request: Some(QueueRequest::Messaging(None)),
            notifier: None,
        };
        let got = self.command(session, &[], Some(&key), &Command::New(Box::new(new)));
        let [(_, Got::Ids { recipient_id, sender_id, router_dh })] = &got[..] else { panic!("{got:?}") };
        let secret = dh.agree(&ringpost_protocol::keys::DhPublicKey(*router_dh)).box_key();
        Queue { recipient_id: recipient_id.clone(), sender_id: sender_id.clone(), key, secret }
    }

    fn send(
        &mut self,
        session: &Arc<Session>,
        queue: &Queue,
        key: Option<&AuthPrivateKey>,
        body: &[u8],
    ) -> Vec<(u32, Got)> {
        self.command(session, &queue.sender_id, key, &Command::Send { flags: MsgFlags::default(), body })
    }

    fn ack(&mut self, session: &Arc<Session>, queue: &Queue, msg_id: &[u8]) -> Vec<(u32, Got)> {
        self.command(session, &queue.recipient_id, Some(&queue.key), &Command::Ack { msg_id })
    }
}

fn decode(session: &Session, bytes: &[u8]) -> Got {
    let format = Format::of_session(session.version);
    let transmission = Transmission::parse(bytes, format).unwrap();
    match transmission.decode_response(session.version, session.session_id.as_ref()).unwrap() {
        Response::Ids(ids) => Got::Ids {
            recipient_id: ids.recipient_id.into(),
            sender_id: ids.sender_id.into(),
            router_dh: ids.router_dh_key.0,
        },
        Response::Ok => Got::Ok,
        Response::Sok { .. } => Got::Sok,
        Response::Pong => Got::Pong,
        Response::End => Got::End,
        Response::Deld => Got::Deld,
        Response::Info(json) => Got::Info(String::from_utf8(json.into()).unwrap()),
        Response::Msg { msg_id, body } => Got::Msg { id: msg_id.into(), body: body.into() },
        Response::Err(error) => Got::Err(error),
        other => panic!("{other:?}"),
    }
}

/// The body of a message for a connection, and its ID.
fn opened(got: &(u32, Got), conn: u32, queue: &Queue) -> (Vec<u8>, Option<Vec<u8>>) {
    let (place, Got::Msg { id, body }) = got else { panic!("{got:?}") };
    assert_eq!(*place, conn);
    let mut sealed = body.clone();
    let delivered = decrypt_message(&queue.secret, &id[..].try_into().unwrap(), &mut sealed).unwrap();
    match delivered.kind {
        DeliveredKind::Message { body, .. } => (id.clone(), Some(body.into())),
        DeliveredKind::Quota => (id.clone(), None),
    }
}

fn outputs(service: &mut Service<MemoryLog>) -> usize {
    std::iter::from_fn(|| service.next_output()).count()
}

const AUTH: Got = Got::Err(ErrorType::Auth);
const PROHIBITED: Got = Got::Err(ErrorType::Cmd(CommandError::Prohibited));

#[test]
fn messages_of_every_size_arrive_in_order() {
    let mut world = world();
    let (recipient, sender) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&recipient, SubscribeMode::Subscribe);
    let bodies: Vec<Vec<u8>> =
        [0, 1, 5000, 12 * 1024, 16_000, 16_048].iter().map(|&n| vec![b'a'; n]).collect();
    for body in &bodies {
        let got = world.send(&sender, &queue, None, body);
        assert_eq!(got[0], (2, Got::Ok));
        let (id, opened_body) = opened(&got[1], 1, &queue);
        assert_eq!(opened_body.as_ref(), Some(body));
        world.service.return_credit(recipient.conn, 1);
        assert_eq!(world.ack(&recipient, &queue, &id), [(1, Got::Ok)]);
    }
    assert_eq!(world.service.message_bytes(), 0);
    assert_eq!(world.send(&sender, &queue, None, &[0; 16_049]), [(2, Got::Err(ErrorType::LargeMsg))]);
}

#[test]
fn the_next_message_comes_as_the_answer_to_ack() {
    let mut world = world();
    let (recipient, sender) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&recipient, SubscribeMode::Subscribe);
    let got = world.send(&sender, &queue, None, b"one");
    let (first, _) = opened(&got[1], 1, &queue);
    assert_eq!(world.send(&sender, &queue, None, b"two"), [(2, Got::Ok)]);
    assert_eq!(world.ack(&recipient, &queue, &[7; 24]), [(1, Got::Err(ErrorType::NoMsg))]);
    let got = world.ack(&recipient, &queue, &first);
    assert_eq!(got.len(), 1);
    let (second, body) = opened(&got[0], 1, &queue);
    assert_eq!(body.unwrap(), b"two");
    assert_eq!(world.ack(&recipient, &queue, &first), [(1, Got::Err(ErrorType::NoMsg))]);
    assert_eq!(world.ack(&recipient, &queue, &second), [(1, Got::Ok)]);
    assert_eq!(world.ack(&recipient, &queue, &second), [(1, Got::Err(ErrorType::NoMsg))]);
}

#[test]
fn a_second_subscriber_takes_over() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::Subscribe);
    let got = world.send(&b, &queue, None, b"one");
    let (id, _) = opened(&got[1], 1, &queue);
    assert!(a.has_subscriptions());
    let got = world.command(&b, &queue.recipient_id, Some(&queue.key), &Command::Sub);
    assert_eq!(got[0], (1, Got::End));
    assert_eq!(got[1], (2, Got::Sok));
    assert_eq!(opened(&got[2], 2, &queue).0, id);
    assert!(!a.has_subscriptions() && b.has_subscriptions());
    assert_eq!(world.ack(&a, &queue, &id), [(1, Got::Err(ErrorType::NoMsg))]);
    assert_eq!(world.ack(&b, &queue, &id), [(2, Got::Ok)]);
    world.service.disconnected(b.conn);
    assert_eq!(world.send(&a, &queue, None, b"two"), [(1, Got::Ok)]);
    let got = world.command(&a, &queue.recipient_id, Some(&queue.key), &Command::Sub);
    assert_eq!(got[0], (1, Got::Sok));
    assert_eq!(opened(&got[1], 1, &queue).1.unwrap(), b"two");
}

#[test]
fn get_and_sub_do_not_mix() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::Subscribe);
    let (id, key) = (queue.recipient_id.clone(), queue.key.clone());
    assert_eq!(world.command(&a, &id, Some(&key), &Command::Get), [(1, PROHIBITED)]);
    assert_eq!(world.command(&b, &id, Some(&key), &Command::Get), [(2, Got::Ok)]);
    assert_eq!(world.command(&b, &id, Some(&key), &Command::Sub), [(2, PROHIBITED)]);
    world.send(&b, &queue, None, b"one");
    let got = world.command(&b, &id, Some(&key), &Command::Get);
    let (msg_id, _) = opened(&got[0], 2, &queue);
    assert_eq!(world.ack(&b, &queue, &msg_id), [(2, Got::Ok)]);
    assert_eq!(world.service.store().message_count(), 0);
}

#[test]
fn only_the_right_key_is_let_in() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::OnlyCreate);
    let wrong = AuthPrivateKey::ed25519(&[200; 32]);
    let id = queue.recipient_id.clone();
    for key in [&wrong, &AuthPrivateKey::x25519([5; 32])] {
        for command in [Command::Sub, Command::Get, Command::Del, Command::Off, Command::Que] {
            assert_eq!(world.command(&a, &id, Some(key), &command), [(1, AUTH)]);
        }
    }
    // A sender's ID is not a recipient's, and the other way round.
    assert_eq!(world.command(&a, &queue.sender_id, Some(&queue.key), &Command::Sub), [(1, AUTH)]);
    let body = Command::Send { flags: MsgFlags::default(), body: b"x" };
    assert_eq!(world.command(&b, &id, None, &body), [(2, AUTH)]);
    assert_eq!(world.command(&b, &[1; 24], None, &body), [(2, AUTH)]);
    assert_eq!(world.command(&b, &[1; 7], None, &body), [(2, AUTH)]);
    let no_auth = Got::Err(ErrorType::Cmd(CommandError::NoAuth));
    assert_eq!(world.command(&a, &id, None, &Command::Sub), [(1, no_auth)]);
}

#[test]
fn a_queue_is_secured_once() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::OnlyCreate);
    let sender = AuthPrivateKey::x25519([4; 32]);
    let other = AuthPrivateKey::x25519([5; 32]);
    assert_eq!(world.send(&b, &queue, Some(&sender), b"x"), [(2, AUTH)]);
    let secure = |key: &AuthPrivateKey| Command::SKey(key.public());
    // SKEY is signed by the key that it sets.
    assert_eq!(world.command(&b, &queue.sender_id, Some(&other), &secure(&sender)), [(2, AUTH)]);
    assert_eq!(world.command(&b, &queue.sender_id, Some(&sender), &secure(&sender)), [(2, Got::Ok)]);
    assert_eq!(world.command(&b, &queue.sender_id, Some(&sender), &secure(&sender)), [(2, Got::Ok)]);
    assert_eq!(world.command(&b, &queue.sender_id, Some(&other), &secure(&other)), [(2, AUTH)]);
    let key = Command::Key(other.public());
    assert_eq!(world.command(&a, &queue.recipient_id, Some(&queue.key), &key), [(1, AUTH)]);
    let key = Command::Key(sender.public());
    assert_eq!(world.command(&a, &queue.recipient_id, Some(&queue.key), &key), [(1, Got::Ok)]);
    assert_eq!(world.send(&b, &queue, None, b"x"), [(2, AUTH)]);
    assert_eq!(world.send(&b, &queue, Some(&other), b"x"), [(2, AUTH)]);
    let of_another_kind = AuthPrivateKey::ed25519(&[5; 32]);
    assert_eq!(world.send(&b, &queue, Some(&of_another_kind), b"x"), [(2, AUTH)]);
    assert_eq!(world.send(&b, &queue, Some(&sender), b"x"), [(2, Got::Ok)]);
    assert_eq!(world.send(&b, &queue, Some(&sender), b"y"), [(2, Got::Ok)]);
}

#[test]
fn the_quota_is_told_to_both_sides() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::OnlyCreate);
    for n in 0..QUOTA {
        assert_eq!(world.send(&b, &queue, None, &[u8::try_from(n).unwrap()]), [(2, Got::Ok)]);
    }
    for _ in 0..2 {
        assert_eq!(world.send(&b, &queue, None, b"x"), [(2, Got::Err(ErrorType::Quota))]);
    }
    let mut got = world.command(&a, &queue.recipient_id, Some(&queue.key), &Command::Sub).pop().unwrap();
    for n in 0..QUOTA {
        let (id, body) = opened(&got, 1, &queue);
        assert_eq!(body, Some(vec![u8::try_from(n).unwrap()]));
        world.service.return_credit(a.conn, 1);
        got = world.ack(&a, &queue, &id).pop().unwrap();
    }
    let (id, body) = opened(&got, 1, &queue);
    assert_eq!(body, None);
    assert_eq!(world.send(&b, &queue, None, b"x"), [(2, Got::Err(ErrorType::Quota))]);
    assert_eq!(world.ack(&a, &queue, &id), [(1, Got::Ok)]);
    world.service.return_credit(a.conn, 1);
    assert_eq!(world.send(&b, &queue, None, b"x")[0], (2, Got::Ok));
}

#[test]
fn suspended_and_deleted_queues() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::OnlyCreate);
    world.send(&b, &queue, None, b"before");
    for _ in 0..2 {
        assert_eq!(world.command(&a, &queue.recipient_id, Some(&queue.key), &Command::Off), [(1, Got::Ok)]);
    }
    assert_eq!(world.send(&b, &queue, None, b"after"), [(2, AUTH)]);
    let got = world.command(&a, &queue.recipient_id, Some(&queue.key), &Command::Sub);
    assert_eq!(opened(&got[1], 1, &queue).1.unwrap(), b"before");
    let got = world.command(&b, &queue.recipient_id, Some(&queue.key), &Command::Del);
    assert_eq!(got, [(1, Got::Deld), (2, Got::Ok)]);
    assert_eq!(world.command(&b, &queue.recipient_id, Some(&queue.key), &Command::Del), [(2, AUTH)]);
    assert_eq!((world.service.message_bytes(), world.service.subscription_count()), (0, 0));
    assert!(!a.has_subscriptions());
}

#[test]
fn deliveries_wait_for_credit_and_for_blocks() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queues: Vec<Queue> = (0..5).map(|_| world.new_queue(&a, SubscribeMode::Subscribe)).collect();
    let mut delivered = 0;
    for queue in &queues {
        delivered += world.send(&b, queue, None, b"x").len() - 1;
    }
    assert_eq!(delivered, CREDIT);
    world.service.return_credit(a.conn, 1);
    assert_eq!(outputs(&mut world.service), 1);
    world.service.return_credit(a.conn, 2);
    assert_eq!(outputs(&mut world.service), 2);
    world.service.return_credit(a.conn, 2);
    assert_eq!(outputs(&mut world.service), 0);
    // Without blocks the line stands still until there are some.
    let arena = Rc::clone(&world.service.arena);
    let held: Vec<_> = std::iter::from_fn(|| arena.lend()).collect();
    let queue = world.new_queue(&a, SubscribeMode::Subscribe);
    assert_eq!(world.send(&b, &queue, None, b"x"), [(2, Got::Ok)]);
    assert!(world.service.has_starved());
    world.service.retry_starved();
    assert!(world.service.has_starved());
    drop(held);
    world.service.retry_starved();
    assert!(!world.service.has_starved());
    assert_eq!(outputs(&mut world.service), 1);
}

#[test]
fn reads_wait_for_credit_in_their_order() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::OnlyCreate);
    world.send(&b, &queue, None, b"x");
    let id = &queue.recipient_id;
    let batch: Vec<_> = [Command::Get, Command::Que, Command::Get, Command::Get]
        .iter()
        .map(|command| world.transmission(&a, id, Some(&queue.key), command))
        .collect();
    let is_message = |got: &[(u32, Got)]| -> Vec<bool> {
        got.iter().map(|(_, got)| matches!(got, Got::Msg { .. })).collect()
    };
    assert_eq!(is_message(&world.batch(&a, &batch)), [true, false, true]);
    // A later batch of the connection does not overtake; others go on.
    assert_eq!(world.command(&a, &[], None, &Command::Ping), []);
    assert_eq!(world.command(&b, &[], None, &Command::Ping), [(2, Got::Pong)]);
    let answered = world.answered;
    let progress = world.service.return_credit(a.conn, 1);
    let got = world.run(a.conn, progress);
    assert_eq!(is_message(&got), [true, false]);
    assert_eq!(got[1], (1, Got::Pong));
    assert_eq!(world.answered, answered + 2);
    assert_eq!(world.service.return_credit(a.conn, CREDIT), Progress::Rests);
    // What waits goes with its connection.
    assert_eq!(is_message(&world.batch(&a, &batch)), [true, false, true]);
    world.service.disconnected(a.conn);
    assert_eq!(world.service.return_credit(a.conn, 1), Progress::Rests);
    assert_eq!(world.service.resume(a.conn, 1, world.now_secs), Progress::Rests);
}

#[test]
fn batches_take_turns_and_do_not_overtake() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::OnlyCreate);
    let que = Command::Que;
    let batch = |world: &mut World, count: usize| {
        let transmissions: Vec<_> =
            (0..count).map(|_| world.transmission(&a, &queue.recipient_id, Some(&queue.key), &que)).collect();
        world.block(&a, &transmissions)
    };
    let (first, second) = (batch(&mut world, 5), batch(&mut world, 1));
    assert_eq!(world.service.process(Box::new(first), 2, 0), Progress::GoesOn);
    // The second one waits, and does not ask for another turn.
    assert_eq!(world.service.process(Box::new(second), 2, 0), Progress::Rests);
    // Another connection gets its turn in between.
    assert!(world.command(&b, &[], None, &Command::Ping).contains(&(2, Got::Pong)));
    assert_eq!(world.service.resume(a.conn, 2, 0), Progress::GoesOn);
    assert_eq!(world.service.resume(a.conn, 2, 0), Progress::GoesOn);
    assert_eq!(world.service.resume(a.conn, 2, 0), Progress::Rests);
    assert_eq!(world.run(a.conn, Progress::Rests).len(), 4);
}

#[test]
fn a_slow_check_ends_the_turn() {
    let mut world = world();
    let a = session(1, 18);
    let key = AuthPrivateKey::ed448(&[3; 57]);
    let block: Vec<_> = (0..3).map(|_| world.transmission(&a, &[9; 24], Some(&key), &Command::Sub)).collect();
    let batch = world.block(&a, &block);
    assert_eq!(world.service.process(Box::new(batch), 16, 0), Progress::GoesOn);
    assert_eq!(world.run(a.conn, Progress::GoesOn), [(1, AUTH), (1, AUTH), (1, AUTH)]);
}

#[test]
fn caps_have_their_answers() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queue = world.new_queue(&a, SubscribeMode::OnlyCreate);
    world.service.config.message_bytes_max = 1;
    assert_eq!(world.send(&b, &queue, None, b"one")[0], (2, Got::Ok));
    assert!(matches!(world.send(&b, &queue, None, b"two")[0].1, Got::Err(ErrorType::Store(_))));
    world.service.config.subscriptions_per_connection = 0;
    let got = world.command(&a, &queue.recipient_id, Some(&queue.key), &Command::Sub);
    assert_eq!(got, [(1, Got::Err(ErrorType::Quota))]);
    world.service.config.create_password = Some((*b"secret").into());
    let key = AuthPrivateKey::ed25519(&[77; 32]);
    let new = |password| NewQueue {
        recipient_key: key.public(),
        recipient_dh_key: DhPrivateKey::from_bytes([1; 32]).public(),
        basic_auth: password,
        subscribe: SubscribeMode::OnlyCreate,
        request: None,
        notifier: None,
    };
    for (password, allowed) in [(None, false), (Some(&b"Secret"[..]), false), (Some(&b"secret"[..]), true)] {
        let got = world.command(&a, &[], Some(&key), &Command::New(Box::new(new(password))));
        assert_eq!(matches!(got[0].1, Got::Ids { .. }), allowed);
    }
}

#[test]
fn many_commands_of_one_block_are_answered_in_order() {
    let mut world = world();
    let (a, b) = (session(1, 18), session(2, 18));
    let queues: Vec<Queue> = (0..40).map(|_| world.new_queue(&a, SubscribeMode::OnlyCreate)).collect();
    let block: Vec<Vec<u8>> = queues
        .iter()
        .map(|queue| world.transmission(&b, &queue.recipient_id, Some(&queue.key), &Command::Sub))
        .collect();
    let got = world.batch(&b, &block);
    assert_eq!(got.len(), queues.len());
    assert!(got.iter().all(|got| *got == (2, Got::Sok)));
    assert_eq!(b.subscription_count(), queues.len());
}
