//! The one integration-test binary.

mod settings;
mod sink_file;
mod sink_kafka;
mod store;
mod support;
