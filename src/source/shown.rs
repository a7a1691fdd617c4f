//! The sources that are there, for operators: what each is to do, and how far its pollers are.

use super::{Settings, backfill, register};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// One of them.
#[derive(Clone)]
pub struct Shown {
    /// As they are in force.
    pub settings: Settings,
    /// Only with an `api`.
    pub backfill: Option<watch::Receiver<backfill::Status>>,
    /// Only with `register`.
    pub registration: Option<watch::Receiver<register::Status>>,
}

/// All of them, by name. Cloning shares it.
#[derive(Clone, Default)]
pub struct Sources(Arc<RwLock<BTreeMap<String, Shown>>>);

impl Sources {
    /// These and no others from now on.
    pub fn replace(&self, sources: BTreeMap<String, Shown>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = sources;
    }

    /// Those there are now.
    pub fn all(&self) -> BTreeMap<String, Shown> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
