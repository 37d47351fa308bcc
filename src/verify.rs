//! Verification: connect, ask for `nix-cache-info`, judge the answer. Several at a time, each with one
//! absolute deadline, so that a peer that drips a byte a second gains nothing by it.

use std::net::IpAddr;
use std::time::Duration;

use crate::elapsed::Elapsed;
use crate::interface::{Channel, Effects, Failure, Output};
use crate::model::{Candidate, Flaw, Origin, Verdict};
use crate::text::Text;
use crate::wire::cache_info::{self, CacheInfo};
use crate::wire::http::{RESPONSE_MAX, compose_get, parse_response};

/// Time for one candidate, connecting included, and as much for the answer of one that nobody names.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(2);
/// When a connection that does not come about is tried again, counted from the first time: the kernel
/// sends a lost SYN again only after a second (RFC 6298 §2). The first that stands counts.
const NAMED_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(750)];
/// The same for a host that nobody names: on our own links, where an answer takes a millisecond.
const WEAK_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(330)];
/// A server that takes longer to answer to its address is not asked by its name as well.
const PROMPT_TIME: Duration = Duration::from_secs(1);
/// Time for a host on our own link to accept a connection when nobody has said that there is one.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Candidates of one origin that names the cache in flight, so that none waits behind another's.
const NAMED_IN_FLIGHT_MAX: usize = 8;
/// Candidates of all weak origins in flight together. The kernel's neighbour table has room for 1024
/// addresses that have not answered, and all the host shares it: with the four origins that name
/// the cache these make 128.
const WEAK_IN_FLIGHT_MAX: usize = 96;

/// All verifications that are under way.
#[derive(Debug)]
pub struct Verify {
    /// The name by which a server that refuses its address is called.
    host: String,
    /// One for each candidate in flight.
    attempts: Vec<Attempt>,
    /// The number of the next channel.
    next_channel: u32,
}

/// The verification of one candidate.
#[derive(Debug)]
struct Attempt {
    /// Its open streams: several as long as none is connected.
    channels: Vec<u32>,
    /// How often another was opened.
    again: usize,
    /// The candidate.
    candidate: Candidate,
    /// Whether the request names the host.
    by_name: bool,
    /// Whether a connection stands.
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
        Self { host, attempts: Vec::new(), next_channel: 0 }
    }

    /// Whether a candidate of `origin`, its speaker's `turn`th, may begin now: the longer its speaker's
    /// list, the more room it leaves to others.
    #[must_use]
    pub fn has_room_for(&self, origin: Origin, turn: usize) -> bool {
        let is_named = origin.is_named();
        let is_rival = |other: Origin| if is_named { other == origin } else { !other.is_named() };
        let rivals = self.attempts.iter().filter(|attempt| is_rival(attempt.candidate.origin));
        let (before, max) =
            if is_named { (turn, NAMED_IN_FLIGHT_MAX) } else { (0, WEAK_IN_FLIGHT_MAX) };
        rivals.count() + before < max
    }

    /// Begins to verify a candidate.
    pub fn start(
        &mut self,
        now: Elapsed,
        candidate: Candidate,
        by_name: bool,
        effects: &mut Effects,
    ) {
        let timeout = if candidate.origin.is_named() { VERIFY_TIMEOUT } else { CONNECT_TIMEOUT };
        let mut attempt = Attempt {
            channels: Vec::new(),
            again: 0,
            candidate,
            by_name,
            connected: false,
            received: Vec::new(),
            started_at: now,
            deadline_at: now + timeout,
        };
        self.open(&mut attempt, effects);
        self.attempts.push(attempt);
    }

    /// Opens a stream.
    fn open(&mut self, attempt: &mut Attempt, effects: &mut Effects) {
        let remote = attempt.candidate.remote;
        let target = [effects.paths.text(attempt.candidate.path), "/nix-cache-info"].concat();
        // A zone means nothing to the peer (RFC 6874 §4).
        let mut host = Text::default();
        if attempt.by_name {
            host.add(&self.host).add(":").decimal(remote.port().into());
        } else {
            host.authority(remote.ip(), remote.port());
        }
        attempt.channels.push(self.next_channel);
        effects.output(Output::OpenStream {
            channel: Channel::Verify(self.next_channel),
            remote,
            request: compose_get(&target, &host.0),
        });
        self.next_channel += 1;
    }

    /// The attempt that a stream belongs to.
    fn position(&self, channel: u32) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.channels.contains(&channel))
    }

    /// A stream is connected: the others are of no more use.
    pub fn handle_connected(&mut self, now: Elapsed, channel: u32, effects: &mut Effects) {
        if let Some(index) = self.position(channel)
            && let Some(attempt) = self.attempts.get_mut(index)
            && !attempt.connected
        {
            attempt.connected = true;
            attempt.channels.retain(|open| *open == channel || close(*open, effects));
            if !attempt.candidate.origin.is_named() {
                attempt.deadline_at = now + VERIFY_TIMEOUT;
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
        let index = self.position(channel)?;
        let attempt = self.attempts.get_mut(index)?;
        attempt.received.extend_from_slice(bytes);
        let closed = bytes.is_empty();
        let verdict = match judge(&attempt.received, closed) {
            Some(verdict) => verdict,
            None if attempt.received.len() > RESPONSE_MAX => Verdict::NotACache(Flaw::NotCacheInfo),
            None if closed => Verdict::NotACache(Flaw::Broken),
            None => return None,
        };
        Some(self.finish(index, verdict, effects))
    }

    /// Takes the failure of a stream, which is closed already.
    pub fn handle_failed(
        &mut self,
        channel: u32,
        failure: Failure,
        effects: &mut Effects,
    ) -> Option<Judged> {
        let flaw = match failure {
            Failure::Refused => Flaw::Refused,
            Failure::Unreachable => Flaw::Unreachable,
            Failure::Broken => Flaw::Broken,
        };
        let index = self.position(channel)?;
        let attempt = self.attempts.get_mut(index)?;
        attempt.channels.retain(|open| *open != channel);
        // That there is no descriptor for one more says nothing of the others.
        if failure == Failure::Broken && !attempt.channels.is_empty() {
            return None;
        }
        Some(self.finish(index, Verdict::NotACache(flaw), effects))
    }

    /// Gives up one candidate whose time is over.
    pub fn advance(&mut self, now: Elapsed, effects: &mut Effects) -> Option<Judged> {
        let index = self.attempts.iter().position(|attempt| attempt.deadline_at <= now)?;
        let is_connected = self.attempts.get(index)?.connected;
        let flaw = if is_connected { Flaw::NoAnswer } else { Flaw::NoConnection };
        Some(self.finish(index, Verdict::NotACache(flaw), effects))
    }

    /// Tries again to connect where that is due: to whom.
    pub fn connect_again(&mut self, now: Elapsed, effects: &mut Effects) -> Vec<IpAddr> {
        let mut attempts = std::mem::take(&mut self.attempts);
        let mut tried = Vec::new();
        for attempt in &mut attempts {
            let is_due = |attempt: &Attempt| attempt.again_at().is_some_and(|at| at <= now);
            if is_due(attempt) {
                // After a stall both are due; one is enough.
                while is_due(attempt) {
                    attempt.again += 1;
                }
                self.open(attempt, effects);
                tried.push(attempt.candidate.remote.ip());
            }
        }
        self.attempts = attempts;
        tried
    }

    /// When `advance` or `connect_again` is next of use.
    #[must_use]
    pub fn next_at(&self) -> Option<Elapsed> {
        let next_at = |attempt: &Attempt| {
            attempt.again_at().map_or(attempt.deadline_at, |at| at.min(attempt.deadline_at))
        };
        self.attempts.iter().map(next_at).min()
    }

    /// Ends an attempt.
    fn finish(&mut self, index: usize, verdict: Verdict, effects: &mut Effects) -> Judged {
        let Attempt { channels, candidate, by_name, started_at, .. } =
            self.attempts.swap_remove(index);
        for channel in channels {
            close(channel, effects);
        }
        Judged { candidate, by_name, started_at, verdict }
    }
}

impl Attempt {
    /// When it is tried again to connect, if ever.
    fn again_at(&self) -> Option<Elapsed> {
        let again_after =
            if self.candidate.origin.is_named() { NAMED_AGAIN_AFTER } else { WEAK_AGAIN_AFTER };
        let after = again_after.get(self.again).filter(|_| !self.connected)?;
        Some(self.started_at + *after)
    }
}

/// Has a stream closed; false, for it is open no more.
fn close(channel: u32, effects: &mut Effects) -> bool {
    effects.output(Output::Close(Channel::Verify(channel)));
    false
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::path::Paths;

    #[test]
    fn a_stall_is_made_good_by_one_stream() {
        let mut effects = Effects::new(Paths::new("/system".to_owned()));
        let mut verify = Verify::new("waterbug.lan".to_owned());
        let remote = SocketAddr::from(([10, 0, 0, 1], 9999));
        verify.start(Elapsed::START, Candidate::new(Origin::Dns, remote), false, &mut effects);
        let later = Elapsed::START + NAMED_AGAIN_AFTER[1];
        assert_eq!(verify.connect_again(later, &mut effects), [remote.ip()]);
        assert_eq!(verify.next_at(), Some(Elapsed::START + VERIFY_TIMEOUT), "nothing is overdue");
    }

    #[test]
    fn a_stream_too_many_ends_nothing() {
        let mut effects = Effects::new(Paths::new("/system".to_owned()));
        let mut verify = Verify::new("waterbug.lan".to_owned());
        let remote = SocketAddr::from(([10, 0, 0, 1], 9999));
        verify.start(Elapsed::START, Candidate::new(Origin::Ping, remote), false, &mut effects);
        let later = Elapsed::START + Duration::from_millis(150);
        assert_eq!(verify.connect_again(later, &mut effects), [remote.ip()]);
        assert_eq!(verify.handle_failed(1, Failure::Broken, &mut effects), None);
        let judged = verify.handle_failed(0, Failure::Refused, &mut effects).unwrap();
        assert_eq!(judged.verdict, Verdict::NotACache(Flaw::Refused));
        assert_eq!(verify.next_at(), None);
    }
}
