//! The router's address, as its users get it.

use std::net::Ipv6Addr;

/// Clients connect to this port where an address names none.
pub const DEFAULT_PORT: u16 = 5223;

/// `smp://FINGERPRINT[:PASSWORD]@HOST[:PORT]`. Of several ports it is the default one, else the first.
pub fn address(fingerprint: &str, password: Option<&str>, host: &str, ports: &[u16]) -> String {
    let password = password.map(|password| format!(":{password}")).unwrap_or_default();
    let host = match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => host.to_owned(),
    };
    let port = match ports.first() {
        Some(first) if !ports.contains(&DEFAULT_PORT) => format!(":{first}"),
        _ => String::new(),
    };
    format!("smp://{fingerprint}{password}@{host}{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_what_clients_need_and_no_more() {
        assert_eq!(address("fp=", None, "smp.example.com", &[443, 5223]), "smp://fp=@smp.example.com");
        assert_eq!(address("fp=", Some("pw"), "a.example,b.onion", &[]), "smp://fp=:pw@a.example,b.onion");
        assert_eq!(address("fp=", None, "127.0.0.1", &[7000, 443]), "smp://fp=@127.0.0.1:7000");
        assert_eq!(address("fp=", None, "::1", &[7000]), "smp://fp=@[::1]:7000");
    }
}
