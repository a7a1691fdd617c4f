//! Marks at places that are seldom come by and have to be right: the simulation counts them, and fails where one is never
//! reached. To everybody else they are trace events of a target of their own, which nobody asks for.

/// The target of the events.
pub const TARGET: &str = "sometimes";

/// What the mark is of; `what` says it in words.
pub fn happened(what: &'static str) {
    tracing::trace!(target: TARGET, what);
}
