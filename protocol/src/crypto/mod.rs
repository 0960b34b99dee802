//! What SMP encrypts, agrees and authorizes.
//!
//! | module | what it knows |
//! |---|---|
//! | [`boxes`] | boxes under a derived key: sealed and opened in place or from buffer to buffer |
//! | [`dh`] | X25519 keys and the secrets agreed with them |
//! | [`chain`] | the chain of keys and nonces of one direction of a session |
//! | [`block`] | padding and encryption of transport blocks |
//! | [`authorization`] | signatures and authenticators of commands |
//! | [`delivery`] | messages and notification metadata as a router encrypts them for the recipient |
//! | [`ed448`] | signatures of rarer keys, and of most routers' certificates |
//! | [`ids`] | IDs derived from other values |
//! | `secretbox`, `avx512` | the cipher of boxes, by whatever is fastest here |
//! | `sha512` | hashes of messages, and those of the chains |
//! | `edwards25519` | points of Ed25519, for keys that sign often and for many multiples of the base point |
//! | `several` | keys and signatures, several made at once |
//! | `sodium`, `awslc` | the calls into libsodium and AWS-LC |
//!
//! Keys and secrets are erased when dropped and never printed.

pub mod authorization;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod awslc;
pub mod block;
pub mod boxes;
pub mod chain;
pub mod delivery;
pub mod dh;
pub mod ed448;
mod edwards25519;
pub mod ids;
mod secretbox;
pub(crate) mod several;
pub(crate) mod sha512;
mod sodium;

pub use authorization::{AuthPrivateKey, OwnedAuthorization};
pub use block::BlockCipher;
pub use boxes::{BoxKey, Nonce};
pub use dh::{DhPrivateKey, DhSecret};

pub use crate::encoding::TooLarge;

/// Why something sealed could not be opened. The sender is at fault, or the keys differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than a tag, or not of the one size that is allowed here.
    #[error("{0} bytes cannot be a sealed box here")]
    Size(usize),
    /// The tag does not match: changed bytes, another key or another nonce.
    #[error("the authentication tag does not match")]
    Tag,
    /// The clear text is not padded: its length field says more than there is.
    #[error("the clear text is not padded content")]
    Padding,
    /// The clear text was padded, but its content is not what belongs here.
    #[error("the clear text is not valid: {0}")]
    Content(&'static str),
}
