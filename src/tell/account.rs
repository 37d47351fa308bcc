//! What happened in a search, gathered while it happens: what the one cause, `--explain` and `--json`
//! are made of.

use std::net::SocketAddr;

use crate::address::{Family, is_private};
use crate::elapsed::Elapsed;
use crate::model::{Candidate, Flaw, Methods, Note, Origin, Probe, Verdict};
use crate::wire::dns::Denial;

/// Candidates kept: those of a whole sweep, were it of a crowded network.
const ASKED_MAX: usize = 1024;
/// Servers and links kept; a search asks no more.
const PEERS_MAX: usize = 32;
/// Events kept; a search that follows every word of a liar has some two hundred.
const EVENTS_MAX: usize = 1024;

/// What happened in a search.
#[derive(Debug)]
pub struct Account {
    /// The methods that may be used.
    pub(super) methods: Methods,
    /// When each origin began and was finished.
    pub(super) times: [Times; Origin::ALL.len()],
    /// The candidates and what came of them.
    pub(super) asked: Vec<Asked>,
    /// The DNS servers and what they said.
    pub(super) servers: Vec<Server>,
    /// Whether any of them has answered.
    pub(super) is_dns_heard: bool,
    /// Whether multicast DNS has named an address.
    pub(super) is_mdns_heard: bool,
    /// Where it was spoken.
    pub(super) links: Vec<(u32, Family)>,
    /// A candidate at an address that is not used, for it is neither private nor on-link, or no other
    /// host's.
    pub(super) far: Option<Candidate>,
    /// A cache that answers only at a link-local address.
    pub(super) link_local: Option<Candidate>,
    /// The sweep, if there was one.
    pub(super) sweep: Option<Swept>,
    /// Whether the time was up before everybody had answered.
    pub(super) is_cut_short: bool,
    /// Everything, if somebody wants to read it all.
    events: Option<Vec<(Elapsed, Note)>>,
}

/// When a method was at work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// When it began.
    pub began: Option<Elapsed>,
    /// When it was finished.
    pub ended: Option<Elapsed>,
}

/// A candidate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Where it is, and the most trusted origin that says so.
    pub candidate: Candidate,
    /// The most trusted origin that says so today: that it was there before says the least of all.
    pub source: Origin,
    /// What it was found to be, if it was.
    pub verdict: Option<Verdict>,
}

/// A DNS server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// The most that it has said.
    pub said: Said,
}

/// What a DNS server has said, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// An address.
    Address,
    /// That it has none.
    Denied(Denial),
    /// Nothing.
    Nothing,
}

/// How far a sweep came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swept {
    /// How it asked.
    pub probe: Probe,
    /// How many addresses there are.
    pub addresses: u32,
    /// How many it asked.
    pub sent: u32,
}

impl Account {
    /// Of a search with these methods that is about to begin; whether it `keeps_events`.
    #[must_use]
    pub fn new(methods: Methods, keeps_events: bool) -> Self {
        Self {
            methods,
            times: [Times::default(); Origin::ALL.len()],
            asked: Vec::new(),
            servers: Vec::new(),
            is_dns_heard: false,
            is_mdns_heard: false,
            links: Vec::new(),
            far: None,
            link_local: None,
            sweep: None,
            is_cut_short: false,
            events: keeps_events.then(Vec::new),
        }
    }

    /// Takes what happened at `now`.
    pub fn take(&mut self, now: Elapsed, note: &Note) {
        if let Some(events) = &mut self.events
            && events.len() < EVENTS_MAX
            && note.is_worth_telling()
        {
            events.push((now, *note));
        }
        match *note {
            Note::Started(origin) => {
                self.begin(origin, now);
                // What the host itself knows is told at once, and needs no network.
                if matches!(origin, Origin::Previous | Origin::Hosts) {
                    self.end(origin, now);
                }
            }
            Note::Finished(origin) => self.end(origin, now),
            Note::AskedLink(interface, family) => {
                self.begin(Origin::Mdns, now);
                self.begin(Origin::Announced, now);
                let link = (interface, family);
                if self.links.len() < PEERS_MAX && !self.links.contains(&link) {
                    self.links.push(link);
                }
            }
            Note::AskedServer(address) => {
                self.begin(Origin::Dns, now);
                if self.servers.len() < PEERS_MAX {
                    self.servers.push(Server { address, said: Said::Nothing });
                }
            }
            Note::ServerSaid(address, denial) => {
                let server = self.servers.iter_mut().find(|server| server.address == address);
                self.is_dns_heard |= denial != Some(Denial::Unreachable);
                if let Some(server) = server {
                    server.said = server.said.min(denial.map_or(Said::Address, Said::Denied));
                }
            }
            Note::Added(candidate) => {
                self.is_mdns_heard |= candidate.origin == Origin::Mdns;
                self.take_verdict(candidate, None);
            }
            Note::Judged(candidate, verdict) => self.take_verdict(candidate, Some(verdict)),
            Note::NotPrivate(candidate) => {
                self.is_mdns_heard |= candidate.origin == Origin::Mdns;
                // The others are a link's own.
                if !is_private(candidate.remote.ip()) {
                    self.far = self.far.or(Some(candidate));
                }
            }
            Note::OnlyLinkLocal(candidate) => self.link_local = Some(candidate),
            Note::Sweeps { probe, addresses } => {
                self.sweep = Some(Swept { probe, addresses, sent: 0 });
            }
            Note::Swept { sent, .. } => {
                if let Some(sweep) = &mut self.sweep {
                    sweep.sent = sent;
                }
            }
            Note::BudgetSpent => self.is_cut_short = true,
            Note::NetworkUp(_)
            | Note::LinkLocal(_)
            | Note::Unusable(..)
            | Note::AskedByName(_)
            | Note::Held(_)
            | Note::Chosen(_) => {}
        }
    }

    /// Everything that happened, in the order in which it did, if that was to be kept.
    pub(super) fn events(&self) -> &[(Elapsed, Note)] {
        self.events.as_deref().unwrap_or_default()
    }

    /// When a method was at work.
    pub(super) fn times(&self, origin: Origin) -> Times {
        self.times.get(origin as usize).copied().unwrap_or_default()
    }

    /// Whether the user's own word was all that counted.
    pub(super) fn is_ordered(&self) -> bool {
        self.times(Origin::Override).began.is_some()
    }

    /// Whether a method was to be used; beside an order of the user none is.
    pub(super) fn is_used(&self, origin: Origin) -> bool {
        let is_order = origin == Origin::Override;
        is_order == self.is_ordered() && (is_order || self.methods.contains(origin))
    }

    /// The candidates of a method, each with the best of those that know it.
    pub(super) fn of(&self, origin: Origin) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(move |asked| asked.candidate.origin == origin)
    }

    /// How many other hosts were seen: of the family that shows more, for most have both.
    pub(super) fn hosts(&self) -> u32 {
        let mut counts = [0, 0];
        let [v4, v6] = &mut counts;
        for asked in &self.asked {
            // What no route leads to is there for nobody.
            let is_seen = !asked.candidate.origin.is_named()
                && !self.is_guess(asked)
                && asked.flaw() != Some(Flaw::Unreachable);
            if is_seen || !asked.is_absent() {
                *if asked.candidate.remote.is_ipv4() { &mut *v4 } else { &mut *v6 } += 1;
            }
        }
        let [v4, v6] = counts;
        v4.max(v6)
    }

    /// Whether nobody has seen the host: a sweep that connects makes a candidate of each address.
    fn is_guess(&self, asked: &Asked) -> bool {
        asked.candidate.origin == Origin::Sweep
            && self.sweep.is_some_and(|sweep| sweep.probe == Probe::Connect)
    }

    /// Notes when a method began.
    fn begin(&mut self, origin: Origin, now: Elapsed) {
        if let Some(times) = self.times.get_mut(origin as usize)
            && (origin == Origin::Override || self.methods.contains(origin))
        {
            *times = Times { began: times.began.or(Some(now)), ended: None };
        }
    }

    /// Notes when a method was finished.
    fn end(&mut self, origin: Origin, now: Elapsed) {
        if let Some(times) = self.times.get_mut(origin as usize) {
            times.ended = times.ended.or(Some(now));
        }
    }

    /// Takes in a candidate, or what it was found to be.
    fn take_verdict(&mut self, candidate: Candidate, verdict: Option<Verdict>) {
        let origin = candidate.origin;
        let asked = Asked { candidate, source: origin, verdict };
        let known = self.asked.iter_mut().find(|known| known.candidate.is_same(&candidate));
        if let Some(known) = known {
            // To who has been asked any weak method leads; the first has.
            if origin.is_named() {
                known.candidate.origin = known.candidate.origin.min(origin);
                if known.source == Origin::Previous {
                    known.source = origin;
                } else if origin != Origin::Previous {
                    known.source = known.source.min(origin);
                }
            }
            // Who has answered once is no stranger when he is silent later.
            if verdict.is_some() && (asked.has_answered() || !known.has_answered()) {
                known.verdict = verdict;
            }
        } else if self.asked.len() < ASKED_MAX && !(self.is_guess(&asked) && asked.is_absent()) {
            self.asked.push(asked);
        }
    }
}

impl Asked {
    /// What is wrong with it.
    pub(super) const fn flaw(&self) -> Option<Flaw> {
        match self.verdict {
            Some(Verdict::NotACache(flaw)) => Some(flaw),
            _ => None,
        }
    }

    /// The same; of one that somebody names, and that the time was not enough for, that it does not answer.
    pub(super) const fn told_flaw(&self) -> Option<Flaw> {
        match self.verdict {
            None if self.candidate.origin.is_named() => Some(Flaw::NoConnection),
            _ => self.flaw(),
        }
    }

    /// Whether it has said something.
    pub(super) fn has_answered(&self) -> bool {
        self.verdict == Some(Verdict::Cache) || self.flaw().is_some_and(|flaw| !flaw.is_silence())
    }

    /// Whether it sends us elsewhere for now, as a captive portal does; for good (301 and 308, RFC 9110
    /// §15.4) a server sends everybody to where it speaks TLS.
    pub(super) const fn is_redirect(&self) -> bool {
        matches!(self.flaw(), Some(Flaw::Status(302 | 303 | 307)))
    }

    /// Whether there may be no host at all.
    pub(super) const fn is_absent(&self) -> bool {
        matches!(self.flaw(), None | Some(Flaw::NoConnection | Flaw::Unreachable))
            && !matches!(self.verdict, Some(Verdict::Cache))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever comes later, and whether the network does: the others end when it is over.
    #[test]
    fn what_the_host_knows_is_told_at_once() {
        let at = Elapsed::from_micros;
        let mut account = Account::new(Methods::all(), false);
        for origin in [Origin::Previous, Origin::Hosts, Origin::Gateway] {
            account.take(at(200), &Note::Started(origin));
        }
        account.take(at(900), &Note::Finished(Origin::Hosts));
        let ended = |origin| account.times(origin).ended;
        assert_eq!(ended(Origin::Previous), Some(at(200)));
        assert_eq!(ended(Origin::Hosts), Some(at(200)));
        assert_eq!(ended(Origin::Gateway), None);
    }
}
