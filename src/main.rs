//! Takes the start of the clock, reads the command line, and hands over.
#![no_main]

use std::ffi::{OsString, c_char, c_int};
use std::time::Duration;

use cache_resolver::cli::{self, Command, Environment};
use cache_resolver::config::Verbosity;
use cache_resolver::io::{Clock, StopSignals};
use cache_resolver::run::{run, status};
use cache_resolver::sys;
use cache_resolver::tell::{Level, Log, Problem, Sink};

/// Memory for the one thread there is.
#[global_allocator]
#[expect(unsafe_code, reason = "only the program itself knows that it has one thread")]
// SAFETY: it never starts another.
static ALLOCATOR: sys::Allocator = unsafe { sys::Allocator::new() };

/// How long whoever asked for the help may leave it unread.
const HELP_PATIENCE: Duration = Duration::from_secs(10);

/// What the C library calls. What std does before its own `main` costs 5 KB; `sys::begin` does the
/// part of it that we need.
#[expect(unsafe_code, reason = "the C library's interface")]
// SAFETY: there is no other function of this name, and the C library gives what it takes.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: as the C library gives them.
    decide(unsafe { sys::begin(count, arguments) })
}

/// Does what the arguments say: the exit status.
fn decide(arguments: Vec<OsString>) -> c_int {
    let signals = StopSignals::block();
    let clock = Clock::start();
    sys::let_all_read();
    let environment = Environment {
        runtime_directory: sys::environment("RUNTIME_DIRECTORY"),
        xdg_runtime_dir: sys::environment("XDG_RUNTIME_DIR"),
        user: sys::effective_user(),
    };
    let text = match cli::parse(arguments, &environment) {
        Ok(Command::Run(config)) => {
            let status = run(&config, &signals, clock);
            // Who was to stay is started again.
            return if config.watch && ALLOCATOR.is_spent() { status::NOT_WRITTEN } else { status };
        }
        Ok(Command::Print(text)) => text,
        Err(message) => {
            let mut log = Log::new(Sink::of_stderr(), Verbosity::Quiet);
            log.write(Level::Error, &[&message, "\n  see cache-resolver --help"].concat());
            return status::USAGE;
        }
    };
    match sys::print(text, signals.as_raw_fd(), HELP_PATIENCE) {
        Ok(()) => status::DECIDED,
        Err(error) => {
            Log::new(Sink::of_stderr(), Verbosity::Quiet).problem(&Problem::NotPrinted(error));
            status::NOT_WRITTEN
        }
    }
}
