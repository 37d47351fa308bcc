//! What we make of the network, our policy: what is a LAN, when there is a network at all, and what
//! makes a place another one.

use std::net::{IpAddr, SocketAddr};

use super::network::{Interface, Neighbour, Network};
use super::prefix::Prefix;
use crate::address::{is_approachable, is_link_local};
use crate::wire::dns::DNS_PORT;
use crate::wire::netlink::{Hop, Link, LinkKind};

impl Network {
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

    /// The interfaces that have a carrier and an address that others can reach.
    pub fn routable(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| interface.is_routable())
    }

    /// Whether this is QEMU's user network, whose hosts are the computer that it runs on: their Ethernet
    /// addresses are `52:55` and their own IPv4 addresses (libslirp's `slirp.c`).
    #[must_use]
    pub fn is_qemu_user(&self) -> bool {
        let of_qemu = |known: &Neighbour| {
            let hardware = known.hardware_address.unwrap_or_default();
            matches!(known.remote.ip(), IpAddr::V4(v4) if hardware.starts_with(&[0x52, 0x55])
                && hardware.ends_with(&v4.octets()))
        };
        let mut of_v4 = self.neighbours.iter().filter(|known| known.remote.is_ipv4()).peekable();
        of_v4.peek().is_some() && of_v4.all(of_qemu)
    }

    /// Whether no cable is plugged in and no Wi-Fi joined: links that somebody has brought up are there,
    /// and none has a carrier. Where nobody has yet, somebody may; containers tell nothing of it.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        let is_cable = |it: &&Interface| it.is_wanted_up() && !self.is_inside(&it.link);
        let mut links = self.interfaces.iter().filter(is_cable).peekable();
        links.peek().is_some() && !links.any(Interface::is_running)
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
        for Interface { link, addresses, .. } in self.lan_interfaces() {
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

    /// Whether `address` shares a LAN with one of ours, or is a gateway.
    #[must_use]
    pub fn is_on_lan(&self, address: IpAddr) -> bool {
        self.is_gateway(address)
            || self.lan_interfaces().any(|interface| interface.is_on_link(address))
    }

    /// Whether a host is one that we may connect to unasked.
    pub(super) fn is_near(&self, hop: Hop) -> bool {
        is_approachable(hop.address)
            && self.lan_interfaces().any(|lan| lan.link.index == hop.interface)
    }

    /// DNS servers that nobody named: a home router often knows a name that the configured server,
    /// far away, does not.
    #[must_use]
    pub fn guessed_nameservers(&self) -> Vec<SocketAddr> {
        let mut servers = self.gateways.clone();
        for server in &mut servers {
            server.set_port(DNS_PORT);
        }
        servers.retain(|server| !self.nameservers.contains(server));
        servers
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
            // They come by themselves some seconds after the others.
            interface.addresses.retain(|(address, _)| !is_link_local(*address));
        }
        self.interfaces = interfaces;
        self.neighbours.clear();
        self.search_domains.clear();
        self
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::network::tests::{CARD, network, network_of};
    use super::*;
    use crate::facts::Neighbour;
    use crate::wire::netlink::{Address, Message};

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
        assert!(loopback.is_loopback() && unnumbered.is_up());
    }

    #[test]
    fn offline_means_cards_that_are_up_and_none_with_a_carrier() {
        let of_kind = |index, kind| Link { index, kind, ..CARD };
        let [unplugged, down] = [0x11003, 0x11002].map(|flags| Link { flags, ..CARD });
        let (bridge, veth) = (of_kind(3, LinkKind::Bridge), of_kind(4, LinkKind::Veth));
        let unused = Link { flags: 0x11003, ..bridge };
        for (links, is_offline) in [
            (&[CARD][..], false),
            (&[unplugged], true),
            (&[unplugged, Link { index: 5, ..CARD }], false),
            (&[down], false),
            (&[down, unused], false),
            (&[down, bridge, veth], false),
            (&[unplugged, unused], true),
            (&[unplugged, bridge, veth], true),
        ] {
            assert_eq!(network_of(links, &[]).is_offline(), is_offline, "{links:?}");
        }
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
            busy.interfaces.push(Interface { link, addresses, is_wireless: false });
        }
        busy.search_domains.push_str("lan");
        assert_eq!(busy.place(), home().place(), "a neighbour, containers, a domain");
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
}
