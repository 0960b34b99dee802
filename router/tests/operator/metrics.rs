//! Metrics over HTTP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::site::{DEADLINE, Site, runtime, wait_until};
use crate::support::free_port;

fn ask(port: u16, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn get(port: u16, path: &str) -> (String, String) {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n\r\n"))
}

/// Every sample with its value; the text must be well formed.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "{line}");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(
                kinds.contains_key(name) || base.is_some_and(|base| kinds.contains_key(base)),
                "no TYPE before {line}"
            );
            assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    samples
}

#[test]
fn prometheus_gets_its_metrics() {
    let site = Site::new();
    let port = free_port();
    site.set("RINGPOST", "metrics_port", &port.to_string());
    let router = site.start();
    assert!(router.lines.contains(&format!("Metrics on http://127.0.0.1:{port}/metrics\n")));
    runtime().block_on(site.use_a_queue(3));
    let (head, body) = get(port, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    let samples = samples(&body);
    for (name, value) in [
        ("simplex_smp_queues_created", 1.0),
        ("simplex_smp_messages_sent", 3.0),
        ("simplex_smp_messages_received", 1.0),
        ("simplex_smp_messages_total", 2.0),
        ("simplex_smp_queues_daily", 1.0),
        ("simplex_smp_delivery_ack_confirmed_time_count", 1.0),
        ("ringpost_shards", 2.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
    assert_eq!(samples[&format!("simplex_smp_sockets_accepted{{port=\"{}\"}}", site.port)], 1.0);
    let of_shards =
        |name: &str| -> f64 { (0..2).map(|shard| samples[&format!("{name}{{shard=\"{shard}\"}}")]).sum() };
    assert_eq!(of_shards("ringpost_messages_received_total"), 3.0);
    assert!(of_shards("ringpost_log_commit_seconds_count") > 0.0);
    assert!(of_shards("ringpost_log_commit_seconds_sum") > 0.0);
    assert!(samples["process_resident_memory_bytes"] > 1e6);
    // The same text on the control port.
    assert!(site.admin().ask("metrics").iter().any(|line| line == "simplex_smp_messages_sent 3"));
}

#[test]
fn services_and_deliveries_are_told() {
    let site = Site::new();
    let port = free_port();
    site.set("RINGPOST", "metrics_port", &port.to_string());
    let _router = site.start();
    let runtime = runtime();
    let (client, _events) = runtime.block_on(site.use_a_service());
    let (_, body) = get(port, "/metrics");
    let told = samples(&body);
    for (name, value) in [
        ("rcv_services_count", 1.0),
        ("rcv_services_queues_count", 3.0),
        ("rcv_services_assoc_new", 1.0),
        ("rcv_services_sub_count", 0.0),
        ("rcv_services_sub_queues", 1.0),
        ("rcv_services_sub_more", 1.0),
        ("rcv_services_sub_more_total", 1.0),
        ("rcv_services_sub_ok", 0.0),
        ("rcv_services_sub_msg_count", 0.0),
        ("rcv_services_sub_duplicate_count", 1.0),
        ("ntf_services_count", 0.0),
        ("ntf_services_queues_count", 0.0),
        ("subscribtion_total", 0.0),
        ("subscribtion_clients_total", 1.0),
        ("subscribtion_services_total", 1.0),
        ("subscribtion_service_subs_total", 3.0),
        ("subscription_ntf_clients_total", 0.0),
        ("delivered_total", 1.0),
        ("delivered_clients_total", 1.0),
        ("delivery_ack_pending_count{period=\"0-60\"}", 1.0),
        ("delivery_ack_pending_count{period=\"3600+\"}", 0.0),
    ] {
        assert_eq!(told.get(&format!("simplex_smp_{name}")), Some(&value), "{name}");
    }
    runtime.block_on(client.close());
    wait_until("the session of the service is gone", || {
        let told = samples(&get(port, "/metrics").1);
        ["delivered_total", "delivered_clients_total", "subscribtion_services_total"]
            .iter()
            .all(|name| told[&format!("simplex_smp_{name}")] == 0.0)
    });
}

#[test]
fn other_requests_are_refused() {
    let site = Site::new();
    let port = free_port();
    site.set("RINGPOST", "metrics_port", &port.to_string());
    let _router = site.start();
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
        (&format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9_000)), "400 Bad Request"),
    ] {
        let (head, _) = ask(port, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:.40}: {head}");
    }
    let (head, body) = ask(port, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK") && body.is_empty());
}

#[test]
fn there_is_no_endpoint_unless_it_is_asked_for() {
    let site = Site::new();
    let router = site.start();
    assert!(!router.lines.iter().any(|line| line.starts_with("Metrics")), "{:?}", router.lines);
}

/// The dashboard asks for nothing that there is not.
#[test]
fn the_dashboard_knows_the_metrics() {
    let site = Site::new();
    let _router = site.start();
    let text = site.admin().ask("metrics").join("\n");
    let known: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let names = words.filter(|word| {
                ["ringpost_", "simplex_", "process_"].iter().any(|start| word.starts_with(start))
            });
            for name in names {
                asked += 1;
                assert!(known.contains(&name), "{name} in {}", panel["title"]);
            }
        }
    }
    assert!(asked > 50);
}
