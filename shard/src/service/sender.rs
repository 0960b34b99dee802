//! The commands of a sender: "Sender commands" of the protocol text.

use std::ops::Range;
use std::sync::Arc;

use ringpost_protocol::command::{Command, MsgFlags, QueueMode};
use ringpost_protocol::crypto::delivery::DeliveryHeader;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::transmission::Transmission;
use ringpost_store::{Content, Entry, Log, Message, MessageId, Party, QueueIx, Record, Status, Written};
use smallvec::{SmallVec, smallvec};

use super::body::{Body, Form};
use super::commands::{Next, Secrets};
use super::ledger::Refused;
use super::links::is_secured_messaging;
use super::session::{Batch, BatchData, Session};
use super::{Mutation, Service};

impl<L: Log> Service<L> {
    pub(super) fn secure_by_sender(
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
        let Some(queue) = queue.filter(|_| allowed && verified) else {
            return Next::Answer(ErrorType::Auth);
        };
        if let Some(refusal) = self.refusal_of_blocked(queue) {
            return refusal;
        }
        self.note_use(queue, today);
        self.secure(queue, key)
    }

    pub(super) fn send(
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
        self.note_use(queue, today);
        if body.len() > Command::send_body_bytes_max(session.version) {
            return Next::Answer(ErrorType::LargeMsg);
        }
        match status {
            Status::Active => {}
            Status::Suspended => return Next::Answer(ErrorType::Auth),
            Status::Blocked(info) => return Next::Answer(ErrorType::Blocked(info)),
        }
        // The body is a slice of the transmission.
        let at = body.as_ptr().addr() - bytes.as_ptr().addr();
        Next::Store { queue, flags, body: at..at + body.len() }
    }

    /// Stores the body that lies at `body` in the batch's data.
    pub(super) fn store_message(
        &mut self,
        batch: &mut Batch,
        queue: QueueIx,
        flags: MsgFlags,
        body: Range<usize>,
        now_secs: u64,
    ) -> Next {
        let has_room = self.make_room();
        if !has_room && self.log.keeps_bodies() {
            return Next::WaitForLog;
        }
        if !has_room {
            self.counters.messages_refused_memory.add(1);
            return Next::Answer(ErrorType::Store("the router's memory for messages is full".into()));
        }
        if self.config.expire_on_send
            && let Some(ttl_secs) = self.config.message_ttl_secs
        {
            let before_secs = now_secs.saturating_sub(ttl_secs);
            if self.store.first_message(queue).is_some_and(|first| first.received_secs < before_secs) {
                self.deliver_now(batch.session.conn, queue);
                if let Err(refused) = self.expire_queue(queue, before_secs) {
                    return refused.into();
                }
            }
        }
        let asked = self.config.queue_quota + usize::from(self.mutated(Mutation::OtherQuota));
        let (Some(verdict), Some((recipient_id, hash))) =
            (self.store.verdict(queue, asked), self.name(queue))
        else {
            return Next::Answer(ErrorType::Auth);
        };
        let id: MessageId = self.random_bytes();
        let (bytes, received_secs) = (batch.data.bytes().get(body.clone()).unwrap_or_default(), now_secs);
        let record = match verdict {
            Written::Stored { .. } => {
                Record::Message { queue: recipient_id, id, received_secs, flags, body: bytes }
            }
            Written::OverQuota { marked: true } => Record::Quota { queue: recipient_id, id, received_secs },
            Written::OverQuota { marked: false } => {
                return match self.drop_used_link(queue) {
                    Ok(()) => Next::Answer(ErrorType::Quota),
                    Err(refused) => refused.into(),
                };
            }
        };
        let mut records: SmallVec<[Record<&[u8]>; 1]> = smallvec![record];
        let notification = match verdict {
            Written::Stored { .. } => self.notification(queue, flags, &id, received_secs),
            Written::OverQuota { .. } => None,
        };
        if let Some(notification) = &notification
            && self.notified(queue).is_none()
        {
            let notification = notification.clone();
            records.push(Record::Notification { queue: recipient_id, notification });
        }
        let ends_link = self.is_link_used(queue);
        if ends_link {
            records.push(Record::LinkGone { queue: recipient_id });
        }
        let appended = {
            let entries: SmallVec<[Entry<'_>; 1]> =
                records.into_iter().map(|record| Entry { hash, record }).collect();
            self.append_all(&entries)
        };
        if let Err(refused) = appended {
            return refused.into();
        }
        if ends_link {
            self.link_dropped(queue);
        }
        let content = match self.places.first().copied() {
            Some(place) => {
                let form = Self::take_body(batch, body, flags, now_secs);
                let cached = self.count_in(queue, &form, self.appended);
                Content::Sent { flags, body: Body { form, place, cached } }
            }
            None => Content::Quota,
        };
        self.store.write(queue, Message { id, received_secs, content }, self.config.queue_quota);
        self.counters.messages.set(self.store.message_count());
        if let Some(notification) = notification {
            self.notify(queue, notification);
        }
        match verdict {
            Written::Stored { was_empty } => {
                self.counters.messages_received.add(1);
                self.counters.messages_received_notified.add(usize::from(flags.notification));
                self.note_active(queue, flags.notification);
                if was_empty {
                    self.to_deliver.push(queue);
                }
                Next::Ok
            }
            Written::OverQuota { .. } => Next::Answer(ErrorType::Quota),
        }
    }

    /// Who was given the link of a messaging queue has used it when a message comes: its data is not needed any more.
    fn is_link_used(&self, queue: QueueIx) -> bool {
        self.store.queue(queue).is_some_and(|queue| queue.link().is_some() && is_secured_messaging(queue))
    }

    fn drop_used_link(&mut self, queue: QueueIx) -> Result<(), Refused> {
        if self.is_link_used(queue) { self.drop_link(queue) } else { Ok(()) }
    }

    /// The body in the form in which it is kept: in its block, if that holds nothing else and the body fills it.
    fn take_body(batch: &mut Batch, at: Range<usize>, flags: MsgFlags, now_secs: u64) -> Form {
        let header = DeliveryHeader { timestamp_secs: i64::try_from(now_secs).unwrap_or(i64::MAX), flags };
        let only = batch.transmissions.len() == 1 && Form::can_stay(at.start, at.len());
        match std::mem::replace(&mut batch.data, BatchData::Taken) {
            BatchData::Block(block) if only => {
                // `can_stay` was asked.
                Form::keep(block, at.start, at.len(), header).unwrap_or(Form::Own(Box::default()))
            }
            other => {
                let own = Form::Own(other.bytes().get(at).unwrap_or_default().into());
                batch.data = other;
                own
            }
        }
    }
}
