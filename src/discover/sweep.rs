//! The sweep: ask every address of our own networks, the nearest first, at a steady rate.
//!
//! With a packet socket it asks by ARP, which a live host answers within a millisecond and which
//! leaves no trace in the kernel's neighbour table; only who answers is connected to. Without, each
//! address becomes a candidate at once, and its connection is given little time (see
//! [`verify`](crate::verify)). An address is made from an index when its turn comes: no list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::elapsed::Elapsed;
use crate::facts::{Network, Prefix};
use crate::interface::{Effects, Output};
use crate::model::{Candidate, Note, Origin, Probe};
use crate::wire::arp::{ArpRequest, compose_request, parse_reply};

/// How long after the last probe an answer may come; hosts on Wi-Fi that sleep take longest.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// The pause when a queue is full, or no more connections may be opened.
const PAUSE: Duration = Duration::from_millis(5);
/// Probes that are late may go out together up to this many; a burst of more fills queues.
const BURST_MAX: u32 = 64;
/// Connections opened together.
const CONNECTS_MAX: u32 = 8;
/// Networks swept.
const PREFIXES_MAX: usize = 16;

/// The state of the sweep.
#[derive(Debug)]
pub struct Sweep {
    /// The port that a candidate gets.
    port: u16,
    /// Probes a second.
    rate: u32,
    /// Probes at most.
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
    /// Probes sent.
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
    /// How many of its addresses have had their turn.
    next: u32,
}

impl Sweep {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(port: u16, rate: u32, limit: u32, named: Vec<Prefix>) -> Self {
        Self {
            port,
            rate,
            limit,
            named,
            probe: None,
            started_at: Elapsed::START,
            areas: Vec::new(),
            own: Vec::new(),
            turn: 0,
            again: Vec::new(),
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
        let addresses =
            self.areas.iter().fold(0_u32, |sum, area| sum.saturating_add(self.others(area.prefix)));
        effects.note(Note::Sweeps { probe, addresses: addresses.min(self.limit) });
    }

    /// Takes in networks that have come, and lets go of those that are gone.
    pub fn update(&mut self, network: &Network) {
        if self.probe.is_none() {
            return;
        }
        self.own = network.own_addresses().collect();
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
                let hardware = prefix.interface.and_then(|index| network.hardware_address(index));
                self.areas.push(Area { prefix, hardware, next: 0 });
            }
        }
    }

    /// Whether it has begun.
    #[must_use]
    pub const fn has_started(&self) -> bool {
        self.probe.is_some()
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
            if self.own.contains(&address) {
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
            self.turn = index + 1;
            self.sent += 1;
            self.sent_at = now;
            self.probe_at = self.probe_at + interval;
            if let Some((interface, hardware)) = link {
                let packet = compose_request(hardware, own, address);
                effects.output(Output::AskArp { interface, packet });
            } else {
                room -= 1;
                self.candidate_at(address, effects);
            }
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn summary(&self) -> Note {
        Note::Swept { sent: self.sent, time: self.sent_at.since(self.started_at) }
    }

    /// Takes an ARP reply; only an address that we asked counts.
    pub fn handle_arp(&self, interface: u32, packet: &[u8], effects: &mut Effects) {
        let Ok(address) = parse_reply(packet) else { return };
        let was_asked = self.areas.iter().any(|area| {
            area.prefix.interface == Some(interface)
                && area.prefix.rank_of(address).is_some_and(|rank| rank < area.next)
        });
        if was_asked {
            self.candidate_at(address, effects);
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
        self.has_started() && self.next_at(now).is_none()
    }

    /// The time between two probes.
    fn interval(&self) -> Duration {
        Duration::from_nanos(1_000_000_000 / u64::from(self.rate.max(1)))
    }

    /// How many addresses of a network are not ours.
    fn others(&self, prefix: Prefix) -> u32 {
        let own = self.own.iter().filter(|address| prefix.rank_of(**address).is_some());
        own.fold(prefix.hosts(), |count, _| count.saturating_sub(1))
    }

    /// Makes a candidate of an address.
    fn candidate_at(&self, address: Ipv4Addr, effects: &mut Effects) {
        let remote = SocketAddr::new(IpAddr::V4(address), self.port);
        effects.candidates.push(Candidate::new(Origin::Sweep, remote));
    }

    /// The area whose turn it is, those that are done left out.
    fn next_area(&self) -> Option<usize> {
        let count = self.areas.len();
        let in_turn = (0..count).map(|step| (self.turn + step) % count.max(1));
        let has_more = |index: &usize| {
            self.areas.get(*index).is_some_and(|area| area.next < area.prefix.hosts())
        };
        in_turn.into_iter().find(has_more).filter(|_| self.sent < self.limit)
    }
}
