//! What is kept of the relay's own webhook: small state in the store, changed when it is registered or its secret is.

use crate::secret::Secret;
use crate::source::keeper::Keeper;
use crate::verify::fingerprint;
use serde::{Deserialize, Serialize};
use std::io;

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

pub(super) fn recall(keeper: &Keeper, source: &str) -> Found {
    let (saved, lost) = keeper.recall(&key(source));
    Found { saved, lost }
}

pub(super) async fn keep(keeper: &Keeper, source: &str, saved: &Saved) -> io::Result<()> {
    keeper.keep(key(source), saved).await
}
