//! DNS packets as servers make them, for tests.
#![allow(dead_code, reason = "no test needs all of it")]

use std::net::IpAddr;

/// Header flags of an ordinary answer: QR, RD, RA.
pub const ANSWER: u16 = 0x8180;
/// Header flags of a truncated answer.
pub const TRUNCATED: u16 = 0x8380;
/// Header flags of NXDOMAIN.
pub const NXDOMAIN: u16 = 0x8183;
/// Header flags of SERVFAIL.
pub const SERVFAIL: u16 = 0x8182;
/// Header flags of REFUSED.
pub const REFUSED: u16 = 0x8185;
/// Header flags of a multicast answer: QR, AA.
pub const MULTICAST: u16 = 0x8400;

/// A record: its owner in wire form, type, class, TTL and data.
pub struct Record {
    /// The owner's name.
    pub owner: Vec<u8>,
    /// The type code.
    pub kind: u16,
    /// The class.
    pub class: u16,
    /// Seconds to live.
    pub ttl: u32,
    /// The data.
    pub data: Vec<u8>,
}

/// A name in wire form.
pub fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// An address record.
pub fn address(owner: &[u8], address: IpAddr) -> Record {
    let (kind, data) = match address {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (28, v6.octets().to_vec()),
    };
    Record { owner: owner.to_vec(), kind, class: 1, ttl: 60, data }
}

/// An alias record.
pub fn alias(owner: &[u8], target: &[u8]) -> Record {
    Record { owner: owner.to_vec(), kind: 5, class: 1, ttl: 60, data: target.to_vec() }
}

/// A message with these header fields, one question in raw form, and records in the answer,
/// authority and additional sections.
pub fn message(id: u16, flags: u16, question: &[u8], sections: [&[Record]; 3]) -> Vec<u8> {
    let count = |records: &[Record]| u16::try_from(records.len()).unwrap();
    let mut packet = Vec::new();
    for field in [
        id,
        flags,
        u16::from(!question.is_empty()),
        count(sections[0]),
        count(sections[1]),
        count(sections[2]),
    ] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(question);
    for record in sections.into_iter().flatten() {
        packet.extend(&record.owner);
        packet.extend(record.kind.to_be_bytes());
        packet.extend(record.class.to_be_bytes());
        packet.extend(record.ttl.to_be_bytes());
        packet.extend(u16::try_from(record.data.len()).unwrap().to_be_bytes());
        packet.extend(&record.data);
    }
    packet
}

/// The answer to a query of ours: same id and question, these flags and records.
pub fn reply(query: &[u8], flags: u16, records: &[Record]) -> Vec<u8> {
    message(id_of(query), flags, &query[12..], [records, &[], &[]])
}

/// The id of a query.
pub fn id_of(query: &[u8]) -> u16 {
    u16::from_be_bytes([query[0], query[1]])
}

/// The type that a query with one question asks for.
pub fn type_of(query: &[u8]) -> u16 {
    let end = query.len() - 4;
    u16::from_be_bytes([query[end], query[end + 1]])
}

/// The questions of a message of ours, which compresses nothing: name in wire form, and type.
pub fn questions(query: &[u8]) -> Vec<(Vec<u8>, u16)> {
    let count = u16::from_be_bytes([query[4], query[5]]);
    let mut at = 12;
    (0..count)
        .map(|_| {
            let start = at;
            while query[at] != 0 {
                at += 1 + usize::from(query[at]);
            }
            at += 5;
            (query[start..at - 4].to_vec(), u16::from_be_bytes([query[at - 4], query[at - 3]]))
        })
        .collect()
}

/// Records of DNS-SD.
pub mod service {
    use super::Record;

    /// An instance of a type of service.
    pub fn pointer(owner: &[u8], target: &[u8]) -> Record {
        Record { owner: owner.to_vec(), kind: 12, class: 1, ttl: 60, data: target.to_vec() }
    }

    /// Where an instance is.
    pub fn place(owner: &[u8], priority: u16, weight: u16, port: u16, target: &[u8]) -> Record {
        let mut data = [priority, weight, port].map(u16::to_be_bytes).concat();
        data.extend(target);
        Record { owner: owner.to_vec(), kind: 33, class: 1, ttl: 60, data }
    }

    /// What else is to be known of it.
    pub fn text(owner: &[u8], strings: &[Vec<u8>]) -> Record {
        let with_length =
            |string: &Vec<u8>| [&[u8::try_from(string.len()).unwrap()][..], string].concat();
        let data = strings.iter().flat_map(with_length).collect();
        Record { owner: owner.to_vec(), kind: 16, class: 1, ttl: 60, data }
    }
}
