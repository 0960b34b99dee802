//! What an ini asks for, as types; and what it says that this version cannot do.

pub mod information;
pub mod keys;
mod operator;
mod proxy;
mod values;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ringpost_shard::InactiveClients;
use ringpost_shard::limits::{Limits, QUEUE_QUOTA};
use ringpost_shard::proxy::ProxyConfig;
use ringpost_store::log::Durability;

use crate::ini::{Ini, IniError};
use information::Information;
use keys::{AUTH, INACTIVE_CLIENTS, RINGPOST, STORE_LOG, Support, TRANSPORT, WEB};

pub use operator::{ControlSettings, LogFormat, OperatorSettings};
use values::Range;
pub use values::{LogLevel, Shards, shards as parse_shards, valid_password};

/// Shown in the address instead of a host that nobody set.
pub const HOST_PLACEHOLDER: &str = "<hostnames>";

/// Everything `start` needs from the ini.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Only shown in the address.
    pub host: String,
    /// Not empty, each once.
    pub ports: Vec<u16>,
    /// For WebSocket clients alone: none of `ports`.
    pub websocket_ports: Vec<u16>,
    pub web: Option<WebSettings>,
    /// For browsers, without TLS: none of the other ports.
    pub http_port: Option<u16>,
    /// Where the pages for browsers are files.
    pub static_path: Option<PathBuf>,
    /// Empty: all addresses of the machine.
    pub listen: Vec<IpAddr>,
    pub allow_new_queues: bool,
    pub create_password: Option<String>,
    pub message_ttl_secs: u64,
    pub notification_ttl_secs: u64,
    pub expires_on_start: bool,
    pub expires_on_send: bool,
    /// None: invitations that nobody takes stay.
    pub unused_queue_days: Option<u32>,
    pub log_tls_errors: bool,
    pub inactive: Option<InactiveClients>,
    pub information: Information,
    pub shards: Shards,
    /// See [`ringpost_shard::TlsOptions`].
    pub tls_x448: bool,
    pub log_level: LogLevel,
    /// Messages.
    pub queue_quota: usize,
    pub limits: Limits,
    pub proxy: ProxyConfig,
    pub operator: OperatorSettings,
    /// None: nothing is kept.
    pub store: Option<StoreSettings>,
}

/// How queues and messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    pub durability: Durability,
    pub erase_within_secs: u64,
    pub segment_mib: u64,
}

/// Where and how browsers are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSettings {
    /// May be one of [`Settings::ports`], and is then shared.
    pub port: u16,
    /// PEM files.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Something in an ini that is not an error, but not what it seems either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// From 1.
    pub line: usize,
    pub text: String,
}

impl Settings {
    /// Reads all settings. Stops at the first wrong value.
    pub fn read(ini: &Ini) -> Result<Self, IniError> {
        refuse_other_stores(ini)?;
        let switch = |section, key| ini.value(section, key, values::SWITCH, values::switch);
        let inactive = InactiveClients {
            ttl_secs: number(ini, INACTIVE_CLIENTS, "ttl", values::SECONDS)?.unwrap_or(21_600),
            check_interval_secs: number(ini, INACTIVE_CLIENTS, "check_interval", values::SECONDS)?
                .unwrap_or(3_600),
        };
        let ttl_days: u64 = number(ini, STORE_LOG, "expire_messages_days", values::DAYS)?.unwrap_or(21);
        let ttl_hours: u64 = number(ini, STORE_LOG, "expire_ntfs_hours", values::HOURS)?.unwrap_or(24);
        let ports = ini.required(TRANSPORT, "port", values::PORTS, values::ports)?;
        Ok(Self {
            host: ini
                .value(TRANSPORT, "host", values::HOST, values::text)?
                .unwrap_or_else(|| HOST_PLACEHOLDER.to_owned()),
            http_port: http_port(ini, &ports)?,
            static_path: ini.value(WEB, "static_path", values::DIRECTORY, directory)?,
            websocket_ports: websocket_ports(ini, &ports)?,
            ports,
            web: read_web(ini)?,
            listen: ini.value(RINGPOST, "listen", values::LISTEN, values::listen)?.unwrap_or_default(),
            allow_new_queues: switch(AUTH, "new_queues")?.unwrap_or(true),
            create_password: ini.secret(AUTH, "create_password", values::PASSWORD, values::password)?,
            message_ttl_secs: ttl_days * 86_400,
            notification_ttl_secs: ttl_hours * 3_600,
            expires_on_start: switch(STORE_LOG, "expire_messages_on_start")?.unwrap_or(true),
            expires_on_send: switch(STORE_LOG, "expire_messages_on_send")?.unwrap_or(true),
            unused_queue_days: ini
                .value(RINGPOST, "unused_queue_days", values::UNUSED_DAYS, values::unused_days)?
                .filter(|days| *days > 0),
            log_tls_errors: switch(TRANSPORT, "log_tls_errors")?.unwrap_or(false),
            inactive: switch(INACTIVE_CLIENTS, "disconnect")?.unwrap_or(false).then_some(inactive),
            information: Information::read(ini)?,
            shards: ini.value(RINGPOST, "shards", values::SHARDS, values::shards)?.unwrap_or(Shards::Auto),
            tls_x448: switch(RINGPOST, "tls_x448")?.unwrap_or(true),
            log_level: ini
                .value(RINGPOST, "log_level", values::LOG_LEVEL, values::log_level)?
                .unwrap_or(LogLevel::Info),
            queue_quota: number(ini, RINGPOST, "queue_quota", values::QUOTA)?.unwrap_or(QUEUE_QUOTA),
            limits: read_limits(ini)?,
            proxy: proxy::read(ini)?,
            operator: operator::read(ini)?,
            store: read_store(ini)?,
        })
    }
}

fn number<T: TryFrom<u64>>(ini: &Ini, section: &str, key: &str, range: Range) -> Result<Option<T>, IniError> {
    ini.value(section, key, &range.allowed(), |text| range.number(text))
}

fn read_store(ini: &Ini) -> Result<Option<StoreSettings>, IniError> {
    let sync_interval_ms = number(ini, RINGPOST, "sync_interval_ms", values::SYNC_MS)?.unwrap_or(100);
    let durability = ini.value(RINGPOST, "durability", values::DURABILITY, |text| {
        values::durability(text, sync_interval_ms)
    })?;
    let store = StoreSettings {
        durability: durability.unwrap_or(Durability::Always),
        erase_within_secs: number(ini, RINGPOST, "erase_within_secs", values::ERASE_SECS)?.unwrap_or(60),
        segment_mib: number(ini, RINGPOST, "segment_mib", values::SEGMENT_MIB)?.unwrap_or(64),
    };
    // Messages are kept with their queues, so there is nothing to switch; nonsense is an error as everywhere.
    ini.value(STORE_LOG, "restore_messages", values::SWITCH, values::switch)?;
    let enabled = ini.value(STORE_LOG, "enable", values::SWITCH, values::switch)?.unwrap_or(true);
    Ok(enabled.then_some(store))
}

/// As in the reference, a port of native clients is theirs alone, though it is named here too.
fn websocket_ports(ini: &Ini, ports: &[u16]) -> Result<Vec<u16>, IniError> {
    let read = ini.value(TRANSPORT, "websockets", values::WEBSOCKETS, values::websockets)?;
    let others = read.unwrap_or_default().into_iter().filter(|port| !ports.contains(port));
    Ok(others.collect())
}

/// A relative path would depend on where the router was started.
fn directory(text: &str) -> Option<PathBuf> {
    values::text(text).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn http_port(ini: &Ini, ports: &[u16]) -> Result<Option<u16>, IniError> {
    let websockets = websocket_ports(ini, ports)?;
    let https = read_web(ini)?.map(|web| web.port);
    let taken = |port: &u16| ports.contains(port) || websockets.contains(port) || https == Some(*port);
    ini.value(WEB, "http", values::OWN_PORT, |text| values::port(text).filter(|port| !taken(port)))
}

fn read_web(ini: &Ini) -> Result<Option<WebSettings>, IniError> {
    let Some(port) = ini.value(WEB, "https", values::PORT, values::port)? else { return Ok(None) };
    let file = |key| ini.required(WEB, key, values::FILE, values::text);
    Ok(Some(WebSettings { port, certificate: file("cert")?.into(), key: file("key")?.into() }))
}

fn read_limits(ini: &Ini) -> Result<Limits, IniError> {
    let count = |key, default: usize| {
        Ok::<_, IniError>(number(ini, RINGPOST, key, values::COUNT)?.unwrap_or(default))
    };
    let bytes = |key, unit: usize, default: usize| {
        Ok::<_, IniError>(
            number(ini, RINGPOST, key, values::MEMORY)?.map_or(default, |units: usize| units * unit),
        )
    };
    let secs = |key, default: u64| {
        Ok::<_, IniError>(number(ini, RINGPOST, key, values::TIMEOUT)?.unwrap_or(default))
    };
    let default = Limits::default();
    Ok(Limits {
        connections: count("connections", default.connections)?,
        connections_per_address: count("connections_per_address", default.connections_per_address)?,
        handshakes: count("handshakes", default.handshakes)?,
        session_bytes: bytes("session_memory_mib", 1 << 20, default.session_bytes)?,
        message_bytes: bytes("message_memory_mib", 1 << 20, default.message_bytes)?,
        queues: count("queues", default.queues)?,
        services: count("services", default.services)?,
        subscriptions_per_connection: count(
            "subscriptions_per_connection",
            default.subscriptions_per_connection,
        )?,
        outbox_bytes: bytes("outbox_kib", 1 << 10, default.outbox_bytes)?,
        outbox_blocks: count("outbox_blocks", default.outbox_blocks)?,
        handshake_secs: secs("handshake_timeout_secs", default.handshake_secs)?,
        block_secs: secs("block_timeout_secs", default.block_secs)?,
        write_secs: secs("write_timeout_secs", default.write_secs)?,
        stop_secs: secs("stop_timeout_secs", default.stop_secs)?,
    })
}

/// Other stores hold queues that would not be there: going on without them would look like losing them.
fn refuse_other_stores(ini: &Ini) -> Result<(), IniError> {
    for key in ["store_queues", "store_messages"] {
        ini.value(STORE_LOG, key, "`memory` (other stores are not supported)", |text| {
            (text == "memory").then_some(())
        })?;
    }
    Ok(())
}

/// What to warn about, in the order of the lines: keys that are unknown, repeated, or without effect.
pub fn notices(ini: &Ini) -> Vec<Notice> {
    let mut notices: Vec<Notice> = ini
        .repeated()
        .map(|(first, again)| Notice {
            line: again.line,
            text: format!(
                "[{}] {} is already set in line {}, which counts",
                again.section, again.key, first.line
            ),
        })
        .collect();
    for entry in ini.entries() {
        let (section, key) = (entry.section.as_str(), entry.key.as_str());
        let text = match keys::find(section, key) {
            Some(known) if entry.value.is_empty() || entry.value == known.default => continue,
            Some(keys::Key { support: Support::NoEffect(why), .. }) => {
                format!("[{section}] {key} has no effect: {why}")
            }
            Some(_) => continue,
            None => match keys::suggestion(section, key) {
                Some(known) => {
                    format!(
                        "[{section}] {key} is unknown, and ignored: is it [{}] {}?",
                        known.section, known.name
                    )
                }
                None => format!("[{section}] {key} is unknown, and ignored"),
            },
        };
        notices.push(Notice { line: entry.line, text });
    }
    notices.sort_by_key(|notice| notice.line);
    notices
}

impl fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.host)
            .field("ports", &self.ports)
            .field("websocket_ports", &self.websocket_ports)
            .field("web", &self.web)
            .field("http_port", &self.http_port)
            .field("static_path", &self.static_path)
            .field("listen", &self.listen)
            .field("allow_new_queues", &self.allow_new_queues)
            .field("create_password", &self.create_password.as_ref().map(|_| "..."))
            .field("message_ttl_secs", &self.message_ttl_secs)
            .field("notification_ttl_secs", &self.notification_ttl_secs)
            .field("expires_on_start", &self.expires_on_start)
            .field("expires_on_send", &self.expires_on_send)
            .field("unused_queue_days", &self.unused_queue_days)
            .field("log_tls_errors", &self.log_tls_errors)
            .field("inactive", &self.inactive)
            .field("information", &self.information)
            .field("shards", &self.shards)
            .field("tls_x448", &self.tls_x448)
            .field("log_level", &self.log_level)
            .field("queue_quota", &self.queue_quota)
            .field("limits", &self.limits)
            .field("proxy", &self.proxy)
            .field("operator", &self.operator)
            .field("store", &self.store)
            .finish()
    }
}

#[cfg(test)]
mod tests;
