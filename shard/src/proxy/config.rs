//! What the operator decides about forwarding, and how destinations are reached.

use std::net::SocketAddr;

use ringpost_protocol::address::{Host, Router};

/// How this router forwards commands for its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Relays on these domains or below them are counted apart.
    pub own_domains: Vec<String>,
    /// Which host of a relay is preferred, if it has several.
    pub host_mode: HostMode,
    /// No other host than the preferred one is used.
    pub required_host_mode: bool,
    pub socks: Option<SocksProxy>,
    pub socks_mode: SocksMode,
    /// Commands of one client that are under way at a time. Further ones wait, and the client is not read.
    pub client_concurrency: usize,
    /// From resolving a name to the end of the handshake with a relay.
    pub connect_secs: u64,
    /// Until a relay has answered a command.
    pub response_secs: u64,
    /// After a failed connection the same error is given for this long.
    pub retry_secs: u64,
    /// A session without commands is closed after this time.
    pub idle_secs: u64,
    /// A session from which nothing has come for this long is asked whether it is there.
    pub ping_secs: u64,
    /// After commands without an answer, a session from which nothing has come for this long is given up.
    pub silence_secs: u64,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            own_domains: Vec::new(),
            host_mode: HostMode::Public,
            required_host_mode: false,
            socks: None,
            socks_mode: SocksMode::Onion,
            client_concurrency: 32,
            // These three are the reference's, and so is the interval of pings.
            connect_secs: 45,
            response_secs: 30,
            retry_secs: 30,
            idle_secs: 3_600,
            ping_secs: 600,
            silence_secs: 60,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMode {
    Public,
    /// Onion hosts, where there is a SOCKS proxy to reach them through.
    Onion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksMode {
    /// For onion hosts alone.
    Onion,
    Always,
}

/// A SOCKS5 proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct SocksProxy {
    pub address: SocketAddr,
    pub auth: SocksAuth,
}

#[derive(Clone, PartialEq, Eq)]
pub enum SocksAuth {
    /// A user name made at the start: the proxy keeps this router's circuits apart from those of others.
    Isolate,
    None,
    User {
        name: String,
        password: String,
    },
}

impl std::fmt::Debug for SocksAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Isolate => "Isolate",
            Self::None => "None",
            Self::User { .. } => "User",
        })
    }
}

impl std::fmt::Debug for SocksProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocksProxy").field("address", &self.address).field("auth", &self.auth).finish()
    }
}

impl ProxyConfig {
    /// The host of a relay to connect to. None if there is none as the operator wants it.
    pub fn host<'r>(&self, relay: &'r Router) -> Option<&'r Host> {
        let hosts = relay.hosts.as_slice();
        let is_onion = |host: &&Host| matches!(host, Host::Onion(_));
        let wants_onion = self.host_mode == HostMode::Onion && self.socks.is_some();
        let preferred = hosts.iter().find(|host| is_onion(host) == wants_onion);
        if self.required_host_mode { preferred } else { preferred.or(hosts.first()) }
    }

    /// The SOCKS proxy to go through to a host, if it is to be.
    pub fn socks_for(&self, host: &Host) -> Option<&SocksProxy> {
        let goes = self.socks_mode == SocksMode::Always || matches!(host, Host::Onion(_));
        self.socks.as_ref().filter(|_| goes)
    }

    /// Whether a relay is the operator's: its first host is one of the domains or lies below one.
    pub fn is_own(&self, relay: &Router) -> bool {
        let Some(host) = relay.hosts.as_slice().first() else { return false };
        let host = host.to_string();
        self.own_domains.iter().any(|domain| {
            host.strip_suffix(domain.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.'))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ringpost_protocol::address::RouterAddress;

    fn relay(hosts: &str) -> Router {
        let hash = "u2dS9sG8nMNURyZwqASV4yROM28Er0luVTx5X1CsMrU=";
        format!("smp://{hash}@{hosts}").parse::<RouterAddress>().unwrap().router
    }

    fn with_socks(host_mode: HostMode, socks_mode: SocksMode) -> ProxyConfig {
        let socks = SocksProxy { address: ([127, 0, 0, 1], 9050).into(), auth: SocksAuth::None };
        ProxyConfig { host_mode, socks_mode, socks: Some(socks), ..ProxyConfig::default() }
    }

    const ONION: &str = "bylepyau3ty4czmn77q4fglvperknl4bi2eb2fdy2bh4jxtf32kf73yd.onion";

    #[test]
    fn the_host_is_the_preferred_one_or_the_first() {
        let both = relay(&format!("{ONION},smp.example.com"));
        let onion_only = relay(ONION);
        let shown = |config: &ProxyConfig, relay: &Router| config.host(relay).map(ToString::to_string);
        let public = ProxyConfig::default();
        assert_eq!(shown(&public, &both).as_deref(), Some("smp.example.com"));
        assert_eq!(shown(&public, &onion_only).as_deref(), Some(ONION));
        let required = ProxyConfig { required_host_mode: true, ..ProxyConfig::default() };
        assert_eq!(shown(&required, &both).as_deref(), Some("smp.example.com"));
        assert_eq!(shown(&required, &onion_only), None);
        let onion = with_socks(HostMode::Onion, SocksMode::Onion);
        assert_eq!(shown(&onion, &both).as_deref(), Some(ONION));
        // Onion hosts cannot be reached without a SOCKS proxy.
        let no_socks = ProxyConfig { host_mode: HostMode::Onion, ..ProxyConfig::default() };
        assert_eq!(shown(&no_socks, &both).as_deref(), Some("smp.example.com"));
    }

    #[test]
    fn the_socks_proxy_is_used_for_onion_hosts_or_for_all() {
        let (onion, public) = (ONION.parse().unwrap(), "smp.example.com".parse().unwrap());
        let for_onion = with_socks(HostMode::Public, SocksMode::Onion);
        assert!(for_onion.socks_for(&onion).is_some() && for_onion.socks_for(&public).is_none());
        let always = with_socks(HostMode::Public, SocksMode::Always);
        assert!(always.socks_for(&onion).is_some() && always.socks_for(&public).is_some());
        assert!(ProxyConfig::default().socks_for(&onion).is_none());
    }

    #[test]
    fn own_relays_are_on_a_domain_or_below() {
        let own = ProxyConfig { own_domains: vec!["example.com".to_owned()], ..ProxyConfig::default() };
        for (host, is_own) in [
            ("example.com", true),
            ("smp1.example.com", true),
            ("notexample.com", false),
            ("example.com.evil.org", false),
            ("other.org,example.com", false),
        ] {
            assert_eq!(own.is_own(&relay(host)), is_own, "{host}");
        }
    }
}
