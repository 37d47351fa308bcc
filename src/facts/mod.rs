//! What this host already knows: its files and its network.
//!
//! Each source has a file with a thin reader and a pure parser. Reading never fails the search:
//! what is missing is simply not known.

mod hosts;
mod kernel;
mod lan;
mod lines;
mod network;
mod override_file;
mod prefix;
mod resolv_conf;

pub use hosts::read_hosts;
pub use kernel::{drain_changes, read_network, watch_network};
#[cfg(test)]
pub(crate) use network::tests as test_networks;
pub use network::{Interface, Neighbour, Network};
pub use override_file::{Override, OverrideFlaw, OverrideProblem, read_override};
pub use prefix::Prefix;
pub use resolv_conf::{ResolvConf, read_resolv_conf, read_resolv_conf_from};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::path::PathId;
use lines::for_each_line;

/// What the host's own files hold, read once at the start: the search begins with it at once, even
/// before it has looked at the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What the user ordered.
    pub override_: Option<Override>,
    /// The file that the order stands in.
    pub override_place: String,
    /// Where an earlier run of this boot found the cache.
    pub previous: Option<Previous>,
    /// What the hosts file says of the name.
    pub hosts: Vec<IpAddr>,
    /// The DNS servers in resolv.conf.
    pub nameservers: Vec<SocketAddr>,
    /// How long this host has been up.
    pub uptime: Duration,
}

/// Where an earlier search found the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its address and port.
    pub remote: SocketAddr,
    /// Its path.
    pub path: PathId,
    /// Whether it wants to be called by its name.
    pub by_name: bool,
    /// Whether it was found because it announced itself, whatever its name.
    pub is_announced: bool,
}

/// Looks up an interface's index by its name.
pub type IndexOf = fn(&str) -> Option<u32>;

/// A number in digits only: no sign.
#[must_use]
pub fn parse_digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The address of a host that one can connect to, an IPv4 one in IPv6 clothes (RFC 4291 §2.5.5.2) as
/// what it is.
fn parse_host(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    let is_nobody = address.is_unspecified()
        || address.is_multicast()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!is_nobody).then_some(address)
}

/// An address with an optional `%zone`, the name or the index of an interface (RFC 4007 §11).
///
/// `None` when it is not an address, or its zone is not an interface here.
#[must_use]
pub fn parse_scoped(text: &str, index_of: IndexOf) -> Option<(IpAddr, u32)> {
    match text.split_once('%') {
        None => Some((text.parse().ok()?, 0)),
        Some((address, zone)) => {
            let address: IpAddr = address.parse().ok()?;
            let scope = zone.parse().ok().or_else(|| index_of(zone))?;
            (address.is_ipv6() && scope != 0).then_some((address, scope))
        }
    }
}

/// The address in the file that an earlier run wrote, if it is there and holds one; the file does not
/// say which `port` it was, nor which path.
#[must_use]
pub fn read_previous(path: &str, port: u16) -> Option<Previous> {
    let mut previous = None;
    for_each_line(path, &mut |line| previous = previous.or_else(|| parse_host(line))).ok()?;
    let remote = SocketAddr::new(previous?, port);
    Some(Previous { remote, path: PathId::CONFIGURED, by_name: false, is_announced: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_names_or_numbers() {
        let index_of = |name: &str| (name == "eth0").then_some(7);
        let link_local: IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(parse_scoped("10.0.0.1", index_of), Some(([10, 0, 0, 1].into(), 0)));
        assert_eq!(parse_scoped("fe80::1%eth0", index_of), Some((link_local, 7)));
        assert_eq!(parse_scoped("fe80::1%3", index_of), Some((link_local, 3)));
        for bad in
            ["", "lan", "10.0.0.256", "fe80::1%wlan9", "fe80::1%0", "fe80::1%", "1.2.3.4%eth0"]
        {
            assert_eq!(parse_scoped(bad, index_of), None, "{bad}");
        }
    }

    #[test]
    fn the_first_address_is_that_of_the_earlier_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("waterbug-ip");
        let path = path.to_str().unwrap();
        assert!(read_previous(path, 9999).is_none(), "no file");
        std::fs::write(path, "rubbish\n").unwrap();
        assert!(read_previous(path, 9999).is_none());
        std::fs::write(path, "10.0.0.5\n10.0.0.6\n").unwrap();
        let previous = read_previous(path, 9999).unwrap();
        assert_eq!(previous.remote, "10.0.0.5:9999".parse().unwrap());
        assert!(!previous.by_name && !previous.is_announced);
    }
}
