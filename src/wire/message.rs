//! What DNS messages are made of: a header and records (RFC 1035 §4.1), the same over either kind of DNS.

use std::net::IpAddr;

use super::name::{Name, read_name};
use super::{Malformed, array, be16, slice};

/// Bytes of the fixed header. RFC 1035 §4.1.1.
pub(super) const HEADER_LENGTH: usize = 12;
/// Records in one message, and questions: many times what one name has in honest ones.
const RECORDS_MAX: usize = 256;
/// Header bit: this is a response. RFC 1035 §4.1.1.
const FLAG_RESPONSE: u16 = 0x8000;
/// Header bits of the opcode. RFC 1035 §4.1.1.
const OPCODE_MASK: u16 = 0x7800;
/// The class of the Internet. RFC 1035 §3.2.4.
pub(super) const CLASS_INTERNET: u16 = 1;
/// Type of an alias record. RFC 1035 §3.2.2.
const TYPE_CNAME: u16 = 5;

/// The types of record that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum RecordType {
    /// An IPv4 address, four bytes. RFC 1035 §3.4.1.
    A = 1,
    /// Another name: that of an instance of a service. RFC 1035 §3.3.12, RFC 6763 §4.1.
    Ptr = 12,
    /// Strings: what is to be known of a service besides its place. RFC 1035 §3.3.14, RFC 6763 §6.
    Txt = 16,
    /// An IPv6 address, sixteen bytes. RFC 3596 §2.2.
    Aaaa = 28,
    /// Where a service is: rank, port and host. RFC 2782.
    Srv = 33,
}

/// The fixed header of a response. RFC 1035 §4.1.1.
pub(super) struct Header {
    /// Repeats the question's.
    pub(super) id: u16,
    /// QR, opcode, TC, RCODE and others.
    pub(super) flags: u16,
    /// Entries in each section, as claimed.
    pub(super) questions: u16,
    /// Records in the Answer section, as claimed.
    pub(super) answers: u16,
    /// Records in the Authority section, as claimed.
    pub(super) authorities: u16,
    /// Records in the Additional section, as claimed.
    pub(super) additionals: u16,
}

impl Header {
    /// The header of `packet` if it is a response to an ordinary query, and of a reasonable size.
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let header = Self {
            id: be16(packet, 0)?,
            flags: be16(packet, 2)?,
            questions: be16(packet, 4)?,
            answers: be16(packet, 6)?,
            authorities: be16(packet, 8)?,
            additionals: be16(packet, 10)?,
        };
        let records = [header.answers, header.authorities, header.additionals];
        let records: usize = records.into_iter().map(usize::from).sum();
        let is_too_large = records.max(header.questions.into()) > RECORDS_MAX;
        if header.flags & (FLAG_RESPONSE | OPCODE_MASK) != FLAG_RESPONSE || is_too_large {
            return Err(Malformed);
        }
        Ok(header)
    }
}

/// One resource record. RFC 1035 §4.1.3.
pub(super) struct Record<'a> {
    /// The name it is about.
    pub(super) owner: Name,
    /// Its type code.
    pub(super) kind: u16,
    /// Its class; in multicast the top bit is the cache-flush bit.
    pub(super) class: u16,
    /// Seconds it may be kept.
    pub(super) ttl: u32,
    /// Where its data starts in the packet.
    data_at: usize,
    /// Its data.
    pub(super) data: &'a [u8],
}

/// What a record says of its owner.
pub(super) enum Data {
    /// An address.
    Address(IpAddr),
    /// What it is really called.
    Alias(Name),
}

impl<'a> Record<'a> {
    /// Reads the record at `at` and moves on to what follows it.
    pub(super) fn read(packet: &'a [u8], at: &mut usize) -> Result<Self, Malformed> {
        let (owner, after) = read_name(packet, *at)?;
        let data_at = after + 10;
        let data = slice(packet, data_at, be16(packet, after + 8)?.into())?;
        *at = data_at + data.len();
        Ok(Self {
            owner,
            kind: be16(packet, after)?,
            class: be16(packet, after + 2)?,
            ttl: u32::from_be_bytes(array(packet, after + 4)?),
            data_at,
            data,
        })
    }

    /// The address in this record; `None` where it is of another type.
    pub(super) fn address(&self) -> Result<Option<IpAddr>, Malformed> {
        Ok(if self.kind == RecordType::A as u16 {
            Some(<[u8; 4]>::try_from(self.data).map_err(|_| Malformed)?.into())
        } else if self.kind == RecordType::Aaaa as u16 {
            Some(<[u8; 16]>::try_from(self.data).map_err(|_| Malformed)?.into())
        } else {
            None
        })
    }

    /// The name that the data ends in, after so many bytes of something else.
    pub(super) fn name(&self, packet: &[u8], skipped: usize) -> Result<Name, Malformed> {
        let (name, after) = read_name(packet, self.data_at + skipped)?;
        (after == self.data_at + self.data.len()).then_some(name).ok_or(Malformed)
    }

    /// What this record of a unicast answer says to a question for `kind`.
    pub(super) fn unicast_data(
        &self,
        packet: &[u8],
        kind: RecordType,
    ) -> Result<Option<Data>, Malformed> {
        if self.class != CLASS_INTERNET {
            Ok(None)
        } else if self.kind == TYPE_CNAME {
            Ok(Some(Data::Alias(self.name(packet, 0)?)))
        } else if self.kind == kind as u16 {
            Ok(self.address()?.map(Data::Address))
        } else {
            Ok(None)
        }
    }
}
