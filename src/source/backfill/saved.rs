//! How far a source's backfill is: small state in the store, changed once per sweep.

use crate::source::keeper::Keeper;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Saved {
    /// Where the very first sweep goes back to, until it has come to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
    /// Whatever is listed and older than this less the overlap is in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<Timestamp>,
    /// A gap that was found and may not be in the store yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gap: Option<Gap>,
    /// Likewise of failed deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempts: Option<Timestamp>,
}

/// A span of which nothing can be known any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gap {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// When it was found; the record's own time.
    pub(super) at: Timestamp,
    pub(super) reason: Reason,
}

/// Why nothing can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// The provider does not keep events for so long.
    ProviderRetention,
    /// The provider may list them, and they are too old to be told from repetitions.
    DedupeWindow,
    /// The store has lost them, and they could not be fetched again.
    StoreDamaged,
}

/// What was found at the start.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) saved: Saved,
    /// Something may have been there that cannot be read: it is not the very first start.
    pub(super) lost: bool,
}

pub(super) fn recall(keeper: &Keeper, source: &str) -> Found {
    let (saved, lost) = keeper.recall(&key(source));
    Found { saved: saved.unwrap_or_default(), lost }
}

pub(super) async fn keep(keeper: &Keeper, source: &str, saved: &Saved) -> io::Result<()> {
    keeper.keep(key(source), saved).await
}

fn key(source: &str) -> String {
    format!("backfill/{source}")
}
