#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;

use super::information::{Contact, Entity, HostingType};
use super::*;

const MINIMAL: &str = "[TRANSPORT]\nport = 5223\n";

fn ini(text: &str) -> Ini {
    Ini::parse(Path::new("x.ini"), text.as_bytes()).unwrap()
}

fn settings(text: &str) -> Result<Settings, String> {
    Settings::read(&ini(text)).map_err(|error| error.to_string())
}

fn sample(name: &str) -> Ini {
    let path = format!("{}/../../shared/vectors/reference_data/samples/{name}", env!("CARGO_MANIFEST_DIR"));
    Ini::parse(Path::new(name), &std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn only_the_port_is_required() {
    let read = settings(MINIMAL).unwrap();
    assert_eq!(read.ports, [5223]);
    assert_eq!(read.host, HOST_PLACEHOLDER);
    assert_eq!((read.allow_new_queues, read.create_password, read.inactive), (true, None, None));
    assert_eq!((read.message_ttl_secs, read.queue_quota), (21 * 86_400, 128));
    assert_eq!(read.limits, Limits::default());
    assert_eq!(
        settings("").unwrap_err(),
        format!("x.ini: [TRANSPORT] port is not set: expected {}", values::PORTS)
    );
}

#[test]
fn defaults_in_the_list_of_keys_are_those_that_hold() {
    let mut set = MINIMAL.to_owned();
    for key in keys::KEYS.iter().filter(|key| key.support == Support::Works && !key.default.is_empty()) {
        let _ = write!(set, "[{}]\n{} = {}\n", key.section, key.name, key.default);
    }
    assert_eq!(settings(&set), settings(MINIMAL));
}

#[test]
fn every_key_that_works_refuses_nonsense_or_is_text() {
    let is_free_text = |key: &keys::Key| {
        let texts = [
            "host",
            "create_password",
            "control_port_admin_password",
            "control_port_user_password",
            "cert",
            "key",
        ];
        let checked = ["_country", "_simplex", "hosting_type"];
        texts.contains(&key.name)
            || key.section == keys::INFORMATION && !checked.iter().any(|end| key.name.ends_with(end))
    };
    for key in keys::KEYS.iter().filter(|key| key.support == Support::Works && !is_free_text(key)) {
        let error =
            settings(&format!("[{}]\n{} = -no sense-\n{MINIMAL}", key.section, key.name)).unwrap_err();
        let start = format!("x.ini:2: [{}] {} = -no sense-: expected ", key.section, key.name);
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn values_are_read() {
    let read = settings(
        "[TRANSPORT]\nport = 5223, 443\nhost = a.example,b.onion\n[AUTH]\nnew_queues = off\ncreate_password = p#w\n\
         [STORE_LOG]\nexpire_messages_days = 2\nexpire_messages_on_start = off\nexpire_messages_on_send = off\n\
         [INACTIVE_CLIENTS]\ndisconnect = on\nttl = 60\n\
         [RINGPOST]\nshards = 3\nlisten = 127.0.0.1, [::1]\nlog_level = debug\nqueue_quota = 9\ntls_x448 = off\n\
         session_memory_mib = 8\noutbox_kib = 32\nconnections = 77\nstop_timeout_secs = 1\nunused_queue_days = 90\n",
    )
    .unwrap();
    assert_eq!(read.ports, [5223, 443]);
    assert_eq!(read.host, "a.example,b.onion");
    assert_eq!((read.allow_new_queues, read.create_password.as_deref()), (false, Some("p#w")));
    assert_eq!(read.message_ttl_secs, 2 * 86_400);
    assert_eq!((read.expires_on_start, read.expires_on_send), (false, false));
    assert_eq!(read.unused_queue_days, Some(90));
    assert_eq!(read.inactive, Some(InactiveClients { ttl_secs: 60, check_interval_secs: 3_600 }));
    assert_eq!(read.shards, Shards::Fixed(3.try_into().unwrap()));
    assert_eq!(read.listen, ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    assert_eq!((read.log_level, read.queue_quota, read.tls_x448), (LogLevel::Debug, 9, false));
    assert_eq!((read.limits.session_bytes, read.limits.outbox_bytes), (8 << 20, 32 << 10));
    assert_eq!((read.limits.connections, read.limits.stop_secs), (77, 1));
}

#[test]
fn web_clients_have_ports_of_their_own_or_share_one() {
    let read = settings("[TRANSPORT]\nport = 5223,443\nwebsockets = 443, 8443\n").unwrap();
    assert_eq!((read.ports, read.websocket_ports, read.web), (vec![5223, 443], vec![8443], None));
    let on = settings(&format!("{MINIMAL}websockets = on\n")).unwrap();
    assert_eq!(on.websocket_ports, [80]);
    assert!(settings(&format!("{MINIMAL}websockets = off\n")).unwrap().websocket_ports.is_empty());
    let web = "[WEB]\nhttps = 443\ncert = /etc/web.crt\nkey = /etc/web.key\n";
    let read = settings(&format!("{MINIMAL}{web}")).unwrap().web.unwrap();
    assert_eq!((read.port, read.certificate, read.key), (443, "/etc/web.crt".into(), "/etc/web.key".into()));
    let error = settings(&format!("{MINIMAL}{}", web.replace("cert =", "# cert ="))).unwrap_err();
    assert_eq!(error, "x.ini: [WEB] cert is not set: expected the path of a file");
    // Without https the other two mean nothing.
    assert_eq!(settings(&format!("{MINIMAL}{}", web.replace("https =", "# https ="))).unwrap().web, None);
    for (key, value) in [("https", "0"), ("https", "443,444"), ("https", "off"), ("cert", "")] {
        let error = settings(&format!("[WEB]\nkey = k\n{key} = {value}\nhttps = 1\n{MINIMAL}")).unwrap_err();
        assert!(error.starts_with(&format!("x.ini:3: [WEB] {key} = {value}: expected ")), "{error}");
    }
    let error = settings(&format!("{MINIMAL}websockets = 1,1\n")).unwrap_err();
    assert_eq!(error, format!("x.ini:3: [TRANSPORT] websockets = 1,1: expected {}", values::WEBSOCKETS));
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    for (key, value) in [
        ("[TRANSPORT]\nport", "0"),
        ("[TRANSPORT]\nport", "65536"),
        ("[TRANSPORT]\nport", "+5223"),
        ("[TRANSPORT]\nport", "5223,5223"),
        ("[TRANSPORT]\nport", "5223,"),
        ("[TRANSPORT]\nport", ""),
        ("[AUTH]\nnew_queues", "yes"),
        ("[RINGPOST]\nshards", "257"),
        ("[RINGPOST]\nshards", "0"),
        ("[RINGPOST]\nlisten", "localhost"),
        ("[RINGPOST]\nqueue_quota", "99999999999999999999999999"),
        ("[STORE_LOG]\nexpire_messages_days", "0"),
        ("[RINGPOST]\nunused_queue_days", "29"),
        ("[STORE_LOG]\nstore_messages", "journal"),
        ("[STORE_LOG]\nstore_queues", "database"),
        ("[INACTIVE_CLIENTS]\nttl", "1.5"),
    ] {
        let error = settings(&format!("{key} = {value}\n{MINIMAL}")).unwrap_err();
        let name = key.replace('\n', " ");
        assert!(error.starts_with(&format!("x.ini:2: {name} = {value}: expected ")), "{error}");
    }
}

#[test]
fn a_wrong_password_is_refused_but_not_shown() {
    for password in ["", "two words", "a@b", "a:b", "a/b", "é", &"x".repeat(256)] {
        let error = settings(&format!("{MINIMAL}[AUTH]\ncreate_password = {password}\n")).unwrap_err();
        assert_eq!(error, format!("x.ini:4: [AUTH] create_password: expected {}", values::PASSWORD));
    }
    let good = settings(&format!("{MINIMAL}[AUTH]\ncreate_password = secret1\n")).unwrap();
    assert!(!format!("{good:?}").contains("secret1"));
}

#[test]
fn information_is_read_and_empty_keys_are_not_set() {
    let read = settings(&format!(
        "[INFORMATION]\nsource_code = https://example.com/src\nusage_conditions: https://example.com/terms\n\
         condition_amendments = https://example.com/more\nserver_country = fr\noperator = Acme Ltd\n\
         operator_country = DE\nwebsite =\nadmin_simplex = simplex:/a#abc\nadmin_email = a@example.com\n\
         admin_pgp = https://example.com/key\nadmin_pgp_fingerprint = AB CD\n\
         complaints_simplex = https://smp.example.com/a#abc\ncomplaints_email = c@example.com\ncomplaints_pgp = k\n\
         complaints_pgp_fingerprint = f\nhosting = HostCo\nhosting_country = us\nhosting_type = owned\n{MINIMAL}"
    ))
    .unwrap();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        read.information,
        Information {
            source_code: some("https://example.com/src"),
            usage_conditions: some("https://example.com/terms"),
            condition_amendments: some("https://example.com/more"),
            server_country: some("FR"),
            operator: Entity { name: some("Acme Ltd"), country: some("DE") },
            website: None,
            admin: Contact {
                simplex: some("simplex:/a#abc"),
                email: some("a@example.com"),
                pgp: some("https://example.com/key"),
                pgp_fingerprint: some("AB CD"),
            },
            complaints: Contact {
                simplex: some("https://smp.example.com/a#abc"),
                email: some("c@example.com"),
                pgp: some("k"),
                pgp_fingerprint: some("f"),
            },
            hosting: Entity { name: some("HostCo"), country: some("US") },
            hosting_type: Some(HostingType::Owned),
        }
    );
    assert_eq!(settings(MINIMAL).unwrap().information, Information::default());
    for (key, value) in [
        ("server_country", "Germany"),
        ("operator_country", "D1"),
        ("hosting_type", "cloud"),
        ("admin_simplex", "me"),
    ] {
        let error = settings(&format!("[INFORMATION]\n{key} = {value}\n{MINIMAL}")).unwrap_err();
        assert!(error.starts_with(&format!("x.ini:2: [INFORMATION] {key} = {value}: expected ")), "{error}");
    }
}

#[test]
fn pages_have_a_port_and_a_directory_of_their_own() {
    let read = settings(&format!("{MINIMAL}[WEB]\nhttp = 8000\nstatic_path = /srv/www\n")).unwrap();
    assert_eq!((read.http_port, read.static_path), (Some(8000), Some("/srv/www".into())));
    for web in ["http = 5223", "http = 81", "http = 82\nhttps = 82\ncert = c\nkey = k"] {
        let error = settings(&format!("{MINIMAL}websockets = 81\n[WEB]\n{web}\n")).unwrap_err();
        assert!(error.contains("that nothing else in the ini has"), "{error}");
    }
    let error = settings(&format!("{MINIMAL}[WEB]\nstatic_path = www\n")).unwrap_err();
    assert!(error.contains("from / on"), "{error}");
}

#[test]
fn switches_of_expiry_and_logs() {
    let read = settings(MINIMAL).unwrap();
    assert_eq!(
        (read.expires_on_start, read.expires_on_send, read.log_tls_errors, read.operator.log_stats),
        (true, true, false, false)
    );
    let read = settings(&format!(
        "{MINIMAL}log_tls_errors = on\n[STORE_LOG]\nexpire_messages_on_start = off\nexpire_messages_on_send = off\n\
         log_stats = on\nexpire_ntfs_hours = 2\n"
    ))
    .unwrap();
    assert_eq!(
        (read.expires_on_start, read.expires_on_send, read.log_tls_errors, read.operator.log_stats),
        (false, false, true, true)
    );
    assert_eq!(read.notification_ttl_secs, 7_200);
}

#[test]
fn keys_without_effect_are_named_with_the_reason() {
    let ini =
        ini("[STORE_LOG]\nrestore_messages = off\ndb_connection = postgresql://smp@/x\ndb_schema = a\n\
         db_pool_size = 10\ndb_store_log = on\ndb_deleted_ttl = 21\n");
    let seen: Vec<String> = notices(&ini).iter().map(|n| n.text.clone()).collect();
    assert_eq!(
        seen[0],
        "[STORE_LOG] restore_messages has no effect: messages are kept with their queues; `enable = off` keeps neither"
    );
    let expected = |key| format!("[STORE_LOG] {key} has no effect: there is no database");
    let keys = ["db_connection", "db_schema", "db_pool_size", "db_store_log", "db_deleted_ttl"];
    assert_eq!(seen[1..], keys.map(expected));
}

#[test]
fn what_cannot_be_obeyed_is_named_with_its_line() {
    let ini = ini(
        "[TRANSPORT]\nport = 5223\nport = 443\nwebsockets = off\nPort = 1\n[STORE_LOG]\ndb_schema = a\n[X]\ny = 1\n",
    );
    let seen: Vec<String> = notices(&ini).iter().map(|n| format!("{}: {}", n.line, n.text)).collect();
    assert_eq!(
        seen,
        [
            "3: [TRANSPORT] port is already set in line 2, which counts",
            "5: [TRANSPORT] Port is unknown, and ignored: is it [TRANSPORT] port?",
            "7: [STORE_LOG] db_schema has no effect: there is no database",
            "9: [X] y is unknown, and ignored",
        ]
    );
}

#[test]
fn nothing_in_the_files_of_the_reference_is_unknown() {
    for name in ["smp-server.default.ini", "smp-server.options.ini"] {
        let ini = sample(name);
        for entry in ini.entries() {
            assert!(
                keys::find(&entry.section, &entry.key).is_some(),
                "{name}: [{}] {}",
                entry.section,
                entry.key
            );
        }
        // Keys that are commented out there are known as well.
        let text = std::fs::read_to_string(format!(
            "{}/../../shared/vectors/reference_data/samples/{name}",
            env!("CARGO_MANIFEST_DIR")
        ))
        .unwrap();
        let commented = text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(" ="));
        for (key, _) in commented.filter(|(key, _)| !key.contains([' ', '`'])) {
            assert!(keys::KEYS.iter().any(|known| known.name == key), "{name}: {key}");
        }
    }
    let read = Settings::read(&sample("smp-server.default.ini")).unwrap();
    assert_eq!((read.host.as_str(), read.ports.as_slice()), (HOST_PLACEHOLDER, &[5223, 443][..]));
    assert_eq!(read.inactive, Some(InactiveClients { ttl_secs: 21_600, check_interval_secs: 3_600 }));
    let read = Settings::read(&sample("smp-server.options.ini")).unwrap();
    assert_eq!(read.create_password.as_deref(), Some("secret1"));
    assert_eq!(read.information.source_code.as_deref(), Some("https://github.com/simplex-chat/simplexmq"));
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused(index in 0..keys::KEYS.len(), value in "\\PC{0,40}") {
        let key = &keys::KEYS[index];
        let ini = ini(&format!("[{}]\n{} = {value}\n{MINIMAL}", key.section, key.name));
        let _ = Settings::read(&ini);
        let _ = notices(&ini);
    }

    #[test]
    fn numbers_in_range_are_read(port in 1_u16.., quota in 1_usize..=1_000_000) {
        let read = settings(&format!("[TRANSPORT]\nport = {port}\n[RINGPOST]\nqueue_quota = {quota}\n")).unwrap();
        prop_assert_eq!((read.ports, read.queue_quota), (vec![port], quota));
    }
}
