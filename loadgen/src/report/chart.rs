//! Line charts as inline SVG. Colours come from the CSS variables of the page.

use std::fmt::Write as _;

use super::{duration_us, grouped, rate};
use crate::stats::{Latency, RatePoint};

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// With more steps than this only powers of ten get a line.
const Y_TICKS_MAX: usize = 9;

/// Shares of the plot, from the lower left corner, to SVG coordinates.
fn place(x: f64, y: f64) -> (f64, f64) {
    (LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM))
}

struct Chart {
    svg: String,
}

impl Chart {
    fn new(title: &str) -> Self {
        let svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">"#);
        Self { svg }
    }

    fn x_tick(&mut self, x: f64, label: &str) {
        let ((x, bottom), (_, top)) = (place(x, 0.0), place(x, 1.0));
        let _ = write!(self.svg, r#"<path class="grid" d="M{x:.1} {bottom:.1}V{top:.1}"/>"#);
        let _ = write!(
            self.svg,
            r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
            bottom + 18.0
        );
    }

    fn y_tick(&mut self, y: f64, label: &str) {
        let ((left, y), (right, _)) = (place(0.0, y), place(1.0, y));
        let _ = write!(self.svg, r#"<path class="grid" d="M{left:.1} {y:.1}H{right:.1}"/>"#);
        let _ = write!(
            self.svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#,
            left - 8.0,
            y + 4.0
        );
    }

    fn x_title(&mut self, text: &str) {
        let (x, y) = place(0.5, 0.0);
        let _ =
            write!(self.svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#, y + 38.0);
    }

    /// `points` as shares of the plot.
    fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        for (x, y) in points {
            let (x, y) = place(x, y);
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
        }
        let _ = write!(self.svg, r#"<path class="line {class}" d="{path}"/>"#);
    }

    /// A mark that tells its value when pointed at.
    fn dot(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let (x, y) = place(x, y);
        let _ = write!(
            self.svg,
            r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="3.5"><title>{text}</title></circle>"#
        );
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// Latency (logarithmic) by percentile (by the number of nines). Empty without values.
pub fn latency_by_percentile(latencies: &[Latency]) -> String {
    let points = || latencies.iter().flat_map(|latency| &latency.curve);
    let low = points().map(|point| point.latency_us.max(1)).min();
    let high = points().map(|point| point.latency_us.max(1)).max();
    let (Some(low), Some(high)) = (low, high) else {
        return String::new();
    };
    // From the 1-2-5 step below the lowest value to the one above the highest.
    let steps: Vec<u64> =
        (0..11).flat_map(|decade| [1, 2, 5].map(|step: u64| step * 10_u64.pow(decade))).collect();
    let first = steps.iter().rposition(|&step| step <= low).unwrap_or(0);
    let last = steps.iter().position(|&step| step >= high && step > steps[first]).unwrap_or(steps.len() - 1);
    let log = |us: u64| crate::stats::as_f64(us.max(1)).log10();
    let (log_low, log_high) = (log(steps[first]), log(steps[last]));
    let y = |us: u64| ((log(us) - log_low) / (log_high - log_low)).clamp(0.0, 1.0);
    let nines_of = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let nines_max = points()
        .filter(|point| point.percentile < 100.0)
        .map(|point| nines_of(point.percentile))
        .fold(1.0, f64::max);
    // The highest value gets a place of its own at the right edge.
    let x = |percentile: f64| if percentile >= 100.0 { 1.0 } else { nines_of(percentile) / nines_max * 0.96 };

    let mut chart = Chart::new("Latency by percentile");
    let shown = &steps[first..=last];
    let decades_only = shown.len() > Y_TICKS_MAX;
    for &step in shown.iter().filter(|step| !decades_only || step.ilog10() != (*step - 1).max(1).ilog10()) {
        chart.y_tick(y(step), &round_us(step));
    }
    for percentile in [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999] {
        if nines_of(percentile) <= nines_max {
            chart.x_tick(x(percentile), &percentile.to_string());
        }
    }
    chart.x_tick(1.0, "max");
    chart.x_title("percentile");
    for (index, latency) in latencies.iter().enumerate() {
        let class = format!("c{index}");
        chart.line(&class, latency.curve.iter().map(|point| (x(point.percentile), y(point.latency_us))));
        for (percentile, us, label) in [
            (50.0, latency.p50_us, "p50"),
            (90.0, latency.p90_us, "p90"),
            (99.0, latency.p99_us, "p99"),
            (99.9, latency.p999_us, "p99.9"),
            (100.0, latency.max_us, "max"),
        ] {
            if latency.count > 0 && (percentile >= 100.0 || nines_of(percentile) <= nines_max) {
                let text = format!("{} {label}: {}", latency.name, duration_us(us));
                chart.dot(&class, (x(percentile), y(us)), &text);
            }
        }
    }
    chart.finish()
}

/// The rate over the time of the window. Empty with fewer than two points.
pub fn rate_over_time(rates: &[RatePoint], unit: &str) -> String {
    let (Some(end), true) = (rates.last(), rates.len() >= 2) else {
        return String::new();
    };
    let highest = rates.iter().map(|rate| rate.per_sec).fold(0.0, f64::max);
    let step = nice_step(highest, 5);
    let top = (highest / step).ceil().max(1.0) * step;
    let x = |secs: f64| secs / end.at_secs;
    let mut chart = Chart::new("Throughput over time");
    let mut tick = 0.0;
    while tick <= top * 1.001 {
        chart.y_tick(tick / top, &round_rate(tick, step));
        tick += step;
    }
    let step_secs = nice_step(end.at_secs, 8);
    let mut secs = 0.0;
    while secs <= end.at_secs * 1.001 {
        chart.x_tick(x(secs), &format!("{} s", rounded(secs)));
        secs += step_secs;
    }
    chart.x_title(&format!("{unit}s a second, over the measured time"));
    chart.line("c0", rates.iter().map(|rate| (x(rate.at_secs), rate.per_sec / top)));
    for point in rates {
        let text = format!("{} s: {}/s", rounded(point.at_secs), rate(point.per_sec));
        chart.dot("c0 small", (x(point.at_secs), point.per_sec / top), &text);
    }
    chart.finish()
}

/// The step of the form 1, 2 or 5 times a power of ten that divides `range` into at most `parts_max` parts.
fn nice_step(range: f64, parts_max: u32) -> f64 {
    let rough = (range / f64::from(parts_max)).max(1e-9);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|&step| step >= rough)
        .unwrap_or(10.0 * power)
}

/// A step of the latency axis: it has one significant digit.
fn round_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

/// A step of the rate axis.
fn round_rate(per_sec: f64, step: f64) -> String {
    if step < 1.0 {
        return format!("{per_sec:.2}");
    }
    // Whole numbers, and far below 2^53.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    grouped(per_sec.round() as u64)
}

fn rounded(secs: f64) -> f64 {
    (secs * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn steps_are_round() {
        for (range, parts, step) in [(10.0, 5, 2.0), (12_540.0, 5, 5_000.0), (0.9, 8, 0.2), (100.0, 10, 10.0)]
        {
            assert!((nice_step(range, parts) - step).abs() < 1e-9 * step, "{range} {parts}");
        }
    }

    #[test]
    fn every_point_lies_on_the_canvas() {
        let report = sample::report();
        for svg in [latency_by_percentile(&report.latencies), rate_over_time(&report.rates, report.unit)] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            for circle in svg.split("<circle").skip(1) {
                let value = |name: &str| -> f64 {
                    let rest = circle.split_once(name).map_or("", |(_, rest)| rest);
                    rest.split('"').next().and_then(|text| text.parse().ok()).unwrap_or(-1.0)
                };
                assert!((0.0..=WIDTH).contains(&value("cx=\"")), "{circle}");
                assert!((0.0..=HEIGHT).contains(&value("cy=\"")), "{circle}");
            }
        }
    }

    #[test]
    fn nothing_measured_gives_no_chart() {
        assert!(latency_by_percentile(&[]).is_empty());
        assert!(rate_over_time(&[], "message").is_empty());
        let stalled = [RatePoint { at_secs: 1.0, per_sec: 0.0 }, RatePoint { at_secs: 2.0, per_sec: 0.0 }];
        let svg = rate_over_time(&stalled, "message");
        assert!(!svg.contains("NaN") && svg.len() < 4000, "{svg}");
    }

    #[test]
    fn one_value_gives_a_chart() {
        let recorder = crate::stats::Recorder::new(1);
        recorder.record_ns(0, 1_000_000);
        let svg = latency_by_percentile(&[recorder.summary("x", "")]);
        assert!(svg.contains("max") && !svg.contains("NaN"), "{svg}");
    }
}
