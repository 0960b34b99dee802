//! The messages of a store's queues.

use crate::message::{Message, MessageId, MessageQueue, Written};

use super::{QueueIx, Store};

impl<B> Store<B> {
    /// Stored messages of all queues, quota messages included.
    pub fn message_count(&self) -> usize {
        self.messages
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

    /// What [`write`](Self::write) would make of a message.
    pub fn verdict(&self, ix: QueueIx, quota: usize) -> Option<Written> {
        let queue = self.queue(ix)?;
        Some(match queue.messages() {
            Some(messages) => messages.verdict(quota),
            None if quota > 0 => Written::Stored { was_empty: true },
            None => Written::OverQuota { marked: true },
        })
    }

    /// The messages of a queue, for changing where their bodies are.
    pub fn messages_mut(&mut self, ix: QueueIx) -> impl Iterator<Item = &mut Message<B>> {
        let messages = self.queue_mut(ix).and_then(|queue| queue.messages.as_deref_mut());
        messages.into_iter().flat_map(MessageQueue::iter_mut)
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
