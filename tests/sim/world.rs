//! The simulated LAN: what is in it, and how a search runs in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cache_resolver::address::{Family, is_private, needs_zone, with_scope};
use cache_resolver::cli::{Command, Environment, parse};
use cache_resolver::config::Config;
use cache_resolver::elapsed::Elapsed;
use cache_resolver::facts::{Interface, Known, Neighbour, Network, Prefix, Previous};
use cache_resolver::interface::{Channel, Failure, Input, MdnsDatagram, Output};
use cache_resolver::model::{Candidate, Flaw, Methods, Note, Origin, Outcome, Verdict};
use cache_resolver::path::{PathId, Paths};
use cache_resolver::search::Search;
use cache_resolver::tell::{Account, Cause, Story};
use cache_resolver::wire::icmp;
use cache_resolver::wire::netlink::{Link, LinkKind};

use crate::announcers::{Announcer, BAD_PATHS, Domain, Says};
use crate::liars::{Cheat, Deceit, EVIL, TcpDeceit, lie};
use crate::support::{
    ANSWER, MULTICAST, NXDOMAIN, REFUSED, Record, SERVFAIL, TRUNCATED, address, alias, id_of,
    message, name, questions, reply, type_of,
};
use crate::timeline;

/// Steps of one search: more is a busy loop.
const STEPS_MAX: usize = 20_000;
/// Outputs between two waits: more is one, too.
const OUTPUTS_MAX: usize = 2_000;
/// Addresses at a time to which connections are open that nobody has accepted yet.
const UNRESOLVED_MAX: usize = 128;
/// Conversations open at a time, DNS questions included: who is done is closed at once.
const OPEN_MAX: usize = 3 * UNRESOLVED_MAX + 64;

/// A private address that no route leads to.
const UNROUTED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 144));

/// Our own address on a link that speaks IPv6.
const OWN_LINK_LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 99));

/// So many milliseconds after the start.
pub const fn millis(millis: u64) -> Elapsed {
    Elapsed::from_micros(millis * 1000)
}

/// A generator of its own, so that a seed means the same with any version of any crate
/// (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }
}

/// How a DNS server behaves.
#[derive(Clone, Debug)]
pub enum Server {
    Answers(Vec<IpAddr>),
    Aliases(Vec<IpAddr>),
    RefusesAaaa(Vec<IpAddr>),
    Truncates(Vec<IpAddr>),
    GarbageFirst(Vec<IpAddr>),
    WrongIdFirst(Vec<IpAddr>),
    ForgedDenialFirst(Vec<IpAddr>),
    /// What is no answer to the question, and then one.
    DeceivesFirst(Deceit, Vec<IpAddr>),
    /// No answer, ever; over TCP neither.
    Deceives(Deceit),
    DeceivesOverTcp(TcpDeceit),
    /// It refuses until then, having nobody to ask.
    RefusesUntil(Elapsed, Vec<IpAddr>),
    /// It knows caches of its domain: priority, weight, and where they are.
    Announces(Vec<(u16, u16, SocketAddr)>, Domain),
    Denies(u16),
    Silent,
    PortClosed,
}

impl Server {
    /// The addresses it gives for the name, sooner or later.
    fn gives(&self) -> &[IpAddr] {
        match self {
            Self::Answers(given)
            | Self::Aliases(given)
            | Self::RefusesAaaa(given)
            | Self::Truncates(given)
            | Self::GarbageFirst(given)
            | Self::WrongIdFirst(given)
            | Self::RefusesUntil(_, given)
            | Self::DeceivesFirst(_, given)
            | Self::ForgedDenialFirst(given) => given,
            Self::Deceives(_)
            | Self::DeceivesOverTcp(_)
            | Self::Announces(..)
            | Self::Denies(_)
            | Self::Silent
            | Self::PortClosed => &[],
        }
    }
}

/// Who can hear a multicast DNS responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// It answers to the socket that asked.
    Anybody,
    /// It only answers to the group.
    Group,
    /// A firewall drops its answers: only a packet socket hears them.
    BehindFirewall,
}

/// A multicast DNS responder.
#[derive(Clone, Debug)]
pub struct Responder {
    pub address: IpAddr,
    pub delay: Elapsed,
    pub hearing: Hearing,
    pub answers: Vec<IpAddr>,
}

/// What is behind an address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    Cache,
    WantsName,
    Refuses,
    SwallowsSyn,
    Tarpit,
    Drips,
    DiesMidway,
    Closes,
    /// It dies between the connection and the reply.
    Resets,
    Status(u16),
    Page,
    OtherStore,
    Flood,
    /// What passes for an answer of HTTP.
    Cheats(Cheat),
    /// It refuses until then, and is a cache after it.
    OpensAt(Elapsed),
    /// It is a cache until then, and what has been said stands; after it nothing comes any more.
    DiesAt(Elapsed),
}

impl Host {
    /// Everything that is not a cache.
    pub const LIARS: [Self; 14 + Cheat::ALL.len()] = [
        Self::Refuses,
        Self::SwallowsSyn,
        Self::Tarpit,
        Self::Drips,
        Self::DiesMidway,
        Self::Closes,
        Self::Resets,
        Self::Status(401),
        Self::Status(403),
        Self::Status(404),
        Self::Status(307),
        Self::Page,
        Self::OtherStore,
        Self::Flood,
        Self::Cheats(Cheat::ALL[0]),
        Self::Cheats(Cheat::ALL[1]),
        Self::Cheats(Cheat::ALL[2]),
        Self::Cheats(Cheat::ALL[3]),
        Self::Cheats(Cheat::ALL[4]),
        Self::Cheats(Cheat::ALL[5]),
        Self::Cheats(Cheat::ALL[6]),
        Self::Cheats(Cheat::ALL[7]),
        Self::Cheats(Cheat::ALL[8]),
        Self::Cheats(Cheat::ALL[9]),
    ];
}

/// A world: change its fields before it runs.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct World {
    pub dice: Dice,
    pub known: Known,
    /// Whether links have a carrier while they have no address.
    pub has_carrier: bool,
    /// When the network comes (true) and goes.
    pub network_changes: Vec<(Elapsed, bool)>,
    pub servers: Vec<(SocketAddr, Server, Elapsed)>,
    /// Servers that nobody configured.
    pub guessed: Vec<(SocketAddr, Server, Elapsed)>,
    pub responders: Vec<Responder>,
    pub announcers: Vec<Announcer>,
    /// The domains that resolv.conf names.
    pub domains: &'static str,
    /// Questions to the group, by what they are for: the name, or services and what belongs to them.
    pub asked: [usize; 2],
    /// Address, behaviour, and the time for a packet there and back.
    pub hosts: Vec<(SocketAddr, Host, Elapsed)>,
    /// The path of the cache, where it is not `/system`.
    pub places: Vec<(SocketAddr, &'static str)>,
    /// The paths that the search knows.
    pub paths: Paths,
    /// Datagrams lost, in percent.
    pub loss: u64,
    /// Datagrams that arrive twice, in percent.
    pub duplication: u64,
    /// How much later than others a datagram may arrive, in microseconds: then it is overtaken.
    pub jitter: u64,
    /// Cards that come (true) and go: when, and which link.
    pub cards: Vec<(Elapsed, usize, bool)>,
    /// Who says of our name what nobody should believe, on our LAN and beside it.
    pub deceivers: Vec<(IpAddr, Deceit, Elapsed)>,
    /// The methods, where they are not those of the options.
    pub methods: Option<Methods>,
    /// Whether all that goes in and out of the search is printed.
    pub tells: bool,
    /// A busy machine wakes us only at multiples of this, in microseconds.
    pub granularity: u64,
    /// ARP requests that do not fit into the queue, in percent.
    pub congestion: u64,
    /// Whether a packet socket may be opened.
    pub privileged: bool,
    pub stop_at: Option<Elapsed>,
    pub budget: &'static str,
    /// Options besides the budget.
    pub options: &'static str,
    /// Our own networks: address, length, and what kind of link they are on.
    pub links: Vec<(Ipv4Addr, u8, LinkKind)>,
    /// Whether our first link speaks IPv6, with a link-local address.
    pub has_link_local: bool,
    pub gateways: Vec<SocketAddr>,
    /// When a router advertisement brings the gateways.
    pub gateways_at: Elapsed,
    pub neighbours: Vec<IpAddr>,
    /// The same on our second link.
    pub neighbours_elsewhere: Vec<IpAddr>,
    /// Hosts that answer ARP and nothing else.
    pub mute: Vec<IpAddr>,
    /// Hosts that answer pings.
    pub pinged: Vec<IpAddr>,
    /// ARP requests and connections that were sent, by address.
    pub probed: Vec<IpAddr>,
    /// Everything sent.
    pub sent: usize,
    /// What was told.
    pub notes: Vec<Note>,
}

impl World {
    /// An empty LAN, 10.0.0.0/24, that is up from the start.
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            known: Known::default(),
            has_carrier: true,
            network_changes: vec![(Elapsed::START, true)],
            servers: Vec::new(),
            guessed: Vec::new(),
            responders: Vec::new(),
            announcers: Vec::new(),
            domains: "",
            asked: [0; 2],
            hosts: Vec::new(),
            places: Vec::new(),
            paths: Paths::new("/system".to_owned()),
            loss: 0,
            duplication: 0,
            jitter: 0,
            cards: Vec::new(),
            deceivers: Vec::new(),
            methods: None,
            tells: false,
            granularity: 1,
            congestion: 1,
            privileged: true,
            stop_at: None,
            budget: "10",
            options: "",
            links: vec![(Ipv4Addr::new(10, 0, 0, 99), 24, LinkKind::Hardware)],
            has_link_local: false,
            gateways: Vec::new(),
            gateways_at: Elapsed::START,
            neighbours: Vec::new(),
            neighbours_elsewhere: Vec::new(),
            mute: Vec::new(),
            pinged: Vec::new(),
            probed: Vec::new(),
            sent: 0,
            notes: Vec::new(),
        }
    }

    /// A LAN of which the seed decides everything.
    pub fn random(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.loss = world.dice.pick(&[0, 0, 0, 10, 50]);
        world.duplication = world.dice.pick(&[0, 0, 0, 10, 100]);
        world.jitter = world.dice.pick(&[0, 0, 0, 2_000, 50_000]);
        world.privileged = world.dice.percent(50);
        world.budget = world.dice.pick(&["10", "10", "10", "3", "0.3"]);
        if world.dice.percent(10) {
            world.network_changes = vec![(millis(world.dice.below(11_000)), true)];
        }
        if world.dice.percent(5) {
            let gone_at = world.dice.below(3000);
            world.network_changes.push((millis(gone_at), false));
            world.network_changes.push((millis(gone_at + world.dice.below(3000)), true));
            world.network_changes.sort_by_key(|(at, _)| *at);
        }
        if world.dice.percent(5) {
            world.stop_at = Some(millis(world.dice.below(5000)));
        }
        for _ in 0..world.dice.below(6) {
            let dies_at = millis(world.dice.below(1500));
            let host = if world.dice.percent(35) {
                world.dice.pick(&[
                    Host::Cache,
                    Host::Cache,
                    Host::Cache,
                    Host::WantsName,
                    Host::OpensAt(millis(1000)),
                    Host::DiesAt(dies_at),
                ])
            } else {
                world.dice.pick(&Host::LIARS)
            };
            let remote = world.any_address();
            let delay = world.any_delay();
            world.hosts.push((remote, host, delay));
        }
        if world.dice.percent(20) {
            let remote = world.any_address();
            world.known.previous = Some(Previous {
                remote,
                path: PathId::CONFIGURED,
                by_name: false,
                is_announced: false,
            });
        }
        if world.dice.percent(20) {
            world.known.hosts = vec![world.any_address().ip()];
        }
        world.options = world.dice.pick(&[
            "--methods previous,hosts,dns,mdns",
            "",
            "",
            "--sweep-rate 20000",
            "--sweep-limit 20",
            "--methods gateway,neighbours,ping",
            "--sweep 192.168.7.0/24 --sweep-rate 1000",
        ]);
        if world.dice.percent(30) {
            let link = (
                Ipv4Addr::new(192, 168, 7, 9),
                29,
                world.dice.pick(&[LinkKind::Veth, LinkKind::Other]),
            );
            world.links.push(link);
        }
        if world.dice.percent(30) {
            let gateway = world.any_address().ip();
            world.gateways.push(SocketAddr::new(gateway, 0));
            if world.dice.percent(30) {
                world.gateways_at = millis(world.dice.below(3000));
            }
            let answers = vec![world.any_address().ip()];
            let guess = world.dice.pick(&[Server::Silent, Server::Answers(answers)]);
            let delay = world.any_delay();
            world.guessed.push((SocketAddr::new(gateway, 53), guess, delay));
        }
        for _ in 0..world.dice.below(4) {
            let address = world.any_address().ip();
            world.neighbours.push(address);
            let address = world.any_address().ip();
            world.pinged.push(address);
            let address = IpAddr::from([10, 0, 0, u8::try_from(world.dice.below(250)).unwrap()]);
            world.mute.push(address);
        }
        if world.dice.percent(2) {
            // A router that answers for everybody.
            world.mute = (0..=255).map(|host| [10, 0, 0, host].into()).collect();
        }
        world.add_servers();
        world.add_responders();
        world.add_announcers();
        world.add_cards();
        world.add_deceivers();
        world
    }

    /// Cards that are pulled out and put in again, or taken away by a driver.
    fn add_cards(&mut self) {
        if !self.dice.percent(10) {
            return;
        }
        for _ in 0..=self.dice.below(3) {
            let card = usize::try_from(self.dice.below(self.links.len() as u64)).unwrap();
            let gone_at = self.dice.below(4000);
            let back_at = gone_at + self.dice.below(2000);
            self.cards.push((millis(gone_at), card, false));
            if self.dice.percent(80) {
                self.cards.push((millis(back_at), card, true));
            }
        }
        self.cards.sort();
    }

    /// Machines that speak of our name without having anything to say of it.
    fn add_deceivers(&mut self) {
        if !self.dice.percent(30) {
            return;
        }
        for _ in 0..=self.dice.below(3) {
            let deceit = self.dice.pick(&Deceit::ALL);
            let delay = self.any_delay();
            self.deceivers.push(([10, 0, 0, 66].into(), deceit, delay));
        }
    }

    /// One of a few addresses, so that candidates meet hosts; some of them public.
    fn any_address(&mut self) -> SocketAddr {
        let third =
            self.dice.pick(&[[10, 0, 0], [10, 0, 0], [10, 0, 0], [192, 168, 7], [203, 0, 113]]);
        let last = u8::try_from(self.dice.below(5) + 140).unwrap();
        SocketAddr::from(([third[0], third[1], third[2], last], 9999))
    }

    /// DNS servers of all kinds.
    fn add_servers(&mut self) {
        for number in 0..self.dice.below(4) {
            let answers = (0..=self.dice.below(2)).map(|_| self.any_address().ip()).collect();
            let server = match self.dice.below(14) {
                0 => Server::Aliases(answers),
                1 => Server::RefusesAaaa(answers),
                2 => Server::Truncates(answers),
                3 => Server::GarbageFirst(answers),
                4 => Server::WrongIdFirst(answers),
                5 => Server::Denies(self.dice.pick(&[NXDOMAIN, SERVFAIL, REFUSED, ANSWER])),
                6 => Server::Silent,
                7 => Server::PortClosed,
                8 => Server::ForgedDenialFirst(answers),
                9 => Server::DeceivesFirst(self.dice.pick(&Deceit::ALL), answers),
                10 => Server::Deceives(self.dice.pick(&Deceit::ALL)),
                11 => Server::DeceivesOverTcp(self.dice.pick(&TcpDeceit::ALL)),
                _ => Server::Answers(answers),
            };
            let address = Ipv4Addr::new(10, 0, 0, u8::try_from(number + 1).unwrap());
            let delay = self.any_delay();
            self.servers.push((SocketAddr::from((address, 53)), server, delay));
        }
    }

    /// Responders of all kinds.
    fn add_responders(&mut self) {
        for _ in 0..self.dice.below(3) {
            let mut responder = Responder {
                address: self.any_address().ip(),
                delay: self.any_delay(),
                hearing: self.dice.pick(&[
                    Hearing::Anybody,
                    Hearing::Group,
                    Hearing::BehindFirewall,
                ]),
                answers: vec![self.any_address().ip()],
            };
            if self.dice.percent(20) {
                self.add_link_local(&mut responder);
            }
            if self.dice.percent(10) {
                responder.answers = (1..=32).map(|host| [10, 0, 0, host].into()).collect();
            }
            self.responders.push(responder);
        }
    }

    /// Machines that announce something, and the option that has us listen to them.
    fn add_announcers(&mut self) {
        if self.dice.percent(50) || self.options.contains("--methods") {
            return;
        }
        self.options = "--browse";
        self.domains = self.dice.pick(&["", "lan", "lan example.org"]);
        for _ in 0..self.dice.below(4) {
            let host = self.any_address().ip();
            let port = self.dice.pick(&[9999, 5000, 80]);
            let (text, place) = self.dice.pick(&[
                ("path=/", ""),
                ("path=/system", "/system"),
                ("x", ""),
                ("path=/n/x/", "/n/x"),
            ]);
            let mut announcer = Announcer::new(self.any_address().ip(), port, &[text]);
            announcer.delay = self.any_delay();
            announcer.says = self.dice.pick(&[Says::All, Says::Pieces]);
            announcer.to_group = self.dice.percent(20);
            announcer.answers = vec![host];
            let remote = SocketAddr::new(host, port);
            if self.host_at(remote).is_none() {
                let delay = self.any_delay();
                let host = self.dice.pick(&[Host::Cache, Host::Cache, Host::Page, Host::Tarpit]);
                self.hosts.push((remote, host, delay));
                self.places.push((remote, place));
            }
            self.announcers.push(announcer);
        }
        for _ in 0..self.dice.below(3) {
            self.add_liar();
        }
    }

    /// A machine that announces nonsense.
    fn add_liar(&mut self) {
        let last = u8::try_from(150 + self.announcers.len()).unwrap();
        let mut liar = Announcer::new([10, 0, 0, last].into(), 9999, &[]);
        liar.answers = vec![self.any_address().ip()];
        liar.delay = self.any_delay();
        match self.dice.below(7) {
            0 => liar.port = 0,
            1 => liar.points_to_itself = true,
            2 => liar.answers = (0..=255).map(|host| [10, 0, 0, host].into()).collect(),
            3 => liar.count = 1000,
            4 => liar.kind = "_http._tcp.local",
            5 => liar.text = Some(vec![self.dice.pick(&BAD_PATHS).to_vec()]),
            _ => liar.text = Some(vec![vec![b'x'; 255]; 20]),
        }
        self.announcers.push(liar);
    }

    /// The responder answers with a link-local address before its other one, and something is there.
    fn add_link_local(&mut self, responder: &mut Responder) {
        self.has_link_local = true;
        let last = u16::from(last_byte(responder.answers[0]));
        let address = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, last]);
        let host = self.dice.pick(&[Host::Cache, Host::SwallowsSyn, Host::Page]);
        let remote = with_scope(SocketAddr::new(address, 9999), 2);
        let delay = self.any_delay();
        self.hosts.push((remote, host, delay));
        responder.answers.insert(0, address);
        self.neighbours.push(address);
    }

    /// Mostly short, sometimes longer than anyone waits.
    fn any_delay(&mut self) -> Elapsed {
        let range = self.dice.pick(&[5, 5, 5, 100, 1500, 6000]);
        Elapsed::from_micros(self.dice.below(range * 1000))
    }

    /// What is at an address.
    fn host_at(&self, remote: SocketAddr) -> Option<(Host, Elapsed)> {
        self.hosts.iter().find(|(at, ..)| *at == remote).map(|(_, host, delay)| (*host, *delay))
    }

    /// The path of the cache at an address.
    fn path_at(&self, remote: SocketAddr) -> &'static str {
        self.places.iter().find(|(at, _)| *at == remote).map_or("/system", |(_, path)| path)
    }

    /// Whether an honest and prompt source leads to a prompt cache through a network that loses
    /// nothing and is there from the start: then the search has no excuse.
    pub fn must_find(&self) -> bool {
        let prompt = millis(100);
        let is_calm = self.loss == 0
            && self.network_changes == [(Elapsed::START, true)]
            && self.cards.is_empty()
            && self.stop_at.is_none()
            && self.budget == "10"
            && !self.options.contains("--methods gateway");
        let is_cache = |address: &IpAddr, with_name: bool| {
            self.host_at(SocketAddr::new(*address, 9999)).is_some_and(|(host, delay)| {
                *address != UNROUTED
                    && self.path_at(SocketAddr::new(*address, 9999)) == "/system"
                    && delay < prompt
                    && (host == Host::Cache || with_name && host == Host::WantsName)
            })
        };
        let of_servers = self.servers.iter().any(|(_, server, delay)| {
            *delay < prompt
                && server.gives().iter().any(|given| is_private(*given) && is_cache(given, true))
        });
        let of_responders = self.responders.iter().any(|responder| {
            let heard = responder.hearing != Hearing::BehindFirewall || self.privileged;
            let given = responder.answers.last().unwrap();
            heard
                && responder.answers.len() <= 2
                && on_link(responder.address)
                && responder.delay < prompt
                && is_private(*given)
                && is_cache(given, false)
        });
        let of_announcers = self.options.contains("--browse")
            && self.announcers.iter().take(8).any(|announcer| {
                let remote = SocketAddr::new(announcer.answers[0], announcer.port);
                let is_prompt = announcer.delay < prompt && on_link(announcer.address);
                let host = self.host_at(remote).filter(|(_, delay)| *delay < prompt);
                let place = match announcer.text.as_deref() {
                    Some([text]) if text == b"path=/system" => "/system",
                    Some([text]) if text == b"path=/n/x/" => "/n/x",
                    _ => "",
                };
                // Of one that contradicts itself what it says first counts.
                let is_of_it = |other: &&Announcer| other.address == announcer.address;
                announcer.answers.len() == 1
                    && self.announcers.iter().filter(is_of_it).count() == 1
                    && announcer.count == 1
                    && announcer.port != 0
                    && !announcer.points_to_itself
                    && announcer.kind.starts_with("_nix-cache")
                    && !announcer.text.iter().flatten().any(|text| BAD_PATHS.contains(&&**text))
                    && is_prompt
                    && matches!(host, Some((Host::Cache, _)))
                    && is_private(remote.ip())
                    && remote.ip() != UNROUTED
                    && self.path_at(remote) == place
            });
        let of_known =
            self.known.previous.iter().any(|previous| is_cache(&previous.remote.ip(), false))
                || self.known.hosts.iter().any(|known| is_cache(known, true));
        let is_swept = self.options != "--methods previous,hosts,dns,mdns"
            && self.options != "--sweep-limit 20";
        let of_sweep = is_swept
            && self.hosts.iter().any(|(at, ..)| on_link(at.ip()) && is_cache(&at.ip(), false));
        is_calm && (of_known || of_servers || of_responders || of_announcers || of_sweep)
    }

    /// Whether somebody gives this path, which is not the configured one.
    fn may_be_asked_for(&self, path: &str) -> bool {
        let previous = self.known.previous.map(|previous| self.paths.text(previous.path));
        previous == Some(path)
            || path.is_empty() && (!self.announcers.is_empty() || !self.domains.is_empty())
            || ["/n/x", "/nix/store"].contains(&path)
    }

    /// Whether the name leads to the address for Nix, too.
    fn name_gives(&self, address: IpAddr) -> bool {
        self.known.hosts.contains(&address)
            || self.servers.iter().any(|(_, server, _)| server.gives().contains(&address))
    }

    /// Our addresses on a link.
    fn addresses(&self, index: u32, own: Ipv4Addr, length: u8) -> Vec<(IpAddr, u8)> {
        let link_local = (self.has_link_local && index == 2).then_some((OWN_LINK_LOCAL, 64));
        [(IpAddr::V4(own), length)].into_iter().chain(link_local).collect()
    }

    /// The network as netlink would show it.
    pub fn network(&self, is_up: bool, now: Elapsed) -> Network {
        let interfaces = self.links.iter().zip(2..).map(|((own, length, kind), index)| Interface {
            is_wireless: false,
            link: Link {
                name: [0; 16],
                index,
                flags: if is_up || self.has_carrier { 0x11043 } else { 0x1003 },
                hardware_type: 1,
                hardware_address: Some([2, 0, 0, 0, 0, 5]),
                kind: *kind,
                master: 0,
                carrier_changes: 0,
            },
            addresses: if is_up { self.addresses(index, *own, *length) } else { Vec::new() },
        });
        let has_gateways = is_up && self.gateways_at <= now;
        let of_lan = |neighbour: &&IpAddr| is_up && on_link(**neighbour);
        let neighbours = self.neighbours.iter().filter(of_lan).map(|address| (address, 2));
        let elsewhere = self.neighbours_elsewhere.iter().map(|address| (address, 3));
        Network {
            interfaces: interfaces.collect(),
            gateways: if has_gateways { self.gateways.clone() } else { Vec::new() },
            neighbours: neighbours
                .chain(elsewhere)
                .map(|(address, interface)| Neighbour {
                    remote: with_scope(SocketAddr::new(*address, 0), interface),
                    interface,
                    hardware_address: Some([2, 0, 0, 0, 0, last_byte(*address)]),
                })
                .collect(),
            nameservers: self.servers.iter().map(|(server, ..)| *server).collect(),
            search_domains: self.domains.to_owned(),
            ..Network::default()
        }
    }
}

/// Whether both are in the network of such a length.
fn same_network(own: Ipv4Addr, other: Ipv4Addr, length: u8) -> bool {
    let prefix = |address: Ipv4Addr| address.to_bits().checked_shr(32 - u32::from(length));
    prefix(own) == prefix(other)
}

/// Whether the responder is on our link: others are not to be believed.
fn on_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [10, 0, 0],
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The number that a host has in all its addresses.
fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

/// How a search ended.
#[derive(Debug)]
pub struct End {
    pub outcome: Outcome,
    pub at: Elapsed,
    /// The network that was searched.
    pub place: Option<Network>,
}

/// Something that will happen.
#[derive(Clone, Debug)]
enum Event {
    Network(bool),
    Card(usize, bool),
    Connected(Channel),
    Received(Channel, Vec<u8>),
    Failed(Channel, Failure),
    Mdns(IpAddr, bool, Vec<u8>),
    Arp(u32, Vec<u8>),
    Icmp(IpAddr, Vec<u8>),
    /// An ARP reply that the kernel has waited for.
    Resolved(IpAddr),
    PacketSocket(bool),
    Stop,
}

/// What the world knows of a search while it runs.
struct Run<'a> {
    world: &'a mut World,
    now: Elapsed,
    /// When, in which order, what.
    events: BTreeMap<(Elapsed, usize), Event>,
    sequence: usize,
    /// Links whose card is not there.
    absent: Vec<usize>,
    /// Open channels, their peers and what was asked, and whether it is a stream.
    open: Vec<(Channel, SocketAddr, Vec<u8>, bool)>,
    is_up: bool,
    listens: bool,
    has_packet_socket: bool,
    /// Candidates of those who name the cache that are not judged yet.
    named: Vec<Candidate>,
    /// Those that are no cache: who names them later does not have them asked again.
    judged: Vec<Candidate>,
    /// All that came from each host over its streams.
    received: Vec<(SocketAddr, Vec<u8>)>,
    /// Who has answered for which path, and last with which HTTP status.
    answers: Vec<(SocketAddr, PathId, u16)>,
    /// What the cause is told from.
    account: Account,
    /// Connections that nobody has accepted yet.
    unresolved: Vec<(Channel, IpAddr)>,
    /// Hosts whose Ethernet address the kernel knows, and connections that wait for that.
    resolved: Vec<IpAddr>,
    waiting: Vec<(Channel, SocketAddr, Vec<u8>)>,
    /// The last datagram that went out once more.
    sent_last: Option<(Channel, Elapsed)>,
    context: &'a str,
}

/// The configuration that the worlds use.
pub fn config(budget: &str, options: &str) -> Config {
    let words = ["--budget", budget].into_iter().chain(options.split_whitespace());
    match parse(words.map(Into::into), &Environment::default()).unwrap() {
        Command::Run(config) => *config,
        Command::Print(_) => unreachable!(),
    }
}

/// Runs a search in the world and checks what must hold in any world: it ends within the budget,
/// without a busy loop, without a deadline in the past, with channels closed once they are done, with a
/// winner only if that is a cache, and with a cause that is true.
pub fn run(world: &mut World, context: &str) -> End {
    let config = config(world.budget, world.options);
    world.known.nameservers = world.servers.iter().map(|(server, ..)| *server).collect();
    let mut search = Search::new(
        &config,
        world.methods.unwrap_or(config.methods),
        &world.known,
        world.paths.clone(),
        world.dice.0,
    );
    let mut run = Run {
        world,
        now: Elapsed::START,
        events: BTreeMap::new(),
        absent: Vec::new(),
        sequence: 0,
        open: Vec::new(),
        is_up: false,
        listens: false,
        has_packet_socket: false,
        named: Vec::new(),
        judged: Vec::new(),
        received: Vec::new(),
        answers: Vec::new(),
        account: Account::new(config.methods, false),
        unresolved: Vec::new(),
        resolved: Vec::new(),
        waiting: Vec::new(),
        sent_last: None,
        context,
    };
    for (at, is_up) in run.world.network_changes.clone() {
        // What is so from the start is not announced.
        if at > Elapsed::START {
            run.schedule_at(at, Event::Network(is_up));
        }
    }
    if run.world.gateways_at > Elapsed::START {
        run.schedule_at(run.world.gateways_at, Event::Network(true));
    }
    for (at, card, is_there) in run.world.cards.clone() {
        run.schedule_at(at, Event::Card(card, is_there));
    }
    if let Some(at) = run.world.stop_at {
        run.schedule_at(at, Event::Stop);
    }
    run.is_up = run.world.network_changes[0] == (Elapsed::START, true);
    run.feed(&mut search, Input::Tick);
    for _ in 0..STEPS_MAX {
        let wait_until = match run.drain(&mut search) {
            Ok(wait_until) => wait_until,
            Err(outcome) => {
                let (paths, surroundings) = search.into_parts();
                run.world.paths = paths;
                let (network, place) = surroundings.into_parts();
                run.judge_cause(&config, outcome, &network);
                return End { place, ..run.judge(outcome, config.budget) };
            }
        };
        assert!(
            wait_until > run.now,
            "{context}: a deadline in the past: {wait_until:?} {:?}",
            run.now
        );
        run.step(&mut search, wait_until);
    }
    panic!("{context}: a busy loop");
}

impl Run<'_> {
    fn schedule_at(&mut self, at: Elapsed, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// A datagram is on its way: it may be overtaken, and come twice.
    fn schedule_datagram(&mut self, delay: Elapsed, event: &Event) {
        let dice = &mut self.world.dice;
        let is_doubled = self.world.duplication != 0 && dice.percent(self.world.duplication);
        let copies = if is_doubled { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.world.jitter;
            let late = if jitter == 0 { 0 } else { self.world.dice.below(jitter) };
            self.schedule(delay + Duration::from_micros(late), event.clone());
        }
    }

    /// Tells the search what has happened.
    fn feed(&mut self, search: &mut Search, input: Input<'_>) {
        if self.world.tells {
            timeline::tell_input(self.now, &input);
        }
        search.handle(self.now, input);
    }

    /// Whether that host is behind a card which is not there.
    fn is_cut_off(&self, address: IpAddr) -> bool {
        !self.absent.is_empty()
            && self.absent.iter().any(|link| {
                let (own, length, _) = self.world.links[*link];
                match address {
                    IpAddr::V4(v4) => same_network(own, v4, length),
                    IpAddr::V6(_) => *link == 0,
                }
            })
    }

    fn schedule(&mut self, delay: Elapsed, event: Event) {
        self.schedule_at(self.now + delay.since(Elapsed::START), event);
    }

    /// Carries out everything the search wants: until when it waits, or how it ended.
    fn drain(&mut self, search: &mut Search) -> Result<Elapsed, Outcome> {
        for _ in 0..OUTPUTS_MAX {
            match search.next_output() {
                Output::WaitUntil(at) => return Ok(at),
                Output::Finished(outcome) => return Err(outcome),
                output => {
                    if self.world.tells {
                        timeline::tell_output(self.now, &output);
                    }
                    self.carry_out(output, search);
                }
            }
        }
        panic!("{}: outputs without end", self.context);
    }

    fn carry_out(&mut self, output: Output, search: &mut Search) {
        self.world.sent += usize::from(!matches!(
            output,
            Output::Note(_)
                | Output::ReadNetwork
                | Output::Close(_)
                | Output::ListenMulticast { .. }
                | Output::OpenPacketSocket
        ));
        match output {
            Output::OpenDatagram { channel, remote, datagram } => {
                assert!(
                    self.open.iter().all(|(open, ..)| *open != channel),
                    "{}: channel reused",
                    self.context
                );
                let is_away = !self.is_up || self.is_cut_off(remote.ip());
                if is_away && !remote.ip().is_loopback() {
                    return self.feed(search, Input::Failed(channel, Failure::Unreachable));
                }
                self.open.push((channel, remote, datagram.clone(), false));
                assert!(self.open.len() <= OPEN_MAX, "{}: {:?} open", self.context, self.open);
                self.ask_server(channel, remote, &datagram);
            }
            Output::OpenStream { channel, remote, request } => {
                assert!(
                    self.open.iter().all(|(open, ..)| *open != channel),
                    "{}: channel reused",
                    self.context
                );
                let is_away =
                    !self.is_up || remote.ip() == UNROUTED || self.is_cut_off(remote.ip());
                if is_away {
                    return self.feed(search, Input::Failed(channel, Failure::Unreachable));
                }
                self.open.push((channel, remote, request.clone(), true));
                if remote.port() != 53 {
                    assert!(self.may_connect(remote.ip()), "{}: sent to {remote}", self.context);
                    self.world.probed.push(remote.ip());
                    self.unresolved.push((channel, remote.ip()));
                    assert!(self.count_unresolved() <= UNRESOLVED_MAX, "{}", self.context);
                }
                self.connect(channel, remote, &request);
            }
            Output::Send(channel, datagram) => {
                assert_ne!(
                    self.sent_last.replace((channel, self.now)),
                    Some((channel, self.now)),
                    "{}: sent twice at once",
                    self.context
                );
                let remote = self.open.iter().find(|(open, ..)| *open == channel).unwrap().1;
                self.ask_server(channel, remote, &datagram);
            }
            Output::Close(channel) => {
                let before = self.open.len();
                self.unresolved.retain(|(open, _)| *open != channel);
                self.open.retain(|(open, ..)| *open != channel);
                assert_eq!(
                    self.open.len() + 1,
                    before,
                    "{}: closed what is not open",
                    self.context
                );
            }
            Output::AskMulticast { question, family, .. } => {
                let is_name = questions(&question)[0].0 == name("waterbug.local");
                self.world.asked[usize::from(!is_name)] += 1;
                if family == Family::V4 && is_name {
                    self.ask_responders(&question);
                } else if family == Family::V4 {
                    self.ask_announcers(&question);
                } else {
                    assert!(self.world.has_link_local, "{}: no IPv6 here", self.context);
                }
            }
            Output::ListenMulticast { .. } => self.listens = true,
            Output::OpenPacketSocket => {
                if !self.has_packet_socket {
                    self.has_packet_socket = self.world.privileged;
                    self.schedule_at(self.now, Event::PacketSocket(self.world.privileged));
                }
            }
            Output::AskDirectly { host, question, .. } => self.ask_responder(host.ip(), &question),
            Output::AskArp { interface, packet } => self.ask_arp(interface, packet, search),
            Output::Ping { target, message } => self.answer_ping(target, &message),
            Output::Note(note) => self.take_note(note),
            Output::ReadNetwork => {
                self.show_network(search);
            }
            Output::WaitUntil(_) | Output::Finished(_) => unreachable!(),
        }
    }

    /// To how many addresses connections are open that nobody has accepted yet.
    fn count_unresolved(&self) -> usize {
        let mut addresses: Vec<_> = self.unresolved.iter().map(|(_, address)| address).collect();
        if UNRESOLVED_MAX < addresses.len() {
            addresses.sort_unstable();
            addresses.dedup();
        }
        addresses.len()
    }

    /// Keeps a note, and in mind who may yet be chosen by name.
    fn take_note(&mut self, note: Note) {
        self.world.notes.push(note);
        self.account.take(self.now, &note);
        match note {
            Note::Added(candidate)
                if candidate.origin.is_named()
                    && !needs_zone(candidate.remote.ip())
                    && !self.judged.iter().any(|judged| judged.is_same(&candidate)) =>
            {
                self.named.push(candidate);
            }
            Note::Judged(candidate, Verdict::NotACache(flaw)) => {
                self.named.retain(|named| !named.is_same(&candidate));
                self.judged.push(candidate);
                self.take_flaw(candidate, flaw);
            }
            Note::AskedByName(remote) => self.named.push(Candidate::new(Origin::Dns, remote)),
            _ => {}
        }
    }

    /// Whether anybody with a say in it has led there: the user, a private or on-link address of the
    /// name, or our own links.
    fn may_connect(&self, address: IpAddr) -> bool {
        let world = &self.world;
        let by_user = world.known.previous.is_some_and(|previous| previous.remote.ip() == address)
            || world.known.hosts.contains(&address)
            || world.known.override_.is_some()
            || world.options.contains("--sweep 192.168.7.0/24")
                && address.to_string().starts_with("192.168.7.");
        let is_near = match address {
            IpAddr::V4(v4) => {
                world.links.iter().any(|(own, length, _)| same_network(*own, v4, *length))
            }
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        // The kernel takes no gateway that is not on-link.
        let is_near = is_near || world.gateways.iter().any(|gateway| gateway.ip() == address);
        let mut servers = world.servers.iter().chain(&world.guessed);
        let is_named = servers.any(|(_, server, _)| server.gives().contains(&address))
            || world.responders.iter().any(|responder| responder.answers.contains(&address))
            || world.servers.iter().any(|(_, server, _)| matches!(server, Server::Announces(..)))
            || world.announcers.iter().any(|announcer| announcer.answers.contains(&address));
        by_user
            || is_near
            || is_named
                && is_private(address)
                && !address.is_loopback()
                && !matches!(address, IpAddr::V4(v4) if v4.is_link_local())
    }

    /// The network as it is now, for the search.
    fn show_network(&mut self, search: &mut Search) {
        let mut network = self.world.network(self.is_up, self.now);
        let absent = |index: u32| self.absent.contains(&(index as usize - 2));
        network.interfaces.retain(|interface| !absent(interface.link.index));
        network.neighbours.retain(|neighbour| !absent(neighbour.interface));
        network.gateways.retain(|gateway| !self.is_cut_off(gateway.ip()));
        self.feed(search, Input::Network(network));
    }

    /// Whether it would have come through a network, or a card, that is not there.
    fn is_event_cut_off(&self, event: &Event) -> bool {
        let is_away =
            |address: IpAddr| !self.is_up && !address.is_loopback() || self.is_cut_off(address);
        match event {
            Event::Connected(channel) | Event::Received(channel, _) | Event::Failed(channel, _) => {
                let peer = self.open.iter().find(|(open, ..)| open == channel);
                peer.is_some_and(|(_, remote, ..)| is_away(remote.ip()))
            }
            Event::Arp(interface, _) => {
                !self.is_up || self.absent.contains(&(*interface as usize - 2))
            }
            Event::Icmp(source, _) | Event::Mdns(source, ..) => is_away(*source),
            _ => false,
        }
    }

    /// A datagram goes to a DNS server, and something may come back.
    fn ask_server(&mut self, channel: Channel, remote: SocketAddr, query: &[u8]) {
        if self.world.dice.percent(self.world.loss) {
            return;
        }
        let mut servers = self.world.servers.iter().chain(&self.world.guessed);
        let Some((_, server, delay)) = servers.find(|(at, ..)| *at == remote).cloned() else {
            return;
        };
        let replies = match &server {
            Server::Silent => return,
            Server::PortClosed => {
                return self.schedule(delay, Event::Failed(channel, Failure::Refused));
            }
            Server::Denies(flags) => vec![reply(query, *flags, &[])],
            Server::Truncates(_) | Server::DeceivesOverTcp(_) => {
                vec![reply(query, TRUNCATED, &[])]
            }
            Server::Deceives(deceit) => vec![deceit.answer(query)],
            Server::DeceivesFirst(deceit, given) => {
                vec![deceit.answer(query), answer(query, given)]
            }
            Server::RefusesUntil(until, _) if self.now < *until => vec![reply(query, REFUSED, &[])],
            Server::Answers(given) | Server::RefusesUntil(_, given) => vec![answer(query, given)],
            Server::Aliases(given) => vec![answer_by_alias(query, given)],
            Server::Announces(places, domain) => vec![domain.answer(query, places)],
            Server::RefusesAaaa(given) if type_of(query) == 1 => vec![answer(query, given)],
            Server::RefusesAaaa(_) => vec![reply(query, REFUSED, &[])],
            Server::GarbageFirst(given) => {
                let mut cut = answer(query, given);
                cut.truncate(cut.len() / 2);
                vec![b"garbage".to_vec(), cut, answer(query, given)]
            }
            Server::WrongIdFirst(given) => {
                let mut wrong = answer(query, &[EVIL]);
                wrong[1] ^= 1;
                vec![wrong, answer(query, given)]
            }
            Server::ForgedDenialFirst(given) => {
                vec![reply(query, NXDOMAIN, &[]), answer(query, given)]
            }
        };
        for bytes in replies {
            if !self.world.dice.percent(self.world.loss) {
                self.schedule_datagram(delay, &Event::Received(channel, bytes));
            }
        }
    }

    /// Whether a packet does not arrive.
    fn is_lost(&mut self) -> bool {
        self.world.dice.percent(self.world.loss)
    }

    /// Whether a question or its answer does not.
    fn is_either_lost(&mut self) -> bool {
        self.is_lost() || self.is_lost()
    }

    /// An ARP request goes to everybody.
    fn ask_arp(&mut self, interface: u32, packet: [u8; 28], search: &mut Search) {
        let target = IpAddr::from([packet[24], packet[25], packet[26], packet[27]]);
        let (own, length, kind) = self.world.links[interface as usize - 2];
        let prefix = Prefix::on_link(interface, own, length).expect("a network that may be swept");
        let IpAddr::V4(target_v4) = target else { unreachable!() };
        assert!(prefix.rank_of(target_v4).is_some(), "{}: {target} is off-link", self.context);
        assert!(kind != LinkKind::Other, "{}: swept a tunnel", self.context);
        assert_eq!(packet[14..18], own.octets(), "{}: not our address", self.context);
        self.world.probed.push(target);
        if self.absent.contains(&(interface as usize - 2)) {
            return;
        }
        if self.world.dice.percent(self.world.congestion) {
            return self.feed(search, Input::Congested(interface, packet));
        }
        let is_alive = self.world.mute.contains(&target)
            || self
                .world
                .hosts
                .iter()
                .any(|(at, host, _)| at.ip() == target && *host != Host::SwallowsSyn);
        if is_alive && on_link(target) && !self.is_either_lost() {
            if self.waiting.iter().any(|(_, remote, _)| remote.ip() == target) {
                self.schedule(millis(1), Event::Resolved(target));
            }
            let mut answer = packet.to_vec();
            answer[7] = 2;
            answer[14..18].copy_from_slice(&packet[24..28]);
            self.schedule_datagram(millis(1), &Event::Arp(interface, answer.clone()));
            // And nonsense: cut short, from an address nobody asked, a request.
            self.schedule(millis(1), Event::Arp(interface, answer[..20].to_vec()));
            answer[14..18].copy_from_slice(&[203, 0, 113, 7]);
            self.schedule(millis(1), Event::Arp(interface, answer));
            self.schedule(millis(1), Event::Arp(interface, packet.to_vec()));
        }
    }

    /// An echo request goes to everybody.
    fn answer_ping(&mut self, target: SocketAddr, message: &[u8]) {
        assert!(icmp::parse_reply(target.is_ipv6(), message).is_err(), "a request");
        if target.is_ipv6() {
            assert!(self.world.has_link_local, "{}: no IPv6 here", self.context);
            return;
        }
        assert!(
            target.ip() == IpAddr::from([10, 0, 0, 255])
                || target.ip() == IpAddr::from([192, 168, 7, 15])
        );
        let mut reply = message.to_vec();
        reply[0] = 0;
        for address in self.world.pinged.clone() {
            if self.is_either_lost() {
                continue;
            }
            self.schedule_datagram(millis(1), &Event::Icmp(address, reply.clone()));
            self.schedule(millis(1), Event::Icmp(EVIL, reply.clone()));
            self.schedule(millis(1), Event::Icmp(address, message.to_vec()));
            self.schedule(millis(1), Event::Icmp(address, b"\0\0\0\0\0\0\0\0another".to_vec()));
        }
    }

    /// A question goes to one host alone: its answer passes any firewall that keeps state.
    fn ask_responder(&mut self, host: IpAddr, question: &[u8]) {
        let owner = name("waterbug.local");
        for responder in self.world.responders.clone() {
            if responder.address == host && !self.is_either_lost() {
                let records: Vec<Record> =
                    responder.answers.iter().map(|given| address(&owner, *given)).collect();
                let packet = message(id_of(question), MULTICAST, &[], [&records, &[], &[]]);
                self.schedule_datagram(responder.delay, &Event::Mdns(host, false, packet));
            }
        }
    }

    /// A question goes to the group.
    fn ask_responders(&mut self, question: &[u8]) {
        let owner = name("waterbug.local");
        for responder in self.world.responders.clone() {
            let is_heard = match responder.hearing {
                Hearing::Anybody => true,
                Hearing::Group => self.listens,
                Hearing::BehindFirewall => self.has_packet_socket,
            };
            if !is_heard || self.is_either_lost() {
                continue;
            }
            let records: Vec<Record> =
                responder.answers.iter().map(|given| address(&owner, *given)).collect();
            let multicast = responder.hearing == Hearing::Group;
            let id = if multicast { 0 } else { id_of(question) };
            let packet = message(id, MULTICAST, &[], [&records, &[], &[]]);
            let event = Event::Mdns(responder.address, multicast, packet);
            self.schedule_datagram(responder.delay, &event);
        }
        for (address, deceit, delay) in self.world.deceivers.clone() {
            let packet = deceit.multicast(question);
            self.schedule_datagram(delay, &Event::Mdns(address, false, packet.clone()));
            self.schedule_datagram(delay, &Event::Mdns(address, true, packet));
            // And a lie in good form from where nobody may say it to us alone. RFC 6762 §11.
            let packet = message(id_of(question), MULTICAST, &[], [&[lie(&owner)], &[], &[]]);
            for stranger in [[203, 0, 113, 7].into(), EVIL] {
                self.schedule_datagram(delay, &Event::Mdns(stranger, false, packet.clone()));
            }
        }
    }

    /// A question for services goes to the group.
    fn ask_announcers(&mut self, question: &[u8]) {
        for announcer in self.world.announcers.clone() {
            if announcer.to_group && !self.listens || self.is_either_lost() {
                continue;
            }
            if let Some(packet) = announcer.answer(question) {
                let event = Event::Mdns(announcer.address, announcer.to_group, packet);
                self.schedule_datagram(announcer.delay, &event);
            }
        }
    }

    /// The kernel looks for a host of our links by ARP, and again after a second. False where it knows it.
    fn resolve(&mut self, channel: Channel, remote: SocketAddr, request: &[u8]) -> bool {
        let address = remote.ip();
        if self.world.loss == 0 || !on_link(address) || self.resolved.contains(&address) {
            return false;
        }
        let is_new = self.waiting.iter().all(|(_, other, _)| other.ip() != address);
        self.waiting.push((channel, remote, request.to_vec()));
        for second in 0..3 {
            if is_new && !self.is_either_lost() {
                self.schedule(millis(second * 1000 + 1), Event::Resolved(address));
                break;
            }
        }
        true
    }

    /// A TCP connection: the kernel makes good for loss with time.
    fn connect(&mut self, channel: Channel, remote: SocketAddr, request: &[u8]) {
        if self.world.host_at(remote).is_some() && self.resolve(channel, remote, request) {
            return;
        }
        let resent = if self.is_either_lost() { millis(1000) } else { millis(0) };
        let answered_later =
            if self.is_either_lost() { millis(200) } else { millis(0) }.since(Elapsed::START);
        if remote.port() == 53 {
            return self.answer_over_tcp(channel, remote, request);
        }
        let Some((host, delay)) = self.world.host_at(remote) else {
            return self.schedule(millis(3000), Event::Failed(channel, Failure::Unreachable));
        };
        if self.world.tells {
            println!("              {remote} is {host:?}");
        }
        let connected = resent + delay.since(Elapsed::START);
        let answered = connected + answered_later + Duration::from_millis(1);
        match host {
            Host::SwallowsSyn => return,
            Host::Refuses => {
                return self.schedule(connected, Event::Failed(channel, Failure::Refused));
            }
            Host::DiesAt(dies_at) if dies_at <= self.now => return,
            Host::OpensAt(opens_at) if self.now < opens_at => {
                return self.schedule(connected, Event::Failed(channel, Failure::Refused));
            }
            _ => self.schedule(connected, Event::Connected(channel)),
        }
        let request = String::from_utf8_lossy(request);
        let called_by_name = request.contains("\r\nHost: waterbug.lan:9999\r\n");
        let target = request.split(' ').nth(1).unwrap();
        let path = target.strip_suffix("/nix-cache-info").unwrap();
        assert_eq!(request.split("\r\n").next(), Some(&*format!("GET {target} HTTP/1.1")));
        let is_there = path == self.world.path_at(remote);
        assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)));
        assert!(path == "/system" || self.world.may_be_asked_for(path), "{request}");
        let good = page(200, "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n");
        // attic, a proxy that redirects, and somebody else's default virtual host.
        let refusal = self.world.dice.pick(&[
            page(400, "Bad Host"),
            page(301, ""),
            page(200, "<html>It works!</html>"),
        ]);
        let answered_at = self.now + answered.since(Elapsed::START);
        // A stream comes in pieces, wherever they are cut.
        let cut_at = usize::try_from(self.world.dice.below(64)).unwrap();
        let mut say = |mut bytes: Vec<u8>| {
            if (1..bytes.len()).contains(&cut_at) {
                let second = bytes.split_off(cut_at);
                self.schedule(answered, Event::Received(channel, bytes));
                bytes = second;
            }
            self.schedule(answered, Event::Received(channel, bytes));
        };
        match host {
            Host::DiesAt(dies_at) if dies_at <= answered_at => {}
            Host::Cache | Host::OpensAt(_) | Host::DiesAt(_) if !is_there => {
                say(page(404, "no such path"));
            }
            Host::Cache | Host::OpensAt(_) | Host::DiesAt(_) => say(good),
            Host::Cheats(cheat) => {
                for bytes in cheat.pieces() {
                    say(bytes);
                }
            }
            Host::Resets => self.schedule(answered, Event::Failed(channel, Failure::Broken)),
            Host::WantsName if called_by_name => say(good),
            Host::WantsName => say(refusal),
            Host::Status(status) => say(page(status, "no")),
            Host::Page => say(page(200, "<html>hello</html>")),
            Host::OtherStore => say(page(200, "StoreDir: /gnu/store\n")),
            Host::Closes => say(Vec::new()),
            Host::Flood => {
                for _ in 0..8 {
                    say(vec![b'x'; 16 * 1024]);
                }
            }
            Host::DiesMidway => {
                say(good[..good.len() - 10].to_vec());
                self.schedule(answered, Event::Failed(channel, Failure::Broken));
            }
            Host::Drips => {
                for (second, byte) in good.iter().take(12).enumerate() {
                    let at = answered + Duration::from_secs(second as u64);
                    self.schedule(at, Event::Received(channel, vec![*byte]));
                }
            }
            Host::Tarpit | Host::Refuses | Host::SwallowsSyn => {}
        }
    }

    /// DNS over TCP, in two pieces.
    fn answer_over_tcp(&mut self, channel: Channel, remote: SocketAddr, request: &[u8]) {
        let server = self.world.servers.iter().find(|(at, ..)| *at == remote).cloned();
        let (given, delay) = match server {
            Some((_, Server::Truncates(given), delay)) => (given, delay),
            Some((_, Server::DeceivesOverTcp(deceit), delay)) => {
                for bytes in deceit.pieces(&request[2..]) {
                    self.schedule(delay, Event::Received(channel, bytes));
                }
                return;
            }
            _ => return self.schedule(millis(1), Event::Failed(channel, Failure::Refused)),
        };
        assert_eq!(usize::from(u16::from_be_bytes([request[0], request[1]])), request.len() - 2);
        let packet = answer(&request[2..], &given);
        let mut bytes = u16::try_from(packet.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(packet);
        let second = bytes.split_off(7);
        self.schedule(delay, Event::Received(channel, bytes));
        self.schedule(delay, Event::Received(channel, second));
    }

    /// Lets the next thing happen, or time pass.
    fn step(&mut self, search: &mut Search, wait_until: Elapsed) {
        let Some(first) = self.events.first_entry().filter(|first| first.key().0 <= wait_until)
        else {
            let granularity = self.world.granularity;
            let woken_at = wait_until.as_micros().div_ceil(granularity) * granularity;
            self.now = Elapsed::from_micros(woken_at);
            return self.feed(search, Input::Tick);
        };
        self.now = self.now.max(first.key().0);
        let event = first.remove();
        if self.is_event_cut_off(&event) {
            return self.feed(search, Input::Tick);
        }
        let is_open = |channel: &Channel| self.open.iter().any(|(open, ..)| open == channel);
        match event {
            Event::Network(is_up) => {
                self.is_up = is_up;
                self.show_network(search);
            }
            Event::Card(link, is_there) => {
                self.absent.retain(|absent| *absent != link);
                if !is_there {
                    self.absent.push(link);
                }
                self.show_network(search);
            }
            Event::Connected(channel) if is_open(&channel) => {
                self.unresolved.retain(|(open, _)| *open != channel);
                self.feed(search, Input::Connected(channel));
            }
            Event::Received(channel, bytes) if is_open(&channel) => {
                self.take_bytes(channel, &bytes);
                self.feed(search, Input::Received(channel, &bytes));
            }
            Event::Failed(channel, failure) if is_open(&channel) => {
                self.open.retain(|(open, ..)| *open != channel);
                self.unresolved.retain(|(open, _)| *open != channel);
                self.feed(search, Input::Failed(channel, failure));
            }
            Event::Arp(interface, packet) => {
                self.feed(search, Input::Arp(interface, &packet));
            }
            Event::Icmp(source, message) => {
                self.feed(search, Input::Icmp(SocketAddr::new(source, 0), &message));
            }
            Event::Mdns(source, multicast, payload) => {
                let source = SocketAddr::new(source, 5353);
                let datagram = MdnsDatagram { interface: 2, source, multicast, payload: &payload };
                self.feed(search, Input::Mdns(datagram));
            }
            Event::Resolved(address) => {
                if !self.resolved.contains(&address) {
                    self.resolved.push(address);
                }
                let (ready, waiting) = std::mem::take(&mut self.waiting)
                    .into_iter()
                    .partition(|(_, remote, _)| remote.ip() == address);
                self.waiting = waiting;
                let ready: Vec<_> = ready;
                for (channel, remote, request) in ready {
                    self.connect(channel, remote, &request);
                }
                self.feed(search, Input::Tick);
            }
            Event::PacketSocket(open) => self.feed(search, Input::PacketSocket(open)),
            Event::Stop => self.feed(search, Input::Stop),
            // The channel was closed before this came.
            Event::Connected(_) | Event::Received(..) | Event::Failed(..) => {
                self.feed(search, Input::Tick);
            }
        }
    }

    /// Whatever is told of the end is true of the world, and what should be told is.
    fn judge_cause(&self, config: &Config, outcome: Outcome, network: &Network) {
        let story = Story {
            config,
            order_place: "",
            account: &self.account,
            network,
            outcome,
            ended_at: self.now,
        };
        let cause = Cause::of(&story);
        let said = cause.describe(&story).0;
        let context = format!("{}: {cause:?}: {said}: {:?}", self.context, self.world.hosts);
        assert!(!said.is_empty(), "{context}");
        if outcome != Outcome::NotFound {
            return;
        }
        let has = |wanted: &[u16]| self.answers.iter().any(|answer| wanted.contains(&answer.2));
        let gave = |remote, status| {
            self.answers.iter().any(|answer| (answer.0, answer.2) == (remote, status))
        };
        match cause {
            Cause::NotACache(candidate, Flaw::Status(status)) => {
                assert!(gave(candidate.remote, status), "nobody said so: {context}");
                assert!(said.contains(&candidate.remote.ip().to_string()), "{context}");
            }
            Cause::NotACache(candidate, Flaw::Refused) => {
                let host = self.world.host_at(candidate.remote).map(|(host, _)| host);
                let is_closed = matches!(host, Some(Host::Refuses | Host::OpensAt(_)));
                assert!(is_closed, "the port is not closed: {context}");
            }
            Cause::Portal(candidate, status) => {
                assert!(gave(candidate.remote, status), "nobody said so: {context}");
                let all = self.answers.iter().all(|answer| (300..400).contains(&answer.2));
                assert!(all, "not every answer was a redirect: {context}");
            }
            Cause::Useless(candidate) => {
                assert!(!is_private(candidate.remote.ip()), "{context}");
            }
            Cause::SilentServer(server) => {
                let configured = self.world.servers.iter().find(|(at, ..)| *at == server);
                assert!(configured.is_some(), "it is a guess: {context}");
            }
            _ => {}
        }
        // A private cache, before a wrong path, and before a gateway with a password, is always named; before it
        // only who has the name.
        let is_about = |statuses: &[u16]| matches!(cause, Cause::NotACache(_, Flaw::Status(status)) if statuses.contains(&status));
        let is_said = |cause| matches!(cause, Cause::NotACache(it, _) if it.origin.is_named());
        let is_gateway = |at: SocketAddr| self.world.gateways.iter().any(|it| it.ip() == at.ip());
        let is_private =
            self.answers.iter().any(|it| matches!(it.2, 401 | 403) && !is_gateway(it.0));
        assert!(
            !is_private || is_about(&[401, 403]) || is_said(cause),
            "a private cache: {context}"
        );
        assert!(
            !has(&[401, 403, 404]) || is_about(&[301, 308, 400, 401, 403, 404]) || is_said(cause),
            "a wrong path: {context}"
        );
        // That nobody has the port open is only said where that is so.
        let is_nobody = said.contains("none with port") || cause == Cause::Isolated;
        assert!(!is_nobody || self.answers.is_empty(), "{:?}: {context}", self.answers);
    }

    /// Keeps in mind what came from a host, by whatever parts.
    fn take_bytes(&mut self, channel: Channel, bytes: &[u8]) {
        if let Some((_, remote, ..)) = self.open.iter().find(|(open, ..)| *open == channel) {
            match self.received.iter_mut().find(|(host, _)| host == remote) {
                Some((_, all)) => all.extend(bytes),
                None => self.received.push((*remote, bytes.to_vec())),
            }
        }
    }

    /// Keeps in mind which HTTP status a host has answered with, as the search says: it must have.
    fn take_flaw(&mut self, candidate: Candidate, flaw: Flaw) {
        let status = match flaw {
            Flaw::Status(status) => status,
            Flaw::NotCacheInfo | Flaw::OtherStore => 200,
            _ => return,
        };
        let (remote, path) = (candidate.remote, candidate.path);
        if let Flaw::Status(status) = flaw {
            let said = format!(" {status} ").into_bytes();
            let came = self.received.iter().find(|(host, _)| *host == remote);
            let is_true = came.is_some_and(|(_, all)| all.windows(5).any(|part| part == said));
            assert!(is_true, "{}: {remote} never said {status}", self.context);
        }
        self.answers.retain(|known| (known.0, known.1) != (remote, path));
        self.answers.push((remote, path, status));
    }

    /// The search is over: was it right?
    fn judge(self, outcome: Outcome, budget: Duration) -> End {
        assert!(
            self.now <= Elapsed::START + budget,
            "{}: over budget: {:?}",
            self.context,
            self.now
        );
        if let Outcome::Found(found) = outcome {
            assert!(!needs_zone(found.remote.ip()), "{}: a zone won: {found:?}", self.context);
            let (host, _) = self.world.host_at(found.remote).expect("a winner that is not there");
            let is_right = match host {
                Host::Cache | Host::OpensAt(_) | Host::DiesAt(_) => {
                    let path = self.world.paths.text(found.path);
                    !found.by_name && path == self.world.path_at(found.remote)
                }
                Host::WantsName => found.by_name && self.world.name_gives(found.remote.ip()),
                _ => false,
            };
            let stronger = self.named.iter().find(|candidate| candidate.remote != found.remote);
            let in_time = self.now < Elapsed::START + budget * 9 / 10;
            if let Some(stronger) = stronger.filter(|_| !found.origin.is_named() && in_time) {
                panic!("{}: {found:?} won while {stronger:?} was in flight", self.context);
            }
            assert!(is_right, "{}: a false winner: {found:?} is {host:?}", self.context);
        }
        End { outcome, at: self.now, place: None }
    }
}

/// An HTTP response.
fn page(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The records of the wanted family.
fn records(query: &[u8], owner: &[u8], given: &[IpAddr]) -> Vec<Record> {
    let is_wanted = |address: &&IpAddr| address.is_ipv4() == (type_of(query) == 1);
    given.iter().filter(is_wanted).map(|given| address(owner, *given)).collect()
}

/// An ordinary answer.
fn answer(query: &[u8], given: &[IpAddr]) -> Vec<u8> {
    reply(query, ANSWER, &records(query, &name("waterbug.lan"), given))
}

/// An answer that goes by way of another name.
fn answer_by_alias(query: &[u8], given: &[IpAddr]) -> Vec<u8> {
    let target = name("hive.lan");
    let mut all = records(query, &target, given);
    all.push(alias(&name("waterbug.lan"), &target));
    reply(query, ANSWER, &all)
}
