//! What an operator watches and steers a running router with: control port, statistics, metrics, logs.

use std::fmt;

use super::keys::{AUTH, RINGPOST, STORE_LOG, TRANSPORT};
use super::{number, values};
use crate::ini::{Ini, IniError};

const CONTROL_PASSWORD: &str = "1 to 255 printable ASCII characters without spaces";
const LOG_FORMAT: &str = "`auto`, `plain` or `journald`";
const METRICS_PORT: &str = "`off`, or a port number from 1 to 65535";
/// Queues blocked in a day, as the reference.
const BLOCK_QUOTA: u64 = 20;

#[derive(Clone, PartialEq, Eq)]
pub struct OperatorSettings {
    pub control: ControlSettings,
    /// Write the statistics of each day, and keep them over restarts.
    pub log_stats: bool,
    pub prometheus_interval_secs: Option<u64>,
    /// Of 127.0.0.1.
    pub metrics_port: Option<u16>,
    pub log_format: LogFormat,
}

#[derive(Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Of 127.0.0.1.
    pub port: Option<u16>,
    pub admin_password: Option<String>,
    pub user_password: Option<String>,
    /// Queues that may be blocked in a day; 0: any number.
    pub block_quota: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For the journal if standard error leads there, else plain.
    Auto,
    Plain,
    /// Each line with its level as the journal reads it, and without time.
    Journald,
}

pub fn read(ini: &Ini) -> Result<OperatorSettings, IniError> {
    let password = |key| ini.secret(AUTH, key, CONTROL_PASSWORD, control_password);
    Ok(OperatorSettings {
        control: ControlSettings {
            port: ini.value(TRANSPORT, "control_port", values::PORT, values::port)?,
            admin_password: password("control_port_admin_password")?,
            user_password: password("control_port_user_password")?,
            block_quota: number(ini, AUTH, "daily_block_queue_quota", values::BLOCK_QUOTA)?
                .unwrap_or(BLOCK_QUOTA),
        },
        log_stats: ini.value(STORE_LOG, "log_stats", values::SWITCH, values::switch)?.unwrap_or(false),
        prometheus_interval_secs: number(ini, STORE_LOG, "prometheus_interval", values::SECONDS)?,
        metrics_port: ini
            .value(RINGPOST, "metrics_port", METRICS_PORT, metrics_port)?
            .filter(|port| *port > 0),
        log_format: ini
            .value(RINGPOST, "log_format", LOG_FORMAT, |text| match text {
                "auto" => Some(LogFormat::Auto),
                "plain" => Some(LogFormat::Plain),
                "journald" => Some(LogFormat::Journald),
                _ => None,
            })?
            .unwrap_or(LogFormat::Auto),
    })
}

/// 0: off.
fn metrics_port(text: &str) -> Option<u16> {
    if text == "off" { Some(0) } else { values::port(text) }
}

fn control_password(text: &str) -> Option<String> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

impl fmt::Debug for OperatorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorSettings")
            .field("control", &self.control)
            .field("log_stats", &self.log_stats)
            .field("prometheus_interval_secs", &self.prometheus_interval_secs)
            .field("metrics_port", &self.metrics_port)
            .field("log_format", &self.log_format)
            .finish()
    }
}

impl fmt::Debug for ControlSettings {
    /// Without the passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlSettings")
            .field("port", &self.port)
            .field("admin_password", &self.admin_password.as_ref().map(|_| "..."))
            .field("user_password", &self.user_password.as_ref().map(|_| "..."))
            .field("block_quota", &self.block_quota)
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(text: &str) -> Result<OperatorSettings, String> {
        let ini = Ini::parse(Path::new("x.ini"), text.as_bytes()).unwrap();
        read(&ini).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_on_unless_it_is_asked_for() {
        let read = of("").unwrap();
        assert_eq!((read.control.port, read.metrics_port, read.prometheus_interval_secs), (None, None, None));
        assert_eq!((read.log_stats, read.control.block_quota, read.log_format), (false, 20, LogFormat::Auto));
    }

    #[test]
    fn values_are_read_and_passwords_are_not_shown() {
        let read = of("[TRANSPORT]\ncontrol_port = 5224\n[AUTH]\ncontrol_port_admin_password = a/b@c:d\n\
                       control_port_user_password = u1\ndaily_block_queue_quota = 0\n\
                       [STORE_LOG]\nlog_stats = on\nprometheus_interval = 60\n\
                       [RINGPOST]\nmetrics_port = 9100\nlog_format = journald\n")
        .unwrap();
        assert_eq!(read.control.port, Some(5224));
        assert_eq!(read.control.admin_password.as_deref(), Some("a/b@c:d"));
        assert_eq!((read.control.user_password.as_deref(), read.control.block_quota), (Some("u1"), 0));
        assert_eq!((read.log_stats, read.prometheus_interval_secs), (true, Some(60)));
        assert_eq!((read.metrics_port, read.log_format), (Some(9100), LogFormat::Journald));
        let shown = format!("{read:?}");
        assert!(!shown.contains("a/b@c:d") && !shown.contains("u1"), "{shown}");
    }

    #[test]
    fn wrong_passwords_are_refused_and_not_shown() {
        for password in ["", "two words", "é", &"x".repeat(256)] {
            for key in ["control_port_admin_password", "control_port_user_password"] {
                let error = of(&format!("[AUTH]\n{key} = {password}\n")).unwrap_err();
                assert_eq!(error, format!("x.ini:2: [AUTH] {key}: expected {CONTROL_PASSWORD}"));
            }
        }
    }
}
