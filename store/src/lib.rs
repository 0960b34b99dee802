//! One shard's state: its queues, their keys and their undelivered messages.
//!
//! A [`Store`] is a state machine without I/O, clock or randomness: times and random bytes are arguments, bodies are of
//! the caller's type. It belongs to one shard, which alone reads and writes it, so there is no lock in it.
//!
//! | module | what it knows |
//! |---|---|
//! | [`id`] | queue IDs, the secret hash that maps an ID to a partition, partitions to shards |
//! | [`queue`], [`parts`] | the record of a queue; what only some queues have |
//! | [`service`] | services and their totals |
//! | [`message`] | messages of one queue: order, quota, expiry |
//! | [`store`] | the table of queues with its indexes, and the operations on them |
//! | [`log`] | the durable log: records, group commit, recovery, erasure |
//! | [`disk`] | disks that block, for recovery, tools and tests |
//! | `sim` | a simulated disk (feature `simulation`) |

#![forbid(unsafe_code)]

pub mod disk;
pub mod id;
pub mod log;
pub mod message;
pub mod parts;
pub mod queue;
pub mod service;
#[cfg(feature = "simulation")]
pub mod sim;
pub mod store;

pub use id::{BUCKETS, Bucket, Fingerprint, IdHash, IdHasher, PARTITIONS, PartitionMap, QueueId, ServiceId};
pub use log::{Applied, BodyPlace, Entry, Log, MemoryLog, Position, Record, SegmentLog, StoredBody};
pub use message::{Content, Message, MessageId, MessageQueue, Written};
pub use parts::{Link, NOTIFICATION_META_BYTES_MAX, NOTIFICATIONS_MAX, NewNotifier, Notification, Notifier};
pub use queue::{Activity, NewParts, NewQueue, Queue, RECIPIENT_KEYS_MAX, Status};
pub use service::{Service, ServiceParty, ServiceTotal, id_hash};
pub use store::{ChangeError, DuplicateId, DuplicateService, KeyConflict, Party, QueueIx, Store};
