//! What the packages ship: the seccomp profile is enough for the router, and without `io_uring` it says what is missing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringpost_client::{ClientConfig, Connection, QueueOptions};
use rustix::process::Signal;
use seccompiler::{BpfMap, compile_from_json};
use serde_json::{Value, json};
use support::{Home, Running, assert_fails, free_port, stderr, stdout};

/// A filter in the library's own form, for the child that the tests below start.
const FILTER_VARIABLE: &str = "RINGPOST_TEST_SECCOMP";
const FILTER: &str = "main";

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging").join(name)
}

/// System calls that the profile allows.
fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(packaging("docker/seccomp.json")).unwrap();
    let profile: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&profile["defaultAction"], &profile["defaultErrnoRet"]),
        (&json!("SCMP_ACT_ERRNO"), &json!(1))
    );
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let names = rules.inspect(|rule| assert_eq!(rule["action"], "SCMP_ACT_ALLOW"));
    let names = names.flat_map(|rule| rule["names"].as_array().unwrap().iter());
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Allows these; others fail with EPERM, as with Docker.
fn filter(allowed: &BTreeSet<String>) -> String {
    let rules: Vec<Value> = allowed.iter().map(|name| json!({ "syscall": name })).collect();
    json!({ FILTER: { "mismatch_action": { "errno": 1 }, "match_action": "allow", "filter": rules } })
        .to_string()
}

/// Does nothing unless it is the child that the next tests start: puts the filter on itself and becomes the router.
#[test]
fn child() {
    let Ok(text) = env::var(FILTER_VARIABLE) else { return };
    let architecture = env::consts::ARCH.try_into().unwrap();
    let filters: BpfMap = compile_from_json(text.as_bytes(), architecture).unwrap();
    seccompiler::apply_filter(&filters[FILTER]).unwrap();
    panic!("{}", Command::new(env!("CARGO_BIN_EXE_smp-server")).args(["start", "--shards", "2"]).exec());
}

fn filtered(home: &Home, allowed: &BTreeSet<String>) -> Command {
    let mut command = home.command(env::current_exe().unwrap().to_str().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(FILTER_VARIABLE, filter(allowed));
    command
}

#[test]
fn the_seccomp_profile_is_enough_for_the_router() {
    let port = free_port();
    let home = Home::initialized(port);
    let mut router = Running::start(filtered(&home, &allowed()));
    let address = format!("smp://{}@127.0.0.1:{port}", home.read("fingerprint").trim()).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let use_it = || {
        runtime.block_on(async {
            let (client, _events) = Connection::connect(&address, ClientConfig::default()).await.unwrap();
            client.new_queue(QueueOptions::default()).await.unwrap();
            client.close().await;
        });
    };
    use_it();
    // An upgrade runs programs, and the filter is theirs too.
    router.signal(Signal::USR2);
    router.until_line("Serving ");
    use_it();
    router.signal(Signal::TERM);
    let (status, out, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(out.ends_with("Stopped\n"), "{out}");
}

#[test]
fn without_io_uring_it_is_said_what_to_do() {
    let home = Home::initialized(free_port());
    let mut allowed = allowed();
    allowed.retain(|name| !name.starts_with("io_uring"));
    let output = filtered(&home, &allowed).output().unwrap();
    assert_fails(&output, 9, &["io_uring", "seccomp profile", "kernel.io_uring_disabled"]);
}

#[test]
fn the_unit_and_the_compose_file_raise_the_limits_that_the_router_needs() {
    let unit = fs::read_to_string(packaging("systemd/smp-server.service")).unwrap();
    let keys: BTreeMap<&str, &str> = unit.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!((keys["LimitNOFILE"], keys["LimitMEMLOCK"]), ("1048576", "512M"));
    assert!(unit.contains("kill --signal=USR2"), "how to upgrade");
    assert_eq!(keys["SystemCallErrorNumber"], "EPERM", "an error can be reported, a kill cannot");
    assert!(keys["ExecReload"].starts_with("/bin/sh -c"), "minimal systems have no program kill");
    // The reasons that do not go away by themselves.
    assert_eq!(keys["RestartPreventExitStatus"], "2 3 4 5 8 9 13 15 17 18 19 20");
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(keys["SystemCallFilter"].contains(call) && allowed().contains(call), "{call}");
    }
    let compose = fs::read_to_string(packaging("docker/compose.yaml")).unwrap();
    // Docker makes directories of root of those that are not there; volumes get the owner that the image says.
    let mounts = ["- config:/etc/opt/simplex", "- state:/var/opt/simplex"];
    for words in ["seccomp=./seccomp.json", "memlock: 536870912", "nofile: 1048576"].iter().chain(&mounts) {
        assert!(compose.contains(words), "{words}");
    }
}

/// In another root: on a machine with systemd `scripts/package-run` does the same.
#[test]
fn the_package_scripts_leave_what_is_the_operators() {
    let root = tempfile::tempdir().unwrap();
    let run = |script: &str, arguments: &[&str]| {
        let mut command = Command::new(packaging("debian").join(script));
        let output = command.args(arguments).env("DPKG_ROOT", root.path()).output().unwrap();
        assert!(output.status.success(), "{script}: {}", stderr(&output));
        stdout(&output)
    };
    let directories = ["etc/opt/simplex", "var/opt/simplex"].map(|name| root.path().join(name));
    let there = |expected: bool| assert!(directories.iter().all(|directory| directory.exists() == expected));

    let said = run("postinst", &["configure", ""]);
    assert!(said.contains("smp-server init") && !said.contains("is used instead"), "{said}");
    there(true);
    assert_eq!(fs::metadata(&directories[0]).unwrap().permissions().mode() & 0o777, 0o750);
    run("prerm", &["remove"]);
    run("postrm", &["remove"]);
    there(true);
    assert_eq!(run("postrm", &["purge"]), "");
    there(false);

    run("postinst", &["configure", ""]);
    let ini = directories[0].join("smp-server.ini");
    fs::write(&ini, "").unwrap();
    fs::write(directories[1].join("smp-server-store.log"), "").unwrap();
    assert_eq!(run("postinst", &["configure", "0.1.0"]), "", "nothing to say at an upgrade");
    let said = run("postrm", &["purge"]);
    assert!(said.contains("Left: /etc/opt/simplex") && said.contains("Left: /var/opt/simplex"), "{said}");
    there(true);
    assert!(ini.exists());

    let unit = root.path().join("etc/systemd/system/smp-server.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "").unwrap();
    let said = run("postinst", &["configure", "0.1.0"]);
    assert!(said.starts_with("/etc/systemd/system/smp-server.service is used instead"), "{said}");
}

/// The entry point of the container, with a binary that only says how it was called.
#[test]
fn the_container_makes_a_server_once() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("smp-server");
    fs::write(&binary, "#!/bin/sh\necho \"$@\"\n").unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |variables: &[(&str, &str)], arguments: &[&str]| {
        let path = format!("{}:{}", folder.path().display(), env::var("PATH").unwrap());
        let mut command = Command::new(packaging("docker/entrypoint"));
        command
            .env("PATH", path)
            .env("SMP_SERVER_CFG_PATH", folder.path())
            .env("SMP_SERVER_LOG_PATH", folder.path())
            .env_remove("ADDR")
            .env_remove("PASS");
        command.envs(variables.iter().copied()).args(arguments).output().unwrap()
    };
    for (variables, called) in [
        (&[("ADDR", "smp.example.com")][..], "init --yes --fqdn smp.example.com --no-password\nstart\n"),
        (&[("ADDR", "192.0.2.1"), ("PASS", "p w")], "init --yes --ip 192.0.2.1 --password p w\nstart\n"),
        (&[("ADDR", "2001:db8::1")], "init --yes --ip 2001:db8::1 --no-password\nstart\n"),
    ] {
        assert_eq!(stdout(&run(variables, &[])), called);
    }
    let without = run(&[], &[]);
    assert!(!without.status.success() && stderr(&without).contains("set ADDR"));
    assert_eq!(stdout(&run(&[], &["check", "--json"])), "check --json\n");
    for variable in ["SMP_SERVER_CFG_PATH", "SMP_SERVER_LOG_PATH"] {
        assert_fails(
            &run(&[("ADDR", "192.0.2.1"), (variable, "/none")], &[]),
            10,
            &["cannot write /none", "chown"],
        );
    }
    fs::write(folder.path().join("smp-server.ini"), "").unwrap();
    assert_eq!(stdout(&run(&[], &[])), "start\n");
}
