//! Addresses of queues, for their senders: "SMP queue URI", and the queue information in agent messages.
//!
//! ```text
//! smp://keyhash@host[,host...][:port]/senderId#/?v=1-4&dh=key[&q=m or c][&k=s][&srv=host[,host...]]
//! ```
//!
//! Below version 2 the authority holds one host, and `srv` the others. `k=s` says to clients below version 4
//! what `q=m` says to newer ones: that the sender can secure the queue. The oldest form has the key alone
//! behind `#`, and is version 1.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::binary::{ShortBytes, cut_short};
use super::host::write_list;
use super::router::write_address;
use super::{
    AddressError, AddressPart, ClientVersion, ClientVersionRange, Hosts, Router, RouterAddress, Scheme,
};
use crate::command::QueueMode;
use crate::encoding::{Reader, Sink, base64url, decode_base64url};
use crate::keys::DhPublicKey;

/// The sender's ID of a queue: 1 to 255 bytes, 24 from our routers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenderId(ShortBytes);

impl SenderId {
    pub fn new(bytes: &[u8]) -> Result<Self, AddressError> {
        ShortBytes::new(bytes, AddressPart::SenderId).map(Self)
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenderId({})", base64url(self.as_bytes()))
    }
}

/// What a sender needs to send the first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueAddress {
    pub router: Router,
    pub sender_id: SenderId,
    /// The recipient's key, to agree with it on the secret of the end-to-end encryption.
    pub dh_key: DhPublicKey,
    /// Unknown for queues of older clients.
    pub mode: Option<QueueMode>,
}

/// A queue and the versions its recipient speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueUri {
    pub versions: ClientVersionRange,
    pub queue: QueueAddress,
}

/// A queue in the version that was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    pub version: ClientVersion,
    pub queue: QueueAddress,
}

impl QueueAddress {
    /// The sender can secure the queue with its own key.
    fn sender_can_secure(&self) -> bool {
        self.mode == Some(QueueMode::Messaging)
    }

    fn write_id_and_key(&self, out: &mut Vec<u8>) {
        out.put_short(self.sender_id.as_bytes());
        self.dh_key.write(out);
    }

    fn read(router: Router, reader: &mut Reader<'_>) -> Result<Self, AddressError> {
        let sender_id = SenderId::new(reader.short().map_err(cut_short(AddressPart::SenderId))?)?;
        let dh_key = key_from_der(reader.short().map_err(cut_short(AddressPart::DhKey))?)?;
        Ok(Self { router, sender_id, dh_key, mode: read_mode(reader) })
    }

    fn write_mode(&self, out: &mut Vec<u8>) {
        match self.mode {
            Some(QueueMode::Messaging) => out.push(b'M'),
            Some(QueueMode::Contact) => out.push(b'C'),
            None => {}
        }
    }
}

impl QueueUri {
    /// The binary form. What the oldest of the versions could not read is left out: the mode is lost then.
    pub fn to_binary(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_binary(&mut out);
        out
    }

    /// Appends the binary form.
    pub fn write_binary(&self, out: &mut Vec<u8>) {
        let (min, max) = (self.versions.min(), self.versions.max());
        out.put_u16(min.0);
        out.put_u16(max.0);
        self.queue.router.write_binary(out);
        self.queue.write_id_and_key(out);
        let can_secure = self.queue.sender_can_secure();
        if min >= ClientVersion::SHORT_LINKS {
            self.queue.write_mode(out);
        } else if min >= ClientVersion::SENDER_KEY {
            out.put_bool(can_secure);
        } else if max >= ClientVersion::SENDER_KEY && can_secure {
            out.push(b'T');
        }
    }

    /// Reads the binary form at the start of `bytes`, and gives what is behind it.
    pub fn parse_binary(bytes: &[u8]) -> Result<(Self, &[u8]), AddressError> {
        let mut reader = Reader::new(bytes);
        let min = ClientVersion(reader.u16().map_err(cut_short(AddressPart::Versions))?);
        let max = ClientVersion(reader.u16().map_err(cut_short(AddressPart::Versions))?);
        let versions = ClientVersionRange::new(min, max)
            .ok_or(AddressError::new(AddressPart::Versions, "from above to"))?;
        let router = Router::read_binary(&mut reader)?;
        let queue = QueueAddress::read(router, &mut reader)?;
        Ok((Self { versions, queue }, reader.rest()))
    }

    /// The binary form and nothing behind it.
    pub fn from_binary(bytes: &[u8]) -> Result<Self, AddressError> {
        whole(Self::parse_binary(bytes)?)
    }
}

impl QueueInfo {
    /// The binary form. What the version does not know is left out: all hosts but the first in version 1, the
    /// mode below 3, all modes but messaging in 3.
    pub fn to_binary(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_binary(&mut out);
        out
    }

    /// Appends the binary form.
    pub fn write_binary(&self, out: &mut Vec<u8>) {
        out.put_u16(self.version.0);
        if self.version <= ClientVersion::INITIAL {
            self.queue.router.write_binary_legacy(out);
        } else {
            self.queue.router.write_binary(out);
        }
        self.queue.write_id_and_key(out);
        if self.version >= ClientVersion::SHORT_LINKS {
            self.queue.write_mode(out);
        } else if self.version >= ClientVersion::SENDER_KEY && self.queue.sender_can_secure() {
            out.push(b'T');
        }
    }

    /// Reads the binary form at the start of `bytes`, and gives what is behind it.
    pub fn parse_binary(bytes: &[u8]) -> Result<(Self, &[u8]), AddressError> {
        let mut reader = Reader::new(bytes);
        let version = ClientVersion(reader.u16().map_err(cut_short(AddressPart::Versions))?);
        let router = if version <= ClientVersion::INITIAL {
            Router::read_binary_legacy(&mut reader)?
        } else {
            Router::read_binary(&mut reader)?
        };
        let queue = QueueAddress::read(router, &mut reader)?;
        Ok((Self { version, queue }, reader.rest()))
    }

    /// The binary form and nothing behind it.
    pub fn from_binary(bytes: &[u8]) -> Result<Self, AddressError> {
        whole(Self::parse_binary(bytes)?)
    }
}

impl fmt::Display for QueueUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { versions, queue } = self;
        let hosts = &queue.router.hosts;
        let one_host = versions.min() < ClientVersion::HOSTS;
        match hosts.as_slice().first() {
            Some(first) if one_host => write_address(f, Scheme::Smp, &queue.router, first, None)?,
            _ => write_address(f, Scheme::Smp, &queue.router, hosts, None)?,
        }
        write!(f, "/{}#/?v={versions}&dh=", base64url(queue.sender_id.as_bytes()))?;
        percent_encode(f, &base64url(&queue.dh_key.to_der()))?;
        match queue.mode {
            Some(QueueMode::Messaging) => f.write_str("&q=m")?,
            Some(QueueMode::Contact) => f.write_str("&q=c")?,
            None => {}
        }
        if queue.sender_can_secure() && versions.min() < ClientVersion::SHORT_LINKS {
            f.write_str("&k=s")?;
        }
        if one_host && !hosts.rest().is_empty() {
            let mut others = String::new();
            write_list(&mut others, hosts.rest())?;
            f.write_str("&srv=")?;
            percent_encode(f, &others)?;
        }
        Ok(())
    }
}

impl FromStr for QueueUri {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let no_id = AddressError::new(AddressPart::SenderId, "no /ID# behind the router");
        let (address, fragment) = text.split_once('#').ok_or(no_id)?;
        let (_, behind_scheme) = address.split_once("://").unwrap_or_default();
        let (_, sender_id) = behind_scheme.split_once('/').ok_or(no_id)?;
        let router = address.strip_suffix(sender_id).and_then(|text| text.strip_suffix('/')).ok_or(no_id)?;
        let RouterAddress { scheme, router, password } = router.parse()?;
        if scheme != Scheme::Smp {
            return Err(AddressError::new(AddressPart::Scheme, "a queue is at an smp router"));
        }
        if password.is_some() {
            return Err(AddressError::new(AddressPart::Password, "not allowed in a queue URI"));
        }
        let sender_id = decode_base64url(sender_id.strip_suffix('/').unwrap_or(sender_id))
            .map_err(|_| AddressError::new(AddressPart::SenderId, "not base64url"))?;
        let sender_id = SenderId::new(&sender_id)?;

        let Some((key, query)) = fragment.split_once('?') else {
            let versions = ClientVersionRange::only(ClientVersion::INITIAL);
            let queue = QueueAddress { router, sender_id, dh_key: key_from_text(fragment)?, mode: None };
            return Ok(Self { versions, queue });
        };
        let query = Query::parse(query)?;
        let versions = query.value("v").ok_or(AddressError::new(AddressPart::Versions, "no v="))?.parse()?;
        let dh_key = match key.strip_suffix('/').unwrap_or(key) {
            "" => key_from_text(query.value("dh").ok_or(AddressError::new(AddressPart::DhKey, "no dh="))?)?,
            key => key_from_text(key)?,
        };
        let router = match query.value("srv") {
            Some(others) if !others.is_empty() => with_hosts(router, others)?,
            _ => router,
        };
        let mode = match (query.value("q"), query.value("k")) {
            (Some("c"), _) => Some(QueueMode::Contact),
            (Some("m"), _) | (_, Some("s")) => Some(QueueMode::Messaging),
            _ => None,
        };
        Ok(Self { versions, queue: QueueAddress { router, sender_id, dh_key, mode } })
    }
}

/// Adds the hosts of `srv`.
fn with_hosts(router: Router, others: &str) -> Result<Router, AddressError> {
    let (others, rest) = Hosts::parse_prefix(others)?;
    if !rest.is_empty() {
        return Err(AddressError::new(AddressPart::Host, "something behind the hosts of srv="));
    }
    let hosts = Hosts::new([router.hosts.as_slice(), others.as_slice()].concat())?;
    Ok(Router { hosts, ..router })
}

/// The parameters behind `?`, decoded. Unknown ones are of later versions; of equal names the first counts.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = AddressError::new(AddressPart::Query, "not name=value pairs with % escapes");
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(name)?, percent_decode(value)?))
        };
        text.split('&').map(pair).collect::<Option<_>>().map(Self).ok_or(wrong)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn percent_encode(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

/// None for broken escapes, and for what is no text in a URI.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte == b'%' {
            let ([high, low], behind) = behind.split_first_chunk()?;
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit(*high)? << 4 | digit(*low)?);
            rest = behind;
        } else if byte.is_ascii_graphic() {
            bytes.push(byte);
        } else {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}

fn key_from_der(der: &[u8]) -> Result<DhPublicKey, AddressError> {
    DhPublicKey::from_der(der)
        .map_err(|_| AddressError::new(AddressPart::DhKey, "not an X25519 key in X.509 form"))
}

fn key_from_text(text: &str) -> Result<DhPublicKey, AddressError> {
    let der = decode_base64url(text).map_err(|_| AddressError::new(AddressPart::DhKey, "not base64url"))?;
    key_from_der(&der)
}

/// The mode at the start of the rest, in the newer or the older form. Anything else is left to the reader of
/// what follows.
fn read_mode(reader: &mut Reader<'_>) -> Option<QueueMode> {
    let mut ahead = *reader;
    let mode = match ahead.u8().ok()? {
        b'M' | b'T' => QueueMode::Messaging,
        b'C' | b'F' => QueueMode::Contact,
        _ => return None,
    };
    *reader = ahead;
    Some(mode)
}

fn whole<T>((value, rest): (T, &[u8])) -> Result<T, AddressError> {
    if rest.is_empty() { Ok(value) } else { Err(AddressError::new(AddressPart::End, "bytes behind it")) }
}
