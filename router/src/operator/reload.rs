//! SIGHUP: the ini is read again, and what may change while the router runs does.

use std::sync::{Arc, Mutex, PoisonError};

use ringpost_shard::Change;
use ringpost_shard::service::ServiceChange;

use super::desk::Desk;
use crate::configuration;
use crate::ini::Ini;
use crate::logging;
use crate::paths::Paths;
use crate::settings::keys::{AUTH, INACTIVE_CLIENTS, KEYS, Key, RINGPOST, STORE_LOG};
use crate::settings::{Settings, notices};

/// Keys that are obeyed when the ini is read again. All others need a restart.
pub const RELOADED: &[(&str, &str)] = &[
    (STORE_LOG, "expire_messages_days"),
    (STORE_LOG, "expire_ntfs_hours"),
    (STORE_LOG, "prometheus_interval"),
    (AUTH, "new_queues"),
    (AUTH, "create_password"),
    (AUTH, "control_port_admin_password"),
    (AUTH, "control_port_user_password"),
    (AUTH, "daily_block_queue_quota"),
    (INACTIVE_CLIENTS, "disconnect"),
    (INACTIVE_CLIENTS, "ttl"),
    (INACTIVE_CLIENTS, "check_interval"),
    (RINGPOST, "log_level"),
    (RINGPOST, "queue_quota"),
];

/// Reads the ini again.
#[derive(Debug)]
pub struct Reload {
    paths: Paths,
    desk: Arc<Desk>,
    /// As it was read last.
    ini: Mutex<Ini>,
}

impl Reload {
    pub fn new(paths: Paths, desk: Arc<Desk>, ini: Ini) -> Self {
        Self { paths, desk, ini: Mutex::new(ini) }
    }

    /// A file that cannot be read or has a wrong value changes nothing.
    pub fn reload(&self) {
        let read = configuration::read(&self.paths).and_then(|ini| {
            let settings = Settings::read(&ini).map_err(|error| configuration::error(&error))?;
            Ok((ini, settings))
        });
        let (ini, settings) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!("SIGHUP: {}: all settings stay as they were", error.message);
                return;
            }
        };
        for notice in notices(&ini) {
            tracing::warn!("{}:{}: {}", ini.path.display(), notice.line, notice.text);
        }
        if let Err(error) = self.desk.operator.change(&change(&settings)) {
            tracing::error!("SIGHUP: {error}: settings stay as they were");
            return;
        }
        let mut operator = self.desk.settings();
        operator.control.admin_password = settings.operator.control.admin_password;
        operator.control.user_password = settings.operator.control.user_password;
        operator.control.block_quota = settings.operator.control.block_quota;
        operator.prometheus_interval_secs = settings.operator.prometheus_interval_secs;
        self.desk.set_settings(operator);
        let mut before = self.ini.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed(&before, &ini);
        // What is said about the level shall be said at the lower of both.
        tell(&changed);
        logging::set_level(settings.log_level);
        *before = ini;
    }
}

fn tell(changed: &[&Key]) {
    if changed.is_empty() {
        tracing::info!("SIGHUP: the settings have not changed");
    }
    for key in changed {
        let (section, name) = (key.section, key.name);
        if RELOADED.contains(&(section, name)) {
            tracing::info!("SIGHUP: [{section}] {name} has changed, and holds from now on");
        } else {
            tracing::warn!("SIGHUP: [{section}] {name} has changed, but needs a restart");
        }
    }
}

/// Keys whose values differ.
fn changed(before: &Ini, now: &Ini) -> Vec<&'static Key> {
    let value = |ini: &Ini, key: &Key| {
        let entry = ini.entry(key.section, key.name);
        entry.map_or_else(|| key.default.to_owned(), |entry| entry.value.clone())
    };
    KEYS.iter().filter(|key| value(before, key) != value(now, key)).collect()
}

/// What of the settings the shards obey.
pub fn change(settings: &Settings) -> Change {
    let password = settings.create_password.as_ref();
    Change {
        service: ServiceChange {
            allow_new_queues: settings.allow_new_queues,
            create_password: password.map(|password| password.as_bytes().into()),
            queue_quota: settings.queue_quota,
            message_ttl_secs: Some(settings.message_ttl_secs),
            notification_ttl_secs: settings.notification_ttl_secs,
        },
        inactive: settings.inactive,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::keys;

    fn ini(text: &str) -> Ini {
        Ini::parse(Path::new("x.ini"), text.as_bytes()).unwrap()
    }

    #[test]
    fn every_key_of_the_list_is_one() {
        for (section, name) in RELOADED {
            assert!(keys::find(section, name).is_some(), "[{section}] {name}");
        }
    }

    #[test]
    fn a_key_that_is_set_to_its_default_has_not_changed() {
        let names = |before: &str, now: &str| -> Vec<&str> {
            changed(&ini(before), &ini(now)).iter().map(|key| key.name).collect()
        };
        assert_eq!(names("[AUTH]\nnew_queues = on\n", ""), [""; 0]);
        assert_eq!(
            names("", "[AUTH]\nnew_queues = off\ncreate_password = x\n"),
            ["new_queues", "create_password"]
        );
        assert_eq!(names("[RINGPOST]\nqueue_quota = 5\n", "[RINGPOST]\nqueue_quota = 6\n"), ["queue_quota"]);
    }
}
