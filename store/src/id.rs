//! Queue IDs and where they live.
//!
//! A secret keyed hash maps an ID to one of 256 partitions, and partitions map to shards by range. Without the key
//! nothing about an ID tells its partition. Logs record partitions, so the number of shards may change at any start.

use std::ops::Range;

use ringpost_protocol::limits::ID_BYTES;
use siphasher::sip::SipHasher13;

/// The ID of a queue for one of its parties: 24 random bytes.
pub type QueueId = [u8; ID_BYTES];

/// The ID of a service: 24 random bytes.
pub type ServiceId = [u8; ID_BYTES];

/// SHA-256 of a service's identity certificate.
pub type Fingerprint = [u8; 32];

/// Partitions of a router's state. The hash has one byte for them.
pub const PARTITIONS: usize = 256;

/// The secret hash of an ID. Its top byte is the partition, the rest is used by the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdHash(pub u64);

impl IdHash {
    /// For the indexes of one shard. They tell entries apart by the first bits, which all IDs of a shard would share.
    pub fn for_index(self) -> u64 {
        self.0.rotate_left(32)
    }

    pub fn partition(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    pub fn bucket(self) -> Bucket {
        let [partition, sub, ..] = self.0.to_be_bytes();
        Bucket::new(partition, sub)
    }
}

/// Buckets of a partition.
pub const BUCKETS_PER_PARTITION: usize = 256;
/// Buckets of a router's state.
pub const BUCKETS: usize = PARTITIONS * BUCKETS_PER_PARTITION;

/// A 256th of a partition: what a log writes at once when it renews its image of the state.
/// Below [`BUCKETS`]; the buckets of a partition are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    pub fn new(partition: u8, sub: u8) -> Self {
        Self(u16::from_be_bytes([partition, sub]))
    }

    pub fn partition(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    pub fn sub(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// None from [`BUCKETS`] on.
    pub fn from_index(index: usize) -> Option<Self> {
        u16::try_from(index).ok().map(Self)
    }
}

/// SipHash-1-3 under the router's secret key.
#[derive(Clone, Copy)]
pub struct IdHasher(SipHasher13);

impl std::fmt::Debug for IdHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdHasher")
    }
}

impl IdHasher {
    pub fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    pub fn hash(&self, id: &QueueId) -> IdHash {
        IdHash(self.0.hash(id))
    }

    /// The hash that says where a service lives, of its certificate's fingerprint: a handshake knows nothing else.
    pub fn hash_fingerprint(&self, fingerprint: &Fingerprint) -> IdHash {
        IdHash(self.0.hash(fingerprint))
    }

    /// Tells a link's fixed data from other data without keeping it.
    pub fn hash_fixed_data(&self, fixed: &[u8]) -> u64 {
        self.0.hash(fixed)
    }
}

/// Which shard is the home of which partition: ranges of equal size, give or take one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMap {
    shards: usize,
}

impl PartitionMap {
    /// None unless there are 1 to 256 shards.
    pub fn new(shards: usize) -> Option<Self> {
        (1..=PARTITIONS).contains(&shards).then_some(Self { shards })
    }

    pub fn shards(self) -> usize {
        self.shards
    }

    pub fn home(self, partition: u8) -> usize {
        usize::from(partition) * self.shards / PARTITIONS
    }

    /// The partitions of a shard.
    pub fn partitions(self, shard: usize) -> Range<usize> {
        let first = |shard: usize| (shard * PARTITIONS).div_ceil(self.shards);
        first(shard)..first(shard + 1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_home_for_every_number_of_shards() {
        for shards in 1..=PARTITIONS {
            let map = PartitionMap::new(shards).unwrap();
            let mut seen = 0;
            for shard in 0..shards {
                let range = map.partitions(shard);
                assert_eq!(range.start, seen);
                seen = range.end;
                assert!(range.len() >= PARTITIONS / shards);
                for partition in range {
                    assert_eq!(map.home(u8::try_from(partition).unwrap()), shard);
                }
            }
            assert_eq!(seen, PARTITIONS);
        }
        assert!(PartitionMap::new(0).is_none());
        assert!(PartitionMap::new(257).is_none());
    }

    #[test]
    fn the_key_decides_the_partition() {
        let id = [7; ID_BYTES];
        let partitions: std::collections::HashSet<u8> =
            (0..64u8).map(|key| IdHasher::new(&[key; 16]).hash(&id).partition()).collect();
        assert!(partitions.len() > 32);
    }
}
