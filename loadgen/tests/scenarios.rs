//! The program against routers in this process: every scenario, every fault that it must find, every exit status.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../client/tests/support/mod.rs"]
mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{Delivery, FakeRouter, Faults};

/// Runs the program with its report as JSON.
async fn loadgen(scenario: &str, address: &str, options: &[&str]) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args([scenario, address, "--json", "-"]).args(options);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, report)
}

async fn passes(router: &FakeRouter, scenario: &str, options: &[&str]) -> Value {
    let (output, report) = loadgen(scenario, &router.address.to_string(), options).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}\n{report:#}");
    assert_eq!(report["passed"], true);
    assert_eq!(report["scenario"], scenario);
    assert_eq!(report["errors"]["by_kind"], serde_json::json!({}));
    report
}

const FEW: [&str; 8] = ["--pairs", "2", "--messages", "60", "--in-flight", "8", "--body-bytes", "2000"];

#[tokio::test(flavor = "multi_thread")]
async fn throughput_counts_every_message() {
    let router = FakeRouter::start(Faults::default()).await;
    let pid = std::process::id().to_string();
    let options = [&FEW[..], &["--pid", &pid]].concat();
    let report = passes(&router, "throughput", &options).await;
    assert_eq!(report["operations"], 120);
    assert_eq!(report["verification"]["accepted"], 120);
    assert_eq!(report["verification"]["received"], 120);
    assert_eq!(report["latencies"][0]["count"], 120);
    assert!(report["latencies"][0]["p50_us"].as_u64() <= report["latencies"][0]["max_us"].as_u64());
    assert!(report["router"]["cpu_us_per_operation"].is_number());
    assert!(report["router"]["memory_before"]["rss_bytes"].as_u64() > Some(0));
    assert_eq!(router.shared.queues.count(), 0, "queues are deleted at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn throughput_lasts_as_long_as_told() {
    let router = FakeRouter::start(Faults::default()).await;
    let options = ["--pairs", "2", "--duration-secs", "0.5", "--warmup-secs", "0.1", "--body-bytes", "40"];
    let report = passes(&router, "throughput", &options).await;
    assert!(report["window_secs"].as_f64() >= Some(0.5));
    let received = report["verification"]["received"].as_u64().unwrap();
    assert_eq!(report["verification"]["accepted"], received);
    assert!(report["operations"].as_u64().unwrap() <= received, "the warm-up does not count");
    assert!(!report["rates"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_keeps_its_rate() {
    let router = FakeRouter::start(Faults::default()).await;
    let options = [
        "--pairs",
        "3",
        "--rate",
        "200",
        "--duration-secs",
        "1",
        "--warmup-secs",
        "0",
        "--body-bytes",
        "100",
    ];
    let report = passes(&router, "latency", &options).await;
    // Whether the router keeps up or not, each message that was due was sent.
    assert_eq!(report["verification"]["received"], 200);
    assert_eq!(report["latencies"][0]["count"], 200);
    assert!(report["latencies"].as_array().unwrap().iter().any(|latency| latency["name"] == "send lag"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_that_is_too_high_is_an_error() {
    let router = FakeRouter::start(Faults::default()).await;
    let options = ["--pairs", "1", "--in-flight", "1", "--rate", "1000000", "--duration-secs", "0.3"];
    let options = [&options[..], &["--drain-secs", "0.3", "--warmup-secs", "0"]].concat();
    let (output, report) = loadgen("latency", &router.address.to_string(), &options).await;
    assert_eq!(output.status.code(), Some(1));
    let unsent = report["errors"]["by_kind"]["overload"].as_u64().unwrap();
    assert_eq!(unsent + report["verification"]["received"].as_u64().unwrap(), 300_000);
    assert_eq!(report["verification"]["lost"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_and_other_keys_work() {
    let router = FakeRouter::start(Faults::default()).await;
    for version in ["6", "8", "11"] {
        let options = [&FEW[..], &["--smp-version-max", version, "--sender-key", "ed25519"]].concat();
        let report = passes(&router, "throughput", &options).await;
        assert_eq!(report["smp_version"].to_string(), version);
    }
    let options = [&FEW[..], &["--plain-blocks", "--recipient-key", "x25519"]].concat();
    passes(&router, "throughput", &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_held_and_checked() {
    let router = FakeRouter::start(Faults::default()).await;
    let options = ["--connections", "20", "--duration-secs", "0.2", "--warmup-secs", "0"];
    let report = passes(&router, "idle", &options).await;
    assert_eq!(report["operations"], 20);
    assert_eq!(report["latencies"][1]["count"], 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_come_in_a_storm() {
    let router = FakeRouter::start(Faults::default()).await;
    let report = passes(&router, "handshake", &["--connections", "50", "--connect-at-once", "7"]).await;
    assert_eq!(report["operations"], 50);
    assert_eq!(report["latencies"][0]["count"], 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_created_and_deleted_again() {
    let router = FakeRouter::start(Faults::default()).await;
    let report = passes(&router, "queues", &["--queues", "300", "--connections", "3"]).await;
    assert_eq!(report["operations"], 300);
    assert_eq!(router.shared.queues.count(), 0);
    passes(&router, "queues", &["--queues", "10", "--keep"]).await;
    assert_eq!(router.shared.queues.count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_subscribes_to_all_its_queues_again_and_again() {
    let router = FakeRouter::start(Faults::default()).await;
    let options = ["--queues", "150", "--rounds", "3", "--one-message-in", "4"];
    let report = passes(&router, "services", &options).await;
    assert_eq!(report["operations"], 450);
    assert_eq!(report["latencies"][0]["count"], 3);
    assert_eq!(router.shared.queues.count(), 0);

    let losing = FakeRouter::start(Faults { delivery: Delivery::Lose(5), ..Faults::default() }).await;
    let (output, report) = loadgen("services", &losing.address.to_string(), &options).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["errors"]["by_kind"], serde_json::json!({ "lost": 3 }));

    let old = ["--queues", "1", "--smp-version-max", "18"];
    refuses("services", &router.address.to_string(), &old, 1, "only from version 19 on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_subscribed_again_with_their_messages() {
    let router = FakeRouter::start(Faults::default()).await;
    let options = ["--queues", "150", "--connections", "3", "--batch", "40", "--messages-each", "2"];
    let report = passes(&router, "subscribe", &options).await;
    assert_eq!(report["operations"], 150);
    assert_eq!(report["verification"]["received"], 300);
    assert_eq!(router.shared.queues.count(), 0);
    let report = passes(&router, "subscribe", &["--queues", "150", "--connections", "2"]).await;
    assert_eq!(report["verification"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_between_two_subscriptions() {
    let router = FakeRouter::start(Faults::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let ran = directory.path().join("ran");
    let command = format!("echo no part of the report; touch '{}'", ran.display());
    let options = ["--queues", "20", "--messages-each", "2", "--meanwhile", &command];
    let report = passes(&router, "subscribe", &options).await;
    assert!(ran.exists());
    assert_eq!(report["options"]["meanwhile"], true);
    assert_eq!(report["verification"]["received"], 40);

    let options = ["--queues", "1", "--meanwhile", "exit 5"];
    let (output, report) = loadgen("subscribe", &router.address.to_string(), &options).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), report), (Some(1), Value::Null), "{errors}");
    assert!(errors.contains("--meanwhile: exit status: 5") && errors.lines().count() == 1, "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_delivery_is_named() {
    for (delivery, name) in [
        (Delivery::Lose(30), "lost"),
        (Delivery::Duplicate(30), "duplicated"),
        (Delivery::Swap(30), "reordered"),
        (Delivery::Alter(30), "altered"),
    ] {
        let router = FakeRouter::start(Faults { delivery, ..Faults::default() }).await;
        let options = ["--pairs", "1", "--messages", "60", "--body-bytes", "2000", "--drain-secs", "1"];
        let (output, report) = loadgen("throughput", &router.address.to_string(), &options).await;
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(report["passed"], false);
        for fault in ["lost", "duplicated", "reordered", "altered", "foreign"] {
            let found = report["verification"][fault].as_u64().unwrap();
            // What arrives altered is also missed.
            let missed = name == "altered" && fault == "lost";
            assert_eq!(found, u64::from(fault == name || missed), "{delivery:?}: {fault}\n{report:#}");
        }
        assert!(!report["verification"]["examples"].as_array().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_is_an_error_and_no_loss() {
    let router = FakeRouter::start(Faults { delivery: Delivery::Refuse(10), ..Faults::default() }).await;
    let (output, report) = loadgen("throughput", &router.address.to_string(), &FEW).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["errors"]["by_kind"], serde_json::json!({ "router QUOTA": 1 }));
    assert_eq!(report["verification"]["lost"], 0);
    assert_eq!(report["verification"]["accepted"], 119);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_cuts_connections_fails_the_run() {
    let router = FakeRouter::start(Faults { cut_after_commands: Some(20), ..Faults::default() }).await;
    let (output, report) = loadgen("throughput", &router.address.to_string(), &FEW).await;
    assert_eq!(output.status.code(), Some(1));
    let kinds = report["errors"]["by_kind"].as_object().unwrap();
    assert!(kinds.contains_key("disconnected") || kinds.contains_key("transport"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_does_not_answer_fails_the_run() {
    let router = FakeRouter::start(Faults { silent_to: Some("SEND"), ..Faults::default() }).await;
    let options = [&FEW[..], &["--timeout-secs", "1", "--drain-secs", "0.5"]].concat();
    let (output, report) = loadgen("throughput", &router.address.to_string(), &options).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["errors"]["by_kind"]["timeout"], 120, "{report:#}");
    assert_eq!(report["verification"]["lost"], 0, "nobody knows whether they were accepted");
}

/// Fails before the load begins: one line, no report.
async fn refuses(scenario: &str, address: &str, options: &[&str], status: i32, words: &str) {
    let (output, report) = loadgen(scenario, address, options).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert!(errors.contains(words), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    assert_eq!(report, Value::Null);
    if status != 2 {
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_cannot_be_used_gives_one_line() {
    let router = FakeRouter::start(Faults::default()).await;
    let other = FakeRouter::start(Faults::default()).await;
    let address = router.address.to_string();
    let mut wrong = other.address.clone();
    wrong.router.port = router.address.router.port;
    refuses("idle", &wrong.to_string(), &[], 3, "another identity").await;
    refuses("idle", &address, &["--pid", "4294967295"], 2, "no such process").await;
    refuses("idle", &address, &["--connections", "none"], 2, "--connections").await;
    refuses("idle", &address, &["--connections", "100000000"], 2, "ulimit -n").await;
    refuses("idle", "https://example.com", &[], 2, "ADDRESS").await;

    let closing = FakeRouter::start(Faults { close_in_handshake: true, ..Faults::default() }).await;
    refuses("queues", &closing.address.to_string(), &[], 3, "closed the connection").await;
    let silent = FakeRouter::start(Faults { silent_to: Some("PING"), ..Faults::default() }).await;
    refuses("queues", &silent.address.to_string(), &["--timeout-secs", "1"], 1, "no response in time").await;
    let refusing = FakeRouter::start(Faults { pong_to: Some("NEW"), ..Faults::default() }).await;
    refuses("throughput", &refusing.address.to_string(), &[], 1, "creating a queue").await;

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut nobody = router.address.clone();
    nobody.router.port = Some(port);
    refuses("idle", &nobody.to_string(), &[], 3, "refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_written_to_files() {
    let router = FakeRouter::start(Faults::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let (json, html) = (directory.path().join("run.json"), directory.path().join("run.html"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["throughput", &router.address.to_string()]).args(FEW);
    command.arg("--json").arg(&json).arg("--html").arg(&html);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("clean: 120 accepted, 120 received") && table.ends_with("passed\n"), "{table}");
    assert!(output.stderr.is_empty(), "no progress line without a terminal");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["operations"], 120);
    assert!(std::fs::read_to_string(&html).unwrap().contains("<svg"));
}
