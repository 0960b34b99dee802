//! What a router answers: "SMP commands" of the protocol text with the errors of the reference, in the plainest form.
//!
//! Written from the protocol text, the recorded answers of the reference and its description, and not from the service that it
//! is compared with. IDs that a router draws are taken from its answers ([`Drawn`]); everything else is said here.

use std::collections::{BTreeMap, VecDeque};

use crate::keys::{Kind, kind};
pub use crate::terms::*;
use crate::words::{Refusal, credentials, words};

/// Notifications that are kept for a notifier that is away. Ours: the reference keeps all.
const KEPT_MAX: usize = 16;
const ID_BYTES: usize = 24;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    Active,
    Off,
    /// The reason, and the notice if there is one: as after "reason=" on the wire.
    Blocked(&'static str, Option<&'static str>),
}

#[derive(Debug)]
pub struct Message {
    pub number: Number,
    pub received_secs: u64,
    /// None: the quota was reached here.
    pub sent: Option<(bool, Body)>,
}

#[derive(Debug)]
pub struct Notifier {
    pub id: Id,
    pub key: Key,
    pub subscriber: Option<Conn>,
    kept: VecDeque<(Number, u64)>,
}

#[derive(Debug)]
pub struct Queue {
    pub recipient: Id,
    pub sender: Id,
    pub recipient_keys: Vec<Key>,
    pub sender_key: Option<Key>,
    pub mode: Option<Mode>,
    status: Status,
    pub link: Option<(Id, Data)>,
    pub notifier: Option<Notifier>,
    pub messages: VecDeque<Message>,
    /// Who subscribes, and what was delivered and not acknowledged.
    pub subscriber: Option<(Conn, Option<Number>)>,
    /// Who used GET, and what it got.
    pub got: BTreeMap<Conn, Option<Number>>,
    pub is_deleted: bool,
}

impl Queue {
    /// Of messaging queues, and those made before queues had modes, that have a sender's key.
    fn is_secured_messaging(&self) -> bool {
        self.mode != Some(Mode::Contact) && self.sender_key.is_some()
    }

    fn is_contact(&self) -> bool {
        match self.mode {
            Some(mode) => mode == Mode::Contact,
            None => self.sender_key.is_none(),
        }
    }

    /// Whether SKEY and LKEY may set this key.
    fn may_be_secured_with(&self, key: Key) -> bool {
        self.mode == Some(Mode::Messaging) && self.sender_key.is_none_or(|present| present == key)
    }

    fn first(&self) -> Option<Number> {
        self.messages.front().map(|message| message.number)
    }

    /// An acknowledged message goes, if it is the first.
    fn take(&mut self, acked: &Acked) {
        if let Acked::Message(number) = acked
            && self.first() == Some(*number)
        {
            self.messages.pop_front();
        }
    }
}

#[derive(Debug, Default)]
pub struct Spec {
    pub queues: Vec<Queue>,
    /// Versions, by connection.
    pub versions: Vec<u16>,
    pub now_secs: u64,
    pub quota: usize,
    pub ttl_secs: u64,
    pub notification_ttl_secs: u64,
    pub password: Option<&'static str>,
    pub expires_on_send: bool,
    pub next_number: Number,
    pub events: Vec<Event>,
}

type Answer = Result<Said, Refusal>;

// It stands where an answer is wanted.
#[allow(clippy::unnecessary_wraps)]
fn ok() -> Answer {
    Ok(Said::Text("OK".into()))
}

impl Spec {
    /// The entity and the words of the response, and what others are told.
    pub fn execute(&mut self, conn: Conn, request: &Request, drawn: &Drawn) -> ((Id, Said), Vec<Event>) {
        let version = self.versions[conn];
        if version < 7 && request.is_foreign {
            return ((Id::new(), Said::Text("ERR SESSION".into())), Vec::new());
        }
        let answer = match (&request.command, credentials(request)) {
            (Command::Bytes(_, error), _) => Ok(Said::Text(format!("ERR {error}"))),
            (_, Some(error)) => Ok(Said::Text(format!("ERR CMD {error}"))),
            (Command::New { .. }, None) => self.create(conn, request, drawn),
            (Command::Ping, None) => Ok(Said::Text("PONG".into())),
            (Command::Subs | Command::NSubs, None) => Err(Refusal::Service),
            (Command::Send { notifies, body }, None) => self.send(conn, request, *notifies, *body),
            (Command::SKey(key), None) => self.secure_by_sender(conn, request, *key),
            (Command::LKey(key), None) => self.secure_by_link(conn, request, *key),
            (Command::LGet, None) => self.read_link(request),
            (Command::NSub, None) => self.subscribe_notifier(conn, request),
            (_, None) => self.recipient(conn, request, drawn),
        };
        let said = answer.unwrap_or_else(|refusal| Said::Text(format!("ERR {}", words(refusal, version))));
        let entity = match said {
            Said::Ids { .. } => Id::new(),
            _ => request.entity.clone(),
        };
        ((entity, said), std::mem::take(&mut self.events))
    }

    fn holds(&self, conn: Conn, request: &Request, key: Key) -> bool {
        let version = self.versions[conn];
        let Some((signer, is_whole)) = request.signed else { return false };
        // Authenticators came with version 7.
        signer == key && is_whole && !request.is_foreign && (kind(key) != Kind::X25519 || version >= 7)
    }

    fn find(&self, is_it: impl Fn(&Queue) -> bool) -> Option<usize> {
        self.queues.iter().position(|queue| !queue.is_deleted && is_it(queue))
    }

    fn tell(&mut self, conn: Conn, entity: &Id, said: Said) {
        self.events.push((conn, entity.clone(), said));
    }

    fn create(&mut self, conn: Conn, request: &Request, drawn: &Drawn) -> Answer {
        let Command::New { key, subscribe, password, mode, link, notifier } = &request.command else {
            return Err(Refusal::Auth);
        };
        let version = self.versions[conn];
        if !self.holds(conn, request, *key) || (self.password.is_some() && *password != self.password) {
            return Err(Refusal::Auth);
        }
        let mode = match version {
            ..9 => None,
            // A flag: the sender can secure the queue.
            9..15 => Some(mode.unwrap_or(Mode::Contact)),
            _ => *mode,
        };
        let link = link.as_ref().filter(|_| version >= 15 && mode.is_some());
        let notifier = notifier.filter(|_| version >= 17);
        if let Some(link) = link {
            if !link.is_derived {
                return Err(Refusal::Prohibited);
            }
            if mode == Some(Mode::Contact) && link.id.len() != ID_BYTES {
                return Err(Refusal::Syntax);
            }
            let is_taken = self.find(|queue| queue.sender == link.sender).is_some()
                || (mode == Some(Mode::Contact) && self.has_link(&link.id));
            if is_taken {
                return Err(Refusal::Auth);
            }
        }
        let link = link.map(|link| {
            let id = if mode == Some(Mode::Contact) { link.id.clone() } else { drawn.link.clone() };
            (link.sender.clone(), id, link.data.clone())
        });
        let sender = link.as_ref().map_or(&drawn.sender, |(sender, ..)| sender).clone();
        let said = Said::Ids {
            recipient: drawn.recipient.clone(),
            sender: sender.clone(),
            mode,
            link: link.as_ref().map(|(_, id, _)| id.clone()),
            notifier: notifier.map(|_| drawn.notifier.clone()),
        };
        self.queues.push(Queue {
            recipient: drawn.recipient.clone(),
            sender,
            recipient_keys: vec![*key],
            sender_key: None,
            mode,
            status: Status::Active,
            link: link.map(|(_, id, data)| (id, data)),
            notifier: notifier.map(|key| Notifier {
                id: drawn.notifier.clone(),
                key,
                subscriber: None,
                kept: VecDeque::new(),
            }),
            messages: VecDeque::new(),
            subscriber: subscribe.then_some((conn, None)),
            got: BTreeMap::new(),
            is_deleted: false,
        });
        Ok(said)
    }

    fn has_link(&self, id: &Id) -> bool {
        self.find(|queue| queue.link.as_ref().is_some_and(|(other, _)| other == id)).is_some()
    }

    fn refuse_blocked(&self, at: usize) -> Result<(), Refusal> {
        match self.queues[at].status {
            Status::Blocked(reason, notice) => Err(Refusal::Blocked(reason, notice)),
            Status::Active | Status::Off => Ok(()),
        }
    }

    fn recipient(&mut self, conn: Conn, request: &Request, drawn: &Drawn) -> Answer {
        let at = self.find(|queue| queue.recipient == request.entity).ok_or(Refusal::Auth)?;
        if !self.queues[at].recipient_keys.iter().any(|key| self.holds(conn, request, *key)) {
            return Err(Refusal::Auth);
        }
        match &request.command {
            Command::Off => {
                self.queues[at].status = Status::Off;
                return ok();
            }
            Command::Del => {
                self.delete(conn, at);
                return ok();
            }
            _ => self.refuse_blocked(at)?,
        }
        let link_is_taken = |id: &Id| self.has_link(id);
        let queue = &self.queues[at];
        match &request.command {
            Command::LSet { link, data } => {
                let is_other = queue
                    .link
                    .as_ref()
                    .is_some_and(|(id, present)| id != link || present.fixed != data.fixed);
                if queue.is_secured_messaging() || is_other {
                    return Err(Refusal::Auth);
                }
                if link.len() != ID_BYTES {
                    return Err(Refusal::Syntax);
                }
                if queue.link.is_none() && link_is_taken(link) {
                    return Err(Refusal::Auth);
                }
                self.queues[at].link = Some((link.clone(), data.clone()));
                ok()
            }
            Command::LDel => {
                self.queues[at].link = None;
                ok()
            }
            Command::RKey(keys) if queue.mode == Some(Mode::Contact) => {
                self.queues[at].recipient_keys.clone_from(keys);
                ok()
            }
            Command::Key(key) => self.secure(at, *key),
            Command::NKey(key) => {
                self.end_notifier(conn, at);
                let id = drawn.notifier.clone();
                let notifier =
                    Notifier { id: id.clone(), key: *key, subscriber: None, kept: VecDeque::new() };
                self.queues[at].notifier = Some(notifier);
                Ok(Said::Nid(id))
            }
            Command::NDel => {
                self.end_notifier(conn, at);
                ok()
            }
            Command::Sub => self.subscribe(conn, at),
            Command::Get => {
                if queue.subscriber.is_some_and(|(subscriber, _)| subscriber == conn) {
                    return Err(Refusal::Prohibited);
                }
                let first = queue.first();
                self.queues[at].got.insert(conn, first);
                first.map_or_else(ok, |number| Ok(Said::Msg(number)))
            }
            Command::Ack(acked) => self.acknowledge(conn, at, acked),
            Command::Que => Ok(Said::Info(self.info(conn, at))),
            // RKEY on what is no contact address.
            _ => Err(Refusal::Auth),
        }
    }

    fn secure(&mut self, at: usize, key: Key) -> Answer {
        let present = self.queues[at].sender_key.get_or_insert(key);
        if *present == key { ok() } else { Err(Refusal::Auth) }
    }

    fn subscribe(&mut self, conn: Conn, at: usize) -> Answer {
        if self.queues[at].got.contains_key(&conn) {
            return Err(Refusal::Prohibited);
        }
        let id = self.queues[at].recipient.clone();
        if let Some((former, _)) = self.queues[at].subscriber
            && former != conn
        {
            let end = Said::Text("END".into());
            self.tell(former, &id, end);
        }
        let first = self.queues[at].first();
        self.queues[at].subscriber = Some((conn, first));
        if let Some(number) = first {
            self.tell(conn, &id, Said::Msg(number));
        }
        Ok(self.subscribed(conn))
    }

    /// SOK is OK before version 16.
    fn subscribed(&self, conn: Conn) -> Said {
        Said::Text(if self.versions[conn] < 16 { "OK" } else { "SOK 0" }.into())
    }

    /// DELD is END before version 10. Who ends something is not told.
    fn tell_deleted(&mut self, by: Conn, conn: Option<Conn>, id: &Id) {
        if let Some(conn) = conn.filter(|conn| *conn != by) {
            let word = if self.versions[conn] < 10 { "END" } else { "DELD" };
            self.tell(conn, id, Said::Text(word.into()));
        }
    }

    fn acknowledge(&mut self, conn: Conn, at: usize, acked: &Acked) -> Answer {
        let queue = &mut self.queues[at];
        let fits = |delivered: Option<Number>| match acked {
            Acked::Any => delivered.is_some(),
            Acked::Message(number) => delivered == Some(*number),
            Acked::Unknown => false,
        };
        match queue.subscriber {
            Some((subscriber, delivered)) if subscriber == conn => {
                if !fits(delivered) {
                    return Err(Refusal::NoMsg);
                }
                queue.take(acked);
                // The next one comes as the response.
                let next = queue.first();
                queue.subscriber = Some((conn, next));
                next.map_or_else(ok, |number| Ok(Said::Msg(number)))
            }
            _ => {
                if !fits(queue.got.get(&conn).copied().flatten()) {
                    return Err(Refusal::NoMsg);
                }
                queue.take(acked);
                queue.got.insert(conn, None);
                ok()
            }
        }
    }

    fn info(&self, conn: Conn, at: usize) -> Info {
        let queue = &self.queues[at];
        let reading = match (queue.subscriber, queue.got.get(&conn)) {
            (Some((subscriber, delivered)), _) if subscriber == conn => Some(("noSub", delivered)),
            (_, Some(delivered)) => Some(("prohibitSub", *delivered)),
            _ => None,
        };
        Info {
            is_secured: queue.sender_key.is_some(),
            is_notified: queue.notifier.is_some(),
            reading,
            size: queue.messages.len(),
            first: queue
                .messages
                .front()
                .map(|first| (first.number, if first.sent.is_some() { "message" } else { "quota" })),
        }
    }

    fn delete(&mut self, conn: Conn, at: usize) {
        self.end_notifier(conn, at);
        let id = self.queues[at].recipient.clone();
        let subscriber = self.queues[at].subscriber.take().map(|(subscriber, _)| subscriber);
        self.tell_deleted(conn, subscriber, &id);
        self.queues[at].is_deleted = true;
    }

    fn end_notifier(&mut self, conn: Conn, at: usize) {
        if let Some(former) = self.queues[at].notifier.take() {
            self.tell_deleted(conn, former.subscriber, &former.id);
        }
    }

    fn secure_by_sender(&mut self, conn: Conn, request: &Request, key: Key) -> Answer {
        let at = self.find(|queue| queue.sender == request.entity).ok_or(Refusal::Auth)?;
        if !self.queues[at].may_be_secured_with(key) || !self.holds(conn, request, key) {
            return Err(Refusal::Auth);
        }
        self.refuse_blocked(at)?;
        self.secure(at, key)
    }

    fn secure_by_link(&mut self, conn: Conn, request: &Request, key: Key) -> Answer {
        let at = self.find_link(&request.entity).ok_or(Refusal::Auth)?;
        if !self.queues[at].may_be_secured_with(key) || !self.holds(conn, request, key) {
            return Err(Refusal::Auth);
        }
        self.refuse_blocked(at)?;
        self.secure(at, key)?;
        self.link_data(at)
    }

    fn read_link(&mut self, request: &Request) -> Answer {
        let at = self.find_link(&request.entity).ok_or(Refusal::Auth)?;
        if !self.queues[at].is_contact() {
            return Err(Refusal::Auth);
        }
        self.refuse_blocked(at)?;
        self.link_data(at)
    }

    fn find_link(&self, id: &Id) -> Option<usize> {
        self.find(|queue| queue.link.as_ref().is_some_and(|(other, _)| other == id))
    }

    fn link_data(&self, at: usize) -> Answer {
        let (_, data) = self.queues[at].link.as_ref().ok_or(Refusal::Auth)?;
        Ok(Said::Lnk { sender: self.queues[at].sender.clone(), data: data.clone() })
    }

    fn subscribe_notifier(&mut self, conn: Conn, request: &Request) -> Answer {
        let is_it = |queue: &Queue| queue.notifier.as_ref().is_some_and(|n| n.id == request.entity);
        let at = self.find(is_it).ok_or(Refusal::Auth)?;
        let Some(mut notifier) = self.queues[at].notifier.take() else { return Err(Refusal::Auth) };
        let holds = self.holds(conn, request, notifier.key);
        if holds {
            if let Some(former) = notifier.subscriber.replace(conn).filter(|former| *former != conn) {
                self.tell(former, &notifier.id, Said::Text("END".into()));
            }
            for (number, _) in std::mem::take(&mut notifier.kept) {
                self.tell(conn, &notifier.id, Said::Nmsg(number));
            }
        }
        self.queues[at].notifier = Some(notifier);
        if holds { Ok(self.subscribed(conn)) } else { Err(Refusal::Auth) }
    }

    fn send(&mut self, conn: Conn, request: &Request, notifies: bool, body: Body) -> Answer {
        let at = self.find(|queue| queue.sender == request.entity).ok_or(Refusal::Auth)?;
        let is_allowed = match (request.signed, self.queues[at].sender_key) {
            (None, None) => true,
            (Some(_), Some(key)) => self.holds(conn, request, key),
            _ => false,
        };
        if !is_allowed {
            return Err(Refusal::Auth);
        }
        let bytes_max = match self.versions[conn] {
            ..8 => 16_088,
            8..11 => 16_064,
            _ => 16_048,
        };
        if body.bytes > bytes_max {
            return Err(Refusal::LargeMsg);
        }
        match self.queues[at].status {
            Status::Active => {}
            Status::Off => return Err(Refusal::Auth),
            Status::Blocked(reason, notice) => return Err(Refusal::Blocked(reason, notice)),
        }
        if self.queues[at].is_secured_messaging() {
            // Who was given the link has used it.
            self.queues[at].link = None;
        }
        if self.expires_on_send {
            self.expire_messages(at);
        }
        let number = self.next_number;
        let (quota, received_secs) = (self.quota, self.now_secs);
        let queue = &mut self.queues[at];
        let was_empty = queue.messages.is_empty();
        if queue.messages.back().is_some_and(|last| last.sent.is_none()) {
            // Closed until the recipient has taken everything.
            return Err(Refusal::Quota);
        }
        self.next_number += 1;
        if queue.messages.len() >= quota {
            queue.messages.push_back(Message { number, received_secs, sent: None });
            return Err(Refusal::Quota);
        }
        queue.messages.push_back(Message { number, received_secs, sent: Some((notifies, body)) });
        if let Some((subscriber, delivered @ None)) = &mut queue.subscriber
            && was_empty
        {
            *delivered = Some(number);
            self.events.push((*subscriber, queue.recipient.clone(), Said::Msg(number)));
        }
        if let Some(notifier) = queue.notifier.as_mut().filter(|_| notifies) {
            if let Some(subscriber) = notifier.subscriber {
                self.events.push((subscriber, notifier.id.clone(), Said::Nmsg(number)));
            } else {
                notifier.kept.push_back((number, received_secs));
                if notifier.kept.len() > KEPT_MAX {
                    notifier.kept.pop_front();
                }
            }
        }
        ok()
    }

    fn expire_messages(&mut self, at: usize) {
        let before_secs = self.now_secs - self.ttl_secs;
        let messages = &mut self.queues[at].messages;
        while messages.front().is_some_and(|first| first.received_secs < before_secs) {
            messages.pop_front();
        }
    }

    /// Everything that is too old goes.
    pub fn expire(&mut self) {
        let before_secs = self.now_secs - self.notification_ttl_secs;
        for at in 0..self.queues.len() {
            self.expire_messages(at);
            if let Some(notifier) = &mut self.queues[at].notifier {
                while notifier.kept.front().is_some_and(|(_, secs)| *secs < before_secs) {
                    notifier.kept.pop_front();
                }
            }
        }
    }

    pub fn disconnect(&mut self, conn: Conn) {
        for queue in &mut self.queues {
            queue.subscriber.take_if(|(subscriber, _)| *subscriber == conn);
            queue.got.remove(&conn);
            if let Some(notifier) = &mut queue.notifier {
                notifier.subscriber.take_if(|subscriber| *subscriber == conn);
            }
        }
    }

    /// By the operator: with a reason and a notice, or unblocked.
    pub fn block(&mut self, at: usize, blocked: Option<(&'static str, Option<&'static str>)>) {
        self.queues[at].status =
            blocked.map_or(Status::Active, |(reason, notice)| Status::Blocked(reason, notice));
    }
}
