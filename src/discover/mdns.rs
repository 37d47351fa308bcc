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

    /// The questions, each in a packet of its own: a responder that is asked several at once waits 20
    /// to 120 ms, for others may know the rest (RFC 6762 §6.3).
    #[must_use]
    pub fn questions(&self) -> Vec<Vec<u8>> {
        let question = |kind| compose_question(self.id, false, &self.name, &[kind]);
        [RecordType::A, RecordType::Aaaa].map(question).into()
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
                for question in self.questions() {
                    effects.output(Output::AskDirectly { host, interface: *interface, question });
                }
            }
        }
    }

    /// Takes what came from a link of ours.
    pub fn handle(&self, datagram: &MdnsDatagram, effects: &mut Effects) {
        let id = (!datagram.multicast).then_some(self.id);
        let addresses = parse_multicast(datagram.payload, &self.name, id).unwrap_or_default();
        for address in addresses {
            let remote = with_scope(SocketAddr::new(address, self.port), datagram.interface);
            effects.candidate(Candidate::heard(Origin::Mdns, remote, datagram.source.ip()));
        }
    }
}
