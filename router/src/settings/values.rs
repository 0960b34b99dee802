//! The forms of single values: what each may be, in words for messages, and its reader.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use ringpost_store::log::Durability;

/// How many shards to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One for each CPU that this process may use.
    Auto,
    /// 1 to [`Shards::MAX`].
    Fixed(NonZeroUsize),
}

impl Shards {
    /// Queues are spread over 256 partitions: more shards would have nothing to do.
    pub const MAX: usize = 256;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

pub const SWITCH: &str = "`on` or `off`";
pub const HOST: &str = "one line of text";
pub const PORTS: &str = "port numbers from 1 to 65535, separated by commas, each once";
pub const PORT: &str = "a port number from 1 to 65535";
pub const WEBSOCKETS: &str = "`off`, `on`, or port numbers from 1 to 65535, separated by commas, each once";
pub const FILE: &str = "the path of a file";
pub const DIRECTORY: &str = "the path of a directory, from / on";
pub const OWN_PORT: &str = "a port number from 1 to 65535 that nothing else in the ini has";
pub const LISTEN: &str = "`all`, or IP addresses separated by commas, each once";
pub const PASSWORD: &str = "1 to 255 printable ASCII characters, no space, none of @ : /";
pub const SHARDS: &str = "`auto`, or a number from 1 to 256";
pub const DURABILITY: &str = "`always`, `interval` or `off`";
pub const LOG_LEVEL: &str = "`error`, `warn`, `info`, `debug` or `trace`";

/// Whole numbers from the first to the last, both allowed.
#[derive(Clone, Copy, Debug)]
pub struct Range(u64, u64);

/// Up to a year.
pub const SECONDS: Range = Range(1, 31_536_000);
/// Up to ten years.
pub const DAYS: Range = Range(1, 3_650);
/// Up to ten years.
pub const HOURS: Range = Range(1, 87_600);
pub const QUOTA: Range = Range(1, 1_000_000);
/// 0: any number.
pub const BLOCK_QUOTA: Range = Range(0, 1_000_000);
pub const CONCURRENCY: Range = Range(1, 10_000);
pub const COUNT: Range = Range(1, 100_000_000);
/// In MiB or KiB: up to 16 TiB or 16 GiB.
pub const MEMORY: Range = Range(1, 16_777_216);
pub const TIMEOUT: Range = Range(1, 3_600);
pub const SYNC_MS: Range = Range(1, 60_000);
pub const ERASE_SECS: Range = Range(1, 86_400);
/// The largest place in a file is a block number of 32 bits; larger files only make erasing slower.
pub const SEGMENT_MIB: Range = Range(1, 1_024);

/// With the milliseconds for `interval`.
pub fn durability(text: &str, interval_ms: u64) -> Option<Durability> {
    match text {
        "always" => Some(Durability::Always),
        "interval" => Some(Durability::Interval { ms: interval_ms }),
        "off" => Some(Durability::Off),
        _ => None,
    }
}

impl Range {
    pub fn allowed(self) -> String {
        format!("a whole number from {} to {}", self.0, self.1)
    }

    pub fn number<T: TryFrom<u64>>(self, text: &str) -> Option<T> {
        digits(text)
            .filter(|number| (self.0..=self.1).contains(number))
            .and_then(|number| T::try_from(number).ok())
    }
}

/// Digits alone: `parse` would take a sign too.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

pub fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

pub fn text(text: &str) -> Option<String> {
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

pub fn port(text: &str) -> Option<u16> {
    digits(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

pub fn ports(text: &str) -> Option<Vec<u16>> {
    list(text, port)
}

/// Phones may be off for a month.
pub const UNUSED_DAYS: &str = "off, or days from 30 to 3650";

/// 0: off.
pub fn unused_days(text: &str) -> Option<u32> {
    match text {
        "off" => Some(0),
        _ => Range(30, 3_650).number(text),
    }
}

pub fn websockets(text: &str) -> Option<Vec<u16>> {
    match text {
        "off" => Some(Vec::new()),
        "on" => Some(vec![80]),
        _ => ports(text),
    }
}

pub fn listen(text: &str) -> Option<Vec<IpAddr>> {
    if text == "all" {
        return Some(Vec::new());
    }
    list(text, |item| item.trim_start_matches('[').trim_end_matches(']').parse().ok())
}

/// Items separated by commas: at least one, none twice.
fn list<T: PartialEq>(text: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let mut items = Vec::new();
    for part in text.split(',') {
        let item = item(part.trim())?;
        if items.contains(&item) {
            return None;
        }
        items.push(item);
    }
    Some(items)
}

pub fn password(text: &str) -> Option<String> {
    valid_password(text).then(|| text.to_owned())
}

/// Whether a password can be a part of an address and of a NEW command.
pub fn valid_password(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"@:/".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}

pub fn shards(text: &str) -> Option<Shards> {
    if text == "auto" {
        return Some(Shards::Auto);
    }
    let number = usize::try_from(digits(text)?).ok().filter(|number| *number <= Shards::MAX)?;
    NonZeroUsize::new(number).map(Shards::Fixed)
}

pub fn log_level(text: &str) -> Option<LogLevel> {
    [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
        .into_iter()
        .find(|level| level.name() == text)
}
