//! Many cases with a number each: all of them, or the one that is looked into.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A number from the environment.
pub fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the cases of a test, each with its number and whether it is to print its timeline: the one that
/// `CACHE_RESOLVER_SEED` names, if the test has that one, or so many. One that fails runs once more, and
/// prints it. What has come of all of them; of one alone, nothing, so that nobody counts it.
pub fn each<T>(test: &str, count: u64, case: impl Fn(u64, bool) -> T) -> Vec<T> {
    if let Some(seed) = variable("CACHE_RESOLVER_SEED") {
        case(seed, true);
        return Vec::new();
    }
    let attempt = |seed, tells| catch_unwind(AssertUnwindSafe(|| case(seed, tells)));
    let run = |seed| {
        attempt(seed, false).unwrap_or_else(|failure| {
            println!("CACHE_RESOLVER_SEED={seed} cargo test --test sim {test}");
            let _ = attempt(seed, true);
            println!("CACHE_RESOLVER_SEED={seed} cargo test --test sim {test}");
            resume_unwind(failure)
        })
    };
    (0..count).map(run).collect()
}

/// One of `choices` for each case, which takes its number apart into such choices.
pub fn choose<T: Clone>(number: &mut u64, choices: &[T]) -> T {
    let count = choices.len() as u64;
    let chosen = choices[usize::try_from(*number % count).unwrap()].clone();
    *number /= count;
    chosen
}
