//! UDP datagrams inside IP packets, as a packet socket hears them.

use std::net::{IpAddr, SocketAddr};

use super::{Malformed, array, be16, slice};

/// The protocol number of UDP.
const PROTOCOL_UDP: u8 = 17;
/// Bytes of a UDP header. RFC 768.
const UDP_HEADER_LENGTH: usize = 8;
/// Bytes of an IPv6 header. RFC 8200 §3.
const IPV6_HEADER_LENGTH: usize = 40;

/// One UDP datagram and where it came from and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpDatagram<'a> {
    /// The sender; a link-local one has no scope yet.
    pub source: SocketAddr,
    /// The receiver's address.
    pub destination: IpAddr,
    /// What was sent.
    pub payload: &'a [u8],
}

/// Reads the UDP datagram in an IPv4 (RFC 791) or IPv6 (RFC 8200) packet.
///
/// # Errors
/// `Malformed` for other protocols, fragments, IPv6 extension headers and cut packets. Checksums
/// are the network card's business, and often not computed yet when a packet socket looks.
pub fn parse_udp(packet: &[u8]) -> Result<UdpDatagram<'_>, Malformed> {
    let [first] = array(packet, 0)?;
    let (source, destination, segment): (IpAddr, IpAddr, _) = match first >> 4 {
        4 => {
            let header_length = usize::from(first & 0x0f) * 4;
            let total_length = usize::from(be16(packet, 2)?);
            let [protocol] = array(packet, 9)?;
            let fragment = be16(packet, 6)? & 0x3fff;
            if header_length < 20 || protocol != PROTOCOL_UDP || fragment != 0 {
                return Err(Malformed);
            }
            let length = total_length.checked_sub(header_length).ok_or(Malformed)?;
            (
                array::<4>(packet, 12)?.into(),
                array::<4>(packet, 16)?.into(),
                slice(packet, header_length, length)?,
            )
        }
        6 => {
            let [next_header] = array(packet, 6)?;
            if next_header != PROTOCOL_UDP {
                return Err(Malformed);
            }
            (
                array::<16>(packet, 8)?.into(),
                array::<16>(packet, 24)?.into(),
                slice(packet, IPV6_HEADER_LENGTH, usize::from(be16(packet, 4)?))?,
            )
        }
        _ => return Err(Malformed),
    };
    let length = usize::from(be16(segment, 4)?);
    let payload = length.checked_sub(UDP_HEADER_LENGTH).ok_or(Malformed)?;
    Ok(UdpDatagram {
        source: SocketAddr::new(source, be16(segment, 0)?),
        destination,
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
        let datagram = parse_udp(V4).unwrap();
        assert_eq!(datagram.source, "10.0.0.1:5353".parse().unwrap());
        assert_eq!(datagram.payload, b"hi");
        let datagram = parse_udp(&v6).unwrap();
        assert_eq!(datagram.source, "[fe80::1]:5353".parse().unwrap());
        assert_eq!(datagram.destination, "ff02::fb".parse::<IpAddr>().unwrap());
        for packet in [V4, &v6] {
            for cut in 0..packet.len() {
                assert_eq!(parse_udp(&packet[..cut]), Err(Malformed), "cut at {cut}");
            }
        }
    }

    #[test]
    fn fragments_and_other_protocols_are_not_udp() {
        for (at, value) in [(0, 0x35), (0, 0x44), (6, 0x20), (7, 1), (9, 6), (25, 7)] {
            let mut packet = V4.to_vec();
            packet[at] = value;
            assert_eq!(parse_udp(&packet), Err(Malformed), "byte {at} = {value}");
        }
    }
}
