//! Finds the Nix binary cache on the local network, proves it, and tells Nix.
//!
//! ```text
//!      main ─ cli ─▶ Config                        output ─▶ nix.conf
//!        │                                            ▲ Outcome
//!        ▼                                            │
//!      event_loop   (owns every descriptor and the only clock)
//!        │  ├─▶ sockets, sys (all unsafe)
//!        │  └─▶ facts  (resolv.conf, hosts, overrides, links, routes, neighbours)
//!        │ Input, Elapsed ▼      ▲ Output
//!      search       (pure: budget, ranking, choice)
//!        ├─▶ discover: Discovery {known dns mdns nearby ping sweep} ──Lead──▶ frontier
//!        │                                                         Candidate │
//!        └─▶ verify ◀────────────────────────────────────────────────────────┘
//!               └─ Verdict ─▶ search
//!      all of it: model ─▶ facts ─▶ wire {dns http cache_info arp icmp ip netlink}, sys, address
//! ```
//!
//! Data moves one way: facts → leads → candidates → verdicts → outcome. Everything below the event
//! loop is sans-IO: bytes and elapsed time in, bytes and the next deadline out. So a whole search
//! runs in a test in microseconds, with the losses, lies and delays of a bad day (`tests/sim`).
//! `--watch` is one such search after another; `watch` waits for a reason in between.
//!
//! The modules in the order in which they are best read:

pub mod address;
pub mod model;

pub mod search;

pub mod discover;
pub mod frontier;
pub mod verify;

pub mod wire;

pub mod facts;

pub mod cli;
pub mod event_loop;
pub mod log;
pub mod output;
pub mod report;
pub mod sockets;
pub mod sys;
pub mod watch;
