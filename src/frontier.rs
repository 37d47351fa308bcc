//! Leads become candidates: each address once, the best first, none forgotten.

use std::net::SocketAddr;

use crate::facts::is_link_local;
use crate::model::{Flaw, Lead, Origin};

/// Candidates kept of one origin that names the cache: a liar fills its own share and nobody
/// else's.
const CANDIDATES_PER_ORIGIN_MAX: usize = 32;
/// Candidates kept of one weak origin: the hosts of four full /24 networks.
const WEAK_CANDIDATES_MAX: usize = 1024;

/// Everything that may be the cache.
#[derive(Debug, Default)]
pub struct Frontier {
    /// In the order in which they became known.
    candidates: Vec<Candidate>,
}

/// An address that may be the cache's.
#[derive(Debug)]
struct Candidate {
    /// Where it is, and the most trusted origin that says so.
    lead: Lead,
    /// Whether an origin that knows the cache's name gave this address for it.
    has_name: bool,
    /// How far its proof has come.
    state: State,
}

/// How far the proof of a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not begun.
    Waiting,
    /// Not begun; the server is to be called by name.
    WaitingByName,
    /// Begun.
    InFlight,
    /// Ended: not a cache, or one that was not needed.
    Done,
    /// Ended: it could not be reached, which a change of the network may change.
    Unreachable,
    /// Ended: it does not answer to its address, and we knew no name.
    RefusesAddress,
}

impl Frontier {
    /// Adds a lead; true if there is something new to try.
    pub fn add(&mut self, lead: Lead) -> bool {
        let has_name = lead.origin.knows_the_name();
        if let Some(known) =
            self.candidates.iter_mut().find(|known| known.lead.remote == lead.remote)
        {
            known.lead.origin = known.lead.origin.min(lead.origin);
            known.has_name |= has_name;
            let revived = known.has_name && known.state == State::RefusesAddress;
            if revived {
                known.state = State::WaitingByName;
            }
            return revived;
        }
        let of_origin = self.candidates.iter().filter(|known| known.lead.origin == lead.origin);
        let max =
            if lead.origin.is_named() { CANDIDATES_PER_ORIGIN_MAX } else { WEAK_CANDIDATES_MAX };
        let has_room = of_origin.count() < max;
        if has_room {
            self.candidates.push(Candidate { lead, has_name, state: State::Waiting });
        }
        has_room
    }

    /// Takes the best candidate that waits, of an origin that `may_start`: where it is and whether
    /// to call it by name.
    pub fn next(&mut self, may_start: impl Fn(Origin) -> bool) -> Option<(Lead, bool)> {
        let candidate = self
            .candidates
            .iter_mut()
            .filter(|candidate| matches!(candidate.state, State::Waiting | State::WaitingByName))
            .filter(|candidate| may_start(candidate.lead.origin))
            // A link-local address serves as well, but only on this machine and this link.
            .min_by_key(|known| (known.lead.origin, is_link_local(known.lead.remote.ip())))?;
        let by_name = candidate.state == State::WaitingByName;
        candidate.state = State::InFlight;
        Some((candidate.lead, by_name))
    }

    /// Records the flaw of a candidate; true if it is to be asked once more, by name.
    pub fn reject(&mut self, remote: SocketAddr, flaw: Flaw, by_name: bool) -> bool {
        let Some(candidate) = self.find_mut(remote) else { return false };
        candidate.state = match flaw {
            // A virtual host that is not the server's default one (attic: `allowed-hosts`).
            Flaw::Status(400..=499) if !by_name && candidate.has_name => State::WaitingByName,
            Flaw::Status(400..=499) if !by_name => State::RefusesAddress,
            Flaw::Unreachable => State::Unreachable,
            _ => State::Done,
        };
        let again = candidate.state == State::WaitingByName;
        if candidate.state == State::Done && candidate.lead.origin == Origin::Sweep {
            // A sweep comes by each address once: what is over need not be kept.
            self.candidates.retain(|known| known.lead.remote != remote);
        }
        again
    }

    /// The candidate at `remote` is proved and waits for the choice.
    pub fn close(&mut self, remote: SocketAddr) {
        if let Some(candidate) = self.find_mut(remote) {
            candidate.state = State::Done;
        }
    }

    /// Whether somebody who names the cache has a candidate that is not judged yet.
    #[must_use]
    pub fn awaits_named(&self) -> bool {
        self.candidates
            .iter()
            .any(|candidate| candidate.lead.origin.is_named() && candidate.is_open())
    }

    /// The network has changed: what was out of reach may not be so any more.
    pub fn revive_unreachable(&mut self) {
        for candidate in &mut self.candidates {
            if candidate.state == State::Unreachable {
                candidate.state = State::Waiting;
            }
        }
    }

    /// The most trusted origin of the candidate at `remote`.
    #[must_use]
    pub fn lead_to(&self, remote: SocketAddr) -> Option<Lead> {
        let mut candidates = self.candidates.iter();
        candidates.find(|candidate| candidate.lead.remote == remote).map(|candidate| candidate.lead)
    }

    /// Whether a candidate still waits or is in flight.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.candidates.iter().any(Candidate::is_open)
    }

    /// Whether a candidate of somebody who names the cache could not be reached.
    #[must_use]
    pub fn has_unreachable(&self) -> bool {
        let is_it = |candidate: &Candidate| {
            candidate.lead.origin.is_named() && candidate.state == State::Unreachable
        };
        self.candidates.iter().any(is_it)
    }

    /// The candidate at `remote`.
    fn find_mut(&mut self, remote: SocketAddr) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.lead.remote == remote)
    }
}

impl Candidate {
    /// Whether its proof has not ended.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::WaitingByName | State::InFlight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lead from `origin` to a host of 10.0.0.0/24.
    fn lead(origin: Origin, host: u8) -> Lead {
        Lead::new(origin, [10, 0, 0, host].into(), 0, 9999)
    }

    #[test]
    fn the_best_origin_goes_first_and_each_address_once() {
        let mut frontier = Frontier::default();
        assert!(frontier.add(lead(Origin::Mdns, 1)));
        assert!(frontier.add(lead(Origin::Dns, 2)));
        assert!(!frontier.add(lead(Origin::Hosts, 1)));
        assert_eq!(frontier.next(|_| true), Some((lead(Origin::Hosts, 1), false)));
        assert_eq!(frontier.next(|origin| origin != Origin::Dns), None);
        assert_eq!(frontier.next(|_| true), Some((lead(Origin::Dns, 2), false)));
        assert_eq!(frontier.next(|_| true), None);
        assert!(frontier.is_busy());
    }

    #[test]
    fn a_name_helps_before_and_after_the_refusal() {
        let mut frontier = Frontier::default();
        frontier.add(lead(Origin::Dns, 1));
        frontier.add(lead(Origin::Mdns, 2));
        while frontier.next(|_| true).is_some() {}
        assert!(frontier.reject(lead(Origin::Dns, 1).remote, Flaw::Status(400), false));
        assert_eq!(frontier.next(|_| true), Some((lead(Origin::Dns, 1), true)));
        assert!(!frontier.reject(lead(Origin::Dns, 1).remote, Flaw::Status(400), true));
        assert!(!frontier.reject(lead(Origin::Mdns, 2).remote, Flaw::Status(400), false));
        assert_eq!(frontier.next(|_| true), None);
        assert!(frontier.add(lead(Origin::Dns, 2)));
        assert_eq!(frontier.next(|_| true), Some((lead(Origin::Dns, 2), true)));
    }

    #[test]
    fn a_liar_fills_only_its_own_share() {
        let mut frontier = Frontier::default();
        let added = (0..200).filter(|host| frontier.add(lead(Origin::Dns, *host))).count();
        assert_eq!(added, CANDIDATES_PER_ORIGIN_MAX);
        assert!(frontier.add(lead(Origin::Mdns, 250)));
    }
}
