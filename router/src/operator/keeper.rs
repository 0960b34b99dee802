//! Writes files when their time has come: the line of each day, statistics every hour, metrics every so many seconds.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use ringpost_shard::service::{DayCounts, Periods};

use super::desk::{Desk, day_of};
use super::metrics;
use super::statistics::daily;
use crate::exit::{Fatal, Reason};

/// One line for each day, in the data directory.
pub const DAILY_FILE: &str = "smp-server-stats.daily.log";
/// The newest metrics, in the data directory.
pub const METRICS_FILE: &str = "smp-server-metrics.txt";

/// Between two looks at the clock and the settings.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a process that is killed loses of its statistics.
const SAVE_EVERY: Duration = Duration::from_secs(3_600);

/// The thread that keeps the files, until this is dropped.
#[derive(Debug)]
pub struct Keeper {
    stop: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(desk: Arc<Desk>, data_dir: &Path) -> Result<Self, Fatal> {
        let (stop, stopped) = sync_channel(1);
        let data_dir = data_dir.to_owned();
        let keep = move || Files::new(&desk, data_dir).keep(&stopped);
        let thread = std::thread::Builder::new().name("statistics".to_owned()).spawn(keep);
        let thread =
            thread.map_err(|error| Fatal::new(Reason::Other, format!("cannot start a thread: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // If there is a stop in the channel already, one is enough.
        let _ = self.stop.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The files of a router's data directory.
#[derive(Debug)]
pub struct Files<'a> {
    desk: &'a Desk,
    data_dir: PathBuf,
    /// In days since 1970.
    day: u64,
    saved_at: Instant,
    metrics_at: Instant,
}

impl<'a> Files<'a> {
    pub fn new(desk: &'a Desk, data_dir: PathBuf) -> Self {
        let now = Instant::now();
        Self { desk, data_dir, day: day_of(SystemTime::now()), saved_at: now, metrics_at: now }
    }

    fn keep(mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            self.look(SystemTime::now());
        }
    }

    /// Writes what is due at this time.
    pub fn look(&mut self, now: SystemTime) {
        let today = day_of(now);
        if today > self.day {
            self.day = today;
            self.end_day(now);
        }
        if self.desk.keeps_statistics() && self.saved_at.elapsed() >= SAVE_EVERY {
            self.save();
        }
        let interval = self.desk.settings().prometheus_interval_secs;
        if let Some(secs) = interval
            && self.metrics_at.elapsed() >= Duration::from_secs(secs)
        {
            self.metrics_at = Instant::now();
            let text = metrics::text(self.desk, Some(now));
            warn(METRICS_FILE, crate::files::replace(&self.data_dir.join(METRICS_FILE), text.as_bytes()));
        }
    }

    fn end_day(&mut self, now: SystemTime) {
        if !self.desk.keeps_statistics() {
            return;
        }
        let periods = Periods::of(u16::try_from(self.day).unwrap_or(u16::MAX));
        // None: the shards are stopping, or were started after midnight.
        let ended = self.desk.operator.active_counts().ok().and_then(|(_, ended)| ended);
        let ended: DayCounts = ended.unwrap_or_default();
        let line = daily::line(&self.desk.take_totals(now), &ended, periods);
        warn(DAILY_FILE, append(&self.data_dir.join(DAILY_FILE), &line));
        self.save();
    }

    fn save(&mut self) {
        self.saved_at = Instant::now();
        if let Ok(active) = self.desk.operator.active_queues() {
            warn(super::desk::STATISTICS_FILE, self.desk.save(&active));
        }
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn warn(file: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("{file} could not be written: {error}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines_are_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(DAILY_FILE);
        append(&path, "1,2").unwrap();
        append(&path, "3,4").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1,2\n3,4\n");
    }
}
