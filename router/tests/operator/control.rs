//! The control port: roles, bounds, and what each command does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use ringpost_client::ClientError;
use ringpost_protocol::error::ErrorType;
use ringpost_router::operator::control::command::{COMMANDS, Role};
use rustix::process::Signal;

use crate::site::{ADMIN, Control, DEADLINE, Site, USER, base64, runtime, wait_until};
use crate::support::{free_port, stderr};

#[test]
fn every_command_answers_those_who_may_give_it() {
    let site = Site::new();
    let _router = site.start();
    let queue = base64(&[1; 24]);
    for info in COMMANDS.iter().filter(|info| !["auth", "help", "quit"].contains(&info.name)) {
        let command = match info.arguments {
            "" => info.name.to_owned(),
            "ID" => format!("{} {queue}", info.name),
            _ => format!("{} {queue} reason=spam", info.name),
        };
        for (password, role) in [(None, Role::None), (Some(USER), Role::User), (Some(ADMIN), Role::Admin)] {
            let mut control = Control::connect(site.control);
            if let Some(password) = password {
                let answer = control.one(&format!("auth {password}"));
                assert_eq!(answer, format!("Current role is {}", role.word()));
            }
            let answer = control.ask(&command);
            if role < info.role {
                assert_eq!(answer, ["AUTH"], "{command}");
            } else {
                assert!(!answer.is_empty(), "{command}");
                assert!(!answer.contains(&"AUTH".to_owned()), "{command}: {answer:?}");
            }
        }
    }
}

#[test]
fn a_wrong_password_gives_no_role_and_after_some_the_connection_ends() {
    let site = Site::new();
    let _router = site.start();
    let mut control = Control::connect(site.control);
    assert_eq!(control.one("auth wrong"), "Current role is CPRNone");
    assert_eq!(control.one(&format!("auth {USER}")), "Current role is CPRUser");
    // The first role stays.
    assert_eq!(
        control.one(&format!("auth {ADMIN}")),
        "Current role is CPRUser, start new session to change."
    );
    assert_eq!(control.one("clients"), "AUTH");
    let mut control = Control::connect(site.control);
    for _ in 0..5 {
        control.send("auth guess\n");
        assert_eq!(control.line().unwrap(), "Current role is CPRNone");
    }
    assert_eq!(control.line().unwrap(), "error: too many wrong passwords");
    assert_eq!(control.line(), None);
}

#[test]
fn bad_lines_are_answered_or_end_the_connection() {
    let site = Site::new();
    let _router = site.start();
    let mut control = Control::connect(site.control);
    assert_eq!(control.one("nonsense"), "error: unknown command, `help` lists them");
    assert_eq!(control.ask("\r"), [""; 0]);
    control.stream.write_all(b"\xff\xfe\n").unwrap();
    assert_eq!(control.line().unwrap(), "error: a line must be UTF-8 text");
    control.send(&"x".repeat(2_000));
    assert_eq!(control.line().unwrap(), "error: a line has at most 1024 bytes");
    assert_eq!(control.line(), None);
    let mut control = Control::connect(site.control);
    control.send("quit\n");
    assert_eq!(control.line(), None);
    // A line that is cut off is not obeyed.
    let mut control = site.admin();
    control.send("save");
    control.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(control.line(), None);
}

#[test]
fn connections_are_bounded_and_come_back() {
    let site = Site::new();
    let _router = site.start();
    let mut open: Vec<Control> = (0..16).map(|_| Control::connect(site.control)).collect();
    let mut refused = TcpStream::connect(("127.0.0.1", site.control)).unwrap();
    refused.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut text = String::new();
    refused.read_to_string(&mut text).unwrap();
    assert_eq!(text, "error: too many connections\n");
    open[0].send("quit\n");
    assert_eq!(open[0].line(), None);
    wait_until("a place is free again", || {
        let mut stream = TcpStream::connect(("127.0.0.1", site.control)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut first = [0; 3];
        stream.read_exact(&mut first).unwrap();
        first == *b"SMP"
    });
}

#[test]
fn queues_are_blocked_unblocked_and_deleted_for_their_users() {
    let site = Site::new();
    let router = site.start();
    let mut admin = site.admin();
    let queue = runtime().block_on(site.use_a_queue(3));
    let id = base64(queue.sender_id.as_bytes());
    let blocked = "EntityBlocked (BlockingInfo {reason = BRSpam, notice = Nothing})";
    assert_eq!(admin.one(&format!("block {id} reason=spam")), format!("ok, queue blocked: {blocked}"));
    let subscribe = || {
        runtime().block_on(async {
            let (client, _events) = site.connect().await;
            client.subscribe(&queue).await
        })
    };
    let refused = subscribe().unwrap_err();
    assert!(matches!(&refused, ClientError::Router(ErrorType::Blocked(_))), "{refused}");
    assert!(admin.one(&format!("status {id}")).starts_with(&format!("status: {blocked}, updatedAt: Just (")));
    // It is still so after the process was killed.
    drop(router);
    let router = site.start();
    let mut admin = site.admin();
    assert!(admin.one(&format!("status {id}")).starts_with(&format!("status: {blocked}, ")));
    assert_eq!(
        admin.one(&format!("unblock {id}")),
        "ok, queue unblocked, reason to block was: BlockingInfo {reason = BRSpam, notice = Nothing}"
    );
    assert_eq!(admin.one(&format!("unblock {id}")), "ok, queue was active");
    subscribe().unwrap();
    assert_eq!(admin.one(&format!("delete {id}")), "ok, 2 messages deleted");
    for command in ["delete", "status", "unblock"] {
        assert_eq!(admin.one(&format!("{command} {id}")), "error: AUTH");
    }
    subscribe().unwrap_err();
    drop(router);
    let _router = site.start();
    assert_eq!(site.admin().one(&format!("status {id}")), "error: AUTH");
}

#[test]
fn the_quota_of_blocked_queues_is_kept() {
    let site = Site::new();
    site.set("AUTH", "daily_block_queue_quota", "2");
    let _router = site.start();
    let mut admin = site.admin();
    let runtime = runtime();
    let ids: Vec<String> =
        (0..3).map(|_| base64(runtime.block_on(site.use_a_queue(0)).sender_id.as_bytes())).collect();
    // What blocks nothing takes nothing from it.
    assert_eq!(admin.one(&format!("block {} reason=spam", base64(&[9; 24]))), "error: AUTH");
    assert!(admin.one(&format!("block {} reason=spam", ids[0])).starts_with("ok, queue blocked"));
    assert!(admin.one(&format!("block {} reason=content", ids[0])).starts_with("ok, already inactive"));
    assert!(admin.one(&format!("block {} reason=spam", ids[1])).starts_with("ok, queue blocked"));
    let refused = "error: reached limit of 2 queues blocked daily";
    assert_eq!(admin.one(&format!("block {} reason=spam", ids[2])), refused);
    assert!(admin.one(&format!("status {}", ids[2])).starts_with("status: EntityActive"));
}

#[test]
fn what_is_there_is_told() {
    let site = Site::new();
    let _router = site.start();
    let mut admin = site.admin();
    let runtime = runtime();
    runtime.block_on(site.use_a_queue(2));
    let (client, _events) = runtime.block_on(site.connect());
    runtime.block_on(client.new_queue(ringpost_client::QueueOptions::default())).unwrap();
    let stats = admin.ask("stats");
    for line in ["qCreated: 2", "qSecured: 1", "msgSent: 2", "msgRecv: 1", "qCount: 2", "msgCount: 1"] {
        assert!(stats.contains(&line.to_owned()), "{line} in {stats:#?}");
    }
    let clients = admin.ask("clients");
    assert_eq!(clients.len(), 2, "{clients:?}");
    let columns: Vec<&str> = clients[1].split(',').collect();
    assert_eq!((columns.len(), columns[2], columns[7]), (8, "True", "1"), "{clients:?}");
    let sockets = admin.ask("sockets");
    assert_eq!(sockets[0], format!("Sockets for port {}:", site.port));
    wait_until("one connection is open", || {
        admin.ask("sockets")[1..] == ["accepted: 2", "closed: 1", "active: 1", "leaked: 0"]
    });
    let info = admin.ask("server-info");
    for line in [
        "Clients: 1",
        "SMP subscriptions: 1",
        "SMP subscribed clients: 1",
        "Ntf subscriptions: 0",
        "Ntf subscribed clients: 0",
    ] {
        assert!(info.contains(&line.to_owned()), "{line} in {info:?}");
    }
    let threads = admin.ask("threads");
    assert!(threads.iter().any(|thread| thread.ends_with(" shard-1")), "{threads:?}");
    assert!(admin.ask("stats-rts").contains(&"queues: 2".to_owned()));
    assert!(admin.one("save").contains("log_stats"));
    assert!(admin.one("suspend").starts_with("suspend not implemented"));
    assert!(admin.one("socket-threads").contains("no threads of their own"));
}

#[test]
fn it_is_on_this_machine_alone_and_needs_a_free_port() {
    let site = Site::new();
    let router = site.start();
    assert!(router.lines.contains(&format!("Control port on 127.0.0.1:{}\n", site.control)));
    // Another loopback address is as foreign as any.
    assert!(TcpStream::connect(("127.0.0.2", site.control)).is_err());
    router.signal(Signal::TERM);
    router.wait();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    site.set("TRANSPORT", "control_port", &port.to_string());
    let output = site.home.run(["start"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(stderr(&output).contains("[TRANSPORT] control_port"), "{}", stderr(&output));
}

#[test]
fn without_a_password_nobody_has_a_role() {
    let site = Site::new();
    let ini = site.home.read("smp-server.ini");
    let without: Vec<&str> = ini
        .lines()
        .filter(|line| !line.starts_with("control_port_") && !line.starts_with("port ="))
        .collect();
    let port = free_port();
    let ini = without.join("\n").replace("[TRANSPORT]", &format!("[TRANSPORT]\nport = {port}"));
    site.home.write("smp-server.ini", &(ini + "\n"));
    let router = site.start();
    let mut control = Control::connect(site.control);
    assert_eq!(control.one("auth x"), "Current role is CPRNone");
    assert_eq!(control.one("stats"), "AUTH");
    router.signal(Signal::TERM);
    let (_, _, errors) = router.wait();
    assert!(errors.contains("the control port has no password"), "{errors}");
}
