//! Signed deliveries over real sockets, with a log in memory behind the door.

mod answers;
pub(crate) mod harness;
mod limits;
mod memory;
mod operators;
mod tls;
