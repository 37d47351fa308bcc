//! `--watch`: waits for a reason to search again.

use std::os::fd::AsRawFd as _;

use libc::POLLIN;
use socket2::Socket;

use super::{Clock, RECEIVE_MAX, StopSignals};
use crate::facts::{Network, drain_changes, read_network, read_resolv_conf, watch_network};
use crate::sys;
use crate::watch::{Ask, Due, Schedule};

/// Waits until it is time to ask for the cache again.
#[derive(Debug)]
pub struct Watcher<'a> {
    /// Ask us to stop.
    signals: &'a StopSignals,
    /// Tells of changes of the network, those during a search included; none where the system has no
    /// netlink for us.
    changes: Option<Socket>,
    /// The clock of the schedule.
    clock: Clock,
    /// The network that was searched.
    place: Network,
    /// When to wake up.
    schedule: Schedule,
}

impl<'a> Watcher<'a> {
    /// Watches the network, in which the first search is about to begin.
    #[must_use]
    pub fn new(signals: &'a StopSignals) -> Self {
        let clock = Clock::start();
        let changes = watch_network().ok();
        let place = Network::default();
        Self { signals, changes, clock, place, schedule: Schedule::new(clock.now()) }
    }

    /// Takes whether the search that was due has led to a cache, and where it has searched. One that did
    /// not have to look at the network is as good as made in the present one the first time.
    pub fn handle_answer(&mut self, is_found: bool, place: Option<Network>) {
        self.schedule.handle_answer(self.clock.now(), is_found);
        if let Some(place) = place {
            self.place = place;
        } else if self.place == Network::default() {
            self.place = read_place().unwrap_or_default();
        }
    }

    /// Waits until somebody is to be asked; `None` when a signal has come.
    ///
    /// # Errors
    /// Where the system has no poll(2) for us.
    pub fn wait(&mut self) -> sys::Result<Option<Ask>> {
        loop {
            if let Some(due) = self.schedule.due(self.clock.now())
                && let Some(ask) = self.look(due)
            {
                return Ok(Some(ask));
            }
            // poll(2) ignores negative descriptors.
            let changes = self.changes.as_ref().map_or(-1, Socket::as_raw_fd);
            let mut descriptors = [self.signals.as_raw_fd(), changes]
                .map(|descriptor| sys::pollfd(descriptor, POLLIN));
            sys::poll(&mut descriptors, self.schedule.next_at().since(self.clock.now()))?;
            let [is_stopped, has_changed] = descriptors.map(|descriptor| descriptor.revents != 0);
            if is_stopped {
                return Ok(None);
            }
            if let Some(changes) = self.changes.as_ref().filter(|_| has_changed) {
                drain_changes(changes);
                self.schedule.handle_change(self.clock.now());
            }
        }
    }

    /// Whom to ask, now that something is due and the network is what it is.
    fn look(&mut self, due: Due) -> Option<Ask> {
        // Of all but resolv.conf the kernel tells us. Without an answer what is known stands.
        let is_whole = due == Due::Settled || self.changes.is_none();
        let place = is_whole.then(read_place).and_then(Result::ok);
        let place = place.unwrap_or_else(|| {
            let mut place = self.place.clone();
            place.nameservers = read_resolv_conf(sys::interface_index).nameservers;
            place
        });
        let now = self.clock.now();
        match due {
            Due::Settled if place != self.place => {
                self.place = place;
                self.schedule.handle_move(now);
                Some(Ask::All)
            }
            _ if place != self.place => {
                self.schedule.handle_change(now);
                None
            }
            Due::Ask(ask) => Some(ask),
            Due::Settled | Due::Look => None,
        }
    }
}

/// The network as far as it decides where the cache is.
fn read_place() -> sys::Result<Network> {
    read_network(&mut vec![0; RECEIVE_MAX]).map(Network::place)
}
