//! Everything that touches a descriptor or the clock.
//!
//! [`EventLoop`] runs one search, [`Watcher`] waits for the next.

mod conversation;
mod event_loop;
mod sockets;
mod wait;

pub use event_loop::{EventLoop, StillOpen};
pub use wait::Watcher;

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use crate::elapsed::Elapsed;
use crate::sys;

/// Bytes read at a time: more than any DNS answer without EDNS, and what netlink sends at most.
pub const RECEIVE_MAX: usize = 32 * 1024;

/// The monotonic clock since the start of the program, or of a later search.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Duration);

impl Clock {
    /// Now is the start.
    #[must_use]
    pub fn start() -> Self {
        Self(sys::monotonic_time())
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Elapsed {
        Elapsed::START + sys::monotonic_time().saturating_sub(self.0)
    }
}

/// The signals that ask us to stop, SIGTERM and SIGINT: once one has come it stays.
#[derive(Debug)]
pub struct StopSignals(Option<OwnedFd>);

impl StopSignals {
    /// From here on such a signal ends nothing by itself, unless the system cannot tell us of it.
    #[must_use]
    pub fn block() -> Self {
        Self(sys::stop_signals().ok())
    }

    /// Whether one has come, or comes within this time.
    #[must_use]
    pub fn have_come(&self, within: Duration) -> bool {
        sys::is_readable(self.as_raw_fd(), within)
    }

    /// Readable once one has come; negative, which poll(2) passes over, where none can.
    #[must_use]
    pub fn as_raw_fd(&self) -> RawFd {
        self.0.as_ref().map_or(-1, OwnedFd::as_raw_fd)
    }
}
