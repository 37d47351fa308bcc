//! Decisions that are read from the bytes of an input, one after the other; when they are used up all
//! that follow are zero, so that every input is a whole script.

use std::net::{IpAddr, SocketAddr};

/// Addresses that mean something to the search, so that they meet each other.
const ADDRESSES: [&str; 24] = [
    "10.0.0.141",
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.142",
    "10.0.0.143",
    "10.0.0.99",
    "10.0.0.255",
    "10.0.1.5",
    "192.168.7.9",
    "192.168.7.10",
    "172.16.0.1",
    "203.0.113.5",
    "169.254.1.1",
    "127.0.0.1",
    "127.0.0.53",
    "0.0.0.0",
    "255.255.255.255",
    "fe80::141",
    "fe80::1",
    "fd00::5",
    "2001:db8::1",
    "ff02::fb",
    "::ffff:10.0.0.5",
    "::1",
];

/// What is left of an input.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// True in so many of 256 cases, and never when the input is over.
    pub fn chance(&mut self, of: u8) -> bool {
        self.byte() > u8::MAX - of
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub fn array<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        [0; COUNT].map(|_| self.byte())
    }

    /// Up to 255 bytes as they are, after their number; `long` ones after a number of two bytes.
    pub fn bytes(&mut self, long: bool) -> &'a [u8] {
        let length = u16::from_be_bytes([if long { self.byte() } else { 0 }, self.byte()]);
        let (bytes, rest) = self.0.split_at(self.0.len().min(length.into()));
        self.0 = rest;
        bytes
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// One of the few, or any.
    pub fn address(&mut self) -> IpAddr {
        match self.byte() {
            254 => self.array::<4>().into(),
            255 => self.array::<16>().into(),
            index => ADDRESSES[usize::from(index) % ADDRESSES.len()].parse().unwrap(),
        }
    }

    pub fn addresses(&mut self, max: usize) -> Vec<IpAddr> {
        (0..self.below(max + 1)).map(|_| self.address()).collect()
    }

    pub fn remote(&mut self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(), port)
    }
}
