//! Runs one search in the real world: carries out what it wants and tells it what happened.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;

use libc::POLLIN;
use socket2::{Socket, Type};

use super::conversation::{Conversation, Event, failure_of};
use super::sockets::{Sockets, Which};
use super::{Clock, StopSignals};
use crate::elapsed::Elapsed;
use crate::facts::{drain_changes, read_network, watch_network};
use crate::interface::{Channel, Input, Output};
use crate::model::Outcome;
use crate::search::Search;
use crate::sys::{self, Error};
use crate::tell::{Account, Log, Problem};

/// Reads from one descriptor before the next has its own, so that a flood on one cannot starve the
/// others.
const READS_IN_A_ROW_MAX: usize = 32;
/// How long packets are read before the signals and what the search wants are looked at again: a
/// tenth of what SIGTERM may take.
const TURN_MAX: Duration = Duration::from_millis(5);
/// How often a person sees the progress line move.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A search in the real world.
pub struct EventLoop<'a> {
    /// The search's clock.
    clock: Clock,
    /// How long the run may take, for the progress line.
    budget: Duration,
    /// What happened.
    account: &'a mut Account,
    /// Where problems and progress are told.
    log: &'a mut Log,
    /// Ask us to stop.
    signals: &'a StopSignals,
    /// Tells of changes of the network, from the first look at it on.
    changes: Option<sys::Result<Socket>>,
    /// Every conversation of the search.
    conversations: Vec<Conversation>,
    /// The sockets that speak to many.
    sockets: Sockets,
    /// What was ready when last looked at, who has waited longest first.
    ready: Vec<Ready>,
    /// For whatever comes in.
    buffer: &'a mut [u8],
}

/// What a search that has ended leaves open until this is dropped: closing a packet socket takes the
/// kernel 8 to 40 ms, which the files need not wait for.
#[derive(Debug)]
pub struct StillOpen {
    /// The packet socket, if it was opened.
    packet_socket: Option<sys::Result<Socket>>,
}

impl StillOpen {
    /// Leaves the closing to a child, for the program is about to end.
    pub fn leave_behind(self) {
        if let Some(Ok(_)) = self.packet_socket {
            sys::leave_behind();
        }
    }
}

/// A descriptor that is ready, by what it is for.
#[derive(Clone, Copy, PartialEq)]
enum Ready {
    /// A signal has come.
    Signal,
    /// The network has changed.
    Change,
    /// A socket that speaks to many has something.
    Socket(Which),
    /// A conversation.
    Conversation(Channel),
}

impl<'a> EventLoop<'a> {
    /// Opens what every search needs.
    #[must_use]
    pub fn new(
        clock: Clock,
        signals: &'a StopSignals,
        budget: Duration,
        account: &'a mut Account,
        log: &'a mut Log,
        buffer: &'a mut [u8],
    ) -> Self {
        Self {
            clock,
            budget,
            account,
            log,
            signals,
            changes: None,
            conversations: Vec::new(),
            sockets: Sockets::default(),
            ready: Vec::new(),
            buffer,
        }
    }

    /// Runs the search to its end.
    pub fn run(mut self, search: &mut Search) -> (Outcome, StillOpen) {
        search.handle(self.clock.now(), Input::Tick);
        loop {
            match self.drain(search) {
                Ok(wait_until) => {
                    self.wait(wait_until, search);
                    self.take_turn(search);
                    search.handle(self.clock.now(), Input::Tick);
                }
                Err(outcome) => {
                    self.log.clear_progress();
                    return (outcome, StillOpen { packet_socket: self.sockets.packet });
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
    fn wait(&mut self, until: Elapsed, search: &Search) {
        let now = self.clock.now();
        let mut timeout = if self.ready.is_empty() { until.since(now) } else { Duration::ZERO };
        if self.log.shows_progress() {
            self.log.progress(self.account, search.swept(), now, self.budget);
            timeout = timeout.min(PROGRESS_INTERVAL);
        }
        let mut waiting = Vec::new();
        let mut descriptors = Vec::new();
        let mut watch = |ready, descriptor: RawFd, events| {
            waiting.push(ready);
            descriptors.push(sys::pollfd(descriptor, events));
        };
        watch(Ready::Signal, self.signals.as_raw_fd(), POLLIN);
        if let Some(Ok(socket)) = &self.changes {
            watch(Ready::Change, socket.as_raw_fd(), POLLIN);
        }
        for (which, descriptor) in self.sockets.open() {
            watch(Ready::Socket(which), descriptor, POLLIN);
        }
        for conversation in &self.conversations {
            let (descriptor, events) = conversation.waits_for();
            watch(Ready::Conversation(conversation.channel), descriptor, events);
        }
        if let Err(error) = sys::poll(&mut descriptors, timeout) {
            self.log.problem(&Problem::NoPoll(error));
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
            Ready::Signal => search.handle(self.clock.now(), Input::Stop),
            Ready::Change => self.handle_change(search),
            // The search may want it closed after each piece.
            Ready::Conversation(channel) => self.handle_conversation(channel, search),
            Ready::Socket(which) => {
                let input = self.sockets.receive(which, self.buffer);
                let may_have_more = input.is_some();
                if let Some(input) = input {
                    search.handle(self.clock.now(), input);
                }
                return may_have_more;
            }
        }
        false
    }

    /// Empties the queue of changes, then looks at the whole network anew.
    fn handle_change(&mut self, search: &mut Search) {
        if let Some(Ok(changes)) = &self.changes {
            drain_changes(changes);
        }
        self.read_network(search);
    }

    /// Reads the network's state and tells the search; what changes afterwards we are told.
    fn read_network(&mut self, search: &mut Search) {
        if self.changes.is_none() {
            let changes = watch_network();
            if let Err(error) = &changes {
                self.log.problem(&Problem::NoNetlink(*error));
            }
            self.changes = Some(changes);
        }
        // Without an answer what is known stands; the search will ask again.
        let Ok(network) = read_network(self.buffer) else { return };
        search.handle(self.clock.now(), Input::Network(network));
    }

    /// Lets a conversation proceed, and tells the search what it has.
    fn handle_conversation(&mut self, channel: Channel, search: &mut Search) {
        let mut conversations = self.conversations.iter_mut();
        let Some(conversation) = conversations.find(|open| open.channel == channel) else { return };
        let input = match conversation.proceed(self.buffer) {
            Ok(Event::Connected) => Input::Connected(channel),
            Ok(Event::Received(count)) => {
                Input::Received(channel, self.buffer.get(..count).unwrap_or_default())
            }
            Ok(Event::Nothing) => return,
            Err(error) => return self.fail(channel, error, search),
        };
        search.handle(self.clock.now(), input);
    }

    /// Closes a conversation.
    fn close(&mut self, channel: Channel) {
        self.conversations.retain(|conversation| conversation.channel != channel);
    }

    /// Closes a conversation that failed and tells the search.
    fn fail(&mut self, channel: Channel, error: Error, search: &mut Search) {
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
                let mut conversations = self.conversations.iter();
                if let Some(conversation) = conversations.find(|open| open.channel == channel)
                    && let Err(error) = conversation.send(&datagram)
                {
                    self.fail(channel, error, search);
                }
            }
            Output::Close(channel) => self.close(channel),
            Output::AskMulticast { interface, family, question } => {
                let asked = self.sockets.ask_multicast(interface, family, &question);
                self.tell_of_link(interface, asked);
            }
            Output::ListenMulticast { interface, family } => {
                let listens = self.sockets.listen(interface, family);
                self.tell_of_link(interface, listens);
            }
            Output::AskDirectly { host, interface, question } => {
                let asked = self.sockets.ask_directly(interface, host, &question);
                self.tell_of_link(interface, asked);
            }
            Output::OpenPacketSocket => self.open_packet_socket(search),
            Output::AskArp { interface, packet } => {
                if let Err(Error(libc::ENOBUFS | libc::EAGAIN)) =
                    self.sockets.ask_arp(interface, &packet)
                {
                    search.handle(self.clock.now(), Input::Congested(interface, packet));
                }
            }
            Output::Ping { target, message } => {
                if let Err(error) = self.sockets.ping(target, &message) {
                    self.log.problem(&Problem::NoPing(target.ip(), error));
                }
            }
            Output::ReadNetwork => self.read_network(search),
            Output::Note(note) => {
                self.account.take(self.clock.now(), &note);
                self.log.note(note, search.paths());
            }
            Output::WaitUntil(_) | Output::Finished(_) => {}
        }
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
        match Conversation::open(channel, remote, kind, request) {
            Ok(conversation) => self.conversations.push(conversation),
            Err(error) => self.fail(channel, error, search),
        }
    }

    /// A link that cannot carry multicast stays silent, and so does a neighbour that is gone.
    fn tell_of_link(&mut self, interface: u32, result: sys::Result<()>) {
        if let Err(error) = result {
            self.log.problem(&Problem::NoMulticast(interface, error));
        }
    }

    /// Opens the packet socket, once, if we may.
    fn open_packet_socket(&mut self, search: &mut Search) {
        if self.sockets.packet.is_some() {
            return;
        }
        let socket = sys::packet_socket();
        if let Err(error) = &socket {
            self.log.problem(&Problem::NoPacketSocket(*error));
        }
        let is_open = socket.is_ok();
        self.sockets.packet = Some(socket);
        search.handle(self.clock.now(), Input::PacketSocket(is_open));
    }
}
