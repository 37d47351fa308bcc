//! What the user decided: plain values, which nobody changes after they were parsed.

use std::time::Duration;

use crate::facts::Prefix;
use crate::model::Methods;
use crate::wire::dns::Name;

/// Bytes of a host name in text. RFC 1035 §2.3.4, less the length byte and the root.
const HOST_MAX: usize = 253;

/// The part of the budget kept for writing the files, within the limits that follow.
const RESERVE_SHARE: u32 = 10;
/// The least time kept: closing a packet socket takes the kernel up to 20 ms.
const RESERVE_MIN: Duration = Duration::from_millis(30);
/// The most time kept: two fsyncs of a busy disk.
const RESERVE_MAX: Duration = Duration::from_millis(100);

/// nix.conf lines that keep a cache which dies, hangs or is left behind from stalling Nix.
///
/// Without `fallback` Nix does not give up on a dead cache for the next 60 seconds, and up to 2.31
/// fails. Fewer than three attempts would make a flaky upstream fail, too. The time to connect
/// includes looking up the upstream's name, and glibc gives each dead nameserver 5 seconds: with less
/// than 9 the upstream is out of reach where two of them are dead.
pub const SETTINGS: [(&str, &str); 4] = [
    ("connect-timeout", "10"),
    ("download-attempts", "3"),
    ("stalled-download-timeout", "30"),
    ("fallback", "true"),
];

/// Everything the user can decide.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the cache's host is called.
    pub host: Host,
    /// The cache's port.
    pub port: u16,
    /// The cache's path, with a leading slash and no final one; empty for the root.
    pub path: String,
    /// What Nix uses besides.
    pub upstreams: Vec<String>,
    /// Add to the substituters of other files instead of replacing them.
    pub additive: bool,
    /// The priority written into the URL.
    pub priority: u32,
    /// nix.conf lines for the found case; an empty value drops the line.
    pub settings: Vec<(String, String)>,
    /// Where the files go; `None` when the environment names no place.
    pub output_dir: Option<String>,
    /// Where the user's own word may be.
    pub override_file: String,
    /// The hard limit for the whole run.
    pub budget: Duration,
    /// The methods to use.
    pub methods: Methods,
    /// Stay, and search again whenever the network changes.
    pub watch: bool,
    /// The methods of those later searches.
    pub later_methods: Methods,
    /// Networks to sweep besides our own.
    pub sweep: Vec<Prefix>,
    /// Probes of the sweep in a second, if the user says how many.
    pub sweep_rate: Option<u32>,
    /// Addresses that the sweep asks at most.
    pub sweep_limit: u32,
    /// Print nix.conf instead of writing it.
    pub dry_run: bool,
    /// How the run is reported on standard output.
    pub report: Report,
    /// How much is logged.
    pub verbosity: Verbosity,
}

impl Config {
    /// The part of the budget that a search may take; the rest is for writing the files.
    #[must_use]
    pub fn search_time(&self) -> Duration {
        let reserve = (self.budget / RESERVE_SHARE).clamp(RESERVE_MIN, RESERVE_MAX);
        self.budget.saturating_sub(reserve)
    }
}

/// What the cache's host is called.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Its name in the hosts file and in DNS, lower case.
    pub text: String,
    /// The same in wire form.
    pub name: Name,
    /// Its name in multicast DNS, in wire form: the first label and `local`.
    pub local_name: Name,
}

impl Host {
    /// The host called `text`, whose final dot is removed; names that are addresses are refused.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let is_name = text.len() <= HOST_MAX
            && text.split('.').all(is_label)
            && !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !is_name {
            return None;
        }
        let name = Name::from_text(&text).ok()?;
        let local_name = Name::from_text(&[short_name(&text), ".local"].concat()).ok()?;
        Some(Self { text, name, local_name })
    }

    /// The name for files: the first label.
    #[must_use]
    pub fn short_name(&self) -> &str {
        short_name(&self.text)
    }
}

/// The first label of a name.
fn short_name(text: &str) -> &str {
    text.split('.').next().unwrap_or(text)
}

/// What standard output gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing.
    None,
    /// `--explain`: the timeline for people.
    Text,
    /// `--json`: the timeline for programs.
    Json,
}

/// What the log gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Problems only.
    Quiet,
    /// And the result.
    Normal,
    /// And every step.
    Verbose,
}
