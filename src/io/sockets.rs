//! The sockets that speak to many: multicast DNS, the ping, and the packet socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, RawFd};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

use crate::address::{Family, with_scope};
use crate::interface::{Input, MdnsDatagram};
use crate::sys::{self, Error};
use crate::wire::dns::{MDNS_GROUP_V4, MDNS_GROUP_V6, MDNS_PORT};
use crate::wire::ip;

/// Hops of a multicast DNS packet. RFC 6762 §11.
const MDNS_HOPS: u32 = 255;

/// All of them, opened when they are first needed.
#[derive(Default)]
pub struct Sockets {
    /// Those of multicast DNS.
    mdns: Vec<MdnsSocket>,
    /// Those that ping, one for each family.
    ping: Vec<PingSocket>,
    /// Hears what a firewall drops, and asks by ARP; tried once.
    pub packet: Option<sys::Result<Socket>>,
}

/// One of the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The packet socket.
    Packet,
    /// A multicast DNS socket, by its place in the list.
    Mdns(usize),
    /// A socket that pings, by its place in the list.
    Ping(usize),
}

/// A socket of multicast DNS.
struct MdnsSocket {
    /// The interface it belongs to.
    interface: u32,
    /// The group's family.
    family: Family,
    /// Whether it listens to the group, or asks from an ephemeral port.
    listens: bool,
    /// Its port.
    port: u16,
    /// The socket.
    socket: Socket,
}

/// A socket that pings.
struct PingSocket {
    /// The family it pings in.
    family: Family,
    /// Whether what it receives begins with the IP header, as a raw IPv4 socket's packets do.
    has_ip_header: bool,
    /// The socket.
    socket: Socket,
}

impl Sockets {
    /// Every one that is open.
    pub fn open(&self) -> impl Iterator<Item = (Which, RawFd)> + '_ {
        let packet = self.packet.iter().flatten().map(|it| (Which::Packet, it.as_raw_fd()));
        let mdns = self.mdns.iter().enumerate();
        let mdns = mdns.map(|(index, it)| (Which::Mdns(index), it.socket.as_raw_fd()));
        let ping = self.ping.iter().enumerate();
        let ping = ping.map(|(index, it)| (Which::Ping(index), it.socket.as_raw_fd()));
        packet.chain(mdns).chain(ping)
    }

    /// Asks the multicast DNS group on an interface, from an ephemeral port.
    ///
    /// # Errors
    /// Where the link cannot carry it.
    pub fn ask_multicast(
        &mut self,
        interface: u32,
        family: Family,
        question: &[u8],
    ) -> sys::Result<()> {
        let group = match family {
            Family::V4 => SocketAddr::from((MDNS_GROUP_V4, MDNS_PORT)),
            Family::V6 => SocketAddrV6::new(MDNS_GROUP_V6, MDNS_PORT, 0, interface).into(),
        };
        self.ask_directly(interface, group, question)
    }

    /// Asks one host, or a group, from the same port.
    ///
    /// # Errors
    /// Where the link cannot carry it.
    pub fn ask_directly(
        &mut self,
        interface: u32,
        host: SocketAddr,
        question: &[u8],
    ) -> sys::Result<()> {
        let socket = self.mdns(interface, Family::of(host.ip()), false)?;
        socket.send_to(question, &host.into())?;
        Ok(())
    }

    /// Listens to the multicast DNS group on an interface.
    ///
    /// # Errors
    /// Where the system does not let us.
    pub fn listen(&mut self, interface: u32, family: Family) -> sys::Result<()> {
        self.mdns(interface, family, true).map(drop)
    }

    /// The multicast DNS socket for this interface, family and use, opened if it is not.
    fn mdns(&mut self, interface: u32, family: Family, listens: bool) -> sys::Result<&Socket> {
        let is_it = |mdns: &MdnsSocket| {
            (mdns.interface, mdns.family, mdns.listens) == (interface, family, listens)
        };
        if !self.mdns.iter().any(is_it) {
            let open = if listens { open_mdns_listener } else { open_mdns_asker };
            let socket = open(interface, family)?;
            let port = sys::port_of(&socket)?;
            self.mdns.push(MdnsSocket { interface, family, listens, port, socket });
        }
        let mdns = self.mdns.iter().find(|mdns| is_it(mdns));
        mdns.map(|mdns| &mdns.socket).ok_or(Error(libc::ENOENT))
    }

    /// Sends an ICMP message to everybody.
    ///
    /// # Errors
    /// Where the link cannot carry it.
    pub fn ping(&mut self, target: SocketAddr, message: &[u8]) -> sys::Result<()> {
        let family = Family::of(target.ip());
        if !self.ping.iter().any(|ping| ping.family == family) {
            self.ping.push(open_ping_socket(family)?);
        }
        let ping = self.ping.iter().find(|ping| ping.family == family);
        let ping = ping.ok_or(Error(libc::ENOENT))?;
        ping.socket.send_to(message, &target.into())?;
        Ok(())
    }

    /// Broadcasts an ARP request, if there is a packet socket.
    ///
    /// # Errors
    /// Whatever sendto(2) gives; `ENOBUFS` when the interface's queue is full.
    pub fn ask_arp(&self, interface: u32, packet: &[u8]) -> sys::Result<()> {
        match &self.packet {
            Some(Ok(socket)) => sys::send_arp(socket, interface, packet),
            _ => Ok(()),
        }
    }

    /// Reads one packet into `buffer`: what the search is to know of it, or `None` if there is none.
    pub fn receive<'b>(&self, which: Which, buffer: &'b mut [u8]) -> Option<Input<'b>> {
        match which {
            Which::Packet => self.receive_packet(buffer),
            Which::Mdns(index) => self.mdns.get(index)?.receive(buffer),
            Which::Ping(index) => self.ping.get(index)?.receive(buffer),
        }
    }

    /// Reads what the packet socket's filter lets through.
    fn receive_packet<'b>(&self, buffer: &'b mut [u8]) -> Option<Input<'b>> {
        let socket = self.packet.as_ref()?.as_ref().ok()?;
        let (count, interface, is_arp) = sys::receive_packet(socket, buffer).ok()?;
        let packet = buffer.get(..count)?;
        if is_arp {
            return Some(Input::Arp(interface, packet));
        }
        let Ok(packet) = ip::parse(packet) else { return Some(Input::Tick) };
        // With its scope, as the other sockets give it: it is one machine for all of them.
        let source = |port| with_scope(SocketAddr::new(packet.source, port), interface);
        Some(match packet.protocol {
            ip::PROTOCOL_UDP => match ip::parse_udp(packet.payload) {
                Ok(datagram) => {
                    // Routers may carry what is sent to other groups (RFC 6762 §11).
                    let multicast =
                        packet.destination == MDNS_GROUP_V4 || packet.destination == MDNS_GROUP_V6;
                    if !self.is_for_us(multicast, datagram.destination_port) {
                        return Some(Input::Tick);
                    }
                    let (source, payload) = (source(datagram.source_port), datagram.payload);
                    Input::Mdns(MdnsDatagram { interface, source, multicast, payload })
                }
                Err(_) => Input::Tick,
            },
            ip::PROTOCOL_ICMP | ip::PROTOCOL_ICMPV6 => Input::Icmp(source(0), packet.payload),
            _ => Input::Tick,
        })
    }

    /// Whether multicast DNS is sent to this port, or to one of ours that asks: who is beyond a router and
    /// forges the address of a neighbour would have to guess that as well.
    fn is_for_us(&self, multicast: bool, port: u16) -> bool {
        let asks = |mdns: &MdnsSocket| !mdns.listens && mdns.port == port;
        if multicast { port == MDNS_PORT } else { self.mdns.iter().any(asks) }
    }
}

impl MdnsSocket {
    /// Reads a datagram.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<Input<'b>> {
        match sys::receive(&self.socket, buffer) {
            Ok((count, source)) => Some(Input::Mdns(MdnsDatagram {
                interface: self.interface,
                source,
                multicast: self.listens,
                payload: buffer.get(..count)?,
            })),
            Err(Error(libc::EAGAIN)) => None,
            // What an ICMP message said of an earlier question; reading it has cleared it.
            Err(_) => Some(Input::Tick),
        }
    }
}

impl PingSocket {
    /// Reads an ICMP message.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<Input<'b>> {
        let (count, mut source) = sys::receive(&self.socket, buffer).ok()?;
        source.set_port(0);
        let mut message = buffer.get(..count)?;
        if self.has_ip_header {
            message = ip::parse(message).map_or(&[], |packet| packet.payload);
        }
        Some(Input::Icmp(source, message))
    }
}

/// A socket that asks on `interface` from an ephemeral port.
fn open_mdns_asker(interface: u32, family: Family) -> sys::Result<Socket> {
    let domain = domain_of(family);
    let socket = sys::open_socket(domain, Type::DGRAM, Some(Protocol::UDP))?;
    match family {
        Family::V4 => {
            sys::set_multicast_interface_v4(&socket, interface)?;
            socket.set_multicast_ttl_v4(MDNS_HOPS)?;
            socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))?;
        }
        Family::V6 => {
            socket.set_multicast_if_v6(interface)?;
            socket.set_multicast_hops_v6(MDNS_HOPS)?;
            socket.bind(&SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))))?;
        }
    }
    Ok(socket)
}

/// A socket that hears the group on `interface`. It is bound to the group's address: the host's
/// own responder keeps what is sent to the host.
fn open_mdns_listener(interface: u32, family: Family) -> sys::Result<Socket> {
    let domain = domain_of(family);
    let socket = sys::open_socket(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    match family {
        Family::V4 => {
            socket.set_multicast_all_v4(false)?;
            socket.bind(&SockAddr::from(SocketAddr::from((MDNS_GROUP_V4, MDNS_PORT))))?;
            let on = InterfaceIndexOrAddress::Index(interface);
            socket.join_multicast_v4_n(&MDNS_GROUP_V4, &on)?;
        }
        Family::V6 => {
            socket.set_only_v6(true)?;
            let group = SocketAddrV6::new(MDNS_GROUP_V6, MDNS_PORT, 0, interface);
            socket.bind(&SockAddr::from(group))?;
            socket.join_multicast_v6(&MDNS_GROUP_V6, interface)?;
        }
    }
    Ok(socket)
}

/// A socket for ICMP echoes: the kind for ordinary users (icmp(7), `ping_group_range`), or a raw one.
fn open_ping_socket(family: Family) -> sys::Result<PingSocket> {
    let protocol = match family {
        Family::V4 => Protocol::ICMPV4,
        Family::V6 => Protocol::ICMPV6,
    };
    let open = |kind| sys::open_socket(domain_of(family), kind, Some(protocol));
    let ordinary = open(Type::DGRAM);
    let has_ip_header = ordinary.is_err() && family == Family::V4;
    let socket = ordinary.or_else(|_| open(Type::RAW))?;
    if family == Family::V4 {
        socket.set_broadcast(true)?;
    }
    Ok(PingSocket { family, has_ip_header, socket })
}

/// The socket domain of a family.
const fn domain_of(family: Family) -> Domain {
    match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    }
}
