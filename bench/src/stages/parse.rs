//! From bytes to commands.

use std::hint::black_box;

use ringpost_protocol::command::Command;
use ringpost_protocol::crypto::authorization::AuthPrivateKey;
use ringpost_protocol::transmission::{BlockBuilder, Format, Transmission, parse_content};

use super::Step;
use crate::Outcome;
use crate::material::{SESSION_ID, Scope, VERSION, block, router_key, transmission};

fn parse_one(bytes: Vec<u8>) -> Step {
    Box::new(move |meter| {
        meter.run(|| {
            let parsed = Transmission::parse(black_box(&bytes), Format::of_session(VERSION))
                .map_err(|bad| format!("{:?}", bad.error))?;
            let command =
                parsed.decode_command(VERSION, &SESSION_ID).map_err(|error| format!("{error:?}"))?;
            black_box(command);
            Ok(())
        })
    })
}

pub fn send() -> Outcome<Step> {
    let router = router_key().public();
    let scope = Scope { session_id: &SESSION_ID, router_key: &router };
    let key = AuthPrivateKey::x25519([2; 32]);
    Ok(parse_one(crate::material::send(scope, &key, &[3; 24], &[4; 24])?))
}

pub fn ack() -> Outcome<Step> {
    let router = router_key().public();
    let scope = Scope { session_id: &SESSION_ID, router_key: &router };
    let key = AuthPrivateKey::ed25519(&[1; 32]);
    let command = Command::Ack { msg_id: &[6; 24] };
    Ok(parse_one(transmission(scope, Some(&key), &[3; 24], &[4; 24], &command)?))
}

pub fn subs() -> Outcome<Step> {
    let router = router_key().public();
    let scope = Scope { session_id: &SESSION_ID, router_key: &router };
    let key = AuthPrivateKey::ed25519(&[1; 32]);
    let mut block = block();
    let format = Format::of_session(VERSION);
    let mut content = BlockBuilder::new(&mut block[..], format, &SESSION_ID);
    for number in 0..100 {
        content.push_transmission(&transmission(
            scope,
            Some(&key),
            &[number; 24],
            &[4; 24],
            &Command::Sub,
        )?)?;
    }
    let content_bytes = content.content_bytes();
    Ok(Box::new(move |meter| {
        meter.run(|| {
            for parsed in parse_content(black_box(&block[..content_bytes]), format) {
                let parsed = parsed.map_err(|bad| format!("{:?}", bad.error))?;
                let command =
                    parsed.decode_command(VERSION, &SESSION_ID).map_err(|error| format!("{error:?}"))?;
                black_box(command);
            }
            Ok(())
        })
    }))
}
