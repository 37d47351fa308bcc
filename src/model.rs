//! The values that move through the search: facts → candidates → verdicts → outcome.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::address::Family;
use crate::path::PathId;
use crate::wire::dns::Denial;

/// Where an address is known from; the order is the order of trust, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Origin {
    /// The user said so; nothing else is tried.
    Override,
    /// An earlier run of this boot chose it.
    Previous,
    /// The hosts file.
    Hosts,
    /// Unicast DNS.
    Dns,
    /// Multicast DNS.
    Mdns,
    /// An announcement of a service.
    Announced,
    /// A default gateway.
    Gateway,
    /// The kernel's table of neighbours.
    Neighbours,
    /// An answer to a ping of everybody.
    Ping,
    /// An answer to the sweep of our own networks.
    Sweep,
}

impl Origin {
    /// All of them, in the order of trust.
    pub const ALL: [Self; 10] = [
        Self::Override,
        Self::Previous,
        Self::Hosts,
        Self::Dns,
        Self::Mdns,
        Self::Announced,
        Self::Gateway,
        Self::Neighbours,
        Self::Ping,
        Self::Sweep,
    ];

    /// The methods that `--methods` chooses from, in the order of trust.
    pub const METHODS: [Self; 9] = {
        let [Self::Override, methods @ ..] = Self::ALL else { unreachable!() };
        methods
    };

    /// The word for it in `--methods`, logs and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Previous => "previous",
            Self::Hosts => "hosts",
            Self::Dns => "dns",
            Self::Mdns => "mdns",
            Self::Announced => "announced",
            Self::Gateway => "gateway",
            Self::Neighbours => "neighbours",
            Self::Ping => "ping",
            Self::Sweep => "sweep",
        }
    }

    /// Whether somebody says that the cache is there. The others only say that a host is: *weak*
    /// candidates.
    #[must_use]
    pub const fn is_named(self) -> bool {
        (self as u8) <= Self::Mdns as u8
    }

    /// Who may be asked because of it. The user may name any address; of those that know the name any
    /// private one is believed, of the others only hosts on our LANs; and a sweep asks nobody
    /// else anyhow but those that the user has named.
    #[must_use]
    pub const fn reach(self) -> Reach {
        match self {
            Self::Override | Self::Previous | Self::Hosts | Self::Sweep => Reach::Anywhere,
            Self::Dns | Self::Mdns | Self::Announced => Reach::Private,
            Self::Gateway | Self::Neighbours | Self::Ping => Reach::OnLan,
        }
    }

    /// Whether the address came from another machine, which may lie about it.
    #[must_use]
    pub const fn is_hearsay(self) -> bool {
        matches!(self, Self::Dns | Self::Mdns | Self::Announced)
    }
}

/// How far away a host may be to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Wherever it is.
    Anywhere,
    /// In a private network, or on our links.
    Private,
    /// On a LAN of ours, in a private network.
    OnLan,
}

/// A set of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u16);

impl Methods {
    /// No method.
    pub const NONE: Self = Self(0);

    /// Every method but the one that must be asked for, since it asks for more than the cache that is
    /// configured.
    #[must_use]
    pub fn all() -> Self {
        Origin::METHODS.into_iter().fold(Self::NONE, Self::with).without(Origin::Announced)
    }

    /// This set and one more.
    #[must_use]
    pub const fn with(self, method: Origin) -> Self {
        Self(self.0 | 1 << method as u16)
    }

    /// This set and one less.
    #[must_use]
    pub const fn without(self, method: Origin) -> Self {
        Self(self.0 & !(1 << method as u16))
    }

    /// Those of the set that know the cache by its name, or by what it is.
    #[must_use]
    pub fn named(self) -> Self {
        let is_here = |method: &Origin| *method <= Origin::Announced && self.contains(*method);
        Origin::METHODS.into_iter().filter(is_here).fold(Self::NONE, Self::with)
    }

    /// Whether `method` is in the set.
    #[must_use]
    pub const fn contains(self, method: Origin) -> bool {
        self.0 & (1 << method as u16) != 0
    }
}

/// Someone says that the cache may be at this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is known from.
    pub origin: Origin,
    /// Address, port and, for link-local IPv6, scope.
    pub remote: SocketAddr,
    /// Its path on that server.
    pub path: PathId,
    /// The machine that said so; `None` where this host knows it by itself.
    pub speaker: Option<IpAddr>,
    /// Whether Nix, which asks the same source, gets this address for the name `--host`, and so can
    /// use that name in its place.
    pub has_name: bool,
}

impl Candidate {
    /// What this host knows by itself of `remote`, at the configured path.
    #[must_use]
    pub const fn new(origin: Origin, remote: SocketAddr) -> Self {
        let (path, has_name) = (PathId::CONFIGURED, matches!(origin, Origin::Hosts));
        Self { origin, remote, path, speaker: None, has_name }
    }

    /// What the machine `speaker` says of `remote`, at the configured path.
    #[must_use]
    pub const fn heard(origin: Origin, remote: SocketAddr, speaker: IpAddr) -> Self {
        let path = PathId::CONFIGURED;
        Self { origin, remote, path, speaker: Some(speaker), has_name: false }
    }

    /// Whether both are the same cache: one server may have several.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.remote, self.path) == (other.remote, other.path)
    }
}

/// What the verification of one candidate came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a Nix binary cache for `/nix/store`.
    Cache,
    /// It is not, and this is why.
    NotACache(Flaw),
}

impl Verdict {
    /// Whether nobody there accepts connections.
    #[must_use]
    pub const fn is_nobody(self) -> bool {
        matches!(self, Self::NotACache(Flaw::NoConnection | Flaw::Unreachable | Flaw::Refused))
    }
}

/// What is wrong with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No route leads there, or nobody has the address.
    Unreachable,
    /// A host, but nothing listens on the port.
    Refused,
    /// The connection broke before the answer was whole.
    Broken,
    /// No connection within the time.
    NoConnection,
    /// A connection, but no whole answer within the time.
    NoAnswer,
    /// An HTTP status other than 200.
    Status(u16),
    /// An answer that is not HTTP, or not a nix-cache-info file, or too long.
    NotCacheInfo,
    /// A Nix cache, but not for `/nix/store`.
    OtherStore,
}

impl Flaw {
    /// Whether the host has said nothing, or not all of it: later it may.
    #[must_use]
    pub const fn is_silence(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Refused | Self::Broken | Self::NoConnection | Self::NoAnswer
        )
    }

    /// Whether a server that was called by its address may answer otherwise to its name: it refuses,
    /// hangs up, redirects, or shows what another virtual host of it has.
    #[must_use]
    pub const fn may_want_name(self) -> bool {
        matches!(self, Self::Status(_) | Self::NotCacheInfo | Self::OtherStore | Self::Broken)
    }
}

/// How a search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A verified cache.
    Found(Found),
    /// Everybody asked has had their say, or the time is up: there is none.
    NotFound,
    /// No network came up, or too late to search it.
    NoNetwork,
    /// A signal asked us to stop.
    Interrupted,
}

/// The verified cache and how it is to be addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it answered.
    pub remote: SocketAddr,
    /// Its path.
    pub path: PathId,
    /// Who led us there.
    pub origin: Origin,
    /// Whether it insists on being called by name instead of by address.
    pub by_name: bool,
}

/// Something worth telling, for the log and `--explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The network is up, with so many interfaces.
    NetworkUp(usize),
    /// A method has begun.
    Started(Origin),
    /// The group was asked on this interface.
    AskedLink(u32, Family),
    /// A DNS server was asked.
    AskedServer(SocketAddr),
    /// A DNS server has given addresses, or none, and this is why.
    ServerSaid(SocketAddr, Option<Denial>),
    /// A candidate that is new.
    Added(Candidate),
    /// A candidate at an address that is neither private nor on-link.
    NotPrivate(Candidate),
    /// A cache answers at a link-local address; the host's other addresses are looked for.
    LinkLocal(Candidate),
    /// The search has ended, and a link-local address is all that it found.
    OnlyLinkLocal(Candidate),
    /// A candidate has been judged.
    Judged(Candidate, Verdict),
    /// This machine announces a service that is not used, and why.
    Unusable(IpAddr, Unusable),
    /// The server refused its address; it is asked again by its name.
    AskedByName(SocketAddr),
    /// A method has nothing more to say.
    Finished(Origin),
    /// The sweep begins: how, and how many addresses it may ask.
    Sweeps {
        /// How it asks.
        probe: Probe,
        /// How many there are to ask, were there no limit.
        addresses: u32,
    },
    /// How far the sweep came.
    Swept {
        /// How many it asked.
        sent: u32,
        /// How long that took.
        time: Duration,
    },
    /// A weak candidate is a cache; those that know its name may still name another.
    Held(Candidate),
    /// The winner's origin.
    Chosen(Origin),
    /// The time is up.
    BudgetSpent,
}

impl Note {
    /// Whether it is worth a line: not that nobody has one of the addresses of a sweep.
    #[must_use]
    pub const fn is_worth_telling(&self) -> bool {
        match self {
            Self::Judged(candidate, verdict) => {
                !matches!(candidate.origin, Origin::Sweep) || !verdict.is_nobody()
            }
            _ => true,
        }
    }
}

/// Why an announced service is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is a web server that does not say that it is a cache.
    NoCache,
    /// Its path is not a plain one, or there are too many.
    Path,
    /// It has no host or no port.
    Nowhere,
}

/// How an address is asked whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// An ARP request through the packet socket; networks that are not on-link are connected to.
    Arp,
    /// A TCP connection.
    Connect,
}
