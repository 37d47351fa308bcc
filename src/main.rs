//! Takes the start of the clock, reads the command line, runs the search, writes the files; with
//! `--watch` again and again.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use cache_resolver::cli::{self, Command, Config, Environment, Report};
use cache_resolver::event_loop::{Clock, EventLoop, StillOpen};
use cache_resolver::facts::{
    Known, Network, Previous, read_hosts, read_nameservers, read_override, read_previous,
};
use cache_resolver::log::{Level, Log, Sink};
use cache_resolver::model::{Elapsed, Found, Methods, Origin, Outcome};
use cache_resolver::output::{self, Files};
use cache_resolver::report::{self, Timeline};
use cache_resolver::search::Search;
use cache_resolver::sys;
use cache_resolver::watch::{self, Reason};

/// Memory for the one thread there is.
#[global_allocator]
#[expect(unsafe_code, reason = "only the program itself knows that it has one thread")]
// SAFETY: it never starts another.
static ALLOCATOR: sys::Allocator = unsafe { sys::Allocator::new() };

/// The hosts file, hosts(5).
const HOSTS: &str = "/etc/hosts";
/// Time for a lock that another run holds when we were asked to stop within 50 ms.
const STOP_TIMEOUT: Duration = Duration::from_millis(30);

/// Exit statuses: the contract with systemd units and scripts.
mod status {
    /// The files could not be written.
    pub const NOT_WRITTEN: u8 = 1;
    /// Bad usage.
    pub const USAGE: u8 = 2;
    /// No network in time: run me again (`EX_TEMPFAIL`, sysexits.h).
    pub const NO_NETWORK: u8 = 75;
}

fn main() -> ExitCode {
    let clock = Clock::start();
    sys::let_all_read();
    let environment = Environment {
        runtime_directory: std::env::var("RUNTIME_DIRECTORY").ok(),
        xdg_runtime_dir: std::env::var("XDG_RUNTIME_DIR").ok(),
        user: sys::effective_user(),
    };
    match cli::parse(std::env::args_os().skip(1), &environment) {
        Ok(Command::Run(mut config)) => {
            let log = Log::new(sink(), config.verbosity);
            Run { config: &mut config, log, previous: None, standing: None }.run(clock)
        }
        Ok(Command::Help) => {
            print(cli::HELP);
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            print(concat!("cache-resolver ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        Err(message) => {
            let mut log = Log::new(sink(), cli::Verbosity::Quiet);
            log.write(Level::Error, &format!("{message}; see cache-resolver --help"));
            ExitCode::from(status::USAGE)
        }
    }
}

/// What a run knows from one search to the next.
struct Run<'a> {
    /// What the user decided.
    config: &'a mut Config,
    /// Where problems and results are told.
    log: Log,
    /// Where the cache was last found.
    previous: Option<Previous>,
    /// The files of the decision that stands.
    standing: Option<Files>,
}

/// A search that has ended.
struct Ended {
    /// What has come of it.
    outcome: Outcome,
    /// Its clock, which began with it.
    clock: Clock,
    /// What happened.
    timeline: Timeline,
    /// To be closed when the files are written.
    _open: Option<StillOpen>,
}

impl Run<'_> {
    /// Searches, writes and reports once; with `--watch` it stays.
    fn run(mut self, clock: Clock) -> ExitCode {
        let place = if self.config.watch { watch::read_place() } else { Network::default() };
        let ended = self.search(self.config.methods, clock);
        let outcome = ended.outcome;
        let is_written = self.decide(&ended);
        drop(ended);
        match outcome {
            _ if !is_written => ExitCode::from(status::NOT_WRITTEN),
            Outcome::Interrupted => ExitCode::SUCCESS,
            _ if self.config.watch => self.watch(place),
            Outcome::NoNetwork => ExitCode::from(status::NO_NETWORK),
            Outcome::Found(_) | Outcome::NotFound => ExitCode::SUCCESS,
        }
    }

    /// Decides anew whenever the network is no longer `place`, or the cache no longer answers. A
    /// cache that has stopped answering is asked again until the network changes.
    fn watch(mut self, mut place: Network) -> ExitCode {
        let mut was_found_here = self.is_found();
        loop {
            let ended = match watch::wait(&place, was_found_here) {
                Ok(Reason::Stop) => return ExitCode::SUCCESS,
                Ok(Reason::Moved(to)) => {
                    place = to;
                    was_found_here = false;
                    self.search(self.config.later_methods, Clock::start())
                }
                Ok(Reason::CheckDue) => {
                    let only_previous = Methods::NONE.with(Origin::Previous);
                    let check = self.search(only_previous, Clock::start());
                    match check.outcome {
                        Outcome::Found(_) | Outcome::Interrupted => check,
                        _ if !self.is_found() => continue,
                        _ => self.search(self.config.later_methods, Clock::start()),
                    }
                }
                Err(error) => {
                    self.log.write(Level::Error, &format!("cannot wait for changes: {error}"));
                    return ExitCode::from(status::NOT_WRITTEN);
                }
            };
            if ended.outcome == Outcome::Interrupted {
                return ExitCode::SUCCESS;
            }
            if !self.decide(&ended) {
                return ExitCode::from(status::NOT_WRITTEN);
            }
            was_found_here |= self.is_found();
        }
    }

    /// Whether the standing decision is for a cache.
    fn is_found(&self) -> bool {
        self.standing.as_ref().is_some_and(|files| files.address.is_some())
    }

    /// Searches with `methods`.
    fn search(&mut self, methods: Methods, clock: Clock) -> Ended {
        let mut timeline = Timeline::default();
        self.config.methods = methods;
        let mut known = read_known(self.config, &mut self.log);
        // Of the same cache this run knows more than the file does.
        let is_same =
            |ours: &Previous| known.previous.is_none_or(|file| file.address == ours.address);
        known.previous = self.previous.filter(is_same).or(known.previous);
        let (outcome, open) = Search::new(self.config, &known, sys::random_seed())
            .map_err(|_| format!("--host '{}': not a domain name", self.config.host))
            .and_then(|mut search| {
                let events = EventLoop::new(clock, self.config, &mut timeline, &mut self.log)?;
                let (outcome, open) = events.run(&mut search);
                Ok((outcome, Some(open)))
            })
            .unwrap_or_else(|message| {
                self.log.write(Level::Error, &message);
                (Outcome::NotFound, None)
            });
        if let Outcome::Found(Found { remote, by_name, .. }) = outcome {
            self.previous = Some(Previous { address: remote.ip(), by_name });
        }
        Ended { outcome, clock, timeline, _open: open }
    }

    /// Brings the files up to date, and tells what is new about it; false where they could not be
    /// written.
    fn decide(&mut self, Ended { outcome, clock, timeline, .. }: &Ended) -> bool {
        let ended = clock.now();
        let files = output::render(self.config, *outcome);
        let is_new = self.standing.as_ref() != Some(&files);
        if is_new {
            self.log.write(Level::Notice, &report::summarise(*outcome, ended));
        }
        let is_written = self.config.dry_run || self.write(*outcome, &files, *clock, is_new);
        if is_new {
            self.print_report(timeline, ended, *outcome, &files);
        }
        self.standing = Some(files);
        is_written
    }

    /// Writes the files and, if they are new, says so; false if that failed.
    fn write(&mut self, outcome: Outcome, files: &Files, clock: Clock, is_new: bool) -> bool {
        let give_up_at = match outcome {
            Outcome::Interrupted => clock.now() + STOP_TIMEOUT,
            _ => Elapsed::START + self.config.budget,
        };
        let mut wait = |interval| {
            std::thread::sleep(interval);
            clock.now() < give_up_at
        };
        let Some(directory) = &self.config.output_dir else {
            self.log.write(
                Level::Error,
                "nowhere to write: $XDG_RUNTIME_DIR is not set; name a place with --output-dir",
            );
            self.show(files);
            return false;
        };
        match output::replace(directory, self.config.short_name(), files, &mut wait) {
            Ok(()) if is_new => {
                let path = output::nix_conf_path(directory);
                self.log.write(Level::Info, &format!("{path} is up to date"));
                self.show(files);
                true
            }
            Ok(()) => true,
            Err(error) => {
                self.log.write(Level::Error, &error.message());
                false
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
        if config.report == Report::Json {
            return print(&timeline.render_json(ended, outcome, config, files));
        }
        let mut text = String::new();
        if config.report == Report::Text {
            for line in timeline.render_text(ended, outcome) {
                text += if config.dry_run { "# " } else { "" };
                text += &line;
                text += "\n";
            }
        }
        if config.dry_run {
            text += &files.nix_conf;
        }
        print(&text);
    }
}

/// What the host's own files say of the cache.
fn read_known(config: &Config, log: &mut Log) -> Known {
    let credentials = std::env::var("CREDENTIALS_DIRECTORY").ok();
    let override_ =
        read_override(&config.override_file, credentials.as_deref(), config.port, &mut |problem| {
            log.write(Level::Error, problem);
        });
    let previous = config.output_dir.as_ref().and_then(|directory| {
        let path = output::address_path(directory, config.short_name());
        read_previous(&path)
    });
    let hosts = read_hosts(HOSTS, &config.host);
    Known { override_, previous, hosts, nameservers: read_nameservers(&sys::interface_index) }
}

/// Prints to standard output; a closed one is the reader's choice.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

/// What standard error leads to.
fn sink() -> Sink {
    if sys::stderr_is_kernel_log() {
        Sink::KernelLog
    } else if std::env::var_os("JOURNAL_STREAM").is_some() {
        Sink::Journal
    } else if std::io::stderr().is_terminal() {
        Sink::Terminal
    } else {
        Sink::Plain
    }
}
