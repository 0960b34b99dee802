//! What a test message carries, and whether what arrives is what was sent: nothing lost, duplicated,
//! reordered or altered, and nothing from another queue.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

/// Run (8), queue tag (8), sequence (8), time of sending in nanoseconds (8), checksum (8), all little-endian.
/// The rest of the body is filler whose every byte follows from run, tag and sequence.
pub const BODY_BYTES_MIN: usize = 40;

/// The filler of one message is a slice of the pool that begins in its first half.
const POOL_BYTES: usize = 128 * 1024;
const POOL_STARTS: usize = 64 * 1024;
/// A body never needs more filler than a block has.
pub const BODY_BYTES_MAX: usize = POOL_BYTES - POOL_STARTS;

/// Examples kept for each kind of finding, for the report.
const EXAMPLES_MAX: usize = 5;

/// The step of splitmix64: a bijection whose output passes statistical tests.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the header of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub queue: u64,
    pub sequence: u64,
    /// Nanoseconds since the start of the run: when the message was meant to be sent.
    pub sent_at_ns: u64,
}

/// Why a body is not one that this queue was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBody {
    /// Length, header or filler differ from what was sent.
    Altered,
    /// A whole message of another queue or of another run.
    Foreign { queue: u64, sequence: u64 },
}

/// Makes and checks bodies of one run.
pub struct Bodies {
    run: u64,
    body_bytes: usize,
    pool: Vec<u8>,
}

impl Bodies {
    /// `body_bytes` is raised to [`BODY_BYTES_MIN`] and lowered to [`BODY_BYTES_MAX`].
    pub fn new(run: u64, body_bytes: usize) -> Self {
        let mut pool = Vec::with_capacity(POOL_BYTES);
        let mut state = run;
        while pool.len() < POOL_BYTES {
            state = mix(state);
            pool.extend_from_slice(&state.to_le_bytes());
        }
        Self { run, body_bytes: body_bytes.clamp(BODY_BYTES_MIN, BODY_BYTES_MAX), pool }
    }

    /// Replaces what `body` holds by the message of `stamp`.
    pub fn write(&self, stamp: Stamp, body: &mut Vec<u8>) {
        body.clear();
        for field in [self.run, stamp.queue, stamp.sequence, stamp.sent_at_ns, self.checksum(self.run, stamp)]
        {
            body.extend_from_slice(&field.to_le_bytes());
        }
        body.extend_from_slice(self.filler(stamp));
    }

    /// The stamp of a body received for `queue`.
    pub fn read(&self, queue: u64, body: &[u8]) -> Result<Stamp, BadBody> {
        let Some((header, filler)) = body.split_first_chunk::<BODY_BYTES_MIN>() else {
            return Err(BadBody::Altered);
        };
        let field = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[8 * index..8 * index + 8]);
            u64::from_le_bytes(bytes)
        };
        let run = field(0);
        let stamp = Stamp { queue: field(1), sequence: field(2), sent_at_ns: field(3) };
        if field(4) != self.checksum(run, stamp) {
            return Err(BadBody::Altered);
        }
        if run != self.run || stamp.queue != queue {
            return Err(BadBody::Foreign { queue: stamp.queue, sequence: stamp.sequence });
        }
        if filler != self.filler(stamp) {
            return Err(BadBody::Altered);
        }
        Ok(stamp)
    }

    fn checksum(&self, run: u64, stamp: Stamp) -> u64 {
        [run, stamp.queue, stamp.sequence, stamp.sent_at_ns]
            .iter()
            .fold(self.body_bytes as u64, |sum, &field| mix(sum ^ field))
    }

    fn filler(&self, stamp: Stamp) -> &[u8] {
        let start = usize::try_from(mix(mix(stamp.queue) ^ stamp.sequence) % POOL_STARTS as u64).unwrap_or(0);
        &self.pool[start..start + self.body_bytes - BODY_BYTES_MIN]
    }
}

impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bodies").field("body_bytes", &self.body_bytes).finish_non_exhaustive()
    }
}

/// What the check of all messages found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Messages that the router accepted.
    pub accepted: u64,
    /// Messages that arrived once, whole, and for the right queue.
    pub received: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub altered: u64,
    /// Messages of another queue.
    pub foreign: u64,
    /// The first findings of each queue, in words.
    pub examples: Vec<String>,
}

impl Verification {
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.altered + self.foreign == 0
    }

    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.altered += other.altered;
        self.foreign += other.foreign;
        let room = (2 * EXAMPLES_MAX).saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }
}

/// Follows one queue. Its memory is bounded by how many messages may be under way at once.
#[derive(Debug)]
pub struct QueueVerifier {
    queue: u64,
    /// The sequence number that comes next if nothing went wrong.
    next: u64,
    /// Below `next` and not yet seen: lost, or late.
    holes: BTreeSet<u64>,
    found: Verification,
}

/// More holes than this are counted as lost at once, so that a broken run stays bounded in memory.
const HOLES_MAX: usize = 100_000;

impl QueueVerifier {
    pub fn new(queue: u64) -> Self {
        Self { queue, next: 0, holes: BTreeSet::new(), found: Verification::default() }
    }

    /// Checks one message. The stamp, if the message counts as received.
    pub fn receive(&mut self, bodies: &Bodies, body: &[u8]) -> Option<Stamp> {
        let queue = self.queue;
        let stamp = match bodies.read(queue, body) {
            Ok(stamp) => stamp,
            Err(BadBody::Altered) => {
                self.found.altered += 1;
                let next = self.next;
                self.found.example(|| format!("queue {queue}: message after sequence {next} was altered"));
                return None;
            }
            Err(BadBody::Foreign { queue: other, sequence }) => {
                self.found.foreign += 1;
                self.found.example(|| format!("queue {queue}: got message {sequence} of queue {other}"));
                return None;
            }
        };
        let sequence = stamp.sequence;
        if sequence < self.next {
            if self.holes.remove(&sequence) {
                self.found.reordered += 1;
                let next = self.next;
                self.found.example(|| format!("queue {queue}: message {sequence} came after {}", next - 1));
            } else {
                self.found.duplicated += 1;
                self.found.example(|| format!("queue {queue}: message {sequence} came again"));
                return None;
            }
        } else {
            for hole in self.next..sequence {
                if self.holes.len() < HOLES_MAX {
                    self.holes.insert(hole);
                } else {
                    self.found.lost += 1;
                }
            }
            self.next = sequence + 1;
        }
        self.found.received += 1;
        Some(stamp)
    }

    /// Counts a message whose encryption by the router does not hold.
    pub fn unreadable(&mut self, reason: &str) {
        let (queue, next) = (self.queue, self.next);
        self.found.altered += 1;
        self.found
            .example(|| format!("queue {queue}: message after sequence {next} cannot be opened: {reason}"));
    }

    /// Leaves an empty account behind.
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.queue))
    }

    /// Whether nothing more can be expected: of `sent` messages all arrived that are not in `rejected`.
    pub fn is_complete(&self, sent: u64, rejected: &BTreeSet<u64>) -> bool {
        let late = self.holes.iter().any(|hole| !rejected.contains(hole));
        !late && (self.next..sent).all(|sequence| rejected.contains(&sequence))
    }

    /// Closes the account. `rejected` are the sequence numbers that the router refused, or of which the sender
    /// does not know whether they were accepted: it is no loss if they are missing.
    pub fn finish(mut self, sent: u64, rejected: &BTreeSet<u64>) -> Verification {
        let missing: Vec<u64> = self
            .holes
            .iter()
            .copied()
            .chain(self.next..sent)
            .filter(|sequence| !rejected.contains(sequence))
            .collect();
        self.found.lost += missing.len() as u64;
        self.found.accepted = sent.saturating_sub(rejected.len() as u64);
        let queue = self.queue;
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let count = missing.len();
            self.found
                .example(|| format!("queue {queue}: {count} lost, the first is {first}, the last {last}"));
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bodies() -> Bodies {
        Bodies::new(77, 500)
    }

    fn body(bodies: &Bodies, queue: u64, sequence: u64) -> Vec<u8> {
        let mut body = Vec::new();
        bodies.write(Stamp { queue, sequence, sent_at_ns: 5 }, &mut body);
        body
    }

    fn run(sequences: &[u64], sent: u64) -> Verification {
        let bodies = bodies();
        let mut verifier = QueueVerifier::new(3);
        for &sequence in sequences {
            verifier.receive(&bodies, &body(&bodies, 3, sequence));
        }
        verifier.finish(sent, &BTreeSet::new())
    }

    #[test]
    fn a_clean_queue_is_clean() {
        let found = run(&[0, 1, 2, 3], 4);
        assert!(found.is_clean());
        assert_eq!((found.accepted, found.received), (4, 4));
    }

    #[test]
    fn each_fault_is_told_apart() {
        let lost = run(&[0, 2, 3], 5);
        assert_eq!((lost.lost, lost.duplicated, lost.reordered, lost.received), (2, 0, 0, 3));
        let duplicated = run(&[0, 1, 1, 2], 3);
        assert_eq!((duplicated.lost, duplicated.duplicated, duplicated.reordered), (0, 1, 0));
        let reordered = run(&[0, 2, 1, 3], 4);
        assert_eq!((reordered.lost, reordered.duplicated, reordered.reordered), (0, 0, 1));
        assert_eq!(reordered.received, 4);
        let late_and_again = run(&[0, 2, 1, 1], 3);
        assert_eq!((late_and_again.reordered, late_and_again.duplicated), (1, 1));
    }

    #[test]
    fn every_altered_byte_is_found() {
        let bodies = bodies();
        let good = body(&bodies, 3, 9);
        assert_eq!(bodies.read(3, &good).unwrap().sequence, 9);
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x10;
            assert_eq!(bodies.read(3, &bad), Err(BadBody::Altered), "byte {index}");
        }
        for length in 0..good.len() {
            assert_eq!(bodies.read(3, &good[..length]), Err(BadBody::Altered), "length {length}");
        }
        let mut longer = good;
        longer.push(0);
        assert_eq!(bodies.read(3, &longer), Err(BadBody::Altered));
    }

    #[test]
    fn a_message_of_another_queue_is_foreign() {
        let bodies = bodies();
        let mut verifier = QueueVerifier::new(3);
        assert_eq!(verifier.receive(&bodies, &body(&bodies, 4, 0)), None);
        let found = verifier.finish(0, &BTreeSet::new());
        assert_eq!((found.foreign, found.altered), (1, 0));
        let other_run = Bodies::new(78, 500);
        let mut verifier = QueueVerifier::new(3);
        assert_eq!(verifier.receive(&bodies, &body(&other_run, 3, 0)), None);
        assert_eq!(verifier.finish(0, &BTreeSet::new()).foreign, 1);
    }

    #[test]
    fn what_the_router_refused_is_not_lost() {
        let bodies = bodies();
        let rejected = BTreeSet::from([1, 3]);
        let mut verifier = QueueVerifier::new(3);
        verifier.receive(&bodies, &body(&bodies, 3, 0));
        assert!(!verifier.is_complete(4, &rejected));
        verifier.receive(&bodies, &body(&bodies, 3, 2));
        assert!(verifier.is_complete(4, &rejected));
        let found = verifier.finish(4, &rejected);
        assert!(found.is_clean());
        assert_eq!(found.accepted, 2);
    }

    #[test]
    fn a_huge_gap_stays_bounded() {
        let found = run(&[0, 300_000], 300_001);
        assert_eq!(found.lost, 299_999);
        assert_eq!(found.received, 2);
    }

    #[test]
    fn the_body_has_the_length_asked_for() {
        for (asked, made) in [(0, BODY_BYTES_MIN), (16_000, 16_000), (1 << 30, BODY_BYTES_MAX)] {
            assert_eq!(body(&Bodies::new(1, asked), 0, 0).len(), made);
        }
    }
}
