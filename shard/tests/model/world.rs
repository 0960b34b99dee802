//! Carries actions out on the router and on the specification, and compares what everyone is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::crypto::ids::sender_id_from_correlation;
use ringpost_protocol::error::BlockingInfo;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::version::SmpVersion;
use ringpost_shard::service::{Batch, BatchData, ConnRef, Output, ServiceConfig, Session, SessionCounts};

use crate::actions::{
    Action, Ask, Asked, AskedAck, Entity, NO_COMMANDS, NewLink, PASSWORD, Params, SLOTS, Signer,
};
use crate::keys::{DH_POOL, ROUTER_KEY};
use crate::machine::{CREDIT, Machine, Names, new_block};
use crate::spec::{Acked, AskedLink, Command, Data, Drawn, Event, Id, Queue, Request, Said, Spec};
use crate::wire::{Hex, Received, received, transmission};

pub type Verdict = Result<(), String>;

/// Where the first transmission of a block begins in its buffer.
const FIRST_AT: usize = 26;
const START_SECS: u64 = 1_700_000_000;

/// What runs met, so that it is seen that they are not idle: how often each thing was said.
pub type Met = BTreeMap<String, u64>;

pub struct World {
    machine: Machine,
    pub spec: Spec,
    /// Numbers of the connections that are open.
    slots: [Option<usize>; SLOTS],
    sessions: Vec<Arc<Session>>,
    /// Of messages.
    pub names: Names,
    /// What deliveries are encrypted with, by recipient ID, and notifications, by notifier ID.
    pub secrets: BTreeMap<Id, BoxKey>,
    pub notifier_secrets: BTreeMap<Id, BoxKey>,
    seen_ids: BTreeSet<Id>,
    /// Also those that are no more.
    notifiers: Vec<Id>,
    links: Vec<Id>,
    next_corr: u64,
    pub met: Met,
}

/// A command under way.
struct Pending {
    asked: Asked,
    corr: Vec<u8>,
    request: Request,
    home: usize,
    bytes: Vec<u8>,
}

impl World {
    pub fn start(seed: u64, params: &Params) -> Result<Self, String> {
        let password = params.has_password.then_some(PASSWORD);
        let config = ServiceConfig {
            allow_new_queues: true,
            create_password: password.map(|password| password.as_bytes().into()),
            queue_quota: params.quota,
            message_ttl_secs: Some(params.ttl_secs),
            expires_on_send: params.expires_on_send,
            notification_ttl_secs: params.notification_ttl_secs,
            unused_queue_days: params.unused_queue_days,
            links: Arc::default(),
            message_bytes_max: params.message_bytes_max,
            queues_max: 1_000_000,
            services_max: 1_000,
            subscriptions_per_connection: 1_000_000,
            delivery_credit: CREDIT,
        };
        let mut machine = Machine::new(seed, config);
        machine.start(params.shards)?;
        Ok(Self {
            machine,
            spec: Spec {
                now_secs: START_SECS,
                quota: params.quota,
                ttl_secs: params.ttl_secs,
                notification_ttl_secs: params.notification_ttl_secs,
                password,
                expires_on_send: params.expires_on_send,
                unused_queue_days: params.unused_queue_days.map(u64::from),
                ..Spec::default()
            },
            slots: [None; SLOTS],
            sessions: Vec::new(),
            names: Names::default(),
            secrets: BTreeMap::new(),
            notifier_secrets: BTreeMap::new(),
            seen_ids: BTreeSet::new(),
            notifiers: Vec::new(),
            links: Vec::new(),
            next_corr: 0,
            met: Met::new(),
        })
    }

    pub fn act(&mut self, action: &Action) -> Verdict {
        match action {
            Action::Connect { slot, version, shard } => {
                self.disconnect(*slot);
                self.connect(*slot, *version, *shard);
            }
            Action::Disconnect { slot } => self.disconnect(*slot),
            Action::Pass { secs } => self.spec.now_secs += secs,
            Action::Expire => self.expire()?,
            Action::Restart { shards } => self.restart(*shards)?,
            Action::Block { queue, blocked } => {
                if let Some(at) = self.pick(*queue).filter(|at| !self.spec.queues[*at].is_deleted) {
                    let info = blocked.map(|(reason, notice)| blocking_info(reason, notice));
                    self.machine.block(&self.spec.queues[at].recipient, info)?;
                    self.spec.block(at, *blocked);
                    self.restart(self.machine.shard_count())?;
                }
            }
            Action::Commands { slot, asks } => {
                if let Some(conn) = self.slots[*slot] {
                    self.commands(conn, asks)?;
                }
            }
        }
        self.look_at_counts()
    }

    fn expire(&mut self) -> Verdict {
        // Twice: what has lost its messages may go then.
        for _ in 0..2 {
            let outputs = self.machine.expire(self.spec.now_secs)?;
            self.spec.expire();
            self.compare(outputs, &[])?;
        }
        Ok(())
    }

    fn connect(&mut self, slot: usize, version: u16, shard: usize) {
        let n = self.sessions.len();
        let shard = shard % self.machine.shard_count();
        let mut session_id = [0x5e; 32];
        session_id[..8].copy_from_slice(&n.to_le_bytes());
        self.sessions.push(Arc::new(Session {
            conn: ConnRef {
                shard: u16::try_from(shard).unwrap(),
                // Places are used again.
                place: u32::try_from(slot).unwrap(),
                generation: u32::try_from(n).unwrap(),
            },
            version: SmpVersion(version),
            session_id: SessionId::new(&session_id).unwrap(),
            router_key: DhPrivateKey::from_bytes(ROUTER_KEY),
            forward_key: None,
            proxy: false,
            forwarded: false,
            counts: SessionCounts::default(),
            service: None,
        }));
        self.spec.versions.push(version);
        self.slots[slot] = Some(n);
    }

    fn disconnect(&mut self, slot: usize) {
        if let Some(conn) = self.slots[slot].take() {
            self.machine.disconnect(self.sessions[conn].conn);
            self.spec.disconnect(conn);
        }
    }

    fn restart(&mut self, shards: usize) -> Verdict {
        self.machine.stop()?;
        for conn in self.slots.iter_mut().filter_map(Option::take) {
            self.spec.disconnect(conn);
        }
        self.machine.start(shards)?;
        for slot in 0..SLOTS {
            let version = if slot == 0 { 19 } else { 5 + u16::try_from(4 * slot).unwrap() };
            self.connect(slot, version, slot);
        }
        Ok(())
    }

    /// Of the living queues, mostly, the newest first.
    fn pick(&self, pick: usize) -> Option<usize> {
        let living: Vec<usize> =
            (0..self.spec.queues.len()).rev().filter(|at| !self.spec.queues[*at].is_deleted).collect();
        if living.is_empty() || pick % 32 == 31 {
            let all = self.spec.queues.len();
            return (all > 0).then(|| pick % all);
        }
        Some(living[pick % living.len()])
    }

    fn commands(&mut self, conn: usize, asks: &[Ask]) -> Verdict {
        let mut block: Vec<Pending> = Vec::new();
        let mut bytes = 0;
        if asks.len() > 1 {
            // What is on its way to a subscriber may expire before its body is read, and then is not delivered.
            self.expire()?;
        }
        for ask in asks {
            // Where a link lives is looked up when its block comes, so not together with what makes the link.
            if matches!(ask.command, Asked::LKey(_) | Asked::LGet) {
                self.send(conn, &std::mem::take(&mut block))?;
                bytes = 0;
            }
            let pending = self.resolve(conn, ask);
            bytes += pending.bytes.len() + 2;
            // One block, and of it what is for one home after the other.
            if bytes > 16_360 || block.last().is_some_and(|last| last.home != pending.home) {
                self.send(conn, &std::mem::take(&mut block))?;
                bytes = pending.bytes.len();
            }
            block.push(pending);
        }
        self.send(conn, &block)
    }

    fn send(&mut self, conn: usize, block: &[Pending]) -> Verdict {
        let Some(first) = block.first() else { return Ok(()) };
        let mut data = new_block();
        let mut transmissions = smallvec::SmallVec::new();
        let mut at = FIRST_AT;
        for pending in block {
            data[at..at + pending.bytes.len()].copy_from_slice(&pending.bytes);
            transmissions.push((u16::try_from(at).unwrap(), u16::try_from(pending.bytes.len()).unwrap()));
            at += pending.bytes.len() + 2;
        }
        let session = Arc::clone(&self.sessions[conn]);
        let batch = Batch { session, data: BatchData::Block(data), transmissions, next: 0, forwarded: None };
        let outputs = self.machine.process(first.home, batch, self.spec.now_secs)?;
        let expected: Vec<_> = block.iter().map(|pending| (conn, pending)).collect();
        self.compare(outputs, &expected)
    }

    /// Compares what everyone was told with what the specification says about the same commands.
    fn compare(&mut self, outputs: Vec<Output>, expected: &[(usize, &Pending)]) -> Verdict {
        let mut responses: BTreeMap<Vec<u8>, Vec<Received>> = BTreeMap::new();
        let mut events: BTreeMap<(usize, Id), Vec<Received>> = BTreeMap::new();
        let mut answered = 0;
        for output in outputs {
            if let Output::Responses { answered: true, .. } = output {
                answered += 1;
            }
            let (conn, all) = received(&output, |conn| self.spec.versions[conn])?;
            for one in all {
                if one.corr.is_empty() {
                    let came: &mut Vec<Received> = events.entry((conn, one.entity.clone())).or_default();
                    // See below.
                    if came
                        .last()
                        .is_none_or(|last| !last.bytes.starts_with(b"MSG ") || last.bytes != one.bytes)
                    {
                        came.push(one);
                    }
                } else if expected.iter().any(|(asker, _)| *asker == conn) {
                    responses.entry(one.corr.clone()).or_default().push(one);
                } else {
                    return Err(format!("a response to connection {conn}, which asked nothing"));
                }
            }
        }
        if answered != usize::from(!expected.is_empty()) {
            return Err(format!("{answered} batches were answered"));
        }
        let mut to_come: BTreeMap<(usize, Id), Vec<Said>> = BTreeMap::new();
        for (conn, pending) in expected {
            let answer = responses.get_mut(&pending.corr).filter(|all| !all.is_empty());
            let answer = answer.ok_or_else(|| format!("no answer to {:?}", pending.request))?.remove(0);
            let drawn = self.drawn(*conn, pending, &answer)?;
            let ((entity, said), told) = self.spec.execute(*conn, &pending.request, &drawn);
            self.meet(&pending.request, &said, &told);
            let mut come =
                |(conn, entity, said): Event| to_come.entry((conn, entity)).or_default().push(said);
            told.into_iter().for_each(&mut come);
            let comes_later = matches!((&pending.request.command, &said), (Command::Ack(_), Said::Msg(_)))
                && answer.bytes == b"OK";
            if comes_later && answer.entity == entity {
                // Its body is still being read: the message follows by itself.
                come((*conn, entity, said));
                continue;
            }
            if answer.entity != entity {
                return Err(format!(
                    "the answer to {:?} is {answer:?}, not about {:?}",
                    pending.request,
                    Hex(&entity)
                ));
            }
            self.is_said(*conn, &said, &answer).map_err(|why| {
                let version = self.spec.versions[*conn];
                format!("{:?} by connection {conn} (v{version}): {why}", pending.request)
            })?;
            self.note(&pending.asked, *conn, &answer);
        }
        if let Some(more) = responses.values().flatten().next() {
            return Err(format!("a second answer: {more:?}"));
        }
        for ((conn, entity), mut said) in to_come {
            // Who subscribes twice in one block may get the message once.
            said.dedup_by(|second, first| second == first && matches!(first, Said::Msg(_)));
            let came = events.remove(&(conn, entity.clone())).unwrap_or_default();
            if came.len() != said.len() {
                return Err(format!("connection {conn} is to be told {said:?}, and is told {came:?}"));
            }
            for (said, came) in said.iter().zip(&came) {
                self.is_said(conn, said, came).map_err(|why| format!("connection {conn}: {why}"))?;
            }
        }
        match events.into_iter().next() {
            Some(((conn, _), came)) => Err(format!("connection {conn} is told more: {came:?}")),
            None => Ok(()),
        }
    }

    fn meet(&mut self, request: &Request, said: &Said, told: &[Event]) {
        let word = |said: &Said| match said {
            Said::Text(text) => text.clone(),
            other => {
                let text = format!("{other:?}");
                text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_uppercase()
            }
        };
        let command = match &request.command {
            Command::Bytes(..) => "what is no command".to_owned(),
            other => {
                let text = format!("{other:?}");
                text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_uppercase()
            }
        };
        *self.met.entry(format!("{command}: {}", word(said))).or_default() += 1;
        for (_, _, said) in told {
            *self.met.entry(format!("event {}", word(said))).or_default() += 1;
        }
    }

    /// What the router drew: IDs of the right length that were never there before.
    fn drawn(&mut self, conn: usize, pending: &Pending, answer: &Received) -> Result<Drawn, String> {
        let version = SmpVersion(self.spec.versions[conn]);
        let mut drawn = Drawn::default();
        let mut fresh: Vec<Id> = Vec::new();
        match Response::parse(version, &answer.bytes) {
            Ok(Response::Ids(ids)) => {
                drawn.recipient = ids.recipient_id.to_vec();
                drawn.sender = ids.sender_id.to_vec();
                drawn.link = ids.link_id.unwrap_or_default().to_vec();
                drawn.notifier = ids.notifier.as_ref().map_or(&[][..], |new| new.notifier_id).to_vec();
                fresh.push(drawn.recipient.clone());
                fresh.extend(ids.notifier.is_some().then(|| drawn.notifier.clone()));
                let Command::New { link, .. } = &pending.request.command else {
                    return Err(format!("IDS as the answer to {:?}", pending.request));
                };
                let given = link.as_ref().filter(|_| ids.link_id.is_some());
                if given.is_none() {
                    fresh.push(drawn.sender.clone());
                }
                if let Some(id) = ids.link_id.filter(|id| given.is_none_or(|given| given.id != *id)) {
                    fresh.push(id.to_vec());
                }
            }
            Ok(Response::Nid { notifier_id, .. }) => {
                drawn.notifier = notifier_id.to_vec();
                fresh.push(drawn.notifier.clone());
            }
            _ => {}
        }
        for id in fresh {
            if id.len() != 24 || !self.seen_ids.insert(id) {
                return Err("an ID of another length, or one that was there before".into());
            }
        }
        Ok(drawn)
    }

    /// Keeps what a client keeps of an answer.
    fn note(&mut self, asked: &Asked, conn: usize, answer: &Received) {
        let version = SmpVersion(self.spec.versions[conn]);
        match (asked, Response::parse(version, &answer.bytes)) {
            (Asked::New { notifier, .. }, Ok(Response::Ids(ids))) => {
                self.links.extend(ids.link_id.map(<[u8]>::to_vec));
                if let (Some(new), Some((_, dh))) = (ids.notifier, notifier) {
                    let secret = DH_POOL[*dh].0.agree(&new.router_dh_key).box_key();
                    self.notifier_secrets.insert(new.notifier_id.to_vec(), secret);
                    self.notifiers.push(new.notifier_id.to_vec());
                }
            }
            (Asked::NKey(_, dh), Ok(Response::Nid { notifier_id, router_dh_key })) => {
                let secret = DH_POOL[*dh].0.agree(&router_dh_key).box_key();
                self.notifier_secrets.insert(notifier_id.to_vec(), secret);
                self.notifiers.push(notifier_id.to_vec());
            }
            _ => {}
        }
        if let (Asked::New { dh, .. }, Ok(Response::Ids(ids))) =
            (asked, Response::parse(version, &answer.bytes))
        {
            let secret = DH_POOL[*dh].0.agree(&ids.router_dh_key).box_key();
            self.secrets.insert(ids.recipient_id.to_vec(), secret);
        }
    }

    /// What is counted is there.
    fn look_at_counts(&self) -> Verdict {
        let living = self.spec.queues.iter().filter(|queue| !queue.is_deleted);
        let known =
            living.fold((0, 0), |(queues, messages), queue| (queues + 1, messages + queue.messages.len()));
        if self.machine.counts() != known {
            return Err(format!("{known:?} queues and messages, {:?} are counted", self.machine.counts()));
        }
        if let Some(wrong) = self.machine.miscounted() {
            return Err(wrong);
        }
        for conn in self.slots.iter().flatten() {
            let subscriptions = |queue: &Queue| {
                let receives = queue.subscriber.is_some_and(|(subscriber, _)| subscriber == *conn);
                let notifier = queue.notifier.as_ref().and_then(|notifier| notifier.subscriber);
                usize::from(receives) + usize::from(notifier == Some(*conn))
            };
            let living = self.spec.queues.iter().filter(|queue| !queue.is_deleted);
            let known: usize = living.map(subscriptions).sum();
            let counted = self.sessions[*conn].subscription_count();
            if counted != known {
                return Err(format!("connection {conn} has {known} subscriptions, {counted} are counted"));
            }
        }
        Ok(())
    }

    fn resolve(&mut self, conn: usize, ask: &Ask) -> Pending {
        let at = self.pick(ask.queue);
        self.next_corr += 1;
        let mut corr = vec![0xc0; 24];
        corr[..8].copy_from_slice(&self.next_corr.to_le_bytes());
        if let Asked::New { link: Some(link), .. } = &ask.command {
            corr = vec![0xa0 + u8::try_from(link.corr).unwrap(); 24];
        }
        let queue = at.map(|at| &self.spec.queues[at]);
        let command = self.command(conn, queue, &corr, &ask.command);
        let entity = self.entity(queue, &command, ask.entity, ask.queue);
        let right = right_key(queue, &command, ask.queue);
        let signed = match ask.signer {
            Signer::Right => right.map(|key| (key, true)),
            Signer::Nobody => None,
            Signer::Key(key) => Some((key, true)),
            Signer::Damaged => right.map(|key| (key, false)),
        };
        let request = Request { command, entity, signed, is_foreign: ask.is_foreign };
        let session = &self.sessions[conn];
        let bytes = transmission(session, &corr, &request, &ask.command, &self.names);
        // Where the runtime brings it.
        let id = match &request.command {
            Command::New { mode: Some(_), link: Some(link), .. } if session.version.0 >= 15 => &link.sender,
            _ => &request.entity,
        };
        let is_link = matches!(request.command, Command::LKey(_) | Command::LGet);
        let home = self.machine.home(session.conn, id, is_link);
        Pending { asked: ask.command.clone(), corr, request, home, bytes }
    }

    fn command(&self, conn: usize, queue: Option<&Queue>, corr: &[u8], asked: &Asked) -> Command {
        let first = queue.and_then(|queue| {
            let got = queue.got.get(&conn).copied().flatten();
            let delivered = queue.subscriber.filter(|(subscriber, _)| *subscriber == conn);
            delivered.and_then(|(_, delivered)| delivered).or(got)
        });
        match asked {
            Asked::New { key, subscribe, password, mode, link, notifier, .. } => Command::New {
                key: *key,
                subscribe: *subscribe,
                password: *password,
                mode: *mode,
                link: link.filter(|_| mode.is_some()).map(|link| asked_link(link, corr)),
                notifier: notifier.map(|(key, _)| key),
            },
            Asked::Sub => Command::Sub,
            Asked::Get => Command::Get,
            Asked::Ack(AskedAck::Any) => Command::Ack(Acked::Any),
            Asked::Ack(AskedAck::Unknown) => Command::Ack(Acked::Unknown),
            Asked::Ack(AskedAck::Delivered) => {
                let named = first.filter(|number| self.names.name(*number).is_some());
                Command::Ack(named.map_or(Acked::Unknown, Acked::Message))
            }
            Asked::Ack(AskedAck::Other(back)) => {
                let other = self.names.latest(*back).map(|(number, _)| *number);
                Command::Ack(other.map_or(Acked::Unknown, Acked::Message))
            }
            Asked::Key(key) => Command::Key(*key),
            Asked::RKey(keys) => Command::RKey(keys.clone()),
            Asked::LSet { link, fixed, user } => {
                let own = queue.and_then(|queue| queue.link.as_ref()).map(|(id, _)| id.clone());
                let link = own.filter(|_| link.is_none()).unwrap_or_else(|| link_id(link.unwrap_or(1)));
                Command::LSet { link, data: data(*fixed, *user) }
            }
            Asked::LDel => Command::LDel,
            Asked::NKey(key, _) => Command::NKey(*key),
            Asked::NDel => Command::NDel,
            Asked::Off => Command::Off,
            Asked::Del => Command::Del,
            Asked::Que => Command::Que,
            Asked::SKey(key) => Command::SKey(*key),
            Asked::Send { notifies, body } => Command::Send { notifies: *notifies, body: *body },
            Asked::LKey(key) => Command::LKey(*key),
            Asked::LGet => Command::LGet,
            Asked::NSub => Command::NSub,
            Asked::Subs => Command::Subs,
            Asked::NSubs => Command::NSubs,
            Asked::Ping => Command::Ping,
            Asked::Bytes(n) => {
                let (bytes, error) = NO_COMMANDS[*n];
                Command::Bytes(bytes, error)
            }
        }
    }

    fn entity(&self, queue: Option<&Queue>, command: &Command, entity: Entity, pick: usize) -> Id {
        let recipient = || queue.map_or_else(|| vec![1; 24], |queue| queue.recipient.clone());
        let sender = || queue.map_or_else(|| vec![2; 24], |queue| queue.sender.clone());
        let latest = |all: &[Id], other: u8| all.last().cloned().unwrap_or_else(|| vec![other; 24]);
        let link = || {
            let own = queue.and_then(|queue| queue.link.as_ref()).map(|(id, _)| id.clone());
            own.unwrap_or_else(|| if pick.is_multiple_of(2) { link_id(pick) } else { latest(&self.links, 3) })
        };
        let notifier = || {
            let own = queue.and_then(|queue| queue.notifier.as_ref()).map(|notifier| notifier.id.clone());
            own.unwrap_or_else(|| latest(&self.notifiers, 4))
        };
        match (entity, command) {
            (Entity::Unknown, _) => vec![0xdd; 24],
            (Entity::Short, _) => vec![0xdd; 7],
            (Entity::None, _) | (Entity::Right, Command::New { .. } | Command::Ping) => Id::new(),
            (Entity::Sender, _) | (Entity::Right, Command::SKey(_) | Command::Send { .. }) => sender(),
            (Entity::Link, _) | (Entity::Right, Command::LKey(_) | Command::LGet) => link(),
            (Entity::Notifier, _) | (Entity::Right, Command::NSub) => notifier(),
            (Entity::Recipient | Entity::Right, _) => recipient(),
        }
    }
}

/// Who may give the command.
fn right_key(queue: Option<&Queue>, command: &Command, pick: usize) -> Option<usize> {
    match command {
        Command::New { key, .. } | Command::SKey(key) | Command::LKey(key) => Some(*key),
        Command::Ping | Command::LGet => None,
        Command::Send { .. } => queue.and_then(|queue| queue.sender_key),
        Command::NSub => Some(queue.and_then(|queue| queue.notifier.as_ref()).map_or(0, |n| n.key)),
        _ => Some(queue.map_or(0, |queue| queue.recipient_keys[pick % queue.recipient_keys.len()])),
    }
}

fn link_id(n: usize) -> Id {
    // One of them cannot be an ID.
    match n % 7 {
        6 => vec![0x66; 9],
        n => vec![0xb0 + u8::try_from(n).unwrap(); 24],
    }
}

fn data(fixed: usize, user: usize) -> Data {
    let fixed = vec![u8::try_from(fixed).unwrap(); 5 + fixed];
    Data { fixed, user: vec![u8::try_from(user).unwrap(); [0, 20, 3_000, 13_000][user % 4]] }
}

fn asked_link(link: NewLink, corr: &[u8]) -> AskedLink {
    let sender = if link.is_derived { sender_id_from_correlation(corr).to_vec() } else { vec![0x55; 24] };
    AskedLink {
        sender,
        is_derived: link.is_derived,
        id: link_id(link.link),
        data: data(link.fixed, link.user),
    }
}

fn blocking_info(reason: &str, notice: Option<&str>) -> BlockingInfo {
    let notice = notice.map_or(String::new(), |notice| format!(",notice={notice}"));
    BlockingInfo::parse(format!("reason={reason}{notice}").as_bytes()).unwrap()
}
