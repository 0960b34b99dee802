//! Why the process ends, as an exit code of its own for each reason, with a message that names the thing and the remedy.

use std::fmt;

/// One reason, one exit code. Codes are never reused for another reason; 130 and 143 (128 + signal) are a second
/// SIGINT or SIGTERM. The table in `docs/operations.md` lists the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Something that has no code of its own.
    Other = 1,
    /// The command line is wrong, or asks for what is not supported.
    Usage = 2,
    /// The ini is missing, unreadable or wrong.
    Config = 3,
    /// A certificate, key or fingerprint is missing, unreadable or does not belong to the others.
    Certificate = 4,
    /// `init` would overwrite a router.
    AlreadyInitialized = 5,
    /// Another process listens on the port.
    PortInUse = 6,
    /// The address or port may not be bound by this user, or is not an address of this machine.
    PortRefused = 7,
    /// The locked memory limit is below what `io_uring` needs.
    LockedMemory = 8,
    /// The kernel has no `io_uring`, or refuses it.
    NoIoUring = 9,
    /// A directory or file cannot be made, read or written.
    Files = 10,
    /// The router ran, and a part of it failed.
    RouterFailed = 11,
}

impl Reason {
    pub const ALL: [Self; 11] = [
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
    ];

    pub const fn code(self) -> u8 {
        self as u8
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
        assert_eq!(codes, (1..=11).collect::<Vec<u8>>());
    }

    #[test]
    fn the_message_comes_before_the_remedy() {
        let fatal = Fatal::new(Reason::Config, "no port").remedy("Set it.");
        assert_eq!(fatal.to_string(), "error: no port\n  Set it.");
        assert_eq!(Fatal::new(Reason::Other, "x").to_string(), "error: x");
    }
}
