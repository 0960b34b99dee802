//! The statistics of the reference implementation, made of the shards' counters.
//!
//! Shards only count up. What the statistics begin with after a restart is added, and what was counted when they last began
//! anew (at the end of a day) is taken off.

pub mod daily;
pub mod file;

use std::collections::BTreeMap;
use std::time::SystemTime;

/// A number of the reference's statistics, and which counter it is. Empty: nothing counts it here.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub counter: &'static str,
}

const fn field(name: &'static str, counter: &'static str) -> Field {
    Field { name, counter }
}

/// In the order of the statistics file.
pub const PLAIN: &[Field] = &[
    field("qCreated", "queues_created"),
    field("qSecured", "queues_secured"),
    field("qDeletedAll", "queues_deleted"),
    field("qDeletedNew", "queues_deleted_new"),
    field("qDeletedSecured", "queues_deleted_secured"),
    field("qDeletedAllB", "delete_batches"),
    field("qBlocked", "queues_blocked"),
    // The number of queues stands here in the file.
    field("qSub", "subscribes_new"),
    field("qSubAllB", "subscribe_batches"),
    field("qSubAuth", "subscribes_refused_auth"),
    field("qSubDuplicate", "subscribes_repeated"),
    field("qSubProhibited", "subscribes_prohibited"),
    field("qSubEnd", "subscriptions_ended"),
    // The reference gathers them for some seconds; here each goes at once.
    field("qSubEndB", "subscriptions_ended"),
    field("ntfCreated", "notifiers_created"),
    field("ntfNewCreated", "notifiers_created_new"),
    field("ntfDeleted", "notifiers_deleted"),
    field("ntfDeletedB", "notifier_delete_batches"),
    field("ntfSub", "notifier_subscribes_new"),
    field("ntfSubB", "notifier_subscribe_batches"),
    field("ntfSubAuth", "notifier_subscribes_refused_auth"),
    field("ntfSubDuplicate", "notifier_subscribes_repeated"),
    field("msgSent", "messages_received"),
    field("msgSentAuth", "sends_refused_auth"),
    field("msgSentQuota", "sends_refused_quota"),
    field("msgSentLarge", "sends_refused_large"),
    field("msgSentBlock", "sends_refused_blocked"),
    field("msgRecv", "messages_read"),
    field("msgRecvGet", "messages_read_got"),
    field("msgGet", "gets"),
    field("msgGetNoMsg", "gets_empty"),
    field("msgGetAuth", "gets_refused_auth"),
    field("msgGetDuplicate", "gets_repeated"),
    field("msgGetProhibited", "gets_prohibited"),
    field("msgExpired", "messages_expired"),
    field("msgSentNtf", "messages_received_notified"),
    field("msgRecvNtf", "messages_read_notified"),
    field("msgNtfs", "notifications_sent"),
    field("msgNtfsB", "notifications_sent_batches"),
    // Kept for years without a meaning by the reference too.
    field("msgNtfNoSub", ""),
    field("msgNtfLost", ""),
    field("msgNtfExpired", "notifications_expired"),
];

/// How many of [`PLAIN`] stand before the number of queues.
pub const BEFORE_QUEUE_COUNT: usize = 7;

/// Groups with the same keys each: commands for relays. The full name is `group.key`.
pub const RELAYS: &[(&str, &[Field])] = &[
    (
        "pRelays",
        &[
            field("requests", "relay_requests"),
            field("successes", "relay_successes"),
            field("errorsConnect", "relay_errors_connect"),
            field("errorsCompat", "relay_errors_compat"),
            field("errorsOther", "relay_errors_other"),
        ],
    ),
    (
        "pRelaysOwn",
        &[
            field("requests", "own_relay_requests"),
            field("successes", "own_relay_successes"),
            field("errorsConnect", "own_relay_errors_connect"),
            field("errorsCompat", "own_relay_errors_compat"),
            field("errorsOther", "own_relay_errors_other"),
        ],
    ),
    (
        "pMsgFwds",
        &[
            field("requests", "forward_requests"),
            field("successes", "forward_successes"),
            field("errorsConnect", "forward_errors_connect"),
            field("errorsCompat", "forward_errors_compat"),
            field("errorsOther", "forward_errors_other"),
        ],
    ),
    (
        "pMsgFwdsOwn",
        &[
            field("requests", "own_forward_requests"),
            field("successes", "own_forward_successes"),
            field("errorsConnect", "own_forward_errors_connect"),
            field("errorsCompat", "own_forward_errors_compat"),
            field("errorsOther", "own_forward_errors_other"),
        ],
    ),
];

pub const FORWARDS_RECEIVED: Field = field("pMsgFwdsRecv", "forwards_received");

/// The same for services: those that receive, and those that are notified.
pub const SERVICES: &[(&str, &[Field])] = &[
    (
        "rcvServices",
        &[
            field("assocNew", "recipient_service_queues_new"),
            field("assocDuplicate", "recipient_service_queues_repeated"),
            // As the reference spells it in its file.
            field("assocUpdatedt", "recipient_service_queues_moved"),
            field("assocRemoved", "recipient_service_queues_left"),
            field("subCount", "recipient_service_subscribes"),
            field("subDuplicate", "recipient_service_subs_repeated"),
            field("subQueues", "recipient_service_queues_subscribed"),
            field("subEnd", "recipient_service_subs_ended"),
        ],
    ),
    (
        "ntfServices",
        &[
            field("assocNew", "notifier_service_queues_new"),
            field("assocDuplicate", "notifier_service_queues_repeated"),
            field("assocUpdatedt", "notifier_service_queues_moved"),
            field("assocRemoved", "notifier_service_queues_left"),
            field("subCount", "notifier_service_subscribes"),
            field("subDuplicate", "notifier_service_subs_repeated"),
            field("subQueues", "notifier_service_queues_subscribed"),
            field("subEnd", "notifier_service_subs_ended"),
        ],
    ),
];

/// What stands in the metrics alone, so that it begins anew at a restart too.
pub const UNKEPT: &[Field] = &[
    field("rcvServices.subOk", "recipient_service_subs_right"),
    field("rcvServices.subMore", "recipient_service_subs_more"),
    field("rcvServices.subFewer", "recipient_service_subs_fewer"),
    field("rcvServices.subDiff", "recipient_service_subs_other"),
    field("rcvServices.subMoreTotal", "recipient_service_subs_more_queues"),
    field("rcvServices.subFewerTotal", "recipient_service_subs_fewer_queues"),
    field("ntfServices.subOk", "notifier_service_subs_right"),
    field("ntfServices.subMore", "notifier_service_subs_more"),
    field("ntfServices.subFewer", "notifier_service_subs_fewer"),
    field("ntfServices.subDiff", "notifier_service_subs_other"),
    field("ntfServices.subMoreTotal", "notifier_service_subs_more_queues"),
    field("ntfServices.subFewerTotal", "notifier_service_subs_fewer_queues"),
    field("rcvServicesSubMsg", "service_queues_sent"),
    field("rcvServicesSubDuplicate", "service_queues_sent_before"),
];

/// What is there now: not counted, and never begun anew.
pub const GAUGES: &[Field] = &[
    field("qCount", "queues"),
    field("msgCount", "messages"),
    field("ntfCount", "notifications"),
    field("notifierCount", "notifiers"),
    field("rcvServiceCount", "recipient_service_count"),
    field("ntfServiceCount", "notifier_service_count"),
    field("rcvServiceQueuesCount", "recipient_service_queues"),
    field("ntfServiceQueuesCount", "notifier_service_queues"),
    field("subscriptions", "subscriptions"),
    field("ntfSubscriptions", "notifier_subscriptions"),
    field("clients", "connections"),
    field("day", "active_day"),
    field("week", "active_week"),
    field("month", "active_month"),
    field("dayNtf", "active_notified_day"),
    field("weekNtf", "active_notified_week"),
    field("monthNtf", "active_notified_month"),
];

/// Counters of all shards, by name.
pub type Sums = BTreeMap<&'static str, u64>;

/// Every number that begins anew, with its full name.
fn counted() -> impl Iterator<Item = (String, Field)> {
    let plain = PLAIN.iter().chain([&FORWARDS_RECEIVED]).chain(UNKEPT);
    let plain = plain.map(|field| (field.name.to_owned(), *field));
    let grouped = RELAYS.iter().chain(SERVICES).flat_map(|(group, fields)| {
        fields.iter().map(move |field| (format!("{group}.{}", field.name), *field))
    });
    plain.chain(grouped)
}

/// The statistics at a moment, by their full names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    pub from: SystemTime,
    values: BTreeMap<String, u64>,
}

impl Totals {
    /// 0 if there is no such number.
    pub fn get(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

#[derive(Clone, Debug)]
pub struct Statistics {
    from: SystemTime,
    /// What an earlier run has counted since then.
    carried: BTreeMap<String, u64>,
    /// What the shards had counted then.
    zero: Sums,
}

impl Statistics {
    /// From the start of a router on.
    pub fn new(now: SystemTime) -> Self {
        Self { from: now, carried: BTreeMap::new(), zero: Sums::new() }
    }

    /// Goes on with what an earlier run has counted.
    pub fn carry(&mut self, from: SystemTime, carried: BTreeMap<String, u64>) {
        self.from = from;
        self.carried = carried;
    }

    pub fn totals(&self, sums: &Sums) -> Totals {
        let counted = counted().map(|(name, field)| {
            let since = value(sums, field.counter).saturating_sub(value(&self.zero, field.counter));
            let carried = self.carried.get(&name).copied().unwrap_or(0);
            (name, since.saturating_add(carried))
        });
        let gauges = GAUGES.iter().map(|field| (field.name.to_owned(), value(sums, field.counter)));
        Totals { from: self.from, values: counted.chain(gauges).collect() }
    }

    /// Begins anew.
    pub fn reset(&mut self, sums: Sums, now: SystemTime) {
        *self = Self { from: now, carried: BTreeMap::new(), zero: sums };
    }
}

fn value(sums: &Sums, counter: &str) -> u64 {
    sums.get(counter).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn every_counter_named_is_one_of_the_shards() {
        let counters = ringpost_shard::counters::Counters::default();
        let names: Vec<&str> = counters.values().into_iter().map(|(name, _)| name).collect();
        for field in counted().map(|(_, field)| field).chain(GAUGES.iter().copied()) {
            assert!(field.counter.is_empty() || names.contains(&field.counter), "{}", field.counter);
        }
    }

    #[test]
    fn counts_go_on_after_a_restart_and_begin_anew_at_the_end_of_a_day() {
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        let sums = |created, queues| Sums::from([("queues_created", created), ("queues", queues)]);
        let mut statistics = Statistics::new(at(10));
        assert_eq!(statistics.totals(&sums(3, 5)).get("qCreated"), 3);
        statistics.carry(at(5), BTreeMap::from([("qCreated".to_owned(), 100), ("qSub".to_owned(), 7)]));
        let totals = statistics.totals(&sums(3, 5));
        assert_eq!((totals.from, totals.get("qCreated"), totals.get("qSub")), (at(5), 103, 7));
        statistics.reset(sums(3, 5), at(20));
        let totals = statistics.totals(&sums(4, 6));
        assert_eq!((totals.from, totals.get("qCreated"), totals.get("qSub")), (at(20), 1, 0));
        assert_eq!(totals.get("qCount"), 6);
    }
}
