//! IP packets and the UDP in them, as a packet socket hears them.

use std::net::IpAddr;

use super::{Malformed, array, be16, slice};

/// The protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// The protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// The protocol number of ICMP for IPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;
/// Bytes of a UDP header. RFC 768.
const UDP_HEADER_LENGTH: usize = 8;
/// Bytes of an IPv6 header. RFC 8200 §3.
const IPV6_HEADER_LENGTH: usize = 40;

/// What is inside an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The sender's address.
    pub source: IpAddr,
    /// The receiver's address.
    pub destination: IpAddr,
    /// The protocol of the payload.
    pub protocol: u8,
    /// What the packet carries.
    pub payload: &'a [u8],
}

/// One UDP datagram, without its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpDatagram<'a> {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// What was sent.
    pub payload: &'a [u8],
}

/// Reads an IPv4 (RFC 791) or IPv6 (RFC 8200) packet.
///
/// # Errors
/// `Malformed` for fragments and cut packets; IPv6 extension headers count as the payload.
pub fn parse(packet: &[u8]) -> Result<Packet<'_>, Malformed> {
    let [first] = array(packet, 0)?;
    match first >> 4 {
        4 => {
            let header_length = usize::from(first & 0x0f) * 4;
            let total_length = usize::from(be16(packet, 2)?);
            let fragment = be16(packet, 6)? & 0x3fff;
            if header_length < 20 || fragment != 0 {
                return Err(Malformed);
            }
            let length = total_length.checked_sub(header_length).ok_or(Malformed)?;
            let [protocol] = array(packet, 9)?;
            Ok(Packet {
                source: array::<4>(packet, 12)?.into(),
                destination: array::<4>(packet, 16)?.into(),
                protocol,
                payload: slice(packet, header_length, length)?,
            })
        }
        6 => {
            let [protocol] = array(packet, 6)?;
            Ok(Packet {
                source: array::<16>(packet, 8)?.into(),
                destination: array::<16>(packet, 24)?.into(),
                protocol,
                payload: slice(packet, IPV6_HEADER_LENGTH, usize::from(be16(packet, 4)?))?,
            })
        }
        _ => Err(Malformed),
    }
}

/// Reads a UDP datagram (RFC 768). Checksums are the network card's business, and often not computed
/// yet when a packet socket looks.
///
/// # Errors
/// `Malformed` when it is cut short.
pub fn parse_udp(segment: &[u8]) -> Result<UdpDatagram<'_>, Malformed> {
    let length = usize::from(be16(segment, 4)?);
    let payload = length.checked_sub(UDP_HEADER_LENGTH).ok_or(Malformed)?;
    Ok(UdpDatagram {
        source_port: be16(segment, 0)?,
        destination_port: be16(segment, 2)?,
        payload: slice(segment, UDP_HEADER_LENGTH, payload)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with a UDP datagram of two bytes from 10.0.0.1:5353.
    const V4: &[u8] = b"\x45\0\0\x1e\0\0\x40\0\xff\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\
                        \x14\xe9\x30\x39\0\x0a\0\0hi";

    #[test]
    fn udp_is_found_in_both_families() {
        let mut v6 = b"\x60\0\0\0\0\x0a\x11\xff".to_vec();
        v6.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        v6.extend("ff02::fb".parse::<std::net::Ipv6Addr>().unwrap().octets());
        v6.extend(&V4[20..]);
        for (bytes, source, destination) in
            [(V4, "10.0.0.1", "10.0.0.2"), (&v6, "fe80::1", "ff02::fb")]
        {
            let packet = parse(bytes).unwrap();
            assert_eq!(packet.source, source.parse::<IpAddr>().unwrap());
            assert_eq!(packet.destination, destination.parse::<IpAddr>().unwrap());
            assert_eq!(packet.protocol, PROTOCOL_UDP);
            let datagram =
                UdpDatagram { source_port: 5353, destination_port: 12345, payload: b"hi" };
            assert_eq!(parse_udp(packet.payload), Ok(datagram));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Err(Malformed), "cut at {cut}");
            }
            for cut in 0..packet.payload.len() {
                assert_eq!(parse_udp(&packet.payload[..cut]), Err(Malformed), "cut at {cut}");
            }
        }
    }

    #[test]
    fn fragments_and_other_versions_are_malformed() {
        for (at, value) in [(0, 0x35), (0, 0x44), (6, 0x20), (7, 1), (3, 10)] {
            let mut packet = V4.to_vec();
            packet[at] = value;
            assert_eq!(parse(&packet), Err(Malformed), "byte {at} = {value}");
        }
        assert_eq!(parse_udp(b"\x14\xe9\x30\x39\0\x07\0\0"), Err(Malformed), "too short");
    }
}
