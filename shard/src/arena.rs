//! Where 16 KB blocks come from.
//!
//! A connection borrows a [`Block`] when bytes arrive and gives it back when they are processed, so an idle connection
//! holds none. Blocks lent to a shard's connections count against its cap; a block that leaves (to another shard, or to
//! be the body of a stored message) is detached and counts where it goes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// A buffer holds a transport block of 16,384 bytes, its TLS record header and trailer (22 bytes), and room to shift
/// the window of the block within it.
pub const BUFFER_BYTES: usize = 33 * 512;

type Buffer = Box<[u8; BUFFER_BYTES]>;

#[derive(Debug)]
pub struct Arena {
    free: RefCell<Vec<Buffer>>,
    lent: Cell<usize>,
    lent_max: usize,
    free_max: usize,
    refused: Cell<u64>,
}

impl Arena {
    /// An arena that lends at most `lent_max` blocks, and keeps at most `free_max` unused ones.
    pub fn new(lent_max: usize, free_max: usize) -> Rc<Self> {
        Rc::new(Self {
            free: RefCell::new(Vec::new()),
            lent: Cell::new(0),
            lent_max,
            free_max,
            refused: Cell::new(0),
        })
    }

    /// A block with arbitrary content, or None at the cap.
    pub fn lend(self: &Rc<Self>) -> Option<Block> {
        if self.is_exhausted() {
            self.refused.set(self.refused.get() + 1);
            return None;
        }
        Some(self.lend_above_cap())
    }

    /// A block even at the cap, for work that must end (a command that was accepted gets its answer).
    pub fn lend_above_cap(self: &Rc<Self>) -> Block {
        let buffer = self.free.borrow_mut().pop().unwrap_or_else(new_buffer);
        self.count(buffer)
    }

    /// Counts a detached block that this shard's connections hold: on its way to a queue, or in an outbox. Allowed at the
    /// cap, since such blocks are bounded by their own rules; while they are many, [`lend`](Self::lend) waits.
    pub fn charge(self: &Rc<Self>) -> Charge {
        self.lent.set(self.lent.get() + 1);
        Charge(Rc::clone(self))
    }

    /// Whether [`lend`](Self::lend) would give none.
    pub fn is_exhausted(&self) -> bool {
        self.lent.get() >= self.lent_max
    }

    /// How many blocks [`lend`](Self::lend) would give.
    pub fn left(&self) -> usize {
        self.lent_max.saturating_sub(self.lent.get())
    }

    /// Gives the memory of a detached block to the next reader.
    pub fn recycle(&self, block: Detached) {
        self.keep(block.0);
    }

    pub fn lent(&self) -> usize {
        self.lent.get()
    }

    /// How often the cap was reached.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    fn count(self: &Rc<Self>, buffer: Buffer) -> Block {
        self.lent.set(self.lent.get() + 1);
        Block { buffer: Some(buffer), arena: Rc::clone(self) }
    }

    fn keep(&self, buffer: Buffer) {
        let mut free = self.free.borrow_mut();
        if free.len() < self.free_max {
            free.push(buffer);
        }
    }
}

fn new_buffer() -> Buffer {
    // Through a Vec: a boxed array expression may be built on the stack first.
    match vec![0; BUFFER_BYTES].into_boxed_slice().try_into() {
        Ok(buffer) => buffer,
        Err(_) => unreachable!("the slice was made with this length"),
    }
}

/// A block lent by a shard's arena; it goes back when dropped.
pub struct Block {
    buffer: Option<Buffer>,
    arena: Rc<Arena>,
}

impl Block {
    /// Takes the block out of its arena's count, to move it to another thread or to store it.
    pub fn detach(mut self) -> Detached {
        match self.buffer.take() {
            Some(buffer) => {
                self.arena.lent.set(self.arena.lent.get() - 1);
                Detached(buffer)
            }
            None => unreachable!("only drop and detach take the buffer, and both end the block"),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.arena.lent.set(self.arena.lent.get() - 1);
            self.arena.keep(buffer);
        }
    }
}

impl Deref for Block {
    type Target = [u8; BUFFER_BYTES];

    fn deref(&self) -> &Self::Target {
        match &self.buffer {
            Some(buffer) => buffer,
            None => unreachable!("only drop and detach take the buffer, and both end the block"),
        }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match &mut self.buffer {
            Some(buffer) => buffer,
            None => unreachable!("only drop and detach take the buffer, and both end the block"),
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Block")
    }
}

/// Stands for a detached block that counts as lent, until it is dropped.
#[derive(Debug)]
pub struct Charge(Rc<Arena>);

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.lent.set(self.0.lent.get() - 1);
    }
}

/// A block that no arena counts by itself.
pub struct Detached(Buffer);

impl Deref for Detached {
    type Target = [u8; BUFFER_BYTES];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Detached {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Detached")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_when_dropped_and_the_cap_holds() {
        let arena = Arena::new(2, 1);
        let one = arena.lend().unwrap();
        let two = arena.lend().unwrap();
        assert!(arena.lend().is_none());
        assert_eq!(arena.refused(), 1);
        drop(one);
        let three = arena.lend().unwrap();
        drop(two);
        drop(three);
        assert_eq!(arena.lent(), 0);
        assert_eq!(arena.free.borrow().len(), 1);
    }

    #[test]
    fn a_detached_block_counts_where_it_goes() {
        let (here, there) = (Arena::new(1, 1), Arena::new(0, 1));
        let mut block = here.lend().unwrap();
        block[7] = 9;
        let detached = block.detach();
        assert_eq!(here.lent(), 0);
        assert_eq!(detached[7], 9);
        let charge = there.charge();
        assert_eq!(there.lent(), 1);
        assert!(there.is_exhausted() && there.lend().is_none());
        there.recycle(detached);
        drop(charge);
        assert_eq!(there.lent(), 0);
    }
}
