//! Keys, blocks and transmissions as clients make them. All from fixed seeds: counts of instructions must repeat.

use ringpost_protocol::command::{Command, MsgFlags};
use ringpost_protocol::crypto::authorization::{AuthPrivateKey, OwnedAuthorization};
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::transmission::{Authorization, Authorized, Format};
use ringpost_protocol::version::SmpVersion;

use crate::Outcome;

/// The body of a message of the apps.
pub const BODY_BYTES: usize = 16_000;
/// The version of the benched sessions.
pub const VERSION: SmpVersion = SmpVersion::BLOCKED_NOTICE;
/// The session ID where there is no session.
pub const SESSION_ID: [u8; 32] = [5; 32];
/// 2027-01-15: within the lifetime of the certificates that are made here.
pub const NOW_SECS: u64 = 1_800_000_000;

/// The router's key where there is no session.
pub fn router_key() -> DhPrivateKey {
    DhPrivateKey::from_bytes([9; 32])
}

/// What a client's authorization covers beside the command.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub session_id: &'a [u8],
    pub router_key: &'a DhPublicKey,
}

/// A transmission, authorized as a client does it.
pub fn transmission(
    scope: Scope<'_>,
    key: Option<&AuthPrivateKey>,
    corr_id: &[u8; 24],
    entity_id: &[u8],
    command: &Command<'_>,
) -> Outcome<Vec<u8>> {
    let format = Format::of_session(VERSION);
    let mut buffer = Vec::new();
    let authorized = Authorized::command(format, scope.session_id, corr_id, entity_id, command, &mut buffer);
    let made = key
        .map(|key| key.authorize(&[authorized.for_authorization()], Some(scope.router_key), corr_id))
        .transpose()?;
    let authorization = made.as_ref().map_or(Authorization::None, OwnedAuthorization::as_borrowed);
    let mut out = Vec::new();
    authorized.write(authorization, None, &mut out);
    Ok(out)
}

/// A SEND of [`BODY_BYTES`] to one entity, as the apps authorize it.
pub fn send(
    scope: Scope<'_>,
    key: &AuthPrivateKey,
    corr_id: &[u8; 24],
    entity_id: &[u8],
) -> Outcome<Vec<u8>> {
    let body = [7; BODY_BYTES];
    let command = Command::Send { flags: MsgFlags { notification: true }, body: &body };
    transmission(scope, Some(key), corr_id, entity_id, &command)
}

/// Zeros where a block lies.
pub fn block() -> Box<[u8; BLOCK_BYTES]> {
    zeros()
}

/// Zeros on the heap.
pub fn zeros<const N: usize>() -> Box<[u8; N]> {
    match vec![0; N].into_boxed_slice().try_into() {
        Ok(zeros) => zeros,
        Err(_) => unreachable!("the slice was made with this length"),
    }
}

/// IDs that differ, as those of queues do.
pub fn id(number: u64, party: u8) -> [u8; 24] {
    let mut id = [party; 24];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    id[8..16].copy_from_slice(&number.to_le_bytes());
    id
}
