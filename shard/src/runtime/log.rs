//! Driving a shard's log: operations to the disk, completions back, and what waited for them on its way.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::{or, yield_now};
use ringpost_store::disk::HeapBuffers;
use ringpost_store::log::{ReadRequest, SegmentLog};

use super::disk::ShardDisk;
use super::shard::Shard;
use super::signal::Signal;
use super::state::DiskCompletion;
use crate::executor::{self, sleep};
use crate::service::Fetch;

/// After a commit of several messages the next one waits as long as that took, so that it is larger, but not longer than this.
const GATHER_MAX: Duration = Duration::from_millis(3);
/// A commit of fewer bytes that answers wait for is followed at once by the next: there is time enough, and waiting would
/// only be latency.
const GATHER_FROM_BYTES: u64 = 2 * 16 * 1024;
/// Bodies that a shard reads at the same time.
const READS_MAX: usize = 16;
/// A stop waits this long for the disk.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// What the tasks of a shard say to the one that drives the log.
#[derive(Debug)]
pub struct LogDesk {
    started: Instant,
    /// Something was appended or completed.
    moved: Signal,
    completions: RefCell<Vec<DiskCompletion>>,
    under_way: Cell<usize>,
    fetches: RefCell<VecDeque<Fetch>>,
    fetch_wanted: Signal,
    reading: Cell<usize>,
    stops: Cell<bool>,
    stopped: Signal,
}

impl Default for LogDesk {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            moved: Signal::default(),
            completions: RefCell::default(),
            under_way: Cell::new(0),
            fetches: RefCell::default(),
            fetch_wanted: Signal::default(),
            reading: Cell::new(0),
            stops: Cell::new(false),
            stopped: Signal::default(),
        }
    }
}

impl LogDesk {
    /// Something was appended.
    pub fn appended(&self) {
        self.moved.set();
    }

    pub fn fetch(&self, fetches: Vec<Fetch>) {
        self.fetches.borrow_mut().extend(fetches);
        self.fetch_wanted.set();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Brings everything to the disk and ends the driver.
    pub async fn stop(&self) {
        self.stops.set(true);
        self.moved.set();
        or(self.stopped.wait(), async {
            sleep(FLUSH_MAX).await;
        })
        .await;
    }
}

/// Runs until [`LogDesk::stop`], or until the log has failed.
pub async fn drive(shard: Rc<Shard>, disk: Rc<ShardDisk>) {
    let mut commits = Commits::default();
    loop {
        let desk = &shard.log;
        let Some(wake) = step(&shard, &disk, &mut commits) else { break };
        or(desk.moved.wait(), sleep(wake)).await;
        yield_now().await;
    }
    shard.log.stopped.set();
}

/// Times of commits.
#[derive(Debug, Default)]
struct Commits {
    began: Option<Instant>,
    gather_until: Option<Instant>,
    /// What had been appended in all when the commit under way and the one before it began.
    appended_bytes: u64,
    carries_bytes: u64,
}

impl Commits {
    /// Notes whether a commit of the log is under way.
    fn note(&mut self, log: &SegmentLog<HeapBuffers>, shard: &Shard) {
        let appended_bytes = log.counts().appended_bytes;
        match (self.began, log.is_committing()) {
            (None, true) => {
                self.began = Some(Instant::now());
                self.carries_bytes = appended_bytes - self.appended_bytes;
                self.appended_bytes = appended_bytes;
            }
            (Some(began), false) => {
                let took = began.elapsed();
                self.began = None;
                let gathers = self.carries_bytes >= GATHER_FROM_BYTES || !log.is_awaited();
                self.gather_until = gathers.then(|| Instant::now() + took.min(GATHER_MAX));
                let micros = usize::try_from(took.as_micros()).unwrap_or(usize::MAX);
                shard.counters.log_commits.add(1);
                shard.counters.log_commit_us.add(micros);
                shard.counters.log_commit_us_max.raise(micros);
            }
            _ => {}
        }
    }

    /// How long the next commit should still wait for more.
    fn gathers(&self) -> Option<Duration> {
        let left = self.gather_until?.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero())
    }
}

/// One step of the log. Gives how long it may wait for the next; None: it has ended.
fn step(shard: &Rc<Shard>, disk: &Rc<ShardDisk>, commits: &mut Commits) -> Option<Duration> {
    let desk = &shard.log;
    let began = Instant::now();
    let mut requests = Vec::new();
    let mut service = shard.service.borrow_mut();
    let (log, store) = service.log_and_store();
    let log = log.segments_mut()?;
    let completions = std::mem::take(&mut *desk.completions.borrow_mut());
    let has_completed = !completions.is_empty();
    for completion in completions {
        log.complete(completion);
    }
    commits.note(log, shard);
    if desk.stops.get() {
        log.flush();
    }
    let gathers =
        if log.is_committing() || !log.has_pending() || desk.stops.get() { None } else { commits.gathers() };
    if gathers.is_none() {
        log.advance(desk.now_ms(), store);
    }
    requests.extend(std::iter::from_fn(|| log.next_request()));
    commits.note(log, shard);
    let failure = log.failure().map(ToOwned::to_owned);
    let is_flushed = log.is_flushed() && requests.is_empty() && desk.under_way.get() == 0;
    let wake = gathers.or_else(|| {
        let wake_ms = log.next_wake_ms()?;
        Some(Duration::from_millis(wake_ms.saturating_sub(desk.now_ms()).max(1)))
    });
    count(shard, log.counts());
    if has_completed {
        service.log_moved();
        shard.after_service(&mut service);
    }
    drop(service);
    count_step(shard, began.elapsed());
    if let Some(failure) = failure {
        shard.stop.fail_log(failure);
        return None;
    }
    desk.under_way.set(desk.under_way.get() + requests.len());
    // A task runs at once until it first waits: nothing may be borrowed here.
    for request in requests {
        let (shard, disk) = (Rc::clone(shard), Rc::clone(disk));
        executor::spawn_local(async move {
            let completion = disk.carry_out(request).await;
            let desk = &shard.log;
            desk.completions.borrow_mut().push(completion);
            desk.under_way.set(desk.under_way.get() - 1);
            desk.moved.set();
        })
        .detach();
    }
    if desk.stops.get() && is_flushed {
        return None;
    }
    Some(wake.unwrap_or(IDLE))
}

/// Between two looks at a log that has nothing to do.
const IDLE: Duration = Duration::from_secs(1);

fn count(shard: &Shard, counts: &ringpost_store::log::Counts) {
    let set = |count: &crate::counters::Count, value: u64| {
        count.set(usize::try_from(value).unwrap_or(usize::MAX));
    };
    let counters = &shard.counters;
    set(&counters.log_appended_bytes, counts.appended_bytes);
    set(&counters.log_written_bytes, counts.written_bytes);
    set(&counters.log_image_bytes, counts.image_bytes);
    set(&counters.log_punched_bytes, counts.punched_bytes);
    set(&counters.log_rounds, counts.rounds);
    set(&counters.log_busy, counts.refused_busy);
}

/// How long the shard did nothing but this.
fn count_step(shard: &Shard, took: Duration) {
    let micros = usize::try_from(took.as_micros()).unwrap_or(usize::MAX);
    let counters = &shard.counters;
    match micros {
        0..=100 => &counters.log_steps_within_100_us,
        101..=1_000 => &counters.log_steps_within_1_ms,
        1_001..=5_000 => &counters.log_steps_within_5_ms,
        _ => &counters.log_steps_over_5_ms,
    }
    .add(1);
    counters.log_step_us.add(micros);
    counters.log_step_us_max.raise(micros);
}

/// Reads bodies that are wanted, some at the same time.
pub async fn read_bodies(shard: Rc<Shard>, disk: Rc<ShardDisk>) {
    loop {
        let desk = &shard.log;
        if desk.reading.get() < READS_MAX {
            let fetch = desk.fetches.borrow_mut().pop_front();
            if let Some(fetch) = fetch {
                desk.reading.set(desk.reading.get() + 1);
                let (shard, disk) = (Rc::clone(&shard), Rc::clone(&disk));
                executor::spawn_local(async move {
                    read_body(&shard, &disk, &fetch).await;
                    shard.log.reading.set(shard.log.reading.get() - 1);
                    shard.log.fetch_wanted.set();
                })
                .detach();
                continue;
            }
        }
        desk.fetch_wanted.wait().await;
    }
}

async fn read_body(shard: &Shard, disk: &ShardDisk, fetch: &Fetch) {
    for is_last in [false, true] {
        // The file of a message that has left its queue meanwhile may be gone, or be another.
        let is_wanted = shard.service.borrow().is_wanted(fetch);
        let read = if is_wanted { Some(disk.read(&fetch.request).await) } else { None };
        let is_wanted = shard.service.borrow().is_wanted(fetch);
        let blocks: &[u8] = match &read {
            Some(Ok(blocks)) if blocks.len() == fetch.request.bytes => blocks,
            // The message is in its queue, and its file is not what it was: nothing is known of the others either.
            Some(Ok(blocks)) if is_wanted => {
                let ReadRequest { file, offset, bytes, .. } = fetch.request;
                let got = blocks.len();
                return shard
                    .stop
                    .fail_log(format!("{file} was cut off: {got} bytes at {offset} instead of {bytes}"));
            }
            Some(Err(error)) if is_wanted => {
                return shard.stop.fail_log(format!("reading {}: {error}", fetch.request.file));
            }
            _ => &[],
        };
        let mut service = shard.service.borrow_mut();
        let is_done = service.fetched(fetch, blocks, is_last);
        shard.after_service(&mut service);
        if is_done {
            return;
        }
    }
}
