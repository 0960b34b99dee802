//! Where the router listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use ringpost_shard::{Entry, Listener};

use crate::exit::{Fatal, Reason};
use crate::operator::local;
use crate::settings::Settings;

/// The kernel takes apart the rings of a killed router after its end, 10 ms later or so, and frees its sockets then:
/// whoever starts it again at once must not find its own port in use.
const FREED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Every port on every address, with who is expected there.
pub fn listeners(settings: &Settings) -> Vec<Listener> {
    let ips = addresses(settings);
    let web_port = settings.web.as_ref().map(|web| web.port);
    let native = settings.ports.iter().map(|port| {
        let entry = if Some(*port) == web_port { Entry::Shared } else { Entry::Native };
        (*port, entry)
    });
    let web = web_port.filter(|port| !settings.ports.contains(port)).map(|port| (port, Entry::Web));
    let websocket = settings.websocket_ports.iter().filter(|port| Some(**port) != web_port);
    let websocket = websocket.map(|port| (*port, Entry::WebSocket));
    let on_ips =
        |(port, entry)| ips.iter().map(move |ip| Listener { address: SocketAddr::new(*ip, port), entry });
    native.chain(web).chain(websocket).flat_map(on_ips).collect()
}

/// Every address on which anything listens: clients, browsers, the operator's ports.
pub fn all(settings: &Settings) -> Vec<SocketAddr> {
    let clients = listeners(settings).into_iter().map(|listener| listener.address);
    let pages = settings.http_port.into_iter().flat_map(|port| on_port(settings, port));
    let operator = [settings.operator.control.port, settings.operator.metrics_port];
    clients.chain(pages).chain(operator.into_iter().flatten().map(local::address)).collect()
}

/// A port on all addresses to listen on.
pub fn on_port(settings: &Settings, port: u16) -> Vec<SocketAddr> {
    addresses(settings).into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

fn addresses(settings: &Settings) -> Vec<IpAddr> {
    if settings.listen.is_empty() { vec![all_addresses()] } else { settings.listen.clone() }
}

/// What is said when the router serves an address.
pub fn serving(entry: Entry, address: SocketAddr) -> String {
    match entry {
        Entry::Native => format!("Serving SMP protocol on {address}"),
        Entry::Shared => format!("Serving SMP protocol, and web clients, on {address}"),
        Entry::Web => format!("Serving web clients on {address}"),
        Entry::WebSocket => format!("Serving SMP over WebSocket on {address}"),
    }
}

/// The IPv6 wildcard takes IPv4 connections too; it does not exist where IPv6 is switched off.
fn all_addresses() -> IpAddr {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Returns when all addresses are free, or when it makes no sense to wait longer. The router's own attempt decides.
pub fn wait_until_free(addresses: impl IntoIterator<Item = SocketAddr>) {
    let end = Instant::now() + FREED_WITHIN;
    let in_use = |address: &SocketAddr| {
        TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    let addresses: Vec<SocketAddr> = addresses.into_iter().collect();
    while addresses.iter().any(in_use) && Instant::now() < end {
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Why an address cannot be listened on, and what to do.
pub fn error(address: SocketAddr, source: &io::Error) -> Fatal {
    let (reason, remedy) = match source.kind() {
        io::ErrorKind::AddrInUse => (
            Reason::PortInUse,
            "Stop the other process, or change the port in [TRANSPORT] or [WEB] of the ini.",
        ),
        io::ErrorKind::PermissionDenied => (
            Reason::PortRefused,
            "Ports below 1024 need the capability CAP_NET_BIND_SERVICE; or change [TRANSPORT] port in the ini.",
        ),
        io::ErrorKind::AddrNotAvailable => (
            Reason::PortRefused,
            "It is not an address of this machine: change [RINGPOST] listen in the ini.",
        ),
        _ => (Reason::PortRefused, "See [TRANSPORT] port, [WEB] https and [RINGPOST] listen in the ini."),
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
        let found: Vec<String> =
            listeners(&two).iter().map(|listener| listener.address.to_string()).collect();
        assert_eq!(found, ["127.0.0.1:5223", "[::1]:5223", "127.0.0.1:443", "[::1]:443"]);
        let all = listeners(&settings("[TRANSPORT]\nport = 5223\n"));
        assert!(matches!(all.as_slice(), [one] if one.address.ip().is_unspecified()
            && one.address.port() == 5223 && one.entry == Entry::Native));
    }

    #[test]
    fn web_clients_are_expected_where_the_ini_says() {
        let web = |https| {
            let text = format!(
                "[TRANSPORT]\nport = 5223,443\nwebsockets = 8080,8443\n[WEB]\nhttps = {https}\ncert = c\nkey = k\n"
            );
            let listeners = listeners(&settings(&text));
            listeners.iter().map(|one| (one.address.port(), one.entry)).collect::<Vec<_>>()
        };
        let (native, websocket) = ((5223, Entry::Native), (8080, Entry::WebSocket));
        assert_eq!(web(443), [native, (443, Entry::Shared), websocket, (8443, Entry::WebSocket)]);
        assert_eq!(web(8443), [native, (443, Entry::Native), (8443, Entry::Web), websocket]);
        assert_eq!(
            web(444),
            [native, (443, Entry::Native), (444, Entry::Web), websocket, (8443, Entry::WebSocket)]
        );
    }

    #[test]
    fn it_is_said_who_is_served() {
        let address = "127.0.0.1:443".parse().unwrap();
        let said = |entry| serving(entry, address);
        assert_eq!(said(Entry::Native), "Serving SMP protocol on 127.0.0.1:443");
        assert_eq!(said(Entry::Shared), "Serving SMP protocol, and web clients, on 127.0.0.1:443");
        assert_eq!(said(Entry::Web), "Serving web clients on 127.0.0.1:443");
        assert_eq!(said(Entry::WebSocket), "Serving SMP over WebSocket on 127.0.0.1:443");
    }

    #[test]
    fn errors_of_sockets_have_codes_of_their_own() {
        let reason = |kind| error("127.0.0.1:443".parse().unwrap(), &io::Error::from(kind)).reason;
        assert_eq!(reason(io::ErrorKind::AddrInUse), Reason::PortInUse);
        assert_eq!(reason(io::ErrorKind::PermissionDenied), Reason::PortRefused);
        assert_eq!(reason(io::ErrorKind::AddrNotAvailable), Reason::PortRefused);
    }
}
