//! Every key that an ini may have: those of the reference implementation and our own, and what this version does with
//! each. The table in `docs/operations.md` is this list.

/// What becomes of a key that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Obeyed.
    Works,
    /// Known, and what it asks for does not exist here, for this reason. A warning names both when it asks for more than its default.
    NoEffect(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub support: Support,
    /// What holds where the key is not set. Empty: nothing does.
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn works(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { section, name, support: Support::Works, default, meaning }
}

const fn no_effect(
    why: &'static str,
    section: &'static str,
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { section, name, support: Support::NoEffect(why), default, meaning }
}

pub const INFORMATION: &str = "INFORMATION";
pub const STORE_LOG: &str = "STORE_LOG";
pub const AUTH: &str = "AUTH";
pub const TRANSPORT: &str = "TRANSPORT";
pub const PROXY: &str = "PROXY";
pub const INACTIVE_CLIENTS: &str = "INACTIVE_CLIENTS";
pub const WEB: &str = "WEB";
/// Our own section, which the reference ignores.
pub const RINGPOST: &str = "RINGPOST";

const NO_DATABASE: &str = "there is no database";

pub const KEYS: &[Key] = &[
    works(INFORMATION, "source_code", "", "Where the source of this router is published"),
    works(INFORMATION, "usage_conditions", "", "Link to the conditions of use"),
    works(INFORMATION, "condition_amendments", "", "Link to amendments of the conditions"),
    works(INFORMATION, "server_country", "", "Two-letter country code of the machine"),
    works(INFORMATION, "operator", "", "Who runs the router"),
    works(INFORMATION, "operator_country", "", "Two-letter country code of the operator"),
    works(INFORMATION, "website", "", "The operator's website"),
    works(INFORMATION, "admin_simplex", "", "Administrator: SimpleX address"),
    works(INFORMATION, "admin_email", "", "Administrator: email address"),
    works(INFORMATION, "admin_pgp", "", "Administrator: link to the PGP key"),
    works(INFORMATION, "admin_pgp_fingerprint", "", "Administrator: fingerprint of the PGP key"),
    works(INFORMATION, "complaints_simplex", "", "Complaints: SimpleX address"),
    works(INFORMATION, "complaints_email", "", "Complaints: email address"),
    works(INFORMATION, "complaints_pgp", "", "Complaints: link to the PGP key"),
    works(INFORMATION, "complaints_pgp_fingerprint", "", "Complaints: fingerprint of the PGP key"),
    works(INFORMATION, "hosting", "", "The hosting provider"),
    works(INFORMATION, "hosting_country", "", "Two-letter country code of the provider"),
    works(INFORMATION, "hosting_type", "", "Kind of hosting: virtual, dedicated, colocation or owned"),
    works(STORE_LOG, "enable", "on", "Keep queues and messages; off: memory only"),
    works(STORE_LOG, "store_queues", "memory", "Where queues are kept: memory; database is refused"),
    no_effect(NO_DATABASE, STORE_LOG, "db_connection", "", "PostgreSQL connection"),
    no_effect(NO_DATABASE, STORE_LOG, "db_schema", "", "PostgreSQL schema"),
    no_effect(NO_DATABASE, STORE_LOG, "db_pool_size", "", "PostgreSQL connections"),
    no_effect(NO_DATABASE, STORE_LOG, "db_store_log", "off", "Write database changes to the store log"),
    no_effect(NO_DATABASE, STORE_LOG, "db_deleted_ttl", "", "Days that deleted queues stay in the database"),
    works(
        STORE_LOG,
        "store_messages",
        "memory",
        "Where messages are kept: memory; journal and database are refused",
    ),
    no_effect(
        "messages are kept with their queues; `enable = off` keeps neither",
        STORE_LOG,
        "restore_messages",
        "on",
        "Keep undelivered messages when the router stops",
    ),
    works(STORE_LOG, "expire_messages_days", "21", "Days after which undelivered messages are dropped"),
    works(
        STORE_LOG,
        "expire_messages_on_start",
        "on",
        "Look for old messages at the start; off: two hours later",
    ),
    works(STORE_LOG, "expire_messages_on_send", "on", "Drop a queue's old messages at each SEND"),
    works(STORE_LOG, "expire_ntfs_hours", "24", "Hours that notifications wait for their notifier"),
    works(STORE_LOG, "log_stats", "off", "Write daily statistics as CSV, and keep counts over restarts"),
    works(STORE_LOG, "prometheus_interval", "", "Seconds between two metrics files; none: no file"),
    works(AUTH, "new_queues", "on", "Whether new queues can be made"),
    works(AUTH, "create_password", "", "Password that making a queue needs"),
    works(AUTH, "control_port_admin_password", "", "Password of the control port for administrators"),
    works(AUTH, "control_port_user_password", "", "Password of the control port for users"),
    works(AUTH, "daily_block_queue_quota", "20", "Queues that may be blocked in a day (UTC); 0: any number"),
    works(TRANSPORT, "host", "<hostnames>", "Domain name or IP address, only for the address shown at start"),
    works(TRANSPORT, "port", "", "Ports to listen on, separated by commas; must be set"),
    works(TRANSPORT, "log_tls_errors", "off", "Log failed TLS handshakes, without addresses"),
    works(
        TRANSPORT,
        "websockets",
        "off",
        "Ports for WebSocket clients without web certificate; on is 80; or off",
    ),
    works(TRANSPORT, "control_port", "", "Port for administration, on 127.0.0.1 only"),
    works(PROXY, "host_mode", "public", "Which host of a destination to prefer: public or onion"),
    works(PROXY, "required_host_mode", "off", "Use no other host than the preferred"),
    works(PROXY, "own_server_domains", "", "Domains of own routers, counted apart, separated by spaces"),
    works(PROXY, "socks_proxy", "", "SOCKS5 proxy to other routers: [user:password@]address[:port]"),
    works(PROXY, "socks_mode", "onion", "When to use the SOCKS proxy: onion or always"),
    works(PROXY, "client_concurrency", "32", "Proxied commands of one client at a time"),
    works(INACTIVE_CLIENTS, "disconnect", "off", "Disconnect clients that send nothing for ttl seconds"),
    works(INACTIVE_CLIENTS, "ttl", "21600", "Seconds without a word from the client"),
    works(INACTIVE_CLIENTS, "check_interval", "3600", "Seconds between two looks at all connections"),
    works(WEB, "static_path", "", "Directory that the pages for browsers are written to and read from"),
    works(WEB, "http", "", "Port that serves the pages without TLS"),
    works(WEB, "https", "", "Port for browsers, by the name they ask for if clients use it too"),
    works(WEB, "cert", "", "Certificate chain for browsers, PEM; needed by https"),
    works(WEB, "key", "", "Its key, PEM; needed by https"),
    works(RINGPOST, "shards", "auto", "Shards, a thread each: auto is one per CPU, or 1 to 256"),
    works(RINGPOST, "listen", "all", "IP addresses to listen on, separated by commas, or all"),
    works(RINGPOST, "log_level", "info", "What to log: error, warn, info, debug or trace"),
    works(RINGPOST, "log_format", "auto", "plain, journald (levels, no time), or auto: what is there"),
    works(RINGPOST, "metrics_port", "off", "Port of 127.0.0.1 for Prometheus: http://127.0.0.1:PORT/metrics"),
    works(RINGPOST, "tls_x448", "on", "Let apps use X448: a round trip less, 0.2 ms of CPU more"),
    works(RINGPOST, "queue_quota", "128", "Messages a queue holds; then its sender gets ERR QUOTA"),
    works(RINGPOST, "unused_queue_days", "off", "Days after which invitations nobody took are deleted"),
    works(
        RINGPOST,
        "connections",
        "100000",
        "Connections, those to other routers among them; more are closed when accepted",
    ),
    works(RINGPOST, "connections_per_address", "20000", "Connections from one IPv4 address or IPv6 /64"),
    works(RINGPOST, "handshakes", "2000", "Handshakes under way; more are closed when accepted"),
    works(
        RINGPOST,
        "session_memory_mib",
        "256",
        "MiB for blocks being read and written; then connections wait",
    ),
    works(RINGPOST, "message_memory_mib", "1024", "MiB for message bodies; older ones stay on the disk only"),
    works(RINGPOST, "queues", "50000000", "Queues; then NEW gets ERR STORE"),
    works(RINGPOST, "services", "10000", "Client services, kept for ever; then a new one is refused"),
    works(RINGPOST, "durability", "always", "always: OK means on the disk; interval, off: said at once"),
    works(RINGPOST, "sync_interval_ms", "100", "Milliseconds between syncs if durability is interval"),
    works(RINGPOST, "erase_within_secs", "60", "Seconds until what ended is erased from the disk"),
    works(RINGPOST, "segment_mib", "64", "MiB of a file of the log"),
    works(
        RINGPOST,
        "subscriptions_per_connection",
        "200000",
        "Subscriptions of a connection; then SUB gets ERR QUOTA",
    ),
    works(RINGPOST, "outbox_kib", "256", "KiB of responses a connection may leave unread; then it waits"),
    works(RINGPOST, "outbox_blocks", "16", "Message blocks a connection may leave unread; then they wait"),
    works(RINGPOST, "handshake_timeout_secs", "30", "Seconds from accepting to the end of the handshake"),
    works(RINGPOST, "block_timeout_secs", "30", "Seconds from the first byte of a block to its last"),
    works(RINGPOST, "write_timeout_secs", "60", "Seconds that a write may make no progress"),
    works(RINGPOST, "stop_timeout_secs", "5", "Seconds that work in flight gets when the router stops"),
];

pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// A known key that an unknown one was probably meant to be: the same word in other letters, or in another section.
pub fn suggestion(section: &str, name: &str) -> Option<&'static Key> {
    let alike = |a: &str, b: &str| a.replace('-', "_").eq_ignore_ascii_case(&b.replace('-', "_"));
    let same_section = KEYS.iter().find(|key| alike(key.section, section) && alike(key.name, name));
    same_section.or_else(|| KEYS.iter().find(|key| alike(key.name, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_listed_twice() {
        for (index, key) in KEYS.iter().enumerate() {
            let again = KEYS.iter().skip(index + 1).find(|k| (k.section, k.name) == (key.section, key.name));
            assert!(again.is_none(), "[{}] {}", key.section, key.name);
        }
    }

    #[test]
    fn slips_are_recognised() {
        let name = |section, key| suggestion(section, key).map(|k| (k.section, k.name));
        assert_eq!(name("TRANSPORT", "Port"), Some(("TRANSPORT", "port")));
        assert_eq!(name("AUTH", "port"), Some(("TRANSPORT", "port")));
        assert_eq!(name("ringpost", "queue-quota"), Some(("RINGPOST", "queue_quota")));
        assert_eq!(name("AUTH", "colour"), None);
    }
}
