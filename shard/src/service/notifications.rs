//! Notifications: "Enable notifications command", "Disable notifications command" and "Notifier commands".
//!
//! A notifier that subscribes is told at once, when the message is durable. For one that does not, the last notifications
//! are kept with the queue.

use std::sync::Arc;

use ringpost_protocol::command::{MsgFlags, NotifierCredentials};
use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_protocol::crypto::delivery::encrypt_notification_meta;
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::Transmission;
use ringpost_store::{
    Log, MessageId, NewNotifier, Notification, Notifier, Party, Queue, QueueIx, Record, ServiceParty,
};

use super::Service;
use super::commands::{Next, Secrets};
use super::ledger::Refused;
use super::session::Session;

impl<L: Log> Service<L> {
    /// A notifier of a queue in this partition, and the router's key for it.
    pub(super) fn draw_notifier(
        &mut self,
        credentials: &NotifierCredentials,
        partition: u8,
    ) -> (NewNotifier, DhPublicKey) {
        let router_key = DhPrivateKey::from_bytes(self.random_bytes());
        let secret = router_key.agree(&credentials.recipient_dh_key);
        let notifier = NewNotifier {
            id: self.draw_id(|drawn| drawn == partition),
            key: credentials.notifier_key.clone(),
            secret: *secret.as_bytes(),
            service: None,
        };
        (notifier, router_key.public())
    }

    /// NKEY.
    pub(super) fn set_notifier(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        queue: QueueIx,
        credentials: &NotifierCredentials,
    ) -> Next {
        let Some((_, hash)) = self.name(queue) else { return Next::Answer(ErrorType::Auth) };
        let (notifier, router_dh_key) = self.draw_notifier(credentials, hash.partition());
        if self.store.find(Party::Notifier, &notifier.id).is_some() {
            return Next::Answer(ErrorType::Internal);
        }
        let record = notifier.clone();
        if let Err(refused) = self.append_of(queue, |queue| Record::Notifier { queue, notifier: record }) {
            return refused.into();
        }
        let notifier_id = notifier.id;
        match self.store.set_notifier(queue, notifier) {
            Ok(former) => {
                if let Some(former) = former {
                    self.forget_notifications(&former);
                    self.notifier_gone(session, queue, &former);
                }
                self.counters.notifiers_created.add(1);
                self.counters.notifiers.set(self.store.notifier_count());
                self.publish_service_queues();
                let response = Response::Nid { notifier_id: &notifier_id, router_dh_key };
                self.respond(session, parsed.corr_id, parsed.entity_id, &response);
                Next::Answered
            }
            Err(_) => Next::Answer(ErrorType::Internal),
        }
    }

    /// NDEL. It is no error if there is no notifier.
    pub(super) fn remove_notifier(&mut self, session: &Session, queue: QueueIx) -> Result<(), Refused> {
        if self.store.queue(queue).is_some_and(|queue| queue.notifier().is_some()) {
            self.append_of(queue, |queue| Record::NotifierGone { queue })?;
            if let Ok(Some(former)) = self.store.remove_notifier(queue) {
                self.forget_notifications(&former);
                self.notifier_gone(session, queue, &former);
                self.counters.notifiers_deleted.add(1);
                self.counters.notifiers.set(self.store.notifier_count());
                self.publish_service_queues();
            }
        }
        Ok(())
    }

    /// Those that were kept for a notifier are gone with it.
    pub(super) fn forget_notifications(&self, notifier: &Notifier) {
        self.counters.notifications.sub(notifier.notifications().len());
    }

    /// Tells the subscriber of a notifier that it is no more, unless its own command ended it. That command came in
    /// `session`.
    pub(super) fn notifier_gone(&mut self, session: &Session, queue: QueueIx, notifier: &Notifier) {
        let subscriber = self.subscribers.remove_notified(queue);
        let notified = match &notifier.service {
            Some(service) => self.subscribers.holder(ServiceParty::Notifier, service),
            None => subscriber,
        };
        if let Some(conn) = notified.filter(|conn| *conn != session.conn) {
            self.event(conn, &notifier.id, &Response::Deld);
        }
        self.counters.notifier_subscriptions.set(self.subscribers.notified_len());
    }

    /// NSUB.
    pub(super) fn subscribe_notifier(&mut self, session: &Arc<Session>, parsed: &Transmission<'_>) -> Next {
        let queue = self.find(Party::Notifier, parsed.entity_id);
        let key = queue.and_then(|ix| Some(self.store.queue(ix)?.notifier()?.key.clone()));
        let verified = self.verified(session, parsed, key.as_ref(), Secrets::Kept);
        let Some(queue) = queue.filter(|_| verified) else { return Next::Answer(ErrorType::Auth) };
        self.tell_notifiers_now(session);
        let service = session.service_id();
        let is_new = self.subscribers.notified(queue) != Some(session.conn);
        let former_service = self.store.queue(queue).and_then(|queue| queue.notifier_service().copied());
        if is_new && service.is_none() && self.is_subscription_limit_reached(session) {
            return Next::Answer(ErrorType::Quota);
        }
        let kept = match self.set_notifier_service(session, queue) {
            Ok(kept) => kept,
            Err(refused) => return refused.into(),
        };
        if let Some(of_session) = session.service.as_deref() {
            let has_changed = former_service != service;
            self.count_service_subscribe(ServiceParty::Notifier, of_session, has_changed);
        } else {
            if is_new {
                &self.counters.notifier_subscribes_new
            } else {
                &self.counters.notifier_subscribes_repeated
            }
            .add(1);
            if let Some(former) = self.subscribers.subscribe_notified(queue, session) {
                self.event(former, parsed.entity_id, &Response::End);
            }
        }
        self.counters.notifier_subscriptions.set(self.subscribers.notified_len());
        let service_id = service.as_ref().map(|id| &id[..]);
        self.respond(session, parsed.corr_id, parsed.entity_id, &Response::Sok { service_id });
        for notification in kept {
            let event = Response::Nmsg { nonce: &notification.nonce, meta: &notification.meta };
            self.respond(session, &[], parsed.entity_id, &event);
        }
        Next::Answered
    }

    /// The notification of a message, if one is to be made.
    pub(super) fn notification(
        &mut self,
        queue: QueueIx,
        flags: MsgFlags,
        message_id: &MessageId,
        received_secs: u64,
    ) -> Option<Notification> {
        if !flags.notification {
            return None;
        }
        let key = BoxKey::from_secret(&self.store.queue(queue)?.notifier()?.secret);
        let nonce = self.random_bytes();
        let timestamp_secs = i64::try_from(received_secs).unwrap_or(i64::MAX);
        let meta = encrypt_notification_meta(&key, &nonce, message_id, timestamp_secs);
        Some(Notification { message_id: *message_id, received_secs, nonce, meta: meta.into() })
    }

    /// Has the notifier told that subscribes, or keeps the notification, whose record was appended then.
    pub(super) fn notify(&mut self, queue: QueueIx, notification: Notification) {
        self.counters.notifications_made.add(1);
        if self.notified(queue).is_some() {
            self.to_notify.push((queue, notification));
        } else {
            // There is a notifier. One that is dropped for it makes no more of them.
            if let Ok(None) = self.store.note_notification(queue, notification) {
                self.counters.notifications.add(1);
            }
        }
    }

    /// Tells the notifiers of the turn's messages so far, before one of them is another.
    pub(super) fn tell_notifiers_now(&mut self, session: &Session) {
        if !self.to_notify.is_empty() {
            self.flush(session.conn, false, None);
            self.tell_notifiers();
        }
    }

    /// Tells the notifiers of the turn's messages, after its responses.
    pub(super) fn tell_notifiers(&mut self) {
        self.counters.notifications_sent.add(self.to_notify.len());
        self.counters.notifications_sent_batches.add(usize::from(!self.to_notify.is_empty()));
        for (queue, notification) in std::mem::take(&mut self.to_notify) {
            let notifier = self.store.queue(queue).and_then(Queue::notifier).map(|notifier| notifier.id);
            if let (Some(conn), Some(notifier_id)) = (self.notified(queue), notifier) {
                let event = Response::Nmsg { nonce: &notification.nonce, meta: &notification.meta };
                self.event(conn, &notifier_id, &event);
            }
        }
    }

    /// Drops kept notifications that are too old.
    pub(super) fn expire_notifications(&mut self, queue: QueueIx, before_secs: u64) -> Result<(), Refused> {
        let notifier = self.store.queue(queue).and_then(Queue::notifier);
        let old = notifier.map_or(0, |notifier| notifier.count_before(before_secs));
        if old > 0 {
            let count = u8::try_from(old).unwrap_or(u8::MAX);
            self.append_of(queue, |queue| Record::NotificationsTaken { queue, count })?;
            // There are as many, so nothing can be wrong.
            let _ = self.store.take_notifications(queue, usize::from(count));
            self.counters.notifications.sub(usize::from(count));
            self.counters.notifications_expired.add(usize::from(count));
        }
        Ok(())
    }
}
