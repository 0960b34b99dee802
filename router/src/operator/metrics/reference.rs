//! The metrics of the reference, by its names, spelling included.

use std::time::SystemTime;

use ringpost_shard::ListenerReport;
use ringpost_shard::service::SubscriptionReport;

use super::super::desk::Desk;
use super::super::process;
use super::super::statistics::{Sums, Totals};
use super::{Kind, Page, subscriptions};
use Kind::{Counter, Gauge};

/// Labels without braces, and the name of a number of the statistics. Empty: always 0.
type Sample = (&'static str, &'static str);

struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: &'static [Sample],
}

const fn metric(name: &'static str, kind: Kind, help: &'static str, samples: &'static [Sample]) -> Metric {
    Metric { name, kind, help, samples }
}

const METRICS: &[Metric] = &[
    metric("simplex_smp_queues_created", Counter, "Queues made", &[("", "qCreated")]),
    metric("simplex_smp_queues_secured", Counter, "Queues that got a sender's key", &[("", "qSecured")]),
    metric(
        "simplex_smp_queues_deleted",
        Counter,
        "Queues deleted: all, without and with a sender's key",
        &[
            ("type=\"all\"", "qDeletedAll"),
            ("type=\"new\"", "qDeletedNew"),
            ("type=\"secured\"", "qDeletedSecured"),
        ],
    ),
    metric("simplex_smp_queues_blocked", Counter, "Queues blocked by the operator", &[("", "qBlocked")]),
    metric("simplex_smp_queues_deleted_batch", Counter, "Blocks with several DEL", &[("", "qDeletedAllB")]),
    metric("simplex_smp_queues_total1", Gauge, "Queues", &[("", "qCount")]),
    metric("simplex_smp_queues_total2", Gauge, "Queues, the same count", &[("", "qCount")]),
    metric("simplex_smp_queues_daily", Gauge, "Queues active in this day", &[("", "day")]),
    metric("simplex_smp_queues_weekly", Gauge, "Queues active in this week", &[("", "week")]),
    metric("simplex_smp_queues_monthly", Gauge, "Queues active in this month", &[("", "month")]),
    metric("simplex_smp_queues_notify_daily", Gauge, "The same with notifications: day", &[("", "dayNtf")]),
    metric(
        "simplex_smp_queues_notify_weekly",
        Gauge,
        "The same with notifications: week",
        &[("", "weekNtf")],
    ),
    metric(
        "simplex_smp_queues_notify_monthly",
        Gauge,
        "The same with notifications: month",
        &[("", "monthNtf")],
    ),
    metric(
        "simplex_smp_subscribtion_successes",
        Counter,
        "New subscriptions of queues with a message",
        &[("", "qSub")],
    ),
    metric(
        "simplex_smp_subscribtion_successes_batch",
        Counter,
        "Blocks with several SUB",
        &[("", "qSubAllB")],
    ),
    metric("simplex_smp_subscribtion_end", Counter, "END and DELD sent", &[("", "qSubEnd")]),
    metric("simplex_smp_subscribtion_end_batch", Counter, "Batches of them", &[("", "qSubEndB")]),
    metric(
        "simplex_smp_subscribtion_errors",
        Counter,
        "SUB refused, or repeated",
        &[
            ("type=\"auth\"", "qSubAuth"),
            ("type=\"duplicate\"", "qSubDuplicate"),
            ("type=\"prohibited\"", "qSubProhibited"),
        ],
    ),
    metric("simplex_smp_messages_sent", Counter, "Messages taken", &[("", "msgSent")]),
    metric(
        "simplex_smp_messages_sent_errors",
        Counter,
        "SEND refused",
        &[
            ("type=\"auth\"", "msgSentAuth"),
            ("type=\"quota\"", "msgSentQuota"),
            ("type=\"large\"", "msgSentLarge"),
            ("type=\"block\"", "msgSentBlock"),
        ],
    ),
    metric("simplex_smp_messages_received", Counter, "Messages acknowledged", &[("", "msgRecv")]),
    metric("simplex_smp_messages_expired", Counter, "Messages expired", &[("", "msgExpired")]),
    metric("simplex_smp_messages_total", Gauge, "Messages stored", &[("", "msgCount")]),
    metric(
        "simplex_smp_messages_notify_sent",
        Counter,
        "Messages taken that ask for a notification",
        &[("", "msgSentNtf")],
    ),
    metric(
        "simplex_smp_messages_notify_received",
        Counter,
        "Messages acknowledged that asked for one",
        &[("", "msgRecvNtf")],
    ),
    metric("simplex_smp_messages_notify_get_sent", Counter, "GET answered with a message", &[("", "msgGet")]),
    metric(
        "simplex_smp_messages_notify_get_received",
        Counter,
        "Messages acknowledged after GET",
        &[("", "msgRecvGet")],
    ),
    metric(
        "simplex_smp_messages_notify_get_errors",
        Counter,
        "GET without message, refused, or repeated",
        &[
            ("type=\"nomsg\"", "msgGetNoMsg"),
            ("type=\"auth\"", "msgGetAuth"),
            ("type=\"duplicate\"", "msgGetDuplicate"),
            ("type=\"prohibited\"", "msgGetProhibited"),
        ],
    ),
    metric("simplex_smp_queues_notify_created", Counter, "Notifiers made by NKEY", &[("", "ntfCreated")]),
    metric(
        "simplex_smp_queues_notify_new_created",
        Counter,
        "Notifiers made by NEW",
        &[("", "ntfNewCreated")],
    ),
    metric("simplex_smp_queues_notify_deleted", Counter, "Notifiers removed by NDEL", &[("", "ntfDeleted")]),
    metric(
        "simplex_smp_queues_notify_deleted_batch",
        Counter,
        "Blocks with several NDEL",
        &[("", "ntfDeletedB")],
    ),
    metric("simplex_smp_queues_notify_total1", Gauge, "Queues with a notifier", &[("", "notifierCount")]),
    metric(
        "simplex_smp_queues_notify_total2",
        Gauge,
        "Queues with a notifier, the same count",
        &[("", "notifierCount")],
    ),
    metric("simplex_smp_messages_ntf_successes", Counter, "NMSG sent", &[("", "msgNtfs")]),
    metric("simplex_smp_messages_ntf_successes_batch", Counter, "Batches of them", &[("", "msgNtfsB")]),
    metric(
        "simplex_smp_messages_ntf_errors",
        Counter,
        "Notifications that were not sent",
        &[
            ("type=\"nosub\"", "msgNtfNoSub"),
            ("type=\"lost\"", "msgNtfLost"),
            ("type=\"expired\"", "msgNtfExpired"),
        ],
    ),
    metric("simplex_smp_subscription_ntf_requests", Counter, "New subscriptions by NSUB", &[("", "ntfSub")]),
    metric(
        "simplex_smp_subscription_ntf_requests_batch",
        Counter,
        "Blocks with several NSUB",
        &[("", "ntfSubB")],
    ),
    metric(
        "simplex_smp_subscribtion_ntf_errors",
        Counter,
        "NSUB refused, or repeated",
        &[("type=\"auth\"", "ntfSubAuth"), ("type=\"duplicate\"", "ntfSubDuplicate")],
    ),
    metric(
        "simplex_smp_relay_sessions_requests",
        Counter,
        "Sessions with relays asked for",
        &[("source=\"all\"", "pRelays.requests"), ("source=\"own\"", "pRelaysOwn.requests")],
    ),
    metric(
        "simplex_smp_relay_sessions_successes",
        Counter,
        "Of these, had",
        &[("source=\"all\"", "pRelays.successes"), ("source=\"own\"", "pRelaysOwn.successes")],
    ),
    metric(
        "simplex_smp_relay_sessions_errors",
        Counter,
        "Of these, failed",
        &[
            ("source=\"all\",type=\"connect\"", "pRelays.errorsConnect"),
            ("source=\"all\",type=\"compat\"", "pRelays.errorsCompat"),
            ("source=\"all\",type=\"other\"", "pRelays.errorsOther"),
            ("source=\"own\",type=\"connect\"", "pRelaysOwn.errorsConnect"),
            ("source=\"own\",type=\"compat\"", "pRelaysOwn.errorsCompat"),
            ("source=\"own\",type=\"other\"", "pRelaysOwn.errorsOther"),
        ],
    ),
    metric(
        "simplex_smp_relay_messages_requests",
        Counter,
        "Commands to be forwarded to relays",
        &[("source=\"all\"", "pMsgFwds.requests"), ("source=\"own\"", "pMsgFwdsOwn.requests")],
    ),
    metric(
        "simplex_smp_relay_messages_successes",
        Counter,
        "Of these, answered by the relay",
        &[("source=\"all\"", "pMsgFwds.successes"), ("source=\"own\"", "pMsgFwdsOwn.successes")],
    ),
    metric(
        "simplex_smp_relay_messages_errors",
        Counter,
        "Of these, failed",
        &[
            ("source=\"all\",type=\"connect\"", "pMsgFwds.errorsConnect"),
            ("source=\"all\",type=\"compat\"", "pMsgFwds.errorsCompat"),
            ("source=\"all\",type=\"other\"", "pMsgFwds.errorsOther"),
            ("source=\"own\",type=\"connect\"", "pMsgFwdsOwn.errorsConnect"),
            ("source=\"own\",type=\"compat\"", "pMsgFwdsOwn.errorsCompat"),
            ("source=\"own\",type=\"other\"", "pMsgFwdsOwn.errorsOther"),
        ],
    ),
    metric(
        "simplex_smp_relay_messages_received",
        Counter,
        "Commands that proxies forwarded to this router",
        &[("", "pMsgFwdsRecv")],
    ),
    metric("simplex_smp_subscribtion_total", Gauge, "Queues subscribed", &[("", "subscriptions")]),
    metric("simplex_smp_subscription_ntf_total", Gauge, "Notifiers subscribed", &[("", "ntfSubscriptions")]),
    metric("simplex_smp_clients_total", Gauge, "Connections", &[("", "clients")]),
    metric("simplex_smp_loaded_queues_queue_count", Gauge, "Queues in memory: all", &[("", "qCount")]),
    metric(
        "simplex_smp_loaded_queues_ntf_count",
        Gauge,
        "Notifiers in memory: all",
        &[("", "notifierCount")],
    ),
    metric("simplex_smp_loaded_queues_open_journal_count", Gauge, "There are no journals", &[("", "")]),
    metric("simplex_smp_loaded_queues_queue_lock_count", Gauge, "There are no locks", &[("", "")]),
    metric("simplex_smp_loaded_queues_ntf_lock_count", Gauge, "There are no locks", &[("", "")]),
];

/// Classes of times until an acknowledgement: seconds, and the counter of the class.
pub const ACK_CLASSES: &[(&str, &str)] = &[
    ("1", "acks_within_1_s"),
    ("5", "acks_within_5_s"),
    ("10", "acks_within_10_s"),
    ("30", "acks_within_30_s"),
    ("60", "acks_within_60_s"),
    ("300", "acks_within_300_s"),
    ("1200", "acks_within_1200_s"),
    ("3600", "acks_within_3600_s"),
    ("+Inf", "acks_over_3600_s"),
];
/// How many of these classes end with each period of the reference.
const ACK_PERIODS: &[(&str, usize)] =
    &[("0-60", 5), ("60-300", 6), ("300-1200", 7), ("1200-3600", 8), ("3600+", 9)];

/// What is written.
#[derive(Debug)]
pub struct Values {
    pub totals: Totals,
    pub sums: Sums,
    pub listeners: Vec<(u16, ListenerReport)>,
    pub threads: u64,
    pub subscriptions: SubscriptionReport,
}

impl Values {
    pub fn read(desk: &Desk) -> Self {
        Self {
            totals: desk.totals(),
            sums: desk.sums(),
            listeners: desk.listeners(),
            threads: process::thread_count(),
            // A router that is stopping has none.
            subscriptions: desk.operator.subscriptions().unwrap_or_default(),
        }
    }
}

pub(super) fn write(page: &mut Page, values: &Values, at: Option<SystemTime>) {
    if let Some(at) = at {
        page.comment(&format!("Recorded at: {}", humantime::format_rfc3339_nanos(at)));
    }
    page.comment(&format!("Stats from: {}", humantime::format_rfc3339_nanos(values.totals.from)));
    for metric in METRICS {
        page.head(metric.name, metric.kind, metric.help);
        for (labels, number) in metric.samples {
            page.sample(metric.name, labels, values.totals.get(number));
        }
    }
    subscriptions::write(page, &values.totals, &values.subscriptions);
    page.head("simplex_smp_info", Gauge, "The router's version");
    let version = concat!("version=\"ringpost-", env!("CARGO_PKG_VERSION"), "\",rts_options=\"none\"");
    page.sample("simplex_smp_info", version, 1);
    write_listeners(page, &values.listeners);
    page.one("simplex_smp_threads_total", Gauge, "Threads of the process", values.threads);
    write_acks(page, &values.sums);
}

fn write_listeners(page: &mut Page, listeners: &[(u16, ListenerReport)]) {
    let mut write = |name: &str, help: &str, value: &dyn Fn(&ListenerReport) -> u64| {
        page.head(name, Gauge, help);
        for (port, report) in listeners {
            page.sample(name, &format!("port=\"{port}\""), value(report));
        }
    };
    write("simplex_smp_sockets_accepted", "Connections accepted", &|report| report.accepted);
    write("simplex_smp_sockets_closed", "Connections closed", &|report| report.closed);
    write("simplex_smp_sockets_active", "Connections open", &|report| {
        report.accepted.saturating_sub(report.closed)
    });
    write("simplex_smp_sockets_leaked", "Connections lost: there cannot be any", &|_| 0);
}

fn write_acks(page: &mut Page, sums: &Sums) {
    let value = |counter: &str| sums.get(counter).copied().unwrap_or(0);
    let mut below = 0;
    let cumulative: Vec<(&str, u64)> = ACK_CLASSES
        .iter()
        .map(|(secs, counter)| {
            below += value(counter);
            (*secs, below)
        })
        .collect();
    let name = "simplex_smp_delivery_ack_confirmed_time";
    page.head(name, Kind::Histogram, "Seconds from delivery to acknowledgement");
    for (secs, count) in &cumulative {
        page.sample(&format!("{name}_bucket"), &format!("le=\"{secs}\""), count);
    }
    page.sample(&format!("{name}_sum"), "", value("ack_secs"));
    page.sample(&format!("{name}_count"), "", below);
    let name = "simplex_smp_delivery_ack_confirmed_count";
    page.head(name, Counter, "Acknowledgements by the time that they took");
    let mut before = 0;
    for (period, classes) in ACK_PERIODS {
        let up_to = cumulative.get(classes - 1).map_or(0, |(_, count)| *count);
        page.sample(name, &format!("period=\"{period}\""), up_to - before);
        before = up_to;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::UNIX_EPOCH;

    use super::super::super::statistics::Statistics;
    use super::*;

    /// Metrics of a newer version of the reference than the one whose file was recorded.
    const NEWER: &[&str] = &[
        "simplex_smp_rcv_services_sub_msg_count",
        "simplex_smp_rcv_services_sub_duplicate_count",
        "simplex_smp_subscribtion_service_subs_total",
        "simplex_smp_subscription_ntf_service_subs_total",
    ];
    /// The same, of each kind of services.
    const NEWER_OF_SERVICES: &[&str] =
        &["sub_ok", "sub_more", "sub_fewer", "sub_diff", "sub_more_total", "sub_fewer_total"];

    fn page(sums: Sums) -> String {
        let totals = Statistics::new(UNIX_EPOCH).totals(&sums);
        let listeners = vec![(25_223, ListenerReport { accepted: 7, closed: 4 })];
        let subscriptions = SubscriptionReport::default();
        let values = Values { totals, sums, listeners, threads: 3, subscriptions };
        let mut page = Page::new(Some(UNIX_EPOCH));
        write(&mut page, &values, None);
        page.text
    }

    /// Samples with their labels, and the types.
    fn names(text: &str) -> (BTreeSet<String>, BTreeMap<String, String>) {
        let mut samples = BTreeSet::new();
        let mut kinds = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else if !line.starts_with('#') && !line.is_empty() {
                let end = line.rfind('}').map_or(line.find(' ').unwrap(), |end| end + 1);
                let sample = line[..end].to_owned();
                // What is in them differs; where they lie in time too.
                if !sample.contains("_bucket") && !sample.contains("_info") {
                    assert!(samples.insert(sample.clone()), "{sample} twice");
                }
            }
        }
        (samples, kinds)
    }

    #[test]
    fn names_labels_and_types_are_those_of_the_reference() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shared/vectors/reference_data/log/smp-server-metrics.txt"
        );
        let (mut samples, mut kinds) = names(&std::fs::read_to_string(path).unwrap());
        let of_services = ["rcv", "ntf"].iter().flat_map(|kind| {
            NEWER_OF_SERVICES.iter().map(move |name| format!("simplex_smp_{kind}_services_{name}"))
        });
        for name in NEWER.iter().map(|name| (*name).to_owned()).chain(of_services) {
            assert!(samples.insert(name.clone()), "{name} was recorded");
            let kind = if name.ends_with("_count") { Counter } else { Gauge };
            kinds.insert(name, kind.word().to_owned());
        }
        let (ours, our_kinds) = names(&page(Sums::new()));
        assert_eq!(our_kinds, kinds);
        assert_eq!(ours, samples);
    }

    #[test]
    fn every_number_is_one_of_the_statistics() {
        let totals = Statistics::new(UNIX_EPOCH).totals(&Sums::new());
        let known: BTreeSet<&str> = totals.names().collect();
        for (_, number) in METRICS.iter().flat_map(|metric| metric.samples) {
            assert!(number.is_empty() || known.contains(number), "{number}");
        }
        let counters = ringpost_shard::counters::Counters::default();
        for (_, counter) in ACK_CLASSES {
            assert!(counters.values().iter().any(|(name, _)| name == counter), "{counter}");
        }
    }

    #[test]
    fn times_of_acknowledgements_add_up() {
        let text = page(Sums::from([
            ("acks_within_1_s", 5),
            ("acks_within_60_s", 2),
            ("acks_within_300_s", 1),
            ("acks_over_3600_s", 4),
            ("ack_secs", 99_999),
        ]));
        let name = "simplex_smp_delivery_ack_confirmed";
        for line in [
            "_time_bucket{le=\"1\"} 5 0",
            "_time_bucket{le=\"60\"} 7 0",
            "_time_bucket{le=\"3600\"} 8 0",
            "_time_bucket{le=\"+Inf\"} 12 0",
            "_time_sum 99999 0",
            "_time_count 12 0",
            "_count{period=\"0-60\"} 7 0",
            "_count{period=\"60-300\"} 1 0",
            "_count{period=\"300-1200\"} 0 0",
            "_count{period=\"3600+\"} 4 0",
        ] {
            assert!(text.contains(&format!("\n{name}{line}\n")), "{line} in {text}");
        }
    }
}
