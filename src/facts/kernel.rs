//! Asks the kernel for the state of the network, over route netlink, and hears of changes.

use std::io::{Read as _, Write as _};

use socket2::Socket;

use super::network::Network;
use super::resolv_conf::{ResolvConf, read_resolv_conf};
use crate::sys::{self, Error};
use crate::wire::netlink::{Link, Message, Table, compose_dump, parse_messages};

/// Entries of the kernel's tables kept, links first: those of a host with a thousand containers.
const MESSAGES_MAX: usize = 8192;
/// Default routes kept besides.
const DEFAULT_ROUTES_MAX: usize = 1024;
/// Datagrams with routes read: twice as many routes as entries are kept, in 20 ms.
const ROUTE_READS_MAX: usize = 64;
/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
/// RTMGRP_IPV6_ROUTE`: the changes that we are told of.
const NETLINK_GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Reads of the queue of changes in one turn, so that a storm of them cannot hold us.
const CHANGE_READS_MAX: usize = 32;

/// A socket that becomes readable when a link, an address or a route changes.
///
/// # Errors
/// Where the system has no route netlink for us.
pub fn watch_network() -> sys::Result<Socket> {
    sys::netlink(NETLINK_GROUPS)
}

/// Empties the queue of changes: what matters is the state after them, which also holds when they
/// were more than the queue takes (`ENOBUFS`).
pub fn drain_changes(mut changes: &Socket) {
    for _ in 0..CHANGE_READS_MAX {
        // The kernel throws away what does not fit.
        match changes.read(&mut [0; 1]).map_err(Error::from) {
            Err(error) if error != Error(libc::ENOBUFS) => return,
            _ => {}
        }
    }
}

/// Asks the kernel for the network's state, and resolv.conf for the DNS servers. The kernel makes
/// its answers as they are read: nothing waits, and what is not read costs nothing. `buffer` should hold
/// 32 KiB, a datagram of a dump.
///
/// # Errors
/// Where the system has no route netlink for us, or refuses the table of links or of addresses.
pub fn read_network(buffer: &mut [u8]) -> sys::Result<Network> {
    let mut socket = sys::netlink(0)?;
    sys::ask_strictly(&socket);
    let mut messages = Vec::new();
    // Routes come last: anybody on the link may add them without end, by router advertisements, and a socket
    // whose dump is not read to its end gives no other.
    for table in [Table::Links, Table::Addresses, Table::Neighbours, Table::Routes] {
        let read = read_table(&mut socket, table, buffer, &mut messages);
        // Without the rest of the tables there is still a network to search.
        if matches!(table, Table::Links | Table::Addresses) {
            read?;
        }
    }
    let ResolvConf { nameservers, search_domains, .. } = read_resolv_conf(sys::interface_index);
    let network = Network::from_messages(&messages, nameservers);
    let mut network = Network { search_domains, ..network };
    for interface in &mut network.interfaces {
        interface.is_wireless = is_wireless(&interface.link);
    }
    Ok(network)
}

/// Reads one table; of the routes, the first.
fn read_table(
    socket: &mut Socket,
    table: Table,
    buffer: &mut [u8],
    messages: &mut Vec<Message>,
) -> sys::Result<()> {
    socket.write_all(&compose_dump(table))?;
    let max = if matches!(table, Table::Routes) { ROUTE_READS_MAX } else { usize::MAX };
    for _ in 0..max {
        let count = socket.read(buffer)?;
        let datagram = parse_messages(buffer.get(..count).unwrap_or_default());
        if take_messages(&datagram, messages)? {
            break;
        }
    }
    Ok(())
}

/// Whether an interface is Wi-Fi: its driver's part in cfg80211 stands in sysfs then.
fn is_wireless(link: &Link) -> bool {
    let name = str::from_utf8(link.bare_name()).unwrap_or_default();
    sys::status(&["/sys/class/net/", name, "/phy80211"].concat()).is_ok()
}

/// Adds what a datagram of a dump holds; true after the last. A table that changed while it was read
/// (`NLM_F_DUMP_INTR`) is taken as it is: of that change we are told, and then read again.
fn take_messages(datagram: &[Message], messages: &mut Vec<Message>) -> sys::Result<bool> {
    for message in datagram {
        match *message {
            Message::Done => return Ok(true),
            Message::Refused(number) => return Err(Error(number)),
            message @ Message::DefaultRoute { .. }
                if messages.len() < MESSAGES_MAX + DEFAULT_ROUTES_MAX =>
            {
                messages.push(message);
            }
            message if messages.len() < MESSAGES_MAX => messages.push(message),
            _ => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::network::tests::CARD;

    #[test]
    fn a_table_that_is_refused_is_not_empty() {
        let mut messages = Vec::new();
        let datagram = [Message::Link(CARD), Message::Refused(1)];
        let error = take_messages(&datagram, &mut messages).unwrap_err();
        assert_eq!(error, Error(1));
        assert!(!take_messages(&datagram[..1], &mut messages).unwrap());
        assert!(take_messages(&[Message::Done], &mut messages).unwrap());
        let flood = vec![Message::Link(CARD); 3 * MESSAGES_MAX];
        assert!(!take_messages(&flood, &mut messages).unwrap());
        assert_eq!(messages.len(), MESSAGES_MAX);
    }

    #[test]
    fn the_kernel_tells_of_this_host() {
        let network = read_network(&mut vec![0; 32 * 1024]).unwrap();
        for interface in &network.interfaces {
            let name = sys::interface_name(interface.link.index).unwrap();
            assert_eq!(interface.link.bare_name(), name.as_bytes());
        }
        // Nothing has changed, or all of it is read: nobody waits either way.
        drain_changes(&watch_network().unwrap());
        // A buffer that holds no message ends in an error, not in an empty table.
        let mut socket = sys::netlink(0).unwrap();
        assert!(read_table(&mut socket, Table::Links, &mut [0; 16], &mut Vec::new()).is_err());
    }
}
