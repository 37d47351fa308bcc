//! DNS-SD: what records say of services and where they are (RFC 6763), over either kind of DNS.
//!
//! Names stay in wire form: the label of an instance may hold dots, spaces, anything.

use std::net::IpAddr;

use super::dns::{Medium, Name, RecordType, for_each_record};
use super::{Malformed, be16};
use crate::text::is_same_word;

/// What a record says of its owner.
#[derive(Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// The type of service has this instance.
    Instance(Name),
    /// The service is there.
    Place(Place),
    /// What else is to be known of the service: strings, each after its length.
    Text(&'a [u8]),
    /// The host has this address.
    Address(IpAddr),
}

/// Where a service is. RFC 2782.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The lower the sooner: the priority, then the weight turned round.
    pub rank: u32,
    /// The port.
    pub port: u16,
    /// The host.
    pub target: Name,
}

/// Hands everything that an answer says of services to `each`, and of whom.
///
/// # Errors
/// `Malformed` when it is not an answer, or not to us, or breaks off; `each` may have had some of it.
pub fn for_each_fact(
    packet: &[u8],
    medium: Medium,
    each: &mut dyn FnMut(&Name, Fact),
) -> Result<(), Malformed> {
    for_each_record(packet, medium, &|_| true, &mut |record| {
        let fact = match record.kind {
            kind if kind == RecordType::Ptr as u16 => Fact::Instance(record.name(packet, 0)?),
            kind if kind == RecordType::Txt as u16 => Fact::Text(record.data),
            kind if kind == RecordType::Srv as u16 => Fact::Place(Place {
                rank: u32::from(be16(record.data, 0)?) << 16 | u32::from(!be16(record.data, 2)?),
                port: be16(record.data, 4)?,
                target: record.name(packet, 6)?,
            }),
            _ => match record.address()? {
                Some(address) => Fact::Address(address),
                None => return Ok(()),
            },
        };
        each(&record.owner, fact);
        Ok(())
    })
}

/// The value of `key` in a text. Keys have no case, and of several with the same name the first counts
/// (RFC 6763 §6.4); what follows a length that lies does not.
#[must_use]
pub fn value_of<'a>(mut text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    while let Some((length, rest)) = text.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*length))?;
        text = rest;
        if let Some((name, value)) = string.split_at_checked(key.len())
            && is_same_word(name, key.as_bytes())
        {
            match value.split_first() {
                Some((b'=', value)) => return Some(value),
                None => return None,
                Some(_) => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_counts_whatever_its_case() {
        let value = |text: &[u8]| value_of(text, "path").map(<[u8]>::to_vec);
        for (text, expected) in [
            (&b"\x05path="[..], Some(&b""[..])),
            (b"\x06PaTh=/", Some(b"/")),
            (b"\0\x05paths\x07path=/a\x07path=/b", Some(b"/a")),
            (b"\x08pathx=/c\x07path==d", Some(b"=d")),
            (b"\x04path\x07path=/b", None),
            (b"\x08path=/a", None),
            (b"\xff", None),
            (b"", None),
            (b"\x03pat", None),
            (b"\x08xpath=/a", None),
        ] {
            assert_eq!(value(text).as_deref(), expected, "{}", text.escape_ascii());
        }
    }
}
