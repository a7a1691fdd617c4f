//! The key-value store that holds what the journal can give back, and small state.

pub(in crate::store) mod sled_guard;
