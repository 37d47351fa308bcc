//! The candidates: each address and path once, the best first, none forgotten or written off early.

use std::net::IpAddr;
use std::time::Duration;

use crate::address::{is_approachable, is_link_local, is_private, needs_zone};
use crate::facts::Network;
use crate::model::{Candidate, Flaw, Origin, Reach};

/// Candidates kept of one origin that names the cache.
const NAMED_CANDIDATES_MAX: usize = 128;
/// Candidates kept that one machine names besides itself: a liar fills its own share and nobody
/// else's, and an honest one has an IPv4 and an IPv6 address or two.
const OTHERS_PER_SPEAKER_MAX: usize = 4;
/// Candidates kept of one weak origin: the hosts of four full /24 networks.
const WEAK_CANDIDATES_MAX: usize = 1024;
/// Candidates kept, and told of, at addresses that are too far away for the network as it is: one
/// answer's worth.
const FAR_CANDIDATES_MAX: usize = 16;
/// How long a cache that a weak method led to waits for one that somebody names.
pub const NAMED_HEAD_START: Duration = Duration::from_millis(130);
/// The same when the named one has answered at an address that Nix cannot use: the table of neighbours
/// has been read by then, where its other one may be.
const SAME_HOST_TIME: Duration = Duration::from_secs(1);

/// Everything that may be the cache.
#[derive(Debug, Default)]
pub struct Frontier {
    /// In the order in which they became known.
    entries: Vec<Entry>,
    /// Those at addresses that are too far away, unless the network changes.
    far: Vec<Candidate>,
}

/// What has become of a candidate that somebody came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There is something new to try.
    New,
    /// There is not.
    NotNew,
    /// Another machine wants to send us out of our network.
    TooFar,
}

/// An address and a path that may be the cache's.
#[derive(Debug)]
struct Entry {
    /// Where it is, and the most trusted origin that says so.
    candidate: Candidate,
    /// Which of its speaker's candidates it is: the first of everybody come before anybody's second.
    /// A machine that names itself always is its own first.
    turn: usize,
    /// How far it has come.
    state: State,
}

/// How far a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked, by its address.
    Waiting,
    /// To be asked, by its name.
    WaitingByName,
    /// Being asked.
    InFlight,
    /// A cache, held until the choice.
    Verified,
    /// No connection, or no whole answer: what another network, or somebody who names it, may change.
    NoAnswer(Flaw),
    /// It does not answer to its address, and we know no name.
    RefusesAddress,
    /// It has answered, and is not a cache.
    NotACache,
}

impl Frontier {
    /// Takes in a candidate, if it may be asked in the network as it is now.
    pub fn admit(&mut self, candidate: Candidate, network: &Network) -> Admission {
        let address = candidate.remote.ip();
        let is_far = candidate.origin.is_hearsay()
            && (!network.is_own(address) || address.is_loopback())
            && !self.far.contains(&candidate);
        if may_be_asked(&candidate, network) {
            if self.add(candidate) { Admission::New } else { Admission::NotNew }
        } else if is_far && self.far.len() < FAR_CANDIDATES_MAX {
            self.far.push(candidate);
            Admission::TooFar
        } else {
            Admission::NotNew
        }
    }

    /// Adds a candidate; true if there is something new to try.
    fn add(&mut self, candidate: Candidate) -> bool {
        match self.find_mut(&candidate) {
            Some(known) => known.confirm(candidate),
            None => self.insert(candidate),
        }
    }

    /// Adds a candidate if its speaker, and its origin, have room for one more.
    fn insert(&mut self, candidate: Candidate) -> bool {
        let of_origin =
            || self.entries.iter().filter(|known| known.candidate.origin == candidate.origin);
        let max =
            if candidate.origin.is_named() { NAMED_CANDIDATES_MAX } else { WEAK_CANDIDATES_MAX };
        let turn = if names_another(&candidate) {
            let is_rival = |known: &&Entry| {
                known.candidate.speaker == candidate.speaker && names_another(&known.candidate)
            };
            1 + of_origin().filter(is_rival).count()
        } else {
            0
        };
        let has_room = turn <= OTHERS_PER_SPEAKER_MAX && of_origin().count() < max;
        if has_room {
            // The cache of an earlier search that wanted its name wants it still.
            let by_name = candidate.has_name && candidate.origin == Origin::Previous;
            let state = if by_name { State::WaitingByName } else { State::Waiting };
            self.entries.push(Entry { candidate, turn, state });
        }
        has_room
    }

    /// Takes the best candidate that waits and, by its origin and its turn among its speaker's,
    /// `may_start`: where it is and whether to call it by name.
    pub fn next(&mut self, may_start: impl Fn(Origin, usize) -> bool) -> Option<(Candidate, bool)> {
        let entry = self
            .entries
            .iter_mut()
            .filter(|entry| matches!(entry.state, State::Waiting | State::WaitingByName))
            .filter(|entry| may_start(entry.candidate.origin, entry.turn))
            .min_by_key(|known| {
                (needs_zone(known.address()), known.candidate.origin, known.turn)
            })?;
        let by_name = entry.state == State::WaitingByName;
        entry.state = State::InFlight;
        Some((entry.candidate, by_name))
    }

    /// Records the flaw that an attempt has shown; true if the candidate is to be asked once more, by
    /// name, if it `may_by_name`. `tried` is what the attempt was made for.
    pub fn reject(&mut self, tried: &Candidate, flaw: Flaw, may_by_name: bool) -> bool {
        let Some(entry) = self.find_mut(tried) else { return false };
        let wants_name = may_by_name && flaw.may_want_name();
        entry.state = if wants_name && entry.candidate.has_name {
            State::WaitingByName
        } else if entry.candidate.origin.is_named() && !tried.origin.is_named() {
            // Named meanwhile: it gets the time that the named have.
            State::Waiting
        } else if flaw.is_silence() {
            State::NoAnswer(flaw)
        } else if wants_name {
            State::RefusesAddress
        } else {
            State::NotACache
        };
        let again = entry.state == State::WaitingByName;
        if !entry.is_open() && entry.candidate.origin == Origin::Sweep {
            // A sweep comes by each address once: what is over need not be kept.
            self.entries.retain(|known| !known.candidate.is_same(tried));
        }
        again
    }

    /// The candidate is a cache and waits for the choice.
    pub fn hold(&mut self, candidate: &Candidate) {
        if let Some(entry) = self.find_mut(candidate) {
            entry.state = State::Verified;
        }
    }

    /// This is another network: those that have not answered are asked again, if they may still be, and
    /// those that were too far away are to be admitted anew.
    pub fn handle_move(&mut self, network: &Network) -> Vec<Candidate> {
        for entry in &mut self.entries {
            if matches!(entry.state, State::NoAnswer(_)) && may_be_asked(&entry.candidate, network)
            {
                entry.state = State::Waiting;
            }
        }
        std::mem::take(&mut self.far)
    }

    /// The candidate with its most trusted origin.
    #[must_use]
    pub fn best_known(&self, candidate: Candidate) -> Option<Candidate> {
        self.candidates(move |entry| entry.candidate.is_same(&candidate)).next()
    }

    /// The link-local addresses at which a cache answers.
    pub fn link_local_caches(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.candidates(|known| known.state == State::Verified && needs_zone(known.address()))
    }

    /// How long a cache that a weak method led to waits. When the named one has answered at an address that
    /// needs a zone, its other one has a little more time to be found.
    #[must_use]
    pub fn named_head_start(&self) -> Duration {
        let is_named = self.link_local_caches().any(|candidate| candidate.origin.is_named());
        if is_named { SAME_HOST_TIME } else { NAMED_HEAD_START }
    }

    /// Whether a candidate that could win is not judged yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.candidates(Entry::may_yet_win).next().is_some()
    }

    /// The same of those that somebody names.
    #[must_use]
    pub fn awaits_named(&self) -> bool {
        self.candidates(Entry::may_yet_win).any(|candidate| candidate.origin.is_named())
    }

    /// Whether a candidate that somebody names could not be reached.
    #[must_use]
    pub fn has_unreachable(&self) -> bool {
        let is_it = |known: &Entry| {
            known.state == State::NoAnswer(Flaw::Unreachable) && !needs_zone(known.address())
        };
        self.candidates(is_it).any(|candidate| candidate.origin.is_named())
    }

    /// The candidates of one kind.
    fn candidates<'a>(
        &'a self,
        is_wanted: impl Fn(&Entry) -> bool + 'a,
    ) -> impl Iterator<Item = Candidate> + 'a {
        self.entries.iter().filter(move |known| is_wanted(known)).map(|known| known.candidate)
    }

    /// The entry of a candidate.
    fn find_mut(&mut self, candidate: &Candidate) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.candidate.is_same(candidate))
    }
}

impl Entry {
    /// Its address.
    const fn address(&self) -> IpAddr {
        self.candidate.remote.ip()
    }

    /// Takes in that `candidate` is this address, too; true if that is a reason to ask again.
    fn confirm(&mut self, candidate: Candidate) -> bool {
        let is_named_now = candidate.origin.is_named() && !self.candidate.origin.is_named();
        self.candidate.origin = self.candidate.origin.min(candidate.origin);
        let gives_name = candidate.has_name && !self.candidate.has_name;
        self.candidate.has_name |= candidate.has_name;
        if !names_another(&candidate) {
            // Whoever else has named it does not hold it back.
            (self.candidate.speaker, self.turn) = (candidate.speaker, 0);
        }
        self.state = match self.state {
            State::RefusesAddress | State::NoAnswer(Flaw::Broken) if gives_name => {
                State::WaitingByName
            }
            // A weak one has had little time, or waits for those that are named.
            _ if is_named_now && !self.is_open() => State::Waiting,
            _ => return false,
        };
        true
    }

    /// Whether it is not judged yet.
    const fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::WaitingByName | State::InFlight)
    }

    /// Whether it is not judged yet and can be the winner: one that needs a zone delays nobody.
    fn may_yet_win(&self) -> bool {
        self.is_open() && !needs_zone(self.address())
    }
}

/// Whether a candidate may be asked in this network.
fn may_be_asked(candidate: &Candidate, network: &Network) -> bool {
    let address = candidate.remote.ip();
    let is_others = || !network.is_own(address);
    let is_on_link = || network.is_on_link(address);
    match candidate.origin.reach() {
        Reach::Anywhere => true,
        Reach::Private if address.is_loopback() => false,
        // What this host announces itself brings it nothing.
        Reach::Private if candidate.origin == Origin::Announced && !is_others() => false,
        Reach::Private if is_link_local(address) => is_on_link() && is_others(),
        Reach::Private => is_private(address) || is_on_link(),
        Reach::OnLan => is_approachable(address) && network.is_on_lan(address) && is_others(),
    }
}

/// Whether a machine names another than itself.
fn names_another(candidate: &Candidate) -> bool {
    candidate.speaker.is_some_and(|speaker| speaker != candidate.remote.ip())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::facts::test_networks::network;
    use crate::path::Paths;

    /// A host of 10.0.0.0/24.
    fn remote(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 9999))
    }

    /// A candidate from `origin`: a host of 10.0.0.0/24.
    fn candidate(origin: Origin, host: u8) -> Candidate {
        Candidate { has_name: origin == Origin::Dns, ..Candidate::new(origin, remote(host)) }
    }

    #[test]
    fn the_best_origin_goes_first_and_each_address_once() {
        let mut frontier = Frontier::default();
        assert!(frontier.add(candidate(Origin::Mdns, 1)));
        assert!(frontier.add(candidate(Origin::Dns, 2)));
        assert!(!frontier.add(candidate(Origin::Hosts, 1)));
        assert_eq!(frontier.next(|_, _| true), Some((candidate(Origin::Hosts, 1), false)));
        assert_eq!(frontier.next(|origin, _| origin != Origin::Dns), None);
        assert_eq!(frontier.next(|_, _| true), Some((candidate(Origin::Dns, 2), false)));
        assert_eq!(frontier.next(|_, _| true), None);
        assert!(frontier.is_busy());
    }

    #[test]
    fn who_is_asked_depends_on_who_names_it() {
        const NEW: Admission = Admission::New;
        const NOT_NEW: Admission = Admission::NotNew;
        const TOO_FAR: Admission = Admission::TooFar;
        let named_by_us = [Origin::Override, Origin::Previous, Origin::Hosts, Origin::Sweep];
        let hearsay = [Origin::Dns, Origin::Mdns];
        let weak = [Origin::Gateway, Origin::Neighbours, Origin::Ping];
        // Our address, another, and what becomes of it: named by us, by others, by one who announces it, by
        // nobody.
        for (own, other, by_us, by_others, announced, by_nobody) in [
            ("10.0.0.5/24", "10.0.0.9", NEW, NEW, NEW, NEW),
            ("10.0.0.5/24", "10.0.0.5", NEW, NEW, NOT_NEW, NOT_NEW),
            ("10.0.0.5/24", "192.168.7.1", NEW, NEW, NEW, NOT_NEW),
            ("10.0.0.5/24", "203.0.113.9", NEW, TOO_FAR, TOO_FAR, NOT_NEW),
            ("10.0.0.5/24", "127.0.0.1", NEW, TOO_FAR, TOO_FAR, NOT_NEW),
            ("127.0.0.1/8", "127.0.0.2", NEW, TOO_FAR, TOO_FAR, NOT_NEW),
            ("10.0.0.5/24", "169.254.3.9", NEW, TOO_FAR, TOO_FAR, NOT_NEW),
            ("203.0.113.5/24", "203.0.113.9", NEW, NEW, NEW, NOT_NEW),
            ("203.0.113.5/24", "203.0.113.5", NEW, NEW, NOT_NEW, NOT_NEW),
            ("169.254.3.5/16", "169.254.3.9", NEW, NEW, NEW, NOT_NEW),
            ("169.254.3.5/16", "169.254.3.5", NEW, NOT_NEW, NOT_NEW, NOT_NEW),
        ] {
            let (address, length) = own.split_once('/').unwrap();
            let network = network(0x11043, address, length.parse().unwrap());
            let remote = SocketAddr::new(other.parse().unwrap(), 9999);
            let admit = |origin| {
                let mut frontier = Frontier::default();
                let candidate = Candidate::new(origin, remote);
                let first = frontier.admit(candidate, &network);
                assert_eq!(frontier.admit(candidate, &network), Admission::NotNew, "once");
                first
            };
            let all = |origins: &[Origin], expected| {
                assert!(origins.iter().all(|origin| admit(*origin) == expected), "{own} {other}");
            };
            all(&named_by_us, by_us);
            all(&hearsay, by_others);
            all(&[Origin::Announced], announced);
            all(&weak, by_nobody);
        }
    }

    #[test]
    fn not_every_address_that_is_too_far_away_is_told_of() {
        let mut frontier = Frontier::default();
        let network = Network::default();
        let told = (0..100).filter(|host| {
            let remote = SocketAddr::from(([192, 0, 2, *host], 80));
            let candidate = Candidate::new(Origin::Mdns, remote);
            frontier.admit(candidate, &network) == Admission::TooFar
        });
        assert_eq!(told.count(), FAR_CANDIDATES_MAX);
    }

    #[test]
    fn one_server_may_have_several_caches() {
        let mut paths = Paths::new("/system".to_owned());
        let path = paths.add(b"/").unwrap();
        let other = Candidate { path, ..candidate(Origin::Neighbours, 1) };
        let configured = candidate(Origin::Gateway, 1);
        let mut frontier = Frontier::default();
        assert!(frontier.add(configured) && frontier.add(other) && !frontier.add(other));
        assert_eq!(frontier.next(|_, _| true), Some((configured, false)));
        assert_eq!(frontier.next(|_, _| true), Some((other, false)));
        frontier.reject(&configured, Flaw::Status(404), false);
        assert!(frontier.is_busy(), "the other is being asked");
        assert_eq!(frontier.best_known(other), Some(other));
        frontier.reject(&other, Flaw::Status(404), false);
        assert!(!frontier.is_busy());
    }

    #[test]
    fn a_name_helps_before_and_after_the_refusal() {
        for flaw in [Flaw::Status(400), Flaw::Status(301), Flaw::NotCacheInfo] {
            let mut frontier = Frontier::default();
            frontier.add(candidate(Origin::Dns, 1));
            frontier.add(candidate(Origin::Mdns, 2));
            while frontier.next(|_, _| true).is_some() {}
            assert!(frontier.reject(&candidate(Origin::Dns, 1), flaw, true));
            assert_eq!(frontier.next(|_, _| true), Some((candidate(Origin::Dns, 1), true)));
            assert!(!frontier.reject(&candidate(Origin::Dns, 1), flaw, false));
            assert!(!frontier.reject(&candidate(Origin::Mdns, 2), flaw, true));
            assert_eq!(frontier.next(|_, _| true), None);
            assert!(frontier.add(candidate(Origin::Dns, 2)));
            assert_eq!(frontier.next(|_, _| true), Some((candidate(Origin::Dns, 2), true)));
        }
    }

    #[test]
    fn who_wanted_its_name_before_is_called_by_it() {
        let mut frontier = Frontier::default();
        let previous = Candidate { has_name: true, ..candidate(Origin::Previous, 1) };
        frontier.add(previous);
        assert_eq!(frontier.next(|_, _| true), Some((previous, true)));
    }

    #[test]
    fn who_is_named_after_it_failed_is_asked_again() {
        for flaw in [Flaw::Refused, Flaw::NoConnection, Flaw::Status(404), Flaw::OtherStore] {
            // Named after the failure, and before.
            for early in [false, true] {
                let mut frontier = Frontier::default();
                let weak = candidate(Origin::Gateway, 1);
                frontier.add(weak);
                assert_eq!(frontier.next(|_, _| true), Some((weak, false)));
                assert!(!(early && frontier.add(candidate(Origin::Mdns, 1))), "in flight");
                frontier.reject(&weak, flaw, true);
                assert_eq!(!early && frontier.add(candidate(Origin::Mdns, 1)), !early);
                assert!(frontier.awaits_named());
                assert_eq!(
                    frontier.next(|_, _| true),
                    Some((candidate(Origin::Mdns, 1), false)),
                    "{flaw:?}"
                );
                frontier.reject(&candidate(Origin::Mdns, 1), flaw, true);
                assert!(!frontier.add(candidate(Origin::Mdns, 1)), "once");
                assert_eq!(frontier.next(|_, _| true), None);
            }
        }
    }

    #[test]
    fn a_held_cache_that_is_named_then_is_asked_again_and_wins() {
        let mut frontier = Frontier::default();
        frontier.add(candidate(Origin::Neighbours, 1));
        frontier.next(|_, _| true);
        frontier.hold(&candidate(Origin::Neighbours, 1));
        assert!(frontier.add(candidate(Origin::Dns, 1)) && frontier.awaits_named());
        assert_eq!(frontier.next(|_, _| true), Some((candidate(Origin::Dns, 1), false)));
    }

    #[test]
    fn another_network_is_another_chance_for_the_silent() {
        let mut frontier = Frontier::default();
        for (host, flaw) in [
            (1, Flaw::Unreachable),
            (2, Flaw::NoConnection),
            (3, Flaw::Status(404)),
            (4, Flaw::Refused),
        ] {
            frontier.add(candidate(Origin::Mdns, host));
            frontier.next(|_, _| true);
            frontier.reject(&candidate(Origin::Mdns, host), flaw, false);
        }
        // Only on-link addresses may be public.
        let silent: SocketAddr = "203.0.113.2:9999".parse().unwrap();
        frontier.add(Candidate::heard(Origin::Dns, silent, silent.ip()));
        frontier.next(|_, _| true);
        frontier.reject(&Candidate::new(Origin::Dns, silent), Flaw::Refused, false);
        assert_eq!(frontier.handle_move(&Network::default()), []);
        for host in [1, 2, 4] {
            assert_eq!(frontier.next(|_, _| true), Some((candidate(Origin::Mdns, host), false)));
        }
        assert_eq!(frontier.next(|_, _| true), None);
    }

    #[test]
    fn who_is_out_of_reach_is_waited_for_if_somebody_names_it() {
        let ghost = "[fe80::1%2]:9999".parse().unwrap();
        for (origin, remote, flaw, is_waited_for) in [
            (Origin::Override, remote(1), Flaw::Unreachable, true),
            (Origin::Override, remote(1), Flaw::Refused, false),
            (Origin::Ping, remote(1), Flaw::Unreachable, false),
            (Origin::Dns, ghost, Flaw::Unreachable, false),
        ] {
            let mut frontier = Frontier::default();
            let candidate = Candidate::new(origin, remote);
            frontier.add(candidate);
            frontier.next(|_, _| true);
            assert!(!frontier.has_unreachable());
            frontier.reject(&candidate, flaw, true);
            assert_eq!(frontier.has_unreachable(), is_waited_for, "{origin:?} {remote} {flaw:?}");
        }
    }

    #[test]
    fn a_liar_fills_only_its_own_share() {
        let mut frontier = Frontier::default();
        let heard =
            |host, speaker| Candidate::heard(Origin::Mdns, remote(host), remote(speaker).ip());
        let added = (0..32).filter(|host| frontier.add(heard(*host, 200))).count();
        assert_eq!(added, OTHERS_PER_SPEAKER_MAX);
        assert!(frontier.add(heard(201, 202)), "another's other");
        assert!(frontier.add(heard(203, 203)), "an honest one");
        assert!(!frontier.add(heard(3, 3)), "known, but not for itself");
        let order: Vec<_> = std::iter::from_fn(|| frontier.next(|_, _| true))
            .map(|(candidate, _)| candidate.remote)
            .collect();
        assert_eq!(order, [3, 203, 0, 201, 1, 2].map(remote));
    }

    #[test]
    fn each_origin_has_room_for_so_many() {
        for (origin, max) in
            [(Origin::Mdns, NAMED_CANDIDATES_MAX), (Origin::Ping, WEAK_CANDIDATES_MAX)]
        {
            let mut frontier = Frontier::default();
            let remotes = (0..2000_u16).map(|host| {
                let [high, low] = host.to_be_bytes();
                SocketAddr::from(([10, 1, high, low], 9999))
            });
            let added = remotes.filter(|remote| frontier.add(Candidate::new(origin, *remote)));
            assert_eq!(added.count(), max);
            assert!(frontier.add(candidate(Origin::Dns, 1)), "another's");
        }
    }

    #[test]
    fn a_link_local_address_delays_nobody() {
        let mut frontier = Frontier::default();
        let ghost = Candidate::new(Origin::Dns, "[fe80::1%2]:9999".parse().unwrap());
        frontier.add(ghost);
        frontier.add(candidate(Origin::Dns, 2));
        assert_eq!(
            frontier.next(|_, _| true).unwrap().0,
            candidate(Origin::Dns, 2),
            "the other first"
        );
        frontier.reject(&candidate(Origin::Dns, 2), Flaw::Refused, true);
        assert_eq!(frontier.next(|_, _| true), Some((ghost, false)));
        assert!(!frontier.is_busy() && !frontier.awaits_named());
        frontier.hold(&ghost);
        assert_eq!(frontier.link_local_caches().collect::<Vec<_>>(), [ghost]);
        // Nor does whoever answers a ping in a thousand of their names.
        let ghost = Candidate::new(Origin::Ping, "[fe80::2%2]:9999".parse().unwrap());
        let swept = candidate(Origin::Sweep, 9);
        assert!(frontier.add(ghost) && frontier.add(swept));
        for expected in [swept, ghost] {
            assert_eq!(frontier.next(|_, _| true), Some((expected, false)));
        }
    }

    #[test]
    fn a_sweep_of_dead_addresses_leaves_nothing_behind() {
        let mut frontier = Frontier::default();
        for host in 0..5000_u16 {
            let [high, low] = host.to_be_bytes();
            let candidate =
                Candidate::new(Origin::Sweep, SocketAddr::from(([10, 1, high, low], 9999)));
            assert!(frontier.add(candidate), "{host}");
            frontier.next(|_, _| true);
            frontier.reject(&candidate, Flaw::Unreachable, true);
        }
    }
}
