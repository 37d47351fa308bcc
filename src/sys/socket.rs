//! Sockets: what socket2 has for them opens and reads them in four times the bytes, and wraps route
//! netlink and packet sockets in part.

use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use libc::{c_int, c_long, c_void, socklen_t};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use super::error::{Error, Result, check};
use super::ioctl;

/// The size of `T` as socket calls want it.
const fn length_of<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

/// A socket that never has anybody wait.
///
/// # Errors
/// Whatever socket(2) gives.
pub fn open_socket(domain: Domain, kind: Type, protocol: Option<Protocol>) -> Result<Socket> {
    let kind = c_int::from(kind.nonblocking().cloexec());
    let protocol = protocol.map_or(0, c_int::from);
    // SAFETY: the call touches no memory, and the new descriptor has no other owner. That of musl knows
    // ways for kernels that have no such kinds.
    unsafe {
        check(libc::syscall(libc::SYS_socket, c_int::from(domain), kind, protocol))
            .map(|descriptor| Socket::from_raw_fd(descriptor as c_int))
    }
}

/// A route netlink socket: one to ask with, or, with `groups`, one that tells of changes.
///
/// # Errors
/// Whatever socket(2) and bind(2) give.
pub fn netlink(groups: u32) -> Result<Socket> {
    let protocol = Some(libc::NETLINK_ROUTE.into());
    let socket = open_socket(Domain::from(libc::AF_NETLINK), Type::RAW, protocol)?;
    if groups != 0 {
        // SAFETY: all-zero is a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        bind(&socket, &address)?;
    }
    Ok(socket)
}

/// Has the kernel heed what a request for a table asks for: it gives all of it otherwise, and does so where it is
/// older than 4.20.
pub fn ask_strictly(socket: &Socket) {
    let yes: c_int = 1;
    // SAFETY: the pointer and the length describe one number.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_GET_STRICT_CHK,
            (&raw const yes).cast(),
            length_of::<c_int>(),
        )
    };
}

/// Takes what an ICMP message has said of a connection that is being made: the socket is ready as long as that
/// waits to be read (`MSG_ERRQUEUE`, recv(2)).
///
/// # Errors
/// `EAGAIN` where there is no such message.
pub fn take_message(socket: &Socket) -> Result<()> {
    // SAFETY: no memory is written to.
    check(unsafe {
        libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), 0, libc::MSG_ERRQUEUE) as c_long
    })
    .map(drop)
}

/// Binds a socket to an address of its family.
fn bind<T>(socket: &Socket, address: &T) -> Result<()> {
    // SAFETY: the pointer and the length describe one sockaddr.
    check(unsafe {
        libc::bind(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), length_of::<T>())
    })
    .map(drop)
}

/// The port that a socket of IPv4 or IPv6 has got from the kernel.
///
/// # Errors
/// Whatever getsockname(2) gives.
pub fn port_of(socket: &Socket) -> Result<u16> {
    // SAFETY: all-zero is a valid sockaddr_in, which the call fills in; the port stands at the same place
    // in the longer sockaddr_in6, of which the rest is left out.
    unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        let mut length = length_of::<libc::sockaddr_in>();
        let place = (&raw mut address).cast();
        check(libc::getsockname(socket.as_raw_fd(), place, &raw mut length))?;
        Ok(u16::from_be(address.sin_port))
    }
}

/// Lets only ARP replies, ICMP echo replies and UDP from port 5353 through, unfragmented and of no VLAN but
/// the interface's own (`linux/filter.h`). Offsets count from the network header, where a packet socket for
/// datagrams begins.
const FILTER: [(u16, u8, u8, u32); 28] = [
    (0x28, 0, 0, 0xffff_f02c), // 0: load the VLAN (SKF_AD_VLAN_TAG); one that has an interface comes untagged
    (0x45, 25, 0, 0x0fff),     // 1: another's? drop
    (0x28, 0, 0, 0xffff_f000), // 2: load the Ethernet protocol (SKF_AD_PROTOCOL)
    (0x15, 0, 2, 0x0806),      // 3: ARP? else to 6
    (0x28, 0, 0, 6),           // 4: load the operation
    (0x15, 20, 21, 2),         // 5: a reply? keep, else drop
    (0x15, 0, 10, 0x0800),     // 6: IPv4? else to 17
    (0x28, 0, 0, 6),           // 7: load flags and fragment offset
    (0x45, 18, 0, 0x3fff),     // 8: a fragment? drop
    (0xb1, 0, 0, 0),           // 9: the header's length into X
    (0x30, 0, 0, 9),           // 10: load the protocol
    (0x15, 0, 2, 17),          // 11: UDP? else to 14
    (0x48, 0, 0, 0),           // 12: load the source port
    (0x05, 0, 0, 11),          // 13: to 25
    (0x15, 0, 12, 1),          // 14: ICMP? else drop
    (0x50, 0, 0, 0),           // 15: load its type
    (0x15, 9, 10, 0),          // 16: an echo reply? keep, else drop
    (0x15, 0, 9, 0x86dd),      // 17: IPv6? else drop
    (0x30, 0, 0, 6),           // 18: load the next header
    (0x15, 0, 2, 17),          // 19: UDP? else to 22
    (0x28, 0, 0, 40),          // 20: load the source port
    (0x05, 0, 0, 3),           // 21: to 25
    (0x15, 0, 4, 58),          // 22: ICMPv6? else drop
    (0x30, 0, 0, 40),          // 23: load its type
    (0x15, 1, 2, 129),         // 24: an echo reply? keep, else drop
    (0x15, 0, 1, 5353),        // 25: multicast DNS? else drop
    (0x06, 0, 0, 0xffff),      // 26: keep
    (0x06, 0, 0, 0),           // 27: drop
];

/// A packet socket that hears answers on all interfaces, without their link-layer header and before a
/// firewall sees them, and that sends ARP (packet(7)). Needs `CAP_NET_RAW`.
///
/// # Errors
/// Whatever socket(2), setsockopt(2) and bind(2) give; `PermissionDenied` without the privilege.
pub fn packet_socket() -> Result<Socket> {
    // Protocol 0 hears nothing until the filter is in place.
    let socket = open_socket(Domain::PACKET, Type::DGRAM, None)?;
    let filter = FILTER.map(|(code, jt, jf, k)| SockFilter::new(code, jt, jf, k));
    socket.attach_filter(&filter)?;
    bind(&socket, &link_address(libc::ETH_P_ALL as u16))?;
    Ok(socket)
}

/// The link-layer address of everybody who speaks an Ethernet `protocol` (packet(7)).
fn link_address(protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol.to_be();
    address
}

/// Broadcasts an ARP packet through an interface.
///
/// # Errors
/// Whatever sendto(2) gives; `ENOBUFS` when the interface's queue is full.
pub fn send_arp(socket: &Socket, interface: u32, packet: &[u8]) -> Result<()> {
    let mut address = link_address(libc::ETH_P_ARP as u16);
    address.sll_ifindex = interface.cast_signed();
    address.sll_halen = 6;
    if let Some(hardware) = address.sll_addr.get_mut(..6) {
        hardware.fill(0xff);
    }
    // SAFETY: both pointers come with their lengths.
    let count = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            length_of::<libc::sockaddr_ll>(),
        )
    };
    check(count as c_long).map(drop)
}

/// Receives a packet from a packet socket: its length, the interface it came in through, and
/// whether it is ARP.
///
/// # Errors
/// Whatever recvfrom(2) gives.
pub fn receive_packet(socket: &Socket, buffer: &mut [u8]) -> Result<(usize, u32, bool)> {
    let mut address = link_address(0);
    let count = receive_into(socket, buffer, &mut address)?;
    let is_arp = u16::from_be(address.sll_protocol) == libc::ETH_P_ARP as u16;
    Ok((count, address.sll_ifindex.unsigned_abs(), is_arp))
}

/// Receives a datagram: its length and who has sent it.
///
/// # Errors
/// Whatever recvfrom(2) gives; `EINVAL` where the sender has no IP address.
pub fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<(usize, SocketAddr)> {
    let mut source = SockAddrStorage::zeroed();
    let count = receive_into(socket, buffer, &mut source)?;
    // SAFETY: the call has filled it in.
    let source = unsafe { SockAddr::new(source, length_of::<SockAddrStorage>()) };
    source.as_socket().map(|source| (count, source)).ok_or(Error(libc::EINVAL))
}

/// recvfrom(2), with the sender's `address` as the socket's family has it.
fn receive_into<T>(socket: &Socket, buffer: &mut [u8], address: &mut T) -> Result<usize> {
    let mut address_length = length_of::<T>();
    // SAFETY: both pointers come with their lengths.
    let count = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            std::ptr::from_mut(address).cast(),
            &raw mut address_length,
        )
    };
    check(count as c_long).map(|count| count.unsigned_abs() as usize)
}

/// Sends multicast from `socket` out of `interface` (ip(7), `IP_MULTICAST_IF`); socket2 only
/// takes an address here, which two interfaces may share.
///
/// # Errors
/// Whatever setsockopt(2) gives.
pub fn set_multicast_interface_v4(socket: &Socket, interface: u32) -> Result<()> {
    let any = libc::in_addr { s_addr: 0 };
    let request = libc::ip_mreqn {
        imr_multiaddr: any,
        imr_address: any,
        imr_ifindex: interface.cast_signed(),
    };
    // SAFETY: the pointer and the length describe the request.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            (&raw const request).cast::<c_void>(),
            length_of::<libc::ip_mreqn>(),
        )
    })
    .map(drop)
}

/// `struct ifreq`.
#[repr(C)]
#[derive(Default)]
struct InterfaceRequest {
    /// The interface's name, ended by a zero byte.
    name: [u8; libc::IFNAMSIZ],
    /// Its index.
    index: c_int,
    /// The rest of the union that the index is part of.
    _rest: [u32; 5],
}

impl InterfaceRequest {
    /// Asks for the half that is missing (netdevice(7)). Any socket serves to ask, and netlink's is one
    /// that our sandbox allows: libc's own functions open one of `AF_UNIX`.
    fn ask(&mut self, code: libc::c_ulong) -> Option<()> {
        let socket = netlink(0).ok()?;
        // SAFETY: the structure is as large as the kernel's, and the name in it ends.
        unsafe { ioctl(socket.as_raw_fd(), code as _, &raw mut *self) }.ok()
    }
}

/// The index of the interface called `name`.
#[must_use]
pub fn interface_index(name: &str) -> Option<u32> {
    let mut request = InterfaceRequest::default();
    let place = request.name.get_mut(..libc::IFNAMSIZ - 1)?.get_mut(..name.len())?;
    place.copy_from_slice(name.as_bytes());
    request.ask(libc::SIOCGIFINDEX as _)?;
    u32::try_from(request.index).ok()
}

/// The name of the interface with this index.
#[must_use]
pub fn interface_name(index: u32) -> Option<String> {
    let index = c_int::try_from(index).ok()?;
    let mut request = InterfaceRequest { index, ..InterfaceRequest::default() };
    request.ask(libc::SIOCGIFNAME as _)?;
    let name = request.name.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(name).ok().map(str::to_owned)
}
