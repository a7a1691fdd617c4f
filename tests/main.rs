//! The one integration-test binary.

mod client;
mod settings;
mod simulator;
mod sink_file;
mod sink_kafka;
mod support;
mod tidy;
