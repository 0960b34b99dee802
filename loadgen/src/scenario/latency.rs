//! Messages at a fixed rate. Latency counts from the time when a message was to be sent, so a router that stalls is
//! charged for all messages that had to wait ("coordinated omission").

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::pair::{Load, Pace, Schedule, make_pairs};
use super::{Context, Failure, Outcome, panicked};
use crate::cli::LatencyOptions;
use crate::run::Run;
use crate::stats::as_f64;
use crate::verify::Verification;

/// Before the first message is due.
const LEAD: Duration = Duration::from_millis(50);

pub async fn run(context: Arc<Context>, options: LatencyOptions) -> Result<Outcome, Failure> {
    let LatencyOptions { traffic, rate, duration_secs, .. } = options;
    let pairs = make_pairs(&context, traffic.pairs.get(), None).await?;
    let load = Load::new(Arc::clone(&context), traffic)?;
    let run = &context.run;
    let units = 2 * pairs.len() as u64;

    let every_ns = 1e9 / rate;
    let start_ns = run.clock.now_ns() + nanos(LEAD);
    let window_ns = start_ns + nanos(context.warmup);
    let end_ns = window_ns + nanos(duration_secs);
    run.plan_window(window_ns, end_ns);
    let bells: Vec<_> = pairs.iter().map(|_| Arc::new(Notify::new())).collect();
    let pacer = Pacer::start(Arc::clone(run), bells.clone(), start_ns, every_ns, end_ns);
    let mut tasks = JoinSet::new();
    for (index, (pair, due)) in pairs.into_iter().zip(&bells).enumerate() {
        // The pairs take turns.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let first_ns = start_ns + (as_f64(index as u64) * every_ns) as u64;
        let schedule = Schedule {
            first_ns,
            every_ns: every_ns * as_f64(bells.len() as u64),
            end_ns,
            give_up_ns: end_ns + nanos(load.options.drain_secs),
            due: Arc::clone(due),
        };
        tasks.spawn(pair.run(Arc::clone(&load), Pace::Open(schedule)));
    }
    let timing = async {
        run.set_phase("warming up");
        sleep_until(run, window_ns).await;
        run.set_phase("measuring");
        run.open_window();
        sleep_until(run, end_ns).await;
        run.close_window();
        run.mark_after(units, "connection");
        if run.is_interrupted() {
            load.stop();
        }
        run.set_phase("waiting for the last messages");
        std::future::pending::<()>().await;
    };
    let mut found = Verification::default();
    let joining = async {
        while let Some(joined) = tasks.join_next().await {
            found.add(joined.map_err(panicked)?);
        }
        Ok::<_, Failure>(())
    };
    tokio::select! {
        () = timing => {}
        joined = joining => joined?,
    }
    run.close_window();
    pacer.finish();
    Ok(Outcome {
        latencies: load.latencies(true),
        verification: Some(found),
        body_bytes: Some(load.options.body_bytes),
        has_rates: true,
        notes: Vec::new(),
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

async fn sleep_until(run: &Run, at_ns: u64) {
    run.sleep(Duration::from_nanos(at_ns.saturating_sub(run.clock.now_ns()))).await;
}

/// A thread that wakes the senders in time: the runtime's own timers have a resolution of a millisecond.
struct Pacer {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Pacer {
    fn start(run: Arc<Run>, bells: Vec<Arc<Notify>>, start_ns: u64, every_ns: f64, end_ns: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            // By default the kernel wakes a sleeper up to 50 us late. If it does not want to do better, it is so.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            for (message, bell) in (0_u64..).zip(bells.iter().cycle()) {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let at_ns = start_ns + (as_f64(message) * every_ns) as u64;
                if at_ns >= end_ns {
                    break;
                }
                // In steps, so that an end is seen soon at the lowest rates too.
                loop {
                    if stopped.load(Ordering::Relaxed) || run.is_interrupted() {
                        return;
                    }
                    let wait_ns = at_ns.saturating_sub(run.clock.now_ns());
                    if wait_ns == 0 {
                        break;
                    }
                    thread::sleep(Duration::from_nanos(wait_ns).min(Duration::from_millis(100)));
                }
                bell.notify_one();
            }
            // For a sender that found itself a nanosecond early.
            for bell in bells {
                bell.notify_one();
            }
        });
        Self { stop, thread }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic there would have shown as messages that were never sent.
        let _ = self.thread.join();
    }
}
