//! Logs of a busy router: nothing in them tells who its users are, and the journal gets levels.

use rustix::process::Signal;

use crate::site::{ADMIN, Control, Site, base64, runtime};

/// Forms in which an ID could be written.
fn forms(id: &[u8]) -> Vec<String> {
    let bytes: Vec<String> = id.iter().map(|byte| format!("{byte}")).collect();
    vec![base64(id), hex::encode(id), hex::encode_upper(id), bytes.join(", "), format!("{id:?}")]
}

#[test]
fn the_log_of_a_busy_router_names_no_address_no_queue_and_no_command() {
    let site = Site::new();
    site.set("STORE_LOG", "log_stats", "on");
    site.set("STORE_LOG", "prometheus_interval", "1");
    let router = site.start_with(&["start", "--shards", "2", "--log-level", "info"]);
    let runtime = runtime();
    let mut secrets = Vec::new();
    for _ in 0..5 {
        let queue = runtime.block_on(site.use_a_queue(3));
        secrets.extend(forms(queue.sender_id.as_bytes()));
        secrets.extend(forms(queue.recipient_id.as_bytes()));
        // Refused, on the control port and by the router.
        let mut admin = site.admin();
        let id = base64(queue.sender_id.as_bytes());
        for command in [
            format!("block {id} reason=spam"),
            format!("status {id}"),
            format!("unblock {id}"),
            format!("delete {id}"),
            format!("delete {id}"),
            "clients".to_owned(),
            format!("nonsense {id}"),
        ] {
            admin.ask(&command);
        }
        Control::connect(site.control).ask(&format!("auth {id}"));
        runtime.block_on(async {
            let (client, _events) = site.connect().await;
            client.subscribe(&queue).await.unwrap_err();
        });
    }
    // Clients that break off, and nonsense.
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5], &[0; 1_000]] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", site.port)).unwrap();
        secrets.push(stream.local_addr().unwrap().to_string());
        // The router may close before it has read all.
        let _ = std::io::Write::write_all(&mut stream, nonsense);
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    }
    router.signal(Signal::HUP);
    router.signal(Signal::TERM);
    let (status, out, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    // The log is there, and says what was done, but not to whom.
    assert!(errors.contains("control port: a queue was blocked"), "{errors}");
    for secret in secrets.iter().map(String::as_str).chain([ADMIN, "body of a message"]) {
        assert!(!errors.contains(secret) && !out.contains(secret), "{secret} in:\n{out}{errors}");
    }
    for line in errors.lines() {
        assert!(!line.contains("127.0.0.1"), "{line}");
        // Names of counters are small letters; commands of clients are not.
        for command in ["SEND", "SUB", "NEW", "ACK", "SKEY", "DEL"] {
            assert!(!line.split(|c: char| !c.is_ascii_alphabetic()).any(|word| word == command), "{line}");
        }
    }
}

#[test]
fn the_journal_gets_levels() {
    for (format, is_for_journal) in [("journald", true), ("plain", false), ("auto", false)] {
        let site = Site::new();
        site.set("RINGPOST", "log_format", format);
        let router = site.start();
        Control::connect(site.control).ask("auth wrong");
        router.signal(Signal::TERM);
        let (_, _, errors) = router.wait();
        let warning = errors.lines().find(|line| line.contains("a wrong password")).unwrap();
        let information = errors.lines().find(|line| line.contains("SIGTERM: stopping")).unwrap();
        if is_for_journal {
            assert_eq!(
                warning,
                "<4>ringpost_router::operator::control::session: control port: a wrong password"
            );
            assert!(information.starts_with("<6>ringpost_router::signals: SIGTERM"), "{information}");
        } else {
            assert!(warning.contains(" WARN ") && information.contains(" INFO "), "{errors}");
        }
    }
}
