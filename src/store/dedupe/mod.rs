//! Which ids are known: an index for each day, the thread that opens, checks and closes them, and the note of those that are
//! complete.

mod closed;
pub(in crate::store) mod day_index;
pub(in crate::store) mod librarian;
