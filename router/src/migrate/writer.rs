//! Our log, filled from one thread.

use std::time::Instant;

use ringpost_store::disk::{Disk, FileDisk};
use ringpost_store::log::{
    AppendError, Completion, Durability, LogConfig, Op, StartConfig, StartError, StartedShard, apply, start,
};
use ringpost_store::{BodyPlace, Entry, IdHash, IdHasher, Log, Position, Record, Store};

use crate::exit::{Fatal, Reason};
use crate::random::random;
use crate::storage::Storage;

/// One shard that has everything: the next start shares it out.
#[derive(Debug)]
pub struct LogWriter {
    disk: FileDisk,
    shard: StartedShard<BodyPlace>,
    began: Instant,
    places: Vec<BodyPlace>,
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
        Ok(Self { disk, shard, began: Instant::now(), places: Vec::new(), last: Position::default() })
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
                Err(AppendError::Busy) => _ = self.serve()?,
                appended => break appended.map_err(|error| log_failed(&error.to_string()))?,
            }
        };
        let mut places = self.places.iter();
        for Entry { record, .. } in entries {
            #[allow(clippy::expect_used, reason = "an append gives the place of every body in it")]
            let record = record.map_body(|_| *places.next().expect("a place for each body"));
            apply(&mut self.shard.store, record)
                .map_err(|misfit| log_failed(&format!("a record does not fit: {misfit}")))?;
        }
        Ok(())
    }

    /// Brings everything to the disk and writes images of it, so that a start has nothing to replay.
    pub fn finish(mut self) -> Result<Store<BodyPlace>, Fatal> {
        self.shard.log.renew();
        let rounds = self.shard.log.counts().rounds;
        let is_done = |shard: &StartedShard<BodyPlace>, last| {
            shard.log.counts().rounds > rounds && shard.log.synced_up_to() >= last
        };
        while self.serve()? || !is_done(&self.shard, self.last) {
            if self.shard.log.is_out_of_space() {
                return Err(log_failed("no space left"));
            }
        }
        Ok(self.shard.store)
    }

    /// Carries out what the log wants now. Says whether there was something.
    fn serve(&mut self) -> Result<bool, Fatal> {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let StartedShard { log, store } = &mut self.shard;
        log.advance(now_ms, store);
        let mut was_busy = false;
        while let Some(request) = log.next_request() {
            was_busy = true;
            let result = self.disk.perform(&request.op);
            let buffer = match request.op {
                Op::Write { buffer, .. } => Some(buffer),
                _ => None,
            };
            log.complete(Completion { token: request.token, result, buffer });
        }
        match log.failure() {
            Some(failure) => Err(log_failed(failure)),
            None => Ok(was_busy),
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
