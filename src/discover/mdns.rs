//! Multicast DNS: one-shot questions (RFC 6762 §5.1) on every link, and three ways to hear.
//!
//! Answers to an ephemeral port come back to the socket that asked. Some responders only speak to
//! the group, so after a short while we listen there as well. And a default-drop firewall, NixOS's
//! default, swallows both; a packet socket hears them before it does. That one costs some ten
//! milliseconds to close, so it too is only opened when the first question went unheard.

use std::net::SocketAddr;
use std::time::Duration;

use super::Random;
use crate::address::{Family, is_link_local, with_port, with_scope};
use crate::facts::{Neighbour, Network};
use crate::model::{Candidate, Effects, Elapsed, MdnsDatagram, Note, Origin, Output, earliest};
use crate::wire::dns::{MDNS_PORT, Name, RecordType, compose_question, parse_multicast};

/// When the question goes out again, counted from the first time on that link: a record is not
/// multicast twice within a second (RFC 6762 §6).
const ASK_AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// When we begin to listen in other ways. A responder on a wire answers within 10 ms, and one on
/// Wi-Fi mostly within 100 ms (RFC 6762 §6 has shared records wait 20 to 120 ms).
const LISTEN_AFTER: Duration = Duration::from_millis(100);
/// How long a link may be silent before it counts as having nothing to say.
const LINK_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time for a link that came when others had long been asked.
const LATE_LINK_TIMEOUT: Duration = Duration::from_millis(500);
/// Links asked, an interface counting once for each family.
const LINKS_MAX: usize = 32;
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
    /// Where it is asked.
    links: Vec<Link>,
    /// When the first link was asked, since the network came up.
    begun_at: Option<Elapsed>,
    /// The neighbours that were asked one by one.
    asked: Vec<SocketAddr>,
}

/// One interface, one family.
#[derive(Debug)]
struct Link {
    /// The interface's index.
    interface: u32,
    /// Which group.
    family: Family,
    /// When it was first asked.
    asked_at: Elapsed,
    /// When its silence becomes an answer.
    silent_at: Elapsed,
    /// How often it was asked again.
    asked_again: usize,
    /// Whether we listen to the group.
    listens: bool,
}

impl Mdns {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(name: Name, port: u16, random: &mut Random) -> Self {
        let id = random.next_u16();
        Self { name, port, id, links: Vec::new(), begun_at: None, asked: Vec::new() }
    }

    /// Asks on every link that was not there before.
    pub fn ask(&mut self, now: Elapsed, network: &Network, effects: &mut Effects) {
        for interface in &network.interfaces {
            for family in [Family::V4, Family::V6] {
                let index = interface.link.index;
                let known =
                    self.links.iter().any(|link| (link.interface, link.family) == (index, family));
                if known || !interface.speaks_multicast(family) || self.links.len() == LINKS_MAX {
                    continue;
                }
                let begun_at = *self.begun_at.get_or_insert(now);
                self.links.push(Link {
                    interface: index,
                    family,
                    asked_at: now,
                    silent_at: (begun_at + LINK_TIMEOUT).max(now + LATE_LINK_TIMEOUT),
                    asked_again: 0,
                    listens: false,
                });
                effects.note(Note::AskedLink(index, family));
                effects.output(self.ask_link(index, family));
            }
        }
    }

    /// The network has come up: what was asked before it did may have reached nobody.
    pub fn forget(&mut self) {
        self.links.clear();
        self.begun_at = None;
    }

    /// The question, A and AAAA in one packet.
    fn question(&self) -> Vec<u8> {
        compose_question(self.id, false, &self.name, &[RecordType::A, RecordType::Aaaa])
    }

    /// The question to everybody on one link.
    fn ask_link(&self, interface: u32, family: Family) -> Output {
        Output::AskMulticast { interface, family, question: self.question() }
    }

    /// The packet socket hears now: ask once more, for it missed the answers to the first question.
    pub fn handle_packet_socket(&mut self, effects: &mut Effects) {
        for link in &self.links {
            effects.output(self.ask_link(link.interface, link.family));
        }
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

    /// Takes what came from port 5353.
    pub fn handle(&mut self, datagram: &MdnsDatagram, network: &Network, effects: &mut Effects) {
        let source = datagram.source;
        // RFC 6762 §11: multicast came from this link; anything else must say it is of it.
        let is_local =
            datagram.multicast || is_link_local(source.ip()) || network.is_on_link(source.ip());
        if source.port() != MDNS_PORT || !is_local {
            return;
        }
        let id = (!datagram.multicast).then_some(self.id);
        let addresses = parse_multicast(datagram.payload, &self.name, id).unwrap_or_default();
        effects.candidates.extend(addresses.iter().map(|address| {
            let remote = with_scope(SocketAddr::new(*address, self.port), datagram.interface);
            Candidate::heard(Origin::Mdns, remote, source.ip())
        }));
    }

    /// Asks again and begins to listen when the time has come.
    pub fn advance(&mut self, now: Elapsed, effects: &mut Effects) {
        for index in 0..self.links.len() {
            let Some(link) = self.links.get_mut(index) else { return };
            let (interface, family) = (link.interface, link.family);
            if !link.listens && link.asked_at + LISTEN_AFTER <= now {
                link.listens = true;
                effects.output(Output::ListenMulticast { interface, family });
                effects.output(Output::OpenPacketSocket);
            }
            let is_due = |link: &Link| link.ask_again_at().is_some_and(|at| at <= now);
            if is_due(link) {
                // After a stall several are due; one is enough.
                while is_due(link) {
                    link.asked_again += 1;
                }
                effects.output(self.ask_link(interface, family));
            }
        }
    }

    /// When `advance` is next of use.
    #[must_use]
    pub fn next_at(&self, now: Elapsed) -> Option<Elapsed> {
        self.links.iter().fold(None, |next, link| {
            let listen_at = (!link.listens).then(|| link.asked_at + LISTEN_AFTER);
            let ours = earliest(link.ask_again_at(), link.silent_at(now));
            earliest(next, earliest(listen_at, ours))
        })
    }

    /// Whether every link has been silent long enough.
    #[must_use]
    pub fn is_finished(&self, now: Elapsed) -> bool {
        self.links.iter().all(|link| link.silent_at(now).is_none())
    }
}

impl Link {
    /// When the question goes out again, if ever.
    fn ask_again_at(&self) -> Option<Elapsed> {
        ASK_AGAIN_AFTER.get(self.asked_again).map(|after| self.asked_at + *after)
    }

    /// When its silence becomes an answer, if that is still to come.
    fn silent_at(&self, now: Elapsed) -> Option<Elapsed> {
        (now < self.silent_at).then_some(self.silent_at)
    }
}
