//! What the operator does to single queues, and changes of the service while it runs.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::{BlockingInfo, ErrorType};
use ringpost_protocol::response::Response;
use ringpost_store::{Log, MessageQueue, Party, Position, QueueId, QueueIx, Record, Status};

use super::Service;
use super::ledger::Refused;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueAction {
    Look,
    /// Whatever the status was; blocking again replaces the reason.
    Block(BlockingInfo),
    /// A blocked queue becomes active. Others stay as they are.
    Unblock,
    Delete,
}

/// A queue as it was before an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    pub status: Status,
    /// The day of the last use, in days since 1970; 0: not known.
    pub used_day: u32,
    pub mode: Option<QueueMode>,
    /// Undelivered ones.
    pub messages: usize,
}

/// What may change while the router runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceChange {
    pub allow_new_queues: bool,
    pub create_password: Option<Box<[u8]>>,
    pub queue_quota: usize,
    pub message_ttl_secs: Option<u64>,
    pub notification_ttl_secs: u64,
}

impl<L: Log> Service<L> {
    /// Does it to the queue with this sender ID, link ID or recipient ID. None: there is none here. It is done when the log
    /// is durable up to the position.
    pub fn operate(
        &mut self,
        id: &QueueId,
        action: &QueueAction,
    ) -> Result<Option<(QueueReport, Position)>, Refused> {
        let parties = [Party::Sender, Party::Link, Party::Recipient];
        let found = parties.into_iter().find_map(|party| self.store.find(party, id));
        let Some((ix, queue)) = found.and_then(|ix| Some((ix, self.store.queue(ix)?))) else {
            return Ok(None);
        };
        let report = QueueReport {
            status: queue.status(),
            used_day: queue.used_day,
            mode: queue.mode,
            messages: queue.messages().map_or(0, MessageQueue::len),
        };
        match action {
            QueueAction::Look => return Ok(Some((report, Position::default()))),
            QueueAction::Block(info) => self.block(ix, &report.status, info)?,
            QueueAction::Unblock => self.unblock(ix, &report.status)?,
            QueueAction::Delete => {
                self.end_queue(ix, None)?;
            }
        }
        Ok(Some((report, self.appended)))
    }

    fn block(&mut self, queue: QueueIx, status: &Status, info: &BlockingInfo) -> Result<(), Refused> {
        if *status == Status::Blocked(info.clone()) {
            return Ok(());
        }
        let (recipient_id, _) = self.name(queue).ok_or(Refused::Internal)?;
        self.append_of(queue, |queue| Record::Block { queue, info: info.clone() })?;
        self.store.block(queue, info.clone()).map_err(|_| Refused::Internal)?;
        if *status == Status::Active {
            self.counters.queues_blocked.add(1);
        }
        if let Some(subscriber) = self.subscribers.of_queue(queue).map(|subscription| subscription.conn) {
            self.event(subscriber, &recipient_id, &Response::Err(ErrorType::Blocked(info.clone())));
        }
        Ok(())
    }

    fn unblock(&mut self, queue: QueueIx, status: &Status) -> Result<(), Refused> {
        if matches!(status, Status::Blocked(_)) {
            self.append_of(queue, |queue| Record::Resume { queue })?;
            self.store.unblock(queue).map_err(|_| Refused::Internal)?;
        }
        Ok(())
    }

    /// From now on.
    pub fn change(&mut self, change: ServiceChange) {
        let ServiceChange {
            allow_new_queues,
            create_password,
            queue_quota,
            message_ttl_secs,
            notification_ttl_secs,
        } = change;
        self.config.allow_new_queues = allow_new_queues;
        self.config.create_password = create_password;
        self.config.queue_quota = queue_quota;
        self.config.message_ttl_secs = message_ttl_secs;
        self.config.notification_ttl_secs = notification_ttl_secs;
    }
}
