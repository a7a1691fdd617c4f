//! The daemon as a whole, against real brokers.

mod promise;
