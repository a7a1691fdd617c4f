//! The two logs, the journal and the samples: what lies in their files, who appends to them and who reads them.
//!
//! `frame` and `segment` are the format, `notes` what is in the journal beside events, `ids` the file that outlives a
//! segment. The `writer` is the committer's; everybody else shares the `segments`. A `reader` reads the disk, a
//! `tail_reader` the `tail_cache` as long as that has what it wants.

pub(in crate::store) mod frame;
#[cfg(test)]
mod fuzz;
pub(in crate::store) mod ids;
pub(in crate::store) mod notes;
pub(in crate::store) mod reader;
pub(in crate::store) mod record;
pub(in crate::store) mod scan;
pub(in crate::store) mod segment;
mod segments;
pub(in crate::store) mod tail_cache;
pub(in crate::store) mod tail_reader;
mod writer;

pub(in crate::store) use segments::{Segment, Segments};
pub(in crate::store) use writer::{Draft, Found, Log, Place, holds_events, ids_path, number_of};
