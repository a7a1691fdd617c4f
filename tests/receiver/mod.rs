//! Signed deliveries over real sockets, with a log in memory behind the door.

mod answers;
mod harness;
mod limits;
mod memory;
mod operators;
mod tls;
