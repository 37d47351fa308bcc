//! Pure codecs, one file per protocol: bytes in, values out, and back.
//!
//! Nothing here imports anything else of ours, opens a socket or reads a clock. Whatever a
//! peer may send, a parser answers with a value or with [`Malformed`], in time and memory
//! bounded by the length of the input; no count found inside a packet sizes an allocation.

pub mod arp;
pub mod cache_info;
pub mod dns;
pub mod http;
pub mod icmp;
pub mod ip;
mod message;
mod name;
pub mod netlink;
pub mod service;

/// The input does not follow its protocol; the packet is dropped and the search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The big-endian 16-bit number at `at`.
fn be16(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// The `N` bytes at `at`, or `Malformed` where the input ends before.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    slice(bytes, at, N)?.try_into().map_err(|_| Malformed)
}

/// The `length` bytes at `at`, or `Malformed` where the input ends before.
fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], Malformed> {
    let end = at.checked_add(length).ok_or(Malformed)?;
    bytes.get(at..end).ok_or(Malformed)
}
