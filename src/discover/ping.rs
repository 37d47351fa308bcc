//! One ICMP echo to everybody on each link.
//!
//! Few Linux hosts answer a broadcast (`icmp_echo_ignore_broadcasts`), many other devices do, and
//! all answer `ff02::1`. Each answer is a candidate, and each host that was woken is a neighbour.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::Random;
use crate::address::with_port;
use crate::elapsed::Elapsed;
use crate::facts::Network;
use crate::interface::{Effects, Output};
use crate::model::{Candidate, Origin};
use crate::wire::icmp::{COOKIE_LENGTH, compose_request, parse_reply};

/// How long answers are waited for; hosts on Wi-Fi that sleep take longest.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// When everybody is asked again, counted from the first time: nobody acknowledges a broadcast.
const PING_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(120), Duration::from_millis(280)];
/// All nodes on the link. RFC 4291 §2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Links pinged.
const TARGETS_MAX: usize = 16;

/// The state of the ping.
#[derive(Debug)]
pub struct Ping {
    /// The port that a candidate gets.
    port: u16,
    /// What our requests carry, and so the answers to them.
    cookie: [u8; COOKIE_LENGTH],
    /// When it began.
    started_at: Option<Elapsed>,
    /// Everybody's addresses that were asked.
    targets: Vec<SocketAddr>,
    /// How often they were asked again.
    again: usize,
}

impl Ping {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(port: u16, random: &mut Random) -> Self {
        let mut cookie = [0; COOKIE_LENGTH];
        for byte in &mut cookie {
            *byte = random.next_u16().to_be_bytes()[0];
        }
        Self { port, cookie, started_at: None, targets: Vec::new(), again: 0 }
    }

    /// Begins, or goes on with the links that have come since.
    pub fn ask(&mut self, now: Elapsed, network: &Network, effects: &mut Effects) {
        let broadcasts = network.lan_prefixes().into_iter().filter_map(|prefix| prefix.broadcast);
        let of_prefixes = broadcasts.map(|address| SocketAddr::new(IpAddr::V4(address), 0));
        let of_links = network
            .lan_interfaces()
            .filter(|interface| interface.has_link_local_v6())
            .map(|interface| SocketAddrV6::new(ALL_NODES, 0, 0, interface.link.index).into());
        for target in of_prefixes.chain(of_links) {
            if !self.targets.contains(&target) && self.targets.len() < TARGETS_MAX {
                self.targets.push(target);
                self.ping(target, effects);
                (self.started_at, self.again) = (Some(now), 0);
            }
        }
        self.started_at = self.started_at.or(Some(now));
    }

    /// Asks everybody at one address.
    fn ping(&self, target: SocketAddr, effects: &mut Effects) {
        let message = compose_request(target.is_ipv6(), self.cookie);
        effects.output(Output::Ping { target, message });
    }

    /// Asks again when the time has come.
    pub fn advance(&mut self, now: Elapsed, effects: &mut Effects) {
        while self.again_at().is_some_and(|at| at <= now) {
            self.again += 1;
            for target in &self.targets {
                self.ping(*target, effects);
            }
        }
    }

    /// When everybody is asked again, if ever.
    fn again_at(&self) -> Option<Elapsed> {
        Some(self.started_at? + *PING_AGAIN_AFTER.get(self.again)?)
    }

    /// Takes an ICMP message.
    pub fn handle(&self, source: SocketAddr, message: &[u8], effects: &mut Effects) {
        if parse_reply(source.is_ipv6(), message) == Ok(self.cookie) {
            let remote = with_port(source, self.port);
            effects.candidate(Candidate::new(Origin::Ping, remote));
        }
    }

    /// When `advance` is next of use, or silence becomes an answer, if that is still to come.
    #[must_use]
    pub fn next_at(&self, now: Elapsed) -> Option<Elapsed> {
        let silent_at = self.started_at.map(|at| at + PING_TIMEOUT).filter(|at| now < *at);
        self.again_at().or(silent_at)
    }

    /// Whether everybody has had time to answer.
    #[must_use]
    pub fn is_finished(&self, now: Elapsed) -> bool {
        self.started_at.is_some() && self.next_at(now).is_none()
    }
}
