//! Whole searches in a simulated LAN, with its losses, lies and delays.
//!
//! Every run checks the invariants in [`world::run`]. What fails prints the number of its world and its
//! timeline; `CACHE_RESOLVER_SEED=N cargo test --test sim TEST` runs that one alone, be it a random world
//! or one of a cross product. `CACHE_RESOLVER_SEEDS=1000000 cargo test --profile worlds --test sim random`
//! tries so many random worlds and, for each hundred of them, one day of a watcher.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_docs_in_private_items,
    reason = "a test may fail"
)]

mod announcers;
mod cases;
mod days;
mod liars;
#[path = "../support/mod.rs"]
mod support;
mod timeline;
mod world;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use announcers::{Announcer, BAD_PATHS, Domain, Says};
use cache_resolver::address::with_scope;
use cache_resolver::elapsed::Elapsed;
use cache_resolver::facts::{Known, Override, Previous};
use cache_resolver::interface::{Failure, Input, MdnsDatagram, Output};
use cache_resolver::model::{Found, Note, Origin, Outcome, Unusable};
use cache_resolver::path::{PathId, Paths};
use cache_resolver::search::Search;
use cache_resolver::wire::netlink::LinkKind;
use cases::choose;
use liars::{Deceit, TcpDeceit};
use world::{Dice, End, Hearing, Host, Responder, Server, World, millis, run};

/// Random worlds unless the environment says otherwise.
const SEEDS: u64 = 20_000;
/// Where the cache really is.
const CACHE: &str = "10.0.0.141:9999";

fn cache() -> SocketAddr {
    CACHE.parse().unwrap()
}

/// What a method does in the cross product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Answers,
    Silent,
    Lies,
    Late,
    DiesMidway,
}

/// Only the methods that name the cache.
const NAMED: &str = "--methods previous,hosts,dns,mdns";

const ALL: [Does; 5] = [Does::Answers, Does::Silent, Does::Lies, Does::Late, Does::DiesMidway];

/// Adds to the world a candidate from `origin` that does so; each method has addresses of its own.
fn add_method(world: &mut World, origin: Origin, does: Does) {
    let host_number = 140 + origin as u8;
    let address = [10, 0, 0, host_number].into();
    let remote = SocketAddr::new(address, 9999);
    let mut delay = millis(1);
    let host = match does {
        Does::Answers => Host::Cache,
        Does::Silent => return,
        Does::Lies => world.dice.pick(&Host::LIARS),
        Does::Late => {
            delay = millis(900);
            Host::Cache
        }
        Does::DiesMidway => Host::DiesMidway,
    };
    // What the host knows cannot come late, but the cache itself can.
    let at_home = matches!(origin, Origin::Previous | Origin::Hosts);
    world.hosts.push((remote, host, if at_home { delay } else { millis(1) }));
    match origin {
        Origin::Previous => {
            world.known.previous = Some(Previous {
                remote,
                path: PathId::CONFIGURED,
                by_name: false,
                is_announced: false,
            });
        }
        Origin::Hosts => world.known.hosts = vec![address],
        Origin::Dns => {
            world.servers.push((
                "10.0.0.1:53".parse().unwrap(),
                Server::Answers(vec![address]),
                delay,
            ));
        }
        Origin::Mdns => world.responders.push(Responder {
            address,
            delay,
            hearing: Hearing::Anybody,
            answers: vec![address],
        }),
        _ => unreachable!(),
    }
}

#[test]
fn every_method_in_every_mood() {
    let runs = cases::each("every_method_in_every_mood", 5 * 5 * 5 * 5 * 3, |case, tells| {
        let mut left = case;
        let moods = [(); 4].map(|()| choose(&mut left, &ALL));
        let mut world = World::new(left % 3);
        (world.options, world.tells) = (NAMED, tells);
        for (origin, does) in Origin::METHODS.into_iter().zip(moods) {
            add_method(&mut world, origin, does);
        }
        let context = format!("{moods:?}");
        let end = run(&mut world, &context);
        let is_there = moods.iter().any(|does| matches!(does, Does::Answers | Does::Late));
        assert_eq!(matches!(end.outcome, Outcome::Found(_)), is_there, "{context}: {end:?}");
        if moods.contains(&Does::Answers) {
            assert!(end.at < millis(100), "{context}: {end:?}");
        }
        assert!(end.at < millis(4500), "{context}: {end:?}");
    });
    println!("{} cases", runs.len());
}

/// Who is not believed, at every step that leads to him and in every way, while another has the
/// truth, or nobody does.
#[test]
fn liars_of_every_kind_at_every_step() {
    let origins = Origin::METHODS.len() as u64;
    let count = origins * Host::LIARS.len() as u64 * 4;
    let runs = cases::each("liars_of_every_kind_at_every_step", count, |case, tells| {
        let mut left = case;
        let origin = choose(&mut left, &Origin::METHODS);
        let liar = choose(&mut left, &Host::LIARS);
        let is_there = choose(&mut left, &[true, false]);
        let privileged = choose(&mut left, &[true, false]);
        let mut world = World::new(case);
        (world.options, world.domains, world.tells) = ("--browse", "lan", tells);
        (world.privileged, world.duplication, world.jitter) = (privileged, 50, 20_000);
        lead_to(&mut world, origin, [10, 0, 0, 66].into(), millis(1));
        world.hosts.push(("10.0.0.66:9999".parse().unwrap(), liar, millis(1)));
        if is_there {
            world.hosts.push((cache(), Host::Cache, millis(1)));
            lead_to(&mut world, Origin::Mdns, cache().ip(), millis(300));
        }
        let context = format!("{origin:?} leads to {liar:?}, cache {is_there}, {privileged}");
        let end = run(&mut world, &context);
        assert_eq!(matches!(end.outcome, Outcome::Found(_)), is_there, "{context}: {end:?}");
        let soon = if is_there { millis(400) } else { millis(9000) };
        assert!(end.at < soon, "{context}: {end:?}");
    });
    println!("{} cases", runs.len());
}

/// `origin` leads to that host.
fn lead_to(world: &mut World, origin: Origin, address: IpAddr, delay: Elapsed) {
    let remote = SocketAddr::new(address, 9999);
    match origin {
        Origin::Override => unreachable!(),
        Origin::Previous => {
            let path = PathId::CONFIGURED;
            let previous = Previous { remote, path, by_name: false, is_announced: false };
            world.known.previous = Some(previous);
        }
        Origin::Hosts => world.known.hosts = vec![address],
        Origin::Dns => {
            let server = Server::Answers(vec![address]);
            world.servers.push(("10.0.0.1:53".parse().unwrap(), server, delay));
        }
        Origin::Mdns => world.responders.push(Responder {
            address,
            delay,
            hearing: Hearing::Anybody,
            answers: vec![address],
        }),
        Origin::Announced => {
            let mut announcer = Announcer::new(address, 9999, &["path=/system"]);
            announcer.delay = delay;
            world.announcers.push(announcer);
        }
        Origin::Gateway => world.gateways = vec![SocketAddr::new(address, 0)],
        Origin::Neighbours => world.neighbours.push(address),
        Origin::Ping => world.pinged.push(address),
        // It sweeps whoever is there.
        Origin::Sweep => {}
    }
}

/// What is no answer is not one, whatever carries it, and the answer after it is.
#[test]
fn deceits_of_every_kind_are_passed_over() {
    let count = (3 * Deceit::ALL.len() + TcpDeceit::ALL.len()) as u64;
    let runs = cases::each("deceits_of_every_kind_are_passed_over", count, |case, tells| {
        let number = usize::try_from(case).unwrap();
        let kinds = Deceit::ALL.len();
        let deceit = Deceit::ALL[number % kinds];
        let answers = vec![cache().ip()];
        let (mut world, is_there) = match number / kinds {
            0 => (with_server(Server::DeceivesFirst(deceit, answers)), true),
            1 => (with_server(Server::Deceives(deceit)), false),
            2 => {
                let mut world = with_server(Server::Denies(support::NXDOMAIN));
                world.deceivers.push(([10, 0, 0, 66].into(), deceit, millis(1)));
                lead_to(&mut world, Origin::Mdns, cache().ip(), millis(20));
                (world, true)
            }
            _ => (with_server(Server::DeceivesOverTcp(TcpDeceit::ALL[number - 3 * kinds])), false),
        };
        world.tells = tells;
        let context = format!("case {case}, {:?} {:?}", world.servers, world.deceivers);
        let end = run(&mut world, &context);
        assert_eq!(matches!(end.outcome, Outcome::Found(_)), is_there, "{context}: {end:?}");
        assert!(end.at < if is_there { millis(50) } else { millis(2800) }, "{context}: {end:?}");
    });
    println!("{} cases", runs.len());
}

#[test]
fn random_worlds() {
    let count = cases::variable("CACHE_RESOLVER_SEEDS").unwrap_or(SEEDS);
    let found = cases::each("random_worlds", count, |seed, tells| {
        let mut world = World::random(seed);
        world.tells = tells;
        let must_find = world.must_find();
        let end = run(&mut world, &format!("CACHE_RESOLVER_SEED={seed}"));
        let is_found = matches!(end.outcome, Outcome::Found(_));
        assert!(is_found || !must_find, "CACHE_RESOLVER_SEED={seed}: {end:?} {world:#?}");
        is_found
    });
    let (count, found) = (found.len(), found.into_iter().filter(|is_found| *is_found).count());
    println!("{count} random worlds, the cache found in {found}");
    assert!(count < 1000 || (count / 20..count).contains(&found), "the worlds are all alike");
}

/// The random days of watchers.
#[test]
fn random_days() {
    let count = cases::variable("CACHE_RESOLVER_SEEDS").unwrap_or(SEEDS).div_ceil(100);
    let days = cases::each("random_days", count, days::run);
    let searches: usize = days.iter().map(|day| day.searches).sum();
    let decisions: usize = days.iter().map(|day| day.decisions).sum();
    println!("{} days, {searches} searches, {decisions} decisions", days.len());
    assert!(days.len() < 100 || decisions > 4 * days.len(), "the days are all alike");
}

/// A world with one server that does this, and nobody else.
fn with_server(server: Server) -> World {
    let mut world = World::new(7);
    world.options = NAMED;
    world.servers.push(("10.0.0.1:53".parse().unwrap(), server, millis(1)));
    world.hosts.push((cache(), Host::Cache, millis(1)));
    world
}

#[test]
fn how_long_nothing_takes() {
    let mut denied = with_server(Server::Denies(support::NXDOMAIN));
    let end = run(&mut denied, "denied");
    assert_eq!((end.outcome, end.at), (Outcome::NotFound, millis(1501)), "mDNS has its time");
    let mut silent = with_server(Server::Silent);
    let end = run(&mut silent, "silent");
    assert_eq!((end.outcome, end.at), (Outcome::NotFound, millis(2750)), "DNS has its time");
    let mut nobody = World::new(7);
    nobody.options = NAMED;
    let end = run(&mut nobody, "nobody");
    assert_eq!((end.outcome, end.at), (Outcome::NotFound, millis(1500)), "no server at all");
}

/// A network that was there in time is no reason to try again.
#[test]
fn the_time_may_be_up_on_a_network() {
    let mut world = with_server(Server::Silent);
    world.budget = "1";
    let end = run(&mut world, "time is up");
    assert_eq!(end.outcome, Outcome::NotFound, "{end:?}");
    assert!(world.notes.contains(&Note::BudgetSpent));
}

#[test]
fn nonsense_does_not_end_the_waiting() {
    for server in [
        Server::GarbageFirst(vec![cache().ip()]),
        Server::WrongIdFirst(vec![cache().ip()]),
        Server::Truncates(vec![cache().ip()]),
        Server::Aliases(vec![cache().ip()]),
        Server::RefusesAaaa(vec![cache().ip()]),
        Server::ForgedDenialFirst(vec![cache().ip()]),
    ] {
        let context = format!("{server:?}");
        let end = run(&mut with_server(server), &context);
        assert!(
            matches!(end.outcome, Outcome::Found(found) if found.remote == cache()),
            "{context}: {end:?}"
        );
        assert!(end.at < millis(50), "{context}: {end:?}");
    }
}

#[test]
fn one_server_s_no_is_not_the_other_s() {
    let mut world = with_server(Server::Denies(support::NXDOMAIN));
    world.servers.push((
        "10.0.0.2:53".parse().unwrap(),
        Server::Answers(vec![cache().ip()]),
        millis(1500),
    ));
    let end = run(&mut world, "second server");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Dns), "{end:?}");
}

#[test]
fn a_public_answer_is_not_followed() {
    let mut world = with_server(Server::Answers(vec![[203, 0, 113, 5].into()]));
    world.hosts.push(("203.0.113.5:9999".parse().unwrap(), Host::Cache, millis(1)));
    let end = run(&mut world, "public");
    assert_eq!(end.outcome, Outcome::NotFound);
    assert!(world.notes.iter().any(|note| matches!(note, Note::NotPrivate(_))), "which is told");
    // The hosts file is the user's own word.
    world.known.hosts = vec![[203, 0, 113, 5].into()];
    let end = run(&mut world, "public by hosts file");
    assert!(
        matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Hosts),
        "{end:?}"
    );
}

#[test]
fn a_server_that_wants_its_name_gets_it() {
    let mut world = with_server(Server::Answers(vec![cache().ip()]));
    world.hosts = vec![(cache(), Host::WantsName, millis(1))];
    let end = run(&mut world, "by name");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.by_name), "{end:?}");
    // mDNS does not give the name that Nix could use.
    world.servers.clear();
    world.responders.push(Responder {
        address: cache().ip(),
        delay: millis(1),
        hearing: Hearing::Anybody,
        answers: vec![cache().ip()],
    });
    assert_eq!(run(&mut world, "no name").outcome, Outcome::NotFound);
}

#[test]
fn what_a_firewall_drops_is_heard_all_the_same() {
    for (hearing, privileged, expected) in [
        (Hearing::Group, false, true),
        (Hearing::BehindFirewall, true, true),
        (Hearing::BehindFirewall, false, false),
    ] {
        let mut world = with_server(Server::Denies(support::NXDOMAIN));
        world.privileged = privileged;
        world.responders.push(Responder {
            address: cache().ip(),
            delay: millis(1),
            hearing,
            answers: vec![cache().ip()],
        });
        let context = format!("{hearing:?} privileged {privileged}");
        let end = run(&mut world, &context);
        assert_eq!(matches!(end.outcome, Outcome::Found(_)), expected, "{context}: {end:?}");
        let soon = if privileged { millis(150) } else { millis(2100) };
        assert!(end.at < soon, "{context}: {end:?}");
    }
}

#[test]
fn an_override_excludes_everything_else() {
    for (order, host, expected) in [
        (Override::At(cache()), Host::Cache, true),
        (Override::At(cache()), Host::Refuses, false),
        (Override::At(cache()), Host::Tarpit, false),
        (Override::None, Host::Cache, false),
    ] {
        let mut world = with_server(Server::Answers(vec![[10, 0, 0, 9].into()]));
        world.known = Known { override_: Some(order), ..Known::default() };
        world.hosts = vec![
            (cache(), host, millis(1)),
            ("10.0.0.9:9999".parse().unwrap(), Host::Cache, millis(1)),
        ];
        let end = run(&mut world, &format!("{order:?} {host:?}"));
        assert_eq!(
            matches!(end.outcome, Outcome::Found(_)),
            expected,
            "{order:?} {host:?} {end:?}"
        );
        let limit = if host == Host::Tarpit { millis(2001) } else { millis(10) };
        assert!(end.at <= limit, "{order:?} {host:?} {end:?}");
    }
}

#[test]
fn the_network_may_come_late_or_never() {
    for (up_at, expected) in [
        (0, "found"),
        (2000, "found"),
        (5000, "found"),
        (9500, "found"),
        (9899, "too late"),
        (60_000, "never"),
    ] {
        let mut world = with_server(Server::Answers(vec![cache().ip()]));
        world.network_changes = vec![(millis(up_at), true)];
        let end = run(&mut world, expected);
        if expected == "found" {
            assert!(matches!(end.outcome, Outcome::Found(_)), "{up_at}: {end:?}");
            assert!(end.at.since(millis(up_at)).as_millis() < 20, "{up_at}: {end:?}");
        } else {
            assert_eq!((end.outcome, end.at), (Outcome::NoNetwork, millis(9900)), "{up_at}");
        }
    }
    // Late, and nothing there: decided if the budget allows, to be tried again if not.
    for (up_at, outcome) in [(5000, Outcome::NotFound), (8500, Outcome::NoNetwork)] {
        let mut world = with_server(Server::Denies(support::NXDOMAIN));
        world.network_changes = vec![(millis(up_at), true)];
        assert_eq!(run(&mut world, "late and nothing").outcome, outcome, "{up_at}");
    }
}

/// Nothing but the ordered cache is asked, and it as soon as it can be.
#[test]
fn an_ordered_cache_waits_for_its_network() {
    for (host, up_at, outcome) in
        [(Host::Cache, 3000, "found"), (Host::Refuses, 3000, "not"), (Host::Cache, 60_000, "never")]
    {
        let mut world = World::new(5);
        world.known = Known { override_: Some(Override::At(cache())), ..Known::default() };
        world.hosts = vec![(cache(), host, millis(1))];
        world.network_changes = vec![(millis(up_at), true)];
        let end = run(&mut world, outcome);
        let expected = match end.outcome {
            Outcome::Found(_) => "found",
            Outcome::NotFound => "not",
            Outcome::NoNetwork | Outcome::Interrupted => "never",
        };
        assert_eq!(expected, outcome, "{end:?}");
        assert!(end.at.since(millis(up_at)).as_millis() < 20, "{outcome}: {end:?}");
    }
}

/// What another machine says of its cache's place is remembered: it may have any port and path.
#[test]
fn the_previous_cache_is_asked_where_it_was() {
    let remote: SocketAddr = "10.0.0.141:5000".parse().unwrap();
    let mut world = World::new(4);
    let path = world.paths.add(b"/").unwrap();
    world.options = "--methods previous";
    world.hosts.push((remote, Host::Cache, millis(1)));
    world.places.push((remote, ""));
    world.known.previous = Some(Previous { remote, path, by_name: false, is_announced: false });
    let end = run(&mut world, "its own path");
    let is_there = |found: Found| (found.remote, found.path) == (remote, path);
    assert!(matches!(end.outcome, Outcome::Found(found) if is_there(found)), "{end:?}");
    world.known.previous =
        Some(Previous { remote, path: PathId::CONFIGURED, by_name: false, is_announced: false });
    assert_eq!(run(&mut world, "another path").outcome, Outcome::NotFound);
}

#[test]
fn who_is_offline_for_long_knows_soon() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut world = with_server(Server::Answers(vec![cache().ip()]));
    for (uptime, has_carrier, up_at, ends_at) in [
        (minutes(1), false, 60_000_u64, 9900_u64),
        (minutes(2), true, 60_000, 9900),
        (minutes(2), false, 60_000, 3002),
        (minutes(2), false, 2500, 2504),
    ] {
        world.network_changes = vec![(millis(up_at), true)];
        world.known.uptime = uptime;
        world.has_carrier = has_carrier;
        let end = run(&mut world, "offline");
        assert_eq!(matches!(end.outcome, Outcome::Found(_)), up_at < 10_000, "{end:?}");
        assert!(end.at <= millis(ends_at), "{uptime:?} {has_carrier} {up_at}: {end:?}");
        assert!(end.at.since(millis(ends_at - 10)) > Duration::ZERO, "{uptime:?}: {end:?}");
    }
}

#[test]
fn a_signal_ends_it_at_once() {
    let mut world = with_server(Server::Silent);
    world.stop_at = Some(millis(500));
    let end = run(&mut world, "stopped");
    assert_eq!((end.outcome, end.at), (Outcome::Interrupted, millis(500)));
}

#[test]
fn one_liar_s_crowd_does_not_hold_up_the_others() {
    let crowd: Vec<_> = (1..=16).map(|host| [10, 0, 0, host].into()).collect();
    let mut world = with_server(Server::Answers(crowd.clone()));
    world.hosts.extend(
        crowd.iter().map(|address| (SocketAddr::new(*address, 9999), Host::Tarpit, millis(1))),
    );
    world.responders.push(Responder {
        address: cache().ip(),
        delay: millis(10),
        hearing: Hearing::Anybody,
        answers: vec![cache().ip()],
    });
    let end = run(&mut world, "crowd");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == cache()), "{end:?}");
    assert!(end.at < millis(20), "{end:?}");
}

/// Where the weak methods look: one cache, no name leads to it.
fn nameless(options: &'static str, cache_at: u8) -> (World, SocketAddr) {
    let mut world = World::new(u64::from(cache_at));
    let cache = SocketAddr::from(([10, 0, 0, cache_at], 9999));
    world.options = options;
    world.hosts.push((cache, Host::Cache, millis(1)));
    (world, cache)
}

#[test]
fn a_sweep_finds_every_address_in_time() {
    for privileged in [true, false] {
        for cache_at in (1..=254).filter(|host| *host != 99) {
            let (mut world, cache) = nameless("", cache_at);
            world.privileged = privileged;
            let end = run(&mut world, "any address");
            assert!(
                matches!(end.outcome, Outcome::Found(found) if found.remote == cache),
                "{cache}: {end:?}"
            );
            let soon = if privileged { millis(1200) } else { millis(1700) };
            assert!(end.at < soon, "{cache} privileged {privileged}: {end:?}");
        }
    }
}

/// One request in five does not fit into the queue: it goes out again, and no other instead.
#[test]
fn a_full_queue_loses_no_address() {
    for cache_at in (1..=254).filter(|host| *host != 99) {
        let (mut world, cache) = nameless("--methods sweep --sweep-rate 100000", cache_at);
        (world.congestion, world.granularity) = (20, 300);
        let end = run(&mut world, "full queue");
        assert!(
            matches!(end.outcome, Outcome::Found(found) if found.remote == cache),
            "{cache}: {end:?}"
        );
        assert!(end.at < millis(1000), "{cache}: {end:?}");
    }
}

#[test]
fn nothing_there_is_known_soon_and_costs_little() {
    // Hosts that drop what they do not expect cost five packets more each, the kernel's not counted.
    for (privileged, mute, sent_max) in [(true, 0, 530), (true, 20, 620), (false, 20, 790)] {
        let mut world = World::new(3);
        world.privileged = privileged;
        world.mute = (1..=mute).map(|host| [10, 0, 0, host].into()).collect();
        let end = run(&mut world, "nothing");
        assert_eq!(end.outcome, Outcome::NotFound);
        assert!(end.at < millis(2200), "{end:?}");
        assert!(world.sent <= sent_max, "{} sent", world.sent);
    }
}

/// What makes a world of a case.
type Prepare<'a> = &'a dyn Fn(&mut World);

/// Two packets in a hundred get lost, ARP's and the kernel's among them.
#[test]
fn lost_packets_are_made_good_for() {
    // Worlds for each case, and of these how many may end otherwise: one in five hundred.
    let worlds = 20_000;
    let missed_max = worlds / 500;
    let elsewhere: SocketAddr = "10.0.0.2:9999".parse().unwrap();
    let named = |hearing| {
        move |world: &mut World| {
            world.responders.push(Responder {
                address: cache().ip(),
                delay: millis(2),
                hearing,
                answers: vec![cache().ip()],
            });
        }
    };
    let by_dns = |world: &mut World| {
        let server = Server::Answers(vec![cache().ip()]);
        world.servers.push(("10.0.0.1:53".parse().unwrap(), server, millis(1)));
    };
    let beside_a_gateway = |world: &mut World| {
        world.gateways = vec![SocketAddr::new(elsewhere.ip(), 0)];
        world.hosts.push((elsewhere, Host::Cache, millis(1)));
    };
    let cases: [(&str, Prepare); 8] = [
        ("--methods dns", &by_dns),
        ("--methods mdns", &named(Hearing::Anybody)),
        ("--methods mdns", &named(Hearing::BehindFirewall)),
        ("--methods gateway,mdns", &|world| {
            world.gateways = vec![SocketAddr::new(cache().ip(), 0)];
        }),
        ("--methods ping,mdns", &|world| world.pinged = vec![cache().ip(), [10, 0, 0, 3].into()]),
        ("--methods sweep", &|_| {}),
        ("", &|world| {
            by_dns(world);
            beside_a_gateway(world);
        }),
        ("", &|world| {
            named(Hearing::BehindFirewall)(world);
            beside_a_gateway(world);
        }),
    ];
    let count = cases.len() as u64 * worlds;
    let missed = cases::each("lost_packets_are_made_good_for", count, |seed, tells| {
        let (options, prepare) = cases[usize::try_from(seed / worlds).unwrap()];
        let mut world = World::new(seed % worlds);
        (world.loss, world.options, world.tells) = (2, options, tells);
        world.hosts.push((cache(), Host::Cache, millis(1)));
        prepare(&mut world);
        let end = run(&mut world, "loss");
        !matches!(end.outcome, Outcome::Found(found) if found.remote == cache())
    });
    let worlds = usize::try_from(worlds).unwrap();
    let numbered: Vec<_> = missed.into_iter().zip(0..).collect();
    for (missed, (options, _)) in numbered.chunks(worlds).zip(cases) {
        let seeds = missed.iter().filter_map(|(missed, seed)| missed.then_some(*seed));
        let seeds: Vec<u64> = seeds.collect();
        println!("{options}: {} of {worlds}: {seeds:?}", seeds.len());
        assert!(seeds.len() as u64 <= missed_max, "{options}: {} of {worlds}", seeds.len());
    }
}

#[test]
fn a_name_is_found_with_hardly_a_packet() {
    let mut world = with_server(Server::Answers(vec![cache().ip()]));
    world.options = "";
    world.neighbours = vec![[10, 0, 0, 7].into()];
    let quick = Elapsed::from_micros(300);
    (world.servers[0].2, world.hosts[0].2) = (quick, quick);
    let end = run(&mut world, "by name");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Dns), "{end:?}");
    assert!(world.sent <= 3, "{} sent: A, AAAA, TCP", world.sent);
}

#[test]
fn the_gateway_of_a_virtual_machine() {
    let (mut world, cache) = nameless("", 2);
    world.gateways = vec!["10.0.0.2:0".parse().unwrap()];
    let end = run(&mut world, "gateway");
    assert!(
        matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Gateway && found.remote == cache)
    );
    assert!(end.at < millis(140), "{end:?}");
    assert!(end.at >= millis(130), "a name has a head start: {end:?}");
}

#[test]
fn neighbours_and_pings_lead() {
    let (mut world, cache) = nameless("--methods neighbours", 30);
    world.neighbours = vec![cache.ip()];
    let end = run(&mut world, "neighbours");
    assert!(
        matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Neighbours),
        "{end:?}"
    );
    // The first that has answered, of two that are as good.
    for early in [30, 31] {
        let (mut world, cache) = nameless("--methods neighbours,mdns", early);
        let late = SocketAddr::from(([10, 0, 0, 61 - early], 9999));
        world.hosts.push((late, Host::Cache, millis(5)));
        world.neighbours = vec![late.ip(), cache.ip()];
        let end = run(&mut world, "two neighbours");
        assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == cache), "{end:?}");
        let is_told =
            |note: &Note| matches!(note, Note::Added(candidate) if candidate.remote == cache);
        assert!(world.notes.iter().any(is_told));
    }
    let (mut world, cache) = nameless("--methods ping", 30);
    world.pinged = vec![[10, 0, 0, 31].into(), cache.ip()];
    let end = run(&mut world, "ping");
    assert!(
        matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Ping),
        "{end:?}"
    );
    // A neighbour that answers mDNS behind our firewall is asked directly.
    let (mut world, cache) = nameless("--methods mdns,neighbours", 30);
    world.privileged = false;
    world.hosts[0].1 = Host::Cache;
    world.neighbours = vec![[10, 0, 0, 60].into()];
    world.responders.push(Responder {
        address: [10, 0, 0, 60].into(),
        delay: millis(1),
        hearing: Hearing::BehindFirewall,
        answers: vec![cache.ip()],
    });
    let end = run(&mut world, "direct");
    assert!(
        matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Mdns),
        "{end:?}"
    );
}

#[test]
fn a_named_cache_beats_a_weak_one_that_is_quicker() {
    let (mut world, _) = nameless("", 2);
    world.gateways = vec!["10.0.0.2:0".parse().unwrap()];
    world.servers.push((
        "10.0.0.1:53".parse().unwrap(),
        Server::Answers(vec![cache().ip()]),
        millis(100),
    ));
    world.hosts.push((cache(), Host::Cache, millis(400)));
    let end = run(&mut world, "named");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Dns), "{end:?}");
    // When it turns out to be none, the weak one still stands.
    world.hosts[1].1 = Host::Page;
    let end = run(&mut world, "named fails");
    assert!(
        matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Gateway),
        "{end:?}"
    );
}

#[test]
fn tarpits_and_other_web_servers_do_not_hide_the_cache() {
    for (liar, step) in [(Host::Tarpit, 2), (Host::Page, 6), (Host::Drips, 5)] {
        for privileged in [true, false] {
            let (mut world, cache) = nameless("--methods sweep --sweep-rate 1000", 250);
            world.privileged = privileged;
            for host in (1..250).step_by(step) {
                world.hosts.push((SocketAddr::from(([10, 0, 0, host], 9999)), liar, millis(1)));
            }
            let end = run(&mut world, &format!("{liar:?} privileged {privileged}"));
            assert!(
                matches!(end.outcome, Outcome::Found(found) if found.remote == cache),
                "{liar:?} {privileged}: {end:?}"
            );
            assert!(end.at < millis(5000), "{end:?}");
        }
    }
}

#[test]
fn a_street_of_neighbours_that_keep_quiet() {
    let (mut world, cache) = nameless("", 200);
    world.neighbours = (1..=255).map(|host| [10, 0, 0, host].into()).collect();
    for host in 1..100 {
        world.hosts.push((SocketAddr::from(([10, 0, 0, host], 9999)), Host::Tarpit, millis(1)));
    }
    let end = run(&mut world, "street");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == cache), "{end:?}");
}

#[test]
fn only_our_own_private_networks_are_swept() {
    for (own, length, kind, expected) in [
        ([8, 8, 8, 8], 24, LinkKind::Hardware, 0),
        ([100, 64, 0, 9], 10, LinkKind::Hardware, 0),
        ([169, 254, 0, 9], 16, LinkKind::Hardware, 0),
        ([10, 9, 0, 9], 24, LinkKind::Other, 0),
        ([10, 9, 0, 9], 24, LinkKind::Bridge, 0),
        ([10, 9, 0, 9], 0, LinkKind::Hardware, 0),
        ([10, 9, 0, 9], 29, LinkKind::Veth, 5),
        ([10, 9, 0, 9], 8, LinkKind::Hardware, 1022),
    ] {
        for privileged in [true, false] {
            let mut world = World::new(9);
            world.options = "--methods sweep --sweep-rate 5000";
            world.privileged = privileged;
            world.links = vec![(own.into(), length, kind)];
            run(&mut world, &format!("{own:?}/{length} {kind:?}"));
            world.probed.sort();
            world.probed.dedup();
            assert_eq!(world.probed.len(), expected, "{own:?}/{length} {kind:?} {privileged}");
        }
    }
}

#[test]
fn a_named_network_is_swept_as_well() {
    let mut world = World::new(11);
    let cache: SocketAddr = "192.168.7.140:9999".parse().unwrap();
    world.options = "--methods sweep --sweep 192.168.7.0/24 --sweep-rate 1000";
    world.hosts.push((cache, Host::Cache, millis(1)));
    let end = run(&mut world, "named network");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == cache), "{end:?}");
    world.options = "--methods sweep --sweep 192.168.7.0/24 --sweep-limit 100 --sweep-rate 1000";
    world.probed.clear();
    assert_eq!(run(&mut world, "limit").outcome, Outcome::NotFound);
    world.probed.sort();
    world.probed.dedup();
    assert!(world.probed.len() <= 100, "{}", world.probed.len());
}

#[test]
fn the_network_changes_during_a_sweep() {
    let (mut world, cache) = nameless("--methods sweep", 200);
    world.network_changes = vec![(Elapsed::START, true), (millis(500), false), (millis(900), true)];
    let end = run(&mut world, "gone and back");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == cache), "{end:?}");
}

/// A responder on the LAN that answers with these.
fn responder(host: u8, answers: Vec<std::net::IpAddr>) -> Responder {
    let address = [10, 0, 0, host].into();
    Responder { address, delay: millis(1), hearing: Hearing::Anybody, answers }
}

/// The link-local address of a host on our link.
fn link_local(host: u16) -> SocketAddr {
    let address = std::net::IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, host]);
    with_scope(SocketAddr::new(address, 9999), 2)
}

#[test]
fn a_link_local_address_leads_to_the_host_s_other_one() {
    let mut world = World::new(1);
    (world.options, world.has_link_local) = ("--methods mdns,neighbours", true);
    world.hosts =
        vec![(link_local(141), Host::Cache, millis(1)), (cache(), Host::Cache, millis(1))];
    world.responders = vec![responder(141, vec![link_local(141).ip()])];
    world.neighbours = vec![link_local(141).ip(), cache().ip()];
    let end = run(&mut world, "the same host");
    assert!(
        matches!(end.outcome, Outcome::Found(found) if found.remote == cache() && found.origin == Origin::Mdns),
        "{end:?}"
    );
    // Nothing else is known of it: the search says what is wrong.
    world.neighbours.clear();
    world.hosts.pop();
    assert_eq!(run(&mut world, "link-local only").outcome, Outcome::NotFound);
    let is_told = |note: &Note| matches!(note, Note::OnlyLinkLocal(candidate) if candidate.remote == link_local(141));
    assert_eq!(world.notes.iter().filter(|note| is_told(note)).count(), 1);
}

#[test]
fn a_link_local_ghost_delays_nobody() {
    let (mut world, cache) = nameless("", 2);
    world.gateways = vec!["10.0.0.2:0".parse().unwrap()];
    world.has_link_local = true;
    world.hosts.push((link_local(9), Host::SwallowsSyn, millis(1)));
    world.responders = vec![responder(9, vec![link_local(9).ip()])];
    let end = run(&mut world, "ghost");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == cache), "{end:?}");
    assert!(end.at < millis(140), "{end:?}");
}

#[test]
fn who_failed_unasked_is_asked_again_when_somebody_names_it() {
    let mut world = with_server(Server::Answers(vec![cache().ip()]));
    world.options = "--methods gateway,dns";
    world.servers[0].2 = millis(1500);
    world.gateways = vec![SocketAddr::new(cache().ip(), 0)];
    world.hosts = vec![(cache(), Host::OpensAt(millis(1000)), millis(1))];
    let end = run(&mut world, "opens late");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Dns), "{end:?}");
}

/// Two weak caches are held, and then DNS says which of them is ours.
#[test]
fn the_held_cache_that_is_named_wins() {
    let mut world = with_server(Server::Answers(vec![cache().ip()]));
    world.options = "--methods neighbours,gateway,dns";
    world.servers[0].2 = millis(100);
    world.gateways = vec!["10.0.0.2:0".parse().unwrap()];
    world.neighbours = vec![cache().ip()];
    world.hosts.push(("10.0.0.2:9999".parse().unwrap(), Host::Cache, millis(1)));
    let end = run(&mut world, "two held");
    assert!(
        matches!(end.outcome, Outcome::Found(found) if found.remote == cache() && found.origin == Origin::Dns),
        "{end:?}"
    );
}

#[test]
fn one_liar_one_share() {
    let crowd: Vec<_> = (1..=32).map(|host| [10, 0, 0, host].into()).collect();
    for by_mdns in [true, false] {
        let mut world = World::new(5);
        world.options = NAMED;
        world.hosts.extend(
            crowd.iter().map(|address| (SocketAddr::new(*address, 9999), Host::Tarpit, millis(1))),
        );
        world.hosts.push((cache(), Host::Cache, millis(1)));
        if by_mdns {
            // Two answers of sixteen addresses each: no message holds more for us.
            world.responders =
                vec![responder(200, crowd[..16].to_vec()), responder(201, crowd[16..].to_vec())];
            let late = Responder { delay: millis(30), ..responder(141, vec![cache().ip()]) };
            world.responders.push(late);
        } else {
            for (server, answer) in [(1, crowd.clone()), (2, vec![cache().ip()])] {
                let server = SocketAddr::from(([10, 0, 0, server], 53));
                world.servers.push((
                    server,
                    Server::Answers(answer),
                    millis(u64::from(server.port()) / 53),
                ));
            }
            world.servers[1].2 = millis(30);
        }
        let end = run(&mut world, "a liar");
        assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == cache()), "{end:?}");
        assert!(end.at < millis(50), "{end:?}");
        let liars = world.probed.iter().filter(|address| crowd.contains(address)).count();
        assert!(liars <= 8, "{liars} connections for liars");
    }
}

#[test]
fn a_guessed_server_is_not_waited_for() {
    let end_with = |gateways: &[&str], at: u64| {
        let mut world = with_server(Server::Denies(support::NXDOMAIN));
        world.options = "--methods dns,mdns";
        world.gateways = gateways.iter().map(|gateway| gateway.parse().unwrap()).collect();
        world.gateways_at = millis(at);
        run(&mut world, "guess").at
    };
    let without = end_with(&[], 0);
    assert_eq!(end_with(&["10.0.0.2:0"], 0), without, "a silent gateway");
    assert_eq!(end_with(&["10.0.0.2:0"], 1500), without, "one that comes while we search");
}

#[test]
fn a_guess_is_right_but_its_name_is_not_for_nix() {
    for (host, is_found) in [(Host::Cache, true), (Host::WantsName, false)] {
        let mut world = with_server(Server::Silent);
        world.gateways = vec!["10.0.0.2:0".parse().unwrap()];
        world.guessed =
            vec![("10.0.0.2:53".parse().unwrap(), Server::Answers(vec![cache().ip()]), millis(1))];
        world.hosts[0].1 = host;
        let end = run(&mut world, "guess");
        assert_eq!(matches!(end.outcome, Outcome::Found(_)), is_found, "{end:?}");
    }
}

#[test]
fn a_forwarder_that_had_nobody_to_ask_is_asked_again() {
    let mut world = World::new(5);
    world.options = NAMED;
    let local = "127.0.0.1:53".parse().unwrap();
    let forwarder = Server::RefusesUntil(millis(1000), vec![cache().ip()]);
    world.servers = vec![(local, forwarder, Elapsed::from_micros(50))];
    world.hosts = vec![(cache(), Host::Cache, millis(1))];
    world.network_changes = vec![(millis(2000), true)];
    let end = run(&mut world, "forwarder");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Dns), "{end:?}");
    assert!(end.at < millis(2100), "{end:?}");
}

#[test]
fn a_forwarder_that_learns_late_whom_to_ask_is_asked_again() {
    let mut world = World::new(5);
    world.options = NAMED;
    let local = "127.0.0.1:53".parse().unwrap();
    let forwarder = Server::RefusesUntil(millis(600), vec![cache().ip()]);
    world.servers = vec![(local, forwarder, Elapsed::from_micros(50))];
    world.hosts = vec![(cache(), Host::Cache, millis(1))];
    let end = run(&mut world, "late forwarder");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Dns), "{end:?}");
}

#[test]
fn names_that_lead_to_nobody() {
    for lie in ["127.0.0.1", "169.254.3.4"] {
        let mut world = with_server(Server::Answers(vec![lie.parse().unwrap()]));
        world.hosts = vec![(SocketAddr::new(lie.parse().unwrap(), 9999), Host::Cache, millis(1))];
        assert_eq!(run(&mut world, lie).outcome, Outcome::NotFound, "{lie}");
        assert_eq!(world.probed, [] as [std::net::IpAddr; 0], "{lie}");
    }
}

#[test]
fn weak_leads_stay_on_our_links() {
    let mut world = World::new(5);
    world.options = "--methods gateway,neighbours,ping";
    world.gateways = vec!["10.0.0.99:0".parse().unwrap()];
    world.pinged = vec![[10, 99, 0, 2].into(), [192, 168, 7, 3].into(), [10, 0, 0, 99].into()];
    run(&mut world, "off-link");
    assert_eq!(world.probed, [] as [std::net::IpAddr; 0]);
}

/// A routed network: our prefix is a /32, and the gateway is on-link all the same.
#[test]
fn the_gateway_of_a_host_with_a_prefix_of_its_own() {
    let (mut world, cache) = nameless("--methods gateway,neighbours", 2);
    world.links[0].1 = 32;
    world.gateways = vec![SocketAddr::new(cache.ip(), 0)];
    let end = run(&mut world, "routed");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == cache), "{end:?}");
}

/// On another link the same link-local address is another host's.
#[test]
fn a_link_local_address_is_of_its_link() {
    let mut world = World::new(1);
    (world.options, world.has_link_local) = ("--methods mdns", true);
    world.links.push(([192, 168, 7, 9].into(), 24, LinkKind::Hardware));
    let elsewhere = SocketAddr::from(([192, 168, 7, 141], 9999));
    world.hosts =
        vec![(link_local(141), Host::Cache, millis(1)), (elsewhere, Host::Cache, millis(1))];
    world.responders = vec![responder(141, vec![link_local(141).ip()])];
    world.neighbours_elsewhere = vec![link_local(141).ip(), elsewhere.ip()];
    assert_eq!(run(&mut world, "another link").outcome, Outcome::NotFound);
}

/// The name leads to a link-local address: a weak cache elsewhere waits for that host's other one.
#[test]
fn a_named_cache_with_a_zone_holds_a_weak_one_up() {
    let (mut world, gateway) = nameless("--methods mdns,gateway,ping", 2);
    world.has_link_local = true;
    world.gateways = vec![SocketAddr::new(gateway.ip(), 0)];
    world.hosts.push((link_local(141), Host::Cache, millis(1)));
    world.hosts.push((cache(), Host::Cache, millis(1)));
    world.responders = vec![responder(141, vec![link_local(141).ip()])];
    world.neighbours = vec![link_local(141).ip()];
    let end = run(&mut world, "a weak one elsewhere");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.remote == gateway), "{end:?}");
    assert!(end.at > millis(900), "everybody had their time: {end:?}");
}

#[test]
fn a_stall_is_not_made_up_for() {
    for server in [Server::Silent, Server::PortClosed] {
        let mut world = with_server(server);
        world.granularity = 2_000_000;
        let before = run(&mut world, "stalled").outcome;
        assert_eq!(before, Outcome::NotFound);
    }
}

/// An address is near in one network and not in the other.
#[test]
fn who_is_asked_again_is_near_in_this_network() {
    let config = world::config("10", "--methods mdns,gateway");
    let mut search = Search::new(&config, config.methods, &Known::default(), Paths::default(), 1);
    let network = |own: [u8; 4], gateway: &str| {
        let mut world = World::new(1);
        world.links[0].0 = own.into();
        world.gateways = vec![gateway.parse().unwrap()];
        world.network(true, Elapsed::START)
    };
    let opened = |search: &mut Search, at, input| {
        search.handle(millis(at), input);
        let mut opened = Vec::new();
        loop {
            match search.next_output() {
                Output::OpenStream { channel, remote, .. } => {
                    opened.push((channel, remote.to_string()));
                }
                Output::WaitUntil(_) => return opened,
                Output::Finished(outcome) => panic!("{outcome:?}"),
                _ => {}
            }
        }
    };
    let home = || network([10, 0, 0, 99], "10.0.0.1:0");
    let mut first = opened(&mut search, 1, Input::Network(home()));
    first.extend(opened(&mut search, 60, Input::Tick));
    let (channel, remote) = first[0].clone();
    assert_eq!(remote, "10.0.0.1:9999");
    search.handle(millis(61), Input::Failed(channel, Failure::Unreachable));
    let away = opened(&mut search, 62, Input::Network(network([10, 9, 0, 99], "10.9.0.1:0")));
    assert_eq!(
        away.iter().map(|(_, remote)| remote.as_str()).collect::<Vec<_>>(),
        ["10.9.0.1:9999"]
    );
    let back = opened(&mut search, 63, Input::Network(home()));
    assert_eq!(
        back.iter().map(|(_, remote)| remote.as_str()).collect::<Vec<_>>(),
        ["10.0.0.1:9999"]
    );
}

/// Containers that come and go all the time: whoever refuses is not asked each time.
#[test]
fn a_network_that_never_rests_is_not_asked_for_ever() {
    let config = world::config("10", "--methods mdns,gateway");
    let mut search = Search::new(&config, config.methods, &Known::default(), Paths::default(), 1);
    let mut asked = 0;
    for round in 0..30_u8 {
        let mut world = World::new(1);
        world.links.push(([10, 9, 0, round].into(), 24, LinkKind::Hardware));
        world.gateways = vec!["10.0.0.1:0".parse().unwrap()];
        let at = millis(100 + u64::from(round) * 40);
        search.handle(at, Input::Network(world.network(true, at)));
        loop {
            match search.next_output() {
                Output::OpenStream { channel, .. } => {
                    asked += 1;
                    search.handle(at, Input::Failed(channel, Failure::Refused));
                }
                Output::WaitUntil(_) => break,
                Output::Finished(outcome) => panic!("{outcome:?}"),
                _ => {}
            }
        }
    }
    assert!((2..=5).contains(&asked), "{asked} connections");
}

/// DNS names an address that is on-link only once the router has given us ours.
#[test]
fn an_address_that_was_too_far_away_is_asked_when_it_is_near() {
    let config = world::config("10", "--methods mdns");
    let mut search = Search::new(&config, config.methods, &Known::default(), Paths::default(), 1);
    let mut world = World::new(1);
    let mut opened = Vec::new();
    let mut feed = |search: &mut Search, at, input| {
        search.handle(millis(at), input);
        loop {
            match search.next_output() {
                Output::OpenStream { remote, .. } => opened.push(remote),
                Output::WaitUntil(_) => return opened.len(),
                Output::Finished(outcome) => panic!("{outcome:?}"),
                _ => {}
            }
        }
    };
    feed(&mut search, 1, Input::Network(world.network(true, Elapsed::START)));
    let owner = support::name("waterbug.local");
    let record = support::address(&owner, [203, 0, 113, 9].into());
    let payload = support::message(0, support::MULTICAST, &[], [&[record], &[], &[]]);
    let source = "10.0.0.9:5353".parse().unwrap();
    let datagram = MdnsDatagram { interface: 2, source, multicast: true, payload: &payload };
    assert_eq!(feed(&mut search, 2, Input::Mdns(datagram)), 0);
    world.links.push(([203, 0, 113, 5].into(), 24, LinkKind::Hardware));
    assert_eq!(feed(&mut search, 600, Input::Network(world.network(true, Elapsed::START))), 1);
}

/// A search, driven by hand: what it wants done from one input to the next.
fn outputs_of(search: &mut Search, at: u64, input: Input) -> Vec<Output> {
    search.handle(millis(at), input);
    let is_last = |output: &Output| matches!(output, Output::WaitUntil(_) | Output::Finished(_));
    let mut outputs = vec![search.next_output()];
    while !outputs.last().is_some_and(is_last) {
        outputs.push(search.next_output());
    }
    outputs
}

/// A search with these options of a host that knows this.
fn search(options: &str, known: &Known) -> Search {
    let config = world::config("10", options);
    Search::new(&config, config.methods, known, Paths::default(), 1)
}

/// DNS is asked before the network is looked at: then nobody knows yet what is far away.
#[test]
fn who_seems_far_away_is_reason_to_look() {
    let server: SocketAddr = "10.0.0.1:53".parse().unwrap();
    let known = Known { nameservers: vec![server], ..Known::default() };
    let mut search = search("--methods dns", &known);
    let asked =
        outputs_of(&mut search, 0, Input::Tick).into_iter().find_map(|output| match output {
            Output::OpenDatagram { channel, datagram, .. } => Some((channel, datagram)),
            _ => None,
        });
    let (channel, question) = asked.unwrap();
    let record = support::address(&support::name("waterbug.lan"), [203, 0, 113, 9].into());
    let flags = 0x8180;
    let id = u16::from_be_bytes([question[0], question[1]]);
    let reply = support::message(id, flags, &question[12..], [&[record], &[], &[]]);
    let outputs = outputs_of(&mut search, 1, Input::Received(channel, &reply));
    assert!(outputs.contains(&Output::ReadNetwork), "{outputs:?}");
    let is_refused = |output: &Output| matches!(output, Output::Note(Note::NotPrivate(_)));
    assert!(!outputs.iter().any(is_refused), "{outputs:?}");
    let mut world = World::new(1);
    world.links = vec![([203, 0, 113, 5].into(), 24, LinkKind::Hardware)];
    let outputs = outputs_of(&mut search, 2, Input::Network(world.network(true, millis(2))));
    assert!(
        outputs.iter().any(|output| matches!(output, Output::OpenStream { remote, .. }
            if remote.ip() == IpAddr::from([203, 0, 113, 9]))),
        "{outputs:?}"
    );
}

/// An ordered cache at home needs no network.
#[test]
fn what_needs_no_network_does_not_wait_for_one() {
    let at_home = "127.0.0.1:9999".parse().unwrap();
    let known = Known { override_: Some(Override::At(at_home)), ..Known::default() };
    let mut search = search("", &known);
    let outputs = outputs_of(&mut search, 0, Input::Tick);
    let channel = outputs.into_iter().find_map(|output| match output {
        Output::OpenStream { channel, .. } => Some(channel),
        _ => None,
    });
    let outputs = outputs_of(&mut search, 1, Input::Failed(channel.unwrap(), Failure::Refused));
    assert_eq!(outputs.last(), Some(&Output::Finished(Outcome::NotFound)), "{outputs:?}");
}

#[test]
fn it_is_told_how_far_the_sweep_is() {
    let mut search = search("--methods sweep", &Known::default());
    let network = World::new(1).network(true, Elapsed::START);
    outputs_of(&mut search, 0, Input::Network(network));
    assert_eq!(search.swept(), None);
    outputs_of(&mut search, 1, Input::PacketSocket(true));
    outputs_of(&mut search, 51, Input::Tick);
    let (sent, addresses) = search.swept().unwrap();
    assert!((10..40).contains(&sent) && addresses == 253, "{sent} of {addresses}");
}

/// What the outputs are, if they matter, after a multicast answer that came in on this interface.
fn outputs_after(
    options: &str,
    known: &Known,
    interface: u32,
    payload: &[u8],
    is_it: fn(&Output) -> bool,
) -> usize {
    let config = world::config("10", options);
    let mut search = Search::new(&config, config.methods, known, Paths::default(), 1);
    let mut world = World::new(1);
    world.links.push(([10, 9, 0, 99].into(), 24, LinkKind::Other));
    let mut network = world.network(true, Elapsed::START);
    // A tunnel that takes no multicast.
    network.interfaces[1].link.flags = 0x1_0091;
    search.handle(millis(1), Input::Network(network));
    while !matches!(search.next_output(), Output::WaitUntil(_) | Output::Finished(_)) {}
    let source = "10.0.0.9:5353".parse().unwrap();
    search.handle(
        millis(2),
        Input::Mdns(MdnsDatagram { interface, source, multicast: true, payload }),
    );
    let mut count = 0;
    loop {
        match search.next_output() {
            Output::WaitUntil(_) => return count,
            Output::Finished(outcome) => panic!("{outcome:?}"),
            output => count += usize::from(is_it(&output)),
        }
    }
}

/// The packet socket hears the group, whoever wanted it opened.
#[test]
fn nobody_is_believed_by_a_method_that_is_not_used() {
    let owner = support::name("waterbug.local");
    let record = support::address(&owner, [10, 0, 0, 66].into());
    let payload = support::message(0, support::MULTICAST, &[], [&[record], &[], &[]]);
    let order = Known { override_: Some(Override::At(cache())), ..Known::default() };
    let opened = |options: &str, known: &Known| {
        outputs_after(
            options,
            known,
            2,
            &payload,
            |output| matches!(output, Output::OpenStream { remote, .. } if *remote != cache()),
        )
    };
    assert_eq!(opened("", &Known::default()), 1);
    assert_eq!(opened("", &order), 0, "an order is the only word");
    assert_eq!(opened("--methods ping", &Known::default()), 0);
    assert_eq!(opened("--browse --methods announced", &Known::default()), 0);
}

/// A peer of a tunnel, where we do not ask, may not have us ask there.
#[test]
fn nothing_is_asked_where_multicast_is_not_spoken() {
    let kind = support::name("_nix-cache._tcp.local");
    let instance = [b"\x01a", &kind[..]].concat();
    let record = support::service::pointer(&kind, &instance);
    let payload = support::message(0, support::MULTICAST, &[], [&[record], &[], &[]]);
    let asked = |interface| {
        outputs_after("--browse", &Known::default(), interface, &payload, |output| {
            matches!(output, Output::AskMulticast { .. })
        })
    };
    assert_eq!(asked(2), 1);
    assert_eq!(asked(3), 0);
    assert_eq!(asked(4), 0, "an interface that we do not know");
}

/// A world in which one machine announces a cache: nobody knows it by name.
fn announced(announcer: Announcer, options: &'static str) -> World {
    let remote = SocketAddr::new(announcer.answers[0], announcer.port);
    let mut world = World::new(3);
    world.options = options;
    world.hosts.push((remote, Host::Cache, millis(1)));
    world.places.push((remote, "/nix/store"));
    world.announcers.push(announcer);
    world
}

/// A machine that announces a cache at port 5000, path `/nix/store`.
fn announcer() -> Announcer {
    Announcer::new([10, 0, 0, 77].into(), 5000, &["txtvers=1", "Path=/nix/store/"])
}

/// Whether the announced cache was found.
fn is_announced(world: &World, end: &End) -> bool {
    matches!(end.outcome, Outcome::Found(found)
        if found.origin == Origin::Announced
            && found.remote == "10.0.0.77:5000".parse().unwrap()
            && world.paths.text(found.path) == "/nix/store")
}

#[test]
fn who_announces_itself_is_found_if_we_browse() {
    for (kind, text) in [
        ("_nix-cache._tcp.local", "x"),
        ("_nix-serve._tcp.local", "x"),
        ("_nix_binary_cache._tcp.local", "x"),
        ("_NIX-CACHE._TCP.LOCAL", "x"),
        ("_http._tcp.local", "NIX-cache=1"),
    ] {
        for (says, delay) in [(Says::All, 1), (Says::Pieces, 1), (Says::All, 120)] {
            let mut announcer = announcer();
            (announcer.kind, announcer.says, announcer.delay) = (kind, says, millis(delay));
            announcer.text.as_mut().unwrap().push(text.into());
            let mut world = announced(announcer, "--browse --methods announced");
            let end = run(&mut world, kind);
            assert!(is_announced(&world, &end), "{kind} {says:?} {delay}: {end:?}");
            let soon = if delay == 1 { millis(30) } else { millis(150) };
            assert!(end.at < soon, "{kind} {says:?} {delay}: {end:?}");
            world.options = "--browse --methods mdns";
            let end = run(&mut world, kind);
            assert!(is_announced(&world, &end) && end.at < millis(270), "a name has time: {end:?}");
            world.options = "--methods previous,hosts,dns,mdns,gateway,neighbours";
            assert_eq!(run(&mut world, "not asked for").outcome, Outcome::NotFound, "{kind}");
        }
    }
}

#[test]
fn a_service_without_a_text_has_the_root() {
    for says in [Says::All, Says::Pieces] {
        let mut announcer = announcer();
        (announcer.text, announcer.says) = (None, says);
        let mut world = announced(announcer, "--browse --methods announced");
        world.places.clear();
        world.places.push((world.hosts[0].0, ""));
        let end = run(&mut world, "no text");
        assert!(
            matches!(end.outcome, Outcome::Found(found) if world.paths.text(found.path).is_empty())
        );
        assert!(end.at < millis(30), "{end:?}");
    }
}

#[test]
fn a_web_server_is_no_cache_unless_it_says_so() {
    for text in [
        "",
        "nix-cache",
        "nix-cache=",
        "nix-cache=0",
        "nix-cache=11",
        "nix-caches=1",
        "xnix-cache=1",
    ] {
        let mut announcer = announcer();
        announcer.kind = "_http._tcp.local";
        announcer.text.as_mut().unwrap().push(text.into());
        let mut world = announced(announcer, "--browse --methods announced");
        assert_eq!(run(&mut world, text).outcome, Outcome::NotFound, "{text}");
        assert_eq!(world.probed, [] as [std::net::IpAddr; 0], "{text}");
        let speaker = [10, 0, 0, 77].into();
        let told =
            world.notes.iter().filter(|note| **note == Note::Unusable(speaker, Unusable::NoCache));
        assert_eq!(told.count(), 1, "{text}");
    }
}

/// What a liar can put into the one exception to "nothing but an address and a port".
#[test]
fn a_path_that_is_not_plain_is_refused() {
    for path in BAD_PATHS {
        let mut announcer = announcer();
        announcer.text = Some(vec![path.to_vec()]);
        let mut world = announced(announcer, "--browse --methods announced");
        assert_eq!(run(&mut world, "a bad path").outcome, Outcome::NotFound);
        assert_eq!(world.probed, [] as [std::net::IpAddr; 0], "{}", path.escape_ascii());
        let speaker = [10, 0, 0, 77].into();
        let told =
            world.notes.iter().filter(|note| **note == Note::Unusable(speaker, Unusable::Path));
        assert_eq!(told.count(), 1, "{}", path.escape_ascii());
    }
}

#[test]
fn liars_have_their_share_and_no_more() {
    let others: Vec<_> = (1..=250).map(|host| [10, 0, 0, host].into()).collect();
    for (lie, connections) in
        [("addresses", 4), ("instances", 0), ("port", 0), ("loop", 0), ("web", 0)]
    {
        let mut liar = Announcer::new([10, 0, 0, 66].into(), 7000, &["path=/nix/store"]);
        match lie {
            "addresses" => liar.answers = others.clone(),
            "instances" => liar.count = 1000,
            "port" => liar.port = 0,
            "loop" => liar.points_to_itself = true,
            _ => (liar.kind, liar.count) = ("_http._tcp.local", 1000),
        }
        if lie == "loop" {
            liar.answers.clear();
        }
        let mut world = announced(announcer(), "--browse --methods announced");
        world.hosts[0].2 = millis(40);
        world.announcers.insert(0, liar);
        world.announcers[1].delay = millis(10);
        let end = run(&mut world, lie);
        assert!(is_announced(&world, &end) && end.at < millis(60), "{lie}: {end:?}");
        assert_eq!(world.probed.len() - 1, connections, "{lie}");
    }
}

#[test]
fn a_cache_of_the_name_wins_over_an_announced_one() {
    let mut world = announced(announcer(), "--browse");
    world.servers.push((
        "10.0.0.1:53".parse().unwrap(),
        Server::Answers(vec![cache().ip()]),
        millis(100),
    ));
    world.hosts.push((cache(), Host::Cache, millis(400)));
    let end = run(&mut world, "named");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Dns), "{end:?}");
    world.hosts.pop();
    let end = run(&mut world, "the named one is gone");
    assert!(is_announced(&world, &end), "{end:?}");
    // It stays weak where an earlier search has found it.
    let mut world = announced(announcer(), "");
    let remote = world.hosts[0].0;
    let path = PathId::CONFIGURED;
    world.known.previous = Some(Previous { remote, path, by_name: false, is_announced: true });
    world.hosts = vec![(remote, Host::Cache, millis(1)), (cache(), Host::Cache, millis(1))];
    world.announcers.clear();
    let server = Server::Answers(vec![cache().ip()]);
    world.servers.push(("10.0.0.1:53".parse().unwrap(), server, millis(20)));
    let end = run(&mut world, "announced before");
    assert!(matches!(end.outcome, Outcome::Found(found) if found.origin == Origin::Dns), "{end:?}");
    // And it wins over those that nobody has spoken of.
    let mut world = announced(announcer(), "--browse");
    world.announcers[0].delay = millis(120);
    world.gateways = vec!["10.0.0.2:0".parse().unwrap()];
    world.hosts.push(("10.0.0.2:9999".parse().unwrap(), Host::Cache, millis(1)));
    let end = run(&mut world, "gateway");
    assert!(is_announced(&world, &end), "{end:?}");
}

#[test]
fn what_is_announced_elsewhere_is_not_asked() {
    for (speaker, answer) in [
        ([10, 0, 0, 77], [203, 0, 113, 5]),
        ([203, 0, 113, 5], [10, 0, 0, 77]),
        ([10, 0, 0, 77], [127, 0, 0, 1]),
    ] {
        let mut announcer = announcer();
        (announcer.address, announcer.answers) = (speaker.into(), vec![answer.into()]);
        let mut world = announced(announcer, "--browse --methods announced");
        assert_eq!(
            run(&mut world, "elsewhere").outcome,
            Outcome::NotFound,
            "{speaker:?} {answer:?}"
        );
        assert_eq!(world.probed, [] as [std::net::IpAddr; 0]);
    }
}

/// SRV and TXT in the search domain (RFC 2782): the lowest priority, then the highest weight; four.
#[test]
fn a_domain_names_its_caches() {
    let remote = |host: u8| SocketAddr::from(([10, 0, 0, host], 5000));
    let places = [(2, 0, 6), (1, 1, 2), (0, 0, 1), (1, 9, 3), (2, 9, 5), (2, 10, 4)]
        .map(|(priority, weight, host)| (priority, weight, remote(host)));
    for says in [Says::All, Says::Pieces] {
        for (text, path) in [(Some("path=/nix/store"), "/nix/store"), (None, ""), (Some("x"), "")] {
            for is_alias in [false, true] {
                let mut world = World::new(2);
                (world.options, world.domains) =
                    ("--browse --methods announced", "example.org lan.");
                let domain = Domain { text, says, is_alias };
                let server = Server::Announces(places.to_vec(), domain);
                world.servers.push(("10.0.0.1:53".parse().unwrap(), server, millis(1)));
                for host in 1..=6 {
                    let kind = if host == 4 { Host::Cache } else { Host::Page };
                    world.hosts.push((remote(host), kind, millis(u64::from(host))));
                    world.places.push((remote(host), path));
                }
                let context = format!("{says:?} {text:?} {is_alias}");
                let end = run(&mut world, &context);
                assert!(
                    matches!(end.outcome, Outcome::Found(found)
                        if found.remote == remote(4) && world.paths.text(found.path) == path),
                    "{context}: {end:?}"
                );
                assert!(end.at < millis(20), "{context}: {end:?}");
                let asked = [1, 2, 3, 4].map(|host| remote(host).ip());
                let mut probed = world.probed.clone();
                probed.sort();
                assert_eq!(probed, asked, "{context}: the first four");
                if says == Says::All {
                    let order = [1, 3, 2, 4].map(|host| remote(host).ip());
                    assert_eq!(world.probed, order, "{context}");
                }
            }
        }
    }
}

/// A server that cannot be asked is not asked without end.
#[test]
fn a_closed_port_ends_the_questions_for_a_domain() {
    let mut world = World::new(2);
    (world.options, world.domains) = ("--browse --methods announced", "lan a b c d");
    world.servers.push(("10.0.0.1:53".parse().unwrap(), Server::PortClosed, millis(0)));
    world.servers.push((
        "10.0.0.2:53".parse().unwrap(),
        Server::Denies(support::NXDOMAIN),
        millis(1),
    ));
    world.network_changes = vec![(millis(0), true), (millis(300), false), (millis(600), true)];
    assert_eq!(run(&mut world, "closed").outcome, Outcome::NotFound);
    assert!(world.sent < 150, "{} sent", world.sent);
}

/// With `--browse` each link gets one packet more in each round, beside the two for the name, and
/// without it none.
#[test]
fn one_packet_more_for_each_link_and_round() {
    let sent = |options| {
        let mut world = World::new(5);
        (world.options, world.domains) = (options, "lan");
        world.servers.push((
            "10.0.0.1:53".parse().unwrap(),
            Server::Denies(support::NXDOMAIN),
            millis(1),
        ));
        world.links.push(([192, 168, 7, 9].into(), 24, LinkKind::Hardware));
        let end = run(&mut world, options);
        assert_eq!(end.outcome, Outcome::NotFound);
        (world.asked, world.sent)
    };
    let ([names, services], without) = sent("--methods dns,mdns");
    assert!(names >= 6 && services == 0, "{names} {services}");
    let (asked, with) = sent("--methods dns,mdns --browse");
    assert_eq!(asked, [names, names / 2]);
    println!("{without} packets without --browse, {with} with");
    assert_eq!(with, without + names / 2 + 2, "and one for each type and server");
}

/// The dice are what they say, or the seeds mean nothing.
#[test]
fn seeds_reproduce() {
    let ends = [1, 2, 3, 1].map(|seed| run(&mut World::random(seed), "seeds").at);
    assert_eq!(ends[0], ends[3]);
    assert_eq!(Dice::new(5).below(1000), Dice::new(5).below(1000));
    assert!(ends.iter().all(|at| *at <= Elapsed::from_micros(10_000_000)));
}
