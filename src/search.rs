//! One whole search, without a socket or a clock: routing, budget, and the choice of the winner.

use std::time::Duration;

use crate::cli::Config;
use crate::discover::dns::Dns;
use crate::discover::mdns::Mdns;
use crate::discover::nearby::{Neighbours, follow_gateways, follow_neighbours};
use crate::discover::ping::Ping;
use crate::discover::sweep::{Probe, Sweep};
use crate::discover::{Random, known};
use crate::facts::{Known, Neighbour, Network, is_approachable, is_link_local, is_private};
use crate::frontier::Frontier;
use crate::model::{
    Channel, Effects, Elapsed, Flaw, Found, Input, Lead, Methods, Note, Origin, Outcome, Output,
    Verdict, needs_zone, with_port,
};
use crate::verify::{Judged, Verify};
use crate::wire::Malformed;
use crate::wire::dns::Name;

/// How often the network's state is read again without being told: a DHCP client may write
/// resolv.conf, which nothing announces, some time after it has set the address.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// How long the files and DNS have before the network is looked at, if they are not done sooner. A
/// server on the LAN answers in a fraction of this, and then nobody else is ever bothered.
const QUIET_TIME: Duration = Duration::from_millis(2);
/// How long a network that came up while we waited may still change before it is judged.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// The part of the budget kept for writing the files, within the limits that follow.
const RESERVE_SHARE: u32 = 10;
/// The least time kept: closing a packet socket takes the kernel up to 20 ms.
const RESERVE_MIN: Duration = Duration::from_millis(30);
/// The most time kept: two fsyncs of a busy disk.
const RESERVE_MAX: Duration = Duration::from_millis(100);

/// The weak methods and when each may start, counted from when the network is up: sooner if all
/// before it have had their say. Each costs others more than the one before it.
const WEAK_METHODS: [(Origin, Duration); 4] = [
    (Origin::Gateway, Duration::from_millis(50)),
    (Origin::Neighbours, Duration::from_millis(100)),
    (Origin::Ping, Duration::from_millis(500)),
    (Origin::Sweep, Duration::from_secs(1)),
];
/// How long a cache that a weak method led to waits for one that somebody names.
const NAMED_HEAD_START: Duration = Duration::from_millis(250);

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
    /// Whether it was looked at.
    saw_network: bool,
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
    /// The kernel's table of neighbours.
    neighbours: Neighbours,
    /// The ping of everybody.
    ping: Ping,
    /// The sweep.
    sweep: Sweep,
    /// The weak methods that have begun.
    started: Methods,
    /// Whether there is a packet socket, once that is known.
    packet_socket: Option<bool>,
    /// The port that leads get.
    port: u16,
    /// What may be the cache.
    frontier: Frontier,
    /// What is being proved.
    verify: Verify,
    /// What the event loop has to do, oldest first, and leads that are not yet followed.
    effects: Effects,
    /// The proven cache of the best weak origin so far.
    held: Option<Found>,
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
        let reserve = (config.budget / RESERVE_SHARE).clamp(RESERVE_MIN, RESERVE_MAX);
        let mut effects = Effects::default();
        let exclusive = known::follow(known, config.methods, config.port, &mut effects);
        let name = Name::from_text(&config.host)?;
        let local_name = Name::from_text(&[config.short_name(), ".local"].concat())?;
        let mut random = Random::new(seed);
        let mdns = Mdns::new(local_name, config.port, &mut random);
        let ping = Ping::new(config.port, &mut random);
        let mut dns = Dns::new(name, config.port, random);
        let methods = if exclusive { Methods::NONE } else { config.methods };
        if methods.contains(Origin::Dns) {
            dns.ask(Elapsed::START, &known.nameservers, false, &mut effects);
        }
        Ok(Self {
            methods,
            ends_at: Elapsed::START + config.budget.saturating_sub(reserve),
            network: Network::default(),
            saw_network: false,
            up_since: None,
            came_up_late: false,
            read_at: Elapsed::START + QUIET_TIME,
            dns,
            mdns,
            neighbours: Neighbours::default(),
            ping,
            sweep: Sweep::new(
                config.port,
                config.sweep_rate,
                config.sweep_limit,
                config.sweep.clone(),
            ),
            started: Methods::NONE,
            packet_socket: None,
            port: config.port,
            frontier: Frontier::default(),
            verify: Verify::new(&config.path, config.host.clone()),
            effects,
            held: None,
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
                self.verify.handle_connected(now, channel);
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
            Input::PacketSocket(is_open) => {
                self.packet_socket = Some(is_open);
                if is_open {
                    self.mdns.handle_packet_socket(&mut self.effects);
                }
                None
            }
            Input::Arp(interface, packet) => {
                self.sweep.handle_arp(interface, packet, &mut self.effects);
                None
            }
            Input::Congested(interface, packet) => {
                self.sweep.handle_congestion(now, interface, packet);
                None
            }
            Input::Icmp(source, message) => {
                self.ping.handle(source, message, &mut self.effects);
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
        match (self.effects.outputs.pop_front(), self.outcome) {
            (Some(output), _) => output,
            (None, Some(outcome)) => Output::Finished(outcome),
            (None, None) => Output::WaitUntil(self.next_at()),
        }
    }

    /// Takes the network's state.
    fn handle_network(&mut self, network: Network) {
        self.read_at = self.now + READ_INTERVAL;
        if self.saw_network && self.network == network {
            return;
        }
        self.saw_network = true;
        let was_up = self.network.is_up();
        let has_moved = self.network.interfaces != network.interfaces
            || self.network.gateways != network.gateways;
        self.network = network;
        let is_up = self.network.is_up();
        self.came_up_late |= !is_up;
        if has_moved {
            self.ask_silent_again();
        }
        self.follow_same_hosts();
        let asks_dns = self.methods.contains(Origin::Dns);
        if is_up && !was_up {
            self.up_since = Some(self.now);
            self.mdns.forget();
            if self.came_up_late && asks_dns {
                self.dns.begin_anew(self.now, &mut self.effects);
            }
            self.effects.note(Note::NetworkUp(self.network.routable().count()));
        }
        if asks_dns {
            let guesses = self.network.guessed_nameservers();
            self.dns.ask(self.now, &self.network.nameservers, false, &mut self.effects);
            self.dns.ask(self.now, &guesses, true, &mut self.effects);
        }
        if self.methods.contains(Origin::Mdns) {
            self.mdns.ask(self.now, &self.network, &mut self.effects);
        }
        // The weak methods that have begun go on with what has come since.
        for (origin, _) in WEAK_METHODS {
            if self.started.contains(origin) {
                self.feed(origin);
            }
        }
    }

    /// Gives a weak method the network as it is now.
    fn feed(&mut self, origin: Origin) {
        let (now, network, effects) = (self.now, &self.network, &mut self.effects);
        match origin {
            Origin::Gateway => follow_gateways(network, self.port, effects),
            Origin::Neighbours => {
                follow_neighbours(network, self.port, effects);
                if self.methods.contains(Origin::Mdns) {
                    self.mdns.ask_neighbours(network, effects);
                }
            }
            Origin::Ping => self.ping.ask(now, network, effects),
            _ => self.sweep.update(network),
        }
    }

    /// Starts the weak methods whose time has come.
    fn start_methods(&mut self) {
        let Some(up_since) = self.up_since.filter(|_| self.network.is_up()) else { return };
        let mut all_said = self.has_said(Origin::Dns) && self.has_said(Origin::Mdns);
        for (origin, after) in WEAK_METHODS {
            let is_due = all_said || up_since + after <= self.now;
            if is_due && self.methods.contains(origin) && !self.started.contains(origin) {
                self.start(origin);
            }
            all_said &= self.has_said(origin);
        }
    }

    /// Starts a weak method.
    fn start(&mut self, origin: Origin) {
        // The sweep begins with the answer to this; and a firewall takes the answers to a broadcast
        // for strangers.
        if self.packet_socket.is_none() && matches!(origin, Origin::Ping | Origin::Sweep) {
            self.effects.output(Output::OpenPacketSocket);
            if origin == Origin::Sweep {
                return;
            }
        }
        self.started = self.started.with(origin);
        self.effects.note(Note::Started(origin));
        match origin {
            Origin::Neighbours => self.neighbours.start(self.now),
            Origin::Sweep => {
                let has_packet_socket = self.packet_socket == Some(true);
                let probe = if has_packet_socket { Probe::Arp } else { Probe::Connect };
                self.sweep.start(self.now, probe, &self.network, &mut self.effects);
            }
            _ => {}
        }
        self.feed(origin);
    }

    /// Whether a method has nothing more to say, or is not to be used.
    fn has_said(&self, origin: Origin) -> bool {
        !self.methods.contains(origin)
            || match origin {
                Origin::Dns => self.dns.has_had_its_say(self.now),
                Origin::Mdns => self.mdns.has_had_its_say(self.now),
                Origin::Gateway => self.started.contains(origin),
                Origin::Neighbours => self.neighbours.has_had_its_say(),
                Origin::Ping => self.ping.has_had_its_say(self.now),
                Origin::Sweep => self.sweep.has_had_its_say(self.now),
                Origin::Override | Origin::Previous | Origin::Hosts => true,
            }
    }

    /// When the held cache may win at the latest.
    fn held_until(&self) -> Option<Elapsed> {
        self.held?;
        Some(self.up_since? + NAMED_HEAD_START)
    }

    /// The rule of the choice: a named origin's cache wins at once, a weak one's when nobody who
    /// names one is being asked for proof, and all of them have spoken or had time to.
    fn choose(&self) -> Option<Found> {
        let had_time = self.held_until().is_some_and(|at| at <= self.now);
        let all_said = self.has_said(Origin::Dns) && self.has_said(Origin::Mdns);
        let may_win = !self.frontier.awaits_named() && (had_time || all_said);
        self.winner.or(self.held.filter(|_| may_win))
    }

    /// Does everything that is due. Whoever wins wins before anybody else is asked.
    fn advance(&mut self) {
        while let Some(judged) = self.verify.advance(self.now, &mut self.effects) {
            self.judge(judged);
        }
        self.follow_leads();
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

    /// Asks whoever is due, and has every lead followed and every candidate proved.
    fn ask(&mut self) {
        self.dns.advance(self.now, &mut self.effects);
        self.mdns.advance(self.now, &mut self.effects);
        self.start_methods();
        self.neighbours.advance(self.now, &mut self.effects);
        let has_room = self.verify.has_room_for(Origin::Sweep, 0);
        self.sweep.advance(self.now, has_room, &mut self.effects);
        self.follow_leads();
        if self.wants_network() {
            self.read_at = self.now + READ_INTERVAL;
            self.effects.output(Output::ReadNetwork);
        }
        while let Some((lead, by_name)) =
            self.frontier.next(|origin, turn| self.verify.has_room_for(origin, turn))
        {
            self.verify.start(self.now, lead, by_name, &mut self.effects);
        }
        self.note_what_is_said();
    }

    /// Whether the network is to be looked at: in due time, or as soon as there is nothing else to
    /// wait for.
    fn wants_network(&self) -> bool {
        let is_idle = !self.frontier.is_busy() && self.dns.has_had_its_say(self.now);
        self.read_at <= self.now || !self.saw_network && self.needs_network() && is_idle
    }

    /// Follows all leads that there are.
    fn follow_leads(&mut self) {
        for lead in std::mem::take(&mut self.effects.leads) {
            self.follow(lead);
        }
    }

    /// Makes a candidate of a lead, unless another machine wants to send us out of our network.
    fn follow(&mut self, lead: Lead) {
        let may_be_asked = self.may_be_asked(&lead);
        if may_be_asked && self.frontier.add(lead) {
            // Every address of a sweep that connects is a lead: too many to tell.
            if lead.origin != Origin::Sweep || self.packet_socket == Some(true) {
                self.effects.note(Note::Followed(lead));
            }
        } else if !may_be_asked && lead.origin.is_hearsay() {
            if !self.saw_network {
                // It may be on-link: look.
                self.read_at = self.now;
                self.effects.leads.push(lead);
            } else if !self.network.is_own(lead.remote.ip()) {
                self.effects.note(Note::NotPrivate(lead));
            }
        }
    }

    /// Whether a lead may be followed in the network as it is now. The user may name any address,
    /// somebody who knows the name any private one, and the others only hosts on our own links; a
    /// sweep asks nobody else anyhow but those that the user has named.
    fn may_be_asked(&self, lead: &Lead) -> bool {
        let address = lead.remote.ip();
        let is_on_link = self.network.is_on_link(address);
        match lead.origin {
            Origin::Override | Origin::Previous | Origin::Hosts | Origin::Sweep => true,
            Origin::Dns | Origin::Mdns if address.is_loopback() => false,
            Origin::Dns | Origin::Mdns if is_link_local(address) => {
                is_on_link && !self.network.is_own(address)
            }
            Origin::Dns | Origin::Mdns => is_private(address) || is_on_link,
            Origin::Gateway | Origin::Neighbours | Origin::Ping => {
                is_approachable(address) && is_on_link && !self.network.is_own(address)
            }
        }
    }

    /// The network has changed: who did not answer may be reached now.
    fn ask_silent_again(&mut self) {
        let mut frontier = std::mem::take(&mut self.frontier);
        frontier.ask_silent_again(|lead| self.may_be_asked(lead));
        self.frontier = frontier;
    }

    /// Follows the other addresses of hosts that answer at a link-local one: those of the neighbours
    /// that have the same Ethernet address.
    fn follow_same_hosts(&mut self) {
        for lead in self.frontier.link_local_caches() {
            let neighbours = &self.network.neighbours;
            let known = neighbours.iter().find(|known| known.remote.ip() == lead.remote.ip());
            let Some(known) = known.filter(|known| known.hardware_address.is_some()) else {
                continue;
            };
            let is_same = |other: &&Neighbour| {
                other.hardware_address == known.hardware_address && !needs_zone(other.remote.ip())
            };
            self.effects.leads.extend(neighbours.iter().filter(is_same).map(|other| Lead {
                remote: with_port(other.remote, self.port),
                has_name: false,
                ..lead
            }));
        }
    }

    /// Acts on the end of a proof.
    fn judge(&mut self, Judged { lead: tried, by_name, verdict }: Judged) {
        let remote = tried.remote;
        let lead = self.frontier.lead_to(remote).unwrap_or(tried);
        let is_nobody = lead.origin == Origin::Sweep
            && matches!(
                verdict,
                Verdict::NotACache(Flaw::NoConnection | Flaw::Unreachable | Flaw::Refused)
            );
        if !is_nobody {
            self.effects.note(Note::Judged(lead, verdict));
        }
        let found = Found { remote, origin: lead.origin, by_name };
        match verdict {
            Verdict::Cache if needs_zone(remote.ip()) => {
                self.frontier.hold(remote);
                self.effects.note(Note::LinkLocal(lead));
                self.follow_same_hosts();
                // The kernel knows its Ethernet address by now.
                self.effects.output(Output::ReadNetwork);
            }
            Verdict::Cache if lead.origin.is_named() => self.winner = Some(found),
            Verdict::Cache => {
                self.frontier.hold(remote);
                if self.held.is_none_or(|held| lead.origin < held.origin) {
                    self.held = Some(found);
                }
                if self.choose().is_none() {
                    self.effects.note(Note::Held(lead));
                }
            }
            Verdict::NotACache(flaw) => {
                if self.frontier.reject(&tried, flaw, by_name) {
                    self.effects.note(Note::AskedByName(remote));
                }
            }
        }
    }

    /// Whether nobody who could lead us to the cache will say any more.
    fn is_exhausted(&self) -> bool {
        !self.frontier.is_busy()
            && (!self.needs_network() || self.settled_at().is_some_and(|at| at <= self.now))
            && Origin::METHODS.into_iter().all(|method| self.has_said(method))
    }

    /// Whether anything is to be tried that takes a network.
    fn needs_network(&self) -> bool {
        let asks_it = |method| self.methods.contains(method) && method > Origin::Hosts;
        Origin::METHODS.into_iter().any(asks_it) || self.frontier.has_unreachable()
    }

    /// When the network is there and settled, if it is there.
    fn settled_at(&self) -> Option<Elapsed> {
        let up_since = self.up_since.filter(|_| self.network.is_up())?;
        Some(if self.came_up_late { up_since + SETTLE_TIME } else { up_since })
    }

    /// Tells, once for each method, that it is done.
    fn note_what_is_said(&mut self) {
        for origin in Origin::METHODS {
            let is_new = self.methods.contains(origin) && !self.said.contains(origin);
            if is_new && self.network.is_up() && self.has_said(origin) {
                self.said = self.said.with(origin);
                self.effects.note(Note::HadItsSay(origin));
            }
        }
    }

    /// Ends the search and closes what is open.
    fn finish(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        if self.sweep.has_started() {
            self.effects.note(self.sweep.summary());
        }
        match outcome {
            Outcome::Found(found) => self.effects.note(Note::Won(found.origin)),
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
        for channel in self.dns.open_channels().chain(self.verify.open_channels()) {
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
        consider(self.dns.next_at(self.now));
        consider(self.mdns.next_at(self.now));
        consider(self.neighbours.next_at());
        consider(self.ping.next_at(self.now));
        consider(self.sweep.next_at(self.now));
        consider(self.verify.next_at());
        // What these allow may wait for something else, and then their time passes.
        let is_ahead = |at: &Elapsed| self.now < *at;
        consider(self.settled_at().filter(is_ahead));
        consider(self.held_until().filter(is_ahead));
        for (origin, after) in WEAK_METHODS {
            if self.methods.contains(origin) && !self.started.contains(origin) {
                consider(self.up_since.map(|up_since| up_since + after).filter(is_ahead));
            }
        }
        earliest
    }
}
