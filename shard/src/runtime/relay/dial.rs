//! From an address to a connected socket, in a thread of its own.
//!
//! Resolving a name blocks for as long as name servers like. The executor has one thread for what blocks, and the
//! log's file operations go through it, so it is not used here. The thread ends when the socket is handed over or the
//! time is over (for a name server that says nothing: when the resolver gives up); there are few of them at a time.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use ringpost_protocol::address::Host;

use super::super::RouterConfig;
use crate::executor::{Bell, Ear, sleep};
use crate::proxy::socks::{Destination, Socks, Step, User};
use crate::proxy::{SocksAuth, SocksProxy};

/// Stack of a dialing thread: the resolver of libc needs most of it.
const STACK_BYTES: usize = 256 << 10;

/// Where to connect, and through what.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: Host,
    pub port: u16,
    pub socks: Option<SocksProxy>,
}

/// Connects within `limit`.
pub async fn dial(config: &Arc<RouterConfig>, target: Target, limit: Duration) -> io::Result<TcpStream> {
    let bell = Arc::new(Bell::new()?);
    let ear = Ear::new(Arc::clone(&bell));
    let (give, take) = mpsc::channel();
    let config = Arc::clone(config);
    std::thread::Builder::new().name("dial".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        let connected = match config.relays.dial() {
            Some(_dial) => connect(&target, &config.socks_user, Instant::now() + limit),
            None => Err(io::Error::other("too many connections are being made")),
        };
        // The shard may have given up.
        let _ = give.send(connected);
        bell.ring();
    })?;
    or(ear.listen(), sleep(limit)).await;
    take.try_recv().unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn connect(target: &Target, isolating: &str, deadline: Instant) -> io::Result<TcpStream> {
    let Some(socks) = &target.socks else {
        return first(addresses(&target.host, target.port)?, deadline);
    };
    let mut stream = first(vec![socks.address], deadline)?;
    let user = match &socks.auth {
        SocksAuth::None => None,
        SocksAuth::Isolate => Some(User { name: isolating.as_bytes().to_vec(), password: Vec::new() }),
        SocksAuth::User { name, password } => {
            Some(User { name: name.as_bytes().to_vec(), password: password.as_bytes().to_vec() })
        }
    };
    let destination = match &target.host {
        Host::Ipv4(ip) => Destination::Ip((*ip).into()),
        Host::Ipv6(ip) => Destination::Ip((*ip).into()),
        Host::Domain(name) | Host::Onion(name) => Destination::Name(name.as_str().to_owned()),
    };
    let (mut conversation, mut step) =
        Socks::start(user, &destination, target.port).map_err(io::Error::other)?;
    while let Step::Exchange { send, read } = step {
        let left = Some(time_left(deadline)?);
        stream.set_write_timeout(left)?;
        stream.set_read_timeout(left)?;
        stream.write_all(&send)?;
        let mut bytes = vec![0; read];
        stream.read_exact(&mut bytes)?;
        step = conversation.received(&bytes).map_err(io::Error::other)?;
    }
    Ok(stream)
}

fn addresses(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    let ip: IpAddr = match host {
        Host::Ipv4(ip) => (*ip).into(),
        Host::Ipv6(ip) => (*ip).into(),
        Host::Domain(name) => return Ok((name.as_str(), port).to_socket_addrs()?.collect()),
        // No name server knows them, and none should be asked.
        Host::Onion(_) => return Err(io::Error::other("an onion host needs a SOCKS proxy")),
    };
    Ok(vec![(ip, port).into()])
}

/// The first address that answers. Each but the last gets half of the time that is left.
fn first(addresses: Vec<SocketAddr>, deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the name has no address");
    let count = addresses.len();
    for (place, address) in addresses.into_iter().enumerate() {
        let left = time_left(deadline)?;
        let limit = if place + 1 == count { left } else { left / 2 };
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
