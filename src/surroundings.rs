//! The network over the time of a search: when it is looked at, since when it is up, and whether it
//! has become another one.

use std::time::Duration;

use crate::elapsed::Elapsed;
use crate::facts::Network;

/// How often the network's state is read again without being told: a DHCP client may write
/// resolv.conf, which nothing announces, some time after it has set the address.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// How long the files and DNS have before the network is looked at, if they are not done sooner. A
/// server on the LAN answers in a fraction of this, and then nobody else is ever bothered.
const QUIET_TIME: Duration = Duration::from_millis(2);
/// How long a network that came up while we waited may still change before it is judged.
const NETWORK_SETTLE_TIME: Duration = Duration::from_secs(1);
/// How long after its start a host may still be bringing its network up: what systemd gives
/// network-online.target.
const BOOT_TIME: Duration = Duration::from_secs(120);
/// How long a host without a carrier is waited for later: a cable that was just plugged in takes two or
/// three seconds to speak.
const OFFLINE_TIME: Duration = Duration::from_secs(3);
/// Changes of the network after which who was silent is asked again: containers and cables that come
/// and go all the time must not keep the search from ending.
const MOVES_MAX: u32 = 4;

/// The network, as far as a search has seen it.
#[derive(Debug)]
pub struct Surroundings {
    /// As last seen.
    pub network: Network,
    /// The part of it that makes it this network and no other.
    place: Network,
    /// Whether it was looked at.
    pub is_known: bool,
    /// When it came up.
    pub up_since: Option<Elapsed>,
    /// Whether it has been down during the search.
    pub came_up_late: bool,
    /// How often it has become another one.
    moves: u32,
    /// When it is next looked at.
    pub look_at: Elapsed,
    /// When it has last changed.
    changed_at: Elapsed,
    /// Whether whatever brings a network up has had its time.
    has_booted: bool,
}

/// What is new about the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// It was down, or not known, and is up.
    pub came_up: bool,
    /// It is another one, where other hosts may be reached.
    pub has_moved: bool,
}

impl Surroundings {
    /// Nothing is known yet of the network of a host that has been up for so long.
    #[must_use]
    pub fn new(uptime: Duration) -> Self {
        Self {
            network: Network::default(),
            place: Network::default(),
            is_known: false,
            up_since: None,
            came_up_late: false,
            moves: 0,
            look_at: Elapsed::START + QUIET_TIME,
            changed_at: Elapsed::START,
            has_booted: BOOT_TIME <= uptime,
        }
    }

    /// Takes the network as it is now; `None` where nothing is new.
    pub fn update(&mut self, now: Elapsed, network: Network) -> Option<Change> {
        self.look_at = now + READ_INTERVAL;
        let is_first = !self.is_known;
        if !is_first && self.network == network {
            return None;
        }
        let was_up = self.network.is_up();
        let place = network.clone().place();
        let has_moved = self.moves < MOVES_MAX && self.place != place;
        self.moves += u32::from(has_moved);
        (self.network, self.place) = (network, place);
        self.is_known = true;
        self.changed_at = now;
        let is_up = self.network.is_up();
        self.came_up_late |= !is_up;
        let came_up = is_up && !was_up;
        if came_up {
            self.up_since = Some(now);
        }
        Some(Change { came_up, has_moved: has_moved || is_first })
    }

    /// Whether it is to be looked at: in due time, or `early` the first time. Then it is, once.
    pub fn is_look_due(&mut self, now: Elapsed, early: bool) -> bool {
        let is_due = self.look_at <= now || !self.is_known && early;
        if is_due {
            self.look_at = now + READ_INTERVAL;
        }
        is_due
    }

    /// Since when it is up, if it is.
    #[must_use]
    pub fn is_up_since(&self) -> Option<Elapsed> {
        self.up_since.filter(|_| self.network.is_up())
    }

    /// When a search that may take until `at` ends for want of a network: a host that has long booted
    /// and is offline may stay so.
    #[must_use]
    pub fn ends_by(&self, at: Elapsed) -> Elapsed {
        let is_offline = self.has_booted && self.network.is_offline();
        if is_offline { at.min(self.changed_at + OFFLINE_TIME) } else { at }
    }

    /// The network as last seen, and which it is, if it was looked at.
    #[must_use]
    pub fn into_parts(self) -> (Network, Option<Network>) {
        (self.network, Some(self.place).filter(|_| self.is_known))
    }

    /// When it has settled, if it is up.
    #[must_use]
    pub fn settled_at(&self) -> Option<Elapsed> {
        let up_since = self.is_up_since()?;
        Some(if self.came_up_late { up_since + NETWORK_SETTLE_TIME } else { up_since })
    }
}
