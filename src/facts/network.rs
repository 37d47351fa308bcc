//! The state of the network: interfaces with their addresses, gateways, neighbours, DNS servers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::address::{Family, is_link_local, same_prefix, with_scope};
use crate::wire::netlink::{Address, Hop, Link, LinkKind, Message};

/// Interfaces looked at; a host with more has containers, whose links come last.
const INTERFACES_MAX: usize = 64;
/// Addresses kept for one interface.
const INTERFACE_ADDRESSES_MAX: usize = 32;
/// Gateways kept; multi-homed hosts have two or three.
const GATEWAYS_MAX: usize = 8;
/// Neighbours kept: as many as a busy /24 has.
const NEIGHBOURS_MAX: usize = 256;

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
/// All kinds of links, the likeliest to have a LAN behind it first.
const KINDS: [LinkKind; 5] =
    [LinkKind::Hardware, LinkKind::Derived, LinkKind::Veth, LinkKind::Bridge, LinkKind::Other];
/// `IFF_MULTICAST`.
const FLAG_MULTICAST: u32 = 0x1000;
/// The flags that tell one network from another. Whoever listens in sets others (`IFF_PROMISC`).
const FLAGS_USED: u32 =
    FLAG_UP | FLAG_LOOPBACK | FLAG_RUNNING | FLAG_BROADCAST | FLAGS_ALONE | FLAG_MULTICAST;

/// The network as this host sees it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The interfaces that have addresses of their own, ports of bridges and bonds left out: first
    /// those that default routes leave through, then cards, and containers last.
    pub interfaces: Vec<Interface>,
    /// Whether the host has an Ethernet card, be it a port of a bridge. Containers have none.
    pub has_card: bool,
    /// The interfaces that default routes leave through, in order.
    pub default_routes: Vec<u32>,
    /// The private next hops of the default routes through our own LANs.
    pub gateways: Vec<SocketAddr>,
    /// The hosts with private addresses on our own LANs that have answered somebody here.
    pub neighbours: Vec<Neighbour>,
    /// The DNS servers that resolv.conf names.
    pub nameservers: Vec<SocketAddr>,
    /// The search domains that it names, separated by spaces.
    pub search_domains: String,
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
    /// Whether it is Wi-Fi, as far as the kernel says so.
    pub is_wireless: bool,
}

impl Network {
    /// Gathers what the dumps of links, addresses, routes and neighbours say, in whatever order.
    #[must_use]
    pub fn from_messages(messages: &[Message], nameservers: Vec<SocketAddr>) -> Self {
        let mut network = Self { nameservers, ..Self::default() };
        let mut links = Vec::new();
        for message in messages {
            match *message {
                Message::Link(link) => links.push(link),
                Message::DefaultRoute { interface, .. } => network.add_default_route(interface),
                _ => {}
            }
        }
        network.add_interfaces(&links);
        for message in messages {
            match *message {
                Message::Address(address) => network.add_address(address),
                Message::DefaultRoute { interface, gateway: Some(address) } => {
                    network.add_gateway(Hop { interface, address });
                }
                Message::Neighbour(hop, hardware_address) => {
                    network.add_neighbour(hop, hardware_address);
                }
                _ => {}
            }
        }
        network
    }

    /// Adds the interface of a default route, in the order of their numbers: that of the routes
    /// changes when a router repeats itself.
    fn add_default_route(&mut self, interface: u32) {
        if let Err(place) = self.default_routes.binary_search(&interface)
            && self.default_routes.len() < INTERFACES_MAX
        {
            self.default_routes.insert(place, interface);
        }
    }

    /// Adds the interfaces that are no ports of others, the likeliest to have a LAN behind them
    /// first. What ports tell of their bridge or bond becomes part of it.
    fn add_interfaces(&mut self, links: &[Link]) {
        let (mut ports, mut whole): (Vec<_>, Vec<_>) =
            links.iter().copied().partition(|link| link.master != 0);
        self.has_card = links.iter().any(|link| {
            link.kind == LinkKind::Hardware
                && link.hardware_type == HARDWARE_ETHERNET
                && link.flags & FLAG_LOOPBACK == 0
        });
        // Ends of containers and of virtual machines lead nowhere.
        ports.retain(|port| matches!(port.kind, LinkKind::Hardware | LinkKind::Derived));
        for port in ports {
            if let Some(master) = whole.iter_mut().find(|link| link.index == port.master) {
                if master.kind == LinkKind::Bridge {
                    master.kind = LinkKind::Derived; // as good as its port
                }
                // A bridge's own carrier stays while the cable is plugged in elsewhere.
                master.carrier_changes = master.carrier_changes.wrapping_add(port.carrier_changes);
            }
        }
        for is_exit in [true, false] {
            for kind in KINDS {
                for link in whole.iter().filter(|link| link.kind == kind) {
                    if self.default_routes.contains(&link.index) == is_exit
                        && self.interfaces.len() < INTERFACES_MAX
                    {
                        let link = Link { flags: link.flags & FLAGS_USED, ..*link };
                        self.interfaces.push(Interface {
                            link,
                            addresses: Vec::new(),
                            is_wireless: false,
                        });
                    }
                }
            }
        }
    }

    /// Adds an address to its interface.
    fn add_address(&mut self, Address { interface, address, prefix_length }: Address) {
        if let Some(interface) = self.interface_mut(interface)
            && interface.addresses.len() < INTERFACE_ADDRESSES_MAX
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

    /// The interface with that index.
    fn interface_mut(&mut self, index: u32) -> Option<&mut Interface> {
        self.interfaces.iter_mut().find(|interface| interface.link.index == index)
    }

    /// Our own IPv4 addresses.
    pub fn own_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let addresses = self.interfaces.iter().flat_map(|interface| &interface.addresses);
        addresses.filter_map(|(address, _)| match address {
            IpAddr::V4(own) => Some(*own),
            IpAddr::V6(_) => None,
        })
    }

    /// The interface with that index.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.link.index == index)
    }

    /// Whether `address` is one of this host's own.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        let mut interfaces = self.interfaces.iter();
        interfaces.any(|interface| interface.addresses.iter().any(|(own, _)| *own == address))
    }

    /// Whether `address` shares a link with one of ours. A gateway does, whatever our prefix is: hosts
    /// of a routed network have a /32.
    #[must_use]
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.is_gateway(address)
            || self
                .interfaces
                .iter()
                .any(|interface| interface.is_running() && interface.is_on_link(address))
    }

    /// Whether `address` is the next hop of a default route.
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        self.gateways.iter().any(|gateway| gateway.ip() == address)
    }
}

impl Interface {
    /// Whether somebody has brought it up, and it is not the loopback.
    #[must_use]
    pub const fn is_wanted_up(&self) -> bool {
        self.link.flags & FLAG_UP != 0 && !self.is_loopback()
    }

    /// Whether it is up and has a carrier.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.link.flags & (FLAG_UP | FLAG_RUNNING) == FLAG_UP | FLAG_RUNNING
    }

    /// Whether it has a carrier and an address that others can reach.
    pub(super) fn is_routable(&self) -> bool {
        self.is_running() && !self.is_loopback() && self.has_routable_address()
    }

    /// Whether it has an address that others can reach.
    pub(super) fn has_routable_address(&self) -> bool {
        let is_routable = |address: IpAddr| !is_link_local(address) && !address.is_loopback();
        self.addresses.iter().any(|(address, _)| is_routable(*address))
    }

    /// Whether it leads nowhere but back.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.link.flags & FLAG_LOOPBACK != 0
    }

    /// Whether it is Ethernet that is up and reaches many.
    pub(super) const fn is_ethernet(&self) -> bool {
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

/// Networks for tests, and the tests.
#[cfg(test)]
pub mod tests {
    use super::*;

    /// An Ethernet card.
    pub const CARD: Link = Link {
        index: 2,
        name: [0; 16],
        flags: 0x11043,
        hardware_type: 1,
        hardware_address: Some([2, 0, 0, 0, 0, 5]),
        kind: LinkKind::Hardware,
        master: 0,
        carrier_changes: 0,
    };

    /// A network of one interface.
    pub fn network(flags: u32, address: &str, prefix_length: u8) -> Network {
        let link = Link { index: 2, flags, ..CARD };
        let address = Address { interface: 2, address: address.parse().unwrap(), prefix_length };
        let gateway =
            Message::DefaultRoute { interface: 2, gateway: Some("fe80::1".parse().unwrap()) };
        let messages = [gateway, Message::Address(address), Message::Link(link)];
        Network::from_messages(&messages, vec!["10.0.0.1:53".parse().unwrap()])
    }

    /// A network of these links, which have an address each, and default routes.
    pub fn network_of(links: &[Link], default_routes: &[u32]) -> Network {
        let mut messages = Vec::new();
        for link in links {
            let address = IpAddr::from([10, 0, u8::try_from(link.index).unwrap(), 5]);
            messages.push(Message::Link(*link));
            messages.push(Message::Address(Address {
                interface: link.index,
                address,
                prefix_length: 24,
            }));
        }
        let routes = default_routes.iter();
        messages.extend(routes.map(|at| Message::DefaultRoute { interface: *at, gateway: None }));
        Network::from_messages(&messages, vec![])
    }

    #[test]
    fn containers_come_last_and_ports_not_at_all() {
        let mut links = vec![Link { index: 1, kind: LinkKind::Bridge, ..CARD }];
        links.extend((2..102).map(|index| Link { index, kind: LinkKind::Veth, ..CARD }));
        links.extend((102..202).map(|index| Link {
            index,
            kind: LinkKind::Veth,
            master: 1,
            ..CARD
        }));
        let last = [
            (202, LinkKind::Other, 0),
            (203, LinkKind::Bridge, 0),
            (204, LinkKind::Derived, 203),
            (205, LinkKind::Derived, 0),
            (206, LinkKind::Hardware, 0),
            (207, LinkKind::Hardware, 205),
            (208, LinkKind::Other, 0),
        ];
        links.extend(last.map(|(index, kind, master)| Link { index, kind, master, ..CARD }));
        let network = network_of(&links, &[208, 50]);
        let indices: Vec<_> = network.interfaces.iter().map(|it| it.link.index).collect();
        assert_eq!(indices[..7], [50, 208, 206, 203, 205, 2, 3]);
        assert_eq!(indices.len(), INTERFACES_MAX);
        let lans: Vec<_> = network.lan_interfaces().map(|it| it.link.index).collect();
        assert_eq!(lans, [50, 206, 203, 205], "a default route leads out of a container");
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
    fn thousands_of_neighbours_are_too_many() {
        let hop =
            |number: u32| Hop { interface: 2, address: IpAddr::V4((0x0a00_0000 + number).into()) };
        let mut messages = vec![Message::Link(CARD)];
        messages.extend((0..5000).map(|number| Message::Neighbour(hop(number), None)));
        messages.push(Message::Neighbour(Hop { interface: 3, ..hop(1) }, None));
        let network = Network::from_messages(&messages, vec![]);
        assert_eq!(network.neighbours.len(), NEIGHBOURS_MAX);
    }
}
