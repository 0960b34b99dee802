//! `smp-server-stats.daily.log`: one line of CSV for each day, in the columns of the reference.

use std::time::SystemTime;

use ringpost_shard::service::{DayCounts, Periods};

use super::{FORWARDS_RECEIVED, Field, RELAYS, SERVICES, Totals};

/// What stands in a column.
#[derive(Clone, Copy)]
enum Column {
    /// A number of the statistics.
    Number(&'static str),
    /// Active queues in the day, the week and the month: three columns.
    Active,
    ActiveNotified,
    /// So many columns of something that the reference does not count any more.
    Zero(usize),
    Relays,
    Services,
}

use Column::{Active, ActiveNotified, Number, Relays, Services, Zero};

/// After the date.
const COLUMNS: &[Column] = &[
    Number("qCreated"),
    Number("qSecured"),
    Number("qDeletedAll"),
    Number("msgSent"),
    Number("msgRecv"),
    Active,
    Number("msgSentNtf"),
    Number("msgRecvNtf"),
    ActiveNotified,
    Number("qCount"),
    Number("msgCount"),
    Number("msgExpired"),
    Number("qDeletedNew"),
    Number("qDeletedSecured"),
    Relays,
    Number(FORWARDS_RECEIVED.name),
    Number("qSub"),
    Number("qSubAuth"),
    Number("qSubDuplicate"),
    Number("qSubProhibited"),
    Number("msgSentAuth"),
    Number("msgSentQuota"),
    Number("msgSentLarge"),
    Number("msgNtfs"),
    Number("msgNtfNoSub"),
    Number("msgNtfLost"),
    Zero(1),
    Number("msgRecvGet"),
    Number("msgGet"),
    Number("msgGetNoMsg"),
    Number("msgGetAuth"),
    Number("msgGetDuplicate"),
    Number("msgGetProhibited"),
    Zero(3),
    // Counted in another way by the reference.
    Number("qCount"),
    Number("ntfCreated"),
    Number("ntfDeleted"),
    Number("ntfSub"),
    Number("ntfSubAuth"),
    Number("ntfSubDuplicate"),
    Number("notifierCount"),
    Number("qDeletedAllB"),
    Number("qSubAllB"),
    Number("qSubEnd"),
    Number("qSubEndB"),
    Number("ntfDeletedB"),
    Number("ntfSubB"),
    Number("msgNtfsB"),
    Number("msgNtfExpired"),
    Number("ntfCount"),
    Number("rcvServiceCount"),
    Number("ntfServiceCount"),
    Number("rcvServiceQueuesCount"),
    Number("ntfServiceQueuesCount"),
    Services,
];

/// The line for the statistics up to the end of a day; `today` is the one that has just begun. The week's and the month's
/// counts stand in the line of their last day.
pub fn line(totals: &Totals, ended: &DayCounts, today: Periods) -> String {
    let mut columns = vec![date(totals.from)];
    for column in COLUMNS {
        match column {
            Number(name) => columns.push(totals.get(name).to_string()),
            Active => columns.extend(active(&ended.all, today)),
            ActiveNotified => columns.extend(active(&ended.notified, today)),
            Zero(count) => columns.extend(std::iter::repeat_n("0".to_owned(), *count)),
            Relays => columns.extend(groups(totals, RELAYS)),
            Services => columns.extend(groups(totals, SERVICES)),
        }
    }
    columns.join(",")
}

fn groups<'a>(totals: &'a Totals, groups: &'a [(&'a str, &'a [Field])]) -> impl Iterator<Item = String> + 'a {
    groups.iter().flat_map(move |(group, fields)| {
        fields.iter().map(move |field| totals.get(&format!("{group}.{}", field.name)).to_string())
    })
}

fn active(counts: &ringpost_shard::service::ActiveCounts, today: Periods) -> [String; 3] {
    let if_ended = |begins: u16, count: u64| {
        if begins == today.day { count.to_string() } else { String::new() }
    };
    [
        counts.day.to_string(),
        if_ended(today.week_start, counts.week),
        if_ended(today.month_start, counts.month),
    ]
}

/// As `2026-11-27`, in UTC.
pub fn date(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.get(..10).unwrap_or(&text).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use ringpost_shard::service::ActiveCounts;
    use serde_json::Value;

    use super::super::{Statistics, Sums};
    use super::*;

    /// Every column of the recorded line, put in by its recorded name, comes out at its place.
    #[test]
    fn the_line_of_the_reference_is_made_of_its_numbers() {
        let path =
            |name| format!("{}/../../shared/vectors/reference_data/{name}", env!("CARGO_MANIFEST_DIR"));
        let recorded = std::fs::read_to_string(path("log/smp-server-stats.daily.log")).unwrap();
        let columns: Value =
            serde_json::from_str(&std::fs::read_to_string(path("samples/stats_daily_columns.json")).unwrap())
                .unwrap();
        let mut carried = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for column in columns["columns"].as_array().unwrap() {
            let name =
                column["name"].as_str().unwrap().split(' ').next().unwrap().replace("Updated", "Updatedt");
            let sample = column["sample"].as_str().unwrap();
            if let Ok(number) = sample.parse::<u64>() {
                carried.insert(name.clone(), number);
            }
            by_name.insert(name, sample.to_owned());
        }
        let mut statistics = Statistics::new(std::time::UNIX_EPOCH);
        statistics.carry(humantime::parse_rfc3339("2026-11-22T22:02:03Z").unwrap(), carried.clone());
        let gauge = |name: &str| carried[name];
        let sums = Sums::from([
            ("queues", gauge("qCount")),
            ("messages", gauge("msgCount")),
            ("notifications", gauge("ntfCount")),
            ("notifiers", gauge("notifier")),
            ("recipient_service_count", gauge("rcvServiceCount")),
            ("notifier_service_count", gauge("ntfServiceCount")),
            ("recipient_service_queues", gauge("rcvServiceQueuesCount")),
            ("notifier_service_queues", gauge("ntfServiceQueuesCount")),
        ]);
        let counts = |group: &str| ActiveCounts {
            day: gauge(&format!("{group}.day")),
            week: gauge(&format!("{group}.week")),
            month: 99,
        };
        let ended =
            DayCounts { day: 20_779, all: counts("activeQueues"), notified: counts("activeQueuesNtf") };
        let ours = line(&statistics.totals(&sums), &ended, Periods::of(20_780));
        let ours: Vec<&str> = ours.split(',').collect();
        let theirs: Vec<&str> = recorded.trim_end().split(',').collect();
        assert_eq!(ours.len(), 96);
        for (place, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "column {}", place + 1);
        }
    }

    /// What the shards count of services comes out in its columns.
    #[test]
    fn counts_of_services_stand_in_the_last_columns() {
        let kinds = ["recipient_service", "notifier_service"];
        let columns = [
            "queues_new",
            "queues_repeated",
            "queues_moved",
            "queues_left",
            "subscribes",
            "subs_repeated",
            "queues_subscribed",
            "subs_ended",
        ];
        let counters: Vec<String> = ["count", "queues"]
            .iter()
            .flat_map(|of_all| kinds.map(|kind| format!("{kind}_{of_all}")))
            .chain(kinds.iter().flat_map(|kind| columns.map(|column| format!("{kind}_{column}"))))
            .collect();
        let known = ringpost_shard::counters::Counters::default().values();
        let sums: Sums = known
            .iter()
            .filter_map(|(name, _)| {
                let place = counters.iter().position(|counter| counter == name)?;
                Some((*name, 1_000 + place as u64))
            })
            .collect();
        assert_eq!(sums.len(), counters.len());
        let totals = Statistics::new(std::time::UNIX_EPOCH).totals(&sums);
        let line = line(&totals, &DayCounts::default(), Periods::of(20_780));
        let last: Vec<u64> = line.split(',').skip(76).map(|column| column.parse().unwrap()).collect();
        assert_eq!(last, (1_000..1_020).collect::<Vec<u64>>());
    }

    #[test]
    fn weeks_and_months_stand_in_the_line_of_their_last_day() {
        let counts = ActiveCounts { day: 1, week: 2, month: 3 };
        let shown = |day| active(&counts, Periods::of(day)).join(",");
        // The days that begin: a Friday, a Monday, the first of a month, and a Monday that is the first.
        assert_eq!(shown(20_784), "1,,");
        assert_eq!(shown(20_780), "1,2,");
        assert_eq!(shown(20_788), "1,,3");
        assert_eq!(shown(20_605), "1,2,3");
    }
}
