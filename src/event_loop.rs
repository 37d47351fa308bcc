//! The only place that owns descriptors and the clock: it carries out what the search wants and
//! tells it what happened.

use std::io::{self, ErrorKind, Read as _};
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use libc::{POLLIN, POLLOUT};
use socket2::{Domain, Socket, Type};

use crate::address::{Family, with_scope};
use crate::cli::Config;
use crate::facts::{drain_changes, read_network, watch_network};
use crate::log::{Level, Log};
use crate::model::{Channel, Elapsed, Failure, Input, MdnsDatagram, Note, Outcome, Output};
use crate::report::{Timeline, describe};
use crate::search::Search;
use crate::sockets::{PingSocket, open_mdns_asker, open_mdns_listener, open_ping_socket};
use crate::sys;
use crate::wire::dns::{MDNS_GROUP_V4, MDNS_GROUP_V6, MDNS_PORT};
use crate::wire::ip;

/// Bytes read at a time: more than any DNS answer without EDNS, and what netlink sends at most.
pub const RECEIVE_MAX: usize = 32 * 1024;
/// Reads from one descriptor before the next has its own, so that a flood on one cannot starve the
/// others.
const READS_IN_A_ROW_MAX: usize = 32;
/// How long packets are read before the signals and what the search wants are looked at again: a
/// tenth of what SIGTERM may take.
const TURN_MAX: Duration = Duration::from_millis(5);
/// How often a person sees the progress line move.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// The monotonic clock since the start of the program.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Now is the start.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Elapsed {
        Elapsed::START + self.0.elapsed()
    }
}

/// Runs a search in the real world.
pub struct EventLoop<'a> {
    /// The only clock.
    clock: Clock,
    /// What the user decided.
    config: &'a Config,
    /// What happened.
    timeline: &'a mut Timeline,
    /// Where problems and progress are told.
    log: &'a mut Log,
    /// Readable when we are to stop.
    signals: OwnedFd,
    /// Tells of changes of the network; none where the system has no netlink for us.
    changes: Option<Socket>,
    /// Every conversation of the search.
    conversations: Vec<Conversation>,
    /// The sockets of multicast DNS.
    mdns_sockets: Vec<MdnsSocket>,
    /// The sockets that ping, one for each family.
    ping_sockets: Vec<PingSocket>,
    /// Hears what a firewall drops, and asks by ARP; tried once.
    packet_socket: Option<io::Result<Socket>>,
    /// What was ready when last looked at, who has waited longest first.
    ready: Vec<Ready>,
    /// For whatever comes in.
    buffer: Vec<u8>,
}

/// What a search that has ended leaves open until this is dropped: closing a packet socket takes the
/// kernel 8 to 40 ms, which the files need not wait for.
#[derive(Debug)]
pub struct StillOpen {
    /// The packet socket, if it was opened.
    _packet_socket: Option<io::Result<Socket>>,
}

/// A connected UDP socket or a TCP stream.
struct Conversation {
    /// The search's name for it.
    channel: Channel,
    /// Its socket.
    socket: Socket,
    /// Whether it is a stream.
    is_stream: bool,
    /// A stream's request, as long as it is not sent; it is sent once the connection stands.
    unsent: Vec<u8>,
}

/// A socket of multicast DNS.
struct MdnsSocket {
    /// The interface it belongs to.
    interface: u32,
    /// The group's family.
    family: Family,
    /// Whether it listens to the group, or asks from an ephemeral port.
    listens: bool,
    /// The socket.
    socket: UdpSocket,
}

/// A descriptor that is ready, by what it is for.
#[derive(Clone, Copy, PartialEq)]
enum Ready {
    /// A signal has come.
    Signal,
    /// The network has changed.
    Change,
    /// The packet socket has something.
    Packet,
    /// A multicast DNS socket, by its place in the list.
    Mdns(usize),
    /// A socket that pings, by its place in the list.
    Ping(usize),
    /// A conversation.
    Conversation(Channel),
}

impl<'a> EventLoop<'a> {
    /// Opens what every search needs.
    ///
    /// # Errors
    /// A message when signals cannot be received.
    pub fn new(
        clock: Clock,
        config: &'a Config,
        timeline: &'a mut Timeline,
        log: &'a mut Log,
    ) -> Result<Self, String> {
        let signals = sys::stop_signals().map_err(|error| format!("no signals: {error}"))?;
        let changes = watch_network();
        if let Err(error) = &changes {
            log.write(
                Level::Warning,
                &format!("cannot watch the network: {error}; check the sandbox (AF_NETLINK)"),
            );
        }
        Ok(Self {
            clock,
            config,
            timeline,
            log,
            signals,
            changes: changes.ok(),
            conversations: Vec::new(),
            mdns_sockets: Vec::new(),
            ping_sockets: Vec::new(),
            packet_socket: None,
            ready: Vec::new(),
            buffer: vec![0; RECEIVE_MAX],
        })
    }

    /// Runs the search to its end.
    pub fn run(mut self, search: &mut Search) -> (Outcome, StillOpen) {
        search.handle(self.clock.now(), Input::Tick);
        loop {
            match self.drain(search) {
                Ok(wait_until) => {
                    self.wait(wait_until);
                    self.take_turn(search);
                    search.handle(self.clock.now(), Input::Tick);
                }
                Err(outcome) => {
                    self.log.clear_progress();
                    return (outcome, StillOpen { _packet_socket: self.packet_socket });
                }
            }
        }
    }

    /// Does all that the search wants: until when it then waits, or how it has ended.
    fn drain(&mut self, search: &mut Search) -> Result<Elapsed, Outcome> {
        loop {
            match search.next_output() {
                Output::WaitUntil(at) => return Ok(at),
                Output::Finished(outcome) => return Err(outcome),
                output => self.carry_out(output, search),
            }
        }
    }

    /// Waits until something is ready or the time has come; not at all while somebody waits for us.
    fn wait(&mut self, until: Elapsed) {
        let now = self.clock.now();
        let mut timeout = if self.ready.is_empty() { until.since(now) } else { Duration::ZERO };
        if self.log.shows_progress() {
            self.log.progress(now, &self.config.host);
            timeout = timeout.min(PROGRESS_INTERVAL);
        }
        let mut waiting = Vec::new();
        let mut descriptors = Vec::new();
        let mut watch = |ready, descriptor: RawFd, events| {
            waiting.push(ready);
            descriptors.push(sys::pollfd(descriptor, events));
        };
        watch(Ready::Signal, self.signals.as_raw_fd(), POLLIN);
        if let Some(socket) = &self.changes {
            watch(Ready::Change, socket.as_raw_fd(), POLLIN);
        }
        if let Some(Ok(socket)) = &self.packet_socket {
            watch(Ready::Packet, socket.as_raw_fd(), POLLIN);
        }
        for (index, mdns) in self.mdns_sockets.iter().enumerate() {
            watch(Ready::Mdns(index), mdns.socket.as_raw_fd(), POLLIN);
        }
        for (index, ping) in self.ping_sockets.iter().enumerate() {
            watch(Ready::Ping(index), ping.socket.as_raw_fd(), POLLIN);
        }
        for Conversation { channel, socket, unsent, .. } in &self.conversations {
            let events = if unsent.is_empty() { POLLIN } else { POLLOUT };
            watch(Ready::Conversation(*channel), socket.as_raw_fd(), events);
        }
        if let Err(error) = sys::poll(&mut descriptors, timeout) {
            self.log.write(Level::Error, &format!("cannot poll: {error}"));
        }
        let polled = waiting.into_iter().zip(descriptors);
        for (ready, _) in polled.filter(|(_, descriptor)| descriptor.revents != 0) {
            if ready == Ready::Signal {
                self.ready.insert(0, ready);
            } else if !self.ready.contains(&ready) {
                self.ready.push(ready);
            }
        }
    }

    /// Reads what is ready until there is no more or the time is up. Whoever is not served then is
    /// the first in the next turn.
    fn take_turn(&mut self, search: &mut Search) {
        let ends_at = self.clock.now() + TURN_MAX;
        while !self.ready.is_empty() {
            let ready = self.ready.remove(0);
            for _ in 0..READS_IN_A_ROW_MAX {
                let may_have_more = self.handle_ready(ready, search);
                if ends_at <= self.clock.now() {
                    return;
                }
                if !may_have_more {
                    break;
                }
            }
        }
    }

    /// Tells the search one thing that a ready descriptor has: whether it may have more.
    fn handle_ready(&mut self, ready: Ready, search: &mut Search) -> bool {
        match ready {
            Ready::Packet => return self.handle_packet(search).is_some(),
            Ready::Mdns(index) => return self.handle_mdns(index, search).is_some(),
            Ready::Ping(index) => return self.handle_ping(index, search).is_some(),
            Ready::Signal => search.handle(self.clock.now(), Input::Stop),
            Ready::Change => self.handle_change(search),
            // The search may want it closed after each piece.
            Ready::Conversation(channel) => self.handle_conversation(channel, search),
        }
        false
    }

    /// Empties the queue of changes, then looks at the whole network anew.
    fn handle_change(&mut self, search: &mut Search) {
        if let Some(changes) = &self.changes {
            drain_changes(changes);
        }
        self.read_network(search);
    }

    /// Reads the network's state and tells the search.
    fn read_network(&mut self, search: &mut Search) {
        // Without an answer what is known stands; the search will ask again.
        let Ok(network) = read_network(&mut self.buffer) else { return };
        search.handle(self.clock.now(), Input::Network(network));
    }

    /// Reads a packet from the packet socket; `None` if there is none.
    fn handle_packet(&mut self, search: &mut Search) -> Option<()> {
        let socket = self.packet_socket.as_ref()?.as_ref().ok()?;
        let (count, interface, is_arp) = sys::receive_packet(socket, &mut self.buffer).ok()?;
        let packet = self.buffer.get(..count)?;
        let now = self.clock.now();
        if is_arp {
            search.handle(now, Input::Arp(interface, packet));
            return Some(());
        }
        let Ok(packet) = ip::parse(packet) else { return Some(()) };
        let source = with_scope(SocketAddr::new(packet.source, 0), interface);
        match packet.protocol {
            ip::PROTOCOL_UDP => {
                let Ok(datagram) = ip::parse_udp(packet.payload) else { return Some(()) };
                let datagram = MdnsDatagram {
                    interface,
                    source: SocketAddr::new(packet.source, datagram.source_port),
                    multicast: packet.destination.is_multicast(),
                    payload: datagram.payload,
                };
                search.handle(now, Input::Mdns(datagram));
            }
            ip::PROTOCOL_ICMP | ip::PROTOCOL_ICMPV6 => {
                search.handle(now, Input::Icmp(source, packet.payload));
            }
            _ => {}
        }
        Some(())
    }

    /// Reads a message from a socket that pings; `None` if there is none.
    fn handle_ping(&mut self, index: usize, search: &mut Search) -> Option<()> {
        let ping = self.ping_sockets.get(index)?;
        let (count, mut source) = ping.socket.recv_from(&mut self.buffer).ok()?;
        source.set_port(0);
        let mut message = self.buffer.get(..count)?;
        if ping.has_ip_header {
            message = ip::parse(message).map_or(&[], |packet| packet.payload);
        }
        search.handle(self.clock.now(), Input::Icmp(source, message));
        Some(())
    }

    /// Reads a datagram from a multicast DNS socket; `None` if there is none.
    fn handle_mdns(&mut self, index: usize, search: &mut Search) -> Option<()> {
        let mdns = self.mdns_sockets.get(index)?;
        match mdns.socket.recv_from(&mut self.buffer) {
            Ok((count, source)) => {
                let datagram = MdnsDatagram {
                    interface: mdns.interface,
                    source,
                    multicast: mdns.listens,
                    payload: self.buffer.get(..count)?,
                };
                search.handle(self.clock.now(), Input::Mdns(datagram));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            // What an ICMP message said of an earlier question; reading it has cleared it.
            Err(_) => {}
        }
        Some(())
    }

    /// Sends, reads or gives up a conversation.
    fn handle_conversation(&mut self, channel: Channel, search: &mut Search) {
        if let Some(conversation) = self.conversation(channel)
            && !conversation.unsent.is_empty()
        {
            return match conversation.send_unsent() {
                Ok(()) => search.handle(self.clock.now(), Input::Connected(channel)),
                Err(error) => self.fail(channel, &error, search),
            };
        }
        let Some(conversation) = self.conversations.iter().find(|open| open.channel == channel)
        else {
            return;
        };
        match (&conversation.socket).read(&mut self.buffer) {
            // A datagram of no bytes says nothing; a stream's end says all.
            Ok(0) if !conversation.is_stream => {}
            Ok(count) => {
                let bytes = self.buffer.get(..count).unwrap_or_default();
                search.handle(self.clock.now(), Input::Received(channel, bytes));
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => self.fail(channel, &error, search),
        }
    }

    /// The conversation called `channel`.
    fn conversation(&mut self, channel: Channel) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|conversation| conversation.channel == channel)
    }

    /// Closes a conversation.
    fn close(&mut self, channel: Channel) {
        self.conversations.retain(|conversation| conversation.channel != channel);
    }

    /// Closes a conversation that failed and tells the search.
    fn fail(&mut self, channel: Channel, error: &io::Error, search: &mut Search) {
        self.close(channel);
        search.handle(self.clock.now(), Input::Failed(channel, failure_of(error)));
    }

    /// Does one thing that the search wants.
    fn carry_out(&mut self, output: Output, search: &mut Search) {
        match output {
            Output::OpenDatagram { channel, remote, datagram } => {
                self.open(channel, remote, Type::DGRAM, datagram, search);
            }
            Output::OpenStream { channel, remote, request } => {
                self.open(channel, remote, Type::STREAM, request, search);
            }
            Output::Send(channel, datagram) => {
                if let Some(conversation) = self.conversation(channel)
                    && let Err(error) = conversation.socket.send(&datagram)
                {
                    self.fail(channel, &error, search);
                }
            }
            Output::Close(channel) => self.close(channel),
            Output::AskMulticast { interface, family, question } => {
                self.ask_multicast(interface, family, &question);
            }
            Output::ListenMulticast { interface, family } => {
                self.mdns_socket(interface, family, true);
            }
            Output::AskDirectly { host, interface, question } => {
                if let Some(mdns) = self.mdns_socket(interface, Family::of(host.ip()), false) {
                    // A neighbour that is gone stays silent.
                    let _ = mdns.socket.send_to(&question, host);
                }
            }
            Output::OpenPacketSocket => self.open_packet_socket(search),
            Output::AskArp { interface, packet } => {
                if let Some(Ok(socket)) = &self.packet_socket
                    && let Err(error) = sys::send_arp(socket, interface, &packet)
                    && matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN))
                {
                    search.handle(self.clock.now(), Input::Congested(interface, packet));
                }
            }
            Output::Ping { target, message } => self.ping(target, &message),
            Output::ReadNetwork => self.read_network(search),
            Output::Note(note) => self.note(note),
            Output::WaitUntil(_) | Output::Finished(_) => {}
        }
    }

    /// Keeps a note for the timeline and logs it.
    fn note(&mut self, note: Note) {
        self.timeline.push(self.clock.now(), note);
        let (level, text) = describe(note);
        self.log.write(level, &text);
    }

    /// Opens a conversation and sends its first words.
    fn open(
        &mut self,
        channel: Channel,
        remote: SocketAddr,
        kind: Type,
        request: Vec<u8>,
        search: &mut Search,
    ) {
        let is_stream = kind == Type::STREAM;
        let opened =
            Socket::new(Domain::for_address(remote), kind.nonblocking(), None).and_then(|socket| {
                if is_stream {
                    // Acknowledge with the next packet: three packets do what five would.
                    let _ = socket.set_tcp_quickack(false);
                }
                match socket.connect(&remote.into()) {
                    Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                    _ if is_stream => {
                        Ok(Conversation { channel, socket, is_stream, unsent: request })
                    }
                    _ => {
                        socket.send(&request)?;
                        Ok(Conversation { channel, socket, is_stream, unsent: Vec::new() })
                    }
                }
            });
        match opened {
            Ok(conversation) => self.conversations.push(conversation),
            Err(error) => self.fail(channel, &error, search),
        }
    }

    /// Sends a multicast DNS question; a link that cannot carry it stays silent.
    fn ask_multicast(&mut self, interface: u32, family: Family, question: &[u8]) {
        let group = match family {
            Family::V4 => SocketAddr::from((MDNS_GROUP_V4, MDNS_PORT)),
            Family::V6 => SocketAddrV6::new(MDNS_GROUP_V6, MDNS_PORT, 0, interface).into(),
        };
        if let Some(mdns) = self.mdns_socket(interface, family, false)
            && let Err(error) = mdns.socket.send_to(question, group)
        {
            self.log.write(Level::Debug, &format!("mdns: interface {interface}: {error}"));
        }
    }

    /// The multicast DNS socket for this interface, family and use, opened if it is not.
    fn mdns_socket(
        &mut self,
        interface: u32,
        family: Family,
        listens: bool,
    ) -> Option<&MdnsSocket> {
        let is_it = |mdns: &MdnsSocket| {
            (mdns.interface, mdns.family, mdns.listens) == (interface, family, listens)
        };
        if !self.mdns_sockets.iter().any(is_it) {
            let open = if listens { open_mdns_listener } else { open_mdns_asker };
            match open(interface, family) {
                Ok(socket) => {
                    let socket = socket.into();
                    self.mdns_sockets.push(MdnsSocket { interface, family, listens, socket });
                }
                Err(error) => {
                    self.log.write(Level::Debug, &format!("mdns: interface {interface}: {error}"));
                }
            }
        }
        self.mdns_sockets.iter().find(|mdns| is_it(mdns))
    }

    /// Opens the packet socket, once, if we may.
    fn open_packet_socket(&mut self, search: &mut Search) {
        if self.packet_socket.is_some() {
            return;
        }
        let socket = sys::packet_socket();
        if let Err(error) = &socket {
            let loss = "answers that a firewall drops are not heard, and a sweep connects instead of asking by ARP";
            self.log.write(Level::Info, &format!("needs CAP_NET_RAW ({error}): {loss}"));
        }
        let is_open = socket.is_ok();
        self.packet_socket = Some(socket);
        search.handle(self.clock.now(), Input::PacketSocket(is_open));
    }

    /// Pings everybody; a link that cannot carry it stays silent.
    fn ping(&mut self, target: SocketAddr, message: &[u8]) {
        let family = Family::of(target.ip());
        if !self.ping_sockets.iter().any(|ping| ping.family == family) {
            match open_ping_socket(family) {
                Ok(ping) => self.ping_sockets.push(ping),
                Err(error) => self.log.write(Level::Debug, &format!("ping: {error}")),
            }
        }
        if let Some(ping) = self.ping_sockets.iter().find(|ping| ping.family == family)
            && let Err(error) = ping.socket.send_to(message, target)
        {
            self.log.write(Level::Debug, &format!("ping: {}: {error}", target.ip()));
        }
    }
}

impl Conversation {
    /// Sends what the socket takes of the request, the connection having been made or refused.
    fn send_unsent(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.send(&self.unsent) {
            Ok(count) => self.unsent.drain(..count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

/// Whether reading again later may do.
fn is_passing(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | NotConnected)
}

/// What an error means to the search.
fn failure_of(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Failure::Refused,
        Some(
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::EADDRNOTAVAIL
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENODEV
            | libc::EINVAL
            | libc::EACCES
            | libc::EPERM
            | libc::EAFNOSUPPORT,
        ) => Failure::Unreachable,
        _ => Failure::Broken,
    }
}
