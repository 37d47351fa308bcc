//! Multicast DNS: one-shot questions (RFC 6762 §5.1) for the cache's name, to everybody on our links
//! and to neighbours.

use std::net::SocketAddr;

use super::Random;
use crate::address::{with_port, with_scope};
use crate::facts::{Neighbour, Network};
use crate::interface::{Effects, MdnsDatagram, Output};
use crate::model::{Candidate, Origin};
use crate::wire::dns::{MDNS_PORT, Name, RecordType, compose_question, parse_multicast};

/// Neighbours asked one by one.
const ASKED_DIRECTLY_MAX: usize = 64;

/// The state of multicast DNS.
#[derive(Debug)]
pub struct Mdns {
    /// The name asked for.
    name: Name,
    /// The port that a candidate gets.
    port: u16,
    /// The id of our questions, which answers sent to us alone repeat.
    id: u16,
    /// The neighbours that were asked one by one.
    asked: Vec<SocketAddr>,
}

impl Mdns {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(name: Name, port: u16, random: &mut Random) -> Self {
        Self { name, port, id: random.next_u16(), asked: Vec::new() }
    }

    /// The question, A and AAAA in one packet.
    #[must_use]
    pub fn question(&self) -> Vec<u8> {
        compose_question(self.id, false, &self.name, &[RecordType::A, RecordType::Aaaa])
    }

    /// Asks neighbours one by one (RFC 6762 §5.5), each once: a stateful firewall lets the answer to
    /// that in.
    pub fn ask_neighbours(&mut self, network: &Network, effects: &mut Effects) {
        for Neighbour { remote, interface, .. } in &network.neighbours {
            if self.asked.len() < ASKED_DIRECTLY_MAX
                && network.is_on_lan(remote.ip())
                && !self.asked.contains(remote)
            {
                self.asked.push(*remote);
                let host = with_port(*remote, MDNS_PORT);
                let question = self.question();
                effects.output(Output::AskDirectly { host, interface: *interface, question });
            }
        }
    }

    /// Takes what came from a link of ours.
    pub fn handle(&self, datagram: &MdnsDatagram, effects: &mut Effects) {
        let id = (!datagram.multicast).then_some(self.id);
        let addresses = parse_multicast(datagram.payload, &self.name, id).unwrap_or_default();
        effects.candidates.extend(addresses.iter().map(|address| {
            let remote = with_scope(SocketAddr::new(*address, self.port), datagram.interface);
            Candidate::heard(Origin::Mdns, remote, datagram.source.ip())
        }));
    }
}
