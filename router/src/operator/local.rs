//! Small servers on 127.0.0.1: a thread for each connection, a few of them at a time.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringpost_shard::InheritedListeners;

use crate::exit::{Fatal, Reason};

/// Connections of one server at a time.
pub const CONNECTIONS_MAX: usize = 16;
/// After an accept that failed for want of descriptors: trying at once would only burn the processor.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Where a port of these servers is.
pub fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Listens on a port of 127.0.0.1, with a socket that was inherited if there is one. `key` is the setting that has the port.
pub fn listen(port: u16, key: &str, inherited: &mut InheritedListeners) -> Result<TcpListener, Fatal> {
    let listener = match inherited.take(address(port)).into_iter().next() {
        Some(listener) => listener.set_nonblocking(false).map(|()| listener),
        None => TcpListener::bind(address(port)),
    };
    listener.map_err(|error| {
        let reason =
            if error.kind() == io::ErrorKind::AddrInUse { Reason::PortInUse } else { Reason::PortRefused };
        Fatal::new(reason, format!("cannot listen on 127.0.0.1:{port}: {error}"))
            .remedy(format!("Change {key} in the ini."))
    })
}

/// Serves connections until the process ends, in threads of their own. Those above the limit are told `busy` and closed.
pub fn serve(
    listener: TcpListener,
    name: &'static str,
    busy: &'static [u8],
    connection: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Result<(), Fatal> {
    let connection = Arc::new(connection);
    let open = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(PAUSE_AFTER_ERROR);
                continue;
            };
            let place = Place::take(&open);
            let connection = Arc::clone(&connection);
            let serve = move || {
                if place.number > CONNECTIONS_MAX {
                    refuse(stream, busy);
                } else {
                    // Whoever is at the other end has gone, which is no concern of ours.
                    let _ = connection(stream);
                }
                drop(place);
            };
            // Those that are refused need a thread for a moment too: so many, and no more.
            if open.load(Ordering::Acquire) <= 2 * CONNECTIONS_MAX {
                // If there is no thread the stream is closed.
                let _ = thread::Builder::new().name(name.to_owned()).spawn(serve);
            }
        }
    };
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(accept);
    spawned.map(drop).map_err(|error| Fatal::new(Reason::Other, format!("cannot start a thread: {error}")))
}

fn refuse(mut stream: TcpStream, busy: &[u8]) {
    let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
    let _ = io::Write::write_all(&mut stream, busy);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    // What is closed with unread bytes is reset, and the peer may lose what was written.
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    let _ = stream.read(&mut [0; 512]);
}

/// One of the connections that are open.
struct Place {
    open: Arc<AtomicUsize>,
    /// From 1.
    number: usize,
}

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        Self { number: open.fetch_add(1, Ordering::AcqRel) + 1, open: Arc::clone(open) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}
