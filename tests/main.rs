//! The one integration-test binary.

// So that clippy takes its helpers, too, for tests: they may unwrap and panic.
#![cfg(test)]

mod relay;
mod receiver;
mod settings;
mod sink_file;
mod sink_kafka;
mod store;
mod support;
