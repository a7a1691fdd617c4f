//! What the store writes without being asked for each call: the committer and what waits for it, the janitor with what it
//! clears away, and the room that is kept back for when the disk is full.

pub(in crate::store) mod committer;
pub(in crate::store) mod inbox;
pub(in crate::store) mod janitor;
pub(in crate::store) mod reserve;
pub(in crate::store) mod room;
mod sweep;
