//! A data directory, and the commands that are run on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use crate::support::{Home, stderr, stdout};

pub const STORE: &str = "smp-server-store.log";
pub const MESSAGES: &str = "smp-server-messages.log";
pub const NOTIFICATIONS: &str = "smp-server-ntfs.log";

pub struct Site {
    pub home: Home,
}

impl Site {
    /// With these files in its data directory.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let site = Self { home: Home::new() };
        fs::create_dir_all(site.home.data()).unwrap();
        for (name, content) in files {
            fs::write(site.data(name), content).unwrap();
        }
        site
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.home.data().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.data(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The lines of a file, in an order that does not depend on that of the queues.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let mut lines: Vec<String> = self.read(name).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Every file of the data directory and below with its content, but the lock.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in [self.home.data(), self.data("ringpost")] {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_file() && !path.ends_with("ringpost.lock") {
                    let name = path.strip_prefix(self.home.data()).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        files
    }

    /// Files of the log.
    pub fn log_files(&self) -> Vec<PathBuf> {
        let names = self.files().into_keys();
        let is_log = |name: &String| {
            let name = name.strip_prefix("ringpost/").unwrap_or_default();
            name.parse::<ringpost_store::log::FileName>().is_ok()
        };
        names.filter(is_log).map(|name| self.data(&name)).collect()
    }

    /// Runs a command that must succeed. Gives what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.home.run(arguments.iter().copied());
        assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(stderr(&output), "", "{arguments:?}");
        stdout(&output)
    }

    /// Runs a command that must fail with this code and say these words on standard error.
    pub fn fails(&self, arguments: &[&str], code: i32, words: &[&str]) -> Output {
        let output = self.home.run(arguments.iter().copied());
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{errors}", stdout(&output));
        for word in words {
            assert!(errors.contains(word), "expected {word:?} in:\n{errors}");
        }
        assert!(!errors.contains("panicked"), "{errors}");
        output
    }

    /// What `check` says it holds.
    pub fn holdings(&self) -> Value {
        let found: Value = serde_json::from_str(&self.run(&["check", "--json"])).unwrap();
        assert_eq!(found["damage"], serde_json::json!([]));
        found["log"]["holdings"].clone()
    }
}
