//! What clients were told: which queues there are, what is in them, who receives from them.
//!
//! A service gives its outputs in the order in which it did what they tell of, so the model takes them one by one and says
//! at once which answers are right. What it cannot know is when old messages expire, and which damaged ones were dropped:
//! these may be gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_store::{MessageId, QueueId};

use crate::bodies::Sent;

/// A message in its queue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// None: the quota message.
    pub sent: Option<Sent>,
    /// Known from the first delivery on.
    pub id: Option<MessageId>,
    /// Not before the first and not after the second.
    pub received_secs: (u64, u64),
}

/// What a crash must leave.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub exists: bool,
    /// A number of a key.
    pub sender_key: Option<usize>,
    pub is_suspended: bool,
    pub messages: VecDeque<Entry>,
}

#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    pub conn: usize,
    /// Delivered and not acknowledged.
    pub delivered: Option<MessageId>,
}

#[derive(Debug)]
pub struct Queue {
    pub recipient_id: QueueId,
    pub sender_id: QueueId,
    /// A number of a key.
    pub recipient_key: usize,
    pub is_messaging: bool,
    pub secret: BoxKey,
    pub state: State,
    /// What is on the disk for certain. Follows `state` at once where answers wait for the disk.
    pub durable: State,
    /// A subscriber was told that the queue is deleted.
    pub is_told_deleted: bool,
    pub subscription: Option<Subscription>,
    /// Connections that used GET, and what they got last.
    pub got: BTreeMap<usize, Option<MessageId>>,
}

/// A message as its recipient sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub id: MessageId,
    pub received_secs: u64,
    pub sent: Option<Sent>,
}

#[derive(Debug, Default)]
pub struct Model {
    pub queues: Vec<Queue>,
    pub by_recipient: BTreeMap<QueueId, usize>,
    /// Queues that were made, and nobody was told.
    pub orphans: BTreeSet<QueueId>,
    /// Every ID of a message, with its queue.
    pub message_ids: BTreeMap<MessageId, usize>,
    /// Bodies that the disk gave with turned bits.
    pub damaged: BTreeSet<u64>,
    /// Connections that have ended.
    pub closed: BTreeSet<usize>,
    pub now_secs: u64,
    pub ttl_secs: Option<u64>,
    pub quota: usize,
    /// Few queues or subscriptions are allowed.
    pub has_caps: bool,
    /// There was little space on the disk in this life.
    pub is_short: bool,
}

/// What is wrong.
pub type Verdict = Result<(), String>;

impl Model {
    /// Whether a message may have left its queue without a word.
    pub fn may_be_gone(&self, entry: &Entry) -> bool {
        let is_old =
            self.ttl_secs.is_some_and(|ttl| entry.received_secs.0 < self.now_secs.saturating_sub(ttl));
        is_old || entry.sent.is_some_and(|sent| self.damaged.contains(&sent.tag))
    }

    /// How many messages in front may be gone.
    pub fn maybe_gone(&self, queue: usize) -> usize {
        self.queues[queue].state.messages.iter().take_while(|entry| self.may_be_gone(entry)).count()
    }

    pub fn exists(&self, queue: usize) -> bool {
        self.queues[queue].state.exists
    }

    pub fn subscription_of(&mut self, queue: usize, conn: usize) -> Option<&mut Subscription> {
        self.queues[queue].subscription.as_mut().filter(|subscription| subscription.conn == conn)
    }

    /// The first message of a queue is this one: those in front of it are gone.
    pub fn first_is(&mut self, queue: usize, seen: &Seen) -> Verdict {
        let Seen { id, received_secs, sent } = *seen;
        loop {
            let Some(first) = self.queues[queue].state.messages.front() else {
                return Err(format!("a message that is not there is delivered: {sent:?}"));
            };
            let fits = first.sent == sent
                && (first.received_secs.0..=first.received_secs.1).contains(&received_secs)
                && first.id.is_none_or(|known| known == id);
            if fits && (first.id.is_some() || !self.message_ids.contains_key(&id)) {
                break;
            }
            if !self.may_be_gone(first) {
                return Err(format!(
                    "{sent:?} of {received_secs:?} is delivered, not the first message, {first:?}"
                ));
            }
            self.queues[queue].state.messages.pop_front();
        }
        self.message_ids.insert(id, queue);
        if let Some(first) = self.queues[queue].state.messages.front_mut() {
            first.id = Some(id);
            first.received_secs = (received_secs, received_secs);
        }
        Ok(())
    }

    /// An acknowledged message leaves its queue.
    pub fn remove(&mut self, queue: usize, id: &MessageId) {
        let messages = &mut self.queues[queue].state.messages;
        if let Some(at) = messages.iter().position(|entry| entry.id.as_ref() == Some(id)) {
            messages.drain(..=at);
        }
    }

    /// A SEND that was processed not before `handed_secs` let old messages expire.
    pub fn expire(&mut self, queue: usize, handed_secs: u64) {
        let Some(ttl_secs) = self.ttl_secs else { return };
        let before_secs = handed_secs.saturating_sub(ttl_secs);
        let messages = &mut self.queues[queue].state.messages;
        while messages.front().is_some_and(|entry| entry.received_secs.1 < before_secs) {
            messages.pop_front();
        }
    }

    /// A queue has so many messages.
    pub fn count_is(&mut self, queue: usize, count: usize) -> Verdict {
        let len = self.queues[queue].state.messages.len();
        if count > len || count < len - self.maybe_gone(queue) {
            return Err(format!("a queue has {count} messages, not {len}"));
        }
        self.queues[queue].state.messages.drain(..len - count);
        Ok(())
    }

    /// A message was accepted.
    pub fn accepted(&mut self, queue: usize, sent: Sent, handed_secs: u64) -> Verdict {
        self.expire(queue, handed_secs);
        let len = self.queues[queue].state.messages.len();
        let is_closed = self.is_closed(queue);
        // With the quota message last, the queue must have been emptied.
        let most = if is_closed { 0 } else { self.quota.saturating_sub(1) };
        self.count_is(queue, len.min(most)).map_err(|_| {
            let closed = if is_closed { ", closed" } else { "" };
            format!("a message is accepted by a queue with {len} messages{closed}")
        })?;
        self.push(queue, Some(sent), handed_secs);
        Ok(())
    }

    /// A message was refused because of the quota.
    pub fn over_quota(&mut self, queue: usize, handed_secs: u64) -> Verdict {
        self.expire(queue, handed_secs);
        if self.is_closed(queue) {
            return Ok(());
        }
        let len = self.queues[queue].state.messages.len();
        if len < self.quota {
            return Err(format!("a message is over the quota of a queue with {len} messages"));
        }
        self.push(queue, None, handed_secs);
        Ok(())
    }

    fn is_closed(&self, queue: usize) -> bool {
        self.queues[queue].state.messages.back().is_some_and(|last| last.sent.is_none())
    }

    fn push(&mut self, queue: usize, sent: Option<Sent>, handed_secs: u64) {
        let received_secs = (handed_secs, self.now_secs);
        self.queues[queue].state.messages.push_back(Entry { sent, id: None, received_secs });
    }

    /// A message goes to a subscriber, who has none that waits for an acknowledgement.
    pub fn delivered(&mut self, queue: usize, conn: usize, seen: &Seen) -> Verdict {
        let Some(subscription) = self.subscription_of(queue, conn) else {
            return Err("a message is delivered to one who has not subscribed".into());
        };
        if let Some(delivered) = subscription.delivered {
            let what = if delivered == seen.id { "twice" } else { "although another waits" };
            return Err(format!("a message is delivered {what}"));
        }
        subscription.delivered = Some(seen.id);
        self.first_is(queue, seen)
    }

    /// Queues whose subscriber should have got a message, when nothing happens any more.
    pub fn overdue(&self) -> Option<&Queue> {
        self.queues.iter().enumerate().find_map(|(n, queue)| {
            let subscription = queue.subscription?;
            let waits = subscription.delivered.is_none() && !self.closed.contains(&subscription.conn);
            (waits && self.maybe_gone(n) < queue.state.messages.len()).then_some(queue)
        })
    }

    /// The machine has stopped: connections are gone, and what is on the disk for certain counts.
    pub fn forget_connections(&mut self) {
        self.closed.clear();
        self.is_short = false;
        for queue in &mut self.queues {
            queue.subscription = None;
            queue.got.clear();
        }
    }
}
