//! What the kernel says of the network.

use std::net::{IpAddr, Ipv4Addr};

use cache_resolver::facts::{Network, Prefix};
use cache_resolver::wire::netlink::{Message, Table, compose_dump, parse_messages};

/// A datagram of a dump, and the network that comes of it.
pub fn netlink(data: &[u8]) {
    let messages = parse_messages(data);
    assert!(messages.len() <= data.len() / 16 + data.len() / 8 + 1, "a message takes bytes");
    check(&Network::from_messages(&messages, vec![]));
    // A message of its own for each next hop: nothing that was asked for has any.
    for table in [Table::Links, Table::Addresses, Table::Routes, Table::Neighbours] {
        let nothing = parse_messages(&compose_dump(table));
        assert!(nothing.is_empty(), "{nothing:?}");
    }
    // What comes after rubbish that says how long it is counts as if it stood alone.
    let refused = messages.iter().any(|message| matches!(message, Message::Refused(0)));
    assert!(!refused, "an error without a number");
}

/// What must hold of any network.
pub fn check(network: &Network) {
    assert!(network.interfaces.len() <= 64 && network.default_routes.len() <= 64);
    assert!(network.gateways.len() <= 8 && network.neighbours.len() <= 256);
    assert!(network.interfaces.iter().all(|interface| interface.addresses.len() <= 32));
    let is_lan = |index: u32| network.lan_interfaces().any(|lan| lan.link.index == index);
    for neighbour in &network.neighbours {
        assert!(is_lan(neighbour.interface) && is_ours(neighbour.remote.ip()), "{neighbour:?}");
    }
    for gateway in &network.gateways {
        assert!(is_ours(gateway.ip()) && network.is_on_lan(gateway.ip()), "{gateway}");
    }
    assert!(network.guessed_nameservers().len() <= network.gateways.len());
    for prefix in network.lan_prefixes() {
        check_prefix(prefix, network);
    }
    let place = network.clone().place();
    assert_eq!(place.clone().place(), place, "a place is a place");
    let _ = (network.is_up(), network.is_offline(), network.is_qemu_user());
}

/// Only private addresses are swept, each once, from the nearest to the farthest, and not our own.
fn check_prefix(prefix: Prefix, network: &Network) {
    assert!(prefix.interface.is_some_and(|index| network.interface(index).is_some()));
    let hosts = prefix.hosts();
    assert!(hosts > 0 && hosts <= 1 << 24);
    let own = prefix.own;
    let mut last = 0;
    for rank in (0..hosts.min(64)).chain(hosts.saturating_sub(64).max(64)..hosts) {
        let address = prefix.nth_nearest(rank);
        assert_eq!(prefix.rank_of(address), Some(rank), "{prefix:?}");
        assert!(address.is_private() && address != own, "{address}");
        let distance = address.to_bits().abs_diff(own.to_bits());
        assert!(last <= distance, "{prefix:?}");
        last = distance;
    }
    assert_eq!(prefix.rank_of(own), None);
    for address in prefix.broadcast.into_iter().chain([Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST])
    {
        assert_eq!(prefix.rank_of(address), None);
    }
}

/// Whether an address is of a private network that is not made up.
fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
