//! The commands of a recipient: "Recipient commands" of the protocol text.

use std::sync::Arc;

use ringpost_protocol::command::{Command, QueueMode};
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::Transmission;
use ringpost_store::{Content, Entry, Log, MessageId, QueueIx, Record, ServiceParty, Status};

use super::commands::{Next, PROHIBITED};
use super::delivery::{deliver, fits};
use super::info::{Reading, queue_info};
use super::ledger::Refused;
use super::session::{ConnRef, Session};
use super::{Mutation, Output, Service};

impl<L: Log> Service<L> {
    pub(super) fn recipient_command(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        queue: QueueIx,
        command: Command<'_>,
    ) -> Next {
        // What a command before it has to deliver comes first.
        let subscription = self.subscribers.of(queue, session.conn);
        if subscription.is_some_and(|subscription| subscription.delivered.is_none())
            && !self.is_body_here(queue, Some(session.conn))
        {
            return Next::Wait;
        }
        self.deliver_now(session.conn, queue);
        if matches!(command, Command::NKey(_) | Command::NDel | Command::Del) {
            self.tell_notifiers_now(session);
        }
        match command {
            Command::Sub => self.subscribe(session, parsed, queue),
            Command::Get => self.read_one(session, parsed, queue),
            Command::Ack { msg_id } => self.acknowledge(session, parsed, queue, msg_id),
            Command::Key(key) => self.secure(queue, key),
            Command::RKey(keys) => self.set_keys(queue, keys),
            Command::LSet { link_id, data } => self.set_link(queue, link_id, &data),
            Command::LDel => self.drop_link(queue).map_or_else(Next::from, |()| Next::Ok),
            Command::NKey(credentials) => self.set_notifier(session, parsed, queue, &credentials),
            Command::NDel => self.remove_notifier(session, queue).map_or_else(Next::from, |()| Next::Ok),
            Command::Off => self.suspend(queue),
            Command::Del => self.delete(session, parsed, queue),
            Command::Que => self.info(session, parsed, queue),
            _ => Next::Answer(ErrorType::Internal),
        }
    }

    /// Delivers what a command before this one, in the same turn of this connection, has found to deliver.
    pub(super) fn deliver_now(&mut self, conn: ConnRef, queue: QueueIx) {
        if let Some(at) = self.to_deliver.iter().position(|other| *other == queue) {
            self.to_deliver.remove(at);
            self.flush(conn, false, None);
            self.deliver_or_wait(queue);
        }
    }

    /// KEY and SKEY: repeating the same key is no conflict.
    pub(super) fn secure(&mut self, queue: QueueIx, key: AuthPublicKey) -> Next {
        match self.store.queue(queue).map(|queue| queue.sender_key.as_ref()) {
            Some(Some(present)) if *present == key => {
                self.counters.queues_secured.add(1);
                Next::Ok
            }
            None | Some(Some(_)) => Next::Answer(ErrorType::Auth),
            Some(None) => {
                let record = key.clone();
                if let Err(refused) = self.append_of(queue, |queue| Record::Secure { queue, key: record }) {
                    return refused.into();
                }
                match self.store.secure(queue, key) {
                    Ok(()) => {
                        self.counters.queues_secured.add(1);
                        Next::Ok
                    }
                    Err(_) => Next::Answer(ErrorType::Internal),
                }
            }
        }
    }

    /// RKEY: the owners of a contact address.
    fn set_keys(&mut self, queue: QueueIx, keys: Vec<AuthPublicKey>) -> Next {
        let is_contact = self.store.queue(queue).is_some_and(|queue| queue.mode == Some(QueueMode::Contact));
        let (Some((recipient_id, hash)), true) = (self.name(queue), is_contact) else {
            return Next::Answer(ErrorType::Auth);
        };
        let records = Record::<Vec<u8>>::recipient_keys(recipient_id, &keys);
        let entries: Vec<Entry<'_>> =
            records.iter().map(|record| Entry { hash, record: record.as_bytes() }).collect();
        if let Err(refused) = self.append_all(&entries) {
            return refused.into();
        }
        match self.store.set_recipient_keys(queue, keys) {
            Ok(()) => Next::Ok,
            Err(_) => Next::Answer(ErrorType::Internal),
        }
    }

    fn suspend(&mut self, queue: QueueIx) -> Next {
        if self.store.queue(queue).is_some_and(|queue| queue.status() != Status::Suspended) {
            if let Err(refused) = self.append_of(queue, |queue| Record::Suspend { queue }) {
                return refused.into();
            }
            self.store.suspend(queue);
        }
        Next::Ok
    }

    /// The cap is on all shards together. Those that count at the same moment may pass it by one each.
    pub(super) fn is_subscription_limit_reached(&self, session: &Session) -> bool {
        session.subscribed_and_read() >= self.config.subscriptions_per_connection
    }

    fn subscribe(&mut self, session: &Arc<Session>, parsed: &Transmission<'_>, queue: QueueIx) -> Next {
        if self.subscribers.peer(session).got.contains_key(&queue) {
            return Next::Answer(PROHIBITED);
        }
        let keeps_delivered = self.mutated(Mutation::KeepDelivered);
        let service = session.service_id();
        let is_new = self.subscribers.of(queue, session.conn).is_none();
        if is_new && service.is_none() && self.is_subscription_limit_reached(session) {
            return Next::Answer(ErrorType::Quota);
        }
        let has_changed = match self.set_recipient_service(session, queue) {
            Ok(has_changed) => has_changed,
            Err(refused) => return refused.into(),
        };
        if self.subscribers.of(queue, session.conn).is_some() {
            // Whatever was delivered is delivered again.
            if !keeps_delivered {
                self.subscribers.undeliver(queue, session.conn);
            }
            self.counters.subscribes_repeated.add(1);
        } else if let Some(service) = session.service.as_deref() {
            let is_first = self.count_service_subscribe(ServiceParty::Recipient, service, has_changed);
            if is_first && self.store.first_message(queue).is_some() {
                self.counters.subscribes_new.add(1);
            }
        } else {
            if let Some(former) = self.subscribers.subscribe(queue, session)
                && !self.mutated(Mutation::ForgetEnd)
            {
                self.event(former, parsed.entity_id, &Response::End);
            }
            self.counters.subscriptions.set(self.subscribers.subscribed_len());
            if self.store.first_message(queue).is_some() {
                self.counters.subscribes_new.add(1);
            }
        }
        let service_id = service.as_ref().map(|id| &id[..]);
        self.respond(session, parsed.corr_id, parsed.entity_id, &Response::Sok { service_id });
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
        if first.is_some()
            && (self.subscribers.peer(session).credit == 0 || !self.is_body_here(queue, Some(session.conn)))
        {
            return Next::Wait;
        }
        let got = self.subscribers.peer(session).got.get(&queue).copied();
        let was_delivered = got.is_some_and(|got| got.delivered.is_some());
        self.subscribers.read(queue, session, first, self.now_secs);
        if first.is_none() {
            self.counters.gets_empty.add(1);
            return Next::Ok;
        }
        if !fits(session, parsed.corr_id.len()) {
            return Next::Answer(ErrorType::LargeMsg);
        }
        if was_delivered { &self.counters.gets_repeated } else { &self.counters.gets }.add(1);
        self.answer_with_message(session, parsed, queue)
    }

    fn acknowledge(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        queue: QueueIx,
        msg_id: &[u8],
    ) -> Next {
        // An empty ID stands for whatever was delivered.
        let matches = |id: &MessageId| msg_id.is_empty() || *id == *msg_id;
        if let Some(subscription) = self.subscribers.of(queue, session.conn) {
            let Some(delivered) = subscription.delivered.filter(matches) else {
                return Next::Answer(ErrorType::NoMsg);
            };
            let delivered_secs = subscription.delivered_secs;
            if let Err(refused) = self.remove_message(queue, &delivered, msg_id, false) {
                if self.mutated(Mutation::DeliverAgain) {
                    self.deliver_again(queue, session.conn);
                }
                return refused.into();
            }
            self.subscribers.undeliver(queue, session.conn);
            self.count_ack(delivered_secs);
            if self.store.first_message(queue).is_none() {
                return Next::Ok;
            }
            if self.subscribers.peer(session).credit > 0
                && fits(session, parsed.corr_id.len())
                && !self.is_first_away(queue)
            {
                return self.answer_with_message(session, parsed, queue);
            }
            // The answer cannot carry the message now: it follows as an event.
            self.to_deliver.push(queue);
            return Next::Ok;
        }
        let got = self.subscribers.peer(session).got.get(&queue).copied();
        let delivered = got.and_then(|got| Some((got.delivered.filter(matches)?, got.delivered_secs)));
        let Some((delivered, delivered_secs)) = delivered else {
            return Next::Answer(ErrorType::NoMsg);
        };
        if let Err(refused) = self.remove_message(queue, &delivered, msg_id, true) {
            return refused.into();
        }
        self.subscribers.read(queue, session, None, self.now_secs);
        self.count_ack(delivered_secs);
        Next::Ok
    }

    /// Deletes an acknowledged message. An acknowledgement that named no message deletes none.
    fn remove_message(
        &mut self,
        queue: QueueIx,
        delivered: &MessageId,
        msg_id: &[u8],
        was_got: bool,
    ) -> Result<(), Refused> {
        // None: a quota message.
        let flags = self.store.first_message(queue).and_then(|message| match &message.content {
            Content::Sent { flags, .. } => Some(*flags),
            Content::Quota => None,
        });
        if msg_id.is_empty() || !self.take_first(queue, delivered)? {
            return Ok(());
        }
        self.counters.messages_acknowledged.add(1);
        if let Some(flags) = flags {
            self.counters.messages_read.add(1);
            self.counters.messages_read_got.add(usize::from(was_got));
            self.counters.messages_read_notified.add(usize::from(flags.notification));
            self.note_active(queue, flags.notification);
        }
        Ok(())
    }

    /// Counts how long it took until a delivery was acknowledged.
    fn count_ack(&self, delivered_secs: u32) {
        let secs = self.now_secs.saturating_sub(u64::from(delivered_secs));
        let counters = &self.counters;
        match secs {
            0..=1 => &counters.acks_within_1_s,
            2..=5 => &counters.acks_within_5_s,
            6..=10 => &counters.acks_within_10_s,
            11..=30 => &counters.acks_within_30_s,
            31..=60 => &counters.acks_within_60_s,
            61..=300 => &counters.acks_within_300_s,
            301..=1_200 => &counters.acks_within_1200_s,
            1_201..=3_600 => &counters.acks_within_3600_s,
            _ => &counters.acks_over_3600_s,
        }
        .add(1);
        let secs = usize::try_from(secs).unwrap_or(usize::MAX);
        counters.ack_secs.add(secs);
        counters.ack_secs_max.raise(secs);
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
        self.subscribers.deliver(queue_ix, session.conn, message_id, self.now_secs);
        self.counters.messages_delivered.add(1);
        self.flush(session.conn, false, None);
        self.output(Output::Message { conn: session.conn, message });
        Next::Answered
    }

    fn delete(&mut self, session: &Arc<Session>, parsed: &Transmission<'_>, queue: QueueIx) -> Next {
        let subscriber = match self.end_queue(queue, Some(session)) {
            Ok(subscriber) => subscriber,
            Err(refused) => return refused.into(),
        };
        if let Some(subscriber) = subscriber.filter(|subscriber| *subscriber != session.conn) {
            self.event(subscriber, parsed.entity_id, &Response::Deld);
        }
        Next::Ok
    }

    /// Ends a queue with all that it has. Gives who received from it. `by` is the session whose command it was; what
    /// the operator ends is told nobody, as by the reference.
    pub(super) fn end_queue(
        &mut self,
        queue: QueueIx,
        by: Option<&Arc<Session>>,
    ) -> Result<Option<ConnRef>, Refused> {
        self.append_of(queue, |queue| Record::Delete { queue })?;
        let subscriber = self.subscribers.remove_queue(queue, by.map(|session| session.conn));
        let deleted = self.store.delete(queue).ok_or(Refused::Internal)?;
        let subscriber = match deleted.recipient_service() {
            Some(service) => self.subscribers.holder(ServiceParty::Recipient, service),
            None => subscriber,
        };
        if let Some(link) = deleted.link() {
            self.config.links.release(self.store.hasher().hash(&link.id));
        }
        if let Some(notifier) = deleted.notifier() {
            self.forget_notifications(notifier);
            match by {
                Some(session) => self.notifier_gone(session, queue, notifier),
                None => drop(self.subscribers.remove_notified(queue)),
            }
        }
        let is_secured = deleted.sender_key.is_some();
        self.note_departed(&deleted);
        for body in deleted.into_bodies() {
            self.release_body(body);
        }
        let counters = &self.counters;
        counters.queues_deleted.add(1);
        if is_secured { &counters.queues_deleted_secured } else { &counters.queues_deleted_new }.add(1);
        counters.queues.set(self.store.queue_count());
        counters.messages.set(self.store.message_count());
        counters.notifiers.set(self.store.notifier_count());
        counters.links.set(self.store.link_count());
        counters.subscriptions.set(self.subscribers.subscribed_len());
        counters.notifier_subscriptions.set(self.subscribers.notified_len());
        self.publish_service_queues();
        Ok(subscriber)
    }

    fn info(&mut self, session: &Arc<Session>, parsed: &Transmission<'_>, queue_ix: QueueIx) -> Next {
        let reading = if let Some(subscription) = self.subscribers.of(queue_ix, session.conn) {
            Reading::Subscribed { delivered: subscription.delivered }
        } else if let Some(got) = self.subscribers.peer(session).got.get(&queue_ix) {
            Reading::Got { delivered: got.delivered }
        } else {
            Reading::No
        };
        let Some(queue) = self.store.queue(queue_ix) else { return Next::Answer(ErrorType::Auth) };
        let json = queue_info(queue, &reading);
        self.respond(session, parsed.corr_id, parsed.entity_id, &Response::Info(json.as_bytes()));
        Next::Answered
    }
}
