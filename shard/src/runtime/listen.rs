//! Listening sockets: one an address for every shard, the kernel spreads connections over them. Those of an earlier program of
//! this process are used first, since connections wait in their queues.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{StartError, sys};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Where a router listens.
pub(super) struct Listening {
    /// With the ports that the system chose for port 0.
    pub addresses: Vec<SocketAddr>,
    /// A shard has several at an address if an earlier program had more shards.
    pub of_shards: Vec<Vec<ShardListener>>,
    /// Another descriptor of each socket, with which it outlives the shards.
    pub kept: Vec<TcpListener>,
}

/// A listening socket of one shard.
#[derive(Debug)]
pub(super) struct ShardListener {
    pub listener: TcpListener,
    /// Its address, by the place among those of the router.
    pub place: usize,
}

pub(super) fn listen(
    wanted: &[SocketAddr],
    shards: usize,
    mut inherited: Vec<TcpListener>,
) -> Result<Listening, StartError> {
    if wanted.is_empty() {
        return Err(StartError::NoAddress);
    }
    // Others would stand in the way of what is opened below.
    inherited.retain(|listener| {
        listener.local_addr().is_ok_and(|address| wanted.contains(&address))
            && SockRef::from(listener).reuse_port().unwrap_or(false)
    });
    let mut listening = Listening {
        addresses: Vec::new(),
        of_shards: (0..shards).map(|_| Vec::new()).collect(),
        kept: Vec::new(),
    };
    for (place, &wanted) in wanted.iter().enumerate() {
        let fail = |source| StartError::Listen { address: wanted, source };
        let mut listeners: Vec<TcpListener> = inherited
            .extract_if(.., |listener| listener.local_addr().is_ok_and(|address| address == wanted))
            .collect();
        let address = if listeners.is_empty() { free_address(wanted).map_err(fail)? } else { wanted };
        for listener in &listeners {
            take_over(listener).map_err(fail)?;
        }
        while listeners.len() < shards {
            let socket = socket(address, true).map_err(fail)?;
            socket.listen(BACKLOG).map_err(fail)?;
            listeners.push(socket.into());
        }
        for (listener, shard) in listeners.into_iter().zip((0..shards).cycle()) {
            listening.kept.push(listener.try_clone().map_err(fail)?);
            listening.of_shards[shard].push(ShardListener { listener, place });
        }
        listening.addresses.push(address);
    }
    Ok(listening)
}

/// Other routers would be let in beside ours by `SO_REUSEPORT`: a socket without it finds them.
fn free_address(wanted: SocketAddr) -> io::Result<SocketAddr> {
    Ok(socket(wanted, false)?.local_addr()?.as_socket().unwrap_or(wanted))
}

/// Gives a socket of another program what ours have.
fn take_over(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let socket = SockRef::from(listener);
    sys::prepare_connections(&socket)?;
    socket.listen(BACKLOG)
}

fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
        sys::prepare_connections(&SockRef::from(&socket))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    use crate::limits::{KEEPALIVE_IDLE_SECS, KEEPALIVE_INTERVAL_SECS, KEEPALIVE_PROBES};

    use super::*;

    fn counts(listening: &Listening) -> Vec<usize> {
        listening.of_shards.iter().map(Vec::len).collect()
    }

    #[test]
    fn every_shard_gets_a_socket_at_every_address_whatever_was_inherited() {
        let first = listen(&["127.0.0.1:0".parse().unwrap(); 2], 2, Vec::new()).unwrap();
        assert_eq!(counts(&first), [2, 2]);
        let Listening { addresses, kept, of_shards } = first;
        drop(of_shards);
        let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(addresses[0]).unwrap()).collect();
        let second = listen(&addresses, 3, kept).unwrap();
        assert_eq!((counts(&second), &second.addresses), (vec![2, 2, 2], &addresses));
        let third = listen(&addresses, 1, second.kept).unwrap();
        assert_eq!(counts(&third), [6]);
        // Those that waited since before the first change are all there.
        let places: Vec<usize> = third.of_shards[0].iter().map(|one| one.place).collect();
        assert_eq!(places, [0, 0, 0, 1, 1, 1]);
        let accepted: usize = third.of_shards[0]
            .iter()
            .map(|one| std::iter::from_fn(|| one.listener.accept().ok()).count())
            .sum();
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn connections_are_prepared_by_their_listener_also_by_one_of_another_program() {
        let other = socket("127.0.0.1:0".parse().unwrap(), false).unwrap();
        other.set_reuse_port(true).unwrap();
        other.listen(1).unwrap();
        let other = TcpListener::from(other);
        let inherited = other.local_addr().unwrap();
        let listening = listen(&[inherited, "127.0.0.1:0".parse().unwrap()], 1, vec![other]).unwrap();
        for (one, &address) in listening.of_shards[0].iter().zip(&listening.addresses) {
            let client = TcpStream::connect(address).unwrap();
            let end = Instant::now() + Duration::from_secs(30);
            let accepted = loop {
                match one.listener.accept() {
                    Ok((accepted, _)) => break accepted,
                    Err(error) => assert!(Instant::now() < end, "{error}"),
                }
            };
            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(KEEPALIVE_IDLE_SECS));
            assert_eq!(
                socket.tcp_keepalive_interval().unwrap(),
                Duration::from_secs(KEEPALIVE_INTERVAL_SECS)
            );
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
            drop(client);
        }
    }

    #[test]
    fn sockets_that_cannot_be_shared_or_are_not_wanted_are_closed() {
        let alone = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, other) = (alone.local_addr().unwrap(), elsewhere.local_addr().unwrap());
        let listening = listen(&[address], 2, vec![alone, elsewhere]).unwrap();
        assert_eq!(counts(&listening), [1, 1]);
        TcpStream::connect(other).unwrap_err();
    }
}
