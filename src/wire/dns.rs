//! DNS messages: unicast (RFC 1035) and multicast (RFC 6762).
//!
//! The same few lines read both: a question is composed, and an answer is reduced to what the
//! search needs, the addresses of one name. No EDNS, no 0x20, no ANY.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Malformed, array, be16, slice};

/// Bytes of the fixed header. RFC 1035 §4.1.1.
const HEADER_LENGTH: usize = 12;
/// Bytes of a name in wire form, the final zero included. RFC 1035 §3.1.
const NAME_MAX: usize = 255;
/// Bytes of one label. RFC 1035 §3.1.
const LABEL_MAX: usize = 63;
/// CNAME hops followed within one answer section; more is a loop or an attack.
const CNAME_HOPS_MAX: usize = 16;
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

/// Header bit: this is a response. RFC 1035 §4.1.1.
const FLAG_RESPONSE: u16 = 0x8000;
/// Header bits of the opcode. RFC 1035 §4.1.1.
const OPCODE_MASK: u16 = 0x7800;
/// Header bit: the message was cut to fit its transport. RFC 1035 §4.1.1.
const FLAG_TRUNCATED: u16 = 0x0200;
/// Header bit: please ask others on our behalf. RFC 1035 §4.1.1.
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
/// Header bits of the response code. RFC 1035 §4.1.1.
const RCODE_MASK: u16 = 0x000f;
/// The class of the Internet. RFC 1035 §3.2.4.
const CLASS_INTERNET: u16 = 1;
/// Multicast only: the top bit of a record's class tells receivers to flush. RFC 6762 §10.2.
const CACHE_FLUSH: u16 = 0x8000;
/// Type of an alias record. RFC 1035 §3.2.2.
const TYPE_CNAME: u16 = 5;

/// The two record types that hold an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordType {
    /// An IPv4 address, four bytes. RFC 1035 §3.4.1.
    A = 1,
    /// An IPv6 address, sixteen bytes. RFC 3596 §2.2.
    Aaaa = 28,
}

/// A domain name in uncompressed wire form, lower case, with the root's zero byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// The name spelt `text`, with or without a final dot.
    ///
    /// # Errors
    /// `Malformed` for an empty label, a label over 63 bytes or a name over 255.
    pub fn from_text(text: &str) -> Result<Self, Malformed> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut bytes = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            if label.is_empty() || label.len() > LABEL_MAX {
                return Err(Malformed);
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most LABEL_MAX")]
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        bytes.push(0);
        if bytes.len() > NAME_MAX {
            return Err(Malformed);
        }
        Ok(Self(bytes))
    }
}

/// What one server says of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The addresses of the name, aliases followed.
    Addresses(Vec<IpAddr>),
    /// Nothing here: no such name, no such type, refused, or the server failed.
    Nothing,
    /// The answer did not fit; ask the same server over TCP. RFC 7766 §5.
    Truncated,
}

/// A question for `name` with one entry for each of `types`, ready to send.
///
/// `recursive` is for unicast DNS; a multicast question has no flags (RFC 6762 §18).
#[must_use]
pub fn compose_question(id: u16, recursive: bool, name: &Name, types: &[RecordType]) -> Vec<u8> {
    let flags = if recursive { FLAG_RECURSION_DESIRED } else { 0 };
    let mut packet = Vec::with_capacity(HEADER_LENGTH + types.len() * (name.0.len() + 4));
    #[expect(clippy::cast_possible_truncation, reason = "two types at most")]
    for field in [id, flags, types.len() as u16, 0, 0, 0] {
        packet.extend_from_slice(&field.to_be_bytes());
    }
    for kind in types {
        packet.extend_from_slice(&name.0);
        packet.extend_from_slice(&(*kind as u16).to_be_bytes());
        packet.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    }
    packet
}

/// Reads a unicast answer to the question `id`, `name`, `kind`.
///
/// # Errors
/// `Malformed` for anything that does not answer this question: then keep listening.
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
        0 if matches!(rcode, 1 | 2 | 4 | 5) => return Ok(Reply::Nothing),
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
        return Ok(Reply::Nothing);
    }
    let (records, _) = read_records(packet, at, header.answers)?;
    let addresses = follow(packet, &records, name, kind)?;
    Ok(if addresses.is_empty() { Reply::Nothing } else { Reply::Addresses(addresses) })
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
    let header = Header::parse(packet)?;
    if id.is_some_and(|id| id != header.id) {
        return Err(Malformed);
    }
    let mut at = HEADER_LENGTH;
    for _ in 0..header.questions {
        let (asked, after) = read_name(packet, at)?;
        if id.is_some() && asked != *name {
            return Err(Malformed);
        }
        at = after + 4;
    }
    let (mut records, after) = read_records(packet, at, header.answers)?;
    let (_, after) = read_records(packet, after, header.authorities)?;
    let (additional, _) = read_records(packet, after, header.additionals)?;
    records.extend(additional);
    let mut addresses = Vec::new();
    for record in &records {
        if record.ttl == 0 || record.owner != *name {
            continue;
        }
        if let Some(address) = record.address(packet, None)? {
            push_address(&mut addresses, address);
        }
    }
    Ok(addresses)
}

/// The fixed header of a response. RFC 1035 §4.1.1.
struct Header {
    /// Repeats the question's.
    id: u16,
    /// QR, opcode, TC, RCODE and others.
    flags: u16,
    /// Entries in each section, as claimed.
    questions: u16,
    /// Records in the Answer section, as claimed.
    answers: u16,
    /// Records in the Authority section, as claimed.
    authorities: u16,
    /// Records in the Additional section, as claimed.
    additionals: u16,
}

impl Header {
    /// The header of `packet` if it is a response to an ordinary query.
    fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let header = Self {
            id: be16(packet, 0)?,
            flags: be16(packet, 2)?,
            questions: be16(packet, 4)?,
            answers: be16(packet, 6)?,
            authorities: be16(packet, 8)?,
            additionals: be16(packet, 10)?,
        };
        if header.flags & FLAG_RESPONSE == 0 || header.flags & OPCODE_MASK != 0 {
            return Err(Malformed);
        }
        Ok(header)
    }
}

/// One resource record; its data stays in the packet. RFC 1035 §4.1.3.
struct Record {
    /// The name it is about.
    owner: Name,
    /// Its type code.
    kind: u16,
    /// Its class, the cache-flush bit masked.
    class: u16,
    /// Seconds it may be kept.
    ttl: u32,
    /// Where its data starts in the packet.
    data_at: usize,
    /// Bytes of its data.
    data_length: usize,
}

impl Record {
    /// The address in this record; `None` where it holds none (of the `wanted` type).
    fn address(
        &self,
        packet: &[u8],
        wanted: Option<RecordType>,
    ) -> Result<Option<IpAddr>, Malformed> {
        let is = |kind: RecordType| {
            self.kind == kind as u16 && wanted.is_none_or(|wanted| wanted == kind)
        };
        let data = slice(packet, self.data_at, self.data_length)?;
        if self.class != CLASS_INTERNET {
            Ok(None)
        } else if is(RecordType::A) {
            let octets: [u8; 4] = data.try_into().map_err(|_| Malformed)?;
            Ok(Some(IpAddr::from(octets)))
        } else if is(RecordType::Aaaa) {
            let octets: [u8; 16] = data.try_into().map_err(|_| Malformed)?;
            Ok(Some(IpAddr::from(octets)))
        } else {
            Ok(None)
        }
    }
}

/// Reads `count` records from `at`; the packet's end, not the count, bounds the work.
fn read_records(
    packet: &[u8],
    mut at: usize,
    count: u16,
) -> Result<(Vec<Record>, usize), Malformed> {
    let mut records = Vec::new();
    for _ in 0..count {
        let (owner, after) = read_name(packet, at)?;
        let data_length = usize::from(be16(packet, after + 8)?);
        let record = Record {
            owner,
            kind: be16(packet, after)?,
            class: be16(packet, after + 2)? & !CACHE_FLUSH,
            ttl: u32::from_be_bytes(array(packet, after + 4)?),
            data_at: after + 10,
            data_length,
        };
        at = record.data_at + data_length;
        if at > packet.len() {
            return Err(Malformed);
        }
        records.push(record);
    }
    Ok((records, at))
}

/// The addresses that the chain of aliases starting at `name` ends in, records in any order.
fn follow(
    packet: &[u8],
    records: &[Record],
    name: &Name,
    kind: RecordType,
) -> Result<Vec<IpAddr>, Malformed> {
    let mut current = name.clone();
    for _ in 0..=CNAME_HOPS_MAX {
        let mut addresses = Vec::new();
        let mut alias = None;
        for record in records.iter().filter(|record| record.owner == current) {
            if let Some(address) = record.address(packet, Some(kind))? {
                push_address(&mut addresses, address);
            } else if record.kind == TYPE_CNAME && record.class == CLASS_INTERNET {
                let (target, after) = read_name(packet, record.data_at)?;
                if after != record.data_at + record.data_length {
                    return Err(Malformed);
                }
                alias = Some(target);
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

/// Reads the name at `start` and says where the bytes after it begin.
///
/// A pointer must lead to before the piece of name it ends (RFC 1035 §4.1.4 says "prior
/// occurrence"): each hop shrinks what may still be read, so every chain ends.
fn read_name(packet: &[u8], start: usize) -> Result<(Name, usize), Malformed> {
    let mut bytes = Vec::new();
    let mut after = None;
    let mut piece_at = start;
    let mut at = start;
    loop {
        let [length] = array(packet, at)?;
        match length >> 6 {
            0 if length == 0 => {
                bytes.push(0);
                return Ok((Name(bytes), after.unwrap_or(at + 1)));
            }
            0 => {
                let label = slice(packet, at + 1, usize::from(length))?;
                if bytes.len() + label.len() + 2 > NAME_MAX {
                    return Err(Malformed);
                }
                bytes.push(length);
                bytes.extend(label.iter().map(u8::to_ascii_lowercase));
                at += 1 + label.len();
            }
            3 => {
                after = after.or(Some(at + 2));
                let target = usize::from(be16(packet, at)? & 0x3fff);
                if target < HEADER_LENGTH || target >= piece_at {
                    return Err(Malformed);
                }
                piece_at = target;
                at = target;
            }
            // 0x40 and 0x80 are not labels anyone uses (RFC 6891 §5).
            _ => return Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_limits() {
        assert_eq!(Name::from_text("WaterBug.lan.").unwrap().0, b"\x08waterbug\x03lan\0");
        for bad in ["", ".", "a..b", &"x".repeat(64), &vec!["x".repeat(63); 4].join(".")] {
            assert_eq!(Name::from_text(bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn pointers_lead_strictly_backwards() {
        let mut packet = vec![0; HEADER_LENGTH];
        packet.extend(b"\x01a\xc0\x0c\x01b\xc0\x0c\xc0\x14\xc0\x12");
        assert_eq!(read_name(&packet, 12), Err(Malformed), "into its own piece");
        assert_eq!(read_name(&packet, 16), Err(Malformed), "by way of a loop");
        assert_eq!(read_name(&packet, 20), Err(Malformed), "to itself");
        packet = vec![0; HEADER_LENGTH];
        packet.extend(b"\x03lan\0\x01b\xc0\x0c");
        let (name, after) = read_name(&packet, 17).unwrap();
        assert_eq!((name.0.as_slice(), after), (b"\x01b\x03lan\0".as_slice(), 21));
    }
}
