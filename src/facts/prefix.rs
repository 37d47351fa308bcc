//! IPv4 networks that may be swept, and the order in which their addresses are asked.

use std::net::Ipv4Addr;

use super::parse_digits;

/// A network of private addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The interface it is on; `None` for one that is only reached by a router.
    pub interface: Option<u32>,
    /// Our own address there, which ARP requests name; for other networks the one before the first.
    pub own: Ipv4Addr,
    /// The address that the order starts from.
    centre: u32,
    /// The first address of a host.
    first: u32,
    /// The last one.
    last: u32,
    /// The address that reaches everybody there (RFC 919 §7), where there is one.
    pub broadcast: Option<Ipv4Addr>,
}

impl Prefix {
    /// The network of our own address on an interface; `None` unless all of it is private (RFC
    /// 1918) and has room for others.
    #[must_use]
    pub fn on_link(interface: u32, own: Ipv4Addr, length: u8) -> Option<Self> {
        let prefix = Self::new(own, length)?;
        let is_lonely = prefix.first == prefix.last;
        (!is_lonely).then_some(Self {
            interface: Some(interface),
            own,
            centre: own.to_bits(),
            ..prefix
        })
    }

    /// The network written `ADDRESS/LENGTH`, which the user named.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        Self::new(address.parse().ok()?, parse_digits(length)?.try_into().ok()?)
    }

    /// The private network of `address`.
    fn new(address: Ipv4Addr, length: u8) -> Option<Self> {
        // RFC 1918 §3.
        let block_length = match address.octets() {
            [10, ..] => 8,
            [172, 16..=31, ..] => 12,
            [192, 168, ..] => 16,
            _ => return None,
        };
        if !(block_length..=32).contains(&length) {
            return None;
        }
        let rest = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        let (lowest, highest) = (address.to_bits() & !rest, address.to_bits() | rest);
        // RFC 3021: a /31 has neither a network nor a broadcast address.
        let has_edges = length < 31;
        let edge = u32::from(has_edges);
        let first = lowest + edge;
        Some(Self {
            interface: None,
            own: Ipv4Addr::from_bits(first - 1),
            centre: first - 1,
            first,
            last: highest - edge,
            broadcast: has_edges.then_some(Ipv4Addr::from_bits(highest)),
        })
    }

    /// The same addresses, asked through the interface of `lan` if that holds them all.
    #[must_use]
    pub fn within(self, lan: Self) -> Option<Self> {
        let holds = lan.first <= self.first && self.last <= lan.last;
        holds.then_some(Self { interface: lan.interface, own: lan.own, ..self })
    }

    /// Whether both are the same network, wherever they start from.
    #[must_use]
    pub const fn is_same(self, other: Self) -> bool {
        self.first == other.first && self.last == other.last
    }

    /// How many addresses there are besides our own.
    #[must_use]
    pub const fn hosts(self) -> u32 {
        self.above() + self.below()
    }

    /// Addresses above the centre.
    const fn above(self) -> u32 {
        self.last.saturating_sub(self.centre)
    }

    /// Addresses below the centre.
    const fn below(self) -> u32 {
        self.centre.saturating_sub(self.first)
    }

    /// The address that is `rank`th nearest to the centre, from 0: one up, one down, two up, until
    /// one side ends, then the rest of the other. DHCP servers hand out neighbouring addresses.
    #[must_use]
    pub fn nth_nearest(self, rank: u32) -> Ipv4Addr {
        let both = self.above().min(self.below());
        let address = if rank / 2 < both {
            let distance = rank / 2 + 1;
            if rank.is_multiple_of(2) { self.centre + distance } else { self.centre - distance }
        } else {
            let distance = rank - both + 1;
            if self.above() > self.below() {
                self.centre + distance
            } else {
                self.centre - distance
            }
        };
        Ipv4Addr::from_bits(address)
    }

    /// The rank of an address; `None` for our own and for those elsewhere.
    #[must_use]
    pub fn rank_of(self, address: Ipv4Addr) -> Option<u32> {
        let address = address.to_bits();
        let distance = address.abs_diff(self.centre);
        if distance == 0 || !(self.first..=self.last).contains(&address) {
            return None;
        }
        let both = self.above().min(self.below());
        let is_below = u32::from(address < self.centre);
        Some(if distance <= both { (distance - 1) * 2 + is_below } else { distance + both - 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our network, from an address of ours.
    fn lan(own: &str, length: u8) -> Option<Prefix> {
        Prefix::on_link(2, own.parse().unwrap(), length)
    }

    #[test]
    fn every_address_has_its_turn_once() {
        for (own, length) in [
            ("10.0.0.1", 24),
            ("10.0.0.254", 24),
            ("10.0.0.77", 24),
            ("192.168.7.200", 22),
            ("172.16.0.1", 29),
            ("10.0.0.0", 31),
            ("10.0.0.1", 31),
            ("10.0.0.0", 24),
            ("10.0.0.255", 24),
        ] {
            let prefix = lan(own, length).unwrap();
            let mut seen = Vec::new();
            for rank in 0..prefix.hosts() {
                let address = prefix.nth_nearest(rank);
                assert_eq!(prefix.rank_of(address), Some(rank), "{own}/{length} {address}");
                assert!(!seen.contains(&address), "{own}/{length}: {address} twice");
                seen.push(address);
            }
            let own = own.parse().unwrap();
            assert!(!seen.contains(&own) && prefix.rank_of(own).is_none());
            let is_inside = (prefix.first..=prefix.last).contains(&own.to_bits());
            let expected = prefix.last - prefix.first + 1 - u32::from(is_inside);
            assert_eq!(prefix.hosts(), expected, "{own}/{length}");
        }
    }

    #[test]
    fn the_nearest_come_first() {
        let prefix = lan("10.0.0.3", 24).unwrap();
        let first: Vec<_> = (0..7).map(|rank| prefix.nth_nearest(rank).octets()[3]).collect();
        assert_eq!(first, [4, 2, 5, 1, 6, 7, 8]);
        assert_eq!(prefix.broadcast, Some(Ipv4Addr::new(10, 0, 0, 255)));
        assert_eq!(lan("10.0.0.4", 31).unwrap().broadcast, None, "the next one is not ours");
        let named = Prefix::parse("10.0.0.0/30").unwrap();
        assert_eq!(
            (0..2).map(|rank| named.nth_nearest(rank).octets()[3]).collect::<Vec<_>>(),
            [1, 2]
        );
        let alone = Prefix::parse("10.0.0.7/32").unwrap();
        assert_eq!((alone.hosts(), alone.nth_nearest(0)), (1, Ipv4Addr::new(10, 0, 0, 7)));
    }

    #[test]
    fn what_is_not_wholly_private_is_never_swept() {
        for (own, length) in [
            ("8.8.8.8", 24),
            ("100.64.0.1", 24),
            ("169.254.1.1", 16),
            ("127.0.0.1", 8),
            ("10.0.0.1", 0),
            ("10.0.0.1", 7),
            ("172.16.0.1", 11),
            ("172.32.0.1", 24),
            ("192.168.0.1", 15),
            ("10.0.0.1", 32),
            ("192.0.2.1", 24),
            ("224.0.0.1", 8),
            ("10.0.0.1", 33),
        ] {
            assert_eq!(lan(own, length), None, "{own}/{length}");
        }
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "8.8.8.0/24",
            "fd00::/64",
            "10.0.0.0/7",
            "100.64.0.0/10",
        ] {
            assert_eq!(Prefix::parse(bad), None, "{bad}");
        }
        assert!(lan("10.1.2.3", 8).is_some(), "large, but private: the limit bounds it");
    }
}
