//! The store's side of a sink: that it is known, how far it is, and the claim that it is moved on by.

pub(in crate::store) mod claim;
pub(in crate::store) mod positions;
pub(in crate::store) mod registry;
