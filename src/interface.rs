//! What goes between a search and the world: what has happened, and what is to be done.

use std::net::SocketAddr;

use crate::address::Family;
use crate::elapsed::Elapsed;
use crate::facts::Network;
use crate::model::{Candidate, Note, Outcome};
use crate::path::Paths;
use crate::wire::arp::ArpRequest;

/// A conversation with one peer: a connected UDP socket or a TCP stream. Numbers are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A DNS question.
    Dns(u32),
    /// The verification of a candidate.
    Verify(u32),
}

/// Why a channel failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `ECONNREFUSED`: a host, but nobody listens.
    Refused,
    /// No route, no such host, no address to send from.
    Unreachable,
    /// Anything else, a reset for instance.
    Broken,
}

/// What happened in the world.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The network is this now: at the start, and after each change.
    Network(Network),
    /// The stream is connected.
    Connected(Channel),
    /// A datagram, or a piece of a stream; empty at the stream's end.
    Received(Channel, &'a [u8]),
    /// The channel is of no more use; it has been closed.
    Failed(Channel, Failure),
    /// A multicast DNS message came in.
    Mdns(MdnsDatagram<'a>),
    /// The packet socket is open (true), or may not be opened.
    PacketSocket(bool),
    /// An ARP packet came in through this interface.
    Arp(u32, &'a [u8]),
    /// An ARP request could not be sent through this interface just now.
    Congested(u32, ArpRequest),
    /// An ICMP message came in.
    Icmp(SocketAddr, &'a [u8]),
    /// A signal asks for the end.
    Stop,
    /// Only time has passed.
    Tick,
}

/// A datagram from port 5353.
#[derive(Clone, Copy, Debug)]
pub struct MdnsDatagram<'a> {
    /// The interface it came in through.
    pub interface: u32,
    /// Its sender.
    pub source: SocketAddr,
    /// Whether it was sent to the group and not to us alone.
    pub multicast: bool,
    /// What it says.
    pub payload: &'a [u8],
}

/// What the search wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a connected UDP socket to `remote` and send `datagram`.
    OpenDatagram {
        /// The new channel.
        channel: Channel,
        /// The peer.
        remote: SocketAddr,
        /// What to send.
        datagram: Vec<u8>,
    },
    /// Open a TCP stream to `remote` and send `request` once it stands.
    OpenStream {
        /// The new channel.
        channel: Channel,
        /// The peer.
        remote: SocketAddr,
        /// What to send.
        request: Vec<u8>,
    },
    /// Send one more datagram.
    Send(Channel, Vec<u8>),
    /// Close the channel.
    Close(Channel),
    /// Send `question` to the multicast DNS group on `interface`, from an ephemeral port.
    AskMulticast {
        /// The interface's index.
        interface: u32,
        /// Which of the two groups.
        family: Family,
        /// What to send.
        question: Vec<u8>,
    },
    /// Join the multicast DNS group on `interface` and listen.
    ListenMulticast {
        /// The interface's index.
        interface: u32,
        /// Which of the two groups.
        family: Family,
    },
    /// Send `question` to one host's multicast DNS port, from the port that asks the group.
    AskDirectly {
        /// The host; a link-local address has a scope.
        host: SocketAddr,
        /// The interface it is reached through.
        interface: u32,
        /// What to send.
        question: Vec<u8>,
    },
    /// Open the packet socket that hears what a firewall drops, and asks by ARP.
    OpenPacketSocket,
    /// Broadcast an ARP request through the packet socket.
    AskArp {
        /// The interface's index.
        interface: u32,
        /// The request.
        packet: ArpRequest,
    },
    /// Send an ICMP message to everybody.
    Ping {
        /// A broadcast address, or `ff02::1` with a scope.
        target: SocketAddr,
        /// The message.
        message: Vec<u8>,
    },
    /// Read the network's state again.
    ReadNetwork,
    /// For the timeline and the log.
    Note(Note),
    /// Nothing more to do before this time.
    WaitUntil(Elapsed),
    /// The search is over; whatever is open is to be closed.
    Finished(Outcome),
}

/// What a step of the search brings about.
#[derive(Debug)]
pub struct Effects {
    /// To be done by the event loop, in this order.
    pub outputs: Vec<Output>,
    /// Those that come before them.
    due: std::vec::IntoIter<Output>,
    /// To be followed.
    pub candidates: Vec<Candidate>,
    /// The paths that candidates have.
    pub paths: Paths,
}

impl Effects {
    /// None yet, with the paths that are known.
    #[must_use]
    pub fn new(paths: Paths) -> Self {
        Self { outputs: Vec::new(), due: Vec::new().into_iter(), candidates: Vec::new(), paths }
    }

    /// Adds somebody to be followed.
    #[inline(never)]
    pub fn candidate(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
    }

    /// Adds something to be done.
    #[inline(never)]
    pub fn output(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Adds something to be told.
    #[inline(never)]
    pub fn note(&mut self, note: Note) {
        self.outputs.push(Output::Note(note));
    }

    /// Takes the oldest output.
    pub fn next_output(&mut self) -> Option<Output> {
        if self.due.as_slice().is_empty() {
            self.due = std::mem::take(&mut self.outputs).into_iter();
        }
        self.due.next()
    }
}
