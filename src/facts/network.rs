//! Interfaces, addresses, gateways and DNS servers, gathered from route netlink.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::Socket;

use super::prefix::Prefix;
use super::resolv_conf::read_nameservers;
use crate::address::{Family, is_approachable, is_link_local, same_prefix, with_port, with_scope};
use crate::sys;
use crate::wire::dns::DNS_PORT;
use crate::wire::netlink::{
    Address, Hop, Link, LinkKind, Message, Table, compose_dump, parse_messages,
};

/// Interfaces looked at; a host with more has containers, whose links come last.
const INTERFACES_MAX: usize = 64;
/// Addresses kept for one interface.
const INTERFACE_ADDRESSES_MAX: usize = 32;
/// Gateways kept; multi-homed hosts have two or three.
const GATEWAYS_MAX: usize = 8;
/// Neighbours kept: as many as a busy /24 has.
const NEIGHBOURS_MAX: usize = 256;
/// Entries of the kernel's tables kept, links first: those of a host with a thousand containers.
const MESSAGES_MAX: usize = 8192;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
/// RTMGRP_IPV6_ROUTE`: the changes that we are told of.
const NETLINK_GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Reads of the queue of changes in one turn, so that a storm of them cannot hold us.
const CHANGE_READS_MAX: usize = 32;

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
    for _ in 0..CHANGE_READS_MAX {
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
/// Where the system has no route netlink for us, or refuses a table.
pub fn read_network(buffer: &mut [u8]) -> io::Result<Network> {
    let mut socket = sys::netlink(0)?;
    let mut messages = Vec::new();
    for table in [Table::Links, Table::Addresses, Table::Routes, Table::Neighbours] {
        socket.write_all(&compose_dump(table))?;
        let mut is_whole = false;
        while !is_whole {
            let count = socket.read(buffer)?;
            let datagram = parse_messages(buffer.get(..count).unwrap_or_default());
            is_whole = take_messages(&datagram, &mut messages)?;
        }
    }
    Ok(Network::from_messages(&messages, read_nameservers(&sys::interface_index)))
}

/// Adds what a datagram of a dump holds; true after the last. A table that changed while it was read
/// (`NLM_F_DUMP_INTR`) is taken as it is: of that change we are told, and then read again.
fn take_messages(datagram: &[Message], messages: &mut Vec<Message>) -> io::Result<bool> {
    for message in datagram {
        match *message {
            Message::Done => return Ok(true),
            Message::Refused(number) => return Err(io::Error::from_raw_os_error(number)),
            message if messages.len() < MESSAGES_MAX => messages.push(message),
            _ => {}
        }
    }
    Ok(false)
}

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

    /// DNS servers that nobody named: a home router often knows a name that the configured server,
    /// far away, does not.
    #[must_use]
    pub fn guessed_nameservers(&self) -> Vec<SocketAddr> {
        let gateways = self.gateways.iter().map(|gateway| with_port(*gateway, DNS_PORT));
        gateways.filter(|server| !self.nameservers.contains(server)).collect()
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
                        self.interfaces.push(Interface { link, addresses: Vec::new() });
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

    /// Whether a host is one that we may connect to unasked.
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
        // Where a default route leaves past a veth, that leads to a container as it does beside a card.
        self.has_card |= !self.default_routes.is_empty();
        let mut interfaces = std::mem::take(&mut self.interfaces);
        interfaces.retain(|interface| interface.is_routable() && !self.is_inside(&interface.link));
        for interface in &mut interfaces {
            // A bridge takes the least of its ports'.
            interface.link.hardware_address = None;
        }
        self.interfaces = interfaces;
        self.neighbours.clear();
        self
    }

    /// Whether there is a network to search: a LAN, or a way out. A bridge of containers is up
    /// before the network is, and a tunnel may be.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let is_exit = |interface: &&Interface| {
            interface.is_running() && self.default_routes.contains(&interface.link.index)
        };
        let has_exit = self.interfaces.iter().any(|interface| is_exit(&interface));
        // Routers call a link without an address of its own unnumbered: it borrows the loopback's.
        let borrows = |interface: &&Interface| has_exit && interface.is_loopback();
        self.lan_interfaces().any(Interface::is_routable)
            || (self.interfaces.iter())
                .any(|it| (is_exit(&it) || borrows(&it)) && it.has_routable_address())
    }

    /// The interfaces where we may speak to hosts that we know nothing of: Ethernet or Wi-Fi that is
    /// up; no tunnel, no point-to-point link, nothing that only leads to containers.
    pub fn lan_interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| {
            interface.is_ethernet()
                && interface.link.kind != LinkKind::Other
                && !self.is_inside(&interface.link)
        })
    }

    /// Whether a link only leads to containers: a bridge without a port that leads outside, or our
    /// end of a container's cable. Inside of a container that cable is the LAN.
    fn is_inside(&self, link: &Link) -> bool {
        (link.kind == LinkKind::Bridge || link.kind == LinkKind::Veth && self.has_card)
            && !self.default_routes.contains(&link.index)
    }

    /// The private IPv4 networks on our LANs, each once however many addresses we have there.
    #[must_use]
    pub fn lan_prefixes(&self) -> Vec<Prefix> {
        let mut prefixes: Vec<Prefix> = Vec::new();
        for Interface { link, addresses } in self.lan_interfaces() {
            for (address, length) in addresses {
                if let IpAddr::V4(own) = address
                    && let Some(prefix) = Prefix::on_link(link.index, *own, *length)
                    && !prefixes
                        .iter()
                        .any(|known| known.interface == prefix.interface && known.is_same(prefix))
                {
                    prefixes.push(prefix);
                }
            }
        }
        prefixes
    }

    /// Our own IPv4 addresses.
    pub fn own_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let addresses = self.interfaces.iter().flat_map(|interface| &interface.addresses);
        addresses.filter_map(|(address, _)| match address {
            IpAddr::V4(own) => Some(*own),
            IpAddr::V6(_) => None,
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

    /// The same for the links that are LANs: no tunnel, no containers.
    #[must_use]
    pub fn is_on_lan(&self, address: IpAddr) -> bool {
        self.is_gateway(address)
            || self.lan_interfaces().any(|interface| interface.is_on_link(address))
    }

    /// Whether `address` is the next hop of a default route.
    fn is_gateway(&self, address: IpAddr) -> bool {
        self.gateways.iter().any(|gateway| gateway.ip() == address)
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
        self.is_running() && !self.is_loopback() && self.has_routable_address()
    }

    /// Whether it has an address that others can reach.
    fn has_routable_address(&self) -> bool {
        let is_routable = |address: IpAddr| !is_link_local(address) && !address.is_loopback();
        self.addresses.iter().any(|(address, _)| is_routable(*address))
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
        let gateway =
            Message::DefaultRoute { interface: 2, gateway: Some("fe80::1".parse().unwrap()) };
        let messages = [gateway, Message::Address(address), Message::Link(link)];
        Network::from_messages(&messages, vec!["10.0.0.1:53".parse().unwrap()])
    }

    /// A network of these links, which have an address each, and default routes.
    fn network_of(links: &[Link], default_routes: &[u32]) -> Network {
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
    fn up_means_reachable_by_others() {
        assert!(network(0x11043, "10.0.0.5", 24).is_up());
        assert!(network(0x11043, "2001:db8::5", 64).is_up());
        assert!(!network(0x11043, "fe80::5", 64).is_up(), "link-local only");
        assert!(!network(0x11043, "169.254.3.4", 16).is_up(), "link-local only");
        assert!(!network(0x11003, "10.0.0.5", 24).is_up(), "no carrier");
        assert!(!network(0x49, "127.0.0.1", 8).is_up(), "loopback");
    }

    #[test]
    fn up_means_a_lan_or_a_way_out() {
        let card = Link { flags: 0x11003, ..CARD };
        let of_kind = |index, kind| Link { index, kind, ..CARD };
        let (bridge, veth) = (of_kind(3, LinkKind::Bridge), of_kind(4, LinkKind::Veth));
        let tunnel = Link { flags: 0x10d1, hardware_type: 65534, ..of_kind(5, LinkKind::Other) };
        let loopback = Link { flags: 0x49, hardware_type: 772, ..of_kind(1, LinkKind::Hardware) };
        for (links, default_routes, is_up) in [
            (&[card, bridge, veth, tunnel][..], &[][..], false),
            (&[card, bridge, veth, tunnel], &[5], true),
            (&[card, bridge, veth, tunnel], &[2], false),
            (&[loopback, veth], &[], true),
            (&[loopback, card, veth], &[4], true),
            (&[loopback, bridge], &[], false),
            (&[tunnel], &[], false),
            (&[tunnel], &[5], true),
        ] {
            let network = network_of(links, default_routes);
            assert_eq!(network.is_up(), is_up, "{links:?} {default_routes:?}");
        }
        let mut unnumbered = network_of(&[loopback, CARD], &[2]);
        let [card, loopback] = &mut unnumbered.interfaces[..] else { unreachable!() };
        card.addresses.clear();
        assert!(loopback.link.flags & FLAG_LOOPBACK != 0 && unnumbered.is_up());
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
        for kind in [LinkKind::Bridge, LinkKind::Veth] {
            let link = Link { index: 3, kind, ..CARD };
            let addresses = vec![("172.17.0.1".parse().unwrap(), 16)];
            busy.interfaces.push(Interface { link, addresses });
        }
        assert_eq!(busy.place(), home().place(), "a neighbour and containers");
        assert_eq!(network(0x11143, "10.0.0.5", 24).place(), home().place(), "promiscuous");
    }

    #[test]
    fn the_cable_of_a_bridge_or_bond_is_what_moves() {
        let port = Link { index: 3, master: 2, ..CARD };
        let guest = Link { index: 4, master: 2, kind: LinkKind::Veth, ..CARD };
        for kind in [LinkKind::Bridge, LinkKind::Derived] {
            let bridge = Link { kind, ..CARD };
            let place = |links: &[Link]| network_of(links, &[]).place();
            let home = || place(&[bridge, port, guest]);
            assert_eq!(home().interfaces.len(), 1);
            assert_eq!(place(&[bridge, port]), home(), "a guest has gone");
            let busy = Link { carrier_changes: 7, flags: 0x11143, ..guest };
            assert_eq!(place(&[bridge, port, busy]), home());
            let renamed = Link { hardware_address: Some([2, 0, 0, 0, 0, 1]), ..bridge };
            assert_eq!(place(&[renamed, port, guest]), home(), "the least of the ports'");
            assert_eq!(place(&[bridge, Link { flags: 0x11143, ..port }, guest]), home());
            let moved = Link { carrier_changes: 2, ..port };
            assert_ne!(place(&[bridge, moved, guest]), home());
        }
    }

    #[test]
    fn a_table_that_is_refused_is_not_empty() {
        let mut messages = Vec::new();
        let datagram = [Message::Link(CARD), Message::Refused(1)];
        let error = take_messages(&datagram, &mut messages).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(1));
        assert!(!take_messages(&datagram[..1], &mut messages).unwrap());
        assert!(take_messages(&[Message::Done], &mut messages).unwrap());
        let flood = vec![Message::Link(CARD); 3 * MESSAGES_MAX];
        assert!(!take_messages(&flood, &mut messages).unwrap());
        assert_eq!(messages.len(), MESSAGES_MAX);
    }

    #[test]
    fn many_addresses_are_one_network() {
        let mut network = network(0x11043, "10.0.0.5", 24);
        let addresses = &mut network.interfaces[0].addresses;
        addresses.extend((6..10).map(|host| (IpAddr::from([10, 0, 0, host]), 24)));
        addresses.push(([10, 1, 0, 5].into(), 24));
        let own: Vec<_> = network.lan_prefixes().iter().map(|it| it.own.octets()).collect();
        assert_eq!(own, [[10, 0, 0, 5], [10, 1, 0, 5]]);
        assert_eq!(network.own_addresses().count(), 6);
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
    fn what_is_never_swept() {
        let port = |kind| Link { index: 3, kind, master: 2, ..CARD };
        let other_card = Link { index: 3, ..CARD };
        let bridge = Link { kind: LinkKind::Bridge, ..CARD };
        for (link, ports, is_swept) in [
            (CARD, vec![], true),
            (Link { kind: LinkKind::Veth, ..CARD }, vec![], true),
            (Link { kind: LinkKind::Veth, ..CARD }, vec![other_card], false),
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
            let network = Network::from_messages(&messages, vec![]);
            assert_eq!(network.lan_prefixes().len(), usize::from(is_swept), "{link:?} {ports:?}");
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
        let network = Network::from_messages(&messages, vec![]);
        assert_eq!(network.neighbours.len(), NEIGHBOURS_MAX);
    }
}
