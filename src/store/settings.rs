//! `store:` in the settings.

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The durable log: where it lies, how long it remembers, how much it may take. A changed key needs a restart.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folder of the store. One daemon at a time may have it open.
    #[schemars(extend("format" = "path"))]
    pub path: PathBuf,
    /// How long an event's id is remembered, counted from the event's own timestamp; what is older is refused.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub dedupe_window: Duration,
    /// How long a delivered event can be replayed, and how long a sink that was taken out keeps its position.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub retention: Duration,
    /// Most bytes that journal, ids and dead letters may take. What is kept only for replay goes first; when all that
    /// is left is unsent, deliveries are answered 503.
    #[schemars(with = "String", extend("format" = "size"))]
    pub max_size: ByteSize,
    /// Most bytes that metrics samples may take in their log. When it is full scraping pauses; samples never cause a
    /// 503.
    #[schemars(with = "String", extend("format" = "size"))]
    pub max_samples_size: ByteSize,
    /// Most bytes that dead letters may take of `max_size`. They are never removed but by an operator: once it is full, a
    /// sink that would make another one waits. Default: the lesser of 256 MiB and a quarter of `max_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "size"))]
    pub max_dead_letters_size: Option<ByteSize>,
    /// Below this many free bytes on the disk deliveries are answered 503. Default: the lesser of 512 MiB and 5 % of
    /// the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "size"))]
    pub min_free: Option<ByteSize>,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            path: "./data".into(),
            dedupe_window: Duration::from_secs(8 * DAY),
            retention: Duration::from_secs(7 * DAY),
            max_size: ByteSize::gib(10),
            max_samples_size: ByteSize::gib(1),
            max_dead_letters_size: None,
            min_free: None,
        }
    }
}

impl Settings {
    /// [`Self::max_dead_letters_size`], in bytes.
    pub(super) fn max_dead_letters(&self) -> u64 {
        const MOST: u64 = 256 * 1024 * 1024;
        self.max_dead_letters_size.map_or_else(|| MOST.min(self.max_size.as_u64() / 4), |size| size.as_u64())
    }
}
