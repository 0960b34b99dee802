//! The report as one HTML file that needs nothing else.

use std::fmt::Write as _;

use super::{Report, bytes, chart, duration_us, grouped, rate};
use crate::stats::as_f64;

const STYLE: &str = include_str!("style.css");

pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let title = format!("{} of {}", report.scenario, report.router_address);
    let verdict = report.verdict();
    let state = if report.passed { "passed" } else { "failed" };
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>\n\
         <h1>{scenario} <span class=\"{state}\">{verdict}</span></h1><p class=\"about\">{address}, SMP {version}</p>\n",
        title = escape(&title),
        scenario = escape(report.scenario),
        verdict = escape(&verdict),
        address = escape(&report.router_address),
        version = report.smp_version,
    );
    cards(&mut out, report);
    latencies(&mut out, report);
    let over_time = chart::rate_over_time(&report.rates, report.unit);
    if !over_time.is_empty() {
        let _ = writeln!(out, "<section><h2>Throughput over time</h2>{over_time}</section>");
    }
    verification(&mut out, report);
    resources(&mut out, report);
    let mut options: Vec<_> = report
        .options
        .iter()
        .map(|(name, value)| [name.replace('_', " "), value.to_string().trim_matches('"').to_owned()])
        .collect();
    options.push(["started at (Unix time)".to_owned(), report.started_at_unix_secs.to_string()]);
    options.push(["loadgen".to_owned(), report.loadgen_version.to_owned()]);
    section_table(&mut out, "Options", &options);
    if !report.notes.is_empty() {
        out.push_str("<section><h2>Notes</h2><ul>");
        for note in &report.notes {
            let _ = write!(out, "<li>{}</li>", escape(note));
        }
        out.push_str("</ul></section>\n");
    }
    out.push_str("</main></body></html>\n");
    out
}

fn cards(out: &mut String, report: &Report) {
    let count = format!("{} {}s", grouped(report.operations), report.unit);
    let window = format!("in {:.2} s", report.window_secs);
    let mut cards = match report.operations_per_sec {
        Some(per_sec) => vec![(format!("{}/s", rate(per_sec)), format!("{count} {window}"))],
        None => vec![(count, window)],
    };
    if let Some(latency) = report.latencies.first().filter(|latency| latency.count > 0) {
        cards.push((duration_us(latency.p50_us), format!("{}, median", latency.name)));
        cards.push((duration_us(latency.p99_us), format!("{}, p99", latency.name)));
    }
    if let Some(router) = &report.router {
        if let Some(us) = router.cpu_us_per_operation {
            cards.push((format!("{us:.1} us"), format!("router CPU a {}", report.unit)));
        }
        if let Some(rss) = router.rss_bytes_per_unit {
            cards.push((
                bytes(rss),
                format!(
                    "router memory (RSS) a {}, with {}",
                    router.memory_unit,
                    grouped(router.memory_units)
                ),
            ));
        }
    }
    out.push_str("<div class=\"cards\">");
    for (value, label) in cards {
        let _ = write!(out, "<div><b>{}</b><span>{}</span></div>", escape(&value), escape(&label));
    }
    out.push_str("</div>\n");
}

fn latencies(out: &mut String, report: &Report) {
    let curve = chart::latency_by_percentile(&report.latencies);
    if curve.is_empty() {
        return;
    }
    let _ = write!(out, "<section><h2>Latency by percentile</h2>{curve}<div class=\"scroll\"><table><tr>");
    for (index, head) in ["", "count", "mean", "p50", "p90", "p99", "p99.9", "max"].iter().enumerate() {
        let class = if index == 0 { "" } else { " class=\"number\"" };
        let _ = write!(out, "<th{class}>{head}</th>");
    }
    out.push_str("</tr>");
    for (index, latency) in report.latencies.iter().enumerate() {
        let _ = write!(
            out,
            "<tr><td><span class=\"key c{index}\"></span>{}<br><small>{}</small></td>",
            escape(latency.name),
            escape(latency.about)
        );
        // A mean lies between the smallest and the largest value.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mean_us = latency.mean_us.round() as u64;
        let _ = write!(out, "<td class=\"number\">{}</td>", grouped(latency.count));
        for us in [mean_us, latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us] {
            let _ = write!(out, "<td class=\"number\">{}</td>", duration_us(us));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div></section>\n");
}

fn verification(out: &mut String, report: &Report) {
    if let Some(found) = &report.verification {
        let rows: Vec<_> = [
            ("accepted by the router", found.accepted),
            ("received", found.received),
            ("lost", found.lost),
            ("duplicated", found.duplicated),
            ("reordered", found.reordered),
            ("altered", found.altered),
            ("of another queue", found.foreign),
        ]
        .into_iter()
        .map(|(label, count)| [label.to_owned(), grouped(count)])
        .chain(found.examples.iter().map(|example| ["for example".to_owned(), example.clone()]))
        .collect();
        section_table(out, "Verification of messages", &rows);
    }
    let mut rows: Vec<_> =
        report.errors.by_kind.iter().map(|(kind, count)| [kind.clone(), grouped(*count)]).collect();
    rows.extend(report.errors.examples.iter().map(|example| ["for example".to_owned(), example.clone()]));
    if rows.is_empty() {
        rows.push(["none".to_owned(), String::new()]);
    }
    section_table(out, "Errors", &rows);
}

fn resources(out: &mut String, report: &Report) {
    if let Some(router) = &report.router {
        let mut rows = vec![
            ["process".to_owned(), format!("{} ({})", router.pid, router.name)],
            ["CPU time".to_owned(), format!("{:.2} s, {:.2} cores busy", router.cpu_secs, router.cores_busy)],
        ];
        for (label, memory) in
            [("memory before", router.memory_before), ("memory after", router.memory_after)]
        {
            if let Some(memory) = memory {
                let mut text = format!(
                    "{} RSS, {} peak",
                    bytes(as_f64(memory.rss_bytes)),
                    bytes(as_f64(memory.rss_peak_bytes))
                );
                if let Some(pss_bytes) = memory.pss_bytes {
                    let _ = write!(text, ", {} PSS", bytes(as_f64(pss_bytes)));
                }
                rows.push([label.to_owned(), text]);
            }
        }
        section_table(out, "Router", &rows);
    }
    let own = &report.loadgen;
    let rows = [
        ["threads".to_owned(), own.threads.to_string()],
        [
            "CPU time".to_owned(),
            format!("{:.2} s, {:.2} of {} cores busy", own.cpu_secs, own.cores_busy, own.cores_of_machine),
        ],
    ];
    section_table(out, "Load generator", &rows);
}

fn section_table(out: &mut String, title: &str, rows: &[[String; 2]]) {
    let _ = write!(out, "<section><h2>{}</h2><div class=\"scroll\"><table>", escape(title));
    for [label, value] in rows {
        let _ = write!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(label), escape(value));
    }
    out.push_str("</table></div></section>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn is_one_file_without_anything_from_outside() {
        let page = render(&sample::report());
        for outside in ["http:", "https:", "src=", "href=", "@import", "url(", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("<section>").count(), page.matches("</section>").count());
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let mut report = sample::report();
        report.errors.examples = vec!["<script>alert(1)</script>".into()];
        report.router_address = "smp://<f>&\"@h".into();
        let page = render(&report);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
        assert!(page.contains("smp://&lt;f&gt;&amp;&quot;@h"));
    }
}
