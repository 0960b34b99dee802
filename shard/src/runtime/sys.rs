//! The few calls that others do not have in a safe form.
#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::executor::Stream;
use crate::limits::{KEEPALIVE_IDLE_SECS, KEEPALIVE_INTERVAL_SECS, KEEPALIVE_PROBES};

/// What connections have from a listener of ours, for those that it got when it was another's.
pub fn prepare(stream: &Stream) -> io::Result<()> {
    prepare_connections(&SockRef::from(stream))
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
pub fn shutdown(stream: &Stream) {
    // It fails only if the peer was faster.
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Both);
}

/// Ends the direction to the peer, after what was written.
pub fn shutdown_write(stream: &Stream) {
    // It fails only if the peer was faster.
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
}

/// Locked memory this process may have, in bytes. None: no limit.
pub fn locked_memory_limit_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit that the call fills.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Keeps this thread on one processor; where that is not allowed the system chooses.
pub fn pin_to(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    let _ = rustix::thread::sched_setaffinity(None, &set);
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
