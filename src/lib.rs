//! Finds the Nix binary cache on the local network, verifies it, and tells Nix.
//!
//! ```text
//!      main ─ cli {value} ─▶ config     tell {account cause sentence words template errors log report json}
//!        │                                │      output {lock} ─▶ nix.conf
//!        │                  what happened ▲        ▲ Outcome
//!        ▼                                │        │
//!       run   (one run, once or watching) ┴────────┘
//!        │
//!        ▼
//!       io {event_loop conversation sockets wait}   (owns every descriptor and the only clock)
//!        │                                  └─▶ watch   (pure: when to search again)
//!        │ Input, Elapsed ▼      ▲ Output
//!       search      (pure: budget, ranking, choice)
//!        ├─▶ surroundings   (the network over the time of the search)
//!        ├─▶ discover: Discovery {known dns mdns announced nearby ping sweep} ─▶ frontier
//!        │             over {resolver links schedule random}                         │
//!        └─▶ verify ◀─────────────────────────────────────────────────────────────────┘
//!               └─ Verdict ─▶ search
//!       all of it: interface ─▶ model
//!                  ─▶ facts {kernel network lan prefix resolv_conf hosts override_file lines}
//!                  ─▶ wire {dns message name service http cache_info arp icmp ip netlink}
//!                  ─▶ address, path, elapsed, text, sys {allocator error file filter sandbox socket}
//! ```
//!
//! Data moves one way: facts → candidates → verdicts → outcome. Everything below [`io`] is sans-IO:
//! bytes and elapsed time in, bytes and the next deadline out. So a whole search runs in a test in
//! microseconds, with the losses, lies and delays of a bad day (`tests/sim`).
//!
//! Best read in this order: what a search is made of, [`model`], and what goes in and out of it,
//! [`interface`]; the search itself, [`search`], with its network, [`surroundings`], those who find
//! candidates, [`discover`], who keeps them, [`frontier`], and who judges them, [`verify`]; what the
//! host knows, [`facts`], and what is said on the network, [`wire`]; then how a search meets the
//! world, [`io`] and [`watch`]; and how a run goes, [`cli`], [`config`], [`run`], [`output`],
//! [`tell`]. At the bottom lie [`address`], [`path`], [`elapsed`], [`text`] and [`sys`].

pub mod address;
pub mod cli;
pub mod config;
pub mod discover;
pub mod elapsed;
pub mod facts;
pub mod frontier;
pub mod interface;
pub mod io;
pub mod model;
pub mod output;
pub mod path;
pub mod run;
pub mod search;
pub mod surroundings;
pub mod sys;
pub mod tell;
pub mod text;
pub mod verify;
pub mod watch;
pub mod wire;
