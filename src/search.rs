//! One whole search, without a socket or a clock: routing, budget, and the choice of the winner.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cli::Config;
use crate::discover::{Random, dns::Dns, known, mdns::Mdns};
use crate::facts::{Known, Network, is_private};
use crate::frontier::Frontier;
use crate::model::{
    Channel, Effects, Elapsed, Found, Input, Lead, Methods, Note, Origin, Outcome, Output, Verdict,
};
use crate::verify::{Judged, Verify};
use crate::wire::Malformed;
use crate::wire::dns::Name;

/// How often the network's state is read again without being told: a DHCP client may write
/// resolv.conf, which nothing announces, some time after it has set the address.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// How long a network that came up while we waited may still change before it is judged.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// The part of the budget kept for writing the files, up to [`RESERVE_MAX`].
const RESERVE_SHARE: u32 = 10;
/// The most time kept for writing the files: two fsyncs of a busy disk.
const RESERVE_MAX: Duration = Duration::from_millis(100);

/// A search under way. Feed it with [`handle`](Self::handle), then drain
/// [`next_output`](Self::next_output) until that says to wait or that it is finished.
#[derive(Debug)]
pub struct Search {
    /// The methods that may be used.
    methods: Methods,
    /// When the search ends whatever has come of it.
    ends_at: Elapsed,
    /// The network as last seen.
    network: Network,
    /// Since when there is a network.
    up_since: Option<Elapsed>,
    /// Whether the network has been down during the search.
    came_up_late: bool,
    /// When the network is next read.
    read_at: Elapsed,
    /// Unicast DNS.
    dns: Dns,
    /// Multicast DNS.
    mdns: Mdns,
    /// What may be the cache.
    frontier: Frontier,
    /// What is being proved.
    verify: Verify,
    /// What was brought about and not yet routed.
    effects: Effects,
    /// What the event loop has to do, oldest first.
    outputs: VecDeque<Output>,
    /// The proven cache.
    winner: Option<Found>,
    /// The end, once it has come.
    outcome: Option<Outcome>,
    /// The time of the last input.
    now: Elapsed,
    /// The methods that have been reported as finished.
    said: Methods,
}

impl Search {
    /// A search that begins with what the host knows; `seed` makes query ids hard to guess.
    ///
    /// # Errors
    /// `Malformed` if the configured host cannot be a domain name.
    pub fn new(config: &Config, known: &Known, seed: u64) -> Result<Self, Malformed> {
        let reserve = (config.budget / RESERVE_SHARE).min(RESERVE_MAX);
        let mut effects = Effects::default();
        let exclusive = known::follow(known, config.methods, config.port, &mut effects);
        let name = Name::from_text(&config.host)?;
        let local_name = Name::from_text(&[config.short_name(), ".local"].concat())?;
        let mut random = Random::new(seed);
        let mdns = Mdns::new(local_name, config.port, &mut random);
        let mut dns = Dns::new(name, config.port, random);
        let methods = if exclusive { Methods::NONE } else { config.methods };
        if methods.contains(Origin::Dns) {
            dns.ask(Elapsed::START, &known.nameservers, &mut effects);
        }
        Ok(Self {
            methods,
            ends_at: Elapsed::START + config.budget.saturating_sub(reserve),
            network: Network::default(),
            up_since: None,
            came_up_late: false,
            read_at: Elapsed::START + READ_INTERVAL,
            dns,
            mdns,
            frontier: Frontier::default(),
            verify: Verify::new(&config.path, config.host.clone()),
            effects,
            outputs: VecDeque::new(),
            winner: None,
            outcome: None,
            now: Elapsed::START,
            said: Methods::NONE,
        })
    }

    /// Takes what happened at `now`, which never runs backwards.
    pub fn handle(&mut self, now: Elapsed, input: Input<'_>) {
        if self.outcome.is_some() {
            return;
        }
        self.now = now;
        let judged = match input {
            Input::Network(network) => {
                self.handle_network(network);
                None
            }
            Input::Connected(Channel::Verify(channel)) => {
                self.verify.handle_connected(channel);
                None
            }
            Input::Received(Channel::Dns(channel), bytes) => {
                self.dns.handle_received(channel, bytes, &mut self.effects);
                None
            }
            Input::Received(Channel::Verify(channel), bytes) => {
                self.verify.handle_received(channel, bytes, &mut self.effects)
            }
            Input::Failed(Channel::Dns(channel), failure) => {
                self.dns.handle_failed(channel, failure, &mut self.effects);
                None
            }
            Input::Failed(Channel::Verify(channel), failure) => {
                self.verify.handle_failed(channel, failure)
            }
            Input::Mdns(datagram) => {
                self.mdns.handle(&datagram, &self.network, &mut self.effects);
                None
            }
            Input::PacketSocketOpened => {
                self.mdns.handle_packet_socket(&mut self.effects);
                None
            }
            Input::Stop => return self.finish(Outcome::Interrupted),
            Input::Connected(Channel::Dns(_)) | Input::Tick => None,
        };
        if let Some(judged) = judged {
            self.judge(judged);
        }
        self.advance();
    }

    /// The next thing to do; nothing else is due once it says to wait.
    pub fn next_output(&mut self) -> Output {
        match (self.outputs.pop_front(), self.outcome) {
            (Some(output), _) => output,
            (None, Some(outcome)) => Output::Finished(outcome),
            (None, None) => Output::WaitUntil(self.next_at()),
        }
    }

    /// Takes the network's state.
    fn handle_network(&mut self, network: &Network) {
        self.read_at = self.now + READ_INTERVAL;
        let was_up = self.network.is_up();
        if self.network != *network {
            self.network.clone_from(network);
            self.frontier.revive_unreachable();
        }
        let is_up = self.network.is_up();
        self.came_up_late |= !is_up;
        if is_up && !was_up {
            self.up_since = Some(self.now);
            self.mdns.forget();
            self.effects.note(Note::NetworkUp(self.network.routable().count()));
        }
        if self.methods.contains(Origin::Dns) {
            self.dns.ask(self.now, &self.network.nameservers, &mut self.effects);
        }
        if self.methods.contains(Origin::Mdns) {
            self.mdns.ask(self.now, &self.network, &mut self.effects);
        }
    }

    /// Does everything that is due.
    fn advance(&mut self) {
        while let Some(judged) = self.verify.advance(self.now, &mut self.effects) {
            self.judge(judged);
        }
        if let Some(found) = self.winner {
            self.outputs.extend(self.effects.outputs.drain(..));
            return self.finish(Outcome::Found(found));
        }
        self.dns.advance(self.now, &mut self.effects);
        self.mdns.advance(self.now, &mut self.effects);
        if self.read_at <= self.now {
            self.read_at = self.now + READ_INTERVAL;
            self.effects.output(Output::ReadNetwork);
        }
        for lead in std::mem::take(&mut self.effects.leads) {
            self.follow(lead);
        }
        while let Some((lead, by_name)) =
            self.frontier.next(|origin| self.verify.has_room_for(origin))
        {
            self.verify.start(self.now, lead, by_name, &mut self.effects);
        }
        self.note_what_is_said();
        self.outputs.extend(self.effects.outputs.drain(..));
        if self.is_exhausted() {
            self.finish(Outcome::NotFound);
        } else if self.ends_at <= self.now {
            self.outputs.push_back(Output::Note(Note::BudgetSpent));
            self.finish(if self.came_up_late { Outcome::NoNetwork } else { Outcome::NotFound });
        }
    }

    /// Makes a candidate of a lead, unless another machine wants to send us out of our network.
    fn follow(&mut self, lead: Lead) {
        let address = lead.remote.ip();
        if lead.origin.is_hearsay() && !is_private(address) && !self.network.is_on_link(address) {
            self.effects.note(Note::NotPrivate(lead));
        } else if self.frontier.add(lead) {
            self.effects.note(Note::Followed(lead));
        }
    }

    /// Acts on the end of a proof.
    fn judge(&mut self, Judged { lead, by_name, verdict }: Judged) {
        let remote = lead.remote;
        let lead = self.frontier.lead_to(remote).unwrap_or(lead);
        self.effects.note(Note::Judged(lead, verdict));
        match verdict {
            Verdict::Cache => self.winner = Some(Found { remote, origin: lead.origin, by_name }),
            Verdict::NotACache(flaw) => {
                if self.frontier.reject(remote, flaw, by_name) {
                    self.effects.note(Note::AskedByName(remote));
                }
            }
        }
    }

    /// Whether nobody who could lead us to the cache will say any more.
    fn is_exhausted(&self) -> bool {
        let searches = self.methods.contains(Origin::Dns) || self.methods.contains(Origin::Mdns);
        let needs_network = searches || self.frontier.has_unreachable();
        !self.frontier.is_busy()
            && self.dns.has_had_its_say(self.now)
            && self.mdns.has_had_its_say(self.now)
            && (!needs_network || self.settled_at().is_some_and(|at| at <= self.now))
    }

    /// When the network is there and settled, if it is there.
    fn settled_at(&self) -> Option<Elapsed> {
        let up_since = self.up_since.filter(|_| self.network.is_up())?;
        Some(if self.came_up_late { up_since + SETTLE_TIME } else { up_since })
    }

    /// Tells, once for each method, that it is done.
    fn note_what_is_said(&mut self) {
        for (origin, done) in [
            (Origin::Dns, self.dns.has_had_its_say(self.now)),
            (Origin::Mdns, self.mdns.has_had_its_say(self.now)),
        ] {
            let is_new = done && self.network.is_up() && !self.said.contains(origin);
            if is_new && self.methods.contains(origin) {
                self.said = self.said.with(origin);
                self.effects.note(Note::HadItsSay(origin));
            }
        }
    }

    /// Ends the search and closes what is open.
    fn finish(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        let channels = self.dns.open_channels().chain(self.verify.open_channels());
        self.outputs.extend(channels.map(Output::Close));
    }

    /// When something is next due.
    fn next_at(&self) -> Elapsed {
        let settled_at = self.settled_at().filter(|at| self.now < *at);
        [
            Some(self.read_at),
            settled_at,
            self.dns.next_at(self.now),
            self.mdns.next_at(self.now),
            self.verify.next_at(),
        ]
        .into_iter()
        .flatten()
        .fold(self.ends_at, Elapsed::min)
    }
}
