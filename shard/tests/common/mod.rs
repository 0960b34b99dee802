//! A router in this process and blocking clients for it, made of the protocol's pieces alone.
//!
//! | file | what it does |
//! |---|---|
//! | `tls` | TLS over a blocking socket |
//! | `web` | web clients |
//! | `client` | a session: hello, transmissions, blocks |
//! | `service` | services |
//! | `queue` | the commands of a recipient and a sender |
//! | `healthy` | a pair of connections that exchange messages while others misbehave |
//! | `placement` | which connections were accepted by the same shard |
#![allow(dead_code, unused_imports)]

pub mod client;
pub mod healthy;
pub mod placement;
pub mod queue;
pub mod service;
pub mod tls;
pub mod web;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringpost_protocol::certificate::{CertificateAuthority, RouterCredentials};
use ringpost_protocol::version::VersionRange;
use ringpost_protocol::websocket::pages::{Page, Pages};
use ringpost_shard::{Config, Router, StopMode};

pub use client::{Client, Options, Prepared, Received};
pub use healthy::Healthy;
pub use queue::Queue;
pub use service::TestService;
pub use tls::{Ended, TlsStream};
pub use web::Web;

/// What has not happened by then never will.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn credentials() -> RouterCredentials {
    static CREDENTIALS: OnceLock<RouterCredentials> = OnceLock::new();
    CREDENTIALS.get_or_init(|| new_credentials(1)).clone()
}

/// An identity of its own for each seed: made once, since the time is in it.
pub fn new_credentials(seed: u8) -> RouterCredentials {
    static MADE: Mutex<BTreeMap<u8, RouterCredentials>> = Mutex::new(BTreeMap::new());
    MADE.lock().unwrap().entry(seed).or_insert_with(|| make_credentials(seed)).clone()
}

fn make_credentials(seed: u8) -> RouterCredentials {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    let authority = CertificateAuthority::generate(&[seed; 32], now).unwrap();
    let issued = authority.issue("localhost", &[seed.wrapping_add(100); 32], now).unwrap();
    let ca = authority.certificate_pem();
    RouterCredentials::from_pem(&ca, &issued.certificate_pem, &issued.key_pem, now).unwrap()
}

pub type Counters = BTreeMap<&'static str, u64>;

/// Counts what goes wrong; all of them stay as they are while clients behave.
const FAILURES: &[&str] =
    &["closed_", "errors_", "refused_", "handshakes_failed_", "accept_errors", "messages_refused"];

/// A page that fits into one record, and one that does not.
fn pages() -> Pages {
    let page = |body: String| Page::new(body.into(), "text/html; charset=utf-8", "default-src 'none'", 0);
    let front = page("<!doctype html>\n<title>A router</title>\n".to_owned());
    Pages::new([("/".to_owned(), front), ("/large".to_owned(), page("<p>".repeat(30_000)))].into())
}

/// A running router. Dropping it stops it, and fails the test if one of its shards ended by itself.
pub struct TestRouter {
    router: Option<Router>,
    pub credentials: RouterCredentials,
    pub address: SocketAddr,
    pub shards: usize,
}

impl TestRouter {
    pub fn config(shards: usize) -> Config {
        Config {
            listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()],
            shards,
            credentials: credentials(),
            tls: ringpost_shard::TlsOptions::default(),
            log_tls_errors: false,
            pages: pages(),
            versions: VersionRange::ALL,
            id_hash_key: *b"id hash key test",
            allow_new_queues: true,
            create_password: None,
            message_ttl_secs: None,
            notification_ttl_secs: 86_400,
            expiry_interval_secs: 3600,
            expires_on_start: true,
            expires_on_send: true,
            unused_queue_days: None,
            queue_quota: 128,
            inactive: None,
            limits: ringpost_shard::limits::Limits::default(),
            proxy: ringpost_shard::proxy::ProxyConfig::default(),
            data: None,
            active_queues: None,
        }
    }

    pub fn start(shards: usize) -> Self {
        Self::with(shards, |_| {})
    }

    pub fn with(shards: usize, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Self::config(shards);
        change(&mut config);
        let credentials = config.credentials.clone();
        let router = Router::start(config).unwrap();
        let address = router.local_addrs()[0];
        Self { router: Some(router), credentials, address, shards }
    }

    pub fn router(&self) -> &Router {
        self.router.as_ref().unwrap()
    }

    pub fn counters(&self) -> Counters {
        self.router().counters().into_iter().collect()
    }

    pub fn counter(&self, name: &str) -> u64 {
        *self.counters().get(name).unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Waits until a counter has this value.
    pub fn wait_for(&self, name: &str, value: u64) {
        self.wait_until(&format!("{name} = {value}"), |counters| counters[name] == value);
    }

    pub fn wait_until(&self, what: &str, reached: impl Fn(&Counters) -> bool) {
        let end = Instant::now() + DEADLINE;
        loop {
            let counters = self.counters();
            if reached(&counters) {
                return;
            }
            assert!(Instant::now() < end, "{what} was not reached: {counters:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until what went wrong since `before` is exactly this.
    pub fn expect(&self, before: &Counters, failures: &[(&str, u64)]) {
        let expected: Counters = self
            .counters()
            .into_keys()
            .filter(|name| FAILURES.iter().any(|prefix| name.starts_with(prefix)))
            .map(|name| {
                let listed = failures.iter().find(|(listed, _)| *listed == name);
                (name, before[name] + listed.map_or(0, |(_, count)| *count))
            })
            .collect();
        for (name, _) in failures {
            assert!(expected.contains_key(name), "no counter of failures: {name}");
        }
        let end = Instant::now() + DEADLINE;
        loop {
            let now = self.counters();
            let differing: Vec<_> = expected
                .iter()
                .filter(|(name, value)| now[*name] != **value)
                .map(|(name, value)| {
                    format!("{name}: {} instead of {}", now[name] - before[name], value - before[name])
                })
                .collect();
            if differing.is_empty() {
                return;
            }
            let too_many = expected.iter().any(|(name, value)| now[name] > *value);
            assert!(!too_many && Instant::now() < end, "{}", differing.join(", "));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn request_stop(&self, mode: StopMode) {
        self.router().request_stop(mode);
    }

    /// Waits for the end of a router that was asked to stop.
    pub fn join(mut self) {
        self.router.take().unwrap().join().unwrap();
    }
}

impl Drop for TestRouter {
    fn drop(&mut self) {
        if let Some(router) = self.router.take() {
            router.request_stop(StopMode::Immediate);
            let ended = router.join();
            if !std::thread::panicking() {
                ended.unwrap();
            } else if let Err(error) = ended {
                eprintln!("the router ended by itself: {error}");
            }
        }
    }
}
