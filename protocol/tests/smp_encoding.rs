//! Commands, responses and errors against recorded bytes (`smp_encoding.json`), and the forms of version 19, which
//! the recorded implementation did not have, written out from the protocol text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod words;

use common::{hex, items, load, name};
use ringpost_protocol::command::{Command, MsgFlags, ServiceSubs};
use ringpost_protocol::encoding::{Reader, decode_base64url, pad, pad_in_place, unpad};
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use serde_json::Value;
use sha2::{Digest, Sha256};
use words::{command_as_read, error_as_read, response_as_read, shown, versions};

const V19: SmpVersion = SmpVersion::SERVICE_SUBSCRIPTIONS;

fn encoded_command(command: &Command<'_>, version: SmpVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode(version, &mut bytes);
    bytes
}

fn encoded_response(response: &Response<'_>, version: SmpVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.encode(version, &mut bytes);
    bytes
}

/// Calls `check` with version and bytes of every recorded encoding of the case.
fn for_each_encoding(case: &Value, mut check: impl FnMut(SmpVersion, &[u8])) {
    for encoding in items(&case["encodings"]) {
        let bytes = hex(&encoding["hex"]);
        for version in versions(encoding) {
            check(version, &bytes);
        }
    }
}

#[test]
fn commands_have_the_recorded_bytes() {
    for case in items(&load("smp_encoding.json")["commands"]) {
        let command = words::command(case);
        for_each_encoding(case, |version, bytes| {
            assert_eq!(encoded_command(&command, version), bytes, "{} at {version:?}", name(case));
            let parsed = Command::parse(version, bytes).unwrap();
            assert_eq!(parsed, command_as_read(&command, version), "{} at {version:?}", name(case));
        });
    }
}

#[test]
fn responses_have_the_recorded_bytes() {
    for case in items(&load("smp_encoding.json")["responses"]) {
        let response = words::response(case);
        for_each_encoding(case, |version, bytes| {
            assert_eq!(encoded_response(&response, version), bytes, "{} at {version:?}", name(case));
            let parsed = Response::parse(version, bytes).unwrap();
            assert_eq!(parsed, response_as_read(&response, version), "{} at {version:?}", name(case));
        });
    }
}

#[test]
fn errors_have_the_recorded_bytes() {
    for case in items(&load("smp_encoding.json")["errors"]) {
        let error = shown::error(case["fields"]["value"].as_str().unwrap());
        let response = Response::Err(error.clone());
        for_each_encoding(case, |version, bytes| {
            assert_eq!(encoded_response(&response, version), bytes, "{} at {version:?}", name(case));
            let parsed = Response::parse(version, bytes).unwrap();
            let expected = Response::Err(error_as_read(&error, version));
            assert_eq!(parsed, expected, "{} at {version:?}", name(case));
            assert_eq!(ErrorType::parse(&bytes[4..]), Ok(error_as_read(&error, version)));
        });
    }
}

/// The reference has one error for a tag nobody knows, and others for parameters.
fn expected_refusal(error: &str) -> ErrorType {
    ErrorType::Cmd(if error == "tag" { CommandError::Unknown } else { CommandError::Syntax })
}

fn case_version(case: &Value) -> SmpVersion {
    SmpVersion(u16::try_from(case["version"].as_u64().unwrap()).unwrap())
}

#[test]
fn responses_are_read_as_recorded() {
    for case in items(&load("smp_encoding.json")["parse_responses"]) {
        let bytes = hex(&case["hex"]);
        let parsed = Response::parse(case_version(case), &bytes);
        let Some(shown) = case["parsed"].as_str() else {
            assert_eq!(parsed, Err(expected_refusal(case["error"].as_str().unwrap())), "{}", name(case));
            continue;
        };
        let expected = match shown.strip_prefix("ERR ") {
            Some(error) => Response::Err(shown::error(error)),
            None if shown == "SOK Nothing" => Response::Sok { service_id: None },
            None => panic!("a response the vectors did not have before: {shown}"),
        };
        assert_eq!(parsed, Ok(expected.clone()), "{}", name(case));
        let again = encoded_response(&expected, case_version(case));
        assert_eq!(again, hex(&case["reencoded"]), "{}", name(case));
    }
}

#[test]
fn commands_are_read_as_recorded() {
    let vectors = load("smp_encoding.json");
    for case in items(&vectors["parse_commands"]) {
        let bytes = hex(&case["hex"]);
        let parsed = Command::parse(case_version(case), &bytes);
        if let Some(error) = case["error"].as_str() {
            assert_eq!(parsed, Err(expected_refusal(error)), "{}", name(case));
            continue;
        }
        let expected = match name(case) {
            "SEND with longer flags (up to the next space are skipped)" => {
                Command::Send { flags: MsgFlags { notification: true }, body: b"body" }
            }
            "SKEY at version 6" => Command::SKey(
                AuthPublicKey::from_der(&hex(&vectors["keys"]["ed25519"]["public_der"])).unwrap(),
            ),
            other => panic!("a case the vectors did not have before: {other}"),
        };
        assert_eq!(parsed, Ok(expected.clone()), "{}", name(case));
        assert_eq!(encoded_command(&expected, case_version(case)), hex(&case["reencoded"]), "{}", name(case));
    }
}

#[test]
fn every_prefix_of_every_recorded_message_is_read_or_refused() {
    let vectors = load("smp_encoding.json");
    let mut refused = 0;
    for group in ["commands", "responses", "errors"] {
        for case in items(&vectors[group]) {
            for_each_encoding(case, |version, bytes| {
                for length in 0..bytes.len() {
                    let command = Command::parse(version, &bytes[..length]);
                    let response = Response::parse(version, &bytes[..length]);
                    // What is read from a prefix is a whole message: it is written as the same bytes, unless the
                    // error has an older spelling or details that are not written.
                    if let Ok(command) = &command {
                        assert_eq!(encoded_command(command, version), bytes[..length], "{}", name(case));
                    }
                    if let Ok(response @ (Response::Msg { .. } | Response::Ids(_) | Response::Pkey { .. })) =
                        &response
                    {
                        assert_eq!(encoded_response(response, version), bytes[..length], "{}", name(case));
                    }
                    refused += usize::from(command.is_err() && response.is_err());
                }
            });
        }
    }
    assert!(refused > 1000, "only {refused} prefixes were refused");
}

/// `count` as Int64 and the hash after its length byte, as the text of version 19 has them.
fn service_subs_bytes(tag: &str) -> (ServiceSubs, Vec<u8>) {
    let ids_hash = [0xab; 16];
    let mut bytes = tag.as_bytes().to_vec();
    bytes.extend(b" \x00\x00\x00\x01\x00\x00\x00\x05\x10");
    bytes.extend(ids_hash);
    (ServiceSubs { count: 4_294_967_301, ids_hash }, bytes)
}

#[test]
fn version_19_counts_and_hashes_service_subscriptions() {
    let (subs, bytes) = service_subs_bytes("SUBS");
    assert_eq!(encoded_command(&Command::Subs(subs), V19), bytes);
    assert_eq!(Command::parse(V19, &bytes), Ok(Command::Subs(subs)));

    let (subs, bytes) = service_subs_bytes("NSUBS");
    assert_eq!(encoded_command(&Command::NSubs(subs), V19), bytes);
    assert_eq!(Command::parse(V19, &bytes), Ok(Command::NSubs(subs)));

    let (subs, bytes) = service_subs_bytes("SOKS");
    assert_eq!(encoded_response(&Response::Soks(subs), V19), bytes);
    assert_eq!(Response::parse(V19, &bytes), Ok(Response::Soks(subs)));

    let (subs, bytes) = service_subs_bytes("ENDS");
    assert_eq!(encoded_response(&Response::Ends(subs), V19), bytes);
    assert_eq!(Response::parse(V19, &bytes), Ok(Response::Ends(subs)));

    assert_eq!(encoded_response(&Response::Alls, V19), b"ALLS");
    assert_eq!(Response::parse(V19, b"ALLS"), Ok(Response::Alls));

    let syntax = Err(ErrorType::Cmd(CommandError::Syntax));
    assert_eq!(Command::parse(V19, b"SUBS"), syntax, "the form of 18");
    let (_, mut bytes) = service_subs_bytes("NSUBS");
    bytes[14] = 15;
    bytes.pop();
    assert_eq!(Command::parse(V19, &bytes), syntax, "a hash of 15 bytes");
}

#[test]
fn version_19_has_the_other_forms_of_18() {
    let vectors = load("smp_encoding.json");
    for case in items(&vectors["commands"]) {
        let command = words::command(case);
        if !matches!(command, Command::Subs(_) | Command::NSubs(_)) {
            let bytes = encoded_command(&command, SmpVersion::BLOCKED_NOTICE);
            assert_eq!(encoded_command(&command, V19), bytes, "{}", name(case));
            assert_eq!(Command::parse(V19, &bytes).unwrap(), command, "{}", name(case));
        }
    }
    for case in items(&vectors["responses"]) {
        let response = words::response(case);
        if !matches!(response, Response::Soks(_) | Response::Ends(_)) {
            let bytes = encoded_response(&response, SmpVersion::BLOCKED_NOTICE);
            assert_eq!(encoded_response(&response, V19), bytes, "{}", name(case));
            assert_eq!(Response::parse(V19, &bytes).unwrap(), response, "{}", name(case));
        }
    }
}

#[test]
fn keys_have_the_recorded_der() {
    let keys = &load("smp_encoding.json")["keys"];
    for key in keys.as_object().unwrap().values() {
        let der = hex(&key["public_der"]);
        let parsed = AuthPublicKey::from_der(&der).unwrap();
        assert_eq!(parsed.raw(), hex(&key["public"]));
        assert_eq!(parsed.to_der(), der);
        if key["alg"] == "X25519" {
            let parsed = DhPublicKey::from_der(&der).unwrap();
            assert_eq!(parsed.0.as_slice(), hex(&key["public"]));
            assert_eq!(parsed.to_der().as_slice(), der);
        } else {
            assert!(DhPublicKey::from_der(&der).is_err());
        }
    }
}

/// A value of `blocks.json`: hex, or the digest of a long value that repeats its last byte.
fn long_value(value: &Value) -> Vec<u8> {
    if let Some(text) = value.as_str() {
        return hex::decode(text).unwrap();
    }
    let last = *hex(&value["last32"]).last().unwrap();
    let bytes = vec![last; usize::try_from(value["len"].as_u64().unwrap()).unwrap()];
    assert_eq!(Sha256::digest(&bytes).as_slice(), hex(&value["sha256"]), "not one byte repeated");
    bytes
}

#[test]
fn padding_is_as_recorded() {
    let vectors = load("blocks.json");
    for case in items(&vectors["pad"]) {
        let message = long_value(&case["message"]);
        let padded_bytes = usize::try_from(case["padded_len"].as_u64().unwrap()).unwrap();
        let mut padded = b"before".to_vec();
        let result = pad(&message, padded_bytes, &mut padded);
        let mut place = vec![0x55; padded_bytes];
        if let Some(content) = place.get_mut(2..2 + message.len()) {
            content.copy_from_slice(&message);
        }
        let result_in_place = pad_in_place(&mut place, message.len());
        assert_eq!(result, result_in_place, "{}", name(case));
        if case["result"].is_string() {
            assert!(result.is_err(), "{}", name(case));
            assert_eq!(padded, b"before", "{}", name(case));
            continue;
        }
        let padded = padded.strip_prefix(b"before").unwrap();
        assert_eq!(padded, place, "{}", name(case));
        if case["result"]["hex"].is_string() {
            assert_eq!(padded, hex(&case["result"]["hex"]), "{}", name(case));
        } else {
            assert_eq!(Sha256::digest(padded).as_slice(), hex(&case["result"]["sha256"]), "{}", name(case));
        }
        assert_eq!(unpad(padded), Ok(message.as_slice()), "{}", name(case));
    }
    for case in items(&vectors["unpad"]) {
        let padded = hex(&case["padded"]);
        match case["result"]["hex"].as_str() {
            Some(content) => {
                assert_eq!(unpad(&padded).unwrap(), hex::decode(content).unwrap(), "{}", name(case));
            }
            None => assert!(unpad(&padded).is_err(), "{}", name(case)),
        }
    }
}

#[test]
fn base64url_is_read_with_and_without_padding() {
    use ringpost_protocol::encoding::{base64url, base64url_unpadded};
    for length in 0..40_u8 {
        let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(89).wrapping_add(200)).collect();
        let (padded, unpadded) = (base64url(&bytes), base64url_unpadded(&bytes));
        assert_eq!(padded.trim_end_matches('='), unpadded);
        assert_eq!(padded.len() % 4, 0);
        assert_eq!(decode_base64url(&padded).unwrap(), bytes);
        assert_eq!(decode_base64url(&unpadded).unwrap(), bytes);
    }
    assert_eq!(base64url(&[0xfb, 0xff]), "-_8=");
    for bad in ["a", "+/8=", "-_8 ", "-_8==", "-_9=", "-w=", "AAAA=", "AAAA==", "=", "===="] {
        assert!(decode_base64url(bad).is_err(), "{bad}");
    }
}

#[test]
fn version_ranges_are_in_order() {
    let range = VersionRange::new(SmpVersion(8), SmpVersion(17)).unwrap();
    let mut bytes = Vec::new();
    range.write(&mut bytes);
    assert_eq!(bytes, [0, 8, 0, 17]);
    assert_eq!(VersionRange::read(&mut Reader::new(&bytes)), Ok(range));
    assert!(VersionRange::read(&mut Reader::new(&[0, 9, 0, 8])).is_err());
    assert!(VersionRange::read(&mut Reader::new(&[0, 9, 0])).is_err());
}

#[test]
fn send_bodies_have_the_limit_of_the_version() {
    for (version, body_bytes) in
        [(6, 16_088), (7, 16_088), (8, 16_064), (10, 16_064), (11, 16_048), (18, 16_048), (19, 16_048)]
    {
        assert_eq!(Command::send_body_bytes_max(SmpVersion(version)), body_bytes, "version {version}");
    }
}

#[test]
fn errors_inside_each_other_are_bounded() {
    let nested = |levels: usize| format!("ERR {}AUTH", "PROXY PROTOCOL ".repeat(levels)).into_bytes();
    assert!(Response::parse(V19, &nested(8)).is_ok());
    let syntax = Err(ErrorType::Cmd(CommandError::Syntax));
    assert_eq!(Response::parse(V19, &nested(9)), syntax);
    assert_eq!(Response::parse(V19, &nested(1000)), syntax);
}

#[test]
fn passwords_are_printable() {
    let prxy = |password: &[u8]| {
        let mut bytes = b"PRXY \x01\x01h\x00\x00".to_vec();
        bytes.extend([b'1', u8::try_from(password.len()).unwrap()]);
        bytes.extend(password);
        Command::parse(V19, &bytes).is_ok()
    };
    assert!(prxy(b"abc~!"));
    assert!(prxy(b""));
    for refused in [b"a b", b"a@b", b"a:b", b"a/b", b"a\nb", b"a\x7fb", b"a\xa0b", b"a\xadb"] {
        assert!(!prxy(refused), "{refused:?}");
    }
}
