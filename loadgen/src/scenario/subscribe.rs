//! What happens after a restart of a router, or of many clients: all queues are subscribed again at once.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringpost_client::{Client, EntityId, Event, Events, Message, RecipientQueue, SenderQueue};
use ringpost_protocol::command::MsgFlags;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::queues::{Making, create_queues, delete_queues, is_final};
use super::{Context, Failure, Outcome, pair, panicked};
use crate::cli::Subscribe;
use crate::stats::{Recorder, lock};
use crate::verify::{Bodies, QueueVerifier, Stamp, Verification};

/// After the last message: long enough for one that comes again.
const GRACE: Duration = Duration::from_millis(100);

/// Between two attempts to connect to a router that may be starting.
const RETRY: Duration = Duration::from_millis(100);

/// A queue, and which messages it was sent.
struct Filled {
    queue: RecipientQueue,
    /// Differs between queues.
    tag: u64,
    sent: u64,
    rejected: BTreeSet<u64>,
}

impl Filled {
    fn new(queue: RecipientQueue, tag: u64) -> Self {
        Self { queue, tag, sent: 0, rejected: BTreeSet::new() }
    }

    fn expected(&self) -> u64 {
        self.sent - self.rejected.len() as u64
    }
}

struct Load {
    context: Arc<Context>,
    options: Subscribe,
    bodies: Bodies,
    batch: Recorder,
}

pub async fn run(context: Arc<Context>, options: Subscribe) -> Result<Outcome, Failure> {
    let run = &context.run;
    let tag = getrandom::u64().map_err(|error| Failure::Other(format!("no randomness: {error}")))?;
    let load = Arc::new(Load {
        bodies: Bodies::new(tag, options.body_bytes),
        batch: context.recorder(),
        context: Arc::clone(&context),
        options,
    });
    let options = &load.options;

    run.set_phase("connecting");
    let connections = context.connect_all(options.connections.get()).await?;
    let clients: Vec<_> = connections.iter().map(|(client, _)| client.clone()).collect();
    run.set_phase("creating queues");
    let making = Making {
        count: options.queues.get(),
        at_once: options.in_flight,
        subscribe: false,
        counts: false,
        latency: None,
    };
    let queues = create_queues(&context, &clients, making).await?;
    run.set_phase("sending messages");
    let queues = fill_all(&load, &clients, queues).await?;
    run.set_phase("closing connections");
    for (client, _) in connections {
        client.close().await;
    }
    drop(clients);
    if let Some(command) = &options.meanwhile {
        run.set_phase("running the command");
        meanwhile(command.clone()).await?;
    }

    run.set_phase("connecting again");
    let connections = connect_again(&context, options).await?;
    run.sleep(context.warmup).await;
    run.set_phase("subscribing");
    run.open_window();
    let (subscribed, all_subscribed) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut clients = Vec::new();
    let done = Arc::new(Semaphore::new(0));
    for (index, ((client, events), queues)) in connections.into_iter().zip(queues).enumerate() {
        clients.push(client.clone());
        let task = Arc::clone(&load).subscribe(
            index,
            client,
            events,
            queues,
            Arc::clone(&done),
            all_subscribed.clone(),
        );
        tasks.spawn(task);
    }
    // The window ends when the last connection has all its subscriptions.
    let connections = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let _all = done.acquire_many(connections).await;
    run.close_window();
    run.mark_after(options.queues.get() as u64, "queue");
    subscribed.send_replace(true);

    run.set_phase("waiting for messages");
    let mut found = Verification::default();
    let mut queues: Vec<Vec<RecipientQueue>> = clients.iter().map(|_| Vec::new()).collect();
    while let Some(joined) = tasks.join_next().await {
        let (index, verified, held) = joined.map_err(panicked)?;
        found.add(verified);
        if let Some(queues) = queues.get_mut(index) {
            *queues = held;
        }
    }
    if !options.keep {
        delete_queues(&context, &clients, queues, options.in_flight).await?;
    }
    Ok(Outcome {
        latencies: vec![
            load.batch.summary("batch", "from the SUBs of one batch to the last of their answers"),
        ],
        verification: (options.messages_each > 0).then_some(found),
        has_rates: true,
        ..Outcome::default()
    })
}

/// Runs a command of the user, to its end. What it prints goes beside the report.
async fn meanwhile(command: String) -> Result<(), Failure> {
    let failed = |error: &dyn fmt::Display| Failure::Other(format!("--meanwhile: {error}"));
    let running = tokio::task::spawn_blocking(move || {
        Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).stdout(io::stderr()).status()
    });
    let status = running.await.map_err(panicked)?.map_err(|error| failed(&error))?;
    if status.success() { Ok(()) } else { Err(failed(&status)) }
}

/// A router that was restarted by the command may not serve yet.
async fn connect_again(
    context: &Arc<Context>,
    options: &Subscribe,
) -> Result<Vec<(Client, Events)>, Failure> {
    let deadline = Instant::now() + context.common.timeout_secs;
    loop {
        match context.connect_all(options.connections.get()).await {
            Err(Failure::Connect(_)) if options.meanwhile.is_some() && Instant::now() < deadline => {
                context.run.sleep(RETRY).await;
            }
            connected => return connected,
        }
    }
}

/// Secures each queue and sends its messages.
async fn fill_all(
    load: &Arc<Load>,
    clients: &[Client],
    queues: Vec<Vec<RecipientQueue>>,
) -> Result<Vec<Vec<Filled>>, Failure> {
    let mut filled = Vec::with_capacity(clients.len());
    let mut tags = 0_u64..;
    for (client, queues) in clients.iter().zip(queues) {
        let queues = queues.into_iter().zip(tags.by_ref()).map(|(queue, tag)| Filled::new(queue, tag));
        if load.options.messages_each == 0 {
            filled.push(queues.collect());
            continue;
        }
        let places = Arc::new(Semaphore::new(load.options.in_flight.get()));
        let mut tasks = JoinSet::new();
        for mut queue in queues {
            let (load, client, places) = (Arc::clone(load), client.clone(), Arc::clone(&places));
            tasks.spawn(async move {
                let _place = places.acquire_owned().await;
                let sender = pair::secure(&load.context, &client, &queue.queue, &client).await?;
                fill(&load, &client, &sender, &mut queue).await;
                Ok::<_, Failure>(queue)
            });
        }
        let mut of_client = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            of_client.push(joined.map_err(panicked)??);
        }
        filled.push(of_client);
    }
    Ok(filled)
}

async fn fill(load: &Load, client: &Client, sender: &SenderQueue, queue: &mut Filled) {
    let mut body = Vec::new();
    for sequence in 0..load.options.messages_each {
        let sent_at_ns = load.context.run.clock.now_ns();
        load.bodies.write(Stamp { queue: queue.tag, sequence, sent_at_ns }, &mut body);
        queue.sent = sequence + 1;
        if let Err(error) = client.send(sender, MsgFlags::default(), &body).await {
            load.context.failed("SEND", &error);
            queue.rejected.insert(sequence);
        }
    }
}

/// The receiving side of one connection.
struct Receiver {
    load: Arc<Load>,
    client: Client,
    queues: Arc<Vec<Filled>>,
    verifiers: Vec<Mutex<QueueVerifier>>,
    received: AtomicU64,
}

impl Receiver {
    fn new(load: Arc<Load>, client: Client, queues: Arc<Vec<Filled>>) -> Arc<Self> {
        Arc::new(Self {
            verifiers: queues.iter().map(|queue| Mutex::new(QueueVerifier::new(queue.tag))).collect(),
            received: AtomicU64::new(0),
            load,
            client,
            queues,
        })
    }

    async fn run(
        self: Arc<Self>,
        mut events: Events,
        mut all_subscribed: watch::Receiver<bool>,
    ) -> Verification {
        let index_of: HashMap<EntityId, usize> =
            self.queues.iter().enumerate().map(|(index, queue)| (queue.queue.recipient_id, index)).collect();
        let expected: u64 = self.queues.iter().map(Filled::expected).sum();
        let errors = &self.load.context.run.errors;
        let mut deadline = None;
        let mut tasks = JoinSet::new();
        loop {
            let event = match deadline {
                None => tokio::select! {
                    event = events.recv() => event,
                    _ = all_subscribed.wait_for(|&all| all) => {
                        deadline = Some(Instant::now() + self.load.options.drain_secs);
                        continue;
                    }
                },
                Some(deadline) => {
                    let complete = self.received.load(Ordering::Relaxed) >= expected;
                    let until = if complete { Instant::now() + GRACE } else { deadline };
                    // Messages come as responses to acknowledgements too: look again now and then.
                    let until = until.min(Instant::now() + GRACE);
                    tokio::select! {
                        event = events.recv() => event,
                        () = sleep_until(until) => {
                            if complete || Instant::now() >= deadline {
                                break;
                            }
                            continue;
                        }
                    }
                }
            };
            match event {
                Some(Event::Message(message)) => match index_of.get(&message.queue) {
                    Some(&index) => {
                        let receiver = Arc::clone(&self);
                        // A queue has one unacknowledged message at a time: its messages stay in order, and there
                        // are no more tasks than queues.
                        tasks.spawn(async move { receiver.take(index, message).await });
                        while tasks.try_join_next().is_some() {}
                    }
                    None => errors.add("unknown queue", "a message of a queue of nobody"),
                },
                Some(Event::Disconnected(reason)) => {
                    errors.add("disconnected", reason);
                    break;
                }
                Some(Event::End { .. }) => errors.add("END", "a subscription was ended"),
                Some(Event::Deleted { .. }) => errors.add("DELD", "a queue was deleted"),
                Some(event @ (Event::ServiceEnd(_) | Event::ServiceDelivered)) => {
                    errors.add("unexpected event", format_args!("{event:?}"));
                }
                None => break,
            }
        }
        // Those still at work would change the account.
        while tasks.join_next().await.is_some() {}
        let mut found = Verification::default();
        for (verifier, queue) in self.verifiers.iter().zip(self.queues.iter()) {
            let verifier = lock(verifier).take();
            found.add(verifier.finish(queue.sent, &queue.rejected));
        }
        found
    }

    /// Checks and acknowledges a message, and those that come in response.
    async fn take(&self, index: usize, message: Message) {
        let (Some(queue), Some(verifier)) = (self.queues.get(index), self.verifiers.get(index)) else {
            return;
        };
        let context = &self.load.context;
        let mut next = Some(message);
        while let Some(message) = next.take() {
            let msg_id = message.id;
            match message.open(&queue.queue) {
                Err(error) => lock(verifier).unreadable(&error.to_string()),
                Ok(received) => match received.body() {
                    Some(body) => {
                        lock(verifier).receive(&self.load.bodies, body);
                    }
                    None => context.run.errors.add("QUOTA", "a queue was full"),
                },
            }
            match self.client.ack(&queue.queue, &msg_id).await {
                Ok(message) => next = message,
                Err(error) => context.failed("ACK", &error),
            }
            self.received.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Load {
    /// Subscribes to the queues of one connection, in batches one after the other, and receives their messages.
    async fn subscribe(
        self: Arc<Self>,
        index: usize,
        client: Client,
        events: Events,
        queues: Vec<Filled>,
        done: Arc<Semaphore>,
        all_subscribed: watch::Receiver<bool>,
    ) -> (usize, Verification, Vec<RecipientQueue>) {
        let queues = Arc::new(queues);
        // Messages arrive while subscriptions are still under way.
        let receiver = Receiver::new(Arc::clone(&self), client.clone(), Arc::clone(&queues));
        let receiving = tokio::spawn(receiver.run(events, all_subscribed));
        let run = &self.context.run;
        for batch in queues.chunks(self.options.batch.get()) {
            let batch: Vec<_> = batch.iter().map(|filled| &filled.queue).collect();
            let start_ns = run.clock.now_ns();
            let results = client.subscribe_many(&batch).await;
            self.batch.record_ns(index, run.clock.now_ns() - start_ns);
            let mut answers = true;
            for result in results {
                match result {
                    Ok(()) => run.count(1),
                    Err(error) => {
                        self.context.failed("SUB", &error);
                        answers &= !is_final(&error);
                    }
                }
            }
            if !answers {
                break;
            }
        }
        done.add_permits(1);
        let verified = receiving.await.unwrap_or_else(|error| {
            run.errors.add("loadgen", error);
            Verification::default()
        });
        let held = Arc::try_unwrap(queues).unwrap_or_default();
        (index, verified, held.into_iter().map(|filled| filled.queue).collect())
    }
}
