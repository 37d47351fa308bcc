//! One whole search, without a socket or a clock: routing, budget, and the choice of the winner.

use crate::address::needs_zone;
use crate::config::Config;
use crate::discover::{Discovery, follow_same_host};
use crate::elapsed::Elapsed;
use crate::facts::{Known, Network};
use crate::frontier::{Admission, Frontier};
use crate::interface::{Channel, Effects, Input, Output};
use crate::model::{Found, Methods, Note, Origin, Outcome, Verdict};
use crate::path::Paths;
use crate::surroundings::Surroundings;
use crate::verify::{Judged, Verify};

/// A search under way. Feed it with [`handle`](Self::handle), then drain
/// [`next_output`](Self::next_output) until that says to wait or that it is finished.
#[derive(Debug)]
pub struct Search {
    /// When the search ends whatever has come of it.
    ends_at: Elapsed,
    /// The network.
    surroundings: Surroundings,
    /// Who looks for candidates.
    discovery: Discovery,
    /// What may be the cache.
    frontier: Frontier,
    /// What is being verified.
    verify: Verify,
    /// What the event loop has to do, oldest first, and candidates that are not yet followed.
    effects: Effects,
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
    /// A search with `methods` that begins with what the host knows, and the `paths` that are known;
    /// `seed` makes query ids hard to guess.
    #[must_use]
    pub fn new(config: &Config, methods: Methods, known: &Known, paths: Paths, seed: u64) -> Self {
        let mut effects = Effects::new(paths);
        let discovery = Discovery::new(config, methods, known, seed, &mut effects);
        Self {
            ends_at: Elapsed::START + config.search_time(),
            surroundings: Surroundings::new(known.uptime),
            discovery,
            frontier: Frontier::default(),
            verify: Verify::new(config.host.text.clone()),
            effects,
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
                self.verify.handle_connected(now, channel, &mut self.effects);
                None
            }
            Input::Received(Channel::Verify(channel), bytes) => {
                self.verify.handle_received(channel, bytes, &mut self.effects)
            }
            Input::Failed(Channel::Verify(channel), failure) => {
                self.verify.handle_failed(channel, failure, &mut self.effects)
            }
            other => {
                self.discovery.handle(now, &other, &self.surroundings.network, &mut self.effects);
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
        while let Some(output) = self.effects.next_output() {
            if self.outcome.is_none() || matches!(output, Output::Note(_)) {
                return output;
            }
        }
        self.outcome.map_or_else(|| Output::WaitUntil(self.next_at()), Output::Finished)
    }

    /// The paths that candidates have.
    #[must_use]
    pub const fn paths(&self) -> &Paths {
        &self.effects.paths
    }

    /// The same and the network, when the search is over.
    #[must_use]
    pub fn into_parts(self) -> (Paths, Surroundings) {
        (self.effects.paths, self.surroundings)
    }

    /// How many addresses the sweep has asked, and of how many; none before it begins.
    #[must_use]
    pub fn swept(&self) -> Option<(u32, u32)> {
        self.discovery.swept()
    }

    /// Takes the network's state.
    fn handle_network(&mut self, network: Network) {
        let Some(change) = self.surroundings.update(self.now, network) else { return };
        let (network, effects) = (&self.surroundings.network, &mut self.effects);
        if change.has_moved {
            effects.candidates.extend(self.frontier.handle_move(network));
        }
        if change.came_up {
            self.discovery.begin(self.now, self.surroundings.came_up_late, effects);
            effects.note(Note::NetworkUp(network.routable().count()));
        } else if change.has_moved && network.is_up() {
            self.discovery.begin_again(self.now, effects);
        }
        self.discovery.update(self.now, network, effects);
    }

    /// When the held cache may win at the latest.
    fn held_until(&self) -> Option<Elapsed> {
        self.held?;
        Some(self.surroundings.up_since? + self.frontier.named_head_start())
    }

    /// The rule of the choice: a named origin's cache wins at once, a weak one's when no named
    /// candidate is being asked, and all named methods are finished or have had time.
    fn choose(&self) -> Option<Found> {
        let had_time = || self.held_until().is_some_and(|at| at <= self.now);
        let alone = self.surroundings.network.is_qemu_user();
        let is_last = || had_time() || self.discovery.are_named_finished(self.now, alone);
        self.winner.or(self.held.filter(|_| !self.frontier.awaits_named() && is_last()))
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
        if self.surroundings.ends_by(self.ends_at) <= self.now {
            self.effects.note(Note::BudgetSpent);
            return self.finish(match self.held {
                Some(found) => Outcome::Found(found),
                None if self.surroundings.came_up_late => Outcome::NoNetwork,
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
        let has_room = self.verify.has_room_for(Origin::Sweep, 0);
        let Surroundings { network, .. } = &self.surroundings;
        let up_since = self.surroundings.is_up_since();
        self.discovery.advance(self.now, network, up_since, has_room, &mut self.effects);
        self.follow_candidates();
        // As soon as there is nothing else to wait for.
        let early =
            self.needs_network() && !self.frontier.is_busy() && self.discovery.is_quiet(self.now);
        if self.surroundings.is_look_due(self.now, early) {
            self.effects.output(Output::ReadNetwork);
        }
        while let Some((candidate, by_name)) =
            self.frontier.next(|origin, turn| self.verify.has_room_for(origin, turn))
        {
            self.verify.start(self.now, candidate, by_name, &mut self.effects);
        }
        for remote in self.verify.connect_again(self.now, &mut self.effects) {
            self.discovery.resolve(remote, &self.surroundings.network, &mut self.effects);
        }
    }

    /// Follows all candidates that there are, unless another machine wants to send us out of our
    /// network; and the other addresses of hosts where a cache answers at a link-local one.
    fn follow_candidates(&mut self) {
        let surroundings = &mut self.surroundings;
        for candidate in self.frontier.link_local_caches() {
            follow_same_host(&candidate, &surroundings.network, &mut self.effects);
        }
        for candidate in std::mem::take(&mut self.effects.candidates) {
            match self.frontier.admit(candidate, &surroundings.network) {
                // Of one that is known it is told who else names it.
                Admission::New | Admission::NotNew
                    if self.discovery.is_worth_telling(&candidate)
                        && self.frontier.best_known(candidate).is_some() =>
                {
                    self.effects.note(Note::Added(candidate));
                }
                // It may be on-link: look.
                Admission::TooFar if !surroundings.is_known => surroundings.look_at = self.now,
                Admission::TooFar => self.effects.note(Note::NotPrivate(candidate)),
                Admission::New | Admission::NotNew => {}
            }
        }
    }

    /// Acts on the verdict on a candidate.
    fn judge(&mut self, judged: Judged) {
        let Judged { candidate: tried, by_name, verdict, .. } = judged;
        let remote = tried.remote;
        let candidate = self.frontier.best_known(tried).unwrap_or(tried);
        self.effects.note(Note::Judged(candidate, verdict));
        let found = Found { remote, path: candidate.path, origin: candidate.origin, by_name };
        match verdict {
            Verdict::Cache if needs_zone(remote.ip()) => {
                self.frontier.hold(&candidate);
                self.effects.note(Note::LinkLocal(candidate));
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
                    // By now the kernel knows its Ethernet address, which may be one of QEMU's.
                    self.effects.output(Output::ReadNetwork);
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
            && (!self.needs_network()
                || self.surroundings.settled_at().is_some_and(|at| at <= self.now))
            && self.discovery.is_finished(self.now)
    }

    /// Whether anything is to be tried that takes a network.
    fn needs_network(&self) -> bool {
        self.discovery.needs_network() || self.frontier.has_unreachable()
    }

    /// Ends the search. What was still to be done is not; what is open the event loop closes.
    fn finish(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.discovery.finish(&mut self.effects);
        if let Outcome::Found(found) = outcome {
            self.effects.note(Note::Chosen(found.origin));
        } else if let Some(candidate) = self.frontier.link_local_caches().next() {
            self.effects.note(Note::OnlyLinkLocal(candidate));
        }
    }

    /// When something is next due.
    fn next_at(&self) -> Elapsed {
        let Surroundings { look_at, up_since, .. } = self.surroundings;
        // What these allow may wait for something else, and then their time passes.
        let is_ahead = |at: &Elapsed| self.now < *at;
        [
            self.discovery.next_at(self.now, up_since),
            self.verify.next_at(),
            self.surroundings.settled_at().filter(is_ahead),
            self.held_until().filter(is_ahead),
        ]
        .into_iter()
        .flatten()
        .fold(self.surroundings.ends_by(self.ends_at).min(look_at), Elapsed::min)
    }
}
