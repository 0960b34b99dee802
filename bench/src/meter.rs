//! What of a step counts.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// In the name of the function that callgrind looks into: nothing outside of it is counted. No other function may have
/// this in its name.
pub const WINDOW: &str = "callgrind_window";

/// Separates what a stage measures from what prepares it (a client's work, clear texts, copies of inputs).
#[derive(Debug, Default)]
pub struct Meter {
    is_timed: bool,
    elapsed: Duration,
}

impl Meter {
    /// Adds up the time of what is measured.
    pub fn timed() -> Self {
        Self { is_timed: true, elapsed: Duration::ZERO }
    }

    /// Only runs it, for callgrind.
    pub fn untimed() -> Self {
        Self::default()
    }

    /// Runs what is to be measured.
    pub fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if !self.is_timed {
            return callgrind_window(work);
        }
        let began = Instant::now();
        let result = callgrind_window(work);
        self.elapsed += began.elapsed();
        result
    }

    /// The time so far.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

#[inline(never)]
fn callgrind_window<R, W: FnOnce() -> R>(work: W) -> R {
    black_box(work())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_run_in_it_counts() {
        let mut meter = Meter::timed();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(meter.elapsed(), Duration::ZERO);
        meter.run(|| std::thread::sleep(Duration::from_millis(20)));
        let elapsed = meter.elapsed();
        assert!(elapsed >= Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(meter.elapsed(), elapsed);
    }

    #[test]
    fn the_window_is_found_by_its_name() {
        assert!(std::any::type_name_of_val(&callgrind_window::<u8, fn() -> u8>).contains(WINDOW));
    }
}
