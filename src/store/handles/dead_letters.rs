//! The dead letters of all sinks, for operators. A sink's own go by its [`Claim`].

use super::Claim;
use crate::event::Stored;
use crate::store::dead_letters::{DeadLetter, Resolution};
use crate::store::shared::Shared;
use std::io;
use std::sync::Arc;

/// What sinks never took, by the names that these have now.
#[derive(Clone)]
pub struct DeadLetters {
    shared: Arc<Shared>,
}

impl DeadLetters {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    fn claim(&self, sink: &str) -> Claim {
        Claim::new(&self.shared, sink)
    }

    /// [`Claim::dead_letters_waiting`].
    pub fn waiting(&self, sink: &str) -> u64 {
        self.claim(sink).dead_letters_waiting()
    }

    /// [`Claim::dead_letters`].
    pub fn of(&self, sink: &str) -> Vec<(u64, DeadLetter)> {
        self.claim(sink).dead_letters()
    }

    /// [`Claim::newest_dead_letters`].
    pub fn newest(&self, sink: &str, limit: usize) -> Vec<(u64, DeadLetter)> {
        self.claim(sink).newest_dead_letters(limit)
    }

    /// Those of all sinks or of `sink`, by sink and sequence: at most `limit` that are `wanted`, behind the one at `after`.
    pub fn after(
        &self,
        sink: Option<&str>,
        after: Option<(String, u64)>,
        limit: usize,
        wanted: impl Fn(&DeadLetter) -> bool,
    ) -> Vec<(String, u64, DeadLetter)> {
        let sinks = self.shared.sinks().clone();
        let key_of = |name: &str| {
            sinks.iter().find(|sink| sink.name == name).map_or_else(|| name.to_owned(), |sink| sink.key().to_owned())
        };
        let name_of = |key: &str| {
            let known = sinks.iter().find(|sink| sink.key() == key).map(|sink| sink.name.as_str());
            known.or(key.split('#').next()).unwrap_or(key).to_owned()
        };
        let (sink, after) = (sink.map(key_of), after.map(|(sink, sequence)| (key_of(&sink), sequence)));
        let found = self.shared.letters.after(sink.as_deref(), after.as_ref(), limit, wanted);
        found.into_iter().map(|(key, sequence, letter)| (name_of(&key), sequence, letter)).collect()
    }

    /// [`Claim::dead_letter_event`].
    pub fn event(&self, sink: &str, sequence: u64) -> io::Result<Option<Stored>> {
        self.claim(sink).dead_letter_event(sequence)
    }

    /// [`Claim::resolve`].
    pub fn resolve(&self, sink: &str, sequences: &[u64], how: Resolution) -> io::Result<usize> {
        self.claim(sink).resolve(sequences, how)
    }
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").finish_non_exhaustive()
    }
}
