//! Transport blocks of a session: "SMP Transmission and transport block structure".
//!
//! ```text
//! plain      [length 2][content][#...]                16,384 bytes
//! encrypted  [tag 16][length 2][content][#...]        16,384 bytes; all behind the tag is sealed
//! ```
//!
//! Content is written and read where it lies in the block; nothing is copied.

use std::ops::Range;

use super::boxes::{open_in_place, seal_in_place};
use super::chain::BlockChain;
use super::dh::DhSecret;
use super::{OpenError, TooLarge};
use crate::encoding::{pad_in_place, unpad};
use crate::limits::{BLOCK_BYTES, PAD_LENGTH_BYTES, TAG_BYTES};

/// Seals the blocks that one side of a session sends.
#[derive(Debug)]
pub struct BlockSealer(Option<BlockChain>);

/// Opens the blocks that the other side of a session sends.
#[derive(Debug)]
pub struct BlockOpener(Option<BlockChain>);

/// Both directions of a session.
#[derive(Debug)]
pub struct BlockCipher {
    sealer: BlockSealer,
    opener: BlockOpener,
}

impl BlockCipher {
    /// Padded blocks without encryption: below version 11, for clients without a key, and for the hello
    /// blocks.
    pub fn plain() -> Self {
        Self { sealer: BlockSealer(None), opener: BlockOpener(None) }
    }

    /// The router's side of an encrypted session.
    pub fn router(session_id: &[u8], secret: &DhSecret) -> Self {
        let chains = BlockChain::pair(session_id, secret);
        Self {
            sealer: BlockSealer(Some(chains.router_sends)),
            opener: BlockOpener(Some(chains.client_sends)),
        }
    }

    /// The client's side of an encrypted session.
    pub fn client(session_id: &[u8], secret: &DhSecret) -> Self {
        let chains = BlockChain::pair(session_id, secret);
        Self {
            sealer: BlockSealer(Some(chains.client_sends)),
            opener: BlockOpener(Some(chains.router_sends)),
        }
    }

    /// The two directions, for a reader and a writer that run apart.
    pub fn split(self) -> (BlockSealer, BlockOpener) {
        (self.sealer, self.opener)
    }

    /// See [`BlockSealer::content_offset`].
    pub fn content_offset(&self) -> usize {
        self.sealer.content_offset()
    }

    /// See [`BlockSealer::content_bytes_max`].
    pub fn content_bytes_max(&self) -> usize {
        self.sealer.content_bytes_max()
    }

    /// See [`BlockSealer::seal`].
    pub fn seal(&mut self, block: &mut [u8; BLOCK_BYTES], content_len: usize) -> Result<(), TooLarge> {
        self.sealer.seal(block, content_len)
    }

    /// See [`BlockOpener::open`].
    pub fn open(&mut self, block: &mut [u8]) -> Result<Range<usize>, OpenError> {
        self.opener.open(block)
    }
}

impl BlockSealer {
    /// Where the content starts in a block: write it there before [`Self::seal`].
    pub fn content_offset(&self) -> usize {
        tag_bytes(self.0.as_ref()) + PAD_LENGTH_BYTES
    }

    /// How much content fits: 16,382 bytes in a plain block, 16,366 in an encrypted one.
    pub fn content_bytes_max(&self) -> usize {
        BLOCK_BYTES - self.content_offset()
    }

    /// Makes `block` ready to send. Its content of `content_len` bytes stands at [`Self::content_offset`];
    /// the length, the filler and, in an encrypted session, the tag are written around it and everything is
    /// encrypted in place. On an error neither the block nor the chain has changed.
    pub fn seal(&mut self, block: &mut [u8; BLOCK_BYTES], content_len: usize) -> Result<(), TooLarge> {
        let (_, padded) = block.split_at_mut(tag_bytes(self.0.as_ref()));
        pad_in_place(padded, content_len)?;
        if let Some(chain) = &mut self.0 {
            let (key, nonce) = chain.next();
            seal_in_place(&key, &nonce, block);
        }
        Ok(())
    }
}

impl BlockOpener {
    /// Opens a received block where it is, and says where its content lies. After an error the session must
    /// be closed.
    pub fn open(&mut self, block: &mut [u8]) -> Result<Range<usize>, OpenError> {
        if block.len() != BLOCK_BYTES {
            return Err(OpenError::Size(block.len()));
        }
        let tag_bytes = tag_bytes(self.0.as_ref());
        let padded = match &mut self.0 {
            None => block,
            Some(chain) => {
                let (key, nonce) = chain.next();
                open_in_place(&key, &nonce, block)?
            }
        };
        let content_bytes = unpad(padded).map_err(|_| OpenError::Padding)?.len();
        let start = tag_bytes + PAD_LENGTH_BYTES;
        Ok(start..start + content_bytes)
    }
}

fn tag_bytes(chain: Option<&BlockChain>) -> usize {
    if chain.is_some() { TAG_BYTES } else { 0 }
}
