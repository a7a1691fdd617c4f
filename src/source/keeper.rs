//! What a source keeps of how far it is: small state in the store.

use crate::executor::Executor;
use crate::intake::{Recalled, State};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::sync::Arc;

/// Reads and writes it. Cloning shares where it is kept.
#[derive(Clone)]
pub(super) struct Keeper {
    state: Arc<dyn State>,
    executor: Executor,
}

impl Keeper {
    pub(super) fn new(state: &Arc<dyn State>, executor: &Executor) -> Self {
        Self { state: Arc::clone(state), executor: executor.clone() }
    }

    /// What was kept under a key, if anything, and whether something may have been that cannot be read.
    pub(super) fn recall<T: DeserializeOwned>(&self, key: &str) -> (Option<T>, bool) {
        match self.state.recall(key) {
            Recalled::Nothing => (None, false),
            Recalled::Lost => (None, true),
            Recalled::Value(text) => match serde_json::from_str(&text) {
                Ok(value) => (Some(value), false),
                Err(_) => (None, true),
            },
        }
    }

    /// On disk when this returns, even if whoever waits for it goes away.
    pub(super) async fn keep(&self, key: String, value: &impl Serialize) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let value = serde_json::to_string(value).map_err(io::Error::other)?;
        self.executor.call(move || state.keep(&key, &value)).await?
    }
}
