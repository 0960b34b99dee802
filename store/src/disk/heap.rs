//! Aligned buffers of ordinary memory.

use crate::log::{BLOCK_BYTES, Buffers};

/// Bytes that begin at a multiple of the block size.
#[derive(Debug)]
pub struct HeapBuffer {
    memory: Vec<u8>,
    from: usize,
    bytes: usize,
}

impl HeapBuffer {
    pub fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + BLOCK_BYTES];
        let from = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { memory, from, bytes }
    }
}

impl AsRef<[u8]> for HeapBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(self.from..self.from + self.bytes).unwrap_or_default()
    }
}

impl AsMut<[u8]> for HeapBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.from..self.from + self.bytes).unwrap_or_default()
    }
}

/// Allocates every buffer anew; the log itself keeps those it uses often.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapBuffers;

impl Buffers for HeapBuffers {
    type Buffer = HeapBuffer;

    fn lend(&mut self, bytes: usize) -> HeapBuffer {
        HeapBuffer::new(bytes)
    }
}
