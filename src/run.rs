//! One run, from the configuration to the files, once or watching.

use std::ffi::c_int;
use std::time::Duration;

use crate::config::{Config, Report, Verbosity};
use crate::elapsed::Elapsed;
use crate::facts::{
    Known, Network, Previous, read_hosts, read_override, read_previous, read_resolv_conf,
};
use crate::io::{Clock, EventLoop, RECEIVE_MAX, StillOpen, StopSignals, Watcher};
use crate::model::{Found, Methods, Origin, Outcome};
use crate::output::{self, Files, Kind, State};
use crate::path::{PathId, Paths};
use crate::search::Search;
use crate::sys;
use crate::tell::{
    Account, Cause, Level, Log, Problem, Sink, Story, explain, list_events, paint, render_json,
    summarise,
};
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
    let (previous, standing, told, changed) = (None, None, None, None);
    let buffer = vec![0; RECEIVE_MAX];
    Run { config, log, signals, previous, is_ordered: true, paths, buffer, standing, told, changed }
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
    /// Why there was no cache when last told.
    told: Option<Cause>,
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
    account: Account,
    /// The network as last seen.
    network: Network,
    /// The same as far as it decides where the cache is, if it was looked at.
    place: Option<Network>,
    /// The file that an order stands in, if there is one.
    order_place: String,
    /// To be closed when the files are written.
    open: StillOpen,
}

impl Run<'_> {
    /// Searches, writes and reports once; with `--watch` it stays.
    fn run(mut self, clock: Clock) -> c_int {
        self.confine();
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

    /// Gives up what is not needed from here on.
    fn confine(&mut self) {
        let directory = self.config.output_dir.as_deref().filter(|_| !self.config.dry_run);
        if let Some(directory) = directory {
            // What keeps us from it is told when there is something to write.
            let _ = output::create_directory(directory);
        }
        if let Err(call) = sys::confine(directory) {
            self.log.problem(&Problem::NotConfined(call));
        }
    }

    /// Decides anew whenever the watcher says so.
    fn watch(mut self, mut watcher: Watcher) -> c_int {
        loop {
            let ask = match watcher.wait() {
                Ok(None) => return status::DECIDED,
                Ok(Some(ask)) => ask,
                Err(error) => {
                    self.log.problem(&Problem::NoPoll(error));
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
        let config = self.config;
        let keeps_events = config.report == Report::Json || config.verbosity == Verbosity::Verbose;
        let mut account = Account::new(methods, keeps_events);
        let (log, buffer) = (&mut self.log, &mut self.buffer);
        let events = EventLoop::new(clock, self.signals, config.budget, &mut account, log, buffer);
        let (outcome, open) = events.run(&mut search);
        let (paths, surroundings) = search.into_parts();
        let (network, place) = surroundings.into_parts();
        self.paths = paths;
        if let Outcome::Found(Found { remote, path, by_name, origin }) = outcome {
            let is_announced = origin == Origin::Announced;
            self.previous = Some(Previous { remote, path, by_name, is_announced });
        }
        let order_place = known.override_place;
        Ended { outcome, clock, account, network, place, order_place, open }
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
        let story = Story {
            config: self.config,
            order_place: &ended.order_place,
            account: &ended.account,
            network: &ended.network,
            outcome,
            ended_at: ended.clock.now(),
        };
        let cause = Cause::of(&story);
        let mut files = output::render(self.config, outcome, &self.paths);
        let stands = outcome == Outcome::Interrupted && !self.config.dry_run;
        let directory = self.config.output_dir.as_deref().filter(|_| stands);
        let stands = directory.and_then(output::read_decision);
        let mut state = if stands.is_some() { State::Stands } else { State::NotWanted };
        let is_settled = self.config.dry_run || stands.is_some();
        if let Some(nix_conf) = stands {
            files = Files { nix_conf, address: None };
        }
        let is_found = matches!(outcome, Outcome::Found(_));
        // Where there is none the reason may change while the files do not.
        let is_told = is_found || self.told.is_some_and(|it| it.is_like(cause));
        let is_new = self.standing.as_ref() != Some(&files) || !is_told;
        self.told = Some(cause);
        // That it is found is told before it is written; why it is not, below the files, where a person
        // looks first.
        if is_new && is_found {
            self.tell(&story, cause, state);
        }
        if !is_settled && !is_new && self.is_untouched() {
            state = State::Unchanged;
        } else if !is_settled {
            state = match self.write(&story, cause, &files, ended.clock, is_new) {
                Some(state) => state,
                None => return self.decide(Outcome::Interrupted, ended),
            };
        }
        if is_new && !is_found {
            self.tell(&story, cause, state);
        }
        let is_printed = !is_new || self.print_report(&story, cause, state, &files);
        self.standing = Some(files);
        state != State::NotWritten && is_printed
    }

    /// Tells the result, and what caused it.
    fn tell(&mut self, story: &Story, cause: Cause, state: State) {
        let (level, mut summary) = summarise(story, cause);
        if state == State::Stands {
            summary += ": nix.conf stays as it is";
        }
        self.log.write(level, &summary);
    }

    /// Writes the files and, if they are new, says so; `None` where a signal came while another run held
    /// the lock.
    fn write(
        &mut self,
        story: &Story,
        cause: Cause,
        files: &Files,
        clock: Clock,
        is_new: bool,
    ) -> Option<State> {
        let give_up_at = Elapsed::START + self.config.budget;
        let is_interrupted = story.outcome == Outcome::Interrupted;
        let mut wait = |interval| {
            !is_interrupted && !self.signals.have_come(interval) && clock.now() < give_up_at
        };
        let Some(directory) = &self.config.output_dir else {
            self.log.problem(&Problem::NoOutputDir);
            self.show(files);
            return Some(State::NotWritten);
        };
        let kind = if is_interrupted { Kind::Fallback } else { Kind::Decision };
        match output::replace(directory, self.config.host.short_name(), files, kind, &mut wait) {
            Ok((state, lock)) => {
                let is_locked = lock.is_some();
                // While nobody else may write; and what is written now may be written again within one tick
                // of the clock.
                if self.config.watch && is_locked {
                    let settled = sys::seconds_since_1970() - CHANGE_SETTLE_SECONDS;
                    let is_settled = |at: &i64| at / 1_000_000_000 <= settled;
                    self.changed = self.read_changes().filter(|all| all.iter().all(is_settled));
                }
                if is_new {
                    if kind == Kind::Decision {
                        // The decision stands without it.
                        let text = explain(story, cause, state);
                        output::write_explanation(directory, &text, is_locked);
                    }
                    drop(lock);
                    let path = output::nix_conf_path(directory);
                    let is_written = state == State::Written;
                    let (before, after) =
                        if is_written { ("wrote ", "") } else { ("", " unchanged") };
                    self.log.write(Level::Info, &[before, &path, after].concat());
                    self.show(files);
                }
                Some(state)
            }
            Err(error) if error.is_locked() && self.signals.have_come(Duration::ZERO) => None,
            Err(error) => {
                self.log.problem(&Problem::NotWritten(&error));
                Some(State::NotWritten)
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

    /// Prints what the options ask for: false where that could not be. After `--dry-run` standard output
    /// is a valid nix.conf: the report stands in it as comments.
    fn print_report(&mut self, story: &Story, cause: Cause, state: State, files: &Files) -> bool {
        let config = &self.config;
        // A reader that has stalled keeps nobody longer than the whole may take.
        let time_left = (Elapsed::START + config.budget).since(story.ended_at);
        let mut text = String::new();
        if config.report == Report::Json {
            text = render_json(story, cause, state, files, &self.paths);
        } else if config.report == Report::Text {
            let mut report = explain(story, cause, state);
            if config.verbosity == Verbosity::Verbose {
                report += "\n";
                report += &list_events(story.account, &self.paths);
            }
            if config.dry_run {
                for line in report.lines() {
                    for part in ["# ", line, "\n"] {
                        text += part;
                    }
                }
            } else {
                text = paint(report, story.outcome);
            }
        }
        if config.dry_run && config.report != Report::Json {
            text += &files.nix_conf;
        }
        let printed = sys::print(&text, self.signals.as_raw_fd(), time_left);
        if let Err(error) = printed {
            self.log.problem(&Problem::NotPrinted(error));
        }
        printed.is_ok()
    }

    /// What the host's own files say of the cache, as far as `methods` ask.
    fn read_known(&mut self, methods: Methods) -> Known {
        let (config, log) = (self.config, &mut self.log);
        let credentials = sys::environment("CREDENTIALS_DIRECTORY");
        let credentials = credentials.as_deref();
        let mut known = Known { uptime: sys::uptime(), ..Known::default() };
        // What came with the boot stays.
        let everywhere = self.is_ordered || methods != Methods::NONE.with(Origin::Previous);
        let file = &config.override_file;
        let order = read_override(file, credentials, everywhere, config.port, &mut |problem| {
            // In the checks between two searches nothing new is said.
            if everywhere {
                log.problem(&Problem::Override(problem));
            }
        });
        self.is_ordered = order.is_some();
        if let Some((order, place)) = order {
            (known.override_, known.override_place) = (Some(order), place);
        }
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
