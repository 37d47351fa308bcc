//! One run, from the configuration to the files, once or watching.

use std::ffi::c_int;
use std::time::Duration;

use crate::config::{Config, Report};
use crate::elapsed::Elapsed;
use crate::facts::{
    Known, Network, Previous, read_hosts, read_override, read_previous, read_resolv_conf,
};
use crate::io::{Clock, EventLoop, RECEIVE_MAX, StillOpen, StopSignals, Watcher};
use crate::model::{Found, Methods, Origin, Outcome};
use crate::output::{self, Files, Kind};
use crate::path::{PathId, Paths};
use crate::search::Search;
use crate::sys;
use crate::tell::{Level, Log, Problem, Sink, Timeline, render_json, summarise};
use crate::watch::Ask;

/// How old a change of a file is before its time tells it from a later one, in seconds: the clock of
/// files has ticks of up to 10 ms, and this one is cut to whole seconds.
const CHANGE_SETTLE_SECONDS: i64 = 2;
/// The hosts file, hosts(5).
const HOSTS: &str = "/etc/hosts";

/// Exit statuses: the contract with systemd units and scripts.
pub mod status {
    use std::ffi::c_int;

    /// Found, or not found and the fallback is written.
    pub const DECIDED: c_int = 0;
    /// The files could not be written.
    pub const NOT_WRITTEN: c_int = 1;
    /// Bad usage.
    pub const USAGE: c_int = 2;
    /// No network in time: run me again (`EX_TEMPFAIL`, sysexits.h).
    pub const NO_NETWORK: c_int = 75;
}

/// Runs as `config` says: the program's exit status.
#[must_use]
pub fn run(config: &Config, signals: &StopSignals, clock: Clock) -> c_int {
    let log = Log::new(Sink::of_stderr(), config.verbosity);
    let paths = Paths::new(config.path.clone());
    let (previous, standing, changed) = (None, None, None);
    let buffer = vec![0; RECEIVE_MAX];
    Run { config, log, signals, previous, is_ordered: true, paths, buffer, standing, changed }
        .run(clock)
}

/// What a run knows from one search to the next.
struct Run<'a> {
    /// What the user decided.
    config: &'a Config,
    /// Where problems and results are told.
    log: Log,
    /// Ask us to stop.
    signals: &'a StopSignals,
    /// Where the cache was last found.
    previous: Option<Previous>,
    /// Whether the user had ordered where it is, or that there is none, when last looked: at first he may
    /// have.
    is_ordered: bool,
    /// The paths of caches.
    paths: Paths,
    /// For whatever comes in; made once: to fill it with zeros costs more than what is read into it.
    buffer: Vec<u8>,
    /// The files of the decision that stands.
    standing: Option<Files>,
    /// When we have changed them, as long as nobody else has.
    changed: Option<[i64; 2]>,
}

/// A search that has ended.
struct Ended {
    /// What has come of it.
    outcome: Outcome,
    /// Its clock, which began with it.
    clock: Clock,
    /// What happened.
    timeline: Timeline,
    /// The network that was searched, as far as it decides where the cache is; if it was looked at.
    place: Option<Network>,
    /// To be closed when the files are written.
    open: StillOpen,
}

/// How writing the files has ended.
enum Written {
    /// They are up to date.
    InTime,
    /// They could not be written.
    No,
    /// A signal came while another run held the lock.
    Stopped,
}

impl Run<'_> {
    /// Searches, writes and reports once; with `--watch` it stays.
    fn run(mut self, clock: Clock) -> c_int {
        let watcher = self.config.watch.then(|| Watcher::new(self.signals));
        let ended = self.search(self.config.methods, clock);
        let outcome = ended.outcome;
        let is_written = self.decide(outcome, &ended);
        let Ended { place, open, .. } = ended;
        match watcher {
            Some(_) => drop(open),
            None => open.leave_behind(),
        }
        match (outcome, watcher) {
            _ if !is_written => status::NOT_WRITTEN,
            (Outcome::Interrupted, _) | (Outcome::Found(_) | Outcome::NotFound, None) => {
                status::DECIDED
            }
            _ if self.signals.have_come(Duration::ZERO) => status::DECIDED,
            (outcome, Some(mut watcher)) => {
                watcher.handle_answer(matches!(outcome, Outcome::Found(_)), place);
                self.watch(watcher)
            }
            (Outcome::NoNetwork, None) => status::NO_NETWORK,
        }
    }

    /// Decides anew whenever the watcher says so.
    fn watch(mut self, mut watcher: Watcher) -> c_int {
        loop {
            let ask = match watcher.wait() {
                Ok(None) => return status::DECIDED,
                Ok(Some(ask)) => ask,
                Err(error) => {
                    self.log.problem(&Problem::NoPoll(&error));
                    return status::NOT_WRITTEN;
                }
            };
            let methods = match ask {
                Ask::Previous => Methods::NONE.with(Origin::Previous),
                Ask::Named => self.config.later_methods.named(),
                Ask::All => self.config.later_methods,
            };
            let mut ended = self.search(methods, Clock::start());
            if ended.outcome == Outcome::Interrupted {
                return status::DECIDED;
            }
            let is_found = matches!(ended.outcome, Outcome::Found(_));
            // Where not all were asked, a move during the search is still to be noticed.
            let place = ended.place.take().filter(|_| ask == Ask::All);
            watcher.handle_answer(is_found, place);
            // That one cache does not answer decides nothing.
            if (is_found || ask != Ask::Previous) && !self.decide(ended.outcome, &ended) {
                return status::NOT_WRITTEN;
            }
        }
    }

    /// Searches with `methods`.
    fn search(&mut self, methods: Methods, clock: Clock) -> Ended {
        let kept = self.previous.map_or(PathId::CONFIGURED, |previous| previous.path);
        let path = self.paths.forget_others(kept);
        self.previous = self.previous.map(|previous| Previous { path, ..previous });
        if !self.is_untouched() {
            self.changed = None;
        }
        let mut known = self.read_known(methods);
        // Of the same cache this run knows more than the file does.
        let is_same = |ours: &Previous| {
            known.previous.is_none_or(|file| file.remote.ip() == ours.remote.ip())
        };
        known.previous = self.previous.filter(is_same).or(known.previous);
        let paths = std::mem::take(&mut self.paths);
        let mut search = Search::new(self.config, methods, &known, paths, sys::random_seed());
        let mut timeline = Timeline::default();
        let (log, host) = (&mut self.log, &self.config.host.text);
        let buffer = &mut self.buffer;
        let events = EventLoop::new(clock, self.signals, host, &mut timeline, log, buffer);
        let (outcome, open) = events.run(&mut search);
        let (paths, place) = search.into_parts();
        self.paths = paths;
        if let Outcome::Found(Found { remote, path, by_name, origin }) = outcome {
            let is_announced = origin == Origin::Announced;
            self.previous = Some(Previous { remote, path, by_name, is_announced });
        }
        Ended { outcome, clock, timeline, place, open }
    }

    /// Whether the files are as we have left them.
    fn is_untouched(&self) -> bool {
        self.changed.is_some() && self.changed == self.read_changes()
    }

    /// When the files were last changed.
    fn read_changes(&self) -> Option<[i64; 2]> {
        let (config, directory) = (self.config, self.config.output_dir.as_ref()?);
        let nix_conf = sys::change_time(&output::nix_conf_path(directory));
        let address = output::address_path(directory, config.host.short_name());
        Some([nix_conf, sys::change_time(&address)])
    }

    /// Brings the files up to date, and tells what is new about it; false where they could not be
    /// written.
    fn decide(&mut self, outcome: Outcome, ended: &Ended) -> bool {
        let ended_at = ended.clock.now();
        let mut files = output::render(self.config, outcome, &self.paths);
        let stands = outcome == Outcome::Interrupted && !self.config.dry_run;
        let directory = self.config.output_dir.as_deref().filter(|_| stands);
        let stands = directory.and_then(output::read_decision);
        let has_stood = stands.is_some();
        if let Some(nix_conf) = stands {
            files = Files { nix_conf, address: None };
        }
        let is_new = self.standing.as_ref() != Some(&files);
        if is_new {
            let mut summary = summarise(outcome, ended_at);
            summary += if has_stood { ": nix.conf stays as it is" } else { "" };
            self.log.write(Level::Notice, &summary);
        }
        let is_written = has_stood
            || self.config.dry_run
            || !is_new && self.is_untouched()
            || match self.write(outcome, &files, ended.clock, is_new) {
                Written::InTime => true,
                Written::No => false,
                Written::Stopped => return self.decide(Outcome::Interrupted, ended),
            };
        if is_new {
            self.print_report(&ended.timeline, ended_at, outcome, &files);
        }
        self.standing = Some(files);
        is_written
    }

    /// Writes the files and, if they are new, says so.
    fn write(&mut self, outcome: Outcome, files: &Files, clock: Clock, is_new: bool) -> Written {
        let give_up_at = Elapsed::START + self.config.budget;
        let is_interrupted = outcome == Outcome::Interrupted;
        let mut wait = |interval| {
            !is_interrupted && !self.signals.have_come(interval) && clock.now() < give_up_at
        };
        let Some(directory) = &self.config.output_dir else {
            self.log.problem(&Problem::NoOutputDir);
            self.show(files);
            return Written::No;
        };
        let kind = if is_interrupted { Kind::Fallback } else { Kind::Decision };
        match output::replace(directory, self.config.host.short_name(), files, kind, &mut wait) {
            Ok(lock) => {
                // While nobody else may write; and what is written now may be written again within one tick
                // of the clock.
                if self.config.watch && lock.is_some() {
                    let settled = sys::seconds_since_1970() - CHANGE_SETTLE_SECONDS;
                    let is_settled = |at: &i64| at / 1_000_000_000 <= settled;
                    self.changed = self.read_changes().filter(|all| all.iter().all(is_settled));
                }
                if is_new {
                    let path = output::nix_conf_path(directory);
                    self.log.write(Level::Info, &format!("{path} is up to date"));
                    self.show(files);
                }
                Written::InTime
            }
            Err(error) if error.is_locked() && self.signals.have_come(Duration::ZERO) => {
                Written::Stopped
            }
            Err(error) => {
                self.log.problem(&Problem::NotWritten(&error));
                Written::No
            }
        }
    }

    /// Shows nix.conf to whoever reads the log.
    fn show(&mut self, files: &Files) {
        if self.log.shows_files() {
            for line in files.nix_conf.lines() {
                self.log.write(Level::Info, &["  ", line].concat());
            }
        }
    }

    /// Prints what the options ask for. After `--dry-run` standard output is a valid nix.conf: the
    /// timeline stands in it as comments.
    fn print_report(&self, timeline: &Timeline, ended: Elapsed, outcome: Outcome, files: &Files) {
        let config = &self.config;
        // A reader that has stalled keeps nobody longer than the whole may take.
        let time_left = (Elapsed::START + config.budget).since(ended);
        if config.report == Report::Json {
            let json = render_json(timeline, ended, outcome, config, files, &self.paths);
            return sys::print(&json, self.signals.as_raw_fd(), time_left);
        }
        let mut text = String::new();
        if config.report == Report::Text {
            for line in timeline.render_text(ended, outcome, &self.paths) {
                text += if config.dry_run { "# " } else { "" };
                text += &line;
                text += "\n";
            }
        }
        if config.dry_run {
            text += &files.nix_conf;
        }
        sys::print(&text, self.signals.as_raw_fd(), time_left);
    }

    /// What the host's own files say of the cache, as far as `methods` ask.
    fn read_known(&mut self, methods: Methods) -> Known {
        let (config, log) = (self.config, &mut self.log);
        let credentials = sys::environment(c"CREDENTIALS_DIRECTORY");
        let credentials = credentials.as_deref();
        let mut known = Known { uptime: sys::uptime(), ..Known::default() };
        // What came with the boot stays.
        let everywhere = self.is_ordered || methods != Methods::NONE.with(Origin::Previous);
        let file = &config.override_file;
        known.override_ =
            read_override(file, credentials, everywhere, config.port, &mut |problem| {
                // In the checks between two searches nothing new is said.
                if everywhere {
                    log.problem(&Problem::Override(problem));
                }
            });
        self.is_ordered = known.override_.is_some();
        // What nobody has touched says what we know.
        if let Some(directory) = config.output_dir.as_ref().filter(|_| self.changed.is_none()) {
            let path = output::address_path(directory, config.host.short_name());
            known.previous = read_previous(&path, config.port);
        }
        if methods.contains(Origin::Hosts) {
            known.hosts = read_hosts(HOSTS, &config.host.text);
        }
        if methods.contains(Origin::Dns) {
            known.nameservers = read_resolv_conf(sys::interface_index).nameservers;
        }
        known
    }
}
