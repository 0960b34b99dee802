//! Versions of the protocol between SMP clients: what is inside queue URIs and in the bodies of SEND. They
//! are not the versions between clients and routers.

use std::fmt;
use std::str::FromStr;

use super::{AddressError, AddressPart};

/// A version of the protocol between SMP clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientVersion(pub u16);

impl ClientVersion {
    pub const INITIAL: Self = Self(1);
    /// A router has more than one host.
    pub const HOSTS: Self = Self(2);
    /// The sender can secure the queue.
    pub const SENDER_KEY: Self = Self(3);
    /// Short links, and the mode of a queue.
    pub const SHORT_LINKS: Self = Self(4);
    /// The newest version that this implementation speaks.
    pub const MAX: Self = Self::SHORT_LINKS;
}

impl fmt::Debug for ClientVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Client versions from `min` to `max`, both included. Invariant: `min <= max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientVersionRange {
    min: ClientVersion,
    max: ClientVersion,
}

impl ClientVersionRange {
    /// Everything this implementation speaks.
    pub const ALL: Self = Self { min: ClientVersion::INITIAL, max: ClientVersion::MAX };

    /// None if `min` is above `max`.
    pub fn new(min: ClientVersion, max: ClientVersion) -> Option<Self> {
        (min <= max).then_some(Self { min, max })
    }

    pub fn only(version: ClientVersion) -> Self {
        Self { min: version, max: version }
    }

    pub fn min(self) -> ClientVersion {
        self.min
    }

    pub fn max(self) -> ClientVersion {
        self.max
    }

    /// The versions that both ranges have.
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.min.max(other.min), self.max.min(other.max))
    }
}

/// `2-4`, or `4` for one version.
impl fmt::Display for ClientVersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min.0)
        } else {
            write!(f, "{}-{}", self.min.0, self.max.0)
        }
    }
}

impl FromStr for ClientVersionRange {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        Self::new(version(min)?, version(max)?)
            .ok_or(AddressError::new(AddressPart::Versions, "from above to"))
    }
}

fn version(text: &str) -> Result<ClientVersion, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.map(ClientVersion).ok_or(AddressError::new(AddressPart::Versions, "not a number up to 65535"))
}
