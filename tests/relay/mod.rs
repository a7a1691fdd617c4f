//! The daemon as a whole, against real brokers.

mod again;
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
mod starts;
mod strace;
mod tail;
