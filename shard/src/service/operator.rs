//! What the operator does to single queues, and changes of the service while it runs.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::{BlockingInfo, ErrorType};
use ringpost_protocol::response::Response;
use ringpost_store::{Log, MessageQueue, Party, Position, QueueId, QueueIx, Record, ServiceParty, Status};

use super::Service;
use super::ledger::Refused;
use super::pending::PendingReport;

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

/// Services of one kind of which a session subscribes, with all of their queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribedServices {
    pub services: u64,
    pub queues: u64,
}

/// Who subscribes and receives at some moment, as far as counters do not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionReport {
    /// Connections that receive from queues, that are notified, and that have not acknowledged what was delivered to them.
    pub subscribed_clients: u64,
    pub notified_clients: u64,
    pub pending_clients: u64,
    pub pending: PendingReport,
    pub recipient_services: SubscribedServices,
    pub notifier_services: SubscribedServices,
}

impl SubscriptionReport {
    /// Adds that of another shard.
    pub fn add(&mut self, other: &Self) {
        self.subscribed_clients += other.subscribed_clients;
        self.notified_clients += other.notified_clients;
        self.pending_clients += other.pending_clients;
        self.pending.add(&other.pending);
        for (sum, more) in [
            (&mut self.recipient_services, other.recipient_services),
            (&mut self.notifier_services, other.notifier_services),
        ] {
            sum.services += more.services;
            sum.queues += more.queues;
        }
    }
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
        // The reference does not tell services.
        let is_of_service = self.store.queue(queue).is_some_and(|queue| queue.recipient_service().is_some());
        self.append_of(queue, |queue| Record::Block { queue, info: info.clone() })?;
        self.store.block(queue, info.clone()).map_err(|_| Refused::Internal)?;
        if *status == Status::Active {
            self.counters.queues_blocked.add(1);
        }
        let subscriber = self.subscribers.of_queue(queue).map(|subscription| subscription.conn);
        if let Some(subscriber) = subscriber.filter(|_| !is_of_service) {
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

    /// What this shard's queues know of who receives from them; the connections are not counted. A service that is subscribed is
    /// counted by the shard of its ID alone: all shards have its session.
    pub fn subscription_report(&self, now_secs: u64) -> SubscriptionReport {
        let pending = self.subscribers.pending(now_secs);
        let mut report = SubscriptionReport { pending, ..SubscriptionReport::default() };
        for (party, service) in self.subscribers.held_services() {
            let sum = match party {
                ServiceParty::Recipient => &mut report.recipient_services,
                ServiceParty::Notifier => &mut report.notifier_services,
            };
            let home = usize::from(self.store.hasher().hash(service).partition());
            sum.services += u64::from(self.partitions.contains(&home));
            sum.queues += self.store.service_total(*party, service).count;
        }
        report
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
