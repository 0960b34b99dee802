//! Transmissions, blocks and batches against recorded bytes (`smp_transmission.json`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod words;

use common::{hex, items, load, maybe_hex, name};
use ed25519_dalek::{Signature, VerifyingKey};
use ringpost_protocol::command::{Command, MsgFlags};
use ringpost_protocol::encoding::{pad, pad_in_place};
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::limits::{BLOCK_BYTES, BLOCK_CONTENT_BYTES, DELIVERY_ENCRYPTED_BYTES};
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{
    Authorization, Authorized, BadTransmission, Batch, BlockBuilder, Format, Refused, Transmission,
    decode_commands, parse_content, plan_batches, write_response,
};
use ringpost_protocol::version::SmpVersion;
use serde_json::Value;
use sha2::{Digest, Sha256};

const FILE: &str = "smp_transmission.json";

fn version(case: &Value) -> SmpVersion {
    SmpVersion(u16::try_from(case["version"].as_u64().unwrap()).unwrap())
}

fn format(case: &Value) -> Format {
    Format::of_session(version(case))
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

fn padded_block(content: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    pad(content, BLOCK_BYTES, &mut block).unwrap();
    block
}

/// A block filled in its place with transmissions that are already encoded, without session ID of its own.
fn filled_block(transmissions: &[&[u8]]) -> (Vec<u8>, usize) {
    let mut block = vec![0x55; BLOCK_BYTES];
    let mut builder = BlockBuilder::new(&mut block[2..], Format::of_session(SmpVersion::MAX), &[]);
    for transmission in transmissions {
        builder.push_transmission(transmission).unwrap();
    }
    let content_bytes = builder.content_bytes();
    pad_in_place(&mut block, content_bytes).unwrap();
    (block, content_bytes)
}

#[test]
fn transmissions_of_commands_have_the_recorded_bytes() {
    let vectors = load(FILE);
    let session_id = hex(&vectors["session_id"]);
    let mut buffer = Vec::new();
    for case in items(&vectors["transmissions"]) {
        let format = format(case);
        let (corr_id, entity_id) = (hex(&case["corr_id"]), hex(&case["entity_id"]));
        let command_bytes = hex(&case["command"]);
        let command = Command::parse(format.version, &command_bytes).unwrap();
        let authorization_bytes = maybe_hex(&case["authorization"]).unwrap_or_default();
        let authorization = Authorization::from_bytes(&authorization_bytes).unwrap();
        let service_signature: Option<[u8; 64]> =
            maybe_hex(&case["service_signature"]).map(|signature| signature.try_into().unwrap());

        let authorized =
            Authorized::command(format, &session_id, &corr_id, &entity_id, &command, &mut buffer);
        assert_eq!(authorized.for_authorization(), hex(&case["for_authorization"]), "{}", name(case));
        assert_eq!(authorized.sent(), hex(&case["to_send_without_authorization"]), "{}", name(case));
        let mut transmission = Vec::new();
        authorized.write(authorization, service_signature.as_ref(), &mut transmission);
        assert_eq!(transmission, hex(&case["transmission"]), "{}", name(case));
        assert_eq!(
            authorized.transmission_bytes(authorization, service_signature.as_ref()),
            transmission.len(),
            "{}",
            name(case)
        );

        let (block, content_bytes) = filled_block(&[&transmission]);
        let content = &block[2..2 + content_bytes];
        assert_eq!(content, hex(&case["single_transmission_batch"]), "{}", name(case));
        assert_eq!(sha256(&block), hex(&case["block_sha256"]), "{}", name(case));
        assert_eq!(block, padded_block(content));

        let parsed: Vec<_> = parse_content(content, format).collect();
        let [Ok(parsed)] = parsed[..] else { panic!("{}: {parsed:?}", name(case)) };
        assert_eq!(parsed.authorization, authorization, "{}", name(case));
        assert_eq!(parsed.service_signature, service_signature.as_ref(), "{}", name(case));
        let sent_session_id = if format.session_implied { &[] } else { session_id.as_slice() };
        assert_eq!(parsed.session_id, sent_session_id, "{}", name(case));
        assert_eq!(parsed.corr_id, corr_id, "{}", name(case));
        assert_eq!(parsed.entity_id, entity_id, "{}", name(case));
        assert_eq!(parsed.command, command_bytes, "{}", name(case));
        assert_eq!(parsed.authorized, hex(&case["to_send_without_authorization"]), "{}", name(case));
        let decoded = parsed.decode_command(format.version, &session_id).unwrap();
        assert_eq!(decoded, command, "{}", name(case));
    }
}

#[test]
fn recorded_signatures_cover_what_is_taken_for_authorization() {
    let vectors = load(FILE);
    let session_id = hex(&vectors["session_id"]);
    let public_key =
        |key: &Value| VerifyingKey::from_bytes(hex(&key["public"]).as_slice().try_into().unwrap()).unwrap();
    let queue_key = public_key(&vectors["client_keys"]["Ed25519"]);
    let service_key = public_key(&vectors["service"]["session_key"]);
    let fingerprint = hex(&vectors["service"]["certificate_fingerprint_sha256"]).try_into().unwrap();
    let (mut verified, mut verified_service) = (0, 0);
    let mut scratch = Vec::new();
    for case in items(&vectors["transmissions"]) {
        let bytes = hex(&case["transmission"]);
        let transmission = Transmission::parse(&bytes, format(case)).unwrap();
        let for_authorization = transmission.for_authorization(&session_id, &mut scratch);
        assert_eq!(for_authorization, hex(&case["for_authorization"]), "{}", name(case));
        assert_eq!(
            transmission.for_authorization_parts(&session_id).concat(),
            for_authorization,
            "{}",
            name(case)
        );

        let mut entity_key_signs = for_authorization;
        if let Some(signature) = transmission.service_signature {
            let both = transmission.for_service_authorization(&fingerprint, &session_id, &mut scratch);
            service_key.verify_strict(both.for_service_key, &Signature::from_bytes(signature)).unwrap();
            verified_service += 1;
            entity_key_signs = both.for_queue_key;
        }
        assert_eq!(entity_key_signs, hex(&case["entity_key_signs"]), "{}", name(case));
        if let Authorization::Ed25519(signature) = transmission.authorization {
            let key = if transmission.command == b"NSUBS" { &service_key } else { &queue_key };
            key.verify_strict(entity_key_signs, &Signature::from_bytes(signature))
                .unwrap_or_else(|error| panic!("{}: {error}", name(case)));
            verified += 1;
        }
    }
    assert!(verified > 20 && verified_service > 5, "{verified} and {verified_service} signatures");
}

#[test]
fn nothing_is_allocated_for_authorization_when_the_scratch_is_large_enough() {
    let vectors = load(FILE);
    let session_id = hex(&vectors["session_id"]);
    let mut scratch = Vec::with_capacity(BLOCK_BYTES);
    let place = scratch.as_ptr();
    for case in items(&vectors["transmissions"]) {
        let bytes = hex(&case["transmission"]);
        let format = format(case);
        let transmission = Transmission::parse(&bytes, format).unwrap();
        let for_authorization = transmission.for_authorization(&session_id, &mut scratch);
        if format.session_implied {
            assert_eq!(for_authorization.as_ptr(), place, "{}", name(case));
        } else {
            assert_eq!(for_authorization.as_ptr(), transmission.authorized.as_ptr(), "{}", name(case));
        }
    }
}

#[test]
fn transmissions_of_responses_have_the_recorded_bytes() {
    let vectors = load(FILE);
    let session_id = hex(&vectors["session_id"]);
    for case in items(&vectors["responses"]) {
        let format = format(case);
        let (corr_id, entity_id) = (hex(&case["corr_id"]), hex(&case["entity_id"]));
        let message = hex(&case["message"]);
        let response = Response::parse(format.version, &message).unwrap();

        let mut transmission = Vec::new();
        write_response(format, &session_id, &corr_id, &entity_id, &response, &mut transmission);
        assert_eq!(transmission, hex(&case["transmission"]), "{}", name(case));

        let mut content = [0; 200];
        let mut builder = BlockBuilder::new(&mut content, format, &session_id);
        assert!(builder.is_empty() && builder.content_bytes() == 0);
        builder.push_response(&corr_id, &entity_id, &response).unwrap();
        let content_bytes = builder.content_bytes();
        assert_eq!(content[..content_bytes], hex(&case["single_transmission_batch"]), "{}", name(case));

        let parsed: Vec<_> = parse_content(&content[..content_bytes], format).collect();
        let [Ok(parsed)] = parsed[..] else { panic!("{}: {parsed:?}", name(case)) };
        assert_eq!((parsed.corr_id, parsed.entity_id), (&corr_id[..], &entity_id[..]), "{}", name(case));
        assert_eq!(parsed.decode_response(format.version, &session_id), Ok(response), "{}", name(case));
        if !format.session_implied {
            let other = parsed.decode_response(format.version, b"another session");
            assert_eq!(other, Err(ErrorType::Session), "{}", name(case));
        }
    }
}

/// One item of `parsed` or `decoded` against what this implementation makes of it.
fn check_decoded(
    decoded: &Result<(Transmission<'_>, Command<'_>), BadTransmission<'_>>,
    expected: &Value,
    case: &Value,
    session_id: &[u8],
) {
    let mut scratch = Vec::new();
    match decoded {
        Ok((transmission, command)) => {
            assert_eq!(transmission.corr_id, hex(&expected["corr_id"]), "{}", name(case));
            assert_eq!(transmission.entity_id, hex(&expected["entity_id"]), "{}", name(case));
            assert_eq!(transmission.command, hex(&expected["command"]), "{}", name(case));
            let for_authorization = transmission.for_authorization(session_id, &mut scratch);
            assert_eq!(for_authorization, hex(&expected["authorized"]), "{}", name(case));
            command.encode(version(case), &mut Vec::new());
        }
        Err(bad) => {
            assert_eq!(bad.corr_id, hex(&expected["corr_id"]), "{}", name(case));
            assert_eq!(bad.entity_id, hex(&expected["entity_id"]), "{}", name(case));
            let error = words::shown::error(expected["error"].as_str().unwrap_or_else(|| {
                panic!("{}: refused with {:?}", name(case), bad.error);
            }));
            assert_eq!(bad.error, error, "{}", name(case));
            let mut response = Vec::new();
            Response::Err(bad.error.clone()).encode(version(case), &mut response);
            assert_eq!(response, hex(&expected["error_bytes"]), "{}", name(case));
        }
    }
}

#[test]
fn batches_have_the_recorded_bytes() {
    let vectors = load(FILE);
    let session_id = hex(&vectors["session_id"]);
    for case in items(&vectors["batches"]) {
        let content = hex(&case["content"]);
        let block = padded_block(&content);
        assert_eq!(sha256(&block), hex(&case["block_sha256"]), "{}", name(case));
        let first_bytes = hex(&case["block_first_bytes"]);
        assert_eq!(block[..first_bytes.len()], first_bytes, "{}", name(case));

        let decoded: Vec<_> = decode_commands(&content, format(case), &session_id).collect();
        let expected = items(&case["parsed"]);
        assert_eq!(decoded.len(), expected.len(), "{}", name(case));
        assert_eq!(decoded.len() as u64, case["count"].as_u64().unwrap(), "{}", name(case));
        for (decoded, expected) in decoded.iter().zip(expected) {
            check_decoded(decoded, expected, case, &session_id);
        }

        // Write the same block again from what was read.
        let mut buffer = Vec::new();
        let mut transmissions: Vec<Vec<u8>> = Vec::new();
        for (transmission, command) in decoded.iter().flatten() {
            let mut bytes = Vec::new();
            Authorized::command(
                format(case),
                &session_id,
                transmission.corr_id,
                transmission.entity_id,
                command,
                &mut buffer,
            )
            .write(transmission.authorization, transmission.service_signature, &mut bytes);
            transmissions.push(bytes);
        }
        let slices: Vec<&[u8]> = transmissions.iter().map(Vec::as_slice).collect();
        assert_eq!(filled_block(&slices), (block, content.len()), "{}", name(case));
    }
}

#[test]
fn bad_content_is_answered_as_recorded() {
    let vectors = load(FILE);
    let session_id = hex(&vectors["session_id"]);
    for case in items(&vectors["bad_content"]) {
        let content = hex(&case["content"]);
        let decoded = decode_commands(&content, format(case), &session_id);
        let expected = items(&case["decoded"]);
        assert_eq!(decoded.len(), expected.len(), "{}", name(case));
        for (decoded, expected) in decoded.zip(expected) {
            check_decoded(&decoded, expected, case, &session_id);
        }
    }
}

/// The transmissions that `input` of a batch count describes, such as `60 SUB, one SEND of 17000 bytes, 150 SUB`.
fn described_transmissions(case: &Value, session_id: &[u8]) -> Vec<Vec<u8>> {
    let format = format(case);
    let (id, signature, authenticator) = ([7; 24], [0; 64], [0; 80]);
    let command = |command: &Command<'_>, authorization: Authorization<'_>| {
        let (mut buffer, mut out) = (Vec::new(), Vec::new());
        Authorized::command(format, session_id, &id, &id, command, &mut buffer).write(
            authorization,
            None,
            &mut out,
        );
        out
    };
    let response = |corr_id: &[u8], response: &Response<'_>| {
        let mut out = Vec::new();
        write_response(format, session_id, corr_id, &id, response, &mut out);
        out
    };
    let mut transmissions = Vec::new();
    for part in case["input"].as_str().unwrap().split(", ") {
        let words: Vec<&str> = part.split(' ').filter(|word| *word != "equal").collect();
        let count: usize = if words[0] == "one" { 1 } else { words[0].parse().unwrap() };
        let bytes = || words[3].parse::<usize>().unwrap();
        let transmission = match words[1] {
            "SUB" => command(&Command::Sub, Authorization::Ed25519(&signature)),
            "SEND" => {
                let body = vec![0x41; bytes()];
                let authorization = if part.contains("X25519") || format.service_signature {
                    Authorization::Authenticator(&authenticator)
                } else {
                    Authorization::Ed25519(&signature)
                };
                command(&Command::Send { flags: MsgFlags::default(), body: &body }, authorization)
            }
            "SOK" => response(&id, &Response::Sok { service_id: None }),
            "END" => response(&[], &Response::End),
            "NMSG" => response(&[], &Response::Nmsg { nonce: &id, meta: &[0; 144] }),
            // These were recorded with a correlation ID, as MSG has it in the answer to ACK and GET.
            "MSG" => response(&id, &Response::Msg { msg_id: &id, body: &vec![0; bytes()] }),
            other => panic!("an input the vectors did not have before: {other}"),
        };
        transmissions.extend(std::iter::repeat_n(transmission, count));
    }
    transmissions
}

#[test]
fn batches_are_planned_as_recorded() {
    let vectors = load(FILE);
    let session_id = hex(&vectors["session_id"]);
    for case in items(&vectors["batch_counts"]) {
        let transmissions = described_transmissions(case, &session_id);
        let first_bytes = items(&case["sizes_of_transmissions"])[0].as_u64().unwrap();
        assert_eq!(transmissions[0].len() as u64, first_bytes, "{}", name(case));

        let sizes: Vec<usize> = transmissions.iter().map(|transmission| 2 + transmission.len()).collect();
        let plan = plan_batches(&sizes);
        let expected = items(&case["batches_in_sending_order"]);
        assert_eq!(plan.len(), expected.len(), "{}: {plan:?}", name(case));
        for (batch, expected) in plan.iter().zip(expected) {
            match batch {
                Batch::Transmissions(range) => {
                    assert_eq!(
                        range.len() as u64,
                        expected["transmissions"].as_u64().unwrap(),
                        "{}",
                        name(case)
                    );
                    let slices: Vec<&[u8]> = transmissions[range.clone()].iter().map(Vec::as_slice).collect();
                    let (_, content_bytes) = filled_block(&slices);
                    assert_eq!(content_bytes as u64, expected["bytes"].as_u64().unwrap(), "{}", name(case));
                }
                Batch::TooLarge(index) => {
                    assert_eq!(expected["error"], "TELargeMsg", "{}", name(case));
                    assert!(transmissions[*index].len() > BLOCK_CONTENT_BYTES - 2, "{}", name(case));
                }
            }
        }
        let in_plan: Vec<usize> = plan
            .iter()
            .flat_map(|batch| match batch {
                Batch::Transmissions(range) => range.clone(),
                Batch::TooLarge(index) => *index..index + 1,
            })
            .collect();
        assert_eq!(in_plan, (0..transmissions.len()).collect::<Vec<_>>(), "{}: order", name(case));
    }
}

#[test]
fn a_message_is_sealed_in_its_place() {
    let format = Format::of_session(SmpVersion::MAX);
    let id = [9; 24];
    let mut in_place = vec![0; BLOCK_BYTES - 2];
    let mut builder = BlockBuilder::new(&mut in_place, format, &[]);
    builder.push_response(&id, &id, &Response::Sok { service_id: None }).unwrap();
    builder.push_message(&[], &id, &id, DELIVERY_ENCRYPTED_BYTES).unwrap().fill(0xee);
    let content_bytes = builder.content_bytes();

    let mut copied = vec![0; BLOCK_BYTES - 2];
    let mut builder = BlockBuilder::new(&mut copied, format, &[]);
    builder.push_response(&id, &id, &Response::Sok { service_id: None }).unwrap();
    let body = [0xee; DELIVERY_ENCRYPTED_BYTES];
    builder.push_response(&[], &id, &Response::Msg { msg_id: &id, body: &body }).unwrap();
    assert_eq!(builder.content_bytes(), content_bytes);
    assert_eq!(in_place, copied);
}

#[test]
fn a_block_never_overflows() {
    let format = Format::of_session(SmpVersion::MAX);
    // Places of all small sizes, and blocks that are larger than a block may be.
    for place_bytes in (0..300).chain([BLOCK_BYTES - 2, BLOCK_BYTES, 20_000]) {
        for transmission_bytes in [0, 1, 2, 60, 255, 256, 8000] {
            let mut place = vec![0; place_bytes];
            let transmission = vec![0x41; transmission_bytes];
            let mut builder = BlockBuilder::new(&mut place, format, &[]);
            let mut expected = 0;
            loop {
                let room = builder.room();
                let before = builder.content_bytes();
                match builder.push_transmission(&transmission) {
                    Ok(()) => {
                        assert!(room >= transmission_bytes);
                        expected += 1;
                    }
                    Err(refused) => {
                        assert_eq!(refused, Refused::BlockFull);
                        assert!(room < transmission_bytes || expected == 255 || transmission_bytes == 0);
                        assert_eq!(builder.content_bytes(), before);
                        break;
                    }
                }
            }
            assert_eq!(builder.count(), expected);
            let content_bytes = builder.content_bytes();
            assert!(content_bytes <= place_bytes && content_bytes <= 1 + BLOCK_CONTENT_BYTES);
            if expected > 0 {
                assert_eq!(parse_content(&place[..content_bytes], format).len(), expected);
                assert_eq!(usize::from(place[0]), expected);
            }
        }
    }
}

#[test]
fn what_fits_no_block_is_told_from_a_full_block() {
    let mut place = vec![0; BLOCK_BYTES];
    let mut builder = BlockBuilder::new(&mut place, Format::of_session(SmpVersion::MAX), &[]);
    assert_eq!(builder.room(), BLOCK_CONTENT_BYTES - 2);
    let largest = vec![0; BLOCK_CONTENT_BYTES - 2];
    let larger = vec![0; BLOCK_CONTENT_BYTES - 1];
    assert_eq!(builder.push_transmission(&larger), Err(Refused::TooLarge));
    assert!(builder.is_empty());
    builder.push_transmission(&largest).unwrap();
    assert_eq!(builder.content_bytes(), 1 + BLOCK_CONTENT_BYTES);
    assert_eq!(builder.room(), 0);
    assert_eq!(builder.push_transmission(&larger), Err(Refused::TooLarge));
    assert_eq!(builder.push_transmission(&largest), Err(Refused::BlockFull));
    assert_eq!(plan_batches(&[BLOCK_CONTENT_BYTES]), [Batch::Transmissions(0..1)]);
    assert_eq!(plan_batches(&[BLOCK_CONTENT_BYTES + 1]), [Batch::TooLarge(0)]);
    assert_eq!(plan_batches(&[]), []);
    assert_eq!(plan_batches(&[usize::MAX, 1]), [Batch::TooLarge(0), Batch::Transmissions(1..2)]);
}

#[test]
fn a_forwarded_transmission_has_no_session_id_at_any_version() {
    let command = Command::Send { flags: MsgFlags::default(), body: b"x" };
    for version in 0..=30 {
        let format = Format::forwarded(SmpVersion(version));
        let (mut buffer, mut transmission) = (Vec::new(), Vec::new());
        let authorized = Authorized::command(format, b"session", b"corr", b"entity", &command, &mut buffer);
        authorized.write(Authorization::Authenticator(&[1; 80]), Some(&[2; 64]), &mut transmission);
        let parsed = Transmission::parse(&transmission, format).unwrap();
        assert_eq!(parsed.session_id, b"");
        assert_eq!(parsed.service_signature.is_some(), version >= 16);
        assert_eq!(
            parsed.for_authorization(b"session", &mut Vec::new()),
            authorized.for_authorization(),
            "version {version}"
        );
    }
}

#[test]
fn every_prefix_of_every_recorded_block_is_read_or_refused() {
    let vectors = load(FILE);
    let session_id = hex(&vectors["session_id"]);
    for case in items(&vectors["batches"]).iter().chain(items(&vectors["bad_content"])) {
        let content = hex(&case["content"]);
        for length in 0..content.len() {
            let decoded: Vec<_> = decode_commands(&content[..length], format(case), &session_id).collect();
            // No prefix of whole content is whole.
            if case["parsed"].is_array() {
                let unreadable = BadTransmission { corr_id: &[], entity_id: &[], error: ErrorType::Block };
                assert_eq!(decoded, [Err(unreadable)], "{} cut to {length}", name(case));
            }
        }
    }
    for case in items(&vectors["transmissions"]) {
        let bytes = hex(&case["transmission"]);
        for length in 0..bytes.len() {
            if let Ok(cut) = Transmission::parse(&bytes[..length], format(case)) {
                assert_eq!(cut.command.len() + bytes.len() - length, hex(&case["command"]).len());
            }
        }
    }
}
