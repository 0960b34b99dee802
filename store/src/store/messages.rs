//! The messages of a store's queues.

use crate::message::{Message, MessageId, MessageQueue, Written};

use super::{QueueIx, Store};

impl<B> Store<B> {
    /// Stored messages of all queues, quota messages included.
    pub fn message_count(&self) -> usize {
        self.messages
    }

    /// What [`write`](Self::write) would do with a message. None if there is no such queue.
    pub fn admission(&self, ix: QueueIx, quota: usize) -> Option<Written> {
        let messages = self.queue(ix)?.messages();
        Some(messages.map_or_else(|| MessageQueue::<B>::default().admission(quota), |m| m.admission(quota)))
    }

    /// Appends a message. None if there is no such queue.
    pub fn write(&mut self, ix: QueueIx, message: Message<B>, quota: usize) -> Option<Written> {
        let queue = self.queues.get_mut(ix.place as usize).filter(|queue| queue.serial == ix.serial)?;
        let written = queue.messages.get_or_insert_default().write(message, quota);
        match written {
            Written::Stored { .. } | Written::OverQuota { marked: true } => self.messages += 1,
            Written::OverQuota { marked: false } => {}
        }
        Some(written)
    }

    pub fn first_message(&self, ix: QueueIx) -> Option<&Message<B>> {
        self.queue(ix)?.messages()?.first()
    }

    /// ACK: removes the first message if it is the named one.
    pub fn take_message(&mut self, ix: QueueIx, id: &MessageId) -> Option<Message<B>> {
        let messages = self.queue_mut(ix)?.messages.as_deref_mut()?;
        let taken = messages.take(id)?;
        messages.shrink();
        self.messages -= 1;
        Some(taken)
    }

    /// Drops expired messages of one queue, at most `most`; gives them back so that their bodies can be released.
    pub fn expire(&mut self, ix: QueueIx, before_secs: u64, most: usize) -> Vec<Message<B>> {
        let Some(messages) = self.queue_mut(ix).and_then(|q| q.messages.as_deref_mut()) else {
            return Vec::new();
        };
        let expired = messages.expire(before_secs, most);
        if !expired.is_empty() {
            messages.shrink();
        }
        self.messages -= expired.len();
        expired
    }

    /// Appends a message that was accepted before: no quota is looked at. False if there is no such queue.
    pub fn restore_message(&mut self, ix: QueueIx, message: Message<B>) -> bool {
        let Some(queue) = self.queue_mut(ix) else { return false };
        queue.messages.get_or_insert_default().restore(message);
        self.messages += 1;
        true
    }

    /// Drops the messages from the first to the named one. None if it is not there.
    pub fn take_through(&mut self, ix: QueueIx, id: &MessageId) -> Option<Vec<Message<B>>> {
        let messages = self.queue_mut(ix)?.messages.as_deref_mut()?;
        let taken = messages.drop_first(messages.through(id)?);
        messages.shrink();
        self.messages -= taken.len();
        Some(taken)
    }
}
