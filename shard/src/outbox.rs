//! What waits to be written to one connection, and how it is packed into blocks.
//!
//! Order is kept. Responses are gathered until a block is full or a message comes; a message's block also takes the
//! responses in front of it and behind it that fit, so that an acknowledgement's answer, a subscription's answer and a
//! message share a block.

use std::collections::VecDeque;
use std::ops::Range;

use ringpost_protocol::limits::{BATCH_TRANSMISSIONS_MAX, BLOCK_BYTES, BLOCK_CONTENT_BYTES};

use crate::arena::{Charge, Detached};
use crate::service::OutMessage;

#[derive(Debug)]
enum Item {
    /// Transmissions with their 2-byte lengths, the first one at the offset.
    Responses { bytes: Vec<u8>, at: usize },
    Message {
        message: OutMessage,
        credit_home: usize,
        /// Counts the block as held by the connection's shard.
        charge: Charge,
    },
}

#[derive(Debug, Default)]
pub struct Outbox {
    items: VecDeque<Item>,
    response_bytes: usize,
    messages: usize,
}

/// A block that is composed, not yet sealed.
#[derive(Debug)]
pub enum Composed {
    /// In the caller's buffer.
    Small { content_len: usize },
    /// In the message's buffer: the block begins at `block_at`.
    Message { buffer: Detached, block_at: usize, content_len: usize, credit_home: usize },
}

impl Outbox {
    /// Adds transmissions, each with its 2-byte length.
    pub fn push_responses(&mut self, responses: Vec<u8>) {
        self.response_bytes += responses.len();
        match self.items.back_mut() {
            // An item is freed when all of it is written, so it must not grow for ever behind a slow reader.
            Some(Item::Responses { bytes, .. }) if bytes.len() < BLOCK_BYTES => {
                bytes.extend_from_slice(&responses);
            }
            _ if responses.is_empty() => {}
            _ => self.items.push_back(Item::Responses { bytes: responses, at: 0 }),
        }
    }

    /// Adds a message. The credit it used belongs to the shard `credit_home`.
    pub fn push_message(&mut self, message: OutMessage, credit_home: usize, charge: Charge) {
        self.messages += 1;
        self.items.push_back(Item::Message { message, credit_home, charge });
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn response_bytes(&self) -> usize {
        self.response_bytes
    }

    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Composes the next block. `content_offset` is where a block's content begins, which depends on its encryption.
    /// A block of responses is written to `small`.
    pub fn compose(&mut self, small: &mut [u8; BLOCK_BYTES], content_offset: usize) -> Option<Composed> {
        let first_at = content_offset + 1;
        let mut count = 0;
        let mut len = self.take_responses(&mut small[first_at..], BLOCK_CONTENT_BYTES, &mut count);
        let fits = match self.items.front() {
            Some(Item::Message { message, .. }) => {
                len + message.range().len() <= BLOCK_CONTENT_BYTES && count < BATCH_TRANSMISSIONS_MAX
            }
            _ => false,
        };
        if !fits {
            if count == 0 {
                return None;
            }
            small[content_offset] = u8::try_from(count).ok()?;
            return Some(Composed::Small { content_len: 1 + len });
        }
        let Some(Item::Message { message, credit_home, charge }) = self.items.pop_front() else {
            return None;
        };
        self.messages -= 1;
        drop(charge);
        count += 1;
        let Range { start, end } = message.range();
        let mut buffer = message.block;
        let content_at = start - len;
        buffer[content_at..start].copy_from_slice(&small[first_at..first_at + len]);
        len += end - start;
        len += self.take_responses(&mut buffer[end..], BLOCK_CONTENT_BYTES - len, &mut count);
        buffer[content_at - 1] = u8::try_from(count).ok()?;
        Some(Composed::Message {
            buffer,
            block_at: content_at - 1 - content_offset,
            content_len: 1 + len,
            credit_home,
        })
    }

    /// Moves responses from the front while they fit into `room` bytes. Gives the bytes moved.
    fn take_responses(&mut self, to: &mut [u8], room: usize, count: &mut usize) -> usize {
        let mut moved = 0;
        while let Some(Item::Responses { bytes, at }) = self.items.front_mut() {
            let from = *at;
            let mut to_here = from;
            while *count < BATCH_TRANSMISSIONS_MAX {
                let Some(&[high, low]) = bytes.get(to_here..to_here + 2) else { break };
                let next = to_here + 2 + usize::from(u16::from_be_bytes([high, low]));
                if moved + (next - from) > room || next > bytes.len() {
                    break;
                }
                to_here = next;
                *count += 1;
            }
            let part = to_here - from;
            to[moved..moved + part].copy_from_slice(&bytes[from..to_here]);
            moved += part;
            self.response_bytes -= part;
            if to_here < bytes.len() {
                *at = to_here;
                return moved;
            }
            self.items.pop_front();
        }
        moved
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::service::MSG_BODY_AT;
    use ringpost_protocol::limits::DELIVERY_ENCRYPTED_BYTES;

    fn response(fill: u8, len: u16) -> Vec<u8> {
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.resize(2 + usize::from(len), fill);
        bytes
    }

    /// A message whose transmission has 60 bytes in front of the encrypted body, its length included.
    fn message(fill: u8) -> OutMessage {
        let mut block = Arena::new(1, 1).lend().unwrap().detach();
        let (start, end) = (MSG_BODY_AT - 60, MSG_BODY_AT + DELIVERY_ENCRYPTED_BYTES);
        block[start..end].fill(fill);
        let len = u16::try_from(end - start - 2).unwrap();
        block[start..start + 2].copy_from_slice(&len.to_be_bytes());
        OutMessage { block, start: u16::try_from(start).unwrap() }
    }

    /// First bytes of the bodies of all transmissions in a block, and whether it held a message.
    fn next(outbox: &mut Outbox, offset: usize) -> Option<(Vec<u8>, bool)> {
        let mut small = Box::new([0; BLOCK_BYTES]);
        let (content, is_message) = match outbox.compose(&mut small, offset)? {
            Composed::Small { content_len } => (small[offset..offset + content_len].to_vec(), false),
            Composed::Message { buffer, block_at, content_len, .. } => {
                let block = &buffer[block_at..block_at + BLOCK_BYTES];
                (block[offset..offset + content_len].to_vec(), true)
            }
        };
        assert!(content.len() <= 1 + BLOCK_CONTENT_BYTES);
        let mut rest = &content[1..];
        let mut fills = Vec::new();
        while !rest.is_empty() {
            let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            fills.push(rest[2]);
            rest = &rest[2 + len..];
        }
        assert_eq!(usize::from(content[0]), fills.len());
        Some((fills, is_message))
    }

    #[test]
    fn a_message_takes_the_responses_that_fit_around_it() {
        for offset in [2, 18] {
            let mut outbox = Outbox::default();
            outbox.push_responses(response(1, 55));
            outbox.push_message(message(2), 0, Arena::new(1, 0).charge());
            outbox.push_responses(response(3, 55));
            outbox.push_responses(response(4, 200));
            assert_eq!(next(&mut outbox, offset), Some((vec![1, 2, 3], true)));
            assert_eq!(next(&mut outbox, offset), Some((vec![4], false)));
            assert_eq!(next(&mut outbox, offset), None);
            assert!(outbox.is_empty());
            assert_eq!((outbox.response_bytes(), outbox.messages()), (0, 0));
        }
    }

    #[test]
    fn what_does_not_fit_in_front_goes_first() {
        let mut outbox = Outbox::default();
        for fill in 0..5 {
            outbox.push_responses(response(fill, 55));
        }
        outbox.push_message(message(9), 0, Arena::new(1, 0).charge());
        assert_eq!(next(&mut outbox, 18), Some((vec![0, 1, 2, 3, 4], false)));
        assert_eq!(next(&mut outbox, 18), Some((vec![9], true)));
    }

    #[test]
    fn a_block_has_at_most_255_transmissions_and_is_filled() {
        let mut outbox = Outbox::default();
        for n in 0..600_u16 {
            outbox.push_responses(response(u8::try_from(n % 251).unwrap(), 30));
        }
        let counts: Vec<usize> =
            std::iter::from_fn(|| next(&mut outbox, 18)).map(|(fills, _)| fills.len()).collect();
        assert_eq!(counts, [255, 255, 90]);
        for _ in 0..300 {
            outbox.push_responses(response(7, 98));
        }
        let counts: Vec<usize> =
            std::iter::from_fn(|| next(&mut outbox, 18)).map(|(fills, _)| fills.len()).collect();
        assert_eq!(counts, [163, 137]);
    }

    #[test]
    fn a_backlog_that_never_empties_does_not_grow() {
        let mut outbox = Outbox::default();
        let mut small = Box::new([0; BLOCK_BYTES]);
        for _ in 0..100 {
            outbox.push_responses(response(1, 1000));
        }
        for _ in 0..5_000 {
            for _ in 0..16 {
                outbox.push_responses(response(1, 1000));
            }
            assert!(outbox.compose(&mut small, 18).is_some());
        }
        let held: usize = outbox
            .items
            .iter()
            .map(|item| match item {
                Item::Responses { bytes, .. } => bytes.capacity(),
                Item::Message { .. } => 0,
            })
            .sum();
        // Vectors grow by doubling.
        assert!(held < 3 * outbox.response_bytes(), "{held} for {}", outbox.response_bytes());
    }
}
