//! The layers around a command that a proxy forwards: "Proxying sender commands" of the protocol text.
//!
//! ```text
//! PFWD  = version, command key, client box
//! RFWD  = proxy box of (correlation ID of PFWD, version, command key, client box)
//! RRES  = proxy box of (correlation ID of PFWD, client box)
//! PRES  = client box
//! client box = padded content of a block with one transmission, sealed with the command key and the relay's session key
//! proxy box  = sealed with the session keys of proxy and relay, not padded
//! ```
//!
//! Nonces are the correlation IDs, of PFWD for the client's box and of RFWD for the proxy's; those of responses are the
//! same with their bytes reversed.

use std::ops::Range;

use ringpost_protocol::crypto::boxes::{Nonce, nonce_from, open_in_place, reversed, seal_in_place};
use ringpost_protocol::crypto::{BoxKey, DhPrivateKey};
use ringpost_protocol::encoding::{DecodeError, Reader, Sink};
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::{BLOCK_CONTENT_BYTES, ID_BYTES, PAD_LENGTH_BYTES, TAG_BYTES};
use ringpost_protocol::version::SmpVersion;
use smallvec::SmallVec;

/// What a client's box holds, its padding included.
pub const PADDED_BYTES: usize = 16_226;
/// A client's box: all have this size, whatever is in them.
pub const CLIENT_BOX_BYTES: usize = PADDED_BYTES + TAG_BYTES;
/// The length in front of a transmission in a block.
const LENGTH_BYTES: usize = 2;

/// A correlation ID: 24 bytes, but any length up to 255 is read.
pub type CorrId = SmallVec<[u8; ID_BYTES]>;

/// A PFWD on its way to the relay.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    pub corr_id: &'a [u8],
    pub version: SmpVersion,
    pub key: DhPublicKey,
    /// The client's box.
    pub transmission: &'a [u8],
}

/// The command does not fit into a block with what a proxy adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Forward<'_> {
    /// Appends the RFWD transmission with its 2-byte length. `nonce` is its correlation ID: used once.
    pub fn seal(&self, key: &BoxKey, nonce: &Nonce, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let start = begin(out, nonce, b"RFWD ");
        let sealed_at = out.len();
        out.resize(sealed_at + TAG_BYTES, 0);
        out.put_short(self.corr_id);
        out.put_u16(self.version.0);
        self.key.write(out);
        out.put(self.transmission);
        if out.len() - start > BLOCK_CONTENT_BYTES {
            out.truncate(start);
            return Err(TooLarge);
        }
        seal_in_place(key, nonce, &mut out[sealed_at..]);
        end(out, start);
        Ok(())
    }
}

/// Opens the box of a RRES where it is. Gives the place of the client's box in it.
///
/// `CRYPTO` if it does not open, `BLOCK` if it is not what belongs there.
pub fn open_response(key: &BoxKey, nonce: &Nonce, sealed: &mut [u8]) -> Result<Range<usize>, ErrorType> {
    let sealed_bytes = sealed.len();
    let clear = open_in_place(key, &reversed(*nonce), sealed).map_err(|_| ErrorType::Crypto)?;
    let mut reader = Reader::new(clear);
    // It is not compared with that of the command: the client's box opens under that one alone.
    reader.short().map_err(|_| ErrorType::Block)?;
    let client_box = reader.rest().len();
    if client_box != CLIENT_BOX_BYTES {
        return Err(ErrorType::Block);
    }
    Ok(sealed_bytes - client_box..sealed_bytes)
}

/// A forwarded command, as its relay finds it.
#[derive(Debug)]
pub struct Forwarded {
    pub version: SmpVersion,
    /// Where the content of the client's block lies in what was sealed.
    pub content: Range<usize>,
    pub reply: Reply,
}

/// How the response to a forwarded command is to be wrapped.
#[derive(Debug)]
pub struct Reply {
    rfwd_corr_id: CorrId,
    pfwd_corr_id: CorrId,
    client_key: BoxKey,
}

impl Forwarded {
    /// Opens both boxes of a RFWD where they are. `session_key` is the relay's key of the session with the proxy, `key`
    /// what it has agreed with the proxy's.
    pub fn open(
        key: &BoxKey,
        session_key: &DhPrivateKey,
        rfwd_corr_id: &[u8],
        sealed: &mut [u8],
    ) -> Result<Self, ErrorType> {
        let clear = open_in_place(key, &nonce_from(rfwd_corr_id), sealed).map_err(|_| ErrorType::Crypto)?;
        let clear_bytes = clear.len();
        let (pfwd_corr_id, version, command_key, client_box_bytes) =
            read_head(clear).map_err(|_| ErrorType::Cmd(CommandError::Syntax))?;
        if client_box_bytes != CLIENT_BOX_BYTES {
            return Err(ErrorType::Crypto);
        }
        let client_key = session_key.agree(&command_key).box_key();
        let client_box = &mut clear[clear_bytes - client_box_bytes..];
        let padded = open_in_place(&client_key, &nonce_from(&pfwd_corr_id), client_box)
            .map_err(|_| ErrorType::Crypto)?;
        let content_bytes = ringpost_protocol::encoding::unpad(padded).map_err(|_| ErrorType::Crypto)?.len();
        // Both tags lie in front of their clear text.
        let padded_at = TAG_BYTES + clear_bytes - PADDED_BYTES;
        let content_at = padded_at + PAD_LENGTH_BYTES;
        Ok(Self {
            version,
            content: content_at..content_at + content_bytes,
            reply: Reply { rfwd_corr_id: rfwd_corr_id.into(), pfwd_corr_id, client_key },
        })
    }
}

fn read_head(clear: &[u8]) -> Result<(CorrId, SmpVersion, DhPublicKey, usize), DecodeError> {
    let mut reader = Reader::new(clear);
    let corr_id = reader.short()?.into();
    let version = SmpVersion(reader.u16()?);
    let key = DhPublicKey::read(&mut reader)?;
    Ok((corr_id, version, key, reader.rest().len()))
}

impl Reply {
    /// The correlation ID of the RFWD.
    pub fn corr_id(&self) -> &[u8] {
        &self.rfwd_corr_id
    }

    /// Appends the RRES transmission with its 2-byte length. `response` is one transmission with its 2-byte length.
    pub fn seal(&self, key: &BoxKey, response: &[u8], out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let content_bytes = 1 + response.len();
        if PAD_LENGTH_BYTES + content_bytes > PADDED_BYTES {
            return Err(TooLarge);
        }
        let start = begin(out, &self.rfwd_corr_id, b"RRES ");
        let proxy_box_at = out.len();
        out.resize(proxy_box_at + TAG_BYTES, 0);
        out.put_short(&self.pfwd_corr_id);
        let client_box_at = out.len();
        out.resize(client_box_at + TAG_BYTES, 0);
        out.put_u16(u16::try_from(content_bytes).map_err(|_| TooLarge)?);
        out.put(&[1]);
        out.put(response);
        out.resize(client_box_at + CLIENT_BOX_BYTES, b'#');
        let nonce = reversed(nonce_from(&self.pfwd_corr_id));
        seal_in_place(&self.client_key, &nonce, &mut out[client_box_at..]);
        let nonce = reversed(nonce_from(&self.rfwd_corr_id));
        seal_in_place(key, &nonce, &mut out[proxy_box_at..]);
        end(out, start);
        Ok(())
    }
}

/// Begins a transmission without authorization and entity. Sessions with a proxy imply their ID.
fn begin(out: &mut Vec<u8>, corr_id: &[u8], command: &[u8]) -> usize {
    let start = out.len();
    out.reserve(BLOCK_CONTENT_BYTES);
    out.put(&[0; LENGTH_BYTES]);
    out.put_short(&[]);
    out.put_short(corr_id);
    out.put_short(&[]);
    out.put(command);
    start
}

/// Fills in the length of a transmission.
fn end(out: &mut [u8], start: usize) {
    let length = u16::try_from(out.len() - start - LENGTH_BYTES).unwrap_or(u16::MAX);
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

const _: () = {
    // A RFWD and a RRES of usual correlation IDs fit into a block.
    assert!(2 + 1 + 25 + 1 + 5 + TAG_BYTES + 25 + 2 + 45 + CLIENT_BOX_BYTES <= BLOCK_CONTENT_BYTES);
};
