//! SIGTERM and SIGINT: the first one stops the router in order, the second one ends the process. SIGHUP: the ini is read
//! again. SIGUSR2: another program takes the process over.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::exit::{Fatal, Reason};

/// How long a stop may take beyond the time that work in flight gets. Then something hangs, and the process ends.
const STOP_SLACK: Duration = Duration::from_secs(10);
/// A signal this soon after the first one is the same request: timeout(1) and others signal a process and its group.
const SAME_REQUEST: Duration = Duration::from_millis(200);
/// A shell's convention: 128 and the number of the signal.
const SIGNAL_CODE: i32 = 128;

type Act = Box<dyn Fn() + Send + Sync>;

/// What signals do, once there is something that they can be done to.
#[derive(Default)]
struct Acts {
    /// With the seconds that a stop may take.
    stop: OnceLock<(u64, Act)>,
    reload: OnceLock<Act>,
    upgrade: OnceLock<Act>,
}

/// Acts on signals from now on, in a thread of its own.
pub struct Watch {
    acts: Arc<Acts>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Until there is something to stop, the first signal ends the process.
    pub fn start() -> Result<Self, Fatal> {
        let other = |error| Fatal::new(Reason::Other, format!("cannot listen for signals: {error}"));
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2]).map_err(other)?;
        let acts: Arc<Acts> = Arc::default();
        let watched = Arc::clone(&acts);
        let act = move || {
            let mut first: Option<Instant> = None;
            for signal in signals.forever() {
                let name = signal_name(signal).unwrap_or("signal");
                if let SIGHUP | SIGUSR2 = signal {
                    let act = if signal == SIGHUP { &watched.reload } else { &watched.upgrade };
                    if let Some(act) = act.get().filter(|_| first.is_none()) {
                        act();
                    } else {
                        tracing::info!("{name}: nothing is done now, the router starts or stops");
                    }
                    continue;
                }
                match (first, watched.stop.get()) {
                    (Some(at), _) if at.elapsed() < SAME_REQUEST => {}
                    (None, Some((stop_secs, stop))) => {
                        first = Some(Instant::now());
                        tracing::info!("{name}: stopping; once more ends at once");
                        stop();
                        end_if_it_hangs(*stop_secs);
                    }
                    (Some(_), _) | (None, None) => {
                        tracing::warn!("{name}: ending at once");
                        std::process::exit(SIGNAL_CODE + signal);
                    }
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(act).map_err(other)?;
        Ok(Self { acts })
    }

    /// From now on the first signal calls `stop`. The process ends at the second one, or if the router has not stopped
    /// in `stop_secs` and some slack.
    pub fn stops_with(&self, stop_secs: u64, stop: impl Fn() + Send + Sync + 'static) {
        // There is one router in a process, and nothing to replace.
        let _ = self.acts.stop.set((stop_secs, Box::new(stop)));
    }

    /// From now on SIGHUP calls `reload`.
    pub fn reloads_with(&self, reload: impl Fn() + Send + Sync + 'static) {
        // As above.
        let _ = self.acts.reload.set(Box::new(reload));
    }

    /// From now on SIGUSR2 calls `upgrade`.
    pub fn upgrades_with(&self, upgrade: impl Fn() + Send + Sync + 'static) {
        // As above.
        let _ = self.acts.upgrade.set(Box::new(upgrade));
    }
}

/// Ends the process if it is still this program after the time for a stop.
pub fn end_if_it_hangs(stop_secs: u64) {
    let limit = Duration::from_secs(stop_secs) + STOP_SLACK;
    let end = move || {
        std::thread::sleep(limit);
        tracing::error!("the router did not stop within {} seconds: ending", limit.as_secs());
        std::process::exit(i32::from(Reason::RouterFailed.code()));
    };
    if let Err(error) = std::thread::Builder::new().name("stop-limit".to_owned()).spawn(end) {
        tracing::warn!("cannot watch over the stop: {error}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    const CHILD_VARIABLE: &str = "RINGPOST_TEST_SIGNALS";

    /// Does nothing unless it is the child that the next tests start: a process that never stops by itself, and as long
    /// as it starts has nothing to stop.
    #[test]
    fn child() {
        let Ok(phase) = std::env::var(CHILD_VARIABLE) else { return };
        let watch = Watch::start().unwrap();
        if phase == "running" {
            watch.stops_with(3_600, || println!("stop requested"));
        }
        println!("ready");
        std::thread::sleep(Duration::from_secs(60));
    }

    /// A child and its output, which has said that it is ready.
    fn ready(phase: &str) -> (Child, impl Iterator<Item = String>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::tests::child", "--nocapture"])
            .env(CHILD_VARIABLE, phase)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.ends_with("ready")));
        (child, lines)
    }

    #[test]
    fn the_first_signal_asks_for_a_stop_and_the_second_ends_the_process() {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let (mut child, mut lines) = ready("running");
            let pid = Pid::from_child(&child);
            kill_process(pid, signal).unwrap();
            assert!(lines.any(|line| line.ends_with("stop requested")));
            // Those that come too soon are the same request; a later one ends the child.
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                kill_process(pid, signal).unwrap();
                std::thread::sleep(SAME_REQUEST / 4);
            };
            assert_eq!(status.code(), Some(code));
        }
    }

    #[test]
    fn a_signal_while_the_router_starts_ends_the_process() {
        let (mut child, _) = ready("starting");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143));
    }
}
