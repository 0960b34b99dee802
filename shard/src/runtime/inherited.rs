//! Listening sockets that outlive a program: the process runs another one, which takes them over. Connections wait in their
//! queues meanwhile, and none is refused.
//!
//! The program that goes names them in a variable of the environment, `PID:FD=ADDRESS,FD=ADDRESS,FD=program`; the last is its
//! own file, for the case that the other one cannot start. The process ID is that of both programs; in the environment of a
//! child, which has another one, the variable means nothing.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{SockRef, Type};

/// Names the sockets to the next program.
pub const VARIABLE: &str = "RINGPOST_LISTEN_FDS";

/// Standard input and outputs are never listening sockets of ours.
const FD_MIN: RawFd = 3;
/// Stands for the address where a descriptor is the file of the earlier program.
const PROGRAM: &str = "program";

/// What an earlier program of this process left open, and nobody has taken yet.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    listeners: Vec<(SocketAddr, TcpListener)>,
    program: Option<File>,
}

impl InheritedListeners {
    /// Takes them out of the environment of this process, the first time. Says what was named there and is no listening
    /// socket at that address; it is not used.
    pub fn from_environment() -> (Self, Vec<String>) {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let mut inherited = Self::default();
        let mut notes = Vec::new();
        let value = std::env::var(VARIABLE).unwrap_or_default();
        let Some(sockets) = of_process(&value, std::process::id()) else { return (inherited, notes) };
        if TAKEN.swap(true, Ordering::AcqRel) {
            return (inherited, notes);
        }
        for named in sockets.split(',').filter(|named| !named.is_empty()) {
            if let Err(reason) = inherited.adopt(named) {
                notes.push(format!("{VARIABLE}: {named} is not used: {reason}"));
            }
        }
        (inherited, notes)
    }

    fn adopt(&mut self, named: &str) -> Result<(), String> {
        match parse(named).ok_or("it is not FD=ADDRESS")? {
            (fd, Some(address)) => self.listeners.push((address, adopt_listener(fd, address)?)),
            (fd, None) => self.program = Some(adopt_program(fd)?),
        }
        Ok(())
    }

    /// The file of the earlier program.
    pub fn take_program(&mut self) -> Option<File> {
        self.program.take()
    }

    /// The same sockets under other descriptors.
    pub fn try_clone_listeners(&self) -> io::Result<Self> {
        let clone = |(at, listener): &(SocketAddr, TcpListener)| Ok((*at, listener.try_clone()?));
        Ok(Self { listeners: self.listeners.iter().map(clone).collect::<io::Result<_>>()?, program: None })
    }

    /// Those that listen at this address.
    pub fn take(&mut self, address: SocketAddr) -> Vec<TcpListener> {
        let of_address = self.listeners.extract_if(.., |(at, _)| *at == address);
        of_address.map(|(_, listener)| listener).collect()
    }

    pub fn listens(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|(at, _)| *at == address)
    }

    /// Closes those at other addresses. Says at which.
    pub fn keep(&mut self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let others = self.listeners.extract_if(.., |(at, _)| !addresses.contains(at));
        let mut closed: Vec<SocketAddr> = others.map(|(at, _)| at).collect();
        closed.dedup();
        closed
    }

    /// All that nobody has taken.
    pub fn into_listeners(self) -> Vec<TcpListener> {
        self.listeners.into_iter().map(|(_, listener)| listener).collect()
    }

    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }
}

/// Keeps listening sockets, and the file of this program, open for the next program of this process. Gives the value of
/// [`VARIABLE`] that names them.
pub fn leave_open(listeners: &[TcpListener], program: Option<&File>) -> io::Result<String> {
    let mut sockets = Vec::with_capacity(listeners.len() + 1);
    for listener in listeners {
        SockRef::from(listener).set_cloexec(false)?;
        sockets.push(format!("{}={}", listener.as_raw_fd(), listener.local_addr()?));
    }
    if let Some(program) = program {
        set_close_on_exec(program.as_raw_fd(), false)?;
        sockets.push(format!("{}={PROGRAM}", program.as_raw_fd()));
    }
    Ok(format!("{}:{}", std::process::id(), sockets.join(",")))
}

/// From now on these signals do nothing, in the next program of this process too, until it says otherwise.
pub fn ignore_signals(signals: &[i32]) {
    for &signal in signals {
        // SAFETY: SIG_IGN runs no code. The call fails for numbers that are no signals, and changes nothing then.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// What a value names, if it is meant for the process of this ID.
fn of_process(value: &str, pid: u32) -> Option<&str> {
    let (of, sockets) = value.split_once(':')?;
    (of.parse() == Ok(pid)).then_some(sockets)
}

/// A descriptor and its address; none for the program.
fn parse(named: &str) -> Option<(RawFd, Option<SocketAddr>)> {
    let (fd, address) = named.split_once('=')?;
    let address = if address == PROGRAM { None } else { Some(address.parse().ok()?) };
    Some((fd.parse().ok().filter(|fd| *fd >= FD_MIN)?, address))
}

/// Fails if the descriptor is not open.
fn set_close_on_exec(fd: RawFd, close: bool) -> io::Result<()> {
    // SAFETY: the call changes a flag of the descriptor, and fails if it is not open.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFD, if close { libc::FD_CLOEXEC } else { 0 }) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What this program has opened or taken is closed on `exec`; a descriptor that is not has come from the one before.
fn check_left_open(fd: RawFd) -> Result<(), String> {
    // SAFETY: the call looks at the descriptor's flags, and fails if it is not open.
    match unsafe { libc::fcntl(fd, libc::F_GETFD) } {
        flags if flags < 0 => Err("it is not open".to_owned()),
        flags if flags & libc::FD_CLOEXEC != 0 => Err("it was not left open".to_owned()),
        _ => Ok(()),
    }
}

fn adopt_listener(fd: RawFd, address: SocketAddr) -> Result<TcpListener, String> {
    check_left_open(fd)?;
    // SAFETY: it is open, and nobody closes it: nothing in this process knows it yet but the environment.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = SockRef::from(&socket);
    if !matches!((socket.r#type(), socket.is_listener()), (Ok(Type::STREAM), Ok(true))) {
        return Err("it is not a listening socket".to_owned());
    }
    let listens_at = socket.local_addr().ok().and_then(|at| at.as_socket());
    if listens_at != Some(address) {
        return Err("it does not listen there".to_owned());
    }
    set_close_on_exec(fd, true).map_err(|error| error.to_string())?;
    // SAFETY: it is an open listening socket that the earlier program of this process, known by the process ID, left to us.
    // It is taken once, since `from_environment` comes here once in the life of a program.
    Ok(unsafe { TcpListener::from_raw_fd(fd) })
}

fn adopt_program(fd: RawFd) -> Result<File, String> {
    check_left_open(fd)?;
    set_close_on_exec(fd, true).map_err(|error| error.to_string())?;
    // SAFETY: it is open, was left to us by the earlier program of this process, known by the process ID, and is taken once,
    // since `from_environment` comes here once in the life of a program.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::fd::IntoRawFd;

    use super::*;

    fn listener() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), listener)
    }

    #[test]
    fn what_is_left_open_is_named_with_the_process() {
        let (address, listener) = listener();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"a program").unwrap();
        let value = leave_open(std::slice::from_ref(&listener), Some(&file)).unwrap();
        let (socket, program) = (listener.into_raw_fd(), file.into_raw_fd());
        let named = format!("{socket}={address},{program}=program");
        assert_eq!(value, format!("{}:{named}", std::process::id()));
        assert_eq!(of_process(&value, std::process::id() + 1), None);
        assert_eq!(of_process(&value, std::process::id()), Some(named.as_str()));
        let mut inherited = InheritedListeners::default();
        for named in named.split(',') {
            inherited.adopt(named).unwrap();
            assert_eq!(inherited.adopt(named).unwrap_err(), "it was not left open", "it is taken once");
        }
        assert_eq!(inherited.take_program().unwrap().metadata().unwrap().len(), 9);
        let again = inherited.take(address).remove(0);
        // SAFETY: the call looks at the flags of a descriptor that is open.
        let flags = unsafe { libc::fcntl(again.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC, "programs that this one runs do not get it");
        std::net::TcpStream::connect(address).unwrap();
        again.accept().unwrap();
    }

    #[test]
    fn other_descriptors_are_left_alone() {
        let (address, listener) = listener();
        let other: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let connected = std::net::TcpStream::connect(address).unwrap();
        let local = connected.local_addr().unwrap();
        let file = tempfile::tempfile().unwrap();
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        for fd in [listener.as_raw_fd(), connected.as_raw_fd(), file.as_raw_fd()] {
            set_close_on_exec(fd, false).unwrap();
        }
        for (fd, at, reason) in [
            (own.as_raw_fd(), own.local_addr().unwrap(), "not left open"),
            (listener.as_raw_fd(), other, "does not listen there"),
            (connected.as_raw_fd(), local, "not a listening socket"),
            (file.as_raw_fd(), other, "not a listening socket"),
            (1_000_000, other, "not open"),
        ] {
            let refused = adopt_listener(fd, at).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        listener.accept().unwrap();
        file.metadata().unwrap();
    }

    #[test]
    fn nonsense_names_nothing() {
        for value in ["", ":", "x:7=127.0.0.1:1", "7=127.0.0.1:1", "-1:"] {
            assert_eq!(of_process(value, 7), None, "{value}");
        }
        for socket in
            ["", "7", "7=", "=127.0.0.1:1", "x=127.0.0.1:1", "-1=127.0.0.1:1", "2=127.0.0.1:1", "7=1"]
        {
            assert_eq!(parse(socket), None, "{socket}");
        }
    }

    #[test]
    fn addresses_are_kept_or_closed() {
        let ((one, first), (other, second)) = (listener(), listener());
        let again = first.try_clone().unwrap();
        let mut inherited = InheritedListeners {
            listeners: vec![(one, first), (other, second), (one, again)],
            program: None,
        };
        assert_eq!(inherited.keep(&[one]), [other]);
        assert!(inherited.listens(one) && !inherited.listens(other) && inherited.len() == 2);
        std::net::TcpStream::connect(other).unwrap_err();
        assert_eq!((inherited.take(other).len(), inherited.take(one).len()), (0, 2));
        assert!(inherited.is_empty() && inherited.into_listeners().is_empty());
    }
}
