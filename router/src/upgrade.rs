//! SIGUSR2: the process goes on with another program, the new version of this one, and with its listening sockets.
//!
//! 1. The program that is now at the path that this one was started from is run as a child that only looks at ini,
//!    certificates and limits. If it finds fault, nothing else happens.
//! 2. The shards accept no more, finish what is under way and close their connections; new clients wait in the queues of the
//!    listening sockets. The log and the statistics are written, the lock is released.
//! 3. The process runs the program, which takes the sockets over. If that cannot start either, this program is run again.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringpost_shard::{INHERITED_LISTENERS_VARIABLE, InheritedListeners, ignore_signals, leave_open};
use rustix::fs::{MemfdFlags, memfd_create};
use signal_hook::consts::{SIGHUP, SIGUSR2};

use crate::cli::without_runtime_options;
use crate::exit::{Fatal, Reason};

/// What `start --check` prints when it has found no fault: how this program knows that the other one can be asked.
pub const CHECKED: &str = "Checked: the server can start with this ini, these certificates and these limits";
const CHECK_OPTION: &str = "--check";
/// A check reads some small files.
const CHECK_WITHIN: Duration = Duration::from_secs(20);
const CHECK_LOOK_EVERY: Duration = Duration::from_millis(10);
/// What is read of its output.
const CHECK_OUTPUT_BYTES_MAX: u64 = 4_096;
/// The kernel adds it to the path of a running program whose file was replaced.
const DELETED: &[u8] = b" (deleted)";
/// This program, whatever is at its path now.
const THIS_PROGRAM: &str = "/proc/self/exe";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Serving,
    Checking,
    HandingOver,
    Stopping,
}

/// How the process goes on when the router has ended.
#[derive(Debug)]
pub struct Upgrade {
    /// Where the program is, with its new version.
    program: PathBuf,
    state: Mutex<State>,
}

impl Upgrade {
    /// To be made at the start, as long as relative paths mean what they meant to the caller.
    pub fn new() -> Arc<Self> {
        let name = std::env::args_os().next().unwrap_or_default();
        let program = program(&name).unwrap_or_else(|| name.into());
        Arc::new(Self { program, state: Mutex::new(State::Serving) })
    }

    /// Looks, in a thread of its own, whether the program can take over, and calls `hand_over` if it can.
    pub fn begin(self: &Arc<Self>, hand_over: &Arc<dyn Fn() + Send + Sync>) {
        if !self.change(State::Serving, State::Checking) {
            tracing::info!("SIGUSR2: an upgrade or a stop is under way");
            return;
        }
        tracing::info!("SIGUSR2: checking {}", self.program.display());
        let (this, hand_over) = (Arc::clone(self), Arc::clone(hand_over));
        let check = move || match this.check() {
            Ok(version) => {
                if this.change(State::Checking, State::HandingOver) {
                    tracing::info!("checked {version}: handing over; new clients wait, others are drained");
                    hand_over();
                }
            }
            Err(error) => {
                tracing::error!("no upgrade, going on as before: {}: {error}", this.program.display());
                this.change(State::Checking, State::Serving);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("upgrade".to_owned()).spawn(check) {
            tracing::error!("no upgrade, going on as before: cannot start a thread: {error}");
            self.change(State::Checking, State::Serving);
        }
    }

    /// A stop was asked for: there is no upgrade any more.
    pub fn stop(&self) {
        *self.state() = State::Stopping;
    }

    /// Whether the router has ended to hand over.
    pub fn is_due(&self) -> bool {
        *self.state() == State::HandingOver
    }

    /// Becomes the new program, or this one anew. Returns only if neither can be run.
    pub fn exec(&self, listeners: &[TcpListener]) -> Fatal {
        let count = listeners.len();
        tracing::info!("handing over {count} listening sockets to {}", self.program.display());
        let this = File::open(THIS_PROGRAM);
        if let Err(error) = &this {
            tracing::warn!("there is no way back if the new program cannot start: {THIS_PROGRAM}: {error}");
        }
        let error = exec(&self.program, listeners, this.ok().as_ref());
        tracing::error!("{} cannot be run: {error}; this program goes on", self.program.display());
        let error = exec(Path::new(THIS_PROGRAM), listeners, None);
        Fatal::new(Reason::RouterFailed, format!("the upgrade failed: {THIS_PROGRAM} cannot be run: {error}"))
            .remedy("Nothing that was acknowledged is lost. Start the server again.")
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if the state is not what it would be changed from.
    fn change(&self, from: State, to: State) -> bool {
        let mut state = self.state();
        let is_so = *state == from;
        if is_so {
            *state = to;
        }
        is_so
    }

    /// Runs the program as a child that changes nothing. Gives its version.
    fn check(&self) -> Result<String, String> {
        let (arguments, _) = without_runtime_options(std::env::args_os());
        let failed = |error: io::Error| format!("cannot be run: {error}");
        let mut output =
            File::from(memfd_create("check", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?);
        let child = Command::new(&self.program)
            .args(arguments.iter().skip(1))
            .arg(CHECK_OPTION)
            .env_remove(INHERITED_LISTENERS_VARIABLE)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let status = wait(child).map_err(failed)?;
        let mut text = Vec::new();
        output.rewind().map_err(failed)?;
        output.take(CHECK_OUTPUT_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
        judge(status, &String::from_utf8_lossy(&text))
    }
}

/// None: it took too long, and was killed.
fn wait(mut child: Child) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + CHECK_WITHIN;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(CHECK_LOOK_EVERY);
    }
}

/// The version, from what a check printed; or why the program cannot take over.
fn judge(status: Option<ExitStatus>, output: &str) -> Result<String, String> {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = if lines.is_empty() { "it said nothing".to_owned() } else { lines.join("; ") };
    match status {
        None => Err(format!("its check took more than {} seconds: {said}", CHECK_WITHIN.as_secs())),
        Some(status) if !status.success() => Err(format!("its check ended with {status}: {said}")),
        Some(_) => match lines.iter().position(|line| *line == CHECKED) {
            Some(at) if at > 0 => Ok(lines[at - 1].to_owned()),
            _ => Err(format!("it does not know how to take over: {said}")),
        },
    }
}

/// Where the program is that was started under this name, as a shell would find it: the name in a link's place, not the file
/// that the link leads to now, since the link may lead to a new version later.
fn program(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(name).ok();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    on_path.filter(|_| !name.is_empty()).or_else(|| {
        let file = std::env::current_exe().ok()?.into_os_string();
        let replaced = file.as_bytes().strip_suffix(DELETED);
        Some(replaced.map_or_else(|| file.clone(), |path| OsStr::from_bytes(path).to_owned()).into())
    })
}

/// Becomes another program with the arguments of this one. Returns only if that fails.
fn exec(program: &Path, listeners: &[TcpListener], back: Option<&File>) -> io::Error {
    let left = match leave_open(listeners, back) {
        Ok(left) => left,
        Err(error) => return error,
    };
    // By default they end a process, until the other program says what they do. (SIGTERM may.)
    ignore_signals(&[SIGHUP, SIGUSR2]);
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from(program));
    // All else is closed, and no signal is blocked.
    Command::new(program).arg0(name).args(arguments).env(INHERITED_LISTENERS_VARIABLE, left).exec()
}

/// The program that ran in this process before, until this one serves: with its listening sockets, to go back to.
#[derive(Debug)]
pub struct Predecessor {
    program: File,
    listeners: InheritedListeners,
}

impl Predecessor {
    /// None if this process began with this program.
    pub fn of(inherited: &mut InheritedListeners) -> Option<Self> {
        let program = inherited.take_program()?;
        Some(Self { program, listeners: inherited.try_clone_listeners().ok()? })
    }

    /// Forgets sockets at other addresses.
    pub fn keep(&mut self, addresses: &[std::net::SocketAddr]) {
        self.listeners.keep(addresses);
    }

    /// Becomes that program again, after `failure` of this one. Returns only if that fails too.
    pub fn go_on(self, failure: Fatal, err: &mut dyn Write) -> Fatal {
        // Perhaps there is no log yet.
        let _ = writeln!(err, "{failure}\nerror: this version cannot start; the one that ran before goes on");
        let program = PathBuf::from(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        let error = exec(&program, &self.listeners.into_listeners(), None);
        let _ = writeln!(err, "error: it cannot be run: {error}");
        failure
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn only_a_program_that_can_take_over_passes_the_check() {
        let passes = |output: &str| judge(Some(ExitStatus::from_raw(0)), output);
        assert_eq!(passes(&format!("warning\nRingpost 2\n{CHECKED}\n")).unwrap(), "Ringpost 2");
        for (output, said) in
            [("", "it said nothing"), ("SMP server v6\nServing\n", "SMP server v6; Serving")]
        {
            assert_eq!(passes(output).unwrap_err(), format!("it does not know how to take over: {said}"));
        }
        let failed = judge(Some(ExitStatus::from_raw(3 << 8)), "error: x\n  Do y.\n").unwrap_err();
        assert_eq!(failed, "its check ended with exit status: 3: error: x; Do y.");
        assert!(judge(None, "").unwrap_err().contains("more than 20 seconds"));
    }

    #[test]
    fn the_program_is_found_as_it_was_called() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/bin/true", &link).unwrap();
        assert_eq!(program(link.as_os_str()).unwrap(), link);
        assert_eq!(program("./x".as_ref()).unwrap(), std::env::current_dir().unwrap().join("x"));
        assert!(program("sh".as_ref()).unwrap().ends_with("sh"));
        let this = std::env::current_exe().unwrap();
        assert_eq!(program("no such program".as_ref()).unwrap(), this);
        assert_eq!(program("".as_ref()).unwrap(), this);
    }

    #[test]
    fn a_stop_wins_over_an_upgrade() {
        let upgrade = Upgrade { program: "/nowhere".into(), state: Mutex::new(State::Serving) };
        assert!(upgrade.change(State::Serving, State::Checking) && !upgrade.is_due());
        upgrade.stop();
        assert!(!upgrade.change(State::Checking, State::HandingOver) && !upgrade.is_due());
        let upgrade = Upgrade { program: "/nowhere".into(), state: Mutex::new(State::HandingOver) };
        assert!(upgrade.is_due());
        upgrade.stop();
        assert!(!upgrade.is_due());
    }
}
