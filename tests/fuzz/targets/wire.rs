//! The codecs.

use std::net::IpAddr;

use cache_resolver::wire::cache_info::{self, CacheInfo};
use cache_resolver::wire::dns::{
    Medium, Name, RecordType, Reply, parse_datagram, parse_multicast, parse_reply,
};
use cache_resolver::wire::service::{Fact, for_each_fact, value_of};
use cache_resolver::wire::{arp, http as http_, icmp, ip};

use super::script::Script;

/// The id that answers repeat.
const ID: u16 = 0x1234;

/// Whether the bytes stand somewhere in the packet.
fn holds(packet: &[u8], bytes: &[u8]) -> bool {
    packet.windows(bytes.len()).any(|window| window == bytes)
}

/// No more addresses than are taken, each once, and none that the packet does not hold.
fn check_addresses(packet: &[u8], addresses: &[IpAddr]) {
    assert!(addresses.len() <= 16);
    for (number, address) in addresses.iter().enumerate() {
        assert!(!addresses[..number].contains(address), "{address} twice");
        assert!(match address {
            IpAddr::V4(v4) => holds(packet, &v4.octets()),
            IpAddr::V6(v6) => holds(packet, &v6.octets()),
        });
    }
}

/// A DNS message: the first byte says what was asked for.
pub fn dns(data: &[u8]) {
    let mut script = Script::new(data);
    let kind = script.pick(&[RecordType::A, RecordType::Aaaa, RecordType::Srv, RecordType::Txt]);
    let packet = script.rest();
    let host = Name::from_text("waterbug.lan").unwrap();
    let reply = parse_reply(packet, ID, &host, kind);
    match &reply {
        Ok(Reply::Addresses(addresses)) => {
            assert!(
                !addresses.is_empty() && packet[2] & 0x82 == 0x80 && packet[3].is_multiple_of(16)
            );
            check_addresses(packet, addresses);
            assert!(addresses.iter().all(|address| address.is_ipv4() == (kind == RecordType::A)));
        }
        Ok(Reply::Records(records)) => assert_eq!(records, packet),
        Ok(Reply::Truncated) => assert_eq!(packet[2] & 0x82, 0x82),
        _ => {}
    }
    if reply.is_ok() {
        assert!(packet[..2] == ID.to_be_bytes() && packet[2] & 0xf8 == 0x80);
    }
    if packet.len() <= 4096 {
        assert_eq!(parse_datagram(packet, ID, &host, kind), reply);
    } else {
        assert!(parse_datagram(packet, ID, &host, kind).is_err());
    }
    let all = parse_multicast(packet, &host, None);
    let ours = parse_multicast(packet, &host, Some(ID));
    for addresses in [&all, &ours].into_iter().flatten() {
        check_addresses(packet, addresses);
    }
    if let Ok(ours) = &ours {
        assert!(packet[..2] == ID.to_be_bytes());
        assert!(all.is_err() || all.as_ref() == Ok(ours));
    }
    for medium in [Medium::Server, Medium::Multicast(None), Medium::Multicast(Some(ID))] {
        let mut facts = 0;
        let _ = for_each_fact(packet, medium, &mut |_, fact| {
            facts += 1;
            match fact {
                Fact::Text(text) => {
                    assert!(text.is_empty() || holds(packet, text));
                    if let Some(value) = value_of(text, "path") {
                        assert!(value.len() <= 250 && (value.is_empty() || holds(text, value)));
                    }
                }
                Fact::Place(place) => assert!(holds(packet, &place.port.to_be_bytes())),
                Fact::Instance(_) => {}
                Fact::Address(address) => check_addresses(packet, &[address]),
            }
        });
        assert!(facts <= 256);
    }
}

/// What packet and ping sockets give: the same bytes as each of them.
pub fn frames(data: &[u8]) {
    if let Ok(packet) = ip::parse(data) {
        let header = if packet.source.is_ipv4() { 20 } else { 40 };
        assert!(packet.payload.len() + header <= data.len());
        assert_eq!(packet.source.is_ipv4(), packet.destination.is_ipv4());
        assert_eq!(data[0] >> 4 == 4, packet.source.is_ipv4());
        if let Ok(datagram) = ip::parse_udp(packet.payload) {
            assert!(datagram.payload.len() + 8 <= packet.payload.len());
            assert_eq!(packet.payload[..2], datagram.source_port.to_be_bytes());
        }
        check_icmp(packet.payload);
    }
    let _ = ip::parse_udp(data);
    check_icmp(data);
    if let Ok(sender) = arp::parse_reply(data) {
        assert!(data.len() >= 28 && data[..8] == [0, 1, 8, 0, 6, 4, 0, 2]);
        assert_eq!(data[14..18], sender.octets());
    }
    // Whatever is swept, what we ask is no answer.
    if let Some((target, _)) = data.split_first_chunk::<4>() {
        let request = arp::compose_request([2; 6], [10, 0, 0, 1].into(), (*target).into());
        assert!(arp::parse_reply(&request).is_err());
    }
}

/// Our own requests are no replies, replies are read to the byte.
fn check_icmp(message: &[u8]) {
    for v6 in [false, true] {
        if let Ok(cookie) = icmp::parse_reply(v6, message) {
            assert_eq!(message[8..16], cookie);
            assert_eq!(message[..2], [if v6 { 129 } else { 0 }, 0]);
            let request = icmp::compose_request(v6, cookie);
            assert!(icmp::parse_reply(v6, &request).is_err());
            let sum = request
                .chunks(2)
                .fold(0, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the sum of all is nothing");
        }
    }
}

/// A response as it comes in pieces, and the file in it: what is decided stays so whatever follows.
pub fn http(data: &[u8]) {
    let whole = http_::parse_response(data, false);
    for cut in (0..data.len()).rev().take(64).chain(0..data.len().min(64)) {
        match http_::parse_response(&data[..cut], false) {
            Ok(None) => {}
            decided => assert_eq!(decided, whole, "decided after {cut} bytes"),
        }
    }
    let closed = http_::parse_response(data, true);
    match (&whole, &closed) {
        (Ok(None), Ok(None)) => panic!("nothing more will come"),
        (Ok(None), _) => {}
        _ => assert_eq!(whole, closed, "what follows does not matter"),
    }
    if let Ok(Some(response)) = &closed {
        assert!(data.starts_with(b"HTTP/1."));
        assert!(
            response.status == 200 && response.body.len() <= 16 * 1024 || response.body.is_empty()
        );
        assert!((200..=999).contains(&response.status));
        check_cache_info(&response.body);
    }
    check_cache_info(data);
}

/// A cache says so in as many words.
fn check_cache_info(body: &[u8]) {
    if cache_info::parse(body) == Ok(CacheInfo::NixStore) {
        let text = str::from_utf8(body).unwrap();
        let says_so = |line: &str| {
            line.trim_ascii_start().strip_prefix("StoreDir").is_some_and(|rest| {
                rest.trim_ascii_start().strip_prefix(':').map(str::trim_ascii) == Some("/nix/store")
            })
        };
        assert!(text.lines().any(says_so));
    }
}
