//! A conversation with one peer: a connected UDP socket or a TCP stream.

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};

use libc::{POLLIN, POLLOUT};
use socket2::{Domain, Socket, Type};

use crate::interface::{Channel, Failure};
use crate::sys::{self, Error};

/// A conversation under way.
pub struct Conversation {
    /// The search's name for it.
    pub channel: Channel,
    /// Its socket.
    socket: Socket,
    /// Whether it is a stream.
    is_stream: bool,
    /// A stream's request, as long as it is not sent; it is sent once the connection stands.
    unsent: Vec<u8>,
}

/// What a conversation that is ready has.
pub enum Event {
    /// The stream is connected.
    Connected,
    /// So many bytes have come; none at the end of a stream.
    Received(usize),
    /// Nothing yet.
    Nothing,
}

impl Conversation {
    /// Connects to `remote` and sends `request`, over TCP once the connection stands.
    ///
    /// # Errors
    /// Whatever socket(2), connect(2) and send(2) give.
    pub fn open(
        channel: Channel,
        remote: SocketAddr,
        kind: Type,
        request: Vec<u8>,
    ) -> sys::Result<Self> {
        let is_stream = kind == Type::STREAM;
        let socket = sys::open_socket(Domain::for_address(remote), kind, None)?;
        if is_stream {
            // Acknowledge with the next packet: three packets do what five would.
            let _ = socket.set_tcp_quickack(false);
        }
        match socket.connect(&remote.into()).map_err(Error::from) {
            Err(error) if error != Error(libc::EINPROGRESS) => Err(error),
            _ if is_stream => Ok(Self { channel, socket, is_stream, unsent: request }),
            _ => {
                socket.send(&request)?;
                Ok(Self { channel, socket, is_stream, unsent: Vec::new() })
            }
        }
    }

    /// What to wait for, and where.
    pub fn waits_for(&self) -> (RawFd, i16) {
        let events = if self.unsent.is_empty() { POLLIN } else { POLLOUT };
        (self.socket.as_raw_fd(), events)
    }

    /// Sends one more datagram.
    ///
    /// # Errors
    /// Whatever send(2) gives: what an ICMP message said of an earlier one, too.
    pub fn send(&self, datagram: &[u8]) -> sys::Result<()> {
        self.socket.send(datagram)?;
        Ok(())
    }

    /// Sends what is not sent yet, or reads into `buffer`.
    ///
    /// # Errors
    /// Why the conversation is over.
    pub fn proceed(&mut self, buffer: &mut [u8]) -> sys::Result<Event> {
        if !self.unsent.is_empty() {
            return self.send_unsent();
        }
        match (&self.socket).read(buffer).map_err(Error::from) {
            // A datagram of no bytes says nothing; a stream's end says all.
            Ok(0) if !self.is_stream => Ok(Event::Nothing),
            Ok(count) => Ok(Event::Received(count)),
            // Reading again later may do.
            Err(Error(libc::EAGAIN | libc::EINTR | libc::ENOTCONN)) => Ok(Event::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Sends what the socket takes of the request, the connection having been made or refused.
    fn send_unsent(&mut self) -> sys::Result<Event> {
        match self.socket.send(&self.unsent).map_err(Error::from) {
            Ok(count) => {
                self.unsent.drain(..count);
                Ok(Event::Connected)
            }
            // Neither: an ICMP message came while connect(2) was at work, from a firewall of this machine, say.
            // The kernel goes on, and tries once more in a second.
            Err(Error(libc::EAGAIN)) => {
                sys::take_message(&self.socket)?;
                Ok(Event::Nothing)
            }
            Err(error) => Err(error),
        }
    }
}

/// What an error means to the search.
pub fn failure_of(error: Error) -> Failure {
    match error.0 {
        libc::ECONNREFUSED => Failure::Refused,
        libc::ENETUNREACH
        | libc::EHOSTUNREACH
        | libc::EADDRNOTAVAIL
        | libc::ENETDOWN
        | libc::EHOSTDOWN
        | libc::ENODEV
        | libc::EINVAL
        | libc::EACCES
        | libc::EPERM
        | libc::EAFNOSUPPORT => Failure::Unreachable,
        _ => Failure::Broken,
    }
}
