//! The simulation, in a binary of its own: small, so that it can be built to run fast (`tests/run` does).

// So that clippy takes its helpers, too, for tests: they may unwrap and panic.
#![cfg(test)]

mod simulation;

mod support {
    pub(crate) mod fault_disk;
    pub(crate) mod seed;
}
