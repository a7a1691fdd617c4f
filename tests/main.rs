//! The one integration-test binary.

mod receiver;
mod sink_file;
mod sink_kafka;
mod support;
