//! The sweep: ask every address of our own networks, the nearest first, at a steady rate.
//!
//! With a packet socket it asks by ARP, which a live host answers within a millisecond and which
//! leaves no trace in the kernel's neighbour table; only who answers is connected to, and who has not
//! is asked once more, for requests and answers get lost. Without, each address becomes a candidate at
//! once, and its connection is given little time (see [`verify`](crate::verify)). An address is made
//! from an index when its turn comes: no list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::Config;
use crate::elapsed::Elapsed;
use crate::facts::{Network, Prefix};
use crate::interface::{Effects, Output};
use crate::model::{Candidate, Note, Origin, Probe};
use crate::wire::arp::{ArpRequest, compose_request, parse_reply};

/// How long after the last probe an answer may come; hosts on Wi-Fi that sleep take longest.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// Probes a second on a wire, unless the user says otherwise: 42 bytes each, 0.013 % of 1 Gbit/s and
/// 1.3 % of 10 Mbit/s.
const WIRE_RATE: u32 = 400;
/// The same where a network is wireless, and then each address is asked once. At 1 Mbit/s, the slowest
/// there is, a broadcast takes 0.9 ms of everybody's air (192 us of preamble, 78 bytes with headers, the
/// gap before it): a /24 takes 0.23 s once per boot, 1 % of the 23 seconds around it.
const WIRELESS_RATE: u32 = 128;
/// The least time between two requests for the same address: a sleepy host's answer is not late yet.
const PASS_TIME: Duration = Duration::from_millis(100);
/// The pause when a queue is full, or no more connections may be opened.
const PAUSE: Duration = Duration::from_millis(5);
/// Probes that are late may go out together up to this many; a burst of more fills queues.
const BURST_MAX: u32 = 64;
/// Connections opened together.
const CONNECTS_MAX: u32 = 8;
/// Addresses of a network that are known to have answered: as many as a crowded /22 has.
const ANSWERED_MAX: usize = 1024;
/// Networks swept.
const PREFIXES_MAX: usize = 16;

/// The state of the sweep.
#[derive(Debug)]
pub struct Sweep {
    /// The port that a candidate gets.
    port: u16,
    /// Probes a second, if the user says how many.
    rate: Option<u32>,
    /// Addresses at most.
    limit: u32,
    /// Networks that the user named.
    named: Vec<Prefix>,
    /// How probes are sent; `None` before it began.
    probe: Option<Probe>,
    /// When it began.
    started_at: Elapsed,
    /// The networks and how far each is.
    areas: Vec<Area>,
    /// Our own addresses, which are not asked.
    own: Vec<Ipv4Addr>,
    /// The area whose turn it is.
    turn: usize,
    /// ARP requests that did not fit into the queue: no more than were sent together.
    again: Vec<(u32, ArpRequest)>,
    /// Whether those that have not answered are being asked once more.
    is_second_pass: bool,
    /// Addresses asked.
    sent: u32,
    /// When the next probe may go out.
    probe_at: Elapsed,
    /// When the last probe went out.
    sent_at: Elapsed,
}

/// One network, part of it swept.
#[derive(Debug)]
struct Area {
    /// The network.
    prefix: Prefix,
    /// Our Ethernet address there.
    hardware: Option<[u8; 6]>,
    /// Whether it is Wi-Fi.
    is_wireless: bool,
    /// How many of its addresses have had their turn, in this pass.
    next: u32,
    /// How many have their turn in this pass.
    end: u32,
    /// How many have been asked.
    asked: u32,
    /// Those that have answered.
    answered: Vec<Ipv4Addr>,
}

impl Sweep {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            port: config.port,
            rate: config.sweep_rate,
            limit: config.sweep_limit,
            named: config.sweep.clone(),
            probe: None,
            started_at: Elapsed::START,
            areas: Vec::new(),
            own: Vec::new(),
            turn: 0,
            again: Vec::new(),
            is_second_pass: false,
            sent: 0,
            probe_at: Elapsed::START,
            sent_at: Elapsed::START,
        }
    }

    /// Begins.
    pub fn start(&mut self, now: Elapsed, probe: Probe, network: &Network, effects: &mut Effects) {
        self.probe = Some(probe);
        (self.started_at, self.probe_at, self.sent_at) = (now, now, now);
        self.update(network);
        effects.note(Note::Sweeps { probe, addresses: self.addresses() });
    }

    /// How many addresses there are to ask, were there no limit.
    fn addresses(&self) -> u32 {
        self.areas.iter().fold(0, |sum, area| sum.saturating_add(self.others(area.prefix)))
    }

    /// How many addresses it has asked, and of how many; none before it begins.
    #[must_use]
    pub fn progress(&self) -> Option<(u32, u32)> {
        self.probe.map(|_| (self.sent, self.addresses().min(self.limit)))
    }

    /// Takes in networks that have come, and lets go of those that are gone.
    pub fn update(&mut self, network: &Network) {
        if self.probe.is_none() {
            return;
        }
        self.own.clear();
        for address in network.own_addresses() {
            self.own.push(address);
        }
        let mut prefixes = network.lan_prefixes();
        for named in &self.named {
            // A part of our own network can be asked by ARP, and the whole of it is asked anyway.
            let prefix = prefixes.iter().find_map(|lan| named.within(*lan)).unwrap_or(*named);
            if !prefixes.iter().any(|known| known.is_same(prefix)) {
                prefixes.push(prefix);
            }
        }
        self.areas.retain(|area| prefixes.contains(&area.prefix));
        for prefix in prefixes {
            let is_known = self.areas.iter().any(|area| area.prefix == prefix);
            if !is_known && self.areas.len() < PREFIXES_MAX {
                let interface = prefix.interface.and_then(|index| network.interface(index));
                self.areas.push(Area {
                    prefix,
                    hardware: interface.and_then(|interface| interface.link.hardware_address),
                    is_wireless: interface.is_some_and(|interface| interface.is_wireless),
                    next: 0,
                    end: prefix.hosts(),
                    asked: 0,
                    answered: Vec::new(),
                });
            }
        }
    }

    /// Sends the probes that are due; `has_room` says whether more connections may be opened.
    pub fn advance(&mut self, now: Elapsed, has_room: bool, effects: &mut Effects) {
        let Some(probe) = self.probe else { return };
        let interval = self.interval();
        self.probe_at = self.probe_at.max(now.before(interval * BURST_MAX));
        while self.probe_at <= now
            && let Some((interface, packet)) = self.again.pop()
        {
            self.sent_at = now;
            self.probe_at = self.probe_at + interval;
            effects.output(Output::AskArp { interface, packet });
        }
        let mut room = if has_room { CONNECTS_MAX } else { 0 };
        while self.probe_at <= now
            && let Some(index) = self.next_area()
            && let Some(area) = self.areas.get_mut(index)
        {
            let address = area.prefix.nth_nearest(area.next);
            let is_new = area.asked <= area.next;
            if self.own.contains(&address) || area.answered.contains(&address) {
                area.next += 1;
                continue;
            }
            let link = area.prefix.interface.zip(area.hardware).filter(|_| probe == Probe::Arp);
            if link.is_none() && room == 0 {
                self.probe_at = now + PAUSE;
                return;
            }
            let own = area.prefix.own;
            area.next += 1;
            area.asked = area.asked.max(area.next);
            self.turn = index + 1;
            self.sent += u32::from(is_new);
            self.sent_at = now;
            self.probe_at = self.probe_at + interval;
            if let Some((interface, hardware)) = link {
                let packet = compose_request(hardware, own, address);
                effects.output(Output::AskArp { interface, packet });
            } else {
                room -= 1;
                self.add(address, effects);
            }
        }
        let is_done = self.next_area().is_none() && self.again.is_empty();
        if is_done && !self.is_second_pass && probe == Probe::Arp {
            self.begin_second_pass();
            self.advance(now, has_room, effects);
        }
    }

    /// Asks those once more that have not answered, where that costs little.
    fn begin_second_pass(&mut self) {
        self.is_second_pass = true;
        self.probe_at = self.probe_at.max(self.started_at + PASS_TIME);
        for area in &mut self.areas {
            let is_cheap = area.hardware.is_some() && !area.is_wireless;
            (area.next, area.end) = (0, if is_cheap { area.asked } else { 0 });
        }
    }

    /// Tells how far it has come, if it has begun.
    pub fn finish(&self, effects: &mut Effects) {
        if self.probe.is_some() {
            let time = self.sent_at.since(self.started_at);
            effects.note(Note::Swept { sent: self.sent, time });
        }
    }

    /// Takes an ARP reply; only an address that we asked counts.
    pub fn handle_arp(&mut self, interface: u32, packet: &[u8], effects: &mut Effects) {
        let Ok(address) = parse_reply(packet) else { return };
        let asked = self.areas.iter_mut().find(|area| {
            area.prefix.interface == Some(interface)
                && area.prefix.rank_of(address).is_some_and(|rank| rank < area.asked)
        });
        if let Some(area) = asked {
            if area.answered.len() < ANSWERED_MAX && !area.answered.contains(&address) {
                area.answered.push(address);
            }
            self.add(address, effects);
        }
    }

    /// The queue was full: this request has to go out again, after a pause.
    pub fn handle_congestion(&mut self, now: Elapsed, interface: u32, packet: ArpRequest) {
        self.again.push((interface, packet));
        self.probe_at = now + PAUSE;
    }

    /// When `advance` is next of use.
    #[must_use]
    pub fn next_at(&self, now: Elapsed) -> Option<Elapsed> {
        self.probe?;
        match self.next_area() {
            None if self.again.is_empty() => {
                Some(self.sent_at + PROBE_TIMEOUT).filter(|at| now < *at)
            }
            _ => Some(self.probe_at),
        }
    }

    /// Whether all is asked and had time to answer.
    #[must_use]
    pub fn is_finished(&self, now: Elapsed) -> bool {
        self.probe.is_some() && self.next_at(now).is_none()
    }

    /// The time between two probes.
    fn interval(&self) -> Duration {
        let is_wireless = self.areas.iter().any(|area| area.is_wireless);
        let usual = if is_wireless { WIRELESS_RATE } else { WIRE_RATE };
        Duration::from_nanos(1_000_000_000 / u64::from(self.rate.unwrap_or(usual).max(1)))
    }

    /// How many addresses of a network are not ours.
    fn others(&self, prefix: Prefix) -> u32 {
        let own = self.own.iter().filter(|address| prefix.rank_of(**address).is_some());
        own.fold(prefix.hosts(), |count, _| count.saturating_sub(1))
    }

    /// Makes a candidate of an address.
    fn add(&self, address: Ipv4Addr, effects: &mut Effects) {
        let remote = SocketAddr::new(IpAddr::V4(address), self.port);
        effects.candidate(Candidate::new(Origin::Sweep, remote));
    }

    /// The area whose turn it is, those that are done left out.
    fn next_area(&self) -> Option<usize> {
        let count = self.areas.len();
        let in_turn = (0..count).map(|step| (self.turn + step) % count.max(1));
        let has_more = |index: &usize| {
            self.areas.get(*index).is_some_and(|area| {
                area.next < area.end && (area.next < area.asked || self.sent < self.limit)
            })
        };
        in_turn.into_iter().find(has_more)
    }
}

/// Asks for one address by ARP on the network that it is in.
pub fn ask_arp(address: IpAddr, network: &Network, effects: &mut Effects) {
    let IpAddr::V4(address) = address else { return };
    for prefix in network.lan_prefixes() {
        if prefix.rank_of(address).is_some()
            && let Some(link) = prefix.interface.and_then(|index| network.interface(index))
            && let Some(hardware) = link.link.hardware_address
        {
            let packet = compose_request(hardware, prefix.own, address);
            effects.output(Output::AskArp { interface: link.link.index, packet });
        }
    }
}
