//! The scripts: what they say when something is missing, and what `scripts/run` leaves behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// What the scripts call besides the build tools.
const TOOLS: &[&str] = &[
    "bash", "cat", "dirname", "env", "grep", "head", "id", "mktemp", "rm", "sed", "seq", "sleep", "uname",
    "date",
];

/// A folder of programs that is the whole PATH, a home without cargo, and a folder for temporary files.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new(build_tools: &[&str]) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["bin", "home", "tmp", "target/release"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        for tool in TOOLS {
            let found =
                ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(tool)).find(|p| p.exists());
            symlink(found.unwrap_or_else(|| panic!("{tool} is not here")), machine.path("bin").join(tool))
                .unwrap();
        }
        for tool in build_tools {
            machine.script(&format!("bin/{tool}"), "exit 0");
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, body: &str) {
        fs::write(self.path(name), format!("#!/usr/bin/env bash\n{body}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Command::new(root.join(script))
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .output()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_missing_build_tool_gets_one_line() {
    for (there, missing) in [
        (&["cc", "make"][..], "cargo is missing"),
        (&["cargo", "make"], "(cc) is missing"),
        (&["cargo", "cc"], "make is missing"),
    ] {
        let machine = Machine::new(there);
        for script in ["scripts/run", "scripts/test"] {
            let output = machine.run(script, &[]);
            let errors = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{script}: {errors}");
            assert!(errors.starts_with("error: ") && errors.contains(missing), "{script}: {errors}");
            assert_eq!((errors.lines().count(), output.stdout.len()), (1, 0), "{script}: {errors}");
        }
    }
}

#[test]
fn budgets_are_not_skipped_without_valgrind() {
    let machine = Machine::new(&["cargo", "cc", "make"]);
    let output = machine.run("scripts/bench-check", &[]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("error: valgrind is missing") && errors.lines().count() == 1, "{errors}");
}

#[test]
fn wrong_options_are_refused() {
    let machine = Machine::new(&["cargo", "cc", "make"]);
    for (script, arguments) in [
        ("scripts/run", &["--seconds"][..]),
        ("scripts/run", &["--seconds", "0"]),
        ("scripts/run", &["--seconds", "ten"]),
        ("scripts/run", &["--seconds", "99999999999999999999"]),
        ("scripts/run", &["fast"]),
        ("scripts/test", &["fast"]),
        ("scripts/bench-check", &["--only"]),
        ("scripts/bench-check", &["fast"]),
        ("scripts/measure-proxy", &["--rounds", "0"]),
        ("scripts/measure-proxy", &["fast"]),
        ("scripts/measure-capacity", &["--only", "all"]),
        ("scripts/measure-capacity", &["--queues"]),
        ("scripts/measure-metrics", &["--pairs", "0"]),
        ("scripts/measure-metrics", &["--rate"]),
        ("scripts/package", &["--out"]),
        ("scripts/package-run", &["everything"]),
        ("scripts/package-run", &["--binaries", "/none"]),
        ("scripts/package-run", &["image", "--image"]),
    ] {
        let output = machine.run(script, arguments);
        assert!(!output.status.success(), "{script} {arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{script} {arguments:?}");
    }
    for script in [
        "scripts/run",
        "scripts/test",
        "scripts/bench-check",
        "scripts/measure-proxy",
        "scripts/measure-capacity",
        "scripts/measure-metrics",
        "scripts/package",
        "scripts/package-run",
    ] {
        let output = machine.run(script, &["--help"]);
        assert!(output.status.success() && text(&output.stdout).starts_with("Usage: "), "{script}");
    }
}

#[test]
fn parts_that_cannot_run_are_named() {
    let machine = Machine::new(&["cargo", "cc", "make"]);
    for (arguments, parts) in
        [(&[][..], &["package", "service", "kernel", "image"][..]), (&["image"], &["image"])]
    {
        let output = machine.run("scripts/package-run", arguments);
        let out = text(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{out}{}", text(&output.stderr));
        let lines: Vec<_> = out.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), parts.len(), "{out}");
        for (line, part) in lines.iter().zip(parts) {
            assert!(line.starts_with(&format!("{part}: cannot: needs ")), "{line}");
        }
    }
}

/// A machine on which the build is done: the router is the one of this test run, loadgen is what the test says.
fn built(loadgen: &str) -> Machine {
    let machine = Machine::new(&["cargo", "cc", "make"]);
    symlink(env!("CARGO_BIN_EXE_smp-server"), machine.path("target/release/smp-server")).unwrap();
    machine.script("target/release/loadgen", loadgen);
    machine
}

fn assert_nothing_is_left(machine: &Machine) {
    assert_eq!(fs::read_dir(machine.path("tmp")).unwrap().count(), 0, "temporary files are left");
    let pid = fs::read_to_string(machine.path("pid")).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "the router still runs");
}

/// Notes the router's process ID and shows that it is alive.
fn loadgen(machine_ends_with: &str) -> String {
    let note = "arguments=(\"$@\"); pid=${arguments[-1]}; echo \"$pid\" >\"${CARGO_TARGET_DIR%/*}/pid\"; kill -0 \"$pid\"";
    format!("{note} || exit 9; echo \"called: $*\"; {machine_ends_with}")
}

#[test]
fn run_drives_a_router_and_leaves_nothing_behind() {
    let machine = built(&loadgen("exit 0"));
    let output = machine.run("scripts/run", &["--seconds", "3"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}{}", text(&output.stderr));
    let address = out.lines().find_map(|line| line.strip_prefix("Server address: ")).unwrap();
    let called = out.lines().find_map(|line| line.strip_prefix("called: ")).unwrap();
    let expected = format!("throughput {address} --pairs 8 --in-flight 4 --duration-secs 3 --pid ");
    assert!(called.starts_with(&expected), "{called}");
    assert!(address.starts_with("smp://") && address.contains("@127.0.0.1:"), "{address}");
    assert_nothing_is_left(&machine);
}

#[test]
fn run_fails_when_messages_fail_and_leaves_nothing_behind() {
    let machine = built(&loadgen("echo lost >&2; exit 4"));
    let output = machine.run("scripts/run", &[]);
    let errors = text(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("lost") && errors.contains("loadgen failed"),
        "{errors}"
    );
    assert_nothing_is_left(&machine);
}

#[test]
fn run_shows_why_a_router_does_not_start() {
    let machine = built("exit 0");
    fs::remove_file(machine.path("target/release/smp-server")).unwrap();
    machine.script(
        "target/release/smp-server",
        "[ \"$1\" = init ] || { echo 'error: no rings here' >&2; exit 9; }",
    );
    let output = machine.run("scripts/run", &[]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("no rings here") && errors.contains("exit code 9"), "{errors}");
    assert_eq!(fs::read_dir(machine.path("tmp")).unwrap().count(), 0);
}
