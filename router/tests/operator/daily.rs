//! The end of a day, which does not wait for the clock here: a router in this process, and a desk of its own.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringpost_client::{ClientConfig, Connection, KeyKind, QueueOptions, SenderQueue};
use ringpost_protocol::certificate::{CertificateAuthority, RouterCredentials};
use ringpost_protocol::command::MsgFlags;
use ringpost_protocol::version::VersionRange;
use ringpost_router::ini::Ini;
use ringpost_router::operator::desk::Desk;
use ringpost_router::operator::keeper::Files;
use ringpost_router::settings::Settings;
use ringpost_shard::{Config, Router, StopMode, TlsOptions};

use crate::site::runtime;

const DAY: Duration = Duration::from_secs(86_400);

fn credentials() -> RouterCredentials {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    let authority = CertificateAuthority::generate(&[1; 32], now).unwrap();
    let issued = authority.issue("localhost", &[2; 32], now).unwrap();
    let ca = authority.certificate_pem();
    RouterCredentials::from_pem(&ca, &issued.certificate_pem, &issued.key_pem, now).unwrap()
}

fn router(credentials: RouterCredentials) -> Router {
    Router::start(Config {
        listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards: 2,
        credentials,
        tls: TlsOptions::default(),
        versions: VersionRange::ALL,
        id_hash_key: [3; 16],
        allow_new_queues: true,
        create_password: None,
        message_ttl_secs: None,
        notification_ttl_secs: 86_400,
        expiry_interval_secs: 3_600,
        expires_on_start: true,
        expires_on_send: true,
        unused_queue_days: None,
        log_tls_errors: false,
        pages: ringpost_protocol::websocket::pages::Pages::default(),
        queue_quota: 128,
        inactive: None,
        limits: ringpost_shard::limits::Limits::default(),
        proxy: ringpost_shard::proxy::ProxyConfig::default(),
        data: None,
        active_queues: Some(Vec::new()),
    })
    .unwrap()
}

#[test]
fn at_the_end_of_a_day_a_line_is_added_and_counts_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    // Made once: the time is in it.
    let credentials = credentials();
    let fingerprint = credentials.fingerprint_text();
    let router = router(credentials);
    let address = router.local_addrs()[0];
    let text = "[TRANSPORT]\nport = 5223\n[STORE_LOG]\nlog_stats = on\n";
    let settings = Settings::read(&Ini::parse(Path::new("x.ini"), text.as_bytes()).unwrap()).unwrap();
    let desk = Desk::new(router.operator(), vec![address.port()], settings.operator, folder.path(), None);
    let mut files = Files::new(&desk, folder.path().to_owned());
    runtime().block_on(async {
        let address = format!("smp://{fingerprint}@{address}").parse().unwrap();
        let (client, _events) = Connection::connect(&address, ClientConfig::default()).await.unwrap();
        let queue = client.new_queue(QueueOptions::default()).await.unwrap();
        let sender = SenderQueue::new(queue.sender_id, KeyKind::X25519.generate().unwrap());
        client.secure_by_sender(&sender).await.unwrap();
        client.send(&sender, MsgFlags { notification: true }, b"x").await.unwrap();
    });
    let daily = folder.path().join("smp-server-stats.daily.log");
    let now = SystemTime::now();
    files.look(now);
    assert!(!daily.exists());
    files.look(now + DAY);
    // Once a day.
    files.look(now + DAY);
    let lines = fs::read_to_string(&daily).unwrap();
    let columns: Vec<&str> = lines.trim_end().split(',').collect();
    assert_eq!((lines.lines().count(), columns.len()), (1, 96));
    // Date; queues made and secured; messages taken; queues and messages that are there.
    assert_eq!(columns[0].len(), 10);
    assert_eq!([columns[1], columns[2], columns[4], columns[14], columns[15]], ["1", "1", "1", "1", "1"]);
    assert_eq!((desk.totals().get("qCreated"), desk.totals().get("qCount")), (0, 1));
    let saved = fs::read_to_string(folder.path().join("smp-server-stats.log")).unwrap();
    assert!(saved.contains("\nqCreated=0\n") && saved.contains("\nqCount=1\n"), "{saved}");
    files.look(now + 2 * DAY);
    assert_eq!(fs::read_to_string(&daily).unwrap().lines().count(), 2);
    router.request_stop(StopMode::Immediate);
    router.join().unwrap();
}
