//! SMP protocol versions: the numbers of the handshake, and what each of them changed.

use std::fmt;

use crate::encoding::{DecodeError, Reader, Sink};

/// A version of the SMP protocol between clients and routers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SmpVersion(pub u16);

impl SmpVersion {
    /// The oldest version in use, and the only one without ALPN.
    pub const V6: Self = Self(6);
    /// Authenticators; the session ID is implied.
    pub const AUTH_COMMANDS: Self = Self(7);
    /// Proxying of sender commands.
    pub const PROXY: Self = Self(8);
    /// SKEY: the sender secures the queue.
    pub const SENDER_KEY: Self = Self(9);
    /// DELD: the queue was deleted by another connection.
    pub const DELETED_EVENT: Self = Self(10);
    /// Blocks are encrypted inside TLS.
    pub const BLOCK_ENCRYPTION: Self = Self(11);
    /// The BLOCKED error.
    pub const BLOCKED_ERROR: Self = Self(12);
    /// The hello of a client says whether it is a proxy.
    pub const PROXY_FLAG: Self = Self(14);
    /// Short links and their data.
    pub const SHORT_LINKS: Self = Self(15);
    /// Service certificates and signatures.
    pub const SERVICE_CERTIFICATES: Self = Self(16);
    /// Notifier credentials inside NEW.
    pub const NEW_NOTIFIER: Self = Self(17);
    /// BLOCKED carries a notice.
    pub const BLOCKED_NOTICE: Self = Self(18);
    /// Counts and hashes in service subscriptions.
    pub const SERVICE_SUBSCRIPTIONS: Self = Self(19);
    /// The newest version that this implementation speaks.
    pub const MAX: Self = Self::SERVICE_SUBSCRIPTIONS;
}

impl fmt::Debug for SmpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl fmt::Display for SmpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Versions from `min` to `max`, both included. Invariant: `min <= max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    min: SmpVersion,
    max: SmpVersion,
}

impl VersionRange {
    /// Everything this implementation speaks.
    pub const ALL: Self = Self { min: SmpVersion::V6, max: SmpVersion::MAX };
    /// What a router offers to a client that did not negotiate ALPN.
    pub const WITHOUT_ALPN: Self = Self { min: SmpVersion::V6, max: SmpVersion::V6 };

    /// None if `min` is above `max`.
    pub fn new(min: SmpVersion, max: SmpVersion) -> Option<Self> {
        (min <= max).then_some(Self { min, max })
    }

    pub fn min(self) -> SmpVersion {
        self.min
    }

    pub fn max(self) -> SmpVersion {
        self.max
    }

    pub fn contains(self, version: SmpVersion) -> bool {
        self.min <= version && version <= self.max
    }

    /// The versions that both ranges have.
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.min.max(other.min), self.max.min(other.max))
    }

    /// Reads two versions, the lower one first.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (min, max) = (SmpVersion(reader.u16()?), SmpVersion(reader.u16()?));
        Self::new(min, max).ok_or(DecodeError::Invalid)
    }

    /// Writes two versions, the lower one first.
    pub fn write(self, out: &mut impl Sink) {
        out.put_u16(self.min.0);
        out.put_u16(self.max.0);
    }
}
