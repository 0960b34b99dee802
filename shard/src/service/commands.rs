//! The meaning of each command: "SMP commands" of the protocol text, with the errors of the reference.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringpost_protocol::command::{Command, MsgFlags, SubscribeMode};
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::limits::ID_BYTES;
use ringpost_protocol::response::{QueueIds, Response, RouterNotifier};
use ringpost_protocol::transmission::{Authorization, Transmission};
use ringpost_store::{Log, Party, QueueIx};
use smallvec::SmallVec;

use super::create::NotCreated;
use super::ledger::Refused;
use super::secrets::SecretCache;
use super::session::{Batch, Session};
use super::verify::{Claim, authorized, check_service, holds};
use super::{Mutation, Service};

pub(super) const PROHIBITED: ErrorType = ErrorType::Cmd(CommandError::Prohibited);
pub(crate) const SECS_PER_DAY: u64 = 86_400;

/// Whether the secrets agreed with a key are remembered for the session's next commands.
#[derive(Clone, Copy)]
pub(super) enum Secrets {
    Kept,
    /// For a key that the command itself names: whether it is tried must not show in the time.
    Fresh,
}

/// How a command goes on after it was parsed and verified.
pub(super) enum Next {
    /// It was answered.
    Answered,
    Answer(ErrorType),
    Ok,
    /// It cannot go on without credit or the body of a message, and has changed nothing.
    Wait,
    /// It cannot go on before the log has moved, and has changed nothing.
    WaitForLog,
    /// A SEND to accept; where its body lies in the transmission.
    Store {
        queue: QueueIx,
        flags: MsgFlags,
        body: Range<usize>,
    },
}

impl From<Refused> for Next {
    fn from(refused: Refused) -> Self {
        refused.error().map_or(Self::WaitForLog, Self::Answer)
    }
}

/// What became of a transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Executed {
    Done,
    /// It changed nothing, and is to be executed again when its connection is resumed.
    Waits,
}

/// Commands whose refusals are counted apart.
#[derive(Clone, Copy)]
enum Counted {
    Send,
    Sub,
    NSub,
    Get,
    Other,
}

impl Counted {
    fn of(command: &[u8]) -> Self {
        match command {
            [b'S', b'E', b'N', b'D', b' ', ..] => Self::Send,
            b"SUB" => Self::Sub,
            b"NSUB" => Self::NSub,
            b"GET" => Self::Get,
            _ => Self::Other,
        }
    }
}

/// Whether a relay executes this command for a proxy.
fn may_be_forwarded(command: &Command<'_>) -> bool {
    matches!(command, Command::Send { .. } | Command::SKey(_) | Command::LKey(_) | Command::LGet)
}

impl<L: Log> Service<L> {
    /// Executes the next transmission of a batch and answers it.
    pub(super) fn execute(&mut self, session: &Arc<Session>, batch: &mut Batch, now_secs: u64) -> Executed {
        let Some(&(start, len)) = batch.transmissions.get(batch.next) else { return Executed::Done };
        let (start, len) = (usize::from(start), usize::from(len));
        let Some(bytes) = batch.data.bytes().get(start..start + len) else { return Executed::Done };
        let Ok(parsed) = Transmission::parse(bytes, session.format()) else {
            // The session's shard has parsed it before.
            return Executed::Done;
        };
        let corr_id: SmallVec<[u8; ID_BYTES]> = parsed.corr_id.into();
        let entity_id: SmallVec<[u8; ID_BYTES]> = parsed.entity_id.into();
        let counted = Counted::of(parsed.command);
        let next = match parsed.decode_command(session.version, session.session_id.as_ref()) {
            Ok(command) if session.forwarded && !may_be_forwarded(&command) => Next::Answer(PROHIBITED),
            Ok(command) => match check_service(session, &parsed, &command) {
                Ok(()) => self.command(session, &parsed, command, bytes, now_secs),
                Err(error) => Next::Answer(error),
            },
            Err(error) => {
                // A refused session names no entity.
                let answer = parsed.refused(error);
                self.counters.error(&answer.error);
                self.count_refused(counted, &answer.error);
                self.respond(session, answer.corr_id, answer.entity_id, &Response::Err(answer.error));
                return Executed::Done;
            }
        };
        let next = match next {
            Next::Store { queue, flags, body } => {
                let body = start + body.start..start + body.end;
                self.store_message(batch, queue, flags, body, now_secs)
            }
            next => next,
        };
        let response = match next {
            Next::Answered => return Executed::Done,
            Next::Wait => return Executed::Waits,
            Next::WaitForLog => {
                if !self.waits_for_log.contains(&session.conn) {
                    self.waits_for_log.push(session.conn);
                }
                return Executed::Waits;
            }
            Next::Ok => Response::Ok,
            Next::Answer(error) => Response::Err(error),
            Next::Store { .. } => Response::Err(ErrorType::Internal),
        };
        if let Response::Err(error) = &response {
            self.counters.error(error);
            self.count_refused(counted, error);
        }
        self.respond(session, &corr_id, &entity_id, &response);
        Executed::Done
    }

    fn count_refused(&self, command: Counted, error: &ErrorType) {
        let counters = &self.counters;
        match (command, error) {
            (Counted::Send, ErrorType::Auth) => &counters.sends_refused_auth,
            (Counted::Send, ErrorType::Quota) => &counters.sends_refused_quota,
            (Counted::Send, ErrorType::LargeMsg) => &counters.sends_refused_large,
            (Counted::Send, ErrorType::Blocked(_)) => &counters.sends_refused_blocked,
            (Counted::Sub, ErrorType::Auth) => &counters.subscribes_refused_auth,
            (Counted::Sub, ErrorType::Cmd(CommandError::Prohibited)) => &counters.subscribes_prohibited,
            (Counted::NSub, ErrorType::Auth) => &counters.notifier_subscribes_refused_auth,
            (Counted::Get, ErrorType::Auth) => &counters.gets_refused_auth,
            (Counted::Get, ErrorType::Cmd(CommandError::Prohibited)) => &counters.gets_prohibited,
            _ => return,
        }
        .add(1);
    }

    fn command(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        command: Command<'_>,
        bytes: &[u8],
        now_secs: u64,
    ) -> Next {
        let today = u32::try_from(now_secs / SECS_PER_DAY).unwrap_or(u32::MAX);
        match command {
            Command::Ping => {
                self.respond(session, parsed.corr_id, &[], &Response::Pong);
                Next::Answered
            }
            Command::New(new) => {
                if !self.verified(session, parsed, Some(&new.recipient_key), Secrets::Fresh)
                    || !self.may_create(new.basic_auth)
                {
                    return Next::Answer(ErrorType::Auth);
                }
                if session.service.is_some() && new.subscribe == SubscribeMode::OnlyCreate {
                    return Next::Answer(PROHIBITED);
                }
                self.new_queue(session, parsed, &new, today)
            }
            Command::Sub
            | Command::Key(_)
            | Command::RKey(_)
            | Command::LSet { .. }
            | Command::LDel
            | Command::NKey(_)
            | Command::NDel
            | Command::Get
            | Command::Ack { .. }
            | Command::Off
            | Command::Del
            | Command::Que => {
                let queue = self.find(Party::Recipient, parsed.entity_id);
                let keys: SmallVec<[AuthPublicKey; 1]> = queue
                    .and_then(|ix| self.store.queue(ix))
                    .map(|queue| queue.recipient_keys().cloned().collect())
                    .unwrap_or_default();
                let verified = self.verified_by_any(session, parsed, &keys);
                let Some(queue) = queue.filter(|_| verified) else {
                    return Next::Answer(ErrorType::Auth);
                };
                if !matches!(command, Command::Off | Command::Del)
                    && let Some(refusal) = self.refusal_of_blocked(queue)
                {
                    return refusal;
                }
                self.note_use(queue, today);
                self.recipient_command(session, parsed, queue, command)
            }
            Command::LKey(key) => self.secure_by_link(session, parsed, key, today),
            Command::LGet => self.read_link(session, parsed, today),
            Command::NSub => self.subscribe_notifier(session, parsed),
            Command::SKey(key) => self.secure_by_sender(session, parsed, key, today),
            Command::Send { flags, body } => self.send(session, parsed, flags, body, bytes, today),
            // Those of services are taken by the session's shard.
            Command::Subs(_) | Command::NSubs(_) => Next::Answer(ErrorType::Service),
            // The session's shard takes these.
            Command::Prxy { .. } | Command::Pfwd { .. } | Command::Rfwd(_) => Next::Answer(PROHIBITED),
        }
    }

    pub(super) fn find(&self, party: Party, entity_id: &[u8]) -> Option<QueueIx> {
        self.store.find(party, entity_id.try_into().ok()?)
    }

    /// Whether the transmission is authorized by the key's owner. Without a key the same work is done, in vain.
    pub(super) fn verified(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        key: Option<&AuthPublicKey>,
        secrets: Secrets,
    ) -> bool {
        if key.is_none() && self.mutated(Mutation::NoDummyCheck) {
            return false;
        }
        // Several times the cost of the others, and anyone may send one.
        self.turn_spent |= matches!(parsed.authorization, Authorization::Ed448(_));
        if matches!(parsed.authorization, Authorization::Ed25519(_))
            && let Some(holds) = self.proven.answer(key)
        {
            return holds;
        }
        let claim = Claim {
            authorization: parsed.authorization,
            authorized: authorized(session, parsed),
            corr_id: parsed.corr_id,
            entity_id: parsed.entity_id,
        };
        let known_keys = &mut self.known_keys;
        match secrets {
            Secrets::Kept => {
                holds(&claim, key, session, &mut self.subscribers.peer(session).secrets, known_keys)
            }
            Secrets::Fresh => holds(&claim, key, session, &mut SecretCache::default(), known_keys),
        }
    }

    /// Whether the transmission is authorized by the owner of one of a queue's recipient keys. Nearly all queues have
    /// one; who has many checked has spent the turn.
    fn verified_by_any(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        keys: &[AuthPublicKey],
    ) -> bool {
        self.turn_spent |= keys.len() > 1;
        match keys {
            [] => self.verified(session, parsed, None, Secrets::Kept),
            [key] => self.verified(session, parsed, Some(key), Secrets::Kept),
            // What is agreed with one of them is not remembered: they would push each other out.
            keys => keys.iter().any(|key| self.verified(session, parsed, Some(key), Secrets::Fresh)),
        }
    }

    fn new_queue(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        new: &ringpost_protocol::command::NewQueue<'_>,
        today: u32,
    ) -> Next {
        let service = session.service_id();
        // A service receives from all of its queues anyway.
        let subscribes = new.subscribe == SubscribeMode::Subscribe && service.is_none();
        if subscribes && self.is_subscription_limit_reached(session) {
            return Next::Answer(ErrorType::Quota);
        }
        let created = match self.create(new, parsed.corr_id, service, today) {
            Ok(created) => created,
            Err(NotCreated::Error(error)) => return Next::Answer(error),
            Err(NotCreated::Refused(refused)) => return refused.into(),
        };
        if subscribes {
            self.subscribers.subscribe(created.queue, session);
            self.counters.subscriptions.set(self.subscribers.subscribed_len());
        }
        if let Some(service) = &session.service {
            service.subscribes.store(true, Ordering::Relaxed);
        }
        let ids = QueueIds {
            recipient_id: &created.recipient_id,
            sender_id: &created.sender_id,
            router_dh_key: created.router_dh_key,
            mode: new.request.as_ref().map(ringpost_protocol::command::QueueRequest::mode),
            link_id: created.link_id.as_ref().map(|id| &id[..]),
            service_id: service.as_ref().map(|id| &id[..]),
            notifier: created.notifier.as_ref().map(|(notifier_id, router_dh_key)| RouterNotifier {
                notifier_id,
                router_dh_key: *router_dh_key,
            }),
        };
        self.respond(session, parsed.corr_id, &[], &Response::Ids(Box::new(ids)));
        Next::Answered
    }
}
