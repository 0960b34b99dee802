//! What a store holds, in numbers: the same before and after a move.

use ringpost_protocol::command::QueueMode;
use ringpost_store::{Content, Queue, Status, Store};
use serde_json::{Value, json};

/// Counts over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub queues: u64,
    pub active: u64,
    pub suspended: u64,
    pub blocked: u64,
    pub messaging: u64,
    pub contact: u64,
    /// Queues of old clients.
    pub without_mode: u64,
    /// Queues with a sender key.
    pub secured: u64,
    pub recipient_keys: u64,
    pub links: u64,
    pub link_bytes: u64,
    pub notifiers: u64,
    /// Kept for notifiers.
    pub notifications: u64,
    /// Queues whose messages a service receives.
    pub recipient_service_queues: u64,
    /// Queues of whose messages a service is notified.
    pub notifier_service_queues: u64,
    pub services: u64,
    /// Without quota messages.
    pub messages: u64,
    /// Of these messages.
    pub message_bytes: u64,
    /// Each stands where a queue's quota was exceeded.
    pub quota_messages: u64,
}

impl Holdings {
    /// `body_bytes` is the length of a body.
    pub fn of<B>(store: &Store<B>, body_bytes: impl Fn(&B) -> usize) -> Self {
        let mut sum = Self { services: store.services().count() as u64, ..Self::default() };
        for (_, queue) in store.queues_between(0..u32::MAX) {
            sum.add(queue, &body_bytes);
        }
        sum
    }

    fn add<B>(&mut self, queue: &Queue<B>, body_bytes: impl Fn(&B) -> usize) {
        self.queues += 1;
        *match queue.status() {
            Status::Active => &mut self.active,
            Status::Suspended => &mut self.suspended,
            Status::Blocked(_) => &mut self.blocked,
        } += 1;
        *match queue.mode {
            Some(QueueMode::Messaging) => &mut self.messaging,
            Some(QueueMode::Contact) => &mut self.contact,
            None => &mut self.without_mode,
        } += 1;
        self.secured += u64::from(queue.sender_key.is_some());
        self.recipient_keys += queue.recipient_keys().count() as u64;
        if let Some(link) = queue.link() {
            self.links += 1;
            self.link_bytes += body_bytes(&link.data) as u64;
        }
        if let Some(notifier) = queue.notifier() {
            self.notifiers += 1;
            self.notifications += notifier.notifications().len() as u64;
        }
        self.recipient_service_queues += u64::from(queue.recipient_service().is_some());
        self.notifier_service_queues += u64::from(queue.notifier_service().is_some());
        for message in queue.messages().into_iter().flatten() {
            match &message.content {
                Content::Quota => self.quota_messages += 1,
                Content::Sent { body, .. } => {
                    self.messages += 1;
                    self.message_bytes += body_bytes(body) as u64;
                }
            }
        }
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        vec![
            format!(
                "Queues: {} ({} active, {} suspended, {} blocked; {} messaging, {} contact, {} of old clients)",
                self.queues,
                self.active,
                self.suspended,
                self.blocked,
                self.messaging,
                self.contact,
                self.without_mode
            ),
            format!("Keys: {} of recipients, {} of senders", self.recipient_keys, self.secured),
            format!(
                "Messages: {} of {} bytes, {} quota messages",
                self.messages, self.message_bytes, self.quota_messages
            ),
            format!("Links: {} of {} bytes", self.links, self.link_bytes),
            format!("Notifiers: {}, notifications kept for them: {}", self.notifiers, self.notifications),
            format!(
                "Services: {}, which receive for {} queues and are notified for {}",
                self.services, self.recipient_service_queues, self.notifier_service_queues
            ),
        ]
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "queues": {
                "all": self.queues,
                "active": self.active,
                "suspended": self.suspended,
                "blocked": self.blocked,
                "messaging": self.messaging,
                "contact": self.contact,
                "without_mode": self.without_mode,
                "secured": self.secured,
                "recipient_keys": self.recipient_keys,
            },
            "messages": {
                "all": self.messages,
                "bytes": self.message_bytes,
                "quota": self.quota_messages,
            },
            "links": { "all": self.links, "bytes": self.link_bytes },
            "notifiers": { "all": self.notifiers, "notifications": self.notifications },
            "services": {
                "all": self.services,
                "recipient_queues": self.recipient_service_queues,
                "notifier_queues": self.notifier_service_queues,
            },
        })
    }
}
