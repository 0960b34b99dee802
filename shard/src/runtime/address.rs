//! What counts as one address for the cap on its connections.

use std::net::IpAddr;

/// An IPv4 address, or the /64 network of an IPv6 address, which is what one household or host gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey(u64, bool);

/// What one address has on a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfAddress {
    pub connections: usize,
    /// Of these, those whose handshake is under way.
    pub handshakes: usize,
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits()), false),
            #[allow(clippy::cast_possible_truncation)] // the upper half
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v6_network_counts_as_one() {
        let key = |text: &str| text.parse::<IpAddr>().map(AddressKey::from).ok();
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }
}
