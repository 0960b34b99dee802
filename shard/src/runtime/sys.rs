//! The few calls that glommio and std do not have in a safe form.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream, UnixStream};
use socket2::{SockRef, TcpKeepalive};

use crate::limits::{KEEPALIVE_IDLE_SECS, KEEPALIVE_INTERVAL_SECS, KEEPALIVE_PROBES};

/// Moves a listening socket, bound on the starting thread, into this executor.
pub fn listener_of_this_executor(listener: std::net::TcpListener) -> TcpListener {
    // SAFETY: the descriptor is a listening TCP socket, and into_raw_fd gives up its ownership.
    unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) }
}

/// Moves one end of a socket pair into this executor.
pub fn stream_of_this_executor(stream: std::os::unix::net::UnixStream) -> UnixStream {
    // SAFETY: the descriptor is a connected Unix stream socket, and into_raw_fd gives up its ownership.
    unsafe { UnixStream::from_raw_fd(stream.into_raw_fd()) }
}

/// Moves a connected socket into this executor.
pub fn tcp_stream_of_this_executor(stream: std::net::TcpStream) -> TcpStream {
    // SAFETY: the descriptor is a connected TCP socket, and into_raw_fd gives up its ownership.
    unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) }
}

/// Runs an operation of socket2 on a stream of glommio.
fn with_socket<T>(stream: &TcpStream, operation: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
    // SAFETY: the descriptor is open for as long as the stream is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    operation(SockRef::from(&fd))
}

/// Keeps the socket from other programs; glommio's `accept` does not.
pub fn close_on_exec(stream: &TcpStream) -> io::Result<()> {
    with_socket(stream, |socket| socket.set_cloexec(true))
}

/// What connections have from a listener of ours, for those that it got when it was another's.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    with_socket(stream, |socket| prepare_connections(&socket))
}

/// The options of connections. On Linux those that are accepted have them from their listener: no system calls for each.
pub fn prepare_connections(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // Peers that vanished without closing are noticed.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(KEEPALIVE_IDLE_SECS))
        .with_interval(Duration::from_secs(KEEPALIVE_INTERVAL_SECS))
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Ends both directions at once; what waits on the socket is woken.
pub fn shutdown(stream: &TcpStream) {
    // It fails only if the peer was faster.
    let _ = with_socket(stream, |socket| socket.shutdown(std::net::Shutdown::Both));
}

/// Ends the direction to the peer, after what was written.
pub fn shutdown_write(stream: &TcpStream) {
    // It fails only if the peer was faster.
    let _ = with_socket(stream, |socket| socket.shutdown(std::net::Shutdown::Write));
}

/// Locked memory this process may have, in bytes. None: no limit.
pub fn locked_memory_limit_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit that the call fills.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The processors that this process may run on.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits, for which zeros are valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live set of the size given.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Vec::new();
    }
    let bits = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: every index is below CPU_SETSIZE.
    (0..bits).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Whether the kernel lets this process use `io_uring`, and knows what it can do (Linux 5.6). glommio asks the same, and
/// panics if the answer is no.
pub fn probe_io_uring() -> io::Result<()> {
    /// `struct io_uring_params`, of 120 bytes.
    const PARAMS_WORDS: usize = 30;
    /// `struct io_uring_probe`: 16 bytes, and 8 for each of 256 operations.
    const PROBE_WORDS: usize = 4 + 2 * 256;
    const REGISTER_PROBE: libc::c_long = 8;
    let mut params = [0_u32; PARAMS_WORDS];
    // SAFETY: the second argument is a live structure of the size that the call reads and writes.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1 as libc::c_long, params.as_mut_ptr()) };
    let ring = i32::try_from(ring).ok().filter(|ring| *ring >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call has just opened the descriptor, and nobody else has it.
    let ring = unsafe { OwnedFd::from_raw_fd(ring) };
    let mut probe = [0_u32; PROBE_WORDS];
    // SAFETY: the third argument is a live structure with room for as many operations as the fourth says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            libc::c_long::from(ring.as_raw_fd()),
            REGISTER_PROBE,
            probe.as_mut_ptr(),
            256 as libc::c_long,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
