//! `smp-server status`: asks the control port of the running router, and shows the answer to people.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exit::{Fatal, Reason};
use crate::settings::Settings;

const ANSWER_WITHIN: Duration = Duration::from_secs(40);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Far above a report of 256 shards.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Clears a terminal.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusOptions {
    /// Show it again every so many seconds.
    pub watch_secs: Option<u64>,
    pub json: bool,
    /// Standard output is a terminal.
    pub is_terminal: bool,
}

/// Shows what the router of this configuration does, once or again and again.
pub fn status(settings: &Settings, options: &StatusOptions, out: &mut dyn Write) -> Result<(), Fatal> {
    let mut control = Control::connect(settings)?;
    let mut before: Option<(Instant, Value)> = None;
    loop {
        let line = control.ask("report")?;
        let at = Instant::now();
        let report: Value =
            serde_json::from_str(&line).map_err(|_| no_answer("it does not answer with a report"))?;
        let text = if options.json {
            line + "\n"
        } else {
            let rates = before.as_ref().map(|(then, report)| (at - *then, report));
            let clear = if options.watch_secs.is_some() && options.is_terminal { CLEAR } else { "" };
            format!("{clear}{}", shown(&report, rates))
        };
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        let (Some(secs), Ok(())) = (options.watch_secs, written) else { return Ok(()) };
        before = Some((at, report));
        std::thread::sleep(Duration::from_secs(secs));
    }
}

/// A connection to the control port that has its role.
struct Control {
    lines: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Control {
    fn connect(settings: &Settings) -> Result<Self, Fatal> {
        let control = &settings.operator.control;
        let remedy =
            "Set [TRANSPORT] control_port and [AUTH] control_port_user_password in the ini, and restart.";
        let port = control
            .port
            .ok_or_else(|| Fatal::new(Reason::Config, "the router has no control port").remedy(remedy))?;
        let password = control.user_password.as_ref().or(control.admin_password.as_ref());
        let password = password
            .ok_or_else(|| Fatal::new(Reason::Config, "the control port has no password").remedy(remedy))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            stream.set_write_timeout(Some(ANSWER_WITHIN))?;
            Ok(Self { lines: BufReader::new(stream.try_clone()?), stream })
        };
        let mut control: Self = connect().map_err(|error: io::Error| {
            no_answer(&format!("{address}: {error}"))
                .remedy("Is it running? The control port is opened when it starts.")
        })?;
        // The banner has two lines.
        control.read()?;
        control.read()?;
        if control.ask(&format!("auth {password}"))? == "Current role is CPRNone" {
            return Err(Fatal::new(Reason::Config, format!("the router at {address} has another password"))
                .remedy("Its ini has changed since it started: reload it with SIGHUP."));
        }
        Ok(control)
    }

    /// One line for one line.
    fn ask(&mut self, command: &str) -> Result<String, Fatal> {
        let asked = self.stream.write_all(format!("{command}\n").as_bytes());
        asked.map_err(|error| no_answer(&error.to_string()))?;
        self.read()
    }

    fn read(&mut self) -> Result<String, Fatal> {
        let mut line = String::new();
        let read = io::Read::take(&mut self.lines, LINE_BYTES_MAX).read_line(&mut line);
        match read {
            Ok(_) if line.ends_with('\n') => Ok(line.trim_end().to_owned()),
            Ok(_) => Err(no_answer("it has closed the connection")),
            Err(error) => Err(no_answer(&error.to_string())),
        }
    }
}

fn no_answer(why: &str) -> Fatal {
    Fatal::new(Reason::NotRunning, format!("the control port does not answer: {why}"))
}

/// A report, as far as it is shown.
struct Report<'a>(&'a Value);

impl Report<'_> {
    fn number(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    fn statistic(&self, name: &str) -> u64 {
        self.0.get("statistics").and_then(|all| all.get(name)).and_then(Value::as_u64).unwrap_or(0)
    }

    fn shards(&self) -> impl Iterator<Item = &Value> {
        self.0.get("shards").and_then(Value::as_array).into_iter().flatten()
    }

    fn of_shards(&self, name: &str) -> impl Iterator<Item = u64> {
        self.shards().map(move |shard| shard.get(name).and_then(Value::as_u64).unwrap_or(0))
    }

    fn sum(&self, name: &str) -> u64 {
        self.of_shards(name).sum()
    }

    /// Of all counters that begin like this.
    fn sum_of(&self, prefix: &str) -> u64 {
        let counters = self.shards().filter_map(Value::as_object).flatten();
        let values = counters.filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value);
        values.filter_map(Value::as_u64).sum()
    }

    fn max(&self, name: &str) -> u64 {
        self.of_shards(name).max().unwrap_or(0)
    }

    /// Of a sum of microseconds, in milliseconds.
    fn mean_ms(&self, sum: &str, count: &str) -> String {
        self.sum(sum).checked_div(self.sum(count)).map_or_else(|| "-".to_owned(), ms)
    }
}

fn ms(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10)
}

/// The text for people; with an earlier report also what happens in a second.
fn shown(value: &Value, before: Option<(Duration, &Value)>) -> String {
    let report = Report(value);
    let mut lines = vec![head(&report)];
    let ports: Vec<String> = value
        .get("listeners")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|listener| {
            let number = |key| listener.get(key).and_then(Value::as_u64).unwrap_or(0);
            format!("{} on port {}", grouped(number("accepted")), number("port"))
        })
        .collect();
    let refused = report.sum_of("refused_") - report.sum("refused_no_space");
    lines.push(row(
        "Connections",
        &format!(
            "{} now; {} accepted, {} refused, {} failed handshakes",
            grouped(report.sum("connections")),
            ports.join(", "),
            grouped(refused),
            grouped(report.sum_of("handshakes_failed_")),
        ),
    ));
    lines.push(row(
        "Subscriptions",
        &format!(
            "{} of queues, {} of notifiers; {} deliveries not acknowledged, for up to {}",
            grouped(report.sum("subscriptions")),
            grouped(report.sum("notifier_subscriptions")),
            grouped(report.number("/subscriptions/deliveries")),
            duration(report.number("/subscriptions/delivery_longest_secs")),
        ),
    ));
    lines.extend(services(&report));
    lines.push(row(
        "Queues",
        &format!(
            "{}; {} with notifier, {} with link; active today {}, this week {}, this month {}",
            grouped(report.sum("queues")),
            grouped(report.sum("notifiers")),
            grouped(report.sum("links")),
            grouped(report.sum("active_day")),
            grouped(report.sum("active_week")),
            grouped(report.sum("active_month")),
        ),
    ));
    lines.push(row(
        "Messages",
        &format!(
            "{} stored, {} of bodies in memory; {} notifications kept",
            grouped(report.sum("messages")),
            bytes(report.sum("message_bytes")),
            grouped(report.sum("notifications")),
        ),
    ));
    lines.push(row(
        "Log",
        &format!(
            "{} commits, {} each, {} the longest; {} written",
            grouped(report.sum("log_commits")),
            report.mean_ms("log_commit_us", "log_commits"),
            ms(report.max("log_commit_us_max")),
            bytes(report.sum("log_written_bytes")),
        ),
    ));
    lines.push(row(
        "Shards",
        &format!(
            "timers {} late, {} the latest; {} a hop between shards; {} blocks lent",
            report.mean_ms("timer_late_us", "timer_checks"),
            ms(report.max("timer_late_us_max")),
            report.mean_ms("mesh_latency_us", "mesh_messages"),
            grouped(report.sum("arena_lent")),
        ),
    ));
    lines.extend(since(&report));
    if let Some((elapsed, before)) = before {
        lines.extend(rates(&report, &Report(before), elapsed));
    }
    lines.join("\n") + "\n"
}

fn head(report: &Report<'_>) -> String {
    let version = report.0.get("version").and_then(Value::as_str).unwrap_or("of an unknown version");
    format!(
        "smp-server {version}, running for {}, {} shards, {} of memory, {} of processor time\n",
        duration(report.number("/uptime_secs")),
        report.shards().count(),
        bytes(report.number("/process/resident_bytes")),
        duration(report.number("/process/cpu_ms") / 1_000),
    )
}

/// Services, if there are some.
fn services(report: &Report<'_>) -> Option<String> {
    let kinds = [("recipient", "receiving"), ("notifier", "notified")];
    let shown = kinds.map(|(kind, word)| {
        let stored = |what: &str| grouped(report.sum(&format!("{kind}_service_{what}")));
        let subscribed = grouped(report.number(&format!("/subscriptions/{kind}_services")));
        format!("{} {word} with {} queues, {subscribed} subscribed", stored("count"), stored("queues"))
    });
    (report.sum("services") > 0).then(|| row("Services", &shown.join("; ")))
}

/// The statistics.
fn since(report: &Report<'_>) -> Vec<String> {
    let from = Duration::from_secs(report.number("/statistics_from_secs"));
    let from = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + from).to_string();
    let number = |name| grouped(report.statistic(name));
    let from = from.get(..16).unwrap_or_default().replace('T', " ");
    vec![
        format!("\nSince {from} UTC"),
        row(
            "  queues",
            &format!(
                "{} made, {} secured, {} deleted, {} blocked",
                number("qCreated"),
                number("qSecured"),
                number("qDeletedAll"),
                number("qBlocked")
            ),
        ),
        row(
            "  messages",
            &format!(
                "{} taken, {} acknowledged, {} expired, {} notifications sent",
                number("msgSent"),
                number("msgRecv"),
                number("msgExpired"),
                number("msgNtfs")
            ),
        ),
        row(
            "  refused",
            &format!(
                "SEND: {} not authorized, {} over quota, {} too large, {} blocked; SUB: {} not authorized",
                number("msgSentAuth"),
                number("msgSentQuota"),
                number("msgSentLarge"),
                number("msgSentBlock"),
                number("qSubAuth")
            ),
        ),
        row(
            "  forwarded",
            &format!(
                "{} to relays, {} answered; {} from proxies",
                number("pMsgFwds.requests"),
                number("pMsgFwds.successes"),
                number("pMsgFwdsRecv")
            ),
        ),
    ]
}

/// In a second, between two reports.
fn rates(now: &Report<'_>, before: &Report<'_>, elapsed: Duration) -> Vec<String> {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |name: &str| grouped(now.sum(name).saturating_sub(before.sum(name)) * 1_000 / ms);
    let cpu_ms = now.number("/process/cpu_ms").saturating_sub(before.number("/process/cpu_ms"));
    vec![
        format!("\nIn a second, over the last {} s", ms.div_ceil(1_000)),
        row(
            "  messages",
            &format!("{} taken, {} delivered", rate("messages_received"), rate("messages_delivered")),
        ),
        row(
            "  work",
            &format!(
                "{} commands, {} blocks in, {} out, {} connections accepted",
                rate("commands"),
                rate("blocks_received"),
                rate("blocks_sent"),
                rate("connections_accepted")
            ),
        ),
        row("  processor", &format!("{} %", cpu_ms * 100 / ms)),
    ]
}

fn row(name: &str, text: &str) -> String {
    format!("{name:<15}{text}")
}

/// With a space at each thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn bytes(count: u64) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match count {
        0..10_000 => write!(text, "{count} B"),
        10_000..10_000_000 => write!(text, "{} kB", grouped(count / 1_000)),
        10_000_000..10_000_000_000 => write!(text, "{} MB", grouped(count / 1_000_000)),
        _ => write!(text, "{} GB", grouped(count / 1_000_000_000)),
    };
    text
}

fn duration(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!(
            [5, 9_999, 10_000, 12_000_000, 70_000_000_000].map(bytes),
            ["5 B", "9999 B", "10 kB", "12 MB", "70 GB"]
        );
        assert_eq!([5, 65, 3_660, 90_000].map(duration), ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn a_report_is_shown_with_sums_and_rates() {
        let report = |messages: u64, cpu_ms: u64| {
            json!({
                "version": "1.2.3",
                "uptime_secs": 65,
                "statistics_from_secs": 1_795_384_923_u64,
                "process": { "resident_bytes": 45_000_000, "cpu_ms": cpu_ms },
                "listeners": [{ "port": 5223, "accepted": 7, "closed": 2 }],
                "statistics": { "msgSent": messages, "pMsgFwds.requests": 4 },
                "subscriptions": { "deliveries": 6, "delivery_longest_secs": 70, "recipient_services": 1 },
                "shards": [
                    { "services": 2, "recipient_service_count": 2, "recipient_service_queues": 8,
                      "notifier_service_queues": 1, "connections": 3, "messages_received": messages, "refused_address": 1, "log_commits": 2,
                      "log_commit_us": 3_000, "log_commit_us_max": 2_500 },
                    { "connections": 2, "messages_received": 0, "refused_no_space": 9, "log_commit_us_max": 100 },
                ],
            })
        };
        let (before, now) = (report(100, 1_000), report(1_100, 2_000));
        let text = shown(&now, Some((Duration::from_secs(2), &before)));
        for words in [
            "smp-server 1.2.3, running for 1 min 5 s, 2 shards, 45 MB of memory, 2 s of processor time",
            "Connections    5 now; 7 on port 5223 accepted, 1 refused",
            "Subscriptions  0 of queues, 0 of notifiers; 6 deliveries not acknowledged, for up to 1 min 10 s",
            "Services       2 receiving with 8 queues, 1 subscribed; 0 notified with 1 queues, 0 subscribed",
            "Log            2 commits, 1.50 ms each, 2.50 ms the longest",
            "Since 2026-11-22 22:02 UTC",
            "  messages     1 100 taken, 0 acknowledged",
            "  forwarded    4 to relays",
            "  messages     500 taken, 0 delivered",
            "  processor    50 %",
        ] {
            assert!(text.contains(words), "expected {words:?} in:\n{text}");
        }
        assert!(!shown(&now, None).contains("In a second"));
    }

    #[test]
    fn a_report_of_nothing_is_shown_too() {
        let text = shown(&json!({}), None);
        assert!(text.contains("Queues         0;") && !text.contains("Services"), "{text}");
    }
}
