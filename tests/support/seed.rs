//! One seed for everything that the tests draw at random. It is printed, and `E2B_RELAY_SEED` replays it, as far as
//! threads and peers let it.
#![cfg(test)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

/// The run's seed; printed each time, so that it stands in the output of a test that fails.
pub(crate) fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    let seed = *SEED.get_or_init(|| match std::env::var("E2B_RELAY_SEED") {
        Ok(seed) if !seed.is_empty() => seed.parse().expect("E2B_RELAY_SEED is a number"),
        _ => fastrand::u64(..),
    });
    println!("E2B_RELAY_SEED={seed}");
    seed
}

/// A stream of its own for each purpose, so that a test draws the same whichever others run.
pub(crate) fn random(purpose: &str) -> fastrand::Rng {
    let mut hasher = DefaultHasher::new();
    (seed(), purpose).hash(&mut hasher);
    fastrand::Rng::with_seed(hasher.finish())
}

/// Whether the long rounds are asked for.
pub(crate) fn soak() -> bool {
    std::env::var_os("E2B_RELAY_SOAK").is_some()
}
