//! The daemon as a whole, against real brokers.

mod hostile;
mod promise;
mod slow;
