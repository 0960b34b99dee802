//! What clients and the operator do: lists of actions that follow from a seed. Each makes sense whatever happened before, so that
//! any of them may be left out when a failure is made smaller.

use ringpost_store::sim::Random;

use crate::keys::{DH_KEYS, KEYS};
use crate::spec::{Body, Mode};

/// Connections at a time.
pub const SLOTS: usize = 4;
pub const PASSWORD: &str = "secret";

#[derive(Clone, Debug)]
pub enum Action {
    Connect {
        slot: usize,
        version: u16,
        shard: usize,
    },
    Disconnect {
        slot: usize,
    },
    /// In one block.
    Commands {
        slot: usize,
        asks: Vec<Ask>,
    },
    Pass {
        secs: u64,
    },
    Expire,
    Restart {
        shards: usize,
    },
    /// The operator blocks a queue, or unblocks it, and starts the router again.
    Block {
        queue: usize,
        blocked: Option<(&'static str, Option<&'static str>)>,
    },
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub command: Asked,
    /// Picks a queue.
    pub queue: usize,
    pub entity: Entity,
    pub signer: Signer,
    /// Made for another session.
    pub is_foreign: bool,
}

/// Which ID stands in the transmission.
#[derive(Clone, Copy, Debug)]
pub enum Entity {
    Right,
    /// That of another party of the queue.
    Recipient,
    Sender,
    Link,
    Notifier,
    Unknown,
    Short,
    None,
}

#[derive(Clone, Copy, Debug)]
pub enum Signer {
    Right,
    Nobody,
    Key(usize),
    /// The right key, and a bit is turned.
    Damaged,
}

#[derive(Clone, Copy, Debug)]
pub enum AskedAck {
    Any,
    /// What was delivered.
    Delivered,
    /// Some message.
    Other(usize),
    Unknown,
}

#[derive(Clone, Debug)]
pub enum Asked {
    New {
        key: usize,
        dh: usize,
        subscribe: bool,
        password: Option<&'static str>,
        mode: Option<Mode>,
        link: Option<NewLink>,
        notifier: Option<(usize, usize)>,
    },
    Sub,
    Get,
    Ack(AskedAck),
    Key(usize),
    RKey(Vec<usize>),
    /// The queue's own link ID, or another.
    LSet {
        link: Option<usize>,
        fixed: usize,
        user: usize,
    },
    LDel,
    NKey(usize, usize),
    NDel,
    Off,
    Del,
    Que,
    SKey(usize),
    Send {
        notifies: bool,
        body: Body,
    },
    LKey(usize),
    LGet,
    NSub,
    Subs,
    NSubs,
    Ping,
    Bytes(usize),
}

#[derive(Clone, Copy, Debug)]
pub struct NewLink {
    /// Few correlation IDs: the same again asks for the same sender ID.
    pub corr: usize,
    pub is_derived: bool,
    pub link: usize,
    pub fixed: usize,
    pub user: usize,
}

/// Transmissions that are no command, and what the parser says.
pub const NO_COMMANDS: [(&str, &str); 12] = [
    ("", "CMD UNKNOWN"),
    ("XYZ", "CMD UNKNOWN"),
    ("SUBX", "CMD UNKNOWN"),
    ("sub", "CMD UNKNOWN"),
    ("OK", "CMD UNKNOWN"),
    ("SUB ", "CMD SYNTAX"),
    ("PING x", "CMD SYNTAX"),
    ("KEY ", "CMD SYNTAX"),
    ("ACK", "CMD SYNTAX"),
    ("SEND", "CMD SYNTAX"),
    ("NEW x", "CMD SYNTAX"),
    ("LSET \u{1}x", "CMD SYNTAX"),
];

const BODY_BYTES: [usize; 12] = [0, 1, 8, 40, 400, 5_000, 16_000, 16_048, 16_049, 16_064, 16_065, 16_088];

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Params {
    pub quota: usize,
    pub ttl_secs: u64,
    pub notification_ttl_secs: u64,
    pub has_password: bool,
    pub message_bytes_max: usize,
    pub shards: usize,
}

/// A run, from its seed.
pub fn plan(seed: u64) -> (Params, Vec<Action>) {
    let mut random = Random::new(seed);
    let params = Params {
        quota: 1 + random.index(4),
        ttl_secs: 1_000,
        notification_ttl_secs: 500,
        has_password: random.chance(15),
        message_bytes_max: [1, 20_000, 1 << 20, 1 << 20][random.index(4)],
        shards: 1 + random.index(3),
    };
    let count = 10 + random.index(150);
    let mut plan = Planner { random, next_tag: 1, has_password: params.has_password };
    let mut actions: Vec<Action> = (0..SLOTS).map(|slot| plan.connect(slot)).collect();
    actions.extend((0..count).map(|_| plan.action()));
    (params, actions)
}

struct Planner {
    random: Random,
    next_tag: u64,
    has_password: bool,
}

impl Planner {
    fn connect(&mut self, slot: usize) -> Action {
        // Half of them of a version that has everything.
        let version = if self.random.chance(50) {
            17 + u16::try_from(self.random.below(3)).unwrap()
        } else {
            6 + u16::try_from(self.random.below(14)).unwrap()
        };
        Action::Connect { slot, version, shard: self.random.index(3) }
    }

    fn action(&mut self) -> Action {
        let slot = self.random.index(SLOTS);
        match self.random.below(100) {
            0..=2 => self.connect(slot),
            3 => Action::Disconnect { slot },
            4..=5 => Action::Pass { secs: [1, 100, 499, 501, 1_001][self.random.index(5)] },
            6..=7 => Action::Expire,
            8 => Action::Restart { shards: 1 + self.random.index(3) },
            9 => {
                let blocked = [
                    None,
                    Some(("spam", None)),
                    Some(("content", Some("{}"))),
                    Some(("content", Some("{\"ttl\":86400}"))),
                ];
                Action::Block { queue: self.random.index(1_000), blocked: blocked[self.random.index(4)] }
            }
            10..=84 => Action::Commands { slot, asks: vec![self.ask()] },
            _ => {
                let count = 2 + self.random.index(6);
                Action::Commands { slot, asks: (0..count).map(|_| self.ask()).collect() }
            }
        }
    }

    fn key(&mut self) -> usize {
        // Few keys, so that the same is used for several things.
        let most = if self.random.chance(70) { 5 } else { KEYS };
        self.random.index(most)
    }

    fn ask(&mut self) -> Ask {
        let command = self.asked();
        let entity = match self.random.below(100) {
            0..=1 => Entity::Recipient,
            2..=3 => Entity::Sender,
            4..=5 => Entity::Link,
            6..=7 => Entity::Notifier,
            8 => Entity::Unknown,
            9 => Entity::Short,
            10 => Entity::None,
            _ => Entity::Right,
        };
        let signer = match self.random.below(100) {
            0..=2 => Signer::Nobody,
            3..=8 => Signer::Key(self.key()),
            9..=10 => Signer::Damaged,
            _ => Signer::Right,
        };
        // Of few queues, one is often used several times in a row.
        let queue = if self.random.chance(60) { self.random.index(2) } else { self.random.index(1_000) };
        Ask { command, queue, entity, signer, is_foreign: self.random.chance(1) }
    }

    fn new_link(&mut self) -> NewLink {
        NewLink {
            corr: self.random.index(6),
            is_derived: self.random.chance(90),
            link: self.random.index(7),
            fixed: self.random.index(3),
            user: self.random.index(4),
        }
    }

    fn asked(&mut self) -> Asked {
        match self.random.below(100) {
            0..=9 => Asked::New {
                key: self.key(),
                dh: self.random.index(DH_KEYS),
                subscribe: self.random.chance(50),
                password: match self.random.below(10) {
                    0 => None,
                    1 => Some("wrong"),
                    _ => self.has_password.then_some(PASSWORD),
                },
                mode: [None, Some(Mode::Messaging), Some(Mode::Messaging), Some(Mode::Contact)]
                    [self.random.index(4)],
                link: self.random.chance(50).then(|| self.new_link()),
                notifier: self.random.chance(30).then(|| (self.key(), self.random.index(DH_KEYS))),
            },
            10..=16 => Asked::Sub,
            17..=20 => Asked::Get,
            21..=32 => Asked::Ack(match self.random.below(10) {
                0 => AskedAck::Any,
                1 => AskedAck::Other(self.random.index(4)),
                2 => AskedAck::Unknown,
                _ => AskedAck::Delivered,
            }),
            33..=35 => Asked::Key(self.key()),
            36..=38 => {
                let count = 1 + self.random.index(3);
                Asked::RKey((0..count).map(|_| self.key()).collect())
            }
            39..=43 => Asked::LSet {
                link: self.random.chance(40).then(|| self.random.index(7)),
                fixed: self.random.index(2),
                user: self.random.index(4),
            },
            44..=45 => Asked::LDel,
            46..=49 => Asked::NKey(self.key(), self.random.index(DH_KEYS)),
            50 => Asked::NDel,
            51 => Asked::Off,
            52..=53 => Asked::Del,
            54..=57 => Asked::Que,
            58..=61 => Asked::SKey(self.key()),
            62..=82 => {
                self.next_tag += 1;
                let bytes = if self.random.chance(30) {
                    BODY_BYTES[self.random.index(BODY_BYTES.len())]
                } else {
                    self.random.index(300)
                };
                let body = Body { tag: self.next_tag, bytes };
                Asked::Send { notifies: self.random.chance(50), body }
            }
            83..=86 => Asked::LKey(self.key()),
            87..=90 => Asked::LGet,
            91..=95 => Asked::NSub,
            96 => {
                if self.random.chance(50) {
                    Asked::Subs
                } else {
                    Asked::NSubs
                }
            }
            97 => Asked::Ping,
            _ => Asked::Bytes(self.random.index(NO_COMMANDS.len())),
        }
    }
}
