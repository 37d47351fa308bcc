//! The days of a watcher: hours in which its machine moves, and caches and servers come and go.

use std::net::SocketAddr;
use std::time::Duration;

use cache_resolver::elapsed::Elapsed;
use cache_resolver::facts::{Network, Previous};
use cache_resolver::model::{Methods, Note, Origin, Outcome};
use cache_resolver::watch::{Ask, Due, Schedule};
use cache_resolver::wire::netlink::LinkKind;

use crate::support::NXDOMAIN;
use crate::world::{Dice, Hearing, Host, Responder, Server, World, config, millis, run as search};

/// How long a day is, in hours.
const HOURS: u32 = 8;
/// The same.
const DAY: Duration = Duration::from_secs(HOURS as u64 * 3600);
/// Searches in an hour in which nothing changes: one a minute.
const SEARCHES_MAX: usize = 60;
/// Searches that one change may cause besides: two checks, one of everybody, and the first by name.
const SEARCHES_OF_CHANGE_MAX: usize = 4;
/// How long a decision may stand for a cache that is no more: a check each minute, ten seconds for each of
/// three searches, and five of doubt.
const STALE_MAX: Duration = Duration::from_secs(100);
/// How long until a cache is found that has been here before: it is asked each minute.
const RETURN_MAX: Duration = Duration::from_secs(90);
/// The same of one that is new here: it is asked for by name every thirty minutes.
const NEW_MAX: Duration = Duration::from_secs(31 * 60 + 30);
/// How long until it is known where the machine has come to: a second to settle, and a search.
const MOVE_MAX: Duration = Duration::from_secs(12);
/// How long a machine is nowhere between two places: longer than a search.
const WALK_MIN: u64 = 12;
/// What a search may send that asks everybody whom a watcher asks, every server and link four times.
const SENT_MAX: usize = 60;

/// Where the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Home,
    /// In somebody else's network, where every name leads to a page that wants a password.
    Away,
}

/// What changes.
#[derive(Clone, Copy, Debug)]
enum Change {
    Place(Place),
    Cache(Host),
    Dns(bool),
    Mdns(bool),
}

/// The world of a day at one moment.
#[derive(Clone, Debug)]
struct State {
    place: Place,
    cache: Host,
    /// Whether the server at home knows the cache.
    dns: bool,
    /// Whether the cache answers multicast DNS.
    mdns: bool,
}

/// What a day came to.
#[derive(Debug)]
pub struct Day {
    pub searches: usize,
    pub decisions: usize,
}

fn cache() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 141], 9999))
}

impl State {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Place(place) => self.place = place,
            Change::Cache(host) => self.cache = host,
            Change::Dns(knows) => self.dns = knows,
            Change::Mdns(answers) => self.mdns = answers,
        }
    }

    /// Whether there is a cache to be used.
    fn has_cache(&self) -> bool {
        self.place == Place::Home && self.cache == Host::Cache
    }

    /// Whether its name leads to it.
    fn is_named(&self) -> bool {
        self.has_cache() && (self.dns || self.mdns)
    }

    /// The LAN that a search begins in, or may come to.
    fn world(&self, seed: u64, place: Place) -> World {
        let mut world = World::new(seed);
        let (own, server) = match place {
            Place::Home | Place::Nowhere => ([10, 0, 0, 99], [10, 0, 0, 1]),
            Place::Away => ([10, 9, 0, 7], [10, 9, 0, 1]),
        };
        world.links = vec![(own.into(), 24, LinkKind::Hardware)];
        world.gateways = vec![SocketAddr::from((server, 0))];
        let portal = SocketAddr::from((server, 9999));
        let answer = match (place, self.dns) {
            (Place::Away, _) => Server::Answers(vec![portal.ip()]),
            (_, true) => Server::Answers(vec![cache().ip()]),
            (_, false) => Server::Denies(NXDOMAIN),
        };
        world.servers = vec![(SocketAddr::from((server, 53)), answer, millis(2))];
        if place == Place::Away {
            world.hosts.push((portal, Host::Page, millis(2)));
        } else {
            world.hosts.push((portal, Host::Refuses, millis(1)));
            world.hosts.push((cache(), self.cache, millis(2)));
        }
        if place != Place::Away && self.mdns && self.cache == Host::Cache {
            let (address, answers) = (cache().ip(), vec![cache().ip()]);
            let hearing = Hearing::Anybody;
            world.responders.push(Responder { address, delay: millis(3), hearing, answers });
        }
        world
    }
}

/// Changes from time to time, in order.
fn changes(dice: &mut Dice) -> Vec<(Duration, Change)> {
    let mut changes = Vec::new();
    let mut at = 0;
    loop {
        let pause = dice.pick(&[3, 20, 90, 600, 3600, 7200]);
        at += 1 + dice.below(pause);
        let when = Duration::from_millis(at * 1000 + dice.below(1000));
        if DAY < when {
            return changes;
        }
        changes.push((
            when,
            match dice.below(7) {
                0 | 1 => {
                    let place = dice.pick(&[Place::Home, Place::Home, Place::Away]);
                    changes.push((when, Change::Place(Place::Nowhere)));
                    at += WALK_MIN + dice.below(60);
                    changes.push((Duration::from_secs(at), Change::Place(place)));
                    continue;
                }
                2 => Change::Cache(dice.pick(&Host::LIARS)),
                3 | 4 => Change::Cache(Host::Cache),
                5 => Change::Dns(dice.percent(70)),
                _ => Change::Mdns(dice.percent(70)),
            },
        ));
    }
}

/// A day under way.
struct Watched {
    seed: u64,
    tells: bool,
    state: State,
    /// Those to come, the next one last.
    changes: Vec<(Duration, Change)>,
    now: Duration,
    schedule: Schedule,
    /// The network that was searched.
    place: Network,
    /// The cache of the decision that stands.
    decision: Option<SocketAddr>,
    previous: Option<Previous>,
    loss: u64,
    /// When anything has last changed, and whether that was the network.
    changed: (Duration, bool),
    /// Whether the cache has been found since the machine came here.
    was_found_here: bool,
    day: Day,
}

/// Lives through the day of that number.
///
/// A decision is never older than it may be; nobody is asked more often than he should be, or swept; and
/// every search holds what [`crate::world::run`] checks.
pub fn run(seed: u64, tells: bool) -> Day {
    let mut dice = Dice::new(seed);
    let mut all = changes(&mut dice);
    let changes_count = all.len();
    all.reverse();
    let mut watched = Watched {
        seed,
        tells,
        state: State {
            place: dice.pick(&[Place::Home, Place::Home, Place::Nowhere]),
            cache: dice.pick(&[Host::Cache, Host::Refuses]),
            dns: true,
            mdns: dice.percent(50),
        },
        changes: all,
        now: Duration::ZERO,
        schedule: Schedule::new(Elapsed::START),
        place: Network::default(),
        decision: None,
        previous: None,
        loss: dice.pick(&[0, 0, 2, 20]),
        changed: (Duration::ZERO, true),
        was_found_here: false,
        day: Day { searches: 0, decisions: 0 },
    };
    watched.ask(None);
    while watched.now < DAY {
        watched.go_on();
    }
    let searches_max = HOURS as usize * SEARCHES_MAX + changes_count * SEARCHES_OF_CHANGE_MAX;
    let searches = watched.day.searches;
    assert!(searches <= searches_max, "{searches} searches, {changes_count} changes");
    watched.day
}

impl Watched {
    fn elapsed(&self) -> Elapsed {
        Elapsed::START + self.now
    }

    fn tell(&self, what: &str) {
        if self.tells {
            println!("== {:.3} s: {what}", self.now.as_secs_f64());
        }
    }

    /// The next change, or what is due before it.
    fn go_on(&mut self) {
        let due_at = self.schedule.next_at().since(Elapsed::START).max(self.now);
        let next = self.changes.last().map(|(at, _)| *at).filter(|at| *at <= due_at);
        self.check(next.unwrap_or(due_at));
        self.now = next.unwrap_or(due_at);
        if next.is_some() {
            self.take_change();
            return;
        }
        let due = self.schedule.due(self.elapsed()).expect("what was to be due is");
        // As `Watcher` does it: the kernel tells of all but resolv.conf.
        let up = self.state.place != Place::Nowhere;
        let seen = self.state.world(0, self.state.place).network(up, Elapsed::START).place();
        match due {
            Due::Settled if seen != self.place => {
                self.place = seen;
                self.schedule.handle_move(self.elapsed());
                self.ask(Some(Ask::All));
            }
            Due::Ask(ask) => self.ask(Some(ask)),
            Due::Settled | Due::Look => {}
        }
    }

    /// Something changes now.
    fn take_change(&mut self) {
        let (at, change) = self.changes.pop().expect("a change");
        self.tell(&format!("{change:?}"));
        self.state.apply(change);
        let is_move = matches!(change, Change::Place(_));
        if is_move {
            self.was_found_here = false;
            self.schedule.handle_change(self.elapsed());
        }
        self.changed = (at, is_move);
    }

    /// Whether the decision may still stand at `until`, before which nothing happens.
    fn check(&self, until: Duration) {
        let (changed_at, was_move) = self.changed;
        let age = until.saturating_sub(changed_at);
        let context = format!("day {}, at {:?}, {:?}", self.seed, until, self.state);
        if self.decision.is_some() && !self.state.has_cache() {
            let age_max = if was_move { MOVE_MAX } else { STALE_MAX };
            assert!(age <= age_max, "{context}: a cache that is no more, for {age:?}");
        }
        if self.decision.is_none() && self.state.is_named() && self.loss == 0 {
            let age_max = match was_move {
                true => MOVE_MAX,
                false if self.was_found_here => RETURN_MAX,
                false => NEW_MAX,
            };
            assert!(age <= age_max, "{context}: a cache that is not used, for {age:?}");
        }
    }

    /// Somebody is asked: everybody the first time.
    fn ask(&mut self, ask: Option<Ask>) {
        let later = config("10", "--watch").later_methods;
        let methods = match ask {
            None => config("10", "").methods,
            Some(Ask::All) => later,
            Some(Ask::Named) => later.named(),
            Some(Ask::Previous) => Methods::NONE.with(Origin::Previous),
        };
        let mut world = self.world();
        world.methods = Some(methods);
        self.tell(&format!("asks {ask:?}, {:?}", self.state));
        self.day.searches += 1;
        let end = search(&mut world, &format!("day {} at {:?}", self.seed, self.now));
        if ask.is_some() {
            assert!(world.sent <= SENT_MAX, "{ask:?}: {} sent", world.sent);
            let is_swept = world.notes.iter().any(|note| matches!(note, Note::Sweeps { .. }));
            assert!(!is_swept && world.pinged.is_empty(), "{ask:?}");
        }
        let took = end.at.since(Elapsed::START);
        let mut moved = false;
        // What happens meanwhile the schedule learns afterwards.
        let ends_at = self.now + took;
        while self.changes.last().is_some_and(|(at, _)| *at <= ends_at) {
            moved |= matches!(self.changes.last(), Some((_, Change::Place(_))));
            self.take_change();
        }
        self.now = ends_at;
        let found = match end.outcome {
            Outcome::Found(found) => Some(found),
            _ => None,
        };
        self.schedule.handle_answer(self.elapsed(), found.is_some());
        if moved {
            self.schedule.handle_change(self.elapsed());
        }
        if let Some(place) = end.place.filter(|_| matches!(ask, None | Some(Ask::All))) {
            self.place = place;
        } else if self.place == Network::default() {
            let up = self.state.place != Place::Nowhere;
            self.place = self.state.world(0, self.state.place).network(up, Elapsed::START).place();
        }
        if let Some(found) = found {
            assert_eq!(found.remote, cache(), "who else");
            let (remote, path) = (found.remote, found.path);
            let (by_name, is_announced) = (found.by_name, false);
            self.previous = Some(Previous { remote, path, by_name, is_announced });
            self.was_found_here |= !moved;
        }
        // That one cache does not answer decides nothing.
        if found.is_some() || ask != Some(Ask::Previous) {
            let decision = found.map(|found| found.remote);
            self.day.decisions += usize::from(decision != self.decision);
            self.decision = decision;
            self.tell(&format!("{decision:?}"));
        }
    }

    /// The world of a search that begins now, with all that happens while it may last.
    fn world(&self) -> World {
        let soon = self.now + Duration::from_secs(11);
        let meanwhile = || self.changes.iter().rev().take_while(move |(at, _)| *at <= soon);
        let mut place = self.state.place;
        let mut ups = vec![(Elapsed::START, place != Place::Nowhere)];
        let mut state = self.state.clone();
        let after = |at: Duration| Elapsed::START + at.saturating_sub(self.now);
        for (at, change) in meanwhile() {
            match change {
                Change::Place(Place::Nowhere) => ups.push((after(*at), false)),
                Change::Place(come_to) => {
                    if place == Place::Nowhere {
                        place = *come_to;
                    }
                    ups.push((after(*at), true));
                }
                // A host of the world changes once.
                Change::Cache(_) if state.cache != self.state.cache => {}
                Change::Cache(Host::Cache) if state.cache != Host::Cache => {
                    state.cache = Host::OpensAt(after(*at));
                }
                Change::Cache(host) if state.cache == Host::Cache && *host != Host::Cache => {
                    state.cache = Host::DiesAt(after(*at));
                }
                _ => {}
            }
        }
        if ups.first().is_some_and(|(_, is_up)| !is_up) && ups.len() == 1 {
            ups.push((millis(60_000), true));
        }
        let mut world = state.world(self.seed ^ self.day.searches as u64, place);
        world.network_changes = ups;
        world.known.previous = self.previous;
        world.known.uptime = Duration::from_secs(600) + self.now;
        (world.loss, world.tells) = (self.loss, self.tells);
        world
    }
}
