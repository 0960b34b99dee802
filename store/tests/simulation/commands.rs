//! What clients do: records appended in batches, then applied as a router does it.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::{BlockingInfo, BlockingReason, ClientNotice};
use ringpost_protocol::handshake::ServiceRole;
use ringpost_store::log::{AppendError, apply};
use ringpost_store::{
    Entry, IdHash, Link, Log, NewNotifier, NewParts, NewQueue, Notification, Party, Queue, QueueId, Record,
    Service, ServiceId, Written,
};

use crate::model::{
    LINK_MARK, MESSAGE_MARK, ModelRecord, NOTE_MARK, NOTIFIER_MARK, Named, QUEUE_MARK, body_of, flags, named,
    named_bytes, named_key,
};
use crate::world::World;

const QUOTA: usize = 6;

impl World {
    fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    pub(crate) fn today(&self) -> u32 {
        20_000 + u32::try_from(self.now_ms / 500).unwrap()
    }

    fn hash_of(&self, record: &ModelRecord) -> IdHash {
        match record {
            Record::Service { service } => self.hasher.hash_fingerprint(&service.fingerprint),
            Record::Create { new, .. } => self.hasher.hash(&new.recipient_id),
            Record::Secure { queue, .. }
            | Record::Keys { queue, .. }
            | Record::MoreKeys { queue, .. }
            | Record::Suspend { queue }
            | Record::Block { queue, .. }
            | Record::Resume { queue }
            | Record::Delete { queue }
            | Record::Link { queue, .. }
            | Record::LinkGone { queue }
            | Record::Notifier { queue, .. }
            | Record::NotifierGone { queue }
            | Record::RecipientService { queue, .. }
            | Record::NotifierService { queue, .. }
            | Record::Notification { queue, .. }
            | Record::NotificationsTaken { queue, .. }
            | Record::Message { queue, .. }
            | Record::Quota { queue, .. }
            | Record::Take { queue, .. }
            | Record::Expire { queue, .. }
            | Record::Used { queue, .. } => self.hasher.hash(queue),
            Record::Image { .. } => unreachable!("images are the log's own"),
        }
    }

    /// Appends records as one batch and applies them. False if the log refused them.
    pub(crate) fn append(&mut self, shard: usize, records: Vec<ModelRecord>) -> Result<bool, String> {
        let bodies: Vec<Vec<u8>> = records
            .iter()
            .map(|record| record.body().map_or_else(Vec::new, |&(tag, bytes)| body_of(tag, bytes)))
            .collect();
        let entries: Vec<Entry<'_>> = records
            .iter()
            .zip(&bodies)
            .map(|(record, body)| Entry {
                hash: self.hash_of(record),
                record: record.clone().map_body(|_| body.as_slice()),
            })
            .collect();
        let mut places = Vec::new();
        let position = match self.shards[shard].log.append(&entries, &mut places) {
            Ok(position) => position,
            Err(AppendError::TooLarge) => return Err("a batch was too large".into()),
            Err(AppendError::Failed(_)) if !self.has_fault => return Err("a log failed".into()),
            Err(_) => {
                self.stats.refused += 1;
                return Ok(false);
            }
        };
        self.stats.records += records.len() as u64;
        self.stats.batches += u64::from(records.len() > 1);
        let mut places = places.into_iter();
        for record in &records {
            let record = record.clone().map_body(|_| places.next().expect("every body has a place"));
            let applied = apply(&mut self.shards[shard].store, record)
                .map_err(|misfit| format!("{misfit} when applied at once"))?;
            for body in applied.bodies {
                self.shards[shard].log.erase(body);
            }
        }
        assert!(places.next().is_none(), "a place of no body");
        self.known[shard].pending.push_back((position, records));
        Ok(true)
    }

    pub(crate) fn queue(&self, queue: &QueueId) -> Option<&Queue<ringpost_store::BodyPlace>> {
        let store = &self.shards[self.home(queue)].store;
        store.queue(store.find(Party::Recipient, queue)?)
    }

    /// One command of a client.
    pub(crate) fn command(&mut self, delete_percent: u64) -> Result<(), String> {
        let queues_max = if self.is_hasty { 4 } else { 40 };
        if self.queues.len() < 3 || (self.queues.len() < queues_max && self.random.chance(10)) {
            return self.create();
        }
        if self.random.chance(2) && self.services.len() < 12 {
            let service = self.new_service();
            return self.add_service(service).map(drop);
        }
        let at = self.random.index(self.queues.len());
        let queue = self.queues[at];
        if self.queue(&queue).is_none() {
            return Err("a queue is gone".into());
        }
        let shard = self.home(&queue);
        let roll = self.random.below(100);
        if roll < delete_percent {
            if self.append(shard, vec![Record::Delete { queue }])? {
                self.queues.swap_remove(at);
            }
            return Ok(());
        }
        let records = match roll {
            10..65 if self.is_hasty && self.has_several(&queue) => {
                self.takes(&queue, QUOTA, |queue, through| Record::Expire { queue, through })
            }
            0..40 => self.sends(queue),
            40..65 => self.takes(&queue, 1, |queue, id| Record::Take { queue, id }),
            65..68 => {
                let count = 1 + self.random.index(3);
                self.takes(&queue, count, |queue, through| Record::Expire { queue, through })
            }
            68..78 => self.links(queue),
            78..88 => self.notifies(queue),
            88..91 => self.keys(queue),
            91..94 => self.switches(queue),
            94..97 => vec![Record::RecipientService { queue, service: self.some_service() }],
            _ => vec![Record::Used { queue, today: self.today() }],
        };
        if !records.is_empty() {
            self.append(shard, records)?;
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(), String> {
        let tag = self.tag();
        let recipient_id = named(QUEUE_MARK, tag);
        let mut sender_id = recipient_id;
        sender_id[23] = 1;
        let mode = [None, Some(QueueMode::Messaging), Some(QueueMode::Contact)][self.random.index(3)];
        let recipient_key = named_key(tag);
        let new = NewQueue { recipient_id, sender_id, recipient_key, delivery_secret: [5; 32], mode };
        let parts = NewParts {
            link: if self.random.chance(30) { Some(self.new_link(None)) } else { None },
            notifier: if self.random.chance(30) { Some(self.new_notifier()) } else { None },
            recipient_service: if self.random.chance(20) { self.some_service() } else { None },
        };
        let shard = self.home(&recipient_id);
        assert_eq!(self.shards[shard].store.check_new(&new, &parts), Ok(()));
        let records = Record::creation(new, parts, self.today()).into_vec();
        if self.append(shard, records)? {
            self.queues.push(recipient_id);
        }
        Ok(())
    }

    /// A name and a length. A body that is shorter than its name cannot be told from others.
    fn new_body(&mut self) -> Named {
        let bytes = match self.random.below(10) {
            0 => 0,
            1..6 => 32 + self.random.index(300),
            6..8 => self.random.index(16_384),
            _ => 16_048,
        };
        if bytes < 32 { (0, 0) } else { (self.tag(), bytes) }
    }

    fn message(&mut self, queue: QueueId) -> Option<ModelRecord> {
        let id = named(MESSAGE_MARK, self.tag());
        let received_secs = self.now_ms / 1_000;
        let store = &self.shards[self.home(&queue)].store;
        match store.verdict(store.find(Party::Recipient, &queue)?, QUOTA)? {
            Written::OverQuota { marked: false } => None,
            Written::OverQuota { marked: true } => Some(Record::Quota { queue, id, received_secs }),
            Written::Stored { .. } => {
                let flags = flags(self.random.chance(30));
                Some(Record::Message { queue, id, received_secs, flags, body: self.new_body() })
            }
        }
    }

    /// Messages for one queue or, as a block of a connection may have them, for several of a shard.
    fn sends(&mut self, queue: QueueId) -> Vec<ModelRecord> {
        let mut to = vec![queue];
        if self.random.chance(20) {
            let shard = self.home(&queue);
            to.extend(
                self.queues.clone().into_iter().filter(|other| *other != queue && self.home(other) == shard),
            );
            to.truncate(1 + self.random.index(3));
        }
        let mut records: Vec<ModelRecord> = to.into_iter().filter_map(|queue| self.message(queue)).collect();
        // The first message to a secured queue ends its link.
        let ends_link = |queue: &Queue<_>| queue.link().is_some() && queue.sender_key.is_some();
        if !records.is_empty() && self.queue(&queue).is_some_and(ends_link) {
            records.push(Record::LinkGone { queue });
        }
        records
    }

    fn has_several(&self, queue: &QueueId) -> bool {
        self.queue(queue).and_then(Queue::messages).into_iter().flatten().count() > 2
    }

    /// Ends the first messages.
    fn takes(
        &mut self,
        queue: &QueueId,
        count: usize,
        record: impl Fn(QueueId, QueueId) -> ModelRecord,
    ) -> Vec<ModelRecord> {
        let messages = self.queue(queue).and_then(Queue::messages).into_iter().flatten();
        let last = messages.take(count).last().map(|message| message.id);
        last.map(|id| record(*queue, id)).into_iter().collect()
    }

    /// A new link, or other user data for the same.
    fn new_link(&mut self, former: Option<Link<()>>) -> Link<Named> {
        let data = self.new_body();
        let id = named(LINK_MARK, self.tag());
        match former {
            Some(former) if usize::from(former.fixed_bytes) <= data.1 => former.map(|()| data),
            _ => {
                let fixed_bytes = u16::try_from(self.random.index(data.1 + 1)).unwrap();
                let fixed_hash =
                    self.hasher.hash_fixed_data(&body_of(data.0, data.1)[..usize::from(fixed_bytes)]);
                Link { id, fixed_bytes, fixed_hash, data }
            }
        }
    }

    fn links(&mut self, queue: QueueId) -> Vec<ModelRecord> {
        let former = self.queue(&queue).and_then(Queue::link).map(|link| link.clone().map(|_| ()));
        if former.is_some() && self.random.chance(40) {
            return vec![Record::LinkGone { queue }];
        }
        let link = self.new_link(former.clone());
        match former {
            // Another link needs the end of the former one first.
            Some(former) if former.id != link.id => {
                vec![Record::LinkGone { queue }, Record::Link { queue, link }]
            }
            _ => vec![Record::Link { queue, link }],
        }
    }

    fn new_notifier(&mut self) -> NewNotifier {
        let tag = self.tag();
        let service = if self.random.chance(30) { self.some_service() } else { None };
        NewNotifier { id: named(NOTIFIER_MARK, tag), key: named_key(tag), secret: [6; 32], service }
    }

    fn notifies(&mut self, queue: QueueId) -> Vec<ModelRecord> {
        let kept =
            self.queue(&queue).and_then(Queue::notifier).map(|notifier| notifier.notifications().len());
        let Some(kept) = kept else {
            let notifier = self.new_notifier();
            return vec![Record::Notifier { queue, notifier }];
        };
        match self.random.below(10) {
            0 => vec![Record::NotifierGone { queue }],
            1 => {
                let notifier = self.new_notifier();
                vec![Record::Notifier { queue, notifier }]
            }
            2 => vec![Record::NotifierService { queue, service: self.some_service() }],
            3 => {
                let count = u8::try_from(self.random.index(kept + 1)).unwrap();
                vec![Record::NotificationsTaken { queue, count }]
            }
            // Sometimes so many that the oldest are dropped.
            roll => {
                let count = if roll < 6 { 12 } else { 1 };
                (0..count)
                    .map(|_| {
                        let tag = self.tag();
                        let notification = Notification {
                            message_id: named(NOTE_MARK, tag),
                            received_secs: self.now_ms / 1_000,
                            nonce: named(NOTE_MARK, tag),
                            meta: named_bytes(NOTE_MARK, tag, 144).into(),
                        };
                        Record::Notification { queue, notification }
                    })
                    .collect()
            }
        }
    }

    fn keys(&mut self, queue: QueueId) -> Vec<ModelRecord> {
        if self.random.chance(50) {
            let secured = self.queue(&queue).is_some_and(|queue| queue.sender_key.is_some());
            let key = named_key(self.tag());
            return if secured { Vec::new() } else { vec![Record::Secure { queue, key }] };
        }
        // A long list takes more than one record.
        let count = [1, 2, 5, 150][self.random.index(4)];
        let keys: Vec<_> = (0..count).map(|_| named_key(self.tag())).collect();
        Record::recipient_keys(queue, &keys).into_vec()
    }

    fn switches(&mut self, queue: QueueId) -> Vec<ModelRecord> {
        let reason = if self.random.chance(50) { BlockingReason::Spam } else { BlockingReason::Content };
        let ttl_secs = self.random.chance(50).then_some(86_400);
        let notice = self.random.chance(50).then_some(ClientNotice { ttl_secs });
        vec![match self.random.below(3) {
            0 => Record::Suspend { queue },
            1 => Record::Block { queue, info: BlockingInfo { reason, notice } },
            _ => Record::Resume { queue },
        }]
    }

    /// Of any shard, or none.
    fn some_service(&mut self) -> Option<ServiceId> {
        if self.services.is_empty() || self.random.chance(30) {
            return None;
        }
        Some(self.services[self.random.index(self.services.len())])
    }

    pub(crate) fn new_service(&mut self) -> Service<Named> {
        let tag = self.tag();
        let role = if self.random.chance(50) { ServiceRole::Messaging } else { ServiceRole::Notifier };
        let mut fingerprint = [0x33; 32];
        fingerprint[..8].copy_from_slice(&tag.to_le_bytes());
        let mut id = [0x44; 24];
        id[..8].copy_from_slice(&tag.to_le_bytes());
        Service { id, role, fingerprint, created_day: self.today(), chain: self.new_body() }
    }

    pub(crate) fn add_service(&mut self, service: Service<Named>) -> Result<bool, String> {
        let (shard, id) = (self.service_home(&service.fingerprint), service.id);
        let done = self.append(shard, vec![Record::Service { service }])?;
        if done {
            self.services.push(id);
        }
        Ok(done)
    }
}
