//! What the log notes about itself: control notes in the journal, of which each segment begins with the newest.

use super::record::LogKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::store) enum Control {
    /// The sinks that exist, all of them; the newest note counts.
    Sinks(Vec<SinkRegistration>),
    /// Spans whose records are gone, all that are still of interest; the newest note counts.
    Damaged(Vec<Damaged>),
}

/// A sink that exists, and from where on it gets events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct SinkRegistration {
    /// Its name in the settings, which may change.
    pub(in crate::store) name: String,
    /// By which its position, its dead letters and its small state are kept, and which never changes. Not there in what
    /// version 0.1.0 wrote: there it is the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) key: Option<String>,
    /// It gets events with a sequence greater than this.
    pub(in crate::store) after: u64,
    /// Set once it was taken out of the settings: Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) removed_at: Option<i64>,
    /// The name that it had before, once it has been given a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) renamed_from: Option<String>,
}

impl SinkRegistration {
    /// A new one. The key is its own: what is left of an earlier sink of that name is not taken for this one's.
    pub(in crate::store) fn new(name: &str, after: u64) -> Self {
        let key = Some(format!("{name}#{:08x}", fastrand::u32(..)));
        Self { name: name.to_owned(), key, after, removed_at: None, renamed_from: None }
    }

    /// One of which nothing is left but its position under `key`.
    pub(in crate::store) fn found(key: &str, after: u64) -> Self {
        let name = key.split('#').next().unwrap_or(key).to_owned();
        Self { name, key: Some(key.to_owned()), after, removed_at: None, renamed_from: None }
    }

    /// [`Self::key`], or the name.
    pub(in crate::store) fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.name)
    }

    /// Whether version 0.1.0 wrote it, which did not note by what name it was known before.
    pub(in crate::store) fn is_of_0_1_0(&self) -> bool {
        self.key.is_none()
    }

    /// The same under another name.
    pub(in crate::store) fn renamed(&self, name: &str) -> Self {
        let key = Some(self.key().to_owned());
        Self { name: name.to_owned(), key, renamed_from: Some(self.name.clone()), ..self.clone() }
    }

    pub(in crate::store) fn is_attached(&self) -> bool {
        self.removed_at.is_none()
    }
}

/// Records of one log that are gone, as proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Damaged {
    /// Rises from span to span.
    pub(in crate::store) id: u64,
    pub(in crate::store) log: LogKind,
    /// Ordinals of the first and the last.
    pub(in crate::store) first: u64,
    pub(in crate::store) last: u64,
    /// Their sequences are above this one …
    pub(in crate::store) after: u64,
    /// … and not above this one.
    pub(in crate::store) through: u64,
    /// When it was found, Unix seconds.
    pub(in crate::store) found_at: i64,
    /// When the last sound record before and the first one behind were received, Unix microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) received_after: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) received_before: Option<i64>,
    /// Where the bytes are kept, below the store's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) kept: Option<String>,
    /// Records that some sink had not had, so that they are fetched again where the provider still lists them.
    pub(in crate::store) wanted: u64,
    /// Their sequences are above this one.
    #[serde(default)]
    pub(in crate::store) wanted_after: u64,
    /// How far each sink was, by its key: what is accepted anew goes to those that had not had it.
    pub(in crate::store) positions: BTreeMap<String, u64>,
}

impl Damaged {
    /// Whether a sequence is one of the span's.
    pub(in crate::store) fn holds(&self, sequence: u64) -> bool {
        self.after < sequence && sequence <= self.through
    }

    /// Whether some sink had not had the record of a sequence of the span.
    pub(in crate::store) fn is_wanted(&self, sequence: u64) -> bool {
        self.holds(sequence) && sequence > self.wanted_after
    }

    /// How many of the records behind ordinal `first - 1` and up to `last` it covers, from the first of them on.
    pub(in crate::store) fn covers(&self, log: LogKind, first: u64) -> Option<u64> {
        (self.log == log && self.first <= first && first <= self.last).then_some(self.last)
    }
}

/// The newest note of each kind.
#[derive(Debug, Default, Clone)]
pub(in crate::store) struct Notes {
    pub(in crate::store) sinks: Option<Vec<SinkRegistration>>,
    pub(in crate::store) damaged: Vec<Damaged>,
}

impl Notes {
    pub(in crate::store) fn take(&mut self, note: Control) {
        match note {
            Control::Sinks(sinks) => self.sinks = Some(sinks),
            Control::Damaged(damaged) => self.damaged = damaged,
        }
    }
}
