//! The report for a terminal.

use std::fmt::Write as _;

use super::{Report, bytes, duration_us, grouped, rate};
use crate::procfs::Memory;
use crate::stats::as_f64;

/// The width of the first column.
const LABEL: usize = 14;

pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let mut row = |label: &str, text: &str| {
        let _ = writeln!(out, "{label:<LABEL$}{text}");
    };
    row(report.scenario, &format!("{}, SMP {}", report.router_address, report.smp_version));
    let options: Vec<_> = report.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    row("options", &options.join(" "));
    row("window", &format!("{:.2} s", report.window_secs));
    let mut result = format!("{} {}s", grouped(report.operations), report.unit);
    if let Some(per_sec) = report.operations_per_sec {
        let _ = write!(result, ", {}/s", rate(per_sec));
    }
    if let Some(body_bytes) = report.body_bytes_per_sec {
        let _ = write!(result, ", {} of bodies a second", bytes(body_bytes));
    }
    row("load", &result);
    if !report.latencies.is_empty() {
        row("latency", &columns(["", "count", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned)));
        for latency in &report.latencies {
            let cells = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
            let [p50, p90, p99, p999, max] = cells.map(duration_us);
            row("", &columns([latency.name.to_owned(), grouped(latency.count), p50, p90, p99, p999, max]));
        }
    }
    if let Some(found) = &report.verification {
        let clean = if found.is_clean() { "clean" } else { "FAILED" };
        row(
            "verification",
            &format!(
                "{clean}: {} accepted, {} received, {} lost, {} duplicated, {} reordered, {} altered, {} foreign",
                grouped(found.accepted),
                grouped(found.received),
                grouped(found.lost),
                grouped(found.duplicated),
                grouped(found.reordered),
                grouped(found.altered),
                grouped(found.foreign),
            ),
        );
        for example in &found.examples {
            row("", example);
        }
    }
    if report.errors.by_kind.is_empty() {
        row("errors", "none");
    } else {
        let kinds: Vec<_> =
            report.errors.by_kind.iter().map(|(kind, count)| format!("{} {kind}", grouped(*count))).collect();
        row("errors", &kinds.join(", "));
        for example in &report.errors.examples {
            row("", example);
        }
    }
    if let Some(router) = &report.router {
        let mut text = format!("pid {} ({}): {:.2} cores busy", router.pid, router.name, router.cores_busy);
        if let Some(us) = router.cpu_us_per_operation {
            let _ = write!(text, ", {us:.1} us CPU a {}", report.unit);
        }
        row("router", &text);
        for (label, memory) in [("before", router.memory_before), ("after", router.memory_after)] {
            if let Some(memory) = memory {
                row("", &format!("memory {label:<7}{}", memory_text(memory)));
            }
        }
        if let Some(rss) = router.rss_bytes_per_unit {
            let mut text = format!(
                "memory a {}, with {}: {} RSS",
                router.memory_unit,
                grouped(router.memory_units),
                bytes(rss)
            );
            if let Some(pss) = router.pss_bytes_per_unit {
                let _ = write!(text, ", {} PSS", bytes(pss));
            }
            row("", &text);
        }
    }
    if let Some(proxy) = &report.proxy {
        let mut text = format!("pid {} ({}): {:.2} cores busy", proxy.pid, proxy.name, proxy.cores_busy);
        if let Some(us) = proxy.cpu_us_per_operation {
            let _ = write!(text, ", {us:.1} us CPU a {}", report.unit);
        }
        row("proxy", &text);
    }
    let own = &report.loadgen;
    let mut text =
        format!("{} threads: {:.2} cores busy of {}", own.threads, own.cores_busy, own.cores_of_machine);
    if let Some(us) = own.cpu_us_per_operation {
        let _ = write!(text, ", {us:.1} us CPU a {}", report.unit);
    }
    row("loadgen", &text);
    for note in &report.notes {
        row("note", note);
    }
    row("result", &report.verdict());
    out
}

fn memory_text(memory: Memory) -> String {
    let mut text = format!(
        "{:>10} RSS, {:>10} peak",
        bytes(as_f64(memory.rss_bytes)),
        bytes(as_f64(memory.rss_peak_bytes))
    );
    if let Some(pss_bytes) = memory.pss_bytes {
        let _ = write!(text, ", {:>10} PSS", bytes(as_f64(pss_bytes)));
    }
    text
}

fn columns([name, rest @ ..]: [String; 7]) -> String {
    let mut text = format!("{name:<12}");
    for cell in rest {
        let _ = write!(text, "{cell:>11}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn says_what_went_wrong() {
        let text = render(&sample::report());
        assert!(text.contains("FAILED: 123,456 accepted, 123,455 received, 1 lost, 0 duplicated"), "{text}");
        assert!(text.contains("result        FAILED: 1 lost, 2 errors\n"), "{text}");
        assert!(text.contains("2 router QUOTA"), "{text}");
        assert!(text.contains("73.0 us CPU a message"), "{text}");
        assert!(text.contains("123,456 messages, 12,346/s, 188 MiB of bodies a second"), "{text}");
    }

    #[test]
    fn says_when_all_is_well() {
        let mut report = sample::report();
        report.verification = None;
        report.errors.by_kind.clear();
        report.errors.examples.clear();
        report.passed = true;
        let text = render(&report);
        assert!(text.contains("errors        none\n") && text.ends_with("result        passed\n"), "{text}");
    }
}
