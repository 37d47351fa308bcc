//! Interfaces, addresses, gateways and DNS servers, gathered from route netlink.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

use super::prefix::Prefix;
use super::resolv_conf::read_nameservers;
use crate::model::{Family, with_port, with_scope};
use crate::sys;
use crate::wire::dns::DNS_PORT;
use crate::wire::netlink::{
    Address, Hop, Link, LinkKind, Message, Table, compose_dump, parse_messages,
};

/// Interfaces looked at; a host with more has containers, and its own links come first.
const INTERFACES_MAX: usize = 64;
/// Addresses kept for one interface.
const ADDRESSES_MAX: usize = 32;
/// Gateways kept; multi-homed hosts have two or three.
const GATEWAYS_MAX: usize = 8;
/// Neighbours kept: as many as a busy /24 has.
const NEIGHBOURS_MAX: usize = 256;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
/// RTMGRP_IPV6_ROUTE`: the changes that we are told of.
const NETLINK_GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Reads of the queue of changes in one turn, so that a storm of them cannot hold us.
const CHANGES_MAX: usize = 32;

/// `IFF_UP`: the administrator wants it up.
const FLAG_UP: u32 = 0x1;
/// `IFF_LOOPBACK`.
const FLAG_LOOPBACK: u32 = 0x8;
/// `IFF_RUNNING`: it has a carrier.
const FLAG_RUNNING: u32 = 0x40;
/// `IFF_BROADCAST`.
const FLAG_BROADCAST: u32 = 0x2;
/// `IFF_POINTOPOINT | IFF_NOARP`: nobody to ask there.
const FLAGS_ALONE: u32 = 0x10 | 0x80;
/// `ARPHRD_ETHER`: Ethernet and Wi-Fi.
const HARDWARE_ETHERNET: u16 = 1;
/// `IFF_MULTICAST`.
const FLAG_MULTICAST: u32 = 0x1000;

/// A socket that becomes readable when a link, an address or a route changes.
///
/// # Errors
/// Where the system has no route netlink for us.
pub fn watch_network() -> io::Result<Socket> {
    sys::netlink(NETLINK_GROUPS)
}

/// Empties the queue of changes: what matters is the state after them, which also holds when they
/// were more than the queue takes (`ENOBUFS`).
pub fn drain_changes(mut changes: &Socket) {
    for _ in 0..CHANGES_MAX {
        // The kernel throws away what does not fit.
        match changes.read(&mut [0; 1]) {
            Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return,
            _ => {}
        }
    }
}

/// Asks the kernel for the network's state, and resolv.conf for the DNS servers. The kernel makes
/// its answers as they are read: nothing waits. `buffer` should hold 32 KiB, a datagram of a dump.
///
/// # Errors
/// Where the system has no route netlink for us.
pub fn read_network(buffer: &mut [u8]) -> io::Result<Network> {
    let mut socket = sys::netlink(0)?;
    let mut messages = Vec::new();
    for table in [Table::Links, Table::Addresses, Table::Routes, Table::Neighbours] {
        socket.write_all(&compose_dump(table))?;
        while messages.last() != Some(&Message::Done) {
            let count = socket.read(buffer)?;
            let read = parse_messages(buffer.get(..count).unwrap_or_default());
            // A router's table has a million routes, and one of them is the default.
            messages.extend(read.into_iter().filter(|message| *message != Message::Other));
        }
        messages.pop();
    }
    Ok(Network::from_messages(messages, read_nameservers(&sys::interface_index)))
}

/// The network as this host sees it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// All interfaces, in the kernel's order.
    pub interfaces: Vec<Interface>,
    /// The private next hops of the default routes through our own LANs.
    pub gateways: Vec<SocketAddr>,
    /// The hosts with private addresses on our own LANs that have answered somebody here.
    pub neighbours: Vec<Neighbour>,
    /// The DNS servers that resolv.conf names.
    pub nameservers: Vec<SocketAddr>,
}

/// A host on one of our own LANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address: port 0, and the scope that a link-local one needs.
    pub remote: SocketAddr,
    /// The interface that it is reached through.
    pub interface: u32,
    /// Its Ethernet address, which all its addresses share.
    pub hardware_address: Option<[u8; 6]>,
}

/// A network interface with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's own numbers and name.
    pub link: Link,
    /// Addresses and the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Network {
    /// Gathers what the dumps of links, addresses and routes say.
    #[must_use]
    pub fn from_messages(messages: Vec<Message>, nameservers: Vec<SocketAddr>) -> Self {
        let mut network = Self { nameservers, ..Self::default() };
        for message in messages {
            match message {
                Message::Link(link) => network.add_link(link),
                Message::Address(address) => network.add_address(address),
                Message::Gateway(gateway) => network.add_gateway(gateway),
                Message::Neighbour(hop, hardware_address) => {
                    network.add_neighbour(hop, hardware_address);
                }
                Message::Done | Message::Other => {}
            }
        }
        network
    }

    /// DNS servers that nobody named: a home router often knows a name that the configured server,
    /// far away, does not.
    #[must_use]
    pub fn guessed_nameservers(&self) -> Vec<SocketAddr> {
        let gateways = self.gateways.iter().map(|gateway| with_port(*gateway, DNS_PORT));
        gateways.filter(|server| !self.nameservers.contains(server)).collect()
    }

    /// Adds an interface.
    fn add_link(&mut self, link: Link) {
        if self.interfaces.len() < INTERFACES_MAX {
            self.interfaces.push(Interface { link, addresses: Vec::new() });
        }
    }

    /// Adds an address to its interface.
    fn add_address(&mut self, Address { interface, address, prefix_length }: Address) {
        if let Some(interface) = self.interface_mut(interface)
            && interface.addresses.len() < ADDRESSES_MAX
        {
            interface.addresses.push((address, prefix_length));
        }
    }

    /// Adds a gateway.
    fn add_gateway(&mut self, hop: Hop) {
        let gateway = with_scope(SocketAddr::new(hop.address, 0), hop.interface);
        if self.is_near(hop)
            && self.gateways.len() < GATEWAYS_MAX
            && !self.gateways.contains(&gateway)
        {
            self.gateways.push(gateway);
        }
    }

    /// Adds a neighbour.
    fn add_neighbour(&mut self, hop: Hop, hardware_address: Option<[u8; 6]>) {
        if self.is_near(hop) && self.neighbours.len() < NEIGHBOURS_MAX {
            let remote = with_scope(SocketAddr::new(hop.address, 0), hop.interface);
            self.neighbours.push(Neighbour { remote, interface: hop.interface, hardware_address });
        }
    }

    /// Whether a host is one that we may connect to unasked; the dump of links came before.
    fn is_near(&self, hop: Hop) -> bool {
        is_approachable(hop.address)
            && self.lan_interfaces().any(|lan| lan.link.index == hop.interface)
    }

    /// The interface with that index.
    fn interface_mut(&mut self, index: u32) -> Option<&mut Interface> {
        self.interfaces.iter_mut().find(|interface| interface.link.index == index)
    }

    /// The interfaces that have a carrier and an address that others can reach.
    pub fn routable(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| interface.is_routable())
    }

    /// The part of the network that a move to another place changes, and that hosts which come and
    /// go, containers and virtual machines do not.
    #[must_use]
    pub fn place(mut self) -> Self {
        let leads_outside: Vec<bool> = self
            .interfaces
            .iter()
            .map(|Interface { link, .. }| {
                link.kind != LinkKind::Bridge || self.has_lan_port(link.index)
            })
            .collect();
        let mut leads_outside = leads_outside.into_iter();
        self.interfaces
            .retain(|interface| leads_outside.next() == Some(true) && interface.is_routable());
        self.neighbours.clear();
        self
    }

    /// Whether there is a network to search.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.routable().next().is_some()
    }

    /// The interfaces where we may speak to hosts that we know nothing of: Ethernet or Wi-Fi that is
    /// up; no tunnel, no point-to-point link, no bridge that only joins containers.
    pub fn lan_interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| {
            interface.is_ethernet()
                && match interface.link.kind {
                    LinkKind::Hardware | LinkKind::Veth | LinkKind::Derived => true,
                    LinkKind::Bridge => self.has_lan_port(interface.link.index),
                    LinkKind::Other => false,
                }
        })
    }

    /// Whether a port of the bridge leads outside: ends of containers and of virtual machines do not.
    fn has_lan_port(&self, bridge: u32) -> bool {
        let is_outside = |kind| matches!(kind, LinkKind::Hardware | LinkKind::Derived);
        self.interfaces.iter().any(|port| port.link.master == bridge && is_outside(port.link.kind))
    }

    /// The private IPv4 networks on our LANs.
    pub fn lan_prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.lan_interfaces().flat_map(|interface| {
            interface.addresses.iter().filter_map(|(address, length)| match address {
                IpAddr::V4(own) => Prefix::on_link(interface.link.index, *own, *length),
                IpAddr::V6(_) => None,
            })
        })
    }

    /// The Ethernet address of an interface.
    #[must_use]
    pub fn hardware_address(&self, index: u32) -> Option<[u8; 6]> {
        let mut interfaces = self.interfaces.iter();
        interfaces.find(|interface| interface.link.index == index)?.link.hardware_address
    }

    /// Whether `address` is one of this host's own.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        let mut interfaces = self.interfaces.iter();
        interfaces.any(|interface| interface.addresses.iter().any(|(own, _)| *own == address))
    }

    /// Whether `address` shares a link with one of ours.
    #[must_use]
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.interfaces
            .iter()
            .any(|interface| interface.is_running() && interface.is_on_link(address))
    }
}

impl Interface {
    /// Whether it is up and has a carrier.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.link.flags & (FLAG_UP | FLAG_RUNNING) == FLAG_UP | FLAG_RUNNING
    }

    /// Whether it has a carrier and an address that others can reach.
    fn is_routable(&self) -> bool {
        self.is_running()
            && !self.is_loopback()
            && self.addresses.iter().any(|(address, _)| !is_link_local(*address))
    }

    /// Whether it leads nowhere but back.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.link.flags & FLAG_LOOPBACK != 0
    }

    /// Whether it is Ethernet that is up and reaches many.
    const fn is_ethernet(&self) -> bool {
        self.is_running()
            && !self.is_loopback()
            && self.link.flags & FLAG_BROADCAST != 0
            && self.link.flags & FLAGS_ALONE == 0
            && self.link.hardware_type == HARDWARE_ETHERNET
    }

    /// Whether it has an address to ping all nodes of the link from.
    #[must_use]
    pub fn has_link_local_v6(&self) -> bool {
        self.addresses.iter().any(|(address, _)| address.is_ipv6() && is_link_local(*address))
    }

    /// Whether multicast DNS can be spoken here in `family`.
    #[must_use]
    pub fn speaks_multicast(&self, family: Family) -> bool {
        self.is_running()
            && !self.is_loopback()
            && self.link.flags & FLAG_MULTICAST != 0
            && self.addresses.iter().any(|(address, _)| Family::of(*address) == family)
    }

    /// Whether `address` is in one of the prefixes here.
    #[must_use]
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|(ours, prefix_length)| same_prefix(*ours, address, *prefix_length))
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
fn same_prefix(one: IpAddr, other: IpAddr, length: u8) -> bool {
    let difference = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => u128::from(one.to_bits() ^ other.to_bits()) << 96,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return false,
    };
    difference.leading_zeros() >= u32::from(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet card.
    const CARD: Link = Link {
        index: 2,
        flags: 0x11043,
        hardware_type: 1,
        hardware_address: Some([2, 0, 0, 0, 0, 5]),
        kind: LinkKind::Hardware,
        master: 0,
        carrier_changes: 0,
    };

    /// A network of one interface.
    fn network(flags: u32, address: &str, prefix_length: u8) -> Network {
        let link = Link { index: 2, flags, ..CARD };
        let address = Address { interface: 2, address: address.parse().unwrap(), prefix_length };
        let gateway = Hop { interface: 2, address: "fe80::1".parse().unwrap() };
        let messages =
            vec![Message::Link(link), Message::Address(address), Message::Gateway(gateway)];
        Network::from_messages(messages, vec!["10.0.0.1:53".parse().unwrap()])
    }

    #[test]
    fn up_means_reachable_by_others() {
        assert!(network(0x11043, "10.0.0.5", 24).is_up());
        assert!(network(0x11043, "2001:db8::5", 64).is_up());
        assert!(!network(0x11043, "fe80::5", 64).is_up(), "link-local only");
        assert!(!network(0x11043, "169.254.3.4", 16).is_up(), "link-local only");
        assert!(!network(0x11003, "10.0.0.5", 24).is_up(), "no carrier");
        assert!(!network(0x49, "127.0.0.1", 8).is_up(), "loopback");
    }

    #[test]
    fn another_place_is_another_carrier_address_gateway_or_server() {
        let home = || network(0x11043, "10.0.0.5", 24);
        let mut moved = home();
        moved.interfaces[0].link.carrier_changes += 2;
        assert_ne!(moved.place(), home().place(), "the same addresses elsewhere");
        assert_ne!(network(0x11043, "10.0.0.6", 24).place(), home().place());
        assert_ne!(network(0x11003, "10.0.0.5", 24).place(), home().place(), "unplugged");
        let mut busy = home();
        busy.neighbours.push(Neighbour {
            remote: "10.0.0.9:0".parse().unwrap(),
            interface: 2,
            hardware_address: None,
        });
        let bridge = Link { index: 3, kind: LinkKind::Bridge, ..CARD };
        let address = ("172.17.0.1".parse().unwrap(), 16);
        busy.interfaces.push(Interface { link: bridge, addresses: vec![address] });
        assert_eq!(busy.place(), home().place(), "a neighbour and a container");
    }

    #[test]
    fn on_link_is_a_matter_of_bits() {
        let network = network(0x11043, "10.0.5.5", 23);
        let on_link = |text: &str| network.is_on_link(text.parse().unwrap());
        assert!(on_link("10.0.4.1") && on_link("10.0.5.255"));
        assert!(!on_link("10.0.6.1") && !on_link("fd00::1"));
        assert!(network.interfaces[0].speaks_multicast(Family::V4));
        assert!(!network.interfaces[0].speaks_multicast(Family::V6));
    }

    #[test]
    fn the_gateway_is_a_guess() {
        let mut network = network(0x11043, "10.0.0.5", 24);
        let (named, guessed) = ("10.0.0.1:53".parse().unwrap(), "[fe80::1%2]:53".parse().unwrap());
        assert_eq!(network.nameservers, [named]);
        assert_eq!(network.guessed_nameservers(), [guessed]);
        network.nameservers.push(guessed);
        assert_eq!(network.guessed_nameservers(), [], "named as well");
    }

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

    #[test]
    fn what_is_never_swept() {
        let port = |kind| Link { index: 3, kind, master: 2, ..CARD };
        let bridge = Link { kind: LinkKind::Bridge, ..CARD };
        for (link, ports, is_swept) in [
            (CARD, vec![], true),
            (Link { kind: LinkKind::Veth, ..CARD }, vec![], true),
            (Link { kind: LinkKind::Derived, ..CARD }, vec![], true),
            (Link { kind: LinkKind::Other, ..CARD }, vec![], false),
            (Link { flags: 0x11043 | 0x10, ..CARD }, vec![], false),
            (Link { flags: 0x11043 | 0x80, ..CARD }, vec![], false),
            (Link { flags: 0x11043 & !0x2, ..CARD }, vec![], false),
            (Link { flags: 0x11003, ..CARD }, vec![], false),
            (Link { hardware_type: 65534, ..CARD }, vec![], false),
            (Link { hardware_type: 512, ..CARD }, vec![], false),
            (bridge, vec![], false),
            (bridge, vec![port(LinkKind::Veth), port(LinkKind::Other)], false),
            (bridge, vec![port(LinkKind::Veth), port(LinkKind::Hardware)], true),
        ] {
            let address =
                Address { interface: 2, address: [10, 0, 0, 5].into(), prefix_length: 24 };
            let neighbour = Hop { interface: 2, address: [10, 0, 0, 9].into() };
            let mut messages = vec![Message::Link(link)];
            messages.extend(ports.iter().map(|port| Message::Link(*port)));
            messages.extend([Message::Address(address), Message::Neighbour(neighbour, None)]);
            let network = Network::from_messages(messages, vec![]);
            assert_eq!(network.lan_prefixes().count(), usize::from(is_swept), "{link:?} {ports:?}");
            assert_eq!(network.neighbours.len(), usize::from(is_swept), "{link:?} {ports:?}");
        }
    }

    #[test]
    fn thousands_of_neighbours_are_too_many() {
        let hop =
            |number: u32| Hop { interface: 2, address: IpAddr::V4((0x0a00_0000 + number).into()) };
        let mut messages = vec![Message::Link(CARD)];
        messages.extend((0..5000).map(|number| Message::Neighbour(hop(number), None)));
        messages.push(Message::Neighbour(Hop { interface: 3, ..hop(1) }, None));
        let network = Network::from_messages(messages, vec![]);
        assert_eq!(network.neighbours.len(), NEIGHBOURS_MAX);
    }
}
