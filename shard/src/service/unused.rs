//! Invitations that nobody took: messaging queues that no sender has secured, without messages, and not used for long. Contact
//! addresses are never secured, so nothing tells whether one is in use: they stay, and so do queues of services, and those that the
//! operator has blocked.

use ringpost_protocol::command::QueueMode;
use ringpost_store::{Log, MessageQueue, Queue, QueueIx, Status};

use super::Service;
use super::body::Body;
use super::ledger::Refused;

/// Whether the queue was made for a sender who never came, and nobody used it from the day `before` on, counted from 1970. A queue
/// of another router may have no known day, which is 0.
pub fn is_unused(queue: &Queue<Body>, before: u32) -> bool {
    (1..before).contains(&queue.used_day)
        && queue.mode == Some(QueueMode::Messaging)
        && queue.sender_key.is_none()
        && queue.messages().is_none_or(MessageQueue::is_empty)
        && queue.recipient_service().is_none()
        && queue.notifier_service().is_none()
        && !matches!(queue.status(), Status::Blocked(_))
}

impl<L: Log> Service<L> {
    /// Deletes a queue that nobody subscribes to.
    pub(super) fn delete_unused(&mut self, queue: QueueIx) -> Result<(), Refused> {
        self.end_queue(queue, None)?;
        self.counters.queues_expired.add(1);
        Ok(())
    }
}
