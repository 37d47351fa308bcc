//! Route netlink (rtnetlink(7)): links, addresses, routes and neighbours of this host.
//!
//! Numbers are in the host's byte order; layouts are those of `linux/rtnetlink.h`,
//! `linux/if_link.h`, `linux/if_addr.h` and `linux/neighbour.h`.

use std::net::IpAddr;

use super::{Malformed, array, slice};

/// Bytes of `struct nlmsghdr`.
const NETLINK_HEADER_LENGTH: usize = 16;
/// `NLM_F_REQUEST | NLM_F_DUMP`: give me the whole table.
const FLAGS_DUMP: u16 = 0x301;
/// The end of a dump.
const NLMSG_DONE: u16 = 3;
/// A refusal, or an acknowledgement.
const NLMSG_ERROR: u16 = 2;
/// Messages and attributes start at multiples of this.
const ALIGNMENT: usize = 4;
/// The kernel's main routing table, `RT_TABLE_MAIN`.
const TABLE_MAIN: u8 = 254;
/// A route that leads somewhere, `RTN_UNICAST`; others reject or deliver locally.
const ROUTE_UNICAST: u8 = 1;
/// Address flags `IFA_F_TENTATIVE | IFA_F_DADFAILED`: not usable (yet).
const ADDRESS_UNUSABLE: u32 = 0x48;
/// Neighbour states `NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT`: it has an
/// Ethernet address.
const NEIGHBOUR_KNOWN: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;
/// What the drivers of [`LinkKind::Derived`] call themselves.
const DERIVED: &[u8] = b"bond team vlan macvlan macvtap ipvlan macsec dsa openvswitch batadv";
/// `AF_INET`.
const FAMILY_V4: u8 = 2;
/// `AF_INET6`.
const FAMILY_V6: u8 = 10;

/// A table of the kernel, named by the message that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Table {
    /// Network interfaces, `RTM_GETLINK`.
    Links = 18,
    /// Their addresses, `RTM_GETADDR`.
    Addresses = 22,
    /// Routes, `RTM_GETROUTE`.
    Routes = 26,
    /// Hosts on the same links, `RTM_GETNEIGH`.
    Neighbours = 30,
}

/// One message, reduced to what the search needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A network interface.
    Link(Link),
    /// An address of an interface.
    Address(Address),
    /// A default route, or one of the ways that it may take.
    DefaultRoute {
        /// The interface it leaves through.
        interface: u32,
        /// The next hop; a tunnel needs none.
        gateway: Option<IpAddr>,
    },
    /// A host on the same link that has answered, and its Ethernet address.
    Neighbour(Hop, Option<[u8; 6]>),
    /// The dump is complete.
    Done,
    /// There is no dump, or not all of it, for this reason (errno(3)).
    Refused(i32),
}

/// A network interface, from `RTM_NEWLINK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name, and zeros.
    pub name: [u8; 16],
    /// `IFF_*` flags.
    pub flags: u32,
    /// The `ARPHRD_*` type of its hardware.
    pub hardware_type: u16,
    /// Its Ethernet address, if it has one.
    pub hardware_address: Option<[u8; 6]>,
    /// What made it.
    pub kind: LinkKind,
    /// The bridge, bond or switch that it is a port of, or 0.
    pub master: u32,
    /// How often its carrier has come or gone: what a move to another network changes even where
    /// all addresses are the same there.
    pub carrier_changes: u32,
}

impl Link {
    /// Its name without the zeros.
    #[must_use]
    pub fn bare_name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// What made an interface, from `IFLA_INFO_KIND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A driver: an Ethernet or Wi-Fi card, real or virtual.
    Hardware,
    /// A view of other interfaces that is as good as they are: bond, VLAN, macvlan.
    Derived,
    /// A pair of ends, as containers and tests have them.
    Veth,
    /// A bridge.
    Bridge,
    /// A tunnel, or anything unknown.
    Other,
}

/// An address of an interface, from `RTM_NEWADDR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface it belongs to.
    pub interface: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Bits that all addresses on the same link share.
    pub prefix_length: u8,
}

/// A host on the same link: the next hop of a route, or a neighbour (`RTM_NEWNEIGH`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface it is reached through.
    pub interface: u32,
    /// Its address.
    pub address: IpAddr,
}

/// A request for the whole of `table`, both address families.
#[must_use]
pub fn compose_dump(table: Table) -> Vec<u8> {
    // Zeroes ask for everything; the kernel complains in its log of more of them than it knows.
    let body_length = match table {
        Table::Links => 16,                      // struct ifinfomsg
        Table::Addresses => 8,                   // struct ifaddrmsg
        Table::Routes | Table::Neighbours => 12, // struct rtmsg, struct ndmsg
    };
    let length = NETLINK_HEADER_LENGTH + body_length;
    let mut request = Vec::with_capacity(length);
    #[expect(clippy::cast_possible_truncation, reason = "32 bytes")]
    request.extend_from_slice(&(length as u32).to_ne_bytes());
    request.extend_from_slice(&(table as u16).to_ne_bytes());
    request.extend_from_slice(&FLAGS_DUMP.to_ne_bytes());
    request.resize(length, 0);
    // rtm_table. A kernel that heeds it leaves out what others have put in tables of their own.
    if let (Table::Routes, Some(place)) = (table, request.get_mut(NETLINK_HEADER_LENGTH + 4)) {
        *place = TABLE_MAIN;
    }
    request
}

/// Reads all messages of one datagram; those that are cut short, and those that are of no use, are
/// left out.
#[must_use]
pub fn parse_messages(mut datagram: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Ok((kind, body, rest)) = split_message(datagram) {
        // What makes no sense is of no use.
        let _ = parse_body(kind, body, &mut messages);
        datagram = rest;
    }
    messages
}

/// Splits off the first message: its type, its body, and what follows.
fn split_message(datagram: &[u8]) -> Result<(u16, &[u8], &[u8]), Malformed> {
    let length = u32::from_ne_bytes(array(datagram, 0)?) as usize;
    let body_length = length.checked_sub(NETLINK_HEADER_LENGTH).ok_or(Malformed)?;
    let body = slice(datagram, NETLINK_HEADER_LENGTH, body_length)?;
    let rest = datagram.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    Ok((u16::from_ne_bytes(array(datagram, 4)?), body, rest))
}

/// Reads the body of a message of type `kind`.
fn parse_body(kind: u16, body: &[u8], messages: &mut Vec<Message>) -> Result<(), Malformed> {
    match kind {
        // Both begin with an error number, as the kernel's functions return it.
        NLMSG_DONE | NLMSG_ERROR => {
            let error = array(body, 0).map_or(0, i32::from_ne_bytes);
            messages.push(match error.saturating_neg() {
                0 => Message::Done,
                number => Message::Refused(number),
            });
        }
        // RTM_NEWLINK
        16 => messages.push(Message::Link(parse_link(body)?)),
        // RTM_NEWADDR: struct ifaddrmsg.
        20 => {
            let [family, prefix_length, short_flags, _] = array(body, 0)?;
            let flags = match attribute(body, 8, 8) {
                Ok(flags) => u32::from_ne_bytes(array(flags, 0)?), // IFA_FLAGS
                Err(Malformed) => u32::from(short_flags),
            };
            if flags & ADDRESS_UNUSABLE == 0 {
                // On a point-to-point link IFA_ADDRESS is the peer, IFA_LOCAL is ours.
                let address = attribute(body, 8, 2).or_else(|Malformed| attribute(body, 8, 1))?;
                messages.push(Message::Address(Address {
                    interface: u32::from_ne_bytes(array(body, 4)?),
                    address: parse_address(family, address)?,
                    prefix_length,
                }));
            }
        }
        // RTM_NEWROUTE
        24 => parse_route(body, messages)?,
        // RTM_NEWNEIGH: struct ndmsg.
        28 => {
            let [family] = array(body, 0)?;
            let state = u16::from_ne_bytes(array(body, 8)?);
            if state & NEIGHBOUR_KNOWN != 0 {
                let hop = Hop {
                    interface: u32::from_ne_bytes(array(body, 4)?),
                    address: parse_address(family, attribute(body, 12, 1)?)?, // NDA_DST
                };
                // NDA_LLADDR
                let hardware = attribute(body, 12, 2).ok().and_then(|it| it.try_into().ok());
                messages.push(Message::Neighbour(hop, hardware));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Reads a link (`struct ifinfomsg`).
fn parse_link(body: &[u8]) -> Result<Link, Malformed> {
    let info = attribute(body, 16, 18).unwrap_or_default(); // IFLA_LINKINFO
    let number_in = |wanted| attribute(body, 16, wanted).and_then(parse_number).unwrap_or(0);
    // A VRF gives its links a routing table of their own, and leaves them their addresses.
    let is_of_vrf = attribute(info, 0, 4) == Ok(&b"vrf\0"[..]); // IFLA_INFO_SLAVE_KIND
    Ok(Link {
        index: u32::from_ne_bytes(array(body, 4)?),
        name: parse_name(attribute(body, 16, 3).unwrap_or_default()), // IFLA_IFNAME
        flags: u32::from_ne_bytes(array(body, 8)?),
        hardware_type: u16::from_ne_bytes(array(body, 2)?),
        // IFLA_ADDRESS
        hardware_address: attribute(body, 16, 1).and_then(|address| array(address, 0)).ok(),
        // IFLA_INFO_KIND
        kind: attribute(info, 0, 1).map_or(LinkKind::Hardware, parse_link_kind),
        master: if is_of_vrf { 0 } else { number_in(10) }, // IFLA_MASTER
        carrier_changes: number_in(35),                    // IFLA_CARRIER_CHANGES
    })
}

/// Reads a route (`struct rtmsg`); only default routes are of use.
fn parse_route(body: &[u8], messages: &mut Vec<Message>) -> Result<(), Malformed> {
    let [family, destination_length, _, _, table, _, _, kind] = array(body, 0)?;
    if destination_length != 0 || table != TABLE_MAIN || kind != ROUTE_UNICAST {
        return Ok(());
    }
    let gateway_in = |bytes, start| {
        let gateway = attribute(bytes, start, 5).ok()?; // RTA_GATEWAY
        parse_address(family, gateway).ok()
    };
    // RTA_OIF
    if let Ok(interface) = attribute(body, 12, 4).and_then(parse_number) {
        messages.push(Message::DefaultRoute { interface, gateway: gateway_in(body, 12) });
    }
    // RTA_MULTIPATH: several of struct rtnexthop, each with attributes of its own.
    let mut hops = attribute(body, 12, 9).unwrap_or_default();
    while !hops.is_empty() {
        let length = usize::from(u16::from_ne_bytes(array(hops, 0)?));
        let hop = slice(hops, 0, length)?;
        let interface = parse_number(hop.get(4..).ok_or(Malformed)?)?;
        messages.push(Message::DefaultRoute { interface, gateway: gateway_in(hop, 8) });
        hops = hops.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    Ok(())
}

/// A name of an interface; without the zero byte that ends it 15 bytes at most.
fn parse_name(bytes: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    for (place, byte) in name.iter_mut().zip(bytes) {
        *place = *byte;
    }
    name
}

/// The number that `bytes` begin with.
fn parse_number(bytes: &[u8]) -> Result<u32, Malformed> {
    array(bytes, 0).map(u32::from_ne_bytes)
}

/// The kind that a link's driver calls itself.
fn parse_link_kind(name: &[u8]) -> LinkKind {
    match name.strip_suffix(b"\0").unwrap_or(name) {
        b"veth" => LinkKind::Veth,
        b"bridge" => LinkKind::Bridge,
        name if DERIVED.split(|byte| *byte == b' ').any(|each| each == name) => LinkKind::Derived,
        _ => LinkKind::Other,
    }
}

/// The value of the first attribute `wanted` (`struct rtattr`) at or after `start`.
fn attribute(body: &[u8], start: usize, wanted: u16) -> Result<&[u8], Malformed> {
    /// Bytes of `struct rtattr`.
    const HEADER: usize = 4;
    let mut at = start;
    loop {
        let length = usize::from(u16::from_ne_bytes(array(body, at)?));
        let kind = u16::from_ne_bytes(array(body, at + 2)?);
        let value_length = length.checked_sub(HEADER).ok_or(Malformed)?;
        let value = slice(body, at + HEADER, value_length)?;
        if kind == wanted {
            return Ok(value);
        }
        at += length.next_multiple_of(ALIGNMENT);
    }
}

/// An address of `family` in its network form.
fn parse_address(family: u8, bytes: &[u8]) -> Result<IpAddr, Malformed> {
    match family {
        FAMILY_V4 => Ok(IpAddr::from(array::<4>(bytes, 0)?)),
        FAMILY_V6 => Ok(IpAddr::from(array::<16>(bytes, 0)?)),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of type `kind`: fixed part, then attributes.
    fn message(kind: u16, fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = fixed.to_vec();
        for (kind, value) in attributes {
            body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut message = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message
    }

    #[test]
    fn a_dump_of_an_ordinary_host() {
        let mut dump = message(
            16,
            &[0, 0, 1, 0, 2, 0, 0, 0, 0x43, 16, 1, 0, 0, 0, 0, 0],
            &[
                (3, b"eth0\0"),
                (10, &[9, 0, 0, 0]),
                (35, &[5, 0, 0, 0]),
                (18, b"\x09\0\x01\0veth\0\0\0\0"),
            ],
        );
        dump.extend(message(
            28,
            &[2, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 1],
            &[(1, &[10, 0, 0, 7]), (2, &[2, 0, 0, 0, 0, 7])],
        ));
        dump.extend(message(28, &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 1], &[(1, &[10, 0, 0, 8])]));
        dump.extend(message(
            20,
            &[2, 24, 0, 0, 2, 0, 0, 0],
            &[(1, &[10, 0, 0, 9]), (2, &[10, 0, 0, 5])],
        ));
        dump.extend(message(20, &[10, 64, 0x40, 0, 2, 0, 0, 0], &[(1, &[0xfd; 16])]));
        dump.extend(message(
            24,
            &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0],
            &[(5, &[10, 0, 0, 1]), (4, &[2, 0, 0, 0])],
        ));
        dump.extend(message(24, &[2, 0, 0, 0, 254, 3, 0, 7, 0, 0, 0, 0], &[(4, &[2, 0, 0, 0])]));
        dump.extend(message(3, &[0; 4], &[]));
        let messages = parse_messages(&dump);
        // Left out: a neighbour that has not answered, a tentative address, an unreachable route.
        assert_eq!(
            messages,
            [
                Message::Link(Link {
                    index: 2,
                    name: *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0",
                    flags: 0x11043,
                    hardware_type: 1,
                    hardware_address: None,
                    kind: LinkKind::Veth,
                    master: 9,
                    carrier_changes: 5,
                }),
                Message::Neighbour(
                    Hop { interface: 2, address: [10, 0, 0, 7].into() },
                    Some([2, 0, 0, 0, 0, 7]),
                ),
                Message::Address(Address {
                    interface: 2,
                    address: [10, 0, 0, 5].into(),
                    prefix_length: 24,
                }),
                Message::DefaultRoute { interface: 2, gateway: Some([10, 0, 0, 1].into()) },
                Message::Done,
            ]
        );
        for cut in 0..dump.len() {
            assert!(messages.starts_with(&parse_messages(&dump[..cut])), "cut at {cut}");
        }
    }

    #[test]
    fn a_neighbour_counts_once_it_has_an_ethernet_address() {
        // NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_FAILED, NUD_NOARP,
        // NUD_PERMANENT.
        let count = |state: u16| {
            let [low, high] = state.to_ne_bytes();
            let fixed = [2, 0, 0, 0, 2, 0, 0, 0, low, high, 0, 1];
            parse_messages(&message(28, &fixed, &[(1, &[10, 0, 0, 7])])).len()
        };
        assert_eq!([1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80].map(count), [0, 1, 1, 1, 1, 0, 0, 1]);
    }

    #[test]
    fn the_longer_flags_of_an_address_count() {
        // IFA_F_TENTATIVE, IFA_F_DADFAILED, IFA_F_PERMANENT, IFA_F_MANAGETEMPADDR.
        for (short, long, is_good) in [
            (0, None, true),
            (0x40, None, false),
            (8, None, false),
            (0x80, None, true),
            (0, Some(0x40_u32), false),
            (0, Some(8), false),
            (0x48, Some(0x180), true),
        ] {
            let fixed = [10, 64, short, 0, 2, 0, 0, 0];
            let flags = long.map_or([0; 4], u32::to_ne_bytes);
            let attributes: [(u16, &[u8]); 2] = [(1, &[0xfd; 16]), (8, &flags)];
            let given = if long.is_some() { &attributes[..] } else { &attributes[..1] };
            let count = parse_messages(&message(20, &fixed, given)).len();
            assert_eq!(count, usize::from(is_good), "{short:#x} {long:?}");
        }
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        assert_eq!(parse_messages(&[0; 64]), []);
        let mut link = message(20, &[2, 24, 0, 0, 2, 0, 0, 0], &[(2, &[10, 0, 0, 5])]);
        link[24] = 3; // an attribute shorter than its own header
        assert_eq!(parse_messages(&link), []);
    }

    #[test]
    fn each_table_is_asked_for_with_its_own_header() {
        let length_of = |table| {
            let request = compose_dump(table);
            assert_eq!(request.len(), u32::from_ne_bytes(array(&request, 0).unwrap()) as usize);
            request.len() - NETLINK_HEADER_LENGTH
        };
        assert_eq!(length_of(Table::Links), 16);
        assert_eq!(length_of(Table::Addresses), 8);
        assert_eq!(length_of(Table::Routes), 12);
        assert_eq!(length_of(Table::Neighbours), 12);
        // All of it; of the routes only the main table.
        for (table, at) in
            [(Table::Links, None), (Table::Neighbours, None), (Table::Routes, Some(4))]
        {
            let request = compose_dump(table);
            let header = request[NETLINK_HEADER_LENGTH..].iter().enumerate();
            let wishes: Vec<_> = header.filter(|(_, byte)| **byte != 0).collect();
            assert_eq!(wishes, at.map(|at| (at, &TABLE_MAIN)).into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_refusal_is_not_the_end_of_a_table() {
        let refusal = message(2, &(-1_i32).to_ne_bytes(), &[]);
        assert_eq!(parse_messages(&refusal), [Message::Refused(1)]);
        let broken_off = message(3, &(-105_i32).to_ne_bytes(), &[]);
        assert_eq!(parse_messages(&broken_off), [Message::Refused(105)]);
        assert_eq!(parse_messages(&message(3, &[], &[])), [Message::Done]);
        let least = message(2, &i32::MIN.to_ne_bytes(), &[]);
        assert_eq!(parse_messages(&least), [Message::Refused(i32::MAX)]);
    }

    #[test]
    fn a_default_route_with_and_without_gateways() {
        let fixed = [2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let hop = |interface: u8, attributes: &[u8]| {
            let length = u8::try_from(8 + attributes.len()).unwrap();
            [&[length, 0, 0, 0, interface, 0, 0, 0], attributes].concat()
        };
        let hops =
            [hop(2, &[8, 0, 5, 0, 10, 0, 0, 1]), hop(3, &[8, 0, 5, 0, 10, 1, 0, 1]), hop(4, &[])];
        let two_ways = message(24, &fixed, &[(9, &hops.concat())]);
        let way = |interface, gateway: Option<[u8; 4]>| Message::DefaultRoute {
            interface,
            gateway: gateway.map(Into::into),
        };
        let ways = [way(2, Some([10, 0, 0, 1])), way(3, Some([10, 1, 0, 1])), way(4, None)];
        assert_eq!(parse_messages(&two_ways), ways);
        assert_eq!(parse_messages(&message(24, &fixed, &[(4, &[7, 0, 0, 0])])), [way(7, None)]);
        for cut in 0..hops.concat().len() {
            let ended = message(24, &fixed, &[(9, &hops.concat()[..cut])]);
            assert!(ways.starts_with(&parse_messages(&ended)), "cut at {cut}");
        }
        assert_eq!(parse_messages(&message(24, &fixed, &[(9, &[0; 64])])), []);
        // To a network of its own, of another table, and one that leads nowhere.
        for (place, number) in [(1, 24), (4, 255), (7, 7)] {
            let mut fixed = fixed;
            fixed[place] = number;
            assert_eq!(parse_messages(&message(24, &fixed, &[(4, &[7, 0, 0, 0])])), []);
        }
    }

    #[test]
    fn a_link_of_a_vrf_is_nobodys_port() {
        let fixed = [0, 0, 1, 0, 2, 0, 0, 0, 0x43, 16, 1, 0, 0, 0, 0, 0];
        let link_of = |master_kind: &[u8], kind: &[u8]| {
            let info =
                message(0, &[], &[(1, kind), (4, master_kind)]).split_off(NETLINK_HEADER_LENGTH);
            match parse_messages(&message(16, &fixed, &[(10, &[9, 0, 0, 0]), (18, &info)]))[..] {
                [Message::Link(link)] => (link.master, link.kind),
                _ => unreachable!(),
            }
        };
        assert_eq!(link_of(b"vrf\0", b"vlan\0"), (0, LinkKind::Derived));
        for (kind, expected) in [
            (&b"dsa\0"[..], LinkKind::Derived),
            (b"openvswitch\0", LinkKind::Derived),
            (b"macsec\0", LinkKind::Derived),
            (b"batadv\0", LinkKind::Derived),
            (b"macvtap\0", LinkKind::Derived),
            (b"bridge\0", LinkKind::Bridge),
            (b"wireguard\0", LinkKind::Other),
        ] {
            assert_eq!(link_of(b"bridge\0", kind), (9, expected));
        }
    }
}
