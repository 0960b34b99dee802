//! Why the process ends, as an exit code of its own for each reason, with a message that names the thing and the remedy.

use std::fmt;

/// One reason, one exit code. Codes are never reused for another reason; 130 and 143 (128 + signal) are a second
/// SIGINT or SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Other = 1,
    Usage = 2,
    Config = 3,
    Certificate = 4,
    AlreadyInitialized = 5,
    PortInUse = 6,
    PortRefused = 7,
    LockedMemory = 8,
    NoIoUring = 9,
    Files = 10,
    RouterFailed = 11,
    DataInUse = 12,
    LogDamaged = 13,
    LogFailed = 14,
    ImportRejected = 15,
    NotRunning = 16,
    FileMissing = 17,
    Fingerprint = 18,
    CertificateExpired = 19,
    Descriptors = 20,
}

impl Reason {
    pub const ALL: [Self; 20] = [
        Self::Other,
        Self::Usage,
        Self::Config,
        Self::Certificate,
        Self::AlreadyInitialized,
        Self::PortInUse,
        Self::PortRefused,
        Self::LockedMemory,
        Self::NoIoUring,
        Self::Files,
        Self::RouterFailed,
        Self::DataInUse,
        Self::LogDamaged,
        Self::LogFailed,
        Self::ImportRejected,
        Self::NotRunning,
        Self::FileMissing,
        Self::Fingerprint,
        Self::CertificateExpired,
        Self::Descriptors,
    ];

    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means and what to do, as in `docs/operations.md`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Other => "Something that has no code of its own; the message says what",
            Self::Usage => "The command line is wrong, or asks for what is not supported",
            Self::Config => "The ini is wrong; the message has the line",
            Self::Certificate => "A certificate or key cannot be used, or does not belong to the others",
            Self::AlreadyInitialized => {
                "`init` would overwrite a router, `import` its queues, or `export` files that are there"
            }
            Self::PortInUse => "Another process listens on the port",
            Self::PortRefused => "This user may not open the port, or the address is not one of this machine",
            Self::LockedMemory => "The limit of locked memory is too low: raise it, or run fewer shards",
            Self::NoIoUring => "The kernel has no io_uring, or refuses it to this process",
            Self::Files => "A directory or file cannot be made or written",
            Self::RouterFailed => "A shard failed, or the router did not stop in time",
            Self::DataInUse => "Another process uses the data directory",
            Self::LogDamaged => {
                "Stored queues or messages, or the key that finds them, are damaged or missing; the message has the file"
            }
            Self::LogFailed => {
                "The disk fails, is full or cannot be read: stored data is as it was at the last answer"
            }
            Self::ImportRejected => "Lines of the imported files were rejected; nothing was imported",
            Self::NotRunning => "The router does not run, or its control port does not answer",
            Self::FileMissing => {
                "The ini, a certificate, a key or the fingerprint is missing or cannot be read"
            }
            Self::Fingerprint => "The fingerprint file does not match ca.crt",
            Self::CertificateExpired => "A certificate has expired, or is not valid yet",
            Self::Descriptors => "The limit of open files is too low: raise it",
        }
    }
}

/// The end of the process: its reason, what happened, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    pub reason: Reason,
    pub message: String,
    pub remedy: Option<String>,
}

impl Fatal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), remedy: None }
    }

    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fatal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        let mut codes: Vec<u8> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        codes.dedup();
        assert_eq!(codes, (1..=20).collect::<Vec<u8>>());
    }

    #[test]
    fn the_message_comes_before_the_remedy() {
        let fatal = Fatal::new(Reason::Config, "no port").remedy("Set it.");
        assert_eq!(fatal.to_string(), "error: no port\n  Set it.");
        assert_eq!(Fatal::new(Reason::Other, "x").to_string(), "error: x");
    }
}
