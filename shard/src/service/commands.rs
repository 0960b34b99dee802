//! The meaning of each command: "SMP commands" of the protocol text, with the errors of the reference.

use std::ops::Range;
use std::sync::Arc;

use ringpost_protocol::command::{Command, MsgFlags, QueueMode, SubscribeMode};
use ringpost_protocol::crypto::delivery::DeliveryHeader;
use ringpost_protocol::error::{CommandError, ErrorType, ProxyError};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::limits::ID_BYTES;
use ringpost_protocol::response::{QueueIds, Response};
use ringpost_protocol::transmission::{Authorization, Format, Transmission};
use ringpost_store::{Content, Message, MessageId, Party, QueueIx, Status, Written};
use smallvec::SmallVec;

use super::body::Body;
use super::delivery::{deliver, fits};
use super::info::{Reading, queue_info};
use super::secrets::SecretCache;
use super::session::{Batch, BatchData, Session};
use super::verify::{Claim, holds};
use super::{Output, Service};

const PROHIBITED: ErrorType = ErrorType::Cmd(CommandError::Prohibited);
const SECS_PER_DAY: u64 = 86_400;

/// Whether the secrets agreed with a key are remembered for the session's next commands.
#[derive(Clone, Copy)]
enum Secrets {
    Kept,
    /// For a key that the command itself names: whether it is tried must not show in the time.
    Fresh,
}

/// How a command goes on after it was parsed and verified.
enum Next {
    /// It was answered.
    Answered,
    Answer(ErrorType),
    Ok,
    /// It cannot go on without credit, and has changed nothing.
    Wait,
    /// A SEND to accept; where its body lies in the transmission.
    Store {
        queue: QueueIx,
        flags: MsgFlags,
        body: Range<usize>,
    },
}

impl Service {
    /// Executes the next transmission of a batch and answers it. False if it has to wait for credit.
    pub(super) fn execute(&mut self, session: &Arc<Session>, batch: &mut Batch, now_secs: u64) -> bool {
        let Some(&(start, len)) = batch.transmissions.get(batch.next) else { return true };
        let (start, len) = (usize::from(start), usize::from(len));
        let Some(bytes) = batch.data.bytes().get(start..start + len) else { return true };
        let Ok(parsed) = Transmission::parse(bytes, Format::of_session(session.version)) else {
            // The session's shard has parsed it before.
            return true;
        };
        let corr_id: SmallVec<[u8; ID_BYTES]> = parsed.corr_id.into();
        let entity_id: SmallVec<[u8; ID_BYTES]> = parsed.entity_id.into();
        let next = match parsed.decode_command(session.version, session.session_id.as_ref()) {
            Ok(command) => self.command(session, &parsed, command, bytes, now_secs),
            Err(error) => {
                // A refused session names no entity.
                let answer = parsed.refused(error);
                self.counters.error(&answer.error);
                self.respond(session, answer.corr_id, answer.entity_id, &Response::Err(answer.error));
                return true;
            }
        };
        let response = match next {
            Next::Answered => return true,
            Next::Wait => return false,
            Next::Ok => Response::Ok,
            Next::Answer(error) => Response::Err(error),
            Next::Store { queue, flags, body } => {
                let body = start + body.start..start + body.end;
                self.store_message(batch, queue, flags, body, now_secs)
            }
        };
        if let Response::Err(error) = &response {
            self.counters.error(error);
        }
        self.respond(session, &corr_id, &entity_id, &response);
        true
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
                self.new_queue(session, parsed, &new, today)
            }
            Command::Sub
            | Command::Key(_)
            | Command::Get
            | Command::Ack { .. }
            | Command::Off
            | Command::Del
            | Command::Que => {
                let queue = self.find(Party::Recipient, parsed.entity_id);
                let key = queue.and_then(|ix| self.store.queue(ix)?.recipient_keys().next().cloned());
                let verified = self.verified(session, parsed, key.as_ref(), Secrets::Kept);
                match queue {
                    Some(queue) if verified => {
                        self.store.mark_used(queue, today);
                        self.recipient_command(session, parsed, queue, command)
                    }
                    _ => Next::Answer(ErrorType::Auth),
                }
            }
            Command::SKey(key) => self.secure_by_sender(session, parsed, key, today),
            Command::Send { flags, body } => self.send(session, parsed, flags, body, bytes, today),
            // Outside a service session there is nothing to subscribe at once.
            Command::Subs(_) | Command::NSubs(_) => Next::Answer(ErrorType::Service),
            // As a router that is not a proxy answers.
            Command::Prxy { .. } => Next::Answer(ErrorType::Proxy(Box::new(ProxyError::BasicAuth))),
            Command::Pfwd { .. } => Next::Answer(ErrorType::Proxy(Box::new(ProxyError::NoSession))),
            Command::Rfwd(_)
            | Command::RKey(_)
            | Command::LSet { .. }
            | Command::LDel
            | Command::NKey(_)
            | Command::NDel
            | Command::LKey(_)
            | Command::LGet
            | Command::NSub => Next::Answer(PROHIBITED),
        }
    }

    fn find(&self, party: Party, entity_id: &[u8]) -> Option<QueueIx> {
        self.store.find(party, entity_id.try_into().ok()?)
    }

    /// Whether the transmission is authorized by the key's owner. Without a key the same work is done, in vain.
    fn verified(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        key: Option<&AuthPublicKey>,
        secrets: Secrets,
    ) -> bool {
        // Two milliseconds, against 40 us of the others, and anyone may send one.
        self.turn_spent |= matches!(parsed.authorization, Authorization::Ed448(_));
        let claim = Claim {
            authorization: parsed.authorization,
            authorized: parsed.for_authorization_parts(session.session_id.as_ref()),
            corr_id: parsed.corr_id,
            entity_id: parsed.entity_id,
        };
        match secrets {
            Secrets::Kept => holds(&claim, key, session, &mut self.subscribers.peer(session).secrets),
            Secrets::Fresh => holds(&claim, key, session, &mut SecretCache::default()),
        }
    }

    fn new_queue(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        new: &ringpost_protocol::command::NewQueue<'_>,
        today: u32,
    ) -> Next {
        let subscribes = new.subscribe == SubscribeMode::Subscribe;
        if subscribes && self.is_subscription_limit_reached(session) {
            return Next::Answer(ErrorType::Quota);
        }
        let created = match self.create(new, today) {
            Ok(created) => created,
            Err(error) => return Next::Answer(error),
        };
        if subscribes {
            self.subscribers.subscribe(created.queue, session);
            self.counters.subscriptions.set(self.subscribers.len());
        }
        let ids = QueueIds {
            recipient_id: &created.recipient_id,
            sender_id: &created.sender_id,
            router_dh_key: created.router_dh_key,
            mode: new.request.as_ref().map(ringpost_protocol::command::QueueRequest::mode),
            link_id: None,
            service_id: None,
            notifier: None,
        };
        self.respond(session, parsed.corr_id, &[], &Response::Ids(Box::new(ids)));
        Next::Answered
    }

    fn recipient_command(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        queue: QueueIx,
        command: Command<'_>,
    ) -> Next {
        match command {
            Command::Sub => self.subscribe(session, parsed, queue),
            Command::Get => self.read_one(session, parsed, queue),
            Command::Ack { msg_id } => self.acknowledge(session, parsed, queue, msg_id),
            Command::Key(key) => match self.store.secure(queue, key) {
                Ok(()) => Next::Ok,
                Err(_) => Next::Answer(ErrorType::Auth),
            },
            Command::Off => {
                self.store.suspend(queue);
                Next::Ok
            }
            Command::Del => self.delete(session, parsed, queue),
            Command::Que => self.info(session, parsed, queue),
            _ => Next::Answer(ErrorType::Internal),
        }
    }

    /// The cap is on all shards together. Those that count at the same moment may pass it by one each.
    fn is_subscription_limit_reached(&self, session: &Session) -> bool {
        session.subscribed_and_read() >= self.config.subscriptions_per_connection
    }

    fn subscribe(&mut self, session: &Arc<Session>, parsed: &Transmission<'_>, queue: QueueIx) -> Next {
        if self.subscribers.peer(session).got.contains_key(&queue) {
            return Next::Answer(PROHIBITED);
        }
        if let Some(subscription) = self.subscribers.of(queue, session.conn) {
            // Whatever was delivered is delivered again.
            subscription.delivered = None;
        } else {
            if self.is_subscription_limit_reached(session) {
                return Next::Answer(ErrorType::Quota);
            }
            if let Some(former) = self.subscribers.subscribe(queue, session) {
                self.event(former, parsed.entity_id, &Response::End);
            }
            self.counters.subscriptions.set(self.subscribers.len());
        }
        self.respond(session, parsed.corr_id, parsed.entity_id, &Response::Sok { service_id: None });
        if self.store.first_message(queue).is_some() {
            self.to_deliver.push(queue);
        }
        Next::Answered
    }

    fn read_one(&mut self, session: &Arc<Session>, parsed: &Transmission<'_>, queue: QueueIx) -> Next {
        if self.subscribers.of(queue, session.conn).is_some() {
            return Next::Answer(PROHIBITED);
        }
        if !self.subscribers.peer(session).got.contains_key(&queue)
            && self.is_subscription_limit_reached(session)
        {
            return Next::Answer(ErrorType::Quota);
        }
        let first = self.store.first_message(queue).map(|message| message.id);
        if first.is_some() && self.subscribers.peer(session).credit == 0 {
            return Next::Wait;
        }
        self.subscribers.read(queue, session, first);
        if first.is_none() {
            return Next::Ok;
        }
        if !fits(session, parsed.corr_id.len()) {
            return Next::Answer(ErrorType::LargeMsg);
        }
        self.answer_with_message(session, parsed, queue)
    }

    fn acknowledge(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        queue: QueueIx,
        msg_id: &[u8],
    ) -> Next {
        let matches = |delivered: &mut Option<MessageId>| {
            // An empty ID stands for whatever was delivered.
            let found = delivered.is_some_and(|id| msg_id.is_empty() || id == *msg_id);
            if found { delivered.take() } else { None }
        };
        if let Some(subscription) = self.subscribers.of(queue, session.conn) {
            let Some(delivered) = matches(&mut subscription.delivered) else {
                return Next::Answer(ErrorType::NoMsg);
            };
            self.remove_message(queue, &delivered, msg_id);
            if self.store.first_message(queue).is_none() {
                return Next::Ok;
            }
            if self.subscribers.peer(session).credit > 0 && fits(session, parsed.corr_id.len()) {
                return self.answer_with_message(session, parsed, queue);
            }
            // The answer cannot carry the message now: it follows as an event.
            self.to_deliver.push(queue);
            return Next::Ok;
        }
        let Some(delivered) = self.subscribers.peer(session).got.get_mut(&queue).and_then(matches) else {
            return Next::Answer(ErrorType::NoMsg);
        };
        self.remove_message(queue, &delivered, msg_id);
        Next::Ok
    }

    /// Deletes an acknowledged message. An acknowledgement that named no message deletes none.
    fn remove_message(&mut self, queue: QueueIx, delivered: &MessageId, msg_id: &[u8]) {
        if msg_id.is_empty() {
            return;
        }
        if let Some(message) = self.store.take_message(queue, delivered) {
            self.release(message);
            self.counters.messages_acknowledged.add(1);
            self.counters.messages.set(self.store.message_count());
        }
    }

    /// Sends the first message of the queue as the response to GET or ACK. There must be credit.
    fn answer_with_message(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        queue_ix: QueueIx,
    ) -> Next {
        let block = self.arena.lend_above_cap().detach();
        let (Some(queue), Some(first)) = (self.store.queue(queue_ix), self.store.first_message(queue_ix))
        else {
            return Next::Answer(ErrorType::Internal);
        };
        let message_id = first.id;
        let Some(message) = deliver(block, session, parsed.corr_id, queue, first) else {
            return Next::Answer(ErrorType::Internal);
        };
        self.subscribers.peer(session).credit -= 1;
        if let Some(subscription) = self.subscribers.of(queue_ix, session.conn) {
            subscription.delivered = Some(message_id);
        }
        self.counters.messages_delivered.add(1);
        self.flush(session.conn, false);
        self.outputs.push(Output::Message { conn: session.conn, message });
        Next::Answered
    }

    fn delete(&mut self, session: &Arc<Session>, parsed: &Transmission<'_>, queue: QueueIx) -> Next {
        let subscriber = self.subscribers.remove_queue(queue, session.conn);
        let Some(deleted) = self.store.delete(queue) else { return Next::Answer(ErrorType::Auth) };
        for message in deleted.into_messages() {
            self.release(message);
        }
        if let Some(subscriber) = subscriber.filter(|subscriber| *subscriber != session.conn) {
            self.event(subscriber, parsed.entity_id, &Response::Deld);
        }
        self.counters.queues_deleted.add(1);
        self.counters.queues.set(self.store.queue_count());
        self.counters.messages.set(self.store.message_count());
        self.counters.subscriptions.set(self.subscribers.len());
        Next::Ok
    }

    fn info(&mut self, session: &Arc<Session>, parsed: &Transmission<'_>, queue_ix: QueueIx) -> Next {
        let reading = if let Some(subscription) = self.subscribers.of(queue_ix, session.conn) {
            Reading::Subscribed { delivered: subscription.delivered }
        } else if let Some(delivered) = self.subscribers.peer(session).got.get(&queue_ix) {
            Reading::Got { delivered: *delivered }
        } else {
            Reading::No
        };
        let Some(queue) = self.store.queue(queue_ix) else { return Next::Answer(ErrorType::Auth) };
        let json = queue_info(queue, &reading);
        self.respond(session, parsed.corr_id, parsed.entity_id, &Response::Info(json.as_bytes()));
        Next::Answered
    }

    fn secure_by_sender(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        key: AuthPublicKey,
        today: u32,
    ) -> Next {
        let queue = self.find(Party::Sender, parsed.entity_id);
        // Only a messaging queue, and only with the key it has or as its first key.
        let allowed = queue.and_then(|ix| self.store.queue(ix)).is_some_and(|queue| {
            queue.mode == Some(QueueMode::Messaging)
                && queue.sender_key.as_ref().is_none_or(|present| *present == key)
        });
        let verified = self.verified(session, parsed, allowed.then_some(&key), Secrets::Fresh);
        match queue {
            Some(queue) if allowed && verified => {
                self.store.mark_used(queue, today);
                match self.store.secure(queue, key) {
                    Ok(()) => Next::Ok,
                    Err(_) => Next::Answer(ErrorType::Auth),
                }
            }
            _ => Next::Answer(ErrorType::Auth),
        }
    }

    fn send(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        flags: MsgFlags,
        body: &[u8],
        bytes: &[u8],
        today: u32,
    ) -> Next {
        let queue_ix = self.find(Party::Sender, parsed.entity_id);
        let queue = queue_ix.and_then(|ix| self.store.queue(ix));
        let status = queue.map(ringpost_store::Queue::status);
        let key = queue.and_then(|queue| queue.sender_key.clone());
        // Before the queue is secured messages must not be authorized; afterwards they must.
        let verified = if parsed.authorization.is_none() {
            key.is_none()
        } else {
            self.verified(session, parsed, key.as_ref(), Secrets::Kept)
        };
        let (Some(queue), Some(status), true) = (queue_ix, status, verified) else {
            return Next::Answer(ErrorType::Auth);
        };
        self.store.mark_used(queue, today);
        if body.len() > Command::send_body_bytes_max(session.version) {
            return Next::Answer(ErrorType::LargeMsg);
        }
        if status == Status::Suspended {
            return Next::Answer(ErrorType::Auth);
        }
        // The body is a slice of the transmission.
        let at = body.as_ptr().addr() - bytes.as_ptr().addr();
        Next::Store { queue, flags, body: at..at + body.len() }
    }

    /// Stores the body that lies at `body` in the batch's data.
    fn store_message(
        &mut self,
        batch: &mut Batch,
        queue: QueueIx,
        flags: MsgFlags,
        body: Range<usize>,
        now_secs: u64,
    ) -> Response<'static> {
        if self.message_bytes >= self.config.message_bytes_max {
            self.counters.messages_refused_memory.add(1);
            return Response::Err(ErrorType::Store("the router's memory for messages is full".into()));
        }
        if let Some(ttl_secs) = self.config.message_ttl_secs {
            self.expire_queue(queue, now_secs.saturating_sub(ttl_secs));
        }
        let header = DeliveryHeader { timestamp_secs: i64::try_from(now_secs).unwrap_or(i64::MAX), flags };
        let only = batch.transmissions.len() == 1 && Body::can_stay(body.start, body.len());
        let body = match std::mem::replace(&mut batch.data, BatchData::Taken) {
            BatchData::Block(block) if only => match Body::keep(block, body.start, body.len(), header) {
                Some(body) => body,
                None => return Response::Err(ErrorType::Internal),
            },
            other => {
                let own = Body::Own(other.bytes().get(body).unwrap_or_default().into());
                batch.data = other;
                own
            }
        };
        let held_bytes = body.held_bytes();
        let id: MessageId = self.random_bytes();
        let message = Message { id, received_secs: now_secs, content: Content::Sent { flags, body } };
        match self.store.write(queue, message, self.config.queue_quota) {
            Some(Written::Stored { was_empty }) => {
                self.message_bytes += held_bytes;
                self.counters.message_bytes.set(self.message_bytes);
                self.counters.messages_received.add(1);
                self.counters.messages.set(self.store.message_count());
                if was_empty {
                    self.to_deliver.push(queue);
                }
                Response::Ok
            }
            Some(Written::OverQuota { .. }) => Response::Err(ErrorType::Quota),
            None => Response::Err(ErrorType::Auth),
        }
    }
}
