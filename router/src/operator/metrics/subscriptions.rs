//! Metrics of the reference about who subscribes and receives: services, and deliveries that are not acknowledged.

use ringpost_shard::service::{PENDING_AGES_SECS, SubscriptionReport};

use super::super::statistics::Totals;
use super::{Kind, Page};
use Kind::{Counter, Gauge};

/// Services that are there, and what is sent to them: metric, kind, number of the statistics, help.
const TOTAL_METRICS: &[(&str, Kind, &str, &str)] = &[
    ("rcv_services_count", Gauge, "rcvServiceCount", "Receiving services"),
    ("rcv_services_queues_count", Gauge, "rcvServiceQueuesCount", "Queues of receiving services"),
    ("ntf_services_count", Gauge, "ntfServiceCount", "Notified services"),
    ("ntf_services_queues_count", Gauge, "ntfServiceQueuesCount", "Queues whose notifier is a service"),
    (
        "rcv_services_sub_msg_count",
        Counter,
        "rcvServicesSubMsg",
        "Queues of services whose waiting message was sent after SUBS",
    ),
    (
        "rcv_services_sub_duplicate_count",
        Counter,
        "rcvServicesSubDuplicate",
        "Queues of services whose waiting message had been sent before SUBS came to it",
    ),
];

/// What services do: metric, kind, key in the group of the statistics, help. The kinds are those of the reference; all of them
/// only grow.
const SERVICE_METRICS: &[(&str, Kind, &str, &str)] = &[
    ("assoc_new", Counter, "assocNew", "Queues that became a service's"),
    ("assoc_duplicate", Counter, "assocDuplicate", "Queues that were the service's already"),
    ("assoc_updated", Counter, "assocUpdatedt", "Queues that were another service's"),
    ("assoc_removed", Counter, "assocRemoved", "Queues that are no service's any more"),
    ("sub_count", Counter, "subCount", "Sessions that began to subscribe with one queue"),
    ("sub_duplicate", Counter, "subDuplicate", "Subscriptions to all queues, again by the same session"),
    ("sub_queues", Gauge, "subQueues", "Queues subscribed one by one"),
    ("sub_end", Gauge, "subEnd", "Sessions whose subscription another one took"),
    ("sub_ok", Gauge, "subOk", "Subscriptions to all queues, as many as the service knew"),
    ("sub_more", Gauge, "subMore", "Subscriptions to more queues than the service knew"),
    ("sub_fewer", Gauge, "subFewer", "Subscriptions to fewer queues than the service knew"),
    ("sub_diff", Gauge, "subDiff", "Subscriptions to as many, but other queues than the service knew"),
    ("sub_more_total", Gauge, "subMoreTotal", "How many queues more"),
    ("sub_fewer_total", Gauge, "subFewerTotal", "How many queues fewer"),
];

/// What is known of subscriptions and deliveries at the moment, and no counter says.
type NowMetric = (&'static str, &'static str, fn(&SubscriptionReport) -> u64);

const NOW_METRICS: &[NowMetric] = &[
    ("simplex_smp_delivered_total", "Messages delivered and not acknowledged", |now| now.pending.total),
    ("simplex_smp_delivered_clients_total", "Connections that have not acknowledged", |now| {
        now.pending_clients
    }),
    ("simplex_smp_delivery_ack_time_max", "Seconds for which the oldest waits for it, in tens", |now| {
        now.pending.longest_secs
    }),
    ("simplex_smp_subscribtion_clients_total", "Connections that subscribe queues", |now| {
        now.subscribed_clients
    }),
    ("simplex_smp_subscribtion_services_total", "Receiving services subscribed", |now| {
        now.recipient_services.services
    }),
    ("simplex_smp_subscribtion_service_subs_total", "Queues of these services", |now| {
        now.recipient_services.queues
    }),
    ("simplex_smp_subscription_ntf_clients_total", "Connections that subscribe notifiers", |now| {
        now.notified_clients
    }),
    ("simplex_smp_subscribtion_nts_services_total", "Notified services subscribed", |now| {
        now.notifier_services.services
    }),
    ("simplex_smp_subscription_ntf_service_subs_total", "Queues of these services", |now| {
        now.notifier_services.queues
    }),
];

/// Of deliveries that are not acknowledged, by the seconds since they were made.
const PENDING_PERIODS: [&str; PENDING_AGES_SECS.len() + 1] =
    ["0-60", "60-300", "300-1200", "1200-3600", "3600+"];

pub(super) fn write(page: &mut Page, totals: &Totals, now: &SubscriptionReport) {
    for (name, kind, number, help) in TOTAL_METRICS {
        page.one(&format!("simplex_smp_{name}"), *kind, help, totals.get(number));
    }
    for (prefix, group) in [("rcv", "rcvServices"), ("ntf", "ntfServices")] {
        for (name, kind, key, help) in SERVICE_METRICS {
            let name = format!("simplex_smp_{prefix}_services_{name}");
            page.one(&name, *kind, help, totals.get(&format!("{group}.{key}")));
        }
    }
    for (name, help, value) in NOW_METRICS {
        page.one(name, Gauge, help, value(now));
    }
    let name = "simplex_smp_delivery_ack_pending_count";
    page.head(name, Gauge, "Messages delivered and not acknowledged, by the seconds since their delivery");
    for (period, count) in PENDING_PERIODS.iter().zip(now.pending.by_age) {
        page.sample(name, &format!("period=\"{period}\""), count);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::UNIX_EPOCH;

    use ringpost_shard::service::{PendingReport, SubscribedServices};

    use super::super::super::statistics::{Statistics, Sums};
    use super::*;

    fn page(sums: &Sums) -> String {
        let now = SubscriptionReport {
            subscribed_clients: 11,
            notified_clients: 12,
            pending_clients: 13,
            pending: PendingReport { total: 15, by_age: [1, 2, 3, 4, 5], longest_secs: 7_000 },
            recipient_services: SubscribedServices { services: 16, queues: 17 },
            notifier_services: SubscribedServices { services: 18, queues: 19 },
        };
        let mut page = Page::new(Some(UNIX_EPOCH));
        write(&mut page, &Statistics::new(UNIX_EPOCH).totals(sums), &now);
        page.text
    }

    #[test]
    fn subscriptions_and_deliveries_of_the_moment_are_written() {
        let text = page(&Sums::new());
        for line in [
            "subscribtion_clients_total 11 0",
            "subscription_ntf_clients_total 12 0",
            "delivered_clients_total 13 0",
            "delivered_total 15 0",
            "delivery_ack_time_max 7000 0",
            "delivery_ack_pending_count{period=\"0-60\"} 1 0",
            "delivery_ack_pending_count{period=\"60-300\"} 2 0",
            "delivery_ack_pending_count{period=\"300-1200\"} 3 0",
            "delivery_ack_pending_count{period=\"1200-3600\"} 4 0",
            "delivery_ack_pending_count{period=\"3600+\"} 5 0",
            "subscribtion_services_total 16 0",
            "subscribtion_service_subs_total 17 0",
            "subscribtion_nts_services_total 18 0",
            "subscription_ntf_service_subs_total 19 0",
        ] {
            assert!(text.contains(&format!("\nsimplex_smp_{line}\n")), "{line} in {text}");
        }
    }

    /// Each count of services comes out under the name that the reference has for it.
    #[test]
    fn counts_of_services_have_their_metrics() {
        const PAIRS: &[(&str, &str)] = &[
            ("count", "count"),
            ("queues_count", "queues"),
            ("assoc_new", "queues_new"),
            ("assoc_duplicate", "queues_repeated"),
            ("assoc_updated", "queues_moved"),
            ("assoc_removed", "queues_left"),
            ("sub_count", "subscribes"),
            ("sub_queues", "queues_subscribed"),
            ("sub_duplicate", "subs_repeated"),
            ("sub_end", "subs_ended"),
            ("sub_ok", "subs_right"),
            ("sub_more", "subs_more"),
            ("sub_fewer", "subs_fewer"),
            ("sub_diff", "subs_other"),
            ("sub_more_total", "subs_more_queues"),
            ("sub_fewer_total", "subs_fewer_queues"),
        ];
        let prefixes = ["recipient_service_", "notifier_service_", "service_queues_"];
        let numbered: Sums = ringpost_shard::counters::Counters::default()
            .values()
            .into_iter()
            .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .zip(1_000..)
            .map(|((name, _), number)| (name, number))
            .collect();
        let of_kind = |kind: &'static str, prefix: &'static str| {
            PAIRS.iter().map(move |(metric, counter)| {
                (format!("{kind}_services_{metric}"), format!("{prefix}_service_{counter}"))
            })
        };
        let plain = [
            ("rcv_services_sub_msg_count".to_owned(), "service_queues_sent".to_owned()),
            ("rcv_services_sub_duplicate_count".to_owned(), "service_queues_sent_before".to_owned()),
        ];
        let text = page(&numbered);
        let pairs = of_kind("rcv", "recipient").chain(of_kind("ntf", "notifier")).chain(plain);
        let mut shown = BTreeSet::new();
        for (metric, counter) in pairs {
            let number = numbered[counter.as_str()];
            assert!(text.contains(&format!("\nsimplex_smp_{metric} {number} 0\n")), "{metric} in {text}");
            shown.insert(number);
        }
        assert_eq!(shown.len(), numbered.len());
    }
}
