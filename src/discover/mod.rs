//! One file per method: each turns facts and packets into leads.
//!
//! A method never opens a socket and never reads a clock. It takes what happened and the time,
//! appends what it wants done to [`Effects`](crate::model::Effects), and says when it wants to be called again and
//! whether it has had its say. Methods do not know of each other.

pub mod dns;
pub mod known;
pub mod mdns;
pub mod nearby;
pub mod ping;
pub mod sweep;

/// Numbers that a stranger cannot guess: `SplitMix64` over a random seed.
///
/// Query ids are the only use; sockets are connected and their ports are the kernel's choice.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that the seed decides.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 16 bits.
    pub fn next_u16(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 48) as u16
    }
}
