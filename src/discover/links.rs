//! The links on which the group of multicast DNS is asked, and when; and three ways to hear.
//!
//! Answers to an ephemeral port come back to the socket that asked. Some responders only speak to
//! the group, so after a short while we listen there as well. And a default-drop firewall, NixOS's
//! default, swallows both; a packet socket hears them before it does. That one costs some ten
//! milliseconds to close, so it too is only opened when the first question went unheard.

use std::time::Duration;

use crate::address::{Family, is_link_local};
use crate::elapsed::{Elapsed, earliest};
use crate::facts::Network;
use crate::interface::{Effects, MdnsDatagram, Output};
use crate::model::Note;
use crate::wire::dns::MDNS_PORT;

/// When the question goes out again, counted from the first time on that link: multicast is lost more
/// often than anything else, most of all on Wi-Fi, where nobody acknowledges it. The last time is for
/// responders that multicast their answers, which they do once a second at most (RFC 6762 §6).
const ASK_AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(80), Duration::from_millis(300), Duration::from_secs(1)];
/// When we begin to listen in other ways. A responder answers a question for its own name at once.
const LISTEN_AFTER: Duration = Duration::from_millis(40);
/// How long a link may be silent before it counts as having nothing to say.
const LINK_TIMEOUT: Duration = Duration::from_millis(1500);
/// The least time for a link that came when others had long been asked.
const LATE_LINK_TIMEOUT: Duration = Duration::from_millis(500);
/// Links asked, an interface counting once for each family.
const LINKS_MAX: usize = 32;

/// The links, and what they are asked.
#[derive(Debug)]
pub struct Links {
    /// The packets of each round.
    questions: Vec<Vec<u8>>,
    /// Where they were asked.
    asked: Vec<Link>,
    /// When the first link was asked, since the network came up.
    begun_at: Option<Elapsed>,
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

impl Links {
    /// Asks nobody yet; without `questions`, never.
    #[must_use]
    pub const fn new(questions: Vec<Vec<u8>>) -> Self {
        Self { questions, asked: Vec::new(), begun_at: None }
    }

    /// Asks on every link that was not there before.
    pub fn ask(&mut self, now: Elapsed, network: &Network, effects: &mut Effects) {
        if self.questions.is_empty() {
            return;
        }
        for interface in &network.interfaces {
            for family in [Family::V4, Family::V6] {
                let index = interface.link.index;
                let known =
                    self.asked.iter().any(|link| (link.interface, link.family) == (index, family));
                if known || !interface.speaks_multicast(family) || self.asked.len() == LINKS_MAX {
                    continue;
                }
                let begun_at = *self.begun_at.get_or_insert(now);
                self.asked.push(Link {
                    interface: index,
                    family,
                    asked_at: now,
                    silent_at: (begun_at + LINK_TIMEOUT).max(now + LATE_LINK_TIMEOUT),
                    asked_again: 0,
                    listens: false,
                });
                effects.note(Note::AskedLink(index, family));
                self.ask_link(index, family, effects);
            }
        }
    }

    /// The network has come up: what was asked before it did may have reached nobody.
    pub fn forget(&mut self) {
        self.asked.clear();
        self.begun_at = None;
    }

    /// Asks everybody on one link.
    fn ask_link(&self, interface: u32, family: Family, effects: &mut Effects) {
        for question in &self.questions {
            effects.output(Output::AskMulticast { interface, family, question: question.clone() });
        }
    }

    /// The packet socket hears now: ask once more, for it missed the answers to the first question.
    pub fn handle_packet_socket(&self, effects: &mut Effects) {
        for link in &self.asked {
            self.ask_link(link.interface, link.family, effects);
        }
    }

    /// Asks again and begins to listen when the time has come.
    pub fn advance(&mut self, now: Elapsed, effects: &mut Effects) {
        for index in 0..self.asked.len() {
            let Some(link) = self.asked.get_mut(index) else { return };
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
                self.ask_link(interface, family, effects);
            }
        }
    }

    /// When `advance` is next of use.
    #[must_use]
    pub fn next_at(&self, now: Elapsed) -> Option<Elapsed> {
        self.asked.iter().fold(None, |next, link| {
            let listen_at = (!link.listens).then(|| link.asked_at + LISTEN_AFTER);
            let ours = earliest(link.ask_again_at(), link.silent_at(now));
            earliest(next, earliest(listen_at, ours))
        })
    }

    /// Whether every link has been silent long enough.
    #[must_use]
    pub fn is_finished(&self, now: Elapsed) -> bool {
        self.asked.iter().all(|link| link.silent_at(now).is_none())
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

/// Whether what came from port 5353 may be believed to come from a link of ours (RFC 6762 §11):
/// multicast did, anything else must say so.
pub fn is_from_link(datagram: &MdnsDatagram, network: &Network) -> bool {
    let source = datagram.source;
    source.port() == MDNS_PORT
        && (datagram.multicast || is_link_local(source.ip()) || network.is_on_link(source.ip()))
}

/// Whether multicast DNS is spoken where this came from: the packet socket hears tunnels and the ports
/// of bridges as well, and there nobody has us ask.
pub fn may_ask(datagram: &MdnsDatagram, network: &Network) -> bool {
    let family = Family::of(datagram.source.ip());
    network.interface(datagram.interface).is_some_and(|link| link.speaks_multicast(family))
}
