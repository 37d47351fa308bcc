//! The codecs against what others send, and against everything else.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::unnecessary_wraps,
    reason = "a test may fail"
)]

mod support;

use cache_resolver::wire::dns::{
    Denial, Medium, Name, RecordType, Reply, compose_question, compose_questions, parse_datagram,
    parse_multicast, parse_reply,
};
use cache_resolver::wire::service::{Fact, Place, for_each_fact, value_of};
use cache_resolver::wire::{Malformed, arp, cache_info, http, icmp, ip, netlink};
use proptest::prelude::*;
use support::{
    ANSWER, MULTICAST, NXDOMAIN, REFUSED, Record, SERVFAIL, TRUNCATED, address, alias, message,
    name, questions, reply, service,
};

/// The name that is asked for.
fn host() -> Name {
    Name::from_text("waterbug.lan").unwrap()
}

/// A question for the name's A record.
fn query() -> Vec<u8> {
    compose_question(0x1234, true, &host(), &[RecordType::A])
}

/// What our parser makes of a packet.
fn parse(packet: &[u8]) -> Result<Reply, Malformed> {
    parse_reply(packet, 0x1234, &host(), RecordType::A)
}

/// An answer with one or more addresses.
fn addresses(texts: &[&str]) -> Result<Reply, Malformed> {
    Ok(Reply::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect()))
}

#[test]
fn a_query_is_what_the_rfc_draws() {
    assert_eq!(query(), b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x08waterbug\x03lan\0\0\x01\0\x01");
}

#[test]
fn answers_are_understood() {
    let (host, target) = (name("waterbug.lan"), name("hive.lan"));
    let cache = || address(&host, [10, 0, 8, 141].into());
    let hive = || address(&target, [10, 0, 8, 142].into());
    let pointer = b"\xc0\x0c".to_vec();
    let nothing = Reply::Denied(Denial::NoRecord(RecordType::A));
    for (flags, records, expected) in [
        (ANSWER, vec![cache()], addresses(&["10.0.8.141"])),
        (ANSWER, vec![Record { owner: pointer, ..cache() }], addresses(&["10.0.8.141"])),
        (
            ANSWER,
            vec![cache(), cache(), address(&host, [10, 0, 8, 9].into())],
            addresses(&["10.0.8.141", "10.0.8.9"]),
        ),
        (ANSWER, vec![alias(&host, &target), hive()], addresses(&["10.0.8.142"])),
        (ANSWER, vec![hive(), alias(&host, &target)], addresses(&["10.0.8.142"])),
        (ANSWER, vec![alias(&host, &target), cache()], addresses(&["10.0.8.141"])),
        (
            ANSWER,
            vec![Record { owner: name("WATERBUG.lan"), ..cache() }],
            addresses(&["10.0.8.141"]),
        ),
        (ANSWER, vec![], Ok(nothing.clone())),
        (ANSWER, vec![hive()], Ok(nothing.clone())),
        (ANSWER, vec![Record { class: 3, ..cache() }], Ok(nothing.clone())),
        (ANSWER, vec![Record { class: 0x8001, ..cache() }], Ok(nothing.clone())),
        (
            ANSWER,
            vec![Record { class: 0x8001, ..alias(&host, &target) }, hive()],
            Ok(nothing.clone()),
        ),
        (
            ANSWER,
            vec![alias(&host, &target), Record { class: 0x8001, ..hive() }],
            Ok(nothing.clone()),
        ),
        (ANSWER, vec![address(&host, "fd00::1".parse().unwrap())], Ok(nothing.clone())),
        (ANSWER, vec![alias(&host, &host)], Err(Malformed)),
        (ANSWER, vec![alias(&host, &target), alias(&target, &host)], Err(Malformed)),
        (ANSWER, vec![Record { data: vec![10, 0, 8], ..cache() }], Err(Malformed)),
        (ANSWER, vec![Record { data: vec![], ..cache() }], Err(Malformed)),
        (NXDOMAIN, vec![], Ok(Reply::Denied(Denial::NoSuchName))),
        (SERVFAIL, vec![], Ok(Reply::Denied(Denial::Failed))),
        (REFUSED, vec![], Ok(Reply::Denied(Denial::Failed))),
        (TRUNCATED, vec![], Ok(Reply::Truncated)),
        (TRUNCATED, vec![cache()], Ok(Reply::Truncated)),
        (ANSWER & !0x8000, vec![cache()], Err(Malformed)),
        (ANSWER | 0x0800, vec![cache()], Err(Malformed)),
    ] {
        let packet = reply(&query(), flags, &records);
        assert_eq!(parse(&packet), expected, "{flags:#x} {packet:x?}");
    }
    // What others read is handed on whole.
    let query = compose_question(0x1234, true, &self::host(), &[RecordType::Txt]);
    let parse = |packet: &[u8]| parse_reply(packet, 0x1234, &self::host(), RecordType::Txt);
    let packet = reply(&query, ANSWER, &[cache()]);
    assert_eq!(parse(&packet), Ok(Reply::Records(packet.clone())));
    let nothing = Reply::Denied(Denial::NoRecord(RecordType::Txt));
    assert_eq!(parse(&reply(&query, ANSWER, &[])), Ok(nothing));
}

#[test]
fn what_does_not_answer_our_question_is_dropped() {
    let host = name("waterbug.lan");
    let cache = [address(&host, [10, 0, 8, 141].into())];
    let question = query()[12..].to_vec();
    let with_end = |end: &[u8]| [&host[..], end].concat();
    for (id, question) in [
        (0x1235, question.clone()),
        (0x1234, [name("waterbug.lam"), vec![0, 1, 0, 1]].concat()),
        (0x1234, with_end(&[0, 28, 0, 1])),
        (0x1234, with_end(&[0, 1, 0, 3])),
        (0x1234, with_end(&[0, 1, 0x80, 1])),
        (0x1234, vec![]),
    ] {
        let packet = message(id, ANSWER, &question, [&cache, &[], &[]]);
        assert_eq!(parse(&packet), Err(Malformed), "{id:#x} {question:x?}");
    }
    for (flags, expected) in
        [(REFUSED, Ok(Reply::Denied(Denial::Failed))), (ANSWER, Err(Malformed))]
    {
        assert_eq!(parse(&message(0x1234, flags, &[], [&[], &[], &[]])), expected, "bare header");
    }
}

#[test]
fn multicast_answers_are_understood() {
    let local = name("waterbug.local");
    let wanted = Name::from_text("waterbug.local").unwrap();
    let v4 = Record { class: 0x8001, ..address(&local, [10, 0, 8, 141].into()) };
    let v6 = address(&local, "fe80::1".parse().unwrap());
    let other = address(&name("hive.local"), [10, 0, 8, 142].into());
    let goodbye = Record { ttl: 0, ..address(&local, [10, 0, 8, 143].into()) };
    let sections: [&[Record]; 3] =
        [&[other, v4], &[address(&local, [6, 6, 6, 6].into())], &[v6, goodbye]];
    let packet = message(7, MULTICAST, &[], sections);
    let found: Vec<std::net::IpAddr> = vec![[10, 0, 8, 141].into(), "fe80::1".parse().unwrap()];
    let foreign_class = Record { class: 0x8003, ..address(&local, [10, 0, 8, 144].into()) };
    let nobody = message(7, MULTICAST, &[], [&[foreign_class], &[], &[]]);
    assert_eq!(parse_multicast(&nobody, &wanted, None), Ok(vec![]), "class CH, flush");
    for id in [None, Some(7)] {
        assert_eq!(parse_multicast(&packet, &wanted, id), Ok(found.clone()), "{id:?}");
    }
    assert_eq!(parse_multicast(&packet, &wanted, Some(8)), Err(Malformed), "not our id");
    let question = [name("hive.local"), vec![0, 1, 0, 1]].concat();
    let foreign = message(7, MULTICAST, &question, sections);
    assert_eq!(parse_multicast(&foreign, &wanted, Some(7)), Err(Malformed), "not our question");
    assert_eq!(parse_multicast(&foreign, &wanted, None), Ok(found), "multicast: no matter");
    for cut in 0..packet.len() {
        assert_eq!(parse_multicast(&packet[..cut], &wanted, None), Err(Malformed), "cut at {cut}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    let (host, target) = (name("waterbug.lan"), name("hive.lan"));
    let records = [alias(&host, &target), address(&target, [10, 0, 8, 142].into())];
    let packet = reply(&query(), ANSWER, &records);
    for cut in 0..packet.len() {
        assert_eq!(parse(&packet[..cut]), Err(Malformed), "cut at {cut}");
    }
}

#[test]
fn counts_that_lie_cost_nothing() {
    let mut packet = reply(&query(), ANSWER, &[]);
    packet[6..12].fill(0xff);
    assert_eq!(parse(&packet), Err(Malformed));
    // A chain of aliases longer than anybody's.
    let names: Vec<_> = (0..40).map(|hop| name(&format!("hop{hop}.lan"))).collect();
    let mut records = vec![alias(&name("waterbug.lan"), &names[0])];
    records.extend(names.windows(2).map(|pair| alias(&pair[0], &pair[1])));
    records.push(address(&names[39], [10, 0, 0, 1].into()));
    assert_eq!(parse(&reply(&query(), ANSWER, &records)), Err(Malformed));
    let many: Vec<_> =
        (0..=255).map(|host| address(&name("waterbug.lan"), [10, 0, 0, host].into())).collect();
    let Ok(Reply::Addresses(taken)) = parse(&reply(&query(), ANSWER, &many)) else {
        unreachable!()
    };
    assert_eq!(taken.len(), 16);
}

#[test]
fn messages_have_their_limits() {
    let cache = || address(&name("waterbug.lan"), [10, 0, 8, 141].into());
    let found: Vec<std::net::IpAddr> = vec![[10, 0, 8, 141].into()];
    for (count, is_good) in [(256, true), (257, false)] {
        let records: Vec<_> = (0..count).map(|_| cache()).collect();
        let expected = if is_good { addresses(&["10.0.8.141"]) } else { Err(Malformed) };
        assert_eq!(parse(&reply(&query(), ANSWER, &records)), expected, "{count} answers");
        for split in [1, 100, 256] {
            let (answers, rest) = records.split_at(split);
            let (authorities, additionals) = rest.split_at(rest.len() / 2);
            let sections = [answers, authorities, additionals];
            let packet = message(7, MULTICAST, &[], sections);
            let expected = if is_good { Ok(found.clone()) } else { Err(Malformed) };
            assert_eq!(parse_multicast(&packet, &host(), None), expected, "{count}, {split}");
        }
        let mut questions = message(7, MULTICAST, &[], [&[], &[], &[]]);
        questions[4..6].copy_from_slice(&u16::try_from(count).unwrap().to_be_bytes());
        questions.extend([0; 5].repeat(count));
        let expected = if is_good { Ok(vec![]) } else { Err(Malformed) };
        assert_eq!(parse_multicast(&questions, &host(), None), expected, "{count} questions");
    }
    let padded = |size: usize, query: &[u8]| {
        let bare = reply(query, ANSWER, &[cache(), Record { kind: 16, data: vec![], ..cache() }]);
        let padding = Record { kind: 16, data: vec![0; size - bare.len()], ..cache() };
        reply(query, ANSWER, &[cache(), padding])
    };
    for (size, is_good) in [(4096, true), (4097, false)] {
        let packet = padded(size, &query());
        assert_eq!(packet.len(), size);
        let by_datagram = parse_datagram(&packet, 0x1234, &host(), RecordType::A);
        let expected = addresses(&["10.0.8.141"]);
        assert_eq!(parse(&packet), expected, "{size} bytes over TCP");
        assert_eq!(by_datagram, if is_good { expected } else { Err(Malformed) }, "{size} bytes");
    }
    for (size, is_good) in [(9000, true), (9001, false)] {
        let answer = parse_multicast(&padded(size, &query()), &host(), None);
        assert_eq!(
            answer,
            if is_good { Ok(found.clone()) } else { Err(Malformed) },
            "{size} bytes"
        );
    }
}

#[test]
fn names_behind_pointers_have_their_limits() {
    let after_question = query().len();
    // The data of the first record holds pointers: the first to the question's name, each other to
    // the one before it. The last owns the address.
    let answer = |hops: usize| {
        let at = after_question + 1 + 10;
        let pointer = |to: usize| u16::try_from(0xc000 | to).unwrap().to_be_bytes();
        let chain = (0..hops).map(|hop| pointer(if hop == 0 { 12 } else { at + 2 * (hop - 1) }));
        let chain: Vec<u8> = chain.flatten().collect();
        let owner = pointer(at + chain.len() - 2).to_vec();
        let text = Record { owner: vec![0], kind: 16, class: 1, ttl: 60, data: chain };
        let cache = Record { owner, ..address(&[], [10, 0, 8, 141].into()) };
        reply(&query(), ANSWER, &[text, cache])
    };
    for (hops, expected) in [
        (1, addresses(&["10.0.8.141"])),
        (15, addresses(&["10.0.8.141"])),
        (16, Err(Malformed)),
        (8000, Err(Malformed)),
    ] {
        assert_eq!(parse(&answer(hops)), expected, "{hops} and the owner's own");
    }
    let packet = answer(15);
    for cut in 0..packet.len() {
        assert_eq!(parse(&packet[..cut]), Err(Malformed), "cut at {cut}");
    }
    // The owner begins where an alias's target points to, and ends behind it.
    let target = u16::try_from(0xc000 | (after_question + 2 + 10)).unwrap().to_be_bytes();
    let swallowing = [&[3, b'l', b'a', b'n'][..], &target, &[0]].concat();
    let records = [Record {
        owner: vec![0xc0, 12],
        kind: 5,
        class: 1,
        ttl: 60,
        data: [&[4][..], &swallowing].concat(),
    }];
    assert_eq!(parse(&reply(&query(), ANSWER, &records)), Err(Malformed));
}

/// What an answer says of services, a line each.
fn facts(packet: &[u8], medium: Medium) -> Result<Vec<String>, Malformed> {
    let mut lines = Vec::new();
    for_each_fact(packet, medium, &mut |_, fact| {
        lines.push(match fact {
            Fact::Instance(instance) => format!("instance {instance:?}"),
            Fact::Place(Place { rank, port, target }) => format!("{rank:x} {port} {target:?}"),
            Fact::Text(text) => format!("text {}", text.escape_ascii()),
            Fact::Address(address) => address.to_string(),
        });
    })?;
    Ok(lines)
}

/// An instance as avahi and people call them, with the bytes that a label may hold.
fn instance() -> Vec<u8> {
    b"\x18Nix\\ Cache v1.0 on h\xc3\xafve".to_vec()
}

#[test]
fn services_are_understood() {
    let kind = name("_nix-cache._tcp.local");
    let owner = [&instance()[..], &kind].concat();
    let host = name("HIVE.local");
    let records = [service::pointer(&kind, &owner)];
    let additionals = [
        service::place(&owner, 1, 2, 5000, &host),
        service::text(&owner, &[b"path=/nix".to_vec(), vec![]]),
        address(&host, [10, 0, 8, 141].into()),
        alias(&host, &host),
        Record { ttl: 0, ..service::place(&owner, 0, 0, 1, &host) },
        Record { class: 3, ..service::place(&owner, 0, 0, 2, &host) },
    ];
    let authorities = [service::place(&owner, 0, 0, 3, &host)];
    let packet = message(7, MULTICAST, &[], [&records, &authorities, &additionals]);
    let mut owners = Vec::new();
    for_each_fact(&packet, Medium::Multicast(None), &mut |owner, _| owners.push(owner.clone()))
        .unwrap();
    assert!(owners[1].is_child_of(&name("_nix-cache._tcp.local")), "a label holds dots and spaces");
    assert!(
        !owners[0].is_child_of(&name("_nix-cache._tcp.local"))
            && owners[0].is_child_of(&name("_tcp.local"))
    );
    assert!(
        !Name::from_text("a.b._nix-cache._tcp.local")
            .unwrap()
            .is_child_of(&name("_nix-cache._tcp.local"))
    );
    let lines = facts(&packet, Medium::Multicast(Some(7))).unwrap();
    assert_eq!(lines.len(), 4, "no goodbye, no other class, no authority: {lines:?}");
    assert!(lines[1].starts_with("1fffd 5000 "), "{lines:?}");
    assert_eq!(lines[2..], ["text \\tpath=/nix\\x00", "10.0.8.141"]);
    assert_eq!(facts(&packet, Medium::Multicast(Some(8))), Err(Malformed), "not our id");
    assert_eq!(facts(&packet, Medium::Server).unwrap().len(), 5, "a server's TTL may be zero");
    for cut in 0..packet.len() {
        for medium in [Medium::Multicast(None), Medium::Server] {
            assert_eq!(facts(&packet[..cut], medium), Err(Malformed), "cut at {cut}");
        }
    }
}

/// What avahi and others stumbled over: empty data, data that ends early or late, loops.
#[test]
fn services_with_broken_data_are_dropped() {
    let kind = name("_nix-cache._tcp.local");
    let owner = [&instance()[..], &kind].concat();
    let place = || service::place(&owner, 0, 0, 5000, &name("hive.local"));
    let with = |kind, data: &[u8]| Record { kind, data: data.to_vec(), ..place() };
    let to_itself = u16::try_from(0xc000 | (12 + owner.len() + 10)).unwrap().to_be_bytes();
    for (record, is_good) in [
        (place(), true),
        (with(16, &[]), true),
        (with(16, b"\xff"), true),
        (with(12, &[]), false),
        (with(12, &to_itself), false),
        (with(12, b"\x01a\0\0"), false),
        (with(33, &[]), false),
        (with(33, &[0; 6]), false),
        (with(33, &[0; 7]), true),
        (with(33, &[0; 8]), false),
        (with(33, b"\0\0\0\0\0\x50\x40a\0"), false),
        (with(1, &[]), false),
        (with(28, &[0; 4]), false),
        (with(5, &to_itself), true),
        (with(47, &[0; 300]), true),
    ] {
        let packet = message(0, MULTICAST, &[], [&[record], &[], &[]]);
        assert_eq!(facts(&packet, Medium::Multicast(None)).is_ok(), is_good, "{packet:x?}");
    }
    let many: Vec<_> = (0..257).map(|_| place()).collect();
    let packet = message(0, MULTICAST, &[], [&many, &[], &[]]);
    assert_eq!(facts(&packet, Medium::Multicast(None)), Err(Malformed), "too many");
    let text = service::text(&owner, &vec![vec![b'x'; 255]; 36]);
    let packet = message(0, MULTICAST, &[], [&[text], &[], &[]]);
    assert_eq!(facts(&packet, Medium::Multicast(None)), Err(Malformed), "too long");
}

#[test]
fn a_question_has_several_names() {
    let names = [name("a.local"), name("_b._tcp.local")];
    let packet = compose_questions(7, false, &[&names[0], &names[1]], &[RecordType::Ptr]);
    let expected = [names[0].clone(), names[1].clone()].map(|name| (name, 12));
    assert_eq!(questions(&packet), expected);
    assert_eq!(packet[..12], [0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No input makes a parser panic, and a valid packet with a few bytes changed neither.
    #[test]
    fn nothing_panics(noise in prop::collection::vec(any::<u8>(), 0..600),
                      changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let host_name = name("waterbug.lan");
        let records = [alias(&host_name, &name("hive.lan")), address(&name("hive.lan"), [10, 0, 0, 1].into())];
        let mut packet = reply(&query(), ANSWER, &records);
        for (index, value) in changes {
            let at = index.index(packet.len());
            packet[at] = value;
        }
        for bytes in [&packet, &noise] {
            let _ = parse(bytes);
            let _ = parse_datagram(bytes, 0x1234, &host(), RecordType::A);
            let _ = parse_multicast(bytes, &host(), None);
            let _ = facts(bytes, Medium::Server);
            let _ = value_of(bytes, "path");
            let _ = http::parse_response(bytes, true);
            let _ = http::parse_response(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat(), false);
            let _ = cache_info::parse(bytes);
            let _ = ip::parse(bytes).map(|packet| ip::parse_udp(packet.payload));
            let _ = arp::parse_reply(bytes);
            let _ = icmp::parse_reply(true, bytes);
            let _ = netlink::parse_messages(bytes);
        }
    }
}
