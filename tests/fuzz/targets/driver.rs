//! A whole search under an arbitrary script of inputs and times, and what must hold of it whatever
//! the world does: as in `tests/sim`, but in no world that makes sense.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use cache_resolver::address::{is_private, needs_zone, with_scope};
use cache_resolver::cli::{Command, Environment, parse};
use cache_resolver::config::Config;
use cache_resolver::elapsed::Elapsed;
use cache_resolver::facts::{Known, Network, Override, Prefix};
use cache_resolver::interface::{Channel, Failure, Input, MdnsDatagram, Output};
use cache_resolver::model::{Found, Note, Outcome, Verdict};
use cache_resolver::path::Paths;
use cache_resolver::search::Search;
use cache_resolver::wire::cache_info::{self, CacheInfo};
use cache_resolver::wire::http::parse_response;
use cache_resolver::wire::{arp, icmp};

use super::script::Script;
use super::support::questions;
use super::world;

/// Outputs after one input, notes included.
const OUTPUTS_MAX: usize = 2_000;
/// Steps after the end of the script: more is a busy loop.
const STEPS_MAX: usize = 20_000;
/// Addresses at a time to which connections are open that nobody has accepted yet.
const UNRESOLVED_MAX: usize = 128;
/// Conversations open at a time, DNS questions included.
const OPEN_MAX: usize = 3 * UNRESOLVED_MAX + 64;
/// Bytes of a question; nobody would take more.
const QUESTION_MAX: usize = 512;

/// A conversation.
#[derive(Debug)]
pub struct Open {
    pub channel: Channel,
    pub remote: SocketAddr,
    /// What was sent last.
    pub request: Vec<u8>,
    pub is_stream: bool,
    is_connected: bool,
    received: Vec<u8>,
}

/// A search under way, and what must hold of it.
#[derive(Debug)]
pub struct Driver {
    search: Search,
    pub config: Config,
    known: Known,
    pub now: Elapsed,
    /// Until when the search waits.
    pub wait_until: Elapsed,
    pub open: Vec<Open>,
    /// The numbers of the last channels, which only rise.
    last_channels: [Option<u32>; 2],
    /// What `ReadNetwork` gives.
    pub network: Network,
    /// What it has given.
    networks: Vec<Network>,
    /// The last questions to the group: for the name, and for services.
    pub asked: [Vec<u8>; 2],
    pub last_arp: Option<(u32, arp::ArpRequest)>,
    pub last_ping: Vec<u8>,
    /// Where somebody has said that there is a cache: remote, path, whether it was called by name.
    caches: Vec<(SocketAddr, String, bool)>,
    /// Candidates of those who name the cache that are not judged yet.
    named: Vec<SocketAddr>,
    /// Those of them that are, and are none.
    judged: Vec<SocketAddr>,
    /// What was last sent on an open channel, and when.
    sent_last: Option<(Channel, Elapsed)>,
    /// Channels that could not be opened since the last input.
    failed: Vec<Channel>,
    /// Which channels fail at once: a bit for each number modulo eight.
    pub unreachable: u8,
    pub privileged: bool,
    is_packet_socket_due: bool,
    pub outcome: Option<Outcome>,
}

/// The configuration with these options.
pub fn config(options: &str) -> Config {
    match parse(options.split_whitespace().map(Into::into), &Environment::default()).unwrap() {
        Command::Run(config) => *config,
        Command::Print(_) => unreachable!(),
    }
}

impl Driver {
    /// A search that has begun.
    pub fn new(options: &str, known: Known, paths: Paths, network: Network) -> Self {
        let config = config(options);
        let search = Search::new(&config, config.methods, &known, paths, 7);
        Self {
            search,
            config,
            known,
            now: Elapsed::START,
            wait_until: Elapsed::START,
            open: Vec::new(),
            last_channels: [None; 2],
            network,
            networks: Vec::new(),
            asked: [Vec::new(), Vec::new()],
            last_arp: None,
            last_ping: Vec::new(),
            caches: Vec::new(),
            named: Vec::new(),
            judged: Vec::new(),
            sent_last: None,
            failed: Vec::new(),
            unreachable: 0,
            privileged: true,
            is_packet_socket_due: false,
            outcome: None,
        }
    }

    /// When it ends at the latest.
    fn ends_at(&self) -> Elapsed {
        Elapsed::START + self.config.search_time()
    }

    /// Hands an input to the search and does what it wants.
    pub fn handle(&mut self, input: Input<'_>) {
        self.failed.clear();
        self.search.handle(self.now, input);
        self.drain();
        while std::mem::take(&mut self.is_packet_socket_due) {
            self.search.handle(self.now, Input::PacketSocket(self.privileged));
            self.drain();
        }
    }

    fn drain(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            match self.search.next_output() {
                Output::WaitUntil(at) => {
                    assert!(at > self.now, "a deadline in the past: {at:?} {:?}", self.now);
                    assert!(at <= self.ends_at(), "a deadline after the end: {at:?}");
                    assert!(self.outcome.is_none(), "it goes on after its end");
                    self.wait_until = at;
                    return;
                }
                Output::Finished(outcome) => {
                    assert!(self.outcome.is_none_or(|known| known == outcome), "another end");
                    if self.outcome.replace(outcome).is_none() {
                        self.check_outcome(outcome);
                    }
                    return;
                }
                output => {
                    let is_note = matches!(output, Output::Note(_));
                    assert!(self.outcome.is_none() || is_note, "{output:?} after the end");
                    self.carry_out(output);
                }
            }
        }
        panic!("outputs without end");
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::OpenDatagram { channel, remote, datagram } => {
                assert!(matches!(channel, Channel::Dns(_)));
                self.check_server(remote);
                self.check_question(&datagram, true);
                self.start(channel, remote, datagram, false);
            }
            Output::OpenStream { channel, remote, request } => {
                if matches!(channel, Channel::Dns(_)) {
                    self.check_server(remote);
                    let (length, question) = request.split_at(2);
                    assert_eq!(
                        usize::from(u16::from_be_bytes([length[0], length[1]])),
                        question.len()
                    );
                    self.check_question(question, true);
                } else {
                    assert!(self.may_connect(remote), "a connection to {remote}: {:?}", self.known);
                    check_request(&request, remote);
                }
                self.start(channel, remote, request, true);
            }
            Output::Send(channel, datagram) => {
                let before = self.sent_last.replace((channel, self.now));
                assert_ne!(before, Some((channel, self.now)), "sent twice at once");
                self.check_question(&datagram, true);
                let open = self.open.iter_mut().find(|open| open.channel == channel);
                let open = open.expect("sent where nothing is open");
                assert!(!open.is_stream);
                open.request = datagram;
            }
            Output::Close(channel) => {
                match self.open.iter().position(|open| open.channel == channel) {
                    Some(index) => drop(self.open.swap_remove(index)),
                    // It was to be closed before anybody knew that it could not be opened.
                    None => assert!(self.failed.contains(&channel), "closed what is not open"),
                }
            }
            Output::AskMulticast { interface, family, question } => {
                self.check_question(&question, false);
                // Links that are gone since may still have their turn.
                let known = self.networks.iter().filter_map(|it| it.interface(interface));
                assert!(
                    known.into_iter().any(|it| it.speaks_multicast(family)),
                    "{interface} {family:?} {:?}",
                    self.networks
                );
                let is_service = question[12] == b'\x05' || question[12 + 1] == b'_';
                self.asked[usize::from(is_service)] = question;
            }
            Output::ListenMulticast { interface, .. } => {
                assert!(self.networks.iter().any(|it| it.interface(interface).is_some()));
            }
            Output::AskDirectly { host, interface, question } => {
                self.check_question(&question, false);
                assert_eq!(host.port(), 5353);
                let is_neighbour = |it: &Network| {
                    it.neighbours.iter().any(|known| known.remote.ip() == host.ip())
                        && it.is_on_lan(host.ip())
                        && it.interface(interface).is_some()
                };
                assert!(self.networks.iter().any(is_neighbour), "{host}");
            }
            Output::OpenPacketSocket => self.is_packet_socket_due = true,
            Output::AskArp { interface, packet } => self.check_arp(interface, packet),
            Output::Ping { target, message } => self.check_ping(target, message),
            Output::ReadNetwork => {
                self.networks.push(self.network.clone());
                self.search.handle(self.now, Input::Network(self.network.clone()));
            }
            Output::Note(note) => self.take_note(note),
            Output::WaitUntil(_) | Output::Finished(_) => unreachable!(),
        }
    }

    /// The network is another one from now on, whether or not somebody tells.
    pub fn change_network(&mut self, network: Network, is_told: bool) {
        self.network = network;
        if is_told {
            self.networks.push(self.network.clone());
            self.handle(Input::Network(self.network.clone()));
        }
    }

    /// Opens a channel, or says that this cannot be.
    fn start(&mut self, channel: Channel, remote: SocketAddr, request: Vec<u8>, is_stream: bool) {
        let (kind, number) = match channel {
            Channel::Dns(number) => (0, number),
            Channel::Verify(number) => (1, number),
        };
        let before = self.last_channels[kind].replace(number);
        assert!(before.is_none_or(|before| before < number), "{channel:?} was used before");
        if self.unreachable & 1 << (number % 8) != 0 {
            self.failed.push(channel);
            return self.search.handle(self.now, Input::Failed(channel, Failure::Unreachable));
        }
        let (is_connected, received) = (!is_stream, Vec::new());
        self.open.push(Open { channel, remote, request, is_stream, is_connected, received });
        assert!(self.open.len() <= OPEN_MAX, "{} open", self.open.len());
        let is_unresolved = |open: &&Open| !open.is_connected && open.remote.port() != 53;
        let unresolved = self.open.iter().filter(is_unresolved);
        let mut addresses: Vec<_> = unresolved.map(|open| open.remote.ip()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert!(addresses.len() <= UNRESOLVED_MAX, "{} unresolved", addresses.len());
    }

    /// A stream is accepted.
    pub fn connect(&mut self, index: usize) {
        let open = &mut self.open[index];
        if open.is_stream && !std::mem::replace(&mut open.is_connected, true) {
            let channel = open.channel;
            self.handle(Input::Connected(channel));
        }
    }

    /// Something comes in where it can.
    pub fn receive(&mut self, index: usize, bytes: &[u8]) {
        let channel = self.open[index].channel;
        self.connect(index);
        let Some(open) = self.open.iter_mut().find(|open| open.channel == channel) else { return };
        open.received.extend_from_slice(bytes);
        if matches!(channel, Channel::Verify(_)) && says_cache(&open.received, bytes.is_empty()) {
            let request = String::from_utf8_lossy(&open.request);
            let path = request[4..].split("/nix-cache-info ").next().unwrap().to_owned();
            let by_name = request.contains("\r\nHost: waterbug.lan:");
            self.caches.push((open.remote, path, by_name));
        }
        self.handle(Input::Received(channel, bytes));
    }

    /// A channel fails; it is closed then.
    pub fn fail(&mut self, index: usize, failure: Failure) {
        let channel = self.open.swap_remove(index).channel;
        self.handle(Input::Failed(channel, failure));
    }

    /// A datagram comes in from a multicast DNS port.
    pub fn hear(&mut self, interface: u32, source: SocketAddr, multicast: bool, payload: &[u8]) {
        self.handle(Input::Mdns(MdnsDatagram { interface, source, multicast, payload }));
    }

    /// Time passes, up to what the search waits for and `late` after it.
    pub fn wait(&mut self, at_most: Option<Duration>, late: Duration) {
        let at = match at_most {
            Some(duration) => self.wait_until.min(self.now + duration),
            None => self.wait_until + late,
        };
        self.now = self.now.max(at);
        self.handle(Input::Tick);
        let is_over = self.ends_at() <= self.now;
        assert!(!is_over || self.outcome.is_some(), "over budget: {:?}", self.now);
    }

    /// Nothing happens any more until it ends.
    pub fn finish(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.outcome.is_some() {
                // It is deaf now.
                return self.handle(Input::Tick);
            }
            self.wait(None, Duration::ZERO);
        }
        panic!("a busy loop");
    }

    /// Keeps in mind who may yet be chosen by name.
    fn take_note(&mut self, note: Note) {
        match note {
            Note::Added(candidate)
                if candidate.origin.is_named()
                    && !needs_zone(candidate.remote.ip())
                    // Who names a candidate is told of one that is known and done with, too.
                    && !self.judged.contains(&candidate.remote) =>
            {
                self.named.push(candidate.remote);
            }
            Note::Judged(candidate, Verdict::NotACache(_)) => {
                if candidate.origin.is_named() {
                    self.judged.push(candidate.remote);
                }
                self.named.retain(|named| *named != candidate.remote);
            }
            Note::AskedByName(remote) if !needs_zone(remote.ip()) => self.named.push(remote),
            _ => {}
        }
    }

    /// Whether an order or one of the host's files names the address: it may be anywhere.
    fn is_of_user(&self, address: IpAddr) -> bool {
        let order = matches!(self.known.override_, Some(Override::At(at)) if at.ip() == address);
        let previous = self.known.previous.is_some_and(|previous| previous.remote.ip() == address);
        order || previous || self.known.hosts.contains(&address)
    }

    /// Whether anybody may be believed that there is a cache: the user, or the address itself.
    fn may_connect(&self, remote: SocketAddr) -> bool {
        let address = remote.ip();
        match self.known.override_ {
            Some(Override::At(at)) => return at == remote,
            Some(Override::None) => return false,
            None => {}
        }
        let is_near = self.networks.iter().any(|network| network.is_on_link(address));
        let is_swept =
            |prefix: &Prefix| matches!(address, IpAddr::V4(v4) if prefix.rank_of(v4).is_some());
        let is_link_local =
            matches!(address, IpAddr::V4(v4) if v4.is_link_local()) || needs_zone(address);
        self.is_of_user(address)
            || self.config.sweep.iter().any(is_swept)
            || !address.is_loopback() && (is_near || is_private(address) && !is_link_local)
    }

    /// Only servers that are configured are asked, and gateways.
    fn check_server(&self, remote: SocketAddr) {
        assert!(self.known.override_.is_none(), "an order excludes everything else");
        let is_guess = |network: &Network| {
            network.nameservers.contains(&remote)
                || remote.port() == 53
                    && network.gateways.iter().any(|gateway| gateway.ip() == remote.ip())
        };
        let is_known = self.known.nameservers.contains(&remote);
        assert!(is_known || self.networks.iter().any(is_guess), "{remote} was asked");
    }

    /// What is asked is short and whole.
    fn check_question(&self, question: &[u8], is_unicast: bool) {
        assert!(self.known.override_.is_none(), "an order excludes everything else");
        assert!(question.len() <= QUESTION_MAX && question[2..4] == [u8::from(is_unicast), 0]);
        assert_eq!(question[6..12], [0; 6], "nothing but questions");
        let asked = questions(question);
        let length: usize = asked.iter().map(|(name, _)| name.len() + 4).sum();
        assert_eq!(12 + length, question.len());
        assert!((1..=4).contains(&asked.len()) && (!is_unicast || asked.len() == 1));
    }

    /// ARP asks only for hosts of a network of ours, and never as somebody else.
    fn check_arp(&mut self, interface: u32, packet: arp::ArpRequest) {
        let [own, target] = [14, 24]
            .map(|at| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]));
        let is_lan = |prefix: &Prefix| {
            (prefix.interface, prefix.own) == (Some(interface), own)
                && prefix.rank_of(target).is_some()
        };
        let is_of = |network: &Network| {
            network.own_addresses().any(|it| it == own)
                && network.lan_prefixes().iter().any(|lan| {
                    is_lan(lan) || lan.interface == Some(interface) && lan.rank_of(target).is_some()
                })
        };
        assert!(self.networks.iter().any(is_of), "{own} asks for {target} on {interface}");
        self.last_arp = Some((interface, packet));
    }

    /// Pings go to everybody on a link of ours.
    fn check_ping(&mut self, target: SocketAddr, message: Vec<u8>) {
        assert!(icmp::parse_reply(target.is_ipv6(), &message).is_err());
        let is_everybody = |network: &Network| match target {
            SocketAddr::V4(v4) => {
                network.lan_prefixes().iter().any(|lan| lan.broadcast == Some(*v4.ip()))
            }
            SocketAddr::V6(v6) => {
                v6.ip().segments() == [0xff02, 0, 0, 0, 0, 0, 0, 1]
                    && network.lan_interfaces().any(|lan| lan.link.index == v6.scope_id())
            }
        };
        assert!(self.networks.iter().any(is_everybody), "a ping to {target}");
        self.last_ping = message;
    }

    /// Nobody wins who has not shown that it is a cache, nor while a better one is being asked.
    fn check_outcome(&self, outcome: Outcome) {
        let Outcome::Found(Found { remote, path, origin, by_name }) = outcome else { return };
        assert!(!needs_zone(remote.ip()), "a zone won: {remote}");
        let path = self.search.paths().text(path);
        let is_cache = |(at, its_path, its_by_name): &(SocketAddr, String, bool)| {
            (*at, &**its_path, *its_by_name) == (remote, path, by_name)
        };
        assert!(self.caches.iter().any(is_cache), "{remote}{path} won, {:?}", self.caches);
        let stronger = self.named.iter().find(|named| **named != remote);
        if let Some(stronger) = stronger.filter(|_| !origin.is_named() && self.now < self.ends_at())
        {
            panic!("{remote} won by {origin:?} while {stronger} was in flight");
        }
    }
}

/// One request for the file, and nothing that it was not to say.
fn check_request(request: &[u8], remote: SocketAddr) {
    let text = str::from_utf8(request).unwrap();
    let lines: Vec<_> = text.split("\r\n").collect();
    let [
        get,
        host,
        "User-Agent: cache-resolver",
        "Accept-Encoding: identity",
        "Connection: close",
        "",
        "",
    ] = lines[..]
    else {
        panic!("{text}")
    };
    let path =
        get.strip_prefix("GET ").and_then(|rest| rest.strip_suffix("/nix-cache-info HTTP/1.1"));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let path = path.expect("a request for the file");
    assert!(path.bytes().all(is_plain) && !path.contains("..") && path.len() <= 64, "{path}");
    let (ip, port) = (remote.ip(), remote.port());
    let hosts = [format!("waterbug.lan:{port}"), format!("{ip}:{port}"), format!("[{ip}]:{port}")];
    assert!(hosts.iter().any(|name| host.strip_prefix("Host: ") == Some(name)), "{host}");
}

/// Whether what was received says that there is a cache: as we read it, and, more roughly, anyhow.
fn says_cache(received: &[u8], closed: bool) -> bool {
    let Ok(Some(response)) = parse_response(received, closed) else { return false };
    let is_cache =
        response.status == 200 && cache_info::parse(&response.body) == Ok(CacheInfo::NixStore);
    if is_cache {
        let text = String::from_utf8_lossy(received);
        assert!(text.starts_with("HTTP/1.") && text.contains(" 200"), "{text}");
        let has = |word: &str| String::from_utf8_lossy(&response.body).contains(word);
        assert!(has("StoreDir") && has("/nix/store"), "{text}");
    }
    is_cache
}

/// A search of which the input decides everything.
pub fn search(data: &[u8]) {
    play(data);
}

/// The same, and how it ends.
pub fn play(data: &[u8]) -> Outcome {
    let mut script = Script::new(data);
    let mut driver = world::any_driver(&mut script);
    driver.handle(Input::Tick);
    while !script.is_over() && driver.outcome.is_none() {
        world::step(&mut script, &mut driver);
    }
    driver.finish();
    driver.outcome.expect("it has ended")
}

/// A multicast DNS source with the scope that sockets give it.
pub fn source_of(address: IpAddr, port: u16, interface: u32) -> SocketAddr {
    with_scope(SocketAddr::new(address, port), interface)
}
