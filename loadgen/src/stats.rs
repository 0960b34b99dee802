//! What many tasks measure at once: latency histograms, counts of errors, the measured window, rates over time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Three significant digits: 1.23 ms is told from 1.24 ms.
const DIGITS: u8 = 3;
/// Longer latencies are recorded as this: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Points of a percentile curve for each factor of ten of `1 - percentile`.
const CURVE_POINTS_PER_DECADE: u32 = 20;
const ERROR_EXAMPLES_MAX: usize = 10;
const ERROR_KINDS_MAX: usize = 100;
const SERIES_POINTS_MAX: usize = 600;

/// For ratios of counts; above 2^53 the nearest representable number.
#[allow(clippy::cast_precision_loss)]
pub fn as_f64(count: u64) -> f64 {
    count as f64
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters stay usable after another task's panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Time since the start of the run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    pub fn now_ns(self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The part of the run that counts: from the end of the warm-up. Open at its end until that is known.
#[derive(Debug)]
pub struct Window {
    start_ns: AtomicU64,
    end_ns: AtomicU64,
}

impl Default for Window {
    fn default() -> Self {
        Self { start_ns: AtomicU64::new(u64::MAX), end_ns: AtomicU64::new(u64::MAX) }
    }
}

impl Window {
    pub fn open(&self, start_ns: u64) {
        self.start_ns.store(start_ns, Ordering::Relaxed);
    }

    pub fn close(&self, end_ns: u64) {
        self.end_ns.store(end_ns, Ordering::Relaxed);
    }

    pub fn contains(&self, at_ns: u64) -> bool {
        self.start_ns.load(Ordering::Relaxed) <= at_ns && at_ns < self.end_ns.load(Ordering::Relaxed)
    }

    /// `u64::MAX` before it is known.
    pub fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Relaxed)
    }

    /// Start and end; none before both are known.
    pub fn bounds_ns(&self) -> Option<(u64, u64)> {
        let (start, end) = (self.start_ns.load(Ordering::Relaxed), self.end_ns.load(Ordering::Relaxed));
        (start <= end && end < u64::MAX).then_some((start, end))
    }
}

/// A latency histogram that many tasks write to. Each writes to its own shard, so that they rarely meet.
pub struct Recorder {
    shards: Vec<Mutex<Histogram<u64>>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

fn empty_histogram() -> Histogram<u64> {
    // The bounds are constants that the constructor accepts: 1 us to an hour with 3 digits.
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
        .unwrap_or_else(|error| unreachable!("constant histogram bounds: {error}"))
}

impl Recorder {
    /// About 200 KB a shard.
    pub fn new(shards: usize) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| Mutex::new(empty_histogram())).collect() }
    }

    /// `writer` is any number that differs between tasks.
    pub fn record_ns(&self, writer: usize, latency_ns: u64) {
        if let Some(shard) = self.shards.get(writer % self.shards.len()) {
            lock(shard).saturating_record((latency_ns / 1000).clamp(1, LATENCY_US_MAX));
        }
    }

    pub fn summary(&self, name: &'static str, about: &'static str) -> Latency {
        let mut all = empty_histogram();
        for shard in &self.shards {
            // Equal bounds: adding cannot fail.
            let _ = all.add(&*lock(shard));
        }
        Latency::of(name, about, &all)
    }
}

/// The distribution of one latency, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub name: &'static str,
    pub about: &'static str,
    pub count: u64,
    pub mean_us: f64,
    pub min_us: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    pub curve: Vec<CurvePoint>,
}

/// `percentile` percent of all took `latency_us` or less.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CurvePoint {
    pub percentile: f64,
    pub latency_us: u64,
}

impl Latency {
    fn of(name: &'static str, about: &'static str, histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile) };
        Self {
            name,
            about,
            count: histogram.len(),
            mean_us: histogram.mean(),
            min_us: if histogram.is_empty() { 0 } else { histogram.min() },
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max(),
            curve: curve(histogram),
        }
    }
}

/// Evenly spaced on an axis of `-log10(1 - percentile)`, until fewer than one value lies above.
fn curve(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    let mut points = Vec::new();
    if histogram.is_empty() {
        return points;
    }
    for step in 0.. {
        let above = 10_f64.powf(-f64::from(step) / f64::from(CURVE_POINTS_PER_DECADE));
        if above * as_f64(histogram.len()) < 1.0 {
            break;
        }
        let latency_us = histogram.value_at_quantile(1.0 - above);
        points.push(CurvePoint { percentile: 100.0 * (1.0 - above), latency_us });
    }
    points.push(CurvePoint { percentile: 100.0, latency_us: histogram.max() });
    points
}

/// Errors by kind, with the first ones in words.
#[derive(Debug, Default)]
pub struct Errors {
    inner: Mutex<ErrorCounts>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct ErrorCounts {
    pub by_kind: BTreeMap<String, u64>,
    pub examples: Vec<String>,
}

impl ErrorCounts {
    pub fn total(&self) -> u64 {
        self.by_kind.values().sum()
    }
}

impl Errors {
    /// `kind` is short and from a small set; `text` says all.
    pub fn add(&self, kind: &str, text: impl fmt::Display) {
        self.add_many(1, kind, text);
    }

    /// The same error so many times.
    pub fn add_many(&self, count: u64, kind: &str, text: impl fmt::Display) {
        let mut inner = lock(&self.inner);
        if inner.examples.len() < ERROR_EXAMPLES_MAX {
            let text = text.to_string();
            if !inner.examples.contains(&text) {
                inner.examples.push(text);
            }
        }
        let known = inner.by_kind.contains_key(kind) || inner.by_kind.len() < ERROR_KINDS_MAX;
        *inner.by_kind.entry(if known { kind } else { "other" }.to_owned()).or_default() += count;
    }

    pub fn counts(&self) -> ErrorCounts {
        lock(&self.inner).clone()
    }

    pub fn total(&self) -> u64 {
        lock(&self.inner).total()
    }
}

/// A rate over time. When it has grown long, neighbours are merged: memory is bounded for any run.
#[derive(Debug)]
pub struct Series {
    /// Seconds since the start of the window, and the count until then.
    points: Vec<(f64, u64)>,
    keep_every: u64,
    offered: u64,
}

/// The mean rate of the time until `at_secs` since the point before.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RatePoint {
    pub at_secs: f64,
    pub per_sec: f64,
}

impl Default for Series {
    fn default() -> Self {
        Self { points: Vec::new(), keep_every: 1, offered: 0 }
    }
}

impl Series {
    /// The count so far, `at_secs` after the start of the window.
    pub fn offer(&mut self, at_secs: f64, count: u64) {
        self.offered += 1;
        if !self.offered.is_multiple_of(self.keep_every) {
            return;
        }
        self.points.push((at_secs, count));
        if self.points.len() > SERIES_POINTS_MAX {
            let mut odd = false;
            self.points.retain(|_| {
                odd = !odd;
                !odd
            });
            self.keep_every *= 2;
        }
    }

    /// At most `points_max` rates of about equal length.
    pub fn rates(&self, points_max: usize) -> Vec<RatePoint> {
        let step = self.points.len().div_ceil(points_max.max(1)).max(1);
        let mut rates = Vec::new();
        let mut before = (0.0, 0);
        for &(at_secs, count) in self.points.iter().skip(step - 1).step_by(step) {
            let secs = at_secs - before.0;
            if secs > 0.0 {
                rates.push(RatePoint { at_secs, per_sec: as_f64(count.saturating_sub(before.1)) / secs });
                before = (at_secs, count);
            }
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn percentiles_of_known_values() {
        let recorder = Recorder::new(4);
        for value in 1..=1000_usize {
            recorder.record_ns(value, value as u64 * 1_000_000);
        }
        let latency = recorder.summary("x", "");
        assert_eq!(latency.count, 1000);
        let near = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 500;
        assert!(near(latency.p50_us, 500_000) && near(latency.p99_us, 990_000), "{latency:?}");
        assert!(near(latency.p999_us, 999_000) && near(latency.max_us, 1_000_000), "{latency:?}");
        assert!(near(latency.min_us, 1000), "{latency:?}");
        assert!(latency.curve.windows(2).all(|pair| {
            pair[0].percentile < pair[1].percentile && pair[0].latency_us <= pair[1].latency_us
        }));
    }

    #[test]
    fn an_empty_recorder_has_an_empty_summary() {
        let latency = Recorder::new(1).summary("x", "");
        assert_eq!((latency.count, latency.p50_us, latency.max_us, latency.min_us), (0, 0, 0, 0));
        assert!(latency.curve.is_empty());
    }

    #[test]
    fn a_latency_beyond_the_range_is_kept_as_the_longest() {
        let recorder = Recorder::new(1);
        recorder.record_ns(0, u64::MAX);
        recorder.record_ns(0, 0);
        let latency = recorder.summary("x", "");
        assert_eq!(latency.count, 2);
        assert!(latency.max_us >= LATENCY_US_MAX);
    }

    #[test]
    fn the_window_contains_its_start_and_not_its_end() {
        let window = Window::default();
        assert!(!window.contains(0) && window.bounds_ns().is_none());
        window.open(10);
        assert!(!window.contains(9) && window.contains(10) && window.contains(u64::MAX - 1));
        window.close(20);
        assert!(window.contains(19) && !window.contains(20));
        assert_eq!(window.bounds_ns(), Some((10, 20)));
    }

    #[test]
    fn errors_are_counted_by_kind() {
        let errors = Errors::default();
        errors.add("timeout", "SEND timed out");
        errors.add("timeout", "SEND timed out");
        errors.add("router AUTH", "SUB: AUTH");
        let counts = errors.counts();
        assert_eq!(counts.by_kind, BTreeMap::from([("router AUTH".into(), 1), ("timeout".into(), 2)]));
        assert_eq!(counts.examples.len(), 2);
        assert_eq!(errors.total(), 3);
        for index in 0..1000 {
            errors.add(&format!("kind {index}"), "");
        }
        assert!(errors.counts().by_kind.len() <= ERROR_KINDS_MAX + 1);
        assert_eq!(errors.total(), 1003);
    }

    #[test]
    fn a_series_keeps_rates_in_bounded_memory() {
        let mut series = Series::default();
        for tick in 1..=100_000_u64 {
            series.offer(as_f64(tick) / 10.0, tick * 5);
        }
        assert!(series.points.len() <= SERIES_POINTS_MAX);
        let rates = series.rates(100);
        assert!((50..=100).contains(&rates.len()), "{}", rates.len());
        for rate in rates {
            assert!((rate.per_sec - 50.0).abs() < 1e-6, "{rate:?}");
        }
    }

    #[test]
    fn a_short_series_keeps_every_point() {
        let mut series = Series::default();
        series.offer(0.5, 10);
        series.offer(1.0, 30);
        let rates: Vec<_> = series.rates(100).iter().map(|rate| (rate.at_secs, rate.per_sec)).collect();
        assert_eq!(rates, [(0.5, 20.0), (1.0, 40.0)]);
    }
}
