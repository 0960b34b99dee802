//! A router's directories and its process, for tests.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The directories of one router, removed with it.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With the files of `init` for this port of 127.0.0.1.
    pub fn initialized(port: u16) -> Self {
        let home = Self::new();
        let port = port.to_string();
        let init = ["init", "--yes", "--ip", "127.0.0.1", "--no-password", "--listen", "127.0.0.1", "--port"];
        let output = home.run(init.into_iter().chain([port.as_str()]));
        assert!(output.status.success(), "{}", stderr(&output));
        home
    }

    /// Of all directories and whatever a test puts beside them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config(&self, file: &str) -> PathBuf {
        self.folder.path().join("etc").join(file)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("var")
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.config(file)).unwrap()
    }

    pub fn write(&self, file: &str, content: &str) {
        fs::create_dir_all(self.config("")).unwrap();
        fs::write(self.config(file), content).unwrap();
    }

    pub fn mode(&self, file: &str) -> u32 {
        fs::metadata(self.config(file)).unwrap().permissions().mode() & 0o777
    }

    /// Every file of the configuration directory with its content, in order.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(entries) = fs::read_dir(self.config("")) else { return Vec::new() };
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// A program with the environment of this router; its own logs are off.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("SMP_SERVER_CFG_PATH", self.config(""))
            .env("SMP_SERVER_LOG_PATH", self.data())
            .env_remove("RINGPOST_LOG")
            .stdin(Stdio::null());
        command
    }

    pub fn smp_server<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_smp-server"));
        command.args(arguments);
        command
    }

    /// Runs to the end.
    pub fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        self.smp_server(arguments).output().unwrap()
    }
}

/// Runs to the end with this standard input.
pub fn run_with_input(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The failure is this one, and explained; nobody sees a back-trace.
pub fn assert_fails(output: &Output, code: i32, words: &[&str]) {
    let errors = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    for word in words {
        assert!(errors.contains(word), "expected {word:?} in:\n{errors}");
    }
    assert!(!errors.contains("panicked"), "{errors}");
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What the program `openssl` (version 3) says, on both outputs.
pub fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program openssl is needed");
    // The router's first block may be among it.
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text.into_owned()
}

/// A port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A started router. It is killed with this value, if it did not stop before.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// What it printed until it was ready.
    pub lines: Vec<String>,
}

impl Running {
    /// Waits until the router serves.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| line.starts_with("Serving ")) {
            let mut line = String::new();
            if out.read_line(&mut line).unwrap() == 0 {
                let mut errors = String::new();
                child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
                panic!("the router ended with {:?}:\n{}{errors}", child.wait().unwrap(), lines.concat());
            }
            lines.push(line);
        }
        Self { child, out, lines }
    }

    /// Reads on until a line begins so.
    pub fn until_line(&mut self, beginning: &str) {
        let mut line = String::new();
        while !line.starts_with(beginning) {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "the router ended without {beginning:?}");
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end. Returns the exit status, the rest of standard output, and standard error.
    pub fn wait(mut self) -> (ExitStatus, String, String) {
        let (mut out, mut errors) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap(), out, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
