//! What happened, in words: lines for the log, a timeline for people and one for programs.

use std::fmt::Write as _;

use crate::address::{Family, LINK_LOCAL};
use crate::cli::Config;
use crate::log::Level;
use crate::model::{Elapsed, Flaw, Note, Origin, Outcome, Probe, Verdict};
use crate::output::Files;

/// Entries kept; a search that follows every lead of a liar has some two hundred.
const TIMELINE_MAX: usize = 1024;

/// What happened, and when.
#[derive(Debug, Default)]
pub struct Timeline {
    /// In the order in which it happened.
    entries: Vec<(Elapsed, Note)>,
}

impl Timeline {
    /// Adds what happened at `now`.
    pub fn push(&mut self, now: Elapsed, note: Note) {
        if self.entries.len() < TIMELINE_MAX {
            self.entries.push((now, note));
        }
    }

    /// One line for each entry, and one for the end.
    #[must_use]
    pub fn render_text(&self, ended: Elapsed, outcome: Outcome) -> Vec<String> {
        let mut lines: Vec<_> =
            self.entries.iter().map(|(at, note)| line(*at, &describe(*note).1)).collect();
        lines.push(line(ended, &summarise(outcome, ended)));
        lines
    }

    /// One JSON object (RFC 8259).
    #[must_use]
    pub fn render_json(
        &self,
        ended: Elapsed,
        outcome: Outcome,
        config: &Config,
        files: &Files,
    ) -> String {
        let mut json = String::from("{\"outcome\":");
        push_string(&mut json, word(outcome));
        if let Outcome::Found(found) = outcome {
            json += ",\"origin\":";
            push_string(&mut json, found.origin.word());
            json += ",\"address\":";
            push_string(&mut json, files.address.as_deref().unwrap_or_default().trim_ascii_end());
            let _ = write!(json, ",\"port\":{}", found.remote.port());
        }
        let _ = write!(json, ",\"milliseconds\":{}", milliseconds(ended));
        if let Some(directory) = config.output_dir.as_ref().filter(|_| !config.dry_run) {
            json += ",\"output_dir\":";
            push_string(&mut json, directory);
        }
        json += ",\"nix_conf\":";
        push_string(&mut json, &files.nix_conf);
        json += ",\"timeline\":[";
        for (index, (at, note)) in self.entries.iter().enumerate() {
            json += if index == 0 { "" } else { "," };
            let _ = write!(json, "{{\"milliseconds\":{},\"event\":", milliseconds(*at));
            push_string(&mut json, &describe(*note).1);
            json += "}";
        }
        json += "]}\n";
        json
    }
}

/// A line of the timeline.
fn line(at: Elapsed, text: &str) -> String {
    format!("{:>10} ms  {text}", milliseconds(at))
}

/// Milliseconds with three decimals.
fn milliseconds(at: Elapsed) -> String {
    format!("{}.{:03}", at.as_micros() / 1000, at.as_micros() % 1000)
}

/// Adds a JSON string.
fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            control if control.is_ascii_control() => {
                let _ = write!(json, "\\u{:04x}", control as u32);
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

/// An outcome in one word.
const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Found(_) => "found",
        Outcome::NotFound => "not-found",
        Outcome::NoNetwork => "no-network",
        Outcome::Interrupted => "interrupted",
    }
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

/// An event in words, and how serious it is.
#[must_use]
pub fn describe(note: Note) -> (Level, String) {
    match note {
        Note::NetworkUp(count) => (Level::Debug, format!("network is up, {count} interface(s)")),
        Note::Started(origin) => (Level::Debug, format!("{}: started", origin.word())),
        Note::AskedLink(interface, family) => {
            let version = match family {
                Family::V4 => 4,
                Family::V6 => 6,
            };
            (Level::Debug, format!("mdns: asked on interface {interface} over IPv{version}"))
        }
        Note::AskedServer(server) => (Level::Debug, format!("dns: asked {server}")),
        Note::ServerDenied(server) => (Level::Debug, format!("dns: nothing from {server}")),
        Note::Followed(lead) => {
            (Level::Debug, format!("{}: lead to {}", lead.origin.word(), lead.remote))
        }
        Note::NotPrivate(lead) => (
            Level::Warning,
            format!(
                "{}: {} is neither private nor on-link, not used; if it is right, say so in /etc/hosts",
                lead.origin.word(),
                lead.remote
            ),
        ),
        Note::LinkLocal(lead) => (
            Level::Debug,
            format!(
                "{}: {} is link-local, looking for the host's other addresses",
                lead.origin.word(),
                lead.remote
            ),
        ),
        Note::OnlyLinkLocal(lead) => {
            (Level::Warning, format!("{} answers only at {LINK_LOCAL}", lead.remote))
        }
        Note::Judged(lead, verdict) => {
            let (level, text) = describe_verdict(lead.origin, verdict);
            (level, format!("{}: {} {text}", lead.origin.word(), lead.remote))
        }
        Note::AskedByName(remote) => (Level::Debug, format!("{remote}: asked again by name")),
        Note::Sweeps { probe, addresses } => {
            let how = match probe {
                Probe::Arp => "by ARP",
                Probe::Connect => "by connecting",
            };
            (Level::Debug, format!("sweep: asking {addresses} addresses {how}"))
        }
        Note::Swept { sent, time } => {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = u64::from(sent) * 1000 / millis;
            (Level::Debug, format!("sweep: asked {sent} addresses in {millis} ms, {rate} a second"))
        }
        Note::Held(lead) => (
            Level::Debug,
            format!("{}: {} waits for those that know the name", lead.origin.word(), lead.remote),
        ),
        Note::Won(origin) => {
            let why = if origin.is_named() {
                "knows the cache by name and wins at once"
            } else {
                "wins: of those that know the name nobody leads elsewhere"
            };
            (Level::Debug, format!("{}: {why}", origin.word()))
        }
        Note::HadItsSay(origin) => (Level::Debug, format!("{}: has had its say", origin.word())),
        Note::BudgetSpent => (Level::Debug, "the budget is spent".to_owned()),
    }
}

/// A verdict in words, with the remedy, and how serious it is.
fn describe_verdict(origin: Origin, verdict: Verdict) -> (Level, String) {
    let flaw = match verdict {
        Verdict::Cache => return (Level::Debug, "is a Nix cache".to_owned()),
        Verdict::NotACache(flaw) => flaw,
    };
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
            let level = if origin.is_named() { Level::Warning } else { Level::Debug };
            return (level, format!("answers with HTTP status {status}: {remedy}"));
        }
        Flaw::NotCacheInfo => "is not a Nix cache: check --port and --path",
        Flaw::OtherStore => "is a Nix cache for another store than /nix/store",
    };
    // Where it was yesterday need not be where it is today.
    let is_sure = origin.is_named() && origin != Origin::Previous;
    let level = if is_sure { Level::Warning } else { Level::Debug };
    (level, text.to_owned())
}
