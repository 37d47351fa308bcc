//! `--explain`: a run for people, on one screen of 24 rows and 80 columns.

use super::account::{Account, Asked, Said, Server, Times};
use super::cause::{Cause, Story};
use super::log::is_dumb_terminal;
use super::sentence::split;
use super::template::Values;
use super::words::{denial_word, describe, family_word, probe_word, push_flaw, verdict};
use crate::elapsed::Elapsed;
use crate::model::{Candidate, Flaw, Origin, Outcome, Verdict};
use crate::output::{self, State};
use crate::path::Paths;
use crate::sys;
use crate::text::Text;

/// Columns of a terminal that nobody has made wider.
const COLUMNS: usize = 80;
/// Bytes of most reports: a screen half full.
const SCREEN: usize = 24 * COLUMNS / 2;
/// Columns of what stands before the text of the first rows.
const LABEL_WIDTH: usize = 11;
/// Columns of a method's name.
const METHOD_WIDTH: usize = 12;
/// Columns of a method's name and its time.
const WHEN_WIDTH: usize = METHOD_WIDTH + 14;
/// Rows that one text may take, so that all fit on a screen.
const ROWS_PER_TEXT_MAX: usize = 2;
/// Peers that a row names.
const NAMED_MAX: usize = 3;

/// The verdict, its cause, where we are, and a row for each method. `state` says what has become of
/// nix.conf.
#[must_use]
pub fn explain(story: &Story, cause: Cause, state: State) -> String {
    let Story { config, account, .. } = *story;
    // As comments the rows stand behind "# ".
    let mut screen = Screen {
        text: Text::with_room(SCREEN),
        columns: if config.dry_run { COLUMNS - 2 } else { COLUMNS },
    };
    let mut line = Text::with_room(2 * COLUMNS);
    line.add(match story.outcome {
        Outcome::Found(_) => "FOUND",
        Outcome::NotFound => "NOT FOUND",
        Outcome::NoNetwork => "NO NETWORK",
        Outcome::Interrupted => "STOPPED",
    });
    verdict(story, line.pad(LABEL_WIDTH));
    screen.add_row(&mut line);
    let description = cause.describe(story);
    let (what, remedy) = split(&description);
    screen.add("cause", what);
    screen.add("try", remedy);
    if let (Some(directory), Some((label, note))) = (&config.output_dir, fate(state)) {
        screen.add(label, &[&output::nix_conf_path(directory), note].concat());
    }
    let values = Values {
        words: &config.host.text,
        file: config.host.short_name(),
        other: config.port.into(),
        path: if config.path.is_empty() { "/" } else { &config.path },
        ..Values::NONE
    };
    screen.add("looked for", &line.fill("%w, %f.local; port %d, path %c", &values).0);
    line.0.clear();
    push_surroundings(story, &mut line);
    screen.add("on", &line.0);
    line.0.clear();
    screen.add_row(&mut line);
    line.add("METHOD").pad(METHOD_WIDTH).add("WHEN").pad(WHEN_WIDTH).add("RESULT");
    screen.add_row(&mut line);
    for origin in Origin::ALL {
        if account.is_used(origin) {
            line.add(origin.word()).pad(METHOD_WIDTH);
            push_when(account.times(origin), story.ended_at, &mut line);
            line.pad(WHEN_WIDTH);
            push_result(story, origin, &mut line);
            screen.add_row(&mut line);
        }
    }
    screen.text.0
}

/// The same with its first word in colour, where a person reads it who has nothing against that
/// (`NO_COLOR`, no-color.org).
#[must_use]
pub fn paint(report: String, outcome: Outcome) -> String {
    let is_unwanted = sys::environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    if is_unwanted || is_dumb_terminal() || !sys::is_terminal(libc::STDOUT_FILENO) {
        return report;
    }
    // ECMA-48 §8.3.117: bold, and green, red or yellow.
    let colour = match outcome {
        Outcome::Found(_) => "\x1b[1;32m",
        Outcome::NotFound => "\x1b[1;31m",
        Outcome::NoNetwork | Outcome::Interrupted => "\x1b[1;33m",
    };
    let (label, rest) = report.split_at_checked(LABEL_WIDTH).unwrap_or_default();
    [colour, label, "\x1b[0m", rest].concat()
}

/// Everything that happened, a line each.
#[must_use]
pub fn list_events(account: &Account, paths: &Paths) -> String {
    let mut text = Text::default();
    for (at, note) in account.events() {
        text.milliseconds(*at).add(" ms  ");
        describe(*note, paths, &mut text);
        text.add("\n");
    }
    text.0
}

/// What has become of nix.conf, if anything was to become of it.
const fn fate(state: State) -> Option<(&'static str, &'static str)> {
    match state {
        State::Written => Some(("wrote", "")),
        State::Unchanged => Some(("wrote", " (unchanged)")),
        State::Stands => Some(("kept", " (of an earlier run)")),
        State::NotWritten => Some(("unwritten", "")),
        State::NotWanted => None,
    }
}

/// A report as it grows.
struct Screen {
    /// Its rows.
    text: Text,
    /// How long a row may be.
    columns: usize,
}

impl Screen {
    /// Adds a text after a label; it goes on below itself. Nothing where there is no text.
    fn add(&mut self, label: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut row = Text::with_room(2 * COLUMNS);
        row.add(label).pad(LABEL_WIDTH);
        let mut rows = 1;
        for word in text.split(' ') {
            if self.columns < row.0.len() + word.len()
                && LABEL_WIDTH < row.0.len()
                && rows < ROWS_PER_TEXT_MAX
            {
                rows += 1;
                self.add_row(&mut row);
                row.pad(LABEL_WIDTH);
            }
            row.add(word).add(" ");
        }
        self.add_row(&mut row);
    }

    /// Moves a row to the report, as much of it as has room, in ASCII.
    fn add_row(&mut self, row: &mut Text) {
        let mut plain = Text::with_room(2 * COLUMNS);
        plain.add_plain(row.0.trim_ascii_end().as_bytes(), |byte| matches!(byte, b' '..=b'~'));
        row.0.clear();
        let is_whole = plain.0.len() <= self.columns;
        if !is_whole {
            plain.0.truncate(self.columns - 3);
        }
        self.text.add(&plain.0).add(if is_whole { "\n" } else { "...\n" });
    }
}

/// Adds the network that we are on.
fn push_surroundings(story: &Story, text: &mut Text) {
    let network = story.network;
    for interface in network.routable().take(NAMED_MAX) {
        if let Some((address, length)) = interface.addresses.first() {
            text.comma_after(0).link(&interface.link).add(" ");
            text.ip(*address).add("/").decimal(u64::from(*length));
        }
    }
    for (word, addresses) in [("gateway ", &network.gateways), ("DNS ", &network.nameservers)] {
        for address in addresses.iter().take(NAMED_MAX) {
            text.comma_after(0).add(word).ip(address.ip());
        }
    }
}

/// Adds when a method was at work.
fn push_when(times: Times, ended_at: Elapsed, text: &mut Text) {
    let Some(began) = times.began else {
        text.add("-");
        return;
    };
    text.time(began);
    let mut end = Text::default();
    end.time(times.ended.unwrap_or(ended_at));
    if !text.0.ends_with(&end.0) {
        text.add("-").add(&end.0);
    }
}

/// Adds what came of a method.
pub(super) fn push_result(story: &Story, origin: Origin, text: &mut Text) {
    let Story { account, network, .. } = *story;
    if account.times(origin).began.is_none() {
        let is_found = matches!(story.outcome, Outcome::Found(_));
        text.add(if is_found { "not needed" } else { "not begun" });
        return;
    }
    if let (Origin::Sweep, Some(sweep)) = (origin, account.sweep) {
        text.number(sweep.sent as usize).add(" of ").number(sweep.addresses as usize);
        text.add(" addresses (").add(probe_word(sweep.probe)).add("): ");
    }
    if account.of(origin).next().is_some() {
        return push_hosts(story, origin, text);
    }
    let nothing = match origin {
        Origin::Override => "none",
        Origin::Previous => "nothing stored",
        Origin::Hosts => {
            text.add("no ").add(&story.config.host.text);
            " in /etc/hosts"
        }
        Origin::Dns => return push_servers(&account.servers, text),
        Origin::Mdns => return push_links(account, text),
        Origin::Gateway if network.gateways.is_empty() => "no gateway",
        Origin::Announced => "no announcement",
        _ => "none new",
    };
    text.add(nothing);
}

/// Adds the hosts of a method, counted by what they did; what is of interest is named.
fn push_hosts(story: &Story, origin: Origin, text: &mut Text) {
    let hosts = || story.account.of(origin);
    // A sweep has said how many it asked; of a row only the start is seen.
    if 1 < hosts().count() && origin != Origin::Sweep {
        text.number(hosts().count()).add(" hosts: ");
    }
    let start = text.0.len();
    // What is cut off at the end is the least of it.
    for is_dull in [false, true] {
        for (index, host) in hosts().enumerate() {
            let is_same = |other: &&Asked| other.verdict == host.verdict;
            if host.is_dull() != is_dull || hosts().take(index).any(|other| is_same(&other)) {
                continue;
            }
            text.comma_after(start);
            match hosts().filter(is_same).count() {
                1 if !is_dull || hosts().count() == 1 => text.remote(host.candidate.remote),
                count => text.number(count),
            };
            push_word(story, host, text.add(" "));
        }
    }
}

/// Adds what came of a candidate, in two or three words.
pub(super) fn push_word(story: &Story, asked: &Asked, text: &mut Text) {
    let Candidate { remote, path, .. } = asked.candidate;
    let is_chosen = matches!(story.outcome,
        Outcome::Found(found) if (found.remote, found.path) == (remote, path));
    match asked.verdict {
        Some(Verdict::NotACache(flaw)) => push_flaw(flaw, text),
        _ if is_chosen => text.add("chosen"),
        Some(Verdict::Cache) => text.add("verified"),
        None => text.add("no verdict yet"),
    };
}

/// Adds what the DNS servers said.
fn push_servers(servers: &[Server], text: &mut Text) {
    if servers.is_empty() {
        text.add("no server known");
    }
    let start = text.0.len();
    for server in servers {
        text.comma_after(start).ip(server.address.ip()).add(": ");
        text.add(match server.said {
            Said::Address => denial_word(None),
            Said::Denied(denial) => denial_word(Some(denial)),
            Said::Nothing => "no reply",
        });
    }
}

/// Adds the links where multicast DNS was spoken, and whether it has named what nothing else is said of here.
fn push_links(account: &Account, text: &mut Text) {
    let (start, mut last) = (text.0.len(), 0);
    for (interface, family) in &account.links {
        text.comma_after(start);
        if last != *interface {
            text.interface(*interface).add(" ");
        }
        last = *interface;
        text.add(family_word(*family));
    }
    text.add(match account.is_mdns_heard {
        _ if text.0.len() == start => "no link",
        true => ": an address",
        false => ": no reply",
    });
}

impl Asked {
    /// Whether it is one of many: no host, or one without a server.
    fn is_dull(&self) -> bool {
        self.is_absent() || self.flaw() == Some(Flaw::Refused)
    }
}
