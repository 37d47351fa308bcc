//! Takes the start of the clock, reads the command line, and hands over.

use std::process::ExitCode;

use cache_resolver::cli::{self, Command, Environment};
use cache_resolver::config::Verbosity;
use cache_resolver::io::{Clock, StopSignals};
use cache_resolver::run::{run, status};
use cache_resolver::sys;
use cache_resolver::tell::{Level, Log, Sink};

/// Memory for the one thread there is.
#[global_allocator]
#[expect(unsafe_code, reason = "only the program itself knows that it has one thread")]
// SAFETY: it never starts another.
static ALLOCATOR: sys::Allocator = unsafe { sys::Allocator::new() };

fn main() -> ExitCode {
    let signals = StopSignals::block();
    let clock = Clock::start();
    sys::let_all_read();
    let environment = Environment {
        runtime_directory: std::env::var("RUNTIME_DIRECTORY").ok(),
        xdg_runtime_dir: std::env::var("XDG_RUNTIME_DIR").ok(),
        user: sys::effective_user(),
    };
    let text = match cli::parse(std::env::args_os().skip(1), &environment) {
        Ok(Command::Run(config)) => return run(&config, &signals, clock),
        Ok(Command::Help) => cli::HELP,
        Ok(Command::Version) => concat!("cache-resolver ", env!("CARGO_PKG_VERSION"), "\n"),
        Err(message) => {
            let mut log = Log::new(Sink::of_stderr(), Verbosity::Quiet);
            log.write(Level::Error, &format!("{message}; see cache-resolver --help"));
            return ExitCode::from(status::USAGE);
        }
    };
    sys::print(text, signals.as_raw_fd());
    ExitCode::SUCCESS
}
