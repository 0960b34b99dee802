//! `smp-server status`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::site::{Site, runtime};
use crate::support::{Home, free_port, stderr, stdout};

#[test]
fn a_running_router_is_described() {
    let site = Site::new();
    let _router = site.start();
    runtime().block_on(site.use_a_queue(3));
    let output = site.home.run(["status"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for words in [
        "2 shards",
        "Queues         1; ",
        "  messages     3 taken, 1 acknowledged",
        "Messages       2 stored",
    ] {
        assert!(text.contains(words), "expected {words:?} in:\n{text}");
    }
    assert!(text.contains(&format!("1 on port {} accepted", site.port)), "{text}");
    let output = site.home.run(["status", "--json"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["statistics"]["msgSent"], 3);
    assert_eq!(report["shards"].as_array().unwrap().len(), 2);
    assert_eq!(report["listeners"][0]["port"], site.port);
}

#[test]
fn services_are_described() {
    let site = Site::new();
    let _router = site.start();
    let runtime = runtime();
    let (client, _events) = runtime.block_on(site.use_a_service());
    let text = stdout(&site.home.run(["status"]));
    for words in [
        "Services       1 receiving with 3 queues, 1 subscribed; 0 notified with 0 queues, 0 subscribed",
        "; 1 deliveries not acknowledged, for up to ",
    ] {
        assert!(text.contains(words), "expected {words:?} in:\n{text}");
    }
    let info = site.admin().ask("server-info");
    assert!(info.contains(&"SMP subscribed clients: 1".to_owned()), "{info:?}");
    runtime.block_on(client.close());
}

#[test]
fn it_can_be_watched() {
    let site = Site::new();
    let _router = site.start();
    let mut watch = site.home.smp_server(["status", "--watch", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let rates = lines.map(Result::unwrap).find(|line| line.starts_with("In a second, over the last "));
    assert!(rates.is_some());
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn it_says_why_there_is_no_answer() {
    // Not running.
    let site = Site::new();
    let output = site.home.run(["status"]);
    assert_eq!(output.status.code(), Some(16), "{}", stderr(&output));
    assert!(stderr(&output).contains(&format!("127.0.0.1:{}", site.control)), "{}", stderr(&output));
    // Another password than the running one.
    let _router = site.start();
    site.set("AUTH", "control_port_user_password", "another");
    let output = site.home.run(["status"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("SIGHUP"), "{}", stderr(&output));
    // No control port.
    let home = Home::initialized(free_port());
    let output = home.run(["status"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("control_port"), "{}", stderr(&output));
}
