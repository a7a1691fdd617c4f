//! The one integration-test binary.

mod settings;
mod sink_file;
mod sink_kafka;
mod support;
mod tidy;
