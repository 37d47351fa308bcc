//! What is fuzzed: functions that take any bytes, and panic if something that must hold does not.
//! `tests/fuzz.rs` replays the seeds through them, `tests/fuzz/run` looks for more.

pub mod driver;
mod files;
mod net;
mod packets;
mod script;
#[path = "../../support/mod.rs"]
mod support;
mod wire;
mod world;

/// A target: its name, which is that of its folder of seeds, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 10] = [
    ("dns", wire::dns),
    ("mdns", packets::mdns),
    ("frames", wire::frames),
    ("netlink", net::netlink),
    ("http", wire::http),
    ("resolv_conf", files::resolv_conf),
    ("hosts", files::hosts),
    ("orders", files::orders),
    ("answers", packets::answers),
    ("search", driver::search),
];
