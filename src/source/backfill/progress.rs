//! Whether a walk through pages gets on. Pure.
//!
//! A page may hold nothing but rows that stood on earlier ones, where as many came in above it meanwhile as it has. Where
//! that happens page after page the list goes round: an API that ignores the offset, or gives cursors that lead back,
//! would be asked for ever.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// So many pages one after the other may bring nothing new.
pub(super) const PATIENCE: usize = 10;

/// Rows that are known again, the first ones of a walk; who goes round comes by them.
const MAX_KNOWN: usize = 100_000;

/// Of one walk.
#[derive(Debug, Default)]
pub(super) struct Progress {
    known: HashSet<u64>,
    without_news: usize,
}

impl Progress {
    /// Takes what tells a page's rows apart. Returns how many pages, this one the last, have brought nothing new.
    pub(super) fn take<R: Hash>(&mut self, rows: impl Iterator<Item = R>) -> usize {
        let mut news = false;
        for row in rows {
            let mut hasher = DefaultHasher::new();
            row.hash(&mut hasher);
            let row = hasher.finish();
            news |= if self.known.len() < MAX_KNOWN { self.known.insert(row) } else { !self.known.contains(&row) };
        }
        self.without_news = if news { 0 } else { self.without_news + 1 };
        self.without_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_bring_nothing_new_are_counted_from_the_last_one_that_did() {
        let mut progress = Progress::default();
        assert_eq!([0..100, 0..100, 50..150, 50..150, 0..0].map(|page| progress.take(page)), [0, 1, 0, 1, 2]);
        assert_eq!(progress.take(149..151), 0);
    }

    #[test]
    fn a_list_that_is_longer_than_what_is_known_again_is_seen_to_go_round() {
        let mut progress = Progress::default();
        let length = 3 * MAX_KNOWN;
        let first = (0..length).step_by(100).map(|start| progress.take(start..start + 100)).max();
        assert_eq!(first, Some(0), "each row is new");
        let again = (0..length).step_by(100).map(|start| progress.take(start..start + 100)).max();
        assert!(again > Some(PATIENCE));
    }
}
