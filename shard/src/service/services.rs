//! Services: clients that receive the messages or notifications of many queues under a certificate of their own ("Client
//! services" of the protocol text).
//!
//! A queue becomes a service's by NEW, SUB or NSUB in a session of that service, and stays it when the session ends. One
//! session at a time receives for a service, from all of its queues: the last that subscribed. All shards must agree which,
//! so they get their orders from one of them (see `runtime/services.rs`), and each answers for its own queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringpost_protocol::handshake::ServiceRole;
use ringpost_protocol::response::Response;
use ringpost_store::{
    BodyPlace, Entry, Fingerprint, Log, Queue, QueueIx, Record, Service as StoredService, ServiceId,
    ServiceParty, ServiceTotal, StoredBody,
};
use smallvec::SmallVec;

use super::body::Body;
use super::ledger::Refused;
use super::session::{ConnRef, Session, SessionService};
use super::subscribers::Subscription;
use super::{Output, Progress, Service};
use crate::limits::{
    SERVICE_PENDING_MAX, SERVICE_STEP_DELIVERIES, SERVICE_STEP_NOTIFIERS, SERVICE_STEP_QUEUES,
};

/// A service in its handshake, which has proved its certificate and waits for its ID.
#[derive(Debug)]
pub struct FindService {
    pub conn: ConnRef,
    pub role: ServiceRole,
    pub fingerprint: Fingerprint,
    /// As in its hello: how many certificates, then each with its 2-byte length.
    pub chain: Vec<u8>,
    /// In days since 1970.
    pub today: u32,
}

/// What all shards are told about who receives for a service, in the same sequence.
#[derive(Clone, Debug)]
pub enum ServiceOrder {
    /// This session does from now on. `round` is a number of the session's own, for the answers.
    Hold { session: Arc<Session>, round: u32, subscribes_all: bool },
    /// The session is gone.
    Release { session: Arc<Session> },
}

/// What one shard has to say to the session of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServicePart {
    /// The ID of the service. None: it is refused.
    Found(Option<ServiceId>),
    /// The session receives for the service, which has so many queues here. `is_new`: it subscribed to all of them for the
    /// first time, and what waits in them is sent once the scan is started.
    Holds { round: u32, total: ServiceTotal, is_new: bool },
    /// Another session does.
    Ended { round: u32, total: ServiceTotal },
    /// What waited in this shard's queues was sent.
    Delivered { round: u32 },
    /// The scan has sent something that needs no credit: it is to be started again when that is written.
    Pauses,
}

/// The way through a shard's queues to what waits in those of a service.
#[derive(Debug)]
pub struct Scan {
    round: u32,
    party: ServiceParty,
    service: ServiceId,
    /// The next place to look at.
    place: u32,
    /// Queues with a message that could not be delivered yet: it is being read, or there was no block.
    pending: Vec<QueueIx>,
    /// Goes on only when it is started from outside.
    parked: bool,
    /// Its next step is ordered.
    queued: bool,
}

/// What a step of a scan led to.
enum Step {
    Done,
    GoesOn,
    /// Until it is woken.
    Waits,
}

impl<L: Log> Service<L> {
    /// Finds the service of a certificate, or enters it. It has one role for ever.
    pub fn find_service(&mut self, wanted: Box<FindService>) {
        let (conn, present) = (wanted.conn, self.store.service_with_certificate(&wanted.fingerprint));
        let found = match present.map(|present| (present.id, present.role)) {
            Some((id, role)) => (role == wanted.role).then_some(id),
            None => match self.enter_service(&wanted) {
                Err(Refused::Later) => {
                    self.services_waiting.push_back(wanted);
                    return;
                }
                entered => entered.ok(),
            },
        };
        if found.is_none() {
            self.counters.services_refused.add(1);
        }
        self.output(Output::Service { conn, part: ServicePart::Found(found) });
    }

    fn enter_service(&mut self, wanted: &FindService) -> Result<ServiceId, Refused> {
        if self.store.service_count() >= self.config.services_max {
            return Err(Refused::NoSpace);
        }
        let FindService { role, fingerprint, today, .. } = *wanted;
        let id = self.random_bytes();
        let service = StoredService { id, role, fingerprint, created_day: today, chain: &wanted.chain[..] };
        let hash = self.store.hasher().hash_fingerprint(&fingerprint);
        self.append_all(&[Entry { hash, record: Record::Service { service: service.clone() } }])?;
        // Nothing here reads the certificates again.
        let place = self.places.first().copied().unwrap_or(BodyPlace::NOWHERE);
        self.store.add_service(service.map(|_| Body::at(place))).map_err(|_| Refused::Internal)?;
        self.counters.services.set(self.store.service_count());
        self.count_service(role);
        Ok(id)
    }

    /// Counts a service that is there from now on.
    pub(super) fn count_service(&self, role: ServiceRole) {
        match role {
            ServiceRole::Messaging => self.counters.recipient_service.count.add(1),
            ServiceRole::Notifier => self.counters.notifier_service.count.add(1),
            ServiceRole::Proxy => {}
        }
    }

    /// Says how many queues services have here.
    pub(super) fn publish_service_queues(&self) {
        for party in [ServiceParty::Recipient, ServiceParty::Notifier] {
            self.counters.service(party).queues.set(self.store.service_queue_count(party));
        }
    }

    /// Counts a SUB or NSUB of a service, in the reference's way. Gives whether it is the first subscription of the session.
    pub(super) fn count_service_subscribe(
        &self,
        party: ServiceParty,
        service: &SessionService,
        has_changed: bool,
    ) -> bool {
        let counts = self.counters.service(party);
        let is_first = !service.subscribes.swap(true, Ordering::Relaxed);
        counts.queues_repeated.add(usize::from(!has_changed));
        counts.subscribes.add(usize::from(is_first));
        counts.queues_subscribed.add(usize::from(is_first || has_changed));
        is_first
    }

    /// Counts a queue that becomes a service's, another's, or nobody's, by SUB or NSUB.
    fn count_service_change(&self, party: ServiceParty, was_a_services: bool, is_a_services: bool) {
        let counts = self.counters.service(party);
        match (was_a_services, is_a_services) {
            (false, _) => &counts.queues_new,
            (true, true) => &counts.queues_moved,
            (true, false) => &counts.queues_left,
        }
        .add(1);
        self.publish_service_queues();
    }

    /// Tries again what waited for the log.
    pub(super) fn retry_services(&mut self) {
        for conn in std::mem::take(&mut self.scans_waiting) {
            self.wake_scan(conn);
        }
        for wanted in std::mem::take(&mut self.services_waiting) {
            self.find_service(wanted);
        }
    }

    /// Carries out an order about who receives for a service, and answers it.
    pub fn carry_out(&mut self, order: &ServiceOrder) {
        let (ServiceOrder::Hold { session, .. } | ServiceOrder::Release { session }) = order;
        let conn = session.conn;
        let Some(service) = session.service.as_deref() else { return };
        let Some(party) = service.party() else { return };
        let ServiceOrder::Hold { round, subscribes_all, .. } = *order else {
            self.subscribers.release(party, session);
            self.counters.subscriptions.set(self.subscribers.subscribed_len());
            return;
        };
        let total = self.store.service_total(party, &service.id);
        let (former, is_new) = self.subscribers.hold(party, session, round, subscribes_all);
        if let Some(former) = former {
            let part = ServicePart::Ended { round: former.round, total };
            self.output(Output::Service { conn: former.conn, part });
        }
        if is_new {
            self.subscribers.peer(session).scan = Some(Box::new(Scan {
                round,
                party,
                service: service.id,
                place: 0,
                pending: Vec::new(),
                parked: true,
                queued: false,
            }));
        }
        self.output(Output::Service { conn, part: ServicePart::Holds { round, total, is_new } });
    }

    /// Who receives from a queue now: whoever subscribed to it, or to its service.
    pub(super) fn subscription(&mut self, queue: QueueIx) -> Option<Subscription> {
        match self.store.queue(queue)?.recipient_service().copied() {
            None => self.subscribers.of_queue(queue).copied(),
            Some(service) => self.subscribers.served(queue, &service),
        }
    }

    /// Who is notified of a queue's messages now.
    pub(super) fn notified(&self, queue: QueueIx) -> Option<ConnRef> {
        match self.store.queue(queue)?.notifier()?.service {
            None => self.subscribers.notified(queue),
            Some(service) => self.subscribers.holder(ServiceParty::Notifier, &service),
        }
    }

    /// A queue that is subscribed to becomes the session's service's, or no service's if the session has none. Whoever
    /// received from it so far hears of the end. Gives whether anything has changed.
    pub(super) fn set_recipient_service(
        &mut self,
        session: &Session,
        queue: QueueIx,
    ) -> Result<bool, Refused> {
        let service = session.service_id();
        let Some(record) = self.store.queue(queue) else { return Err(Refused::Internal) };
        let (recipient_id, former) = (record.recipient_id, record.recipient_service().copied());
        if former == service {
            return Ok(false);
        }
        self.append_of(queue, |queue| Record::RecipientService { queue, service })?;
        self.store.set_recipient_service(queue, service).map_err(|_| Refused::Internal)?;
        self.count_service_change(ServiceParty::Recipient, former.is_some(), service.is_some());
        let subscriber = self.subscribers.drop_subscription(queue);
        self.counters.subscriptions.set(self.subscribers.subscribed_len());
        let ended = match former {
            Some(former) => self.subscribers.holder(ServiceParty::Recipient, &former),
            None => subscriber,
        };
        if let Some(ended) = ended.filter(|ended| *ended != session.conn) {
            self.event(ended, &recipient_id, &Response::End);
        }
        Ok(true)
    }

    /// The same for the notifier of a queue, together with taking the notifications that are kept for it, which follow the
    /// answer.
    pub(super) fn set_notifier_service(
        &mut self,
        session: &Session,
        queue: QueueIx,
    ) -> Result<Vec<ringpost_store::Notification>, Refused> {
        let service = session.service_id();
        let notifier = self.store.queue(queue).and_then(Queue::notifier).ok_or(Refused::Internal)?;
        let (notifier_id, former, kept) = (notifier.id, notifier.service, notifier.notifications().to_vec());
        let (recipient_id, hash) = self.name(queue).ok_or(Refused::Internal)?;
        let mut entries: SmallVec<[Entry<'_>; 2]> = SmallVec::new();
        // The cap of what is kept is far below.
        let count = u8::try_from(kept.len()).unwrap_or(u8::MAX);
        if count > 0 {
            entries.push(Entry { hash, record: Record::NotificationsTaken { queue: recipient_id, count } });
        }
        if former != service {
            entries.push(Entry { hash, record: Record::NotifierService { queue: recipient_id, service } });
        }
        if !entries.is_empty() {
            self.append_all(&entries)?;
        }
        // There are as many, so nothing can be wrong.
        let _ = self.store.take_notifications(queue, usize::from(count));
        self.counters.notifications.sub(usize::from(count));
        self.counters.notifications_sent.add(usize::from(count));
        self.counters.notifications_sent_batches.add(usize::from(count > 0));
        if former == service {
            return Ok(kept);
        }
        self.store.set_notifier_service(queue, service).map_err(|_| Refused::Internal)?;
        self.count_service_change(ServiceParty::Notifier, former.is_some(), service.is_some());
        let subscriber = self.subscribers.remove_notified(queue);
        let ended = match former {
            Some(former) => self.subscribers.holder(ServiceParty::Notifier, &former),
            None => subscriber,
        };
        if let Some(ended) = ended.filter(|ended| *ended != session.conn) {
            self.event(ended, &notifier_id, &Response::End);
        }
        Ok(kept)
    }

    /// Lets a parked scan go on: its session was told that it subscribes, or has written what the scan has sent.
    pub fn start_scan(&mut self, conn: ConnRef) -> Progress {
        match self.subscribers.known_peer(conn).and_then(|peer| peer.scan.as_mut()) {
            Some(scan) if scan.parked => {
                scan.parked = false;
                self.scan(conn)
            }
            _ => Progress::Rests,
        }
    }

    /// Something that a scan may have waited for has happened.
    pub(super) fn wake_scan(&mut self, conn: ConnRef) {
        if let Some(scan) = self.subscribers.known_peer(conn).and_then(|peer| peer.scan.as_mut())
            && !scan.parked
            && !std::mem::replace(&mut scan.queued, true)
        {
            self.scannable.push(conn);
        }
    }

    /// Connections whose scan can go on, since the last call: [`scan`](Self::scan) them.
    pub fn take_scannable(&mut self) -> Vec<ConnRef> {
        std::mem::take(&mut self.scannable)
    }

    /// One step through the queues of a service, for the session that has subscribed to all of them.
    pub fn scan(&mut self, conn: ConnRef) -> Progress {
        let Some(peer) = self.subscribers.known_peer(conn) else { return Progress::Rests };
        let Some(mut scan) = peer.scan.take() else { return Progress::Rests };
        let session = Arc::clone(&peer.session);
        scan.queued = false;
        let step = match scan.party {
            ServiceParty::Recipient => self.scan_messages(conn, &mut scan),
            ServiceParty::Notifier => self.scan_notifications(&session, &mut scan),
        };
        if matches!(step, Step::Done) {
            let part = ServicePart::Delivered { round: scan.round };
            self.output(Output::Service { conn, part });
            return Progress::Rests;
        }
        scan.queued = matches!(step, Step::GoesOn);
        let progress = if scan.queued { Progress::GoesOn } else { Progress::Rests };
        if let Some(peer) = self.subscribers.known_peer(conn) {
            peer.scan = Some(scan);
        }
        progress
    }

    fn scan_messages(&mut self, conn: ConnRef, scan: &mut Scan) -> Step {
        let pending = std::mem::take(&mut scan.pending);
        scan.pending = pending.into_iter().filter(|queue| self.is_undelivered(*queue, conn)).collect();
        if scan.place >= self.store.places() {
            return if scan.pending.is_empty() { Step::Done } else { Step::Waits };
        }
        let credit = self.subscribers.known_peer(conn).map_or(0, |peer| peer.credit);
        let room = SERVICE_PENDING_MAX.saturating_sub(scan.pending.len());
        let most = SERVICE_STEP_DELIVERIES.min(credit).min(room);
        if most == 0 {
            return Step::Waits;
        }
        let service = scan.service;
        let found = self.next_places(scan, most, |queue| {
            queue.recipient_service() == Some(&service)
                && queue.messages().is_some_and(|messages| messages.first().is_some())
        });
        for queue in found {
            if !self.is_undelivered(queue, conn) {
                // A message that came meanwhile was delivered.
                self.counters.service_queues_sent_before.add(1);
                continue;
            }
            self.counters.service_queues_sent.add(1);
            self.deliver_or_wait(queue);
            if self.is_undelivered(queue, conn) {
                scan.pending.push(queue);
            }
        }
        Step::GoesOn
    }

    /// Whether a message waits in a queue and was not delivered to this connection, which is to receive it.
    fn is_undelivered(&mut self, queue: QueueIx, conn: ConnRef) -> bool {
        self.store.first_message(queue).is_some()
            && self
                .subscription(queue)
                .is_some_and(|subscription| subscription.conn == conn && subscription.delivered.is_none())
    }

    fn scan_notifications(&mut self, session: &Arc<Session>, scan: &mut Scan) -> Step {
        if scan.place >= self.store.places() {
            return Step::Done;
        }
        let service = scan.service;
        let found = self.next_places(scan, SERVICE_STEP_NOTIFIERS, |queue| {
            queue.notifier().is_some_and(|notifier| {
                notifier.service == Some(service) && !notifier.notifications().is_empty()
            })
        });
        let mut sends = false;
        for queue in found {
            let notifier_id = self.store.queue(queue).and_then(Queue::notifier).map(|notifier| notifier.id);
            match (self.set_notifier_service(session, queue), notifier_id) {
                (Ok(kept), Some(notifier_id)) => {
                    sends |= !kept.is_empty();
                    for notification in &kept {
                        let event = Response::Nmsg { nonce: &notification.nonce, meta: &notification.meta };
                        self.respond(session, &[], &notifier_id, &event);
                    }
                }
                (Err(Refused::Later), _) => {
                    // From here on again when the log has moved.
                    scan.place = queue.place();
                    self.scans_waiting.push(session.conn);
                    self.flush(session.conn, false, None);
                    return Step::Waits;
                }
                // They stay where they are.
                _ => {}
            }
        }
        if !sends {
            return Step::GoesOn;
        }
        self.flush(session.conn, false, None);
        scan.parked = true;
        self.output(Output::Service { conn: session.conn, part: ServicePart::Pauses });
        Step::Waits
    }

    /// At most so many queues that are wanted, from among the scan's next places.
    fn next_places(
        &self,
        scan: &mut Scan,
        most: usize,
        is_wanted: impl Fn(&Queue<Body>) -> bool,
    ) -> SmallVec<[QueueIx; SERVICE_STEP_DELIVERIES]> {
        let end = scan.place.saturating_add(SERVICE_STEP_QUEUES);
        let found: SmallVec<[QueueIx; SERVICE_STEP_DELIVERIES]> = self
            .store
            .queues_between(scan.place..end)
            .filter(|(_, queue)| is_wanted(queue))
            .map(|(ix, _)| ix)
            .take(most)
            .collect();
        scan.place = match found.last() {
            Some(last) if found.len() == most => last.place().saturating_add(1),
            _ => end,
        };
        found
    }
}
