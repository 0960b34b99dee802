//! Everything that there is to know about a running router, as one JSON object in one line: for `smp-server status` and
//! for programs. Names of counters are those of the shards, names of statistics those of the reference.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::desk::Desk;
use super::process;

pub fn json(desk: &Desk) -> String {
    let totals = desk.totals();
    let statistics: Map<String, Value> =
        totals.names().map(|name| (name.to_owned(), json!(totals.get(name)))).collect();
    let shards: Vec<Map<String, Value>> = desk
        .operator
        .counters()
        .into_iter()
        .map(|shard| shard.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
        .collect();
    let listeners: Vec<Value> = desk
        .listeners()
        .into_iter()
        .map(|(port, report)| json!({ "port": port, "accepted": report.accepted, "closed": report.closed }))
        .collect();
    // A router that is stopping has none.
    let now = desk.operator.subscriptions().unwrap_or_default();
    let process = process::read();
    let secs = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_secs": secs(desk.started),
        "uptime_secs": desk.started.elapsed().map_or(0, |since| since.as_secs()),
        "statistics_from_secs": secs(totals.from),
        "process": {
            "resident_bytes": process.resident_bytes,
            "cpu_ms": process.cpu_ms,
            "open_files": process.open_files,
            "threads": process::thread_count(),
        },
        "listeners": listeners,
        "subscriptions": {
            "subscribed_clients": now.subscribed_clients,
            "notified_clients": now.notified_clients,
            "recipient_services": now.recipient_services.services,
            "recipient_service_queues": now.recipient_services.queues,
            "notifier_services": now.notifier_services.services,
            "notifier_service_queues": now.notifier_services.queues,
            "deliveries": now.pending.total,
            "delivery_clients": now.pending_clients,
            "delivery_longest_secs": now.pending.longest_secs,
        },
        "statistics": statistics,
        "shards": shards,
    })
    .to_string()
}
