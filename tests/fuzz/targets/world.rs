//! What a script may say: the host, its network, and what happens.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cache_resolver::address::needs_zone;
use cache_resolver::facts::{Known, Network, Override, Previous};
use cache_resolver::interface::{Channel, Failure, Input};
use cache_resolver::path::{PathId, Paths};
use cache_resolver::wire::netlink::{Address, Hop, Link, LinkKind, Message};

use super::driver::{Driver, source_of};
use super::net;
use super::script::Script;
use super::support::{
    ANSWER, MULTICAST, NXDOMAIN, REFUSED, Record, SERVFAIL, TRUNCATED, address, alias, id_of,
    message, name, reply, service, type_of,
};

/// Options of a search.
const OPTIONS: [&str; 12] = [
    "--methods previous,hosts,dns,mdns",
    "--browse --sweep-limit 20",
    "--sweep-limit 20",
    "",
    "--browse",
    "--methods gateway,neighbours,ping",
    "--browse --methods mdns,announced",
    "--methods sweep --sweep 192.168.7.0/28 --sweep-rate 20000",
    "--budget 0.3 --sweep-limit 40 --sweep-rate 20000",
    "--budget 0.1 --browse",
    "--browse --methods dns,announced,ping,sweep --sweep 172.16.0.0/29",
    "--methods previous,gateway --budget 3",
];
/// The names of services, with those that we look for.
const TYPES: [&str; 6] = [
    "_nix-cache._tcp.local",
    "_nix-serve._tcp.local",
    "_nix_binary_cache._tcp.local",
    "_http._tcp.local",
    "_nix-cache._tcp.lan",
    "_ssh._tcp.local",
];
/// Names of hosts and instances.
const NAMES: [&str; 6] =
    ["waterbug.local", "waterbug.lan", "hive.local", "hive.lan", "a._nix-cache._tcp.local", "lan"];
/// What is said of services.
const TEXTS: [&[u8]; 8] = [
    b"path=/",
    b"path=/system",
    b"path=/n/x/",
    b"nix-cache=1",
    b"path=/../x",
    b"PATH=/a b",
    b"path=/\r\nX: y",
    b"",
];
/// Responses of servers, of caches first.
const PAGES: [&str; 12] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nStoreDir: /nix/store\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\nStoreDir: /nix/store\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nStoreDir: /nix/store\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nStoreDir: /nix/store\n",
    "HTTP/1.1 404 X\r\n\r\n",
    "HTTP/1.1 301 X\r\nLocation: /\r\n\r\n",
    "HTTP/1.1 401 X\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nStoreDir: /gnu/store\n",
    "SSH-2.0-x\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "",
];

/// So many milliseconds.
const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A search on a host of which the script decides everything.
pub fn any_driver(script: &mut Script) -> Driver {
    let options = script.pick(&OPTIONS);
    let mut paths = Paths::new("/system".to_owned());
    let known = any_known(script, &mut paths);
    let network = any_network(script);
    let mut driver = Driver::new(options, known, paths, network);
    driver.unreachable = if script.chance(64) { script.byte() } else { 0 };
    driver.privileged = !script.chance(80);
    driver
}

/// What the host's files say.
fn any_known(script: &mut Script, paths: &mut Paths) -> Known {
    let mut known = Known::default();
    let which = script.byte();
    if which & 1 != 0 {
        let path = if script.chance(64) { paths.add(b"/n").unwrap() } else { PathId::CONFIGURED };
        known.previous = Some(Previous {
            remote: script.remote(9999),
            path,
            by_name: script.chance(64),
            is_announced: script.chance(64),
        });
    }
    if which & 2 != 0 {
        known.hosts = script.addresses(4);
    }
    if which & 4 != 0 {
        known.nameservers = script.addresses(4).into_iter().map(server).collect();
    }
    if which & 8 != 0 {
        known.uptime = Duration::from_secs(1000);
    }
    if which & 0xf0 == 0xf0 {
        let remote = script.remote(9999);
        // The file of orders may not name an address that needs a zone.
        let is_none = script.chance(40) || needs_zone(remote.ip());
        known.override_ = Some(if is_none { Override::None } else { Override::At(remote) });
    }
    known
}

/// A DNS server at an address.
fn server(address: IpAddr) -> SocketAddr {
    source_of(address, 53, 2)
}

/// A network that came from the kernel, made of what it might say.
pub fn any_network(script: &mut Script) -> Network {
    let mut messages = Vec::new();
    for index in 2..2 + u32::try_from(script.below(4)).unwrap() {
        let kind = script.pick(&[
            LinkKind::Hardware,
            LinkKind::Hardware,
            LinkKind::Veth,
            LinkKind::Bridge,
            LinkKind::Derived,
            LinkKind::Other,
        ]);
        messages.push(Message::Link(Link {
            index,
            name: [0; 16],
            flags: script.pick(&[0x11043, 0x11043, 0x11043, 0x1003, 0x10049, 0x110d1, 0]),
            hardware_type: script.pick(&[1, 1, 1, 772, 65534]),
            hardware_address: (!script.chance(30)).then_some([2, 0, 0, 0, 0, 5]),
            kind,
            master: if script.chance(20) { 2 } else { 0 },
            carrier_changes: script.byte().into(),
        }));
        // The usual one first.
        if !script.chance(40) {
            let address = IpAddr::from([10, 0, 0, 99]);
            messages.push(Message::Address(Address {
                interface: index,
                address,
                prefix_length: 24,
            }));
        }
        for address in script.addresses(2) {
            let prefix_length = script.pick(&[24, 24, 32, 30, 31, 8, 64, 128, 0, 200]);
            messages.push(Message::Address(Address { interface: index, address, prefix_length }));
        }
    }
    for address in script.addresses(3) {
        let interface = 2 + u32::from(script.chance(60));
        let gateway = (!script.chance(60)).then_some(address);
        messages.push(Message::DefaultRoute { interface, gateway });
    }
    for address in script.addresses(5) {
        let interface = 2 + u32::from(script.chance(60));
        let hop = Hop { interface, address };
        let hardware = match script.below(4) {
            0 => None,
            1 => Some([0x52, 0x55, 10, 0, 0, 2]),
            _ => Some([2, 0, 0, 0, 0, 6]),
        };
        messages.push(Message::Neighbour(hop, hardware));
    }
    let servers = script.addresses(4).into_iter().map(server).collect();
    let mut network = Network::from_messages(&messages, servers);
    let domains = script.pick(&["", "lan ", "lan example.org ", ". ", "a..b x ", "local "]);
    network.search_domains.push_str(domains);
    if script.chance(40) {
        network.interfaces.iter_mut().for_each(|interface| interface.is_wireless = true);
    }
    net::check(&network);
    network
}

/// One thing that happens.
pub fn step(script: &mut Script, driver: &mut Driver) {
    match script.byte() {
        0..=31 => driver.wait(None, Duration::ZERO),
        32..=39 => {
            let late = script.pick(&[0, 1, 20, 150, 800, 3000, 20_000]);
            driver.wait(None, millis(late));
        }
        40..=63 => {
            let micros = script.pick(&[0, 1, 100, 1000, 5000, 50_000, 130_000, 400_000]);
            driver.wait(Some(Duration::from_micros(micros)), Duration::ZERO);
        }
        64..=103 => on_channel(script, driver, false),
        104..=151 => on_channel(script, driver, true),
        152..=199 => hear(script, driver),
        200..=215 => answer_arp(script, driver),
        216..=227 => answer_ping(script, driver),
        228..=243 => {
            let network = any_network(script);
            let is_told = !script.chance(60);
            driver.change_network(network, is_told);
        }
        244..=251 => {
            // What nobody has opened, or what is closed, is of no use.
            let number = u32::from(script.byte()) + if script.chance(128) { 0x1000 } else { 0 };
            let channel = script.pick(&[Channel::Dns(number), Channel::Verify(number)]);
            if driver.open.iter().all(|open| open.channel != channel) && number >= 0x1000 {
                driver.handle(match script.below(3) {
                    0 => Input::Connected(channel),
                    1 => Input::Received(channel, script.bytes(false)),
                    _ => Input::Failed(channel, Failure::Broken),
                });
            }
        }
        252..=253 => driver.unreachable = script.byte(),
        254 => driver.handle(Input::Tick),
        255 => driver.handle(Input::Stop),
    }
}

/// Something happens on one of the streams or of the questions.
fn on_channel(script: &mut Script, driver: &mut Driver, is_verify: bool) {
    let is_it = |channel| matches!(channel, Channel::Verify(_)) == is_verify;
    let open = driver.open.iter().enumerate().filter(|(_, open)| is_it(open.channel));
    let indices: Vec<usize> = open.map(|(index, _)| index).collect();
    if indices.is_empty() {
        return driver.wait(Some(millis(1)), Duration::ZERO);
    }
    let index = script.pick(&indices[..indices.len().min(256)]);
    match script.below(8) {
        0 => {
            let failure = script.pick(&[Failure::Refused, Failure::Unreachable, Failure::Broken]);
            driver.fail(index, failure);
        }
        1 => driver.connect(index),
        2 => driver.receive(index, script.bytes(false)),
        3 => driver.receive(index, b""),
        _ if is_verify => {
            let page = script.pick(&PAGES).as_bytes();
            // In pieces, too: the rest is for whoever still waits.
            let cut = if script.chance(60) { script.below(page.len() + 1) } else { page.len() };
            let channel = driver.open[index].channel;
            driver.receive(index, &page[..cut]);
            let still = driver.open.iter().position(|open| open.channel == channel);
            if let Some(index) = still.filter(|_| driver.outcome.is_none() && !script.chance(60)) {
                driver.receive(index, &page[cut..]);
            }
        }
        _ => {
            let open = &driver.open[index];
            let answer = if open.is_stream {
                let answer = any_answer(script, &open.request[2..]);
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                [&length[..], &answer].concat()
            } else {
                any_answer(script, &open.request)
            };
            driver.receive(index, &answer);
        }
    }
}

/// What a DNS server says.
fn any_answer(script: &mut Script, query: &[u8]) -> Vec<u8> {
    let flags =
        script.pick(&[ANSWER, ANSWER, ANSWER, ANSWER, NXDOMAIN, TRUNCATED, SERVFAIL, REFUSED]);
    let owner = query[12..query.len() - 4].to_vec();
    let is_v4 = type_of(query) == 1;
    let mut records = Vec::new();
    for _ in 0..script.below(5) {
        match script.below(8) {
            0..=2 => {
                let given = script.address();
                if given.is_ipv4() == is_v4 || script.chance(20) {
                    records.push(address(&owner, given));
                }
            }
            3 => records.push(alias(&owner, &name("hive.lan"))),
            4 => records.push(address(&name("hive.lan"), script.address())),
            _ => records.push(any_record(script, Some(&owner))),
        }
    }
    let mut answer = reply(query, flags, &records);
    damage(script, &mut answer);
    answer
}

/// A record of a service, of `owner` if that was asked for.
fn any_record(script: &mut Script, owner: Option<&[u8]>) -> Record {
    let kind = name(script.pick(&TYPES));
    let own_label = script.byte() % 4;
    let instance = [&[1, b'a' + own_label][..], &kind].concat();
    let owner = owner.unwrap_or(&instance);
    let host = name(script.pick(&NAMES));
    match script.below(6) {
        0 => service::pointer(&kind, &instance),
        1 | 2 => {
            let port = script.pick(&[9999, 80, 0, 53, 5353]);
            let priority = script.byte().into();
            service::place(owner, priority, 0, port, &host)
        }
        3 | 4 => {
            let texts: Vec<_> =
                (0..script.below(3)).map(|_| script.pick(&TEXTS).to_vec()).collect();
            service::text(owner, &texts)
        }
        _ => address(&host, script.address()),
    }
}

/// Now and then a byte is another one, or the end is missing.
pub fn damage(script: &mut Script, packet: &mut Vec<u8>) {
    if script.chance(20) && !packet.is_empty() {
        let at = usize::from(script.byte()) % packet.len();
        packet[at] = script.byte();
    }
    if script.chance(10) {
        packet.truncate(usize::from(script.byte()));
    }
}

/// A multicast DNS message comes in.
fn hear(script: &mut Script, driver: &mut Driver) {
    let interface = 2 + u32::from(script.chance(40));
    let port = if script.chance(20) { 53 } else { 5353 };
    let source = source_of(script.address(), port, interface);
    let multicast = script.chance(100);
    let payload = match script.below(8) {
        0 => script.bytes(true).to_vec(),
        shape => {
            let is_service = shape >= 4;
            let id = match script.below(8) {
                0 => 0,
                1 => u16::from_be_bytes(script.array()),
                _ => {
                    let asked = &driver.asked[usize::from(is_service)];
                    if asked.is_empty() { 0 } else { id_of(asked) }
                }
            };
            let records: Vec<_> = (0..script.below(8))
                .map(|_| {
                    if is_service {
                        any_record(script, None)
                    } else {
                        address(&name(script.pick(&NAMES[..3])), script.address())
                    }
                })
                .collect();
            let mut packet = message(id, MULTICAST, &[], [&records, &[], &[]]);
            damage(script, &mut packet);
            packet
        }
    };
    driver.hear(interface, source, multicast, &payload);
}

/// Somebody answers an ARP request, or the queue is full.
fn answer_arp(script: &mut Script, driver: &mut Driver) {
    let Some((interface, mut packet)) = driver.last_arp else {
        return driver.handle(Input::Arp(2, script.bytes(false)));
    };
    if script.chance(60) {
        return driver.handle(Input::Congested(interface, packet));
    }
    packet[7] = 2;
    let asked = [packet[24], packet[25], packet[26], packet[27]];
    let sender = match script.below(4) {
        0 => [10, 0, 0, script.byte()],
        1 => script.array(),
        _ => asked,
    };
    packet[14..18].copy_from_slice(&sender);
    let mut packet = packet.to_vec();
    damage(script, &mut packet);
    driver.handle(Input::Arp(interface, &packet));
}

/// Somebody answers a ping.
fn answer_ping(script: &mut Script, driver: &mut Driver) {
    let source = source_of(script.address(), 0, 2);
    let mut packet = driver.last_ping.clone();
    if let Some(kind) = packet.first_mut() {
        *kind = if source.is_ipv6() { 129 } else { 0 };
    }
    damage(script, &mut packet);
    driver.handle(Input::Icmp(source, &packet));
}
