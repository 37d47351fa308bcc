//! Verification: connect, ask for `nix-cache-info`, judge the answer. Several at a time, each with one
//! absolute deadline, so that a peer that drips a byte a second gains nothing by it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::elapsed::Elapsed;
use crate::interface::{Channel, Effects, Failure, Output};
use crate::model::{Candidate, Flaw, Origin, Verdict};
use crate::wire::cache_info::{self, CacheInfo};
use crate::wire::http::{RESPONSE_MAX, compose_get, parse_response};

/// Time for one candidate, connecting included: a lost SYN goes out again after one second (RFC 6298
/// §2), and then there is another for the answer.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(2);
/// A server that takes longer to answer to its address is not asked by its name as well.
const PROMPT_TIME: Duration = Duration::from_secs(1);
/// Time for a host on our own link to accept a connection when nobody has said that there is one.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Streams that the candidates of one origin that names the cache may hold, so that none waits
/// behind another's.
const STREAMS_PER_NAMED_MAX: usize = 8;
/// Streams that all weak origins may hold together. The kernel's neighbour table has room for 1024
/// addresses that have not answered, and all the host shares it: with the four origins that name
/// the cache these make 128.
const STREAMS_OF_WEAK_MAX: usize = 96;

/// All verifications that are under way.
#[derive(Debug)]
pub struct Verify {
    /// The name by which a server that refuses its address is called.
    host: String,
    /// One for each candidate in flight.
    streams: Vec<Stream>,
    /// The number of the next channel.
    next_channel: u32,
}

/// The verification of one candidate.
#[derive(Debug)]
struct Stream {
    /// Its stream.
    channel: u32,
    /// The candidate.
    candidate: Candidate,
    /// Whether the request names the host.
    by_name: bool,
    /// Whether the connection stands.
    connected: bool,
    /// What has come of the response.
    received: Vec<u8>,
    /// When it began.
    started_at: Elapsed,
    /// When it has failed.
    deadline_at: Elapsed,
}

/// The end of one verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The candidate.
    pub candidate: Candidate,
    /// Whether it was called by name.
    pub by_name: bool,
    /// When it began.
    pub started_at: Elapsed,
    /// What it came to.
    pub verdict: Verdict,
}

impl Judged {
    /// Whether there is reason, and time, to ask by the name now.
    #[must_use]
    pub fn may_ask_by_name(&self, now: Elapsed) -> bool {
        !self.by_name && now < self.started_at + PROMPT_TIME
    }
}

impl Verify {
    /// For servers that may be called `host`.
    #[must_use]
    pub const fn new(host: String) -> Self {
        Self { host, streams: Vec::new(), next_channel: 0 }
    }

    /// Whether a candidate of `origin`, its speaker's `turn`th, may begin now: the longer its speaker's
    /// list, the more room it leaves to others.
    #[must_use]
    pub fn has_room_for(&self, origin: Origin, turn: usize) -> bool {
        let held = |is_rival: &dyn Fn(Origin) -> bool| {
            self.streams.iter().filter(|stream| is_rival(stream.candidate.origin)).count()
        };
        if origin.is_named() {
            held(&|other| other == origin) + turn < STREAMS_PER_NAMED_MAX
        } else {
            held(&|other| !other.is_named()) < STREAMS_OF_WEAK_MAX
        }
    }

    /// Begins to verify a candidate.
    pub fn start(
        &mut self,
        now: Elapsed,
        candidate: Candidate,
        by_name: bool,
        effects: &mut Effects,
    ) {
        let channel = self.next_channel;
        self.next_channel += 1;
        let port = candidate.remote.port();
        let target = [effects.paths.text(candidate.path), "/nix-cache-info"].concat();
        let host =
            if by_name { format!("{}:{port}", self.host) } else { host_header(candidate.remote) };
        self.streams.push(Stream {
            channel,
            candidate,
            by_name,
            connected: false,
            received: Vec::new(),
            started_at: now,
            deadline_at: now
                + if candidate.origin.is_named() { VERIFY_TIMEOUT } else { CONNECT_TIMEOUT },
        });
        effects.output(Output::OpenStream {
            channel: Channel::Verify(channel),
            remote: candidate.remote,
            request: compose_get(&target, &host),
        });
    }

    /// The stream is connected.
    pub fn handle_connected(&mut self, now: Elapsed, channel: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.channel == channel)
            && !stream.connected
        {
            stream.connected = true;
            if !stream.candidate.origin.is_named() {
                stream.deadline_at = now + VERIFY_TIMEOUT;
            }
        }
    }

    /// Takes a piece of a response, empty at its end.
    pub fn handle_received(
        &mut self,
        channel: u32,
        bytes: &[u8],
        effects: &mut Effects,
    ) -> Option<Judged> {
        let stream = self.streams.iter_mut().find(|stream| stream.channel == channel)?;
        stream.received.extend_from_slice(bytes);
        let closed = bytes.is_empty();
        let verdict = match judge(&stream.received, closed) {
            Some(verdict) => verdict,
            None if stream.received.len() > RESPONSE_MAX => Verdict::NotACache(Flaw::NotCacheInfo),
            None if closed => Verdict::NotACache(Flaw::Broken),
            None => return None,
        };
        effects.output(Output::Close(Channel::Verify(channel)));
        self.finish(channel, verdict)
    }

    /// Takes the failure of a stream.
    pub fn handle_failed(&mut self, channel: u32, failure: Failure) -> Option<Judged> {
        let flaw = match failure {
            Failure::Refused => Flaw::Refused,
            Failure::Unreachable => Flaw::Unreachable,
            Failure::Broken => Flaw::Broken,
        };
        self.finish(channel, Verdict::NotACache(flaw))
    }

    /// Gives up one candidate whose time is over.
    pub fn advance(&mut self, now: Elapsed, effects: &mut Effects) -> Option<Judged> {
        let stream = self.streams.iter().find(|stream| stream.deadline_at <= now)?;
        let flaw = if stream.connected { Flaw::NoAnswer } else { Flaw::NoConnection };
        let channel = stream.channel;
        effects.output(Output::Close(Channel::Verify(channel)));
        self.finish(channel, Verdict::NotACache(flaw))
    }

    /// When `advance` is next of use.
    #[must_use]
    pub fn next_at(&self) -> Option<Elapsed> {
        self.streams.iter().map(|stream| stream.deadline_at).min()
    }

    /// Ends a verification.
    fn finish(&mut self, channel: u32, verdict: Verdict) -> Option<Judged> {
        let index = self.streams.iter().position(|stream| stream.channel == channel)?;
        let stream = self.streams.swap_remove(index);
        let Stream { candidate, by_name, started_at, .. } = stream;
        Some(Judged { candidate, by_name, started_at, verdict })
    }
}

/// The verdict on what has come so far; `None` when more is needed.
fn judge(received: &[u8], closed: bool) -> Option<Verdict> {
    let response = match parse_response(received, closed) {
        Ok(response) => response?,
        Err(_) if closed && received.is_empty() => return None,
        Err(_) => return Some(Verdict::NotACache(Flaw::NotCacheInfo)),
    };
    Some(match response.status {
        200 => match cache_info::parse(&response.body) {
            Ok(CacheInfo::NixStore) => Verdict::Cache,
            Ok(CacheInfo::OtherStore) => Verdict::NotACache(Flaw::OtherStore),
            Err(_) => Verdict::NotACache(Flaw::NotCacheInfo),
        },
        status => Verdict::NotACache(Flaw::Status(status)),
    })
}

/// The Host header for an address; a zone means nothing to the peer (RFC 6874 §4).
fn host_header(remote: SocketAddr) -> String {
    match remote.ip() {
        IpAddr::V4(v4) => format!("{v4}:{}", remote.port()),
        IpAddr::V6(v6) => format!("[{v6}]:{}", remote.port()),
    }
}
