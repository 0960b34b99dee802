//! Queues in memory, for the router of the tests.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use ringpost_protocol::command::{Command, MsgFlags, QueueMode, QueueRequest, ServiceSubs, SubscribeMode};
use ringpost_protocol::crypto::authorization::{VerifyContext, verify};
use ringpost_protocol::crypto::delivery::{DeliveryHeader, MsgId, encrypt_message};
use ringpost_protocol::crypto::{BoxKey, DhPrivateKey};
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::handshake::VerifiedService;
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};
use ringpost_protocol::limits::DELIVERY_ENCRYPTED_BYTES;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::transmission::{Authorization, Transmission};
use tokio::sync::mpsc;

use super::random;

/// What happens to the message with this number, of all that the router takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    #[default]
    Right,
    Lose(usize),
    Duplicate(usize),
    /// Stored behind the next one.
    Swap(usize),
    Alter(usize),
    /// Refused with QUOTA.
    Refuse(usize),
}

/// Messages of a queue beyond this are refused.
const QUOTA: usize = 128;

#[derive(Debug)]
pub struct Answer {
    pub corr_id: Vec<u8>,
    pub entity: Vec<u8>,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    Ok,
    Pong,
    Sok {
        service_id: Option<[u8; 24]>,
    },
    Soks(ServiceSubs),
    Alls,
    End,
    Deld,
    Info,
    Nonsense,
    BrokenBlock,
    Err(ErrorType),
    Msg {
        id: MsgId,
        body: Box<[u8; DELIVERY_ENCRYPTED_BYTES]>,
    },
    Ids {
        recipient_id: [u8; 24],
        sender_id: [u8; 24],
        router_dh_key: DhPublicKey,
        mode: Option<QueueMode>,
        service_id: Option<[u8; 24]>,
    },
}

/// A connection, as seen by the queues.
pub struct Peer {
    pub id: usize,
    pub outbox: mpsc::UnboundedSender<Answer>,
    pub session_key: DhPrivateKey,
    pub session_id: SessionId,
    pub service: Option<VerifiedService>,
}

impl Peer {
    /// Services have the beginning of their fingerprint as their ID.
    pub fn service_id(&self) -> Option<[u8; 24]> {
        self.service.as_ref().map(|service| service.fingerprint[..24].try_into().unwrap())
    }

    pub fn answer(&self, corr_id: &[u8], entity: &[u8], kind: Kind) {
        let _ = self.outbox.send(Answer { corr_id: corr_id.to_vec(), entity: entity.to_vec(), kind });
    }
}

struct Queue {
    recipient_id: [u8; 24],
    recipient_key: AuthPublicKey,
    sender_key: Option<AuthPublicKey>,
    box_key: BoxKey,
    messages: VecDeque<(MsgId, Vec<u8>)>,
    /// The first message is on its way to the subscriber.
    delivered: bool,
    suspended: bool,
    subscriber: Option<(usize, mpsc::UnboundedSender<Answer>)>,
    service_id: Option<[u8; 24]>,
}

#[derive(Default)]
struct State {
    by_recipient: HashMap<Vec<u8>, Queue>,
    recipient_of_sender: HashMap<Vec<u8>, Vec<u8>>,
    messages: usize,
    held: Option<(Vec<u8>, Vec<u8>)>,
}

pub struct Queues {
    state: Mutex<State>,
    delivery: Delivery,
    message_answers_sub: bool,
}

impl Queues {
    pub fn new(delivery: Delivery, message_answers_sub: bool) -> Self {
        Self { state: Mutex::default(), delivery, message_answers_sub }
    }

    pub fn count(&self) -> usize {
        self.state.lock().unwrap().by_recipient.len()
    }

    pub fn execute(&self, peer: &Peer, transmission: &Transmission<'_>, command: &Command<'_>) {
        let (corr_id, entity) = (transmission.corr_id, transmission.entity_id);
        let mut guard = self.state.lock().unwrap();
        let state = &mut *guard;
        let kind = match command {
            Command::Ping => Kind::Pong,
            Command::New(new) => {
                if is_authorized(peer, transmission, Some(&new.recipient_key)) {
                    let answer = state.create(peer, new);
                    peer.answer(corr_id, entity, answer);
                } else {
                    peer.answer(corr_id, entity, Kind::Err(ErrorType::Auth));
                }
                return;
            }
            Command::Subs(_) => match (&peer.service, peer.service_id()) {
                (Some(service), Some(id))
                    if entity == id
                        && is_authorized(
                            peer,
                            transmission,
                            Some(&AuthPublicKey::Ed25519(service.session_key)),
                        ) =>
                {
                    let mut has = ServiceSubs::NONE;
                    let own = |queue: &&mut Queue| queue.service_id == Some(id);
                    state
                        .by_recipient
                        .values_mut()
                        .filter(own)
                        .for_each(|queue| has.add_queue(&queue.recipient_id));
                    peer.answer(corr_id, entity, Kind::Soks(has));
                    for queue in state.by_recipient.values_mut().filter(own) {
                        queue.subscriber = Some((peer.id, peer.outbox.clone()));
                        queue.delivered = false;
                        queue.deliver();
                    }
                    peer.answer(&[], &[], Kind::Alls);
                    return;
                }
                _ => Kind::Err(ErrorType::Service),
            },
            Command::Send { body, .. } => self.send(state, peer, transmission, body),
            Command::SKey(key) => {
                let recipient = state.recipient_of_sender.get(entity);
                let queue = recipient.and_then(|id| state.by_recipient.get_mut(id));
                match queue {
                    Some(queue) if is_authorized(peer, transmission, Some(key)) => queue.secure(key),
                    _ => Kind::Err(ErrorType::Auth),
                }
            }
            command => match state.by_recipient.get_mut(entity) {
                Some(queue) if is_authorized(peer, transmission, Some(&queue.recipient_key)) => match command
                {
                    Command::Sub => {
                        if let Some((id, outbox)) = queue.subscriber.take()
                            && id != peer.id
                        {
                            let end =
                                Answer { corr_id: Vec::new(), entity: entity.to_vec(), kind: Kind::End };
                            let _ = outbox.send(end);
                        }
                        queue.subscriber = Some((peer.id, peer.outbox.clone()));
                        queue.delivered = false;
                        queue.service_id = peer.service_id();
                        if self.message_answers_sub && !queue.messages.is_empty() {
                            queue.delivered = true;
                            let message = queue.first().unwrap();
                            peer.answer(corr_id, entity, message);
                        } else {
                            peer.answer(corr_id, entity, Kind::Sok { service_id: peer.service_id() });
                            queue.deliver();
                        }
                        return;
                    }
                    Command::Key(key) => queue.secure(key),
                    Command::Ack { msg_id } => {
                        if queue.messages.front().is_some_and(|(id, _)| id == msg_id) {
                            queue.messages.pop_front();
                            queue.delivered = !queue.messages.is_empty();
                            queue.first().unwrap_or(Kind::Ok)
                        } else {
                            Kind::Err(ErrorType::NoMsg)
                        }
                    }
                    Command::Get => queue.first().unwrap_or(Kind::Ok),
                    Command::Off => {
                        queue.suspended = true;
                        Kind::Ok
                    }
                    Command::Que => Kind::Info,
                    Command::Del => {
                        let queue = state.by_recipient.remove(entity).unwrap();
                        if let Some((id, outbox)) = queue.subscriber
                            && id != peer.id
                        {
                            let kind = Kind::Deld;
                            let _ =
                                outbox.send(Answer { corr_id: Vec::new(), entity: entity.to_vec(), kind });
                        }
                        Kind::Ok
                    }
                    _ => Kind::Err(ErrorType::Cmd(CommandError::Prohibited)),
                },
                _ => Kind::Err(ErrorType::Auth),
            },
        };
        peer.answer(corr_id, entity, kind);
    }

    fn send(&self, state: &mut State, peer: &Peer, transmission: &Transmission<'_>, body: &[u8]) -> Kind {
        let Some(recipient) = state.recipient_of_sender.get(transmission.entity_id).cloned() else {
            return Kind::Err(ErrorType::Auth);
        };
        let Some(queue) = state.by_recipient.get_mut(&recipient) else {
            return Kind::Err(ErrorType::Auth);
        };
        let allowed = match &queue.sender_key {
            Some(key) => is_authorized(peer, transmission, Some(key)),
            None => transmission.authorization.is_none(),
        };
        if queue.suspended || !allowed {
            return Kind::Err(ErrorType::Auth);
        }
        let number = state.messages;
        state.messages += 1;
        if queue.messages.len() >= QUOTA || self.delivery == Delivery::Refuse(number) {
            return Kind::Err(ErrorType::Quota);
        }
        let mut body = body.to_vec();
        let mut copies = 1;
        match self.delivery {
            Delivery::Lose(lost) if lost == number => copies = 0,
            Delivery::Duplicate(twice) if twice == number => copies = 2,
            Delivery::Alter(altered) if altered == number => body[100] ^= 1,
            Delivery::Swap(swapped) if swapped == number => {
                state.held = Some((recipient, body));
                return Kind::Ok;
            }
            _ => {}
        }
        for _ in 0..copies {
            queue.messages.push_back((random(), body.clone()));
        }
        queue.deliver();
        if let Some((recipient, body)) = state.held.take()
            && let Some(queue) = state.by_recipient.get_mut(&recipient)
        {
            queue.messages.push_back((random(), body));
            queue.deliver();
        }
        Kind::Ok
    }
}

impl State {
    fn create(&mut self, peer: &Peer, new: &ringpost_protocol::command::NewQueue<'_>) -> Kind {
        let (recipient_id, sender_id) = (random::<24>(), random::<24>());
        let dh_key = DhPrivateKey::from_bytes(random());
        let subscribed = new.subscribe == SubscribeMode::Subscribe;
        let queue = Queue {
            recipient_id,
            recipient_key: new.recipient_key.clone(),
            sender_key: None,
            box_key: dh_key.agree(&new.recipient_dh_key).box_key(),
            messages: VecDeque::new(),
            delivered: false,
            suspended: false,
            subscriber: subscribed.then(|| (peer.id, peer.outbox.clone())),
            service_id: peer.service_id(),
        };
        self.by_recipient.insert(recipient_id.to_vec(), queue);
        self.recipient_of_sender.insert(sender_id.to_vec(), recipient_id.to_vec());
        let mode = new.request.as_ref().map(QueueRequest::mode);
        let service_id = peer.service_id();
        Kind::Ids { recipient_id, sender_id, router_dh_key: dh_key.public(), mode, service_id }
    }
}

impl Queue {
    fn secure(&mut self, key: &AuthPublicKey) -> Kind {
        if self.sender_key.as_ref().is_some_and(|known| known != key) {
            return Kind::Err(ErrorType::Auth);
        }
        self.sender_key = Some(key.clone());
        Kind::Ok
    }

    fn first(&self) -> Option<Kind> {
        let (id, body) = self.messages.front()?;
        let header = DeliveryHeader { timestamp_secs: 1, flags: MsgFlags { notification: true } };
        Some(Kind::Msg { id: *id, body: encrypt_message(&self.box_key, id, header, body).unwrap() })
    }

    fn deliver(&mut self) {
        if self.delivered {
            return;
        }
        if let (Some((_, outbox)), Some(kind)) = (&self.subscriber, self.first()) {
            let answer = Answer { corr_id: Vec::new(), entity: self.recipient_id.to_vec(), kind };
            self.delivered = outbox.send(answer).is_ok();
        }
    }
}

fn is_authorized(peer: &Peer, transmission: &Transmission<'_>, key: Option<&AuthPublicKey>) -> bool {
    let context = VerifyContext { session_key: Some(&peer.session_key), corr_id: transmission.corr_id };
    let [length, session_id, rest] = transmission.for_authorization_parts(peer.session_id.as_ref());
    let Some(signature) = transmission.service_signature else {
        return verify(transmission.authorization, &[length, session_id, rest], key, context);
    };
    let Some(service) = &peer.service else { return false };
    let service_key = AuthPublicKey::Ed25519(service.session_key);
    let signature = Authorization::Ed25519(signature);
    verify(signature, &[length, session_id, rest], Some(&service_key), context)
        && verify(transmission.authorization, &[&service.fingerprint, length, session_id, rest], key, context)
}
