//! What control port, metrics and files share of a running router.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use ringpost_shard::service::{ActiveQueue, Periods};
use ringpost_shard::{ListenerReport, Operator};

use super::statistics::file::{self, Saved};
use super::statistics::{Statistics, Sums, Totals};
use crate::settings::OperatorSettings;

const SECS_PER_DAY: u64 = 86_400;

/// The file that keeps statistics over restarts, in the data directory.
pub const STATISTICS_FILE: &str = "smp-server-stats.log";

#[derive(Debug)]
pub struct Desk {
    pub operator: Operator,
    pub started: SystemTime,
    /// Of each listener.
    ports: Vec<u16>,
    settings: RwLock<OperatorSettings>,
    statistics: Mutex<Statistics>,
    /// Kept if the operator wants statistics.
    statistics_file: Option<PathBuf>,
    /// Queues blocked on a day, in days since 1970.
    blocked: Mutex<(u64, u64)>,
}

impl Desk {
    pub fn new(
        operator: Operator,
        ports: Vec<u16>,
        settings: OperatorSettings,
        data_dir: &Path,
        saved: Option<Saved>,
    ) -> Self {
        let now = SystemTime::now();
        let mut statistics = Statistics::new(now);
        if let Some(saved) = saved {
            statistics.carry(saved.from, saved.values);
        }
        Self {
            operator,
            started: now,
            ports,
            statistics_file: settings.log_stats.then(|| data_dir.join(STATISTICS_FILE)),
            settings: RwLock::new(settings),
            statistics: Mutex::new(statistics),
            blocked: Mutex::new((0, 0)),
        }
    }

    pub fn settings(&self) -> OperatorSettings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_settings(&self, settings: OperatorSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of all shards by name.
    pub fn sums(&self) -> Sums {
        self.operator.counter_sums().into_iter().collect::<BTreeMap<_, _>>()
    }

    pub fn totals(&self) -> Totals {
        self.statistics().totals(&self.sums())
    }

    /// The totals, which then begin anew.
    pub fn take_totals(&self, now: SystemTime) -> Totals {
        let sums = self.sums();
        let mut statistics = self.statistics();
        let totals = statistics.totals(&sums);
        statistics.reset(sums, now);
        totals
    }

    /// What each port has accepted since the start.
    pub fn listeners(&self) -> Vec<(u16, ListenerReport)> {
        let mut by_port: BTreeMap<u16, ListenerReport> = BTreeMap::new();
        for (port, report) in self.ports.iter().zip(self.operator.listeners()) {
            let sum = by_port.entry(*port).or_default();
            sum.accepted += report.accepted;
            sum.closed += report.closed;
        }
        by_port.into_iter().collect()
    }

    /// Takes one from today's quota of queues to block. The quota if nothing is left of it.
    pub fn take_block_quota(&self) -> Result<BlockQuota<'_>, u64> {
        let quota = self.settings().control.block_quota;
        let today = today();
        let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        if blocked.0 != today {
            *blocked = (today, 0);
        }
        if quota != 0 && blocked.1 >= quota {
            return Err(quota);
        }
        blocked.1 += 1;
        Ok(BlockQuota { desk: self, is_used: false })
    }

    /// Writes the statistics file, if the operator wants one.
    pub fn save(&self, active: &[ActiveQueue]) -> std::io::Result<()> {
        let Some(path) = &self.statistics_file else { return Ok(()) };
        let day = u16::try_from(today()).unwrap_or(u16::MAX);
        crate::files::replace(path, file::write(&self.totals(), active, Periods::of(day)).as_bytes())
    }

    pub fn keeps_statistics(&self) -> bool {
        self.statistics_file.is_some()
    }
}

/// One of today's queues to block. It is given back unless it is used.
#[derive(Debug)]
pub struct BlockQuota<'a> {
    desk: &'a Desk,
    is_used: bool,
}

impl BlockQuota<'_> {
    pub fn used(mut self) {
        self.is_used = true;
    }
}

impl Drop for BlockQuota<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            let mut blocked = self.desk.blocked.lock().unwrap_or_else(PoisonError::into_inner);
            blocked.1 = blocked.1.saturating_sub(1);
        }
    }
}

/// In days since 1970, UTC.
pub fn today() -> u64 {
    day_of(SystemTime::now())
}

pub fn day_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SECS_PER_DAY)
}

/// What an earlier run has left in the data directory. A file that cannot be read is moved away: statistics are no reason
/// not to run.
pub fn load(data_dir: &Path) -> Option<Saved> {
    let path = data_dir.join(STATISTICS_FILE);
    let metadata = std::fs::metadata(&path).ok()?;
    let written = metadata.modified().unwrap_or_else(|_| SystemTime::now());
    let periods = Periods::of(u16::try_from(day_of(written)).unwrap_or(u16::MAX));
    let read = if metadata.len() > file::BYTES_MAX {
        Err("it is too long".to_owned())
    } else {
        std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| file::read(&text, periods).map_err(|error| error.to_string()))
    };
    match read {
        Ok(saved) => {
            for unknown in &saved.unknown {
                tracing::warn!("{}: {unknown} is unknown, and ignored", path.display());
            }
            Some(saved)
        }
        Err(error) => {
            let aside = path.with_extension("log.bad");
            tracing::warn!(
                "{}: {error}: statistics begin anew, and the file is moved to {}",
                path.display(),
                aside.display()
            );
            // The next file is written over it otherwise.
            let _ = std::fs::rename(&path, &aside);
            None
        }
    }
}
