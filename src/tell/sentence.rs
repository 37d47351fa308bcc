//! What is said of a cause: one sentence and, on a second line, what to do about it.

use super::cause::{Cause, Story, is_nobody, is_said};
use super::template::Values;
use crate::address::is_link_local;
use crate::facts::Network;
use crate::model::{Candidate, Flaw, Origin, Outcome};
use crate::path::PathId;
use crate::text::Text;

/// Interfaces named that are of no use; who has more knows.
const USELESS_MAX: usize = 4;

/// Who has the name, and the address that he gives.
const NAMES: &str = "%w names %a";

impl Cause {
    /// The cause in words and, on a second line, what to do about it, if anything is.
    #[must_use]
    pub fn describe(self, story: &Story) -> Text {
        let Story { config, account, network, .. } = *story;
        let mut values = Values {
            number: self.status().map_or(account.hosts(), Into::into),
            other: config.port.into(),
            time: story.ended_at,
            file: story.order_place,
            ..Values::NONE
        };
        if let Some(remote) = self.remote() {
            values.remote = remote;
        }
        let mut who = "";
        let what = match self {
            Self::Found(origin) => {
                if let Outcome::Found(found) = story.outcome {
                    values.remote = found.remote;
                }
                values.words = source(origin);
                who = if is_said(origin) { NAMES } else { introduce(origin) };
                match origin {
                    Origin::Previous => " is still there",
                    _ if origin.is_named() => "",
                    _ => "; no cache has the name",
                }
            }
            Self::Stopped => "a signal",
            Self::OrderedNone => "override none (%f)\nremove it to search",
            Self::NotACache(Candidate { origin, path, .. }, flaw) => {
                values.words = source(origin);
                if path == PathId::CONFIGURED {
                    values.path = &config.path;
                }
                who = match flaw {
                    Flaw::Refused if is_said(origin) => NAMES,
                    Flaw::Status(404) if !values.path.is_empty() && origin != Origin::Override => {
                        "%r"
                    }
                    _ => introduce(origin),
                };
                describe_flaw(origin, flaw, &mut values)
            }
            Self::LinkLocal(_) => {
                "%r answers only at a link-local address, which Nix cannot use\n\
                 give it an IPv4 or ULA address"
            }
            Self::Useless(candidate) => {
                values.words = source(candidate.origin);
                who = NAMES;
                if is_nobody(candidate.remote.ip()) {
                    ", which is no other host\nis the name blocked? add the cache to /etc/hosts"
                } else {
                    ", no private address\nto allow it, add it to /etc/hosts"
                }
            }
            Self::SweepLimit(sent, addresses) => {
                (values.number, values.other) = (sent, addresses);
                "asked %n of %m addresses\nname the part where it is, --sweep CIDR"
            }
            Self::Portal(..) => {
                "every answer was a redirect (HTTP %n from %r)\na captive portal? log in there first"
            }
            Self::Budget => "the time was up before all had answered\nraise --budget",
            Self::SilentServer(_) | Self::FailingServer(_) => {
                who = match self {
                    // Not all have had their say.
                    _ if account.is_cut_short => "DNS %a does not answer",
                    Self::SilentServer(_) => {
                        "DNS %a does not answer; %n host%s, none with port %d open"
                    }
                    _ => "DNS %a refuses, or has failed; %n host%s, none with port %d open",
                };
                "\ncheck the DNS server, or add the cache to /etc/hosts"
            }
            Self::QemuHost => {
                "QEMU's host has nothing on port %d\nstart the cache there, or forward the port"
            }
            Self::Isolated => {
                "only the gateway is visible\na guest network that keeps its clients apart?"
            }
            Self::Unknown if values.number == 0 => {
                "name unknown; no other host seen\nis the cache on another network?"
            }
            Self::Unknown => {
                "name unknown; %n host%s, none with port %d open\nis the cache on another network?"
            }
            Self::NoNetwork if network.is_up() => {
                "the network came up too late to search it\nrun it again, or raise --budget"
            }
            Self::NoNetwork => "no usable network in %t: ",
        };
        let mut text = Text::default();
        text.fill(who, &values).fill(what, &values);
        if self == Self::NoNetwork && !network.is_up() {
            describe_links(network, &mut text);
        }
        text
    }
}

/// Both parts of a description: what it is, and what to do about it.
pub(super) fn split(description: &Text) -> (&str, &str) {
    let text = &description.0;
    let end = text.bytes().rposition(|byte| byte == b'\n').unwrap_or(text.len());
    (text.get(..end).unwrap_or_default(), text.get(end + 1..).unwrap_or_default())
}

/// How a cause begins that is about a host.
const fn introduce(origin: Origin) -> &'static str {
    match origin {
        Origin::Override => "override %r (%f)",
        _ if is_said(origin) => "%r (named by %w)",
        _ => "%r (%w)",
    }
}

/// Where a host is known from, in words.
const fn source(origin: Origin) -> &'static str {
    match origin {
        Origin::Previous => "chosen before",
        Origin::Hosts => "/etc/hosts",
        Origin::Gateway => "the gateway",
        Origin::Neighbours => "a neighbour",
        Origin::Ping => "found by ping",
        Origin::Sweep => "found by the sweep",
        _ => origin.word(),
    }
}

/// What a candidate does that is no cache, after who it is.
fn describe_flaw(origin: Origin, flaw: Flaw, values: &mut Values) -> &'static str {
    match flaw {
        Flaw::Unreachable | Flaw::Refused | Flaw::NoConnection if origin == Origin::Override => {
            " does not answer\ncorrect or remove it"
        }
        Flaw::Status(401 | 403) => match values.path.strip_prefix('/') {
            Some(cache) if !cache.contains('/') => {
                values.path = cache;
                " answers HTTP %n\nmake the cache public (attic cache configure %c --public)"
            }
            _ => " answers HTTP %n\nmake the cache public",
        },
        Flaw::Status(404) if !values.path.is_empty() => {
            " answers HTTP 404 to %c/nix-cache-info\ncheck --path"
        }
        Flaw::Status(301 | 308) => " answers HTTP %n\ndoes it want TLS? serve plain HTTP, too",
        Flaw::Status(300..=399) => " answers HTTP %n\ncheck --port and --path",
        Flaw::Status(400) => {
            " answers HTTP 400\nallow its address or name (attic: allowed-hosts); is it for TLS?"
        }
        Flaw::Status(_) => " answers HTTP %n\nsee the cache's log",
        Flaw::NotCacheInfo => " is not a Nix cache\ncheck --port and --path",
        Flaw::OtherStore => {
            " is a Nix cache for another store than /nix/store\nis it the right one?"
        }
        Flaw::NoAnswer => " accepts connections, but timed out\nsee the cache's log",
        Flaw::Broken => " closes the connection without an answer\nsee the cache's log",
        Flaw::Refused if is_said(origin) => {
            "; port %p is closed there\nstart the cache, or check --port"
        }
        Flaw::Refused => " refuses connections\nstart the cache, or check --port",
        Flaw::Unreachable => " cannot be reached\nis it switched on, and is there a route to it?",
        Flaw::NoConnection => " does not answer\nis it switched on, and its firewall open?",
    }
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
        } else if interface.addresses.iter().all(|(address, _)| is_link_local(*address)) {
            " has only a link-local address (no DHCP answer?)"
        } else {
            " leads nowhere"
        });
    }
    if text.0.len() == start {
        text.add("there is no interface");
    }
}
