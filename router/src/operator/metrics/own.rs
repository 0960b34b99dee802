//! Metrics that only this router has: every counter of every shard, as `ringpost_...`, and the process.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::desk::Desk;
use super::super::process::{self, Process};
use super::reference::ACK_CLASSES;
use super::{Kind, Page};

/// Counters that go down too.
const GAUGES: &[&str] = &[
    "connections",
    "handshakes",
    "queues",
    "messages",
    "message_bytes",
    "subscriptions",
    "notifier_subscriptions",
    "notifiers",
    "links",
    "notifications",
    "active_day",
    "active_week",
    "active_month",
    "active_notified_day",
    "active_notified_week",
    "active_notified_month",
    "arena_lent",
    "mesh_depth",
    "relays",
    "services",
    "recipient_service_count",
    "recipient_service_queues",
    "notifier_service_count",
    "notifier_service_queues",
];

/// Counters that are classes of times: metric, help, upper bounds in seconds with their counters, the sum, and how many of
/// its units are a second.
struct Histogram {
    name: &'static str,
    help: &'static str,
    classes: &'static [(&'static str, &'static str)],
    sum: &'static str,
    units_per_second: u32,
}

const HISTOGRAMS: &[Histogram] = &[
    Histogram {
        name: "ringpost_mesh_latency_seconds",
        help: "From sending to receiving between shards",
        classes: &[
            ("0.0001", "mesh_within_100_us"),
            ("0.0003", "mesh_within_300_us"),
            ("0.001", "mesh_within_1_ms"),
            ("+Inf", "mesh_over_1_ms"),
        ],
        sum: "mesh_latency_us",
        units_per_second: 1_000_000,
    },
    Histogram {
        name: "ringpost_log_step_seconds",
        help: "Time for which a shard did nothing but a step of its log",
        classes: &[
            ("0.0001", "log_steps_within_100_us"),
            ("0.001", "log_steps_within_1_ms"),
            ("0.005", "log_steps_within_5_ms"),
            ("+Inf", "log_steps_over_5_ms"),
        ],
        sum: "log_step_us",
        units_per_second: 1_000_000,
    },
    Histogram {
        name: "ringpost_ack_seconds",
        help: "From delivery to acknowledgement, of subscribers",
        classes: ACK_CLASSES,
        sum: "ack_secs",
        units_per_second: 1,
    },
];

/// Sums of times with the number of them: metric, help, sum in microseconds, count.
const SUMMARIES: &[(&str, &str, &str, &str)] = &[
    ("ringpost_log_commit_seconds", "Commits of the log to the disk", "log_commit_us", "log_commits"),
    ("ringpost_timer_late_seconds", "How late timers of a shard fire", "timer_late_us", "timer_checks"),
];

/// What is written.
#[derive(Debug)]
pub struct Values {
    pub shards: Vec<Vec<(&'static str, u64)>>,
    pub process: Process,
    pub started: SystemTime,
}

impl Values {
    pub fn read(desk: &Desk) -> Self {
        Self { shards: desk.operator.counters(), process: process::read(), started: desk.started }
    }
}

pub(super) fn write(page: &mut Page, values: &Values) {
    page.head("ringpost_info", Kind::Gauge, "The router's version");
    page.sample("ringpost_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
    page.one("ringpost_shards", Kind::Gauge, "Shards, a thread each", values.shards.len());
    write_process(page, values);
    for histogram in HISTOGRAMS {
        write_histogram(page, histogram, &values.shards);
    }
    for (name, help, sum, count) in SUMMARIES {
        page.head(name, Kind::Summary, help);
        for (shard, counters) in values.shards.iter().enumerate() {
            let labels = format!("shard=\"{shard}\"");
            page.sample(&format!("{name}_sum"), &labels, seconds(value(counters, sum), 1_000_000));
            page.sample(&format!("{name}_count"), &labels, value(counters, count));
        }
    }
    let first = values.shards.first().map(Vec::as_slice).unwrap_or_default();
    for (name, _) in first.iter().filter(|(name, _)| !is_written_otherwise(name)) {
        write_counter(page, name, &values.shards);
    }
}

/// Whether a counter is a part of a histogram or summary.
fn is_written_otherwise(name: &str) -> bool {
    let in_histogram = |histogram: &Histogram| {
        histogram.sum == name || histogram.classes.iter().any(|(_, counter)| *counter == name)
    };
    HISTOGRAMS.iter().any(in_histogram)
        || SUMMARIES.iter().any(|(_, _, sum, count)| [*sum, *count].contains(&name))
}

/// One counter by shard, under a name that tells its kind and unit.
fn write_counter(page: &mut Page, counter: &str, shards: &[Vec<(&'static str, u64)>]) {
    let help = counter.replace('_', " ");
    let is_maximum = counter.ends_with("_max");
    let (name, kind, in_seconds) = if let Some(name) = counter.strip_suffix("_us_max") {
        (format!("ringpost_{name}_max_seconds"), Kind::Gauge, true)
    } else if is_maximum || GAUGES.contains(&counter) {
        (format!("ringpost_{counter}"), Kind::Gauge, false)
    } else {
        (format!("ringpost_{counter}_total"), Kind::Counter, false)
    };
    page.head(&name, kind, &help);
    for (shard, counters) in shards.iter().enumerate() {
        let labels = format!("shard=\"{shard}\"");
        let value = value(counters, counter);
        if in_seconds {
            page.sample(&name, &labels, seconds(value, 1_000_000));
        } else {
            page.sample(&name, &labels, value);
        }
    }
}

fn write_histogram(page: &mut Page, histogram: &Histogram, shards: &[Vec<(&'static str, u64)>]) {
    let Histogram { name, help, classes, sum, units_per_second } = histogram;
    page.head(name, Kind::Histogram, help);
    for (shard, counters) in shards.iter().enumerate() {
        let mut below = 0;
        for (bound, counter) in *classes {
            below += value(counters, counter);
            page.sample(&format!("{name}_bucket"), &format!("shard=\"{shard}\",le=\"{bound}\""), below);
        }
        let labels = format!("shard=\"{shard}\"");
        page.sample(&format!("{name}_sum"), &labels, seconds(value(counters, sum), *units_per_second));
        page.sample(&format!("{name}_count"), &labels, below);
    }
}

fn write_process(page: &mut Page, values: &Values) {
    let started = values.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let process = &values.process;
    page.one("process_start_time_seconds", Kind::Gauge, "When it started, since 1970", started);
    page.one(
        "process_cpu_seconds_total",
        Kind::Counter,
        "User and system time",
        seconds(process.cpu_ms, 1_000),
    );
    page.one("process_resident_memory_bytes", Kind::Gauge, "Memory that is there", process.resident_bytes);
    page.one("process_virtual_memory_bytes", Kind::Gauge, "Address space", process.virtual_bytes);
    page.one("process_open_fds", Kind::Gauge, "Open files and sockets", process.open_files);
}

fn value(counters: &[(&'static str, u64)], name: &str) -> u64 {
    counters.iter().find(|(counter, _)| *counter == name).map_or(0, |(_, value)| *value)
}

/// Decimal seconds without the rounding of floating point.
fn seconds(units: u64, units_per_second: u32) -> String {
    let per_second = u64::from(units_per_second);
    match per_second {
        1 => units.to_string(),
        1_000 => format!("{}.{:03}", units / per_second, units % per_second),
        _ => format!("{}.{:06}", units / per_second, units % per_second),
    }
}

#[cfg(test)]
mod tests {
    use ringpost_shard::counters::Counters;

    use super::*;

    #[test]
    fn every_counter_is_written_once_and_every_name_is_a_counter() {
        let counters = Counters::default().values();
        let known = |name: &str| counters.iter().any(|(counter, _)| *counter == name);
        let named = HISTOGRAMS.iter().flat_map(|h| h.classes.iter().map(|(_, c)| *c).chain([h.sum]));
        let named = named.chain(SUMMARIES.iter().flat_map(|(_, _, sum, count)| [*sum, *count]));
        for name in named.chain(GAUGES.iter().copied()) {
            assert!(known(name), "{name}");
        }
        let values = Values {
            shards: vec![counters.clone(), counters.clone()],
            process: Process::default(),
            started: UNIX_EPOCH,
        };
        let mut page = Page::new(None);
        write(&mut page, &values);
        let heads: Vec<&str> = page.text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let mut unique = heads.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(heads.len(), unique.len());
        assert!(page.text.contains("\nringpost_commands_total{shard=\"1\"} 0\n"));
        assert!(page.text.contains("# TYPE ringpost_arena_lent gauge\n"));
        for (name, _) in counters.iter().filter(|(name, _)| !is_written_otherwise(name)) {
            assert!(page.text.contains(name.trim_end_matches("_us_max")), "{name}");
        }
    }

    #[test]
    fn times_are_in_seconds() {
        let shard = vec![
            ("mesh_within_100_us", 3),
            ("mesh_over_1_ms", 1),
            ("mesh_latency_us", 2_000_001),
            ("mesh_latency_us_max", 1_500),
        ];
        let values = Values { shards: vec![shard], process: Process::default(), started: UNIX_EPOCH };
        let mut page = Page::new(None);
        write(&mut page, &values);
        for line in [
            "ringpost_mesh_latency_seconds_bucket{shard=\"0\",le=\"0.0001\"} 3",
            "ringpost_mesh_latency_seconds_bucket{shard=\"0\",le=\"+Inf\"} 4",
            "ringpost_mesh_latency_seconds_sum{shard=\"0\"} 2.000001",
            "ringpost_mesh_latency_seconds_count{shard=\"0\"} 4",
            "ringpost_mesh_latency_max_seconds{shard=\"0\"} 0.001500",
        ] {
            assert!(page.text.contains(&format!("\n{line}\n")), "{line} in {}", page.text);
        }
    }
}
