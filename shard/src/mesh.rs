//! What shards say to each other: one bounded ring for each ordered pair of shards, and one bell a shard.
//!
//! A ring has one producer and one consumer, so shards do not disturb each other's caches beyond the pairs that talk.
//! Nothing waits on a full ring: [`Endpoint::send`] gives the message back, and the sender parks the work that made it
//! until [`Endpoint::poll_room`] says that the lane has room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

#[derive(Debug)]
struct Lane<M> {
    ring: ArrayQueue<M>,
    /// Set by a sender that found the ring full.
    wants_room: AtomicBool,
}

#[derive(Debug, Default)]
struct Bell {
    /// Rung when something arrived for the shard.
    arrived: AtomicWaker,
    /// Rung when a lane that was full for the shard has room again.
    room: AtomicWaker,
}

#[derive(Debug)]
struct Shared<M> {
    shards: usize,
    /// The lane from `a` to `b` is at `b * shards + a`: a receiver's lanes lie side by side.
    lanes: Box<[CachePadded<Lane<M>>]>,
    bells: Box<[CachePadded<Bell>]>,
}

/// One shard's end of the mesh.
#[derive(Debug)]
pub struct Endpoint<M> {
    shared: Arc<Shared<M>>,
    shard: usize,
    /// The lane to look at first, so that none is preferred.
    next_lane: usize,
}

/// Builds a mesh of `shards` ends whose lanes have `slots` places each.
pub fn mesh<M>(shards: usize, slots: usize) -> Vec<Endpoint<M>> {
    let lane = || CachePadded::new(Lane { ring: ArrayQueue::new(slots), wants_room: AtomicBool::new(false) });
    let shared = Arc::new(Shared {
        shards,
        lanes: std::iter::repeat_with(lane).take(shards * shards).collect(),
        bells: std::iter::repeat_with(CachePadded::default).take(shards).collect(),
    });
    (0..shards).map(|shard| Endpoint { shared: Arc::clone(&shared), shard, next_lane: 0 }).collect()
}

impl<M> Endpoint<M> {
    pub fn shard(&self) -> usize {
        self.shard
    }

    pub fn shards(&self) -> usize {
        self.shared.shards
    }

    /// Puts a message into the lane to another shard, or gives it back if the lane is full.
    pub fn send(&self, to: usize, message: M) -> Result<(), M> {
        let lane = self.lane(self.shard, to);
        if let Err(message) = lane.ring.push(message) {
            lane.wants_room.store(true, Ordering::SeqCst);
            // The receiver may have emptied the ring before it could see the wish.
            lane.ring.push(message)?;
        }
        self.shared.bells[to].arrived.wake();
        Ok(())
    }

    /// Whether the lane to a shard has room. If not, the task is woken when some lane has.
    pub fn poll_room(&self, to: usize, cx: &mut Context<'_>) -> Poll<()> {
        let lane = self.lane(self.shard, to);
        if !lane.ring.is_full() {
            return Poll::Ready(());
        }
        self.shared.bells[self.shard].room.register(cx.waker());
        lane.wants_room.store(true, Ordering::SeqCst);
        if lane.ring.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Takes at most `most` messages, from all lanes in turn. With none there, the task is woken when one comes.
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        mut take: impl FnMut(usize, M),
    ) -> Poll<usize> {
        let taken = self.drain(most, &mut take);
        if taken > 0 {
            return Poll::Ready(taken);
        }
        self.shared.bells[self.shard].arrived.register(cx.waker());
        // Something may have come between the look and the registration.
        match self.drain(most, &mut take) {
            0 => Poll::Pending,
            taken => Poll::Ready(taken),
        }
    }

    /// Messages that wait for this shard.
    pub fn depth(&self) -> usize {
        (0..self.shards()).map(|from| self.lane(from, self.shard).ring.len()).sum()
    }

    fn drain(&mut self, most: usize, take: &mut impl FnMut(usize, M)) -> usize {
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
                self.shared.bells[from].room.wake();
            }
            take(from, message);
        }
        taken
    }

    fn lane(&self, from: usize, to: usize) -> &Lane<M> {
        &self.shared.lanes[to * self.shared.shards + from]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_fn};

    #[test]
    fn a_full_lane_gives_the_message_back() {
        let mut ends = mesh::<u32>(2, 2);
        ends[0].send(1, 1).unwrap();
        ends[0].send(1, 2).unwrap();
        assert_eq!(ends[0].send(1, 3), Err(3));
        let mut got = Vec::new();
        let taken = block_on(poll_fn(|cx| ends[1].poll_receive(cx, 8, |from, m| got.push((from, m)))));
        assert_eq!((taken, got), (2, vec![(0, 1), (0, 2)]));
        ends[0].send(1, 3).unwrap();
    }

    #[test]
    fn lanes_take_turns() {
        let mut ends = mesh::<u32>(3, 8);
        for n in 0..4 {
            ends[0].send(2, n).unwrap();
            ends[1].send(2, n).unwrap();
        }
        let mut from = Vec::new();
        block_on(poll_fn(|cx| ends[2].poll_receive(cx, 4, |shard, _| from.push(shard))));
        assert_eq!(from.iter().filter(|&&shard| shard == 0).count(), 2);
    }

    /// Two threads, small rings, both directions: everything arrives, in order, though both block on room.
    #[test]
    fn nothing_is_lost_or_reordered_when_lanes_are_full() {
        const COUNT: u32 = 200_000;
        let ends = mesh::<u32>(2, 4);
        let threads: Vec<_> = ends
            .into_iter()
            .map(|mut end| {
                std::thread::spawn(move || {
                    let peer = 1 - end.shard();
                    let (mut sent, mut received) = (0, 0);
                    block_on(poll_fn(|cx| {
                        loop {
                            while sent < COUNT && end.send(peer, sent).is_ok() {
                                sent += 1;
                            }
                            let room = sent == COUNT || end.poll_room(peer, cx).is_ready();
                            let arrived = end.poll_receive(cx, 3, |_, message| {
                                assert_eq!(message, received);
                                received += 1;
                            });
                            if sent == COUNT && received == COUNT {
                                return Poll::Ready(());
                            }
                            if arrived.is_pending() && (!room || sent == COUNT) {
                                return Poll::Pending;
                            }
                        }
                    }));
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
