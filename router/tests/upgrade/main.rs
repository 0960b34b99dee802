//! Upgrades of running routers: the same process goes on with another program, and nobody is turned away.
#![allow(
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation
)]

#[path = "../durability/campaign.rs"]
mod campaign;
mod knocking;
mod refused;
mod site;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use ringpost_client::{ClientConfig, Connection, Disconnect, Event, QueueOptions, SenderQueue};
use ringpost_protocol::command::MsgFlags;
use rustix::process::Signal;

use campaign::{Load, drain, make_queues};
use knocking::Knocking;
use site::{DEADLINE, Site, set};
use support::free_port;

const QUEUES: usize = 4;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Clients send, receive and connect all the time while the process changes its program, and its number of shards.
fn nobody_is_refused(before: usize, after: usize) {
    let quota = "queue_quota = 100000";
    let mut site = Site::start(&[("RINGPOST", &format!("shards = {before}")), ("RINGPOST", quota)], &[]);
    let (address, runtime) = (site.address(), runtime());
    let queues = runtime.block_on(make_queues(&address, QUEUES));
    let knocking = Knocking::start(site.socket(), &address);
    knocking.until_greeted(20);
    let load = runtime.block_on(async {
        let load = Load::start(&address, &queues);
        load.until_accepted(100).await;
        load
    });
    set(&site.home, "RINGPOST", &format!("shards = {after}"));
    site.install_real();
    site.upgrade();
    runtime.block_on(load.ended());
    let load = runtime.block_on(async {
        let load = Load::start(&address, &queues);
        load.until_accepted(100).await;
        load
    });
    knocking.until_greeted(20);
    let (connected, greeted, pause) = knocking.end();
    let accepted: usize = queues.iter().map(|queue| queue.accepted()).sum();
    println!(
        "{before} to {after} shards: {connected} connections and {greeted} sessions, at most {} ms apart; \
         {accepted} messages",
        pause.as_millis()
    );
    site.upgrade();
    runtime.block_on(load.ended());
    runtime.block_on(drain(&address, &queues));
    let errors = site.read("err");
    for words in ["SIGUSR2: checking ", "checked Ringpost smp-server", "handing over", "taking over"] {
        assert!(errors.matches(words).count() >= 2, "no {words:?} in {errors}");
    }
    assert!(site.complaints().is_empty(), "{:?}", site.complaints());
    assert_eq!(site.count("out", "Stopped"), 0);
    assert_eq!(site.count("out", &format!("Shards: {after}\n")), 2 + usize::from(before == after));
    site.stop();
}

#[test]
fn nobody_is_refused_with_one_shard() {
    nobody_is_refused(1, 1);
}

#[test]
fn nobody_is_refused_with_two_shards() {
    nobody_is_refused(2, 2);
}

#[test]
fn nobody_is_refused_when_shards_are_added() {
    nobody_is_refused(2, 3);
}

#[test]
fn nobody_is_refused_when_shards_are_taken_away() {
    nobody_is_refused(3, 1);
}

/// A client that waits for messages is told that its session ends, connects again and gets what was sent before.
#[test]
fn subscriptions_move_by_reconnecting() {
    let mut site = Site::start(&[], &["--shards", "2"]);
    let address = site.address();
    runtime().block_on(async {
        let connect = || Connection::connect(&address, ClientConfig::default());
        let (recipient, mut events) = connect().await.unwrap();
        let (sender, mut sender_events) = connect().await.unwrap();
        let queue = recipient.new_queue(QueueOptions::default()).await.unwrap();
        let to = SenderQueue::unsecured(queue.sender_id);
        sender.send(&to, MsgFlags::default(), b"first").await.unwrap();
        sender.send(&to, MsgFlags::default(), b"second").await.unwrap();
        // The first one is delivered, and not acknowledged.
        let Some(Event::Message(_)) = events.recv().await else { panic!("no message") };
        tokio::task::block_in_place(|| site.upgrade());
        for events in [&mut events, &mut sender_events] {
            let ended = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap();
            assert!(matches!(ended, Some(Event::Disconnected(Disconnect::ByRouter))), "{ended:?}");
        }
        assert!(recipient.disconnected().is_some());
        let (recipient, mut events) = connect().await.unwrap();
        recipient.subscribe(&queue).await.unwrap();
        let Some(Event::Message(message)) = events.recv().await else { panic!("no message") };
        let first = message.open(&queue).unwrap();
        assert_eq!(first.body(), Some(&b"first"[..]));
        // A body that is read from the disk comes behind the answer.
        let second = match recipient.ack(&queue, &first.id).await.unwrap() {
            Some(message) => message,
            None => match events.recv().await {
                Some(Event::Message(message)) => message,
                other => panic!("no message: {other:?}"),
            },
        };
        let second = second.open(&queue).unwrap();
        assert_eq!(second.body(), Some(&b"second"[..]));
        assert!(recipient.ack(&queue, &second.id).await.unwrap().is_none());
        let (sender, _events) = connect().await.unwrap();
        sender.send(&to, MsgFlags::default(), b"third").await.unwrap();
        let Some(Event::Message(message)) = events.recv().await else { panic!("no message") };
        assert_eq!(message.open(&queue).unwrap().body(), Some(&b"third"[..]));
    });
    site.stop();
}

/// Whatever a client says, and whenever: one of the two programs answers.
#[test]
fn whoever_connects_during_an_upgrade_is_answered() {
    let mut site = Site::start(&[], &["--shards", "2"]);
    // They say nothing, and hold the upgrade up for a while.
    let silent: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(site.socket()).unwrap()).collect();
    let socket = site.socket();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let knock = std::thread::spawn(move || {
        let mut waiting = Vec::new();
        while stopped.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
            let mut stream = TcpStream::connect(socket).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            waiting.push(stream);
        }
        waiting
    });
    site.upgrade();
    drop(stop);
    let waiting = knock.join().unwrap();
    assert!(waiting.len() > 10, "hardly anybody came");
    for mut stream in waiting {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        // An alert of TLS.
        assert_eq!(answer.first(), Some(&21), "{answer:?}");
    }
    drop(silent);
    site.stop();
}

/// Nothing is left open, signals work as before, and statistics are kept.
#[test]
fn after_many_upgrades_the_process_is_as_before() {
    let (control, metrics, pages) = (free_port(), free_port(), free_port());
    let settings = [
        ("TRANSPORT", format!("control_port = {control}")),
        ("AUTH", "control_port_admin_password = secret".to_owned()),
        ("RINGPOST", format!("metrics_port = {metrics}")),
        ("WEB", format!("http = {pages}")),
        ("STORE_LOG", "log_stats = on".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(section, line)| (*section, line.as_str())).collect();
    let mut site = Site::start(&settings, &["--shards", "2"]);
    let (address, runtime) = (site.address(), runtime());
    let queues = runtime.block_on(make_queues(&address, 1));
    let get = |port: u16, path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let mut first = None;
    for round in 0..5 {
        // Connections of all kinds are open.
        let held: Vec<TcpStream> = [site.port, control, metrics, pages]
            .map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap())
            .into();
        assert!(site.inheritable().is_empty(), "{:?}", site.inheritable());
        site.upgrade();
        drop(held);
        assert!(get(metrics, "/metrics").contains("simplex_smp_queues_created"));
        assert!(get(pages, "/").contains("</html>"));
        let status = site::run(&site.home, &["status", "--json"]);
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        // Connections that were just closed are gone soon.
        let expected = first.get_or_insert_with(|| {
            std::thread::sleep(Duration::from_millis(500));
            (site.descriptors(), site.blocked_and_ignored())
        });
        let end = std::time::Instant::now() + DEADLINE;
        while site.descriptors() != expected.0 {
            assert!(
                std::time::Instant::now() < end,
                "round {round}: {:?} instead of {:?}",
                site.descriptors(),
                expected.0
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(site.blocked_and_ignored(), expected.1);
    }
    let totals = get(metrics, "/metrics");
    let made = totals.lines().find(|line| line.starts_with("simplex_smp_queues_created ")).unwrap();
    assert_eq!(made.split(' ').nth(1), Some("1"), "statistics go on: {made}");
    site.signal(Signal::HUP);
    site.wait_for("err", "SIGHUP: the settings have not changed", 1);
    runtime.block_on(drain(&address, &queues));
    assert!(site.complaints().is_empty(), "{:?}", site.complaints());
    site.stop();
}

#[test]
fn ports_and_addresses_may_change() {
    let (one, other) = (free_port(), free_port());
    let mut site = Site::start(&[("TRANSPORT", &format!("websockets = {one}"))], &["--shards", "2"]);
    set(&site.home, "TRANSPORT", &format!("websockets = {other}"));
    site.upgrade();
    TcpStream::connect(("127.0.0.1", one)).unwrap_err();
    TcpStream::connect(("127.0.0.1", other)).unwrap();
    assert!(
        site.read("err").contains(&format!("no longer listening on 127.0.0.1:{one}")),
        "{}",
        site.read("err")
    );
    // From an address to all addresses.
    set(&site.home, "RINGPOST", "listen = all");
    site.upgrade();
    for port in [site.port, other] {
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
    set(&site.home, "RINGPOST", "listen = 127.0.0.1");
    site.upgrade();
    TcpStream::connect(site.socket()).unwrap();
    site.stop();
}

#[test]
fn a_stop_during_an_upgrade_is_a_stop() {
    let site = Site::start(&[], &["--shards", "2"]);
    // A client that says nothing holds the upgrade up.
    let _silent = TcpStream::connect(site.socket()).unwrap();
    let mut site = site;
    site.signal(Signal::USR2);
    site.wait_for("err", "handing over; new clients wait", 1);
    site.signal(Signal::USR2);
    site.wait_for("err", "SIGUSR2: an upgrade or a stop is under way", 1);
    site.stop();
}
