//! A router that was started from a file of its own, which can be replaced under it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ringpost_protocol::address::RouterAddress;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Home, free_port};

/// What has not happened by then never will.
pub const DEADLINE: Duration = Duration::from_secs(60);

const CLOSE_ON_EXEC: u32 = 0o2_000_000;

pub struct Site {
    pub home: Home,
    pub port: u16,
    child: Child,
}

/// A router's home with a program of its own.
pub fn home(port: u16, settings: &[(&str, &str)]) -> Home {
    let home = Home::initialized(port);
    for (section, line) in settings {
        set(&home, section, line);
    }
    install(&home, Path::new(env!("CARGO_BIN_EXE_smp-server")));
    home
}

/// Puts a line into a section of the ini, in place of the line with that key.
pub fn set(home: &Home, section: &str, line: &str) {
    let key = |line: &str| line.split('=').next().unwrap().trim().to_owned();
    let mut inside = false;
    let mut ini: Vec<String> = Vec::new();
    for old in home.read("smp-server.ini").lines() {
        if old.starts_with('[') {
            inside = old == format!("[{section}]");
        } else if inside && key(old) == key(line) {
            continue;
        }
        ini.push(old.to_owned());
        if inside && old.starts_with('[') {
            ini.push(line.to_owned());
        }
    }
    assert!(ini.iter().any(|new| new == line), "[{section}] is not in the ini");
    home.write("smp-server.ini", &(ini.join("\n") + "\n"));
}

pub fn program(home: &Home) -> PathBuf {
    home.folder().join("smp-server")
}

/// Puts another file in the program's place, as a package does.
fn install(home: &Home, file: &Path) {
    let new = home.folder().join("smp-server.new");
    if fs::hard_link(file, &new).is_err() {
        fs::copy(file, &new).unwrap();
    }
    fs::rename(&new, program(home)).unwrap();
}

impl Site {
    pub fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let port = free_port();
        let home = home(port, settings);
        let log = |name| OpenOptions::new().append(true).create(true).open(home.folder().join(name)).unwrap();
        let child = home
            .command(program(&home).to_str().unwrap())
            .arg("start")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("err"))
            .spawn()
            .unwrap();
        let mut site = Self { home, port, child };
        site.wait_for("out", "Serving SMP protocol", 1);
        site
    }

    pub fn address(&self) -> RouterAddress {
        let fingerprint = self.home.read("fingerprint");
        format!("smp://{}@127.0.0.1:{}", fingerprint.trim(), self.port).parse().unwrap()
    }

    pub fn socket(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// `out` or `err`.
    pub fn read(&self, output: &str) -> String {
        fs::read_to_string(self.home.folder().join(output)).unwrap()
    }

    pub fn count(&self, output: &str, words: &str) -> usize {
        self.read(output).matches(words).count()
    }

    /// Waits until the output has these words so many times.
    pub fn wait_for(&mut self, output: &str, words: &str, times: usize) {
        let end = Instant::now() + DEADLINE;
        while self.count(output, words) < times {
            let ended = self.child.try_wait().unwrap();
            let all = || format!("{}\n{}", self.read("out"), self.read("err"));
            assert!(ended.is_none() && Instant::now() < end, "no {words:?}, {ended:?}:\n{}", all());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process serves with its next program.
    pub fn upgrade(&mut self) {
        let served = self.count("out", "Serving SMP protocol");
        self.signal(Signal::USR2);
        self.wait_for("out", "Serving SMP protocol", served + 1);
    }

    /// Puts a script in the program's place.
    pub fn install_script(&self, text: &str) {
        let script = self.home.folder().join("script");
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        install(&self.home, &script);
        fs::remove_file(&script).unwrap();
    }

    /// Puts a program in the place that is the real one but for some bytes.
    pub fn install_altered(&self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len());
        let mut bytes = fs::read(env!("CARGO_BIN_EXE_smp-server")).unwrap();
        let mut found = 0;
        let mut at = 0;
        while let Some(offset) = bytes[at..].windows(from.len()).position(|window| window == from) {
            bytes[at + offset..at + offset + to.len()].copy_from_slice(to);
            at += offset + to.len();
            found += 1;
        }
        assert!(found > 0, "the program does not have these bytes");
        let altered = self.home.folder().join("altered");
        fs::write(&altered, bytes).unwrap();
        fs::set_permissions(&altered, fs::Permissions::from_mode(0o755)).unwrap();
        install(&self.home, &altered);
        fs::remove_file(&altered).unwrap();
    }

    pub fn install_real(&self) {
        install(&self.home, Path::new(env!("CARGO_BIN_EXE_smp-server")));
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// Where open descriptors lead, without the numbers of pipes and sockets, and without the files of the log, of which there
    /// are more and fewer.
    pub fn descriptors(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for entry in fs::read_dir(self.proc("fd")).unwrap() {
            // Some are closed meanwhile.
            let Ok(target) = fs::read_link(entry.unwrap().path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            if !target.contains("/var/ringpost/") {
                let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind);
                *kinds.entry(kind.to_owned()).or_default() += 1;
            }
        }
        kinds
    }

    /// Descriptors that another program would inherit, besides those that the router got from this test.
    pub fn inheritable(&self) -> BTreeSet<String> {
        let ours = inheritable(Path::new("/proc/self"));
        inheritable(&self.proc("")).difference(&ours).cloned().collect()
    }

    /// What the log has at the levels of warnings and errors, but for the limits of the machine that runs the tests.
    pub fn complaints(&self) -> Vec<String> {
        let errors = self.read("err");
        let lines = errors.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
        lines.filter(|line| !line.contains("open files are allowed")).map(ToOwned::to_owned).collect()
    }

    /// Signals that the process blocks or ignores, as masks of `/proc`.
    pub fn blocked_and_ignored(&self) -> Vec<String> {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let masks = status.lines().filter(|line| line.starts_with("SigBlk:") || line.starts_with("SigIgn:"));
        masks.map(ToOwned::to_owned).collect()
    }

    /// Stops it in order.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success() && self.read("out").ends_with("Stopped\n"), "{}", self.read("err"));
                return status;
            }
            assert!(Instant::now() < end, "it did not stop: {}", self.read("err"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With their numbers, without the first three.
fn inheritable(process: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(process.join("fd")).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        // Some are closed meanwhile.
        let Ok(info) = fs::read_to_string(process.join("fdinfo").join(number.to_string())) else { continue };
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        if number > 2 && u32::from_str_radix(flags.trim(), 8).unwrap() & CLOSE_ON_EXEC == 0 {
            found.insert(format!("{number}: {}", target.display()));
        }
    }
    found
}

/// Runs the router's program to its end, without a router.
pub fn run(home: &Home, arguments: &[&str]) -> std::process::Output {
    let mut command: Command = home.command(program(home).to_str().unwrap());
    command.args(arguments).output().unwrap()
}

/// That the file is there and can be opened.
pub fn is_file(path: &Path) -> bool {
    File::open(path).is_ok()
}
