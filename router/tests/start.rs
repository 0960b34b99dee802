//! A started router as its operator sees it: what it prints, how it stops, and why it does not start.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;
use support::{Home, Running, assert_fails, free_port, stderr, stdout};

#[test]
fn a_router_says_who_it_is_and_accepts_connections() {
    let port = free_port();
    let home = Home::initialized(port);
    let router = Running::start(home.smp_server(["start", "--shards", "2"]));
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    let fingerprint = home.read("fingerprint").trim().to_owned();
    for line in [
        format!("Fingerprint: {fingerprint}\n"),
        format!("Server address: smp://{fingerprint}@127.0.0.1:{port}\n"),
        "Shards: 2\n".to_owned(),
        "New queues: allowed\n".to_owned(),
        format!("Serving SMP protocol on 127.0.0.1:{port}\n"),
    ] {
        assert!(router.lines.contains(&line), "expected {line:?} in {:?}", router.lines);
    }
    router.signal(Signal::TERM);
    let (status, out, errors) = router.wait();
    assert_eq!((status.code(), out.as_str()), (Some(0), "Stopped\n"), "{errors}");
    assert!(errors.contains("SIGTERM: stopping"), "{errors}");
}

#[test]
fn sigint_stops_too_and_the_same_files_start_again() {
    let home = Home::initialized(free_port());
    let before = home.files();
    for shards in ["1", "2"] {
        let router = Running::start(home.smp_server(["start", "--shards", shards]));
        router.signal(Signal::INT);
        let (status, _, errors) = router.wait();
        assert_eq!(status.code(), Some(0), "{errors}");
    }
    assert_eq!(home.files(), before);
}

#[test]
fn every_port_of_the_ini_is_served() {
    let (one, other) = (free_port(), free_port());
    let home = Home::initialized(one);
    let ini = home.read("smp-server.ini").replace(&format!("port = {one}"), &format!("port = {one},{other}"));
    home.write("smp-server.ini", &ini);
    let _router = Running::start(home.smp_server(["start", "--shards", "1"]));
    for port in [one, other] {
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}

#[test]
fn clients_leave_no_address_in_the_log() {
    let port = free_port();
    let home = Home::initialized(port);
    let router = Running::start(home.smp_server(["start", "--log-level", "info"]));
    let mut addresses = Vec::new();
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5], &[0; 10_000]] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        addresses.push(client.local_addr().unwrap());
        // The router may close before it has read all.
        let _ = client.write_all(nonsense);
        let _ = client.read_to_end(&mut Vec::new());
    }
    router.signal(Signal::TERM);
    let (status, out, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    for address in addresses {
        for text in [&out, &errors] {
            assert!(
                !text.contains(&address.ip().to_string()) && !text.contains(&address.to_string()),
                "{text}"
            );
        }
    }
}

#[test]
fn the_password_is_not_printed_by_start() {
    let home = Home::initialized(free_port());
    let ini = home.read("smp-server.ini").replace("# create_password =", "create_password = secret1");
    home.write("smp-server.ini", &ini);
    let router = Running::start(home.smp_server(["start", "--log-level", "trace"]));
    assert!(router.lines.contains(&"New queues: need the password\n".to_owned()), "{:?}", router.lines);
    let lines = router.lines.concat();
    router.signal(Signal::TERM);
    let (_, out, errors) = router.wait();
    for text in [lines, out, errors] {
        assert!(!text.contains("secret1"), "{text}");
    }
}

#[test]
fn what_the_ini_asks_for_in_vain_is_logged_with_its_line() {
    let home = Home::initialized(free_port());
    let ini =
        home.read("smp-server.ini").replace("restore_messages = on", "restore_messages = off\nsockets = 1");
    home.write("smp-server.ini", &ini);
    let line = 1 + ini.lines().position(|line| line == "restore_messages = off").unwrap();
    let router = Running::start(home.smp_server(["start"]));
    router.signal(Signal::TERM);
    let (_, _, errors) = router.wait();
    let ini = home.config("smp-server.ini").display().to_string();
    for words in [
        format!("{ini}:{line}: [STORE_LOG] restore_messages has no effect"),
        format!("{ini}:{}: [STORE_LOG] sockets is unknown, and ignored", line + 1),
    ] {
        assert!(errors.contains(&words), "expected {words:?} in:\n{errors}");
    }
}

#[test]
fn the_key_of_the_log_is_made_once() {
    let home = Home::initialized(free_port());
    let key = home.data().join("ringpost/id_hash.key");
    drop(Running::start(home.smp_server(["start"])));
    let made = std::fs::read(&key).unwrap();
    drop(Running::start(home.smp_server(["start"])));
    assert_eq!(std::fs::read(&key).unwrap(), made);
}

#[test]
fn a_second_router_is_kept_out_of_the_data_directory() {
    let home = Home::initialized(free_port());
    let running = Running::start(home.smp_server(["start"]));
    let second = home.run(["start"]);
    assert_eq!(second.status.code(), Some(12), "{}", stderr(&second));
    assert!(stderr(&second).contains("ringpost.lock"), "{}", stderr(&second));
    drop(running);
    drop(Running::start(home.smp_server(["start"])));
}

#[test]
fn signals_that_come_together_are_one_request() {
    let home = Home::initialized(free_port());
    let router = Running::start(home.smp_server(["start"]));
    router.signal(Signal::TERM);
    router.signal(Signal::INT);
    let (status, _, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
}

#[test]
fn keys_that_others_can_read_are_warned_about() {
    let home = Home::initialized(free_port());
    let key = home.config("server.key");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, mode).unwrap();
    let router = Running::start(home.smp_server(["start"]));
    router.signal(Signal::TERM);
    let (_, _, errors) = router.wait();
    assert!(errors.contains(&format!("{} can be read by other users", key.display())), "{errors}");
}

#[test]
fn a_port_in_use_has_its_own_exit_code() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let home = Home::initialized(address.port());
    let output = home.run(["start"]);
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(6), "{errors}");
    assert!(errors.contains(&format!("cannot listen on {address}")), "{errors}");
}

#[test]
fn two_routers_do_not_share_a_port() {
    let home = Home::initialized(free_port());
    let _first = Running::start(home.smp_server(["start"]));
    let elsewhere = tempfile::tempdir().unwrap();
    let second = home.smp_server(["start"]).env("SMP_SERVER_LOG_PATH", elsewhere.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(6), "{}", stderr(&second));
}

#[test]
fn an_address_of_another_machine_has_its_own_exit_code() {
    let home = Home::initialized(free_port());
    // TEST-NET-1 is never an address of a machine.
    let ini = home.read("smp-server.ini").replace("listen = 127.0.0.1", "listen = 192.0.2.1");
    home.write("smp-server.ini", &ini);
    let output = home.run(["start"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
}

#[test]
fn too_little_locked_memory_has_its_own_exit_code() {
    let home = Home::initialized(free_port());
    let mut shell = home.command("sh");
    shell.args(["-c", "ulimit -l 16 && exec \"$0\" start", env!("CARGO_BIN_EXE_smp-server")]);
    let output = shell.output().unwrap();
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(8), "{errors}");
    assert!(errors.contains("locked memory") && errors.contains("ulimit -l"), "{errors}");
}

#[test]
fn too_few_descriptors_have_their_own_exit_code() {
    let home = Home::initialized(free_port());
    let mut shell = home.command("sh");
    shell.args(["-c", "ulimit -n 1000 && exec \"$0\" start", env!("CARGO_BIN_EXE_smp-server")]);
    let output = shell.output().unwrap();
    assert_fails(&output, 20, &["1000 open files are allowed", "LimitNOFILE", "ulimit -n"]);
    let errors = stderr(&output);
    assert_eq!(errors.lines().filter(|line| !line.contains(" WARN ")).count(), 2, "{errors}");
}

#[test]
fn maintenance_looks_and_ends() {
    let home = Home::initialized(free_port());
    for options in
        [&["--maintenance"][..], &["-m", "--compact-log", "--confirm-migrations", "up", "--skip-warnings"]]
    {
        let output = home.run(["start"].iter().chain(options).copied());
        let text = stdout(&output);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(text.contains("Maintenance completed") && !text.contains("Serving"), "{text}");
    }
    std::fs::remove_file(home.config("server.key")).unwrap();
    assert_fails(&home.run(["start", "-m"]), 17, &["server.key"]);
}

#[test]
fn few_descriptors_lower_the_connections_and_say_so() {
    let home = Home::initialized(free_port());
    let mut shell = home.command("sh");
    shell.args(["-c", "ulimit -n 2000 && exec \"$0\" start", env!("CARGO_BIN_EXE_smp-server")]);
    let router = Running::start(shell);
    router.signal(Signal::TERM);
    let (status, _, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(errors.contains("2000 open files are allowed: 976 connections fit"), "{errors}");
}
