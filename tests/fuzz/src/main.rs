//! The fuzzer: libFuzzer around the target that `FUZZ_TARGET` names. `tests/fuzz/run` builds and
//! runs it.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use std::sync::LazyLock;

/// The chosen target.
static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let found = targets::TARGETS.iter().find(|(name, _)| *name == wanted);
    found.expect("a target of that name").1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
