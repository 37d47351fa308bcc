//! Opens the sockets of multicast DNS and of the ping.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

use crate::address::Family;
use crate::sys;
use crate::wire::dns::{MDNS_GROUP_V4, MDNS_GROUP_V6, MDNS_PORT};

/// Hops of a multicast DNS packet. RFC 6762 §11.
const MDNS_HOPS: u32 = 255;

/// A socket that pings.
pub struct PingSocket {
    /// The family it pings in.
    pub family: Family,
    /// Whether what it receives begins with the IP header, as a raw IPv4 socket's packets do.
    pub has_ip_header: bool,
    /// The socket.
    pub socket: UdpSocket,
}

/// A socket that asks on `interface` from an ephemeral port.
///
/// # Errors
/// Whatever socket(2), setsockopt(2) and bind(2) give.
pub fn open_mdns_asker(interface: u32, family: Family) -> io::Result<Socket> {
    let domain = domain_of(family);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
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
///
/// # Errors
/// Whatever socket(2), setsockopt(2) and bind(2) give.
pub fn open_mdns_listener(interface: u32, family: Family) -> io::Result<Socket> {
    let domain = domain_of(family);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
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
///
/// # Errors
/// Whatever socket(2), setsockopt(2) and bind(2) give.
pub fn open_ping_socket(family: Family) -> io::Result<PingSocket> {
    let protocol = match family {
        Family::V4 => Protocol::ICMPV4,
        Family::V6 => Protocol::ICMPV6,
    };
    let open = |kind: Type| Socket::new(domain_of(family), kind.nonblocking(), Some(protocol));
    let ordinary = open(Type::DGRAM);
    let has_ip_header = ordinary.is_err() && family == Family::V4;
    let socket = ordinary.or_else(|_| open(Type::RAW))?;
    if family == Family::V4 {
        socket.set_broadcast(true)?;
    }
    Ok(PingSocket { family, has_ip_header, socket: socket.into() })
}

/// The socket domain of a family.
const fn domain_of(family: Family) -> Domain {
    match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    }
}
