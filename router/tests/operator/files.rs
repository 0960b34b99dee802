//! Statistics over restarts, and the files of metrics.

use std::fs;

use rustix::process::Signal;

use crate::site::{Site, runtime, wait_until};
use crate::support::Running;

const STATISTICS: &str = "smp-server-stats.log";

fn stop(router: Running) -> String {
    router.signal(Signal::TERM);
    let (status, _, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    errors
}

fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).unwrap();
    line.parse().unwrap()
}

fn hashes(text: &str, key: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).unwrap();
    line.split(',').filter(|hash| !hash.is_empty()).count()
}

#[test]
fn statistics_go_on_after_a_restart() {
    let site = Site::new();
    site.set("STORE_LOG", "log_stats", "on");
    let runtime = runtime();
    for restart in 1..=3 {
        let router = site.start();
        runtime.block_on(site.use_a_queue(2));
        let stats = site.admin().ask("stats");
        assert!(stats.contains(&format!("qCreated: {restart}")), "{stats:#?}");
        assert!(stats.contains(&format!("daily active queues: {restart}")), "{stats:#?}");
        stop(router);
        let saved = site.data(STATISTICS);
        assert_eq!(number(&saved, "qCreated"), restart);
        assert_eq!(number(&saved, "msgSent"), 2 * restart);
        // The first hashes of the file are those of all queues.
        assert_eq!(hashes(&saved, "dayHashes"), usize::try_from(restart).unwrap(), "{saved}");
        assert_eq!(hashes(&saved, "monthHashes"), usize::try_from(restart).unwrap(), "{saved}");
    }
}

/// The keys of both kinds of services are the same: those that receive come first.
#[test]
fn counts_of_services_go_on_after_a_restart() {
    let site = Site::new();
    site.set("STORE_LOG", "log_stats", "on");
    let runtime = runtime();
    for restart in 1..=2 {
        let router = site.start();
        let (client, _events) = runtime.block_on(site.use_a_service());
        let stats = site.admin().ask("stats");
        for line in ["rcvServiceCount: 1".to_owned(), format!("rcvServiceQueuesCount: {}", 3 * restart)] {
            assert!(stats.contains(&line), "{line} in {stats:#?}");
        }
        runtime.block_on(client.close());
        stop(router);
        let saved = site.data(STATISTICS);
        let (_, services) = saved.split_once("\nrcvServices:\n").unwrap();
        let (received, notified) = services.split_once("ntfServices:\n").unwrap();
        assert_eq!(
            received,
            format!(
                "assocNew={restart}\nassocDuplicate=0\nassocUpdatedt=0\nassocRemoved=0\nsubCount=0\n\
                 subDuplicate=0\nsubQueues={restart}\nsubEnd=0\n"
            )
        );
        assert!(notified.lines().all(|line| line.ends_with("=0")), "{notified}");
    }
}

#[test]
fn the_file_of_the_reference_is_taken_over() {
    let site = Site::new();
    site.set("STORE_LOG", "log_stats", "on");
    let recorded =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/reference_data/log/smp-server-stats.log");
    fs::create_dir_all(site.home.data()).unwrap();
    fs::write(site.home.data().join(STATISTICS), fs::read(recorded).unwrap()).unwrap();
    let router = site.start();
    runtime().block_on(site.use_a_queue(1));
    let stats = site.admin().ask("stats");
    for line in ["qCreated: 10", "msgSent: 137", "msgRecv: 2", "daily active queues: 8"] {
        assert!(stats.contains(&line.to_owned()), "{line} in {stats:#?}");
    }
    assert!(stats[0].starts_with("fromTime: 2026-11-22 22:02:03.606265438 UTC"), "{}", stats[0]);
    // Written on demand, and at the end.
    assert_eq!(site.admin().ask("save"), ["saving server state...", "server state saved!"]);
    assert_eq!(hashes(&site.data(STATISTICS), "dayHashes"), 8);
    stop(router);
    let saved = site.data(STATISTICS);
    assert!(saved.starts_with("fromTime=2026-11-22T22:02:03.606265438Z\nqCreated=10\n"), "{saved}");
    assert_eq!(number(&saved, "assocNew"), 0, "the first is that of receiving services");
}

#[test]
fn a_file_that_cannot_be_read_is_moved_away() {
    let site = Site::new();
    site.set("STORE_LOG", "log_stats", "on");
    fs::create_dir_all(site.home.data()).unwrap();
    fs::write(site.home.data().join(STATISTICS), "fromTime=never\n").unwrap();
    let errors = stop(site.start());
    assert!(errors.contains("line 1: expected a time"), "{errors}");
    assert_eq!(site.data("smp-server-stats.log.bad"), "fromTime=never\n");
    assert_eq!(number(&site.data(STATISTICS), "qCreated"), 0);
}

#[test]
fn nothing_is_written_unless_it_is_asked_for() {
    let site = Site::new();
    let router = site.start();
    runtime().block_on(site.use_a_queue(1));
    stop(router);
    let mut names: Vec<String> = fs::read_dir(site.home.data())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // The pages are asked for: `static_path` stands in an ini that init made.
    assert_eq!(names, ["ringpost", "ringpost.lock", "www"]);
}

#[test]
fn metrics_are_written_to_a_file() {
    let site = Site::new();
    site.set("STORE_LOG", "prometheus_interval", "1");
    let router = site.start();
    runtime().block_on(site.use_a_queue(2));
    let path = site.home.data().join("smp-server-metrics.txt");
    let has_line = |start: &str| {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.lines().any(|line| line.starts_with(start))
    };
    // With the time at the end of the line.
    wait_until("the file has the messages", || has_line("simplex_smp_messages_sent 2 1"));
    assert!(has_line("# Recorded at: 20"));
    assert!(has_line("ringpost_queues{shard=\"0\"} "));
    stop(router);
}
