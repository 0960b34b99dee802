//! What only some queues have: a link, a notifier with notifications, further keys, services, blocking.

use ringpost_protocol::error::BlockingInfo;
use ringpost_protocol::keys::AuthPublicKey;

use crate::id::{QueueId, ServiceId};
use crate::message::MessageId;

/// Notifications that are kept for a notifier who does not subscribe: older ones are dropped.
pub const NOTIFICATIONS_MAX: usize = 16;
/// The encrypted metadata of a notification at most; the reference's have 144 bytes.
pub const NOTIFICATION_META_BYTES_MAX: usize = 255;

/// Each is rare alone, so what is large stands behind a pointer of its own.
#[derive(Debug)]
pub(crate) struct Parts<B> {
    pub link: Option<Box<Link<B>>>,
    pub notifier: Option<Box<Notifier>>,
    pub more_recipient_keys: Box<[AuthPublicKey]>,
    pub recipient_service: Option<Box<ServiceId>>,
    pub blocking: Option<Box<BlockingInfo>>,
}

impl<B> Default for Parts<B> {
    fn default() -> Self {
        Self {
            link: None,
            notifier: None,
            more_recipient_keys: Box::default(),
            recipient_service: None,
            blocking: None,
        }
    }
}

impl<B> Parts<B> {
    pub fn is_empty(&self) -> bool {
        self.link.is_none()
            && self.notifier.is_none()
            && self.more_recipient_keys.is_empty()
            && self.recipient_service.is_none()
            && self.blocking.is_none()
    }
}

/// A short link with its encrypted data. `B` is what holds the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<B> {
    pub id: QueueId,
    /// The data begins with so many bytes of fixed data; the rest is what the owner may change.
    pub fixed_bytes: u16,
    /// See [`IdHasher::hash_fixed_data`](crate::IdHasher::hash_fixed_data). Data is changed for the same fixed data only,
    /// and this tells without reading it.
    pub fixed_hash: u64,
    pub data: B,
}

impl<B> Link<B> {
    /// The same link with another form of the data.
    pub fn map<U>(self, map: impl FnOnce(B) -> U) -> Link<U> {
        let Self { id, fixed_bytes, fixed_hash, data } = self;
        Link { id, fixed_bytes, fixed_hash, data: map(data) }
    }

    /// Whether the link may take the other's place: only what the owner may change differs.
    pub fn is_same_but_user_data<U>(&self, other: &Link<U>) -> bool {
        self.id == other.id && self.fixed_bytes == other.fixed_bytes && self.fixed_hash == other.fixed_hash
    }
}

/// What NKEY and the router's random draws make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNotifier {
    pub id: QueueId,
    pub key: AuthPublicKey,
    /// Agreed with the recipient; the metadata of notifications is encrypted with it.
    pub secret: [u8; 32],
    /// The service that is notified, if one is.
    pub service: Option<ServiceId>,
}

/// Who is told that messages arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifier {
    pub id: QueueId,
    pub key: AuthPublicKey,
    /// Agreed with the recipient; the metadata of notifications is encrypted with it.
    pub secret: [u8; 32],
    /// The service that is notified, if one is.
    pub service: Option<ServiceId>,
    notifications: Vec<Notification>,
}

/// A notification that nobody was there to receive: what NMSG needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub message_id: MessageId,
    /// When the message was received, in seconds since 1970.
    pub received_secs: u64,
    pub nonce: [u8; 24],
    /// Encrypted; at most [`NOTIFICATION_META_BYTES_MAX`].
    pub meta: Box<[u8]>,
}

impl From<NewNotifier> for Notifier {
    fn from(new: NewNotifier) -> Self {
        let NewNotifier { id, key, secret, service } = new;
        Self { id, key, secret, service, notifications: Vec::new() }
    }
}

impl Notifier {
    /// The kept notifications, the oldest first.
    pub fn notifications(&self) -> &[Notification] {
        &self.notifications
    }

    /// How many notifications, from the oldest on, are of messages received before this time.
    pub fn count_before(&self, before_secs: u64) -> usize {
        self.notifications.iter().take_while(|notification| notification.received_secs < before_secs).count()
    }

    /// Keeps a notification. Gives back the one that was dropped for it.
    pub(crate) fn note(&mut self, notification: Notification) -> Option<Notification> {
        let dropped = (self.notifications.len() >= NOTIFICATIONS_MAX).then(|| self.notifications.remove(0));
        self.notifications.push(notification);
        dropped
    }

    /// Takes the oldest so many. None if there are fewer.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<Notification>> {
        if count > self.notifications.len() {
            return None;
        }
        let left = self.notifications.split_off(count);
        Some(std::mem::replace(&mut self.notifications, left))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn notification(n: u8) -> Notification {
        let meta = Box::new([n; 144]);
        Notification { message_id: [n; 24], received_secs: u64::from(n), nonce: [n; 24], meta }
    }

    fn notifier() -> Notifier {
        let key = AuthPublicKey::Ed25519([1; 32]);
        NewNotifier { id: [1; 24], key, secret: [2; 32], service: None }.into()
    }

    #[test]
    fn the_oldest_notification_is_dropped_for_the_newest() {
        let mut notifier = notifier();
        for n in 0..16 {
            assert_eq!(notifier.note(notification(n)), None);
        }
        assert_eq!(notifier.note(notification(16)), Some(notification(0)));
        let kept: Vec<u8> = notifier.notifications().iter().map(|kept| kept.message_id[0]).collect();
        assert_eq!(kept, (1..=16).collect::<Vec<u8>>());
    }

    #[test]
    fn notifications_are_taken_from_the_oldest_on() {
        let mut notifier = notifier();
        assert_eq!(notifier.take(0), Some(Vec::new()));
        assert_eq!(notifier.take(1), None);
        for n in [10, 20, 30] {
            notifier.note(notification(n));
        }
        assert_eq!(notifier.count_before(20), 1);
        assert_eq!(notifier.count_before(31), 3);
        assert_eq!(notifier.take(4), None);
        assert_eq!(notifier.take(2).unwrap(), [notification(10), notification(20)]);
        assert_eq!(notifier.take(1).unwrap(), [notification(30)]);
        assert_eq!(notifier.notifications().len(), 0);
    }
}
