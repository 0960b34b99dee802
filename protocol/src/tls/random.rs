//! Random numbers for TLS: the system's, fetched for many handshakes at once.

use std::cell::RefCell;

use rustls::crypto::ring::default_provider;
use rustls::crypto::{GetRandomFailed, SecureRandom};
use zeroize::Zeroize;

/// A handshake takes two times 32 bytes. A system call costs as much as 200 bytes more of it.
const FETCHED_BYTES: usize = 1_024;

/// Fetched bytes: those behind `left` are given away and wiped.
struct Fetched {
    bytes: [u8; FETCHED_BYTES],
    left: usize,
}

thread_local! {
    static FETCHED: RefCell<Fetched> = const { RefCell::new(Fetched { bytes: [0; FETCHED_BYTES], left: 0 }) };
}

/// Gives every byte of the system's once.
#[derive(Debug)]
pub(super) struct FetchedRandom;

impl SecureRandom for FetchedRandom {
    fn fill(&self, to: &mut [u8]) -> Result<(), GetRandomFailed> {
        FETCHED.with_borrow_mut(|fetched| {
            if to.len() > fetched.left {
                let system = default_provider().secure_random;
                if to.len() > FETCHED_BYTES {
                    return system.fill(to);
                }
                fetched.left = 0;
                system.fill(&mut fetched.bytes)?;
                fetched.left = FETCHED_BYTES;
            }
            let start = fetched.left - to.len();
            let from = fetched.bytes.get_mut(start..fetched.left).ok_or(GetRandomFailed)?;
            to.copy_from_slice(from);
            from.zeroize();
            fetched.left = start;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_bytes_come_twice_and_none_stay_behind() {
        let mut seen = HashSet::new();
        // Lengths that do not divide what is fetched at once, and longer ones.
        for length in [32, 31, 48, FETCHED_BYTES - 1, FETCHED_BYTES, FETCHED_BYTES + 1].repeat(20) {
            let mut bytes = vec![0; length];
            FetchedRandom.fill(&mut bytes).unwrap();
            for part in bytes.as_chunks::<16>().0 {
                assert!(seen.insert(*part), "{length}");
            }
            FETCHED
                .with_borrow(|fetched| assert!(fetched.bytes[fetched.left..].iter().all(|byte| *byte == 0)));
        }
    }

    #[test]
    fn threads_have_bytes_of_their_own() {
        let take = || {
            let mut bytes = [0; 32];
            FetchedRandom.fill(&mut bytes).unwrap();
            bytes
        };
        let others = std::thread::spawn(take).join().unwrap();
        assert_ne!(take(), others);
    }
}
