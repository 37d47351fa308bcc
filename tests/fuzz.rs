//! The seeds of `tests/fuzz` once through their targets: what was once found stays mended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_docs_in_private_items,
    missing_docs,
    reason = "a test may fail"
)]

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::path::Path;

use cache_resolver::model::Outcome;
use targets::TARGETS;

/// Pieces of a seed that are tried besides it.
const CUTS: usize = 40;

/// The seeds of a target and their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let entries = std::fs::read_dir(folder).expect("a folder of seeds for each target");
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn seeds_hold() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
        for (seed, content) in seeds {
            // Shown when it fails.
            println!("{name}/{seed}");
            target(&content);
            for cut in (0..content.len()).step_by(content.len() / CUTS + 1) {
                target(&content[..cut]);
            }
        }
    }
}

/// The seeds of the whole search mean what their names say, as long as nobody changes the language that
/// they are written in.
#[test]
fn seeds_are_understood() {
    let seeds = seeds("search");
    for (name, is_found) in [
        ("previous", true),
        ("hosts", true),
        ("override", true),
        ("override-none", false),
        ("servers", true),
        ("denied", false),
        ("multicast", true),
        ("browse", true),
        ("sweep", true),
        ("sweep-all", false),
        ("ping", true),
        ("not-a-cache", false),
        ("network-goes", false),
    ] {
        let (_, content) = seeds.iter().find(|(seed, _)| seed == name).expect(name);
        let outcome = targets::driver::play(content);
        assert_eq!(matches!(outcome, Outcome::Found(_)), is_found, "{name}: {outcome:?}");
    }
    let (_, content) = seeds.iter().find(|(seed, _)| seed == "stopped").expect("stopped");
    assert_eq!(targets::driver::play(content), Outcome::Interrupted);
}
