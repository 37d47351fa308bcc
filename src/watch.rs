//! `--watch`: waits for a reason to search again.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use libc::POLLIN;
use socket2::Socket;

use crate::event_loop::{Clock, RECEIVE_MAX};
use crate::facts::{Network, drain_changes, read_network, watch_network};
use crate::model::{Elapsed, earliest};
use crate::sys;

/// How long a burst of changes settles: a DHCP client sets the address, the routes and resolv.conf
/// one after the other.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// How often the chosen cache is asked whether it is still one.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Without a check there is nothing to wake up for; poll(2) wants a number.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// Why to search again.
#[derive(Debug)]
pub enum Reason {
    /// This is another network now.
    Moved(Network),
    /// The chosen cache is to be asked.
    CheckDue,
    /// A signal: do not search, end.
    Stop,
}

/// The network as far as it decides where the cache is; empty where netlink is out of reach.
#[must_use]
pub fn read_place() -> Network {
    read_network(&mut vec![0; RECEIVE_MAX]).map(Network::place).unwrap_or_default()
}

/// Waits until the network is no longer `place`, the cache is to be checked, if it is, or a signal
/// comes.
///
/// # Errors
/// Where the system has no signals or poll(2) for us.
pub fn wait(place: &Network, checks: bool) -> io::Result<Reason> {
    let clock = Clock::start();
    let signals = sys::stop_signals()?;
    let changes = watch_network().ok();
    let check_at = checks.then_some(Elapsed::START + CHECK_INTERVAL);
    // What has changed since `place` was read has told the socket of the search, not ours.
    let mut look_at = (read_place() != *place).then_some(Elapsed::START + SETTLE_TIME);
    loop {
        let wake_at = earliest(look_at, check_at);
        let timeout = wake_at.map_or(FOREVER, |at| at.since(clock.now()));
        // poll(2) ignores negative descriptors.
        let descriptors = [signals.as_raw_fd(), changes.as_ref().map_or(-1, Socket::as_raw_fd)];
        let mut descriptors = descriptors.map(|descriptor| sys::pollfd(descriptor, POLLIN));
        sys::poll(&mut descriptors, timeout)?;
        let now = clock.now();
        let [is_stopped, has_changed] = descriptors.map(|descriptor| descriptor.revents != 0);
        if is_stopped {
            return Ok(Reason::Stop);
        }
        if let Some(changes) = changes.as_ref().filter(|_| has_changed) {
            drain_changes(changes);
            look_at = look_at.or(Some(now + SETTLE_TIME));
        }
        if look_at.is_some_and(|at| at <= now) {
            look_at = None;
            let found = read_place();
            if found != *place {
                return Ok(Reason::Moved(found));
            }
        }
        if check_at.is_some_and(|at| at <= now) {
            return Ok(Reason::CheckDue);
        }
    }
}
