//! Takes the start of the clock, reads the command line, runs the search, writes the files.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use cache_resolver::cli::{self, Command, Config, Environment, Report};
use cache_resolver::event_loop::{Clock, EventLoop};
use cache_resolver::facts::{Known, read_hosts, read_nameservers, read_override, read_previous};
use cache_resolver::log::{Level, Log, Sink};
use cache_resolver::model::{Elapsed, Outcome};
use cache_resolver::output::{self, Files};
use cache_resolver::report::{self, Timeline};
use cache_resolver::search::Search;
use cache_resolver::sys;

/// Memory for the one thread there is.
#[global_allocator]
static ALLOCATOR: sys::Allocator = sys::Allocator::new();

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
        Ok(Command::Run(config)) => run(&config, clock),
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

/// Searches, writes and reports.
fn run(config: &Config, clock: Clock) -> ExitCode {
    let mut log = Log::new(sink(), config.verbosity);
    let mut timeline = Timeline::default();
    let known = read_known(config, &mut log);
    let outcome = match search(config, &known, clock, &mut timeline, &mut log) {
        Ok(outcome) => outcome,
        Err(message) => {
            log.write(Level::Error, &message);
            Outcome::NotFound
        }
    };
    let ended = clock.now();
    let zone_of = |index| {
        let is_plain = |name: &String| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        sys::interface_name(index).filter(is_plain).unwrap_or_else(|| index.to_string())
    };
    let files = output::render(config, outcome, &zone_of);
    log.write(Level::Notice, &report::summarise(outcome, ended));
    let written = config.dry_run || write(config, outcome, &files, clock, &mut log);
    print_report(config, &timeline, ended, outcome, &files);
    match outcome {
        _ if !written => ExitCode::from(status::NOT_WRITTEN),
        Outcome::NoNetwork => ExitCode::from(status::NO_NETWORK),
        Outcome::Found(_) | Outcome::NotFound | Outcome::Interrupted => ExitCode::SUCCESS,
    }
}

/// What the host's own files say of the cache.
fn read_known(config: &Config, log: &mut Log) -> Known {
    let override_ = read_override(&config.override_file, config.port, &sys::interface_index)
        .unwrap_or_else(|message| {
            log.write(Level::Error, &message);
            None
        });
    let previous = config.output_dir.as_ref().and_then(|directory| {
        let path = output::address_path(directory, config.short_name());
        read_previous(&path, &sys::interface_index)
    });
    let hosts = read_hosts(HOSTS, &config.host);
    Known { override_, previous, hosts, nameservers: read_nameservers(&sys::interface_index) }
}

/// Runs the search.
fn search(
    config: &Config,
    known: &Known,
    clock: Clock,
    timeline: &mut Timeline,
    log: &mut Log,
) -> Result<Outcome, String> {
    let mut search = Search::new(config, known, sys::random_seed())
        .map_err(|_| format!("--host '{}': not a domain name", config.host))?;
    Ok(EventLoop::new(clock, config, timeline, log)?.run(&mut search))
}

/// Writes the files and says so; false if that failed.
fn write(config: &Config, outcome: Outcome, files: &Files, clock: Clock, log: &mut Log) -> bool {
    let give_up_at = match outcome {
        Outcome::Interrupted => clock.now() + STOP_TIMEOUT,
        _ => Elapsed::START + config.budget,
    };
    let mut wait = |interval| {
        std::thread::sleep(interval);
        clock.now() < give_up_at
    };
    let Some(directory) = &config.output_dir else {
        log.write(
            Level::Error,
            "nowhere to write: $XDG_RUNTIME_DIR is not set; name a place with --output-dir",
        );
        show(files, log);
        return false;
    };
    match output::replace(directory, config.short_name(), files, &mut wait) {
        Ok(()) => {
            log.write(Level::Info, &format!("wrote {}", output::nix_conf_path(directory)));
            show(files, log);
            true
        }
        Err(error) => {
            log.write(Level::Error, &error.message());
            false
        }
    }
}

/// Shows nix.conf to whoever reads the log.
fn show(files: &Files, log: &mut Log) {
    if log.shows_files() {
        for line in files.nix_conf.lines() {
            log.write(Level::Info, &["  ", line].concat());
        }
    }
}

/// Prints what the options ask for. After `--dry-run` standard output is a valid nix.conf: the
/// timeline stands in it as comments.
fn print_report(
    config: &Config,
    timeline: &Timeline,
    ended: Elapsed,
    outcome: Outcome,
    files: &Files,
) {
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
