//! Addresses of routers: `scheme://keyhash[:password]@host[,host...][:port]`.

use std::fmt;
use std::str::FromStr;

use super::binary::{ShortBytes, cut_short};
use super::{AddressError, AddressPart, Hosts};
use crate::command::RouterBinary;
use crate::encoding::{Reader, Sink, base64url, decode_base64url};

/// What a router serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    Smp,
    Xftp,
    Ntf,
}

impl Scheme {
    /// The port of an address that names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Smp => 5223,
            Self::Xftp | Self::Ntf => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smp => "smp",
            Self::Xftp => "xftp",
            Self::Ntf => "ntf",
        })
    }
}

impl FromStr for Scheme {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "smp" => Ok(Self::Smp),
            "xftp" => Ok(Self::Xftp),
            "ntf" => Ok(Self::Ntf),
            _ => Err(AddressError::new(AddressPart::Scheme, "not smp, xftp or ntf")),
        }
    }
}

/// What identifies a router: the SHA-256 of its identity certificate, 32 bytes. Other lengths, up to 255
/// bytes, are read and written, and match no certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(ShortBytes);

impl KeyHash {
    pub fn new(bytes: &[u8]) -> Result<Self, AddressError> {
        ShortBytes::new(bytes, AddressPart::KeyHash).map(Self)
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// base64url, with its padding.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(self.as_bytes()))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

impl FromStr for KeyHash {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bytes = decode_base64url(text);
        Self::new(&bytes.map_err(|_| AddressError::new(AddressPart::KeyHash, "not base64url"))?)
    }
}

/// What a router asks for before it lets a client create queues: printable text without spaces, `@`, `:` and
/// `/`, at most 255 bytes. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Password(String);

impl Password {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl FromStr for Password {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = |reason| Err(AddressError::new(AddressPart::Password, reason));
        let allowed = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '@' | ':' | '/');
        match text.len() {
            0 => refused("empty"),
            1..=255 if text.chars().all(allowed) => Ok(Self(text.to_owned())),
            1..=255 => refused("a character that is not allowed"),
            _ => refused("longer than 255 bytes"),
        }
    }
}

/// A router, whatever it serves: the part of its address that has a binary form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Router {
    pub hosts: Hosts,
    /// None leaves it to the client: not the same router, for the apps, as one with the default port.
    pub port: Option<u16>,
    pub key_hash: KeyHash,
}

impl Router {
    /// Appends the binary form: hosts, port (as text) and key hash, as in PRXY and in queue URIs.
    pub fn write_binary(&self, out: &mut Vec<u8>) {
        self.hosts.write_binary(out);
        self.write_port_and_hash(out);
    }

    /// Reads the binary form at the start of `bytes`, and gives what is behind it.
    pub fn parse_binary(bytes: &[u8]) -> Result<(Self, &[u8]), AddressError> {
        let mut reader = Reader::new(bytes);
        let router = Self::read_binary(&mut reader)?;
        Ok((router, reader.rest()))
    }

    pub(super) fn read_binary(reader: &mut Reader<'_>) -> Result<Self, AddressError> {
        let hosts = Hosts::read_binary(reader)?;
        Self::read_port_and_hash(hosts, reader)
    }

    /// The form for clients of version 1: the first host alone.
    pub(super) fn write_binary_legacy(&self, out: &mut Vec<u8>) {
        self.hosts.write_binary_first(out);
        self.write_port_and_hash(out);
    }

    pub(super) fn read_binary_legacy(reader: &mut Reader<'_>) -> Result<Self, AddressError> {
        let hosts = Hosts::read_binary_first(reader)?;
        Self::read_port_and_hash(hosts, reader)
    }

    fn write_port_and_hash(&self, out: &mut Vec<u8>) {
        let port = self.port.map(|port| port.to_string()).unwrap_or_default();
        out.put_short(port.as_bytes());
        out.put_short(self.key_hash.as_bytes());
    }

    fn read_port_and_hash(hosts: Hosts, reader: &mut Reader<'_>) -> Result<Self, AddressError> {
        let port = parse_binary_port(reader.short().map_err(cut_short(AddressPart::Port))?)?;
        let key_hash = KeyHash::new(reader.short().map_err(cut_short(AddressPart::KeyHash))?)?;
        Ok(Self { hosts, port, key_hash })
    }
}

/// The router that a PRXY names.
impl TryFrom<&RouterBinary<'_>> for Router {
    type Error = AddressError;

    fn try_from(binary: &RouterBinary<'_>) -> Result<Self, AddressError> {
        Ok(Self {
            hosts: Hosts::from_binary(&binary.hosts)?,
            port: parse_binary_port(binary.port)?,
            key_hash: KeyHash::new(binary.key_hash)?,
        })
    }
}

/// The address of a router, as its operator gives it out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterAddress {
    pub scheme: Scheme,
    pub router: Router,
    pub password: Option<Password>,
}

impl RouterAddress {
    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.router.port.unwrap_or(self.scheme.default_port())
    }

    /// The address that may be shown to anybody.
    #[must_use]
    pub fn without_password(self) -> Self {
        Self { password: None, ..self }
    }
}

/// The whole address, password included: see [`RouterAddress::without_password`].
impl fmt::Display for RouterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, self.scheme, &self.router, &self.router.hosts, self.password.as_ref())
    }
}

impl FromStr for RouterAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) =
            text.split_once("://").ok_or(AddressError::new(AddressPart::Scheme, "no :// behind it"))?;
        let scheme = scheme.parse()?;
        let (identity, rest) =
            rest.split_once('@').ok_or(AddressError::new(AddressPart::KeyHash, "no @ behind it"))?;
        let (key_hash, password) = match identity.split_once(':') {
            Some((key_hash, password)) => (key_hash, Some(password.parse()?)),
            None => (identity, None),
        };
        let key_hash = key_hash.parse()?;
        let (hosts, rest) = Hosts::parse_prefix(rest)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if rest.is_empty() => None,
            None => return Err(AddressError::new(AddressPart::Host, "something behind the host")),
        };
        Ok(Self { scheme, router: Router { hosts, port, key_hash }, password })
    }
}

/// Writes an address with the given hosts, which may be fewer than the router's.
pub(super) fn write_address(
    f: &mut impl fmt::Write,
    scheme: Scheme,
    router: &Router,
    hosts: &impl fmt::Display,
    password: Option<&Password>,
) -> fmt::Result {
    write!(f, "{scheme}://{}", router.key_hash)?;
    if let Some(Password(password)) = password {
        write!(f, ":{password}")?;
    }
    write!(f, "@{hosts}")?;
    match router.port {
        Some(port) => write!(f, ":{port}"),
        None => Ok(()),
    }
}

/// Digits: zeros in front are skipped, as in the reference.
fn parse_port(text: &str) -> Result<u16, AddressError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten();
    port.ok_or(AddressError::new(AddressPart::Port, "not a number up to 65535"))
}

fn parse_binary_port(bytes: &[u8]) -> Result<Option<u16>, AddressError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| AddressError::new(AddressPart::Port, "not text"))?;
    parse_port(text).map(Some)
}
