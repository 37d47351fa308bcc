//! Domain names in messages: labels, and pointers to labels before them. RFC 1035 §3.1, §4.1.4.

use super::message::HEADER_LENGTH;
use super::{Malformed, array, be16, slice};

/// Bytes of a name in wire form, the final zero included. RFC 1035 §3.1.
const NAME_MAX: usize = 255;
/// Bytes of one label. RFC 1035 §3.1.
const LABEL_MAX: usize = 63;
/// Pointers followed within one name; an honest one has one or two.
const POINTER_HOPS_MAX: usize = 16;

/// A domain name in uncompressed wire form, lower case, with the root's zero byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name(pub(super) Vec<u8>);

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

    /// Whether it has one label more than `parent`, in wire form, whatever is in that.
    #[must_use]
    pub fn is_child_of(&self, parent: &[u8]) -> bool {
        let length = self.0.first().map_or(0, |length| usize::from(*length));
        length != 0 && self.0.get(1 + length..) == Some(parent)
    }

    /// Whether it is the root, which is no host's.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == [0]
    }
}

/// Reads the name at `start` and says where the bytes after it begin.
///
/// A pointer leads to a prior occurrence (RFC 1035 §4.1.4): what is behind it ends before the piece
/// of name that it ends itself.
pub(super) fn read_name(packet: &[u8], start: usize) -> Result<(Name, usize), Malformed> {
    let mut bytes = Vec::with_capacity(NAME_MAX);
    let mut readable = packet;
    let mut piece_at = start;
    let mut at = start;
    let mut after = None;
    let mut hops = 0;
    loop {
        let [length] = array(readable, at)?;
        match length >> 6 {
            0 => {
                // With its length, which is no letter.
                let label = slice(readable, at, 1 + usize::from(length))?;
                if bytes.len() + label.len() > NAME_MAX {
                    return Err(Malformed);
                }
                bytes.extend(label.iter().map(u8::to_ascii_lowercase));
                at += label.len();
                if length == 0 {
                    return Ok((Name(bytes), after.unwrap_or(at)));
                }
            }
            3 => {
                let target = usize::from(be16(readable, at)? & 0x3fff);
                hops += 1;
                if target < HEADER_LENGTH || hops > POINTER_HOPS_MAX {
                    return Err(Malformed);
                }
                after = after.or(Some(at + 2));
                readable = slice(readable, 0, piece_at)?;
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
        assert!(read_name(&[0; HEADER_LENGTH], 5).unwrap().0.is_root());
        assert!(!Name::from_text("lan").unwrap().is_root());
        for (last, is_good) in [(61, true), (62, false)] {
            let text = [63, 63, 63, last].map(|length| "x".repeat(length)).join(".");
            assert_eq!(Name::from_text(&text).is_ok(), is_good, "a last label of {last}");
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
        packet.extend(b"\x03lan\x01b\xc0\x0c\0");
        assert_eq!(read_name(&packet, 16), Err(Malformed), "what is there has not ended");
        packet = vec![0; HEADER_LENGTH];
        packet.extend(b"\x03lan\0\x01b\xc0\x0c");
        let (name, after) = read_name(&packet, 17).unwrap();
        assert_eq!((name.0.as_slice(), after), (b"\x01b\x03lan\0".as_slice(), 21));
    }

    #[test]
    fn names_and_their_pointers_have_their_limits() {
        for (hops, is_good) in [(16, true), (17, false)] {
            let mut packet = vec![0; HEADER_LENGTH];
            packet.extend(b"\x03lan\0");
            for hop in 0..hops {
                let target = if hop == 0 { 12 } else { 15 + 2 * hop };
                packet.extend([0xc0, target]);
            }
            let start = packet.len() - 2;
            assert_eq!(read_name(&packet, start).is_ok(), is_good, "{hops} hops");
        }
        for (last, is_good) in [(61, true), (62, false)] {
            let mut packet = vec![b'x'; HEADER_LENGTH];
            for length in [63, 63, 63, last] {
                packet.push(length);
                packet.extend(vec![b'X'; length.into()]);
            }
            packet.push(0);
            assert_eq!(read_name(&packet, 12).is_ok(), is_good, "a last label of {last}");
        }
    }
}
