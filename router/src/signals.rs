//! SIGTERM and SIGINT: the first one stops the router in order, the second one ends the process.

use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::exit::{Fatal, Reason};

/// How long a stop may take beyond the time that work in flight gets. Then something hangs, and the process ends.
const STOP_SLACK: Duration = Duration::from_secs(10);
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
        let mut seen = false;
        for signal in signals.forever() {
            let name = signal_name(signal).unwrap_or("signal");
            if seen {
                tracing::warn!("{name} again: ending at once");
                std::process::exit(SIGNAL_CODE + signal);
            }
            seen = true;
            tracing::info!("{name}: stopping; once more ends at once");
            stop();
            end_if_it_hangs(Duration::from_secs(stop_secs) + STOP_SLACK);
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
