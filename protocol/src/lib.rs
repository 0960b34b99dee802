//! `SimpleX` protocols without I/O: no socket, clock, runtime or file. Randomness and time are passed in.
//!
//! The parts, from the bytes up:
//!
//! | module | what it knows |
//! |---|---|
//! | [`encoding`] | primitive encodings: lengths, strings, padding, base64url |
//! | [`version`] | SMP versions and ranges, what each version changed |
//! | [`keys`] | public keys in X.509 `SubjectPublicKeyInfo` form |
//! | [`command`], [`response`], [`error`] | the words of SMP, by version |
//! | [`transmission`] | authorization, IDs and command of one transmission; blocks of them |
//! | [`crypto`] | boxes, key agreement, authorization, block key chains, delivered messages |
//! | [`handshake`] | hello blocks of routers and clients as state machines |
//! | [`tls`], [`certificate`] | TLS parameters, session identifier, identities |
//! | [`websocket`] | frames and the HTTP request of web clients |
//! | [`address`] | router addresses and queue URIs |

pub mod address;
pub mod certificate;
pub mod command;
pub mod crypto;
pub mod encoding;
pub mod error;
pub mod handshake;
pub mod keys;
pub mod limits;
pub mod response;
pub mod tls;
pub mod transmission;
pub mod version;
pub mod websocket;
