//! One whole search, without a socket or a clock: routing, budget, and the choice of the winner.

use std::time::Duration;

use crate::address::{is_approachable, is_link_local, is_private, needs_zone, with_port};
use crate::config::Config;
use crate::discover::Discovery;
use crate::facts::{Known, Neighbour, Network};
use crate::frontier::Frontier;
use crate::model::{
    Candidate, Channel, Effects, Elapsed, Flaw, Found, Input, Methods, Note, Origin, Outcome,
    Output, Reach, Verdict,
};
use crate::path::Paths;
use crate::verify::{Judged, Verify};

/// How often the network's state is read again without being told: a DHCP client may write
/// resolv.conf, which nothing announces, some time after it has set the address.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// How long the files and DNS have before the network is looked at, if they are not done sooner. A
/// server on the LAN answers in a fraction of this, and then nobody else is ever bothered.
const QUIET_TIME: Duration = Duration::from_millis(2);
/// How long a network that came up while we waited may still change before it is judged.
const NETWORK_SETTLE_TIME: Duration = Duration::from_secs(1);
/// The part of the budget kept for writing the files, within the limits that follow.
const RESERVE_SHARE: u32 = 10;
/// The least time kept: closing a packet socket takes the kernel up to 20 ms.
const RESERVE_MIN: Duration = Duration::from_millis(30);
/// The most time kept: two fsyncs of a busy disk.
const RESERVE_MAX: Duration = Duration::from_millis(100);

/// How long a cache that a weak method led to waits for one that somebody names.
const NAMED_HEAD_START: Duration = Duration::from_millis(250);

/// The same when the named one has answered at an address that Nix cannot use: the table of neighbours
/// has been read by then, where its other one may be.
const SAME_HOST_TIME: Duration = Duration::from_secs(1);
/// Changes of the network after which who was silent is asked again: containers and cables that come
/// and go all the time must not keep the search from ending.
const MOVES_MAX: u32 = 4;
/// Candidates kept at addresses that are too far away for the network as it is.
const FAR_CANDIDATES_MAX: usize = 16;

/// A search under way. Feed it with [`handle`](Self::handle), then drain
/// [`next_output`](Self::next_output) until that says to wait or that it is finished.
#[derive(Debug)]
pub struct Search {
    /// When the search ends whatever has come of it.
    ends_at: Elapsed,
    /// The network as last seen.
    network: Network,
    /// Whether it was looked at.
    saw_network: bool,
    /// Since when there is a network.
    up_since: Option<Elapsed>,
    /// Whether the network has been down during the search.
    came_up_late: bool,
    /// How often it has changed.
    changes: u32,
    /// When the network is next read.
    read_at: Elapsed,
    /// Who looks for candidates.
    discovery: Discovery,
    /// What may be the cache.
    frontier: Frontier,
    /// What is being verified.
    verify: Verify,
    /// What the event loop has to do, oldest first, and candidates that are not yet followed.
    effects: Effects,
    /// Candidates at addresses that are too far away, unless the network changes.
    far_candidates: Vec<Candidate>,
    /// The verified cache of the best weak origin so far.
    held: Option<Found>,
    /// The verified cache.
    winner: Option<Found>,
    /// The end, once it has come.
    outcome: Option<Outcome>,
    /// The time of the last input.
    now: Elapsed,
}

impl Search {
    /// A search with `methods` that begins with what the host knows; `seed` makes query ids hard to
    /// guess.
    #[must_use]
    pub fn new(config: &Config, methods: Methods, known: &Known, seed: u64) -> Self {
        let reserve = (config.budget / RESERVE_SHARE).clamp(RESERVE_MIN, RESERVE_MAX);
        let paths = Paths::new(config.path.clone());
        let mut effects = Effects { paths, ..Effects::default() };
        let discovery = Discovery::new(config, methods, known, seed, &mut effects);
        Self {
            ends_at: Elapsed::START + config.budget.saturating_sub(reserve),
            network: Network::default(),
            saw_network: false,
            up_since: None,
            came_up_late: false,
            changes: 0,
            read_at: Elapsed::START + QUIET_TIME,
            discovery,
            frontier: Frontier::default(),
            verify: Verify::new(config.host.text.clone()),
            effects,
            far_candidates: Vec::new(),
            held: None,
            winner: None,
            outcome: None,
            now: Elapsed::START,
        }
    }

    /// Takes what happened at `now`, which never runs backwards.
    pub fn handle(&mut self, now: Elapsed, input: Input<'_>) {
        if self.outcome.is_some() {
            return;
        }
        self.now = now;
        let judged = match input {
            Input::Stop => return self.finish(Outcome::Interrupted),
            Input::Network(network) => {
                self.handle_network(network);
                None
            }
            Input::Connected(Channel::Verify(channel)) => {
                self.verify.handle_connected(now, channel);
                None
            }
            Input::Received(Channel::Verify(channel), bytes) => {
                self.verify.handle_received(channel, bytes, &mut self.effects)
            }
            Input::Failed(Channel::Verify(channel), failure) => {
                self.verify.handle_failed(channel, failure)
            }
            other => {
                self.discovery.handle(now, &other, &self.network, &mut self.effects);
                None
            }
        };
        if let Some(judged) = judged {
            self.judge(judged);
        }
        self.advance();
    }

    /// The next thing to do; nothing else is due once it says to wait.
    pub fn next_output(&mut self) -> Output {
        match (self.effects.outputs.pop_front(), self.outcome) {
            (Some(output), _) => output,
            (None, Some(outcome)) => Output::Finished(outcome),
            (None, None) => Output::WaitUntil(self.next_at()),
        }
    }

    /// The paths that candidates have.
    #[must_use]
    pub const fn paths(&self) -> &Paths {
        &self.effects.paths
    }

    /// Takes the network's state.
    fn handle_network(&mut self, network: Network) {
        self.read_at = self.now + READ_INTERVAL;
        if self.saw_network && self.network == network {
            return;
        }
        self.saw_network = true;
        let was_up = self.network.is_up();
        let has_moved =
            self.changes < MOVES_MAX && self.network.clone().place() != network.clone().place();
        self.changes += u32::from(has_moved);
        self.network = network;
        let is_up = self.network.is_up();
        self.came_up_late |= !is_up;
        if has_moved {
            self.ask_silent_again();
            self.effects.candidates.append(&mut self.far_candidates);
        }
        self.follow_same_hosts();
        if is_up && !was_up {
            self.up_since = Some(self.now);
            self.discovery.begin(self.now, self.came_up_late, &mut self.effects);
            self.effects.note(Note::NetworkUp(self.network.routable().count()));
        } else if is_up && has_moved {
            self.discovery.begin_again(self.now, &mut self.effects);
        }
        self.discovery.update(self.now, &self.network, &mut self.effects);
    }

    /// When the held cache may win at the latest. When the named one has answered at an address that
    /// needs a zone, its other one has a little more time to be found.
    fn held_until(&self) -> Option<Elapsed> {
        self.held?;
        let mut link_local = self.frontier.link_local_caches();
        let is_named = link_local.any(|candidate| candidate.origin.is_named());
        Some(self.up_since? + if is_named { SAME_HOST_TIME } else { NAMED_HEAD_START })
    }

    /// The rule of the choice: a named origin's cache wins at once, a weak one's when no named
    /// candidate is being asked, and all named methods are finished or have had time.
    fn choose(&self) -> Option<Found> {
        let had_time = self.held_until().is_some_and(|at| at <= self.now);
        let may_win = !self.frontier.awaits_named()
            && (had_time || self.discovery.are_named_finished(self.now));
        self.winner.or(self.held.filter(|_| may_win))
    }

    /// Does everything that is due. Whoever wins wins before anybody else is asked.
    fn advance(&mut self) {
        while let Some(judged) = self.verify.advance(self.now, &mut self.effects) {
            self.judge(judged);
        }
        self.follow_candidates();
        if let Some(found) = self.choose() {
            return self.finish(Outcome::Found(found));
        }
        if self.ends_at <= self.now {
            self.effects.note(Note::BudgetSpent);
            return self.finish(match self.held {
                Some(found) => Outcome::Found(found),
                None if self.came_up_late => Outcome::NoNetwork,
                None => Outcome::NotFound,
            });
        }
        self.ask();
        if self.is_exhausted() {
            self.finish(Outcome::NotFound);
        }
    }

    /// Asks whoever is due, and has every candidate verified.
    fn ask(&mut self) {
        let up_since = self.up_since.filter(|_| self.network.is_up());
        let has_room = self.verify.has_room_for(Origin::Sweep, 0);
        let (network, effects) = (&self.network, &mut self.effects);
        self.discovery.advance(self.now, network, up_since, has_room, effects);
        self.follow_candidates();
        if self.wants_network() {
            self.read_at = self.now + READ_INTERVAL;
            self.effects.output(Output::ReadNetwork);
        }
        while let Some((candidate, by_name)) =
            self.frontier.next(|origin, turn| self.verify.has_room_for(origin, turn))
        {
            self.verify.start(self.now, candidate, by_name, &mut self.effects);
        }
    }

    /// Whether the network is to be looked at: in due time, or as soon as there is nothing else to
    /// wait for.
    fn wants_network(&self) -> bool {
        let is_idle = !self.frontier.is_busy() && self.discovery.is_quiet(self.now);
        self.read_at <= self.now || !self.saw_network && self.needs_network() && is_idle
    }

    /// Follows all candidates that there are.
    fn follow_candidates(&mut self) {
        for candidate in std::mem::take(&mut self.effects.candidates) {
            self.follow(candidate);
        }
    }

    /// Follows a candidate, unless another machine wants to send us out of our network.
    fn follow(&mut self, candidate: Candidate) {
        let may_be_asked = self.may_be_asked(&candidate);
        if may_be_asked && self.frontier.add(candidate) {
            if self.discovery.is_worth_telling(&candidate) {
                self.effects.note(Note::Added(candidate));
            }
        } else if !may_be_asked && candidate.origin.is_hearsay() {
            if !self.saw_network {
                // It may be on-link: look.
                self.read_at = self.now;
                self.effects.candidates.push(candidate);
            } else if !self.network.is_own(candidate.remote.ip())
                && !self.far_candidates.contains(&candidate)
            {
                self.effects.note(Note::NotPrivate(candidate));
                if self.far_candidates.len() < FAR_CANDIDATES_MAX {
                    self.far_candidates.push(candidate);
                }
            }
        }
    }

    /// Whether a candidate may be asked in the network as it is now.
    fn may_be_asked(&self, candidate: &Candidate) -> bool {
        let address = candidate.remote.ip();
        let is_others = || !self.network.is_own(address);
        let is_on_link = || self.network.is_on_link(address);
        match candidate.origin.reach() {
            Reach::Anywhere => true,
            Reach::Private if address.is_loopback() => false,
            Reach::Private if is_link_local(address) => is_on_link() && is_others(),
            Reach::Private => is_private(address) || is_on_link(),
            Reach::OnLan => {
                is_approachable(address) && self.network.is_on_lan(address) && is_others()
            }
        }
    }

    /// The network has changed: who did not answer may be reached now.
    fn ask_silent_again(&mut self) {
        let mut frontier = std::mem::take(&mut self.frontier);
        frontier.ask_silent_again(|candidate| self.may_be_asked(candidate));
        self.frontier = frontier;
    }

    /// Follows the other addresses of hosts that answer at a link-local one: those of the neighbours
    /// that have the same Ethernet address.
    fn follow_same_hosts(&mut self) {
        for candidate in self.frontier.link_local_caches() {
            let neighbours = &self.network.neighbours;
            // On another link the same link-local address is another host's.
            let remote = with_port(candidate.remote, 0);
            let known = neighbours.iter().find(|known| known.remote == remote);
            let Some(known) = known.filter(|known| known.hardware_address.is_some()) else {
                continue;
            };
            let is_same = |other: &&Neighbour| {
                (other.interface, other.hardware_address)
                    == (known.interface, known.hardware_address)
                    && !needs_zone(other.remote.ip())
            };
            self.effects.candidates.extend(neighbours.iter().filter(is_same).map(|other| {
                Candidate {
                    remote: with_port(other.remote, candidate.remote.port()),
                    has_name: false,
                    ..candidate
                }
            }));
        }
    }

    /// Acts on the verdict on a candidate.
    fn judge(&mut self, judged: Judged) {
        let Judged { candidate: tried, by_name, verdict, .. } = judged;
        let remote = tried.remote;
        let candidate = self.frontier.best_known(tried).unwrap_or(tried);
        let is_nobody = candidate.origin == Origin::Sweep
            && matches!(
                verdict,
                Verdict::NotACache(Flaw::NoConnection | Flaw::Unreachable | Flaw::Refused)
            );
        if !is_nobody {
            self.effects.note(Note::Judged(candidate, verdict));
        }
        let path = self.effects.paths.given(candidate.path);
        let found = Found { remote, path, origin: candidate.origin, by_name };
        match verdict {
            Verdict::Cache if needs_zone(remote.ip()) => {
                self.frontier.hold(&candidate);
                self.effects.note(Note::LinkLocal(candidate));
                self.follow_same_hosts();
                // The kernel knows its Ethernet address by now.
                self.effects.output(Output::ReadNetwork);
            }
            Verdict::Cache if candidate.origin.is_named() => self.winner = Some(found),
            Verdict::Cache => {
                self.frontier.hold(&candidate);
                if self.held.is_none_or(|held| candidate.origin < held.origin) {
                    self.held = Some(found);
                }
                if self.choose().is_none() {
                    self.effects.note(Note::Held(candidate));
                }
            }
            Verdict::NotACache(flaw) => {
                if self.frontier.reject(&tried, flaw, judged.may_ask_by_name(self.now)) {
                    self.effects.note(Note::AskedByName(remote));
                }
            }
        }
    }

    /// Whether every method is finished and every candidate judged.
    fn is_exhausted(&self) -> bool {
        !self.frontier.is_busy()
            && (!self.needs_network() || self.settled_at().is_some_and(|at| at <= self.now))
            && self.discovery.is_finished(self.now)
    }

    /// Whether anything is to be tried that takes a network.
    fn needs_network(&self) -> bool {
        self.discovery.needs_network() || self.frontier.has_unreachable()
    }

    /// When the network is there and settled, if it is there.
    fn settled_at(&self) -> Option<Elapsed> {
        let up_since = self.up_since.filter(|_| self.network.is_up())?;
        Some(if self.came_up_late { up_since + NETWORK_SETTLE_TIME } else { up_since })
    }

    /// Ends the search and closes what is open.
    fn finish(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        let asking = self.discovery.finish(&mut self.effects);
        match outcome {
            Outcome::Found(found) => self.effects.note(Note::Chosen(found.origin)),
            Outcome::Interrupted => {}
            Outcome::NotFound | Outcome::NoNetwork => {
                let only = self.frontier.link_local_caches().next();
                self.effects.outputs.extend(only.map(Note::OnlyLinkLocal).map(Output::Note));
            }
        }
        // What was to be opened just now stays closed.
        let outputs = &mut self.effects.outputs;
        let mut unopened = Vec::new();
        outputs.retain(|output| match output {
            Output::OpenDatagram { channel, .. } | Output::OpenStream { channel, .. } => {
                unopened.push(*channel);
                false
            }
            _ => true,
        });
        for channel in asking.chain(self.verify.open_channels()) {
            if !unopened.contains(&channel) {
                outputs.push_back(Output::Close(channel));
            }
        }
    }

    /// When something is next due.
    fn next_at(&self) -> Elapsed {
        let mut earliest = self.ends_at.min(self.read_at);
        let mut consider = |at: Option<Elapsed>| {
            earliest = earliest.min(at.unwrap_or(earliest));
        };
        consider(self.discovery.next_at(self.now, self.up_since));
        consider(self.verify.next_at());
        // What these allow may wait for something else, and then their time passes.
        let is_ahead = |at: &Elapsed| self.now < *at;
        consider(self.settled_at().filter(is_ahead));
        consider(self.held_until().filter(is_ahead));
        earliest
    }
}
