//! The store's side of a sink: that it is known, and how far it is.

pub(in crate::store) mod positions;
pub(in crate::store) mod registry;
