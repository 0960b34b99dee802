//! Frames of a WebSocket (RFC 6455, 5), on the router's side.

use std::ops::Range;

use crate::limits::BLOCK_BYTES;

/// The header of a whole block in one binary frame: final, unmasked, 16,384 bytes.
pub const BLOCK_HEADER: [u8; 4] = [FINAL | BINARY, LENGTH_16, 0x40, 0x00];
/// What a control frame may carry.
pub const CONTROL_BYTES_MAX: usize = 125;
/// Frames that one message may be split into. Nobody has a reason for more than a few.
const FRAMES_PER_MESSAGE_MAX: u16 = 512;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const MASK_BYTES: usize = 4;
/// Two bytes, a length of eight, the mask.
const HEADER_BYTES_MAX: usize = 2 + 8 + MASK_BYTES;

const _: () = assert!(BLOCK_BYTES == 0x4000);

/// Why a client's frames cannot be read on. Each has its status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    #[error("a frame breaks the rules of WebSocket")]
    Protocol,
    #[error("a text message came, blocks are binary")]
    Text,
    #[error("a message is longer than a block")]
    TooLong,
    #[error("a message is shorter than a block")]
    TooShort,
}

impl FrameFault {
    /// RFC 6455, 7.4.1.
    pub fn status(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Text => 1003,
            Self::TooShort => 1008,
            Self::TooLong => 1009,
        }
    }
}

/// What [`FrameReader::read`] found. `consumed` bytes at the front are done with, after the use of the payload that lies
/// in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub consumed: usize,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// More bytes are needed.
    Nothing,
    /// The next part of a block, unmasked where it lies. `last`: the block is complete.
    Block { payload: Range<usize>, last: bool },
    /// To be answered with [`pong`].
    Ping(Control),
    /// The client sends nothing more. To be answered with [`close`] and this status, if it gave one.
    Close(Option<u16>),
}

/// The payload of a control frame, held inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    length: u8,
    bytes: [u8; CONTROL_BYTES_MAX],
}

impl Control {
    const EMPTY: Self = Self { length: 0, bytes: [0; CONTROL_BYTES_MAX] };

    fn extend(&mut self, part: &[u8]) {
        let start = usize::from(self.length);
        // The header was refused if it said more than fits.
        if let Some(place) = self.bytes.get_mut(start..start + part.len()) {
            place.copy_from_slice(part);
            self.length += u8::try_from(part.len()).unwrap_or(0);
        }
    }
}

impl AsRef<[u8]> for Control {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// Takes a client's frames apart. Blocks are not kept here: their parts are shown where they came in.
#[derive(Clone, Debug)]
pub struct FrameReader {
    header: [u8; HEADER_BYTES_MAX],
    header_filled: usize,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// The binary message that is being read: its bytes and its frames so far.
    message: Option<(usize, u16)>,
    control: Control,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    is_final: bool,
    /// Of the payload.
    bytes_left: usize,
    mask: [u8; MASK_BYTES],
    /// The place in the mask of the next byte.
    mask_at: usize,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES_MAX],
            header_filled: 0,
            frame: None,
            message: None,
            control: Control::EMPTY,
        }
    }
}

impl FrameReader {
    /// Whether a frame or a message has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        self.header_filled > 0 || self.frame.is_some() || self.message.is_some()
    }

    /// Reads on in what the client sent, up to the next event. After an error there is nothing to read any more.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<Found, FrameFault> {
        let mut consumed = 0;
        loop {
            let Some(mut frame) = self.frame.take() else {
                let Some(&byte) = bytes.get(consumed) else {
                    return Ok(Found { consumed, event: Event::Nothing });
                };
                consumed += 1;
                self.frame = self.header_byte(byte)?;
                if let Some(frame) = self.frame.filter(|frame| frame.bytes_left == 0)
                    && let Some(event) = self.payload(frame, consumed..consumed)
                {
                    return Ok(Found { consumed, event: event? });
                }
                continue;
            };
            let rest = bytes.get_mut(consumed..).unwrap_or_default();
            let here = frame.bytes_left.min(rest.len());
            if here == 0 {
                self.frame = Some(frame);
                return Ok(Found { consumed, event: Event::Nothing });
            }
            let part = rest.get_mut(..here).unwrap_or_default();
            frame.unmask(part);
            if frame.opcode >= CLOSE {
                self.control.extend(part);
            }
            let place = consumed..consumed + here;
            consumed += here;
            self.frame = Some(frame);
            if let Some(event) = self.payload(frame, place) {
                return Ok(Found { consumed, event: event? });
            }
        }
    }

    /// Another byte of a header. The frame, if the header is complete.
    fn header_byte(&mut self, byte: u8) -> Result<Option<Frame>, FrameFault> {
        if let Some(place) = self.header.get_mut(self.header_filled) {
            *place = byte;
        }
        self.header_filled += 1;
        let [first, second, ..] = self.header;
        let length_bytes = match second & !MASKED {
            _ if self.header_filled < 2 => return Ok(None),
            LENGTH_16 => 2,
            LENGTH_64 => 8,
            _ => 0,
        };
        if self.header_filled == 2 && (first & RESERVED != 0 || second & MASKED == 0) {
            return Err(FrameFault::Protocol);
        }
        if self.header_filled < 2 + length_bytes + MASK_BYTES {
            return Ok(None);
        }
        self.header_filled = 0;
        let [_, _, length @ ..] = self.header;
        let (length, mask) = length.split_at(length_bytes);
        let bytes_left = match length {
            [] => usize::from(second & !MASKED),
            long => {
                let length = long.iter().fold(0_u64, |length, &byte| length << 8 | u64::from(byte));
                let least = if long.len() == 2 { u64::from(LENGTH_16) } else { 1 << 16 };
                // Lengths have their shortest form, and 63 bits.
                if length < least || length >> 63 != 0 {
                    return Err(FrameFault::Protocol);
                }
                usize::try_from(length).unwrap_or(usize::MAX)
            }
        };
        let mask = mask.first_chunk().copied().unwrap_or_default();
        let frame =
            Frame { opcode: first & 0x0f, is_final: first & FINAL != 0, bytes_left, mask, mask_at: 0 };
        self.begin(frame).map(Some)
    }

    /// Checks a frame against what came before it.
    fn begin(&mut self, frame: Frame) -> Result<Frame, FrameFault> {
        match (frame.opcode, self.message) {
            (CLOSE | PING | PONG, _) => {
                if !frame.is_final || frame.bytes_left > CONTROL_BYTES_MAX {
                    return Err(FrameFault::Protocol);
                }
                self.control = Control::EMPTY;
            }
            (BINARY, None) => self.message = Some((0, 0)),
            (CONTINUATION, Some((_, frames))) if frames < FRAMES_PER_MESSAGE_MAX => {}
            (TEXT, None) => return Err(FrameFault::Text),
            _ => return Err(FrameFault::Protocol),
        }
        if frame.opcode < CLOSE
            && let Some((bytes, frames)) = &mut self.message
        {
            *frames += 1;
            *bytes = bytes.saturating_add(frame.bytes_left);
            if *bytes > BLOCK_BYTES {
                return Err(FrameFault::TooLong);
            }
            if frame.is_final && *bytes < BLOCK_BYTES {
                return Err(FrameFault::TooShort);
            }
        }
        Ok(frame)
    }

    /// After a part of the payload of the current frame: what there is to say, if anything.
    fn payload(&mut self, frame: Frame, part: Range<usize>) -> Option<Result<Event, FrameFault>> {
        let ends = frame.bytes_left == 0;
        if ends {
            self.frame = None;
        }
        match frame.opcode {
            CONTINUATION | BINARY => {
                let last = ends && frame.is_final;
                if last {
                    self.message = None;
                }
                (last || !part.is_empty()).then_some(Ok(Event::Block { payload: part, last }))
            }
            CLOSE if ends => Some(match self.control.as_ref() {
                [] => Ok(Event::Close(None)),
                [high, low, reason @ ..] => {
                    let status = u16::from_be_bytes([*high, *low]);
                    let known = may_be_sent(status) && std::str::from_utf8(reason).is_ok();
                    if known { Ok(Event::Close(Some(status))) } else { Err(FrameFault::Protocol) }
                }
                [_] => Err(FrameFault::Protocol),
            }),
            PING if ends => Some(Ok(Event::Ping(self.control))),
            _ => None,
        }
    }
}

impl Frame {
    /// Unmasks the next part of the payload.
    fn unmask(&mut self, part: &mut [u8]) {
        let mut mask = self.mask;
        mask.rotate_left(self.mask_at);
        // Eight bytes at a time; the rest begins at the start of the mask again.
        let [a, b, c, d] = mask;
        let wide = [a, b, c, d, a, b, c, d];
        let mut chunks = part.chunks_exact_mut(wide.len());
        for chunk in &mut chunks {
            for (byte, mask) in chunk.iter_mut().zip(wide) {
                *byte ^= mask;
            }
        }
        for (byte, mask) in chunks.into_remainder().iter_mut().zip(wide) {
            *byte ^= mask;
        }
        self.mask_at = (self.mask_at + part.len()) % MASK_BYTES;
        self.bytes_left = self.bytes_left.saturating_sub(part.len());
    }
}

/// RFC 6455, 7.4: those that stand in frames.
fn may_be_sent(status: u16) -> bool {
    matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The answer to a ping.
pub fn pong(ping: &Control) -> Vec<u8> {
    control_frame(PONG, ping.as_ref())
}

/// Says that nothing more comes, and why.
pub fn close(status: Option<u16>) -> Vec<u8> {
    match status {
        Some(status) => control_frame(CLOSE, &status.to_be_bytes()),
        None => control_frame(CLOSE, &[]),
    }
}

fn control_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    // Payloads of control frames have at most 125 bytes.
    let length = u8::try_from(payload.len()).unwrap_or(0);
    [&[FINAL | opcode, length], payload].concat()
}

#[cfg(test)]
mod tests;
