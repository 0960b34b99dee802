//! Routers and load generators of the same build as this program, for what needs sockets and a disk.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::Outcome;

/// How long a router may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Ports are taken by others between the look and the start.
const STARTS_MAX: usize = 20;
const EXIT_PORT_IN_USE: i32 = 6;

/// Where the programs of this build are.
pub fn programs() -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or("this program lies nowhere")?.to_owned();
    for name in ["smp-server", "loadgen", "stages"] {
        if !folder.join(name).exists() {
            let text = format!(
                "{name} is not built: cargo build --release --bins -p ringpost-router -p ringpost-loadgen -p ringpost-bench"
            );
            return Err(text.into());
        }
    }
    Ok(folder)
}

/// A router on 127.0.0.1 with keys and data of its own. It is ended when dropped.
#[derive(Debug)]
pub struct Router {
    child: Child,
    /// What it says on the error stream: the counters at its end.
    said: mpsc::Receiver<String>,
    pub address: String,
    _folder: TempDir,
}

/// Processor time of a process, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub user_secs: f64,
    pub system_secs: f64,
}

impl Cpu {
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            user_secs: self.user_secs - before.user_secs,
            system_secs: self.system_secs - before.system_secs,
        }
    }

    pub fn secs(self) -> f64 {
        self.user_secs + self.system_secs
    }
}

impl Router {
    /// Starts a router. `settings` are lines of the section RINGPOST of its ini.
    pub fn start(programs: &Path, shards: usize, settings: &str) -> Outcome<Self> {
        for _ in 0..STARTS_MAX {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            match Self::start_at(programs, shards, settings, port)? {
                Some(router) => return Ok(router),
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
        Err("found no free port on 127.0.0.1".into())
    }

    /// None if the port is taken.
    fn start_at(programs: &Path, shards: usize, settings: &str, port: u16) -> Outcome<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let (etc, var) = (folder.path().join("etc"), folder.path().join("var"));
        let command = |arguments: &[&str]| {
            let mut command = Command::new(programs.join("smp-server"));
            command.args(arguments).env("SMP_SERVER_CFG_PATH", &etc).env("SMP_SERVER_LOG_PATH", &var);
            command.env_remove("RINGPOST_LOG");
            command
        };
        let port = port.to_string();
        let made = command(&["init", "--yes", "--ip", "127.0.0.1", "--port", &port, "--listen", "127.0.0.1"])
            .arg("--no-password")
            .output()?;
        let told = String::from_utf8_lossy(&made.stdout).into_owned();
        let address = told.lines().find_map(|line| line.strip_prefix("Server address: "));
        let address = address
            .ok_or_else(|| format!("smp-server init: {told}{}", String::from_utf8_lossy(&made.stderr)))?;
        let ini = etc.join("smp-server.ini");
        let text = fs::read_to_string(&ini)?;
        let section = "[RINGPOST]\n";
        if !text.contains(section) {
            return Err("the ini has no section RINGPOST".into());
        }
        fs::write(&ini, text.replacen(section, &format!("{section}{settings}\n"), 1))?;
        let mut child = command(&["start", "--shards", &shards.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output of the router")?;
        let errors = child.stderr.take().ok_or("no output of the router")?;
        let said = reading(errors);
        let lines = reading(output);
        let began = Instant::now();
        loop {
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line.starts_with("Serving SMP protocol on ") => {
                    let address = address.to_owned();
                    return Ok(Some(Self { child, said, address, _folder: folder }));
                }
                Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) if began.elapsed() < PATIENCE => {}
                _ => break,
            }
        }
        let _ = child.kill();
        let status = child.wait()?;
        if status.code() == Some(EXIT_PORT_IN_USE) {
            return Ok(None);
        }
        let why: Vec<String> = said.iter().collect();
        Err(format!("the router did not start ({status}): {}", why.join("\n")).into())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its processor time so far.
    pub fn cpu(&self) -> Outcome<Cpu> {
        cpu(self.pid())
    }

    /// Stops it in order. Gives a counter that it logged at its end: 0 if it did not count.
    pub fn stop(mut self) -> Outcome<Counters> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let began = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => break,
                Some(status) => return Err(format!("the router ended with {status}").into()),
                None if began.elapsed() > PATIENCE => return Err("the router does not stop".into()),
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(Counters(self.said.iter().collect::<Vec<_>>().join("\n")))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a router counted.
#[derive(Clone, Debug)]
pub struct Counters(String);

impl Counters {
    /// 0 if it did not count.
    pub fn get(&self, name: &str) -> u64 {
        let wanted = format!("{name}=");
        let words = self.0.split([' ', ':', ',', '\n']);
        words
            .filter_map(|word| word.strip_prefix(&wanted))
            .filter_map(|value| value.parse().ok())
            .next_back()
            .unwrap_or(0)
    }
}

/// Lines as they come, in a thread of their own, so that the writer never waits.
fn reading(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Of any process of this machine.
pub fn cpu(pid: u32) -> Outcome<Cpu> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?);
    let (_, fields) = text.rsplit_once(')').ok_or("/proc/PID/stat is not understood")?;
    let mut fields = fields.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    let mut next = || fields.next().and_then(Result::ok).ok_or("/proc/PID/stat is not understood");
    Ok(Cpu { user_secs: next()? / ticks, system_secs: next()? / ticks })
}

/// Runs a scenario of the load generator against a router. The result as it writes it.
pub fn loadgen(programs: &Path, scenario: &str, router: &Router, arguments: &[&str]) -> Outcome<Value> {
    let output = Command::new(programs.join("loadgen"))
        .args([scenario, &router.address, "--json", "-", "--pid", &router.pid().to_string()])
        .args(arguments)
        .output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("loadgen {scenario}: {}\n{errors}{told}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A number of a result, by its path.
pub fn figure(result: &Value, path: &str) -> Outcome<f64> {
    let found = result.pointer(path).and_then(Value::as_f64);
    found.ok_or_else(|| format!("the result of loadgen has no {path}").into())
}

/// The middle one; the mean of the two middle ones.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(value), 1) => *value,
        (Some(value), _) => f64::midpoint(*value, values.get(middle - 1).copied().unwrap_or(*value)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let counters = Counters("INFO counted: log_commits=7 log_commit_us=90\nINFO x: commits=3".into());
        assert_eq!(counters.get("log_commits"), 7);
        assert_eq!(counters.get("log_commit_us"), 90);
        assert_eq!(counters.get("commits"), 3);
        assert_eq!(counters.get("none"), 0);
    }

    #[test]
    fn the_own_time_is_read() {
        let cpu = cpu(std::process::id()).unwrap();
        assert!(cpu.user_secs >= 0.0 && cpu.since(cpu).secs().abs() < 1e-9);
    }

    #[test]
    fn figures_are_found_by_path() {
        let result = serde_json::json!({"router": {"cpu_secs": 1.5}});
        assert!((figure(&result, "/router/cpu_secs").unwrap() - 1.5).abs() < 1e-9);
        assert!(figure(&result, "/router/none").is_err());
    }
}
