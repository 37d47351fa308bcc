//! `--explain`: a run for people.

use super::words::{describe, milliseconds, summarise};
use crate::elapsed::Elapsed;
use crate::model::{Note, Outcome};
use crate::path::Paths;

/// Entries kept; a search that follows every word of a liar has some two hundred.
const TIMELINE_MAX: usize = 1024;

/// What happened, and when.
#[derive(Debug, Default)]
pub struct Timeline {
    /// In the order in which it happened.
    pub(super) entries: Vec<(Elapsed, Note)>,
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
    pub fn render_text(&self, ended: Elapsed, outcome: Outcome, paths: &Paths) -> Vec<String> {
        let mut lines: Vec<_> =
            self.entries.iter().map(|(at, note)| line(*at, &describe(*note, paths))).collect();
        lines.push(line(ended, &summarise(outcome, ended)));
        lines
    }
}

/// A line of the timeline.
fn line(at: Elapsed, text: &str) -> String {
    format!("{:>10} ms  {text}", milliseconds(at))
}
