//! Logs, on standard error. No line at info or above names an address of a client, a queue or a command.
//!
//! Lines for the journal have their level in front, as `sd-daemon(3)` describes it, and no time, which the journal has.

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::exit::{Fatal, Reason};
use crate::settings::{LogFormat, LogLevel};

/// Levels by module, as `ringpost_shard=debug,warn`: wins over command line and ini.
pub const FILTER_VARIABLE: &str = "RINGPOST_LOG";
/// Set by systemd: device and inode of the journal's socket.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// Changes the level; set if the ini may.
static SET_LEVEL: OnceLock<Box<dyn Fn(LogLevel) + Send + Sync>> = OnceLock::new();

/// What is logged and how.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    pub level: LogLevel,
    /// The ini may change the level: nothing wins over it.
    pub is_from_ini: bool,
    pub format: LogFormat,
}

/// Starts logging for the rest of the process.
pub fn start(options: LogOptions) -> Result<(), Fatal> {
    let by_module = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let may_change = options.is_from_ini && by_module.is_none();
    let filter = match by_module {
        Some(text) => EnvFilter::try_new(&text).map_err(|error| {
            Fatal::new(Reason::Usage, format!("{FILTER_VARIABLE}={text}: {error}"))
                .remedy("Give a level (error, warn, info, debug, trace) or levels by module, as ringpost_shard=debug.")
        })?,
        None => EnvFilter::new(options.level.name()),
    };
    let is_for_journal = match options.format {
        LogFormat::Auto => leads_to_journal(),
        LogFormat::Plain => false,
        LogFormat::Journald => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_ansi(!is_for_journal && stderr().is_terminal())
        .map_event_format(|plain| Lines { are_for_journal: is_for_journal, plain })
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_filter_reloading();
    if may_change {
        let handle = builder.reload_handle();
        // Logging is started once, and ends with the process.
        let _ = SET_LEVEL.set(Box::new(move |level| drop(handle.reload(EnvFilter::new(level.name())))));
    }
    tracing::subscriber::set_global_default(builder.finish())
        .map_err(|error| Fatal::new(Reason::Other, format!("cannot start logging: {error}")))
}

/// The ini asks for another level. It does not get it if the command line or the environment has one.
pub fn set_level(level: LogLevel) {
    if let Some(set) = SET_LEVEL.get() {
        set(level);
    }
}

fn leads_to_journal() -> bool {
    let Ok(journal) = std::env::var(JOURNAL_VARIABLE) else { return false };
    rustix::fs::fstat(stderr()).is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Plain lines, or `<6>target: message`.
struct Lines {
    are_for_journal: bool,
    plain: Format,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !self.are_for_journal {
            return self.plain.format_event(context, writer, event);
        }
        let metadata = event.metadata();
        write!(writer, "<{}>{}: ", priority(*metadata.level()), metadata.target())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
