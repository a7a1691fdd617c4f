//! The sinks that are there, by name, for operators.

use super::again::Handle;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Cloning shares it.
#[derive(Clone, Default)]
pub struct Sinks(Arc<RwLock<BTreeMap<String, Handle>>>);

impl Sinks {
    /// One that is there from now on, in the place of another of its name.
    pub fn insert(&self, name: &str, handle: Handle) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), handle);
    }

    /// One that is there no more.
    pub fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<Handle> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All of them, by name.
    pub fn all(&self) -> BTreeMap<String, Handle> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
