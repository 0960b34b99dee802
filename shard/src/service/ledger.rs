//! The order of a change: its record is appended to the log, then the state changes, and what tells of it leaves the
//! service when the record is as durable as the operator wants.
//!
//! Outputs leave in the order in which they were made, so nobody sees a change before one that it builds on is durable.

use std::collections::VecDeque;

use ringpost_protocol::error::ErrorType;
use ringpost_store::log::AppendError;
use ringpost_store::{Entry, IdHash, Log, MessageId, Position, QueueId, QueueIx, Record};

use super::{Mutation, Output, Service};
use crate::limits::EXPIRY_STEP_MESSAGES;

/// Why a change was not made. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The log is behind: to be tried again when it has moved.
    Later,
    NoSpace,
    Internal,
}

impl Refused {
    /// The answer, unless it is to be tried again.
    pub fn error(self) -> Option<ErrorType> {
        match self {
            Self::Later => None,
            Self::NoSpace => Some(ErrorType::Store("the router's disk is full".into())),
            Self::Internal => Some(ErrorType::Internal),
        }
    }
}

/// Outputs, each with the position up to which the log must be durable before it leaves.
#[derive(Debug, Default)]
pub struct Held {
    outputs: VecDeque<(Position, Output)>,
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }
}

impl<L: Log> Service<L> {
    /// Appends records, all or none. The places of bodies among them are in `self.places` then.
    pub(super) fn append_all(&mut self, entries: &[Entry<'_>]) -> Result<(), Refused> {
        self.places.clear();
        if self.forgets_record(entries) {
            return Ok(());
        }
        match self.log.append(entries, &mut self.places) {
            Ok(position) => {
                self.appended = position;
                Ok(())
            }
            Err(_) if self.mutated(Mutation::IgnoreRefusal) => {
                self.forge_places(entries);
                Ok(())
            }
            // A log that has failed ends the router: nobody is answered any more.
            Err(AppendError::Busy | AppendError::Failed(_)) => Err(Refused::Later),
            Err(AppendError::NoSpace) => {
                self.counters.refused_no_space.add(1);
                Err(Refused::NoSpace)
            }
            Err(AppendError::TooLarge) => Err(Refused::Internal),
        }
    }

    /// The recipient ID and its hash: how records name the queue.
    pub(super) fn name(&self, queue: QueueIx) -> Option<(QueueId, IdHash)> {
        let recipient_id = self.store.queue(queue)?.recipient_id;
        Some((recipient_id, self.store.hasher().hash(&recipient_id)))
    }

    /// Appends a record of a queue that is there.
    pub(super) fn append_of(
        &mut self,
        queue: QueueIx,
        record: impl FnOnce(QueueId) -> Record<&'static [u8]>,
    ) -> Result<(), Refused> {
        let (recipient_id, hash) = self.name(queue).ok_or(Refused::Internal)?;
        self.append_all(&[Entry { hash, record: record(recipient_id) }])
    }

    pub(super) fn output(&mut self, output: Output) {
        let spare = u64::from(self.mutated(Mutation::HoldTooLittle));
        let position = Position(self.appended.0.saturating_sub(spare));
        self.held.outputs.push_back((position, output));
    }

    /// The next output that may leave.
    pub fn next_output(&mut self) -> Option<Output> {
        let (position, _) = self.held.outputs.front()?;
        if *position > self.log.durable_up_to() && !self.mutated(Mutation::TellBeforeDurable) {
            return None;
        }
        self.held.outputs.pop_front().map(|(_, output)| output)
    }

    /// Whether outputs wait for the log.
    pub fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// The log has moved: what was refused may be tried again.
    pub fn log_moved(&mut self) {
        let mut waiting = std::mem::take(&mut self.waits_for_log);
        if !self.mutated(Mutation::ForgetLogMoved) {
            self.resumable.append(&mut waiting);
        }
        self.retry_services();
    }

    /// Connections whose batches can go on, since the last call: [`resume`](Self::resume) them.
    pub fn take_resumable(&mut self) -> Vec<super::ConnRef> {
        std::mem::take(&mut self.resumable)
    }

    /// Notes that a queue is used today. It is no harm if that is not noted: it will be at the next use.
    pub(super) fn note_use(&mut self, queue: QueueIx, today: u32) {
        let is_news = self.store.queue(queue).is_some_and(|queue| queue.used_day != today);
        if is_news && self.append_of(queue, |queue| Record::Used { queue, today }).is_ok() {
            self.store.mark_used(queue, today);
        }
    }

    /// Removes the first message of a queue if it has this ID. False if it has another.
    pub(super) fn take_first(&mut self, queue: QueueIx, id: &MessageId) -> Result<bool, Refused> {
        let Some(first) = self.store.first_message(queue) else { return Ok(false) };
        let id = if self.mutated(Mutation::TakeAnyFirst) { first.id } else { *id };
        if first.id != id {
            return Ok(false);
        }
        if self.mutated(Mutation::EraseBeforeTake) {
            self.erase_first(queue);
        }
        self.append_of(queue, |queue| Record::Take { queue, id })?;
        if let Some(message) = self.store.take_message(queue, &id) {
            self.release(message);
        }
        self.counters.messages.set(self.store.message_count());
        Ok(true)
    }

    /// Drops messages of a queue that are too old, some at a time.
    pub(super) fn expire_queue(&mut self, queue: QueueIx, before_secs: u64) -> Result<(), Refused> {
        let spare_secs = if self.mutated(Mutation::ExpireYoung) { 600 } else { 0 };
        let before_secs = before_secs.saturating_add(spare_secs);
        let messages = self.store.queue(queue).and_then(|queue| queue.messages());
        let through = messages.and_then(|m| m.expired_through(before_secs, EXPIRY_STEP_MESSAGES)).copied();
        let Some(through) = through else { return Ok(()) };
        self.append_of(queue, |queue| Record::Expire { queue, through })?;
        let expired = self.store.take_through(queue, &through).unwrap_or_default();
        self.counters.messages_expired.add(expired.len());
        for message in expired {
            self.release(message);
        }
        self.counters.messages.set(self.store.message_count());
        Ok(())
    }
}
