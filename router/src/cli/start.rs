//! Options of `smp-server start`.

use clap::{Args, ValueEnum};

use crate::settings::{LogLevel, Shards, parse_shards};
use crate::start::StartOptions;

/// What a running server does at signals.
pub const SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT  stop: what is in flight is finished; once more ends at once
  SIGHUP           read the ini again
  SIGUSR2          go on with the program that is now at the path of this one,
                   without refusing a connection";

#[derive(Debug, Args)]
pub struct StartArguments {
    /// Shards to run, or `auto` for one per CPU; overrides the ini
    #[arg(long, value_name = "N", value_parser = shards)]
    shards: Option<Shards>,

    /// What to log; overrides the ini
    #[arg(long, value_name = "LOG_LEVEL")]
    log_level: Option<Level>,

    /// Start although a part of the log is damaged; what was there is lost
    #[arg(long)]
    skip_damaged: bool,

    /// Do all that a start does up to serving clients, then end
    #[arg(short, long)]
    maintenance: bool,

    /// Check ini, certificates and limits as a start does, then end; also while
    /// the server runs
    #[arg(long, conflicts_with = "maintenance")]
    check: bool,

    /// Start in spite of warnings (the server always does)
    #[arg(long)]
    skip_warnings: bool,

    /// Compact the store log (the server does so all the time)
    #[arg(long)]
    compact_log: bool,

    /// Confirm migrations of a database (there is none)
    #[arg(long, value_name = "CONFIRM_MIGRATIONS")]
    confirm_migrations: Option<Migrations>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Migrations {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Error,
    Warn,
    #[value(alias = "note")]
    Info,
    Debug,
    Trace,
}

fn shards(text: &str) -> Result<Shards, String> {
    parse_shards(text).ok_or_else(|| "expected `auto` or a number from 1 to 256".to_owned())
}

impl StartArguments {
    pub fn options(self) -> StartOptions {
        StartOptions {
            shards: self.shards,
            skip_damaged: self.skip_damaged,
            maintenance: self.maintenance,
            check: self.check,
            log_level: self.log_level.map(|level| match level {
                Level::Error => LogLevel::Error,
                Level::Warn => LogLevel::Warn,
                Level::Info => LogLevel::Info,
                Level::Debug => LogLevel::Debug,
                Level::Trace => LogLevel::Trace,
            }),
        }
    }
}
