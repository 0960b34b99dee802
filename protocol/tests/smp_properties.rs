//! Properties of the SMP codecs at every version: what is written is read back, any bytes are read or refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod words;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use ringpost_protocol::command::{Command, RouterBinary};
use ringpost_protocol::encoding::{Reader, base64url, base64url_unpadded, decode_base64url, pad, unpad};
use ringpost_protocol::error::{
    BlockingInfo, BrokerError, ClientNotice, ErrorType, ProxyError, TransportError,
};
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};
use ringpost_protocol::limits::{BATCH_TRANSMISSIONS_MAX, BLOCK_CONTENT_BYTES};
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{
    Authorization, Authorized, Batch, BlockBuilder, Format, Transmission, decode_commands, parse_content,
    plan_batches,
};
use ringpost_protocol::version::{SmpVersion, VersionRange};
use words::material::{error, material};
use words::{command_as_read, error_as_read, response_as_read};

fn versions() -> impl Iterator<Item = SmpVersion> {
    (SmpVersion::V6.0..=SmpVersion::MAX.0).map(SmpVersion)
}

fn authorization_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(vec![]), vec(any::<u8>(), 64), vec(any::<u8>(), 80), vec(any::<u8>(), 114)]
}

/// Bytes that get past the tag more often than random ones.
fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::sample::select(vec![
        "NEW",
        "SUB",
        "SUBS",
        "KEY",
        "RKEY",
        "LSET",
        "LDEL",
        "NKEY",
        "NDEL",
        "GET",
        "ACK",
        "OFF",
        "DEL",
        "QUE",
        "SKEY",
        "SEND",
        "PING",
        "LKEY",
        "LGET",
        "NSUB",
        "NSUBS",
        "PRXY",
        "PFWD",
        "RFWD",
        "IDS",
        "LNK",
        "SOK",
        "SOKS",
        "MSG",
        "ALLS",
        "NID",
        "NMSG",
        "PKEY",
        "RRES",
        "PRES",
        "END",
        "ENDS",
        "DELD",
        "INFO",
        "OK",
        "ERR",
        "PONG",
        "ERR CMD",
        "ERR PROXY BROKER NETWORK",
        "ERR PROXY PROTOCOL BLOCKED reason=spam,notice=",
    ]);
    let tagged = (tags, vec(any::<u8>(), 0..200)).prop_map(|(tag, parameters)| {
        let mut bytes = tag.as_bytes().to_vec();
        bytes.push(b' ');
        bytes.extend(parameters);
        bytes
    });
    prop_oneof![1 => vec(any::<u8>(), 0..300), 4 => tagged]
}

/// Reads the bytes as all that they could be. What is read must be written and read back as the same.
fn read_as_anything(version: SmpVersion, bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut again = Vec::new();
    if let Ok(command) = Command::parse(version, bytes) {
        command.encode(version, &mut again);
        prop_assert_eq!(Command::parse(version, &again), Ok(command));
    }
    again.clear();
    if let Ok(response) = Response::parse(version, bytes) {
        response.encode(version, &mut again);
        prop_assert_eq!(Response::parse(version, &again), Ok(response_as_read(&response, version)));
    }
    again.clear();
    if let Ok(error) = ErrorType::parse(bytes) {
        error.encode(version, &mut again);
        prop_assert_eq!(ErrorType::parse(&again), Ok(error_as_read(&error, version)));
    }
    let _ = AuthPublicKey::from_der(bytes);
    let _ = DhPublicKey::from_der(bytes);
    let _ = BlockingInfo::parse(bytes);
    let _ = ClientNotice::parse(bytes);
    let _ = TransportError::read(&mut Reader::new(bytes));
    let _ = RouterBinary::read(&mut Reader::new(bytes));
    let _ = VersionRange::read(&mut Reader::new(bytes));
    let _ = unpad(bytes);
    let _ = decode_base64url(bytes);
    for format in [Format::of_session(version), Format::forwarded(version)] {
        let _ = Transmission::parse(bytes, format);
        for (transmission, command) in decode_commands(bytes, format, b"session").flatten() {
            let mut scratch = Vec::new();
            let parts = transmission.for_authorization_parts(b"session").concat();
            prop_assert_eq!(transmission.for_authorization(b"session", &mut scratch), parts);
            let has_authorization = !transmission.authorization.is_none();
            prop_assert!(command.check_credentials(has_authorization, transmission.entity_id).is_ok());
        }
        for transmission in parse_content(bytes, format).flatten() {
            let _ = transmission.decode_response(version, b"session");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn commands_are_read_back(material in material()) {
        for command in material.commands() {
            for version in versions() {
                let mut bytes = Vec::new();
                command.encode(version, &mut bytes);
                let parsed = Command::parse(version, &bytes);
                prop_assert_eq!(parsed, Ok(command_as_read(&command, version)), "{:?}", version);
                bytes.push(b' ');
                let longer = Command::parse(version, &bytes);
                let takes_all = matches!(
                    command,
                    Command::Send { .. } | Command::Pfwd { .. } | Command::Rfwd(_)
                );
                prop_assert_eq!(longer.is_ok(), takes_all, "{:?} with a byte more", command.tag());
            }
        }
    }

    #[test]
    fn responses_are_read_back(material in material()) {
        for version in versions() {
            for response in material.responses(version) {
                let mut bytes = Vec::new();
                response.encode(version, &mut bytes);
                let parsed = Response::parse(version, &bytes);
                prop_assert_eq!(parsed, Ok(response_as_read(&response, version)), "{:?}", version);
            }
        }
    }

    #[test]
    fn errors_are_read_back(error in error()) {
        for version in versions() {
            let mut bytes = Vec::new();
            error.encode(version, &mut bytes);
            prop_assert_eq!(ErrorType::parse(&bytes), Ok(error_as_read(&error, version)));
        }
    }

    #[test]
    fn long_and_foreign_error_texts_do_not_break_the_encoding(text in any::<String>(), repeat in 1..300_usize) {
        let response = |text| ErrorType::Proxy(Box::new(ProxyError::Broker(BrokerError::Response(text))));
        let text = text.repeat(repeat);
        let read: String =
            text.chars().take(255).map(|char| if char <= '\u{ff}' { char } else { '?' }).collect();
        let mut bytes = Vec::new();
        response(text).encode(SmpVersion::MAX, &mut bytes);
        prop_assert_eq!(ErrorType::parse(&bytes), Ok(response(read)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in message_bytes(), version in 0..25_u16) {
        read_as_anything(SmpVersion(version), &bytes)?;
    }

    #[test]
    fn damaged_messages_are_read_or_refused(
        material in material(),
        choice in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        damage in any::<u8>(),
        cut in any::<bool>(),
    ) {
        for version in versions() {
            let mut bytes = Vec::new();
            if cut {
                choice.get(&material.commands()).encode(version, &mut bytes);
            } else {
                choice.get(&material.responses(version)).encode(version, &mut bytes);
            }
            let place = place.index(bytes.len());
            bytes[place] ^= damage;
            read_as_anything(version, &bytes)?;
            read_as_anything(version, &bytes[..place])?;
        }
    }

    #[test]
    fn transmissions_are_read_back(
        material in material(),
        authorization in authorization_bytes(),
        service_signature in option::of(vec(any::<u8>(), 64)),
        choice in any::<prop::sample::Index>(),
    ) {
        let service_signature: Option<[u8; 64]> = service_signature.map(|bytes| bytes.try_into().unwrap());
        let authorization = Authorization::from_bytes(&authorization).unwrap();
        let [session_id, corr_id, entity_id, _] = &material.ids;
        let commands = material.commands();
        let command = choice.get(&commands);
        for version in versions() {
            let format = Format::of_session(version);
            let (mut buffer, mut bytes) = (Vec::new(), Vec::new());
            let authorized = Authorized::command(format, session_id, corr_id, entity_id, command, &mut buffer);
            authorized.write(authorization, service_signature.as_ref(), &mut bytes);
            let parsed = Transmission::parse(&bytes, format).unwrap();
            prop_assert_eq!(parsed.authorization, authorization);
            let signature_sent = version.0 >= 16 && !authorization.is_none();
            prop_assert_eq!(parsed.service_signature, service_signature.as_ref().filter(|_| signature_sent));
            prop_assert_eq!(parsed.corr_id, corr_id);
            prop_assert_eq!(parsed.entity_id, entity_id);
            let mut scratch = Vec::new();
            let for_authorization = parsed.for_authorization(session_id, &mut scratch);
            prop_assert_eq!(for_authorization, authorized.for_authorization());
            let expected = command_as_read(command, version);
            let refusal = expected.check_credentials(!authorization.is_none(), entity_id);
            prop_assert_eq!(parsed.decode_command(version, session_id), refusal.map(|()| expected));
        }
    }

    #[test]
    fn blocks_of_responses_are_read_back(materials in vec(material(), 1..20), version in 6..=19_u16) {
        let version = SmpVersion(version);
        let format = Format::of_session(version);
        let session_id = [5; 32];
        let mut content = vec![0; 16_382];
        let mut builder = BlockBuilder::new(&mut content, format, &session_id);
        let mut pushed = Vec::new();
        for material in &materials {
            for response in material.responses(version) {
                if builder.push_response(&material.ids[0], &material.ids[1], &response).is_ok() {
                    pushed.push((&material.ids, response));
                }
            }
        }
        let content_bytes = builder.content_bytes();
        prop_assert_eq!(builder.count(), pushed.len());
        let parsed = parse_content(&content[..content_bytes], format);
        prop_assert_eq!(parsed.len(), pushed.len());
        for (parsed, (ids, response)) in parsed.zip(pushed) {
            let parsed = parsed.unwrap();
            prop_assert_eq!(parsed.corr_id, &ids[0]);
            prop_assert_eq!(parsed.entity_id, &ids[1]);
            let expected = response_as_read(&response, version);
            let refusal = expected.check_entity(&ids[1]);
            prop_assert_eq!(parsed.decode_response(version, &session_id), refusal.map(|()| expected));
        }
    }

    #[test]
    fn batches_are_full_from_the_end(sizes in vec(prop_oneof![2..400_usize, 2..20_000_usize], 0..600)) {
        let plan = plan_batches(&sizes);
        let mut next = 0;
        for (place, batch) in plan.iter().enumerate() {
            match batch {
                Batch::TooLarge(index) => {
                    prop_assert_eq!(*index, next);
                    prop_assert!(sizes[*index] > BLOCK_CONTENT_BYTES);
                    next += 1;
                }
                Batch::Transmissions(range) => {
                    prop_assert_eq!(range.start, next);
                    prop_assert!(!range.is_empty() && range.len() <= BATCH_TRANSMISSIONS_MAX);
                    let block_bytes: usize = sizes[range.clone()].iter().sum();
                    prop_assert!(block_bytes <= BLOCK_CONTENT_BYTES);
                    if place > 0 && matches!(plan[place - 1], Batch::Transmissions(_)) {
                        // The one before did not fit into this block.
                        prop_assert!(
                            block_bytes + sizes[range.start - 1] > BLOCK_CONTENT_BYTES
                                || range.len() == BATCH_TRANSMISSIONS_MAX
                        );
                    }
                    next = range.end;
                }
            }
        }
        prop_assert_eq!(next, sizes.len());
    }

    #[test]
    fn padded_content_is_read_back(content in vec(any::<u8>(), 0..300), padded_bytes in 0..400_usize) {
        let mut padded = Vec::new();
        if pad(&content, padded_bytes, &mut padded).is_ok() {
            prop_assert_eq!(padded.len(), padded_bytes);
            prop_assert_eq!(unpad(&padded), Ok(content.as_slice()));
        } else {
            prop_assert!(padded_bytes < content.len() + 2);
        }
    }

    #[test]
    fn base64url_is_read_back(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(decode_base64url(base64url(&bytes)), Ok(bytes.clone()));
        prop_assert_eq!(decode_base64url(base64url_unpadded(&bytes)), Ok(bytes));
    }
}
