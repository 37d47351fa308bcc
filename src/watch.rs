//! `--watch`: when to search again, and whom to ask.

use std::time::Duration;

use crate::elapsed::Elapsed;

/// How long a burst of changes settles: a DHCP client sets the address, the routes and resolv.conf
/// one after the other.
const CHANGE_SETTLE_TIME: Duration = Duration::from_secs(1);
/// How often the chosen cache is asked whether it is still one, and resolv.conf is read, whose changes
/// nothing announces.
const WAKE_INTERVAL: Duration = Duration::from_secs(60);
/// How long after a failed check the cache is asked again: it may have been restarted.
const DOUBT_TIME: Duration = Duration::from_secs(5);
/// The longest time between two searches where there is no cache, in minutes: the first follow each
/// other after 1, 2, 4, 8 and 16.
const MINUTES_MAX: u32 = 30;

/// Whom to ask for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The cache where it was last found.
    Previous,
    /// Everybody who may know the cache by its name.
    Named,
    /// Everybody who is asked in a network that we come to.
    All,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A change of the network has settled: if it is another one now, ask everybody.
    Settled,
    /// Only what is done at each awakening: see whether the network has changed without a word.
    Look,
    /// And somebody is to be asked.
    Ask(Ask),
}

/// What is known of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is in use.
    Chosen,
    /// It is in use, but has failed a check.
    Doubted,
    /// It has failed twice, or this is another network: everybody is to be asked.
    Lost,
    /// Nobody has one.
    Missing {
        /// Minutes until the next search.
        left: u32,
        /// Minutes between the last search and the next.
        interval: u32,
    },
}

/// When the watcher wakes up, and what for. Pure: [`Watcher`](crate::io::Watcher) has the clock.
#[derive(Debug)]
pub struct Schedule {
    /// What is known of the cache.
    phase: Phase,
    /// Whether it has been found in this network: then its old place is asked each minute.
    was_found_here: bool,
    /// When to wake up.
    wake_at: Elapsed,
    /// When a change that is under way has settled; until then nothing else is due.
    settled_at: Option<Elapsed>,
}

impl Schedule {
    /// The schedule of a watcher whose first search begins now.
    #[must_use]
    pub fn new(now: Elapsed) -> Self {
        Self {
            phase: Phase::Lost,
            was_found_here: false,
            wake_at: now + WAKE_INTERVAL,
            settled_at: None,
        }
    }

    /// When something is next due.
    #[must_use]
    pub fn next_at(&self) -> Elapsed {
        self.settled_at.unwrap_or(self.wake_at)
    }

    /// What is due, once for each time.
    pub fn due(&mut self, now: Elapsed) -> Option<Due> {
        if now < self.next_at() {
            return None;
        }
        if self.settled_at.take().is_some() {
            return Some(Due::Settled);
        }
        self.wake_at = now + WAKE_INTERVAL;
        Some(match &mut self.phase {
            Phase::Chosen | Phase::Doubted => Due::Ask(Ask::Previous),
            Phase::Lost => Due::Ask(Ask::All),
            Phase::Missing { left, .. } => {
                *left = left.saturating_sub(1);
                match left {
                    0 => Due::Ask(Ask::Named),
                    _ if self.was_found_here => Due::Ask(Ask::Previous),
                    _ => Due::Look,
                }
            }
        })
    }

    /// Something of the network has changed.
    pub fn handle_change(&mut self, now: Elapsed) {
        self.settled_at = self.settled_at.or(Some(now + CHANGE_SETTLE_TIME));
    }

    /// This is another network, and everybody is being asked.
    pub fn handle_move(&mut self, now: Elapsed) {
        *self = Self::new(now);
    }

    /// Whether those that were asked have led to a cache.
    pub fn handle_answer(&mut self, now: Elapsed, is_found: bool) {
        self.was_found_here |= is_found;
        self.phase = match self.phase {
            _ if is_found => Phase::Chosen,
            Phase::Chosen => {
                self.wake_at = now + DOUBT_TIME;
                Phase::Doubted
            }
            Phase::Doubted => {
                self.wake_at = now;
                Phase::Lost
            }
            Phase::Lost => Phase::Missing { left: 1, interval: 1 },
            Phase::Missing { left: 0, interval } => {
                let interval = (interval * 2).min(MINUTES_MAX);
                Phase::Missing { left: interval, interval }
            }
            // Only its old place was asked.
            missing @ Phase::Missing { .. } => missing,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole seconds at which a schedule has something to do until `end`, and what; `answer` says
    /// whether the cache is found, and each answer takes three seconds when it is not.
    fn simulate(end: u64, changes: &[u64], answer: impl Fn(u64, Ask) -> bool) -> Vec<(u64, Due)> {
        let at = |second: u64| Elapsed::START + Duration::from_secs(second);
        let mut schedule = Schedule::new(at(0));
        let mut log = Vec::new();
        schedule.handle_answer(at(0), answer(0, Ask::All));
        let mut busy_until = 0;
        for second in 0..=end {
            if changes.contains(&second) {
                schedule.handle_change(at(second));
            }
            if second < busy_until {
                continue;
            }
            assert!(second == 0 || schedule.next_at() >= at(second - 1), "nothing is overdue");
            while let Some(due) = schedule.due(at(second)) {
                log.push((second, due));
                if let Due::Ask(ask) = due {
                    let is_found = answer(second, ask);
                    busy_until = second + if is_found { 0 } else { 3 };
                    schedule.handle_answer(at(busy_until), is_found);
                }
                if busy_until > second {
                    break;
                }
            }
        }
        log
    }

    /// The entries that ask somebody.
    fn asks(log: &[(u64, Due)]) -> Vec<(u64, Ask)> {
        log.iter()
            .filter_map(|(second, due)| match due {
                Due::Ask(ask) => Some((*second, *ask)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn where_there_is_no_cache_those_who_know_its_name_are_asked_ever_more_rarely() {
        let log = simulate(151 * 60, &[], |_, _| false);
        let minutes = [1, 3, 7, 15, 31, 61, 91, 121, 151];
        assert_eq!(asks(&log), minutes.map(|minute| (minute * 60, Ask::Named)));
        // resolv.conf is looked at each minute, and nothing else wakes anybody up.
        let wakes: Vec<_> = log.iter().map(|(second, _)| *second).collect();
        assert_eq!(wakes, (1..=151).map(|minute| minute * 60).collect::<Vec<_>>());
    }

    #[test]
    fn the_chosen_cache_is_asked_each_minute() {
        let log = simulate(600, &[], |_, _| true);
        let expected: Vec<_> = (1..=10).map(|minute| (minute * 60, Ask::Previous)).collect();
        assert_eq!(asks(&log), expected);
        assert_eq!(log.len(), expected.len());
    }

    #[test]
    fn one_failed_check_is_doubt_and_two_are_a_loss() {
        let restarted = simulate(130, &[], |second, _| second != 60);
        assert_eq!(
            asks(&restarted),
            [(60, Ask::Previous), (68, Ask::Previous), (128, Ask::Previous)]
        );
        // Its place is asked each minute besides, and it is back in the fourth.
        let switched_off = simulate(320, &[], |second, _| !(60..=250).contains(&second));
        assert_eq!(
            asks(&switched_off),
            [
                (60, Ask::Previous),
                (68, Ask::Previous),
                (71, Ask::All),
                (131, Ask::Named),
                (191, Ask::Previous),
                (251, Ask::Named),
                (311, Ask::Previous),
            ]
        );
    }

    #[test]
    fn a_change_settles_before_anything_else_is_done() {
        let log = simulate(130, &[30, 59], |_, _| true);
        assert_eq!(
            log,
            [
                (31, Due::Settled),
                (60, Due::Settled),
                (60, Due::Ask(Ask::Previous)),
                (120, Due::Ask(Ask::Previous))
            ]
        );
        // Changes without end put nothing off for ever.
        let storm: Vec<_> = (0..=200).collect();
        assert_eq!(asks(&simulate(200, &storm, |_, _| true)).len(), 3);
    }

    #[test]
    fn a_move_begins_anew() {
        let at = |second: u64| Elapsed::START + Duration::from_secs(second);
        let mut schedule = Schedule::new(at(0));
        schedule.handle_answer(at(0), true);
        schedule.handle_change(at(10));
        assert_eq!(schedule.due(at(11)), Some(Due::Settled));
        schedule.handle_move(at(11));
        schedule.handle_answer(at(14), false);
        // Where it was in the other network is not asked.
        assert_eq!(schedule.due(at(71)), Some(Due::Ask(Ask::Named)));
        schedule.handle_answer(at(74), false);
        assert_eq!(schedule.due(at(131)), Some(Due::Look));
    }
}
