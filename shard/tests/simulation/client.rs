//! Connections, and the blocks that clients send through them.

use std::collections::VecDeque;
use std::sync::Arc;

use ringpost_protocol::command::{Command, MsgFlags, NewQueue, QueueRequest, SubscribeMode};
use ringpost_protocol::crypto::authorization::OwnedAuthorization;
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::limits::BLOCK_CONTENT_BYTES;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::transmission::{Authorization, Authorized, Format};
use ringpost_protocol::version::SmpVersion;
use ringpost_shard::arena::Charge;
use ringpost_shard::service::{Batch, BatchData, ConnRef, Session, SessionCounts};
use ringpost_store::MessageId;

use crate::bodies::body_of;
use crate::commands::{Asked, Pending};
use crate::keys::{POOL, ROUTER_KEY};
use crate::world::World;

pub const VERSION: SmpVersion = SmpVersion(18);
/// Where the first transmission of a block begins in its buffer.
const FIRST_AT: usize = 26;

/// What a connection's shard sends to a home.
#[derive(Debug)]
pub enum Letter {
    Batch(Box<Batch>),
    Credit(usize),
    Disconnected,
}

/// Between a connection and one home.
#[derive(Debug, Default)]
pub struct Lane {
    /// With the time of their arrival.
    pub letters: VecDeque<(u64, Letter)>,
    /// Commands that were not answered, in order.
    pub pending: VecDeque<Pending>,
    /// The home knows of the connection.
    pub is_noted: bool,
    /// Messages whose credit was not returned.
    pub owed: usize,
}

/// A block of a message that is not written yet.
#[derive(Debug)]
pub struct Outgoing {
    pub due_ms: u64,
    pub home: usize,
    _charge: Charge,
}

impl Outgoing {
    pub fn new(due_ms: u64, home: usize, charge: Charge) -> Self {
        Self { due_ms, home, _charge: charge }
    }
}

#[derive(Debug)]
pub struct Conn {
    pub session: Arc<Session>,
    pub is_open: bool,
    pub lanes: Vec<Lane>,
    pub outbox: VecDeque<Outgoing>,
    /// How long a message takes to be written, at most.
    pub write_ms_max: u64,
    /// Batches that were sent and not answered.
    pub batches: Vec<Charge>,
    /// What was delivered and not acknowledged, and something that was: a number of a queue with the message.
    pub inbox: Vec<(usize, MessageId)>,
    pub done: Option<(usize, MessageId)>,
}

impl Conn {
    pub fn new(reference: ConnRef, n: usize, shards: usize, write_ms_max: u64) -> Self {
        let mut session_id = [0x5e; 32];
        session_id[..8].copy_from_slice(&n.to_le_bytes());
        Self {
            session: Arc::new(Session {
                forward_key: None,
                proxy: false,
                forwarded: false,
                conn: reference,
                version: VERSION,
                session_id: SessionId::new(&session_id).unwrap(),
                router_key: DhPrivateKey::from_bytes(ROUTER_KEY),
                counts: SessionCounts::default(),
                service: None,
            }),
            is_open: true,
            lanes: (0..shards).map(|_| Lane::default()).collect(),
            outbox: VecDeque::new(),
            write_ms_max,
            batches: Vec::new(),
            inbox: Vec::new(),
            done: None,
        }
    }
}

impl World {
    /// A command as it will be sent.
    pub fn command(&mut self, queue: usize, asked: Asked, key: Option<usize>) -> Pending {
        self.next_corr += 1;
        let mut corr_id = vec![0xc0; 24];
        // With a long one there is no room for a message in the answer.
        if matches!(asked, Asked::Ack(_) | Asked::Sub) && self.random.chance(2) {
            corr_id.resize(220, 0xc1);
        }
        corr_id[..8].copy_from_slice(&self.next_corr.to_le_bytes());
        Pending { corr_id, queue, asked, key, handed_secs: None }
    }

    /// A command of the recipient of a queue.
    pub fn recipient_command(&mut self, queue: usize, asked: Asked) -> Pending {
        let key = Some(self.model.queues[queue].recipient_key);
        self.command(queue, asked, key)
    }

    fn transmission(&self, conn: usize, pending: &Pending) -> Vec<u8> {
        let session = &self.conns[conn].session;
        let body;
        let queue = self.model.queues.get(pending.queue);
        let recipient_id = || queue.map_or(&[][..], |queue| &queue.recipient_id);
        let (entity_id, command) = match &pending.asked {
            Asked::Ping => (&[][..], Command::Ping),
            Asked::New { delivery_key, is_messaging, subscribes } => {
                let new = NewQueue {
                    recipient_key: POOL.recipients[pending.key.unwrap()].public.clone(),
                    recipient_dh_key: POOL.delivery[*delivery_key].1,
                    basic_auth: None,
                    subscribe: if *subscribes { SubscribeMode::Subscribe } else { SubscribeMode::OnlyCreate },
                    request: is_messaging.then_some(QueueRequest::Messaging(None)),
                    notifier: None,
                };
                (&[][..], Command::New(Box::new(new)))
            }
            Asked::Sub => (recipient_id(), Command::Sub),
            Asked::Get => (recipient_id(), Command::Get),
            Asked::Ack(msg_id) => (recipient_id(), Command::Ack { msg_id }),
            Asked::Off => (recipient_id(), Command::Off),
            Asked::Del => (recipient_id(), Command::Del),
            Asked::Que => (recipient_id(), Command::Que),
            Asked::Key(key) => (recipient_id(), Command::Key(POOL.senders[*key].public.clone())),
            Asked::SKey(_) | Asked::Send(_) => {
                let sender_id = queue.map_or(&[][..], |queue| &queue.sender_id);
                let command = match &pending.asked {
                    Asked::Send(sent) => {
                        body = body_of(sent.tag, sent.bytes);
                        let flags = MsgFlags { notification: sent.notification };
                        Command::Send { flags, body: &body }
                    }
                    Asked::SKey(key) => Command::SKey(POOL.senders[*key].public.clone()),
                    _ => Command::Ping,
                };
                (sender_id, command)
            }
        };
        let mut buffer = Vec::new();
        let authorized = Authorized::command(
            Format::of_session(VERSION),
            session.session_id.as_ref(),
            &pending.corr_id,
            entity_id,
            &command,
            &mut buffer,
        );
        let keys = match pending.asked {
            Asked::Send(_) | Asked::SKey(_) => &POOL.senders,
            _ => &POOL.recipients,
        };
        let made =
            pending.key.map(|key| keys[key].authorize(authorized.for_authorization(), &pending.corr_id));
        let authorization = made.as_ref().map_or(Authorization::None, OwnedAuthorization::as_borrowed);
        let mut out = Vec::new();
        authorized.write(authorization, None, &mut out);
        out
    }

    /// Sends commands in one block, as many as it takes. The connection's shard hands them to their homes.
    pub fn send_block(&mut self, conn: usize, commands: Vec<Pending>) {
        let shard = usize::from(self.conns[conn].session.conn.shard);
        let mut block = self.shards[shard].arena.lend_above_cap().detach();
        let mut at = FIRST_AT;
        let mut by_home: Vec<(usize, Vec<(u16, u16)>)> = Vec::new();
        for pending in commands {
            let bytes = self.transmission(conn, &pending);
            if at + bytes.len() > FIRST_AT - 2 + BLOCK_CONTENT_BYTES {
                break;
            }
            block[at..at + bytes.len()].copy_from_slice(&bytes);
            let home = match pending.asked {
                Asked::Ping | Asked::New { .. } => shard,
                _ => self.home(pending.queue),
            };
            let place = (u16::try_from(at).unwrap(), u16::try_from(bytes.len()).unwrap());
            match by_home.iter_mut().find(|(other, _)| *other == home) {
                Some((_, places)) => places.push(place),
                None => by_home.push((home, vec![place])),
            }
            at += bytes.len() + 2;
            self.conns[conn].lanes[home].pending.push_back(pending);
        }
        if let [(home, places)] = &by_home[..] {
            return self.send_batch(conn, *home, BatchData::Block(block), places);
        }
        for (home, places) in by_home {
            let mut bytes = Vec::new();
            let mut copied = Vec::new();
            for (start, len) in places {
                copied.push((u16::try_from(bytes.len()).unwrap(), len));
                bytes.extend_from_slice(&block[usize::from(start)..usize::from(start + len)]);
            }
            self.send_batch(conn, home, BatchData::Copied(bytes.into_boxed_slice()), &copied);
        }
        self.shards[shard].arena.recycle(block);
    }

    fn send_batch(&mut self, conn: usize, home: usize, data: BatchData, places: &[(u16, u16)]) {
        let shard = usize::from(self.conns[conn].session.conn.shard);
        let charge = self.shards[shard].arena.charge();
        let connection = &mut self.conns[conn];
        connection.batches.push(charge);
        let transmissions = places.iter().copied().collect();
        let batch =
            Batch { session: Arc::clone(&connection.session), data, transmissions, next: 0, forwarded: None };
        self.post(conn, home, Letter::Batch(Box::new(batch)));
    }

    /// Puts a letter into the lane to a home, behind those that are in it.
    pub fn post(&mut self, conn: usize, home: usize, letter: Letter) {
        let shard = usize::from(self.conns[conn].session.conn.shard);
        let delay_ms = if shard == home { 0 } else { self.random.below(self.mesh_ms_max + 1) };
        let lane = &mut self.conns[conn].lanes[home];
        let due_ms = lane.letters.back().map_or(0, |(due_ms, _)| *due_ms).max(self.now_ms + delay_ms);
        lane.letters.push_back((due_ms, letter));
        lane.is_noted = true;
    }

    /// A client goes away.
    pub fn disconnect(&mut self, conn: usize) {
        self.stats.disconnects += 1;
        self.model.closed.insert(conn);
        let connection = &mut self.conns[conn];
        connection.is_open = false;
        connection.outbox.clear();
        connection.batches.clear();
        connection.inbox.clear();
        for home in 0..self.shards.len() {
            if self.conns[conn].lanes[home].is_noted {
                self.post(conn, home, Letter::Disconnected);
            }
        }
    }

    /// A new connection, at any shard. Gives its number.
    pub fn connect(&mut self) -> usize {
        let shard = self.random.index(self.shards.len());
        self.connect_to(shard)
    }

    pub fn connect_to(&mut self, shard: usize) -> usize {
        let n = self.conns.len();
        let reference = ConnRef {
            shard: u16::try_from(shard).unwrap(),
            // Places are used again.
            place: u32::try_from(n % 3).unwrap(),
            generation: u32::try_from(n).unwrap(),
        };
        let write_ms_max = [0, 2, 20, 100][self.random.index(4)];
        self.conns.push(Conn::new(reference, n, self.shards.len(), write_ms_max));
        n
    }
}
