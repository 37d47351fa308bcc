//! `gateway` and `neighbours`: hosts that the kernel's tables already name.
//!
//! In QEMU's user network the gateway is the host itself, so a virtual machine needs no
//! configuration. A neighbour is anyone we have exchanged a packet with, and anyone who has tried
//! to answer us: a responder whose answer a firewall dropped stands in the table all the same.

use std::time::Duration;

use crate::address::{needs_zone, with_port};
use crate::elapsed::Elapsed;
use crate::facts::{Neighbour, Network};
use crate::interface::{Effects, Output};
use crate::model::{Candidate, Origin};

/// When the table of neighbours is read, counted from the start of the method: at once, after
/// multicast DNS has stirred it, and after the ping has, twice.
const READ_AFTER: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(150),
    Duration::from_millis(500),
    Duration::from_millis(900),
];

/// The default gateways are candidates.
pub fn follow_gateways(network: &Network, port: u16, effects: &mut Effects) {
    for gateway in &network.gateways {
        effects.candidate(Candidate::new(Origin::Gateway, with_port(*gateway, port)));
    }
}

/// The neighbours are candidates.
pub fn follow_neighbours(network: &Network, port: u16, effects: &mut Effects) {
    for neighbour in &network.neighbours {
        effects.candidate(Candidate::new(Origin::Neighbours, with_port(neighbour.remote, port)));
    }
}

/// The other addresses of a host that is known by a link-local one are candidates, too: those of the
/// neighbours that have the same Ethernet address.
pub fn follow_same_host(candidate: &Candidate, network: &Network, effects: &mut Effects) {
    let neighbours = &network.neighbours;
    // On another link the same link-local address is another host's.
    let remote = with_port(candidate.remote, 0);
    let known = neighbours.iter().find(|known| known.remote == remote);
    let Some(known) = known.filter(|known| known.hardware_address.is_some()) else { return };
    let is_same = |other: &&Neighbour| {
        (other.interface, other.hardware_address) == (known.interface, known.hardware_address)
            && !needs_zone(other.remote.ip())
    };
    for other in neighbours.iter().filter(is_same) {
        let remote = with_port(other.remote, candidate.remote.port());
        effects.candidate(Candidate { remote, has_name: false, ..*candidate });
    }
}

/// The state of the reading of neighbours.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// When it began.
    started_at: Option<Elapsed>,
    /// How often the table was asked for.
    reads: usize,
}

impl Neighbours {
    /// Begins.
    pub fn start(&mut self, now: Elapsed) {
        self.started_at = Some(now);
    }

    /// Asks for the table when the time has come.
    pub fn advance(&mut self, now: Elapsed, effects: &mut Effects) {
        while self.next_at().is_some_and(|at| at <= now) {
            self.reads += 1;
            effects.output(Output::ReadNetwork);
        }
    }

    /// When `advance` is next of use.
    #[must_use]
    pub fn next_at(&self) -> Option<Elapsed> {
        Some(self.started_at? + *READ_AFTER.get(self.reads)?)
    }

    /// Whether the table was read for the last time.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.started_at.is_some() && self.next_at().is_none()
    }
}
