//! ARP for IPv4 over Ethernet (RFC 826), without the frame around it.

use std::net::Ipv4Addr;

use super::{Malformed, array, be16};

/// Bytes of a packet.
const LENGTH: usize = 28;
/// A request, ready to send.
pub type ArpRequest = [u8; LENGTH];

/// Ethernet, IPv4, and the lengths of their addresses.
const PREAMBLE: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// "Who has?"
const REQUEST: u16 = 1;
/// "I have."
const REPLY: u16 = 2;

/// A question for the owner of `target`, from a host with these addresses.
#[must_use]
pub fn compose_request(hardware: [u8; 6], own: Ipv4Addr, target: Ipv4Addr) -> ArpRequest {
    let mut packet = [0; LENGTH];
    let fields = [
        &PREAMBLE[..],
        &REQUEST.to_be_bytes(),
        &hardware,
        &own.octets(),
        &[0; 6],
        &target.octets(),
    ];
    for (byte, value) in packet.iter_mut().zip(fields.concat()) {
        *byte = value;
    }
    packet
}

/// The address whose owner has answered.
///
/// # Errors
/// `Malformed` for requests, for other networks, and when it is cut short.
pub fn parse_reply(packet: &[u8]) -> Result<Ipv4Addr, Malformed> {
    if packet.len() < LENGTH || array(packet, 0)? != PREAMBLE || be16(packet, 6)? != REPLY {
        return Err(Malformed);
    }
    array::<4>(packet, 14).map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_reply_counts() {
        let own = Ipv4Addr::new(10, 0, 0, 5);
        let mut packet = compose_request([2, 0, 0, 0, 0, 5], own, Ipv4Addr::new(10, 0, 0, 7));
        assert_eq!(packet[14..18], own.octets());
        assert_eq!(packet[24..], [10, 0, 0, 7]);
        assert_eq!(parse_reply(&packet), Err(Malformed), "a request");
        packet[7] = 2;
        assert_eq!(parse_reply(&packet), Ok(own));
        for cut in 0..LENGTH {
            assert_eq!(parse_reply(&packet[..cut]), Err(Malformed));
        }
        for at in 0..6 {
            let mut other = packet;
            other[at] ^= 1;
            assert_eq!(parse_reply(&other), Err(Malformed), "preamble byte {at}");
        }
    }
}
