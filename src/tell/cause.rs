//! Why a search came to what it came to: one cause, the first that applies, for the log, `--explain`,
//! `--json` and the file that stays.

use std::net::SocketAddr;

use super::account::{Account, Asked, Said};
use super::template::Values;
use crate::config::Config;
use crate::elapsed::Elapsed;
use crate::facts::Network;
use crate::model::{Candidate, Flaw, Origin, Outcome};
use crate::text::Text;

/// Interfaces named that are of no use; who has more knows.
const USELESS_MAX: usize = 4;

/// What a run knows when its search is over.
pub struct Story<'a> {
    /// What the user decided.
    pub config: &'a Config,
    /// Where the user's order stands, if there is one.
    pub order_place: &'a str,
    /// What has happened.
    pub account: &'a Account,
    /// The network as last seen.
    pub network: &'a Network,
    /// What has come of it.
    pub outcome: Outcome,
    /// When.
    pub ended_at: Elapsed,
}

/// One cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This origin led to a cache.
    Found(Origin),
    /// A signal came.
    Stopped,
    /// The user wants none.
    OrderedNone,
    /// This is not the cache, and what is wrong with it.
    NotACache(Candidate, Flaw),
    /// A cache answers only at an address that Nix cannot use.
    LinkLocal(Candidate),
    /// Somebody names an address that is not used.
    Public(Candidate),
    /// The time was up.
    Budget,
    /// The sweep has a limit: how many addresses were asked, and how many there are.
    SweepLimit(u32, u32),
    /// This DNS server does not answer.
    SilentServer(SocketAddr),
    /// The host of QEMU's user network has no cache.
    QemuHost,
    /// Nobody but the gateway is seen.
    Isolated,
    /// Nobody knows the name, and nobody near has a cache.
    Unknown,
    /// There is no network.
    NoNetwork,
}

impl Cause {
    /// The cause of how a search has ended: the first that applies, in an order that puts what somebody
    /// can mend before what may be as it should.
    #[must_use]
    pub fn of(story: &Story) -> Self {
        let Story { account, network, .. } = *story;
        match story.outcome {
            Outcome::Found(found) => return Self::Found(found.origin),
            Outcome::Interrupted => return Self::Stopped,
            Outcome::NoNetwork => return Self::NoNetwork,
            Outcome::NotFound if account.is_ordered() && account.asked.is_empty() => {
                return Self::OrderedNone;
            }
            Outcome::NotFound => {}
        }
        let mut worst = None;
        let mut worst_rank = Rank::Dull;
        for asked in &account.asked {
            let rank = rank(asked);
            if rank < worst_rank {
                (worst, worst_rank) = (Some(asked), rank);
            }
        }
        let not_a_cache = worst.and_then(|it| Some(Self::NotACache(it.candidate, it.told_flaw()?)));
        let link_local = account.link_local.map(Self::LinkLocal);
        let public = account.far.map(Self::Public);
        let first = match worst_rank {
            Rank::Dull => link_local.or(public),
            Rank::OtherServer | Rank::Redirect | Rank::Gone => {
                link_local.or(public).or(not_a_cache)
            }
            _ => not_a_cache,
        };
        let silent = account.servers.iter().find(|server| server.said == Said::Nothing);
        match (first, account.sweep, silent) {
            (Some(cause), ..) => cause,
            _ if account.is_cut_short => Self::Budget,
            (_, Some(sweep), _) if sweep.sent < sweep.addresses => {
                Self::SweepLimit(sweep.sent, sweep.addresses)
            }
            (.., Some(server)) => Self::SilentServer(server.address),
            _ if network.is_qemu_user() => Self::QemuHost,
            _ if is_isolated(account, network) => Self::Isolated,
            _ => Self::Unknown,
        }
    }

    /// Whether there is something that somebody should mend.
    #[must_use]
    pub const fn is_problem(self) -> bool {
        match self {
            Self::NotACache(candidate, _) => !matches!(candidate.origin, Origin::Previous),
            Self::LinkLocal(_) | Self::Public(_) => true,
            _ => false,
        }
    }

    /// The word for it in `--json`.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::Stopped => "stopped",
            Self::OrderedNone => "override-none",
            Self::NotACache(candidate, flaw) => match (candidate.origin, flaw) {
                (Origin::Override, _) => "override",
                (Origin::Previous, _) => "gone",
                (_, Flaw::Status(300..=399)) => "captive-portal",
                (_, Flaw::Status(_)) => "http-status",
                (_, Flaw::Refused) => "port-closed",
                (_, Flaw::Unreachable) => "unreachable",
                (_, Flaw::NoConnection) => "no-reply",
                (_, Flaw::Broken) => "connection-closed",
                (_, Flaw::NoAnswer) => "timed-out",
                (_, Flaw::NotCacheInfo) => "not-a-cache",
                (_, Flaw::OtherStore) => "other-store",
            },
            Self::LinkLocal(_) => "link-local",
            Self::Public(_) => "public-address",
            Self::SweepLimit(..) => "sweep-limit",
            Self::Budget => "budget",
            Self::SilentServer(_) => "dns-silent",
            Self::QemuHost => "qemu-host",
            Self::Isolated => "isolated",
            Self::Unknown => "name-unknown",
            Self::NoNetwork => "no-network",
        }
    }

    /// The address that it is about.
    pub(super) const fn remote(self) -> Option<SocketAddr> {
        match self {
            Self::NotACache(candidate, _)
            | Self::LinkLocal(candidate)
            | Self::Public(candidate) => Some(candidate.remote),
            Self::SilentServer(server) => Some(server),
            _ => None,
        }
    }

    /// The cause in words and, behind a bar, what to do about it, if anything is.
    #[must_use]
    pub fn describe(self, story: &Story) -> Text {
        let Story { config, account, network, .. } = *story;
        let mut text = Text::default();
        let mut values = Values {
            number: u32::try_from(account.hosts()).unwrap_or(u32::MAX),
            other: config.port.into(),
            time: story.ended_at,
            file: story.order_place,
            path: &config.path,
            ..Values::NONE
        };
        if let Some(remote) = self.remote() {
            values.remote = remote;
        }
        let template = match self {
            Self::Found(origin) => {
                values.origin = origin;
                match origin {
                    Origin::Override => "override (%f)",
                    Origin::Previous => "%o: chosen before, and there",
                    origin if origin.is_named() => "%o names it",
                    _ => "%o led to it; no other cache has the name",
                }
            }
            Self::Stopped => "a signal",
            Self::OrderedNone => "override none (%f)|remove it to search",
            Self::NotACache(candidate, flaw) => {
                values.origin = candidate.origin;
                describe_flaw(candidate.origin, flaw, &mut values, &mut text)
            }
            Self::LinkLocal(_) => {
                "%r answers only at a link-local address, which Nix cannot use|\
                 give it an IPv4 or ULA address"
            }
            Self::Public(candidate) => {
                values.origin = candidate.origin;
                "%o names %a, a public address|to allow it, add it to /etc/hosts"
            }
            Self::Budget => "the time was up before all had answered|raise --budget",
            Self::SweepLimit(sent, addresses) => {
                (values.number, values.other) = (sent, addresses);
                "asked %n of %m addresses|name the part where it is, --sweep CIDR"
            }
            Self::SilentServer(_) => {
                "DNS %a does not answer; %n host%s, none with port %d open|\
                 check the DNS server, or add the cache to /etc/hosts"
            }
            Self::QemuHost => {
                "QEMU's host has nothing on port %d|start the cache there, or forward the port"
            }
            Self::Isolated => {
                "only the gateway is visible|a guest network that keeps its clients apart?"
            }
            Self::Unknown => {
                "name unknown; %n host%s, none with port %d open|is the cache on another network?"
            }
            Self::NoNetwork => "no usable network in %t: ",
        };
        text.fill(template, &values);
        if let Self::NotACache(Candidate { origin: Origin::Override, .. }, flaw) = self
            && flaw.is_silence()
        {
            let what = split(&text).0.len();
            text.0.truncate(what);
            text.add("|correct or remove it");
        }
        if self == Self::NoNetwork {
            describe_links(network, &mut text);
        }
        text
    }
}

/// Both parts of a description: what it is, and what to do about it.
pub(super) fn split(description: &Text) -> (&str, &str) {
    let text = &description.0;
    let bar = text.bytes().rposition(|byte| byte == b'|').unwrap_or(text.len());
    (text.get(..bar).unwrap_or_default(), text.get(bar + 1..).unwrap_or_default())
}

/// How much what is wrong with a candidate explains, the most first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The user's own order.
    Ordered,
    /// Who has the name answers otherwise.
    NamedAnswer,
    /// A private cache.
    Private,
    /// Who has the name does not answer.
    NamedSilence,
    /// A server that is asked wrongly.
    OtherStatus,
    /// Somebody sends everybody elsewhere.
    Redirect,
    /// Another kind of server.
    OtherServer,
    /// What an earlier run chose is gone.
    Gone,
    /// That somebody near is no cache explains nothing.
    Dull,
}

/// How much what is wrong with a candidate explains.
fn rank(asked: &Asked) -> Rank {
    let origin = asked.candidate.origin;
    let is_said = origin.is_named() && origin != Origin::Previous;
    let Some(flaw) = asked.told_flaw() else { return Rank::Dull };
    match flaw {
        _ if origin == Origin::Override => Rank::Ordered,
        Flaw::Status(300..=399) => Rank::Redirect,
        _ if is_said && !flaw.is_silence() => Rank::NamedAnswer,
        Flaw::Status(401 | 403) => Rank::Private,
        _ if is_said => Rank::NamedSilence,
        Flaw::Status(_) => Rank::OtherStatus,
        _ if origin == Origin::Previous => Rank::Gone,
        Flaw::NotCacheInfo | Flaw::OtherStore | Flaw::NoAnswer | Flaw::Broken => Rank::OtherServer,
        Flaw::Unreachable | Flaw::Refused | Flaw::NoConnection => Rank::Dull,
    }
}

/// Adds who is no cache; the template of the rest.
fn describe_flaw(origin: Origin, flaw: Flaw, values: &mut Values, text: &mut Text) -> &'static str {
    let is_said = matches!(origin, Origin::Hosts | Origin::Dns | Origin::Mdns);
    let is_order = origin == Origin::Override;
    if let Flaw::Status(status) = flaw {
        values.number = status.into();
    }
    let who = match (origin, flaw) {
        (_, Flaw::Status(300..=399)) if !is_order => {
            return "every answer was a redirect (HTTP %n from %r)|a captive portal? log in there first";
        }
        (_, Flaw::Refused) if is_said => {
            return "%o names %a; port %p is closed there|start the cache, or check --port";
        }
        (Origin::Override, _) => "override %r (%f) ",
        (Origin::Previous, _) => "%r (chosen before) ",
        _ if is_said => "%r (named by %o) ",
        (Origin::Sweep, _) => "%r (found by the sweep) ",
        _ => "%r (found by %o) ",
    };
    text.fill(who, values);
    match flaw {
        Flaw::Status(401 | 403) => match values.path.strip_prefix('/') {
            Some(cache) if !cache.contains('/') => {
                values.path = cache;
                "answers HTTP %n|make the cache public (attic cache configure %c --public)"
            }
            _ => "answers HTTP %n|make the cache public",
        },
        Flaw::Status(404) => "answers HTTP 404 to %c/nix-cache-info|check --path",
        Flaw::Status(400) => "answers HTTP 400|allow its address or name (attic: allowed-hosts)",
        Flaw::Status(_) => "answers HTTP %n|see the cache's log",
        Flaw::NotCacheInfo => "is not a Nix cache|check --port and --path",
        Flaw::OtherStore => "is a Nix cache for another store than /nix/store|is it the right one?",
        Flaw::NoAnswer => "accepts connections, but timed out|see the cache's log",
        Flaw::Broken => "closes the connection without an answer|see the cache's log",
        Flaw::Unreachable => "cannot be reached|check the route to it",
        Flaw::Refused | Flaw::NoConnection => {
            "does not answer|is it switched on, and its firewall open?"
        }
    }
}

/// Whether no host but the gateway was seen, on a network that was swept.
fn is_isolated(account: &Account, network: &Network) -> bool {
    let is_gateway = |asked: &Asked| {
        network.gateways.iter().any(|gateway| gateway.ip() == asked.candidate.remote.ip())
    };
    account.sweep.is_some() && account.hosts() == 1 && account.asked.iter().any(is_gateway)
}

/// Adds what each interface lacks.
fn describe_links(network: &Network, text: &mut Text) {
    let start = text.0.len();
    let links = network.interfaces.iter().filter(|interface| !interface.is_loopback());
    for interface in links.take(USELESS_MAX) {
        text.comma_after(start).link(&interface.link).add(if !interface.is_wanted_up() {
            " is down"
        } else if !interface.is_running() {
            " has no carrier"
        } else if interface.addresses.is_empty() {
            " has no address"
        } else {
            " leads nowhere"
        });
    }
    if text.0.len() == start {
        text.add("there is no interface");
    }
}
