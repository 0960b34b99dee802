//! What all tasks of one run share: clock, window, counters, errors, and the watch over both processes.

use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::procfs::{Memory, ProcError, Process};
use crate::stats::{Clock, Errors, Series, Window, as_f64};

/// How often rates are sampled.
const TICK: Duration = Duration::from_millis(100);
/// The progress line changes once in so many ticks.
const TICKS_PER_LINE: u64 = 5;

/// Shared by every task of a run.
#[derive(Debug)]
pub struct Run {
    pub clock: Clock,
    pub window: Window,
    pub errors: Errors,
    /// Operations completed so far, warm-up included.
    operations: AtomicU64,
    phase: Mutex<String>,
    marks: Mutex<Marks>,
    own: Process,
    router: Option<Process>,
    proxy: Option<Process>,
    stop: watch::Sender<bool>,
}

/// Readings at the edges of the window.
#[derive(Debug, Default)]
struct Marks {
    opened: bool,
    closed: bool,
    operations: (u64, u64),
    own_cpu_secs: (f64, f64),
    router_cpu_secs: Option<(f64, f64)>,
    proxy_cpu_secs: Option<(f64, f64)>,
    memory_before: Option<Memory>,
    memory_after: Option<Memory>,
    memory_units: u64,
    memory_unit: &'static str,
}

/// CPU time over the window and memory of the router.
#[derive(Clone, Debug, Serialize)]
pub struct RouterUse {
    pub pid: u32,
    pub name: String,
    pub cpu_secs: f64,
    /// CPU seconds a second: 1 is one busy core.
    pub cores_busy: f64,
    pub cpu_us_per_operation: Option<f64>,
    /// Before the scenario opened anything.
    pub memory_before: Option<Memory>,
    /// While everything it made was still there.
    pub memory_after: Option<Memory>,
    /// What was there at that moment, "connection" or "queue", and how many.
    pub memory_unit: &'static str,
    pub memory_units: u64,
    pub rss_bytes_per_unit: Option<f64>,
    pub pss_bytes_per_unit: Option<f64>,
}

/// CPU time of a proxy over the window.
#[derive(Clone, Debug, Serialize)]
pub struct ProxyUse {
    pub pid: u32,
    pub name: String,
    pub cpu_secs: f64,
    pub cores_busy: f64,
    pub cpu_us_per_operation: Option<f64>,
}

/// The same for this process: to tell whether it was the limit.
#[derive(Clone, Debug, Serialize)]
pub struct OwnUse {
    pub threads: usize,
    pub cpu_secs: f64,
    pub cores_busy: f64,
    pub cpu_us_per_operation: Option<f64>,
    pub cores_of_machine: usize,
    /// The threads of the load generator had hardly any time left: a faster one might show higher numbers.
    pub is_limit: bool,
    /// Router and load generator together used all cores of this machine.
    pub machine_is_full: bool,
}

/// What the window measured.
#[derive(Clone, Debug)]
pub struct Measured {
    pub window_secs: f64,
    pub operations: u64,
    pub own: OwnUse,
    pub router: Option<RouterUse>,
    pub proxy: Option<ProxyUse>,
}

/// From this share of their time on, threads count as busy all the time.
const BUSY_SHARE: f64 = 0.9;

impl Run {
    /// Watches a router, and a second one that messages go through first.
    pub fn new(router: Option<Process>, proxy: Option<Process>) -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::start(),
            window: Window::default(),
            errors: Errors::default(),
            operations: AtomicU64::new(0),
            phase: Mutex::default(),
            marks: Mutex::default(),
            own: Process::own(),
            router,
            proxy,
            stop: watch::Sender::new(false),
        })
    }

    /// Counts operations that ended now.
    pub fn count(&self, operations: u64) {
        self.operations.fetch_add(operations, Ordering::Relaxed);
    }

    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// What the progress line says.
    pub fn set_phase(&self, phase: impl Into<String>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase.into();
    }

    /// Asks every task to come to its end: the user interrupted the run.
    pub fn interrupt(&self) {
        self.stop.send_replace(true);
    }

    pub fn is_interrupted(&self) -> bool {
        *self.stop.borrow()
    }

    /// Ends when the run is interrupted.
    pub async fn interrupted(&self) {
        // The sender lives in self: waiting cannot fail.
        let _ = self.stop.subscribe().wait_for(|&stop| stop).await;
    }

    /// Sleeps, unless the run is interrupted before.
    pub async fn sleep(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.interrupted() => {}
        }
    }

    /// Reads the router's memory before anything is opened.
    pub fn mark_before(&self) -> Result<(), ProcError> {
        if let Some(router) = self.router {
            let memory = router.memory()?;
            self.marks().memory_before = Some(memory);
        }
        self.proxy.map_or(Ok(()), |proxy| proxy.cpu_secs().map(drop))
    }

    /// Reads the router's memory while `units` of `unit` are there: connections or queues. With 0 the memory is what is
    /// left when all is over.
    pub fn mark_after(&self, units: u64, unit: &'static str) {
        let memory = self.router.and_then(|router| self.read(router.memory()));
        let mut marks = self.marks();
        marks.memory_after = memory;
        marks.memory_units = units;
        marks.memory_unit = unit;
    }

    /// Says beforehand which time is to count; it is still opened and closed when it comes.
    pub fn plan_window(&self, start_ns: u64, end_ns: u64) {
        self.window.open(start_ns);
        self.window.close(end_ns);
    }

    /// Begins the window now, unless it was planned.
    pub fn open_window(&self) {
        let own = self.read(self.own.cpu_secs()).unwrap_or(0.0);
        let router = self.router.and_then(|router| self.read(router.cpu_secs()));
        let proxy = self.proxy.and_then(|proxy| self.read(proxy.cpu_secs()));
        let mut marks = self.marks();
        marks.proxy_cpu_secs = proxy.map(|secs| (secs, secs));
        marks.own_cpu_secs = (own, own);
        marks.router_cpu_secs = router.map(|secs| (secs, secs));
        marks.operations = (self.operations(), self.operations());
        marks.opened = true;
        if self.window.bounds_ns().is_none() {
            self.window.open(self.clock.now_ns());
        }
    }

    /// Ends the window now, or when it was planned to end before. A second call changes nothing.
    pub fn close_window(&self) {
        if std::mem::replace(&mut self.marks().closed, true) {
            return;
        }
        let now_ns = self.clock.now_ns();
        self.window.close(self.window.bounds_ns().map_or(now_ns, |(_, end_ns)| end_ns.min(now_ns)));
        let operations = self.operations();
        let own = self.read(self.own.cpu_secs());
        let router = self.router.and_then(|router| self.read(router.cpu_secs()));
        let proxy = self.proxy.and_then(|proxy| self.read(proxy.cpu_secs()));
        let mut marks = self.marks();
        marks.proxy_cpu_secs = marks.proxy_cpu_secs.zip(proxy).map(|((start, _), end)| (start, end));
        marks.operations.1 = operations;
        if let Some(own) = own {
            marks.own_cpu_secs.1 = own;
        }
        marks.router_cpu_secs = marks.router_cpu_secs.zip(router).map(|((start, _), end)| (start, end));
    }

    /// What lies between [`Run::open_window`] and [`Run::close_window`]; none if the run ended before.
    pub fn measured(&self, threads: usize) -> Option<Measured> {
        let (start_ns, end_ns) = self.window.bounds_ns()?;
        let window_secs = as_f64((end_ns - start_ns).max(1)) / 1e9;
        let marks = self.marks();
        if !(marks.opened && marks.closed) {
            return None;
        }
        let operations = marks.operations.1 - marks.operations.0;
        let per_operation = |cpu_secs: f64| (operations > 0).then(|| cpu_secs * 1e6 / as_f64(operations));
        let own_secs = marks.own_cpu_secs.1 - marks.own_cpu_secs.0;
        let router_secs = marks.router_cpu_secs.map(|(start, end)| end - start);
        let proxy_secs = marks.proxy_cpu_secs.map(|(start, end)| end - start);
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let full = |secs: f64, of: usize| secs >= BUSY_SHARE * window_secs * as_f64(of as u64);
        let own = OwnUse {
            threads,
            cpu_secs: own_secs,
            cores_busy: own_secs / window_secs,
            cpu_us_per_operation: per_operation(own_secs),
            cores_of_machine: cores,
            is_limit: full(own_secs, threads.min(cores)),
            machine_is_full: full(own_secs + router_secs.unwrap_or(0.0) + proxy_secs.unwrap_or(0.0), cores),
        };
        let router = self.router.zip(router_secs).map(|(router, cpu_secs)| {
            let units = marks.memory_units;
            let per_unit = |bytes: fn(&Memory) -> Option<u64>| {
                let before = bytes(marks.memory_before.as_ref()?)?;
                let after = bytes(marks.memory_after.as_ref()?)?;
                (units > 0).then(|| (as_f64(after) - as_f64(before)) / as_f64(units))
            };
            RouterUse {
                pid: router.pid(),
                name: router.name().unwrap_or_default(),
                cpu_secs,
                cores_busy: cpu_secs / window_secs,
                cpu_us_per_operation: per_operation(cpu_secs),
                memory_before: marks.memory_before,
                memory_after: marks.memory_after,
                memory_unit: marks.memory_unit,
                memory_units: units,
                rss_bytes_per_unit: per_unit(|memory| Some(memory.rss_bytes)),
                pss_bytes_per_unit: per_unit(|memory| memory.pss_bytes),
            }
        });
        drop(marks);
        let proxy = self.proxy.zip(proxy_secs).map(|(proxy, cpu_secs)| ProxyUse {
            pid: proxy.pid(),
            name: proxy.name().unwrap_or_default(),
            cpu_secs,
            cores_busy: cpu_secs / window_secs,
            cpu_us_per_operation: per_operation(cpu_secs),
        });
        Some(Measured { window_secs, operations, own, router, proxy })
    }

    fn marks(&self) -> std::sync::MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, reading: Result<T, ProcError>) -> Option<T> {
        reading.map_err(|error| self.errors.add("proc", error)).ok()
    }
}

/// A thread of its own, so that rates are sampled in time even when all worker threads are busy.
#[derive(Debug)]
pub struct Monitor {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Series>,
}

impl Monitor {
    /// The progress line goes to the standard error stream if that is a terminal.
    pub fn start(run: Arc<Run>, unit: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || watch_run(&run, unit, &stopped));
        Self { stop, thread }
    }

    /// Stops, clears the progress line, and gives what was sampled.
    pub fn finish(self) -> Series {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn watch_run(run: &Run, unit: &str, stop: &AtomicBool) -> Series {
    let show = std::io::stderr().is_terminal();
    let mut series = Series::default();
    let mut line_before = (run.clock.now_ns(), 0);
    let mut tick: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(TICK);
        tick += 1;
        let (now_ns, operations) = (run.clock.now_ns(), run.operations());
        if run.window.contains(now_ns) {
            let marks = run.marks();
            let start_ns = run.window.start_ns().min(now_ns);
            series.offer(as_f64(now_ns - start_ns) / 1e9, operations.saturating_sub(marks.operations.0));
        }
        if show && tick.is_multiple_of(TICKS_PER_LINE) {
            let secs = as_f64((now_ns - line_before.0).max(1)) / 1e9;
            let rate = as_f64(operations.saturating_sub(line_before.1)) / secs;
            line_before = (now_ns, operations);
            let errors = run.errors.total();
            let phase = run.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let at = as_f64(now_ns) / 1e9;
            let line = format!("{at:6.1} s  {phase}: {operations} {unit}s, {rate:.0}/s, {errors} errors");
            // A progress line that cannot be written is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
        }
    }
    if show {
        let _ = write!(std::io::stderr(), "\r\x1b[2K");
    }
    series
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_only_what_lies_in_the_window() {
        let run = Run::new(Some(Process::own()), None);
        run.mark_before().unwrap();
        assert!(run.measured(2).is_none());
        run.count(5);
        run.open_window();
        run.count(7);
        run.close_window();
        run.count(11);
        run.close_window();
        run.mark_after(4, "queue");
        let measured = run.measured(2).unwrap();
        assert_eq!(measured.operations, 7);
        let router = measured.router.unwrap();
        assert_eq!(router.memory_units, 4);
        assert!(router.rss_bytes_per_unit.is_some() && router.memory_after.is_some());
        assert!(router.cpu_us_per_operation.is_some());
    }

    #[test]
    fn without_a_pid_there_is_no_router_use() {
        let run = Run::new(None, None);
        run.mark_before().unwrap();
        run.open_window();
        run.close_window();
        let measured = run.measured(1).unwrap();
        assert!(measured.router.is_none());
        assert_eq!(measured.own.cpu_us_per_operation, None);
    }

    #[test]
    fn a_wrong_pid_is_told_at_once() {
        assert!(Run::new(Some(Process::new(u32::MAX)), None).mark_before().is_err());
    }

    #[test]
    fn the_monitor_samples_the_window() {
        let run = Run::new(None, None);
        let monitor = Monitor::start(Arc::clone(&run), "message");
        run.count(100);
        run.open_window();
        run.count(50);
        thread::sleep(TICK * 3);
        run.close_window();
        let rates = monitor.finish().rates(10);
        assert!(rates.first().is_none_or(|rate| rate.per_sec * rate.at_secs < 51.0), "{rates:?}");
    }

    #[tokio::test]
    async fn an_interruption_ends_every_sleep() {
        let run = Run::new(None, None);
        let sleeper = tokio::spawn({
            let run = Arc::clone(&run);
            async move { run.sleep(Duration::from_secs(3600)).await }
        });
        run.interrupt();
        sleeper.await.unwrap();
        assert!(run.is_interrupted());
        run.interrupted().await;
    }
}
