//! SOCKS5 as a client: RFC 1928, with user name and password of RFC 1929. Bytes in, bytes out.
//!
//! Names are resolved by the proxy: that is the only way to reach an onion host, and it keeps lookups off the network of
//! whoever wants everything to go through the proxy.

use std::net::IpAddr;

const VERSION: u8 = 5;
const AUTH_VERSION: u8 = 1;
const METHOD_NONE: u8 = 0;
const METHOD_USER: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Where to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Ip(IpAddr),
    /// At most 255 bytes.
    Name(String),
}

/// User name and password, at most 255 bytes each.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub name: Vec<u8>,
    pub password: Vec<u8>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User")
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocksError {
    #[error("the SOCKS proxy speaks another protocol")]
    Version,
    #[error("the SOCKS proxy wants another way to log in")]
    Method,
    #[error("the SOCKS proxy refuses the user name or password")]
    Login,
    #[error("the SOCKS proxy could not connect: reply {0}")]
    Refused(u8),
    #[error("a name, user or password is too long for SOCKS")]
    TooLong,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this, then read exactly so many bytes for [`Socks::received`].
    Exchange { send: Vec<u8>, read: usize },
    /// The connection to the destination is there.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Method,
    Login,
    /// The reply up to the first byte of its address.
    Reply,
    /// The rest of the reply.
    Bound,
}

/// A conversation with a SOCKS proxy.
pub struct Socks {
    user: Option<User>,
    request: Vec<u8>,
    state: State,
}

impl std::fmt::Debug for Socks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socks").field("state", &self.state).finish_non_exhaustive()
    }
}

fn short(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), SocksError> {
    out.push(u8::try_from(bytes.len()).map_err(|_| SocksError::TooLong)?);
    out.extend_from_slice(bytes);
    Ok(())
}

impl Socks {
    /// Begins a conversation, and gives its first step.
    pub fn start(
        user: Option<User>,
        destination: &Destination,
        port: u16,
    ) -> Result<(Self, Step), SocksError> {
        let mut request = vec![VERSION, CONNECT, 0];
        match destination {
            Destination::Ip(IpAddr::V4(ip)) => {
                request.push(IPV4);
                request.extend_from_slice(&ip.octets());
            }
            Destination::Ip(IpAddr::V6(ip)) => {
                request.push(IPV6);
                request.extend_from_slice(&ip.octets());
            }
            Destination::Name(name) => {
                request.push(NAME);
                short(name.as_bytes(), &mut request)?;
            }
        }
        request.extend_from_slice(&port.to_be_bytes());
        let method = if user.is_some() { METHOD_USER } else { METHOD_NONE };
        let socks = Self { user, request, state: State::Method };
        Ok((socks, Step::Exchange { send: vec![VERSION, 1, method], read: 2 }))
    }

    /// Takes as many bytes as the last step asked for.
    pub fn received(&mut self, bytes: &[u8]) -> Result<Step, SocksError> {
        match (self.state, bytes) {
            (State::Method, &[VERSION, METHOD_NONE]) if self.user.is_none() => Ok(self.request()),
            (State::Method, &[VERSION, METHOD_USER]) => {
                let Some(user) = self.user.take() else { return Err(SocksError::Method) };
                let mut send = vec![AUTH_VERSION];
                short(&user.name, &mut send)?;
                short(&user.password, &mut send)?;
                self.state = State::Login;
                Ok(Step::Exchange { send, read: 2 })
            }
            (State::Method, &[VERSION, _]) => Err(SocksError::Method),
            (State::Login, &[_, 0]) => Ok(self.request()),
            (State::Login, &[_, _]) => Err(SocksError::Login),
            (State::Reply, &[VERSION, 0, _, kind, first]) => {
                // One byte of the address is read; its port follows.
                let left = match kind {
                    IPV4 => 3 + 2,
                    IPV6 => 15 + 2,
                    NAME => usize::from(first) + 2,
                    _ => return Err(SocksError::Version),
                };
                self.state = State::Bound;
                Ok(Step::Exchange { send: Vec::new(), read: left })
            }
            (State::Reply, &[VERSION, reply, ..]) => Err(SocksError::Refused(reply)),
            (State::Bound, _) => Ok(Step::Done),
            _ => Err(SocksError::Version),
        }
    }

    fn request(&mut self) -> Step {
        self.state = State::Reply;
        Step::Exchange { send: std::mem::take(&mut self.request), read: 5 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn exchange(send: &[u8], read: usize) -> Step {
        Step::Exchange { send: send.to_vec(), read }
    }

    #[test]
    fn a_name_is_connected_to_without_login() {
        let destination = Destination::Name("a.onion".to_owned());
        let (mut socks, first) = Socks::start(None, &destination, 5223).unwrap();
        assert_eq!(first, exchange(&[5, 1, 0], 2));
        let request = exchange(b"\x05\x01\x00\x03\x07a.onion\x14\x67", 5);
        assert_eq!(socks.received(&[5, 0]).unwrap(), request);
        assert_eq!(socks.received(&[5, 0, 0, 1, 127]).unwrap(), exchange(&[], 5));
        assert_eq!(socks.received(&[0, 0, 1, 4, 1]).unwrap(), Step::Done);
    }

    #[test]
    fn a_user_logs_in() {
        let user = User { name: b"me".to_vec(), password: Vec::new() };
        let destination = Destination::Ip([10, 0, 0, 1].into());
        let (mut socks, first) = Socks::start(Some(user), &destination, 1).unwrap();
        assert_eq!(first, exchange(&[5, 1, 2], 2));
        assert_eq!(socks.received(&[5, 2]).unwrap(), exchange(b"\x01\x02me\x00", 2));
        assert_eq!(socks.received(&[1, 0]).unwrap(), exchange(&[5, 1, 0, 1, 10, 0, 0, 1, 0, 1], 5));
        assert_eq!(socks.received(&[5, 0, 0, 3, 9]).unwrap(), exchange(&[], 11));
        assert_eq!(socks.received(&[0; 11]).unwrap(), Step::Done);
    }

    #[test]
    fn an_ipv6_address_has_sixteen_bytes() {
        let destination = Destination::Ip("::1".parse().unwrap());
        let (mut socks, _) = Socks::start(None, &destination, 1).unwrap();
        let Step::Exchange { send, .. } = socks.received(&[5, 0]).unwrap() else { panic!("no request") };
        assert_eq!((send[3], send.len()), (4, 4 + 16 + 2));
        assert_eq!(socks.received(&[5, 0, 0, 4, 0]).unwrap(), exchange(&[], 17));
    }

    #[test]
    fn refusals_are_told_apart() {
        let destination = Destination::Ip([10, 0, 0, 1].into());
        let start = |user: Option<User>| Socks::start(user, &destination, 1).unwrap().0;
        let user = || Some(User { name: b"me".to_vec(), password: b"x".to_vec() });
        assert_eq!(start(None).received(&[4, 0]), Err(SocksError::Version));
        assert_eq!(start(None).received(&[5, 255]), Err(SocksError::Method));
        assert_eq!(start(None).received(&[5, 2]), Err(SocksError::Method));
        // Whoever wants a login must not go on without.
        assert_eq!(start(user()).received(&[5, 0]), Err(SocksError::Method));
        let mut socks = start(user());
        socks.received(&[5, 2]).unwrap();
        assert_eq!(socks.received(&[1, 1]), Err(SocksError::Login));
        let mut socks = start(None);
        socks.received(&[5, 0]).unwrap();
        assert_eq!(socks.received(&[5, 4, 0, 1, 0]), Err(SocksError::Refused(4)));
        let long = Destination::Name("x".repeat(256));
        assert_eq!(Socks::start(None, &long, 1).map(|_| ()), Err(SocksError::TooLong));
    }

    #[test]
    fn any_bytes_are_answered() {
        let destination = Destination::Ip([10, 0, 0, 1].into());
        for length in 0..8 {
            for value in 0..=255 {
                let (mut socks, _) = Socks::start(None, &destination, 1).unwrap();
                for _ in 0..3 {
                    let _ = socks.received(&vec![value; length]);
                }
            }
        }
    }
}
