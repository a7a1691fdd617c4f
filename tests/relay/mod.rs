//! The daemon as a whole, against real brokers.

mod kills;
mod promise;
mod sinks;
