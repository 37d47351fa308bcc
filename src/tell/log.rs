//! The log on standard error: priorities for the journal, a progress line for a person.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::words::{Level, Problem, describe, describe_problem, level_of};
use crate::config::Verbosity;
use crate::elapsed::Elapsed;
use crate::model::Note;
use crate::path::Paths;
use crate::sys;

/// How long a reader that does not take what we say holds us up, once: less than a signal may wait.
const PATIENCE: Duration = Duration::from_millis(20);

/// What standard error leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The journal, which knows our name: lines start with `<N>`.
    Journal,
    /// The kernel's log: lines start with `<N>` and our name.
    KernelLog,
    /// A person, who also sees the progress.
    Terminal,
    /// A file or a pipe.
    Plain,
}

impl Sink {
    /// What it leads to here.
    #[must_use]
    pub fn of_stderr() -> Self {
        if sys::stderr_is_kernel_log() {
            Self::KernelLog
        } else if sys::environment(c"JOURNAL_STREAM").is_some() {
            Self::Journal
        } else if std::io::stderr().is_terminal() {
            Self::Terminal
        } else {
            Self::Plain
        }
    }
}

/// Erases the rest of the line, ECMA-48 §8.3.41.
const ERASE_LINE: &str = "\r\x1b[K";

/// The log.
#[derive(Debug)]
pub struct Log {
    /// Where it goes.
    sink: Sink,
    /// The least serious level that is written.
    threshold: Level,
    /// The time on the progress line that stands on the terminal, in tenths of a second.
    progress: Option<u64>,
    /// Whether the reader did not take the last line: the next one does not wait for it.
    is_stuck: bool,
}

impl Log {
    /// A log of what `verbosity` lets through.
    #[must_use]
    pub const fn new(sink: Sink, verbosity: Verbosity) -> Self {
        let threshold = match verbosity {
            Verbosity::Quiet => Level::Warning,
            Verbosity::Normal => Level::Info,
            Verbosity::Verbose => Level::Debug,
        };
        Self { sink, threshold, progress: None, is_stuck: false }
    }

    /// Writes one line, whole: the kernel's log makes a record of each write.
    pub fn write(&mut self, level: Level, message: &str) {
        if level > self.threshold {
            return;
        }
        self.clear_progress();
        let line = match self.sink {
            Sink::Journal => format!("<{}>{message}\n", level as u8),
            Sink::KernelLog => format!("<{}>cache-resolver: {message}\n", level as u8),
            Sink::Terminal | Sink::Plain => format!("cache-resolver: {message}\n"),
        };
        self.put(&line);
    }

    /// Tells what has happened, if anybody wants to hear it.
    pub fn note(&mut self, note: Note, paths: &Paths) {
        let level = level_of(&note);
        if level <= self.threshold {
            self.write(level, &describe(note, paths));
        }
    }

    /// Tells what keeps us from doing something.
    pub fn problem(&mut self, problem: &Problem) {
        let (level, text) = describe_problem(problem);
        self.write(level, &text);
    }

    /// Whether a person watches and wants to see progress.
    #[must_use]
    pub fn shows_progress(&self) -> bool {
        self.sink == Sink::Terminal && self.threshold == Level::Info
    }

    /// Whether lines of several parts, such as a whole file, are welcome.
    #[must_use]
    pub fn shows_files(&self) -> bool {
        matches!(self.sink, Sink::Terminal | Sink::Plain) && self.threshold >= Level::Info
    }

    /// Redraws the progress line when it would change.
    pub fn progress(&mut self, now: Elapsed, host: &str) {
        let tenths = now.as_micros() / 100_000;
        if self.progress != Some(tenths) {
            self.put(&format!(
                "{ERASE_LINE}looking for {host} … {}.{} s",
                tenths / 10,
                tenths % 10
            ));
            self.progress = Some(tenths);
        }
    }

    /// Removes the progress line.
    pub fn clear_progress(&mut self) {
        if self.progress.take().is_some() {
            self.put(ERASE_LINE);
        }
    }

    /// Writes to standard error, where that does not keep us. The kernel's log takes everything, and
    /// cannot be asked.
    fn put(&mut self, text: &str) {
        let patience = if self.is_stuck { Duration::ZERO } else { PATIENCE };
        let patience = (self.sink != Sink::KernelLog).then_some(patience);
        self.is_stuck = !sys::write_log(text, patience);
    }
}
