//! All that is said in English of a run, and how serious it is.

use std::io::{self, ErrorKind};
use std::net::IpAddr;

use super::errors::describe_error;
use crate::address::Family;
use crate::elapsed::Elapsed;
use crate::facts::{OverrideFlaw, OverrideProblem};
use crate::model::{Candidate, Flaw, Note, Origin, Outcome, Probe, Unusable, Verdict};
use crate::output::WriteError;
use crate::path::{PathId, Paths};

/// How serious a line is; the numbers are syslog's (RFC 5424 §6.2.1), which the journal reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What was asked for could not be done.
    Error = 3,
    /// Something is not as it should be.
    Warning = 4,
    /// The result.
    Notice = 5,
    /// What belongs to the result.
    Info = 6,
    /// A step on the way.
    Debug = 7,
}

/// What keeps a run from doing something.
#[derive(Debug)]
pub enum Problem<'a> {
    /// The network cannot be watched.
    NoNetlink(&'a io::Error),
    /// There is no packet socket.
    NoPacketSocket(&'a io::Error),
    /// Nothing can be waited for.
    NoPoll(&'a io::Error),
    /// A link does not carry multicast DNS.
    NoMulticast(u32, &'a io::Error),
    /// Nobody can be pinged at an address.
    NoPing(IpAddr, &'a io::Error),
    /// An override is no order.
    Override(&'a OverrideProblem),
    /// Nothing says where the files go.
    NoOutputDir,
    /// A file cannot be written.
    NotWritten(&'a WriteError),
}

/// What is wrong with link-local IPv6: Nix up to 2.26 takes such an address with its zone, 2.34 does
/// not, and a zone of stage 1 need not be there in stage 2.
const LINK_LOCAL: &str =
    "a link-local address, which Nix cannot use: give it an IPv4 or ULA address";

/// A problem in words with the remedy, and how serious it is.
pub(super) fn describe_problem(problem: &Problem) -> (Level, String) {
    match problem {
        Problem::NoNetlink(error) => (
            Level::Warning,
            format!(
                "cannot watch the network: {}; check the sandbox (AF_NETLINK)",
                describe_error(error)
            ),
        ),
        Problem::NoPacketSocket(error) => {
            let loss = "answers that a firewall drops are not heard, and a sweep connects instead of asking by ARP";
            (Level::Info, format!("needs CAP_NET_RAW ({}): {loss}", describe_error(error)))
        }
        Problem::NoPoll(error) => (Level::Error, format!("cannot poll: {}", describe_error(error))),
        Problem::NoMulticast(interface, error) => {
            (Level::Debug, format!("mdns: interface {interface}: {}", describe_error(error)))
        }
        Problem::NoPing(target, error) => {
            (Level::Debug, format!("ping: {target}: {}", describe_error(error)))
        }
        Problem::Override(OverrideProblem { place, flaw }) => {
            let flaw = match flaw {
                OverrideFlaw::NotAFile => "is not a regular file".to_owned(),
                OverrideFlaw::Unreadable(error) => {
                    format!("cannot be read: {}", describe_error(error))
                }
                OverrideFlaw::NeedsZone => ["holds ", LINK_LOCAL].concat(),
                OverrideFlaw::NoOrder => "holds none of IP, IP:PORT, [IPv6]:PORT, none".to_owned(),
            };
            (Level::Error, format!("{place} {flaw}; ignored: correct or remove it"))
        }
        Problem::NoOutputDir => (
            Level::Error,
            "nowhere to write: $XDG_RUNTIME_DIR is not set; name a place with --output-dir"
                .to_owned(),
        ),
        Problem::NotWritten(WriteError { path, error }) => {
            let remedy = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space there",
                ErrorKind::WouldBlock => "another run holds the lock: end it",
                ErrorKind::IsADirectory => "remove the directory that has the file's name",
                ErrorKind::PermissionDenied => {
                    "run as root, or name another place with --output-dir"
                }
                _ => "name another place with --output-dir",
            };
            (Level::Error, format!("cannot write {path}: {}; {remedy}", describe_error(error)))
        }
    }
}

/// An outcome in one word.
pub(super) const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Found(_) => "found",
        Outcome::NotFound => "not-found",
        Outcome::NoNetwork => "no-network",
        Outcome::Interrupted => "interrupted",
    }
}

/// Milliseconds with three decimals.
pub(super) fn milliseconds(at: Elapsed) -> String {
    format!("{}.{:03}", at.as_micros() / 1000, at.as_micros() % 1000)
}

/// The result in one line.
#[must_use]
pub fn summarise(outcome: Outcome, ended: Elapsed) -> String {
    let when = milliseconds(ended);
    match outcome {
        Outcome::Found(found) => {
            format!("found at {} by {} in {when} ms", found.remote, found.origin.word())
        }
        Outcome::NotFound => format!("no local cache answered in {when} ms"),
        Outcome::NoNetwork => {
            format!("no network in time to search it ({when} ms): run again when it is up")
        }
        Outcome::Interrupted => format!("stopped after {when} ms"),
    }
}

/// How serious an event is.
pub(super) const fn level_of(note: &Note) -> Level {
    match note {
        Note::NotPrivate(_) | Note::OnlyLinkLocal(_) => Level::Warning,
        Note::Judged(candidate, Verdict::NotACache(flaw)) if candidate.origin.is_named() => {
            match flaw {
                Flaw::Status(_) => Level::Warning,
                // Where it was yesterday need not be where it is today.
                _ if matches!(candidate.origin, Origin::Previous) => Level::Debug,
                _ => Level::Warning,
            }
        }
        _ => Level::Debug,
    }
}

/// An event in words.
pub(super) fn describe(note: Note, paths: &Paths) -> String {
    let about = |candidate, text: &str| about(candidate, paths, text);
    match note {
        Note::NetworkUp(count) => format!("network is up, {count} interface(s)"),
        Note::Started(origin) => format!("{}: started", origin.word()),
        Note::AskedLink(interface, family) => {
            let version = match family {
                Family::V4 => 4,
                Family::V6 => 6,
            };
            format!("mdns: asked on interface {interface} over IPv{version}")
        }
        Note::AskedServer(server) => format!("dns: asked {server}"),
        Note::ServerDenied(server) => format!("dns: nothing from {server}"),
        Note::Added(candidate) => about(candidate, "is a candidate"),
        Note::NotPrivate(candidate) => about(
            candidate,
            "is neither private nor on-link, not used; if it is right, say so in /etc/hosts",
        ),
        Note::LinkLocal(candidate) => {
            about(candidate, "is link-local, looking for the host's other addresses")
        }
        Note::OnlyLinkLocal(candidate) => {
            format!("{} answers only at {LINK_LOCAL}", place(candidate, paths))
        }
        Note::Judged(candidate, Verdict::Cache) => about(candidate, "is a Nix cache"),
        Note::Judged(candidate, Verdict::NotACache(flaw)) => about(candidate, &describe_flaw(flaw)),
        Note::Unusable(speaker, unusable) => {
            let why = match unusable {
                Unusable::NoCache => "does not say that it is a cache (TXT nix-cache=1)",
                Unusable::Path => "has a path (TXT) that is too long, or not plain",
                Unusable::Nowhere => "has no host or no port (SRV)",
            };
            format!("announced: what {speaker} announces {why}: not used")
        }
        Note::AskedByName(remote) => format!("{remote}: asked again by name"),
        Note::Sweeps { probe, addresses } => {
            let how = match probe {
                Probe::Arp => "by ARP",
                Probe::Connect => "by connecting",
            };
            format!("sweep: asking {addresses} addresses {how}")
        }
        Note::Swept { sent, time } => {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = u64::from(sent) * 1000 / millis;
            format!("sweep: asked {sent} addresses in {millis} ms, {rate} a second")
        }
        Note::Held(candidate) => about(candidate, "waits for those that know the name"),
        Note::Chosen(origin) => {
            let why = if origin.is_named() {
                "knows the cache by name and wins at once"
            } else {
                "wins: of those that know the name nobody leads elsewhere"
            };
            format!("{}: {why}", origin.word())
        }
        Note::Finished(origin) => format!("{}: finished", origin.word()),
        Note::BudgetSpent => "the budget is spent".to_owned(),
    }
}

/// What is said of a candidate.
#[inline(never)]
fn about(candidate: Candidate, paths: &Paths, text: &str) -> String {
    format!("{}: {} {text}", candidate.origin.word(), place(candidate, paths))
}

/// Where a candidate is: address and port, and the path if it is not the configured one.
fn place(candidate: Candidate, paths: &Paths) -> String {
    let path = if candidate.path == PathId::CONFIGURED {
        ""
    } else {
        match paths.text(candidate.path) {
            "" => "/",
            path => path,
        }
    };
    format!("{}{path}", candidate.remote)
}

/// What is wrong with a candidate, in words with the remedy.
fn describe_flaw(flaw: Flaw) -> String {
    let text = match flaw {
        Flaw::Unreachable => "cannot be reached: check the route to it",
        Flaw::Refused => "refuses connections: is the cache running?",
        Flaw::Broken => "broke the connection off: see the cache's log",
        Flaw::NoConnection => "does not answer: is it switched on, and its firewall open?",
        Flaw::NoAnswer => "accepts connections but does not answer in time: see the cache's log",
        Flaw::Status(status) => {
            let remedy = match status {
                401 | 403 => "make the cache public",
                404 => "check --path",
                400 => "allow its address or name (attic: allowed-hosts)",
                _ => "see the cache's log",
            };
            return format!("answers with HTTP status {status}: {remedy}");
        }
        Flaw::NotCacheInfo => "is not a Nix cache: check --port and --path",
        Flaw::OtherStore => "is a Nix cache for another store than /nix/store",
    };
    text.to_owned()
}
