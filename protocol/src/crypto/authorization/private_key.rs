//! Private keys of queues and services, on the client's side.

use std::fmt;

use ed25519_dalek::SigningKey as Ed25519Key;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign_byupdate};
use sha2::{Digest, Sha512};

use super::{OwnedAuthorization, authenticator_hash, make_authenticator};
use crate::crypto::boxes::nonce_from;
use crate::crypto::dh::DhPrivateKey;
use crate::crypto::ed448;
use crate::keys::{AuthPublicKey, DhPublicKey};

/// The private half of an [`AuthPublicKey`]. The seeds and the scalar come from a secure random source.
#[derive(Clone)]
pub enum AuthPrivateKey {
    Ed25519(Box<Ed25519Key>),
    Ed448(Box<ed448::PrivateKey>),
    X25519(DhPrivateKey),
}

/// Why a command could not be authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// An authenticator is bound to the router's key of the session, and the router gave none.
    #[error("the router has no session key, so an X25519 key cannot authorize")]
    NoSessionKey,
    #[error("the signature could not be computed")]
    Signature,
}

impl AuthPrivateKey {
    pub fn ed25519(seed: &[u8; 32]) -> Self {
        Self::Ed25519(Box::new(Ed25519Key::from_bytes(seed)))
    }

    pub fn ed448(seed: &[u8; 57]) -> Self {
        Self::Ed448(Box::new(ed448::PrivateKey::from_seed(seed)))
    }

    pub fn x25519(scalar: [u8; 32]) -> Self {
        Self::X25519(DhPrivateKey::from_bytes(scalar))
    }

    /// The seed or scalar that it was made from: 32, 57 or 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key.as_bytes(),
            Self::Ed448(key) => key.seed(),
            Self::X25519(key) => key.as_bytes(),
        }
    }

    pub fn public(&self) -> AuthPublicKey {
        match self {
            Self::Ed25519(key) => AuthPublicKey::Ed25519(key.verifying_key().to_bytes()),
            Self::Ed448(key) => AuthPublicKey::Ed448(Box::new(*key.public().as_bytes())),
            Self::X25519(key) => AuthPublicKey::X25519(key.public().0),
        }
    }

    /// Authorizes the joined parts. `session_key` is the router's key from its hello, and `corr_id` the
    /// correlation ID of the transmission: both matter to X25519 keys alone.
    pub fn authorize(
        &self,
        authorized: &[&[u8]],
        session_key: Option<&DhPublicKey>,
        corr_id: &[u8],
    ) -> Result<OwnedAuthorization, AuthorizeError> {
        match self {
            Self::Ed25519(key) => sign_ed25519(key, authorized),
            Self::Ed448(key) => Ok(OwnedAuthorization::Ed448(key.sign(authorized))),
            Self::X25519(key) => {
                let session_key = session_key.ok_or(AuthorizeError::NoSessionKey)?;
                let hash = authenticator_hash(authorized);
                let key = key.agree(session_key).box_key();
                Ok(OwnedAuthorization::Authenticator(make_authenticator(&key, &nonce_from(corr_id), &hash)))
            }
        }
    }
}

fn sign_ed25519(key: &Ed25519Key, authorized: &[&[u8]]) -> Result<OwnedAuthorization, AuthorizeError> {
    let expanded = ExpandedSecretKey::from(key.as_bytes());
    let signature = raw_sign_byupdate::<Sha512, _>(
        &expanded,
        |hash| {
            for part in authorized {
                hash.update(part);
            }
            Ok(())
        },
        &key.verifying_key(),
    )
    .map_err(|_| AuthorizeError::Signature)?;
    Ok(OwnedAuthorization::Ed25519(signature.to_bytes()))
}

impl fmt::Debug for AuthPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "AuthPrivateKey::Ed25519",
            Self::Ed448(_) => "AuthPrivateKey::Ed448",
            Self::X25519(_) => "AuthPrivateKey::X25519",
        })
    }
}
