//! How long an ERR AUTH takes: "Router implementations must aim to respond within the same time for each command in all cases".
//!
//! For each command that a party authorizes, each kind of authorization that a client sends and each kind of key that the queue has,
//! the time for a queue that is there and for one that is not: measured by turns, in either order, so that whatever else the
//! machine does meets both, without sockets and without a disk. What must be the same is the median. The distributions are printed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use ringpost_protocol::command::{
    Command, LinkData, MessagingLink, MsgFlags, NewQueue, NotifierCredentials, QueueRequest, SubscribeMode,
};
use ringpost_protocol::crypto::authorization::OwnedAuthorization;
use ringpost_protocol::crypto::ids::sender_id_from_correlation;
use ringpost_protocol::crypto::{AuthPrivateKey, DhPrivateKey};
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::transmission::{Authorization, Authorized, Format, Transmission};
use ringpost_protocol::version::SmpVersion;
use ringpost_shard::arena::Arena;
use ringpost_shard::counters::Counters;
use ringpost_shard::service::{
    Batch, BatchData, ConnRef, Mutation, Output, Progress, Service, ServiceConfig, Session, SessionCounts,
};
use ringpost_store::{IdHasher, MemoryLog, Store};

const VERSION: SmpVersion = SmpVersion(19);
const ROUTER_KEY: [u8; 32] = [9; 32];
/// Of each case.
const SAMPLES: usize = 120;
const WARM_UP: usize = 20;
/// How far medians may be apart. A check that is left out makes a factor of ten or more; the reference's own test allows 0.3.
const TOLERANCE: f64 = 0.2;
/// A case that is out of tolerance is measured again: another program may have had the processor more often in one half.
const ATTEMPTS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ed25519,
    Ed448,
    X25519,
}

const KINDS: [Kind; 3] = [Kind::Ed25519, Kind::Ed448, Kind::X25519];

fn key(kind: Kind, seed: u8) -> AuthPrivateKey {
    match kind {
        Kind::Ed25519 => AuthPrivateKey::ed25519(&[seed; 32]),
        Kind::Ed448 => AuthPrivateKey::ed448(&[seed; 57]),
        Kind::X25519 => AuthPrivateKey::x25519([seed; 32]),
    }
}

/// The commands of each party, with what their time may tell about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Of a recipient.
    Sub,
    /// To a queue that is secured.
    Send,
    /// The same in a session that has sent the same before: secrets are remembered.
    SendAgain,
    /// Of a notifier.
    NSub,
    /// To a queue that is secured with another key.
    SKey,
    /// With the link of such a queue.
    LKey,
}

const ASKED: [Asked; 6] = [Asked::Sub, Asked::Send, Asked::SendAgain, Asked::NSub, Asked::SKey, Asked::LKey];

struct Bench {
    service: Service<MemoryLog>,
    next_conn: u32,
}

/// IDs of a queue whose keys are all of one kind.
struct Ids {
    recipient: Vec<u8>,
    sender: Vec<u8>,
    notifier: Vec<u8>,
    link: Vec<u8>,
}

impl Bench {
    fn new(mutation: Option<Mutation>) -> Self {
        let config = ServiceConfig {
            allow_new_queues: true,
            create_password: None,
            queue_quota: 4,
            message_ttl_secs: None,
            expires_on_send: true,
            notification_ttl_secs: 1_000,
            unused_queue_days: None,
            links: Arc::default(),
            message_bytes_max: 1 << 20,
            queues_max: 1_000_000,
            services_max: 1_000,
            subscriptions_per_connection: 1_000_000,
            delivery_credit: 4,
        };
        let mut service = Service::new(
            config,
            Store::new(IdHasher::new(&[3; 16])),
            MemoryLog::new(),
            0..256,
            Arena::new(1_000, 4),
            ChaCha20Rng::seed_from_u64(7),
            Arc::<Counters>::default(),
        );
        if let Some(mutation) = mutation {
            service.mutate(mutation);
        }
        Self { service, next_conn: 0 }
    }

    fn session(&mut self) -> Arc<Session> {
        self.next_conn += 1;
        Arc::new(Session {
            conn: ConnRef { shard: 0, place: self.next_conn % 8, generation: self.next_conn },
            version: VERSION,
            session_id: SessionId::new(&[0x5e; 32]).unwrap(),
            router_key: DhPrivateKey::from_bytes(ROUTER_KEY),
            forward_key: None,
            proxy: false,
            forwarded: false,
            counts: SessionCounts::default(),
            service: None,
        })
    }

    /// The word of the answer, and how long it took.
    fn ask(&mut self, session: &Arc<Session>, bytes: &[u8]) -> (Vec<u8>, u64) {
        let len = u16::try_from(bytes.len()).unwrap();
        let batch = Box::new(Batch {
            session: Arc::clone(session),
            data: BatchData::Copied(bytes.into()),
            transmissions: [(0, len)].into_iter().collect(),
            next: 0,
            forwarded: None,
        });
        let begun = Instant::now();
        let progress = black_box(self.service.process(batch, 1, 1_000_000));
        let took_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap();
        assert_eq!(progress, Progress::Rests);
        let mut said = Vec::new();
        while let Some(output) = self.service.next_output() {
            if let Output::Responses { bytes, .. } = output
                && let Some(first) = bytes.get(2..)
            {
                said = Transmission::parse(first, Format::of_session(VERSION)).unwrap().command.to_vec();
            }
        }
        (said, took_ns)
    }

    /// A queue with a link, a notifier and a sender's key.
    fn queue(&mut self, kind: Kind, seed: u8) -> Ids {
        let session = self.session();
        let (recipient, sender, notifier) = (key(kind, seed), key(kind, seed + 1), key(kind, seed + 2));
        let corr = [seed; 24];
        let sender_id = sender_id_from_correlation(&corr);
        let dh = DhPrivateKey::from_bytes([seed; 32]).public();
        let data = LinkData { fixed: &[1; 40], user: &[2; 400] };
        let new = NewQueue {
            recipient_key: recipient.public(),
            recipient_dh_key: dh,
            basic_auth: None,
            subscribe: SubscribeMode::OnlyCreate,
            request: Some(QueueRequest::Messaging(Some(MessagingLink { sender_id: &sender_id, data }))),
            notifier: Some(NotifierCredentials { notifier_key: notifier.public(), recipient_dh_key: dh }),
        };
        let new = Command::New(Box::new(new));
        let (said, _) = self.ask(&session, &transmission(&session, &corr, &[], &recipient, &new));
        let Ok(Response::Ids(ids)) = Response::parse(VERSION, &said) else { panic!("{said:?}") };
        let ids = Ids {
            recipient: ids.recipient_id.to_vec(),
            sender: ids.sender_id.to_vec(),
            notifier: ids.notifier.unwrap().notifier_id.to_vec(),
            link: ids.link_id.unwrap().to_vec(),
        };
        let secure = Command::Key(sender.public());
        let bytes = transmission(&session, &corr, &ids.recipient, &recipient, &secure);
        assert_eq!(self.ask(&session, &bytes).0, b"OK");
        ids
    }

    /// Times of one case: of a queue that is there, and of none.
    fn measure(&mut self, asked: Asked, ids: &Ids, sent: Kind) -> [Vec<u64>; 2] {
        let there = match asked {
            Asked::Sub => &ids.recipient,
            Asked::Send | Asked::SendAgain | Asked::SKey => &ids.sender,
            Asked::NSub => &ids.notifier,
            Asked::LKey => &ids.link,
        };
        // Found in the same time as others that are not there: they are random too.
        let absent: Vec<u8> = there.iter().map(|byte| byte ^ 0x5a).collect();
        let wrong = key(sent, 200);
        let command = match asked {
            Asked::Sub => Command::Sub,
            Asked::Send | Asked::SendAgain => Command::Send { flags: MsgFlags::default(), body: b"hello" },
            Asked::NSub => Command::NSub,
            Asked::SKey => Command::SKey(wrong.public()),
            Asked::LKey => Command::LKey(wrong.public()),
        };
        let corr = [0xcc; 24];
        let mut session = self.session();
        let bytes = [there, &absent].map(|id| transmission(&session, &corr, id, &wrong, &command));
        let mut times = [Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES)];
        for n in 0..WARM_UP + SAMPLES {
            // Now one first, and now the other.
            for which in if n % 2 == 0 { [0, 1] } else { [1, 0] } {
                if asked != Asked::SendAgain {
                    self.service.disconnected(session.conn);
                    session = self.session();
                }
                let (said, took_ns) = self.ask(&session, &bytes[which]);
                assert_eq!(said, b"ERR AUTH", "{asked:?}");
                if n >= WARM_UP {
                    times[which].push(took_ns);
                }
            }
        }
        self.service.disconnected(session.conn);
        for times in &mut times {
            times.sort_unstable();
        }
        times
    }
}

/// All sessions here have the same ID and the same key of the router, so what is made once serves them all.
fn transmission(
    session: &Session,
    corr: &[u8],
    entity: &[u8],
    key: &AuthPrivateKey,
    command: &Command<'_>,
) -> Vec<u8> {
    let mut buffer = Vec::new();
    let format = Format::of_session(VERSION);
    let authorized =
        Authorized::command(format, session.session_id.as_ref(), corr, entity, command, &mut buffer);
    let router_key = session.router_key.public();
    let made: OwnedAuthorization =
        key.authorize(&[authorized.for_authorization()], Some(&router_key), corr).unwrap();
    let mut out = Vec::new();
    authorized.write(Authorization::from_bytes(made.as_bytes()).unwrap(), None, &mut out);
    out
}

fn quantile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[allow(clippy::cast_precision_loss)]
fn ratio(times: &[Vec<u64>; 2]) -> f64 {
    quantile(&times[0], 50) as f64 / quantile(&times[1], 50) as f64
}

fn is_same(ratio: f64) -> bool {
    ratio < 1.0 + TOLERANCE && 1.0 / ratio < 1.0 + TOLERANCE
}

fn shown(times: &[u64]) -> String {
    let us = |percent| quantile(times, percent) / 100;
    let tenths = |n: u64| format!("{}.{}", n / 10, n % 10);
    format!("{:>6} {:>6} {:>6}", tenths(us(10)), tenths(us(50)), tenths(us(90)))
}

/// Cases whose times differ, after as many attempts as it takes.
fn differing(mutation: Option<Mutation>, attempts: usize) -> Vec<String> {
    let mut bench = Bench::new(mutation);
    let queues: Vec<(Kind, Ids)> =
        KINDS.iter().zip([10, 20, 30]).map(|(kind, seed)| (*kind, bench.queue(*kind, seed))).collect();
    println!("us: 10 %, median, 90 %    a queue that is there | none                 | medians");
    let mut differing = Vec::new();
    for asked in ASKED {
        for (kind, ids) in &queues {
            for sent in KINDS {
                let mut attempt = 1;
                let times = loop {
                    let times = bench.measure(asked, ids, sent);
                    if is_same(ratio(&times)) || attempt >= attempts {
                        break times;
                    }
                    attempt += 1;
                };
                let case = format!("{asked:?}, key {kind:?}, sent {sent:?}");
                let line =
                    format!("{case:<36} {} | {} | {:.3}", shown(&times[0]), shown(&times[1]), ratio(&times));
                println!("{line}");
                if !is_same(ratio(&times)) {
                    differing.push(line);
                }
            }
        }
    }
    differing
}

#[test]
fn an_auth_error_takes_the_same_time_whether_the_queue_exists() {
    let differing = differing(None, ATTEMPTS);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// The measurement sees what it is for.
#[test]
fn a_missing_check_is_seen() {
    let differing = differing(Some(Mutation::NoDummyCheck), 1);
    // SKEY and LKEY are refused here without a look at a key, whether there is a queue or not.
    let asked = ASKED.len() - 2;
    assert_eq!(differing.len(), asked * KINDS.len() * KINDS.len(), "{}", differing.join("\n"));
}
