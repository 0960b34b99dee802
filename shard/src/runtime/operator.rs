//! The operator's questions and orders: from any thread to the shards, and back.
//!
//! Each shard has a line of its own, a bounded queue and a bell, and one task that answers. Questions come seldom, so the
//! mesh and its tasks know nothing of them; what takes long is done in small steps.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::queue::ArrayQueue;
use futures_lite::future::yield_now;
use ringpost_store::{IdHasher, Log, PartitionMap, QueueId};

use super::InactiveClients;
use super::shard::Shard;
use crate::aliases::Aliases;
use crate::counters::{Counters, ListenerCounts};
use crate::executor::{Bell, Ear, sleep};
use crate::links::LinkDirectory;
use crate::service::{
    ACTIVITY_STEP_QUEUES, ActiveQueue, DayCounts, QueueAction, QueueReport, Refused, ServiceChange,
    SubscriptionReport,
};

/// Questions that wait for a shard. Few ask, each one at a time.
const LINE_SLOTS: usize = 64;
/// A shard that has not answered by then hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks whether the log is durable, or takes records again.
const LOG_LOOK_EVERY: Duration = Duration::from_millis(1);
/// Connections described before other tasks get their turn.
const CLIENTS_STEP: usize = 256;
/// Connections looked at before other tasks get their turn, if nothing is said of them.
const COUNT_STEP: usize = 512;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    #[error("the router is stopping")]
    Stopping,
    #[error("the router is busy with other questions")]
    Busy,
    #[error("the router did not answer in time")]
    Late,
    #[error("the router's disk is full")]
    NoSpace,
    #[error("the queue could not be changed")]
    Internal,
}

/// A connection of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientReport {
    /// Different for each connection since the start, as long as a shard has accepted fewer than 2^32.
    pub id: u64,
    /// Empty until the handshake is done.
    pub session_id: Vec<u8>,
    pub is_open: bool,
    pub created_at: SystemTime,
    pub last_received: SystemTime,
    pub last_sent: SystemTime,
    /// Queues that it subscribes, as recipient or as notifier.
    pub subscriptions: usize,
}

/// What may change while the router runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub service: ServiceChange,
    pub inactive: Option<InactiveClients>,
}

/// What a listener has accepted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerReport {
    pub accepted: u64,
    pub closed: u64,
}

enum Question {
    Queue {
        id: QueueId,
        action: QueueAction,
        answer: Sender<Result<Option<QueueReport>, OperatorError>>,
    },
    /// Answered in pieces.
    Clients {
        answer: Sender<Vec<ClientReport>>,
    },
    Subscriptions {
        answer: Sender<SubscriptionReport>,
    },
    ActiveCounts {
        answer: Sender<(DayCounts, Option<DayCounts>)>,
    },
    /// Answered in pieces.
    ActiveQueues {
        answer: Sender<Vec<ActiveQueue>>,
    },
    Change {
        change: Box<Change>,
        answer: Sender<()>,
    },
}

/// A shard's end of its line.
pub(super) struct Line {
    questions: ArrayQueue<Question>,
    bell: Arc<Bell>,
    /// Nobody answers any more.
    closed: AtomicBool,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("waiting", &self.questions.len()).finish_non_exhaustive()
    }
}

impl Line {
    pub fn new(bell: Arc<Bell>) -> Self {
        Self { questions: ArrayQueue::new(LINE_SLOTS), bell, closed: AtomicBool::new(false) }
    }

    /// Drops the questions, and with them the ends that their answers would come from.
    fn forget(&self) {
        while self.questions.pop().is_some() {}
    }
}

/// The active queues of all shards at their end.
pub(super) type LastActive = Mutex<Vec<ActiveQueue>>;

#[derive(Debug)]
pub(super) struct Shared {
    pub lines: Vec<Arc<Line>>,
    pub map: PartitionMap,
    pub hasher: IdHasher,
    pub aliases: Arc<Aliases>,
    pub links: Arc<LinkDirectory>,
    pub counters: Vec<Arc<Counters>>,
    /// By shard, then by listener.
    pub listeners: Vec<Arc<[ListenerCounts]>>,
    pub last_active: Arc<LastActive>,
}

/// Asks the shards of a router, from any thread but theirs: it blocks until they have answered.
#[derive(Clone, Debug)]
pub struct Operator(pub(super) Arc<Shared>);

impl Operator {
    /// Does something to the queue with this sender ID, link ID or recipient ID. What was changed is as durable as any
    /// answer of the router. None: there is no such queue.
    pub fn queue(&self, id: &QueueId, action: &QueueAction) -> Result<Option<QueueReport>, OperatorError> {
        let shared = &self.0;
        let hash = shared.hasher.hash(id);
        let home = shared.map.home(shared.aliases.partition(hash));
        let home_of_link = shared.map.home(shared.links.partition(hash));
        let mut homes = vec![home, home_of_link];
        homes.dedup();
        for home in homes {
            let (answer, answers) = mpsc::channel();
            self.ask(home, Question::Queue { id: *id, action: action.clone(), answer })?;
            if let Some(report) = receive(&answers)?? {
                return Ok(Some(report));
            }
        }
        Ok(None)
    }

    /// The connections of all shards, in pieces.
    pub fn clients(&self, mut take: impl FnMut(Vec<ClientReport>)) -> Result<(), OperatorError> {
        for shard in 0..self.shards() {
            let (answer, answers) = mpsc::channel();
            self.ask(shard, Question::Clients { answer })?;
            receive_all(&answers, &mut take)?;
        }
        Ok(())
    }

    /// Who subscribes and receives now: without a description of each connection.
    pub fn subscriptions(&self) -> Result<SubscriptionReport, OperatorError> {
        let mut report = SubscriptionReport::default();
        for shard in 0..self.shards() {
            let (answer, answers) = mpsc::channel();
            self.ask(shard, Question::Subscriptions { answer })?;
            report.add(&receive(&answers)?);
        }
        Ok(report)
    }

    /// The counts of active queues of this day so far, and those of the day before if the router ran when it ended.
    pub fn active_counts(&self) -> Result<(DayCounts, Option<DayCounts>), OperatorError> {
        let mut now = DayCounts::default();
        let mut ended: Option<DayCounts> = None;
        for shard in 0..self.shards() {
            let (answer, answers) = mpsc::channel();
            self.ask(shard, Question::ActiveCounts { answer })?;
            let (of_shard, ended_of_shard) = receive(&answers)?;
            now.day = now.day.max(of_shard.day);
            now.all += of_shard.all;
            now.notified += of_shard.notified;
            if let Some(counts) = ended_of_shard {
                let sum = ended.get_or_insert(DayCounts { day: counts.day, ..DayCounts::default() });
                sum.all += counts.all;
                sum.notified += counts.notified;
            }
        }
        Ok((now, ended))
    }

    /// Queues that were active in this day, week or month; of a router that has stopped, as they were at its end.
    pub fn active_queues(&self) -> Result<Vec<ActiveQueue>, OperatorError> {
        let mut active = Vec::new();
        for shard in 0..self.shards() {
            let (answer, answers) = mpsc::channel();
            self.ask(shard, Question::ActiveQueues { answer })?;
            receive_all(&answers, &mut |mut some| active.append(&mut some))?;
        }
        Ok(active)
    }

    /// The same when all shards have stopped.
    pub fn last_active_queues(&self) -> Vec<ActiveQueue> {
        std::mem::take(&mut *self.0.last_active.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what may change while the router runs, on all shards one after the other.
    pub fn change(&self, change: &Change) -> Result<(), OperatorError> {
        for shard in 0..self.shards() {
            let (answer, answers) = mpsc::channel();
            self.ask(shard, Question::Change { change: Box::new(change.clone()), answer })?;
            receive(&answers)?;
        }
        Ok(())
    }

    pub fn shards(&self) -> usize {
        self.0.lines.len()
    }

    /// Of all shards, added up; of those that end in `_max` the largest.
    pub fn counter_sums(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for shard in self.counters() {
            for (place, (name, value)) in shard.into_iter().enumerate() {
                match sums.get_mut(place) {
                    Some((_, sum)) if name.ends_with("_max") => *sum = value.max(*sum),
                    Some((_, sum)) => *sum += value,
                    None => sums.push((name, value)),
                }
            }
        }
        sums
    }

    /// By shard.
    pub fn counters(&self) -> Vec<Vec<(&'static str, u64)>> {
        self.0.counters.iter().map(|counters| counters.values()).collect()
    }

    /// Of all shards, by listener.
    pub fn listeners(&self) -> Vec<ListenerReport> {
        let mut sums: Vec<ListenerReport> = Vec::new();
        for shard in &self.0.listeners {
            sums.resize(shard.len(), ListenerReport::default());
            for (sum, counts) in sums.iter_mut().zip(shard.iter()) {
                sum.accepted += counts.accepted.value();
                sum.closed += counts.closed.value();
            }
        }
        sums
    }

    fn ask(&self, shard: usize, question: Question) -> Result<(), OperatorError> {
        let line = self.0.lines.get(shard).ok_or(OperatorError::Internal)?;
        line.questions.push(question).map_err(|_| OperatorError::Busy)?;
        line.bell.ring();
        // The shard may have ended meanwhile, and looks no more.
        if line.closed.load(Ordering::SeqCst) {
            line.forget();
        }
        Ok(())
    }
}

fn receive<T>(answers: &mpsc::Receiver<T>) -> Result<T, OperatorError> {
    answers.recv_timeout(ANSWER_WITHIN).map_err(|error| match error {
        RecvTimeoutError::Timeout => OperatorError::Late,
        RecvTimeoutError::Disconnected => OperatorError::Stopping,
    })
}

/// Takes pieces until an empty one, which is the last.
fn receive_all<T>(
    answers: &mpsc::Receiver<Vec<T>>,
    take: &mut impl FnMut(Vec<T>),
) -> Result<(), OperatorError> {
    loop {
        let some = receive(answers)?;
        if some.is_empty() {
            return Ok(());
        }
        take(some);
    }
}

/// Answers questions until the task is cancelled. Who asks may be gone.
pub(super) async fn answer(shard: Rc<Shard>, line: Arc<Line>) {
    let ear = Ear::new(Arc::clone(&line.bell));
    // Whoever asks a shard that has ended is told so.
    let _ends = Ends(Arc::clone(&line));
    loop {
        while let Some(question) = line.questions.pop() {
            match question {
                Question::Queue { id, action, answer } => {
                    let _ = answer.send(change_queue(&shard, &id, &action).await);
                }
                Question::Clients { answer } => describe_clients(&shard, &answer).await,
                Question::Subscriptions { answer } => {
                    let report = shard.service.borrow().subscription_report(Shard::now_secs());
                    let _ = answer.send(count_clients(&shard, report).await);
                }
                Question::ActiveCounts { answer } => {
                    let mut service = shard.service.borrow_mut();
                    service.note_time(Shard::now_secs());
                    let _ = answer.send(service.active_counts());
                }
                Question::ActiveQueues { answer } => list_active(&shard, &answer).await,
                Question::Change { change, answer } => {
                    shard.service.borrow_mut().change(change.service);
                    shard.inactive.set(change.inactive);
                    let _ = answer.send(());
                }
            }
        }
        ear.listen().await;
    }
}

struct Ends(Arc<Line>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.forget();
    }
}

async fn change_queue(
    shard: &Shard,
    id: &QueueId,
    action: &QueueAction,
) -> Result<Option<QueueReport>, OperatorError> {
    let (report, position) = loop {
        let tried = {
            let mut service = shard.service.borrow_mut();
            service.note_time(Shard::now_secs());
            let tried = service.operate(id, action);
            shard.after_service(&mut service);
            tried
        };
        match tried {
            Ok(None) => return Ok(None),
            Ok(Some(done)) => break done,
            Err(Refused::Later) => sleep(LOG_LOOK_EVERY).await,
            Err(Refused::NoSpace) => return Err(OperatorError::NoSpace),
            Err(Refused::Internal) => return Err(OperatorError::Internal),
        }
    };
    while shard.service.borrow().log().durable_up_to() < position {
        sleep(LOG_LOOK_EVERY).await;
    }
    Ok(Some(report))
}

async fn describe_clients(shard: &Shard, answer: &Sender<Vec<ClientReport>>) {
    let (now, time) = (Instant::now(), SystemTime::now());
    let at =
        |instant: Instant| time.checked_sub(now.saturating_duration_since(instant)).unwrap_or(UNIX_EPOCH);
    let mut place = 0;
    while place < shard.connections.borrow().capacity() {
        let step: Vec<ClientReport> = {
            let connections = shard.connections.borrow();
            let places = place..connections.capacity().min(place + CLIENTS_STEP);
            let clients =
                places.filter_map(|place| connections.get(place)).filter(|connection| !connection.is_relay);
            let report = |connection: &Rc<super::connection::Connection>| {
                let session = connection.session.get();
                ClientReport {
                    id: u64::from(connection.conn.generation) << 8 | u64::from(connection.conn.shard),
                    session_id: session
                        .map(|session| session.session_id.as_ref().to_vec())
                        .unwrap_or_default(),
                    is_open: connection.closed().is_none(),
                    created_at: at(connection.created_at),
                    last_received: at(connection.last_received.get()),
                    last_sent: at(connection.last_sent.get()),
                    subscriptions: session.map_or(0, |session| session.subscription_count()),
                }
            };
            clients.map(report).collect()
        };
        place += CLIENTS_STEP;
        if !step.is_empty() && answer.send(step).is_err() {
            return;
        }
        yield_now().await;
    }
    let _ = answer.send(Vec::new());
}

/// Counts the connections of clients by what they have.
async fn count_clients(shard: &Shard, mut report: SubscriptionReport) -> SubscriptionReport {
    let mut place = 0;
    while place < shard.connections.borrow().capacity() {
        {
            let connections = shard.connections.borrow();
            let places = place..place + COUNT_STEP;
            let clients =
                places.filter_map(|place| connections.get(place)).filter(|connection| !connection.is_relay);
            for session in clients.filter_map(|connection| connection.session.get()) {
                report.subscribed_clients += u64::from(session.subscribes_queues());
                report.notified_clients += u64::from(session.is_notified());
                report.pending_clients += u64::from(session.has_pending());
            }
        }
        place += COUNT_STEP;
        yield_now().await;
    }
    report
}

async fn list_active(shard: &Shard, answer: &Sender<Vec<ActiveQueue>>) {
    let mut place = 0;
    loop {
        let (step, places) = {
            let mut service = shard.service.borrow_mut();
            service.note_time(Shard::now_secs());
            let end = place + ACTIVITY_STEP_QUEUES;
            (service.active_queues(place..end), service.store().places())
        };
        if !step.is_empty() && answer.send(step).is_err() {
            return;
        }
        place += ACTIVITY_STEP_QUEUES;
        if place >= places {
            break;
        }
        yield_now().await;
    }
    let _ = answer.send(Vec::new());
}

/// Leaves the active queues of a shard that ends.
pub(super) fn leave_active(shard: &Shard, last_active: &LastActive) {
    let mut active = shard.service.borrow().active_queues(0..u32::MAX);
    last_active.lock().unwrap_or_else(PoisonError::into_inner).append(&mut active);
}
