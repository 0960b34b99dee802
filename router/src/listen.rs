//! Where the router listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use crate::exit::{Fatal, Reason};
use crate::settings::Settings;

/// The kernel takes apart the rings of a killed router after its end, 10 ms later or so, and frees its sockets then:
/// whoever starts it again at once must not find its own port in use.
const FREED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Every port on every address.
pub fn addresses(settings: &Settings) -> Vec<SocketAddr> {
    let all = [all_addresses()];
    let ips = if settings.listen.is_empty() { &all[..] } else { &settings.listen };
    settings.ports.iter().flat_map(|port| ips.iter().map(|ip| SocketAddr::new(*ip, *port))).collect()
}

/// The IPv6 wildcard takes IPv4 connections too; it does not exist where IPv6 is switched off.
fn all_addresses() -> IpAddr {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Returns when all addresses are free, or when it makes no sense to wait longer. The router's own attempt decides.
pub fn wait_until_free(addresses: &[SocketAddr]) {
    let end = Instant::now() + FREED_WITHIN;
    let in_use = |address: &SocketAddr| {
        TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    while addresses.iter().any(in_use) && Instant::now() < end {
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Why an address cannot be listened on, and what to do.
pub fn error(address: SocketAddr, source: &io::Error) -> Fatal {
    let (reason, remedy) = match source.kind() {
        io::ErrorKind::AddrInUse => {
            (Reason::PortInUse, "Stop the other process, or change [TRANSPORT] port in the ini.")
        }
        io::ErrorKind::PermissionDenied => (
            Reason::PortRefused,
            "Ports below 1024 need the capability CAP_NET_BIND_SERVICE; or change [TRANSPORT] port in the ini.",
        ),
        io::ErrorKind::AddrNotAvailable => (
            Reason::PortRefused,
            "It is not an address of this machine: change [RINGPOST] listen in the ini.",
        ),
        _ => (Reason::PortRefused, "See [TRANSPORT] port and [RINGPOST] listen in the ini."),
    };
    Fatal::new(reason, format!("cannot listen on {address}: {source}")).remedy(remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::ini::Ini;

    fn settings(text: &str) -> Settings {
        Settings::read(&Ini::parse(Path::new("x.ini"), text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn every_port_is_opened_on_every_address() {
        let two = settings("[TRANSPORT]\nport = 5223,443\n[RINGPOST]\nlisten = 127.0.0.1,::1\n");
        let found: Vec<String> = addresses(&two).iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, ["127.0.0.1:5223", "[::1]:5223", "127.0.0.1:443", "[::1]:443"]);
        let all = addresses(&settings("[TRANSPORT]\nport = 5223\n"));
        assert!(matches!(all.as_slice(), [one] if one.ip().is_unspecified() && one.port() == 5223));
    }

    #[test]
    fn errors_of_sockets_have_codes_of_their_own() {
        let reason = |kind| error("127.0.0.1:443".parse().unwrap(), &io::Error::from(kind)).reason;
        assert_eq!(reason(io::ErrorKind::AddrInUse), Reason::PortInUse);
        assert_eq!(reason(io::ErrorKind::PermissionDenied), Reason::PortRefused);
        assert_eq!(reason(io::ErrorKind::AddrNotAvailable), Reason::PortRefused);
    }
}
