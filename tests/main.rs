//! The one integration-test binary.

mod sink_amqp;
mod sink_nats;
mod support;
