//! The log on standard error: priorities for the journal, a progress line for a person.

use std::time::Duration;

use super::account::Account;
use super::words::{Level, Problem, describe, describe_problem, progress_line};
use crate::config::Verbosity;
use crate::elapsed::Elapsed;
use crate::model::Note;
use crate::path::Paths;
use crate::sys;
use crate::text::Text;

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
        } else if sys::is_terminal(libc::STDERR_FILENO) {
            // One that was started from a unit has inherited the variable, and is no journal for that.
            if is_dumb_terminal() { Self::Plain } else { Self::Terminal }
        } else if sys::environment("JOURNAL_STREAM").is_some() {
            Self::Journal
        } else {
            Self::Plain
        }
    }
}

/// Whether the terminal shows letters and nothing else, or may do no more.
pub(super) fn is_dumb_terminal() -> bool {
    sys::environment("TERM").is_none_or(|kind| kind.is_empty() || kind == "dumb")
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

    /// Writes lines, each whole: the kernel's log makes a record of each write.
    pub fn write(&mut self, level: Level, message: &str) {
        if level > self.threshold {
            return;
        }
        self.clear_progress();
        for line in message.split('\n') {
            let mut text = Text::default();
            if matches!(self.sink, Sink::Journal | Sink::KernelLog) {
                text.add("<").decimal(level as u64).add(">");
            }
            text.add(if self.sink == Sink::Journal { "" } else { "cache-resolver: " });
            self.put(&text.add(line).add("\n").0);
        }
    }

    /// Tells what has happened, if anybody wants to hear it. What that means is said when the search is
    /// over: until then a candidate that is no cache is no reason to worry.
    pub fn note(&mut self, note: Note, paths: &Paths) {
        if Level::Debug <= self.threshold && note.is_worth_telling() {
            let mut text = Text::default();
            describe(note, paths, &mut text);
            self.write(Level::Debug, &text.0);
        }
    }

    /// Tells what keeps us from doing something, and below it the remedy.
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

    /// Redraws the progress line when it would change: who is at work, how far the sweep is (addresses
    /// asked, and all there are), and how much of the budget is over.
    pub fn progress(
        &mut self,
        account: &Account,
        swept: Option<(u32, u32)>,
        now: Elapsed,
        budget: Duration,
    ) {
        let tenths = now.as_micros() / 100_000;
        if self.progress != Some(tenths) {
            let mut line = progress_line(account, swept, now, budget);
            line.truncate(sys::columns_of_stderr().saturating_sub(1));
            self.put(&[ERASE_LINE, &line].concat());
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
