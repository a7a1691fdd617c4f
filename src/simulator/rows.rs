//! The events as the account's API lists them: by time, nothing to tell equal times apart, and the oldest leave.

use super::life::Happening;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows kept; above it the oldest leave, as they do at the provider when their time is over.
const MAX_ROWS: usize = 200_000;

/// Sorted by the events' own time.
#[derive(Debug, Default)]
pub(super) struct Rows(VecDeque<Row>);

#[derive(Debug)]
struct Row {
    happening: Arc<Happening>,
    visible_at: Timestamp,
}

/// One page of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    pub(super) sandbox_id: Option<String>,
    /// Empty: all.
    pub(super) types: Vec<String>,
    pub(super) ascending: bool,
    pub(super) offset: usize,
    pub(super) limit: usize,
    /// Whether events of one time come in the other order, as they may from one query to the next.
    pub(super) ties_swapped: bool,
}

impl Rows {
    /// Not listed before `visible_at`, whatever the event's own time.
    pub(super) fn insert(&mut self, happening: Arc<Happening>, visible_at: Timestamp) {
        let place = self.0.partition_point(|row| row.happening.at <= happening.at);
        self.0.insert(place, Row { happening, visible_at });
        if self.0.len() > MAX_ROWS {
            self.0.pop_front();
        }
    }

    pub(super) fn page(&self, query: &Query, now: Timestamp) -> Vec<Arc<Happening>> {
        let is_wanted = |row: &&Row| {
            row.visible_at <= now
                && query.sandbox_id.as_ref().is_none_or(|id| *id == row.happening.sandbox_id)
                && (query.types.is_empty() || query.types.contains(&row.happening.kind))
        };
        let mut wanted: Vec<&Row> = self.0.iter().filter(is_wanted).collect();
        if query.ties_swapped {
            for ties in wanted.chunk_by_mut(|a, b| a.happening.at == b.happening.at) {
                ties.reverse();
            }
        }
        if !query.ascending {
            wanted.reverse();
        }
        let page = wanted.into_iter().skip(query.offset).take(query.limit);
        page.map(|row| Arc::clone(&row.happening)).collect()
    }

    /// Whether any event tells of the sandbox.
    pub(super) fn know(&self, sandbox_id: &str) -> bool {
        self.0.iter().any(|row| row.happening.sandbox_id == sandbox_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::life::Life;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).expect("a time")
    }

    /// Told in the order of `seconds`.
    fn rows(seconds: &[i64]) -> (Rows, Vec<String>) {
        let mut life = Life::new(1, "team");
        let mut rows = Rows::default();
        let ids = seconds.iter().map(|second| {
            let happening = life.next(at(*second));
            let id = happening.id.clone();
            rows.insert(Arc::new(happening), at(*second));
            id
        });
        let ids = ids.collect();
        (rows, ids)
    }

    fn ids(rows: &Rows, query: Query, now: i64) -> Vec<String> {
        rows.page(&Query { limit: 100, ..query }, at(now)).iter().map(|happening| happening.id.clone()).collect()
    }

    #[test]
    fn rows_stand_by_their_own_time_whenever_they_came() {
        let (rows, told) = rows(&[1, 3, 2]);
        let sorted = [&told[0], &told[2], &told[1]].map(Clone::clone);
        assert_eq!(ids(&rows, Query { ascending: true, ..Query::default() }, 10), sorted);
        let mut newest_first = sorted.to_vec();
        newest_first.reverse();
        assert_eq!(ids(&rows, Query::default(), 10), newest_first);
        assert_eq!(ids(&rows, Query::default(), 2), newest_first[1..], "what is to come is not seen");
    }

    #[test]
    fn equal_times_may_change_places() {
        let (rows, told) = rows(&[1, 2, 2, 3]);
        let swapped = Query { ascending: true, ties_swapped: true, ..Query::default() };
        assert_eq!(ids(&rows, swapped, 10), [&told[0], &told[2], &told[1], &told[3]].map(Clone::clone));
    }
}
