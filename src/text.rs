//! Text that grows part by part: with numbers and addresses, but without std's formatting, whose machinery
//! alone is 4 KB.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The digits of all our numbers.
const DIGITS: &str = "0123456789abcdef";
/// Groups of zeros that `::` stands for, at least (RFC 5952 §4.2.2).
const COMPRESSED_MIN: usize = 2;

/// Whether two words are the same but for the case of ASCII letters. std takes sixteen bytes at a time,
/// and five times the code: what is compared here is short.
#[inline(never)]
#[must_use]
pub fn is_same_word(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.eq_ignore_ascii_case(other))
}

/// Text that grows.
#[derive(Debug, Default)]
pub struct Text(pub String);

impl Text {
    /// No text, with room for so many bytes of it: to grow is dear.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self(String::with_capacity(room))
    }

    /// Adds text.
    #[inline(never)]
    pub fn add(&mut self, part: &str) -> &mut Self {
        self.0.push_str(part);
        self
    }

    /// Adds text of others, with `?` for each byte that is not `plain`.
    #[inline(never)]
    pub fn add_plain(&mut self, mut part: &[u8], is_plain: fn(u8) -> bool) -> &mut Self {
        loop {
            let end = part.iter().position(|byte| !is_plain(*byte)).unwrap_or(part.len());
            let (plain, rest) = part.split_at_checked(end).unwrap_or_default();
            self.add(str::from_utf8(plain).unwrap_or_default());
            let Some((_, rest)) = rest.split_first() else { return self };
            self.add("?");
            part = rest;
        }
    }

    /// Adds a number.
    #[inline(never)]
    pub fn decimal(&mut self, number: u64) -> &mut Self {
        if 9 < number {
            self.decimal(number / 10);
        }
        self.digit((number % 10) as usize)
    }

    /// Adds an address.
    #[inline(never)]
    pub fn ip(&mut self, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(v4) => self.v4(v4),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => self.add("::ffff:").v4(v4),
                None => self.v6(v6),
            },
        }
    }

    /// Adds an address as it stands in a URL (RFC 3986 §3.2.2), and the port.
    #[inline(never)]
    pub fn authority(&mut self, address: IpAddr, port: u16) -> &mut Self {
        self.url_host(address).add(":").decimal(port.into())
    }

    /// Adds an address as it stands in a URL, in brackets where it has colons.
    #[inline(never)]
    pub fn url_host(&mut self, address: IpAddr) -> &mut Self {
        let (before, after) = if address.is_ipv6() { ("[", "]") } else { ("", "") };
        self.add(before).ip(address).add(after)
    }

    /// Adds an IPv4 address.
    fn v4(&mut self, address: Ipv4Addr) -> &mut Self {
        for (index, octet) in address.octets().into_iter().enumerate() {
            self.add(if index == 0 { "" } else { "." }).decimal(octet.into());
        }
        self
    }

    /// Adds an IPv6 address (RFC 5952 §4).
    fn v6(&mut self, address: Ipv6Addr) -> &mut Self {
        let groups = address.segments();
        // The first of the longest runs of zeros: where it starts and ends.
        let (mut start, mut end, mut run) = (groups.len(), groups.len(), 0);
        let mut longest = COMPRESSED_MIN - 1;
        for (index, group) in groups.iter().enumerate() {
            run = if *group == 0 { run + 1 } else { 0 };
            if longest < run {
                (longest, start, end) = (run, index + 1 - run, index + 1);
            }
        }
        for (index, group) in groups.into_iter().enumerate() {
            if (start..end).contains(&index) {
                self.add(if index == start { "::" } else { "" });
            } else {
                self.add(if index == 0 || index == end { "" } else { ":" }).hexadecimal(group);
            }
        }
        self
    }

    /// Adds a number in hexadecimal.
    fn hexadecimal(&mut self, number: u16) -> &mut Self {
        if 15 < number {
            self.hexadecimal(number / 16);
        }
        self.digit((number % 16).into())
    }

    /// Adds a digit.
    #[inline(never)]
    pub fn digit(&mut self, digit: usize) -> &mut Self {
        self.add(DIGITS.get(digit..=digit).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    /// What one part becomes.
    fn text_of(add: impl FnOnce(&mut Text) -> &mut Text) -> String {
        let mut text = Text::default();
        add(&mut text);
        text.0
    }

    proptest! {
        #[test]
        fn numbers_and_addresses_are_as_std_writes_them(number: u64, v4: u32, v6: u128, mask: u8) {
            prop_assert_eq!(text_of(|text| text.decimal(number)), number.to_string());
            // Groups of zeros are few where all bits are random.
            let groups = Ipv6Addr::from_bits(v6).segments().into_iter().enumerate();
            let sparse = groups.map(|(index, group)| if mask >> index & 1 == 0 { 0 } else { group });
            let sparse: [u16; 8] = sparse.collect::<Vec<_>>().try_into().unwrap();
            let v4 = Ipv4Addr::from_bits(v4);
            let sparse = Ipv6Addr::from(sparse);
            let port = u16::from(mask) * 257;
            for address in [v4.into(), Ipv6Addr::from_bits(v6).into(), sparse.into(), v4.to_ipv6_mapped().into()] {
                prop_assert_eq!(text_of(|text| text.ip(address)), address.to_string());
                let remote = SocketAddr::new(address, port);
                prop_assert_eq!(text_of(|text| text.authority(address, port)), remote.to_string());
            }
        }
    }

    #[test]
    fn the_ends_of_what_is_compressed() {
        for address in
            ["::", "::1", "1::", "1:0:0:2::", "0:1::", "1:0:2:0:3:0:4:0", "1:0:0:2:0:0:0:3"]
        {
            let parsed: Ipv6Addr = address.parse().unwrap();
            assert_eq!(text_of(|text| text.ip(parsed.into())), parsed.to_string());
        }
        assert_eq!(text_of(|text| text.decimal(0)), "0");
    }
}
