//! What shards say to each other: one bounded ring for each ordered pair of shards, and one bell a shard.
//!
//! A ring has one producer and one consumer, so shards do not disturb each other's caches beyond the pairs that talk.
//! Nothing waits on a full ring: [`Endpoint::send`] gives the message back, and the sender keeps it until its bell rings.
//!
//! The mesh knows no runtime: a [`Bell`] is how the caller wakes a shard. It is rung only for a shard that is parked,
//! and a shard looks at its lanes once more between [`Endpoint::park`] and its sleep, so that nothing is missed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

/// Wakes a parked shard, from any thread.
pub trait Bell: Send + Sync {
    fn ring(&self);
}

struct Lane<M> {
    ring: ArrayQueue<M>,
    /// Set by a sender that found the ring full.
    wants_room: AtomicBool,
}

struct Ringable<B> {
    parked: AtomicBool,
    bell: B,
}

impl<B: Bell> Ringable<B> {
    /// Rings if the shard is parked. What it shall see must have been written before.
    fn wake(&self) {
        // Pairs with the fence in `park`: either this sees the flag, or the shard sees what was written.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            self.bell.ring();
        }
    }
}

struct Shared<M, B> {
    shards: usize,
    /// The lane from `a` to `b` is at `b * shards + a`: a receiver's lanes lie side by side.
    lanes: Box<[CachePadded<Lane<M>>]>,
    bells: Box<[CachePadded<Ringable<B>>]>,
}

/// One shard's end of the mesh.
pub struct Endpoint<M, B> {
    shared: Arc<Shared<M, B>>,
    shard: usize,
    /// The lane to look at first, so that none is preferred.
    next_lane: usize,
}

impl<M, B> fmt::Debug for Endpoint<M, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Builds a mesh of one end for each bell, whose lanes have `slots` places each.
pub fn mesh<M, B: Bell>(bells: Vec<B>, slots: usize) -> Vec<Endpoint<M, B>> {
    let shards = bells.len();
    let lane = || CachePadded::new(Lane { ring: ArrayQueue::new(slots), wants_room: AtomicBool::new(false) });
    let ringable = |bell| CachePadded::new(Ringable { parked: AtomicBool::new(false), bell });
    let shared = Arc::new(Shared {
        shards,
        lanes: std::iter::repeat_with(lane).take(shards * shards).collect(),
        bells: bells.into_iter().map(ringable).collect(),
    });
    (0..shards).map(|shard| Endpoint { shared: Arc::clone(&shared), shard, next_lane: 0 }).collect()
}

impl<M, B: Bell> Endpoint<M, B> {
    pub fn shard(&self) -> usize {
        self.shard
    }

    pub fn shards(&self) -> usize {
        self.shared.shards
    }

    /// Puts a message into the lane to another shard. If the lane is full the message comes back, and the bell of this
    /// shard rings when there is room.
    pub fn send(&self, to: usize, message: M) -> Result<(), M> {
        let lane = self.lane(self.shard, to);
        if let Err(message) = lane.ring.push(message) {
            lane.wants_room.store(true, Ordering::SeqCst);
            // The receiver may have emptied the ring before it could see the wish.
            lane.ring.push(message)?;
        }
        self.shared.bells[to].wake();
        Ok(())
    }

    /// Takes at most `most` messages, from all lanes in turn, and says how many.
    pub fn receive(&mut self, most: usize, mut take: impl FnMut(usize, M)) -> usize {
        let mut taken = 0;
        let mut idle = 0;
        while taken < most && idle < self.shards() {
            let from = self.next_lane;
            self.next_lane = (from + 1) % self.shards();
            let lane = self.lane(from, self.shard);
            let Some(message) = lane.ring.pop() else {
                idle += 1;
                continue;
            };
            idle = 0;
            taken += 1;
            if lane.wants_room.load(Ordering::SeqCst) && lane.wants_room.swap(false, Ordering::SeqCst) {
                self.shared.bells[from].wake();
            }
            take(from, message);
        }
        taken
    }

    /// Announces that this shard is about to sleep. It must look for messages and for room once more, and sleep only if
    /// there is nothing; then its bell rings for the next message and for room.
    pub fn park(&self) {
        self.shared.bells[self.shard].parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake: its bell need not ring.
    pub fn unpark(&self) {
        self.shared.bells[self.shard].parked.store(false, Ordering::Relaxed);
    }

    /// Messages that wait for this shard.
    pub fn depth(&self) -> usize {
        (0..self.shards()).map(|from| self.lane(from, self.shard).ring.len()).sum()
    }

    fn lane(&self, from: usize, to: usize) -> &Lane<M> {
        &self.shared.lanes[to * self.shared.shards + from]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Wakes a sleeping thread.
    struct Unpark(std::thread::Thread);

    impl Bell for Unpark {
        fn ring(&self) {
            self.0.unpark();
        }
    }

    fn ends(count: usize, slots: usize) -> Vec<Endpoint<u32, Unpark>> {
        mesh((0..count).map(|_| Unpark(std::thread::current())).collect(), slots)
    }

    #[test]
    fn a_full_lane_gives_the_message_back() {
        let mut ends = ends(2, 2);
        ends[0].send(1, 1).unwrap();
        ends[0].send(1, 2).unwrap();
        assert_eq!(ends[0].send(1, 3), Err(3));
        let mut got = Vec::new();
        assert_eq!(ends[1].receive(8, |from, message| got.push((from, message))), 2);
        assert_eq!(got, [(0, 1), (0, 2)]);
        ends[0].send(1, 3).unwrap();
        assert_eq!(ends[1].depth(), 1);
    }

    #[test]
    fn lanes_take_turns() {
        let mut ends = ends(3, 8);
        for n in 0..4 {
            ends[0].send(2, n).unwrap();
            ends[1].send(2, n).unwrap();
        }
        let mut from = Vec::new();
        ends[2].receive(4, |shard, _| from.push(shard));
        assert_eq!(from.iter().filter(|&&shard| shard == 0).count(), 2);
    }

    /// Two threads, small rings, both directions, no timeouts: everything arrives, in order, though both sleep for
    /// messages and for room. A wake that is lost hangs the test.
    #[test]
    fn nothing_is_lost_or_reordered_when_lanes_are_full() {
        const COUNT: u32 = 200_000;
        let (give, take) = std::sync::mpsc::channel::<std::thread::Thread>();
        let mut starts = Vec::new();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let give = give.clone();
                let (start, started) = std::sync::mpsc::channel::<Endpoint<u32, Unpark>>();
                starts.push(start);
                std::thread::spawn(move || {
                    give.send(std::thread::current()).unwrap();
                    exchange(&mut started.recv().unwrap(), COUNT);
                })
            })
            .collect();
        // The order of the threads does not matter, but each must get its own bell.
        let mut sleepers: Vec<_> = (0..2).map(|_| take.recv().unwrap()).collect();
        sleepers
            .sort_by_key(|sleeper| threads.iter().position(|thread| thread.thread().id() == sleeper.id()));
        for (end, start) in mesh(sleepers.into_iter().map(Unpark).collect(), 4).into_iter().zip(&starts) {
            start.send(end).unwrap();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }

    fn exchange(end: &mut Endpoint<u32, Unpark>, count: u32) {
        let peer = 1 - end.shard();
        let (mut sent, mut received) = (0, 0);
        let mut turn = |end: &mut Endpoint<u32, Unpark>| {
            let before = (sent, received);
            while sent < count && end.send(peer, sent).is_ok() {
                sent += 1;
            }
            end.receive(3, |_, message| {
                assert_eq!(message, received);
                received += 1;
            });
            (before != (sent, received), sent == count && received == count)
        };
        loop {
            let (moved, done) = turn(end);
            if done {
                return;
            }
            if !moved {
                end.park();
                let (moved, done) = turn(end);
                if !moved && !done {
                    std::thread::park();
                }
                end.unpark();
            }
        }
    }
}
