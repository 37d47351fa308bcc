//! Which addresses mean what: families, scopes, and whom we may talk to.

use std::net::{IpAddr, SocketAddr};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Whether `address` is of a private network: RFC 1918, RFC 4193, or link-local.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether we may connect to a host of which we only know that it is there: private, and not of the
/// networks that providers and the kernel make up.
#[must_use]
pub fn is_approachable(address: IpAddr) -> bool {
    is_private(address) && !matches!(address, IpAddr::V4(v4) if v4.is_link_local())
}

/// Whether `address` only means something on one link.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Whether two addresses agree in their first `length` bits.
#[must_use]
pub fn same_prefix(one: IpAddr, other: IpAddr, length: u8) -> bool {
    let difference = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => u128::from(one.to_bits() ^ other.to_bits()) << 96,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return false,
    };
    difference.leading_zeros() >= u32::from(length)
}

/// Whether an address means nothing without the interface it is on: link-local IPv6 (RFC 4007 §6).
/// Nix cannot use one.
#[must_use]
pub const fn needs_zone(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The same host at another port.
#[must_use]
pub fn with_port(mut remote: SocketAddr, port: u16) -> SocketAddr {
    remote.set_port(port);
    remote
}

/// `remote` with the interface `scope`, where its address means nothing without one.
#[must_use]
pub fn with_scope(mut remote: SocketAddr, scope: u32) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut remote
        && needs_zone(IpAddr::V6(*v6.ip()))
    {
        v6.set_scope_id(scope);
    }
    remote
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_what_the_rfcs_say() {
        for (address, private) in [
            ("10.255.0.1", true),
            ("172.16.0.1", true),
            ("172.31.0.1", true),
            ("192.168.1.1", true),
            ("169.254.1.1", true),
            ("fd12::1", true),
            ("fe80::1", true),
            ("172.32.0.1", false),
            ("100.64.0.1", false),
            ("8.8.8.8", false),
            ("2001:db8::1", false),
            ("127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
