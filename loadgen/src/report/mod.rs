//! The result of a run, in three forms: a table for the terminal, JSON, and one HTML file.

mod chart;
pub mod html;
pub mod json;
pub mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::run::{OwnUse, ProxyUse, RouterUse};
use crate::stats::{ErrorCounts, Latency, RatePoint, as_f64};
use crate::verify::Verification;

/// Raised when a field of the JSON form changes its meaning or goes away. New fields do not raise it.
pub const SCHEMA: u32 = 1;

/// Everything that a run found out. The JSON form is this structure.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub loadgen_version: &'static str,
    pub scenario: &'static str,
    /// Host, port and fingerprint; never the password.
    pub router_address: String,
    pub smp_version: u16,
    pub started_at_unix_secs: u64,
    /// The options of the command line that shape the load.
    pub options: BTreeMap<&'static str, serde_json::Value>,
    /// All verified, no error, not interrupted.
    pub passed: bool,
    pub interrupted: bool,
    /// The measured time, warm-up excluded.
    pub window_secs: f64,
    /// What one operation is: "message", "connection", "queue", "handshake" or "subscription".
    pub unit: &'static str,
    pub operations: u64,
    /// Absent where operations are not repeated: idle connections.
    pub operations_per_sec: Option<f64>,
    /// Message bodies only, one way.
    pub body_bytes_per_sec: Option<f64>,
    pub latencies: Vec<Latency>,
    pub rates: Vec<RatePoint>,
    pub verification: Option<Verification>,
    pub errors: ErrorCounts,
    pub router: Option<RouterUse>,
    /// The router that messages went through first.
    pub proxy: Option<ProxyUse>,
    pub loadgen: OwnUse,
    /// What a reader should know before comparing the numbers.
    pub notes: Vec<String>,
}

impl Report {
    /// One line: what came of the run.
    pub fn verdict(&self) -> String {
        let mut faults = Vec::new();
        if let Some(found) = &self.verification {
            for (count, what) in [
                (found.lost, "lost"),
                (found.duplicated, "duplicated"),
                (found.reordered, "reordered"),
                (found.altered, "altered"),
                (found.foreign, "delivered to the wrong queue"),
            ] {
                if count > 0 {
                    faults.push(format!("{} {what}", grouped(count)));
                }
            }
        }
        let errors = self.errors.total();
        if errors > 0 {
            faults.push(format!("{} {}", grouped(errors), if errors == 1 { "error" } else { "errors" }));
        }
        if self.interrupted {
            faults.push("interrupted".to_owned());
        }
        match (self.passed, faults.is_empty()) {
            (true, _) => "passed".to_owned(),
            (false, true) => "FAILED".to_owned(),
            (false, false) => format!("FAILED: {}", faults.join(", ")),
        }
    }
}

/// `1234567` as `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate with as many digits as it is worth.
fn rate(per_sec: f64) -> String {
    if per_sec >= 100.0 {
        // Rates are far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        grouped(per_sec.round() as u64)
    } else {
        format!("{per_sec:.1}")
    }
}

/// Microseconds as `850 us`, `1.25 ms` or `2.50 s`.
fn duration_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", three_digits(as_f64(us) / 1e3)),
        _ => format!("{} s", three_digits(as_f64(us) / 1e6)),
    }
}

/// Bytes as `850 B`, `1.25 KiB`, `12.5 MiB` and so on; less than nothing keeps its sign.
fn bytes(count: f64) -> String {
    let sign = if count < 0.0 { "-" } else { "" };
    let mut rest = count.abs();
    for unit in ["B", "KiB", "MiB"] {
        if rest < 1024.0 {
            return format!(
                "{sign}{} {unit}",
                if unit == "B" { format!("{rest:.0}") } else { three_digits(rest) }
            );
        }
        rest /= 1024.0;
    }
    format!("{sign}{} GiB", three_digits(rest))
}

fn three_digits(value: f64) -> String {
    match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(duration_us(999), "999 us");
        assert_eq!(duration_us(1_250), "1.25 ms");
        assert_eq!(duration_us(2_500_000), "2.50 s");
        assert_eq!(bytes(1023.0), "1023 B");
        assert_eq!(bytes(1280.0), "1.25 KiB");
        assert_eq!(bytes(-13_107_200.0), "-12.5 MiB");
        assert_eq!(rate(12.34), "12.3");
        assert_eq!(rate(12_345.6), "12,346");
    }
}

#[cfg(test)]
pub mod sample {
    //! A report with every part filled in.

    use super::*;
    use crate::procfs::Memory;
    use crate::stats::Recorder;

    pub fn report() -> Report {
        let recorder = Recorder::new(1);
        for us in 1..20_000_u64 {
            recorder.record_ns(0, us * us * 10);
        }
        let memory = Memory { rss_bytes: 20 << 20, rss_peak_bytes: 30 << 20, pss_bytes: Some(19 << 20) };
        Report {
            schema: SCHEMA,
            loadgen_version: "0.1.0",
            scenario: "throughput",
            router_address: "smp://<f>@127.0.0.1:5223".into(),
            smp_version: 19,
            started_at_unix_secs: 1_800_000_000,
            options: BTreeMap::from([("pairs", 4.into()), ("in_flight", 16.into())]),
            passed: false,
            interrupted: false,
            window_secs: 10.0,
            unit: "message",
            operations: 123_456,
            operations_per_sec: Some(12_345.6),
            body_bytes_per_sec: Some(12_345.6 * 16_000.0),
            latencies: vec![
                recorder.summary("delivery", "from the SEND to the arrival of the message"),
                recorder.summary("accept", "from the SEND to its OK"),
            ],
            rates: (1..40)
                .map(|at| RatePoint {
                    at_secs: f64::from(at) / 4.0,
                    per_sec: 12_000.0 + f64::from(at % 7) * 90.0,
                })
                .collect(),
            verification: Some(Verification {
                accepted: 123_456,
                received: 123_455,
                lost: 1,
                examples: vec!["queue 3: 1 lost, the first is 17, the last 17".into()],
                ..Verification::default()
            }),
            errors: ErrorCounts {
                by_kind: BTreeMap::from([("router QUOTA".into(), 2)]),
                examples: vec!["SEND: the router answered QUOTA".into()],
            },
            proxy: None,
            router: Some(RouterUse {
                pid: 42,
                name: "smp-server".into(),
                cpu_secs: 9.0,
                cores_busy: 0.9,
                cpu_us_per_operation: Some(73.0),
                memory_before: Some(Memory { rss_bytes: 10 << 20, ..memory }),
                memory_after: Some(memory),
                memory_unit: "connection",
                memory_units: 8,
                rss_bytes_per_unit: Some(1_310_720.0),
                pss_bytes_per_unit: Some(1_200_000.0),
            }),
            loadgen: OwnUse {
                threads: 2,
                cpu_secs: 8.0,
                cores_busy: 0.8,
                cpu_us_per_operation: Some(65.0),
                cores_of_machine: 2,
                is_limit: false,
                machine_is_full: true,
            },
            notes: vec!["a note".into()],
        }
    }
}
