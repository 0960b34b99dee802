//! The messages of one queue: first in, first out, with the quota of "Send message" and expiry.

use std::collections::VecDeque;

use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::limits::ID_BYTES;

/// A message's ID: 24 random bytes drawn by the router; also the nonce of its delivery.
pub type MessageId = [u8; ID_BYTES];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<B> {
    pub id: MessageId,
    /// When the router received it, in seconds since 1970.
    pub received_secs: u64,
    pub content: Content<B>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<B> {
    Sent {
        flags: MsgFlags,
        body: B,
    },
    /// Stands where the quota was exceeded, so that the recipient can tell the sender to go on.
    Quota,
}

impl<B> Message<B> {
    /// None: a quota message.
    pub fn body(&self) -> Option<&B> {
        match &self.content {
            Content::Sent { body, .. } => Some(body),
            Content::Quota => None,
        }
    }

    /// None: a quota message.
    pub fn into_body(self) -> Option<B> {
        match self.content {
            Content::Sent { body, .. } => Some(body),
            Content::Quota => None,
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Stored {
        was_empty: bool,
    },
    /// Refused. `marked` if this is the one that put the quota message into the queue.
    OverQuota {
        marked: bool,
    },
}

#[derive(Debug)]
pub struct MessageQueue<B> {
    messages: VecDeque<Message<B>>,
    /// False from the quota message on until the queue has been emptied.
    accepts: bool,
}

impl<B> Default for MessageQueue<B> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), accepts: true }
    }
}

impl<B> IntoIterator for MessageQueue<B> {
    type Item = Message<B>;
    type IntoIter = std::collections::vec_deque::IntoIter<Message<B>>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages.into_iter()
    }
}

impl<'a, B> IntoIterator for &'a MessageQueue<B> {
    type Item = &'a Message<B>;
    type IntoIter = std::collections::vec_deque::Iter<'a, Message<B>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<B> MessageQueue<B> {
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn first(&self) -> Option<&Message<B>> {
        self.messages.front()
    }

    /// What [`Store::write`](crate::Store::write) would make of another message: appends it, unless the quota is
    /// reached; then once a quota message in its place, and nothing more until the recipient has taken everything.
    pub fn verdict(&self, quota: usize) -> Written {
        let was_empty = self.messages.is_empty();
        if !self.accepts && !was_empty {
            Written::OverQuota { marked: false }
        } else if self.messages.len() < quota {
            Written::Stored { was_empty }
        } else {
            Written::OverQuota { marked: true }
        }
    }

    pub(crate) fn write(&mut self, message: Message<B>, quota: usize) -> Written {
        let verdict = self.verdict(quota);
        match verdict {
            Written::Stored { .. } => self.restore(message),
            Written::OverQuota { marked: true } => {
                self.restore(Message { content: Content::Quota, ..message });
            }
            Written::OverQuota { marked: false } => {}
        }
        verdict
    }

    /// Appends a message that was accepted before.
    pub(crate) fn restore(&mut self, message: Message<B>) {
        self.accepts = !matches!(message.content, Content::Quota);
        self.messages.push_back(message);
    }

    /// How many messages there are up to the named one.
    pub(crate) fn through(&self, id: &MessageId) -> Option<usize> {
        Some(self.messages.iter().position(|message| message.id == *id)? + 1)
    }

    pub(crate) fn drop_first(&mut self, count: usize) -> Vec<Message<B>> {
        self.messages.drain(..count.min(self.messages.len())).collect()
    }

    pub fn iter(&self) -> std::collections::vec_deque::Iter<'_, Message<B>> {
        self.messages.iter()
    }

    /// Takes the first message if it is the named one.
    pub(crate) fn take(&mut self, id: &MessageId) -> Option<Message<B>> {
        if self.messages.front()?.id == *id { self.messages.pop_front() } else { None }
    }

    /// The last of the messages, from the front, that came before `before_secs`. At most the one at place `most`, so that
    /// a shard is never held up.
    pub fn expired_through(&self, before_secs: u64, most: usize) -> Option<&MessageId> {
        let expired = self.messages.iter().take(most).take_while(|m| m.received_secs < before_secs);
        expired.last().map(|message| &message.id)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Message<B>> {
        self.messages.iter_mut()
    }

    /// Gives memory back after a burst.
    pub(crate) fn shrink(&mut self) {
        if self.messages.capacity() > 8 && self.messages.len() * 4 < self.messages.capacity() {
            self.messages.shrink_to(self.messages.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u8, secs: u64) -> Message<u8> {
        Message {
            id: [n; ID_BYTES],
            received_secs: secs,
            content: Content::Sent { flags: MsgFlags::default(), body: n },
        }
    }

    #[test]
    fn the_quota_marks_once_and_reopens_when_empty() {
        let mut queue = MessageQueue::default();
        assert_eq!(queue.write(message(1, 0), 2), Written::Stored { was_empty: true });
        assert_eq!(queue.write(message(2, 0), 2), Written::Stored { was_empty: false });
        assert_eq!(queue.write(message(3, 0), 2), Written::OverQuota { marked: true });
        assert_eq!(queue.write(message(4, 0), 2), Written::OverQuota { marked: false });
        assert_eq!(queue.len(), 3);
        assert!(queue.take(&[1; ID_BYTES]).is_some());
        assert_eq!(queue.write(message(5, 0), 2), Written::OverQuota { marked: false });
        assert!(queue.take(&[2; ID_BYTES]).is_some());
        assert_eq!(queue.first().map(|m| &m.content), Some(&Content::Quota));
        assert_eq!(queue.first().map(|m| m.id), Some([3; ID_BYTES]));
        assert!(queue.take(&[3; ID_BYTES]).is_some());
        assert_eq!(queue.write(message(6, 0), 2), Written::Stored { was_empty: true });
    }

    #[test]
    fn only_the_first_message_can_be_taken() {
        let mut queue = MessageQueue::default();
        queue.write(message(1, 0), 8);
        queue.write(message(2, 0), 8);
        assert!(queue.take(&[2; ID_BYTES]).is_none());
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn expiry_stops_at_the_first_young_message_and_at_its_bound() {
        let mut queue = MessageQueue::default();
        for (n, secs) in [(1, 10), (2, 20), (3, 30), (4, 5)] {
            queue.write(message(n, secs), 8);
        }
        assert_eq!(queue.expired_through(30, 1), Some(&[1; ID_BYTES]));
        assert_eq!(queue.expired_through(30, 100), Some(&[2; ID_BYTES]));
        assert_eq!(queue.expired_through(10, 100), None);
    }
}
