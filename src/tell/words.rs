//! All that is said in English of a run, and how serious it is.

use std::net::IpAddr;
use std::time::Duration;

use super::account::{Account, Times};
use super::cause::{Cause, Story};
use super::errors::describe_error;
use super::sentence::split;
use super::template::Values;
use crate::address::Family;
use crate::elapsed::Elapsed;
use crate::facts::{OverrideFlaw, OverrideProblem};
use crate::frontier::NAMED_HEAD_START;
use crate::model::{Flaw, Note, Origin, Outcome, Probe, Unusable, Verdict};
use crate::output::WriteError;
use crate::path::{PathId, Paths};
use crate::sys::Error;
use crate::text::Text;
use crate::wire::dns::{Denial, RecordType};

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
    NoNetlink(Error),
    /// There is no packet socket.
    NoPacketSocket(Error),
    /// The kernel does not confine us in all ways: it refuses this system call.
    NotConfined(u32),
    /// Nothing can be waited for.
    NoPoll(Error),
    /// A link does not carry multicast DNS.
    NoMulticast(u32, Error),
    /// Nobody can be pinged at an address.
    NoPing(IpAddr, Error),
    /// An override is no order.
    Override(&'a OverrideProblem),
    /// Nothing says where the files go.
    NoOutputDir,
    /// A file cannot be written.
    NotWritten(&'a WriteError),
    /// What was to be printed cannot be.
    NotPrinted(Error),
}

/// A problem in words with the remedy on a line of its own, and how serious it is.
pub(super) fn describe_problem(problem: &Problem) -> (Level, String) {
    let mut values = Values::NONE;
    let mut words = Text::default();
    let (level, template, error) = match problem {
        Problem::NoNetlink(error) => (
            Level::Warning,
            "cannot watch the network: %w\n  check the sandbox (AF_NETLINK)",
            error,
        ),
        Problem::NoPacketSocket(error) => {
            let loss = "needs CAP_NET_RAW (%w): replies dropped by the firewall are not heard, and \
                        the sweep connects instead of asking by ARP";
            (Level::Info, loss, error)
        }
        Problem::NoPoll(error) => (Level::Error, "cannot poll: %w", error),
        Problem::NotPrinted(error) => (Level::Error, "cannot print: %w", error),
        Problem::NoMulticast(interface, error) => {
            values.number = *interface;
            (Level::Debug, "mdns: %i: %w", error)
        }
        Problem::NotConfined(call) => {
            values.number = *call;
            (Level::Debug, "not wholly confined: system call %n failed", &Error(0))
        }
        Problem::NoPing(target, error) => {
            values.remote.set_ip(*target);
            (Level::Debug, "ping: %a: %w", error)
        }
        Problem::Override(OverrideProblem { place, flaw }) => {
            values.file = place;
            let template = match flaw {
                OverrideFlaw::NotAFile => {
                    "%f is not a regular file; ignored\n  correct or remove it"
                }
                OverrideFlaw::Unreadable(_) => {
                    "%f cannot be read: %w; ignored\n  correct or remove it"
                }
                OverrideFlaw::NeedsZone => {
                    "%f holds a link-local address, which Nix cannot use; ignored\n  \
                     give the cache an IPv4 or ULA address"
                }
                OverrideFlaw::NoOrder => {
                    "%f holds none of IP, IP:PORT, [IPv6]:PORT, none; ignored\n  \
                     correct or remove it"
                }
            };
            if let OverrideFlaw::Unreadable(error) = flaw {
                describe_error(*error, &mut words);
                values.words = &words.0;
            }
            return (Level::Error, Text::default().fill(template, &values).0.clone());
        }
        Problem::NoOutputDir => {
            let text = "nowhere to write: $XDG_RUNTIME_DIR is not set\n  \
                        name a place with --output-dir";
            return (Level::Error, text.to_owned());
        }
        Problem::NotWritten(WriteError { path, error }) => {
            values.file = path;
            let template = match error.0 {
                libc::ENOSPC | libc::EDQUOT => "cannot write %f: %w\n  free some space there",
                libc::EAGAIN => "cannot write %f: %w\n  another run holds the lock: end it",
                libc::EISDIR => {
                    "cannot write %f: %w\n  remove the directory that has the file's name"
                }
                libc::EACCES | libc::EPERM => {
                    "cannot write %f: %w\n  run as root, or name another place with --output-dir"
                }
                _ => "cannot write %f: %w\n  name another place with --output-dir",
            };
            (Level::Error, template, error)
        }
    };
    describe_error(*error, &mut words);
    values.words = &words.0;
    let mut text = Text::default();
    text.fill(template, &values);
    (level, text.0)
}

/// What is being done, in ASCII: a terminal need not know more.
pub(super) fn progress_line(
    account: &Account,
    swept: Option<(u32, u32)>,
    now: Elapsed,
    budget: Duration,
) -> String {
    let mut line = Text::default();
    line.add("searching: ");
    let start = line.0.len();
    for origin in Origin::ALL {
        let Times { began, ended } = account.times(origin);
        if began.is_none() || ended.is_some() {
            continue;
        }
        line.comma_after(start).add(origin.word());
        if let (Origin::Sweep, Some((sent, addresses))) = (origin, swept) {
            line.add(" ").decimal(u64::from(sent) * 100 / u64::from(addresses.max(1))).add(" %");
        }
    }
    line.add(" ... ").tenths(now.as_micros() / 100_000);
    line.add(" of ").time(Elapsed::START + budget);
    line.0
}

/// An outcome in one word.
pub(super) const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Found(_) => "found",
        Outcome::NotFound => "not-found",
        Outcome::NoNetwork => "no-network",
        Outcome::Interrupted => "interrupted",
    }
}

/// The result in one line, with its cause, and how serious it is.
#[must_use]
pub fn summarise(story: &Story, cause: Cause) -> (Level, String) {
    let mut text = Text::default();
    verdict(story, &mut text);
    if !matches!(cause, Cause::Found(_) | Cause::Stopped) {
        let description = cause.describe(story);
        let (what, remedy) = split(&description);
        text.add(". Cause: ").add(what).add(if remedy.is_empty() { "" } else { ": " }).add(remedy);
        if cause == Cause::NoNetwork && !story.config.watch {
            text.add(" (exit status 75)");
        }
    }
    (if cause.is_problem() { Level::Warning } else { Level::Notice }, text.0)
}

/// Adds what was found, and what Nix does now.
pub(super) fn verdict(story: &Story, text: &mut Text) {
    let upstreams = story.config.upstreams.join(" ");
    let mut values = Values { time: story.ended_at, words: &upstreams, ..Values::NONE };
    if story.config.additive {
        values.words = "its own substituters";
    }
    let template = match story.outcome {
        Outcome::Found(found) => {
            (values.remote, values.origin) = (found.remote, found.origin);
            "found at %r by %o in %t"
        }
        Outcome::Interrupted => "stopped after %t",
        Outcome::NotFound => "no cache here (%t); Nix uses %w",
        Outcome::NoNetwork if story.network.is_up() => "network too late (%t); Nix uses %w",
        Outcome::NoNetwork => "no network (%t); Nix uses %w",
    };
    text.fill(template, &values);
}

/// Adds an event in words.
pub(super) fn describe(note: Note, paths: &Paths, text: &mut Text) {
    let mut values = Values::NONE;
    let mut candidate = None;
    let mut flaw = Text::default();
    let template = match note {
        Note::NetworkUp(links) => {
            values.number = u32::try_from(links).unwrap_or_default();
            "network is up, %n interface%s"
        }
        Note::Started(origin) => {
            values.origin = origin;
            "%o: started"
        }
        Note::Finished(origin) => {
            values.origin = origin;
            "%o: finished"
        }
        Note::Chosen(origin) => {
            values.origin = origin;
            "%o: chosen"
        }
        Note::BudgetSpent => "timed out: the budget is spent",
        Note::AskedLink(interface, family) => {
            (values.number, values.words) = (interface, family_word(family));
            "mdns: asked on %i over %w"
        }
        Note::AskedServer(server) => {
            values.remote = server;
            "dns: asked %r"
        }
        Note::ServerSaid(server, denial) => {
            (values.remote, values.words) = (server, denial_word(denial));
            "dns: %r: %w"
        }
        Note::Unusable(speaker, unusable) => {
            values.remote.set_ip(speaker);
            match unusable {
                Unusable::NoCache => {
                    "announced: not used: %a does not say that it is a cache (TXT nix-cache=1)"
                }
                Unusable::Path => {
                    "announced: not used: %a has a path that is too long, or not plain"
                }
                Unusable::Nowhere => "announced: not used: %a has no host or no port (SRV)",
            }
        }
        Note::AskedByName(server) => {
            values.remote = server;
            "%r: asked again by name"
        }
        Note::Sweeps { probe, addresses } => {
            (values.number, values.words) = (addresses, probe_word(probe));
            "sweep: asking %n addresses by %w"
        }
        Note::Swept { sent, time } => {
            (values.number, values.time) = (sent, Elapsed::START + time);
            "sweep: asked %n addresses in %t"
        }
        Note::Added(it) => {
            candidate = Some(it);
            "%o: %r%c is a candidate"
        }
        Note::NotPrivate(it) => {
            candidate = Some(it);
            "%o: %r%c is of no private network, not used"
        }
        Note::LinkLocal(it) => {
            candidate = Some(it);
            "%o: %r%c is link-local; looking for the host's other addresses"
        }
        Note::OnlyLinkLocal(it) => {
            candidate = Some(it);
            "%o: %r%c has no other address"
        }
        Note::Held(it) => {
            candidate = Some(it);
            values.time = Elapsed::START + NAMED_HEAD_START;
            "%o: %r%c on hold %t for DNS and mDNS"
        }
        Note::Judged(it, Verdict::Cache) => {
            candidate = Some(it);
            "%o: %r%c verified: a Nix cache"
        }
        Note::Judged(it, Verdict::NotACache(what)) => {
            candidate = Some(it);
            push_flaw(what, &mut flaw);
            values.words = &flaw.0;
            "%o: %r%c %w"
        }
    };
    if let Some(candidate) = candidate {
        (values.origin, values.remote) = (candidate.origin, candidate.remote);
        if candidate.path != PathId::CONFIGURED {
            let path = paths.text(candidate.path);
            values.path = if path.is_empty() { "/" } else { path };
        }
    }
    text.fill(template, &values);
}

/// A version of IP.
pub(super) const fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// How a sweep asks.
pub(super) const fn probe_word(probe: Probe) -> &'static str {
    match probe {
        Probe::Arp => "ARP",
        Probe::Connect => "connecting",
    }
}

/// What a DNS server gives.
pub(super) const fn denial_word(denial: Option<Denial>) -> &'static str {
    match denial {
        None => "an address",
        Some(Denial::NoSuchName) => "no such name (NXDOMAIN)",
        Some(Denial::NoRecord(RecordType::Aaaa)) => "no AAAA record",
        Some(Denial::NoRecord(_)) => "no A record",
        Some(Denial::Failed) => "refuses, or has failed",
        Some(Denial::Unreachable) => "cannot be asked",
    }
}

/// Adds what a candidate did, in two or three words.
pub(super) fn push_flaw(flaw: Flaw, text: &mut Text) -> &mut Text {
    let words = match flaw {
        Flaw::Unreachable => "unreachable",
        Flaw::Refused => "port closed",
        Flaw::Broken => "connection closed",
        Flaw::NoConnection => "no reply",
        Flaw::NoAnswer => "timed out",
        Flaw::Status(status) => return text.add("HTTP ").decimal(status.into()),
        Flaw::NotCacheInfo => "not a Nix cache",
        Flaw::OtherStore => "another store",
    };
    text.add(words)
}
