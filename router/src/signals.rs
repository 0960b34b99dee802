//! SIGTERM and SIGINT: the first one stops the router in order, the second one ends the process.

use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::exit::{Fatal, Reason};

/// How long a stop may take beyond the time that work in flight gets. Then something hangs, and the process ends.
const STOP_SLACK: Duration = Duration::from_secs(10);
/// A signal this soon after the first one is the same request: timeout(1) and others signal a process and its group.
const SAME_REQUEST: Duration = Duration::from_millis(200);
/// A shell's convention: 128 and the number of the signal.
const SIGNAL_CODE: i32 = 128;

/// The signals that arrive from now on.
pub fn listen() -> Result<Signals, Fatal> {
    Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Fatal::new(Reason::Other, format!("cannot listen for signals: {error}")))
}

/// Calls `stop` at the first signal, from a thread of its own, and ends the process at the second one, or if the
/// router has not stopped in `stop_secs` and some slack.
pub fn act_on(mut signals: Signals, stop_secs: u64, stop: impl Fn() + Send + 'static) -> Result<(), Fatal> {
    let act = move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            let name = signal_name(signal).unwrap_or("signal");
            match first {
                Some(at) if at.elapsed() < SAME_REQUEST => {}
                Some(_) => {
                    tracing::warn!("{name} again: ending at once");
                    std::process::exit(SIGNAL_CODE + signal);
                }
                None => {
                    first = Some(Instant::now());
                    tracing::info!("{name}: stopping; once more ends at once");
                    stop();
                    end_if_it_hangs(Duration::from_secs(stop_secs) + STOP_SLACK);
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(act);
    thread.map(drop).map_err(|error| Fatal::new(Reason::Other, format!("cannot start a thread: {error}")))
}

fn end_if_it_hangs(limit: Duration) {
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
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    const CHILD_VARIABLE: &str = "RINGPOST_TEST_SIGNALS";

    /// Does nothing unless it is the child that the next test starts: a process that never stops by itself.
    #[test]
    fn child() {
        if std::env::var_os(CHILD_VARIABLE).is_some() {
            act_on(listen().unwrap(), 3_600, || println!("stop requested")).unwrap();
            println!("ready");
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    #[test]
    fn the_first_signal_asks_for_a_stop_and_the_second_ends_the_process() {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "signals::tests::child", "--nocapture"])
                .env(CHILD_VARIABLE, "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let pid = Pid::from_child(&child);
            assert!(lines.any(|line| line.unwrap().ends_with("ready")));
            kill_process(pid, signal).unwrap();
            assert!(lines.any(|line| line.unwrap().ends_with("stop requested")));
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
}
