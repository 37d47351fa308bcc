//! When the weak methods begin, those that search instead of asking for a name.

use std::time::Duration;

use crate::elapsed::Elapsed;
use crate::model::{Methods, Origin};

/// The weak methods and when each may start, counted from when the network is up: sooner if all
/// before it are finished. Each costs others more than the one before it.
pub const SCHEDULE: [(Origin, Duration); 4] = [
    (Origin::Gateway, Duration::from_millis(50)),
    (Origin::Neighbours, Duration::from_millis(100)),
    (Origin::Ping, Duration::from_millis(250)),
    (Origin::Sweep, Duration::from_millis(500)),
];

/// Which of them are to begin, and which have.
#[derive(Debug)]
pub struct Schedule {
    /// The methods that may be used.
    methods: Methods,
    /// The weak ones that have begun.
    started: Methods,
}

impl Schedule {
    /// Of a search with these methods.
    pub const fn new(methods: Methods) -> Self {
        Self { methods, started: Methods::NONE }
    }

    /// Notes that a method begins.
    pub const fn start(&mut self, origin: Origin) {
        self.started = self.started.with(origin);
    }

    /// Whether a weak method has begun.
    pub const fn has_started(&self, origin: Origin) -> bool {
        self.started.contains(origin)
    }

    /// Whether a weak method is to be used and has not begun.
    pub const fn is_yet_to_start(&self, origin: Origin) -> bool {
        self.methods.contains(origin) && !self.has_started(origin)
    }

    /// When the next one may start of a network that is up since `up_since`, and that is not yet: a start
    /// may wait for something else, and then its time passes.
    pub fn next_at(&self, now: Elapsed, up_since: Option<Elapsed>) -> Option<Elapsed> {
        let starts = SCHEDULE.into_iter().filter(|(origin, _)| self.is_yet_to_start(*origin));
        starts.filter_map(|(_, after)| Some(up_since? + after)).filter(|at| now < *at).min()
    }
}
