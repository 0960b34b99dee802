//! Command verification: "Command verification" and the end of "Error responses" of the protocol text.
//!
//! The time of an `ERR AUTH` depends on the kind of authorization that the client sent, not on whether the queue exists
//! or on the kind of its key: a check against a dummy key stands in where there is nothing to check against.

use ringpost_protocol::command::Command;
use ringpost_protocol::crypto::authorization::{
    DUMMY_X25519_KEY, KnownKeys, VerifyContext, authenticator_box_key, authenticator_hash, verify,
    verify_authenticator,
};
use ringpost_protocol::crypto::boxes::nonce_from;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::transmission::{Authorization, Transmission};
use ringpost_protocol::version::SmpVersion;

use super::commands::PROHIBITED;
use super::secrets::SecretCache;
use super::session::Session;

/// What is authorized, in parts that are to be joined.
pub struct Claim<'a> {
    pub authorization: Authorization<'a>,
    pub authorized: [&'a [u8]; 4],
    pub corr_id: &'a [u8],
    pub entity_id: &'a [u8],
}

/// Whether a command is one that this client may send, as far as services go: a service has one role, and signs what makes
/// a queue its own, beside the queue's key. Nobody else may sign so.
pub fn check_service(
    session: &Session,
    parsed: &Transmission<'_>,
    command: &Command<'_>,
) -> Result<(), ErrorType> {
    let service = session.service.as_deref();
    if let (Some(service), Some(role)) = (service, command.service_role())
        && service.role != role
    {
        return Err(PROHIBITED);
    }
    let is_right = match (service.filter(|_| command.is_service_signed()), parsed.service_signature) {
        (None, signature) => signature.is_none(),
        (Some(_), None) => false,
        (Some(service), Some(signature)) => {
            let context = VerifyContext { session_key: None, corr_id: parsed.corr_id };
            let authorized = parsed.for_authorization_parts(session.session_id.as_ref());
            verify(Authorization::Ed25519(signature), &authorized, Some(&service.key), context)
        }
    };
    if is_right { Ok(()) } else { Err(ErrorType::Service) }
}

/// Whether the claim was made by the owner of the key. False without a key, after the same work.
pub fn holds(
    claim: &Claim<'_>,
    key: Option<&AuthPublicKey>,
    session: &Session,
    secrets: &mut SecretCache,
    known_keys: &mut KnownKeys,
) -> bool {
    let authenticator = match claim.authorization {
        Authorization::Authenticator(authenticator) => authenticator,
        Authorization::Ed25519(signature) => {
            return known_keys.verify_ed25519(signature, &claim.authorized, key);
        }
        other => {
            let context = VerifyContext { session_key: None, corr_id: claim.corr_id };
            return verify(other, &claim.authorized, key, context);
        }
    };
    if session.version < SmpVersion::AUTH_COMMANDS {
        return false;
    }
    let public = match key {
        Some(AuthPublicKey::X25519(public)) => public,
        _ => &DUMMY_X25519_KEY.0,
    };
    let secret =
        secrets.secret(claim.entity_id, public, || authenticator_box_key(&session.router_key, key).0);
    let hash = authenticator_hash(&claim.authorized);
    let matches = verify_authenticator(secret, &nonce_from(claim.corr_id), &hash, authenticator);
    std::hint::black_box(matches) & matches!(key, Some(AuthPublicKey::X25519(_)))
}
