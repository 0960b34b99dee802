//! A sender and a recipient with a queue between them, and the tasks that drive them.
//!
//! ```text
//! send ──SEND──> router ──MSG──> receive ──ACK──>
//!   └─ pending ─> accept: waits for each OK in turn
//! ```
//!
//! A message takes one of the pair's places from before its SEND until it arrives, or until the router refuses it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringpost_client::{
    Client, ClientError, Event, Events, Message, PendingSend, QueueOptions, RecipientQueue, RelaySession,
    SenderQueue,
};
use ringpost_protocol::address::RouterAddress;
use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::version::SmpVersion;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Context, Failure, panicked};
use crate::cli::Traffic;
use crate::stats::{Latency, Recorder};
use crate::verify::{Bodies, QueueVerifier, Stamp, Verification};

/// After the last message: long enough for one that comes again.
const GRACE: Duration = Duration::from_millis(100);

/// One queue between two connections.
#[derive(Debug)]
pub struct Pair {
    index: usize,
    sender: Sender,
    sender_queue: SenderQueue,
    recipient: Client,
    events: Events,
    queue: RecipientQueue,
}

/// Who sends, and through which router.
#[derive(Debug)]
struct Sender {
    client: Client,
    /// Set if the client's router is a proxy to the one that has the queue.
    relay: Option<RelaySession>,
}

impl Sender {
    async fn start_send(&self, queue: &SenderQueue, body: &[u8]) -> Result<PendingSend, ClientError> {
        let flags = MsgFlags::default();
        match &self.relay {
            None => self.client.start_send(queue, flags, body).await,
            Some(relay) => self.client.start_send_through(relay, queue, flags, body).await,
        }
    }
}

/// Shared by all pairs.
#[derive(Debug)]
pub struct Load {
    pub context: Arc<Context>,
    pub options: Traffic,
    bodies: Bodies,
    delivery: Recorder,
    accept: Recorder,
    ack: Recorder,
    lag: Recorder,
    stopped: AtomicBool,
    stop: Notify,
}

/// When a pair sends.
#[derive(Debug)]
pub enum Pace {
    /// As soon as there is a place, until stopped or until so many messages are sent.
    Closed { messages: Option<u64> },
    /// At fixed times, late or not.
    Open(Schedule),
}

/// The times of one pair: its `n`-th message is due at `first_ns + n * every_ns`.
#[derive(Debug)]
pub struct Schedule {
    pub first_ns: u64,
    pub every_ns: f64,
    pub end_ns: u64,
    /// What is still due then is not sent any more.
    pub give_up_ns: u64,
    /// Rung when a message is due.
    pub due: Arc<Notify>,
}

impl Schedule {
    /// How many messages are due before the end.
    fn total(&self) -> u64 {
        let span_ns = crate::stats::as_f64(self.end_ns.saturating_sub(self.first_ns));
        // Not negative, and far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let total = (span_ns / self.every_ns).ceil() as u64;
        total
    }

    /// When message `sequence` is due; none if that is not before the end.
    fn at_ns(&self, sequence: u64) -> Option<u64> {
        // Times are far below 2^53 ns times a thousand; a nanosecond does not matter.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let offset_ns = (crate::stats::as_f64(sequence) * self.every_ns) as u64;
        let at_ns = self.first_ns.saturating_add(offset_ns);
        (at_ns < self.end_ns).then_some(at_ns)
    }
}

/// A message that waits for its OK.
struct Unaccepted {
    sequence: u64,
    sent_at_ns: u64,
    reply: PendingSend,
}

/// What the sender's side did.
struct Sent {
    count: u64,
    rejected: BTreeSet<u64>,
}

/// Makes pairs: two connections each, and a queue that the sender has secured. Senders connect to the proxy, if there is
/// one.
pub async fn make_pairs(
    context: &Arc<Context>,
    count: usize,
    proxy: Option<&RouterAddress>,
) -> Result<Vec<Pair>, Failure> {
    context.run.set_phase("connecting");
    let (senders, recipients) = match proxy {
        None => {
            let mut both = context.connect_all(2 * count).await?;
            let recipients = both.split_off(count);
            (both, recipients)
        }
        Some(proxy) => (context.connect_all_to(proxy, count).await?, context.connect_all(count).await?),
    };
    context.run.set_phase("creating queues");
    let mut tasks = JoinSet::new();
    for (index, ((client, _), (recipient, events))) in senders.into_iter().zip(recipients).enumerate() {
        let (context, is_proxy) = (Arc::clone(context), proxy.is_some());
        tasks.spawn(async move {
            let relay = if is_proxy {
                let asked = client.relay_session(&context.common.address, context.common.versions()).await;
                Some(asked.map_err(|error| Failure::Command("asking for the relay", error))?)
            } else {
                None
            };
            Pair::new(&context, index, Sender { client, relay }, recipient, events).await
        });
    }
    let mut pairs = Vec::with_capacity(count);
    while let Some(joined) = tasks.join_next().await {
        pairs.push(joined.map_err(panicked)??);
    }
    Ok(pairs)
}

/// Secures a queue in the way of the agreed version.
pub async fn secure(
    context: &Context,
    recipient: &Client,
    queue: &RecipientQueue,
    sender: &Client,
) -> Result<SenderQueue, Failure> {
    let kind = ringpost_client::KeyKind::from(context.common.sender_key);
    let key = kind.generate().map_err(|error| Failure::Other(format!("no randomness: {error}")))?;
    let public = key.public();
    let sender_queue = SenderQueue::new(queue.sender_id, key);
    let secured = if sender.session().version() >= SmpVersion::SENDER_KEY {
        sender.secure_by_sender(&sender_queue).await
    } else {
        recipient.secure(queue, &public).await
    };
    secured.map_err(|error| Failure::Command("securing a queue", error))?;
    Ok(sender_queue)
}

/// Secures a queue of a relay by its sender.
async fn secure_through(
    context: &Context,
    queue: &RecipientQueue,
    sender: &Client,
    relay: &RelaySession,
) -> Result<SenderQueue, Failure> {
    let kind = ringpost_client::KeyKind::from(context.common.sender_key);
    let key = kind.generate().map_err(|error| Failure::Other(format!("no randomness: {error}")))?;
    let sender_queue = SenderQueue::new(queue.sender_id, key);
    let secured = sender.secure_by_sender_through(relay, &sender_queue).await;
    secured.map_err(|error| Failure::Command("securing a queue through the proxy", error))?;
    Ok(sender_queue)
}

impl Pair {
    async fn new(
        context: &Context,
        index: usize,
        sender: Sender,
        recipient: Client,
        events: Events,
    ) -> Result<Self, Failure> {
        let queue = recipient
            .new_queue(QueueOptions::default())
            .await
            .map_err(|error| Failure::Command("creating a queue", error))?;
        let sender_queue = match &sender.relay {
            None => secure(context, &recipient, &queue, &sender.client).await?,
            Some(relay) => secure_through(context, &queue, &sender.client, relay).await?,
        };
        Ok(Self { index, sender, sender_queue, recipient, events, queue })
    }

    /// Sends and receives until the end, deletes the queue, and gives the account.
    pub async fn run(self, load: Arc<Load>, pace: Pace) -> Verification {
        let Self { index, sender, sender_queue, recipient, events, queue } = self;
        let places = Arc::new(Semaphore::new(load.options.in_flight.get()));
        let (pending, unaccepted) = mpsc::channel(load.options.in_flight.get());
        let (finished, sent) = oneshot::channel();
        let receiver = Receiver {
            load: Arc::clone(&load),
            index,
            client: recipient,
            queue,
            places: Arc::clone(&places),
        };
        let receiving = tokio::spawn(receiver.run(events, sent));
        let accepting = tokio::spawn(accept(Arc::clone(&load), index, unaccepted, Arc::clone(&places)));
        let count = send(&load, index, &sender, &sender_queue, pace, &places, pending).await;
        let rejected = accepting.await.unwrap_or_else(|error| {
            load.context.run.errors.add("loadgen", error);
            BTreeSet::new()
        });
        // The receiver waits for this until it ends.
        let _ = finished.send(Sent { count, rejected });
        receiving.await.unwrap_or_else(|error| {
            load.context.run.errors.add("loadgen", error);
            Verification::default()
        })
    }
}

impl Load {
    pub fn new(context: Arc<Context>, options: Traffic) -> Result<Arc<Self>, Failure> {
        let run = getrandom::u64().map_err(|error| Failure::Other(format!("no randomness: {error}")))?;
        let recorder = || context.recorder();
        Ok(Arc::new(Self {
            bodies: Bodies::new(run, options.body_bytes),
            delivery: recorder(),
            accept: recorder(),
            ack: recorder(),
            lag: recorder(),
            stopped: AtomicBool::new(false),
            stop: Notify::new(),
            context,
            options,
        }))
    }

    /// Lets every pair send no more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.stop.notify_waiters();
    }

    /// Delivery, acceptance and acknowledgement of messages.
    pub fn latencies(&self, open: bool) -> Vec<Latency> {
        let mut latencies = vec![
            self.delivery.summary(
                "delivery",
                if open {
                    "from the time when the message was to be sent to its arrival at the recipient"
                } else {
                    "from the call of SEND to the arrival at the recipient"
                },
            ),
            self.accept.summary("accept", "from the same moment to the router's OK"),
            self.ack.summary("acknowledge", "from an ACK to its answer"),
        ];
        if open {
            latencies.push(self.lag.summary("send lag", "how late this program handed the messages over"));
        }
        latencies
    }

    fn now_ns(&self) -> u64 {
        self.context.run.clock.now_ns()
    }

    fn record(&self, recorder: &Recorder, index: usize, start_ns: u64) {
        if self.context.run.window.contains(start_ns) {
            recorder.record_ns(index, self.now_ns().saturating_sub(start_ns));
        }
    }

    async fn stopped(&self) {
        loop {
            let stop = self.stop.notified();
            tokio::pin!(stop);
            stop.as_mut().enable();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            stop.await;
        }
    }
}

/// After so long without a tick the clock is looked at again.
const TICK_MISSED: Duration = Duration::from_millis(20);

/// Gives the number of messages handed over.
async fn send(
    load: &Load,
    index: usize,
    sender: &Sender,
    queue: &SenderQueue,
    pace: Pace,
    places: &Semaphore,
    pending: mpsc::Sender<Unaccepted>,
) -> u64 {
    let mut body = Vec::new();
    let mut sequence = 0;
    loop {
        let due_ns = match &pace {
            Pace::Closed { messages } if messages.is_some_and(|messages| sequence >= messages) => break,
            Pace::Closed { .. } => None,
            Pace::Open(schedule) => match schedule.at_ns(sequence) {
                None => break,
                Some(at_ns) => {
                    while load.now_ns() < at_ns && !load.stopped.load(Ordering::Relaxed) {
                        tokio::select! {
                            () = schedule.due.notified() => {}
                            () = load.stopped() => {}
                            // The last tick may have come between the look at the clock and the wait.
                            () = tokio::time::sleep(TICK_MISSED) => {}
                        }
                    }
                    Some(at_ns)
                }
            },
        };
        if load.stopped.load(Ordering::Relaxed) {
            break;
        }
        if let Pace::Open(schedule) = &pace
            && load.now_ns() > schedule.give_up_ns
        {
            let unsent = schedule.total().saturating_sub(sequence);
            let text = "messages were due and could not be sent in time: the rate is too high";
            load.context.run.errors.add_many(unsent, "overload", text);
            break;
        }
        match take_place(load, places).await {
            Taken::Place => {}
            Taken::Stopped => break,
            Taken::Stalled => {
                load.context.run.errors.add("stalled", "a message neither arrived nor was refused in time");
                break;
            }
        }
        let now_ns = load.now_ns();
        let sent_at_ns = due_ns.unwrap_or(now_ns);
        load.record(&load.lag, index, sent_at_ns);
        load.bodies.write(Stamp { queue: index as u64, sequence, sent_at_ns }, &mut body);
        match sender.start_send(queue, &body).await {
            Ok(reply) => {
                sequence += 1;
                if pending.send(Unaccepted { sequence: sequence - 1, sent_at_ns, reply }).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                // It never reached the connection.
                load.context.failed("SEND", &error);
                break;
            }
        }
    }
    sequence
}

enum Taken {
    Place,
    Stopped,
    Stalled,
}

async fn take_place(load: &Load, places: &Semaphore) -> Taken {
    if let Ok(place) = places.try_acquire() {
        place.forget();
        return Taken::Place;
    }
    let stall = load.context.common.timeout_secs + load.options.drain_secs;
    tokio::select! {
        place = timeout(stall, places.acquire()) => match place {
            Ok(Ok(place)) => {
                place.forget();
                Taken::Place
            }
            _ => Taken::Stalled,
        },
        () = load.stopped() => Taken::Stopped,
    }
}

/// Waits for the responses in the order of sending. Gives the messages that were not accepted.
async fn accept(
    load: Arc<Load>,
    index: usize,
    mut unaccepted: mpsc::Receiver<Unaccepted>,
    places: Arc<Semaphore>,
) -> BTreeSet<u64> {
    let mut rejected = BTreeSet::new();
    while let Some(Unaccepted { sequence, sent_at_ns, reply }) = unaccepted.recv().await {
        match reply.await {
            Ok(()) => load.record(&load.accept, index, sent_at_ns),
            Err(error) => {
                load.context.failed("SEND", &error);
                // When the router did not answer it may have accepted the message all the same: then its place is free
                // twice, which only matters to a run that has failed already.
                rejected.insert(sequence);
                places.add_permits(1);
                if load.context.run.errors.total() > ERRORS_MAX {
                    load.stop();
                }
            }
        }
    }
    rejected
}

/// A run with so many errors ends early.
const ERRORS_MAX: u64 = 10_000;

struct Receiver {
    load: Arc<Load>,
    index: usize,
    client: Client,
    queue: RecipientQueue,
    places: Arc<Semaphore>,
}

impl Receiver {
    async fn run(self, mut events: Events, mut sent: oneshot::Receiver<Sent>) -> Verification {
        let mut verifier = QueueVerifier::new(self.index as u64);
        let mut total: Option<(Sent, Instant)> = None;
        loop {
            let event = match &total {
                None => tokio::select! {
                    event = events.recv() => event,
                    // The sender's side always reports; if it could not, nothing is known to be sent.
                    done = &mut sent => {
                        let done = done.unwrap_or(Sent { count: 0, rejected: BTreeSet::new() });
                        total = Some((done, Instant::now() + self.load.options.drain_secs));
                        continue;
                    }
                },
                Some((sent, deadline)) => {
                    let complete = verifier.is_complete(sent.count, &sent.rejected);
                    let until = if complete { Instant::now() + GRACE } else { *deadline };
                    tokio::select! {
                        event = events.recv() => event,
                        () = sleep_until(until) => break,
                    }
                }
            };
            match event {
                Some(Event::Message(message)) => self.receive(message, &mut verifier).await,
                Some(Event::End { .. }) => self.fault("END", "the subscription was ended"),
                Some(Event::Deleted { .. }) => self.fault("DELD", "the queue was deleted"),
                Some(event @ (Event::ServiceEnd(_) | Event::ServiceDelivered)) => {
                    self.fault("unexpected event", format_args!("{event:?}"));
                }
                Some(Event::Disconnected(reason)) => {
                    self.fault("disconnected", reason);
                    self.wait_for_sender(&mut total, sent).await;
                    break;
                }
                None => break,
            }
        }
        let sent = total.map_or(Sent { count: 0, rejected: BTreeSet::new() }, |(sent, _)| sent);
        if self.client.disconnected().is_none()
            && let Err(error) = self.client.delete(&self.queue).await
        {
            self.load.context.failed("DEL", &error);
        }
        verifier.finish(sent.count, &sent.rejected)
    }

    /// The connection is gone: nothing more can arrive, but what was sent must be known for the account.
    async fn wait_for_sender(&self, total: &mut Option<(Sent, Instant)>, sent: oneshot::Receiver<Sent>) {
        if total.is_none() {
            self.load.stop();
            let sent = sent.await.unwrap_or(Sent { count: 0, rejected: BTreeSet::new() });
            *total = Some((sent, Instant::now()));
        }
    }

    /// Checks and acknowledges a message, and those that come in response.
    async fn receive(&self, message: Message, verifier: &mut QueueVerifier) {
        let mut next = Some(message);
        while let Some(message) = next.take() {
            let msg_id = message.id;
            match message.open(&self.queue) {
                Err(error) => verifier.unreadable(&error.to_string()),
                Ok(received) => match received.body() {
                    Some(body) => {
                        if let Some(stamp) = verifier.receive(&self.load.bodies, body) {
                            self.load.context.run.count(1);
                            self.load.record(&self.load.delivery, self.index, stamp.sent_at_ns);
                            self.places.add_permits(1);
                        }
                    }
                    None => self.fault("QUOTA", "the queue was full"),
                },
            }
            let acked_at_ns = self.load.now_ns();
            match self.client.ack(&self.queue, &msg_id).await {
                Ok(message) => {
                    self.load.record(&self.load.ack, self.index, acked_at_ns);
                    next = message;
                }
                // The end of the connection is an event of its own.
                Err(ClientError::Closed | ClientError::Transport(_)) => return,
                Err(error) => self.load.context.failed("ACK", &error),
            }
        }
    }

    fn fault(&self, kind: &str, text: impl std::fmt::Display) {
        self.load.context.run.errors.add(kind, format_args!("recipient: {text}"));
    }
}
