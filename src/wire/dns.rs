//! DNS messages: unicast (RFC 1035) and multicast (RFC 6762).
//!
//! The same few lines read both: a question is composed, and an answer is reduced to what the
//! search needs, the addresses of one name. No EDNS, no 0x20, no ANY.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use super::message::RecordType;
pub use super::name::Name;

use super::message::{CLASS_INTERNET, Data, HEADER_LENGTH, Header, Record};
use super::name::read_name;
use super::{Malformed, be16};

/// CNAME hops followed within one answer section; more is a loop or an attack.
const CNAME_HOPS_MAX: usize = 16;
/// Bytes of a unicast answer in one datagram. Without EDNS 512 are allowed (RFC 1035 §2.3.4); this
/// is what servers send at most to those who allow more (RFC 6891 §6.2.5).
const DATAGRAM_MAX: usize = 4096;
/// Bytes of a multicast DNS message. RFC 6762 §17.
const MULTICAST_MAX: usize = 9000;
/// Addresses taken from one message: more than any honest cache has.
pub const ADDRESSES_MAX: usize = 16;
/// The port of DNS. RFC 1035 §4.2.
pub const DNS_PORT: u16 = 53;
/// The port of multicast DNS. RFC 6762 §3.
pub const MDNS_PORT: u16 = 5353;
/// The IPv4 group of multicast DNS. RFC 6762 §3.
pub const MDNS_GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The IPv6 group of multicast DNS. RFC 6762 §3.
pub const MDNS_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// Header bit: the message was cut to fit its transport. RFC 1035 §4.1.1.
const FLAG_TRUNCATED: u16 = 0x0200;
/// Header bit: please ask others on our behalf. RFC 1035 §4.1.1.
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
/// Header bits of the response code. RFC 1035 §4.1.1.
const RCODE_MASK: u16 = 0x000f;
/// `NXDOMAIN`. RFC 1035 §4.1.1.
const RCODE_NO_SUCH_NAME: u16 = 3;
/// Multicast only: the top bit of a record's class tells receivers to flush. RFC 6762 §10.2.
const CACHE_FLUSH: u16 = 0x8000;
/// What one server says of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The addresses of the name, aliases followed.
    Addresses(Vec<IpAddr>),
    /// A message with records of a type that holds no address.
    Records(Vec<u8>),
    /// Nothing, and this is why.
    Denied(Denial),
    /// The answer did not fit; ask the same server over TCP. RFC 7766 §5.
    Truncated,
}

/// Why a server gives nothing, what it says of the name first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// There is no such name: `NXDOMAIN`.
    NoSuchName,
    /// The name has no record of this type.
    NoRecord(RecordType),
    /// It refuses, has failed, or makes no sense.
    Failed,
    /// It could not be asked: no route, or nobody listens.
    Unreachable,
}

/// A question for `name` with one entry for each of `types`, ready to send.
///
/// `recursive` is for unicast DNS; a multicast question has no flags (RFC 6762 §18).
#[must_use]
pub fn compose_question(id: u16, recursive: bool, name: &Name, types: &[RecordType]) -> Vec<u8> {
    compose_questions(id, recursive, &[&name.0], types)
}

/// The same for several names in wire form, each with all of `types`.
#[must_use]
pub fn compose_questions(
    id: u16,
    recursive: bool,
    names: &[&[u8]],
    types: &[RecordType],
) -> Vec<u8> {
    let flags = if recursive { FLAG_RECURSION_DESIRED } else { 0 };
    let mut packet = Vec::new();
    #[expect(clippy::cast_possible_truncation, reason = "four names, two types at most")]
    for field in [id, flags, (names.len() * types.len()) as u16, 0, 0, 0] {
        packet.extend_from_slice(&field.to_be_bytes());
    }
    for name in names {
        for kind in types {
            packet.extend_from_slice(name);
            packet.extend_from_slice(&(*kind as u16).to_be_bytes());
            packet.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
        }
    }
    packet
}

/// Reads a unicast answer in one datagram to the question `id`, `name`, `kind`.
///
/// # Errors
/// `Malformed` for anything that does not answer this question: then keep listening.
pub fn parse_datagram(
    packet: &[u8],
    id: u16,
    name: &Name,
    kind: RecordType,
) -> Result<Reply, Malformed> {
    if packet.len() > DATAGRAM_MAX {
        return Err(Malformed);
    }
    parse_reply(packet, id, name, kind)
}

/// Reads a unicast answer, whatever carried it, to the question `id`, `name`, `kind`.
///
/// # Errors
/// `Malformed` for anything that does not answer this question.
pub fn parse_reply(
    packet: &[u8],
    id: u16,
    name: &Name,
    kind: RecordType,
) -> Result<Reply, Malformed> {
    let header = Header::parse(packet)?;
    if header.id != id {
        return Err(Malformed);
    }
    let rcode = header.flags & RCODE_MASK;
    let mut at = HEADER_LENGTH;
    match header.questions {
        // Some servers refuse with a bare header: FORMERR, SERVFAIL, NOTIMP, REFUSED.
        0 if matches!(rcode, 1 | 2 | 4 | 5) => return Ok(Reply::Denied(Denial::Failed)),
        1 => {
            let (asked, after) = read_name(packet, at)?;
            let same = asked == *name
                && be16(packet, after)? == kind as u16
                && be16(packet, after + 2)? == CLASS_INTERNET;
            if !same {
                return Err(Malformed);
            }
            at = after + 4;
        }
        _ => return Err(Malformed),
    }
    if header.flags & FLAG_TRUNCATED != 0 {
        return Ok(Reply::Truncated);
    }
    if rcode != 0 {
        let no_such_name = rcode == RCODE_NO_SUCH_NAME;
        return Ok(Reply::Denied(if no_such_name { Denial::NoSuchName } else { Denial::Failed }));
    }
    let nothing = Reply::Denied(Denial::NoRecord(kind));
    if !matches!(kind, RecordType::A | RecordType::Aaaa) {
        let has_some = header.answers != 0;
        return Ok(if has_some { Reply::Records(packet.to_vec()) } else { nothing });
    }
    let mut known = Vec::new();
    for _ in 0..header.answers {
        let record = Record::read(packet, &mut at)?;
        if let Some(data) = record.unicast_data(packet, kind)? {
            known.push((record.owner, data));
        }
    }
    let addresses = follow(&known, name)?;
    Ok(if addresses.is_empty() { nothing } else { Reply::Addresses(addresses) })
}

/// Reads a multicast DNS answer: every address it gives for `name`.
///
/// `id` is the question's for an answer sent to us alone, which must then repeat our question or
/// none; `None` for a multicast one, where both are ignored (RFC 6762 §6, §18.1). Records count in
/// the Answer and Additional sections, and not when they say goodbye with a TTL of zero (§10.1).
///
/// # Errors
/// `Malformed` when it is not an answer, or not to us, or breaks off.
pub fn parse_multicast(
    packet: &[u8],
    name: &Name,
    id: Option<u16>,
) -> Result<Vec<IpAddr>, Malformed> {
    let is_asked = |asked: &Name| id.is_none() || asked == name;
    let mut addresses = Vec::new();
    for_each_record(packet, Medium::Multicast(id), &is_asked, &mut |record| {
        if record.owner == *name
            && let Some(address) = record.address()?
        {
            push_address(&mut addresses, address);
        }
        Ok(())
    })?;
    Ok(addresses)
}

/// How an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// In the answer of a server that was asked, which has been found to answer its question.
    Server,
    /// By multicast DNS: to everybody, or to us alone with the id of our question.
    Multicast(Option<u16>),
}

/// Hands every record of an answer that counts to `each`: those in its Answer and Additional
/// sections, and by multicast only those that do not say goodbye with a TTL of zero (RFC 6762 §10.1).
pub(super) fn for_each_record(
    packet: &[u8],
    medium: Medium,
    is_asked: &dyn Fn(&Name) -> bool,
    each: &mut dyn FnMut(&Record) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let header = Header::parse(packet)?;
    if let Medium::Multicast(id) = medium
        && (packet.len() > MULTICAST_MAX || id.is_some_and(|id| id != header.id))
    {
        return Err(Malformed);
    }
    let mut at = HEADER_LENGTH;
    for _ in 0..header.questions {
        let (asked, after) = read_name(packet, at)?;
        if !is_asked(&asked) {
            return Err(Malformed);
        }
        at = after + 4;
    }
    let authorities = header.answers..header.answers + header.authorities;
    for number in 0..authorities.end + header.additionals {
        let record = Record::read(packet, &mut at)?;
        if (record.ttl != 0 || medium == Medium::Server)
            && record.class & !CACHE_FLUSH == CLASS_INTERNET
            && !authorities.contains(&number)
        {
            each(&record)?;
        }
    }
    Ok(())
}

/// The addresses that the chain of aliases starting at `name` ends in, records in any order.
fn follow(known: &[(Name, Data)], name: &Name) -> Result<Vec<IpAddr>, Malformed> {
    let mut current = name;
    for _ in 0..=CNAME_HOPS_MAX {
        let mut addresses = Vec::new();
        let mut alias = None;
        for (_, data) in known.iter().filter(|(owner, _)| owner == current) {
            match data {
                Data::Address(address) => push_address(&mut addresses, *address),
                Data::Alias(target) => alias = Some(target),
            }
        }
        match alias {
            Some(target) if addresses.is_empty() => current = target,
            _ => return Ok(addresses),
        }
    }
    Err(Malformed)
}

/// Adds an address that is new, up to the bound.
fn push_address(addresses: &mut Vec<IpAddr>, address: IpAddr) {
    if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
        addresses.push(address);
    }
}
