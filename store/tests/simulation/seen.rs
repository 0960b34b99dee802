//! What a shard shows to its users.

use std::collections::BTreeMap;

use ringpost_store::disk::Disk;
use ringpost_store::log::StartedShard;
use ringpost_store::sim::SimDisk;
use ringpost_store::{
    BodyPlace, Content, Link, Log, NewNotifier, NewQueue, Notifier, Party, Queue, ServiceId, ServiceParty,
    ServiceTotal, id_hash,
};

use crate::model::{ModelMessage, ModelNotifier, ModelQueue, Named, REFUSED, State, body_of};

/// What can be told from a body that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodySeen {
    Whole {
        tag: u64,
    },
    /// The log says that it is damaged.
    Refused,
    /// The log delivers something that nobody sent.
    Wrong,
}

struct View<'a> {
    disk: &'a SimDisk,
    shard: &'a StartedShard<BodyPlace>,
    damage_is_fine: bool,
}

/// The state of a shard as its users see it. Damaged bodies have the tag [`REFUSED`] if `damage_is_fine`.
pub fn seen(disk: &SimDisk, shard: &StartedShard<BodyPlace>, damage_is_fine: bool) -> Result<State, String> {
    let view = View { disk, shard, damage_is_fine };
    let mut state = State::default();
    for (ix, queue) in shard.store.queues_between(0..u32::MAX) {
        for party in [Party::Recipient, Party::Sender, Party::Notifier, Party::Link] {
            if queue.id(party).is_some_and(|id| shard.store.find(party, &id) != Some(ix)) {
                return Err(format!("the ID for {party:?} does not find its queue"));
            }
        }
        state.queues.insert(queue.recipient_id, view.queue(queue)?);
    }
    for service in shard.store.services() {
        let seen = service.clone().map(|chain| view.body(chain));
        let chain = seen.chain.clone()?;
        if shard.store.service_with_certificate(&service.fingerprint) != Some(service) {
            return Err("a certificate does not find its service".into());
        }
        state.services.insert(service.id, seen.map(|_| chain));
    }
    view.check_totals()?;
    Ok(state)
}

impl View<'_> {
    fn see_body(&self, place: BodyPlace) -> BodySeen {
        let Some(read) = self.shard.log.read(place) else { return BodySeen::Refused };
        let mut blocks = vec![0; read.bytes];
        if self.disk.read(read.file, read.offset, &mut blocks).is_err() {
            return BodySeen::Refused;
        }
        let Some(body) = self.shard.log.body(place, &blocks) else { return BodySeen::Refused };
        let tag = body.get(8..16).map_or(0, |tag| u64::from_le_bytes(tag.try_into().unwrap()));
        if body == body_of(tag, body.len()) { BodySeen::Whole { tag } } else { BodySeen::Wrong }
    }

    fn body(&self, place: BodyPlace) -> Result<Named, String> {
        let tag = match self.see_body(place) {
            BodySeen::Whole { tag } => tag,
            BodySeen::Refused if self.damage_is_fine => REFUSED,
            other => return Err(format!("a body is {other:?}")),
        };
        Ok((tag, place.len()))
    }

    fn queue(&self, queue: &Queue<BodyPlace>) -> Result<ModelQueue, String> {
        let mut messages = Vec::new();
        for message in queue.messages().into_iter().flatten() {
            let sent = match &message.content {
                Content::Quota => None,
                Content::Sent { flags, body } => Some((flags.notification, self.body(*body)?)),
            };
            messages.push(ModelMessage { id: message.id, received_secs: message.received_secs, sent });
        }
        let link = match queue.link() {
            None => None,
            Some(&Link { id, fixed_bytes, fixed_hash, data }) => {
                Some(Link { id, fixed_bytes, fixed_hash, data: self.body(data)? })
            }
        };
        let mut keys = queue.recipient_keys().cloned();
        Ok(ModelQueue {
            new: NewQueue {
                recipient_id: queue.recipient_id,
                sender_id: queue.sender_id,
                recipient_key: keys.next().unwrap(),
                delivery_secret: queue.delivery_secret,
                mode: queue.mode,
            },
            more_keys: keys.collect(),
            sender_key: queue.sender_key.clone(),
            status: queue.status(),
            used_day: queue.used_day,
            link,
            notifier: queue.notifier().map(see_notifier),
            recipient_service: queue.recipient_service().copied(),
            messages,
        })
    }

    /// The totals of services are those of their queues.
    fn check_totals(&self) -> Result<(), String> {
        let store = &self.shard.store;
        let mut totals: BTreeMap<(bool, ServiceId), ServiceTotal> = BTreeMap::new();
        for (_, queue) in store.queues_between(0..u32::MAX) {
            let mut count = |notifies, service: Option<&ServiceId>, id| {
                if let Some(service) = service {
                    let total = totals.entry((notifies, *service)).or_default();
                    total.add(&ServiceTotal { count: 1, ids_hash: id_hash(id) });
                }
            };
            count(false, queue.recipient_service(), &queue.recipient_id);
            if let Some(notifier) = queue.notifier() {
                count(true, notifier.service.as_ref(), &notifier.id);
            }
        }
        for ((notifies, service), total) in totals {
            let party = if notifies { ServiceParty::Notifier } else { ServiceParty::Recipient };
            if store.service_total(party, &service) != total {
                return Err("the total of a service is not that of its queues".into());
            }
        }
        Ok(())
    }
}

fn see_notifier(notifier: &Notifier) -> ModelNotifier {
    let Notifier { id, secret, service, .. } = *notifier;
    let new = NewNotifier { id, key: notifier.key.clone(), secret, service };
    ModelNotifier { new, notifications: notifier.notifications().to_vec() }
}
