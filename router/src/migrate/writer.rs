//! Our log, while it is filled.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringpost_store::disk::{Disk, FileDisk, HeapBuffer};
use ringpost_store::log::{
    AppendError, Completion, Durability, LogConfig, Op, Request, StartConfig, StartError, StartedShard,
    apply, start,
};
use ringpost_store::{BodyPlace, Entry, IdHash, IdHasher, Log, Position, Record, Store};

use crate::exit::{Fatal, Reason};
use crate::random::random;
use crate::storage::Storage;

/// Records are gathered for a commit of about this size, while the one before it is written.
const COMMIT_BYTES: usize = 1 << 20;

/// One shard that has everything: the next start shares it out. Files are written by a thread of its own.
#[derive(Debug)]
pub struct LogWriter {
    shard: StartedShard<BodyPlace>,
    disk: DiskThread,
    began: Instant,
    places: Vec<BodyPlace>,
    /// About; since the last look at the disk.
    gathered_bytes: usize,
    last: Position,
}

impl LogWriter {
    pub fn open(storage: &Storage) -> Result<Self, Fatal> {
        let disk = FileDisk::new(storage.directory());
        let config = StartConfig {
            // Nothing is answered before the end, where all is made durable at once; images are written then too.
            log: LogConfig {
                durability: Durability::Off,
                replay_pages_max: usize::MAX,
                ..LogConfig::default()
            },
            shards: 1,
            skip_corrupt: false,
            salt: u64::from_le_bytes(*random()?),
            threads: false,
        };
        let hasher = IdHasher::new(storage.id_hash_key());
        let mut started = start(&disk, &config, hasher).map_err(|error| start_error(&error))?;
        let shard = started.shards.pop().ok_or_else(|| log_failed("the log has no shard"))?;
        Ok(Self {
            shard,
            disk: DiskThread::start(disk),
            began: Instant::now(),
            places: Vec::new(),
            gathered_bytes: 0,
            last: Position::default(),
        })
    }

    pub fn store(&self) -> &Store<BodyPlace> {
        &self.shard.store
    }

    /// Makes room for so many queues.
    pub fn reserve(&mut self, queues: usize) {
        self.shard.store.reserve(queues);
    }

    /// Appends records of one queue or service, all with the same hash, and applies them.
    pub fn append<'a>(
        &mut self,
        hash: IdHash,
        records: impl IntoIterator<Item = Record<&'a [u8]>>,
    ) -> Result<(), Fatal> {
        let entries: Vec<Entry<'_>> = records.into_iter().map(|record| Entry { hash, record }).collect();
        self.places.clear();
        self.last = loop {
            match self.shard.log.append(&entries, &mut self.places) {
                Err(AppendError::Busy) => self.serve(true)?,
                appended => break appended.map_err(|error| log_failed(&error.to_string()))?,
            }
        };
        let mut places = self.places.iter();
        for Entry { record, .. } in entries {
            self.gathered_bytes += RECORD_BYTES_TYPICAL + record.body().map_or(0, |body| body.len());
            #[allow(clippy::expect_used, reason = "an append gives the place of every body in it")]
            let record = record.map_body(|_| *places.next().expect("a place for each body"));
            apply(&mut self.shard.store, record)
                .map_err(|misfit| log_failed(&format!("a record does not fit: {misfit}")))?;
        }
        if self.gathered_bytes >= COMMIT_BYTES {
            self.gathered_bytes = 0;
            self.serve(false)?;
        }
        Ok(())
    }

    /// Brings everything to the disk and writes images of it, so that a start has nothing to replay.
    pub fn finish(mut self) -> Result<Store<BodyPlace>, Fatal> {
        let rounds = self.shard.log.counts().rounds;
        self.shard.log.renew();
        while self.shard.log.counts().rounds == rounds || self.shard.log.synced_up_to() < self.last {
            self.serve(true)?;
            if self.shard.log.is_out_of_space() {
                return Err(log_failed("no space left"));
            }
        }
        // The next segment may still be made: nobody else uses the directory before that.
        while self.disk.under_way > 0 {
            self.serve(true)?;
        }
        Ok(self.shard.store)
    }

    /// Hands the disk what the log wants now, and the log what the disk has done. Waits for the disk if it is told to and
    /// nothing is done yet.
    fn serve(&mut self, wait: bool) -> Result<(), Fatal> {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let StartedShard { log, store } = &mut self.shard;
        log.advance(now_ms, store);
        while let Some(request) = log.next_request() {
            self.disk.perform(request)?;
        }
        if wait && self.disk.under_way == 0 {
            // The log waits for the time to pass.
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut done = self.disk.next_done(wait)?;
        while let Some(completion) = done {
            log.complete(completion);
            done = self.disk.next_done(false)?;
        }
        match log.failure() {
            Some(failure) => Err(log_failed(failure)),
            None => Ok(()),
        }
    }
}

/// What a record counts as in a commit: about the mean of what records take.
const RECORD_BYTES_TYPICAL: usize = 128;

/// Carries out the log's operations, one after the other, while records are gathered.
#[derive(Debug)]
struct DiskThread {
    /// None when no more is to come.
    requests: Option<Sender<Request<HeapBuffer>>>,
    done: Receiver<Completion<HeapBuffer>>,
    thread: Option<JoinHandle<()>>,
    under_way: usize,
}

impl DiskThread {
    fn start(disk: FileDisk) -> Self {
        let (requests, wanted) = channel::<Request<HeapBuffer>>();
        let (completions, done) = channel();
        let thread = std::thread::spawn(move || {
            for request in wanted {
                let result = disk.perform(&request.op);
                let buffer = match request.op {
                    Op::Write { buffer, .. } => Some(buffer),
                    _ => None,
                };
                if completions.send(Completion { token: request.token, result, buffer }).is_err() {
                    return;
                }
            }
        });
        Self { requests: Some(requests), done, thread: Some(thread), under_way: 0 }
    }

    fn perform(&mut self, request: Request<HeapBuffer>) -> Result<(), Fatal> {
        self.under_way += 1;
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        if sent { Ok(()) } else { Err(log_failed("the thread that writes it has ended")) }
    }

    /// The next operation that was carried out, if one was; with `wait` the next one that will be.
    fn next_done(&mut self, wait: bool) -> Result<Option<Completion<HeapBuffer>>, Fatal> {
        let done = if wait && self.under_way > 0 {
            self.done.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            self.done.try_recv()
        };
        match done {
            Ok(completion) => {
                self.under_way -= 1;
                Ok(Some(completion))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(log_failed("the thread that writes it has ended")),
        }
    }
}

impl Drop for DiskThread {
    /// Nothing is written any more when the writer is gone.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn log_failed(what: &str) -> Fatal {
    Fatal::new(Reason::LogFailed, format!("the log cannot be written: {what}"))
}

/// Why a log cannot be read.
pub fn start_error(error: &StartError) -> Fatal {
    let message = error.to_string();
    match error {
        StartError::Corrupt(_) => Fatal::new(Reason::LogDamaged, message)
            .remedy("`smp-server check` lists all damage. Restore the data directory from a backup."),
        _ => Fatal::new(Reason::LogFailed, message),
    }
}
