//! What a start finds, compared with what clients were told.

use std::collections::{BTreeMap, BTreeSet};

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_shard::service::Body;
use ringpost_store::disk::Disk;
use ringpost_store::log::{Started, StartedShard};
use ringpost_store::{Content, Log, Message, PartitionMap, Party, QueueId, Status, StoredBody};

use crate::bodies::{NUMBERED_BYTES, Sent, tag_of};
use crate::commands::{Asked, Pending};
use crate::keys::POOL;
use crate::model::{Entry, Seen, State, Verdict};
use crate::world::World;

/// A queue as it was loaded.
#[derive(Debug)]
pub struct Found {
    sender_id: QueueId,
    recipient_key: AuthPublicKey,
    sender_key: Option<AuthPublicKey>,
    delivery_secret: [u8; 32],
    is_messaging: bool,
    is_suspended: bool,
    messages: Vec<Seen>,
}

/// Commands that were handed to a service and not answered, with their connection.
type Unanswered = Vec<(usize, Pending)>;

impl World {
    /// Compares what was loaded with what is known, shard by shard of the life before, and takes it over.
    pub fn compare(&mut self, started: &Started<Body>, former: usize) -> Verdict {
        let map = PartitionMap::new(started.shards.len()).ok_or("no shards")?;
        let mut all = BTreeMap::new();
        for (n, shard) in started.shards.iter().enumerate() {
            for (id, found) in self.found(shard)? {
                if map.home(self.hasher.hash(&id).partition()) != n {
                    return Err("a queue is not at home".into());
                }
                all.insert(id, found);
            }
        }
        let unanswered: Unanswered = if self.is_durable_when_answered() {
            let lanes = self.conns.iter().enumerate().flat_map(|(n, connection)| {
                connection.lanes.iter().flat_map(move |lane| lane.pending.iter().map(move |p| (n, p.clone())))
            });
            lanes.filter(|(_, pending)| pending.handed_secs.is_some()).collect()
        } else {
            Vec::new()
        };
        self.stats.unanswered += unanswered.len() as u64;
        self.look_at_unknown(&all, &unanswered)?;
        if self.is_durable_when_answered() {
            for queue in &mut self.model.queues {
                queue.durable = queue.state.clone();
            }
        }
        let former = PartitionMap::new(former).ok_or("no shards")?;
        for shard in 0..former.shards() {
            self.compare_shard(shard, former, &all, &unanswered)?;
        }
        self.adopt(&all)
    }

    fn found(&self, shard: &StartedShard<Body>) -> Result<BTreeMap<QueueId, Found>, String> {
        let mut queues = BTreeMap::new();
        for (ix, queue) in shard.store.queues_between(0..u32::MAX) {
            if shard.store.find(Party::Sender, &queue.sender_id) != Some(ix) {
                return Err("a sender ID does not find its queue".into());
            }
            let mut messages = Vec::new();
            for message in queue.messages().into_iter().flatten() {
                let sent = self.body_of(shard, message)?;
                messages.push(Seen { id: message.id, received_secs: message.received_secs, sent });
            }
            let found = Found {
                sender_id: queue.sender_id,
                recipient_key: queue.recipient_keys().next().ok_or("a queue without a key")?.clone(),
                sender_key: queue.sender_key.clone(),
                delivery_secret: queue.delivery_secret,
                is_messaging: queue.mode == Some(QueueMode::Messaging),
                is_suspended: queue.status() == Status::Suspended,
                messages,
            };
            queues.insert(queue.recipient_id, found);
        }
        Ok(queues)
    }

    fn body_of(&self, shard: &StartedShard<Body>, message: &Message<Body>) -> Result<Option<Sent>, String> {
        let Content::Sent { flags, body } = &message.content else { return Ok(None) };
        let place = body.place();
        let mut blocks = Vec::new();
        if !place.is_empty() {
            let read = shard.log.read(place).ok_or("a body is nowhere")?;
            blocks.resize(read.bytes, 0);
            self.disk.read(read.file, read.offset, &mut blocks).map_err(|error| error.to_string())?;
        }
        let bytes = shard.log.body(place, &blocks).ok_or("a body is missing or damaged")?;
        let tag = tag_of(bytes).ok_or("a body that nobody sent was stored")?;
        Ok(Some(Sent { tag, bytes: bytes.len(), notification: flags.notification }))
    }

    /// Queues that nobody was told of may be there if NEW was not answered.
    fn look_at_unknown(&mut self, all: &BTreeMap<QueueId, Found>, unanswered: &Unanswered) -> Verdict {
        let mut made: Vec<AuthPublicKey> = unanswered
            .iter()
            .filter(|(_, pending)| matches!(pending.asked, Asked::New { .. }))
            .filter_map(|(_, pending)| Some(POOL.recipients[pending.key?].public.clone()))
            .collect();
        for (id, found) in all {
            if self.model.by_recipient.contains_key(id) || self.model.orphans.contains(id) {
                continue;
            }
            let at = made.iter().position(|key| *key == found.recipient_key);
            let at = at.ok_or("there is a queue that nobody made")?;
            made.swap_remove(at);
            if !found.messages.is_empty() || found.sender_key.is_some() || found.is_suspended {
                return Err("a queue that nobody knows was used".into());
            }
            self.stats.orphans += 1;
            self.model.orphans.insert(*id);
        }
        Ok(())
    }

    /// The queues of a shard are as they were when some change was the last, not before what is durable.
    fn compare_shard(
        &mut self,
        shard: usize,
        former: PartitionMap,
        all: &BTreeMap<QueueId, Found>,
        unanswered: &Unanswered,
    ) -> Verdict {
        let queues: Vec<usize> = (0..self.model.queues.len())
            .filter(|&queue| {
                let id = &self.model.queues[queue].recipient_id;
                former.home(self.hasher.hash(id).partition()) == shard
            })
            .collect();
        let mut wrong = BTreeMap::new();
        for queue in queues {
            if let Err(why) = self.fits(queue, all, unanswered) {
                wrong.insert(queue, why);
            }
        }
        let first = wrong.values().next().cloned();
        let changes = self.shards.get_mut(shard).map(|shard| std::mem::take(&mut shard.not_durable));
        for (queue, state) in changes.into_iter().flatten() {
            if wrong.is_empty() {
                self.stats.taken_back += 1;
                continue;
            }
            self.model.queues[queue].durable = state;
            match self.fits(queue, all, unanswered) {
                Ok(()) => wrong.remove(&queue),
                Err(why) => wrong.insert(queue, why),
            };
        }
        match (first, wrong.is_empty()) {
            (Some(why), false) => Err(format!("after a start, {why}")),
            _ => Ok(()),
        }
    }

    /// Whether a queue was found as `durable` says, but for what may be gone, and what was done and not answered.
    fn fits(&self, queue: usize, all: &BTreeMap<QueueId, Found>, unanswered: &Unanswered) -> Verdict {
        let known = &self.model.queues[queue];
        let State { exists, sender_key, is_suspended, messages } = &known.durable;
        let asked: Vec<&(usize, Pending)> = unanswered
            .iter()
            .filter(|(_, pending)| {
                pending.queue == queue && !matches!(pending.asked, Asked::New { .. } | Asked::Ping)
            })
            .collect();
        let was_asked = |wanted: fn(&Asked) -> bool| asked.iter().any(|(_, pending)| wanted(&pending.asked));
        let is_deleted = known.is_told_deleted && self.is_durable_when_answered();
        let Some(found) = all.get(&known.recipient_id) else {
            let may_be_gone = !exists || is_deleted || was_asked(|asked| matches!(asked, Asked::Del));
            return if may_be_gone { Ok(()) } else { Err("a queue is missing".into()) };
        };
        if !exists || is_deleted {
            return Err("a queue is there that was deleted or not yet made".into());
        }
        let is_same = found.sender_id == known.sender_id
            && found.recipient_key == POOL.recipients[known.recipient_key].public
            && BoxKey::from_secret(&found.delivery_secret).as_bytes() == known.secret.as_bytes()
            && found.is_messaging == known.is_messaging;
        if !is_same {
            return Err("a queue has another's keys".into());
        }
        let key = |n: &usize| POOL.senders[*n].public.clone();
        let is_secured = match (&found.sender_key, sender_key) {
            (Some(found), None) => asked.iter().any(|(_, pending)| match &pending.asked {
                Asked::Key(n) | Asked::SKey(n) => *found == key(n),
                _ => false,
            }),
            (found, known) => *found == known.as_ref().map(key),
        };
        if !is_secured {
            return Err("a queue has another sender's key".into());
        }
        let may_be_suspended = *is_suspended || was_asked(|asked| matches!(asked, Asked::Off));
        if found.is_suspended && !may_be_suspended || *is_suspended && !found.is_suspended {
            return Err(format!("a queue is suspended: {}", found.is_suspended));
        }
        let acknowledged: BTreeSet<&[u8]> = asked
            .iter()
            .filter_map(|(_, pending)| match &pending.asked {
                Asked::Ack(id) => Some(&id[..]),
                _ => None,
            })
            .collect();
        self.messages_fit(&messages.iter(), &found.messages, &asked, &acknowledged)
    }

    fn messages_fit<'a>(
        &self,
        known: &(impl ExactSizeIterator<Item = &'a Entry> + Clone),
        found: &[Seen],
        asked: &[&(usize, Pending)],
        acknowledged: &BTreeSet<&[u8]>,
    ) -> Verdict {
        let same = |entry: &Entry, seen: &Seen| {
            entry.sent == seen.sent
                && entry.id.is_none_or(|id| id == seen.id)
                && (entry.received_secs.0..=entry.received_secs.1).contains(&seen.received_secs)
        };
        let may_be_gone = |entry: &Entry| {
            self.model.may_be_gone(entry) || entry.id.is_some_and(|id| acknowledged.contains(&id[..]))
        };
        // Only messages in front leave a queue.
        let gone_max = known.clone().take_while(|entry| may_be_gone(entry)).count();
        let mut why = String::new();
        for gone in 0..=gone_max {
            let left = known.len() - gone;
            if found.len() < left {
                continue;
            }
            let (old, new) = found.split_at(left);
            if let Some((entry, seen)) = known.clone().skip(gone).zip(old).find(|(e, s)| !same(e, s)) {
                why = format!("{seen:?} is in a queue where {entry:?} should be");
                continue;
            }
            match were_sent(new, asked) {
                Ok(()) => return Ok(()),
                Err(other) => why = other,
            }
        }
        if why.is_empty() {
            why = format!(
                "{} messages are in a queue that has at least {}",
                found.len(),
                known.len() - gone_max
            );
        }
        Err(why)
    }

    /// From now on, this is what is known.
    fn adopt(&mut self, all: &BTreeMap<QueueId, Found>) -> Verdict {
        let place = |key: &AuthPublicKey| POOL.senders.iter().position(|known| known.public == *key);
        for n in 0..self.model.queues.len() {
            let queue = &mut self.model.queues[n];
            queue.is_told_deleted = false;
            queue.state = State::default();
            if let Some(found) = all.get(&queue.recipient_id) {
                queue.state.exists = true;
                queue.state.sender_key = found.sender_key.as_ref().and_then(place);
                queue.state.is_suspended = found.is_suspended;
                for seen in &found.messages {
                    let received_secs = (seen.received_secs, seen.received_secs);
                    queue.state.messages.push_back(Entry {
                        sent: seen.sent,
                        id: Some(seen.id),
                        received_secs,
                    });
                    if self.model.message_ids.insert(seen.id, n).is_some_and(|other| other != n) {
                        return Err("a message is in two queues".into());
                    }
                }
            }
            self.model.queues[n].durable = self.model.queues[n].state.clone();
        }
        Ok(())
    }
}

/// Whether messages may come from commands that were not answered: those of a connection are in order.
fn were_sent(found: &[Seen], asked: &[&(usize, Pending)]) -> Verdict {
    let mut used: Vec<usize> = Vec::new();
    for seen in found {
        let place = asked.iter().position(|(_, pending)| match &pending.asked {
            // In place of any of them there may be the quota message.
            Asked::Send(sent) => seen.sent.is_none_or(|found| found == *sent),
            _ => false,
        });
        let place = place.ok_or_else(|| format!("nobody has sent {seen:?}"))?;
        if seen.sent.is_none() {
            continue;
        }
        let (conn, _) = asked[place];
        let overtakes = used.iter().any(|&other| asked[other].0 == *conn && other >= place);
        if overtakes && seen.sent.is_none_or(|sent| sent.bytes >= NUMBERED_BYTES) {
            return Err(format!("{seen:?} is out of order"));
        }
        used.push(place);
    }
    Ok(())
}
