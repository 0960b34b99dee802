//! Material for the benches: sessions, keys and blocks as a router sees them.

#![forbid(unsafe_code)]

use ringpost_protocol::command::{Command, MsgFlags};
use ringpost_protocol::crypto::authorization::AuthPrivateKey;
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::transmission::{Authorization, Authorized, Format};
use ringpost_protocol::version::SmpVersion;

/// The body of a message of the apps.
pub const BODY_BYTES: usize = 16_000;
/// The version of the benched sessions.
pub const VERSION: SmpVersion = SmpVersion::BLOCKED_NOTICE;
/// The session ID of the benched sessions.
pub const SESSION_ID: [u8; 32] = [5; 32];

/// The router's key of the benched sessions.
pub fn router_key() -> DhPrivateKey {
    DhPrivateKey::from_bytes([9; 32])
}

/// A transmission, authorized as a client does it. None if the key cannot authorize.
pub fn transmission(key: &AuthPrivateKey, entity_id: &[u8; 24], command: &Command<'_>) -> Option<Vec<u8>> {
    let corr_id = [3; 24];
    let format = Format::of_session(VERSION);
    let mut buffer = Vec::new();
    let authorized = Authorized::command(format, &SESSION_ID, &corr_id, entity_id, command, &mut buffer);
    let made =
        key.authorize(&[authorized.for_authorization()], Some(&router_key().public()), &corr_id).ok()?;
    let mut out = Vec::new();
    authorized.write(Authorization::from_bytes(made.as_bytes())?, None, &mut out);
    Some(out)
}

/// A SEND of [`BODY_BYTES`], authorized with an X25519 key as the apps do it.
pub fn send(key: &AuthPrivateKey, entity_id: &[u8; 24]) -> Option<Vec<u8>> {
    let body = vec![7; BODY_BYTES];
    transmission(key, entity_id, &Command::Send { flags: MsgFlags { notification: true }, body: &body })
}
