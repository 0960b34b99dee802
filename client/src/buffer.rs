//! Buffers for what is about as large as a block, used again after they are dropped.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use ringpost_protocol::limits::BLOCK_BYTES;

/// Free buffers kept by the process: 4 MiB.
const FREE_MAX: usize = 256;
/// Buffers that grew beyond this are not kept.
const KEPT_BYTES_MAX: usize = 2 * BLOCK_BYTES;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A byte vector that goes back to the process' pool when dropped.
#[derive(Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// Empty, with room for a block.
    pub(crate) fn of_block() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(free.unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES)))
    }

    /// Empty and without any room yet: for short transmissions.
    pub(crate) fn small() -> Self {
        Self(Vec::new())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if (BLOCK_BYTES..=KEPT_BYTES_MAX).contains(&self.0.capacity()) {
            let mut buffer = mem::take(&mut self.0);
            buffer.clear();
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < FREE_MAX {
                free.push(buffer);
            }
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty() {
        for _ in 0..1000 {
            let mut buffer = Buffer::of_block();
            assert!(buffer.is_empty() && buffer.capacity() >= BLOCK_BYTES);
            buffer.extend_from_slice(&[1; 100]);
        }
    }

    #[test]
    fn the_pool_is_bounded() {
        let many: Vec<_> = (0..2 * FREE_MAX).map(|_| Buffer::of_block()).collect();
        drop(many);
        assert!(FREE.lock().unwrap_or_else(PoisonError::into_inner).len() <= FREE_MAX);
        drop(Buffer(Vec::with_capacity(KEPT_BYTES_MAX + 1)));
        drop(Buffer::small());
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(free.iter().all(|buffer| buffer.capacity() <= KEPT_BYTES_MAX));
    }
}
