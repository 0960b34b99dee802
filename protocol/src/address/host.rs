//! Hosts of routers.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::binary::cut_short;
use super::{AddressError, AddressPart};
use crate::encoding::{Reader, Sink};

/// A domain name has at most this many bytes (RFC 1035), so a host fits behind one length byte.
const NAME_BYTES_MAX: usize = 253;
/// What ends a host in a text, beside its end.
const DELIMITERS: &[char] = &[':', ',', '/', '#', ';', ' ', '\t', '\r', '\n'];
const ONION: &str = ".onion";

/// Where a router can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Ipv4(Ipv4Addr),
    /// In brackets in text, without them in binary.
    Ipv6(Ipv6Addr),
    /// `name.onion`, in lower case. It is not resolved, but reached through a proxy.
    Onion(Name),
    Domain(Name),
}

/// The text of a checked name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Host {
    /// The first host of a text, and what is behind it.
    fn parse_prefix(text: &str) -> Result<(Self, &str), AddressError> {
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) =
                bracketed.split_once(']').ok_or(wrong("no bracket closes the IPv6 address"))?;
            return Ok((Self::Ipv6(address.parse().map_err(|_| wrong("not an IPv6 address"))?), rest));
        }
        let hex_end = text.find(|c: char| !c.is_ascii_hexdigit() && c != ':').unwrap_or(text.len());
        let (address, rest) = text.split_at(hex_end);
        if let Ok(address) = address.parse() {
            return Ok((Self::Ipv6(address), rest));
        }
        let (name, rest) = text.split_at(text.find(DELIMITERS).unwrap_or(text.len()));
        Ok((Self::parse_name(name)?, rest))
    }

    /// A host that is not an IPv6 address.
    fn parse_name(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(wrong("empty"));
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(wrong("longer than 253 bytes"));
        }
        if let Some(octets) = leading_quad(text) {
            return Ok(Self::Ipv4(octets?.into()));
        }
        if let Some(name) = text.strip_suffix(ONION) {
            let is_onion =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let onion = is_onion.then(|| Self::Onion(Name(text.to_owned())));
            return onion.ok_or(wrong("an onion name is lower case letters and digits before .onion"));
        }
        let mut labels = text.strip_suffix('.').unwrap_or(text).split('.');
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let domain = labels.all(is_label).then(|| Self::Domain(Name(text.to_owned())));
        domain.ok_or(wrong("a domain name is letters, digits, hyphens and dots between them"))
    }

    fn write_binary(&self, out: &mut Vec<u8>) {
        let text = match self {
            Self::Ipv6(address) => ipv6_text(*address),
            other => other.to_string(),
        };
        out.put_short(text.as_bytes());
    }

    fn parse_binary(bytes: &[u8]) -> Result<Self, AddressError> {
        std::str::from_utf8(bytes).map_err(|_| wrong("not text"))?.parse()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => write!(f, "{address}"),
            Self::Ipv6(address) => write!(f, "[{}]", ipv6_text(*address)),
            Self::Onion(name) | Self::Domain(name) => f.write_str(&name.0),
        }
    }
}

impl FromStr for Host {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match Self::parse_prefix(text)? {
            (host, "") => Ok(host),
            _ => Err(wrong("something behind the host")),
        }
    }
}

/// The hosts of one router: at least one, at most 255. Clients choose by their network; the order is the
/// router's preference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hosts(Vec<Host>);

impl Hosts {
    pub fn new(hosts: Vec<Host>) -> Result<Self, AddressError> {
        match hosts.len() {
            0 => Err(wrong("none")),
            1..=255 => Ok(Self(hosts)),
            _ => Err(wrong("more than 255")),
        }
    }

    pub fn as_slice(&self) -> &[Host] {
        &self.0
    }

    /// Without the first: that is how an older client sees them.
    pub(super) fn rest(&self) -> &[Host] {
        self.0.get(1..).unwrap_or_default()
    }

    /// The hosts that a text starts with, and what is behind them.
    pub(super) fn parse_prefix(text: &str) -> Result<(Self, &str), AddressError> {
        let (first, mut rest) = Host::parse_prefix(text)?;
        let mut hosts = vec![first];
        while let Some(more) = rest.strip_prefix(',') {
            let (host, behind) = Host::parse_prefix(more)?;
            hosts.push(host);
            rest = behind;
        }
        Ok((Self::new(hosts)?, rest))
    }

    /// Each with a length byte, behind a count byte.
    pub(super) fn write_binary(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        for host in self.0.iter().take(usize::from(u8::MAX)) {
            host.write_binary(out);
        }
    }

    /// The first alone, without a count: for clients of version 1.
    pub(super) fn write_binary_first(&self, out: &mut Vec<u8>) {
        if let Some(host) = self.0.first() {
            host.write_binary(out);
        }
    }

    pub(super) fn read_binary(reader: &mut Reader<'_>) -> Result<Self, AddressError> {
        let count = reader.u8().map_err(cut_short(AddressPart::Host))?;
        let hosts =
            (0..count).map(|_| Host::parse_binary(reader.short().map_err(cut_short(AddressPart::Host))?));
        Self::new(hosts.collect::<Result<_, _>>()?)
    }

    pub(super) fn read_binary_first(reader: &mut Reader<'_>) -> Result<Self, AddressError> {
        Self::new(vec![Host::parse_binary(reader.short().map_err(cut_short(AddressPart::Host))?)?])
    }

    pub(super) fn from_binary(hosts: &[&[u8]]) -> Result<Self, AddressError> {
        Self::new(hosts.iter().map(|host| Host::parse_binary(host)).collect::<Result<_, _>>()?)
    }
}

/// With commas between.
impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.0)
    }
}

pub(super) fn write_list(f: &mut impl fmt::Write, hosts: &[Host]) -> fmt::Result {
    for (i, host) in hosts.iter().enumerate() {
        if i > 0 {
            f.write_char(',')?;
        }
        write!(f, "{host}")?;
    }
    Ok(())
}

/// The four octets of a text that starts like an IPv4 address, or why it is none; None if it starts
/// otherwise. What continues behind four numbers is refused, because the reference would read the four and
/// stop.
fn leading_quad(text: &str) -> Option<Result<[u8; 4], AddressError>> {
    let labels: Vec<&str> = text.splitn(4, '.').collect();
    let [a, b, c, d] = labels.as_slice() else {
        return None;
    };
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    if ![a, b, c].iter().all(|label| is_number(label)) || !d.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if !is_number(d) {
        return Some(Err(wrong("something behind the IPv4 address")));
    }
    let mut octets = [0; 4];
    for (octet, label) in octets.iter_mut().zip([a, b, c, d]) {
        match label.parse() {
            Ok(value) => *octet = value,
            Err(_) => return Some(Err(wrong("a number above 255 in an IPv4 address"))),
        }
    }
    Some(Ok(octets))
}

/// Always in hexadecimal: the dotted form of mapped IPv4 addresses is not read everywhere without brackets.
fn ipv6_text(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("::ffff:{high:x}:{low:x}"),
        _ => address.to_string(),
    }
}

fn wrong(reason: &'static str) -> AddressError {
    AddressError::new(AddressPart::Host, reason)
}
