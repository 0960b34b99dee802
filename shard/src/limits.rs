//! Every cap of a router, with its default and what happens when it is reached.

use ringpost_protocol::limits::{BATCH_TRANSMISSIONS_MAX, BLOCK_BYTES};

use crate::arena::BUFFER_BYTES;

/// Caps that an operator may change. All are per router unless they say otherwise; a shard gets its equal part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections. More are closed right after they are accepted.
    pub connections: usize,
    /// Connections from one address (IPv4) or network (IPv6 /64). More are closed right after they are accepted.
    pub connections_per_address: usize,
    /// TLS and protocol handshakes under way. More are closed right after they are accepted. One address has at most an
    /// eighth of them.
    pub handshakes: usize,
    /// Blocks lent to connections: being read, or waiting to be written. Without one, a connection is not read, and a
    /// delivery waits.
    pub session_bytes: usize,
    /// Bodies of undelivered messages in memory. Above it the oldest are left to the log; without one, SEND is answered
    /// with ERR STORE.
    pub message_bytes: usize,
    /// Queues. Above it, NEW is answered with ERR STORE.
    pub queues: usize,
    /// Services, which are kept for ever. Above it, the handshake of a new one is answered with `BAD_SERVICE`. A shard has its
    /// part of them, by the hash of their certificates.
    pub services: usize,
    /// Subscriptions of one connection. Above it, SUB is answered with ERR QUOTA.
    pub subscriptions_per_connection: usize,
    /// Small responses of one connection that wait to be written, in bytes. Above it, the connection is not read.
    pub outbox_bytes: usize,
    /// Blocks of messages of one connection that wait to be written. Above it, deliveries to it wait in their queues,
    /// and GET waits for its answer.
    pub outbox_blocks: usize,
    /// From accepting to the end of the protocol handshake; then the connection is closed.
    pub handshake_secs: u64,
    /// From the first to the last byte of a block; then the connection is closed.
    pub block_secs: u64,
    /// A write that makes no progress; then the connection is closed.
    pub write_secs: u64,
    /// What is in flight when a stop is requested gets this long.
    pub stop_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_address: 20_000,
            handshakes: 2_000,
            session_bytes: 256 << 20,
            message_bytes: 1 << 30,
            queues: 50_000_000,
            services: 10_000,
            subscriptions_per_connection: 200_000,
            outbox_bytes: 256 << 10,
            outbox_blocks: 16,
            handshake_secs: 30,
            block_secs: 30,
            write_secs: 60,
            stop_secs: 5,
        }
    }
}

/// The part of the handshakes under way that one address may have.
pub const HANDSHAKES_PER_ADDRESS_DIVISOR: usize = 8;
/// An address may always have this many: phones behind one carrier address.
pub const HANDSHAKES_PER_ADDRESS_MIN: usize = 64;

/// TLS records that a block may be split into. Stacks that split at all use some kilobytes each.
pub const RECORDS_PER_BLOCK_MAX: usize = 512;

/// When no block is left for readers, a block that is not complete after this time ends its connection.
pub const BLOCK_SECS_WHEN_EXHAUSTED: u64 = 2;

/// Batches of one connection that are with the queues' home shards. More are not read until one is answered: enough
/// for the pipelines of real clients, small enough that one client cannot fill a mesh lane.
pub const BATCHES_IN_FLIGHT_PER_CONNECTION: usize = 4;

/// The same for a proxy, whose connection carries the commands of many clients, each in a block of its own: what a commit
/// takes together.
pub const BATCHES_IN_FLIGHT_PER_PROXY: usize = 64;

/// Relays that a shard keeps sessions with, connects to, or remembers a failure of. A client that asks for one more is
/// told TIMEOUT, which it takes for temporary. A busy proxy talks to a few hundred.
pub const RELAYS_PER_SHARD_MAX: usize = 1_024;
/// Clients that wait for the connection to one relay. Further ones are told TIMEOUT.
pub const RELAY_WAITING_MAX: usize = 4_096;
/// Connections to relays that are being made, of all shards: a thread each, that resolves and connects.
pub const RELAY_DIALS_MAX: usize = 256;
/// Commands that one relay has not answered. Further ones are answered TIMEOUT.
pub const RELAY_IN_FLIGHT_MAX: usize = 16_384;
/// Commands that wait to be written to relays, of all shards, in bytes. One relay has at most half of what is left, so
/// that relays which take nothing leave room for the others. Above it, commands are answered TIMEOUT.
pub const RELAY_QUEUE_BYTES: usize = 128 << 20;
/// Commands without an answer in a row after which a silent session is given up, as in the reference.
pub const RELAY_TIMEOUTS_MAX: usize = 3;

/// Slots of a mesh lane, from one shard to another. A full lane stops the sockets that feed it. 512 slots hold a few
/// milliseconds of work of a busy shard.
pub const MESH_LANE_SLOTS: usize = 512;

/// Messages taken from the mesh before other tasks get their turn.
pub const MESH_DRAIN_MAX: usize = 32;

/// Commands of a batch that are processed before other tasks get their turn. With a signature each, which cost 50 us
/// to check on a slow core, this keeps a turn below a millisecond. (A check of Ed448 takes several times as long and ends its turn.)
pub const COMMANDS_PER_TURN: usize = 16;

/// Sealed blocks that go into one write.
pub const BLOCKS_PER_WRITE: usize = 4;

/// Free blocks a shard keeps for the next reader instead of giving them back to the allocator: 4 MB.
pub const FREE_BLOCKS_KEPT: usize = 256;

/// Shared secrets of sender keys remembered for one connection: the number of queues a client sends to in a burst.
pub const SENDER_SECRETS_PER_CONNECTION: usize = 64;

/// Queues looked at for expired messages before other tasks get their turn.
pub const EXPIRY_STEP_QUEUES: usize = 256;
/// Of these, queues whose messages are dropped in one step.
pub const EXPIRY_STEP_OLD_QUEUES: usize = 8;
/// Messages dropped from one queue in one step.
pub const EXPIRY_STEP_MESSAGES: usize = 256;

/// Queues looked at, for what waits in those of a service, before other tasks get their turn.
pub const SERVICE_STEP_QUEUES: u32 = 1_024;
/// Of these, messages that are delivered in one step.
pub const SERVICE_STEP_DELIVERIES: usize = 8;
/// Of these, notifiers whose kept notifications are sent in one step: about a block of them.
pub const SERVICE_STEP_NOTIFIERS: usize = 4;
/// Messages of a service that are being read from the log, or wait for a block, before the search for more goes on.
pub const SERVICE_PENDING_MAX: usize = 32;

/// Bodies from this size on keep the block they came in; smaller ones are copied to memory of their own size, which
/// wastes less than the rest of a block.
pub const BODY_KEEPS_BLOCK_BYTES: usize = 12 * 1024;

/// Messages that a queue holds until its sender is told QUOTA, unless the ini says otherwise: as the reference.
pub const QUEUE_QUOTA: usize = 128;

/// TCP keepalive of accepted connections: subscribed phones are silent for hours, and some vanish without a word. A dead
/// peer is noticed after about ten minutes.
pub const KEEPALIVE_IDLE_SECS: u64 = 300;
pub const KEEPALIVE_INTERVAL_SECS: u64 = 60;
pub const KEEPALIVE_PROBES: u32 = 5;

const _: () = {
    assert!(BUFFER_BYTES >= BLOCK_BYTES + 22 + 256);
    assert!(BODY_KEEPS_BLOCK_BYTES < BUFFER_BYTES);
    assert!(COMMANDS_PER_TURN <= BATCH_TRANSMISSIONS_MAX);
    assert!(BLOCKS_PER_WRITE >= 1);
    assert!(SERVICE_STEP_NOTIFIERS <= SERVICE_STEP_DELIVERIES);
};
