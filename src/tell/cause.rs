//! Why a search came to what it came to: one cause, the first that applies, for the log, `--explain`,
//! `--json` and the file that stays.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::account::{Account, Asked, Said, Server, Swept};
use crate::config::Config;
use crate::elapsed::Elapsed;
use crate::facts::Network;
use crate::model::{Candidate, Flaw, Origin, Outcome};
use crate::wire::dns::Denial;

/// How long a DNS server has that is there: the first question to it may be lost, and its answer comes from
/// beyond the network.
const DNS_TIME: Duration = Duration::from_millis(800);

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
    Useless(Candidate),
    /// The sweep has a limit: how many addresses were asked, and how many there are.
    SweepLimit(u32, u32),
    /// Whoever has answered sends us elsewhere: one of them, and its HTTP status.
    Portal(Candidate, u16),
    /// The time was up.
    Budget,
    /// This DNS server does not answer.
    SilentServer(SocketAddr),
    /// This DNS server gives nothing but errors, and no other knows more.
    FailingServer(SocketAddr),
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
    #[inline(never)]
    #[must_use]
    pub fn of(story: &Story) -> Self {
        let Story { config, account, network, .. } = *story;
        match story.outcome {
            Outcome::Found(found) => return Self::Found(found.origin),
            Outcome::Interrupted => return Self::Stopped,
            Outcome::NoNetwork if !network.is_up() => return Self::NoNetwork,
            Outcome::NotFound if account.is_ordered() && account.asked.is_empty() => {
                return Self::OrderedNone;
            }
            Outcome::NotFound | Outcome::NoNetwork => {}
        }
        let is_portal =
            account.asked.iter().all(|asked| asked.is_redirect() || !asked.has_answered());
        let (mut worst, mut worst_rank) = (None, Rank::Dull);
        for asked in &account.asked {
            let rank = rank(asked, is_portal);
            if rank < worst_rank {
                (worst, worst_rank) = (Some(asked), rank);
            }
        }
        // That nobody answers who was never said to be a server explains nothing.
        let is_silent = |server: &&Server| {
            matches!(server.said, Said::Nothing | Said::Denied(Denial::Unreachable))
                && network.nameservers.contains(&server.address)
        };
        let silent = account.servers.iter().find(is_silent);
        if worst_rank >= Rank::Redirect {
            if let Some(candidate) = account.link_local {
                return Self::LinkLocal(candidate);
            }
            // A portal may well name such an address, and answers for every one.
            let is_portal = is_portal && worst_rank == Rank::Redirect;
            if let Some(candidate) = account.far.filter(|_| !is_portal) {
                return Self::Useless(candidate);
            }
            // With DNS nobody would have to be swept.
            if let Some(server) = silent
                && worst.is_none()
                && !account.is_dns_heard
                && matches!(story.outcome, Outcome::NotFound)
                && Elapsed::START + DNS_TIME <= story.ended_at
            {
                return Self::SilentServer(server.address);
            }
            // Of those that the limit allows a longer search asks all.
            if let Some(Swept { sent, addresses, .. }) = account.sweep
                && !is_portal
                && sent < addresses
                && (config.sweep_limit < addresses || !account.is_cut_short)
            {
                return Self::SweepLimit(sent, addresses);
            }
        }
        if let Some(asked) = worst
            && let Some(flaw) = asked.told_flaw()
        {
            let candidate = Candidate { origin: asked.source, ..asked.candidate };
            return match flaw {
                Flaw::Status(status) if is_portal && worst_rank == Rank::Redirect => {
                    Self::Portal(candidate, status)
                }
                _ => Self::NotACache(candidate, flaw),
            };
        }
        if matches!(story.outcome, Outcome::NoNetwork) {
            return Self::NoNetwork;
        }
        let is_failing = |server: &Server| server.said == Said::Denied(Denial::Failed);
        match silent {
            _ if account.is_cut_short => Self::Budget,
            Some(server) => Self::SilentServer(server.address),
            _ if account.servers.iter().all(is_failing) && !account.servers.is_empty() => {
                account.servers.first().map_or(Self::Unknown, |it| Self::FailingServer(it.address))
            }
            _ if network.is_qemu_user() => Self::QemuHost,
            _ if is_isolated(account, network) => Self::Isolated,
            _ => Self::Unknown,
        }
    }

    /// Whether there is something that somebody should mend.
    #[must_use]
    pub const fn is_problem(self) -> bool {
        match self {
            Self::NotACache(candidate, flaw) => {
                is_said(candidate.origin)
                    || matches!(candidate.origin, Origin::Override)
                    || matches!(flaw, Flaw::Status(_))
            }
            Self::LinkLocal(_) | Self::Useless(_) | Self::Portal(..) => true,
            _ => false,
        }
    }

    /// Whether nothing new would be said.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        (self.code(), self.remote()) == (other.code(), other.remote())
    }

    /// The word for it in `--json`.
    #[inline(never)]
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::Stopped => "stopped",
            Self::OrderedNone => "override-none",
            Self::NotACache(candidate, flaw) => match (candidate.origin, flaw) {
                (Origin::Override, _) => "override",
                (_, Flaw::Status(_)) => "http-status",
                (Origin::Previous, _) => "gone",
                (_, Flaw::Refused) => "port-closed",
                (_, Flaw::Unreachable) => "unreachable",
                (_, Flaw::NoConnection) => "no-reply",
                (_, Flaw::Broken) => "connection-closed",
                (_, Flaw::NoAnswer) => "timed-out",
                (_, Flaw::NotCacheInfo) => "not-a-cache",
                (_, Flaw::OtherStore) => "other-store",
            },
            Self::LinkLocal(_) => "link-local",
            Self::Useless(candidate) => {
                if is_nobody(candidate.remote.ip()) {
                    "unusable-address"
                } else {
                    "public-address"
                }
            }
            Self::SweepLimit(..) => "sweep-limit",
            Self::Portal(..) => "captive-portal",
            Self::Budget => "budget",
            Self::SilentServer(_) => "dns-silent",
            Self::FailingServer(_) => "dns-failed",
            Self::QemuHost => "qemu-host",
            Self::Isolated => "isolated",
            Self::Unknown => "name-unknown",
            Self::NoNetwork => "no-network",
        }
    }

    /// The address that it is about.
    #[inline(never)]
    pub(super) const fn remote(self) -> Option<SocketAddr> {
        match self {
            Self::NotACache(candidate, _)
            | Self::Portal(candidate, _)
            | Self::LinkLocal(candidate)
            | Self::Useless(candidate) => Some(candidate.remote),
            Self::SilentServer(server) | Self::FailingServer(server) => Some(server),
            _ => None,
        }
    }

    /// The HTTP status that it is about.
    pub(super) const fn status(self) -> Option<u16> {
        match self {
            Self::NotACache(_, Flaw::Status(status)) | Self::Portal(_, status) => Some(status),
            _ => None,
        }
    }
}

/// Whether somebody says of the name that it is there.
pub(super) const fn is_said(origin: Origin) -> bool {
    matches!(origin, Origin::Hosts | Origin::Dns | Origin::Mdns)
}

/// Whether no other host has the address: so answers a DNS server that blocks a name.
#[inline(never)]
pub(super) const fn is_nobody(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

/// How much what is wrong with a candidate explains, the most first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The user's own order.
    Ordered,
    /// Who has the name is a private cache.
    Private,
    /// Who has the name answers otherwise.
    NamedAnswer,
    /// Who has the name has nothing on the port.
    NamedClosed,
    /// Who has the name does not answer.
    NamedSilence,
    /// A private cache, or somebody else with a password.
    PrivateStranger,
    /// A server that is asked wrongly.
    OtherStatus,
    /// Somebody sends us elsewhere. From here on an address that is of no use explains more, and so does
    /// that not all were asked.
    Redirect,
    /// Another kind of server.
    OtherServer,
    /// What an earlier run chose is gone.
    Gone,
    /// That somebody near is no cache explains nothing.
    Dull,
}

/// How much what is wrong with a candidate explains, where all that have answered sent us elsewhere, or
/// not.
fn rank(asked: &Asked, is_portal: bool) -> Rank {
    let origin = asked.source;
    let is_said = is_said(origin);
    let Some(flaw) = asked.told_flaw() else { return Rank::Dull };
    match flaw {
        _ if origin == Origin::Override => Rank::Ordered,
        Flaw::Status(401 | 403) if is_said => Rank::Private,
        _ if asked.is_redirect() && (is_portal || !is_said) => Rank::Redirect,
        Flaw::Refused if is_said => Rank::NamedClosed,
        _ if is_said && flaw.is_silence() => Rank::NamedSilence,
        _ if is_said => Rank::NamedAnswer,
        // A gateway has pages of its own, most with a password.
        Flaw::Status(401 | 403) if origin != Origin::Gateway => Rank::PrivateStranger,
        Flaw::Status(_) => Rank::OtherStatus,
        _ if origin == Origin::Previous => Rank::Gone,
        Flaw::Unreachable | Flaw::Refused | Flaw::NoConnection => Rank::Dull,
        _ => Rank::OtherServer,
    }
}

/// Whether no host but the gateway was seen, on a network that was swept.
fn is_isolated(account: &Account, network: &Network) -> bool {
    let is_gateway = |asked: &Asked| {
        network.gateways.iter().any(|gateway| gateway.ip() == asked.candidate.remote.ip())
    };
    account.sweep.is_some_and(|sweep| sweep.sent != 0)
        && account.hosts() == 1
        && account.asked.iter().any(is_gateway)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::super::sentence::split;
    use super::*;
    use crate::cli::{Command, Environment, parse};
    use crate::facts::Interface;
    use crate::model::{Methods, Note, Probe, Verdict};
    use crate::path::{PathId, Paths};
    use crate::wire::netlink::Link;

    /// A host of the LAN; 1 is its gateway and its DNS server.
    fn at(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 77, 0, host], 9999))
    }

    fn dns(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 77, 0, host], 53))
    }

    /// A host that is no cache.
    fn no(origin: Origin, host: u8, flaw: Flaw) -> Note {
        Note::Judged(Candidate::new(origin, at(host)), Verdict::NotACache(flaw))
    }

    /// One that answers so.
    fn says(origin: Origin, host: u8, status: u16) -> Note {
        no(origin, host, Flaw::Status(status))
    }

    /// Somebody says that the cache has this address.
    fn named(address: [u8; 4]) -> Note {
        Note::NotPrivate(Candidate::heard(Origin::Dns, (address, 9999).into(), dns(1).ip()))
    }

    fn swept(sent: u32, addresses: u32) -> [Note; 2] {
        let time = std::time::Duration::ZERO;
        [Note::Sweeps { probe: Probe::Arp, addresses }, Note::Swept { sent, time }]
    }

    /// A cache on the link alone.
    fn link_local() -> Note {
        let remote = "[fe80::1]:9999".parse().unwrap();
        Note::OnlyLinkLocal(Candidate::new(Origin::Mdns, remote))
    }

    /// A candidate of an announcement, with a path of its own.
    fn elsewhere(status: u16) -> Note {
        let path = Paths::new("/system".to_owned()).add(b"/nix").unwrap();
        let candidate = Candidate { path, ..Candidate::new(Origin::Announced, at(141)) };
        assert_ne!(path, PathId::CONFIGURED);
        Note::Judged(candidate, Verdict::NotACache(Flaw::Status(status)))
    }

    fn network() -> Network {
        let gateways = vec![SocketAddr::from(([10, 77, 0, 1], 0))];
        Network { gateways, nameservers: vec![dns(1), dns(2)], ..Network::default() }
    }

    /// The cause of how a run has ended in which this happened, and what is said of it.
    fn tell(
        notes: &[Note],
        options: &str,
        network: &Network,
        outcome: Outcome,
    ) -> (Cause, &'static str, String) {
        let words = options.split_whitespace().map(Into::into);
        let Command::Run(config) = parse(words, &Environment::default()).unwrap() else {
            unreachable!()
        };
        let mut account = Account::new(Methods::all(), false);
        for note in notes {
            account.take(Elapsed::START, note);
        }
        let story = Story {
            config: &config,
            order_place: "/etc/order",
            account: &account,
            network,
            outcome,
            ended_at: Elapsed::from_micros(3_200_000),
        };
        let cause = Cause::of(&story);
        let description = cause.describe(&story);
        let (what, remedy) = split(&description);
        let text = if remedy.is_empty() { what.to_owned() } else { [what, ": ", remedy].concat() };
        (cause, cause.code(), text)
    }

    /// What is said of a run that has found nothing.
    fn nothing(notes: &[Note], options: &str) -> String {
        tell(notes, options, &network(), Outcome::NotFound).2
    }

    /// What must be said where this happened; each word in capitals stands for more.
    fn check(rows: &[(&[Note], &str)]) {
        let mut wrong = String::new();
        for (notes, expected) in rows {
            let mut expected = (*expected).to_owned();
            for (word, words) in WORDS {
                expected = expected.replace(word, words);
            }
            let said = nothing(notes, "");
            if said != expected {
                let _ = writeln!(wrong, "{notes:?}\n  said     {said}\n  expected {expected}");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    const WORDS: [(&str, &str); 9] = [
        ("ORDER", "override 10.77.0.200:9999 (/etc/order)"),
        ("CACHE", "10.77.0.141:9999"),
        ("CLOSED", "port 9999 is closed there: start the cache, or check --port"),
        ("SILENT", "does not answer: is it switched on, and its firewall open?"),
        ("PUBLIC", "make the cache public (attic cache configure system --public)"),
        ("LOST", "answers HTTP 404 to /system/nix-cache-info: check --path"),
        (
            "NO SERVER",
            "none with port 9999 open: check the DNS server, or add the cache to /etc/hosts",
        ),
        ("NONE", "none with port 9999 open: is the cache on another network?"),
        ("NOBODY", "no other host seen: is the cache on another network?"),
    ];

    #[test]
    fn an_order_is_blamed_whatever_is_wrong_with_it() {
        use Flaw::{NoAnswer, NoConnection, Refused, Unreachable};
        use Origin::Override;
        check(&[
            (&[no(Override, 200, NoConnection)], "ORDER does not answer: correct or remove it"),
            (&[no(Override, 200, Unreachable)], "ORDER does not answer: correct or remove it"),
            (&[no(Override, 200, Refused)], "ORDER does not answer: correct or remove it"),
            (
                &[no(Override, 200, NoAnswer)],
                "ORDER accepts connections, but timed out: see the cache's log",
            ),
            (&[says(Override, 200, 401)], "ORDER answers HTTP 401: PUBLIC"),
            (&[says(Override, 200, 302)], "ORDER answers HTTP 302: check --port and --path"),
            (&[says(Override, 200, 404)], "ORDER LOST"),
            (&[Note::Started(Override)], "override none (/etc/order): remove it to search"),
        ]);
    }

    #[test]
    fn who_has_the_name_is_named_with_what_is_wrong() {
        use Flaw::{
            Broken, NoAnswer, NoConnection, NotCacheInfo, OtherStore, Refused, Unreachable,
        };
        use Origin::{Dns, Hosts, Mdns};
        check(&[
            (&[no(Dns, 141, Refused)], "dns names 10.77.0.141; CLOSED"),
            (&[no(Hosts, 141, Refused)], "/etc/hosts names 10.77.0.141; CLOSED"),
            (&[no(Dns, 141, NoConnection)], "CACHE (named by dns) SILENT"),
            (
                &[no(Mdns, 141, Unreachable)],
                "CACHE (named by mdns) cannot be reached: is it switched on, and is there a route to it?",
            ),
            (&[Note::Added(Candidate::new(Dns, at(141)))], "CACHE (named by dns) SILENT"),
            (
                &[no(Dns, 141, NoAnswer)],
                "CACHE (named by dns) accepts connections, but timed out: see the cache's log",
            ),
            (
                &[no(Dns, 141, Broken)],
                "CACHE (named by dns) closes the connection without an answer: see the cache's log",
            ),
            (
                &[no(Hosts, 141, NotCacheInfo)],
                "CACHE (named by /etc/hosts) is not a Nix cache: check --port and --path",
            ),
            (
                &[no(Dns, 141, OtherStore)],
                "CACHE (named by dns) is a Nix cache for another store than /nix/store: \
                 is it the right one?",
            ),
            (
                &[says(Dns, 141, 400)],
                "CACHE (named by dns) answers HTTP 400: allow its address or name (attic: allowed-hosts); is it for TLS?",
            ),
            (&[says(Dns, 141, 404)], "CACHE LOST"),
            // Of two addresses the one that says most.
            (&[no(Dns, 5, NoConnection), no(Dns, 141, Refused)], "dns names 10.77.0.141; CLOSED"),
            (&[no(Dns, 5, Refused), says(Dns, 141, 404)], "CACHE LOST"),
        ]);
    }

    #[test]
    fn a_private_cache_is_named_whoever_led_there() {
        use Flaw::NoConnection;
        use Origin::{Dns, Gateway, Neighbours, Ping, Previous, Sweep};
        check(&[
            (&[says(Sweep, 141, 401)], "CACHE (found by the sweep) answers HTTP 401: PUBLIC"),
            (&[says(Ping, 141, 403)], "CACHE (found by ping) answers HTTP 403: PUBLIC"),
            (&[says(Gateway, 141, 401)], "CACHE (the gateway) answers HTTP 401: PUBLIC"),
            (&[says(Neighbours, 141, 401)], "CACHE (a neighbour) answers HTTP 401: PUBLIC"),
            (&[says(Previous, 141, 401)], "CACHE (chosen before) answers HTTP 401: PUBLIC"),
            // The pages of a router.
            (
                &[says(Gateway, 1, 401), no(Dns, 141, NoConnection)],
                "CACHE (named by dns) does not answer: is it switched on, and its firewall open?",
            ),
            (&[elsewhere(401)], "CACHE (announced) answers HTTP 401: make the cache public"),
            // A printer, too.
            (
                &[says(Sweep, 5, 401), no(Dns, 141, NoConnection)],
                "CACHE (named by dns) does not answer: is it switched on, and its firewall open?",
            ),
            (&[says(Dns, 141, 404), says(Sweep, 5, 401)], "CACHE LOST"),
            (
                &[says(Sweep, 141, 401), says(Sweep, 5, 404)],
                "CACHE (found by the sweep) answers HTTP 401: PUBLIC",
            ),
            // It has answered once, and is silent when asked because it has the name.
            (
                &[says(Sweep, 141, 401), no(Dns, 141, NoConnection)],
                "CACHE (named by dns) answers HTTP 401: PUBLIC",
            ),
        ]);
        for path in ["/", "/a/b"] {
            let said = nothing(&[says(Sweep, 141, 401)], &["--path ", path].concat());
            assert!(said.ends_with("answers HTTP 401: make the cache public"), "{said}");
        }
    }

    #[test]
    fn a_portal_answers_everybody_alike() {
        use Flaw::{NotCacheInfo, Refused};
        use Origin::{Dns, Gateway, Sweep};
        let redirect = says(Gateway, 1, 302);
        check(&[
            (
                &[redirect, says(Dns, 141, 307), no(Sweep, 5, Refused)],
                "every answer was a redirect (HTTP 302 from 10.77.0.1:9999): \
                 a captive portal? log in there first",
            ),
            (
                &[redirect, no(Sweep, 141, NotCacheInfo)],
                "10.77.0.1:9999 (the gateway) answers HTTP 302: check --port and --path",
            ),
            (
                &[redirect, says(Sweep, 141, 500)],
                "CACHE (found by the sweep) answers HTTP 500: see the cache's log",
            ),
            (
                &[redirect, says(Sweep, 141, 401)],
                "CACHE (found by the sweep) answers HTTP 401: PUBLIC",
            ),
            (&[redirect, says(Dns, 141, 404)], "CACHE LOST"),
        ]);
    }

    #[test]
    fn servers_and_addresses_of_no_use_are_told() {
        use Flaw::{NoConnection, NotCacheInfo};
        use Origin::{Previous, Sweep};
        check(&[
            (&[says(Sweep, 141, 404)], "CACHE LOST"),
            (&[elsewhere(404)], "CACHE (announced) answers HTTP 404: see the cache's log"),
            (
                &[link_local()],
                "[fe80::1]:9999 answers only at a link-local address, which Nix cannot use: \
                 give it an IPv4 or ULA address",
            ),
            (
                &[named([93, 184, 216, 34])],
                "dns names 93.184.216.34, no private address: to allow it, add it to /etc/hosts",
            ),
            // What a server says that blocks the name.
            (
                &[named([0, 0, 0, 0])],
                "dns names 0.0.0.0, which is no other host: is the name blocked? add the cache to /etc/hosts",
            ),
            (
                &[named([127, 0, 1, 1])],
                "dns names 127.0.1.1, which is no other host: is the name blocked? add the cache to /etc/hosts",
            ),
            (&[named([169, 254, 3, 4])], "name unknown; NOBODY"),
            (
                &[no(Sweep, 141, NotCacheInfo)],
                "CACHE (found by the sweep) is not a Nix cache: check --port and --path",
            ),
            (&[no(Previous, 141, NoConnection)], "CACHE (chosen before) SILENT"),
            (
                &[no(Previous, 141, Flaw::Refused)],
                "CACHE (chosen before) refuses connections: start the cache, or check --port",
            ),
        ]);
    }

    #[test]
    fn who_was_not_asked_or_is_not_there() {
        use Flaw::Refused;
        use Origin::{Gateway, Sweep};
        let part = swept(300, 65533);
        let limit = swept(1022, 65533);
        let short = swept(100, 254);
        let (all, nobody) = (swept(254, 254), swept(0, 0));
        let [asked, other, stranger] = [1, 2, 9].map(|host| Note::AskedServer(dns(host)));
        let denied = |denial| Note::ServerSaid(dns(1), Some(denial));
        let host = no(Sweep, 5, Refused);
        let gateway = no(Gateway, 1, Refused);
        check(&[
            (&limit, "asked 1,022 of 65,533 addresses: name the part where it is, --sweep CIDR"),
            (
                &[part[0], part[1], Note::BudgetSpent],
                "asked 300 of 65,533 addresses: name the part where it is, --sweep CIDR",
            ),
            (
                &[short[0], short[1], Note::BudgetSpent],
                "the time was up before all had answered: raise --budget",
            ),
            // With a DNS server that answers nobody would have to be swept.
            (&[limit[0], limit[1], asked], "DNS 10.77.0.1 does not answer; 0 hosts, NO SERVER"),
            (
                &[asked, Note::Added(Candidate::new(Sweep, at(5))), Note::BudgetSpent],
                "DNS 10.77.0.1 does not answer: check the DNS server, or add the cache to /etc/hosts",
            ),
            (
                &[limit[0], limit[1], asked, denied(Denial::NoSuchName), other],
                "asked 1,022 of 65,533 addresses: name the part where it is, --sweep CIDR",
            ),
            (
                &[limit[0], limit[1], asked, no(Sweep, 141, Flaw::OtherStore)],
                "asked 1,022 of 65,533 addresses: name the part where it is, --sweep CIDR",
            ),
            (&all, "name unknown; NOBODY"),
            // Servers that are guessed, and those that have spoken, are not to blame.
            (
                &[asked, host, no(Sweep, 6, Refused)],
                "DNS 10.77.0.1 does not answer; 2 hosts, NO SERVER",
            ),
            (
                &[asked, denied(Denial::Unreachable), host],
                "DNS 10.77.0.1 does not answer; 1 host, NO SERVER",
            ),
            (
                &[asked, other, denied(Denial::NoSuchName)],
                "DNS 10.77.0.2 does not answer; 0 hosts, NO SERVER",
            ),
            (&[stranger], "name unknown; NOBODY"),
            (
                &[asked, denied(Denial::Failed)],
                "DNS 10.77.0.1 refuses, or has failed; 0 hosts, none with port 9999 open: check the DNS server, or add the cache to /etc/hosts",
            ),
            (
                &[all[0], all[1], gateway],
                "only the gateway is visible: a guest network that keeps its clients apart?",
            ),
            // An address with a network of its own: nobody was asked.
            (&[nobody[0], nobody[1], gateway], "name unknown; 1 host, NONE"),
            (&[all[0], all[1], gateway, host], "name unknown; 2 hosts, NONE"),
            (&[all[0], all[1], host], "name unknown; 1 host, NONE"),
            (&[gateway], "name unknown; 1 host, NONE"),
            (&[], "name unknown; NOBODY"),
        ]);
    }

    #[test]
    fn a_dns_server_has_time_to_answer() {
        for (millis, outcome, code) in [
            (799, Outcome::NotFound, "budget"),
            (800, Outcome::NotFound, "dns-silent"),
            (9000, Outcome::NoNetwork, "no-network"),
        ] {
            let Command::Run(config) = parse([], &Environment::default()).unwrap() else {
                unreachable!()
            };
            let mut account = Account::new(Methods::all(), false);
            account.take(Elapsed::START, &Note::AskedServer(dns(1)));
            account.take(Elapsed::START, &Note::BudgetSpent);
            let mut network = network();
            network.interfaces =
                crate::facts::test_networks::network(0x11043, "10.77.0.50", 24).interfaces;
            let story = Story {
                config: &config,
                order_place: "",
                account: &account,
                network: &network,
                outcome,
                ended_at: Elapsed::from_micros(millis * 1000),
            };
            assert_eq!(Cause::of(&story).code(), code, "{millis} {outcome:?}");
        }
    }

    /// Each with the code of its cause, the first that applies first: of any two the first is told.
    #[test]
    fn the_first_that_applies_is_told() {
        let order: [(&str, Vec<Note>); 15] = [
            ("http-status", vec![says(Origin::Dns, 140, 401)]),
            ("port-closed", vec![no(Origin::Dns, 142, Flaw::Refused)]),
            ("http-status", vec![says(Origin::Sweep, 141, 401)]),
            ("http-status", vec![says(Origin::Sweep, 143, 404)]),
            ("link-local", vec![link_local()]),
            ("captive-portal", vec![says(Origin::Sweep, 144, 302)]),
            ("public-address", vec![named([93, 184, 216, 34])]),
            ("dns-silent", vec![Note::AskedServer(dns(1))]),
            ("sweep-limit", swept(1022, 65533).to_vec()),
            ("other-store", vec![no(Origin::Sweep, 145, Flaw::OtherStore)]),
            ("gone", vec![no(Origin::Previous, 146, Flaw::NoConnection)]),
            ("budget", vec![Note::BudgetSpent]),
            // One of two.
            (
                "dns-silent",
                vec![
                    Note::AskedServer(dns(1)),
                    Note::AskedServer(dns(2)),
                    Note::ServerSaid(dns(2), Some(Denial::NoSuchName)),
                ],
            ),
            (
                "isolated",
                [swept(9, 9).as_slice(), &[no(Origin::Gateway, 1, Flaw::Refused)]].concat(),
            ),
            ("name-unknown", vec![]),
        ];
        let told = |notes: &[Note]| {
            let (cause, code, text) = tell(notes, "", &network(), Outcome::NotFound);
            (code, cause.remote(), text)
        };
        for (index, (code, first)) in order.iter().enumerate() {
            let alone = told(first);
            assert_eq!(alone.0, *code, "{alone:?}");
            for (later, second) in &order[index + 1..] {
                // A search sweeps once.
                if (*code, *later) == ("sweep-limit", "isolated") {
                    continue;
                }
                // Who answered, or has done so before, explains more than DNS, but less than the limit.
                if *code == "dns-silent" && ["other-store", "gone"].contains(later) {
                    continue;
                }
                for notes in [[&first[..], second].concat(), [&second[..], first].concat()] {
                    // Where another has answered, a redirect is no portal's.
                    let is_both = (*code, *later) == ("captive-portal", "other-store");
                    let both = told(&notes);
                    let code = if is_both { "http-status" } else { code };
                    assert_eq!((both.0, both.1), (code, alone.1), "{code} {later}: {}", both.2);
                }
            }
        }
    }

    #[test]
    fn other_ends_have_causes_of_their_own() {
        let found = |origin, host| {
            let path = PathId::CONFIGURED;
            let found = crate::model::Found { remote: at(host), path, origin, by_name: false };
            tell(&[], "", &network(), Outcome::Found(found)).2
        };
        for (origin, expected) in [
            (Origin::Override, "override 10.77.0.141:9999 (/etc/order)"),
            (Origin::Previous, "10.77.0.141:9999 (chosen before) is still there"),
            (Origin::Hosts, "/etc/hosts names 10.77.0.141"),
            (Origin::Dns, "dns names 10.77.0.141"),
            (Origin::Mdns, "mdns names 10.77.0.141"),
            (Origin::Gateway, "10.77.0.141:9999 (the gateway); no cache has the name"),
            (Origin::Sweep, "10.77.0.141:9999 (found by the sweep); no cache has the name"),
        ] {
            assert_eq!(found(origin, 141), expected);
        }
        let link = |name: &str, index, flags| {
            let mut letters = [0; 16];
            letters[..name.len()].copy_from_slice(name.as_bytes());
            let (kind, master) = (crate::wire::netlink::LinkKind::Hardware, 0);
            let link = Link {
                name: letters,
                index,
                flags,
                kind,
                master,
                hardware_type: 1,
                hardware_address: None,
                carrier_changes: 0,
            };
            Interface { link, addresses: Vec::new(), is_wireless: false }
        };
        let mut network = Network::default();
        let none =
            |network: &Network, notes: &[Note]| tell(notes, "", network, Outcome::NoNetwork).2;
        assert_eq!(none(&network, &[]), "no usable network in 3.2 s: there is no interface");
        network.interfaces =
            vec![link("eth0", 2, 0x1003), link("wlan0", 3, 0x11043), link("eth1", 4, 0)];
        let said =
            "no usable network in 3.2 s: eth0 has no carrier, wlan0 has no address, eth1 is down";
        // Nothing else is to blame, whatever could not be reached.
        assert_eq!(none(&network, &[no(Origin::Dns, 141, Flaw::Unreachable)]), said);
        network.interfaces[1].addresses = vec![([10, 77, 0, 50].into(), 24)];
        let said = "the network came up too late to search it: run it again, or raise --budget";
        assert_eq!(none(&network, &[]), said);
        assert_eq!(tell(&[], "", &network, Outcome::Interrupted).2, "a signal");
    }

    #[test]
    fn only_what_can_be_mended_is_a_problem() {
        for (note, expected) in [
            (no(Origin::Dns, 141, Flaw::Refused), true),
            (says(Origin::Sweep, 141, 401), true),
            (says(Origin::Previous, 141, 401), true),
            (says(Origin::Gateway, 1, 302), true),
            (link_local(), true),
            (named([93, 184, 216, 34]), true),
            (no(Origin::Sweep, 141, Flaw::NotCacheInfo), false),
            (no(Origin::Previous, 141, Flaw::NoConnection), false),
            (Note::AskedServer(dns(1)), false),
        ] {
            let (cause, ..) = tell(&[note], "", &network(), Outcome::NotFound);
            assert_eq!(cause.is_problem(), expected, "{note:?}");
        }
    }
}
