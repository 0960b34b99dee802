//! CPU time and memory of a process, from `/proc`.

use std::fmt;
use std::fs;
use std::io;

use serde::Serialize;

/// A process of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
    ticks_per_sec: u64,
}

/// Memory in bytes. `pss_bytes` is absent where the kernel does not let us read it.
#[allow(clippy::struct_field_names, reason = "the unit belongs into the name")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub rss_bytes: u64,
    /// The highest RSS of the process so far.
    pub rss_peak_bytes: u64,
    pub pss_bytes: Option<u64>,
}

/// A file of `/proc` that could not be read or understood.
#[derive(Debug)]
pub struct ProcError {
    path: String,
    reason: String,
}

impl fmt::Display for ProcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl std::error::Error for ProcError {}

impl Process {
    pub fn new(pid: u32) -> Self {
        Self { pid, ticks_per_sec: rustix::param::clock_ticks_per_second().max(1) }
    }

    /// This process.
    pub fn own() -> Self {
        Self::new(std::process::id())
    }

    pub fn pid(self) -> u32 {
        self.pid
    }

    /// The command's name, at most 15 bytes.
    pub fn name(self) -> Result<String, ProcError> {
        Ok(self.read("comm")?.trim_end().to_owned())
    }

    /// CPU time in user and kernel mode of all threads, past and present, in seconds.
    /// Its resolution is one clock tick: 10 ms as a rule.
    pub fn cpu_secs(self) -> Result<f64, ProcError> {
        let text = self.read("stat")?;
        let ticks = parse_stat_ticks(&text).ok_or_else(|| self.error("stat", "not understood"))?;
        #[allow(clippy::cast_precision_loss)]
        Ok(ticks as f64 / self.ticks_per_sec as f64)
    }

    pub fn memory(self) -> Result<Memory, ProcError> {
        let status = self.read("status")?;
        let field =
            |name: &str| parse_kb(&status, name).ok_or_else(|| self.error("status", "not understood"));
        let pss_bytes = self.read("smaps_rollup").ok().and_then(|text| parse_kb(&text, "Pss:"));
        Ok(Memory { rss_bytes: field("VmRSS:")?, rss_peak_bytes: field("VmHWM:")?, pss_bytes })
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/{file}", self.pid)
    }

    fn read(self, file: &str) -> Result<String, ProcError> {
        fs::read_to_string(self.path(file)).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::NotFound => "no such process".to_owned(),
                _ => error.to_string(),
            };
            ProcError { path: self.path(file), reason }
        })
    }

    fn error(self, file: &str, reason: &str) -> ProcError {
        ProcError { path: self.path(file), reason: reason.to_owned() }
    }
}

/// utime + stime: the 14th and 15th fields. The 2nd, the command's name, may hold spaces and parentheses.
fn parse_stat_ticks(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The value of a line such as `VmRSS:     1234 kB`, in bytes.
fn parse_kb(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_the_15_fields_behind_any_name() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 123 45 0 0 20 0 4 0 1 1 1";
        assert_eq!(parse_stat_ticks(text), Some(168));
        assert_eq!(parse_stat_ticks("42 (x"), None);
        assert_eq!(parse_stat_ticks("42 (x) S 1"), None);
    }

    #[test]
    fn reads_kilobytes() {
        let text = "Name:\tx\nVmHWM:\t   20 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(parse_kb(text, "VmRSS:"), Some(12 * 1024));
        assert_eq!(parse_kb(text, "VmHWM:"), Some(20 * 1024));
        assert_eq!(parse_kb(text, "Pss:"), None);
        assert_eq!(parse_kb("VmRSS: 12 pages", "VmRSS:"), None);
    }

    #[test]
    fn measures_this_process() {
        let own = Process::own();
        let before = own.cpu_secs().unwrap();
        let mut x = 1_u64;
        while own.cpu_secs().unwrap() <= before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let memory = own.memory().unwrap();
        assert!(memory.rss_bytes > 0 && memory.rss_peak_bytes >= memory.rss_bytes / 2);
        assert!(!own.name().unwrap().is_empty());
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // Above the largest pid that Linux can be configured to use.
        let error = Process::new(u32::MAX).cpu_secs().unwrap_err();
        assert!(error.to_string().contains("no such process"), "{error}");
    }
}
