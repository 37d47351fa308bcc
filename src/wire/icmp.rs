//! ICMP echo, version 4 (RFC 792) and 6 (RFC 4443 §4).

use super::{Malformed, array, slice};

/// Bytes of our payload, which tells our echoes from those of others.
pub const COOKIE_LENGTH: usize = 8;
/// Bytes before the payload.
const ICMP_HEADER_LENGTH: usize = 8;
/// Echo request and reply over IPv4.
const TYPES_V4: (u8, u8) = (8, 0);
/// Echo request and reply over IPv6.
const TYPES_V6: (u8, u8) = (128, 129);

/// A request that carries `cookie`. Over IPv6 the kernel fills in the checksum.
#[must_use]
pub fn compose_request(v6: bool, cookie: [u8; COOKIE_LENGTH]) -> Vec<u8> {
    let kind = if v6 { TYPES_V6.0 } else { TYPES_V4.0 };
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(&cookie);
    let [high, low] = checksum(&message).to_be_bytes();
    for (byte, value) in message.iter_mut().skip(2).zip([high, low]) {
        *byte = value;
    }
    message
}

/// The cookie in a reply.
///
/// # Errors
/// `Malformed` for everything that is not an echo reply with a cookie.
pub fn parse_reply(v6: bool, message: &[u8]) -> Result<[u8; COOKIE_LENGTH], Malformed> {
    let kind = if v6 { TYPES_V6.1 } else { TYPES_V4.1 };
    if array(message, 0)? != [kind, 0] {
        return Err(Malformed);
    }
    array(slice(message, ICMP_HEADER_LENGTH, COOKIE_LENGTH)?, 0)
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(message: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in message.chunks_exact(2) {
        sum += pair.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded into 16 bits")]
    let folded = sum as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_not_a_request() {
        for v6 in [false, true] {
            let mut message = compose_request(v6, *b"cookie!!");
            assert_eq!(checksum(&message), 0, "the sum of all is nothing");
            assert_eq!(parse_reply(v6, &message), Err(Malformed), "our own request");
            message[0] = if v6 { 129 } else { 0 };
            assert_eq!(parse_reply(v6, &message), Ok(*b"cookie!!"));
            assert_eq!(parse_reply(!v6, &message), Err(Malformed));
            for cut in 0..message.len() {
                assert_eq!(parse_reply(v6, &message[..cut]), Err(Malformed));
            }
        }
    }
}
