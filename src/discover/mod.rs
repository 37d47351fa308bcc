//! The methods of discovery: each turns facts and packets into candidates.
//!
//! A method never opens a socket and never reads a clock. It takes what happened and the time,
//! appends what it wants done to [`Effects`], and says when it wants to be called again
//! (`next_at`) and whether it is finished (`is_finished`). Methods do not know of each other, and
//! [`Discovery`] alone knows them by name: a new one is its file, its field here, and its [`Origin`].
//! What several of them share is no method: [`links`], where multicast DNS is spoken, [`resolver`],
//! which asks DNS servers, and [`schedule`], which has the weak ones wait.

pub mod announced;
pub mod dns;
pub mod known;
mod links;
pub mod mdns;
pub mod nearby;
pub mod ping;
mod random;
mod resolver;
mod schedule;
pub mod sweep;

pub use nearby::follow_same_host;
pub use random::Random;

use std::net::IpAddr;

use crate::config::Config;
use crate::elapsed::{Elapsed, earliest};
use crate::facts::{Known, Network};
use crate::interface::{Channel, Effects, Input, Output};
use crate::model::{Candidate, Methods, Note, Origin, Probe};
use crate::wire::dns::{Denial, Reply};
use announced::Announced;
use dns::Dns;
use links::{Links, is_from_link, may_ask};
use mdns::Mdns;
use nearby::{Neighbours, follow_gateways, follow_neighbours};
use ping::Ping;
use resolver::{Resolver, Subject};
use schedule::{SCHEDULE, Schedule};
use sweep::{Sweep, ask_arp};

/// All methods of one search.
#[derive(Debug)]
pub struct Discovery {
    /// Those that may be used.
    methods: Methods,
    /// The port that candidates get.
    port: u16,
    /// The questions to DNS servers.
    resolver: Resolver,
    /// Unicast DNS.
    dns: Dns,
    /// Multicast DNS.
    mdns: Mdns,
    /// The links that it is spoken on.
    links: Links,
    /// What announces itself.
    announced: Announced,
    /// The kernel's table of neighbours.
    neighbours: Neighbours,
    /// The ping of everybody.
    ping: Ping,
    /// The sweep.
    sweep: Sweep,
    /// When the weak methods begin.
    schedule: Schedule,
    /// The methods that have been reported as finished.
    reported: Methods,
    /// Whether there is a packet socket, once that is known.
    packet_socket: Option<bool>,
}

impl Discovery {
    /// Begins with what the host knows; `seed` makes query ids hard to guess.
    #[must_use]
    pub fn new(
        config: &Config,
        methods: Methods,
        known: &Known,
        seed: u64,
        effects: &mut Effects,
    ) -> Self {
        let mut random = Random::new(seed);
        let is_exclusive = known::follow(known, methods, config.port, effects);
        let methods = if is_exclusive { Methods::NONE } else { methods };
        let mdns = Mdns::new(config.host.local_name.clone(), config.port, &mut random);
        let mut questions = mdns.questions();
        questions.retain(|_| methods.contains(Origin::Mdns));
        let announced = Announced::new(&mut random);
        if methods.contains(Origin::Announced) {
            questions.push(announced.question());
        }
        let mut discovery = Self {
            methods,
            port: config.port,
            mdns,
            links: Links::new(questions),
            announced,
            ping: Ping::new(config.port, &mut random),
            dns: Dns::new(config.host.name.clone(), config.port),
            resolver: Resolver::new(random),
            neighbours: Neighbours::default(),
            sweep: Sweep::new(config),
            schedule: Schedule::new(methods),
            reported: Methods::NONE,
            packet_socket: None,
        };
        if discovery.methods.contains(Origin::Dns) {
            let Self { dns, resolver, .. } = &mut discovery;
            dns.ask(Elapsed::START, &known.nameservers, false, resolver, effects);
        }
        discovery
    }

    /// Takes what a method has to do with.
    pub fn handle(
        &mut self,
        now: Elapsed,
        input: &Input<'_>,
        network: &Network,
        effects: &mut Effects,
    ) {
        match *input {
            Input::Received(Channel::Dns(channel), bytes) => {
                if let Some((subject, reply)) =
                    self.resolver.handle_received(channel, bytes, effects)
                {
                    let Self { dns, announced, .. } = self;
                    hand_on(dns, announced, subject, &reply, effects);
                    self.announced.ask_servers(now, &mut self.resolver, effects);
                }
            }
            Input::Failed(Channel::Dns(channel), failure) => {
                if let Some(subject) = self.resolver.handle_failed(channel, failure) {
                    let Self { dns, announced, .. } = self;
                    hand_on(dns, announced, subject, &Reply::Denied(Denial::Unreachable), effects);
                }
            }
            Input::Mdns(datagram) if is_from_link(&datagram, network) => {
                if self.methods.contains(Origin::Mdns) {
                    self.mdns.handle(&datagram, effects);
                }
                if self.methods.contains(Origin::Announced) && may_ask(&datagram, network) {
                    self.announced.handle(&datagram, effects);
                }
            }
            Input::PacketSocket(is_open) => {
                self.packet_socket = Some(is_open);
                if is_open {
                    self.links.handle_packet_socket(effects);
                }
            }
            Input::Arp(interface, packet) => self.sweep.handle_arp(interface, packet, effects),
            Input::Congested(interface, packet) => {
                self.sweep.handle_congestion(now, interface, packet);
            }
            Input::Icmp(source, message) => self.ping.handle(source, message, effects),
            _ => {}
        }
    }

    /// The network has come up, or has been up from the start.
    pub fn begin(&mut self, now: Elapsed, came_up_late: bool, effects: &mut Effects) {
        self.links.forget();
        if came_up_late {
            self.resolver.begin_anew(now, effects);
        }
    }

    /// The network has changed while it was up: who could not say anything before may say it now,
    /// within the same schedule.
    pub fn begin_again(&mut self, now: Elapsed, effects: &mut Effects) {
        self.resolver.begin_again(now, effects);
    }

    /// Gives all that have begun the network as it is now.
    pub fn update(&mut self, now: Elapsed, network: &Network, effects: &mut Effects) {
        if self.methods.contains(Origin::Dns) {
            let Self { dns, resolver, .. } = self;
            dns.ask(now, &network.nameservers, false, resolver, effects);
            dns.ask(now, &network.guessed_nameservers(), true, resolver, effects);
        }
        if self.methods.contains(Origin::Announced) {
            self.announced.ask(now, network, &mut self.resolver, effects);
        }
        self.links.ask(now, network, effects);
        for (origin, _) in SCHEDULE {
            if self.schedule.has_started(origin) {
                self.update_weak(now, origin, network, effects);
            }
        }
    }

    /// Gives a weak method the network as it is now.
    fn update_weak(
        &mut self,
        now: Elapsed,
        origin: Origin,
        network: &Network,
        effects: &mut Effects,
    ) {
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

    /// Does what is due. The network is up since `up_since`; a sweep `has_room` for connections or not.
    pub fn advance(
        &mut self,
        now: Elapsed,
        network: &Network,
        up_since: Option<Elapsed>,
        has_room: bool,
        effects: &mut Effects,
    ) {
        self.resolver.advance(now, effects);
        self.links.advance(now, effects);
        if let Some(up_since) = up_since {
            self.start_due(now, network, up_since, effects);
        }
        self.neighbours.advance(now, effects);
        self.ping.advance(now, effects);
        self.sweep.advance(now, has_room, effects);
        if up_since.is_some() {
            self.report_finished(now, effects);
        }
    }

    /// Starts the weak methods whose time has come.
    fn start_due(
        &mut self,
        now: Elapsed,
        network: &Network,
        up_since: Elapsed,
        effects: &mut Effects,
    ) {
        let mut all_finished = self.are_named_finished(now, false);
        for (origin, after) in SCHEDULE {
            let is_near = origin == Origin::Gateway && network.is_qemu_user();
            let is_due = all_finished || is_near || up_since + after <= now;
            if is_due && self.schedule.is_yet_to_start(origin) {
                self.start(now, origin, network, effects);
            }
            all_finished &= self.is_finished_with(origin, now);
        }
    }

    /// Starts a weak method.
    fn start(&mut self, now: Elapsed, origin: Origin, network: &Network, effects: &mut Effects) {
        // The sweep begins with the answer to this; and a firewall takes the answers to a broadcast
        // for strangers.
        if self.packet_socket.is_none() && matches!(origin, Origin::Ping | Origin::Sweep) {
            effects.output(Output::OpenPacketSocket);
            if origin == Origin::Sweep {
                return;
            }
        }
        self.schedule.start(origin);
        effects.note(Note::Started(origin));
        match origin {
            Origin::Neighbours => self.neighbours.start(now),
            Origin::Sweep => {
                let by_arp = self.packet_socket == Some(true);
                let probe = if by_arp { Probe::Arp } else { Probe::Connect };
                self.sweep.start(now, probe, network, effects);
            }
            _ => {}
        }
        self.update_weak(now, origin, network, effects);
    }

    /// Tells, once for each method, that it is finished.
    fn report_finished(&mut self, now: Elapsed, effects: &mut Effects) {
        for origin in Origin::METHODS {
            let is_new = self.methods.contains(origin) && !self.reported.contains(origin);
            if is_new && self.is_finished_with(origin, now) {
                self.reported = self.reported.with(origin);
                effects.note(Note::Finished(origin));
            }
        }
    }

    /// Whether a method has nothing more to say, or is not to be used.
    fn is_finished_with(&self, origin: Origin, now: Elapsed) -> bool {
        !self.methods.contains(origin)
            || match origin {
                Origin::Dns => self.resolver.is_finished(now, Origin::Dns),
                Origin::Mdns => self.links.is_finished(now),
                Origin::Announced => {
                    self.links.is_finished(now) && self.resolver.is_finished(now, Origin::Announced)
                }
                Origin::Gateway => self.schedule.has_started(origin),
                Origin::Neighbours => self.neighbours.is_finished(),
                Origin::Ping => self.ping.is_finished(now),
                Origin::Sweep => self.sweep.is_finished(now),
                Origin::Override | Origin::Previous | Origin::Hosts => true,
            }
    }

    /// Whether every method is finished.
    #[must_use]
    pub fn is_finished(&self, now: Elapsed) -> bool {
        Origin::METHODS.into_iter().all(|origin| self.is_finished_with(origin, now))
    }

    /// Whether those that know the cache by name are; where we are `alone`, without multicast DNS.
    #[must_use]
    pub fn are_named_finished(&self, now: Elapsed, alone: bool) -> bool {
        let mut named = Origin::METHODS.into_iter().filter(|origin| origin.is_named());
        named.all(|origin| alone && origin == Origin::Mdns || self.is_finished_with(origin, now))
    }

    /// Whether those are that need no look at the network to begin.
    #[must_use]
    pub fn is_quiet(&self, now: Elapsed) -> bool {
        self.is_finished_with(Origin::Dns, now)
    }

    /// Whether a method is to be used that takes a network.
    #[must_use]
    pub fn needs_network(&self) -> bool {
        let mut remote = Origin::METHODS.into_iter().filter(|origin| *origin > Origin::Hosts);
        remote.any(|origin| self.methods.contains(origin))
    }

    /// Has a host looked for by ARP again: the kernel does so only after a second.
    pub fn resolve(&self, address: IpAddr, network: &Network, effects: &mut Effects) {
        match self.packet_socket {
            Some(true) => ask_arp(address, network, effects),
            Some(false) => {}
            None => effects.output(Output::OpenPacketSocket),
        }
    }

    /// Whether a candidate is worth a word: every address of a sweep that connects is one.
    #[must_use]
    pub fn is_worth_telling(&self, candidate: &Candidate) -> bool {
        candidate.origin != Origin::Sweep || self.packet_socket == Some(true)
    }

    /// When `advance` is next of use; `up_since` as there.
    #[must_use]
    pub fn next_at(&self, now: Elapsed, up_since: Option<Elapsed>) -> Option<Elapsed> {
        [
            self.resolver.next_at(now),
            self.links.next_at(now),
            self.neighbours.next_at(),
            self.ping.next_at(now),
            self.sweep.next_at(now),
        ]
        .into_iter()
        .fold(self.schedule.next_at(now, up_since), earliest)
    }

    /// How many addresses the sweep has asked, and of how many; none before it begins.
    #[must_use]
    pub fn swept(&self) -> Option<(u32, u32)> {
        self.sweep.progress()
    }

    /// Tells how far the sweep came.
    pub fn finish(&self, effects: &mut Effects) {
        self.sweep.finish(effects);
    }
}

/// Hands what a server says to the method that has asked.
fn hand_on(
    dns: &Dns,
    announced: &mut Announced,
    subject: &Subject,
    reply: &Reply,
    effects: &mut Effects,
) {
    if subject.asker == Origin::Dns {
        dns.handle(subject, reply, effects);
    } else {
        announced.handle_reply(subject, reply, effects);
    }
}
