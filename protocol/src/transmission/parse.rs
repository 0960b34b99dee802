//! From the content of a block to transmissions, and from transmissions to commands and responses.

use std::slice;

use super::{Authorization, ED25519_SIGNATURE_BYTES, Format};
use crate::command::Command;
use crate::encoding::{DecodeError, Reader, Sink};
use crate::error::ErrorType;
use crate::response::Response;
use crate::version::SmpVersion;

/// One transmission, borrowed from its block. The command is not parsed, nothing is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmission<'a> {
    /// All of it, as it stands in the block without its length.
    pub bytes: &'a [u8],
    pub authorization: Authorization<'a>,
    /// From version 16, only beside an authorization.
    pub service_signature: Option<&'a [u8; ED25519_SIGNATURE_BYTES]>,
    /// Empty from version 7 on, where it is implied.
    pub session_id: &'a [u8],
    /// 24 bytes are usual, any length from 0 to 255 is read.
    pub corr_id: &'a [u8],
    pub entity_id: &'a [u8],
    pub command: &'a [u8],
    /// All that follows the authorization fields: session ID if it is sent, correlation ID, entity ID, command.
    pub authorized: &'a [u8],
    session_implied: bool,
}

/// A transmission that cannot be executed, and the error that answers it with these IDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTransmission<'a> {
    /// Empty if it could not be read.
    pub corr_id: &'a [u8],
    /// Empty unless the error is about the command.
    pub entity_id: &'a [u8],
    pub error: ErrorType,
}

impl BadTransmission<'_> {
    /// Content, or a transmission, without any structure.
    const UNREADABLE: Self = Self { corr_id: &[], entity_id: &[], error: ErrorType::Block };
}

impl<'a> Transmission<'a> {
    /// Reads one transmission without its length, as it stands in a block.
    pub fn parse(bytes: &'a [u8], format: Format) -> Result<Self, BadTransmission<'a>> {
        let (authorization, transmission) =
            Self::read(Reader::new(bytes), format).map_err(|_| BadTransmission::UNREADABLE)?;
        match Authorization::from_bytes(authorization) {
            Some(authorization) => Ok(Self { bytes, authorization, ..transmission }),
            None => Err(transmission.refused(ErrorType::Block)),
        }
    }

    fn read(mut r: Reader<'a>, format: Format) -> Result<(&'a [u8], Self), DecodeError> {
        let authorization = r.short()?;
        let service_signature = if format.service_signature && !authorization.is_empty() {
            r.maybe(Reader::short_array)?
        } else {
            None
        };
        let authorized = r.rest();
        let session_id = if format.session_implied { &[] } else { r.short()? };
        let corr_id = r.short()?;
        let entity_id = r.short()?;
        let transmission = Self {
            bytes: &[],
            authorization: Authorization::None,
            service_signature,
            session_id,
            corr_id,
            entity_id,
            command: r.tail(),
            authorized,
            session_implied: format.session_implied,
        };
        Ok((authorization, transmission))
    }

    /// The answer to this transmission if it fails with `error`. Errors about the block or the session name no
    /// entity.
    pub fn refused(&self, error: ErrorType) -> BadTransmission<'a> {
        let entity_id = match error {
            ErrorType::Block | ErrorType::Session => &[],
            _ => self.entity_id,
        };
        BadTransmission { corr_id: self.corr_id, entity_id, error }
    }

    /// For a router: checks the session ID if it was sent, parses the command, checks what must be beside it.
    pub fn decode_command(&self, version: SmpVersion, session_id: &[u8]) -> Result<Command<'a>, ErrorType> {
        self.check_session(session_id)?;
        let command = Command::parse(version, self.command)?;
        command.check_credentials(!self.authorization.is_none(), self.entity_id)?;
        Ok(command)
    }

    /// For a client: checks the session ID if it was sent, parses the response, checks what must be beside it.
    pub fn decode_response(&self, version: SmpVersion, session_id: &[u8]) -> Result<Response<'a>, ErrorType> {
        self.check_session(session_id)?;
        let response = Response::parse(version, self.command)?;
        response.check_entity(self.entity_id)?;
        Ok(response)
    }

    fn check_session(&self, session_id: &[u8]) -> Result<(), ErrorType> {
        if self.session_implied || self.session_id == session_id { Ok(()) } else { Err(ErrorType::Session) }
    }

    /// What the authorization covers, in order: length of the session ID, session ID, and the rest. The first two
    /// are empty below version 7, where the rest has them. For hashing without a copy.
    ///
    /// In a service session the queue's key covers more: [`Self::for_service_authorization`].
    pub fn for_authorization_parts<'s>(&self, session_id: &'s [u8]) -> [&'s [u8]; 3]
    where
        'a: 's,
    {
        if self.session_implied {
            let [length, session_id] = short_parts(session_id);
            [length, session_id, self.authorized]
        } else {
            [&[], &[], self.authorized]
        }
    }

    /// What the authorization covers, in one piece. Below version 7 it is borrowed; from 7 on it is put together in
    /// `scratch`, which is cleared and allocates only if it is too small.
    pub fn for_authorization<'s>(&self, session_id: &[u8], scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if !self.session_implied {
            return self.authorized;
        }
        scratch.clear();
        scratch.put_short(session_id);
        scratch.put(self.authorized);
        scratch
    }

    /// What the two authorizations of a service session cover, put together in `scratch`: the queue's key covers the
    /// SHA-256 fingerprint of the service certificate and then what [`for_authorization`](Self::for_authorization)
    /// gives, the service's key covers that alone.
    pub fn for_service_authorization<'s>(
        &self,
        certificate_fingerprint: &[u8; 32],
        session_id: &[u8],
        scratch: &'s mut Vec<u8>,
    ) -> ServiceAuthorization<'s> {
        scratch.clear();
        scratch.put(certificate_fingerprint);
        for part in self.for_authorization_parts(session_id) {
            scratch.put(part);
        }
        let for_queue_key = scratch.as_slice();
        ServiceAuthorization {
            for_queue_key,
            for_service_key: &for_queue_key[certificate_fingerprint.len()..],
        }
    }
}

/// See [`Transmission::for_service_authorization`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceAuthorization<'s> {
    pub for_queue_key: &'s [u8],
    pub for_service_key: &'s [u8],
}

/// A short string as two slices: its length byte and itself.
fn short_parts(bytes: &[u8]) -> [&[u8]; 2] {
    static LENGTHS: [u8; 256] = {
        let mut lengths = [0; 256];
        let mut length = 0;
        while length < 256 {
            // Below 256 by the loop's condition.
            #[allow(clippy::cast_possible_truncation)]
            {
                lengths[length] = length as u8;
            }
            length += 1;
        }
        lengths
    };
    debug_assert!(bytes.len() <= 255, "a short string of {} bytes", bytes.len());
    let bytes = &bytes[..bytes.len().min(255)];
    [slice::from_ref(&LENGTHS[bytes.len()]), bytes]
}

/// The transmissions of a block's content, in order. A count that is zero or does not match what follows gives one
/// `BLOCK` error for all; a transmission that cannot be read does not spoil the others.
pub fn parse_content(content: &[u8], format: Format) -> Transmissions<'_> {
    match check_framing(content) {
        Ok((reader, count)) => Transmissions { reader, left: count, broken: false, format },
        Err(_) => Transmissions { reader: Reader::new(&[]), left: 1, broken: true, format },
    }
}

/// Walks over the lengths alone: the whole content must be right before anything of it is executed.
fn check_framing(content: &[u8]) -> Result<(Reader<'_>, u8), DecodeError> {
    let mut reader = Reader::new(content);
    let count = reader.u8()?;
    if count == 0 {
        return Err(DecodeError::Invalid);
    }
    let transmissions = reader;
    for _ in 0..count {
        reader.large()?;
    }
    reader.finish()?;
    Ok((transmissions, count))
}

/// See [`parse_content`].
#[derive(Clone, Debug)]
pub struct Transmissions<'a> {
    reader: Reader<'a>,
    left: u8,
    broken: bool,
    format: Format,
}

impl<'a> Iterator for Transmissions<'a> {
    type Item = Result<Transmission<'a>, BadTransmission<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.broken {
            return Some(Err(BadTransmission::UNREADABLE));
        }
        // Cannot fail: the framing was checked.
        let bytes = self.reader.large().ok()?;
        Some(Transmission::parse(bytes, self.format))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Transmissions<'_> {}

/// For a router: every transmission of a block's content with its command, or what answers it.
pub fn decode_commands<'c, 's>(
    content: &'c [u8],
    format: Format,
    session_id: &'s [u8],
) -> impl ExactSizeIterator<Item = Result<(Transmission<'c>, Command<'c>), BadTransmission<'c>>> + use<'c, 's>
{
    parse_content(content, format).map(move |transmission| {
        let transmission = transmission?;
        match transmission.decode_command(format.version, session_id) {
            Ok(command) => Ok((transmission, command)),
            Err(error) => Err(transmission.refused(error)),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::CommandError;
    use crate::transmission::Authorized;

    #[test]
    fn errors_about_the_session_name_no_entity() {
        let format = Format::of_session(SmpVersion::V6);
        let (mut buffer, mut bytes) = (Vec::new(), Vec::new());
        let authorized =
            Authorized::command(format, b"other", b"corr", b"entity", &Command::Sub, &mut buffer);
        authorized.write(Authorization::None, None, &mut bytes);
        let content = [&[1, 0, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat();

        let decoded: Vec<_> = decode_commands(&content, format, b"session").collect();
        let expected = BadTransmission { corr_id: b"corr", entity_id: b"", error: ErrorType::Session };
        assert_eq!(decoded, [Err(expected)]);

        let decoded: Vec<_> = decode_commands(&content, format, b"other").collect();
        let error = ErrorType::Cmd(CommandError::NoAuth);
        assert_eq!(decoded, [Err(BadTransmission { corr_id: b"corr", entity_id: b"entity", error })]);
    }

    #[test]
    fn a_short_string_is_its_length_and_itself() {
        for length in 0..=255_u8 {
            let bytes = vec![7; length.into()];
            assert_eq!(short_parts(&bytes), [&[length][..], &bytes]);
        }
    }
}
