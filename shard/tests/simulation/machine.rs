//! The shards of a router as the runtime drives them: letters, turns of work, reads, the log, the sweep.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use ringpost_shard::arena::Arena;
use ringpost_shard::counters::Counters;
use ringpost_shard::service::{Batch, ConnRef, Fetch, Progress, Service};
use ringpost_store::disk::{Disk, HeapBuffers};
use ringpost_store::{Content, SegmentLog};

use crate::bodies::tag_of;
use crate::client::Letter;
use crate::model::{State, Verdict};
use crate::world::World;

/// How long deliveries wait that found no block.
const RETRY_MS: u64 = 10;

#[derive(Debug)]
pub enum Work {
    Batch(Box<Batch>),
    Credit(ConnRef, usize),
    Disconnected(ConnRef),
    Resume(ConnRef),
}

pub struct Shard {
    pub service: Service<SegmentLog<HeapBuffers>>,
    pub arena: Rc<Arena>,
    pub counters: Arc<Counters>,
    pub work: VecDeque<Work>,
    pub reads: Vec<(u64, Fetch)>,
    pub next_retry_ms: u64,
    pub next_expiry_ms: u64,
    /// Its log has failed: the router is about to stop.
    pub has_failed: bool,
    /// What a crash may leave of the queues that changed, in order: where answers do not wait for the disk.
    pub not_durable: VecDeque<(usize, State)>,
}

impl World {
    /// What happens at this moment, but at most so many rounds of it.
    pub fn turn(&mut self, rounds: u32) -> Verdict {
        self.model.now_secs = self.now_secs();
        self.sweep()?;
        for _ in 0..rounds {
            let mut has_moved = self.write_out();
            has_moved |= self.deliver_letters();
            has_moved |= self.work()?;
            has_moved |= self.read()?;
            has_moved |= self.drive_logs()?;
            if !has_moved {
                self.note_durable();
                return Ok(());
            }
        }
        if rounds == ROUNDS_MAX { Err("there is no end of work".into()) } else { Ok(()) }
    }

    /// Messages are written to their connections, and their credit goes back.
    fn write_out(&mut self) -> bool {
        let mut has_moved = false;
        for conn in 0..self.conns.len() {
            while self.conns[conn].outbox.front().is_some_and(|first| first.due_ms <= self.now_ms) {
                let Some(written) = self.conns[conn].outbox.pop_front() else { break };
                self.post(conn, written.home, Letter::Credit(1));
                has_moved = true;
            }
        }
        has_moved
    }

    fn deliver_letters(&mut self) -> bool {
        let mut has_moved = false;
        let first = self.random.index(self.conns.len());
        for n in 0..self.conns.len() {
            let n = (first + n) % self.conns.len();
            for home in 0..self.shards.len() {
                let connection = &mut self.conns[n];
                let lane = &mut connection.lanes[home];
                if lane.letters.front().is_none_or(|(due_ms, _)| *due_ms > self.now_ms) {
                    continue;
                }
                let Some((_, letter)) = lane.letters.pop_front() else { continue };
                let conn = connection.session.conn;
                self.shards[home].work.push_back(match letter {
                    Letter::Batch(batch) => Work::Batch(batch),
                    Letter::Credit(blocks) => {
                        lane.owed -= blocks;
                        Work::Credit(conn, blocks)
                    }
                    Letter::Disconnected => Work::Disconnected(conn),
                });
                has_moved = true;
            }
        }
        has_moved
    }

    /// One turn of work for each shard.
    fn work(&mut self) -> Result<bool, String> {
        let mut has_moved = false;
        let (most, now_secs) = (self.commands_per_turn, self.now_secs());
        for n in 0..self.shards.len() {
            let Some(work) = self.shards[n].work.pop_front() else { continue };
            has_moved = true;
            if let Work::Batch(batch) = &work {
                let conn = self.conn_of(batch.session.conn)?;
                let lane = &mut self.conns[conn].lanes[n];
                let unhanded = lane.pending.iter_mut().filter(|pending| pending.handed_secs.is_none());
                for pending in unhanded.take(batch.transmissions.len()) {
                    pending.handed_secs = Some(now_secs);
                }
            }
            let shard = &mut self.shards[n];
            let service = &mut shard.service;
            let (conn, progress) = match work {
                Work::Batch(batch) => (batch.session.conn, service.process(batch, most, now_secs)),
                Work::Resume(conn) => (conn, service.resume(conn, most, now_secs)),
                Work::Credit(conn, blocks) => (conn, service.return_credit(conn, blocks)),
                Work::Disconnected(conn) => {
                    service.disconnected(conn);
                    (conn, Progress::Rests)
                }
            };
            if progress == Progress::GoesOn {
                shard.work.push_back(Work::Resume(conn));
            }
            self.after_service(n)?;
        }
        Ok(has_moved)
    }

    /// Takes what a service has for others.
    pub fn after_service(&mut self, n: usize) -> Verdict {
        while let Some(output) = self.shards[n].service.next_output() {
            self.take_output(n, output)?;
        }
        let shard = &mut self.shards[n];
        shard.work.extend(shard.service.take_resumable().into_iter().map(Work::Resume));
        for fetch in shard.service.take_fetches() {
            self.stats.fetched += 1;
            let due_ms = self.now_ms + 1 + self.random.below(self.read_ms_max);
            shard.reads.push((due_ms, fetch));
        }
        Ok(())
    }

    /// Bodies that were read, some with turned bits.
    fn read(&mut self) -> Result<bool, String> {
        let mut has_moved = false;
        for n in 0..self.shards.len() {
            let reads = &mut self.shards[n].reads;
            let due: Vec<usize> = (0..reads.len()).filter(|&at| reads[at].0 <= self.now_ms).collect();
            if due.is_empty() {
                continue;
            }
            let (_, fetch) = reads.swap_remove(due[self.random.index(due.len())]);
            has_moved = true;
            let mut blocks = vec![0; fetch.request.bytes];
            // The file of a message that has left its queue meanwhile may be gone.
            if self.disk.read(fetch.request.file, fetch.request.offset, &mut blocks).is_err() {
                blocks.clear();
            }
            let bytes = fetch.request.body_bytes.min(blocks.len());
            let mut is_last = true;
            if self.random.below(1_000) < self.damage_permille
                && let Some(tag) = tag_of(&blocks[..bytes]).filter(|tag| *tag > 0)
            {
                // Of the disk, or of this read only.
                is_last = self.random.chance(50);
                if is_last {
                    self.stats.damaged += 1;
                    self.model.damaged.insert(tag);
                }
                blocks[self.random.index(bytes)] ^= 1 << self.random.below(8);
            }
            if !self.shards[n].service.fetched(&fetch, &blocks, is_last) {
                self.stats.read_again += 1;
                self.shards[n].reads.push((self.now_ms + 1, fetch));
            }
            self.after_service(n)?;
        }
        Ok(has_moved)
    }

    /// A step of each log, and of the disk.
    fn drive_logs(&mut self) -> Result<bool, String> {
        let completions = self.disk.completions(self.now_ms);
        let mut has_moved = !completions.is_empty();
        let mut has_completed = vec![false; self.shards.len()];
        for (n, completion) in completions {
            if !self.shards[n].has_failed {
                self.shards[n].service.log_and_store().0.complete(completion);
                has_completed[n] = true;
            }
        }
        for (n, has_completed) in has_completed.into_iter().enumerate() {
            if self.shards[n].has_failed {
                continue;
            }
            let (log, store) = self.shards[n].service.log_and_store();
            // Sometimes more is gathered.
            if self.is_calm || log.is_committing() || self.random.chance(70) {
                log.advance(self.now_ms, store);
            }
            while let Some(request) = log.next_request() {
                has_moved = true;
                self.disk.submit(self.now_ms, n, request);
            }
            let failure = log.failure().map(ToOwned::to_owned);
            if has_completed {
                self.shards[n].service.log_moved();
                self.after_service(n)?;
            }
            if let Some(failure) = failure {
                if !self.has_fault {
                    return Err(format!("a log failed: {failure}"));
                }
                self.stats.failed_logs += 1;
                self.shards[n].has_failed = true;
                // The other shards hear of it, and those who wait are told nothing any more.
                let stops_ms = self.now_ms + self.random.below(30);
                self.stops_ms = Some(self.stops_ms.map_or(stops_ms, |other| other.min(stops_ms)));
            }
        }
        Ok(has_moved)
    }

    /// What is done from time to time.
    fn sweep(&mut self) -> Verdict {
        for n in 0..self.shards.len() {
            let shard = &mut self.shards[n];
            if shard.service.has_starved() && self.now_ms >= shard.next_retry_ms {
                shard.next_retry_ms = self.now_ms + RETRY_MS;
                shard.service.retry_starved();
                self.after_service(n)?;
            }
            let now_secs = self.now_secs();
            let shard = &mut self.shards[n];
            if self.now_ms >= shard.next_expiry_ms {
                if shard.service.expire_step(now_secs) {
                    shard.next_expiry_ms = self.now_ms + self.expiry_ms;
                }
                self.after_service(n)?;
            }
        }
        Ok(())
    }

    /// Where answers do not wait for the disk: what is there for certain.
    pub fn note_durable(&mut self) {
        for shard in &mut self.shards {
            if shard.service.log().is_flushed() {
                for (queue, state) in shard.not_durable.drain(..) {
                    self.model.queues[queue].durable = state;
                }
            }
        }
    }

    /// Why the machine is not at rest.
    fn what_waits(&self) -> Option<String> {
        for (n, shard) in self.shards.iter().enumerate() {
            let service = &shard.service;
            let log = service.log();
            let what = match () {
                () if service.has_held() => "outputs",
                () if !shard.work.is_empty() => "work",
                () if !shard.reads.is_empty() => "a read",
                () if service.has_starved() => "a delivery",
                () if log.has_pending() || log.is_committing() => "the log",
                () => continue,
            };
            return Some(format!("{what} of shard {n}"));
        }
        for (n, connection) in self.conns.iter().enumerate() {
            for lane in &connection.lanes {
                if !lane.letters.is_empty() {
                    return Some("a letter".into());
                }
                if connection.is_open
                    && let Some(pending) = lane.pending.front()
                {
                    return Some(format!("the answer to {:?} for connection {n}", pending.asked));
                }
            }
            if !connection.outbox.is_empty() {
                return Some("a message".into());
            }
            if !connection.batches.is_empty() {
                return Some(format!("the end of a batch of connection {n}"));
            }
        }
        None
    }

    fn next_ms(&self) -> Option<u64> {
        let mut next: Vec<u64> = self.disk.next_due_ms().into_iter().collect();
        for connection in &self.conns {
            let letters = connection.lanes.iter().filter_map(|lane| lane.letters.front());
            next.extend(letters.map(|(due_ms, _)| *due_ms));
            next.extend(connection.outbox.front().map(|written| written.due_ms));
        }
        for shard in &self.shards {
            let log = shard.service.log();
            next.extend(log.next_wake_ms());
            next.extend(shard.reads.iter().map(|(due_ms, _)| *due_ms));
            next.extend(shard.service.has_starved().then_some(shard.next_retry_ms));
            if !shard.work.is_empty() || (log.has_pending() && !log.is_committing()) {
                next.push(self.now_ms + 1);
            }
        }
        next.into_iter().min().map(|next_ms| next_ms.max(self.now_ms + 1))
    }

    /// Goes from event to event.
    pub fn run_until(&mut self, end_ms: u64) -> Verdict {
        self.is_calm = true;
        while let Some(next_ms) = self.next_ms().filter(|next_ms| *next_ms < end_ms) {
            self.now_ms = next_ms;
            self.turn(ROUNDS_MAX)?;
        }
        self.now_ms = end_ms;
        self.turn(ROUNDS_MAX)?;
        self.is_calm = false;
        Ok(())
    }

    /// Lets everything come to its end. Then all commands are answered, and what is to be delivered is delivered.
    pub fn come_to_rest(&mut self) -> Verdict {
        self.is_calm = true;
        // As often as a full disk is tried again, and more.
        let end_ms = self.now_ms + 10_000;
        loop {
            self.turn(ROUNDS_MAX)?;
            let Some(what) = self.what_waits() else { break };
            match self.next_ms() {
                Some(next_ms) if next_ms <= end_ms => self.now_ms = next_ms,
                _ => return Err(format!("waits for ever: {what}")),
            }
        }
        self.is_calm = false;
        self.look_at_counts()?;
        match self.model.overdue() {
            Some(queue) => Err(format!(
                "{:?} is not delivered to {:?}",
                queue.state.messages.front(),
                queue.subscription
            )),
            None => Ok(()),
        }
    }

    /// What is counted is there, when nothing is under way.
    fn look_at_counts(&self) -> Verdict {
        for (n, shard) in self.shards.iter().enumerate() {
            let store = shard.service.store();
            let messages =
                store.queues_between(0..u32::MAX).filter_map(|(_, queue)| queue.messages()).flatten();
            let held: usize = messages
                .map(|message| match &message.content {
                    Content::Sent { body, .. } => body.form.held_bytes(),
                    Content::Quota => 0,
                })
                .sum();
            if shard.service.message_bytes() != held {
                let counted = shard.service.message_bytes();
                return Err(format!("bodies of shard {n} have {held} bytes, {counted} are counted"));
            }
            if shard.arena.lent() > 0 {
                return Err(format!("{} blocks of shard {n} are lent", shard.arena.lent()));
            }
            let known: usize = (0..self.model.queues.len())
                .filter(|&queue| self.home(queue) == n)
                .filter_map(|queue| self.model.queues[queue].subscription)
                .filter(|subscription| self.conns[subscription.conn].is_open)
                .count();
            if shard.service.subscription_count() != known {
                let counted = shard.service.subscription_count();
                return Err(format!("shard {n} has {known} subscriptions, {counted} are counted"));
            }
            if let Some(wrong) = shard.service.miscounted() {
                return Err(format!("shard {n}: {wrong}"));
            }
        }
        for (n, connection) in self.conns.iter().enumerate().filter(|(_, connection)| connection.is_open) {
            let queues = self.model.queues.iter();
            let known = queues.filter(|queue| queue.subscription.is_some_and(|sub| sub.conn == n)).count();
            let counted = connection.session.subscription_count();
            if counted != known {
                return Err(format!("connection {n} has {known} subscriptions, {counted} are counted"));
            }
        }
        Ok(())
    }
}

/// Rounds of one moment, at most.
pub const ROUNDS_MAX: u32 = 100_000;
