//! The one integration-test binary.

mod sink_nats;
mod support;
