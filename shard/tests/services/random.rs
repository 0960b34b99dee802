//! Random commands of several sessions of two services and of clients without one, against a simple model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use ringpost_protocol::command::{Command, ServiceSubs, SubscribeMode};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::SmpVersion;
use ringpost_shard::service::{PendingReport, SubscribedServices, SubscriptionReport};

use crate::common::service::subs_of;
use crate::common::{Client, DEADLINE, Queue, TestRouter, TestService};

const SERVICES: usize = 2;
/// Three sessions of each service, then clients without one.
const CLIENTS: usize = 8;
const STEPS: usize = 200;
const QUEUES_MAX: usize = 10;

/// An event that a client is to receive, in words that can be compared.
type Event = (Vec<u8>, String);

struct Known {
    queue: Queue,
    /// Numbers of messages that are not acknowledged, the oldest first.
    messages: Vec<usize>,
    service: Option<usize>,
    /// Of a queue that is no service's.
    subscriber: Option<usize>,
    /// Who has the first message.
    delivered_to: Option<usize>,
}

#[derive(Clone, Copy)]
struct Holder {
    client: usize,
    subscribed_all: bool,
}

struct World<'r> {
    router: &'r TestRouter,
    random: ChaCha20Rng,
    clients: Vec<Client>,
    sender: Client,
    queues: Vec<Known>,
    holders: [Option<Holder>; SERVICES],
    expected: BTreeMap<usize, Vec<Event>>,
    sent: usize,
    log: Vec<String>,
}

fn service_of(client: usize) -> Option<usize> {
    (client < 6).then_some(client % SERVICES)
}

fn message_event(queue: &Known) -> Event {
    (queue.queue.recipient_id.clone(), format!("MSG {}", queue.messages[0]))
}

impl<'r> World<'r> {
    fn new(router: &'r TestRouter, seed: u64) -> Self {
        let mut world = Self {
            router,
            random: ChaCha20Rng::seed_from_u64(seed),
            clients: Vec::new(),
            sender: Client::connect(router),
            queues: Vec::new(),
            holders: [None; SERVICES],
            expected: BTreeMap::new(),
            sent: 0,
            log: Vec::new(),
        };
        world.clients = (0..CLIENTS).map(|client| world.connect(client)).collect();
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.next_u32()).unwrap() % bound
    }

    fn connect(&mut self, client: usize) -> Client {
        let version = 16 + u16::try_from(self.below(4)).unwrap();
        match service_of(client) {
            Some(service) => {
                let seed = 1 + 2 * u8::try_from(service).unwrap();
                Client::service(self.router, TestService::messaging(seed), version)
            }
            None => Client::version(self.router, version),
        }
    }

    fn expect(&mut self, client: usize, entity: &[u8], what: impl Into<String>) {
        self.expected.entry(client).or_default().push((entity.to_vec(), what.into()));
    }

    fn has(&self, service: usize, version: SmpVersion) -> ServiceSubs {
        let own = self.queues.iter().filter(|queue| queue.service == Some(service));
        subs_of(own.map(|queue| &queue.queue.recipient_id[..]), version)
    }

    fn receiver(&self, queue: usize) -> Option<usize> {
        let queue = &self.queues[queue];
        match queue.service {
            Some(service) => self.holders[service].map(|holder| holder.client),
            None => queue.subscriber,
        }
    }

    /// The client comes to hold its service's subscription. Whether it subscribes to all for the first time.
    fn hold(&mut self, client: usize, subscribes_all: bool) -> bool {
        let service = service_of(client).unwrap();
        if let Some(holder) = self.holders[service].as_mut().filter(|holder| holder.client == client) {
            let is_first = subscribes_all && !holder.subscribed_all;
            holder.subscribed_all |= subscribes_all;
            return is_first;
        }
        if let Some(former) = self.holders[service] {
            let former_client = &self.clients[former.client];
            let (id, version) = (former_client.service_id().to_vec(), former_client.version);
            let has = self.has(service, version);
            self.expect(former.client, &id, format!("{:?}", Response::Ends(has)));
        }
        for queue in self.queues.iter_mut().filter(|queue| queue.service == Some(service)) {
            queue.delivered_to = None;
        }
        self.holders[service] = Some(Holder { client, subscribed_all: subscribes_all });
        subscribes_all
    }

    /// The first message of a queue comes to whoever receives from it now, if that is this client.
    fn deliver(&mut self, queue: usize, client: usize) {
        if self.receiver(queue) == Some(client) && !self.queues[queue].messages.is_empty() {
            let (entity, what) = message_event(&self.queues[queue]);
            self.expect(client, &entity, what);
            self.queues[queue].delivered_to = Some(client);
        }
    }

    fn create(&mut self, client: usize) {
        let queue = Queue::create(&mut self.clients[client], SubscribeMode::Subscribe);
        let service = service_of(client);
        if service.is_some() {
            self.hold(client, false);
        }
        let subscriber = Some(client).filter(|_| service.is_none());
        self.queues.push(Known { queue, messages: Vec::new(), service, subscriber, delivered_to: None });
    }

    fn subscribe(&mut self, client: usize, queue: usize) {
        let service = service_of(client);
        if service.is_some() {
            self.hold(client, false);
        }
        let changes = self.queues[queue].service != service;
        let is_own = self.queues[queue].subscriber == Some(client);
        if changes || (service.is_none() && !is_own) {
            let id = self.queues[queue].queue.recipient_id.clone();
            if let Some(former) = self.receiver(queue).filter(|former| *former != client) {
                self.expect(former, &id, "END");
            }
        }
        self.queues[queue].service = service;
        self.queues[queue].subscriber = Some(client).filter(|_| service.is_none());
        self.queues[queue].delivered_to = None;
        self.deliver(queue, client);
        let queue = self.queues[queue].queue.clone();
        self.clients[client].subscribe(&queue);
    }

    fn subscribe_all(&mut self, client: usize) {
        let service = service_of(client).unwrap();
        let has = self.has(service, self.clients[client].version);
        let is_new = self.hold(client, true);
        if is_new {
            for queue in 0..self.queues.len() {
                if self.queues[queue].service == Some(service) && self.queues[queue].delivered_to.is_none() {
                    self.deliver(queue, client);
                }
            }
            if self.clients[client].version >= SmpVersion::SERVICE_SUBSCRIPTIONS {
                self.expect(client, &[], "ALLS");
            }
        }
        self.clients[client].subs(has).assert_soks(has);
    }

    fn send(&mut self, queue: usize) {
        let was_empty = self.queues[queue].messages.is_empty();
        self.queues[queue].messages.push(self.sent);
        let body = self.sent.to_le_bytes();
        self.sent += 1;
        if was_empty && let Some(receiver) = self.receiver(queue) {
            self.deliver(queue, receiver);
        }
        let queue = self.queues[queue].queue.clone();
        self.sender.send_message(&queue, &body).assert_ok();
    }

    fn acknowledge(&mut self, queue: usize, ids: &mut BTreeMap<usize, Vec<u8>>) {
        let Some(client) = self.queues[queue].delivered_to.take() else { return };
        let number = self.queues[queue].messages.remove(0);
        let own = self.queues[queue].queue.clone();
        let received = self.clients[client].ack(&own, &ids[&number]);
        if received.response() == Response::Ok {
            // There is none, or without credit it comes as an event.
            self.deliver(queue, client);
            return;
        }
        let (message, next) = (own.open(&received), self.queues[queue].messages[0]);
        assert_eq!(message.body(), next.to_le_bytes());
        ids.insert(next, message.id);
        self.queues[queue].delivered_to = Some(client);
    }

    fn delete(&mut self, client: usize, queue: usize) {
        if let Some(receiver) = self.receiver(queue).filter(|receiver| *receiver != client) {
            let id = self.queues[queue].queue.recipient_id.clone();
            self.expect(receiver, &id, "DELD");
        }
        let known = self.queues.remove(queue);
        self.clients[client].recipient(&known.queue, &Command::Del).assert_ok();
    }

    fn reconnect(&mut self, client: usize) {
        for holder in &mut self.holders {
            *holder = holder.filter(|holder| holder.client != client);
        }
        for queue in &mut self.queues {
            queue.subscriber = queue.subscriber.filter(|subscriber| *subscriber != client);
            queue.delivered_to = queue.delivered_to.filter(|delivered| *delivered != client);
        }
        let placeholder = Client::connect(self.router);
        drop(std::mem::replace(&mut self.clients[client], placeholder));
        self.router.wait_for("connections", CLIENTS as u64 + 1);
        let new = self.connect(client);
        self.clients[client] = new;
        self.router.wait_for("connections", CLIENTS as u64 + 1);
    }

    /// Waits until the router says of subscriptions and deliveries what is known. The end of a connection is known late.
    fn look_at_subscriptions(&self) {
        let delivered = self.queues.iter().filter_map(|queue| queue.delivered_to);
        let pending = delivered.clone().count() as u64;
        let held = |queue: &&Known| queue.service.is_some_and(|service| self.holders[service].is_some());
        let holders = self.holders.iter().flatten().map(|holder| holder.client);
        let subscribed = self.queues.iter().filter_map(|queue| queue.subscriber).chain(holders.clone());
        let known = SubscriptionReport {
            subscribed_clients: subscribed.collect::<BTreeSet<_>>().len() as u64,
            notified_clients: 0,
            pending_clients: delivered.collect::<BTreeSet<_>>().len() as u64,
            pending: PendingReport { total: pending, by_age: [pending, 0, 0, 0, 0], longest_secs: 0 },
            recipient_services: SubscribedServices {
                services: holders.count() as u64,
                queues: self.queues.iter().filter(held).count() as u64,
            },
            notifier_services: SubscribedServices::default(),
        };
        let of_services = self.queues.iter().filter(|queue| queue.service.is_some()).count() as u64;
        let subscriptions = self.queues.iter().filter(|queue| queue.subscriber.is_some()).count() as u64;
        let end = Instant::now() + DEADLINE;
        loop {
            let mut report = self.router.router().operator().subscriptions().unwrap();
            report.pending.longest_secs = 0;
            let gauges = (
                self.router.counter("recipient_service_queues"),
                self.router.counter("recipient_service_count"),
                self.router.counter("subscriptions"),
            );
            if report == known && gauges == (of_services, SERVICES as u64, subscriptions) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{report:?} and {gauges:?}, and not {known:?}, after\n{}",
                self.log.join("\n")
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Receives what was to come and compares. Notes the IDs of messages.
    fn compare(&mut self, ids: &mut BTreeMap<usize, Vec<u8>>) {
        for (client, mut expected) in std::mem::take(&mut self.expected) {
            let mut came: Vec<Event> = Vec::new();
            for _ in 0..expected.len() {
                let received = match self.clients[client].try_receive() {
                    Ok(received) => received,
                    Err(ended) => panic!(
                        "{ended:?} for client {client}: {came:?} instead of {expected:?} after\n{}",
                        self.log.join("\n")
                    ),
                };
                let what = match received.response() {
                    Response::Msg { .. } => {
                        let of = |known: &&Known| known.queue.recipient_id == received.entity_id;
                        let message = self.queues.iter().find(of).unwrap().queue.open(&received);
                        let number = usize::from_le_bytes(message.body().try_into().unwrap());
                        assert_eq!(*ids.entry(number).or_insert_with(|| message.id.clone()), message.id);
                        format!("MSG {number}")
                    }
                    Response::End => "END".to_owned(),
                    Response::Deld => "DELD".to_owned(),
                    Response::Alls => "ALLS".to_owned(),
                    other => format!("{other:?}"),
                };
                came.push((received.entity_id.clone(), what));
            }
            came.sort();
            expected.sort();
            assert_eq!(came, expected, "for client {client} after\n{}", self.log.join("\n"));
        }
    }
}

fn run(shards: usize, seed: u64) {
    let router = TestRouter::start(shards);
    let mut world = World::new(&router, seed);
    let mut ids = BTreeMap::new();
    for _ in 0..STEPS {
        let client = world.below(CLIENTS);
        let queues = world.queues.len();
        let queue = if queues == 0 { 0 } else { world.below(queues) };
        let action = if queues == 0 { 0 } else { world.below(14) };
        world.log.push(format!("action {action} of client {client} on queue {queue}"));
        match action {
            0 if queues < QUEUES_MAX => world.create(client),
            1..=3 => world.subscribe(client, queue),
            4 | 5 if service_of(client).is_some() => world.subscribe_all(client),
            6..=9 => world.send(queue),
            10 | 11 => world.acknowledge(queue, &mut ids),
            12 => world.delete(client, queue),
            13 => world.reconnect(client),
            _ => {}
        }
        world.compare(&mut ids);
        world.look_at_subscriptions();
    }
    for client in 0..CLIENTS {
        let more = world.clients[client].receive_soon();
        assert_eq!(more, None, "for client {client} with {shards} shards and seed {seed}");
    }
}

#[test]
fn random_commands_are_answered_as_the_model_says() {
    for shards in [1, 2, 3] {
        for seed in 0..4 {
            run(shards, 100 * seed + u64::try_from(shards).unwrap());
        }
    }
}
