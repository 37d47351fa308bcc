//! Raw answers as the search sees them, in a network where it asks for everything.

use std::net::IpAddr;
use std::time::Duration;

use cache_resolver::facts::{Known, Network};
use cache_resolver::interface::{Channel, Input};
use cache_resolver::path::Paths;
use cache_resolver::wire::netlink::{Address, Link, LinkKind, Message};

use super::driver::{Driver, source_of};
use super::script::Script;
use super::support::id_of;

/// A LAN with a card, a DNS server and a domain.
fn lan() -> Network {
    let link = Link {
        index: 2,
        name: [0; 16],
        flags: 0x11043,
        hardware_type: 1,
        hardware_address: Some([2, 0, 0, 0, 0, 5]),
        kind: LinkKind::Hardware,
        master: 0,
        carrier_changes: 0,
    };
    let address =
        |address, prefix_length| Message::Address(Address { interface: 2, address, prefix_length });
    let messages = [
        Message::Link(link),
        address(IpAddr::from([10, 0, 0, 99]), 24),
        address(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0x99]), 64),
    ];
    let servers = vec![([10, 0, 0, 1], 53).into()];
    Network { search_domains: "lan ".to_owned(), ..Network::from_messages(&messages, servers) }
}

/// A search that has asked everybody by name, and waits.
fn asking() -> Driver {
    let known = Known { nameservers: lan().nameservers, ..Known::default() };
    let paths = Paths::new("/system".to_owned());
    let mut driver = Driver::new("--browse --methods dns,mdns,announced", known, paths, lan());
    driver.handle(Input::Tick);
    driver.wait(None, Duration::ZERO);
    driver
}

/// Multicast DNS: packets one after the other, each with a byte that says whose it is and how it came,
/// and its id made right where that is a number of ours.
pub fn mdns(data: &[u8]) {
    let mut script = Script::new(data);
    let mut driver = asking();
    while !script.is_over() && driver.outcome.is_none() {
        let how = script.byte();
        let multicast = how & 1 != 0;
        let source: IpAddr = match how >> 1 & 3 {
            0 => [10, 0, 0, 5].into(),
            1 => [0xfe80, 0, 0, 0, 0, 0, 0, 5].into(),
            2 => [10, 0, 0, 99].into(),
            _ => [203, 0, 113, 5].into(),
        };
        let mut packet = script.bytes(true).to_vec();
        if let Some(id) = packet.first_chunk_mut::<2>() {
            match *id {
                [0xff, 0] => *id = id_of(&driver.asked[0]).to_be_bytes(),
                [0xff, 1] => *id = id_of(&driver.asked[1]).to_be_bytes(),
                _ => {}
            }
        }
        driver.hear(2, source_of(source, 5353, 2), multicast, &packet);
        if how & 8 != 0 {
            driver.wait(None, Duration::ZERO);
        }
    }
    driver.finish();
}

/// Unicast DNS, over datagrams and streams: answers one after the other, each with a byte that says to
/// which question; their ids are made right where they are zero.
pub fn answers(data: &[u8]) {
    let mut script = Script::new(data);
    let mut driver = asking();
    while !script.is_over() && driver.outcome.is_none() {
        let how = script.byte();
        let is_dns = |channel| matches!(channel, Channel::Dns(_));
        let open = driver.open.iter().enumerate().filter(|(_, open)| is_dns(open.channel));
        let indices: Vec<_> = open.map(|(index, _)| index).collect();
        let mut packet = script.bytes(true).to_vec();
        if let Some(index) = indices.get(usize::from(how & 15) % indices.len().max(1)) {
            let open = &driver.open[*index];
            let at = if open.is_stream { 2 } else { 0 };
            if let Some(id) = packet.get_mut(at..at + 2)
                && id == [0, 0]
            {
                id.copy_from_slice(&open.request[at..at + 2]);
            }
            driver.receive(*index, &packet);
        }
        if how & 16 != 0 && driver.outcome.is_none() {
            driver.wait(None, Duration::ZERO);
        }
    }
    driver.finish();
}
