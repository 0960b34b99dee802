//! `[PROXY]`: forwarding for clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringpost_shard::proxy::{HostMode, ProxyConfig, SocksAuth, SocksMode, SocksProxy};

use super::keys::PROXY;
use super::{number, values};
use crate::ini::{Ini, IniError};

const HOST_MODE: &str = "`public` or `onion`";
const SOCKS_MODE: &str = "`onion` or `always`";
const DOMAINS: &str = "domain names separated by spaces";
const SOCKS: &str = "[@ or user:password@]address[:port], the address as numbers or localhost";
/// Of Tor, as in the reference.
const SOCKS_PORT: u16 = 9050;

pub fn read(ini: &Ini) -> Result<ProxyConfig, IniError> {
    let default = ProxyConfig::default();
    Ok(ProxyConfig {
        host_mode: ini
            .value(PROXY, "host_mode", HOST_MODE, |text| match text {
                "public" => Some(HostMode::Public),
                "onion" => Some(HostMode::Onion),
                _ => None,
            })?
            .unwrap_or(default.host_mode),
        required_host_mode: ini
            .value(PROXY, "required_host_mode", values::SWITCH, values::switch)?
            .unwrap_or(default.required_host_mode),
        own_domains: ini.value(PROXY, "own_server_domains", DOMAINS, domains)?.unwrap_or_default(),
        socks: read_socks(ini)?,
        socks_mode: ini
            .value(PROXY, "socks_mode", SOCKS_MODE, |text| match text {
                "onion" => Some(SocksMode::Onion),
                "always" => Some(SocksMode::Always),
                _ => None,
            })?
            .unwrap_or(default.socks_mode),
        client_concurrency: number(ini, PROXY, "client_concurrency", values::CONCURRENCY)?
            .unwrap_or(default.client_concurrency),
        ..default
    })
}

/// What has a login is not shown.
fn read_socks(ini: &Ini) -> Result<Option<SocksProxy>, IniError> {
    let has_login = ini.value(PROXY, "socks_proxy", SOCKS, |text| Some(text.contains('@')))?;
    if has_login == Some(true) {
        ini.secret(PROXY, "socks_proxy", SOCKS, socks)
    } else {
        ini.value(PROXY, "socks_proxy", SOCKS, socks)
    }
}

fn socks(text: &str) -> Option<SocksProxy> {
    let (auth, address) = match text.split_once('@') {
        None => (SocksAuth::Isolate, text),
        Some(("", address)) => (SocksAuth::None, address),
        Some((login, address)) => {
            let (name, password) = login.split_once(':')?;
            // The lengths have a byte each.
            if name.len() > 255 || password.len() > 255 {
                return None;
            }
            (SocksAuth::User { name: name.to_owned(), password: password.to_owned() }, address)
        }
    };
    Some(SocksProxy { address: socks_address(address)?, auth })
}

fn socks_address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some((ip, SOCKS_PORT).into());
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, values::port(port)?),
        None => (text, SOCKS_PORT),
    };
    matches!(host, "" | "localhost").then_some((Ipv4Addr::LOCALHOST, port).into())
}

fn domains(text: &str) -> Option<Vec<String>> {
    text.split_whitespace().map(|domain| is_domain(domain).then(|| domain.to_owned())).collect()
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(text: &str) -> Result<ProxyConfig, String> {
        let ini = Ini::parse(Path::new("x.ini"), format!("[PROXY]\n{text}").as_bytes()).unwrap();
        read(&ini).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(of("").unwrap(), ProxyConfig::default());
        assert_eq!(ProxyConfig::default().client_concurrency, 32);
    }

    #[test]
    fn values_are_read() {
        let read =
            of("host_mode = onion\nrequired_host_mode = on\nsocks_mode = always\nclient_concurrency = 5\n\
                       own_server_domains = example.com  smp.example.org\n")
            .unwrap();
        assert_eq!((read.host_mode, read.required_host_mode), (HostMode::Onion, true));
        assert_eq!((read.socks_mode, read.client_concurrency), (SocksMode::Always, 5));
        assert_eq!(read.own_domains, ["example.com", "smp.example.org"]);
        assert_eq!(of("own_server_domains =\n").unwrap().own_domains, [""; 0]);
    }

    #[test]
    fn socks_proxies_are_read_as_in_the_reference() {
        let user = |name: &str, password: &str| SocksAuth::User {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        for (text, address, auth) in [
            ("127.0.0.1:9050", "127.0.0.1:9050", SocksAuth::Isolate),
            ("10.0.0.1", "10.0.0.1:9050", SocksAuth::Isolate),
            (":9150", "127.0.0.1:9150", SocksAuth::Isolate),
            ("localhost:9050", "127.0.0.1:9050", SocksAuth::Isolate),
            ("@127.0.0.1:1", "127.0.0.1:1", SocksAuth::None),
            ("@", "127.0.0.1:9050", SocksAuth::None),
            ("me:secret@[::1]:9051", "[::1]:9051", user("me", "secret")),
            ("me:@::1", "[::1]:9050", user("me", "")),
        ] {
            let read = of(&format!("socks_proxy = {text}\n")).unwrap().socks.unwrap();
            assert_eq!(read, SocksProxy { address: address.parse().unwrap(), auth }, "{text}");
        }
    }

    #[test]
    fn wrong_values_are_refused_and_logins_are_not_shown() {
        for line in [
            "host_mode = any",
            "socks_mode = never",
            "socks_proxy = example.com:9050",
            "socks_proxy = 127.0.0.1:x",
            "client_concurrency = 0",
            "own_server_domains = a..b",
        ] {
            let error = of(&format!("{line}\n")).unwrap_err();
            assert!(error.starts_with(&format!("x.ini:2: [PROXY] {line}: expected ")), "{error}");
        }
        let error = of("socks_proxy = me:secret@nowhere:1\n").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
        let good = of("socks_proxy = me:secret@127.0.0.1\n").unwrap();
        assert!(!format!("{good:?}").contains("secret"));
    }
}
