//! A commit while it is put together: index pages, bodies and images in the order in which they will lie on the disk.

use super::op::Buffers;
use super::page::{BLOCK_BYTES, LogKey, PAGE_HEADER_BYTES, PageHeader, blocks_of};

/// Blocks of one write. 256 KiB: larger ones make no device faster.
pub const CHUNK_BLOCKS: u32 = 64;
pub const CHUNK_BYTES: usize = CHUNK_BLOCKS as usize * BLOCK_BYTES;
/// Blocks of one commit (4 MiB), so that one sync never waits for much more than what is one device write.
pub const COMMIT_BLOCKS_MAX: u32 = 1_024;

/// Buffers that are used again, from `Buffers` when there is none.
#[derive(Debug)]
pub struct Pool<A: Buffers> {
    buffers: A,
    free: Vec<A::Buffer>,
}

const POOL_BUFFERS_MAX: usize = 8;

impl<A: Buffers> Pool<A> {
    pub fn new(buffers: A) -> Self {
        Self { buffers, free: Vec::new() }
    }

    fn chunk(&mut self) -> A::Buffer {
        self.free.pop().unwrap_or_else(|| self.buffers.lend(CHUNK_BYTES))
    }

    /// A buffer of another size.
    pub fn lend(&mut self, bytes: usize) -> A::Buffer {
        self.buffers.lend(bytes)
    }

    pub fn give_back(&mut self, buffer: A::Buffer) {
        if self.free.len() < POOL_BUFFERS_MAX && buffer.as_ref().len() >= CHUNK_BYTES {
            self.free.push(buffer);
        }
    }
}

#[derive(Debug)]
pub struct Pending<Buf> {
    pub number: u64,
    /// In the table of segments.
    pub segment: u32,
    pub sequence: u32,
    /// Where the commit begins in its segment.
    pub start: u32,
    pub blocks: u32,
    pub end_lsn: u64,
    pages: Vec<Draft>,
    chunks: Vec<Buf>,
}

/// A page to be.
#[derive(Debug)]
struct Draft {
    /// From the start of the commit.
    at: u32,
    used: usize,
    records: u16,
    first_lsn: u64,
}

impl<Buf: AsRef<[u8]> + AsMut<[u8]>> Pending<Buf> {
    pub fn new<A: Buffers<Buffer = Buf>>(
        number: u64,
        (segment, sequence, start): (u32, u32, u32),
        lsn: u64,
        pool: &mut Pool<A>,
    ) -> Self {
        let mut commit = Self {
            number,
            segment,
            sequence,
            start,
            blocks: 0,
            end_lsn: lsn,
            pages: Vec::new(),
            chunks: Vec::new(),
        };
        commit.add_page(pool);
        commit
    }

    /// The block behind the commit.
    pub fn end(&self) -> u32 {
        self.start + self.blocks
    }

    /// Bytes of the last page that are in use.
    pub fn page_bytes(&self) -> usize {
        self.pages.last().map_or(BLOCK_BYTES, |page| page.used)
    }

    /// Adds a record and, behind its page, the blocks that belong to it. Gives the block where they begin.
    pub fn push<A: Buffers<Buffer = Buf>>(
        &mut self,
        record: &[u8],
        extent: &[u8],
        pool: &mut Pool<A>,
    ) -> u32 {
        if self.page_bytes() + record.len() > BLOCK_BYTES {
            self.add_page(pool);
        }
        let lsn = self.end_lsn;
        self.end_lsn += 1;
        if let Some(page) = self.pages.last_mut() {
            let (at, used) = (page.at, page.used);
            if page.records == 0 {
                page.first_lsn = lsn;
            }
            page.used += record.len();
            page.records += 1;
            if let Some(place) = self.block_mut(at).and_then(|block| block.get_mut(used..used + record.len()))
            {
                place.copy_from_slice(record);
            }
        }
        let at = self.end();
        for piece in extent.chunks(BLOCK_BYTES) {
            let block = self.add_block(pool);
            if let Some(block) = self.block_mut(block) {
                let (head, rest) = block.split_at_mut(piece.len());
                head.copy_from_slice(piece);
                rest.fill(0);
            }
        }
        debug_assert_eq!(self.end(), at + blocks_of(extent.len()));
        at
    }

    fn add_page<A: Buffers<Buffer = Buf>>(&mut self, pool: &mut Pool<A>) {
        let at = self.add_block(pool);
        if let Some(block) = self.block_mut(at) {
            block.fill(0);
        }
        self.pages.push(Draft { at, used: PAGE_HEADER_BYTES, records: 0, first_lsn: self.end_lsn });
    }

    fn add_block<A: Buffers<Buffer = Buf>>(&mut self, pool: &mut Pool<A>) -> u32 {
        if self.blocks.is_multiple_of(CHUNK_BLOCKS) {
            self.chunks.push(pool.chunk());
        }
        let at = self.blocks;
        self.blocks += 1;
        at
    }

    fn block_mut(&mut self, at: u32) -> Option<&mut [u8]> {
        let chunk = self.chunks.get_mut((at / CHUNK_BLOCKS) as usize)?;
        let from = (at % CHUNK_BLOCKS) as usize * BLOCK_BYTES;
        chunk.as_mut().get_mut(from..from + BLOCK_BYTES)
    }

    /// Completes the pages.
    pub fn finish(&mut self, log: LogKey, salt: u64, durable_through: u64) {
        let pages = std::mem::take(&mut self.pages);
        for (n, page) in pages.iter().enumerate() {
            let next = pages.get(n + 1).map_or(0, |next| next.at - page.at);
            let header = PageHeader {
                salt,
                log,
                sequence: self.sequence,
                block: self.start + page.at,
                commit: self.number,
                durable_through,
                first_lsn: page.first_lsn,
                // A commit has at most 1,024 blocks, a page 4,096 bytes.
                page: u16::try_from(n).unwrap_or(u16::MAX),
                pages: u16::try_from(pages.len()).unwrap_or(u16::MAX),
                next_page_blocks: next,
                commit_blocks: self.blocks,
                records: page.records,
                used: u16::try_from(page.used).unwrap_or(u16::MAX),
            };
            if let Some(block) = self.block_mut(page.at) {
                header.encode(block);
            }
        }
        self.pages = pages;
    }

    /// The blocks of the segment that are index pages.
    pub fn page_blocks(&self) -> impl Iterator<Item = u32> {
        self.pages.iter().map(|page| self.start + page.at)
    }

    /// The writes of the commit: block of the segment, buffer, bytes.
    pub fn into_writes(self) -> impl Iterator<Item = (u32, Buf, usize)> {
        let (start, blocks) = (self.start, self.blocks);
        (0..).step_by(CHUNK_BLOCKS as usize).zip(self.chunks).map(move |(at, buffer)| {
            let count = (blocks - at).min(CHUNK_BLOCKS);
            (start + at, buffer, count as usize * BLOCK_BYTES)
        })
    }
}
