//! What a running router spends, by kind of work: from `perf`, where the machine lets us use it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Outcome;

/// Kinds of work that a profile can tell apart by the names of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// ChaCha20-Poly1305 of TLS records, XSalsa20-Poly1305 of blocks and messages: with AVX-512 they share functions.
    Ciphers,
    /// Hashes of messages, and key chains.
    Sha512,
    Ed25519,
    X25519,
    Checksum,
    Kernel,
    /// Copies and zeros.
    Copies,
    Allocator,
    /// The executor and its rings.
    Runtime,
    /// Parsing, queues, sessions, packing: the router's own code, and all that has no other name.
    Own,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ciphers => "TLS records and boxes",
            Self::Sha512 => "SHA-512",
            Self::Ed25519 => "Ed25519",
            Self::X25519 => "X25519",
            Self::Checksum => "log checksum",
            Self::Kernel => "kernel",
            Self::Copies => "copies",
            Self::Allocator => "allocator",
            Self::Runtime => "runtime",
            Self::Own => "the router's own code",
        }
    }

    pub const ALL: [Self; 10] = [
        Self::Ciphers,
        Self::Sha512,
        Self::Ed25519,
        Self::X25519,
        Self::Checksum,
        Self::Kernel,
        Self::Copies,
        Self::Allocator,
        Self::Runtime,
        Self::Own,
    ];

    /// Of a function, by its name. The field of crrl is that of keys with tables here; Ed448 and X448 are not in the loads.
    fn of(symbol: &str, is_kernel: bool) -> Self {
        let symbol = symbol.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| symbol.contains(part));
        match () {
            () if is_kernel => Self::Kernel,
            () if has(&["ring_core", "ring::"]) && has(&["chacha", "poly1305", "aead"]) => Self::Ciphers,
            () if has(&["x25519"]) => Self::X25519,
            () if has(&["ed25519", "edwards", "curve25519_dalek", "ge25519", "crrl::"]) => Self::Ed25519,
            () if has(&["salsa20", "poly1305", "secretbox", "crypto::avx512"]) => Self::Ciphers,
            () if has(&["sha512"]) => Self::Sha512,
            () if has(&["crc32c"]) => Self::Checksum,
            () if has(&["memcpy", "memmove", "memset", "memcmp", "bcmp"]) => Self::Copies,
            () if has(&["mi_", "malloc", "__rust_alloc", "__rust_dealloc"]) => Self::Allocator,
            () if has(&["ringpost_shard::executor", "async_task", "io_uring", "uring_", "futures_lite"]) => {
                Self::Runtime
            }
            () => Self::Own,
        }
    }
}

/// A profile that is being taken.
#[derive(Debug)]
pub struct Profiler {
    perf: Child,
    file: PathBuf,
}

impl Profiler {
    /// Watches a process. None where `perf` is not installed.
    pub fn start(pid: u32, folder: &Path) -> Option<Self> {
        let file = folder.join("perf.data");
        let perf = Command::new("perf")
            .args(["record", "--freq", "999", "--pid", &pid.to_string(), "--output"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { perf, file })
    }

    /// The share of each kind, in all that the process spent. Fails where the kernel lets nobody look.
    pub fn finish(mut self) -> Outcome<BTreeMap<Kind, f64>> {
        let pid = rustix::process::Pid::from_child(&self.perf);
        // It writes its file when it is interrupted; it may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        self.perf.wait()?;
        let report = Command::new("perf")
            .args(["report", "--stdio", "--no-children", "--fields", "overhead,sym", "--input"])
            .arg(&self.file)
            .output()?;
        let shares = shares(&String::from_utf8_lossy(&report.stdout));
        if shares.is_empty() {
            return Err(
                "perf shows nothing of the router: no permission, or no counters on this machine".into()
            );
        }
        Ok(shares)
    }
}

/// The shares in a report with the columns overhead and symbol.
fn shares(report: &str) -> BTreeMap<Kind, f64> {
    let mut shares = BTreeMap::new();
    let lines = report.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    for (percent, symbol) in lines.filter_map(|line| line.split_once('%')) {
        let Ok(percent) = percent.trim().parse::<f64>() else { continue };
        let symbol = symbol.trim();
        let is_kernel = symbol.starts_with("[k]");
        *shares.entry(Kind::of(symbol, is_kernel)).or_insert(0.0) += percent / 100.0;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_told_apart_by_their_names() {
        let report = "\
# Overhead  Symbol
#
    20.00%  [.] ring_core_0_17_14__chacha20_poly1305_seal_avx2
     6.00%  [.] salsa20_encrypt_bytes
     9.00%  [.] ringpost_protocol::crypto::avx512::stream::add_blocks
     5.00%  [.] poly1305_blocks
    10.50%  [.] sha2::sha512::x86::sha512_compress_x86_64_avx2
     5.50%  [.] curve25519_dalek::backend::vector::scalar_mul::vartime_double_base::spec_avx2::mul
     3.00%  [.] ringpost_protocol::crypto::edwards25519::ifma::tables::combination
     1.00%  [.] crrl::backend::w64::gf255_m64::GF255<_>::set_div
    12.00%  [k] tcp_sendmsg_locked
     8.00%  [k] copy_user_generic
     4.00%  [.] __memmove_avx_unaligned_erms
     0.25%  [.] aws_lc_0_47_0_curve25519_x25519_byte
     0.25%  [.] aws_lc_0_47_0_curve25519_x25519base_byte
     0.50%  [.] aws_lc_0_47_0_x25519_public_from_private_s2n_bignum
     1.00%  [.] crc32c::hw_x86_64::crc32c
     2.00%  [.] mi_malloc_aligned
     3.00%  [.] ringpost_shard::executor::tasks::Tasks::run
     9.00%  [.] ringpost_shard::service::Service<L>::turn
";
        let shares = shares(report);
        let share = |kind| shares.get(&kind).copied().unwrap_or(0.0);
        for (kind, percent) in [
            (Kind::Ciphers, 40.0),
            (Kind::Sha512, 10.5),
            (Kind::Ed25519, 9.5),
            (Kind::Kernel, 20.0),
            (Kind::Copies, 4.0),
            (Kind::X25519, 1.0),
            (Kind::Checksum, 1.0),
            (Kind::Allocator, 2.0),
            (Kind::Runtime, 3.0),
            (Kind::Own, 9.0),
        ] {
            assert!((share(kind) * 100.0 - percent).abs() < 1e-6, "{kind:?}: {}", share(kind));
        }
        assert!(super::shares("").is_empty());
    }
}
