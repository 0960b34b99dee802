//! `smp-server-stats.log`: the statistics over a restart, in the form of the reference, so that they move with a router.
//!
//! The file has sets of hashes of the queues that were active in the day, the week and the month in which it was written;
//! its own time says which these are. The reference hashes IDs in its own way: after a move a queue that is active again
//! counts twice until the end of the week and the month.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::SystemTime;

use ringpost_shard::service::{ActiveQueue, Periods};

use super::{BEFORE_QUEUE_COUNT, FORWARDS_RECEIVED, Field, PLAIN, RELAYS, SERVICES, Totals};

/// Far above the file of a router with ten million active queues.
pub const BYTES_MAX: u64 = 2 << 30;

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    pub from: SystemTime,
    /// By full name.
    pub values: BTreeMap<String, u64>,
    pub active: Vec<ActiveQueue>,
    /// Lines that say nothing to us.
    pub unknown: Vec<String>,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}")]
pub struct BadFile {
    /// From 1.
    pub line: usize,
    pub expected: &'static str,
}

/// The text of a file of this day.
pub fn write(totals: &Totals, active: &[ActiveQueue], periods: Periods) -> String {
    let mut text = format!("fromTime={}\n", humantime::format_rfc3339_nanos(totals.from));
    let mut line = |key: &str, name: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{key}={}", totals.get(name));
    };
    let (before, after) = PLAIN.split_at(BEFORE_QUEUE_COUNT);
    for field in before {
        line(field.name, field.name);
    }
    line("qCount", "qCount");
    for field in after {
        line(field.name, field.name);
    }
    write_active(&mut text, "activeQueues", active, periods, |queue| queue.day);
    write_active(&mut text, "activeQueuesNtf", active, periods, |queue| queue.notified_day);
    write_groups(&mut text, totals, RELAYS);
    let _ = writeln!(text, "{}={}", FORWARDS_RECEIVED.name, totals.get(FORWARDS_RECEIVED.name));
    write_groups(&mut text, totals, SERVICES);
    text
}

fn write_groups(text: &mut String, totals: &Totals, groups: &[(&str, &[Field])]) {
    for (group, fields) in groups {
        let _ = writeln!(text, "{group}:");
        for field in *fields {
            let _ = writeln!(text, "{}={}", field.name, totals.get(&format!("{group}.{}", field.name)));
        }
    }
}

fn write_active(
    text: &mut String,
    group: &str,
    active: &[ActiveQueue],
    periods: Periods,
    day_of: impl Fn(&ActiveQueue) -> u16,
) {
    let _ = writeln!(text, "{group}:");
    for (key, start) in
        [("dayHashes", periods.day), ("weekHashes", periods.week_start), ("monthHashes", periods.month_start)]
    {
        let in_period = active.iter().filter(|queue| day_of(queue) >= start.max(1));
        // The reference writes 64-bit numbers with sign, in order.
        let hashes: BTreeSet<i64> = in_period.map(|queue| queue.hash.cast_signed()).collect();
        let _ = write!(text, "{key}=");
        for (place, hash) in hashes.iter().enumerate() {
            let _ = write!(text, "{}{hash}", if place == 0 { "" } else { "," });
        }
        text.push('\n');
    }
}

/// Hashes of one kind of activity, by period.
#[derive(Default)]
struct Hashes {
    day: BTreeSet<i64>,
    week: BTreeSet<i64>,
    month: BTreeSet<i64>,
}

impl Hashes {
    /// The last day that fits what the sets say of a hash. 0: none.
    fn last_day(&self, hash: i64, written: Periods) -> u16 {
        let (in_week, in_month) = (self.week.contains(&hash), self.month.contains(&hash));
        if self.day.contains(&hash) {
            return written.day;
        }
        if !in_week && !in_month {
            return 0;
        }
        let fits =
            |day: &u16| (*day >= written.week_start) == in_week && (*day >= written.month_start) == in_month;
        // Sets that contradict each other are those of a router that stood still at midnight.
        (written.start()..written.day).rev().find(fits).unwrap_or(written.day)
    }

    fn all(&self) -> impl Iterator<Item = i64> {
        self.day.iter().chain(&self.week).chain(&self.month).copied()
    }
}

/// Reads a file that was written on a day.
pub fn read(text: &str, written: Periods) -> Result<Saved, BadFile> {
    let mut from = None;
    let mut values = BTreeMap::new();
    let mut unknown = Vec::new();
    let (mut all, mut notified) = (Hashes::default(), Hashes::default());
    let mut group = String::new();
    let grouped = |group: &str| RELAYS.iter().chain(SERVICES).find(|(name, _)| *name == group);
    for (index, content) in text.lines().enumerate() {
        let bad = |expected| BadFile { line: index + 1, expected };
        if content.is_empty() {
            continue;
        }
        if let Some(name) = content.strip_suffix(':') {
            name.clone_into(&mut group);
            continue;
        }
        let (key, value) = content.split_once('=').ok_or_else(|| bad("key=value, or a group and a colon"))?;
        if key == "fromTime" {
            let time = humantime::parse_rfc3339(value).map_err(|_| bad("a time, as 2026-11-27T20:00:00Z"))?;
            from = Some(time);
            continue;
        }
        if let Some(set) = hashes_of(&mut all, &mut notified, &group, key) {
            for hash in value.split(',').filter(|hash| !hash.is_empty()) {
                set.insert(hash.parse().map_err(|_| bad("numbers separated by commas"))?);
            }
            continue;
        }
        let is_plain = key == "qCount" || PLAIN.iter().chain([&FORWARDS_RECEIVED]).any(|f| f.name == key);
        let name = match grouped(&group).filter(|(_, fields)| fields.iter().any(|f| f.name == key)) {
            Some((group, _)) if !is_plain => format!("{group}.{key}"),
            _ if is_plain => key.to_owned(),
            // Of all deleted queues, before they were told apart.
            _ if key == "qDeleted" => "qDeletedAll".to_owned(),
            _ => {
                unknown.push(format!("{key} in line {}", index + 1));
                continue;
            }
        };
        values.insert(name, value.parse().map_err(|_| bad("a number"))?);
    }
    let hashes: BTreeSet<i64> = all.all().chain(notified.all()).collect();
    let active = hashes.into_iter().map(|hash| ActiveQueue {
        hash: hash.cast_unsigned(),
        day: all.last_day(hash, written).max(notified.last_day(hash, written)),
        notified_day: notified.last_day(hash, written),
    });
    let active = active.collect();
    let from = from.ok_or(BadFile { line: 1, expected: "fromTime=" })?;
    Ok(Saved { from, values, active, unknown })
}

fn hashes_of<'a>(
    all: &'a mut Hashes,
    notified: &'a mut Hashes,
    group: &str,
    key: &str,
) -> Option<&'a mut BTreeSet<i64>> {
    let hashes = match group {
        "activeQueues" => all,
        "activeQueuesNtf" => notified,
        _ => return None,
    };
    match key {
        "dayHashes" => Some(&mut hashes.day),
        "weekHashes" => Some(&mut hashes.week),
        "monthHashes" => Some(&mut hashes.month),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::super::{Statistics, Sums};
    use super::*;

    /// A Sunday.
    const RECORDED_DAY: u16 = 20_779;

    fn recorded() -> String {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shared/vectors/reference_data/log/smp-server-stats.log"
        );
        std::fs::read_to_string(path).unwrap()
    }

    fn carried(saved: &Saved) -> Totals {
        let mut statistics = Statistics::new(UNIX_EPOCH);
        statistics.carry(saved.from, saved.values.clone());
        statistics.totals(&Sums::from([("queues", saved.values["qCount"])]))
    }

    #[test]
    fn the_file_of_the_reference_is_read_and_written_back_as_it_was() {
        let text = recorded();
        let periods = Periods::of(RECORDED_DAY);
        let saved = read(&text, periods).unwrap();
        assert_eq!(saved.unknown, [""; 0]);
        assert_eq!((saved.values["qCreated"], saved.values["ntfServices.assocNew"]), (9, 1));
        assert_eq!((saved.active.len(), saved.active[0].day), (7, RECORDED_DAY));
        assert_eq!(saved.active.iter().filter(|queue| queue.notified_day > 0).count(), 3);
        assert_eq!(write(&carried(&saved), &saved.active, periods), text);
    }

    #[test]
    fn older_forms_are_read_as_far_as_they_say_something() {
        let text = "fromTime=2023-01-01T00:00:00Z\nqCreated=5\nqSecured=4\nqDeleted=3\nqSubNoMsg=1\nmsgSent=2\n\
                    msgRecv=1\nactiveQueues:\nday=AAAA\nweek=AAAA\nmonth=AAAA\n";
        let saved = read(text, Periods::of(RECORDED_DAY)).unwrap();
        assert_eq!((saved.values["qDeletedAll"], saved.values["msgSent"]), (3, 2));
        assert_eq!(saved.unknown.len(), 4);
        assert_eq!(saved.active, []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let periods = Periods::of(RECORDED_DAY);
        for (text, error) in [
            ("", "line 1: expected fromTime="),
            ("fromTime=yesterday\n", "line 1: expected a time, as 2026-11-27T20:00:00Z"),
            ("fromTime=2023-01-01T00:00:00Z\nqCreated=-1\n", "line 2: expected a number"),
            (
                "fromTime=2023-01-01T00:00:00Z\n\nqCreated\n",
                "line 3: expected key=value, or a group and a colon",
            ),
            ("activeQueues:\ndayHashes=1,x\n", "line 2: expected numbers separated by commas"),
        ] {
            assert_eq!(read(text, periods).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn sets_that_contradict_each_other_are_taken_for_today() {
        // In the month, not in the week, on a day when both began.
        let monday_first = Periods::of(20_605);
        let text = "fromTime=2026-06-01T00:00:00Z\nactiveQueues:\ndayHashes=\nweekHashes=\nmonthHashes=5\n";
        assert_eq!(read(text, monday_first).unwrap().active[0].day, 20_605);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            day in 400_u16..30_000,
            queues in proptest::collection::btree_map(any::<u64>(), (0_u16..40, 0_u16..40), 0..50),
            created: u32,
        ) {
            let periods = Periods::of(day);
            let active: Vec<ActiveQueue> = queues
                .into_iter()
                .map(|(hash, (ago, notified_ago))| {
                    let last = day - ago;
                    ActiveQueue { hash, day: last, notified_day: last.min(day - notified_ago) }
                })
                .collect();
            let totals =
                Statistics::new(UNIX_EPOCH).totals(&Sums::from([("queues_created", u64::from(created))]));
            let saved = read(&write(&totals, &active, periods), periods).unwrap();
            prop_assert_eq!(saved.values["qCreated"], u64::from(created));
            // Days are known as far as they matter: in which periods they are.
            let kinds = |last: u16| {
                [periods.day, periods.week_start, periods.month_start].map(|start| last >= start)
            };
            for queue in &active {
                let found = saved.active.iter().find(|found| found.hash == queue.hash);
                if let Some(found) = found {
                    prop_assert_eq!(kinds(found.day), kinds(queue.day));
                    prop_assert_eq!(kinds(found.notified_day), kinds(queue.notified_day));
                } else {
                    prop_assert_eq!(kinds(queue.day), [false; 3]);
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(fromTime=2023-01-01T00:00:00Z\n)?[a-zA-Z:=,0-9\n-]{0,200}") {
            let _ = read(&text, Periods::of(RECORDED_DAY));
        }
    }
}
