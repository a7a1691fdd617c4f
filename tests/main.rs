//! The one integration-test binary.

// So that clippy takes its helpers, too, for tests: they may unwrap and panic.
#![cfg(test)]

mod client;
mod settings;
mod simulator;
mod sink_file;
mod sink_kafka;
mod store;
mod support;
mod tidy;
