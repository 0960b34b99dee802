//! Transmissions in blocks: which of them go together, and a block that is filled in its place.

use std::ops::Range;

use super::write::write_response_head;
use super::{Format, write_response};
use crate::encoding::Sink;
use crate::limits::{BATCH_TRANSMISSIONS_MAX, BLOCK_CONTENT_BYTES};
use crate::response::Response;

/// The length in front of each transmission.
const LENGTH_BYTES: usize = 2;
/// The count in front of all.
const COUNT_BYTES: usize = 1;

/// A step of sending a list of transmissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// These, in order, make one block.
    Transmissions(Range<usize>),
    /// This one fits no block.
    TooLarge(usize),
}

/// Divides transmissions of these sizes, each with its length of two bytes, into blocks, in sending order.
///
/// As in the reference, blocks are filled from the end of the list, so it is the first one that may be small.
pub fn plan_batches(sizes: &[usize]) -> Vec<Batch> {
    let mut plan = Vec::new();
    let mut block = sizes.len()..sizes.len();
    let mut block_bytes = 0;
    let close = |block: &Range<usize>, plan: &mut Vec<Batch>| {
        if !block.is_empty() {
            plan.push(Batch::Transmissions(block.clone()));
        }
    };
    for (index, &size) in sizes.iter().enumerate().rev() {
        if size > BLOCK_CONTENT_BYTES {
            close(&block, &mut plan);
            plan.push(Batch::TooLarge(index));
            block = index..index;
            block_bytes = 0;
        } else if block_bytes + size <= BLOCK_CONTENT_BYTES && block.len() < BATCH_TRANSMISSIONS_MAX {
            block.start = index;
            block_bytes += size;
        } else {
            close(&block, &mut plan);
            block = index..index + 1;
            block_bytes = size;
        }
    }
    close(&block, &mut plan);
    plan.reverse();
    plan
}

/// Why a block does not take a transmission. Its content is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("no room left in the block")]
    BlockFull,
    #[error("larger than a block")]
    TooLarge,
}

/// Fills the content of a block in its place: count, then each transmission after its length. Allocates nothing,
/// and its content is valid after each step.
#[derive(Debug)]
pub struct BlockBuilder<'b> {
    content: &'b mut [u8],
    used: usize,
    count: u8,
    format: Format,
    session_id: &'b [u8],
}

impl<'b> BlockBuilder<'b> {
    /// `content` is what follows the padding length in the block; of it at most [`BLOCK_CONTENT_BYTES`] and the
    /// count are used.
    pub fn new(content: &'b mut [u8], format: Format, session_id: &'b [u8]) -> Self {
        let end = content.len().min(COUNT_BYTES + BLOCK_CONTENT_BYTES);
        let content = &mut content[..end];
        Self { content, used: 0, count: 0, format, session_id }
    }

    /// Number of transmissions.
    pub fn count(&self) -> usize {
        self.count.into()
    }

    /// Whether there is no transmission yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of content so far: 0, or all of the count, lengths and transmissions.
    pub fn content_bytes(&self) -> usize {
        self.used
    }

    /// The largest transmission, without its length, that still fits.
    pub fn room(&self) -> usize {
        if self.count() == BATCH_TRANSMISSIONS_MAX {
            return 0;
        }
        self.content.len().saturating_sub(self.next_start())
    }

    /// Where the next transmission begins, after the count and its length.
    fn next_start(&self) -> usize {
        self.used.max(COUNT_BYTES) + LENGTH_BYTES
    }

    /// Adds a response.
    pub fn push_response(
        &mut self,
        corr_id: &[u8],
        entity_id: &[u8],
        response: &Response<'_>,
    ) -> Result<(), Refused> {
        let (format, session_id) = (self.format, self.session_id);
        self.push(|out| write_response(format, session_id, corr_id, entity_id, response, out))?;
        Ok(())
    }

    /// Adds a MSG and returns the place of its encrypted body, so that the message can be sealed there. The caller
    /// must fill all of it: it holds what the block held before.
    pub fn push_message(
        &mut self,
        corr_id: &[u8],
        entity_id: &[u8],
        msg_id: &[u8],
        body_bytes: usize,
    ) -> Result<&mut [u8], Refused> {
        let (format, session_id) = (self.format, self.session_id);
        let transmission = self.push(|out| {
            write_response_head(format, session_id, corr_id, entity_id, out);
            Response::Msg { msg_id, body: &[] }.encode(format.version, out);
            out.skip(body_bytes);
        })?;
        Ok(&mut self.content[transmission.end - body_bytes..transmission.end])
    }

    /// Adds a transmission that is already encoded, without its length.
    pub fn push_transmission(&mut self, transmission: &[u8]) -> Result<(), Refused> {
        self.push(|out| out.put(transmission))?;
        Ok(())
    }

    /// Returns the place of the transmission in the content.
    fn push(&mut self, write: impl FnOnce(&mut SliceSink<'_>)) -> Result<Range<usize>, Refused> {
        let start = self.next_start();
        let mut sink = SliceSink { place: self.content.get_mut(start..).unwrap_or_default(), wanted: 0 };
        write(&mut sink);
        let wanted = sink.wanted;
        if LENGTH_BYTES + wanted > BLOCK_CONTENT_BYTES {
            return Err(Refused::TooLarge);
        }
        let length = u16::try_from(wanted).map_err(|_| Refused::TooLarge)?;
        if start + wanted > self.content.len() || self.count() == BATCH_TRANSMISSIONS_MAX {
            return Err(Refused::BlockFull);
        }
        self.content[start - LENGTH_BYTES..start].copy_from_slice(&length.to_be_bytes());
        self.count += 1;
        self.content[0] = self.count;
        self.used = start + wanted;
        Ok(start..self.used)
    }
}

/// Writes as long as there is place, and counts what was wanted.
struct SliceSink<'p> {
    place: &'p mut [u8],
    wanted: usize,
}

impl SliceSink<'_> {
    /// Leaves a gap.
    fn skip(&mut self, bytes: usize) {
        self.wanted = self.wanted.saturating_add(bytes);
    }
}

impl Sink for SliceSink<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let start = self.wanted;
        self.skip(bytes.len());
        if let Some(place) = self.place.get_mut(start..self.wanted) {
            place.copy_from_slice(bytes);
        }
    }
}
