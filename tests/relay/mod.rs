//! The daemon as a whole, against real brokers.

mod brokers;
mod exactly_once;
mod filled;
mod full;
pub(crate) mod gap;
mod hostile;
mod kills;
mod promise;
pub(crate) mod sinks;
mod slow;
mod strace;
