//! What is kept of the relay's own webhook: small state in the store, changed when it is registered or its secret is.

use crate::intake::{Recalled, State};
use crate::secret::Secret;
use crate::verify::fingerprint;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The provider's.
    pub(super) id: String,
    /// By which the secret that was registered last is known again; the provider never shows one.
    secret: String,
}

impl Saved {
    pub(super) fn new(id: &str, secret: &Secret) -> Self {
        Self { id: id.to_owned(), secret: fingerprint(secret, id) }
    }

    /// Whether it is this secret that was registered.
    pub(super) fn has(&self, secret: &Secret) -> bool {
        self.secret == fingerprint(secret, &self.id)
    }
}

/// What was found at the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) saved: Option<Saved>,
    /// A webhook may have been registered of which nothing can be read any more.
    pub(super) lost: bool,
}

fn key(source: &str) -> String {
    format!("register/{source}")
}

pub(super) fn recall(state: &dyn State, source: &str) -> Found {
    match state.recall(&key(source)) {
        Recalled::Nothing => Found::default(),
        Recalled::Lost => Found { saved: None, lost: true },
        Recalled::Value(text) => {
            let saved = serde_json::from_str(&text).ok();
            Found { lost: saved.is_none(), saved }
        }
    }
}

/// On disk when this returns, even if whoever waits for it goes away.
pub(super) async fn keep(state: &Arc<dyn State>, source: &str, saved: &Saved) -> io::Result<()> {
    let (state, key) = (Arc::clone(state), key(source));
    let value = serde_json::to_string(saved).map_err(io::Error::other)?;
    tokio::task::spawn_blocking(move || state.keep(&key, &value)).await?
}
