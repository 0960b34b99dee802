//! Logs, on standard error. No line at info or above names an address of a client, a queue or a command.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::exit::{Fatal, Reason};
use crate::settings::LogLevel;

/// Levels by module, as `ringpost_shard=debug,warn`: wins over command line and ini.
pub const FILTER_VARIABLE: &str = "RINGPOST_LOG";

/// Starts logging for the rest of the process.
pub fn start(level: LogLevel) -> Result<(), Fatal> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            Fatal::new(Reason::Usage, format!("{FILTER_VARIABLE}={text}: {error}"))
                .remedy("Give a level (error, warn, info, debug, trace) or levels by module, as ringpost_shard=debug.")
        })?,
        _ => EnvFilter::new(level.name()),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .finish();
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Fatal::new(Reason::Other, format!("cannot start logging: {error}")))
}
