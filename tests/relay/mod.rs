//! The daemon as a whole, against real brokers.

mod full;
mod kills;
mod promise;
mod sinks;
mod strace;
