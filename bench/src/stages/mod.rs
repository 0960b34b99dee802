//! Every primitive and stage, as a step that can be repeated.

mod crypto;
mod handshake;
mod mesh;
mod parse;
mod session;
mod store;

use crate::Outcome;
use crate::meter::Meter;

/// Does a step, and measures the part of it that is the stage.
pub type Step = Box<dyn FnMut(&mut Meter) -> Outcome>;

/// One stage of the way of a message.
#[derive(Clone, Copy)]
pub struct Stage {
    pub name: &'static str,
    /// What one step is.
    pub about: &'static str,
    /// How many things a step does: figures are for one.
    pub per_step: u32,
    /// Steps that are enough under callgrind: their spread (random keys of a handshake, IDs that are drawn) must not
    /// show.
    pub steps: u32,
    make: fn() -> Outcome<Step>,
}

impl Stage {
    /// Prepares it.
    pub fn make(&self) -> Outcome<Step> {
        (self.make)()
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn stage(name: &'static str, about: &'static str, make: fn() -> Outcome<Step>) -> Stage {
    Stage { name, about, per_step: 1, steps: 20, make }
}

/// All stages, in the order of a message's way.
pub const STAGES: &[Stage] = &[
    stage("tls-open", "open a TLS record with a block", crypto::tls_open),
    stage("tls-seal", "seal a block into a TLS record", crypto::tls_seal),
    stage("block-open", "open an encrypted block, with the step of its key chain", crypto::block_open),
    stage("block-seal", "pad and seal a block, with the step of its key chain", crypto::block_seal),
    stage("box-seal", "XSalsa20 and Poly1305 over a block, in place", crypto::box_seal),
    stage("chain", "derive the key and nonce of a block", crypto::chain),
    stage("message-seal", "seal a message for its recipient", crypto::message_seal),
    stage("message-hash", "SHA-512 of a message, for its authenticator", crypto::message_hash),
    stage("authenticator", "check an authenticator against its hash", crypto::authenticator),
    stage("agree", "X25519, and the key of boxes from it", crypto::agree),
    stage("tls-exchange", "TLS: an X25519 key made, and a secret agreed", crypto::tls_exchange),
    stage("make-key", "the public key of an X25519 key", crypto::make_key),
    stage("ed25519-sign", "sign with Ed25519", crypto::ed25519_sign),
    stage("ed25519-verify", "check the Ed25519 signature of an ACK", crypto::ed25519_verify),
    Stage {
        per_step: 64,
        ..stage("ed25519-batch", "check one of 64 signatures that came together", crypto::ed25519_batch)
    },
    stage("forward", "as a proxy: wrap a PFWD, and unwrap its answer", crypto::forward),
    stage("parse-send", "parse a SEND", parse::send),
    stage("parse-ack", "parse an ACK", parse::ack),
    Stage { per_step: 100, ..stage("parse-subs", "parse one of 100 SUBs of a block", parse::subs) },
    stage("store", "find a queue, write a message into it, take it out again", store::store),
    stage("log", "append and commit a message, append and commit its end", store::log),
    stage("mesh-hop", "hand a letter to another shard, and take it there", mesh::hop),
    Stage { per_step: 64, ..stage("mesh-scan", "look at one empty lane of 64", mesh::scan) },
    Stage {
        steps: 40,
        ..stage("message", "a message from record to record: SEND, OK, MSG, ACK, OK", session::message)
    },
    stage("ping", "a PING from record to record", session::ping),
    Stage {
        per_step: 100,
        ..stage("subscribe", "one of 100 SUBs of a block, from record to record", session::subscribe)
    },
    Stage { steps: 60, ..stage("create", "NEW with subscription, from record to record", session::create) },
    Stage {
        steps: 30,
        ..stage("handshake", "the router's part of the handshakes of TLS and protocol", handshake::handshake)
    },
];

/// The stage of this name.
pub fn find(name: &str) -> Option<&'static Stage> {
    STAGES.iter().find(|stage| stage.name == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_stage_does_its_steps() {
        for stage in STAGES {
            let mut step = stage.make().unwrap_or_else(|fault| panic!("{}: {fault}", stage.name));
            let mut meter = Meter::timed();
            for _ in 0..3 {
                step(&mut meter).unwrap_or_else(|fault| panic!("{}: {fault}", stage.name));
            }
            assert!(!meter.elapsed().is_zero(), "{} measures nothing", stage.name);
        }
    }

    #[test]
    fn names_are_different() {
        for (n, stage) in STAGES.iter().enumerate() {
            assert!(STAGES[..n].iter().all(|other| other.name != stage.name), "{}", stage.name);
            assert_eq!(find(stage.name).unwrap().name, stage.name);
        }
        assert!(find("none").is_none());
    }
}
